use serde_json::json;

use super::*;
use crate::types::Interface;

fn parse(value: &Value) -> NetworkConfiguration {
    NetworkConfiguration::parse(&value.to_string()).unwrap()
}

/// What macvlan hands to its IPAM plugin: its own keys beside ours.
fn macvlan() -> Value {
    json!({
        "cniVersion": "0.3.1",
        "name": "macvlan-ens192",
        "type": "macvlan",
        "master": "ens192",
        "mode": "bridge",
        "ipam": {"type": "spiderpool", "default_ipv4_ippool": ["10-6-v4"]}
    })
}

#[test]
fn the_page_s_configuration_parses() {
    let configuration = parse(&macvlan());
    assert_eq!((configuration.name.as_str(), configuration.plugin_type.as_str()), ("macvlan-ens192", "macvlan"));
    assert_eq!(configuration.cni_version, CniVersion::V0_3_1);
    let ipam = configuration.ipam().unwrap();
    assert_eq!(ipam.default_ipv4_ippool, ["10-6-v4"]);
    assert!(ipam.default_ipv6_ippool.is_empty() && !ipam.clean_gateway && !ipam.match_master_subnet);
    assert!(ipam.ignored.is_empty() && ipam.unknown.is_empty());

    let coordinator = parse(&json!({
        "cniVersion": "0.3.1", "name": "macvlan-ens192", "type": "coordinattor", "ipam": {}, "dns": {},
        "detectGateway": false, "tunePodRoutes": true, "mode": "overlay", "hostRuleTable": 500,
        "detectIPConflict": false
    }))
    .coordinator()
    .unwrap();
    let expected = CoordinatorConfiguration {
        mode: Some(Mode::Overlay),
        tune_pod_routes: Some(true),
        host_rule_table: std::num::NonZeroU32::new(500),
        detect_gateway: Some(false),
        detect_ip_conflict: Some(false),
        ..CoordinatorConfiguration::default()
    };
    assert_eq!(coordinator, expected);
}

