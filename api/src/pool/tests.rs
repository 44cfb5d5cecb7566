use super::*;

fn pool(change: impl FnOnce(&mut SpiderIPPoolSpec)) -> SpiderIPPool {
    let mut spec = SpiderIPPoolSpec {
        subnet: "10.6.0.0/16".into(),
        ips: texts(&["10.6.212.100-10.6.212.200"]),
        gateway: Some("10.6.0.1".into()),
        ..SpiderIPPoolSpec::default()
    };
    change(&mut spec);
    SpiderIPPool { metadata: Metadata { name: "10-6-v4".into(), ..Metadata::default() }, spec, status: None }
}

fn v6(change: impl FnOnce(&mut SpiderIPPoolSpec)) -> SpiderIPPool {
    pool(|spec| {
        spec.subnet = "fd00:10:6::/64".into();
        spec.ips = texts(&["fd00:10:6::100-fd00:10:6::200"]);
        spec.gateway = Some("fd00:10:6::1".into());
        change(spec);
    })
}

fn texts(list: &[&str]) -> Option<Vec<String>> {
    Some(list.iter().map(ToString::to_string).collect())
}

fn route(dst: &str, gw: &str) -> Route {
    Route { dst: dst.into(), gw: gw.into() }
}

fn faults(pool: &SpiderIPPool) -> Vec<String> {
    pool.parse().err().into_iter().flatten().map(|fault| fault.to_string()).collect()
}

fn selector(key: &str, value: &str) -> Option<LabelSelector> {
    let labels = [(key.to_owned(), value.to_owned())].into();
    Some(LabelSelector { match_labels: Some(labels), match_expressions: None })
}

#[test]
fn the_common_pool_is_parsed() {
    let parsed = pool(|_| {}).parse().unwrap();
    let expected = Pool {
        name: "10-6-v4".into(),
        subnet: "10.6.0.0/16".parse().unwrap(),
        addresses: ["10.6.212.100-10.6.212.200".parse::<AddressRange>().unwrap()].into_iter().collect(),
        gateway: Some("10.6.0.1".parse().unwrap()),
        routes: vec![],
        default: false,
        disabled: false,
        terminating: false,
        node: Affinity::Any,
        namespace: Affinity::Any,
        pod: None,
        multus_names: vec![],
    };
    assert_eq!(parsed, expected);
}

#[test]
fn everything_else_is_parsed() {
    let mut pool = pool(|spec| {
        spec.ip_version = Some(4);
        spec.exclude_ips = texts(&["10.6.212.150", "10.6.9.9"]);
        spec.routes = Some(vec![route("10.7.0.0/16", "10.6.0.2")]);
        spec.pod_affinity = selector("app", "nginx");
        spec.node_name = texts(&["worker-1.example.org"]);
        spec.node_affinity = selector("zone", "a");
        spec.namespace_affinity = selector("example.org/team", "a");
        spec.multus_name = texts(&["net", "kube-system/net"]);
        (spec.default, spec.disable) = (Some(true), Some(true));
    });
    pool.metadata.deletion_timestamp = Some("2026-01-01T00:00:00Z".into());
    let parsed = pool.parse().unwrap();
    assert_eq!(parsed.addresses.to_string(), "10.6.212.100-10.6.212.149,10.6.212.151-10.6.212.200");
    assert_eq!(parsed.routes.len(), 1);
    // Names win over labels.
    assert_eq!(parsed.node, Affinity::Names(vec!["worker-1.example.org".into()]));
    assert!(matches!(parsed.namespace, Affinity::Labels(_)));
    assert!(parsed.pod.is_some() && parsed.default && parsed.disabled && parsed.terminating);
    assert_eq!(parsed.multus_names, ["net", "kube-system/net"]);
}

#[test]
fn a_pool_may_be_empty() {
    for ips in [None, Some(vec![])] {
        assert!(pool(|spec| spec.ips = ips.clone()).parse().unwrap().addresses.is_empty());
    }
}

