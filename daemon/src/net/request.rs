//! What is said to the kernel: changes and questions as rtnetlink messages.

use std::net::IpAddr;

use netlink_packet_core::{NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::{LinkAttribute as LinkField, LinkExtentMask, LinkFlags, LinkMessage};
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState};
use netlink_packet_route::route::{
    RouteAttribute, RouteFlags, RouteMessage, RouteMetric, RouteProtocol, RouteScope, RouteType, RouteVia,
};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use spiderpool_core::address::Family;
use spiderpool_core::plan::{Change, Link, LinkAttribute, Mac, Neighbour, Object, Place, Route, Rule, Scope, SeenLink};

/// One request that changes something.
pub(super) struct Request {
    pub(super) message: RouteNetlinkMessage,
    pub(super) flags: u16,
}

/// The request that makes a change; none for a kernel setting, which is a file, and for one that nothing undoes.
/// The links are those of the change's namespace.
///
/// # Errors
/// The object's link is not there.
pub(super) fn request(change: &Change, links: &[SeenLink]) -> Result<Option<Request>, String> {
    let index = |name: &str| {
        links.iter().find(|link| link.name == name).map(|link| link.index).ok_or_else(|| format!("no link {name}"))
    };
    let (object, removes, place) = match change {
        Change::Add { object, place } => (object, false, *place),
        Change::Remove { object, place } => (object, true, *place),
        Change::Replace { to, .. } => (to, false, Place::First),
    };
    let (message, flags) = match object {
        Object::Sysctl(_) => return Ok(None),
        Object::Link(_) if removes => return Ok(None),
        Object::Link(link) => (RouteNetlinkMessage::SetLink(set_link(link, index(&link.device)?)), 0),
        Object::Neighbour(neighbour) => {
            let message = neighbour_message(neighbour, index(&neighbour.device)?);
            if removes {
                (RouteNetlinkMessage::DelNeighbour(message), 0)
            } else {
                (RouteNetlinkMessage::NewNeighbour(message), NLM_F_CREATE | NLM_F_REPLACE)
            }
        }
        Object::Rule(rule) if removes => (RouteNetlinkMessage::DelRule(rule_message(rule)), 0),
        Object::Rule(rule) => (RouteNetlinkMessage::NewRule(rule_message(rule)), NLM_F_CREATE | NLM_F_EXCL),
        Object::Route(route) => {
            let message = route_message(route, index(&route.device)?);
            match (removes, place) {
                (true, _) => (RouteNetlinkMessage::DelRoute(message), 0),
                // Without NLM_F_APPEND an IPv4 route goes before those of the same destination and metric.
                (false, Place::First) => (RouteNetlinkMessage::NewRoute(message), NLM_F_CREATE),
                (false, Place::Last) => (RouteNetlinkMessage::NewRoute(message), NLM_F_CREATE | NLM_F_APPEND),
            }
        }
    };
    Ok(Some(Request { message, flags }))
}

fn set_link(link: &Link, index: u32) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    match link.attribute {
        LinkAttribute::Up(up) => {
            message.header.change_mask = LinkFlags::Up;
            message.header.flags = if up { LinkFlags::Up } else { LinkFlags::empty() };
        }
        LinkAttribute::TxQueueLength(length) => message.attributes.push(LinkField::TxQueueLen(length)),
        LinkAttribute::Mac(Mac(bytes)) => message.attributes.push(LinkField::Address(bytes.to_vec())),
    }
    message
}

fn neighbour_message(neighbour: &Neighbour, index: u32) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = kernel_family(Family::of(&neighbour.address));
    message.header.ifindex = index;
    message.header.state = NeighbourState::Permanent;
    message.attributes = vec![
        NeighbourAttribute::Destination(match neighbour.address {
            IpAddr::V4(v4) => NeighbourAddress::Inet(v4),
            IpAddr::V6(v6) => NeighbourAddress::Inet6(v6),
        }),
        NeighbourAttribute::LinkLayerAddress(neighbour.mac.0.to_vec()),
    ];
    message
}

