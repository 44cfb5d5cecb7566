//! A plan grows by an interface, or shrinks by one.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use super::routing::{self, Uplink};
use super::{Attached, Mac, Object, Observation, Plan};
use crate::address::Family;
use crate::world::{Mode, RpFilter, Settings};

/// What one ADD brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inputs {
    /// The calling interface.
    pub interface: String,
    /// Its addresses with prefix lengths, from the CNI result of the plugins before. Others that the kernel shows
    /// are left alone.
    pub addresses: Vec<IpNet>,
    /// Settings, merged (see [`Settings::over`]).
    pub settings: Settings,
    /// Subnets of the default CNI's Pods.
    pub overlay_pod_cidr: Vec<IpNet>,
    /// Subnets of Services.
    pub service_cidr: Vec<IpNet>,
    /// Interfaces that later ADDs will bring to the Pod; none: not known.
    pub to_come: Option<BTreeSet<String>>,
}

/// A plan, and what its maker should hear about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extended {
    /// The plan.
    pub plan: Plan,
    /// What could not be done as asked, and was left as it is.
    pub warnings: Vec<Warning>,
}

/// Why no plan can be made. Each message says what to do instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The CNI result gives the interface no address, or link-local ones alone.
    #[error(
        "prevResult gives interface {0:?} no address that is not link-local; the plugin before must have an `ipam` section"
    )]
    NoAddress(String),
    /// The interface is not there.
    #[error(
        "the Pod has no interface {0:?}, though prevResult speaks of it; is the coordinator the last plugin of the list?"
    )]
    NoInterface(String),
    /// The interface is the default CNI's, or a `veth0` is there.
    #[error(
        "mode underlay is not supported yet ({0}); set `mode` to `overlay`, beside a default CNI whose interface is a veth"
    )]
    Underlay(String),
    /// Overlay was asked for where it cannot be.
    #[error("mode overlay cannot be: {0}; set `mode` to `auto`, or `podDefaultCniNic` to the default CNI's interface")]
    Overlay(String),
    /// The default CNI's interface has no other end on the node.
    #[error(
        "the Pod's interface {nic:?} is no veth to this node ({found}); overlay needs a default CNI that gives Pods a veth, or `podDefaultCniNic` naming it"
    )]
    NoUplink {
        /// The interface.
        nic: String,
        /// What was found instead.
        found: String,
    },
    /// The interface that shall have the default route is not there, and no later ADD brings it.
    #[error(
        "default route NIC {nic:?} is not in the Pod when {interface} is added, and nothing after it brings it; name one of: {there}"
    )]
    NoDefaultRouteNic {
        /// What was named.
        nic: String,
        /// The calling interface.
        interface: String,
        /// The Pod's interfaces.
        there: String,
    },
    /// A network to hijack is the whole address space.
    #[error("`{0}` as a network to reach by the default CNI would take every route; name smaller networks")]
    EveryNetwork(IpNet),
}

/// What could not be done as asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Warning {
    /// The node has no address of the family.
    #[error(
        "the node has no {family} address: no {family} routes to the node and the cluster's networks for {interface}"
    )]
    NoNodeAddress {
        /// The Pod's interface.
        interface: String,
        /// The family.
        family: Family,
    },
    /// The way to the node does not carry IPv6.
    #[error(
        "IPv6 is switched off on {link}: no IPv6 routes to the node and the cluster's networks for {interface}; \
         give the default CNI an IPv6 pool, or set `disable_ipv6` of {link} to 0"
    )]
    Ipv6Off {
        /// The link, in the Pod or on the node.
        link: String,
        /// The Pod's interface.
        interface: String,
    },
    /// The interface that shall have the default route is not there.
    #[error("default route NIC {0:?} is not in the Pod (yet): the default route stays where it is")]
    UnknownDefaultRouteNic(String),
    /// The interface that shall have the default route brought none.
    #[error("default route NIC {nic:?} has no {family} gateway: the {family} default route stays where it is")]
    NoGateway {
        /// The interface.
        nic: String,
        /// The family.
        family: Family,
    },
    /// Another route has the place.
    #[error("{wanted} is left out: the Pod already has {found}")]
    Occupied {
        /// What would have been wanted.
        wanted: Object,
        /// What is there.
        found: Object,
    },
}

/// The plan with an interface added, or planned anew if it was there.
///
/// # Errors
/// What is asked cannot be done; nothing was decided.
pub fn extend(before: &Plan, inputs: &Inputs, seen: &Observation) -> Result<Extended, Refused> {
    if inputs.settings.mode() == Mode::Disabled {
        return Ok(Extended { plan: before.clone(), warnings: Vec::new() });
    }
    let attached = attach(before, inputs, seen)?;
    let mut all: Vec<Attached> =
        before.attached.iter().filter(|earlier| seen.pod.link(&earlier.interface).is_some()).cloned().collect();
    match all.iter_mut().find(|earlier| earlier.interface == attached.interface) {
        Some(earlier) => *earlier = attached,
        None => all.push(attached),
    }
    check_default_route_nic(&all, inputs, seen)?;
    let uplinks = all
        .iter()
        .map(|attached| Uplink::find(&attached.default_cni_nic, seen))
        .collect::<Result<Vec<Uplink>, Refused>>()?;
    let originals = routing::originals(before, &inputs.interface, seen);
    Ok(routing::derive(all, &uplinks, originals, seen))
}

/// The plan without an interface. What only that one needed is wanted no more; what it moved away may come back.
pub fn withdraw(before: &Plan, interface: &str) -> Plan {
    let mut plan = before.clone();
    plan.attached.retain(|attached| attached.interface != interface);
    plan.want.retain(|(owner, _)| owner != interface);
    plan.absent.retain(|(owner, _)| owner != interface);
    plan
}