/// Reversed is refused; overlaps inside one pool merged and said.
#[test]
fn ranges_are_parsed_before_they_are_judged() {
    let reversed = pool(|spec| spec.ips = texts(&["10.6.0.19-10.6.0.9"]));
    assert_eq!(faults(&reversed), ["spec.ips[0]: \"10.6.0.19-10.6.0.9\" is reversed; write 10.6.0.9-10.6.0.19"]);

    let overlapping = pool(|spec| spec.ips = texts(&["10.6.0.9-10.6.0.19", "10.6.0.20", "10.6.0.15-10.6.0.25"]));
    assert_eq!(overlapping.parse().unwrap().addresses.to_string(), "10.6.0.9-10.6.0.25");
    let remarks: Vec<String> = overlapping.remarks().iter().map(ToString::to_string).collect();
    assert_eq!(remarks, ["spec.ips[2]: 10.6.0.15-10.6.0.20 is listed before; it counts once"]);
    assert!(pool(|_| {}).remarks().is_empty());
}

/// IPv6 in another spelling is the same address; a subnet that begins with `::` is one like others;
/// 2^64 addresses cost no more than one.
#[test]
fn spelling_does_not_matter() {
    let spelled = v6(|spec| {
        spec.subnet = "FD00:10:6:0::/64".into();
        spec.ips = texts(&["fd00:0010:6::0001"]);
    });
    let fault = "spec.ips[0]: fd00:10:6::1 holds the gateway fd00:10:6::1; leave it out, or list it in excludeIPs";
    assert_eq!(faults(&spelled), [fault]);

    let zero = v6(|spec| {
        spec.subnet = "::/64".into();
        spec.ips = texts(&["::2-::ffff:ffff:ffff:ffff"]);
        spec.exclude_ips = texts(&["::3"]);
        spec.gateway = Some("::1".into());
    });
    assert_eq!(zero.parse().unwrap().addresses.count(), (1 << 64) - 3);
}

/// The default route is known by its value, not by its text.
#[test]
fn the_default_route_is_the_gateways() {
    for text in ["0.0.0.0/0", "000.0.0.0/0", "10.0.0.0/0"] {
        let pool = pool(|spec| spec.routes = Some(vec![route(text, "10.6.0.2")]));
        assert_eq!(faults(&pool).len(), 1, "{text}");
    }
    let default = pool(|spec| spec.routes = Some(vec![route("0.0.0.0/0", "10.6.0.2")]));
    let fault = "spec.routes[0].dst: 0.0.0.0/0 is the default route; remove it and set spec.gateway";
    assert_eq!(faults(&default), [fault]);
    let zero = v6(|spec| spec.routes = Some(vec![route("0::0/0", "fd00:10:6::2")]));
    assert_eq!(faults(&zero), [fault.replace("0.0.0.0/0", "::/0")]);
}

/// Affinity selectors are validated.
#[test]
fn selectors_are_checked() {
    let none = pool(|spec| spec.pod_affinity = Some(LabelSelector::default()));
    assert_eq!(
        faults(&none),
        ["spec.podAffinity: selects nothing in particular; remove it, or say which labels Pods must have"]
    );
    let everything = pool(|spec| spec.node_affinity = Some(LabelSelector::default()));
    assert_eq!(everything.parse().unwrap().node, Affinity::Any);
    let bad = pool(|spec| spec.namespace_affinity = selector("a/b/c", "-x"));
    let fields: Vec<String> = bad.parse().unwrap_err().into_iter().map(|fault| fault.field).collect();
    assert_eq!(fields, ["spec.namespaceAffinity.matchLabels[a/b/c]"; 2]);
}

