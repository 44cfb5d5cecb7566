//! What the kernel says: rtnetlink messages as objects.
//!
//! Messages are read attribute by attribute. An object that does more than a plan can say (another kind of route, a
//! rule with further selectors) is none, so nothing ever touches it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressHeaderFlags, AddressScope};
use netlink_packet_route::link::{AfSpecInet6, AfSpecUnspec, LinkAttribute as LinkField, LinkFlags, LinkInfo};
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourState};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteMetric, RouteNextHopFlags, RouteScope, RouteType,
    RouteVia,
};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleFlags};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use spiderpool_core::address::Family;
use spiderpool_core::plan::{Mac, Neighbour, Route, Rule, Scope, SeenAddress, SeenLink, Side};

/// Names of links by index.
pub(super) type Names = BTreeMap<u32, String>;

/// A link.
pub(super) fn link(message: &RouteNetlinkMessage) -> Option<SeenLink> {
    let RouteNetlinkMessage::NewLink(message) = message else { return None };
    let mut link = SeenLink {
        index: message.header.index,
        up: message.header.flags.contains(LinkFlags::Up),
        loopback: message.header.flags.contains(LinkFlags::Loopback),
        ..SeenLink::default()
    };
    for attribute in &message.attributes {
        match attribute {
            LinkField::IfName(name) => link.name.clone_from(name),
            LinkField::Address(bytes) => link.mac = bytes.as_slice().try_into().ok().map(Mac),
            LinkField::Mtu(mtu) => link.mtu = *mtu,
            LinkField::Link(peer) => link.peer = Some(*peer),
            LinkField::TxQueueLen(length) => link.tx_queue_length = *length,
            LinkField::AfSpecUnspec(families) => link.ipv6_off = is_ipv6_off(families),
            LinkField::LinkInfo(infos) => {
                for info in infos {
                    if let LinkInfo::Kind(kind) = info {
                        link.kind = kind.to_string();
                    }
                }
            }
            _ => {}
        }
    }
    Some(link).filter(|link| !link.name.is_empty())
}

/// Whether a link is up, has a carrier and resolves addresses.
pub(super) fn has_carrier(message: &RouteNetlinkMessage) -> bool {
    let RouteNetlinkMessage::NewLink(message) = message else { return false };
    let flags = message.header.flags;
    flags.contains(LinkFlags::Up | LinkFlags::LowerUp) && !flags.contains(LinkFlags::Noarp)
}

/// Whether a link says that IPv6 is switched off on it.
fn is_ipv6_off(families: &[AfSpecUnspec]) -> bool {
    let settings = families.iter().filter_map(|family| match family {
        AfSpecUnspec::Inet6(settings) => Some(settings),
        _ => None,
    });
    let off = |setting: &AfSpecInet6| matches!(setting, AfSpecInet6::DevConf(values) if values.disable_ipv6 != 0);
    settings.flatten().any(off)
}

/// An address, and the index of its link.
pub(super) fn address(message: &RouteNetlinkMessage) -> Option<(u32, IpNet, bool, bool)> {
    let RouteNetlinkMessage::NewAddress(message) = message else { return None };
    let mut permanent = message.header.flags.contains(AddressHeaderFlags::Permanent);
    let (mut local, mut remote) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(address) => local = Some(*address),
            AddressAttribute::Address(address) => remote = Some(*address),
            AddressAttribute::Flags(flags) => permanent = flags.contains(AddressFlags::Permanent),
            _ => {}
        }
    }
    let address = IpNet::new(local.or(remote)?, message.header.prefix_len).ok()?;
    Some((message.header.index, address, message.header.scope == AddressScope::Universe, permanent))
}

/// An address with its link's name.
pub(super) fn named_address(message: &RouteNetlinkMessage, names: &Names) -> Option<SeenAddress> {
    let (index, address, global, permanent) = address(message)?;
    Some(SeenAddress { device: names.get(&index)?.clone(), address, global, permanent })
}

/// The source in the answer to [`route_get`].
pub(super) fn preferred_source(message: &RouteNetlinkMessage) -> Option<IpAddr> {
    let RouteNetlinkMessage::NewRoute(message) = message else { return None };
    message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::PrefSource(address) => plain_address(address),
        _ => None,
    })
}

/// The unicast routes that a message speaks of, one for each next hop; none of the table `local`.
pub(super) fn routes(message: &RouteNetlinkMessage, side: Side, names: &Names) -> Vec<Route> {
    /// The kernel's own table of local and broadcast addresses.
    const LOCAL: u32 = 255;
    let RouteNetlinkMessage::NewRoute(message) = message else { return Vec::new() };
    let header = &message.header;
    let table = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Table(table) => Some(*table),
        _ => None,
    });
    let table = table.unwrap_or(u32::from(header.table));
    let cloned = header.flags.contains(RouteFlags::Cloned);
    if header.kind != RouteType::Unicast || header.tos != 0 || table == LOCAL || cloned {
        return Vec::new();
    }
    let Some(route) = blank_route(message, side, table) else { return Vec::new() };
    let single = next_hop(&route, &message.attributes, None, names);
    let several = message.attributes.iter().filter_map(|attribute| match attribute {
        RouteAttribute::MultiPath(hops) => Some(hops),
        _ => None,
    });
    let several = several.flatten().filter_map(|hop| {
        let found = next_hop(&route, &hop.attributes, Some(hop.interface_index), names)?;
        let onlink = route.onlink || hop.flags.contains(RouteNextHopFlags::Onlink);
        Some(Route { onlink, ..found })
    });
    single.into_iter().chain(several).collect()
}

