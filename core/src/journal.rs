//! The rows of the journal, and the narrow trait behind which a store keeps them.
//!
//! The journal is the truth of a node: what stands in no row never happened. Rows change in batches; a batch is
//! atomic, and durable once `commit` has returned. Each fact stands in one row alone (an address in use stands in its
//! attachment's row, nowhere else), so no two rows can disagree; everything else is rebuilt from the rows.

use std::net::IpAddr;
use std::sync::Arc;

use crate::address::AddressSet;
use crate::message::{GrantId, JournalId, SessionId};
use crate::node::attachment::{Attachment, Held, Netns, Plugin, Sandbox, Stranger};
use crate::node::fact::Fact;
use crate::world::PoolName;

/// Version of the rows' meaning; a journal with another one is not opened.
pub const SCHEMA: u32 = 1;

/// Random ID of a boot of the machine (Linux: /proc/sys/kernel/random/boot_id).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BootId(pub u128);

/// Random ID of a machine's installation (Linux: /etc/machine-id, machine-id(5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MachineId(pub u128);

/// What a journal is bound to. Anywhere else it is a copy, and no lease: others have what it holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Binding {
    /// The boot of the machine.
    pub boot: BootId,
    /// The node's name; none: written by a version that did not keep it.
    pub node: Option<Arc<str>>,
    /// The machine; none: it has no ID, or had none so far.
    pub machine: Option<MachineId>,
}

impl Binding {
    /// Whether both are the same place, as far as both say.
    pub fn is_same(&self, other: &Binding) -> bool {
        fn agree<T: PartialEq>(one: Option<&T>, other: Option<&T>) -> bool {
            one.is_none() || other.is_none() || one == other
        }
        self.boot == other.boot
            && agree(self.node.as_ref(), other.node.as_ref())
            && agree(self.machine.as_ref(), other.machine.as_ref())
    }

    /// With what the other, of the same place, says besides.
    #[must_use]
    pub fn completed(self, other: &Binding) -> Binding {
        let node = self.node.or_else(|| other.node.clone());
        Binding { boot: self.boot, node, machine: self.machine.or(other.machine) }
    }
}

/// Where a row stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// The one row about the journal itself.
    Meta,
    /// A lease.
    Lease(GrantId),
    /// An attachment and the addresses it holds.
    Attachment(Attachment),
    /// A leased address that was in use before.
    Released(IpAddr),
    /// The latest DEL of an attachment.
    Word(Plugin, Attachment),
    /// A sandbox with a plan.
    Sandbox(Arc<str>),
    /// Something that happened, by its sequence.
    Fact(u64),
}

/// What a row says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Record {
    /// For [`Key::Meta`].
    Meta(Meta),
    /// For [`Key::Lease`].
    Lease(Lease),
    /// For [`Key::Attachment`].
    Attachment(Held),
    /// For [`Key::Released`].
    Released(Released),
    /// For [`Key::Word`]: when the DEL started, in nanoseconds of the boot clock.
    Word(u64),
    /// For [`Key::Sandbox`].
    Sandbox(Sandbox),
    /// For [`Key::Fact`].
    Fact(Fact),
}

/// The journal itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Meta {
    /// [`SCHEMA`] when the row was written.
    pub schema: u32,
    /// Its ID.
    pub journal: JournalId,
    /// What it is bound to.
    pub bound: Binding,
    /// The last session number used.
    pub session: SessionId,
    /// What was there when the journal began has been taken over: ADDs may be served.
    pub adopted: bool,
}

/// A lease as it stands now: what was granted less what went back.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Lease {
    /// The pool.
    pub pool: PoolName,
    /// The addresses.
    pub addresses: AddressSet,
}

/// A leased address that was in use, by one of ours or by a stranger.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Released {
    /// The kernel has not shown it gone yet.
    Dying {
        /// Who held it.
        holder: Attachment,
        /// Where it may still be configured.
        netns: Netns,
    },
    /// Gone: cooling, then idle.
    Resting {
        /// Place in the order of releases; lowest is reused first.
        order: u64,
        /// End of the cooldown, in nanoseconds of the boot clock.
        until: u64,
    },
    /// A probe saw a stranger use it.
    Quarantined {
        /// Who was seen.
        stranger: Stranger,
        /// When an ADD had it probed last, in nanoseconds of the boot clock.
        probed: u64,
    },
}

/// Rows to write together; the last word on a key wins. None deletes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// The rows.
    pub rows: Vec<(Key, Option<Record>)>,
}

impl Batch {
    /// Writes a row.
    pub fn put(&mut self, key: Key, record: Record) {
        self.rows.push((key, Some(record)));
    }

    /// Deletes a row.
    pub fn delete(&mut self, key: Key) {
        self.rows.push((key, None));
    }

    /// Whether nothing is to be written.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

/// A row that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("row {key}: {reason}")]
pub struct Damage {
    /// The row's key, in hex where it is not readable.
    pub key: String,
    /// What is wrong with it.
    pub reason: String,
}

/// The store did not take a batch. What is on disk is unknown: the handle is dead, the process must end and replay.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("journal commit failed: {0}")]
pub struct CommitError(pub String);

/// A store of rows.
pub trait Journal {
    /// The rows of a table, in the order of their keys.
    fn rows(&self, table: Table) -> Box<dyn Iterator<Item = Result<(Key, Record), Damage>> + '_>;

    /// Writes a batch atomically. Ok: it is on disk (fsync returned).
    fn commit(&mut self, batch: &Batch) -> Result<(), CommitError>;
}

/// Which rows to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// All, facts last.
    All,
    /// Facts alone, oldest first.
    Facts {
        /// The sequence to begin with.
        from: u64,
    },
}
