//! Golden files of every combination that docs/routes.md derives.

use super::*;

/// The links, addresses and routes that a CNI plugin of the lab brings, in the order in which the kernel lists them.
pub(super) fn plug(seen: &mut Observation, index: u32, name: &str, address: &str, gateway: Option<&str>) {
    if seen.pod.link(name).is_none() {
        seen.pod.links.push(link(index, name, "macvlan", Some(2)));
        seen.pod.sysctls.extend(sysctls(&[name]));
    }
    let network: IpNet = address.parse().unwrap();
    let six = crate::address::Family::of_net(&network) == crate::address::Family::V6;
    seen.pod.addresses.push(super::address(name, address));
    let (subnet, own) = (network.trunc(), network.addr());
    let connected = if six {
        format!("{subnet} dev {name} metric 256 kernel")
    } else {
        format!("{subnet} dev {name} src {own} kernel")
    };
    seen.pod.routes.push(route(Side::Pod, &connected));
    if let Some(gateway) = gateway {
        let word = if six { "default6" } else { "default" };
        let at = if six { seen.pod.routes.len() } else { 0 };
        seen.pod.routes.insert(at, route(Side::Pod, &format!("{word} via {gateway} dev {name}")));
    }
}

/// A Pod with eth0 alone, as Calico makes it, for the families asked for.
pub(super) fn calico(four: bool, six: bool) -> Observation {
    let mut seen = seed();
    seen.pod.links.retain(|link| link.name != "net1");
    seen.pod.addresses.clear();
    seen.pod.routes.clear();
    if four {
        seen.pod.addresses.push(address("eth0", "10.233.73.210/32"));
        seen.pod.routes.push(route(Side::Pod, "default via 169.254.1.1 dev eth0"));
        seen.pod.routes.push(route(Side::Pod, "169.254.1.1/32 dev eth0"));
    }
    if six {
        seen.pod.addresses.push(address("eth0", "fd85:ee78:d8a6:8607::1:eb84/128"));
        seen.pod.routes.push(route(Side::Pod, "default6 via fe80::ecee:eeff:feee:eeee dev eth0"));
        seen.pod.routes.push(route(Side::Pod, "fd85:ee78:d8a6:8607::1:eb84/128 dev eth0 metric 256 kernel"));
    }
    seen.pod.routes.push(route(Side::Pod, "fe80::/64 dev eth0 metric 256 kernel"));
    seen.host.addresses.push(address("ens192", "fd00:10:6::132/64"));
    seen
}

const NET1_SIX: &str = "fd00:10:6::2e5/64";

pub(super) fn six(mut inputs: Inputs) -> Inputs {
    inputs.overlay_pod_cidr.push("fd85:ee78:d8a6:8607::/64".parse().unwrap());
    inputs
}

#[test]
fn six_alone() {
    let mut seen = calico(false, true);
    plug(&mut seen, 5, "net1", NET1_SIX, Some("fd00:10:6::1"));
    golden("plan-six", &story(&Plan::default(), &six(inputs("net1", &[NET1_SIX])), &mut seen));
}

#[test]
fn six_alone_with_the_default_route() {
    let mut seen = calico(false, true);
    plug(&mut seen, 5, "net1", NET1_SIX, Some("fd00:10:6::1"));
    let inputs = with(six(inputs("net1", &[NET1_SIX])), |set| set.pod_default_route_nic = Some("net1".into()));
    golden("plan-six-default-route-nic", &story(&Plan::default(), &inputs, &mut seen));
}

/// eth0 has no IPv6: net1's only IPv6 default route stays in main, IPv4 is as ever.
#[test]
fn both_families_beside_an_eth0_without_six() {
    let mut seen = calico(true, false);
    plug(&mut seen, 5, "net1", "10.6.212.145/16", Some("10.6.0.1"));
    plug(&mut seen, 5, "net1", NET1_SIX, Some("fd00:10:6::1"));
    let inputs = six(inputs("net1", &["10.6.212.145/16", NET1_SIX]));
    golden("plan-dual-on-four", &story(&Plan::default(), &inputs, &mut seen.clone()));
    for link in seen.pod.links.iter_mut().filter(|link| link.name == "eth0") {
        link.ipv6_off = true;
    }
    golden("plan-dual-on-four-six-off", &story(&Plan::default(), &inputs, &mut seen));
}

