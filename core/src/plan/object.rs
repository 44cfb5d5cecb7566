//! The kernel objects that a plan may hold: plain values, ordered so that printed plans are stable.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

use super::MAIN;
use crate::address::Family;

/// Which network namespace an object is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// The node's own.
    Host,
    /// The sandbox's.
    Pod,
}

/// A kernel object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Object {
    /// A kernel setting below `/proc/sys`.
    Sysctl(Sysctl),
    /// An attribute of a link.
    Link(Link),
    /// A permanent neighbour.
    Neighbour(Neighbour),
    /// A policy rule.
    Rule(Rule),
    /// A unicast route.
    Route(Route),
}

/// A kernel setting (`sysctl`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sysctl {
    /// Where it is.
    pub side: Side,
    /// Path below `/proc/sys`, e.g. `net/ipv4/conf/net1/rp_filter`: a link's name may hold dots.
    pub key: String,
    /// Its value, without the newline.
    pub value: String,
}

/// An attribute of a link.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Link {
    /// Where the link is.
    pub side: Side,
    /// The link's name.
    pub device: String,
    /// What it shall have.
    pub attribute: LinkAttribute,
}

/// What a plan may ask of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LinkAttribute {
    /// Administratively up, or down.
    Up(bool),
    /// Packets in the transmit queue.
    TxQueueLength(u32),
    /// MAC address.
    Mac(Mac),
}

/// A permanent neighbour: an address that a link reaches at a MAC address, without asking.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Neighbour {
    /// Where it is.
    pub side: Side,
    /// The link's name.
    pub device: String,
    /// The neighbour.
    pub address: IpAddr,
    /// Its MAC address.
    pub mac: Mac,
}

/// A policy rule: traffic from a source looks in a table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rule {
    /// Where it is.
    pub side: Side,
    /// Its family.
    pub family: Family,
    /// Lower is asked first.
    pub priority: u32,
    /// The source; none: all.
    pub from: Option<IpNet>,
    /// The table to look in.
    pub table: u32,
}

/// A unicast route with one next hop.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Route {
    /// Where it is.
    pub side: Side,
    /// Its table.
    pub table: u32,
    /// Destination, without host bits; its family is the route's.
    pub destination: IpNet,
    /// Next hop; none: the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// The link's name.
    pub device: String,
    /// Preferred source.
    pub source: Option<IpAddr>,
    /// Reach of the destination; always global in IPv6.
    pub scope: Scope,
    /// Lower is preferred. As the kernel has it: 0 unless given in IPv4, 1024 in IPv6.
    pub metric: u32,
    /// The gateway counts as on the link, whatever the tables say.
    pub onlink: bool,
    /// MTU of the path, in bytes.
    pub mtu: Option<u32>,
    /// Who made it (`rtm_protocol`, rtnetlink(7)). No part of what the route does: see [`Route::same`].
    pub protocol: u8,
}

/// Reach of a route's destination (`rtm_scope`, rtnetlink(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Anywhere; behind a gateway.
    Global,
    /// On the link.
    Link,
    /// This host.
    Host,
    /// Any other number.
    Other(u8),
}

/// An Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl Object {
    /// The namespace it belongs to.
    pub fn side(&self) -> Side {
        match self {
            Object::Sysctl(object) => object.side,
            Object::Link(object) => object.side,
            Object::Neighbour(object) => object.side,
            Object::Rule(object) => object.side,
            Object::Route(object) => object.side,
        }
    }

    /// The link that must exist for it, if any.
    pub fn device(&self) -> Option<&str> {
        match self {
            Object::Link(object) => Some(&object.device),
            Object::Neighbour(object) => Some(&object.device),
            Object::Route(object) => Some(&object.device),
            Object::Sysctl(_) | Object::Rule(_) => None,
        }
    }

    /// Whether two objects do the same, whoever made them.
    pub fn same(&self, other: &Object) -> bool {
        match (self, other) {
            (Object::Route(one), Object::Route(other)) => one.same(other),
            _ => self == other,
        }
    }
}

impl Route {
    /// `RTPROT_BOOT`, what `ip route add` writes and `ip route` does not print.
    pub const PROTOCOL_BOOT: u8 = 3;

    /// `RTPROT_KERNEL`: made by the kernel for an address.
    pub const PROTOCOL_KERNEL: u8 = 2;

    /// `RTPROT_RA`: learnt by the kernel from a Router Advertisement.
    pub const PROTOCOL_ADVERTISEMENT: u8 = 9;

    /// The route's family.
    pub fn family(&self) -> Family {
        Family::of_net(&self.destination)
    }

    /// Whether it is a default route.
    pub fn is_default(&self) -> bool {
        self.destination.prefix_len() == 0
    }

