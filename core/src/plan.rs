//! The kernel objects that a sandbox's attachments need, on both sides, and how to get there.
//!
//! A [`Plan`] is recorded for each sandbox. [`extend`] makes it from the attachments' inputs and an observation of
//! the kernel; it is a function of *all* attachments and of the routes that were there before the first of them, so
//! a later interface replaces what an earlier one chose and never stacks on it, and a repeated call yields the same
//! plan. [`withdraw`] needs the record alone. [`changes`] holds plans against an observation: what ADD and DEL apply
//! in order, what CHECK reports, and, by [`undo`], what a failed ADD takes back.
//!
//! Both families are handled alike and apart from each other.

mod change;
mod extend;
mod object;
mod observation;
mod routing;
mod settings;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

pub use change::{Change, Place, changes, undo};
pub use extend::{Extended, Inputs, Refused, Warning, extend, withdraw};
pub use object::{Link, LinkAttribute, Mac, Neighbour, NotAMac, Object, Route, Rule, Scope, Side, Sysctl};
pub use observation::{Ask, Observation, Seen, SeenAddress, SeenLink};

use crate::world;

/// The main routing table.
pub const MAIN: u32 = 254;

/// The table for traffic that must leave by the default CNI's interface.
pub const DEFAULT_CNI_TABLE: u32 = 100;

/// What the attachments of one sandbox need of the kernel. Empty: nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Plan {
    /// The interfaces planned for, in the order of their ADD.
    pub attached: Vec<Attached>,
    /// Objects that must be there, each with an interface that needs it; an object that several interfaces need
    /// stands here once for each.
    pub want: BTreeSet<(String, Object)>,
    /// Objects that were there and had to go, each with the interface that moved it away.
    pub absent: BTreeSet<(String, Object)>,
}

/// One interface of a plan: the inputs of its ADD with all defaults applied.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Attached {
    /// The interface's name in the Pod.
    pub interface: String,
    /// Its own routing table: netN has 100+N, another name the next free number from 101 on.
    pub table: u32,
    /// Its addresses with the prefix length of their subnet, as the CNI result gave them.
    pub addresses: Vec<IpNet>,
    /// The Pod's interface towards the node.
    pub default_cni_nic: String,
    /// Which interface shall have the Pod's default route; none: the one that has it.
    pub default_route_nic: Option<String>,
    /// Whether default routes are moved and rules set.
    pub tune_pod_routes: bool,
    /// Networks to reach by the default CNI: Pods, Services, hijacked ones, in that order.
    pub destinations: Vec<IpNet>,
    /// The host's table of routes to Pods.
    pub host_rule_table: u32,
    /// `rp_filter` in the Pod; none: left alone.
    pub rp_filter: Option<u8>,
    /// Transmit queue length of the interface; none: left alone.
    pub tx_queue_length: Option<u32>,
    /// The MAC address that the interface shall have; none: left alone.
    pub mac: Option<Mac>,
    /// Further routes by this interface, for gateways in its own subnets.
    pub policy_routes: Vec<world::Route>,
}

impl Plan {
    /// Whether nothing is planned.
    pub fn is_empty(&self) -> bool {
        self.attached.is_empty() && self.want.is_empty() && self.absent.is_empty()
    }

    /// The record of an interface.
    pub fn attached(&self, interface: &str) -> Option<&Attached> {
        self.attached.iter().find(|attached| attached.interface == interface)
    }

    /// The objects that must be there, each once.
    pub fn wanted(&self) -> BTreeSet<&Object> {
        self.want.iter().map(|(_, object)| object).collect()
    }

    /// The objects that must not be there, each once.
    pub fn unwanted(&self) -> BTreeSet<&Object> {
        self.absent.iter().map(|(_, object)| object).collect()
    }

    /// The wanted objects in the host's namespace, each once. Plans of other sandboxes may want the same.
    pub fn host_objects(&self) -> BTreeSet<&Object> {
        self.wanted().into_iter().filter(|object| object.side() == Side::Host).collect()
    }

    /// The addresses of an attached interface.
    pub fn addresses(&self, interface: &str) -> impl Iterator<Item = IpAddr> + '_ {
        self.attached(interface).into_iter().flat_map(|attached| attached.addresses.iter().map(IpNet::addr))
    }
}

impl fmt::Display for Plan {
    /// One object a line with the interfaces that need it; sorted, in the manner of the `ip` command.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (word, objects) in [("", &self.want), ("no ", &self.absent)] {
            let mut owners: BTreeMap<&Object, Vec<&str>> = BTreeMap::new();
            for (interface, object) in objects {
                owners.entry(object).or_default().push(interface);
            }
            for (object, interfaces) in owners {
                writeln!(f, "{word}{object} [{}]", interfaces.join(" "))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
