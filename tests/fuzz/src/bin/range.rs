//! The grammar of address ranges, and sets made from them: a line is a range to add, or to take out if it begins with `!`.
//!
//! Holds: a range is the same when written and read again; an error's advice is a range; a set says of each range's ends
//! and their neighbours what the last line about them said, and its memory is bounded by the lines, however many
//! addresses they span.

#![no_main]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use libfuzzer_sys::fuzz_target;
use spiderpool_core::address::{AddressRange, AddressSet, RangeError};

/// Lines of one input: the oracle looks at each of them for each of their ends.
const LINES: usize = 64;

fuzz_target!(|input: &[u8]| {
    let Ok(text) = str::from_utf8(input) else { return };
    let mut steps = Vec::new();
    for line in text.lines().take(LINES) {
        let (adds, text) = line.strip_prefix('!').map_or((true, line), |rest| (false, rest));
        match text.parse::<AddressRange>() {
            Ok(range) => {
                assert_eq!(range.to_string().parse(), Ok(range));
                assert!(range.count() > 0 && range.contains(range.first()) && range.contains(range.last()));
                steps.push((adds, range));
            }
            Err(error) => advice(&error),
        }
    }
    let set = build(&steps);
    says_the_last_word(&set, &steps);
    assert!(set.ranges().count() <= 2 * steps.len());
    let again: AddressSet =
        set.ranges().map(|range| range.to_string().parse::<AddressRange>().expect("a range")).collect();
    assert_eq!(again, set);
    let (left, right) = steps.split_at(steps.len() / 2);
    algebra(&build(left), &build(right));
});

fn advice(error: &RangeError) {
    assert!(!error.to_string().is_empty());
    if let RangeError::Cidr { range, .. } | RangeError::Reversed { range, .. } = error {
        assert_eq!(range.to_string().parse(), Ok(*range));
    }
}

fn build(steps: &[(bool, AddressRange)]) -> AddressSet {
    let mut set = AddressSet::new();
    for (adds, range) in steps {
        if *adds { set.insert(*range) } else { set.remove(*range) }
    }
    set
}

fn says_the_last_word(set: &AddressSet, steps: &[(bool, AddressRange)]) {
    for end in steps.iter().flat_map(|(_, range)| [range.first(), range.last()]) {
        for probe in [beside(end, 1), end, beside(end, -1)] {
            let last = steps.iter().rev().find(|(_, range)| range.contains(probe));
            assert_eq!(set.contains(probe), last.is_some_and(|(adds, _)| *adds), "{probe}");
        }
    }
}

fn algebra(left: &AddressSet, right: &AddressSet) {
    let (both, only) = (left.intersection(right), left.difference(right));
    assert_eq!(both.union(&only), *left);
    assert!(both.intersection(&only).is_empty());
    assert_eq!(left.union(right), right.union(left));
    assert_eq!(left.first_common(right), both.first());
}

/// A neighbour, wrapping around at the end of the family.
fn beside(address: IpAddr, step: i8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => Ipv4Addr::from_bits(v4.to_bits().wrapping_add_signed(step.into())).into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits().wrapping_add_signed(step.into())).into(),
    }
}