    /// Whether two routes do the same: equal but for who made them.
    pub fn same(&self, other: &Route) -> bool {
        Route { protocol: other.protocol, ..self.clone() } == *other
    }

    /// Whether the kernel would choose between them by their place alone: same table, destination and metric.
    pub fn competes(&self, other: &Route) -> bool {
        (self.side, self.table, self.destination, self.metric)
            == (other.side, other.table, other.destination, other.metric)
    }

    /// The same route in another table. The kernel's own mark stays with the original.
    pub fn in_table(&self, table: u32) -> Route {
        let protocol = if self.protocol == Route::PROTOCOL_KERNEL { Route::PROTOCOL_BOOT } else { self.protocol };
        Route { table, protocol, ..self.clone() }
    }
}

macro_rules! into_object {
    ($($kind:ident),*) => { $(
        impl From<$kind> for Object {
            fn from(object: $kind) -> Object {
                Object::$kind(object)
            }
        }
    )* };
}

into_object!(Sysctl, Link, Neighbour, Rule, Route);

/// Not six hexadecimal bytes joined by colons.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a MAC address; write six bytes as aa:bb:cc:dd:ee:ff")]
pub struct NotAMac(String);

impl FromStr for Mac {
    type Err = NotAMac;

    fn from_str(text: &str) -> Result<Mac, NotAMac> {
        let refused = || NotAMac(text.into());
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() == 2).ok_or_else(refused)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| refused())?;
        }
        if parts.next().is_some() { Err(refused()) } else { Ok(Mac(bytes)) }
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Side::Host => "host",
            Side::Pod => "pod",
        })
    }
}

impl fmt::Display for Object {
    /// The object as the `ip` command would print it, after the side it is on.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Object::Sysctl(Sysctl { side, key, value }) => write!(f, "{side} sysctl {key} = {value}"),
            Object::Link(Link { side, device, attribute }) => write!(f, "{side} link {device} {attribute}"),
            Object::Neighbour(Neighbour { side, device, address, mac }) => {
                write!(f, "{side} neighbour {address} dev {device} lladdr {mac} PERMANENT")
            }
            Object::Rule(rule) => rule.fmt(f),
            Object::Route(route) => route.fmt(f),
        }
    }
}

impl fmt::Display for LinkAttribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LinkAttribute::Up(true) => f.write_str("up"),
            LinkAttribute::Up(false) => f.write_str("down"),
            LinkAttribute::TxQueueLength(length) => write!(f, "txqueuelen {length}"),
            LinkAttribute::Mac(mac) => write!(f, "address {mac}"),
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Rule { side, family, priority, from, table } = self;
        write!(f, "{side} rule{} {priority}: from ", six(*family))?;
        match from {
            Some(from) => write!(f, "{}", Network(from))?,
            None => f.write_str("all")?,
        }
        write!(f, " lookup {}", Table(*table))
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} route{} table {}: ", self.side, six(self.family()), Table(self.table))?;
        match self.is_default() {
            true => f.write_str("default")?,
            false => write!(f, "{}", Network(&self.destination))?,
        }
        if let Some(gateway) = self.gateway {
            write!(f, " via {gateway}")?;
        }
        write!(f, " dev {}", self.device)?;
        match self.scope {
            Scope::Global => {}
            Scope::Link => f.write_str(" scope link")?,
            Scope::Host => f.write_str(" scope host")?,
            Scope::Other(number) => write!(f, " scope {number}")?,
        }
        if let Some(source) = self.source {
            write!(f, " src {source}")?;
        }
        if self.metric != default_metric(self.family()) {
            write!(f, " metric {}", self.metric)?;
        }
        if let Some(mtu) = self.mtu {
            write!(f, " mtu {mtu}")?;
        }
        if self.onlink { f.write_str(" onlink") } else { Ok(()) }
    }
}

/// The metric that the kernel gives a route added without one.
pub(super) fn default_metric(family: Family) -> u32 {
    match family {
        Family::V4 => 0,
        Family::V6 => 1024,
    }
}

fn six(family: Family) -> &'static str {
    match family {
        Family::V4 => "",
        Family::V6 => "6",
    }
}

/// A network as `ip` prints it: a single address without its prefix length.
struct Network<'a>(&'a IpNet);

impl fmt::Display for Network<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.prefix_len() == self.0.max_prefix_len() {
            write!(f, "{}", self.0.addr())
        } else {
            write!(f, "{}", self.0)
        }
    }
}

/// A table as `ip` prints it.
struct Table(u32);

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == MAIN { f.write_str("main") } else { write!(f, "{}", self.0) }
    }
}
