//! An attachment, what it holds, and the sandbox it is in: values, as the journal's rows have them.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crate::plan::{Mac, Plan};
use crate::select::{Candidate, Terms};
use crate::world::{PodId, PoolName};

/// What CNI ADD and DEL name: the key of everything on a node. Ordered by sandbox.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attachment {
    /// The sandbox (CNI_CONTAINERID).
    pub container: Arc<str>,
    /// The interface inside it (CNI_IFNAME).
    pub interface: Arc<str>,
    /// Name of the CNI network.
    pub network: Arc<str>,
}

impl fmt::Display for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.container, self.interface, self.network)
    }
}

/// Which of the two CNI programs speaks; each has a part of its own in an attachment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Plugin {
    /// Addresses.
    Ipam,
    /// Routes and rules.
    Coordinator,
}

/// A network namespace, known by more than its path: a path can be reused, a cookie is never within a boot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Netns {
    /// The path that ADD named.
    pub path: String,
    /// Inode of the namespace file.
    pub inode: u64,
    /// The kernel's cookie (SO_NETNS_COOKIE); 0 where the kernel has none.
    pub cookie: u64,
}

impl Netns {
    /// Whether both are the same namespace, whatever path led there.
    pub fn is_same(&self, other: &Netns) -> bool {
        self.identity() == other.identity()
    }

    /// What the kernel tells it by: inode and cookie.
    pub fn identity(&self) -> (u64, u64) {
        (self.inode, self.cookie)
    }
}

/// An address given to an attachment, with what the answer said of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Allocation {
    /// The address.
    pub address: IpAddr,
    /// The pool it is leased under.
    pub pool: PoolName,
    /// Prefix, gateway and routes as they were answered.
    pub terms: Terms,
    /// It was in quarantine, and no probe has shown yet that it is free: not answered, and back there when let go.
    pub stranger: Option<Stranger>,
}

/// Somebody who was seen to use an address that is none of theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stranger {
    /// The Ethernet address.
    pub mac: Mac,
    /// Wall-clock time in seconds since 1970, for people.
    pub seen: u64,
}

impl Allocation {
    /// An address of a candidate.
    pub(super) fn of(candidate: &Candidate, address: IpAddr) -> Allocation {
        let (pool, terms) = (candidate.pool.clone(), candidate.terms.clone());
        Allocation { address, pool, terms, stranger: None }
    }
}

/// An attachment that holds addresses: the record that answers retries, CHECK and DEL.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Held {
    /// When the latest ADD started, in nanoseconds of the boot clock.
    pub started: u64,
    /// The Pod.
    pub pod: PodId,
    /// The namespace that the addresses were given into.
    pub netns: Netns,
    /// Wall-clock time of the allocation in seconds since 1970, for people.
    pub since: u64,
    /// The addresses, IPv4 first; never empty.
    pub allocations: Vec<Allocation>,
}

/// A sandbox with a plan of routes and rules.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Sandbox {
    /// Its network namespace.
    pub netns: Netns,
    /// The Pod.
    pub pod: PodId,
    /// Attachments with a part in the plan, and when their latest ADD started.
    pub parts: BTreeMap<Attachment, u64>,
    /// The plan.
    pub plan: Plan,
}
