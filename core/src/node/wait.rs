//! ADDs and the addresses they get: at once, or after a wait for the feeder or the kernel.
//!
//! A wait ends in one reply, or the caller abandons it. What is asked of the feeder for those that wait is a level per
//! pool; it is told when it changes, and again after each answer that left somebody waiting.

use std::collections::{BTreeMap, BTreeSet};

use crate::message::Up;
use crate::node::Node;
use crate::node::attachment::{Allocation, Attachment, Held};
use crate::node::attachments::MOST;
use crate::node::event::{Add, Effects, Errand, Now, Refused, Reply, Shortage, Ticket};
use crate::node::fact::FactKind;
use crate::select::Want;
use crate::world::PoolName;

/// An ADD that found no address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    add: Add,
    /// Pools of which the feeder had none to give.
    denied: BTreeSet<PoolName>,
    /// Pools of which the feeder is to give now.
    asks: BTreeSet<PoolName>,
}

/// All ADDs that wait, in the order they came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Waiters {
    by_ticket: BTreeMap<Ticket, Waiting>,
    /// How many ask for each pool.
    levels: BTreeMap<PoolName, u32>,
    /// The levels as the feeder of this session heard them; none: it answered since, and is to hear again.
    told: BTreeMap<PoolName, Option<u32>>,
}

/// What a want comes to.
enum Pick {
    /// This address.
    Found(Allocation),
    /// The feeder may have more of this pool.
    Ask(PoolName),
    /// The kernel still shows an address that would do.
    Dying,
    /// There is none.
    Nothing,
}

impl Waiters {
    pub(super) fn len(&self) -> usize {
        self.by_ticket.len()
    }

    /// Each with the pools of which the feeder is to give now, in the order they came.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Add, &BTreeSet<PoolName>)> {
        self.by_ticket.values().map(|waiting| (&waiting.add, &waiting.asks))
    }

    /// When the first of them has waited long enough.
    pub(super) fn due(&self) -> Option<u64> {
        self.by_ticket.values().map(|waiting| waiting.add.until).min()
    }

    fn insert(&mut self, waiting: Waiting) {
        for pool in &waiting.asks {
            *self.levels.entry(pool.clone()).or_default() += 1;
        }
        self.by_ticket.insert(waiting.add.ticket, waiting);
    }

    pub(super) fn remove(&mut self, ticket: Ticket) -> Option<Waiting> {
        let waiting = self.by_ticket.remove(&ticket)?;
        for pool in &waiting.asks {
            if let Some(level) = self.levels.get_mut(pool) {
                *level -= 1;
            }
        }
        self.levels.retain(|_, level| *level > 0);
        Some(waiting)
    }

    /// Ends the wait of an attachment's ADDs that started no later than a DEL of it.
    pub(super) fn evict(&mut self, who: &Attachment, started: u64) -> Vec<Ticket> {
        let outdone = |waiting: &Waiting| waiting.add.who == *who && waiting.add.started <= started;
        let evicted: Vec<Ticket> = self.by_ticket.iter().filter(|(_, w)| outdone(w)).map(|(t, _)| *t).collect();
        evicted.iter().for_each(|ticket| drop(self.remove(*ticket)));
        evicted
    }

    /// A new session: what an earlier one was told or answered counts no more.
    pub(super) fn begin_session(&mut self) {
        self.told.clear();
        self.by_ticket.values_mut().for_each(|waiting| waiting.denied.clear());
    }

    /// The feeder has none of a pool to give.
    pub(super) fn deny(&mut self, pool: &PoolName) {
        self.answered(pool);
        for waiting in self.by_ticket.values_mut() {
            waiting.denied.insert(pool.clone());
        }
    }

    /// The feeder answered the level that it was told of a pool.
    pub(super) fn answered(&mut self, pool: &PoolName) {
        if let Some(told) = self.told.get_mut(pool) {
            *told = None;
        }
    }

    /// The levels that the feeder does not know.
    fn restate(&mut self) -> Vec<(PoolName, u32)> {
        let ended = self.told.keys().filter(|pool| !self.levels.contains_key(*pool)).map(|pool| (pool.clone(), 0));
        let mut changed: Vec<(PoolName, u32)> = ended.collect();
        let known = |pool: &PoolName, level: u32| self.told.get(pool) == Some(&Some(level));
        let risen = self.levels.iter().filter(|(pool, level)| !known(pool, **level));
        changed.extend(risen.map(|(pool, level)| (pool.clone(), *level)));
        self.told = self.levels.iter().map(|(pool, level)| (pool.clone(), Some(*level))).collect();
        changed
    }
}

impl Node {
    pub(super) fn add(&mut self, now: Now, add: Add, out: &mut Effects) {
        if self.answer(now, &add, out) {
            return;
        }
        if !add.pod.uid.is_empty() {
            self.look_at_older(&add, out);
        }
        self.serve(now, Waiting { add, denied: BTreeSet::new(), asks: BTreeSet::new() }, out);
    }