/// eth0 has both families, net1 IPv4 alone: eth0's IPv6 is not touched, whatever a router says on net1.
#[test]
fn a_family_that_the_interface_lacks_is_left_alone() {
    let mut seen = calico(true, true);
    plug(&mut seen, 5, "net1", "10.6.212.145/16", Some("10.6.0.1"));
    advertise(&mut seen);
    golden("plan-four-beside-six", &story(&Plan::default(), &net1(), &mut seen));
}

/// What a router's advertisement on net1's segment leaves in the kernel: an address, its subnet, a default route.
fn advertise(seen: &mut Observation) {
    let learnt = SeenAddress { permanent: false, ..address("net1", "fd00:99::a899:9dff:fe04:105/64") };
    seen.pod.addresses.push(learnt);
    seen.pod.routes.push(route(Side::Pod, "fd00:99::/64 dev net1 metric 256 kernel"));
    let default = route(Side::Pod, "default6 via fe80::1 dev net1");
    seen.pod.routes.push(Route { protocol: Route::PROTOCOL_ADVERTISEMENT, ..default });
}

/// net1 with one address of its own, and the subnet that each link of IPv6 has.
fn beside_link_local() -> Observation {
    let mut seen = calico(true, true);
    plug(&mut seen, 5, "net1", NET1_SIX, Some("fd00:10:6::1"));
    seen.pod.routes.push(route(Side::Pod, "fe80::/64 dev net1 metric 256 kernel"));
    seen
}

#[test]
fn link_local_addresses_of_a_result_are_left_alone() {
    let mut seen = beside_link_local();
    let without = extend(&Plan::default(), &six(inputs("net1", &[NET1_SIX])), &seen).unwrap().plan;
    seen.pod.addresses.push(SeenAddress { global: false, ..address("net1", "fe80::2e5/64") });
    let inputs = six(inputs("net1", &["fe80::2e5/64", NET1_SIX]));
    assert_eq!(extend(&Plan::default(), &inputs, &seen).unwrap().plan, without);
    golden("plan-link-local", &story(&Plan::default(), &inputs, &mut seen));
    for alone in ["fe80::2e5/64", "169.254.7.7/16"] {
        let link_local = super::inputs("net1", &[alone]);
        assert!(matches!(extend(&Plan::default(), &link_local, &seen), Err(Refused::NoAddress(_))), "{alone}");
    }
}

#[test]
fn what_a_router_says_is_left_alone() {
    let mut seen = beside_link_local();
    let inputs = six(inputs("net1", &[NET1_SIX]));
    let without = extend(&Plan::default(), &inputs, &seen).unwrap().plan;
    advertise(&mut seen);
    assert_eq!(extend(&Plan::default(), &inputs, &seen).unwrap().plan, without, "whenever the router speaks");
    golden("plan-slaac", &story(&Plan::default(), &inputs, &mut seen));
}

const THREE: [(u32, &str, &str, &str); 3] = [
    (5, "net1", "10.6.212.145/16", "10.6.0.1"),
    (6, "net2", "10.8.0.20/24", "10.8.0.1"),
    (7, "net3", "10.9.0.30/24", "10.9.0.1"),
];

/// Three interfaces, one after the other, each with the same settings.
fn three(set: impl Fn(&mut Settings)) -> (Plan, Vec<Warning>, Observation) {
    let mut seen = calico(true, false);
    let (mut plan, mut warnings) = (Plan::default(), Vec::new());
    for (index, name, address, gateway) in THREE {
        plug(&mut seen, index, name, address, Some(gateway));
        let extended = add(&plan, &with(inputs(name, &[address]), &set), &mut seen);
        plan = extended.plan;
        warnings = extended.warnings;
    }
    (plan, warnings, seen)
}

