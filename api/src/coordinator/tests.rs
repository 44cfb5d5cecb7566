use spiderpool_core::world::{Mode, Probes, RpFilter};

use super::*;

/// The object that the get-started page prints, with its status.
const PAGE: &str = "\
metadata:
  name: default
  finalizers:
  - spiderpool.spidernet.io
spec:
  detectGateway: false
  detectIPConflict: false
  hijackCIDR:
  - 169.254.0.0/16
  podRPFilter: 0
  hostRPFilter: 0
  hostRuleTable: 500
  mode: auto
  podCIDRType: calico
  podDefaultRouteNIC: \"\"
  podMACPrefix: \"\"
  tunePodRoutes: true
status:
  overlayPodCIDR:
  - 10.244.64.0/18
  phase: Synced
  serviceCIDR:
  - 10.233.0.0/18
";

fn page() -> SpiderCoordinator {
    serde_saphyr::from_str(PAGE).unwrap()
}

fn spec(change: impl FnOnce(&mut CoordinatorSpec)) -> CoordinatorSpec {
    let mut spec = page().spec;
    change(&mut spec);
    spec
}

fn faults<T>(parsed: Result<T, Vec<Invalid>>) -> Vec<String> {
    parsed.err().into_iter().flatten().map(|fault| fault.to_string()).collect()
}

#[test]
fn the_pages_object_is_parsed() {
    let expected = Coordinator {
        name: "default".into(),
        synced: Ok(()),
        overlay_pod_cidr: vec!["10.244.64.0/18".parse().unwrap()],
        service_cidr: vec!["10.233.0.0/18".parse().unwrap()],
        settings: Settings {
            mode: Some(Mode::Auto),
            tune_pod_routes: Some(true),
            pod_default_route_nic: None,
            pod_default_cni_nic: None,
            hijack_cidr: vec!["169.254.0.0/16".parse().unwrap()],
            host_rule_table: Some(500),
            pod_rp_filter: Some(RpFilter::Off),
            tx_queue_length: None,
            pod_mac_prefix: None,
            policy_routes: vec![],
        },
        probes: Probes::default(),
    };
    assert_eq!(page().parse().unwrap(), expected);
}

#[test]
fn probes_are_switched_one_by_one() {
    for (key, conflict, gateway) in [("detectIPConflict", true, false), ("detectGateway", false, true)] {
        let text = PAGE.replace(&format!("{key}: false"), &format!("{key}: true"));
        let read: SpiderCoordinator = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(read.parse().unwrap().probes, Probes { conflict, gateway });
    }
}

/// What the page prints comes back as it was, the fields that have moved elsewhere included.
#[test]
fn the_pages_object_round_trips() {
    let text = serde_saphyr::to_string(&page()).unwrap();
    let again: SpiderCoordinator = serde_saphyr::from_str(&text).unwrap();
    assert_eq!(again, page());
    for line in PAGE.lines() {
        let key = line.trim_start_matches(['-', ' ']).split(':').next().unwrap();
        assert!(text.contains(key), "{key} is missing in\n{text}");
    }
}

/// Bare addresses get /32 or /128, host bits are refused with the corrected value.
#[test]
fn destinations_are_normalised() {
    let list = |list: &[&str]| Some(list.iter().map(ToString::to_string).collect());
    let parsed = spec(|spec| spec.hijack_cidr = list(&["10.1.2.3", "fd00::1", "10.0.0.0/8"])).parse().unwrap();
    let shown: Vec<String> = parsed.hijack_cidr.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["10.1.2.3/32", "fd00::1/128", "10.0.0.0/8"]);
    let host_bits = spec(|spec| spec.hijack_cidr = list(&["10.0.0.0/8", "10.1.2.3/8"]));
    let fault = "spec.hijackCIDR[1]: \"10.1.2.3/8\" has host bits set; write 10.0.0.0/8";
    assert_eq!(faults(host_bits.parse()), [fault]);

    let route = |dst: &str, gw: &str| Route { dst: dst.into(), gw: gw.into() };
    let parsed = spec(|spec| spec.policy_routes = Some(vec![route("10.1.2.3", "10.6.0.9")])).parse().unwrap();
    assert_eq!(parsed.policy_routes[0].destination.to_string(), "10.1.2.3/32");
    let wrong = spec(|spec| {
        spec.policy_routes = Some(vec![route("10.1.2.3/8", "x"), route("10.1.0.0/16", "fd00::1")]);
    });
    let expected = [
        "spec.policyRoutes[0].dst: \"10.1.2.3/8\" has host bits set; write 10.0.0.0/8",
        "spec.policyRoutes[0].gw: \"x\" is not an IP address; write it like 10.6.0.1 or fd00:10:6::1",
        "spec.policyRoutes[1].gw: fd00::1 cannot be the gateway to 10.1.0.0/16; write an IPv4 address",
    ];
    assert_eq!(faults(wrong.parse()), expected);
}

