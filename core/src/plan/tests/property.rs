//! Whatever the interfaces bring and the settings say: what was applied needs no change, what is undone is as before, and
//! what is withdrawn leaves nothing.

use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::routes::{BOTH, calico, plug, policy, six};
use super::*;

/// A Pod's way through two ADDs.
#[derive(Clone, Debug)]
struct Scene {
    /// Of eth0.
    families: (bool, bool),
    /// IPv6 is switched off on eth0, if it has none.
    six_off: bool,
    /// `rp_filter` as it was before.
    filter: u8,
    interfaces: [Interface; 2],
}

#[derive(Clone, Debug)]
struct Interface {
    families: (bool, bool),
    has_gateway: bool,
    settings: Settings,
}

fn families() -> impl Strategy<Value = (bool, bool)> {
    select(vec![(true, false), (false, true), (true, true)])
}

/// Gateways of each interface and family and of neither; two destinations are the cluster's own.
fn policies() -> impl Strategy<Value = Vec<crate::world::Route>> {
    let all = [
        ("10.7.0.0/16", "10.6.0.3"),
        ("10.17.0.0/16", "10.8.0.3"),
        ("10.17.0.0/16", "10.6.0.3"),
        ("10.233.0.0/18", "10.6.0.3"),
        ("0.0.0.0/0", "10.8.0.3"),
        ("fd00:10:7::/64", "fd00:10:6::3"),
        ("fd00:10:17::/64", "fd00:10:8::3"),
        ("fd85:ee78:d8a6:8607::/64", "fd00:10:8::3"),
        ("fd00:10:27::/64", "fd00:99::3"),
    ];
    subsequence(all.to_vec(), 0..5)
        .prop_map(|chosen| chosen.into_iter().map(|(destination, gateway)| policy(destination, gateway)).collect())
}

fn settings() -> impl Strategy<Value = Settings> {
    let nic = select(vec![None, Some("eth0"), Some("net1"), Some("net2"), Some("gone")]);
    let filter =
        select(vec![None, Some(RpFilter::Leave), Some(RpFilter::Off), Some(RpFilter::Strict), Some(RpFilter::Loose)]);
    let hijack = subsequence(vec!["169.254.0.0/16", "fd00:ca11::/48"], 0..=2);
    let (tables, lengths) = (select(vec![None, Some(600)]), select(vec![None, Some(0), Some(2000)]));
    (nic, any::<bool>(), hijack, filter, any::<bool>(), policies(), tables, lengths).prop_map(
        |(nic, tune, hijack, filter, mac, policy_routes, host_rule_table, tx_queue_length)| Settings {
            pod_default_route_nic: nic.map(str::to_owned),
            tune_pod_routes: Some(tune),
            hijack_cidr: hijack.into_iter().map(|network| network.parse().unwrap()).collect(),
            pod_rp_filter: filter,
            pod_mac_prefix: mac.then_some([2, 3]),
            policy_routes,
            host_rule_table,
            tx_queue_length,
            ..Settings::default()
        },
    )
}

fn interface() -> impl Strategy<Value = Interface> {
    (families(), prop::bool::weighted(0.8), settings()).prop_map(|(families, has_gateway, settings)| Interface {
        families,
        has_gateway,
        settings,
    })
}

fn scene() -> impl Strategy<Value = Scene> {
    (families(), any::<bool>(), 0..3_u8, [interface(), interface()])
        .prop_map(|(families, six_off, filter, interfaces)| Scene { families, six_off, filter, interfaces })
}

impl Scene {
    /// The Pod before its first ADD.
    fn seen(&self) -> Observation {
        let (four, six) = self.families;
        let mut seen = calico(four, six);
        for link in seen.pod.links.iter_mut().filter(|link| link.name == "eth0") {
            link.ipv6_off = self.six_off && !six;
        }
        for (_, value) in seen.pod.sysctls.iter_mut().filter(|(key, _)| key.ends_with("rp_filter")) {
            *value = self.filter.to_string();
        }
        seen
    }

    /// What the plugin before brings for an interface.
    fn plug(&self, at: usize, seen: &mut Observation) {
        let (index, name, ..) = BOTH[at];
        for (address, gateway) in self.addresses(at) {
            plug(seen, index, name, address, Some(gateway).filter(|_| self.interfaces[at].has_gateway));
        }
    }

    fn addresses(&self, at: usize) -> impl Iterator<Item = (&'static str, &'static str)> + use<> {
        let (four, six) = self.interfaces[at].families;
        let (_, _, addresses, gateways) = BOTH[at];
        addresses.into_iter().zip(gateways).zip([four, six]).filter(|(_, has)| *has).map(|(pair, _)| pair)
    }

    fn inputs(&self, at: usize) -> Inputs {
        let addresses: Vec<&str> = self.addresses(at).map(|(address, _)| address).collect();
        let settings = self.interfaces[at].settings.clone();
        Inputs { settings, ..six(inputs(BOTH[at].1, &addresses)) }
    }
}

/// Without order where nothing competes, and without what lasts: kernel settings and attributes of links.
fn passing(seen: &Observation) -> Observation {
    let mut passing = kernel::sorted(seen);
    passing.pod.sysctls.clear();
    passing.pod.links.clear();
    passing
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Rule: All or nothing.
    #[test]
    fn undo_gives_back_what_was_before(scene in scene(), cut in 0_usize..80) {
        let mut seen = scene.seen();
        let mut plan = Plan::default();
        for at in 0..2 {
            scene.plug(at, &mut seen);
            let before = seen.clone();
            let next = extend(&plan, &scene.inputs(at), &seen).unwrap().plan;
            let steps = changes(&plan, &next, &seen);
            let applied = &steps[..cut.min(steps.len())];
            kernel::apply(&mut seen, applied);
            kernel::apply(&mut seen, &undo(applied));
            prop_assert_eq!(kernel::sorted(&seen), kernel::sorted(&before));
            prop_assert_eq!(kernel::choices(&seen), kernel::choices(&before));
            plan = add(&plan, &scene.inputs(at), &mut seen).plan;
        }
    }

    #[test]
    fn withdrawing_all_wants_nothing(scene in scene(), first in 0_usize..2) {
        let mut seen = scene.seen();
        let mut before = Plan::default();
        for at in 0..2 {
            scene.plug(at, &mut seen);
            before = add(&before, &scene.inputs(at), &mut seen).plan;
        }
        for at in [first, 1 - first] {
            let after = withdraw(&before, BOTH[at].1);
            settle(&before, &after, &mut seen);
            prop_assert_eq!(changes(&after, &after, &seen), [], "CHECK of the other");
            before = after;
        }
        prop_assert!(before.is_empty());
        let mut expected = scene.seen();
        (0..2).for_each(|at| scene.plug(at, &mut expected));
        prop_assert_eq!(passing(&seen), passing(&expected));
    }
}
