use spiderpool_core::world::Affinity;

use super::*;

fn pool(name: &str, subnet: &str, ranges: &[&str]) -> Pool {
    Pool {
        name: name.into(),
        subnet: subnet.parse().unwrap(),
        addresses: ranges.iter().map(|range| range.parse::<AddressRange>().unwrap()).collect(),
        gateway: None,
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

/// Pools of one subnet share no address; subnets that differ do not overlap.
#[test]
fn pools_share_neither_parts_of_subnets_nor_addresses() {
    let one = pool("one", "10.6.0.0/16", &["10.6.0.9-10.6.0.19"]);
    let rows = [
        (pool("two", "10.7.0.0/16", &[]), None),
        (pool("two", "fd00::/64", &["fd00::1"]), None),
        (pool("two", "10.6.0.0/16", &["10.6.0.20"]), None),
        (pool("two", "10.6.0.0/16", &[]), None),
        // An earlier state of the same pool.
        (pool("one", "10.6.0.0/17", &["10.6.0.9"]), None),
        (
            pool("two", "10.6.0.0/24", &[]),
            Some(
                "spec.subnet: 10.6.0.0/16 overlaps the subnet 10.6.0.0/24 of pool two; pools of one subnet must write \
                  it the same way",
            ),
        ),
        (
            pool("two", "10.0.0.0/8", &["10.9.0.1"]),
            Some(
                "spec.subnet: 10.6.0.0/16 overlaps the subnet 10.0.0.0/8 of pool two; pools of one subnet must write \
                  it the same way",
            ),
        ),
        (
            pool("two", "10.6.0.0/16", &["10.6.0.1-10.6.0.9", "10.6.0.11", "10.6.0.13", "10.6.0.15-10.6.0.99"]),
            Some(
                "spec.ips: 10.6.0.9, 10.6.0.11, 10.6.0.13, ... belong to pool two already; leave them out of one of \
                  the two",
            ),
        ),
    ];
    for (other, expected) in rows {
        let found = conflict(&one, &other).map(|fault| fault.to_string());
        assert_eq!(found.as_deref(), expected, "{other:?}");
        assert_eq!(conflict(&other, &one).is_some(), expected.is_some(), "the other way round");
    }
}
