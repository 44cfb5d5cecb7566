use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn range(text: &str) -> AddressRange {
    text.parse().unwrap()
}

fn set(ranges: &[&str]) -> AddressSet {
    ranges.iter().map(|text| range(text)).collect()
}

#[test]
fn range_grammar_accepts_one_address_or_two() {
    for text in ["10.6.212.100", "10.6.212.100-10.6.212.200", "fd00::1", "fd00::1-fd00::ff"] {
        assert_eq!(range(text).to_string(), text);
    }
    assert_eq!(range("FD00:0::1").to_string(), "fd00::1", "stored in canonical spelling");
    assert_eq!(range("10.0.0.7-10.0.0.7").to_string(), "10.0.0.7");
}

#[test]
fn range_grammar_refuses_with_the_fix() {
    let cases = [
        ("10.0.0.9-10.0.0.1", "\"10.0.0.9-10.0.0.1\" is reversed; write 10.0.0.1-10.0.0.9"),
        ("10.0.0.0/30", "\"10.0.0.0/30\" is a CIDR; write it as the range 10.0.0.0-10.0.0.3"),
        ("10.0.0.1-fd00::1", "\"10.0.0.1-fd00::1\" mixes IPv4 and IPv6; both ends must be of one family"),
        (
            "10.0.0.1 - 10.0.0.2",
            "\"10.0.0.1 - 10.0.0.2\" is not an IP address; write one address, or FIRST-LAST without spaces",
        ),
        ("", "\"\" is not an IP address; write one address, or FIRST-LAST without spaces"),
        ("10.0.0.1-", "\"10.0.0.1-\" is not an IP address; write one address, or FIRST-LAST without spaces"),
    ];
    for (text, message) in cases {
        assert_eq!(text.parse::<AddressRange>().unwrap_err().to_string(), message);
    }
}

#[test]
fn a_whole_v6_subnet_is_one_interval() {
    let mut addresses: AddressSet = [AddressRange::of_net(&"fd00::/64".parse().unwrap())].into_iter().collect();
    assert_eq!(addresses.count(), 1 << 64);
    addresses.remove(range("fd00::-fd00::ff"));
    assert_eq!(addresses.first(), Some("fd00::100".parse().unwrap()));
    assert_eq!(addresses.ranges().count(), 1);
}

#[test]
fn both_ends_of_a_family_are_addresses_like_others() {
    let mut all = set(&["0.0.0.0-255.255.255.255", "::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"]);
    assert_eq!(all.ranges().count(), 2, "the families stay apart");
    all.remove(range("255.255.255.255"));
    all.remove(range("::"));
    all.remove(range("0.0.0.0"));
    assert_eq!(all.to_string(), "0.0.0.1-255.255.255.254,::1-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
    all.insert(range("255.255.255.255"));
    assert!(all.contains("255.255.255.255".parse().unwrap()));
}

/// Small numbers in both families, so that neighbours, overlaps and family ends happen often.
fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        (0_u32..40).prop_map(|n| IpAddr::from(Ipv4Addr::from_bits(n))),
        (0_u32..40).prop_map(|n| IpAddr::from(Ipv4Addr::from_bits(u32::MAX - n))),
        (0_u128..40).prop_map(|n| IpAddr::from(Ipv6Addr::from_bits(n))),
    ]
}

fn ranges() -> impl Strategy<Value = Vec<(bool, AddressRange)>> {
    let one = (any::<bool>(), address(), 0_u8..12).prop_map(|(insert, first, length)| {
        let mut last = first;
        for _ in 0..length {
            last = successor(last).unwrap_or(last);
        }
        (insert, AddressRange { first, last })
    });
    prop::collection::vec(one, 0..24)
}

fn build(steps: &[(bool, AddressRange)]) -> (AddressSet, BTreeSet<IpAddr>) {
    let (mut real, mut naive) = (AddressSet::new(), BTreeSet::new());
    for (insert, range) in steps {
        let mut next = Some(range.first);
        while let Some(address) = next.filter(|address| *address <= range.last) {
            if *insert {
                naive.insert(address)
            } else {
                naive.remove(&address)
            };
            next = successor(address);
        }
        if *insert { real.insert(*range) } else { real.remove(*range) }
    }
    (real, naive)
}

fn members(set: &AddressSet) -> BTreeSet<IpAddr> {
    set.ranges()
        .flat_map(|range| std::iter::successors(Some(range.first), move |a| successor(*a).filter(|n| *n <= range.last)))
        .collect()
}

proptest! {
    #[test]
    fn behaves_as_a_naive_set(left in ranges(), right in ranges(), probe in address()) {
        let ((a, naive_a), (b, naive_b)) = (build(&left), build(&right));
        prop_assert_eq!(members(&a), naive_a.clone());
        prop_assert_eq!(a.count(), naive_a.len() as u128);
        prop_assert_eq!(a.contains(probe), naive_a.contains(&probe));
        prop_assert_eq!(members(&a.union(&b)), naive_a.union(&naive_b).copied().collect());
        prop_assert_eq!(members(&a.difference(&b)), naive_a.difference(&naive_b).copied().collect());
        let shared: BTreeSet<IpAddr> = naive_a.intersection(&naive_b).copied().collect();
        prop_assert_eq!(a.first_common(&b), shared.first().copied());
        prop_assert_eq!(members(&a.intersection(&b)), shared);
    }

    #[test]
    fn intervals_never_touch(steps in ranges()) {
        let (set, _) = build(&steps);
        let ranges: Vec<AddressRange> = set.ranges().collect();
        for pair in ranges.windows(2) {
            prop_assert!(pair[0].family() != pair[1].family() || successor(pair[0].last).unwrap() < pair[1].first);
        }
        prop_assert_eq!(ranges.into_iter().collect::<AddressSet>(), set);
    }
}
