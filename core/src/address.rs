//! Sets of addresses as intervals, and the grammar of address ranges.
//!
//! A set costs memory by its intervals, never by its addresses: a /64 is one interval. IPv4 addresses stand before
//! IPv6 addresses in every order.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::IpNet;

/// The two address families.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of an address.
    pub fn of(address: &IpAddr) -> Family {
        match address {
            IpAddr::V4(_) => Family::V4,
            IpAddr::V6(_) => Family::V6,
        }
    }

    /// The family of a network.
    pub fn of_net(net: &IpNet) -> Family {
        Family::of(&net.addr())
    }

    /// 4 or 6, as Kubernetes objects write it.
    pub fn number(self) -> u8 {
        match self {
            Family::V4 => 4,
            Family::V6 => 6,
        }
    }

    /// Bits of an address: 32 or 128.
    pub fn bits(self) -> u8 {
        match self {
            Family::V4 => 32,
            Family::V6 => 128,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IPv{}", self.number())
    }
}

/// An inclusive range of addresses of one family, first ≤ last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AddressRange {
    first: IpAddr,
    last: IpAddr,
}

/// Why a text is no address range. Each message says how to write it instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    /// Neither an address nor two joined by a hyphen.
    #[error("{0:?} is not an IP address; write one address, or FIRST-LAST without spaces")]
    NotAnAddress(String),
    /// A network in CIDR form.
    #[error("{text:?} is a CIDR; write it as the range {range}")]
    Cidr {
        /// What was written.
        text: String,
        /// The range to write instead.
        range: AddressRange,
    },
    /// The ends are of different families.
    #[error("{0:?} mixes IPv4 and IPv6; both ends must be of one family")]
    MixedFamilies(String),
    /// The first address comes after the last.
    #[error("{text:?} is reversed; write {range}")]
    Reversed {
        /// What was written.
        text: String,
        /// The range to write instead.
        range: AddressRange,
    },
}

impl AddressRange {
    /// The range between two addresses of one family, given in order.
    pub fn new(first: IpAddr, last: IpAddr) -> Option<AddressRange> {
        (Family::of(&first) == Family::of(&last) && first <= last).then_some(AddressRange { first, last })
    }

    /// All addresses of a network, its first and last included.
    pub fn of_net(net: &IpNet) -> AddressRange {
        AddressRange { first: net.network(), last: net.broadcast() }
    }

    /// The lowest address.
    pub fn first(&self) -> IpAddr {
        self.first
    }

    /// The highest address.
    pub fn last(&self) -> IpAddr {
        self.last
    }

    /// The family of both ends.
    pub fn family(&self) -> Family {
        Family::of(&self.first)
    }

    /// How many addresses; the range of all IPv6 addresses saturates.
    pub fn count(&self) -> u128 {
        (number(self.last) - number(self.first)).saturating_add(1)
    }

    /// Whether the range holds the address.
    pub fn contains(&self, address: IpAddr) -> bool {
        Family::of(&address) == self.family() && self.first <= address && address <= self.last
    }
}

impl From<IpAddr> for AddressRange {
    fn from(address: IpAddr) -> AddressRange {
        AddressRange { first: address, last: address }
    }
}

impl FromStr for AddressRange {
    type Err = RangeError;

    /// `range := IP | IP "-" IP`; no spaces, no CIDR form, one family, first ≤ last.
    fn from_str(text: &str) -> Result<AddressRange, RangeError> {
        if let Ok(net) = text.parse::<IpNet>() {
            return Err(RangeError::Cidr { text: text.into(), range: AddressRange::of_net(&net) });
        }
        let parse = |part: &str| part.parse::<IpAddr>().map_err(|_| RangeError::NotAnAddress(text.into()));
        let Some((first, last)) = text.split_once('-') else {
            return Ok(parse(text)?.into());
        };
        let (first, last) = (parse(first)?, parse(last)?);
        if Family::of(&first) != Family::of(&last) {
            return Err(RangeError::MixedFamilies(text.into()));
        }
        AddressRange::new(first, last)
            .ok_or_else(|| RangeError::Reversed { text: text.into(), range: AddressRange { first: last, last: first } })
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last { write!(f, "{}", self.first) } else { write!(f, "{}-{}", self.first, self.last) }
    }
}

/// A set of addresses of either family, kept as disjoint intervals that do not touch.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct AddressSet {
    /// First address of an interval to its last.
    spans: BTreeMap<IpAddr, IpAddr>,
}

impl AddressSet {
    /// The empty set.
    pub fn new() -> AddressSet {
        AddressSet::default()
    }

    /// Whether the set holds no address.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// How many addresses the set holds (saturating).
    pub fn count(&self) -> u128 {
        self.ranges().fold(0, |sum, range| sum.saturating_add(range.count()))
    }