fn rule_message(rule: &Rule) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = kernel_family(rule.family);
    message.header.action = RuleAction::ToTable;
    message.attributes = vec![RuleAttribute::Priority(rule.priority), RuleAttribute::Table(rule.table)];
    if let Some(from) = rule.from {
        message.header.src_len = from.prefix_len();
        message.attributes.push(RuleAttribute::Source(from.addr()));
    }
    message
}

fn route_message(route: &Route, index: u32) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = kernel_family(route.family());
    message.header.destination_prefix_length = route.destination.prefix_len();
    message.header.protocol = RouteProtocol::from(route.protocol);
    message.header.scope = match route.scope {
        Scope::Global => RouteScope::Universe,
        Scope::Link => RouteScope::Link,
        Scope::Host => RouteScope::Host,
        Scope::Other(number) => RouteScope::from(number),
    };
    message.header.kind = RouteType::Unicast;
    if route.onlink {
        message.header.flags = RouteFlags::Onlink;
    }
    message.attributes = vec![RouteAttribute::Table(route.table), RouteAttribute::Oif(index)];
    if !route.is_default() {
        message.attributes.push(RouteAttribute::Destination(route.destination.addr().into()));
    }
    message.attributes.extend(route.gateway.map(|gateway| match gateway {
        IpAddr::V6(v6) if route.family() == Family::V4 => RouteAttribute::Via(RouteVia::Inet6(v6)),
        gateway => RouteAttribute::Gateway(gateway.into()),
    }));
    message.attributes.extend(route.source.map(|source| RouteAttribute::PrefSource(source.into())));
    if route.metric > 0 {
        message.attributes.push(RouteAttribute::Priority(route.metric));
    }
    message.attributes.extend(route.mtu.map(|mtu| RouteAttribute::Metrics(vec![RouteMetric::Mtu(mtu)])));
    message
}

fn kernel_family(family: Family) -> AddressFamily {
    match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    }
}

/// Asks for all links, or one.
pub(super) fn get_link(index: Option<u32>) -> RouteNetlinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index.unwrap_or_default();
    message.attributes.push(LinkField::ExtMask(vec![LinkExtentMask::SkipStats]));
    RouteNetlinkMessage::GetLink(message)
}

/// Asks for the link of a name.
pub(super) fn get_link_named(name: &str) -> RouteNetlinkMessage {
    let mut message = LinkMessage::default();
    message.attributes = vec![LinkField::IfName(name.into()), LinkField::ExtMask(vec![LinkExtentMask::SkipStats])];
    RouteNetlinkMessage::GetLink(message)
}

/// Asks for all addresses.
pub(super) fn get_addresses() -> RouteNetlinkMessage {
    RouteNetlinkMessage::GetAddress(AddressMessage::default())
}

/// Asks for the routes of a family, of one table or all.
pub(super) fn get_routes(family: Family, table: Option<u32>) -> RouteNetlinkMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = kernel_family(family);
    message.attributes.extend(table.map(RouteAttribute::Table));
    RouteNetlinkMessage::GetRoute(message)
}

/// Asks which route the kernel takes to an address.
pub(super) fn route_get(towards: IpAddr) -> RouteNetlinkMessage {
    let family = Family::of(&towards);
    let mut message = RouteMessage::default();
    message.header.address_family = kernel_family(family);
    message.header.destination_prefix_length = family.bits();
    message.attributes.push(RouteAttribute::Destination(towards.into()));
    RouteNetlinkMessage::GetRoute(message)
}

/// Asks for the rules of a family.
pub(super) fn get_rules(family: Family) -> RouteNetlinkMessage {
    let mut message = RuleMessage::default();
    message.header.family = kernel_family(family);
    RouteNetlinkMessage::GetRule(message)
}

/// Asks for the neighbours on one link, or all.
pub(super) fn get_neighbours(index: Option<u32>) -> RouteNetlinkMessage {
    let mut message = NeighbourMessage::default();
    message.attributes.extend(index.map(NeighbourAttribute::IfIndex));
    RouteNetlinkMessage::GetNeighbour(message)
}
