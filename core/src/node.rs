//! One node's state machine: events in; rows to write, replies, messages and errands out.
//!
//! The caller commits the batch durably before it lets out anything else of the same effects (Durable first). Nothing
//! here reads a clock: each event comes with its time. Replaying the committed rows gives back the same state.
//!
//! - An address is given out only from the lease, while nobody holds it and the kernel does not show it (One holder).
//! - A DEL outdoes every ADD of its attachment that started before it, in whatever order they arrive (Last word by
//!   start).
//! - An ADD gets an address of every family it wants, or none (All or nothing).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use crate::journal::{Key, Meta, Record};
use crate::message::{Down, GrantId, SessionId, Up};
use crate::plan::{Mac, Plan};
use crate::world::{PodId, PoolName};

pub mod adopt;
pub mod attachment;
pub mod attachments;
pub mod event;
pub mod fact;
pub mod history;
pub mod lease;
pub mod recover;
mod wait;

use attachment::{Allocation, Attachment, Held, Plugin, Sandbox, Stranger};
use attachments::{Attachments, MOST, WORD_KEPT};
use event::{Add, Effects, Errand, Event, Evidence, Now, Plumb, Probed, Refused, Reply, Ticket, Verdict};
use fact::{Fact, FactKind};
use history::History;
use lease::{Dying, Leases, Quarantined};
use wait::Waiters;

/// One node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    meta: Meta,
    /// Length of the cooldown in nanoseconds.
    cooldown: u64,
    leases: Leases,
    attachments: Attachments,
    history: History,
    /// The open session, whether its hello is answered or not.
    session: Option<Session>,
    waiters: Waiters,
}

/// A session with the feeder.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Session {
    id: SessionId,
    /// Number of the last grant in it.
    granted: u32,
}

impl Node {
    /// The journal.
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// The leases.
    pub fn leases(&self) -> &Leases {
        &self.leases
    }

    /// The attachments.
    pub fn attachments(&self) -> &Attachments {
        &self.attachments
    }

    /// How many ADDs wait for an address.
    pub fn waiting(&self) -> usize {
        self.waiters.len()
    }

    /// The ADDs that wait for an address, in the order they came, each with the pools that the feeder is asked for.
    pub fn waits(&self) -> impl Iterator<Item = (&Add, &BTreeSet<PoolName>)> {
        self.waiters.iter()
    }

    /// When the next [`Event::Due`] is wanted, on the boot clock.
    pub fn due(&self) -> Option<u64> {
        self.waiters.due()
    }

    /// Lets one thing happen.
    pub fn handle(&mut self, now: Now, event: Event, out: &mut Effects) {
        match event {
            Event::Add(add) => self.admit(now, *add, out),
            Event::Abandon(ticket) => drop(self.waiters.remove(ticket)),
            Event::Del { ticket, who, started } => self.del(now, ticket, &who, started, out),
            Event::Plumb(plumb) => self.plumb(now, *plumb, out),
            Event::Unplumb { ticket, who, started } => {
                self.attachments.say(Plugin::Coordinator, &who, started, &mut out.batch);
                out.replies.push((ticket, Reply::Done));
            }
            Event::Unplumbed { ticket, who, plan } => self.unplumbed(ticket, &who, plan, out),
            Event::Opened => self.opened(now, out),
            Event::Session(session, message) if self.is_open(session) => self.hear(now, message, out),
            Event::Session(..) => {}
            Event::Closed(session) if self.is_open(session) => self.session = None,
            Event::Closed(_) => {}
            Event::Evidence(evidence) => self.learn(now, evidence, out),
            Event::Probed(probed) => self.probed(now, *probed, out),
            Event::Adopt { ticket, found } => self.adopt(now, ticket, found, out),
            Event::Due => self.expire(now, out),
        }
        self.demand(out);
        if !out.batch.is_empty() {
            self.attachments.forget_words(now.boot.saturating_sub(WORD_KEPT), &mut out.batch);
        }
    }

    /// Whether an ADD that started then may still act.
    fn may_act(&self, now: Now, plugin: Plugin, who: &Attachment, started: u64) -> Result<(), Refused> {
        if started < now.boot.saturating_sub(WORD_KEPT) {
            return Err(Refused::TooOld);
        }
        match self.attachments.word(plugin, who) {
            Some(word) if word >= started => Err(Refused::Overtaken),
            _ => Ok(()),
        }
    }

