//! What the attachments of a sandbox need, derived from all of them at once.
//!
//! Per family: links with a default route in `main` (before any plan) are *holders*. One of them, the *keeper*, keeps
//! it: the wanted default route NIC if it is a holder, else the default CNI's. The default routes of the others move
//! to tables of their own, with a rule for their addresses.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use super::object::default_metric;
use super::observation::{disable_ipv6_key, rp_filter_keys};
use super::{
    Attached, DEFAULT_CNI_TABLE, Extended, Link, LinkAttribute, MAIN, Mac, Neighbour, Object, Observation, Plan,
    Refused, Route, Rule, Scope, SeenLink, Side, Sysctl, Warning,
};
use crate::address::Family;

/// Priority of the host's rule for its table of Pods.
const HOST_RULE_PRIORITY: u32 = 1000;

/// Priority of the rule for the default CNI's addresses in the Pod.
const DEFAULT_CNI_PRIORITY: u32 = 32762;

/// Rule priority and table number of an interface add up to this: table 101 has priority 32760, 102 has 32759.
const PRIORITY_AND_TABLE: u32 = 32861;

/// The veth between Pod and node: both ends.
#[derive(Clone, Debug)]
pub(super) struct Uplink {
    pod: (String, Mac),
    host: (String, Mac),
    /// Its end, if there is one, on which IPv6 is switched off.
    ipv6_off: Option<String>,
}

impl Uplink {
    /// The veth whose inner end has the name.
    pub(super) fn find(nic: &str, seen: &Observation) -> Result<Uplink, Refused> {
        let refused = |found: String| Refused::NoUplink { nic: nic.into(), found };
        let inner = seen.pod.link(nic).ok_or_else(|| refused("there is no such interface".into()))?;
        if inner.kind != "veth" {
            let kind = if inner.kind.is_empty() { "of no kind" } else { &inner.kind };
            return Err(refused(format!("it is {kind}")));
        }
        let is_other_end = |outer: &&SeenLink| {
            Some(outer.index) == inner.peer && outer.kind == "veth" && outer.peer == Some(inner.index)
        };
        let outer = seen.host.links.iter().find(is_other_end);
        let outer = outer.ok_or_else(|| refused("its other end is not in the node's namespace".into()))?;
        match (inner.mac, outer.mac) {
            (Some(inner_mac), Some(outer_mac)) => {
                let ipv6_off = [inner, outer].into_iter().find(|link| link.ipv6_off).map(|link| link.name.clone());
                Ok(Uplink { pod: (inner.name.clone(), inner_mac), host: (outer.name.clone(), outer_mac), ipv6_off })
            }
            _ => Err(refused("it has no MAC address".into())),
        }
    }

    /// The end that cannot carry a family.
    fn without(&self, family: Family) -> Option<&str> {
        self.ipv6_off.as_deref().filter(|_| family == Family::V6)
    }
}

/// The Pod's main table as it was before any plan, as far as it can be known: what is there without what was added,
/// with what was moved away. What the kernel learnt from a router is none of it: a plan must not depend on when the
/// last advertisement came.
pub(super) fn originals(before: &Plan, calling: &str, seen: &Observation) -> Vec<Route> {
    let wanted = before.wanted();
    let mut routes: Vec<Route> = Vec::new();
    let given =
        |route: &&Route| route.table == MAIN && !is_link_local(&route.destination) && !seen.pod.is_learnt(route);
    for route in seen.pod.routes.iter().filter(given) {
        let object = Object::from(route.clone());
        if !wanted.iter().any(|wanted| wanted.same(&object)) && !routes.iter().any(|known| known.same(route)) {
            routes.push(route.clone());
        }
    }
    // An interface that was made anew brings its default routes again: those count, the recorded ones are old.
    let renewed: BTreeSet<Family> =
        routes.iter().filter(|route| route.is_default() && route.device == calling).map(Route::family).collect();
    for object in before.unwanted() {
        let Object::Route(route) = object else { continue };
        let outdated = route.device == calling && renewed.contains(&route.family());
        let known = routes.iter().any(|known| known.same(route));
        if !outdated && !known && seen.pod.link(&route.device).is_some() {
            routes.push(route.clone());
        }
    }
    routes
}

