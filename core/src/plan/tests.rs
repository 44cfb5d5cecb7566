//! Golden files hold whole plans; a model of the kernel holds what changes do to it.

use std::path::Path;

use super::*;
use crate::address::Family;
use crate::world::{Mode, RpFilter, Settings};

mod kernel;
mod property;
mod routes;

fn mac(last: u8) -> Mac {
    Mac([0xa2, 0x99, 0x9d, 0x04, 0x01, last])
}

fn link(index: u32, name: &str, kind: &str, peer: Option<u32>) -> SeenLink {
    SeenLink {
        index,
        name: name.into(),
        kind: kind.into(),
        mac: Some(mac(index as u8)),
        up: true,
        loopback: name == "lo",
        mtu: 1500,
        peer,
        tx_queue_length: 1000,
        ipv6_off: false,
    }
}

fn address(device: &str, text: &str) -> SeenAddress {
    SeenAddress { device: device.into(), address: text.parse().unwrap(), global: true, permanent: true }
}

/// `[DESTINATION|default] [via GATEWAY] dev DEVICE [src SOURCE] [metric N] [mtu N] [kernel] [onlink]`, in `main`.
fn route(side: Side, text: &str) -> Route {
    let mut words = text.split(' ');
    let destination = match words.next().unwrap() {
        "default" => "0.0.0.0/0".parse().unwrap(),
        "default6" => "::/0".parse().unwrap(),
        network => network.parse::<IpNet>().unwrap(),
    };
    let family = Family::of_net(&destination);
    let mut route = Route {
        side,
        table: MAIN,
        destination,
        gateway: None,
        device: String::new(),
        source: None,
        scope: Scope::Global,
        metric: if family == Family::V6 { 1024 } else { 0 },
        onlink: false,
        mtu: None,
        protocol: Route::PROTOCOL_BOOT,
    };
    while let Some(word) = words.next() {
        let mut next = || words.next().unwrap();
        match word {
            "via" => route.gateway = Some(next().parse().unwrap()),
            "dev" => route.device = next().into(),
            "src" => route.source = Some(next().parse().unwrap()),
            "metric" => route.metric = next().parse().unwrap(),
            "mtu" => route.mtu = Some(next().parse().unwrap()),
            "table" => route.table = next().parse().unwrap(),
            "kernel" => route.protocol = Route::PROTOCOL_KERNEL,
            "onlink" => route.onlink = true,
            other => panic!("no route word: {other}"),
        }
    }
    if route.gateway.is_none() && family == Family::V4 {
        route.scope = Scope::Link;
    }
    route
}

/// The example's Pod on its node, after real macvlan ran for `net1`: its default route stands first.
fn seed() -> Observation {
    Observation {
        pod: Seen {
            links: vec![
                link(1, "lo", "", None),
                link(2, "tunl0", "ipip", None),
                link(4, "eth0", "veth", Some(30)),
                link(5, "net1", "macvlan", Some(2)),
            ],
            addresses: vec![address("eth0", "10.233.73.210/32"), address("net1", "10.6.212.145/16")],
            routes: vec![
                route(Side::Pod, "default via 10.6.0.1 dev net1"),
                route(Side::Pod, "default via 169.254.1.1 dev eth0"),
                route(Side::Pod, "10.6.0.0/16 dev net1 src 10.6.212.145 kernel"),
                route(Side::Pod, "169.254.1.1/32 dev eth0"),
            ],
            sysctls: sysctls(&["all", "net1", "net2"]),
            ..Seen::default()
        },
        host: Seen {
            links: vec![
                link(1, "lo", "", None),
                link(2, "ens192", "", None),
                link(30, "cali0a1b2c", "veth", Some(4)),
                link(31, "vxlan.calico", "vxlan", None),
                SeenLink { up: false, ..link(32, "ens224", "", None) },
            ],
            addresses: vec![
                address("vxlan.calico", "10.233.64.0/32"),
                address("ens224", "10.9.0.1/24"),
                address("ens192", "10.6.212.132/16"),
            ],
            ..Seen::default()
        },
        preferred_sources: vec!["10.6.212.132".parse().unwrap()],
        ..Observation::default()
    }
}

fn sysctls(names: &[&str]) -> BTreeMap<String, String> {
    let filters = names.iter().map(|name| (format!("net/ipv4/conf/{name}/rp_filter"), "1".to_owned()));
    let switches = names.iter().map(|name| (format!("net/ipv6/conf/{name}/disable_ipv6"), "0".to_owned()));
    filters.chain(switches).collect()
}