/// The default route NIC named before it exists is no error; the plan is that of the last ADD, not of the order.
#[test]
fn three_interfaces_with_each_default_route_nic() {
    for nic in [None, Some("eth0"), Some("net1"), Some("net2"), Some("net3")] {
        let (plan, warnings, seen) = three(|set| set.pod_default_route_nic = nic.map(str::to_owned));
        assert_eq!(warnings, [], "{nic:?}");
        let name = nic.filter(|nic| *nic != "eth0").map_or("plan-three".into(), |nic| format!("plan-three-{nic}"));
        golden(&name, &format!("{plan}{}", main_table(&seen)));
    }
}

/// Whichever interface goes first, what is left is what the others need.
#[test]
fn three_interfaces_go_in_any_order() {
    for nic in [None, Some("net1"), Some("net2"), Some("net3")] {
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let (mut plan, _, mut seen) = three(|set| set.pod_default_route_nic = nic.map(str::to_owned));
            for gone in order.map(|at| THREE[at].1) {
                let after = withdraw(&plan, gone);
                settle(&plan, &after, &mut seen);
                assert_eq!(changes(&after, &after, &seen), [], "{nic:?} {order:?} without {gone}");
                let rest: Vec<_> = seen.pod.rules.iter().filter(|rule| rule.from.is_some()).collect();
                assert!(rest.iter().all(|rule| plan.addresses(gone).all(|own| rule.from != Some(own.into()))));
                // The link and what hangs on it, as the plugin before takes it away.
                seen.pod.links.retain(|link| link.name != gone);
                seen.pod.addresses.retain(|seen| seen.device != gone);
                seen.pod.routes.retain(|route| route.device != gone);
                plan = after;
            }
            let mut expected = calico(true, false);
            expected.pod.sysctls = seen.pod.sysctls.clone();
            assert_eq!(kernel::sorted(&seen), kernel::sorted(&expected), "{nic:?} {order:?}");
        }
    }
}

#[test]
fn a_default_route_nic_that_never_comes_is_an_error_once_that_is_known() {
    let named = |nic: &str, inputs| with(inputs, |set: &mut Settings| set.pod_default_route_nic = Some(nic.into()));
    let refused = |inputs: &Inputs, seen: &Observation| {
        let text = extend(&Plan::default(), inputs, seen).unwrap_err().to_string();
        assert!(text.contains(inputs.settings.pod_default_route_nic.as_ref().unwrap()), "{text}");
    };
    let mut second = calico(true, false);
    plug(&mut second, 6, "net2", "10.8.0.20/24", Some("10.8.0.1"));
    // net1 is added before net2, or never.
    refused(&named("net1", net2()), &second);
    let known = |to_come: &[&str], nic: &str| {
        let to_come = Some(to_come.iter().map(|name| (*name).to_owned()).collect());
        Inputs { to_come, ..named(nic, net1()) }
    };
    refused(&known(&[], "net9"), &seed());
    refused(&known(&["net2"], "net3"), &seed());
    let later = extend(&Plan::default(), &known(&["net2", "net3"], "net3"), &seed()).unwrap();
    assert_eq!(later.warnings, [Warning::UnknownDefaultRouteNic("net3".into())]);
    // The name is that of an interface that is there already: nothing to wait for.
    assert!(extend(&Plan::default(), &known(&[], "eth0"), &seed()).is_ok());
    // Left alone, whatever is named.
    let untuned = with(known(&[], "net9"), |set| set.tune_pod_routes = Some(false));
    assert!(extend(&Plan::default(), &untuned, &seed()).is_ok());
}

pub(super) fn policy(destination: &str, gateway: &str) -> crate::world::Route {
    crate::world::Route { destination: destination.parse().unwrap(), gateway: gateway.parse().unwrap() }
}