/// The link of a route to one of the addresses.
pub(super) fn link_of_route_to(message: &RouteNetlinkMessage, addresses: &BTreeSet<IpAddr>) -> Option<u32> {
    let RouteNetlinkMessage::NewRoute(message) = message else { return None };
    let (mut index, mut ours) = (None, false);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(oif) => index = Some(*oif),
            RouteAttribute::Destination(address) => {
                ours = plain_address(address).is_some_and(|address| addresses.contains(&address));
            }
            _ => {}
        }
    }
    index.filter(|_| ours)
}

/// A route without its next hop.
fn blank_route(message: &RouteMessage, side: Side, table: u32) -> Option<Route> {
    let header = &message.header;
    let nowhere: IpAddr = match header.address_family {
        AddressFamily::Inet => std::net::Ipv4Addr::UNSPECIFIED.into(),
        AddressFamily::Inet6 => std::net::Ipv6Addr::UNSPECIFIED.into(),
        _ => return None,
    };
    let mut route = Route {
        side,
        table,
        destination: IpNet::new(nowhere, header.destination_prefix_length).ok()?,
        gateway: None,
        device: String::new(),
        source: None,
        scope: match header.scope {
            RouteScope::Universe => Scope::Global,
            RouteScope::Link => Scope::Link,
            RouteScope::Host => Scope::Host,
            other => Scope::Other(other.into()),
        },
        metric: 0,
        onlink: header.flags.contains(RouteFlags::Onlink),
        mtu: None,
        protocol: header.protocol.into(),
    };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => {
                route.destination = IpNet::new(plain_address(address)?, header.destination_prefix_length).ok()?;
            }
            RouteAttribute::PrefSource(address) => route.source = plain_address(address),
            RouteAttribute::Priority(metric) => route.metric = *metric,
            RouteAttribute::Metrics(metrics) => {
                route.mtu = metrics.iter().find_map(|metric| match metric {
                    RouteMetric::Mtu(mtu) => Some(*mtu),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    Some(route)
}

fn next_hop(route: &Route, attributes: &[RouteAttribute], index: Option<u32>, names: &Names) -> Option<Route> {
    let (mut index, mut gateway) = (index, None);
    for attribute in attributes {
        match attribute {
            RouteAttribute::Oif(oif) => index = Some(*oif),
            RouteAttribute::Gateway(address) => gateway = plain_address(address),
            RouteAttribute::Via(RouteVia::Inet(v4)) => gateway = Some((*v4).into()),
            RouteAttribute::Via(RouteVia::Inet6(v6)) => gateway = Some((*v6).into()),
            _ => {}
        }
    }
    Some(Route { gateway, device: names.get(&index?)?.clone(), ..route.clone() })
}

/// A rule that does nothing but look up a table for a source.
pub(super) fn rule(message: &RouteNetlinkMessage, side: Side) -> Option<Rule> {
    let RouteNetlinkMessage::NewRule(message) = message else { return None };
    let header = &message.header;
    let family = match header.family {
        AddressFamily::Inet => Family::V4,
        AddressFamily::Inet6 => Family::V6,
        _ => return None,
    };
    if header.action != RuleAction::ToTable || header.dst_len != 0 || header.tos != 0 {
        return None;
    }
    if header.flags.intersects(RuleFlags::Invert) {
        return None;
    }
    let mut rule = Rule { side, family, priority: 0, from: None, table: u32::from(header.table) };
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Priority(priority) => rule.priority = *priority,
            RuleAttribute::Table(table) => rule.table = *table,
            RuleAttribute::Source(address) => rule.from = IpNet::new(*address, header.src_len).ok(),
            RuleAttribute::SuppressPrefixLen(u32::MAX) | RuleAttribute::Protocol(_) => {}
            _ => return None,
        }
    }
    Some(rule)
}

/// A permanent neighbour.
pub(super) fn neighbour(message: &RouteNetlinkMessage, side: Side, names: &Names) -> Option<Neighbour> {
    let RouteNetlinkMessage::NewNeighbour(message) = message else { return None };
    if message.header.state != NeighbourState::Permanent {
        return None;
    }
    let (mut address, mut mac) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => address = Some((*v4).into()),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => address = Some((*v6).into()),
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = bytes.as_slice().try_into().ok().map(Mac),
            _ => {}
        }
    }
    Some(Neighbour { side, device: names.get(&message.header.ifindex)?.clone(), address: address?, mac: mac? })
}

fn plain_address(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some((*v4).into()),
        RouteAddress::Inet6(v6) => Some((*v6).into()),
        _ => None,
    }
}
