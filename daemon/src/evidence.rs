//! What the kernel proves of sandboxes. Reads only; [`settle`] acts on it.
//!
//! A namespace is known by inode and cookie. That its path is gone, or leads elsewhere, proves nothing: a process may
//! still live in it, or another path lead to it. Linux 6.18 and newer finds a namespace by its identity, or says that
//! it is gone. On older kernels it counts as gone when no process and no mount of it is left; when something could not
//! be read, it counts as alive (Live means held).

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;

use spiderpool_core::node::attachment::Netns;

use crate::net::namespace::{self, Found};

pub(crate) mod adopt;
mod around;
pub(crate) mod quarantine;
pub(crate) mod settle;

use around::Around;

/// What is known of a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Nothing holds it any more.
    Gone,
    /// It is there, with these addresses on its links.
    Alive(BTreeSet<IpAddr>),
    /// It is there, or may be; what is in it could not be read.
    Unknown,
}

/// What is known of namespaces now.
pub(crate) enum Survey {
    /// The kernel tells of each one when asked.
    Exact,
    /// What was found by looking around.
    Around(Around),
}

impl Survey {
    /// Looks around where the kernel cannot simply be asked.
    pub(crate) fn take(proc: &Path) -> Survey {
        if namespace::can_find() { Survey::Exact } else { Survey::Around(Around::of(proc)) }
    }

    /// What is known of a namespace.
    pub(crate) fn look(&self, netns: &Netns) -> Seen {
        match self {
            Survey::Exact => match namespace::find(netns) {
                Ok(Found::Gone) => Seen::Gone,
                Ok(Found::Alive(found)) => found.addresses().map_or(Seen::Unknown, Seen::Alive),
                Err(_) => Seen::Unknown,
            },
            Survey::Around(around) => around.look(netns),
        }
    }

    /// Whether nothing holds a namespace any more. That costs little: what lives need not be entered.
    pub(crate) fn is_gone(&self, netns: &Netns) -> bool {
        match self {
            Survey::Exact => matches!(namespace::find(netns), Ok(Found::Gone)),
            Survey::Around(around) => around.is_gone(netns),
        }
    }
}
