//! The node as its rows say. Each row is held against the others; one that does not fit makes the journal broken,
//! never a guess.

use std::collections::BTreeSet;

use crate::journal::{Batch, Binding, Damage, Key, Lease, Meta, Record, Released, SCHEMA};
use crate::message::{GrantId, JournalId};
use crate::node::Node;
use crate::node::attachment::{Attachment, Held};
use crate::node::attachments::Attachments;
use crate::node::history::History;
use crate::node::lease::Leases;
use crate::node::wait::Waiters;

/// No node counts as far, so no node wrote it; and what counts on from there overflows.
const ENDLESS: u64 = 1 << 63;

/// A journal whose rows do not fit together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// A row cannot be read.
    #[error(transparent)]
    Damage(#[from] Damage),
    /// The rows were written by a version with other rows.
    #[error("the journal has schema {0}, this program reads {SCHEMA}")]
    Schema(u32),
    /// There are rows, but not the one about the journal.
    #[error("the journal has rows but no meta row")]
    NoMeta,
    /// A row refers to another that is not there.
    #[error("row {0:?} does not fit the others")]
    Stray(Key),
}

impl Node {
    /// The node as its rows say. `fresh` is a random ID for a journal that is new, or bound to another boot, machine or
    /// node than `here`: its lease is empty and nobody holds an address, and the returned batch says so durably, all at
    /// once: half of it would be a lease of this place. What stands in the kernel of this boot stays known.
    pub fn recover(
        rows: impl Iterator<Item = Result<(Key, Record), Damage>>,
        here: &Binding,
        fresh: JournalId,
        cooldown: u64,
    ) -> Result<(Node, Batch), Broken> {
        let mut meta = None;
        let mut state = Vec::new();
        let mut history = History::default();
        let mut batch = Batch::default();
        for row in rows {
            match row? {
                (Key::Meta, Record::Meta(found)) if found.schema != SCHEMA => return Err(Broken::Schema(found.schema)),
                (Key::Meta, Record::Meta(found)) if found.session >= ENDLESS => return Err(Broken::Stray(Key::Meta)),
                (Key::Meta, Record::Meta(found)) => meta = Some(found),
                (Key::Fact(sequence), Record::Fact(_)) if sequence < ENDLESS && history.saw(sequence) => {}
                (key @ Key::Fact(_), _) => return Err(Broken::Stray(key)),
                row => state.push(row),
            }
        }
        if meta.is_none() && !(state.is_empty() && history == History::default()) {
            return Err(Broken::NoMeta);
        }
        let now = match meta.clone().filter(|meta| meta.bound.is_same(here)) {
            Some(own) => Meta { bound: own.bound.completed(here), ..own },
            None => {
                let is_of_this_boot = meta.as_ref().is_some_and(|meta| meta.bound.boot == here.boot);
                let is_of_the_kernel = |key: &Key| matches!(key, Key::Sandbox(_) | Key::Word(..));
                let (kept, gone): (Vec<_>, Vec<_>) =
                    state.into_iter().partition(|(key, _)| is_of_this_boot && is_of_the_kernel(key));
                gone.into_iter().for_each(|(key, _)| batch.delete(key));
                state = kept;
                Meta { schema: SCHEMA, journal: fresh, bound: here.clone(), session: 0, adopted: false }
            }
        };
        if meta.as_ref() != Some(&now) {
            batch.put(Key::Meta, Record::Meta(now.clone()));
        }
        let mut node = Node {
            meta: now,
            cooldown,
            leases: Leases::default(),
            attachments: Attachments::default(),
            history,
            session: None,
            waiters: Waiters::default(),
        };
        node.replay(state)?;
        Ok((node, batch))
    }

    fn replay(&mut self, rows: Vec<(Key, Record)>) -> Result<(), Broken> {
        // Leases first, since addresses must lie in them; then those who hold addresses, which nobody else can have.
        let (leases, others): (Vec<_>, Vec<_>) = rows.into_iter().partition(|(key, _)| matches!(key, Key::Lease(_)));
        let (released, holders): (Vec<_>, Vec<_>) =
            others.into_iter().partition(|(key, _)| matches!(key, Key::Released(_)));
        for (key, record) in leases.into_iter().chain(holders).chain(released) {
            let fits = match (key.clone(), record) {
                (Key::Lease(id), Record::Lease(lease)) => self.replay_lease(id, lease),
                (Key::Attachment(who), Record::Attachment(held)) => self.replay_held(who, held),
                (Key::Released(_), Record::Released(Released::Resting { order: ENDLESS.., .. })) => false,
                (Key::Released(address), Record::Released(released)) => {
                    self.attachments.holder(address).is_none() && self.leases.recall_released(address, released)
                }
                (Key::Word(plugin, who), Record::Word(started)) => self.attachments.recall_word(plugin, &who, started),
                (Key::Sandbox(container), Record::Sandbox(record)) => {
                    self.attachments.recall_sandbox(container, record);
                    true
                }
                _ => false,
            };
            if !fits {
                return Err(Broken::Stray(key));
            }
        }
        Ok(())
    }

    fn replay_lease(&mut self, id: GrantId, lease: Lease) -> bool {
        // A session that is yet to come would use its ID again.
        let was_granted = id.journal != self.meta.journal || id.session <= self.meta.session;
        let fits = was_granted && !lease.addresses.is_empty() && !self.leases.lease_any(&lease.addresses);
        if fits {
            self.leases.recall_grant(id, lease);
        }
        fits
    }

    fn replay_held(&mut self, who: Attachment, held: Held) -> bool {
        let mut addresses = BTreeSet::new();
        let fits = held.allocations.iter().all(|allocation| {
            addresses.insert(allocation.address)
                && self.attachments.holder(allocation.address).is_none()
                && self.leases.pool_of(allocation.address) == Some(&allocation.pool)
        });
        if !fits || addresses.is_empty() {
            return false;
        }
        held.allocations.iter().for_each(|held| self.leases.recall_held(&held.pool, held.address));
        self.attachments.recall(who, held);
        true
    }
}
