//! Whole stories, with a real journal and the real kernel: the daemon lives in the lab's node.

mod del;

use std::future::Future;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};
use spiderpool_cni::types::NetworkConfiguration;
use spiderpool_core::journal::{Binding, Journal as _, Table};
use spiderpool_core::message::{JournalId, Up};
use spiderpool_core::node::Node;
use spiderpool_core::node::attachment::Plugin;
use spiderpool_core::world::{Coordinator as ClusterCoordinator, PodId, Probes, Settings, World};
use tokio::sync::mpsc;

use super::*;
use crate::call::Verb;
use crate::clock;
use crate::journal::SledJournal;
use crate::keeper::Outlets;
use crate::metrics::Metrics;
use crate::net::lab::{Lab, ip, path};
use crate::net::namespace;
use crate::room::Room;

/// A daemon's coordinator on the lab's node.
struct Daemon {
    coordinator: Coordinator,
    keeper: Keeper,
    view: View,
    _outlets: (mpsc::UnboundedReceiver<(u64, Up)>, mpsc::UnboundedReceiver<spiderpool_core::node::event::Errand>),
}

impl Daemon {
    fn start(folder: &Path) -> Daemon {
        let room = Arc::new(Room::new(folder));
        let mut journal = SledJournal::open(&folder.join("journal"), &room).unwrap();
        let (node, batch) = Node::recover(journal.rows(Table::All), &Binding::default(), JournalId(1), 0).unwrap();
        if !batch.is_empty() {
            journal.commit(&batch).unwrap();
        }
        let (messages, heard) = mpsc::unbounded_channel();
        let (errands, asked) = mpsc::unbounded_channel();
        let metrics = Metrics::new().journal.clone();
        let outlets = Outlets { messages, errands };
        let (keeper, _) = Keeper::start(node, Box::new(journal), outlets, metrics, room).unwrap();
        let view = View::default();
        view.replace(Arc::new(world(Ok(()))), Vec::new());
        let coordinator = Coordinator::new(keeper.clone(), view.clone(), "/proc".into(), Counter::default());
        Daemon { coordinator, keeper, view, _outlets: (heard, asked) }
    }

    async fn plans(&self) -> usize {
        self.keeper.read(|node, _| node.attachments().sandboxes().len()).await.unwrap()
    }
}

fn world(synced: Result<(), String>) -> World {
    let coordinator = ClusterCoordinator {
        name: "default".into(),
        synced,
        overlay_pod_cidr: vec!["10.233.64.0/18".parse().unwrap()],
        service_cidr: vec!["10.233.0.0/18".parse().unwrap()],
        settings: Settings::default(),
        probes: Probes::default(),
    };
    let mut world = World::default();
    world.coordinator = Some(coordinator);
    world
}

/// Runs a test inside the lab's node: the threads that a thread makes share its namespace.
fn on_node<F: Future<Output = ()>>(lab: &Lab, test: impl FnOnce(Daemon) -> F + Send) {
    let folder = tempfile::tempdir().unwrap();
    let runtime = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { test(Daemon::start(folder.path())).await });
    };
    namespace::stay_inside(&path(&lab.node), runtime);
}

fn call(verb: Verb, lab: &Lab, keys: Value) -> Call {
    call_for(verb, "c1", path(&lab.pod), keys)
}

fn call_for(verb: Verb, container: &str, netns: PathBuf, keys: Value) -> Call {
    static LATEST: AtomicU64 = AtomicU64::new(0);
    let mut config = json!({
        "cniVersion": "1.0.0", "name": "macvlan-ens192", "type": "coordinator",
        "prevResult": {
            "cniVersion": "1.0.0",
            "interfaces": [{"name": "net1", "mac": "2a:1e:a1:db:2a:9a", "sandbox": netns.display().to_string()}],
            "ips": [{"address": "10.6.212.145/16", "gateway": "10.6.0.1", "interface": 0}],
        },
    });
    for (key, value) in keys.as_object().unwrap() {
        config[key] = value.clone();
    }
    // Each call starts after the one before.
    let started = clock::boot().max(LATEST.load(Ordering::Relaxed) + 1);
    LATEST.store(started, Ordering::Relaxed);
    Call {
        verb,
        plugin: Plugin::Coordinator,
        who: Attachment { container: container.into(), interface: "net1".into(), network: "macvlan-ens192".into() },
        netns,
        pod: PodId { namespace: "default".into(), name: "nginx".into(), uid: String::new() },
        config: NetworkConfiguration::parse(&config.to_string()).unwrap(),
        started,
    }
}

