//! Facts: what happened to an address, and whom it concerned.

use std::net::IpAddr;

use crate::node::attachment::Attachment;
use crate::plan::Mac;
use crate::world::{PodId, PoolName};

/// Something that happened to an address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Fact {
    /// Wall-clock time in seconds since 1970, for people; no decision reads it.
    pub at: u64,
    /// What happened.
    pub kind: FactKind,
    /// The address.
    pub address: IpAddr,
    /// The pool it is leased under.
    pub pool: PoolName,
    /// The attachment concerned.
    pub attachment: Attachment,
    /// Its Pod.
    pub pod: PodId,
}

/// What can happen to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FactKind {
    /// Given to the attachment.
    Allocated,
    /// Taken back from it.
    Released,
    /// Not given to the attachment after all: a probe saw that this stranger uses it.
    Taken(Mac),
}
