//! What happened to addresses on this node. The facts themselves stay on disk; memory holds only where they begin
//! and end, so that a long history costs nothing.

use std::net::IpAddr;

use crate::journal::{Batch, Key, Record};
use crate::node::attachment::Attachment;
use crate::plan::Mac;
use crate::world::{PodId, PoolName};

/// How many facts are kept.
pub const KEPT: u64 = 65_536;

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

/// Where the facts begin and end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct History {
    first: u64,
    next: u64,
}

impl History {
    /// Takes note of the next fact that a journal holds. False: it does not follow the one before.
    pub fn saw(&mut self, sequence: u64) -> bool {
        if self.next == 0 {
            self.first = sequence;
        } else if sequence != self.next {
            return false;
        }
        self.next = sequence + 1;
        true
    }

    /// Writes a fact, and drops the oldest once there are too many.
    pub fn tell(&mut self, fact: Fact, batch: &mut Batch) {
        batch.put(Key::Fact(self.next), Record::Fact(fact));
        self.next += 1;
        while self.next - self.first > KEPT {
            batch.delete(Key::Fact(self.first));
            self.first += 1;
        }
    }
}