fn error(ending: Ending) -> CniError {
    match ending {
        Err(Failure::Cni(error)) => error,
        other => panic!("{other:?}"),
    }
}

fn lines(text: &str) -> BTreeSet<&str> {
    text.lines().collect()
}

#[test]
fn add_check_and_del_leave_the_kernel_as_it_was() {
    let lab = Lab::new();
    let before = lab.state();
    on_node(&lab, async |daemon| {
        let add = call(Verb::Add, &lab, json!({}));
        let printed = daemon.coordinator.add(&add).await.unwrap();
        let printed: Value = serde_json::from_str(&printed).unwrap();
        assert_eq!(printed["interfaces"][0]["mac"], "2a:1e:a1:db:2a:9a");
        assert!(lab.pod("rule").contains(&"32760: from 10.6.212.145 lookup 101".to_owned()));
        daemon.coordinator.add(&call(Verb::Add, &lab, json!({}))).await.unwrap();
        assert_eq!(lab.pod("rule").len(), 5, "a repeated ADD doubles nothing");
        daemon.coordinator.check(&call(Verb::Check, &lab, json!({}))).await.unwrap();
        ip(&["-n", &lab.pod, "rule", "delete", "priority", "32760"]);
        ip(&["-n", &lab.pod, "route", "delete", "10.233.0.0/18", "table", "101"]);
        let difference = error(daemon.coordinator.check(&call(Verb::Check, &lab, json!({}))).await);
        assert_eq!(difference.code, Code::Difference);
        for named in ["pod rule 32760: from 10.6.212.145 lookup 101", "pod route table 101: 10.233.0.0/18 via"] {
            assert!(difference.msg.contains(named), "{}", difference.msg);
        }
        for _ in 0..3 {
            daemon.coordinator.del(&call(Verb::Del, &lab, json!({}))).await.unwrap();
        }
        assert_eq!(daemon.plans().await, 0);
        let unknown = error(daemon.coordinator.check(&call(Verb::Check, &lab, json!({}))).await);
        assert_eq!(unknown.code, Code::UnknownContainer);
    });
    assert_eq!(lines(&lab.state()), lines(&before));
}

/// Gives the MAC address that net1 would get with the prefix 0a:1b to another macvlan: the kernel refuses it.
fn add_rival(lab: &Lab) {
    let rival =
        format!("-n {} link add link ens192 name rival address 0a:1b:0a:06:d4:91 type macvlan mode bridge", lab.node);
    ip(&rival.split(' ').collect::<Vec<_>>());
    ip(&["-n", &lab.node, "link", "set", "rival", "up"]);
}

/// Rule: All or nothing.
#[test]
fn a_failed_add_leaves_nothing_behind() {
    let lab = Lab::new();
    add_rival(&lab);
    let before = lab.state();
    on_node(&lab, async |daemon| {
        let refused = error(daemon.coordinator.add(&call(Verb::Add, &lab, json!({"podMACPrefix": "0a:1b"}))).await);
        assert_eq!(refused.code, Code::Io);
        assert!(refused.msg.contains("pod link net1 address 0a:1b:0a:06:d4:91"), "{}", refused.msg);
        assert_eq!(refused.details, "", "all was undone");
        assert_eq!(daemon.plans().await, 0);
        daemon.coordinator.add(&call(Verb::Add, &lab, json!({}))).await.unwrap();
        let after = lab.state();
        let again = error(daemon.coordinator.add(&call(Verb::Add, &lab, json!({"podMACPrefix": "0a:1b"}))).await);
        assert_eq!(again.code, Code::Io);
        assert_eq!(lab.state(), after, "a failed repetition leaves the first one's");
        daemon.coordinator.check(&call(Verb::Check, &lab, json!({}))).await.unwrap();
        daemon.coordinator.del(&call(Verb::Del, &lab, json!({}))).await.unwrap();
    });
    assert_eq!(lines(&lab.state()), lines(&before));
}