    /// The maximal ranges in order.
    pub fn ranges(&self) -> impl Iterator<Item = AddressRange> + '_ {
        self.spans.iter().map(|(&first, &last)| AddressRange { first, last })
    }

    /// Whether the set holds the address.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.span_at(address).is_some()
    }

    /// The lowest address.
    pub fn first(&self) -> Option<IpAddr> {
        self.spans.keys().next().copied()
    }

    /// The lowest address that both sets hold.
    pub fn first_common(&self, other: &AddressSet) -> Option<IpAddr> {
        common(self, other).next().map(|range| range.first)
    }

    /// Adds all addresses of a range.
    pub fn insert(&mut self, range: impl Into<AddressRange>) {
        let AddressRange { mut first, mut last } = range.into();
        if let Some((&before, &end)) = self.spans.range(..=first).next_back()
            && Family::of(&before) == Family::of(&first)
            && successor(end).is_none_or(|next| next >= first)
        {
            if end >= last {
                return;
            }
            first = before;
        }
        let reach = successor(last).unwrap_or(last);
        let swallowed: Vec<IpAddr> = self.spans.range(first..=reach).map(|(&start, _)| start).collect();
        for start in swallowed {
            if let Some(end) = self.spans.remove(&start) {
                last = last.max(end);
            }
        }
        self.spans.insert(first, last);
    }

    /// Removes all addresses of a range; those not held do not matter.
    pub fn remove(&mut self, range: impl Into<AddressRange>) {
        let AddressRange { first, last } = range.into();
        let from = self.span_at(first).map_or(first, |span| span.first);
        let touched: Vec<AddressRange> =
            self.spans.range(from..=last).map(|(&first, &last)| AddressRange { first, last }).collect();
        for span in touched {
            self.spans.remove(&span.first);
            if let Some(end) = predecessor(first).filter(|end| span.first < first && *end >= span.first) {
                self.spans.insert(span.first, end);
            }
            if let Some(start) = successor(last).filter(|start| span.last > last && *start <= span.last) {
                self.spans.insert(start, span.last);
            }
        }
    }

    /// All addresses of either set.
    pub fn union(&self, other: &AddressSet) -> AddressSet {
        let mut sum = self.clone();
        other.ranges().for_each(|range| sum.insert(range));
        sum
    }

    /// The addresses of this set that the other lacks.
    pub fn difference(&self, other: &AddressSet) -> AddressSet {
        let mut rest = self.clone();
        other.ranges().for_each(|range| rest.remove(range));
        rest
    }

    /// The addresses that both sets hold.
    pub fn intersection(&self, other: &AddressSet) -> AddressSet {
        AddressSet { spans: common(self, other).map(|range| (range.first, range.last)).collect() }
    }

    fn span_at(&self, address: IpAddr) -> Option<AddressRange> {
        let (&first, &last) = self.spans.range(..=address).next_back()?;
        Some(AddressRange { first, last }).filter(|span| span.contains(address))
    }
}

/// The ranges of the intersection, in order; lazily, so that the first costs little.
fn common<'a>(left: &'a AddressSet, right: &'a AddressSet) -> impl Iterator<Item = AddressRange> + 'a {
    let mut left = left.ranges().peekable();
    let mut right = right.ranges().peekable();
    std::iter::from_fn(move || {
        loop {
            let (a, b) = (*left.peek()?, *right.peek()?);
            if a.last <= b.last {
                left.next()
            } else {
                right.next()
            };
            let shared = AddressRange { first: a.first.max(b.first), last: a.last.min(b.last) };
            if shared.first <= shared.last {
                return Some(shared);
            }
        }
    })
}

impl<R: Into<AddressRange>> FromIterator<R> for AddressSet {
    fn from_iter<I: IntoIterator<Item = R>>(ranges: I) -> AddressSet {
        let mut set = AddressSet::new();
        ranges.into_iter().for_each(|range| set.insert(range));
        set
    }
}

impl fmt::Display for AddressSet {
    /// The ranges, joined by commas.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, range) in self.ranges().enumerate() {
            if place > 0 {
                f.write_str(",")?;
            }
            write!(f, "{range}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for AddressSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{self}}}")
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// The next address of the family; none after its last.
fn successor(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(v4) => v4.to_bits().checked_add(1).map(|bits| Ipv4Addr::from_bits(bits).into()),
        IpAddr::V6(v6) => v6.to_bits().checked_add(1).map(|bits| Ipv6Addr::from_bits(bits).into()),
    }
}

fn predecessor(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(v4) => v4.to_bits().checked_sub(1).map(|bits| Ipv4Addr::from_bits(bits).into()),
        IpAddr::V6(v6) => v6.to_bits().checked_sub(1).map(|bits| Ipv6Addr::from_bits(bits).into()),
    }
}

#[cfg(test)]
mod tests;