fn inputs(interface: &str, addresses: &[&str]) -> Inputs {
    Inputs {
        interface: interface.into(),
        addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
        settings: Settings::default(),
        overlay_pod_cidr: vec!["10.233.64.0/18".parse().unwrap()],
        service_cidr: vec!["10.233.0.0/18".parse().unwrap()],
        to_come: None,
    }
}

fn net1() -> Inputs {
    inputs("net1", &["10.6.212.145/16"])
}

fn with(inputs: Inputs, set: impl FnOnce(&mut Settings)) -> Inputs {
    let mut inputs = inputs;
    set(&mut inputs.settings);
    inputs
}

/// Applies what leads from one plan to another.
fn settle(before: &Plan, after: &Plan, seen: &mut Observation) {
    let steps = changes(before, after, seen);
    kernel::apply(seen, &steps);
}

/// Extends and applies, as ADD does.
fn add(before: &Plan, inputs: &Inputs, seen: &mut Observation) -> Extended {
    let extended = extend(before, inputs, seen).unwrap();
    settle(before, &extended.plan, seen);
    assert_eq!(changes(&extended.plan, &extended.plan, seen), [], "CHECK right after ADD");
    let again = extend(&extended.plan, inputs, seen).unwrap();
    assert_eq!(again.plan.to_string(), extended.plan.to_string(), "a repeated ADD plans the same");
    assert_eq!(again.plan, extended.plan);
    extended
}

/// Real macvlan brings a second interface.
fn plug_net2(seen: &mut Observation) {
    seen.pod.links.push(link(6, "net2", "macvlan", Some(3)));
    seen.pod.addresses.push(address("net2", "10.8.0.20/24"));
    seen.pod.routes.insert(0, route(Side::Pod, "default via 10.8.0.1 dev net2"));
    seen.pod.routes.push(route(Side::Pod, "10.8.0.0/24 dev net2 src 10.8.0.20 kernel"));
}

fn net2() -> Inputs {
    inputs("net2", &["10.8.0.20/24"])
}

fn golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name).with_extension("txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert_eq!(text, expected, "{} differs; if the change is meant, run with UPDATE_GOLDEN=1", path.display());
}

/// The plan of one ADD on an observation, with its warnings, and `main` as it is afterwards.
fn story(before: &Plan, inputs: &Inputs, seen: &mut Observation) -> String {
    let extended = add(before, inputs, seen);
    let mut text = extended.plan.to_string();
    for warning in &extended.warnings {
        text += &format!("warning: {warning}\n");
    }
    text + &main_table(seen)
}

fn main_table(seen: &Observation) -> String {
    let lines: Vec<String> =
        seen.pod.routes.iter().filter(|route| route.table == MAIN).map(|route| format!("seen {route}\n")).collect();
    lines.concat()
}

#[test]
fn seed_page() {
    golden("plan-seed", &story(&Plan::default(), &net1(), &mut seed()));
}

#[test]
fn default_route_nic_net1() {
    let inputs = with(net1(), |settings| settings.pod_default_route_nic = Some("net1".into()));
    golden("plan-default-route-nic", &story(&Plan::default(), &inputs, &mut seed()));
}

#[test]
fn tune_pod_routes_off() {
    let inputs = with(net1(), |settings| settings.tune_pod_routes = Some(false));
    golden("plan-untuned", &story(&Plan::default(), &inputs, &mut seed()));
}

#[test]
fn hijacked_link_local() {
    let inputs = with(net1(), |settings| settings.hijack_cidr = vec!["169.254.0.0/16".parse().unwrap()]);
    golden("plan-hijack", &story(&Plan::default(), &inputs, &mut seed()));
}

#[test]
fn metric_mtu_and_onlink_are_copied() {
    let mut seen = seed();
    seen.pod.routes[0] = route(Side::Pod, "default via 10.6.0.1 dev net1 metric 50 mtu 1400");
    seen.pod.routes[1] = route(Side::Pod, "default via 169.254.1.1 dev eth0 onlink");
    seen.pod.routes.push(route(Side::Pod, "default via 10.6.0.2 dev net1 metric 60"));
    golden("plan-whole-routes", &story(&Plan::default(), &net1(), &mut seen));
}

#[test]
fn second_interface() {
    let mut seen = seed();
    let first = add(&Plan::default(), &net1(), &mut seen).plan;
    plug_net2(&mut seen);
    golden("plan-second-interface", &story(&first, &net2(), &mut seen));
}