/// Rule: All or nothing. The host's rule was there, made by a sandbox that goes meanwhile and leaves it to the one that
/// is refused.
#[test]
fn a_failed_add_leaves_no_rule_that_it_found() {
    let lab = Lab::new();
    add_rival(&lab);
    let before = lab.state();
    ip(&["-n", &lab.node, "rule", "add", "priority", "1000", "lookup", "500"]);
    on_node(&lab, async |daemon| {
        let refused = error(daemon.coordinator.add(&call(Verb::Add, &lab, json!({"podMACPrefix": "0a:1b"}))).await);
        assert_eq!((refused.code, refused.details.as_str()), (Code::Io, ""));
    });
    assert_eq!(lines(&lab.state()), lines(&before));
}

/// Rule: All or nothing. What another sandbox still wants stays.
#[test]
fn a_failed_add_leaves_the_rule_of_another_sandbox() {
    let lab = Lab::new();
    add_rival(&lab);
    on_node(&lab, async |daemon| {
        daemon.coordinator.add(&call(Verb::Add, &lab, json!({}))).await.unwrap();
        let after = lab.state();
        let second = call_for(Verb::Add, "c2", path(&lab.pod), json!({"podMACPrefix": "0a:1b"}));
        assert_eq!(error(daemon.coordinator.add(&second).await).code, Code::Io);
        assert_eq!(lines(&lab.state()), lines(&after));
    });
}

/// Rule: All or nothing. The daemon ended after it had made what an ADD planned, and before it answered; the program calls
/// again, and now the kernel refuses.
#[test]
fn a_retry_that_fails_leaves_nothing_of_the_call_it_repeats() {
    let lab = Lab::new();
    add_rival(&lab);
    let before = lab.state();
    on_node(&lab, async |daemon| {
        let add = call(Verb::Add, &lab, json!({}));
        daemon.coordinator.add(&add).await.unwrap();
        daemon.coordinator.add(&add).await.unwrap();
        daemon.coordinator.check(&call(Verb::Check, &lab, json!({}))).await.unwrap();
        let again = Call { started: add.started, ..call(Verb::Add, &lab, json!({"podMACPrefix": "0a:1b"})) };
        assert_eq!(error(daemon.coordinator.add(&again).await).code, Code::Io);
        assert_eq!(daemon.plans().await, 0);
    });
    assert_eq!(lines(&lab.state()), lines(&before));
}

#[test]
fn refusals_carry_their_codes() {
    let lab = Lab::new();
    let before = lab.state();
    on_node(&lab, async |daemon| {
        let Daemon { coordinator, view, .. } = &daemon;
        let with = |keys| call(Verb::Add, &lab, keys);
        let mut without = with(json!({}));
        without.config.raw.remove("prevResult");
        assert_eq!(error(coordinator.add(&without).await).code, Code::InvalidConfiguration);
        assert_eq!(error(coordinator.add(&with(json!({"mode": "underlay"}))).await).code, Code::UnsupportedField);
        let own = call_for(Verb::Add, "c1", path(&lab.node), json!({}));
        assert_eq!(error(coordinator.add(&own).await).code, Code::InvalidNamespace);
        let gone = call_for(Verb::Add, "c1", path("no-such-sandbox"), json!({}));
        assert_eq!(error(coordinator.add(&gone).await).code, Code::InvalidEnvironment);
        assert_eq!(daemon.plans().await, 0);
        for disabled in ["disabled", "disable"] {
            let printed = coordinator.add(&with(json!({"mode": disabled}))).await.unwrap();
            assert!(printed.contains("10.6.212.145/16"), "{printed}");
        }
        view.replace(Arc::new(world(Err("no kubeadm-config".into()))), Vec::new());
        let not_ready = error(coordinator.add(&with(json!({}))).await);
        assert_eq!(not_ready.code, Code::TryAgain);
        assert!(not_ready.msg.contains("default is not ready: no kubeadm-config"), "{}", not_ready.msg);
    });
    assert_eq!(lab.state(), before);
}