#[test]
fn wrong_fields_are_named_with_the_fix() {
    let set_route = |dst, gw| move |spec: &mut SpiderIPPoolSpec| spec.routes = Some(vec![route(dst, gw)]);
    type Row = (SpiderIPPool, &'static [&'static str]);
    let rows: Vec<Row> = vec![
        (
            pool(|spec| spec.subnet = "10.6.0.1/16".into()),
            &["spec.subnet: \"10.6.0.1/16\" has host bits set; write 10.6.0.0/16"],
        ),
        (
            pool(|spec| spec.subnet = "10.6.0.0".into()),
            &["spec.subnet: \"10.6.0.0\" has no prefix length; write 10.6.0.0/32"],
        ),
        (
            pool(|spec| spec.subnet = "10.6/16".into()),
            &["spec.subnet: \"10.6/16\" is not a network; write it in CIDR form, like 10.6.0.0/16 or fd00:10:6::/64"],
        ),
        (
            pool(|spec| spec.ip_version = Some(5)),
            &["spec.ipVersion: 5 is no IP version; write 4 or 6, or remove the field"],
        ),
        (
            pool(|spec| spec.ip_version = Some(6)),
            &["spec.ipVersion: 6 is not the version of the subnet; write 4, or remove it"],
        ),
        (
            pool(|spec| spec.ips = texts(&["10.7.0.1-10.7.0.2"])),
            &["spec.ips[0]: 10.7.0.1-10.7.0.2 is not inside the subnet 10.6.0.0/16; stay within 10.6.0.0-10.6.255.255"],
        ),
        (
            pool(|spec| spec.exclude_ips = texts(&["10.6.0.0/24"])),
            &["spec.excludeIPs[0]: \"10.6.0.0/24\" is a CIDR; write it as the range 10.6.0.0-10.6.0.255"],
        ),
        (
            pool(|spec| spec.gateway = Some("10.7.0.1".into())),
            &["spec.gateway: 10.7.0.1 is not inside the subnet 10.6.0.0/16; write an address of it"],
        ),
        (
            pool(|spec| spec.gateway = Some("10.6.0.1/16".into())),
            &["spec.gateway: \"10.6.0.1/16\" is not an IP address; write it like 10.6.0.1 or fd00:10:6::1"],
        ),
        (
            pool(|spec| spec.gateway = Some("10.6.212.150".into())),
            &["spec.ips[0]: 10.6.212.100-10.6.212.200 holds the gateway 10.6.212.150; leave it out, or list it in \
               excludeIPs"],
        ),
        (
            pool(set_route("10.7.0.9/16", "10.6.0.2")),
            &["spec.routes[0].dst: \"10.7.0.9/16\" has host bits set; write 10.7.0.0/16"],
        ),
        (
            pool(set_route("fd00::/64", "10.6.0.2")),
            &["spec.routes[0].dst: fd00::/64 is not IPv4, as the subnet is; put it in another pool"],
        ),
        (
            pool(set_route("10.7.0.0/16", "10.7.0.2")),
            &["spec.routes[0].gw: 10.7.0.2 is not inside the subnet 10.6.0.0/16; write an address of it"],
        ),
        (
            pool(|spec| spec.routes = Some(vec![route("fd00::/64", "x"), route("10.8.0.0/16", "y")])),
            &[
                "spec.routes[0].gw: \"x\" is not an IP address; write it like 10.6.0.1 or fd00:10:6::1",
                "spec.routes[0].dst: fd00::/64 is not IPv4, as the subnet is; put it in another pool",
                "spec.routes[1].gw: \"y\" is not an IP address; write it like 10.6.0.1 or fd00:10:6::1",
            ],
        ),
        (
            v6(|spec| {
                spec.routes = Some(vec![route("fd01::/64", "fd00:10:6::2"), route("fd01:0::/64", "fd00:10:6::3")]);
            }),
            &["spec.routes[1].dst: fd01::/64 is listed twice; remove one of the routes"],
        ),
        (
            pool(|spec| spec.multus_name = texts(&["a/b/c", ""])),
            &[
                "spec.multusName[0]: \"a/b/c\" is no network; write NAME or NAMESPACE/NAME of its \
                 NetworkAttachmentDefinition",
                "spec.multusName[1]: \"\" is no network; write NAME or NAMESPACE/NAME of its \
                 NetworkAttachmentDefinition",
            ],
        ),
        (
            pool(|spec| spec.namespace_name = texts(&["Default"])),
            &[
                "spec.namespaceName[0]: \"Default\" is no name; write at most 63 of a-z, 0-9 and -, beginning and ending \
               with a letter or digit",
            ],
        ),
        (
            pool(|spec| spec.node_name = texts(&["node_1"])),
            &["spec.nodeName[0]: \"node_1\" is no name; write at most 253 of a-z, 0-9, - and ., beginning and ending \
               with a letter or digit"],
        ),
    ];
    for (pool, expected) in rows {
        assert_eq!(faults(&pool), expected);
    }
}

#[test]
fn all_faults_are_reported() {
    let mut pool = pool(|spec| {
        spec.subnet = "x".into();
        spec.ip_version = Some(7);
        spec.ips = texts(&["y", "10.6.0.9", "z"]);
        spec.gateway = Some("g".into());
        spec.node_name = texts(&[""]);
    });
    pool.metadata.name = "A".into();
    let fields: Vec<String> = pool.parse().unwrap_err().into_iter().map(|fault| fault.field).collect();
    // Without a subnet the rules that compare with it are left out.
    let expected = [
        "metadata.name",
        "spec.subnet",
        "spec.ipVersion",
        "spec.ips[0]",
        "spec.ips[2]",
        "spec.gateway",
        "spec.nodeName[0]",
    ];
    assert_eq!(fields, expected);
}