    fn admit(&mut self, now: Now, add: Add, out: &mut Effects) {
        match self.may_act(now, Plugin::Ipam, &add.who, add.started) {
            Ok(()) => self.add(now, add, out),
            Err(refused) => out.replies.push((add.ticket, Reply::Refused(refused))),
        }
    }

    /// Has somebody look at older sandboxes of the same Pod: the newer one takes over from those that are dead.
    fn look_at_older(&self, add: &Add, out: &mut Effects) {
        let older = self.attachments.of_pod(&add.pod.uid).filter(|(who, _)| who.container != add.who.container);
        let places: BTreeSet<_> = older.map(|(who, held)| (&who.container, &held.netns)).collect();
        out.errands.extend(
            places
                .into_iter()
                .map(|(container, netns)| Errand::LookAt { container: Arc::clone(container), netns: netns.clone() }),
        );
    }

    fn del(&mut self, now: Now, ticket: Ticket, who: &Attachment, started: u64, out: &mut Effects) {
        self.attachments.say(Plugin::Ipam, who, started, &mut out.batch);
        for late in self.waiters.evict(who, started) {
            out.replies.push((late, Reply::Refused(Refused::Overtaken)));
        }
        if self.attachments.held().get(who).is_some_and(|held| held.started <= started) {
            self.release(now, who, &BTreeMap::new(), out);
        }
        out.replies.push((ticket, Reply::Done));
    }

    /// The record is answered, or taken back: whoever uses one of its addresses keeps that from being given out again.
    fn probed(&mut self, now: Now, probed: Probed, out: &mut Effects) {
        let Probed { ticket, who, started, addresses, verdict } = probed;
        let given = |held: &&Held| held.allocations.iter().map(|held| held.address).eq(addresses);
        let Some(held) = self.attachments.held().get(&who).filter(|held| held.started == started).filter(given) else {
            out.replies.push((ticket, Reply::Refused(Refused::Overtaken)));
            return;
        };
        match verdict {
            Verdict::Unfit(taken) => self.release(now, &who, &taken, out),
            Verdict::Fit if held.allocations.iter().any(|held| held.stranger.is_some()) => {
                let mut cleared = held.clone();
                cleared.allocations.iter_mut().for_each(|held| held.stranger = None);
                self.attachments.hold(who, cleared, &mut out.batch);
            }
            Verdict::Fit => {}
        }
        out.replies.push((ticket, Reply::Done));
    }

    /// Takes all addresses of an attachment back; they are dying until the kernel shows them gone, or in quarantine if
    /// strangers have them.
    fn release(&mut self, now: Now, who: &Attachment, taken: &BTreeMap<IpAddr, Mac>, out: &mut Effects) {
        let Some(held) = self.attachments.let_go(who, &mut out.batch) else { return };
        for allocation in &held.allocations {
            let seen = taken.get(&allocation.address).map(|mac| Stranger { mac: *mac, seen: now.wall });
            if let Some(stranger) = seen.or(allocation.stranger) {
                let quarantined = Quarantined { pool: allocation.pool.clone(), stranger, probed: now.boot };
                let mut messages = Vec::new();
                self.leases.quarantine(allocation.address, quarantined, &mut out.batch, &mut messages);
                self.send(messages, out);
                let kind = seen.map_or(FactKind::Released, |stranger| FactKind::Taken(stranger.mac));
                self.tell(now, kind, allocation, who, &held.pod, out);
                continue;
            }
            let dying = Dying { pool: allocation.pool.clone(), holder: who.clone(), netns: held.netns.clone() };
            self.leases.die(allocation.address, dying, &mut out.batch);
            self.tell(now, FactKind::Released, allocation, who, &held.pod, out);
        }
        out.errands.push(Errand::Look);
    }

    fn tell(&mut self, now: Now, kind: FactKind, of: &Allocation, who: &Attachment, pod: &PodId, out: &mut Effects) {
        let (address, pool) = (of.address, of.pool.clone());
        let fact = Fact { at: now.wall, kind, address, pool, attachment: who.clone(), pod: pod.clone() };
        self.history.tell(fact, &mut out.batch);
    }

