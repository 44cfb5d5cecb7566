//! The node as its rows say. Each row is held against the others; one that does not fit makes the journal broken,
//! never a guess.

use crate::journal::{Batch, BootId, Damage, Key, Meta, Record, SCHEMA};
use crate::message::JournalId;
use crate::node::Node;
use crate::node::attachment::{Attachment, Attachments, Held};
use crate::node::history::History;
use crate::node::lease::Leases;
use crate::node::wait::Waiters;

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
    /// The node as its rows say. `fresh` is a random ID for a journal that is new or of another boot: there the lease
    /// is empty and old sandboxes are gone, and the returned batch says so durably.
    pub fn recover(
        rows: impl Iterator<Item = Result<(Key, Record), Damage>>,
        boot: BootId,
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
                (Key::Meta, Record::Meta(found)) => meta = Some(found),
                (Key::Fact(sequence), Record::Fact(_)) => history.saw(sequence),
                row => state.push(row),
            }
        }
        if meta.is_none() && !(state.is_empty() && history == History::default()) {
            return Err(Broken::NoMeta);
        }
        let of_this_boot = meta.filter(|meta| meta.boot == boot);
        let meta = of_this_boot.unwrap_or(Meta { schema: SCHEMA, journal: fresh, boot, session: 0, adopted: false });
        let mut node = Node {
            meta,
            cooldown,
            leases: Leases::default(),
            attachments: Attachments::default(),
            history,
            session: None,
            waiters: Waiters::default(),
        };
        if of_this_boot.is_none() {
            state.drain(..).for_each(|(key, _)| batch.delete(key));
            batch.put(Key::Meta, Record::Meta(meta));
        }
        node.replay(state)?;
        Ok((node, batch))
    }

    fn replay(&mut self, rows: Vec<(Key, Record)>) -> Result<(), Broken> {
        // Leases first, since addresses must lie in them.
        let rank = |key: &Key| match key {
            Key::Meta | Key::Lease(_) | Key::Fact(_) => 0,
            Key::Attachment(_) | Key::Sandbox(_) | Key::Word(..) => 1,
            Key::Released(_) => 2,
        };
        let mut rows = rows;
        rows.sort_by_cached_key(|(key, _)| (rank(key), key.clone()));
        for (key, record) in rows {
            let fits = match (key.clone(), record) {
                (Key::Lease(id), Record::Lease(lease)) => {
                    self.leases.recall_grant(id, lease);
                    true
                }
                (Key::Attachment(who), Record::Attachment(held)) => self.replay_held(who, held),
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

    fn replay_held(&mut self, who: Attachment, held: Held) -> bool {
        let fits = held.allocations.iter().all(|allocation| {
            self.attachments.holder(allocation.address).is_none()
                && self.leases.pool_of(allocation.address) == Some(&allocation.pool)
        });
        if fits {
            held.allocations.iter().for_each(|held| self.leases.recall_held(&held.pool, held.address));
            self.attachments.recall(who, held);
        }
        fits
    }
}