/// What CHECK holds an interface against is what its ADD was told, not what the settings are now.
#[test]
fn an_interface_that_was_left_alone_is_checked_as_such() {
    let lab = Lab::new();
    let before = lab.state();
    on_node(&lab, async |daemon| {
        let Daemon { coordinator, view, .. } = &daemon;
        let disabled = json!({"mode": "disabled"});
        coordinator.add(&call(Verb::Add, &lab, disabled.clone())).await.unwrap();
        assert_eq!(lab.state(), before);
        coordinator.check(&call(Verb::Check, &lab, disabled.clone())).await.unwrap();
        coordinator.check(&call(Verb::Check, &lab, json!({}))).await.unwrap();
        view.replace(Arc::new(World::default()), Vec::new());
        coordinator.check(&call(Verb::Check, &lab, json!({}))).await.unwrap();
        let elsewhere = call_for(Verb::Check, "c1", path(&lab.node), json!({}));
        assert_eq!(error(coordinator.check(&elsewhere).await).code, Code::InvalidNamespace);
        coordinator.del(&call(Verb::Del, &lab, json!({}))).await.unwrap();
        assert_eq!(daemon.plans().await, 0);
        // Nothing is known of it any more, and nothing needs to be.
        coordinator.check(&call(Verb::Check, &lab, disabled)).await.unwrap();
        let unknown = error(coordinator.check(&call(Verb::Check, &lab, json!({}))).await);
        assert_eq!(unknown.code, Code::UnknownContainer);
    });
    assert_eq!(lab.state(), before);
}

/// A repeated ADD that is to do nothing leaves what the first one made, and DEL takes it back.
#[test]
fn an_interface_that_is_left_alone_from_now_on_keeps_its_plan() {
    let lab = Lab::new();
    let before = lab.state();
    on_node(&lab, async |daemon| {
        daemon.coordinator.add(&call(Verb::Add, &lab, json!({}))).await.unwrap();
        let after = lab.state();
        daemon.coordinator.add(&call(Verb::Add, &lab, json!({"mode": "disabled"}))).await.unwrap();
        assert_eq!(lab.state(), after);
        daemon.coordinator.check(&call(Verb::Check, &lab, json!({"mode": "disabled"}))).await.unwrap();
        daemon.coordinator.del(&call(Verb::Del, &lab, json!({"mode": "disabled"}))).await.unwrap();
    });
    assert_eq!(lines(&lab.state()), lines(&before));
}

#[test]
fn a_changed_mac_is_printed() {
    let lab = Lab::new();
    on_node(&lab, async |daemon| {
        let printed = daemon.coordinator.add(&call(Verb::Add, &lab, json!({"podMACPrefix": "0a:1b"}))).await.unwrap();
        let printed: Value = serde_json::from_str(&printed).unwrap();
        assert_eq!(printed["interfaces"][0]["mac"], "0a:1b:0a:06:d4:91");
        assert!(ip(&["-n", &lab.pod, "link", "show", "net1"]).contains("0a:1b:0a:06:d4:91"));
        daemon.coordinator.check(&call(Verb::Check, &lab, json!({}))).await.unwrap();
    });
}

/// Rule: Last word by start.
#[test]
fn an_add_that_began_before_its_del_is_refused() {
    let lab = Lab::new();
    let before = lab.state();
    on_node(&lab, async |daemon| {
        let add = call(Verb::Add, &lab, json!({}));
        daemon.coordinator.del(&call(Verb::Del, &lab, json!({}))).await.unwrap();
        assert_eq!(error(daemon.coordinator.add(&add).await).code, Code::TryAgain);
    });
    assert_eq!(lab.state(), before);
}