/// Strict `hh:hh`, unicast.
#[test]
fn mac_prefixes_are_strict() {
    assert_eq!(setting::mac_prefix("0a:1B"), Ok(Some([0x0a, 0x1b])));
    assert_eq!(setting::mac_prefix(""), Ok(None));
    for text in ["0a-1b", "0,:1b", "a:1b", "0a:1b:2c", "0a1b", "+a:1b", "0a:1g", " 0a:1b", ":", "0a:"] {
        assert!(setting::mac_prefix(text).unwrap_err().ends_with("like 0a:1b"), "{text}");
    }
    let multicast = "\"0b:1b\" begins a multicast address; write an even first byte, like 0a:1b";
    assert_eq!(setting::mac_prefix("0b:1b").unwrap_err(), multicast);
}

#[test]
fn reverse_path_filters_may_be_left_alone() {
    let expected = [RpFilter::Leave, RpFilter::Leave, RpFilter::Off, RpFilter::Strict, RpFilter::Loose];
    assert_eq!([-2, -1, 0, 1, 2].map(|value| setting::rp_filter(value).unwrap()), expected);
    assert!(setting::rp_filter(3).is_err());
}

/// Both spellings of disabled.
#[test]
fn modes_are_known_by_name() {
    let modes = ["auto", "overlay", "underlay", "disabled", "disable"].map(|text| setting::mode(text).unwrap());
    assert_eq!(modes, [Mode::Auto, Mode::Overlay, Mode::Underlay, Mode::Disabled, Mode::Disabled]);
    for text in ["", "Overlay", "none"] {
        assert!(setting::mode(text).is_err(), "{text:?}");
    }
}

#[test]
fn wrong_settings_are_all_named() {
    let mut wrong = page();
    wrong.metadata.name = "Default".into();
    wrong.spec = CoordinatorSpec {
        mode: Some("both".into()),
        pod_cidr_type: Some("flannel".into()),
        pod_default_route_nic: Some("a/b".into()),
        host_rule_table: Some(254),
        pod_rp_filter: Some(3),
        host_rp_filter: Some(9),
        tx_queue_len: Some(-1),
        veth_link_address: Some("fe80::1".into()),
        veth_mtu: Some(0),
        ..CoordinatorSpec::default()
    };
    wrong.status = Some(CoordinatorStatus {
        phase: "synced".into(),
        service_cidr: Some(vec!["10.233.0.1/18".into()]),
        ..CoordinatorStatus::default()
    });
    let mut fields: Vec<String> = wrong.parse().unwrap_err().into_iter().map(|fault| fault.field).collect();
    fields.sort();
    let expected = [
        "metadata.name",
        "spec.hostRPFilter",
        "spec.hostRuleTable",
        "spec.mode",
        "spec.podCIDRType",
        "spec.podDefaultRouteNIC",
        "spec.podRPFilter",
        "spec.txQueueLen",
        "spec.vethLinkAddress",
        "spec.vethMTU",
        "status.phase",
        "status.serviceCIDR[0]",
    ];
    assert_eq!(fields, expected);
}

#[test]
fn pod_cidr_type_is_required_of_the_object_alone() {
    let mut object = page();
    object.spec.pod_cidr_type = None;
    let fault = "spec.podCIDRType: is missing; write one of auto, cluster, calico, cilium, none";
    assert_eq!(faults(object.parse()), [fault]);
    assert!(object.spec.parse().is_ok());
}

#[test]
fn what_is_not_ready_has_a_reason() {
    let status = |phase: &str, reason: Option<&str>| {
        let mut object = page();
        let reason = reason.map(Into::into);
        object.status = Some(CoordinatorStatus { phase: phase.into(), reason, ..CoordinatorStatus::default() });
        object.parse().unwrap().synced
    };
    assert_eq!(status("NotReady", Some("no kubeadm-config")), Err("no kubeadm-config".into()));
    assert_eq!(status("NotReady", None), Err("status.reason says nothing".into()));
    let mut object = page();
    object.status = None;
    assert_eq!(object.parse().unwrap().synced, Err("it has no status; status.phase must be Synced".into()));
}
