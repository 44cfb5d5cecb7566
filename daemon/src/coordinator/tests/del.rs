//! DEL, and what goes without one.

use super::*;

/// Rule: DEL always ends.
#[test]
fn del_needs_neither_settings_nor_the_namespace() {
    let lab = Lab::new();
    on_node(&lab, async |daemon| {
        daemon.coordinator.add(&call(Verb::Add, &lab, json!({}))).await.unwrap();
        daemon.view.replace(Arc::new(World::default()), Vec::new());
        ip(&["netns", "delete", &lab.pod]);
        daemon.coordinator.del(&call(Verb::Del, &lab, json!({"mode": "no such mode"}))).await.unwrap();
        assert_eq!(daemon.plans().await, 0);
        assert_eq!(ip(&["-n", &lab.node, "rule", "show", "priority", "1000"]), "");
        assert_eq!(ip(&["-n", &lab.node, "route", "show", "table", "500"]), "");
        ip(&["netns", "add", &lab.pod]);
    });
}

/// A second Pod on the first one's node.
fn second_pod(lab: &Lab) -> Lab {
    let other = Lab::new();
    ip(&["-n", &other.pod, "link", "delete", "eth0"]);
    let more = [
        format!("-n {} link add cali2 type veth peer name eth0 netns {}", lab.node, other.pod),
        format!("-n {} link set cali2 up", lab.node),
        format!("-n {} link set eth0 up", other.pod),
        format!("-n {} address add 10.233.73.211/32 dev eth0", other.pod),
        format!("-n {} route add 169.254.1.1 dev eth0 scope link", other.pod),
        format!("-n {} route add default via 169.254.1.1 dev eth0 metric 5", other.pod),
    ];
    for line in &more {
        ip(&line.split(' ').collect::<Vec<_>>());
    }
    other
}

#[test]
fn the_hosts_rule_goes_with_the_last_plan_that_wants_it() {
    let lab = Lab::new();
    let other = second_pod(&lab);
    on_node(&lab, async |daemon| {
        let rule = || ip(&["-n", &lab.node, "rule", "show", "priority", "1000"]);
        let second = |verb| call_for(verb, "c2", path(&other.pod), json!({}));
        daemon.coordinator.add(&call(Verb::Add, &lab, json!({}))).await.unwrap();
        daemon.coordinator.add(&second(Verb::Add)).await.unwrap();
        daemon.coordinator.del(&call(Verb::Del, &lab, json!({}))).await.unwrap();
        assert_ne!(rule(), "");
        daemon.coordinator.check(&second(Verb::Check)).await.unwrap();
        ip(&["netns", "delete", &other.pod]);
        let netns = daemon.keeper.read(|node, _| node.attachments().sandboxes()["c2"].netns.clone()).await.unwrap();
        daemon.coordinator.forget(&"c2".into(), &netns).await.unwrap();
        assert_eq!(rule(), "");
        ip(&["netns", "add", &other.pod]);
    });
}

/// A sandbox whose record is not erased yet wants the host's rule no more.
#[test]
fn plans_that_go_at_once_leave_no_rule_behind() {
    let lab = Lab::new();
    let before = lab.state();
    on_node(&lab, async |daemon| {
        let call = |container, verb| call_for(verb, container, path(&lab.pod), json!({}));
        for container in ["c1", "c2"] {
            daemon.coordinator.add(&call(container, Verb::Add)).await.unwrap();
        }
        let first = call("c1", Verb::Del);
        let record = daemon.coordinator.record(&first).await.unwrap().unwrap();
        let left = daemon.coordinator.retire(&record, &Plan::default(), &first.who.container).await.unwrap();
        daemon.coordinator.del(&call("c2", Verb::Del)).await.unwrap();
        assert_eq!(ip(&["-n", &lab.node, "rule", "show", "priority", "1000"]), "");
        drop(left);
        daemon.coordinator.del(&first).await.unwrap();
        assert_eq!(daemon.plans().await, 0);
    });
    assert_eq!(lines(&lab.state()), lines(&before));
}

/// Rule: DEL always ends. What cannot be taken from the host now stays recorded, and goes at a later look.
#[test]
fn what_the_kernel_refuses_to_take_back_is_tried_again() {
    let lab = Lab::new();
    let before = ip(&["-n", &lab.node, "rule"]);
    let folder = tempfile::tempdir().unwrap();
    // Threads inherit what the one that starts them may do.
    let runtime = |test: &dyn Fn(&tokio::runtime::Runtime)| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        test(&runtime);
    };
    let netns = namespace::identify(&path(&lab.pod)).unwrap();
    let forget = async |daemon: &Daemon| daemon.coordinator.forget(&"c1".into(), &netns).await.unwrap();
    namespace::stay_inside(&path(&lab.node), || {
        runtime(&|runtime| {
            runtime.block_on(async {
                let daemon = Daemon::start(folder.path());
                daemon.coordinator.add(&call(Verb::Add, &lab, json!({}))).await.unwrap();
                daemon.keeper.stop().await;
            });
        });
    });
    ip(&["netns", "delete", &lab.pod]);
    namespace::stay_inside(&path(&lab.node), || {
        give_up_network_administration();
        runtime(&|runtime| {
            runtime.block_on(async {
                let daemon = Daemon::start(folder.path());
                let refused = error(daemon.coordinator.del(&call(Verb::Del, &lab, json!({}))).await);
                assert_eq!(refused.code, Code::Io);
                assert!(refused.msg.contains("host rule 1000"), "{}", refused.msg);
                forget(&daemon).await;
                assert_eq!(daemon.plans().await, 1);
                daemon.keeper.stop().await;
            });
        });
    });
    namespace::stay_inside(&path(&lab.node), || {
        runtime(&|runtime| {
            runtime.block_on(async {
                let daemon = Daemon::start(folder.path());
                forget(&daemon).await;
                assert_eq!(daemon.plans().await, 0);
            });
        });
    });
    assert_eq!(ip(&["-n", &lab.node, "rule"]), before);
    ip(&["netns", "add", &lab.pod]);
}

