use proptest::prelude::*;

use super::*;
use crate::address::AddressRange;
use crate::world::{Condition, Namespace, Requirement, Selector};

fn pool(name: &str) -> Pool {
    Pool {
        name: name.into(),
        subnet: "10.6.0.0/16".parse().unwrap(),
        addresses: set("10.6.0.9-10.6.0.19"),
        gateway: Some("10.6.0.1".parse().unwrap()),
        routes: vec![],
        default: false,
        disabled: false,
        terminating: false,
        node: Affinity::Any,
        namespace: Affinity::Any,
        pod: None,
        multus_names: vec![],
    }
}

fn v6(name: &str) -> Pool {
    Pool { subnet: "fd00::/64".parse().unwrap(), addresses: set("fd00::9-fd00::19"), gateway: None, ..pool(name) }
}

fn set(range: &str) -> AddressSet {
    [range.parse::<AddressRange>().unwrap()].into_iter().collect()
}

fn world(pools: impl IntoIterator<Item = Pool>) -> World {
    let mut world = World::new(pools.into_iter().map(Arc::new), AddressSet::new());
    world.node.name = "worker".into();
    world
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

fn request(default_v4: &[&str], default_v6: &[&str]) -> Request {
    Request {
        pod: PodId { namespace: "team-a".into(), name: "nginx".into(), uid: "1".into() },
        default_v4: names(default_v4),
        default_v6: names(default_v6),
        ..Request::default()
    }
}

fn labels(labels: &[(&str, &str)]) -> Labels {
    labels.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
}

fn selector(key: &str, value: &str) -> Selector {
    Selector(vec![Requirement { key: key.into(), condition: Condition::In(names(&[value])) }])
}

/// The pools of each want, in order.
fn chosen(request: &Request, world: &World) -> Result<Vec<Vec<String>>, String> {
    let wants = select(request, world).map_err(|refusals| refusals.to_string())?;
    Ok(wants.iter().map(|want| want.candidates.iter().map(|it| it.pool.to_string()).collect()).collect())
}

/// The reason for which a pool that is the only one listed is refused.
fn reason(pool: Pool, request: &Request, world: &World) -> Reason {
    let name = pool.name.clone();
    let pools = world.pools().values().map(|pool| Pool::clone(pool)).chain([pool]);
    let mut with = World::new(pools.map(Arc::new), world.reserved().clone());
    (with.node, with.namespaces) = (world.node.clone(), world.namespaces.clone());
    match select(&Request { default_v4: vec![name.to_string()], ..request.clone() }, &with) {
        Err(Refusals::NoneFits(unserved)) => unserved[0].tried[0].reason.clone(),
        other => panic!("{other:?}"),
    }
}

/// The first source that has any wins, without falling through; one family alone wins as well.
#[test]
fn the_configuration_comes_before_default_pools() {
    let default = |pool: Pool| Pool { default: true, ..pool };
    let world = world([pool("v4"), v6("v6"), default(pool("d4")), default(v6("d6"))]);
    let chosen = |default_v4: &[&str], default_v6: &[&str]| chosen(&request(default_v4, default_v6), &world);
    assert_eq!(chosen(&["v4"], &["v6"]).unwrap(), [["v4"], ["v6"]]);
    assert_eq!(chosen(&["v4"], &[]).unwrap(), [["v4"]]);
    assert_eq!(chosen(&[], &["v6"]).unwrap(), [["v6"]]);
    assert_eq!(chosen(&[], &[]).unwrap(), [["d4"], ["d6"]]);
    // A hit that serves nothing is no reason to look further.
    assert!(chosen(&["missing"], &[]).is_err());
}

/// Empty lists are absent ones. Nothing named at all says what to do.
#[test]
fn nothing_named_is_refused_with_the_way_out() {
    let text = "no IPPool available: the network's configuration names no pool (default_ipv4_ippool, \
                default_ipv6_ippool) and no SpiderIPPool has spec.default: true; name a pool, or make one the default";
    assert_eq!(chosen(&request(&[], &[]), &world([pool("a")])), Err(text.into()));
}

/// The listed order is kept; default pools come by name.
#[test]
fn order_is_kept() {
    let pools = ["pa", "pb", "pc"].map(|name| Pool { default: true, ..pool(name) });
    let world = world(pools);
    assert_eq!(chosen(&request(&["pc", "pa", "pb"], &[]), &world).unwrap(), [["pc", "pa", "pb"]]);
    assert_eq!(chosen(&request(&[], &[]), &world).unwrap(), [["pa", "pb", "pc"]]);
}

/// Patterns stand for the pools of their family, by name; one without a match contributes nothing; an explicit
/// name beside them stays.
#[test]
fn patterns_are_expanded() {
    let world = world([pool("a-2"), pool("a-1"), pool("b"), v6("a-6")]);
    let rows: [(&[&str], &[&str]); 4] = [
        (&["a-*"], &["a-1", "a-2"]),
        (&["b", "a-?"], &["b", "a-1", "a-2"]),
        (&["x-*", "b"], &["b"]),
        (&["[b-c]", "a-[^1]"], &["b", "a-2"]),
    ];
    for (listed, expected) in rows {
        assert_eq!(chosen(&request(listed, &[]), &world).unwrap(), [expected]);
    }
    assert_eq!(chosen(&request(&[], &["a-*"]), &world).unwrap(), [["a-6"]]);
}

/// Patterns that leave nothing are refused with reasons.
#[test]
fn patterns_without_match_are_named() {
    let text = "no IPPool available: IPv4: x-* (no IPv4 pool matches this pattern), y? (no IPv4 pool matches this \
                pattern)";
    assert_eq!(chosen(&request(&["x-*", "y?"], &[]), &world([pool("a")])), Err(text.into()));
}

/// The same pool twice for a family is wrong input, by a pattern too; so is a malformed pattern.
#[test]
fn wrong_input_is_told_apart() {
    let world = world([pool("a"), pool("b"), v6("c")]);
    let rows: [(&[&str], &[&str], &str); 5] = [
        (&["a", "a"], &[], "wrong input: default_ipv4_ippool names pool a twice; name it once"),
        (
            &["a", "*"],
            &[],
            "wrong input: default_ipv4_ippool names pool a twice, once by the pattern \"*\"; name it once",
        ),
        (&["*", "b"], &[], "wrong input: default_ipv4_ippool names pool b twice; name it once"),
        (&["missing", "missing"], &["c"], "wrong input: default_ipv4_ippool names pool missing twice; name it once"),
        (
            &["a"],
            &["c["],
            "wrong input: default_ipv6_ippool has the malformed pattern \"c[\": a character class is not closed; write ] \
             at its end",
        ),
    ];
    for (default_v4, default_v6, expected) in rows {
        let refusals = select(&request(default_v4, default_v6), &world).unwrap_err();
        assert!(matches!(refusals, Refusals::WrongInput(_)));
        assert_eq!(refusals.to_string(), expected);
    }
    // The families are lists of their own: a pool of the wrong one is refused as such.
    assert!(matches!(select(&request(&["a"], &["a"]), &world), Err(Refusals::NoneFits(_))));
}

/// A name that does not exist is an error, also beside pools that would do.
#[test]
fn an_unknown_name_is_never_made_good() {
    let disabled = Pool { disabled: true, ..pool("off") };
    let text = "no IPPool available: IPv4: off (is disabled by spec.disable), typo (there is no SpiderIPPool of this \
                name; create it or correct the name)";
    assert_eq!(chosen(&request(&["a", "off", "typo"], &[]), &world([pool("a"), disabled])), Err(text.into()));
}

/// Rule: All or nothing. Each listed family must succeed; IPv4 comes first.
#[test]
fn every_listed_family_must_be_served() {
    let off = Pool { disabled: true, ..v6("off6") };
    let world = world([pool("v4"), v6("v6"), off, Pool { disabled: true, ..pool("off4") }]);
    assert_eq!(chosen(&request(&["v4"], &["v6"]), &world).unwrap(), [["v4"], ["v6"]]);
    let wants = select(&request(&["v4"], &["v6"]), &world).unwrap();
    assert_eq!([wants[0].family, wants[1].family], [Family::V4, Family::V6]);

    let text = "no IPPool available: IPv6: off6 (is disabled by spec.disable)";
    assert_eq!(chosen(&request(&["v4"], &["off6"]), &world), Err(text.into()));
    let both =
        "no IPPool available: IPv4: off4 (is disabled by spec.disable); IPv6: off6 (is disabled by spec.disable)";
    assert_eq!(chosen(&request(&["off4"], &["off6"]), &world), Err(both.into()));
}

/// Refused pools are left out as long as one remains; if none does, every one is named.
#[test]
fn refused_pools_are_dropped_or_all_named() {
    let off = Pool { disabled: true, ..pool("off") };
    let gone = Pool { terminating: true, ..pool("gone") };
    let world = world([pool("a"), off, gone, v6("six")]);
    assert_eq!(chosen(&request(&["off", "a", "six", "gone"], &[]), &world).unwrap(), [["a"]]);
    let text = "no IPPool available: IPv4: off (is disabled by spec.disable), gone (is being deleted), six (is an IPv6 \
                pool; list it in default_ipv6_ippool)";
    assert_eq!(chosen(&request(&["off", "gone", "six"], &[]), &world), Err(text.into()));
}

/// A disabled pool gives out nothing new.
#[test]
fn each_filter_has_its_reason() {
    let nowhere = world([]);
    let mut known = world([]);
    known.node.labels = Some(labels(&[("zone", "a")]));
    known.namespaces.insert("team-a".into(), Namespace { labels: labels(&[("team", "a")]) });
    let anyone = request(&[], &[]);
    let node = |node| Pool { node, ..pool("p") };
    let space = |namespace| Pool { namespace, ..pool("p") };

    let rows = [
        (Pool { disabled: true, ..pool("p") }, &nowhere, Reason::Disabled),
        (Pool { terminating: true, ..pool("p") }, &nowhere, Reason::Terminating),
        (v6("p"), &nowhere, Reason::OtherFamily(Family::V6)),
        (Pool { addresses: AddressSet::new(), ..pool("p") }, &nowhere, Reason::Empty),
        (node(Affinity::Names(names(&["other"]))), &known, Reason::NodeName("worker".into())),
        (node(Affinity::Labels(selector("zone", "b"))), &known, Reason::NodeLabels("worker".into())),
        (node(Affinity::Labels(selector("zone", "a"))), &nowhere, Reason::NodeUnknown("worker".into())),
        (space(Affinity::Names(names(&["team-b"]))), &known, Reason::NamespaceName("team-a".into())),
        (space(Affinity::Labels(selector("team", "b"))), &known, Reason::NamespaceLabels("team-a".into())),
        (space(Affinity::Labels(selector("team", "a"))), &nowhere, Reason::NamespaceUnknown("team-a".into())),
    ];
    for (pool, world, expected) in rows {
        assert_eq!(reason(pool, &anyone, world), expected);
    }
    let fits = [
        node(Affinity::Names(names(&["other", "worker"]))),
        node(Affinity::Labels(selector("zone", "a"))),
        space(Affinity::Names(names(&["team-b", "team-a"]))),
        space(Affinity::Labels(selector("team", "a"))),
    ];
    for pool in fits {
        let mut world = world([pool]);
        (world.node, world.namespaces) = (known.node.clone(), known.namespaces.clone());
        assert_eq!(chosen(&request(&["p"], &[]), &world).unwrap(), [["p"]]);
    }
}

#[test]
fn a_pod_without_namespace_is_served_by_open_pools_only() {
    let nobody = Request::default();
    let limited = |namespace| Pool { namespace, ..pool("p") };
    for affinity in [Affinity::Names(names(&["", "team-a"])), Affinity::Labels(Selector::default())] {
        assert_eq!(reason(limited(affinity), &nobody, &world([])), Reason::NoNamespace);
    }
    assert!(chosen(&Request { default_v4: names(&["a"]), ..nobody }, &world([pool("a")])).is_ok());
}

/// A pool that asks for what is not known (in standalone mode the Pod's labels and the network) is refused with that
/// reason; one that does not ask is not.
#[test]
fn what_is_not_known_refuses() {
    let of_pods = Pool { pod: Some(selector("app", "nginx")), ..pool("p") };
    let of_networks = Pool { multus_names: names(&["net-a", "other/net-b"]), ..pool("p") };
    let anyone = request(&[], &[]);
    assert_eq!(reason(of_pods.clone(), &anyone, &world([])), Reason::PodUnknown);
    assert_eq!(reason(of_networks.clone(), &anyone, &world([])), Reason::NetworkUnknown);

    let labelled = |value| Request { pod_labels: Some(labels(&[("app", value)])), ..request(&["p"], &[]) };
    assert_eq!(reason(of_pods.clone(), &labelled("redis"), &world([])), Reason::Pod);
    assert!(chosen(&labelled("nginx"), &world([of_pods])).is_ok());

    // A bare name means the namespace of the installation.
    let on = |namespace: &str, name: &str| {
        let network =
            Network { namespace: namespace.into(), name: name.into(), default_namespace: "kube-system".into() };
        Request { network: Some(network), ..request(&["p"], &[]) }
    };
    for (namespace, name) in [("kube-system", "net-a"), ("other", "net-b")] {
        assert!(chosen(&on(namespace, name), &world([of_networks.clone()])).is_ok());
    }
    for (namespace, name) in [("other", "net-a"), ("kube-system", "net-b")] {
        let expected = Reason::Network(format!("{namespace}/{name}"));
        assert_eq!(reason(of_networks.clone(), &on(namespace, name), &world([])), expected);
    }
}

/// The network matters only for pools with multusName.
#[test]
fn an_unknown_network_does_not_bar_open_pools() {
    let world = world([pool("open"), Pool { multus_names: names(&["net"]), ..pool("bound") }]);
    assert_eq!(chosen(&request(&["bound", "open"], &[]), &world).unwrap(), [["open"]]);
}

/// Narrower pools first, level by level, and the listed order among equals.
#[test]
fn narrower_affinities_come_first() {
    let names_of = |name: &str| Affinity::Names(names(&[name]));
    let pods = || Some(selector("app", "nginx"));
    let by_node = || Pool { node: names_of("worker"), ..pool("node-name") };
    let pools = [
        Pool { pod: pods(), ..pool("pod") },
        by_node(),
        Pool { node: Affinity::Labels(selector("zone", "a")), ..pool("node-labels") },
        Pool { namespace: names_of("team-a"), ..pool("namespace-name") },
        Pool { namespace: Affinity::Labels(selector("team", "a")), ..pool("namespace-labels") },
        Pool { multus_names: names(&["net"]), ..pool("network") },
        pool("none-b"),
        pool("none-a"),
        // A tie on one level is decided by the next ones.
        Pool { pod: pods(), name: "pod-and-network".into(), multus_names: names(&["net"]), ..pool("") },
        Pool { name: "node-and-namespace".into(), namespace: names_of("team-a"), ..by_node() },
    ];
    let mut world = world(pools);
    world.node.labels = Some(labels(&[("zone", "a")]));
    world.namespaces.insert("team-a".into(), Namespace { labels: labels(&[("team", "a")]) });
    let listed = [
        "none-b",
        "network",
        "node-labels",
        "pod",
        "none-a",
        "namespace-name",
        "node-name",
        "namespace-labels",
        "pod-and-network",
        "node-and-namespace",
    ];
    let network =
        Network { namespace: "kube-system".into(), name: "net".into(), default_namespace: "kube-system".into() };
    let request =
        Request { pod_labels: Some(labels(&[("app", "nginx")])), network: Some(network), ..request(&listed, &[]) };
    let expected = [
        "pod-and-network",
        "pod",
        "node-and-namespace",
        "node-name",
        "node-labels",
        "namespace-name",
        "namespace-labels",
        "network",
        "none-b",
        "none-a",
    ];
    assert_eq!(chosen(&request, &world).unwrap(), [expected]);
}

/// The gateway stays in the answer when the default route is left out; without one there is none.
#[test]
fn terms_say_gateway_and_routes() {
    let route = Route { destination: "10.7.0.0/16".parse().unwrap(), gateway: "10.6.0.2".parse().unwrap() };
    let world = world([Pool { routes: vec![route], ..pool("a") }, v6("b")]);
    let terms = |clean_gateway| {
        let request = Request { clean_gateway, ..request(&["a"], &["b"]) };
        select(&request, &world).unwrap().into_iter().map(|mut want| want.candidates.remove(0).terms)
    };
    let a = |default_route| Terms {
        prefix: 16,
        gateway: Some("10.6.0.1".parse().unwrap()),
        default_route,
        routes: vec![route],
    };
    let b = Terms { prefix: 64, gateway: None, default_route: false, routes: vec![] };
    assert_eq!(terms(false).collect::<Vec<_>>(), [a(true), b.clone()]);
    assert_eq!(terms(true).collect::<Vec<_>>(), [a(false), b]);
}

/// Reserved addresses are skipped; what leaves nothing says so.
#[test]
fn reserved_addresses_are_not_offered() {
    let pools = || [Arc::new(pool("a"))];
    let some = World::new(pools(), set("10.6.0.1-10.6.0.14"));
    let wants = select(&request(&["a"], &[]), &some).unwrap();
    assert_eq!(wants[0].candidates[0].allowed.to_string(), "10.6.0.15-10.6.0.19");
    let all = World::new(pools(), set("10.6.0.1-10.6.0.19"));
    let text = "no IPPool available: IPv4: a (has nothing to give out: spec.excludeIPs and SpiderReservedIP objects \
                leave none of its spec.ips)";
    assert_eq!(chosen(&request(&["a"], &[]), &all), Err(text.into()));
}

proptest! {
    /// Whatever is listed: the candidates are listed pools that may serve, each once, and equals keep their order.
    #[test]
    fn candidates_are_a_stable_choice(order in Just((0..8_usize).collect::<Vec<_>>()).prop_shuffle(), kinds in prop::collection::vec(0..4_u8, 8)) {
        let name = |place: usize| format!("p{place}");
        let world = world(kinds.iter().enumerate().map(|(place, kind)| {
            let pool = pool(&name(place));
            match kind {
                0 => pool,
                1 => Pool { disabled: true, ..pool },
                2 => Pool { node: Affinity::Names(names(&["worker"])), ..pool },
                _ => Pool { namespace: Affinity::Names(names(&["team-a"])), ..pool },
            }
        }));
        let request = Request { default_v4: order.iter().map(|&place| name(place)).collect(), ..request(&[], &[]) };
        let of_kind = |kind: u8| order.iter().filter(|&&place| kinds[place] == kind).map(|&place| name(place)).collect::<Vec<_>>();
        let expected: Vec<String> = [of_kind(2), of_kind(3), of_kind(0)].concat();
        match chosen(&request, &world) {
            Ok(wants) => prop_assert_eq!(wants, [expected]),
            Err(_) => prop_assert!(expected.is_empty()),
        }
    }
}
