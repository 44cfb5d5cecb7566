use serde_json::json;

use super::*;
use crate::types::Code;

/// What the IPAM plugin answers for a dual-stack attachment, put together in the wrong order.
fn dual_stack() -> CniResult {
    let net = |text: &str| text.parse::<IpNet>().unwrap();
    let address = |text: &str| text.parse::<IpAddr>().ok();
    CniResult {
        ips: vec![
            IpConfiguration::new(net("fd00:10:6::2e5/64"), None),
            IpConfiguration::new(net("10.6.212.145/16"), address("10.6.0.1")),
        ],
        routes: vec![
            Route { mtu: Some(1400), table: Some(101), ..Route::new(net("10.7.0.0/16"), address("10.6.0.2")) },
            Route::new(net("0.0.0.0/0"), address("10.6.0.1")),
        ],
        ..CniResult::default()
    }
}

fn rendered(result: &CniResult, version: CniVersion) -> Value {
    serde_json::from_str(&result.render(version)).unwrap()
}

/// Per version of the specification, and IPv4 first.
#[test]
fn a_result_made_here_in_each_version() {
    for version in CniVersion::ALL {
        let mut ips =
            [json!({"address": "10.6.212.145/16", "gateway": "10.6.0.1"}), json!({"address": "fd00:10:6::2e5/64"})];
        let mut routes =
            [json!({"dst": "10.7.0.0/16", "gw": "10.6.0.2"}), json!({"dst": "0.0.0.0/0", "gw": "10.6.0.1"})];
        if version <= CniVersion::V0_4_0 {
            ips[0]["version"] = "4".into();
            ips[1]["version"] = "6".into();
        }
        if version >= CniVersion::V1_1_0 {
            routes[0]["mtu"] = 1400.into();
            routes[0]["table"] = 101.into();
        }
        let expected = json!({"cniVersion": version.as_str(), "ips": ips, "routes": routes});
        assert_eq!(rendered(&dual_stack(), version), expected);
    }
}

