//! Against the real kernel, in namespaces made for the purpose; the `ip` command is the oracle.

use spiderpool_core::plan::{Ask, Change, Inputs, Observation, Place, Plan, changes, extend, undo, withdraw};
use spiderpool_core::world::Settings;

use super::lab::{Lab, ip, path};
use super::*;

fn sandbox(lab: &Lab) -> Sandbox {
    Sandbox::open(&path(&lab.pod), Path::new("/proc"), &Ask::of_inputs(&Plan::default(), &inputs())).unwrap()
}

fn open(path: &Path) -> Result<Sandbox, NetError> {
    Sandbox::open(path, Path::new("/proc"), &Ask::default())
}

fn host(lab: &Lab) -> Connection {
    Namespace::open(&path(&lab.node)).unwrap().enter(Connection::open).unwrap().unwrap()
}

fn inputs() -> Inputs {
    Inputs {
        interface: "net1".into(),
        addresses: vec!["10.6.212.145/16".parse().unwrap()],
        settings: Settings::default(),
        overlay_pod_cidr: vec!["10.233.64.0/18".parse().unwrap()],
        service_cidr: vec!["10.233.0.0/18".parse().unwrap()],
        to_come: None,
    }
}

fn look(ask: &Ask, sandbox: &mut Sandbox, host: &mut Connection) -> Observation {
    observe(ask, Some(sandbox), host).unwrap()
}

fn add(inputs: &Inputs, sandbox: &mut Sandbox, host: &mut Connection) -> (Plan, Vec<Change>, Observation) {
    let ask = Ask::of_inputs(&Plan::default(), inputs);
    let seen = look(&ask, sandbox, host);
    let plan = extend(&Plan::default(), inputs, &seen).unwrap().plan;
    let steps = changes(&Plan::default(), &plan, &seen);
    let outcome = apply(&steps, &seen, Some(sandbox), host);
    assert!(outcome.failures.is_empty(), "{:?}", outcome.failures);
    (plan, outcome.applied, seen)
}

#[test]
fn an_add_gives_the_tables_and_a_del_takes_them_back() {
    let lab = Lab::new();
    let (mut sandbox, mut host) = (sandbox(&lab), host(&lab));
    let before = lab.state();
    let (plan, ..) = add(&inputs(), &mut sandbox, &mut host);
    assert_eq!(
        lab.pod("rule"),
        [
            "0: from all lookup local",
            "32760: from 10.6.212.145 lookup 101",
            "32762: from 10.233.73.210 lookup 100",
            "32766: from all lookup main",
            "32767: from all lookup default",
        ]
    );
    assert_eq!(
        lab.pod("route"),
        [
            "10.233.0.0/18 via 10.6.212.132 dev eth0",
            "10.233.64.0/18 via 10.6.212.132 dev eth0",
            "10.6.0.0/16 dev net1 proto kernel scope link src 10.6.212.145",
            "10.6.212.132 dev eth0 scope link",
            "169.254.1.1 dev eth0 scope link",
            "default via 169.254.1.1 dev eth0",
        ]
    );
    assert_eq!(
        lab.pod("route show table 101"),
        [
            "10.233.0.0/18 via 10.6.212.132 dev eth0",
            "10.233.64.0/18 via 10.6.212.132 dev eth0",
            "10.6.0.0/16 dev net1 scope link src 10.6.212.145",
            "10.6.212.132 dev eth0 scope link",
            "default via 10.6.0.1 dev net1",
        ]
    );
    assert_eq!(lab.pod("route show table 100"), ["default via 169.254.1.1 dev eth0"]);
    let ask = Ask::of_plan(&plan);
    assert_eq!(changes(&plan, &plan, &look(&ask, &mut sandbox, &mut host)), [], "CHECK");
    let after = withdraw(&plan, "net1");
    let seen = look(&ask, &mut sandbox, &mut host);
    let outcome = apply_all(&changes(&plan, &after, &seen), &seen, Some(&mut sandbox), &mut host);
    assert!(outcome.failures.is_empty(), "{:?}", outcome.failures);
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(&lab.state()), sorted(&before));
}

/// Rule: All or nothing.
#[test]
fn undo_leaves_nothing_behind() {
    let lab = Lab::new();
    let (mut sandbox, mut host) = (sandbox(&lab), host(&lab));
    for nic in [None, Some("net1".to_owned())] {
        let before = lab.state();
        let mut inputs = inputs();
        inputs.settings.pod_default_route_nic = nic;
        let (_, applied, seen) = add(&inputs, &mut sandbox, &mut host);
        assert_ne!(lab.state(), before);
        let outcome = apply_all(&undo(&applied), &seen, Some(&mut sandbox), &mut host);
        assert!(outcome.failures.is_empty(), "{:?}", outcome.failures);
        assert_eq!(lab.state(), before, "in order, too");
    }
}