/// The plan for all attachments, each with its uplink.
pub(super) fn derive(
    attached: Vec<Attached>,
    uplinks: &[Uplink],
    originals: Vec<Route>,
    seen: &Observation,
) -> Extended {
    let mut draft = Draft { originals, seen, plan: Plan::default(), warnings: Vec::new() };
    for family in [Family::V4, Family::V6] {
        draft.tune(family, &attached);
    }
    let common_rp_filter = attached.iter().filter_map(|one| one.rp_filter).min();
    for (one, uplink) in attached.iter().zip(uplinks) {
        draft.attributes(one, common_rp_filter);
        for family in one.families() {
            match uplink.without(family) {
                Some(link) => {
                    draft.warn(Warning::Ipv6Off { link: link.into(), interface: one.interface.clone() });
                }
                None => {
                    draft.host_side(one, uplink, family);
                    draft.pod_side(one, uplink, family);
                }
            }
        }
        draft.policy_routes(one);
    }
    draft.plan.attached = attached;
    Extended { plan: draft.plan, warnings: draft.warnings }
}

struct Draft<'a> {
    originals: Vec<Route>,
    seen: &'a Observation,
    plan: Plan,
    warnings: Vec<Warning>,
}

impl Draft<'_> {
    fn want(&mut self, interface: &str, object: impl Into<Object>) {
        self.plan.want.insert((interface.into(), object.into()));
    }

    fn absent(&mut self, interface: &str, object: impl Into<Object>) {
        self.plan.absent.insert((interface.into(), object.into()));
    }

    fn warn(&mut self, warning: Warning) {
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    /// Wants a route unless another one has its place: what a Pod was given stays.
    fn want_route(&mut self, interface: &str, route: Route) {
        let planned = self.plan.want.iter().filter_map(|(_, object)| match object {
            Object::Route(planned) => Some(planned),
            _ => None,
        });
        let rival = self.originals.iter().chain(planned).find(|other| other.competes(&route) && !other.same(&route));
        match rival.cloned() {
            Some(found) => self.warn(Warning::Occupied { wanted: route.into(), found: found.into() }),
            None => self.want(interface, route),
        }
    }

    /// Link attributes and kernel settings of the interface. The kernel filters by the greater of an interface's value
    /// and the one for all, so the one for all is the smallest that was asked for: each interface gets its own.
    fn attributes(&mut self, attached: &Attached, common_rp_filter: Option<u8>) {
        let interface = attached.interface.as_str();
        let attributes = [
            Some(LinkAttribute::Up(true)),
            attached.tx_queue_length.map(LinkAttribute::TxQueueLength),
            attached.mac.map(LinkAttribute::Mac),
        ];
        for attribute in attributes.into_iter().flatten() {
            self.want(interface, Link { side: Side::Pod, device: interface.into(), attribute });
        }
        if let (Some(own), Some(common)) = (attached.rp_filter, common_rp_filter) {
            for (key, value) in rp_filter_keys(interface).into_iter().zip([common, own]) {
                self.want(interface, Sysctl { side: Side::Pod, key, value: value.to_string() });
            }
        }
        if attached.has(Family::V6) {
            let key = disable_ipv6_key(interface);
            self.want(interface, Sysctl { side: Side::Pod, key, value: "0".into() });
        }
    }

    /// How the host reaches the interface's addresses: by the veth, since a macvlan and its parent cannot talk.
    fn host_side(&mut self, attached: &Attached, uplink: &Uplink, family: Family) {
        let (device, _) = &uplink.host;
        let table = attached.host_rule_table;
        for address in attached.addresses_of(family) {
            self.want(
                &attached.interface,
                Neighbour { side: Side::Host, device: device.clone(), address, mac: uplink.pod.1 },
            );
            self.want(&attached.interface, on_link(Side::Host, table, address, device));
        }
        let rule = Rule { side: Side::Host, family, priority: HOST_RULE_PRIORITY, from: None, table };
        self.want(&attached.interface, rule);
    }

    /// How the Pod reaches the node and the cluster's networks: by the default CNI, from every table.
    fn pod_side(&mut self, attached: &Attached, uplink: &Uplink, family: Family) {
        let interface = attached.interface.as_str();
        let nodes = self.seen.node_addresses(family);
        let Some(&gateway) = nodes.first() else {
            self.warn(Warning::NoNodeAddress { interface: interface.into(), family });
            return;
        };
        let (device, _) = &uplink.pod;
        for &address in &nodes {
            let mac = uplink.host.1;
            self.want(interface, Neighbour { side: Side::Pod, device: device.clone(), address, mac });
            for table in [MAIN, attached.table] {
                self.want_route(interface, on_link(Side::Pod, table, address, device));
            }
        }
        for &destination in attached.destinations.iter().filter(|network| Family::of_net(network) == family) {
            for table in [MAIN, attached.table] {
                self.want_route(interface, by_gateway(table, destination, gateway, device));
            }
        }
    }

    /// Default routes and source rules of one family.
    fn tune(&mut self, family: Family, attached: &[Attached]) {
        let tuned: Vec<&Attached> = attached.iter().filter(|one| one.tune_pod_routes && one.has(family)).collect();
        let holders = self.holders(family);
        let base = holders.iter().find(|holder| attached.iter().all(|one| one.interface != **holder)).cloned();
        let usual = base.clone().or_else(|| {
            attached.iter().map(|one| &one.interface).find(|interface| holders.contains(interface)).cloned()
        });
        let Some(usual) = usual.filter(|_| !tuned.is_empty()) else { return };
        let keeper = self.wanted_keeper(family, &tuned, &holders).unwrap_or(usual);
        for one in tuned.iter().filter(|one| one.interface != keeper) {
            let priority = PRIORITY_AND_TABLE.saturating_sub(one.table);
            self.look_up(&one.interface, priority, one.addresses_of(family), one.table);
            self.move_routes(&one.interface, &one.interface, family, one.table);
        }
        let Some(base) = base else { return };
        let addresses = self.base_addresses(&base, family);
        if let Some(one) = attached.iter().find(|one| one.interface == keeper) {
            self.look_up(&one.interface, DEFAULT_CNI_PRIORITY, addresses, one.table);
            self.move_routes(&one.interface, &base, family, one.table);
            return;
        }
        for one in &tuned {
            self.look_up(&one.interface, DEFAULT_CNI_PRIORITY, addresses.clone(), DEFAULT_CNI_TABLE);
            for route in self.originals_of(&base, family).into_iter().filter(Route::is_default) {
                self.want(&one.interface, route.in_table(DEFAULT_CNI_TABLE));
                if keeper != base {
                    self.absent(&one.interface, route);
                }
            }
        }
    }

    /// Links with a default route in `main`, by index.
    fn holders(&self, family: Family) -> Vec<String> {
        let mut links: Vec<&SeenLink> = self.seen.pod.links.iter().filter(|link| !link.loopback).collect();
        links.sort_by_key(|link| link.index);
        let holds = |link: &&SeenLink| {
            self.originals
                .iter()
                .any(|route| route.is_default() && route.family() == family && route.device == link.name)
        };
        links.into_iter().filter(holds).map(|link| link.name.clone()).collect()
    }

    /// The default route NIC that the last interface to name one wants, if it holds a default route.
    fn wanted_keeper(&mut self, family: Family, tuned: &[&Attached], holders: &[String]) -> Option<String> {
        for nic in tuned.iter().rev().filter_map(|one| one.default_route_nic.as_ref()) {
            if holders.contains(nic) {
                return Some(nic.clone());
            }
            if self.seen.pod.link(nic).is_none() {
                self.warn(Warning::UnknownDefaultRouteNic(nic.clone()));
            } else if tuned.iter().any(|one| one.interface == *nic) {
                self.warn(Warning::NoGateway { nic: nic.clone(), family });
            }
        }
        None
    }

    /// Rules that send traffic from the addresses to a table.
    fn look_up(&mut self, interface: &str, priority: u32, addresses: Vec<IpAddr>, table: u32) {
        for address in addresses {
            let (family, from) = (Family::of(&address), Some(IpNet::from(address)));
            self.want(interface, Rule { side: Side::Pod, family, priority, from, table });
        }
    }

    /// A link's routes stand in a table too; its default routes leave `main`.
    fn move_routes(&mut self, interface: &str, device: &str, family: Family, table: u32) {
        for route in self.originals_of(device, family) {
            self.want(interface, route.in_table(table));
            if route.is_default() {
                self.absent(interface, route);
            }
        }
    }

    fn originals_of(&self, device: &str, family: Family) -> Vec<Route> {
        self.originals.iter().filter(|route| route.device == device && route.family() == family).cloned().collect()
    }

    /// Addresses of an interface that no CNI result of ours speaks of: those configured, not learnt.
    fn base_addresses(&self, device: &str, family: Family) -> Vec<IpAddr> {
        let seen = self.seen.pod.addresses.iter();
        seen.filter(|seen| seen.device == device && seen.global && seen.permanent)
            .map(|seen| seen.address.addr())
            .filter(|address| Family::of(address) == family)
            .collect()
    }

    /// Routes by gateways in the interface's own subnets, where that interface's traffic looks.
    fn policy_routes(&mut self, attached: &Attached) {
        for route in &attached.policy_routes {
            if !attached.addresses.iter().any(|address| address.contains(&route.gateway)) {
                continue;
            }
            let looks = |(owner, object): &(String, Object)| {
                *owner == attached.interface
                    && matches!(object, Object::Rule(rule) if rule.table == attached.table
                        && rule.family == Family::of(&route.gateway)
                        && rule.from.is_some_and(|from| attached.addresses.iter().any(|own| own.addr() == from.addr())))
            };
            let table = if self.plan.want.iter().any(looks) { attached.table } else { MAIN };
            self.want_route(
                &attached.interface,
                by_gateway(table, route.destination, route.gateway, &attached.interface),
            );
        }
    }
}

