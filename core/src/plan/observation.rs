//! What was seen of the kernel: the Pod's namespace and the host's, and what of it decides.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::{Inputs, Link, LinkAttribute, Mac, Neighbour, Object, Plan, Route, Rule, Side, Sysctl};
use crate::address::Family;

/// Both namespaces, and what other sandboxes want of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observation {
    /// The sandbox's namespace: everything in it.
    pub pod: Seen,
    /// The host's namespace: what [`Ask`] asked for.
    pub host: Seen,
    /// The sources that the host prefers towards the Pod's addresses, in the order of those.
    pub preferred_sources: Vec<IpAddr>,
    /// Host objects that recorded plans of other sandboxes want: never removed on behalf of this one.
    pub elsewhere: BTreeSet<Object>,
    /// The host's tables, of those asked for, with routes to others than the attachments' addresses: whoever made them,
    /// the rules that look there have work to do.
    pub in_use: BTreeSet<(Family, u32)>,
}

/// One namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Links.
    pub links: Vec<SeenLink>,
    /// Addresses.
    pub addresses: Vec<SeenAddress>,
    /// Unicast routes outside the table `local`, in the kernel's order; one for each next hop.
    pub routes: Vec<Route>,
    /// Rules that do nothing but look up a table for a source.
    pub rules: Vec<Rule>,
    /// Permanent neighbours.
    pub neighbours: Vec<Neighbour>,
    /// Kernel settings asked for, by key; one that does not exist is missing.
    pub sysctls: BTreeMap<String, String>,
}

/// A link as seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeenLink {
    /// Interface index.
    pub index: u32,
    /// Name.
    pub name: String,
    /// Kind (`veth`, `macvlan`, …); empty for hardware and loopback.
    pub kind: String,
    /// Ethernet address, if it has one.
    pub mac: Option<Mac>,
    /// Administratively up.
    pub up: bool,
    /// A loopback link.
    pub loopback: bool,
    /// MTU in bytes.
    pub mtu: u32,
    /// Index of the veth's other end (or a macvlan's parent), counted in that one's namespace.
    pub peer: Option<u32>,
    /// Packets in the transmit queue.
    pub tx_queue_length: u32,
    /// IPv6 is switched off on it (`disable_ipv6`): the kernel takes no IPv6 route by it.
    pub ipv6_off: bool,
}

/// An address as seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenAddress {
    /// The link's name.
    pub device: String,
    /// Address and prefix length.
    pub address: IpNet,
    /// Of global scope.
    pub global: bool,
    /// Configured, not learnt from a router.
    pub permanent: bool,
}

/// What to look at on the host and below `/proc/sys`; the Pod's namespace is small and seen in full.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ask {
    /// The Pod's link whose other end, with its neighbours, is to be seen on the host.
    pub towards_host: String,
    /// Host tables.
    pub host_tables: BTreeSet<u32>,
    /// Host links whose permanent neighbours are to be seen, beside the other end and those that routes of the
    /// host tables to `addresses` name.
    pub host_devices: BTreeSet<String>,
    /// The attachments' addresses.
    pub addresses: BTreeSet<IpAddr>,
    /// Kernel settings of the Pod, by key.
    pub sysctls: BTreeSet<String>,
}

impl Ask {
    /// What [`super::changes`] needs for a recorded plan.
    pub fn of_plan(plan: &Plan) -> Ask {
        let mut ask = Ask::default();
        for attached in &plan.attached {
            ask.towards_host.clone_from(&attached.default_cni_nic);
            ask.host_tables.insert(attached.host_rule_table);
            ask.addresses.extend(attached.addresses.iter().map(IpNet::addr));
        }
        for (_, object) in &plan.want {
            match object {
                Object::Sysctl(sysctl) => {
                    ask.sysctls.insert(sysctl.key.clone());
                }
                Object::Neighbour(neighbour) if neighbour.side == Side::Host => {
                    ask.host_devices.insert(neighbour.device.clone());
                }
                _ => {}
            }
        }
        ask
    }

    /// What [`super::extend`] and the changes after it need.
    pub fn of_inputs(before: &Plan, inputs: &Inputs) -> Ask {
        let mut ask = Ask::of_plan(before);
        ask.towards_host = inputs.settings.default_cni_nic().into();
        ask.host_tables.insert(inputs.settings.host_rule_table());
        ask.addresses.extend(inputs.addresses.iter().map(IpNet::addr));
        ask.sysctls.extend(rp_filter_keys(&inputs.interface));
        if inputs.addresses.iter().any(|address| Family::of_net(address) == Family::V6) {
            ask.sysctls.insert(disable_ipv6_key(&inputs.interface));
        }
        ask
    }
}

/// The settings that decide on reverse path filtering of an interface: the kernel takes the greater of both
/// (`Documentation/networking/ip-sysctl.rst`).
pub(super) fn rp_filter_keys(interface: &str) -> [String; 2] {
    ["all", interface].map(|name| format!("net/ipv4/conf/{name}/rp_filter"))
}

/// The setting that switches IPv6 off on an interface (`Documentation/networking/ip-sysctl.rst`).
pub(super) fn disable_ipv6_key(interface: &str) -> String {
    format!("net/ipv6/conf/{interface}/disable_ipv6")
}