/// The cluster's list names gateways of both interfaces: each takes its own.
#[test]
fn policy_routes_of_the_cluster_go_by_the_interface_of_their_gateway() {
    let routes =
        [policy("10.7.0.0/16", "10.6.0.3"), policy("10.17.0.0/16", "10.8.0.3"), policy("10.27.0.0/16", "10.99.0.3")];
    let mut seen = calico(true, false);
    let mut plan = Plan::default();
    for (index, name, address, gateway) in &THREE[..2] {
        plug(&mut seen, *index, name, address, Some(gateway));
        let inputs = with(inputs(name, &[address]), |set| set.policy_routes = routes.to_vec());
        plan = add(&plan, &inputs, &mut seen).plan;
    }
    golden("plan-policy-two", &format!("{plan}{}", main_table(&seen)));
}

/// With the default route, or untuned, the interface's traffic looks in main: so do its routes.
#[test]
fn policy_routes_stand_where_the_interface_looks() {
    let routes = vec![policy("10.7.0.0/16", "10.6.0.3")];
    let set = |set: &mut Settings| {
        set.policy_routes = routes.clone();
        set.pod_default_route_nic = Some("net1".into());
    };
    golden("plan-policy-default-route-nic", &story(&Plan::default(), &with(net1(), set), &mut seed()));
    let set = |set: &mut Settings| {
        set.policy_routes = routes.clone();
        set.tune_pod_routes = Some(false);
    };
    golden("plan-policy-untuned", &story(&Plan::default(), &with(net1(), set), &mut seed()));
}

pub(super) const BOTH: [(u32, &str, [&str; 2], [&str; 2]); 2] = [
    (5, "net1", ["10.6.212.145/16", NET1_SIX], ["10.6.0.1", "fd00:10:6::1"]),
    (6, "net2", ["10.8.0.20/24", "fd00:10:8::14/64"], ["10.8.0.1", "fd00:10:8::1"]),
];

/// Two interfaces of both families beside an eth0 of both, with the same settings.
fn both(set: impl Fn(&mut Settings)) -> String {
    let mut seen = calico(true, true);
    let mut plan = Plan::default();
    for (index, name, addresses, gateways) in BOTH {
        for (address, gateway) in addresses.into_iter().zip(gateways) {
            plug(&mut seen, index, name, address, Some(gateway));
        }
        plan = add(&plan, &with(six(inputs(name, &addresses)), &set), &mut seen).plan;
    }
    format!("{plan}{}", main_table(&seen))
}

/// A gateway of each interface and family, and one of neither.
fn policies() -> Vec<crate::world::Route> {
    vec![
        policy("10.7.0.0/16", "10.6.0.3"),
        policy("10.17.0.0/16", "10.8.0.3"),
        policy("fd00:10:7::/64", "fd00:10:6::3"),
        policy("fd00:10:17::/64", "fd00:10:8::3"),
        policy("fd00:10:27::/64", "fd00:99::3"),
    ]
}

#[test]
fn two_interfaces_of_both_families() {
    golden("plan-dual-two", &both(|_| {}));
    golden("plan-dual-two-untuned", &both(|set| set.tune_pod_routes = Some(false)));
    let hijacked = ["169.254.0.0/16", "fd00:ca11::/48"].map(|network| network.parse().unwrap());
    golden("plan-dual-two-hijack", &both(|set| set.hijack_cidr = hijacked.to_vec()));
    golden("plan-dual-two-policy", &both(|set| set.policy_routes = policies()));
    let keeper = |set: &mut Settings| {
        set.policy_routes = policies();
        set.pod_default_route_nic = Some("net2".into());
    };
    golden("plan-dual-two-policy-net2", &both(keeper));
}

/// A rule leads IPv4 to net1's table, none leads IPv6 there.
#[test]
fn policy_routes_look_at_their_own_family() {
    let mut seen = calico(true, false);
    let (_, _, addresses, gateways) = BOTH[0];
    addresses.iter().zip(gateways).for_each(|(address, gateway)| plug(&mut seen, 5, "net1", address, Some(gateway)));
    let inputs = with(six(inputs("net1", &addresses)), |set| set.policy_routes = policies());
    golden("plan-dual-on-four-policy", &story(&Plan::default(), &inputs, &mut seen));
}

