//! Any key and any record, every field of it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use spiderpool_core::address::{AddressRange, AddressSet, Family};
use spiderpool_core::journal::{Binding, BootId, Key, Lease, MachineId, Meta, Record, Released};
use spiderpool_core::message::{GrantId, JournalId};
use spiderpool_core::node::attachment::{Allocation, Attachment, Held, Netns, Plugin, Sandbox, Stranger};
use spiderpool_core::node::fact::{Fact, FactKind};
use spiderpool_core::plan::{
    Attached, Link, LinkAttribute, Mac, Neighbour, Object, Plan, Route, Rule, Scope, Side, Sysctl,
};
use spiderpool_core::select::Terms;
use spiderpool_core::world::{self, PodId};

/// A key with a record of its kind.
pub(super) fn row() -> impl Strategy<Value = (Key, Record)> {
    let record = |key: &Key| -> BoxedStrategy<Record> {
        match key {
            Key::Meta => meta().prop_map(Record::Meta).boxed(),
            Key::Lease(_) => lease().prop_map(Record::Lease).boxed(),
            Key::Attachment(_) => held().prop_map(Record::Attachment).boxed(),
            Key::Released(_) => released().prop_map(Record::Released).boxed(),
            Key::Word(..) => any::<u64>().prop_map(Record::Word).boxed(),
            Key::Sandbox(_) => sandbox().prop_map(Record::Sandbox).boxed(),
            Key::Fact(_) => fact().prop_map(Record::Fact).boxed(),
        }
    };
    key().prop_flat_map(move |key| (Just(key.clone()), record(&key)))
}

pub(super) fn key() -> impl Strategy<Value = Key> {
    (0..7_usize).prop_flat_map(key_of)
}

/// Two keys of one kind, often alike; of the kinds whose order says something.
pub(super) fn keys_in_order() -> impl Strategy<Value = (Key, Key)> {
    let kinds = prop::sample::select(vec![1, 2, 5, 6]);
    let words = (attachment(), attachment());
    let words = words.prop_map(|(one, other)| (Key::Word(Plugin::Ipam, one), Key::Word(Plugin::Ipam, other)));
    prop_oneof![4 => kinds.prop_flat_map(|kind| (key_of(kind), key_of(kind))), 1 => words]
}

/// Any bytes, and such as begin like a key.
pub(super) fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let like_a_key = (prop::sample::select(b"mlarws~".to_vec()), vec(any::<u8>(), 0..40))
        .prop_map(|(kind, rest)| [vec![kind], rest].concat());
    let like_names = (prop::sample::select(b"aw".to_vec()), vec(prop::sample::select(b"abic\0".to_vec()), 0..12))
        .prop_map(|(kind, rest)| [vec![kind], rest].concat());
    prop_oneof![vec(any::<u8>(), 0..60), like_a_key, like_names]
}

fn key_of(kind: usize) -> BoxedStrategy<Key> {
    let grant = (0..3_u128, any::<u64>(), any::<u32>());
    let grant =
        grant.prop_map(|(journal, session, number)| GrantId { journal: JournalId(journal << 70), session, number });
    match kind {
        0 => Just(Key::Meta).boxed(),
        1 => grant.prop_map(Key::Lease).boxed(),
        2 => attachment().prop_map(Key::Attachment).boxed(),
        3 => address().prop_map(Key::Released).boxed(),
        4 => (plugin(), attachment()).prop_map(|(plugin, who)| Key::Word(plugin, who)).boxed(),
        5 => name().prop_map(|name| Key::Sandbox(name.into())).boxed(),
        _ => any::<u64>().prop_map(Key::Fact).boxed(),
    }
}

/// A name: no zero byte, since no file name and no name of Kubernetes or CNI has one.
fn name() -> impl Strategy<Value = String> {
    prop_oneof!["[ab]{0,2}", "[a-z0-9.-]{1,20}", "[^\\x00]{0,6}"]
}

fn attachment() -> impl Strategy<Value = Attachment> {
    let names = (name(), name(), name());
    names.prop_map(|(container, interface, network)| Attachment {
        container: container.into(),
        interface: interface.into(),
        network: network.into(),
    })
}