impl Observation {
    /// The namespace of a side.
    pub fn side(&self, side: Side) -> &Seen {
        match side {
            Side::Host => &self.host,
            Side::Pod => &self.pod,
        }
    }

    /// Whether others need a host object too: by their plans, or, a rule, by routes in its table.
    pub(super) fn is_shared(&self, object: &Object) -> bool {
        let in_use = |rule: &Rule| self.in_use.contains(&(rule.family, rule.table));
        object.side() == Side::Host
            && (self.elsewhere.contains(object) || matches!(object, Object::Rule(rule) if in_use(rule)))
    }

    /// The node's addresses of a family: first the host's preferred sources towards the Pod, then the global
    /// addresses of host links that are up and belong neither to the loopback nor to the cluster's own network.
    pub fn node_addresses(&self, family: Family) -> Vec<IpAddr> {
        let of_links = self.host.addresses.iter().filter(|seen| {
            seen.global && self.host.link(&seen.device).is_some_and(|link| link.up && link.is_nodes_own())
        });
        let mut addresses = Vec::new();
        let all = self.preferred_sources.iter().copied().chain(of_links.map(|seen| seen.address.addr()));
        for address in all.filter(|address| Family::of(address) == family && is_routable(address)) {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        addresses
    }
}

fn is_routable(address: &IpAddr) -> bool {
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !(link_local || address.is_multicast() || address.is_loopback() || address.is_unspecified())
}

impl SeenLink {
    /// Whether its addresses are the node's, and not of bridges, tunnels and veths of container networks.
    fn is_nodes_own(&self) -> bool {
        const FOREIGN_NAMES: [&str; 12] = [
            "docker",
            "cbr",
            "dummy",
            "virbr",
            "lxcbr",
            "veth",
            "cali",
            "flannel",
            "kube-ipvs",
            "cni",
            "vx-submariner",
            "cilium_",
        ];
        const TUNNELS: [&str; 8] = ["vxlan", "geneve", "ipip", "sit", "ip6tnl", "gre", "ip6gre", "wireguard"];
        !self.loopback
            && !FOREIGN_NAMES.iter().any(|prefix| self.name.starts_with(prefix))
            && !TUNNELS.contains(&self.kind.as_str())
    }
}

impl Seen {
    /// The link of a name.
    pub fn link(&self, name: &str) -> Option<&SeenLink> {
        self.links.iter().find(|link| link.name == name)
    }

    /// Whether the kernel learnt the route from a Router Advertisement (RFC 4861, section 4.2): the default route by the
    /// router, or the subnet of an address that it made up itself (SLAAC). Such routes come and go with the router.
    pub(super) fn is_learnt(&self, route: &Route) -> bool {
        let own_subnet = || {
            let mut own = self.addresses.iter().filter(|seen| seen.permanent && seen.device == route.device);
            own.any(|seen| route.destination.contains(&seen.address.addr()))
        };
        let by_kernel = route.protocol == Route::PROTOCOL_KERNEL && route.family() == Family::V6;
        route.protocol == Route::PROTOCOL_ADVERTISEMENT || by_kernel && !own_subnet()
    }

    /// The addresses of a plan's interfaces that are not on them, as CHECK names them.
    pub fn missing_addresses(&self, plan: &Plan) -> Vec<String> {
        let there = |interface: &str, address: &IpNet| {
            self.addresses.iter().any(|seen| seen.device == interface && seen.address == *address)
        };
        let planned =
            plan.attached.iter().flat_map(|one| one.addresses.iter().map(|address| (&one.interface, address)));
        planned
            .filter(|(interface, address)| !there(interface, address))
            .map(|(interface, address)| format!("missing: pod address {address} dev {interface}"))
            .collect()
    }

    /// The object that stands where the given one belongs, whatever its value; for a route, one that does the same.
    pub fn counterpart(&self, object: &Object) -> Option<Object> {
        match object {
            Object::Sysctl(sysctl) => {
                let value = self.sysctls.get(&sysctl.key)?.clone();
                Some(Sysctl { value, ..sysctl.clone() }.into())
            }
            Object::Link(link) => {
                let seen = self.link(&link.device)?;
                let attribute = match link.attribute {
                    LinkAttribute::Up(_) => LinkAttribute::Up(seen.up),
                    LinkAttribute::TxQueueLength(_) => LinkAttribute::TxQueueLength(seen.tx_queue_length),
                    LinkAttribute::Mac(_) => LinkAttribute::Mac(seen.mac?),
                };
                Some(Link { attribute, ..link.clone() }.into())
            }
            Object::Neighbour(neighbour) => {
                let at = |seen: &&Neighbour| (&seen.device, seen.address) == (&neighbour.device, neighbour.address);
                self.neighbours.iter().find(at).cloned().map(Object::from)
            }
            Object::Rule(rule) => self.rules.iter().find(|seen| *seen == rule).cloned().map(Object::from),
            Object::Route(route) => self.routes.iter().find(|seen| seen.same(route)).cloned().map(Object::from),
        }
    }
}