/// net1 untuned, net2 tuned: net1's default route is nobody's business and stays first.
#[test]
fn untuned_beside_tuned() {
    for (name, first, second) in [("plan-untuned-second", true, false), ("plan-untuned-both", false, false)] {
        let mut seen = calico(true, false);
        let mut plan = Plan::default();
        for ((index, name, address, gateway), tune) in THREE.into_iter().zip([first, second]) {
            plug(&mut seen, index, name, address, Some(gateway));
            let inputs = with(inputs(name, &[address]), |set| set.tune_pod_routes = Some(tune));
            plan = add(&plan, &inputs, &mut seen).plan;
        }
        golden(name, &format!("{plan}{}", main_table(&seen)));
    }
}

#[test]
fn another_host_rule_table() {
    let mut seen = calico(true, false);
    let mut plan = Plan::default();
    for ((index, name, address, gateway), table) in THREE.into_iter().zip([None, Some(600)]) {
        plug(&mut seen, index, name, address, Some(gateway));
        plan = add(&plan, &with(inputs(name, &[address]), |set| set.host_rule_table = table), &mut seen).plan;
    }
    let host = |plan: &Plan| plan.host_objects().iter().map(|object| format!("{object}\n")).collect::<String>();
    golden("plan-host-rule-table", &host(&plan));
    let after = withdraw(&plan, "net2");
    assert!(!host(&after).contains("600"), "{}", host(&after));
}

/// The kernel takes the greater of `all` and the interface's own value.
#[test]
fn each_interface_has_its_own_reverse_path_filter() {
    let values = [RpFilter::Leave, RpFilter::Off, RpFilter::Strict, RpFilter::Loose];
    for one in values {
        for other in values {
            let mut seen = calico(true, false);
            let mut plan = Plan::default();
            for ((index, name, address, gateway), filter) in THREE.into_iter().zip([one, other]) {
                plug(&mut seen, index, name, address, Some(gateway));
                plan =
                    add(&plan, &with(inputs(name, &[address]), |set| set.pod_rp_filter = Some(filter)), &mut seen).plan;
            }
            let value = |name: &str| seen.pod.sysctls[&format!("net/ipv4/conf/{name}/rp_filter")].clone();
            for (name, filter) in [("net1", one), ("net2", other)] {
                match filter.value() {
                    Some(wanted) => {
                        assert_eq!(value("all").max(value(name)), wanted.to_string(), "{name} of {one:?}, {other:?}");
                    }
                    None => assert_eq!(value(name), "1", "left alone"),
                }
            }
            if one.value().is_none() && other.value().is_none() {
                assert!(!plan.to_string().contains("rp_filter"), "{plan}");
            }
        }
    }
}

/// IPv6 was off on net1 alone: it is switched on there, and nowhere else.
#[test]
fn six_is_switched_on_where_an_address_is_given() {
    let mut seen = calico(true, true);
    plug(&mut seen, 5, "net1", NET1_SIX, None);
    for name in ["all", "default", "net1"] {
        seen.pod.sysctls.insert(format!("net/ipv6/conf/{name}/disable_ipv6"), "1".into());
    }
    let plan = extend(&Plan::default(), &inputs("net1", &[NET1_SIX]), &seen).unwrap().plan;
    let written: Vec<String> = changes(&Plan::default(), &plan, &seen)
        .iter()
        .filter(|change| matches!(change.object(), Object::Sysctl(sysctl) if sysctl.key.contains("ipv6")))
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        written,
        ["set pod sysctl net/ipv6/conf/net1/disable_ipv6 = 0 (was: pod sysctl net/ipv6/conf/net1/disable_ipv6 = 1)"]
    );
    assert!(extend(&Plan::default(), &net1(), &seen).is_ok_and(|extended| !extended.plan.to_string().contains("ipv6")));
}

#[test]
fn check_misses_addresses() {
    let mut seen = seed();
    let plan = add(&Plan::default(), &net1(), &mut seen).plan;
    assert_eq!(seen.pod.missing_addresses(&plan), Vec::<String>::new());
    seen.pod.addresses.retain(|seen| seen.device != "net1");
    assert_eq!(seen.pod.missing_addresses(&plan), ["missing: pod address 10.6.212.145/16 dev net1"]);
}