    /// Answers an ADD from the records, if they have an answer. False: it needs addresses.
    fn answer(&mut self, now: Now, add: &Add, out: &mut Effects) -> bool {
        let refused = match self.attachments.held().get(&add.who) {
            Some(held) if held.netns.is_same(&add.netns) && held.started >= add.started => {
                out.replies.push((add.ticket, Reply::Added(held.allocations.clone())));
                return true;
            }
            Some(held) if held.netns.is_same(&add.netns) => {
                out.replies.push((add.ticket, Reply::Added(held.allocations.clone())));
                let renewed = Held { started: add.started, netns: add.netns.clone(), ..held.clone() };
                self.attachments.hold(add.who.clone(), renewed, &mut out.batch);
                return true;
            }
            _ if add.wants.is_empty() => Refused::Unknown,
            Some(held) if held.started > add.started => Refused::Overtaken,
            Some(_) => {
                // The name of a container that is there no more, used again: what the old one held stays dying until
                // the kernel shows it gone.
                self.release(now, &add.who, &BTreeMap::new(), out);
                return false;
            }
            None if self.attachments.of_container(&add.who.container).count() >= MOST => Refused::Crowded,
            None => return false,
        };
        out.replies.push((add.ticket, Reply::Refused(refused)));
        true
    }

    /// Gives an ADD its addresses, or lets it wait, or refuses it.
    fn serve(&mut self, now: Now, mut waiting: Waiting, out: &mut Effects) {
        let mut picked = Vec::new();
        waiting.asks.clear();
        for want in &waiting.add.wants {
            match self.pick(now, want, &waiting) {
                Pick::Found(allocation) => picked.push(allocation),
                Pick::Ask(pool) => drop(waiting.asks.insert(pool)),
                // The last look may be long ago.
                Pick::Dying => out.errands.push(Errand::Look),
                Pick::Nothing => return self.refuse(now, &waiting, out),
            }
        }
        if picked.len() < waiting.add.wants.len() {
            return self.waiters.insert(waiting);
        }
        self.give(now, waiting.add, picked, out);
    }

    fn give(&mut self, now: Now, add: Add, allocations: Vec<Allocation>, out: &mut Effects) {
        let Add { ticket, who, started, pod, netns, .. } = add;
        for allocation in &allocations {
            self.leases.take(&allocation.pool, allocation.address, &mut out.batch);
            self.tell(now, FactKind::Allocated, allocation, &who, &pod, out);
        }
        out.replies.push((ticket, Reply::Added(allocations.clone())));
        self.attachments.hold(who, Held { started, pod, netns, since: now.wall, allocations }, &mut out.batch);
    }

    /// An address for one family. Idle ones come first, over all pools in order; then the one that has been cooling
    /// longest; then, if addresses are probed, a quarantined one that this ADD has not probed. A pool without an idle
    /// address is passed over only once the feeder has none of it to give.
    fn pick(&self, now: Now, want: &Want, waiting: &Waiting) -> Pick {
        for candidate in &want.candidates {
            if let Some(address) = self.leases.idle(&candidate.pool, &candidate.allowed, now.boot) {
                return Pick::Found(Allocation::of(candidate, address));
            }
            if !waiting.denied.contains(&candidate.pool) {
                return Pick::Ask(candidate.pool.clone());
            }
        }
        for candidate in &want.candidates {
            if let Some(address) = self.leases.cooling(&candidate.pool, &candidate.allowed) {
                return Pick::Found(Allocation::of(candidate, address));
            }
        }
        for candidate in want.candidates.iter().filter(|_| waiting.add.probes) {
            let before = waiting.add.started;
            if let Some(address) = self.leases.probed_before(&candidate.pool, &candidate.allowed, before) {
                let stranger = self.leases.quarantine_of(address).map(|known| known.stranger);
                return Pick::Found(Allocation { stranger, ..Allocation::of(candidate, address) });
            }
        }
        let dying = |pool, allowed| self.leases.comes_back(pool, allowed);
        let may_wait = want.candidates.iter().any(|candidate| dying(&candidate.pool, &candidate.allowed));
        if may_wait { Pick::Dying } else { Pick::Nothing }
    }

    fn refuse(&self, now: Now, waiting: &Waiting, out: &mut Effects) {
        let candidates = waiting.add.wants.iter().flat_map(|want| &want.candidates);
        let shortages = candidates.map(|candidate| Shortage {
            pool: candidate.pool.clone(),
            counts: self.leases.counts(&candidate.pool, now.boot),
            denied: waiting.denied.contains(&candidate.pool),
        });
        out.replies.push((waiting.add.ticket, Reply::Refused(Refused::Exhausted(shortages.collect()))));
    }

    /// Tries again for all that wait, in the order they came. What came in the meantime, another ADD of the same
    /// attachment above all, counts.
    pub(super) fn retry(&mut self, now: Now, out: &mut Effects) {
        self.waiters.levels.clear();
        for (_, waiting) in std::mem::take(&mut self.waiters.by_ticket) {
            if !self.answer(now, &waiting.add, out) {
                self.serve(now, waiting, out);
            }
        }
    }

    /// Ends the waits that have lasted long enough: by time alone an address may have cooled down meanwhile.
    pub(super) fn expire(&mut self, now: Now, out: &mut Effects) {
        self.retry(now, out);
        let due = self.waiters.by_ticket.iter().filter(|(_, waiting)| waiting.add.until <= now.boot);
        for ticket in due.map(|(ticket, _)| *ticket).collect::<Vec<_>>() {
            if let Some(waiting) = self.waiters.remove(ticket) {
                self.refuse(now, &waiting, out);
            }
        }
    }

    /// Tells the feeder the levels that changed.
    pub(super) fn demand(&mut self, out: &mut Effects) {
        let Some(session) = &self.session else { return };
        let changed = self.waiters.restate().into_iter();
        out.messages.extend(changed.map(|(pool, waiting)| (session.id, Up::Demand { pool, waiting })));
    }
}
