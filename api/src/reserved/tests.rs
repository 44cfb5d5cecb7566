use super::*;

fn reserved(version: Option<i64>, ips: Option<&[&str]>) -> SpiderReservedIP {
    SpiderReservedIP {
        metadata: Metadata { name: "routers".into(), ..Metadata::default() },
        spec: SpiderReservedIPSpec {
            ip_version: version,
            ips: ips.map(|ips| ips.iter().map(ToString::to_string).collect()),
        },
    }
}

fn faults(object: &SpiderReservedIP) -> Vec<String> {
    object.parse().err().into_iter().flatten().map(|fault| fault.to_string()).collect()
}

/// Nothing written is accepted and means nothing reserved.
#[test]
fn nothing_is_reserved_by_nothing() {
    for object in [reserved(Some(4), None), reserved(None, Some(&[])), reserved(None, None)] {
        assert!(object.parse().unwrap().is_empty());
    }
}

#[test]
fn ranges_are_merged() {
    let object = reserved(Some(4), Some(&["10.6.0.9-10.6.0.19", "10.6.0.15-10.6.0.25"]));
    assert_eq!(object.parse().unwrap().to_string(), "10.6.0.9-10.6.0.25");
}

#[test]
fn a_terminating_object_reserves_nothing() {
    let mut object = reserved(None, Some(&["10.6.0.9"]));
    object.metadata.deletion_timestamp = Some("2026-01-01T00:00:00Z".into());
    assert!(object.parse().unwrap().is_empty());
}

#[test]
fn families_do_not_mix() {
    let fault = "spec.ips[1]: fd00::1 is IPv6, the first entry is not; use one object a family";
    assert_eq!(faults(&reserved(None, Some(&["10.6.0.9", "fd00::1"]))), [fault]);
    let fault = "spec.ipVersion: 6 is not the version of spec.ips; write 4, or remove it";
    assert_eq!(faults(&reserved(Some(6), Some(&["10.6.0.9"]))), [fault]);
    let fault = "spec.ipVersion: 5 is no IP version; write 4 or 6, or remove the field";
    assert_eq!(faults(&reserved(Some(5), None)), [fault]);
}