/// Rule: All or nothing.
#[test]
fn a_refused_change_is_named_and_stops_those_that_take_away() {
    let lab = Lab::new();
    let (mut sandbox, mut host) = (sandbox(&lab), host(&lab));
    let before = lab.state();
    let ask = Ask::of_inputs(&Plan::default(), &inputs());
    let seen = look(&ask, &mut sandbox, &mut host);
    let mut inputs = inputs();
    inputs.service_cidr.push("10.99.0.0/16".parse().unwrap());
    let plan = extend(&Plan::default(), &inputs, &seen).unwrap().plan;
    let mut steps = changes(&Plan::default(), &plan, &seen);
    for step in &mut steps {
        if let Change::Add { object: spiderpool_core::plan::Object::Route(route), .. } = step
            && route.destination.to_string() == "10.99.0.0/16"
        {
            route.gateway = Some("192.0.2.1".parse().unwrap());
        }
    }
    let outcome = apply(&steps, &seen, Some(&mut sandbox), &mut host);
    let text = outcome.failures[0].to_string();
    assert!(text.contains("add pod route table") && text.contains("192.0.2.1") && text.contains("gateway"), "{text}");
    assert!(lab.pod("route").contains(&"default via 10.6.0.1 dev net1".to_owned()), "nothing was taken away");
    let back = apply_all(&undo(&outcome.applied), &seen, Some(&mut sandbox), &mut host);
    assert!(back.failures.is_empty(), "{:?}", back.failures);
    assert_eq!(lab.state(), before);
}

#[test]
fn what_is_there_already_is_no_failure() {
    let lab = Lab::new();
    let (mut sandbox, mut host) = (sandbox(&lab), host(&lab));
    let (plan, _, seen) = add(&inputs(), &mut sandbox, &mut host);
    let steps: Vec<Change> =
        plan.wanted().into_iter().map(|object| Change::Add { object: object.clone(), place: Place::First }).collect();
    let outcome = apply(&steps, &seen, Some(&mut sandbox), &mut host);
    assert!(outcome.failures.is_empty(), "{:?}", outcome.failures);
    let gone: Vec<Change> = plan
        .unwanted()
        .into_iter()
        .map(|object| Change::Remove { object: object.clone(), place: Place::Last })
        .collect();
    assert!(!gone.is_empty());
    let outcome = apply(&gone, &seen, Some(&mut sandbox), &mut host);
    assert!(outcome.failures.is_empty() && outcome.applied.is_empty(), "{outcome:?}");
}

#[test]
fn ipv6_and_odd_routes_are_seen_whole() {
    let lab = Lab::new();
    let pod = lab.pod.as_str();
    for line in [
        format!("-n {pod} -6 address add fd00:10:6::2e5/64 dev net1 nodad"),
        format!("-n {pod} -6 route add default via fd00:10:6::1 dev net1"),
        format!("-n {pod} -6 route append default via fe80::ecee:eeff:feee:eeee dev eth0"),
        format!("-n {pod} route add 192.0.2.0/24 via 10.6.0.9 dev net1 metric 7 mtu 1400 onlink"),
        format!("-n {pod} route add blackhole 198.51.100.0/24"),
        format!("-n {pod} rule add from 10.9.9.9 fwmark 3 lookup 200 priority 77"),
    ] {
        ip(&line.split(' ').collect::<Vec<_>>());
    }
    let (mut sandbox, mut host) = (sandbox(&lab), host(&lab));
    let seen = look(&Ask::of_inputs(&Plan::default(), &inputs()), &mut sandbox, &mut host).pod;
    let routes: Vec<String> = seen.routes.iter().map(ToString::to_string).collect();
    for expected in [
        "pod route table main: 192.0.2.0/24 via 10.6.0.9 dev net1 metric 7 mtu 1400 onlink",
        "pod route6 table main: default via fd00:10:6::1 dev net1",
        "pod route6 table main: default via fe80::ecee:eeff:feee:eeee dev eth0",
        "pod route6 table main: fd00:10:6::/64 dev net1 metric 256",
    ] {
        assert!(routes.iter().any(|route| route == expected), "{expected} in {routes:#?}");
    }
    assert!(!routes.iter().any(|route| route.contains("198.51.100.0")), "{routes:#?}");
    assert!(seen.rules.iter().all(|rule| rule.priority != 77), "{:?}", seen.rules);
    assert_eq!(seen.link("net1").unwrap().kind, "macvlan");
    assert_eq!(seen.link("eth0").unwrap().kind, "veth");
}