#[test]
fn second_interface_takes_the_default_route() {
    let mut seen = seed();
    let first = add(&Plan::default(), &net1(), &mut seen).plan;
    plug_net2(&mut seen);
    let inputs = with(net2(), |settings| settings.pod_default_route_nic = Some("net2".into()));
    golden("plan-second-interface-default", &story(&first, &inputs, &mut seen));
}

#[test]
fn default_route_nic_of_a_later_interface() {
    let named = |inputs| with(inputs, |settings: &mut Settings| settings.pod_default_route_nic = Some("net2".into()));
    let mut seen = seed();
    let first = add(&Plan::default(), &named(net1()), &mut seen);
    assert_eq!(first.warnings, [Warning::UnknownDefaultRouteNic("net2".into())]);
    plug_net2(&mut seen);
    let second = add(&first.plan, &named(net2()), &mut seen);
    assert_eq!(second.warnings, []);
    let rules: Vec<String> = second
        .plan
        .wanted()
        .iter()
        .filter(|object| object.side() == Side::Pod)
        .filter_map(|object| match object {
            Object::Rule(rule) => Some(rule.to_string()),
            _ => None,
        })
        .collect();
    assert_eq!(
        rules,
        ["pod rule 32760: from 10.6.212.145 lookup 101", "pod rule 32762: from 10.233.73.210 lookup 102"],
        "replaced, not stacked"
    );
}

#[test]
fn dual_stack() {
    let mut seen = seed();
    seen.pod.addresses.push(address("eth0", "fd85:ee78:d8a6:8607::1:eb84/128"));
    seen.pod.addresses.push(address("net1", "fd00:10:6::2e5/64"));
    seen.pod.routes.push(route(Side::Pod, "default6 via fd00:10:6::1 dev net1"));
    seen.pod.routes.push(route(Side::Pod, "default6 via fe80::ecee:eeff:feee:eeee dev eth0"));
    seen.pod.routes.push(route(Side::Pod, "fd00:10:6::/64 dev net1 metric 256 kernel"));
    seen.pod.routes.push(route(Side::Pod, "fe80::/64 dev net1 metric 256 kernel"));
    seen.pod.routes.push(route(Side::Pod, "fe80::/64 dev eth0 metric 256 kernel"));
    seen.host.addresses.push(address("ens192", "fd00:10:6::132/64"));
    let mut inputs = inputs("net1", &["10.6.212.145/16", "fd00:10:6::2e5/64"]);
    inputs.overlay_pod_cidr.push("fd85:ee78:d8a6:8607::/64".parse().unwrap());
    golden("plan-dual-stack", &story(&Plan::default(), &inputs, &mut seen));
}

#[test]
fn default_route_nic_without_gateway_keeps_the_usual_one() {
    let mut seen = seed();
    seen.pod.routes.remove(0);
    let inputs = with(net1(), |settings| settings.pod_default_route_nic = Some("net1".into()));
    let extended = add(&Plan::default(), &inputs, &mut seen);
    assert_eq!(extended.warnings, [Warning::NoGateway { nic: "net1".into(), family: Family::V4 }]);
    assert!(main_table(&seen).contains("default via 169.254.1.1 dev eth0"), "{}", main_table(&seen));
}

#[test]
fn family_with_one_default_keeps_it() {
    let mut seen = seed();
    seen.pod.addresses.push(address("net1", "fd00:10:6::2e5/64"));
    seen.pod.routes.push(route(Side::Pod, "default6 via fd00:10:6::1 dev net1"));
    let extended = add(&Plan::default(), &inputs("net1", &["10.6.212.145/16", "fd00:10:6::2e5/64"]), &mut seen);
    assert!(main_table(&seen).contains("default via fd00:10:6::1 dev net1"));
    let family = Family::V6;
    assert_eq!(extended.warnings, [Warning::NoNodeAddress { interface: "net1".into(), family }]);
}

#[test]
fn addresses_that_no_result_gave_are_left_alone() {
    let mut seen = seed();
    seen.pod.addresses.push(address("net1", "fd00:10:6::2e5/64"));
    seen.pod.routes.push(route(Side::Pod, "default6 via fe80::1 dev net1 metric 256"));
    let extended = add(&Plan::default(), &net1(), &mut seen);
    assert!(!extended.plan.to_string().contains("fd00"), "{}", extended.plan);
}

