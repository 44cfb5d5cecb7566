//! What happened to addresses on this node. The facts themselves stay on disk; memory holds only where they begin
//! and end, so that a long history costs nothing.

use crate::journal::{Batch, Key, Record};
use crate::node::fact::Fact;

/// How many facts are kept.
pub const KEPT: u64 = 65_536;

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