fn plugin() -> impl Strategy<Value = Plugin> {
    prop_oneof![Just(Plugin::Ipam), Just(Plugin::Coordinator)]
}

fn address() -> impl Strategy<Value = IpAddr> {
    let v4 = any::<u32>().prop_map(|bits| IpAddr::V4(bits.into()));
    let mapped = any::<u32>().prop_map(|bits| IpAddr::V6((0xffff_0000_0000 | u128::from(bits)).into()));
    let v6 = any::<u128>().prop_map(|bits| IpAddr::V6(bits.into()));
    prop_oneof![3 => v4, 1 => mapped, 3 => v6]
}

/// A network, host bits kept.
fn net() -> impl Strategy<Value = IpNet> {
    let prefix = |address: IpAddr| 0..=Family::of(&address).bits();
    let of = move |address| (Just(address), prefix(address));
    address().prop_flat_map(of).prop_map(|(address, prefix)| IpNet::new(address, prefix).unwrap())
}

fn set() -> impl Strategy<Value = AddressSet> {
    let range = (address(), 0..300_u32).prop_map(|(first, length)| match first {
        IpAddr::V4(v4) => AddressRange::new(first, IpAddr::V4(v4.to_bits().saturating_add(length).into())).unwrap(),
        IpAddr::V6(v6) => {
            AddressRange::new(first, IpAddr::V6(v6.to_bits().saturating_add(length.into()).into())).unwrap()
        }
    });
    vec(range, 0..4).prop_map(|ranges| ranges.into_iter().collect())
}

fn meta() -> impl Strategy<Value = Meta> {
    (any::<(u32, u128, u64, bool)>(), bound()).prop_map(|((schema, journal, session, adopted), bound)| Meta {
        adopted,
        schema,
        journal: JournalId(journal),
        bound,
        session,
    })
}

fn bound() -> impl Strategy<Value = Binding> {
    // A name without letters is none.
    let node = name().prop_map(|name| Some(name).filter(|name| !name.is_empty()).map(Into::into));
    (any::<u128>(), node, any::<Option<u128>>()).prop_map(|(boot, node, machine)| Binding {
        boot: BootId(boot),
        node,
        machine: machine.map(MachineId),
    })
}

fn lease() -> impl Strategy<Value = Lease> {
    (name(), set()).prop_map(|(pool, addresses)| Lease { pool: pool.into(), addresses })
}

fn netns() -> impl Strategy<Value = Netns> {
    (name(), any::<u64>(), any::<u64>()).prop_map(|(path, inode, cookie)| Netns { path, inode, cookie })
}

fn pod() -> impl Strategy<Value = PodId> {
    (name(), name(), name()).prop_map(|(namespace, name, uid)| PodId { namespace, name, uid })
}

fn pool_route() -> impl Strategy<Value = world::Route> {
    (net(), address()).prop_map(|(destination, gateway)| world::Route { destination, gateway })
}

fn allocation() -> impl Strategy<Value = Allocation> {
    let terms = (any::<u8>(), option::of(address()), any::<bool>(), vec(pool_route(), 0..3));
    let terms =
        terms.prop_map(|(prefix, gateway, default_route, routes)| Terms { prefix, gateway, default_route, routes });
    let fields = (address(), name(), terms, option::of(stranger()));
    fields.prop_map(|(address, pool, terms, stranger)| Allocation { address, pool: pool.into(), terms, stranger })
}

fn held() -> impl Strategy<Value = Held> {
    let fields = (any::<u64>(), pod(), netns(), any::<u64>(), vec(allocation(), 0..3));
    fields.prop_map(|(started, pod, netns, since, allocations)| Held { started, pod, netns, since, allocations })
}

fn stranger() -> impl Strategy<Value = Stranger> {
    (mac(), any::<u64>()).prop_map(|(mac, seen)| Stranger { mac, seen })
}

fn released() -> impl Strategy<Value = Released> {
    prop_oneof![
        (attachment(), netns()).prop_map(|(holder, netns)| Released::Dying { holder, netns }),
        any::<(u64, u64)>().prop_map(|(order, until)| Released::Resting { order, until }),
        (stranger(), any::<u64>()).prop_map(|(stranger, probed)| Released::Quarantined { stranger, probed }),
    ]
}