#[test]
fn kernel_settings_are_those_of_the_namespace() {
    let lab = Lab::new();
    let key = "net/ipv4/conf/net1/rp_filter";
    let (mut sandbox, mut host) = (sandbox(&lab), host(&lab));
    let before = std::fs::read_to_string("/proc/sys/net/ipv4/conf/all/rp_filter").unwrap();
    let mut inputs = inputs();
    inputs.settings.pod_rp_filter = Some(spiderpool_core::world::RpFilter::Loose);
    let _ = add(&inputs, &mut sandbox, &mut host);
    let seen = look(&Ask::of_inputs(&Plan::default(), &inputs), &mut sandbox, &mut host);
    assert_eq!(seen.pod.sysctls.get(key).map(String::as_str), Some("2"));
    assert_eq!(std::fs::read_to_string("/proc/sys/net/ipv4/conf/all/rp_filter").unwrap(), before);
}

#[test]
fn a_namespace_is_told_from_what_is_none() {
    let file = tempfile::NamedTempFile::new().unwrap();
    assert!(open(file.path()).unwrap_err().is_gone());
    assert!(open(Path::new("/var/run/netns/no-such-sandbox")).unwrap_err().is_gone());
    assert!(matches!(open(Path::new("/proc/self/ns/uts")), Err(NetError::NotANamespace(_))));
    assert!(matches!(open(Path::new("/proc/self/ns/net")), Err(NetError::OwnNamespace(_))));
    let lab = Lab::new();
    let identity = namespace::identify(&path(&lab.pod)).unwrap();
    assert_eq!(identity, sandbox(&lab).identity().unwrap());
    assert!(!identity.is_same(&namespace::identify(&path(&lab.node)).unwrap()));
    let addresses = namespace::addresses(&path(&lab.pod)).unwrap();
    assert!(addresses.contains(&"10.6.212.145".parse().unwrap()), "{addresses:?}");
}

#[test]
fn an_announcement_reaches_the_segment() {
    let lab = Lab::new();
    let (mut sandbox, mut host) = (sandbox(&lab), host(&lab));
    let seen = look(&Ask::of_inputs(&Plan::default(), &inputs()), &mut sandbox, &mut host);
    let net1 = seen.pod.link("net1").unwrap();
    let address = "10.6.212.145".parse().unwrap();
    // The far end of ens192 learns from gratuitous ARP if it is told to.
    ip(&["-n", &lab.node, "address", "add", "10.6.212.1/16", "dev", "segment"]);
    ip(&["netns", "exec", &lab.node, "sysctl", "-qw", "net.ipv4.conf.segment.arp_accept=1"]);
    announce(&sandbox, net1.index, net1.mac.unwrap(), &[address]).unwrap();
    let learnt = ip(&["-n", &lab.node, "neighbour", "show", "dev", "segment"]);
    assert!(learnt.contains(&format!("10.6.212.145 lladdr {}", net1.mac.unwrap())), "{learnt}");
}

/// Rule: Live means held. A namespace whose path is gone lives as long as a file of it is open.
#[test]
fn a_namespace_is_found_by_its_identity_as_long_as_anything_holds_it() {
    assert!(namespace::can_find(), "this test needs Linux 6.18, whose namespaces have file handles");
    let lab = Lab::new();
    let known = namespace::identify(&path(&lab.pod)).unwrap();
    let held = std::fs::File::open(path(&lab.pod)).unwrap();
    drop(lab);
    assert!(namespace::identify(Path::new(&known.path)).is_err(), "no path leads there");
    let namespace::Found::Alive(found) = namespace::find(&known).unwrap() else { panic!("said to be gone") };
    assert!(found.addresses().is_ok());
    drop((found, held));
    // The thread that was inside takes a moment to leave it.
    let gone = || matches!(namespace::find(&known), Ok(namespace::Found::Gone));
    let waited = (0..200).any(|_| {
        gone() || {
            std::thread::sleep(std::time::Duration::from_millis(10));
            false
        }
    });
    assert!(waited, "it lives on without a holder");
}

/// Rule: DEL always ends. What would come back into a Pod that is gone is no failure.
#[test]
fn nothing_of_a_pod_that_is_gone_is_tried() {
    let lab = Lab::new();
    let (mut sandbox, mut host) = (sandbox(&lab), host(&lab));
    let (plan, ..) = add(&inputs(), &mut sandbox, &mut host);
    let seen = observe(&Ask::of_plan(&plan), None, &mut host).unwrap();
    let back = Change::Add { object: plan.absent.first().unwrap().1.clone(), place: Place::First };
    let steps: Vec<Change> = changes(&plan, &Plan::default(), &seen).into_iter().chain([back]).collect();
    let outcome = apply_all(&steps, &seen, None, &mut host);
    assert!(outcome.failures.is_empty(), "{:?}", outcome.failures);
}