/// The text itself, once: what a runtime's log shows.
#[test]
fn golden_text() {
    let mut result = dual_stack();
    result.routes.clear();
    assert_eq!(
        result.render(CniVersion::V0_3_1),
        concat!(
            r#"{"cniVersion":"0.3.1","ips":[{"address":"10.6.212.145/16","gateway":"10.6.0.1","version":"4"},"#,
            r#"{"address":"fd00:10:6::2e5/64","version":"6"}]}"#
        )
    );
    assert_eq!(CniResult::default().render(CniVersion::V1_1_0), r#"{"cniVersion":"1.1.0"}"#);
}

/// A result as plugins of 1.1.0 may make it, with keys nobody knows.
fn full() -> Value {
    json!({
        "cniVersion": "1.1.0",
        "interfaces": [
            {"name": "net1", "mac": "2a:1e:a1:db:2a:9a", "sandbox": "/run/netns/x", "mtu": 1500,
             "socketPath": "/s", "pciID": "0000:00:1f.6", "speed": 10},
            {"name": "veth0"}
        ],
        "ips": [
            {"address": "fd00::5/64", "interface": 0, "label": "a"},
            {"address": "10.6.212.145/16", "gateway": "10.6.0.1", "interface": 0}
        ],
        "routes": [
            {"dst": "::/0", "gw": "fd00::1", "mtu": 1400, "advmss": 1360, "priority": 10, "table": 100, "scope": 0,
             "proto": 3},
            {"dst": "10.0.0.0/8"}
        ],
        "dns": {"nameservers": ["10.1.1.1"], "domain": "x", "search": ["a", "b"], "options": ["ndots:5"], "port": 53},
        "vendor": {"deep": [1, 2]}
    })
}

#[test]
fn what_was_read_comes_out_as_it_was_in_the_same_version() {
    let result = CniResult::parse(&full().to_string()).unwrap();
    assert_eq!(rendered(&result, CniVersion::V1_1_0), full());
    // A key that a version does not know survives in that version too: it was there.
    for version in CniVersion::ALL {
        let mut same = full();
        same["cniVersion"] = version.as_str().into();
        if version <= CniVersion::V0_4_0 {
            same["ips"][0]["version"] = "6".into();
            same["ips"][1]["version"] = "4".into();
        }
        let result = CniResult::parse(&same.to_string()).unwrap();
        assert_eq!(rendered(&result, version), same);
    }
}

/// Also numbers with more digits than a quick parse tells apart.
#[test]
fn numbers_of_others_come_out_as_they_came_in() {
    let text = r#"{"cniVersion":"1.0.0","vendor":777777700000000000000000000000000014134140855535929024}"#;
    let result = CniResult::parse(text).unwrap();
    assert_eq!(CniResult::parse(&result.render(CniVersion::V1_0_0)).unwrap(), result);
    assert!(result.render(CniVersion::V1_0_0).contains("7.777777e+53"), "{result:?}");
}

#[test]
fn a_newer_version_keeps_everything_and_an_older_one_what_it_knows() {
    let mut old = full();
    old["cniVersion"] = "0.4.0".into();
    old["ips"][0]["version"] = "6".into();
    old["ips"][1]["version"] = "4".into();
    let result = CniResult::parse(&old.to_string()).unwrap();
    assert_eq!(rendered(&result, CniVersion::V1_1_0), full(), "upwards: only ips[].version goes");

    let result = CniResult::parse(&full().to_string()).unwrap();
    let expected = json!({
        "cniVersion": "1.0.0",
        "interfaces": [{"name": "net1", "mac": "2a:1e:a1:db:2a:9a", "sandbox": "/run/netns/x"}, {"name": "veth0"}],
        "ips": [
            {"address": "fd00::5/64", "interface": 0},
            {"address": "10.6.212.145/16", "gateway": "10.6.0.1", "interface": 0}
        ],
        "routes": [{"dst": "::/0", "gw": "fd00::1"}, {"dst": "10.0.0.0/8"}],
        "dns": {"nameservers": ["10.1.1.1"], "domain": "x", "search": ["a", "b"], "options": ["ndots:5"]}
    });
    assert_eq!(rendered(&result, CniVersion::V1_0_0), expected);
}

#[test]
fn every_pair_of_versions_converts_and_back() {
    for from in CniVersion::ALL {
        for to in CniVersion::ALL {
            let there = CniResult::parse(&dual_stack().render(from)).unwrap();
            let back = CniResult::parse(&there.render(to)).unwrap();
            assert_eq!(back.source, Some(to));
            assert_eq!(back.ips, there.ips, "{from} to {to}");
            assert_eq!(back.routes.len(), 2);
        }
    }
}

#[test]
fn empty_and_null_values_count_as_missing() {
    let text = r#"{"cniVersion": "1.0.0", "interfaces": null, "dns": {}, "routes": [{"dst": "10.0.0.0/8", "gw": ""}],
                   "ips": [{"address": "10.0.0.1/8", "gateway": null}]}"#;
    let result = CniResult::parse(text).unwrap();
    let expected =
        json!({"cniVersion": "1.0.0", "routes": [{"dst": "10.0.0.0/8"}], "ips": [{"address": "10.0.0.1/8"}]});
    assert_eq!(rendered(&result, CniVersion::V1_0_0), expected);
}

#[test]
fn wrong_values_are_named() {
    let table = [
        (json!({"ips": {}}), "ips is {}: write a list of objects"),
        (json!({"ips": [{}]}), "ips[0].address is missing"),
        (json!({"ips": [{"address": "10.0.0.1/33"}]}), "ips[0].address is \"10.0.0.1/33\""),
        (json!({"ips": [{"address": "10.0.0.1/8", "gateway": "x"}]}), "ips[0].gateway is \"x\""),
        (json!({"ips": [{"address": "10.0.0.1/8", "interface": 0}]}), "ips[0].interface is 0: write the index"),
        (json!({"interfaces": [{"mac": "x"}]}), "interfaces[0].name is missing"),
        (json!({"interfaces": [{"name": "a", "mtu": -5}]}), "interfaces[0].mtu is -5"),
        (json!({"routes": [{"dst": "x"}]}), "routes[0].dst is \"x\""),
        (json!({"routes": [{"dst": "::/0", "scope": 256}]}), "routes[0].scope is 256"),
        (json!({"dns": {"search": "a"}}), "dns.search is \"a\": write a list of strings"),
    ];
    for (mut value, message) in table {
        value["cniVersion"] = "1.0.0".into();
        let error = CniResult::parse(&value.to_string()).unwrap_err();
        assert_eq!(error.code, Code::InvalidConfiguration);
        assert!(error.msg.starts_with(message), "wanted {message:?}: {error}");
    }
    assert_eq!(CniResult::parse("{").unwrap_err().code, Code::Decode);
    assert_eq!(CniResult::parse("{}").unwrap_err().code, Code::IncompatibleVersion);
}