/// The record of the calling interface.
fn attach(before: &Plan, inputs: &Inputs, seen: &Observation) -> Result<Attached, Refused> {
    let Inputs { interface, addresses, settings, overlay_pod_cidr, service_cidr, to_come: _ } = inputs;
    let default_cni_nic = settings.default_cni_nic();
    check_mode(interface, settings.mode(), default_cni_nic, seen)?;
    if seen.pod.link(interface).is_none() {
        return Err(Refused::NoInterface(interface.clone()));
    }
    let addresses: Vec<IpNet> = addresses.iter().filter(|address| !is_link_local(address.addr())).copied().collect();
    if addresses.is_empty() {
        return Err(Refused::NoAddress(interface.clone()));
    }
    let mut destinations: Vec<IpNet> = Vec::new();
    for network in overlay_pod_cidr.iter().chain(service_cidr).chain(&settings.hijack_cidr).map(IpNet::trunc) {
        if network.prefix_len() == 0 {
            return Err(Refused::EveryNetwork(network));
        }
        if !destinations.contains(&network) {
            destinations.push(network);
        }
    }
    Ok(Attached {
        interface: interface.clone(),
        table: table_number(before, interface),
        mac: settings.pod_mac_prefix.and_then(|prefix| prefixed_mac(prefix, &addresses)),
        addresses,
        default_cni_nic: default_cni_nic.into(),
        default_route_nic: settings.pod_default_route_nic.clone().filter(|nic| !nic.is_empty()),
        tune_pod_routes: settings.tune_pod_routes(),
        destinations,
        host_rule_table: settings.host_rule_table(),
        rp_filter: settings.pod_rp_filter.unwrap_or(RpFilter::Off).value(),
        tx_queue_length: settings.tx_queue_length.filter(|length| *length > 0),
        policy_routes: settings.policy_routes.clone(),
    })
}

/// The default route NIC that counts is there, or may still come.
fn check_default_route_nic(all: &[Attached], inputs: &Inputs, seen: &Observation) -> Result<(), Refused> {
    let interface = &inputs.interface;
    let named = all.iter().rev().filter(|one| one.tune_pod_routes).find_map(|one| one.default_route_nic.as_ref());
    let Some(nic) = named.filter(|nic| seen.pod.link(nic).is_none()) else { return Ok(()) };
    // Runtimes number interfaces in the order of their ADDs: what net2 does not find of net1 never comes.
    let passed = matches!((number(nic), number(interface)), (Some(named), Some(own)) if named < own);
    if !passed && inputs.to_come.as_ref().is_none_or(|to_come| to_come.contains(nic)) {
        return Ok(());
    }
    let links = seen.pod.links.iter().filter(|link| !link.loopback).map(|link| link.name.as_str());
    let there = links.collect::<Vec<_>>().join(", ");
    Err(Refused::NoDefaultRouteNic { nic: nic.clone(), interface: interface.clone(), there })
}

/// N of netN.
fn number(interface: &str) -> Option<u32> {
    interface.strip_prefix("net").and_then(|number| number.parse().ok())
}

/// The link that a Pod has towards its node in underlay mode.
const UNDERLAY_VETH: &str = "veth0";

fn check_mode(interface: &str, mode: Mode, default_cni_nic: &str, seen: &Observation) -> Result<(), Refused> {
    let first = interface == default_cni_nic;
    let underlay = seen.pod.link(UNDERLAY_VETH).is_some();
    match mode {
        Mode::Underlay => Err(Refused::Underlay("it was asked for".into())),
        Mode::Auto if first => Err(Refused::Underlay(format!("{interface} is the Pod's first interface"))),
        Mode::Auto if underlay => Err(Refused::Underlay(format!("the Pod has a link {UNDERLAY_VETH}"))),
        Mode::Overlay if first => Err(Refused::Overlay(format!("{interface} is the default CNI's interface"))),
        Mode::Overlay if underlay => Err(Refused::Overlay(format!("the Pod has a link {UNDERLAY_VETH}"))),
        Mode::Auto | Mode::Overlay | Mode::Disabled => Ok(()),
    }
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

/// The table of an interface: the one it has, else 100+N for netN, else the next free number.
fn table_number(before: &Plan, interface: &str) -> u32 {
    /// The kernel's own tables: default, main, local.
    const RESERVED: std::ops::RangeInclusive<u32> = 253..=255;
    if let Some(attached) = before.attached(interface) {
        return attached.table;
    }
    let free =
        |table: &u32| !RESERVED.contains(table) && before.attached.iter().all(|attached| attached.table != *table);
    number(interface)
        .filter(|number| (1..1000).contains(number))
        .map(|number| super::DEFAULT_CNI_TABLE + number)
        .filter(free)
        .unwrap_or_else(|| (super::DEFAULT_CNI_TABLE + 1..).find(free).unwrap_or(super::DEFAULT_CNI_TABLE + 1))
}

/// Two given bytes, then the first IPv4 address, or the last four bytes of the first IPv6 address.
fn prefixed_mac(prefix: [u8; 2], addresses: &[IpNet]) -> Option<Mac> {
    let first = addresses.iter().find(|address| Family::of_net(address) == Family::V4).or(addresses.first())?;
    let [a, b, c, d] = match first.addr() {
        IpAddr::V4(v4) => v4.octets(),
        IpAddr::V6(v6) => v6.to_bits().to_be_bytes().last_chunk::<4>().copied()?,
    };
    Some(Mac([prefix[0], prefix[1], a, b, c, d]))
}