#[test]
fn an_occupied_place_stays_and_is_named() {
    let mut seen = seed();
    seen.pod.routes.push(route(Side::Pod, "10.233.0.0/18 via 10.6.0.9 dev net1"));
    let extended = add(&Plan::default(), &net1(), &mut seen);
    assert!(
        matches!(&extended.warnings[..], [Warning::Occupied { .. }, Warning::Occupied { .. }]),
        "{:?}",
        extended.warnings
    );
    assert!(main_table(&seen).contains("10.233.0.0/18 via 10.6.0.9 dev net1"));
}

#[test]
fn table_numbers_belong_to_interfaces() {
    let mut plan = Plan::default();
    let mut seen = seed();
    for (interface, table) in [("net1", 101), ("storage", 102), ("net2", 103), ("net7", 107), ("other", 104)] {
        if seen.pod.link(interface).is_none() {
            seen.pod.links.push(link(40 + table, interface, "macvlan", Some(2)));
        }
        let inputs = inputs(interface, &[&format!("10.6.1.{}/16", table)]);
        seen.pod.sysctls.extend(sysctls(&[interface]));
        plan = add(&plan, &inputs, &mut seen).plan;
        assert_eq!(plan.attached(interface).unwrap().table, table, "{interface}");
    }
}

#[test]
fn stale_host_objects_of_the_address_give_way() {
    let mut seen = seed();
    seen.host.links.push(link(33, "calidead", "veth", Some(9)));
    let stale = Route { table: 500, ..route(Side::Host, "10.6.212.145/32 dev calidead") };
    seen.host.routes.push(stale.clone());
    seen.host.neighbours.push(Neighbour {
        side: Side::Host,
        device: "calidead".into(),
        address: "10.6.212.145".parse().unwrap(),
        mac: mac(9),
    });
    let _ = add(&Plan::default(), &net1(), &mut seen);
    assert!(!seen.host.routes.contains(&stale));
    assert!(seen.host.neighbours.iter().all(|neighbour| neighbour.device == "cali0a1b2c"));
}

#[test]
fn mac_prefix_and_policy_routes() {
    let gateway_here =
        crate::world::Route { destination: "10.7.0.0/16".parse().unwrap(), gateway: "10.6.0.3".parse().unwrap() };
    let gateway_elsewhere = crate::world::Route { gateway: "10.9.0.3".parse().unwrap(), ..gateway_here };
    let set = |settings: &mut Settings| {
        settings.pod_mac_prefix = Some([0x0a, 0x1b]);
        settings.policy_routes = vec![gateway_here, gateway_elsewhere];
        settings.tx_queue_length = Some(2000);
    };
    golden("plan-mac-and-policy", &story(&Plan::default(), &with(net1(), set), &mut seed()));
}

#[test]
fn refusals_name_the_cause() {
    let refused = |inputs: &Inputs, seen: &Observation| extend(&Plan::default(), inputs, seen).unwrap_err();
    let underlay = with(net1(), |settings| settings.mode = Some(Mode::Underlay));
    assert!(matches!(refused(&underlay, &seed()), Refused::Underlay(_)));
    assert!(matches!(refused(&inputs("eth0", &["10.233.73.210/32"]), &seed()), Refused::Underlay(_)));
    assert!(matches!(refused(&inputs("net1", &[]), &seed()), Refused::NoAddress(_)));
    assert!(matches!(refused(&inputs("net9", &["10.6.0.9/16"]), &seed()), Refused::NoInterface(_)));
    let everything = with(net1(), |settings| settings.hijack_cidr = vec!["0.0.0.0/0".parse().unwrap()]);
    assert!(matches!(refused(&everything, &seed()), Refused::EveryNetwork(_)));
    let mut seen = seed();
    seen.pod.links[2].kind = "macvlan".into();
    let text = refused(&net1(), &seen).to_string();
    assert!(text.contains("\"eth0\" is no veth") && text.contains("macvlan"), "{text}");
    let mut seen = seed();
    seen.host.links.retain(|link| link.name != "cali0a1b2c");
    assert!(matches!(refused(&net1(), &seen), Refused::NoUplink { .. }));
}

#[test]
fn disabled_plans_nothing() {
    let inputs = with(net1(), |settings| settings.mode = Some(Mode::Disabled));
    assert_eq!(extend(&Plan::default(), &inputs, &seed()).unwrap().plan, Plan::default());
}

