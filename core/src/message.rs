//! What a daemon and its feeder say to each other, typed. The feeder is the controller's session, or the standalone
//! folder; the node's state machine does not know which.
//!
//! Every message about leased addresses names the grant that leased them, and a grant's ID is never used twice, so a
//! doubled or late message changes nothing.

use std::fmt;

use crate::address::AddressSet;
use crate::world::PoolName;

/// Random ID of a journal: made with it and anew with each boot. A wiped disk or a reboot shows as a new ID.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JournalId(pub u128);

impl fmt::Display for JournalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Number of a session of one journal. The daemon makes the next number durable before each hello.
pub type SessionId = u64;

/// Name of one act of leasing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GrantId {
    /// The journal that was leased to.
    pub journal: JournalId,
    /// The session in which it was leased.
    pub session: SessionId,
    /// Counted by the feeder within the session, from 1, in the order of sending.
    pub number: u32,
}

impl fmt::Display for GrantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.journal, self.session, self.number)
    }
}

/// Addresses of one pool that this node alone may give out.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Grant {
    /// Its name.
    pub id: GrantId,
    /// The pool.
    pub pool: PoolName,
    /// The addresses.
    pub addresses: AddressSet,
}

/// From the daemon to its feeder.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Up {
    /// First message of a session: what the journal holds.
    Hello {
        /// The journal.
        journal: JournalId,
        /// This session.
        session: SessionId,
        /// All leases.
        leases: Vec<Grant>,
    },
    /// How much the daemon wants of a pool: a level, told when it changes and after an answer that did not meet it.
    /// Each one above zero is answered with a grant or a denial.
    Demand {
        /// The pool.
        pool: PoolName,
        /// How many ADD calls wait for it.
        waiting: u32,
    },
    /// Addresses that the daemon gave back, after making the smaller lease durable.
    Returned {
        /// The grant they came with.
        grant: GrantId,
        /// The addresses.
        addresses: AddressSet,
    },
}

/// From the feeder to the daemon.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Down {
    /// The hello is answered: grants may follow.
    Repaired,
    /// Addresses leased to this node.
    Grant(Grant),
    /// None to give of a pool now.
    Denied {
        /// The pool.
        pool: PoolName,
    },
    /// The pool no longer has these addresses: idle ones return now, those in use on release.
    Withdrawn {
        /// The grant they came with.
        grant: GrantId,
        /// The addresses.
        addresses: AddressSet,
    },
}