fn fact() -> impl Strategy<Value = Fact> {
    let kind = prop_oneof![Just(FactKind::Allocated), Just(FactKind::Released), mac().prop_map(FactKind::Taken)];
    let fields = (any::<u64>(), kind, address(), name(), attachment(), pod());
    fields.prop_map(|(at, kind, address, pool, attachment, pod)| Fact {
        at,
        kind,
        address,
        pool: Arc::from(pool),
        attachment,
        pod,
    })
}

fn sandbox() -> impl Strategy<Value = Sandbox> {
    let parts = btree_map(attachment(), any::<u64>(), 0..3);
    let fields = (netns(), pod(), parts, plan());
    fields.prop_map(|(netns, pod, parts, plan): (_, _, BTreeMap<_, _>, _)| Sandbox { netns, pod, parts, plan })
}

fn plan() -> impl Strategy<Value = Plan> {
    let objects = || -> BoxedStrategy<BTreeSet<(String, Object)>> { btree_set((name(), object()), 0..5).boxed() };
    (vec(attached(), 0..3), objects(), objects()).prop_map(|(attached, want, absent)| Plan { attached, want, absent })
}

fn attached() -> impl Strategy<Value = Attached> {
    let names = (name(), name(), option::of(name()));
    let numbers = any::<(u32, bool, u32, Option<u8>, Option<u32>)>();
    let lists = (vec(net(), 0..3), vec(net(), 0..3), vec(pool_route(), 0..3));
    (names, numbers, lists, option::of(mac())).prop_map(|(names, numbers, lists, mac)| {
        let (interface, default_cni_nic, default_route_nic) = names;
        let (table, tune_pod_routes, host_rule_table, rp_filter, tx_queue_length) = numbers;
        let (addresses, destinations, policy_routes) = lists;
        Attached {
            interface,
            table,
            addresses,
            default_cni_nic,
            default_route_nic,
            tune_pod_routes,
            destinations,
            host_rule_table,
            rp_filter,
            tx_queue_length,
            mac,
            policy_routes,
        }
    })
}

fn mac() -> impl Strategy<Value = Mac> {
    any::<[u8; 6]>().prop_map(Mac)
}

fn object() -> impl Strategy<Value = Object> {
    let side = || prop_oneof![Just(Side::Host), Just(Side::Pod)];
    let family = prop_oneof![Just(Family::V4), Just(Family::V6)];
    let attribute = prop_oneof![
        any::<bool>().prop_map(LinkAttribute::Up),
        any::<u32>().prop_map(LinkAttribute::TxQueueLength),
        mac().prop_map(LinkAttribute::Mac),
    ];
    prop_oneof![
        (side(), name(), name()).prop_map(|(side, key, value)| Sysctl { side, key, value }.into()),
        (side(), name(), attribute).prop_map(|(side, device, attribute)| Link { side, device, attribute }.into()),
        (side(), name(), address(), mac()).prop_map(|(side, device, address, mac)| Neighbour {
            side,
            device,
            address,
            mac
        }
        .into()),
        (side(), family, any::<u32>(), option::of(net()), any::<u32>())
            .prop_map(|(side, family, priority, from, table)| Rule { side, family, priority, from, table }.into()),
        (side(), route()).prop_map(|(side, route)| Route { side, ..route }.into()),
    ]
}

fn route() -> impl Strategy<Value = Route> {
    // The numbers that have a name of their own are that name.
    let other = any::<u8>().prop_filter("named", |number| ![0, 253, 254].contains(number)).prop_map(Scope::Other);
    let scope = prop_oneof![Just(Scope::Global), Just(Scope::Link), Just(Scope::Host), other];
    let places = (net(), option::of(address()), name(), option::of(address()), scope);
    let numbers = any::<(u32, u32, bool, Option<u32>, u8)>();
    (places, numbers).prop_map(|(places, (table, metric, onlink, mtu, protocol))| {
        let (destination, gateway, device, source, scope) = places;
        Route { side: Side::Pod, table, destination, gateway, device, source, scope, metric, onlink, mtu, protocol }
    })
}