/// Rule: All or nothing.
#[test]
fn check_names_every_object_that_was_removed_by_hand() {
    let mut seen = seed();
    let plan = add(&Plan::default(), &net1(), &mut seen).plan;
    for object in plan.wanted() {
        let mut tampered = seen.clone();
        match object {
            Object::Sysctl(sysctl) => drop(tampered.pod.sysctls.insert(sysctl.key.clone(), "2".into())),
            Object::Link(_) => tampered.pod.links.iter_mut().for_each(|link| link.up &= link.name != "net1"),
            _ => kernel::apply(&mut tampered, &[Change::Remove { object: object.clone(), place: Place::Last }]),
        }
        let differences = changes(&plan, &plan, &tampered);
        assert_eq!(differences.len(), 1, "{object}: {differences:?}");
        assert!(differences[0].difference().contains(&object.to_string()), "{}", differences[0].difference());
    }
    for object in plan.unwanted() {
        let mut tampered = seen.clone();
        kernel::apply(&mut tampered, &[Change::Add { object: object.clone(), place: Place::First }]);
        assert_eq!(changes(&plan, &plan, &tampered)[0].difference(), format!("not to be there: {object}"));
    }
}

#[test]
fn withdraw_gives_back_what_was_moved() {
    for nic in [None, Some("net1".to_owned())] {
        let inputs = with(net1(), |settings| settings.pod_default_route_nic = nic);
        let mut seen = seed();
        let plan = add(&Plan::default(), &inputs, &mut seen).plan;
        let after = withdraw(&plan, "net1");
        assert!(after.is_empty());
        settle(&plan, &after, &mut seen);
        let mut expected = seed();
        expected.pod.sysctls = seen.pod.sysctls.clone();
        expected.pod.routes.sort();
        seen.pod.routes.sort();
        assert_eq!(seen, expected);
        assert_eq!(changes(&plan, &after, &seen), [], "repeated");
    }
}

#[test]
fn withdraw_of_the_second_interface_keeps_the_first() {
    let mut seen = seed();
    let first = add(&Plan::default(), &net1(), &mut seen).plan;
    plug_net2(&mut seen);
    let both = add(&first, &net2(), &mut seen).plan;
    let after = withdraw(&both, "net2");
    assert_eq!(after, first);
    settle(&both, &after, &mut seen);
    assert_eq!(changes(&first, &first, &seen), []);
    golden("plan-withdrawn", &format!("{after}{}", main_table(&seen)));
}

#[test]
fn host_objects_that_others_want_stay() {
    let mut seen = seed();
    let plan = add(&Plan::default(), &net1(), &mut seen).plan;
    let rule = plan.host_objects().into_iter().find(|object| matches!(object, Object::Rule(_))).unwrap().clone();
    let removed =
        |seen: &Observation| changes(&plan, &Plan::default(), seen).iter().any(|change| *change.object() == rule);
    assert!(removed(&seen));
    seen.elsewhere.insert(rule.clone());
    assert!(!removed(&seen));
}

/// Sandboxes whose plans were lost with a journal have routes that no record names.
#[test]
fn a_host_rule_stays_while_its_table_has_routes_of_others() {
    let mut seen = seed();
    let plan = add(&Plan::default(), &net1(), &mut seen).plan;
    let removed = |seen: &Observation| {
        let steps = changes(&plan, &Plan::default(), seen);
        let on_host = steps.into_iter().filter(|step| step.side() == Side::Host).map(|step| step.object().to_string());
        on_host.collect::<Vec<_>>()
    };
    let rule = "host rule 1000: from all lookup 500".to_owned();
    assert!(removed(&seen).contains(&rule));
    seen.in_use.insert((Family::V6, 500));
    assert!(removed(&seen).contains(&rule), "the other family's table has the same number");
    seen.in_use.insert((Family::V4, 500));
    assert!(!removed(&seen).contains(&rule));
    assert_eq!(removed(&seen).len(), 2, "its own route and neighbour go: {:?}", removed(&seen));
}

#[test]
fn withdraw_when_the_link_is_gone_leaves_its_routes_alone() {
    let mut seen = seed();
    let plan = add(&Plan::default(), &net1(), &mut seen).plan;
    seen.pod.links.retain(|link| link.name != "net1");
    seen.pod.routes.retain(|route| route.device != "net1");
    let steps = changes(&plan, &withdraw(&plan, "net1"), &seen);
    assert!(steps.iter().all(|step| step.object().device() != Some("net1")), "{steps:?}");
}