/// Rule: All or nothing. The rule was missing, and an ADD that the kernel refuses on the host made it again: others want it.
#[test]
fn a_failed_add_leaves_a_rule_that_it_made_for_another_sandbox_too() {
    let lab = Lab::new();
    let other = second_pod(&lab);
    on_node(&lab, async |daemon| {
        let second = |verb| call_for(verb, "c2", path(&other.pod), json!({}));
        daemon.coordinator.add(&call(Verb::Add, &lab, json!({}))).await.unwrap();
        daemon.coordinator.add(&second(Verb::Add)).await.unwrap();
        ip(&["-n", &lab.node, "rule", "delete", "priority", "1000"]);
        ip(&["-n", &lab.node, "link", "set", "cali1", "down"]);
        let refused = error(daemon.coordinator.add(&call(Verb::Add, &lab, json!({}))).await);
        assert!(refused.msg.contains("host route"), "{}", refused.msg);
        daemon.coordinator.check(&second(Verb::Check)).await.unwrap();
    });
}

/// Rule: DEL always ends. A namespace that cannot be looked into is not taken for gone: what is planned for it stays until
/// it can.
#[test]
fn a_sandbox_that_cannot_be_opened_now_is_not_forgotten() {
    let lab = Lab::new();
    let before = lab.state();
    on_node(&lab, async |daemon| {
        daemon.coordinator.add(&call(Verb::Add, &lab, json!({}))).await.unwrap();
        let after = lab.state();
        let mut blind = daemon.coordinator.clone();
        blind.proc = "/dev/null".into();
        let refused = error(blind.del(&call(Verb::Del, &lab, json!({}))).await);
        assert_eq!((refused.code, daemon.plans().await), (Code::Io, 1));
        assert_eq!(lines(&lab.state()), lines(&after));
        daemon.coordinator.del(&call(Verb::Del, &lab, json!({}))).await.unwrap();
        assert_eq!(daemon.plans().await, 0);
    });
    assert_eq!(lines(&lab.state()), lines(&before));
}

/// Takes CAP_NET_ADMIN from the calling thread, for good (capset(2)).
#[allow(unsafe_code)]
fn give_up_network_administration() {
    const VERSION_3: u32 = 0x2008_0522;
    const NET_ADMIN: u32 = 1 << 12;
    let header = [VERSION_3, 0];
    let mut sets = [0_u32; 6];
    // SAFETY: both pointers are to locals of the sizes that version 3 has: two words, and two times three.
    let got = unsafe { nix::libc::syscall(nix::libc::SYS_capget, header.as_ptr(), sets.as_mut_ptr()) };
    sets[0] &= !NET_ADMIN;
    sets[1] &= !NET_ADMIN;
    // SAFETY: as above.
    let set = unsafe { nix::libc::syscall(nix::libc::SYS_capset, header.as_ptr(), sets.as_ptr()) };
    assert_eq!((got, set), (0, 0));
}

/// Rule: DEL always ends. The Pod's way to the node is gone: what the other interface would want of it hinders nobody.
#[test]
fn del_of_one_of_two_interfaces_needs_no_way_to_the_pod() {
    let lab = Lab::new();
    let (node, pod) = (&lab.node, &lab.pod);
    for line in [
        format!(
            "-n {node} link add link ens192 name net2 netns {pod} address 2a:1e:a1:db:2a:9b type macvlan mode bridge"
        ),
        format!("-n {pod} link set net2 up"),
        format!("-n {pod} address add 10.6.212.146/16 dev net2"),
    ] {
        ip(&line.split(' ').collect::<Vec<_>>());
    }
    let second = |verb| {
        let result = json!({
            "cniVersion": "1.0.0",
            "interfaces": [{"name": "net2", "mac": "2a:1e:a1:db:2a:9b", "sandbox": path(pod).display().to_string()}],
            "ips": [{"address": "10.6.212.146/16", "gateway": "10.6.0.1", "interface": 0}],
        });
        let mut call = call(verb, &lab, json!({ "prevResult": result }));
        call.who.interface = "net2".into();
        call
    };
    on_node(&lab, async |daemon| {
        daemon.coordinator.add(&call(Verb::Add, &lab, json!({}))).await.unwrap();
        daemon.coordinator.add(&second(Verb::Add)).await.unwrap();
        ip(&["-n", node, "link", "delete", "cali1"]);
        daemon.coordinator.del(&second(Verb::Del)).await.unwrap();
        daemon.coordinator.del(&call(Verb::Del, &lab, json!({}))).await.unwrap();
        assert_eq!(daemon.plans().await, 0);
    });
}
