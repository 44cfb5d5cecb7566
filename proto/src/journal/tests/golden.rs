//! One row of each kind, byte for byte: what is on disks out there.

use spiderpool_core::address::{AddressRange, Family};
use spiderpool_core::journal::{Binding, BootId, Lease, MachineId, Meta, Released};
use spiderpool_core::message::{GrantId, JournalId};
use spiderpool_core::node::attachment::{Allocation, Attachment, Held, Netns, Plugin, Sandbox, Stranger};
use spiderpool_core::node::fact::{Fact, FactKind};
use spiderpool_core::plan::{
    Attached, Link, LinkAttribute, Mac, Neighbour, Object, Plan, Route, Rule, Scope, Side, Sysctl,
};
use spiderpool_core::select::Terms;
use spiderpool_core::world::{self, PodId};

use super::*;

pub(super) fn grant() -> GrantId {
    GrantId { journal: JournalId(0x0102), session: 3, number: 4 }
}

pub(super) fn attachment() -> Attachment {
    Attachment { container: "c1".into(), interface: "net1".into(), network: "lan".into() }
}

fn netns() -> Netns {
    Netns { path: "/run/netns/x".into(), inode: 300, cookie: 5 }
}

fn pod() -> PodId {
    PodId { namespace: "ns".into(), name: "pod".into(), uid: "uid".into() }
}

fn stranger() -> Stranger {
    Stranger { mac: Mac([2, 0, 0, 0, 0, 1]), seen: 4 }
}

fn held() -> Held {
    let routes = vec![world::Route { destination: "10.7.0.0/16".parse().unwrap(), gateway: [10, 6, 0, 1].into() }];
    let terms = Terms { prefix: 16, gateway: Some([10, 6, 0, 1].into()), default_route: true, routes };
    let v6 = Terms { prefix: 64, gateway: None, default_route: false, routes: Vec::new() };
    let allocations = vec![
        Allocation { address: [10, 6, 0, 9].into(), pool: "v4".into(), terms, stranger: None },
        Allocation { address: "fd00::9".parse().unwrap(), pool: "v6".into(), terms: v6, stranger: Some(stranger()) },
    ];
    Held { started: 7, pod: pod(), netns: netns(), since: 8, allocations }
}

fn sandbox() -> Sandbox {
    let (side, device) = (Side::Pod, "net1".to_owned());
    let mac = Mac([2, 0, 0, 0, 0, 1]);
    let objects: [Object; 7] = [
        Sysctl { side: Side::Host, key: "net/x".into(), value: "1".into() }.into(),
        Link { side, device: device.clone(), attribute: LinkAttribute::Up(true) }.into(),
        Link { side, device: device.clone(), attribute: LinkAttribute::TxQueueLength(100) }.into(),
        Link { side, device: device.clone(), attribute: LinkAttribute::Mac(mac) }.into(),
        Neighbour { side, device: device.clone(), address: [169, 254, 1, 1].into(), mac }.into(),
        Rule { side, family: Family::V6, priority: 32760, from: Some("fd00::9/128".parse().unwrap()), table: 101 }
            .into(),
        Route {
            side,
            table: 101,
            destination: "0.0.0.0/0".parse().unwrap(),
            gateway: Some([10, 6, 0, 1].into()),
            device,
            source: Some([10, 6, 0, 9].into()),
            scope: Scope::Link,
            metric: 1,
            onlink: true,
            mtu: Some(1400),
            protocol: 3,
        }
        .into(),
    ];
    let attached = Attached {
        interface: "net1".into(),
        table: 101,
        addresses: vec!["10.6.0.9/16".parse().unwrap()],
        default_cni_nic: "eth0".into(),
        default_route_nic: Some("net1".into()),
        tune_pod_routes: true,
        destinations: vec!["10.233.0.0/18".parse().unwrap()],
        host_rule_table: 500,
        rp_filter: Some(0),
        tx_queue_length: Some(100),
        mac: Some(mac),
        policy_routes: vec![world::Route {
            destination: "10.8.0.0/16".parse().unwrap(),
            gateway: [10, 6, 0, 1].into(),
        }],
    };
    let [sysctl, ..] = objects.clone();
    let plan = Plan {
        attached: vec![attached],
        want: objects.into_iter().map(|object| ("net1".to_owned(), object)).collect(),
        absent: [("net1".to_owned(), sysctl)].into(),
    };
    Sandbox { netns: netns(), pod: pod(), parts: [(attachment(), 9)].into(), plan }
}

fn rows() -> Vec<(&'static str, Key, Record)> {
    let dying = Released::Dying { holder: attachment(), netns: netns() };
    let addresses = ["10.6.0.9", "10.6.0.20-10.6.0.30", "fd00::1-fd00::ff"];
    let addresses = addresses.iter().map(|range| range.parse::<AddressRange>().unwrap()).collect();
    let fact = |kind| Fact {
        at: 6,
        kind,
        address: [10, 6, 0, 9].into(),
        pool: "v4".into(),
        attachment: attachment(),
        pod: pod(),
    };
    let boot = BootId(0x0c0d);
    let meta = |bound| Meta { schema: 1, journal: JournalId(0x0a0b), bound, session: 300, adopted: true };
    let bound = Binding { boot, node: Some("worker01".into()), machine: Some(MachineId(0x0e0f)) };
    vec![
        ("meta", Key::Meta, Record::Meta(meta(bound))),
        ("meta of the boot alone", Key::Meta, Record::Meta(meta(Binding { boot, ..Binding::default() }))),
        ("lease", Key::Lease(grant()), Record::Lease(Lease { pool: "v4".into(), addresses })),
        ("attachment", Key::Attachment(attachment()), Record::Attachment(held())),
        ("dying", Key::Released([10, 6, 0, 9].into()), Record::Released(dying)),
        (
            "resting",
            Key::Released("fd00::9".parse().unwrap()),
            Record::Released(Released::Resting { order: 1, until: 2 }),
        ),
        (
            "quarantined",
            Key::Released([10, 6, 0, 10].into()),
            Record::Released(Released::Quarantined { stranger: stranger(), probed: 3 }),
        ),
        ("word", Key::Word(Plugin::Ipam, attachment()), Record::Word(300)),
        ("plan's word", Key::Word(Plugin::Coordinator, attachment()), Record::Word(1)),
        ("sandbox", Key::Sandbox("c1".into()), Record::Sandbox(sandbox())),
        ("allocated", Key::Fact(1), Record::Fact(fact(FactKind::Allocated))),
        ("released", Key::Fact(258), Record::Fact(fact(FactKind::Released))),
        ("taken", Key::Fact(259), Record::Fact(fact(FactKind::Taken(Mac([2, 0, 0, 0, 0, 1]))))),
    ]
}

/// A difference here is a journal that the next version cannot read: raise the schema, or change the code back.
#[test]
fn rows_on_disk_stay_as_they_are() {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let mut text = String::new();
    for (kind, key, record) in rows() {
        text += &format!("{kind}\n  {}\n  {}\n", hex(&encode_key(&key)), hex(&encode_record(&record)));
        assert_eq!(decode_record(&key, &encode_record(&record)), Ok(record), "{kind}");
    }
    assert_eq!(text, include_str!("rows.txt"));
}