impl Attached {
    fn addresses_of(&self, family: Family) -> Vec<IpAddr> {
        self.addresses.iter().map(IpNet::addr).filter(|address| Family::of(address) == family).collect()
    }

    fn has(&self, family: Family) -> bool {
        self.families().any(|own| own == family)
    }

    fn families(&self) -> impl Iterator<Item = Family> + '_ {
        let has = |family| self.addresses.iter().any(|address| Family::of_net(address) == family);
        [Family::V4, Family::V6].into_iter().filter(move |family| has(*family))
    }
}

/// `<address> dev <device> scope link`.
fn on_link(side: Side, table: u32, address: IpAddr, device: &str) -> Route {
    let family = Family::of(&address);
    let scope = if family == Family::V4 { Scope::Link } else { Scope::Global };
    plain(side, table, IpNet::from(address), None, device, scope)
}

/// `<destination> via <gateway> dev <device>` in the Pod.
fn by_gateway(table: u32, destination: IpNet, gateway: IpAddr, device: &str) -> Route {
    plain(Side::Pod, table, destination, Some(gateway), device, Scope::Global)
}

fn plain(side: Side, table: u32, destination: IpNet, gateway: Option<IpAddr>, device: &str, scope: Scope) -> Route {
    Route {
        side,
        table,
        destination,
        gateway,
        device: device.into(),
        source: None,
        scope,
        metric: default_metric(Family::of_net(&destination)),
        onlink: false,
        mtu: None,
        protocol: Route::PROTOCOL_BOOT,
    }
}

/// Link-local networks belong to their links: they are never moved or copied.
fn is_link_local(network: &IpNet) -> bool {
    match network {
        IpNet::V4(_) => false,
        IpNet::V6(v6) => v6.addr().is_unicast_link_local() || v6.addr().is_multicast(),
    }
}