    fn learn(&mut self, now: Now, evidence: Evidence, out: &mut Effects) {
        match evidence {
            Evidence::SandboxGone { container, netns } => {
                let held = self.attachments.of_container(&container).filter(|(_, held)| held.netns.is_same(&netns));
                let dead: Vec<Attachment> = held.map(|(who, _)| who.clone()).collect();
                dead.iter().for_each(|who| self.release(now, who, &BTreeMap::new(), out));
            }
            Evidence::AddressGone(address, netns) => {
                if self.leases.dying().get(&address).is_none_or(|dying| !dying.netns.is_same(&netns)) {
                    return;
                }
                let (until, mut messages) = (now.boot.saturating_add(self.cooldown), Vec::new());
                self.leases.gone(address, until, &mut out.batch, &mut messages);
                self.send(messages, out);
                self.retry(now, out);
            }
            Evidence::Unused(address, probed) => {
                self.leases.unused(address, probed, now.boot, &mut out.batch);
                self.retry(now, out);
            }
        }
    }

    fn is_open(&self, session: SessionId) -> bool {
        self.session.as_ref().is_some_and(|open| open.id == session)
    }

    fn opened(&mut self, now: Now, out: &mut Effects) {
        self.meta.session += 1;
        out.batch.put(Key::Meta, Record::Meta(self.meta.clone()));
        let id = self.meta.session;
        self.session = Some(Session { id, granted: 0 });
        let leases = self.leases.grants().collect();
        out.messages.push((id, Up::Hello { journal: self.meta.journal, session: id, leases }));
        self.waiters.begin_session();
        self.retry(now, out);
    }

    fn hear(&mut self, now: Now, message: Down, out: &mut Effects) {
        match message {
            // Who waits has asked right behind the hello.
            Down::Repaired => {}
            Down::Grant(grant) => {
                if self.is_new(grant.id) {
                    self.waiters.answered(&grant.pool);
                    self.leases.grant(grant, &mut out.batch);
                    self.retry(now, out);
                }
            }
            Down::Denied { pool } => {
                self.waiters.deny(&pool);
                self.retry(now, out);
            }
            Down::Withdrawn { grant, addresses } => {
                let mut messages = Vec::new();
                self.leases.withdraw(grant, &addresses, &mut out.batch, &mut messages);
                self.send(messages, out);
            }
        }
    }

    /// Takes note of a grant's ID. False: it was here before, or belongs to another session.
    fn is_new(&mut self, id: GrantId) -> bool {
        let journal = self.meta.journal;
        let Some(session) = &mut self.session else { return false };
        let is_new = id.journal == journal && id.session == session.id && id.number > session.granted;
        if is_new {
            session.granted = id.number;
        }
        is_new
    }

    fn send(&self, messages: Vec<Up>, out: &mut Effects) {
        // Without a session nobody needs to hear it now: the next hello lists what is left.
        if let Some(session) = &self.session {
            out.messages.extend(messages.into_iter().map(|message| (session.id, message)));
        }
    }

    fn plumb(&mut self, now: Now, plumb: Plumb, out: &mut Effects) {
        let Plumb { ticket, who, started, pod, netns, plan } = plumb;
        if let Err(refused) = self.may_act(now, Plugin::Coordinator, &who, started) {
            out.replies.push((ticket, Reply::Refused(refused)));
            return;
        }
        let known = self.attachments.sandboxes().get(&who.container);
        let mut parts = known.filter(|old| old.netns.is_same(&netns)).map(|old| old.parts.clone()).unwrap_or_default();
        if parts.len() >= MOST && !parts.contains_key(&who) {
            out.replies.push((ticket, Reply::Refused(Refused::Crowded)));
            return;
        }
        let container = Arc::clone(&who.container);
        let latest = parts.entry(who).or_default();
        *latest = started.max(*latest);
        self.attachments.plan(&container, Sandbox { netns, pod, parts, plan }, &mut out.batch);
        out.replies.push((ticket, Reply::Done));
    }

    fn unplumbed(&mut self, ticket: Ticket, who: &Attachment, plan: Plan, out: &mut Effects) {
        if let Some(sandbox) = self.attachments.sandboxes().get(&who.container) {
            let mut parts = sandbox.parts.clone();
            parts.remove(who);
            let kept = Sandbox { netns: sandbox.netns.clone(), pod: sandbox.pod.clone(), parts, plan };
            self.attachments.plan(&who.container, kept, &mut out.batch);
        }
        out.replies.push((ticket, Reply::Done));
    }
}

#[cfg(test)]
mod tests;
