//! The kernel's side of the coordinator: what is there, what changes, who hears of it.
//!
//! [`Sandbox::open`] enters a Pod's namespace once, on a thread that ends, and comes back with a netlink socket and
//! kernel settings that were opened inside; everything after works on those from outside. [`observe`] is a few dumps,
//! [`apply`] one burst of requests a namespace and kind of step. Everything here blocks for as long as the kernel takes
//! and no longer than [`PATIENCE`] an answer: call it from `spawn_blocking`.

mod announce;
mod answer;
mod apply;
mod frame;
pub(crate) mod namespace;
mod netlink;
mod observe;
mod probe;
mod request;
mod sysctl;
mod wire;

use std::io;
use std::path::Path;
use std::time::Duration;

use namespace::{Namespace, own_cookie};
use netlink_packet_core::DecodeError;
use spiderpool_core::node::attachment::Netns;
use spiderpool_core::plan::Ask;
use sysctl::Sysctls;

pub(crate) use announce::announce;
pub(crate) use apply::{Failure, Outcome, apply, apply_all};
pub(crate) use netlink::Connection;
pub(crate) use observe::observe;
pub(crate) use probe::{Findings, Place, Question, probe};

/// How long one request to the kernel may stay unanswered.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why something could not be seen or done in the kernel.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NetError {
    /// The path leads nowhere: the namespace is gone, or was never there.
    #[error("network namespace {0} does not exist")]
    NoNamespace(String),
    /// The path leads to something else.
    #[error("{0} is no network namespace")]
    NotANamespace(String),
    /// The path leads to the namespace that the daemon itself is in.
    #[error("network namespace {0} is the node's own; a sandbox has its own")]
    OwnNamespace(String),
    /// The kernel refused.
    #[error("{what}: {source}")]
    Kernel {
        /// What was tried.
        what: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The kernel said what cannot be understood.
    #[error("netlink answer not understood: {0}")]
    Garbled(#[from] DecodeError),
}

impl NetError {
    fn kernel(what: impl Into<String>) -> impl FnOnce(io::Error) -> NetError {
        let what = what.into();
        |source| NetError::Kernel { what, source }
    }

    /// Whether it says that there is no such sandbox (any more).
    pub(crate) fn is_gone(&self) -> bool {
        matches!(self, NetError::NoNamespace(_) | NetError::NotANamespace(_))
    }
}

/// A sandbox's network namespace, and a way to talk to it.
#[derive(Debug)]
pub(crate) struct Sandbox {
    namespace: Namespace,
    netlink: Connection,
    sysctls: Sysctls,
    cookie: u64,
}

impl Sandbox {
    /// The namespace at a path, with those kernel settings open that `ask` names. `proc` is where procfs is mounted.
    ///
    /// # Errors
    /// [`NetError::is_gone`] when there is none; the node's own namespace is refused.
    pub(crate) fn open(path: &Path, proc: &Path, ask: &Ask) -> Result<Sandbox, NetError> {
        let namespace = Namespace::open(path)?;
        let (proc, keys) = (proc.to_owned(), ask.sysctls.clone());
        let inside = move || -> Result<(u64, Connection, Sysctls), NetError> {
            Ok((own_cookie()?, Connection::open()?, Sysctls::open(&proc, &keys)?))
        };
        let (cookie, netlink, sysctls) = namespace.enter(inside)??;
        if cookie == own_cookie()? {
            return Err(NetError::OwnNamespace(path.display().to_string()));
        }
        Ok(Sandbox { namespace, netlink, sysctls, cookie })
    }

    /// What identifies the namespace.
    ///
    /// # Errors
    /// It cannot be looked at.
    pub(crate) fn identity(&self) -> Result<Netns, NetError> {
        self.namespace.identity(self.cookie).map_err(NetError::kernel("look at a network namespace"))
    }
}

impl From<NetError> for io::Error {
    fn from(error: NetError) -> io::Error {
        let kind = match &error {
            NetError::NoNamespace(_) => io::ErrorKind::NotFound,
            NetError::NotANamespace(_) | NetError::OwnNamespace(_) => io::ErrorKind::InvalidInput,
            NetError::Garbled(_) => io::ErrorKind::InvalidData,
            NetError::Kernel { source, .. } => source.kind(),
        };
        io::Error::new(kind, error)
    }
}

#[cfg(test)]
pub(crate) mod lab;
#[cfg(test)]
mod tests;