#[test]
fn the_common_keys_are_checked() {
    let table = [
        ("", Code::Decode, "no JSON object"),
        ("[]", Code::Decode, "no JSON object"),
        ("{}", Code::IncompatibleVersion, "cniVersion is missing"),
        (r#"{"cniVersion": 1}"#, Code::InvalidConfiguration, "cniVersion is 1: write a string"),
        (r#"{"cniVersion": "0.2.0", "name": "n"}"#, Code::IncompatibleVersion, "0.2.0"),
        (r#"{"cniVersion": "1.0.0"}"#, Code::InvalidConfiguration, "name is missing"),
        (r#"{"cniVersion": "1.0.0", "name": ""}"#, Code::InvalidConfiguration, "name: network name"),
        (r#"{"cniVersion": "1.0.0", "name": "a/b"}"#, Code::InvalidConfiguration, "name: network name"),
        (r#"{"cniVersion": "1.0.0", "name": "n", "type": []}"#, Code::InvalidConfiguration, "type is []"),
    ];
    for (text, code, message) in table {
        let error = NetworkConfiguration::parse(text).unwrap_err();
        assert_eq!(error.code, code, "{text}");
        assert!(error.msg.contains(message), "{text}: {error}");
    }
}

#[test]
fn ipam_keys_of_old_are_ignored_by_name_whatever_they_hold() {
    let mut value = macvlan();
    value["ipam"] = json!({
        "type": "spiderpool", "log_level": "DEBUG", "log_file_path": "/etc/passwd", "log_file_max_size": "100",
        "log_file_max_age": 30, "log_file_max_count": [7], "ipam_unix_socket_path": "/tmp/evil.sock",
        "default_ipv6_ippool": ["a", "b-*"], "clean_gateway": true, "match_master_subnet": true, "pools": []
    });
    let ipam = parse(&value).ipam().unwrap();
    assert_eq!(ipam.default_ipv6_ippool, ["a", "b-*"]);
    assert!(ipam.clean_gateway && ipam.match_master_subnet);
    let mut ignored = ipam.ignored;
    ignored.sort();
    let names = [
        "ipam_unix_socket_path",
        "log_file_max_age",
        "log_file_max_count",
        "log_file_max_size",
        "log_file_path",
        "log_level",
    ];
    assert_eq!(ignored, names.map(|name| format!("ipam.{name}")));
    assert_eq!(ipam.unknown, ["ipam.pools"]);
}

#[test]
fn a_missing_ipam_object_means_the_defaults() {
    let mut value = macvlan();
    value.as_object_mut().unwrap().remove("ipam");
    assert_eq!(parse(&value).ipam(), Ok(IpamConfiguration::default()));
}

#[test]
fn wrong_types_of_ipam_keys_say_what_to_write() {
    let table = [
        (json!(5), "ipam is 5: write an object"),
        (
            json!({"default_ipv4_ippool": "10-6-v4"}),
            "ipam.default_ipv4_ippool is \"10-6-v4\": write a list of pool names",
        ),
        (json!({"default_ipv6_ippool": [6]}), "ipam.default_ipv6_ippool[0] is 6: write a string"),
        (json!({"clean_gateway": "true"}), "ipam.clean_gateway is \"true\": write true or false"),
        (json!({"match_master_subnet": 1}), "ipam.match_master_subnet is 1: write true or false"),
    ];
    for (ipam, message) in table {
        let mut value = macvlan();
        value["ipam"] = ipam;
        let error = parse(&value).ipam().unwrap_err();
        assert_eq!(error.code, Code::InvalidConfiguration);
        assert!(error.msg.contains(message), "{error}");
    }
}

fn coordinator(keys: Value) -> Result<CoordinatorConfiguration, CniError> {
    let mut value = json!({"cniVersion": "1.0.0", "name": "n", "type": "coordinator"});
    value.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
    parse(&value).coordinator()
}

#[test]
fn all_coordinator_keys_parse() {
    let read = coordinator(json!({
        "mode": "disable", "podDefaultCniNic": "eth0", "podDefaultRouteNic": "net1",
        "overlayPodCIDR": ["10.233.64.0/18", "fd85::/64"], "serviceCIDR": ["10.233.0.0/18"],
        "hijackCIDR": ["169.254.0.0/16", "10.1.1.1", "fd00::1"],
        "policyRoutes": [{"dst": "10.7.0.0/16", "gw": "10.6.0.2"}],
        "podMACPrefix": "0a:1B", "podRPFilter": -1, "hostRPFilter": 0, "txQueueLen": 0,
        "vethLinkAddress": "169.254.100.1", "vethMTU": 1400,
        "detectOptions": {"retries": 3, "interval": "1s", "timeout": "100ms"},
        "logOptions": {"logFile": "/x"}, "multusNicPrefix": "net", "tunePodRoute": true, "prevResult": {}
    }))
    .unwrap();
    assert_eq!(read.mode, Some(Mode::Disabled));
    assert_eq!(read.overlay_pod_cidr.len(), 2);
    assert_eq!(
        read.hijack_cidr.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["169.254.0.0/16", "10.1.1.1/32", "fd00::1/128"]
    );
    assert_eq!(read.policy_routes[0].gateway.to_string(), "10.6.0.2");
    assert_eq!(read.pod_mac_prefix, Some(MacPrefix([0x0a, 0x1b])));
    assert_eq!((read.pod_rp_filter, read.host_rp_filter, read.tx_queue_length), (Some(-1), Some(0), Some(0)));
    assert_eq!(read.veth_mtu.map(std::num::NonZeroU32::get), Some(1400));
    assert_eq!(read.detect_options.unwrap().retries, Some(3));
    assert_eq!(read.ignored, ["logOptions", "multusNicPrefix"]);
    assert_eq!(read.unknown, ["tunePodRoute"]);
    // Empty strings are how a generated configuration says nothing.
    let empty = coordinator(json!({"podMACPrefix": "", "vethLinkAddress": "", "podDefaultRouteNic": "", "mode": ""}));
    assert_eq!(empty, Ok(CoordinatorConfiguration::default()));
}

#[test]
fn wrong_values_of_coordinator_keys_say_what_to_write() {
    let table = [
        (json!({"mode": "bridge"}), "mode is \"bridge\": write auto, underlay, overlay or disabled"),
        (json!({"tunePodRoutes": "yes"}), "tunePodRoutes is \"yes\": write true or false"),
        (json!({"podDefaultRouteNic": 1}), "podDefaultRouteNic is 1: write a string"),
        (
            json!({"overlayPodCIDR": "10.0.0.0/8"}),
            "overlayPodCIDR is \"10.0.0.0/8\": write a list of strings, each a CIDR",
        ),
        (json!({"serviceCIDR": ["10.0.0.0/8", "x"]}), "serviceCIDR[1] is \"x\": write a CIDR"),
        (json!({"serviceCIDR": ["10.0.0.1"]}), "serviceCIDR[0] is \"10.0.0.1\": write a CIDR"),
        (json!({"hijackCIDR": [true]}), "hijackCIDR[0] is true: write an address or a CIDR"),
        (json!({"policyRoutes": [{"dst": "10.0.0.0/8"}]}), "policyRoutes[0].gw is missing"),
        (json!({"policyRoutes": [{"gw": "10.0.0.1"}]}), "policyRoutes[0].dst is missing"),
        (json!({"policyRoutes": [{"dst": "10.0.0.0/8", "gw": "fd00::1"}]}), "policyRoutes[0].gw is \"fd00::1\""),
        (json!({"podMACPrefix": "01:23"}), "podMACPrefix is \"01:23\": write two bytes"),
        (json!({"podMACPrefix": "0a:1b:2c"}), "podMACPrefix is"),
        (json!({"podMACPrefix": "+a:1b"}), "podMACPrefix is"),
        (json!({"hostRuleTable": 0}), "hostRuleTable is 0: write the number of a routing table"),
        (json!({"podRPFilter": 3}), "podRPFilter is 3: write 0, 1 or 2"),
        (json!({"txQueueLen": -1}), "txQueueLen is -1: write a number of packets"),
        (json!({"vethLinkAddress": "10.0.0.1"}), "vethLinkAddress is \"10.0.0.1\": write a link-local"),
        (json!({"vethMTU": 0}), "vethMTU is 0: write a number of bytes above 0"),
        (json!({"vethMTU": 1.5}), "vethMTU is 1.5"),
        (json!({"detectOptions": {"retries": "3"}}), "detectOptions.retries is \"3\""),
    ];
    for (keys, message) in table {
        let error = coordinator(keys).unwrap_err();
        assert_eq!(error.code, Code::InvalidConfiguration);
        assert!(error.msg.contains(message), "wanted {message:?}: {error}");
    }
}

#[test]
fn the_previous_result_is_read_when_asked_for() {
    let mut value = macvlan();
    assert_eq!(parse(&value).previous_result(), Ok(None));
    value["prevResult"] = json!(null);
    assert_eq!(parse(&value).previous_result(), Ok(None));
    // Without a version of its own it has the configuration's.
    value["prevResult"] = json!({"interfaces": [{"name": "net1"}]});
    let result = parse(&value).previous_result().unwrap().unwrap();
    assert_eq!(result.source, Some(CniVersion::V0_3_1));
    assert_eq!(result.interfaces, [Interface { name: "net1".to_owned(), ..Interface::default() }]);
    value["prevResult"] = json!({});
    assert!(parse(&value).previous_result().unwrap().unwrap().ips.is_empty());
    value["prevResult"] = json!({"ips": [{"address": "10.1.1.1"}]});
    let error = parse(&value).previous_result().unwrap_err();
    assert!(
        error.msg.starts_with("prevResult.ips[0].address is \"10.1.1.1\": write an address with its prefix"),
        "{error}"
    );
    value["prevResult"] = json!({"cniVersion": "0.2.0", "ip4": {}});
    let error = parse(&value).previous_result().unwrap_err();
    assert_eq!(error.code, Code::IncompatibleVersion);
    assert!(error.msg.starts_with("prevResult.cniVersion: "), "{error}");
}

#[test]
fn valid_attachments_are_read_under_both_names() {
    let configuration = |keys: Value| {
        let mut value = json!({"cniVersion": "1.1.0", "name": "n"});
        value.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
        parse(&value).valid_attachments()
    };
    let entry = |id: &str| json!({"containerID": id, "ifname": "net1"});
    let ids = |read: Result<Option<Vec<ValidAttachment>>, CniError>| {
        read.unwrap().map(|list| list.into_iter().map(|entry| entry.container_id).collect::<Vec<_>>())
    };
    assert_eq!(ids(configuration(json!({}))), None);
    assert_eq!(ids(configuration(json!({"cni.dev/valid-attachments": null}))), Some(vec![]));
    assert_eq!(ids(configuration(json!({"cni.dev/valid-attachments": []}))), Some(vec![]));
    assert_eq!(ids(configuration(json!({"cni.dev/attachments": [entry("a")]}))), Some(vec!["a".to_owned()]));
    let both = json!({"cni.dev/valid-attachments": [entry("b"), entry("a")], "cni.dev/attachments": [entry("a")]});
    assert_eq!(ids(configuration(both)), Some(vec!["a".to_owned(), "b".to_owned()]));

    for (list, message) in [
        (json!("x"), "cni.dev/valid-attachments is \"x\": write a list of objects"),
        (json!([{"ifname": "net1"}]), "cni.dev/valid-attachments[0].containerID is missing"),
        (json!([{"containerID": "a", "ifname": "a/b"}]), "cni.dev/valid-attachments[0].ifname: "),
    ] {
        let error = configuration(json!({"cni.dev/valid-attachments": list})).unwrap_err();
        assert_eq!(error.code, Code::InvalidConfiguration);
        assert!(error.msg.starts_with(message), "{error}");
    }
}
