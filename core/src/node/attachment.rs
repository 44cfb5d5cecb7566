//! Who is attached: the addresses that attachments hold, the plans of their sandboxes, and the last word of their DELs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crate::journal::{Batch, Key, Record};
use crate::plan::{Mac, Plan};
use crate::select::{Candidate, Terms};
use crate::world::{PodId, PoolName};

/// How long the start of a DEL is remembered, in nanoseconds of the boot clock. An ADD that started longer ago than
/// that is refused: its program gave up long before.
pub const WORD_KEPT: u64 = 600_000_000_000;

/// What CNI ADD and DEL name: the key of everything on a node. Ordered by sandbox.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attachment {
    /// The sandbox (CNI_CONTAINERID).
    pub container: Arc<str>,
    /// The interface inside it (CNI_IFNAME).
    pub interface: Arc<str>,
    /// Name of the CNI network.
    pub network: Arc<str>,
}

impl fmt::Display for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.container, self.interface, self.network)
    }
}

/// Which of the two CNI programs speaks; each has a part of its own in an attachment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Plugin {
    /// Addresses.
    Ipam,
    /// Routes and rules.
    Coordinator,
}

/// A network namespace, known by more than its path: a path can be reused, a cookie is never within a boot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Netns {
    /// The path that ADD named.
    pub path: String,
    /// Inode of the namespace file.
    pub inode: u64,
    /// The kernel's cookie (SO_NETNS_COOKIE); 0 where the kernel has none.
    pub cookie: u64,
}

impl Netns {
    /// Whether both are the same namespace, whatever path led there.
    pub fn is_same(&self, other: &Netns) -> bool {
        self.identity() == other.identity()
    }

    /// What the kernel tells it by: inode and cookie.
    pub fn identity(&self) -> (u64, u64) {
        (self.inode, self.cookie)
    }
}

/// An address given to an attachment, with what the answer said of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Allocation {
    /// The address.
    pub address: IpAddr,
    /// The pool it is leased under.
    pub pool: PoolName,
    /// Prefix, gateway and routes as they were answered.
    pub terms: Terms,
    /// It was in quarantine, and no probe has shown yet that it is free: not answered, and back there when let go.
    pub stranger: Option<Stranger>,
}

/// Somebody who was seen to use an address that is none of theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stranger {
    /// The Ethernet address.
    pub mac: Mac,
    /// Wall-clock time in seconds since 1970, for people.
    pub seen: u64,
}

impl Allocation {
    /// An address of a candidate.
    pub(super) fn of(candidate: &Candidate, address: IpAddr) -> Allocation {
        let (pool, terms) = (candidate.pool.clone(), candidate.terms.clone());
        Allocation { address, pool, terms, stranger: None }
    }
}

/// An attachment that holds addresses: the record that answers retries, CHECK and DEL.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Held {
    /// When the latest ADD started, in nanoseconds of the boot clock.
    pub started: u64,
    /// The Pod.
    pub pod: PodId,
    /// The namespace that the addresses were given into.
    pub netns: Netns,
    /// Wall-clock time of the allocation in seconds since 1970, for people.
    pub since: u64,
    /// The addresses, IPv4 first; never empty.
    pub allocations: Vec<Allocation>,
}

/// A sandbox with a plan of routes and rules.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Sandbox {
    /// Its network namespace.
    pub netns: Netns,
    /// The Pod.
    pub pod: PodId,
    /// Attachments with a part in the plan, and when their latest ADD started.
    pub parts: BTreeMap<Attachment, u64>,
    /// The plan.
    pub plan: Plan,
}

/// All attachments of the node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Attachments {
    held: BTreeMap<Attachment, Held>,
    holders: BTreeMap<IpAddr, Attachment>,
    by_pod: BTreeSet<(String, Attachment)>,
    sandboxes: BTreeMap<Arc<str>, Sandbox>,
    words: BTreeMap<(Plugin, Attachment), u64>,
    words_by_age: BTreeSet<(u64, Plugin, Attachment)>,
}

impl Attachments {
    /// Attachments that hold addresses, in order.
    pub fn held(&self) -> &BTreeMap<Attachment, Held> {
        &self.held
    }

    /// Who holds an address.
    pub fn holder(&self, address: IpAddr) -> Option<&Attachment> {
        self.holders.get(&address)
    }

    /// The attachments of a sandbox that hold addresses.
    pub fn of_container(&self, container: &Arc<str>) -> impl Iterator<Item = (&Attachment, &Held)> {
        let first = Attachment { container: Arc::clone(container), interface: "".into(), network: "".into() };
        let container = Arc::clone(container);
        self.held.range(first..).take_while(move |(who, _)| who.container == container)
    }

    /// The attachments of a Pod that hold addresses, over all its sandboxes.
    pub fn of_pod(&self, uid: &str) -> impl Iterator<Item = (&Attachment, &Held)> {
        let least = Attachment { container: "".into(), interface: "".into(), network: "".into() };
        let uid = uid.to_owned();
        let of_pod = self.by_pod.range((uid.clone(), least)..).take_while(move |(of, _)| *of == uid);
        of_pod.filter_map(|(_, who)| self.held.get_key_value(who))
    }

    /// Sandboxes with a plan.
    pub fn sandboxes(&self) -> &BTreeMap<Arc<str>, Sandbox> {
        &self.sandboxes
    }

    /// Remembers an attachment read from the journal.
    pub(super) fn recall(&mut self, who: Attachment, held: Held) {
        for allocation in &held.allocations {
            self.holders.insert(allocation.address, who.clone());
        }
        if !held.pod.uid.is_empty() {
            self.by_pod.insert((held.pod.uid.clone(), who.clone()));
        }
        self.held.insert(who, held);
    }

    /// Writes an attachment's record.
    pub(super) fn hold(&mut self, who: Attachment, held: Held, batch: &mut Batch) {
        batch.put(Key::Attachment(who.clone()), Record::Attachment(held.clone()));
        self.recall(who, held);
    }

    /// Erases an attachment's record.
    pub(super) fn let_go(&mut self, who: &Attachment, batch: &mut Batch) -> Option<Held> {
        let held = self.held.remove(who)?;
        for allocation in &held.allocations {
            self.holders.remove(&allocation.address);
        }
        self.by_pod.remove(&(held.pod.uid.clone(), who.clone()));
        batch.delete(Key::Attachment(who.clone()));
        Some(held)
    }

    /// Remembers a sandbox read from the journal.
    pub(super) fn recall_sandbox(&mut self, container: Arc<str>, sandbox: Sandbox) {
        self.sandboxes.insert(container, sandbox);
    }

    /// Replaces a sandbox's record; one without parts is erased.
    pub(super) fn plan(&mut self, container: &Arc<str>, sandbox: Sandbox, batch: &mut Batch) {
        if sandbox.parts.is_empty() {
            batch.delete(Key::Sandbox(Arc::clone(container)));
            self.sandboxes.remove(container);
        } else {
            batch.put(Key::Sandbox(Arc::clone(container)), Record::Sandbox(sandbox.clone()));
            self.sandboxes.insert(Arc::clone(container), sandbox);
        }
    }

    /// When the latest DEL of an attachment started, if that is remembered.
    pub(super) fn word(&self, plugin: Plugin, who: &Attachment) -> Option<u64> {
        self.words.get(&(plugin, who.clone())).copied()
    }

    /// Remembers the start of a DEL; an earlier one does not undo a later one. False: nothing changed.
    pub(super) fn recall_word(&mut self, plugin: Plugin, who: &Attachment, started: u64) -> bool {
        let key = (plugin, who.clone());
        match self.words.get(&key) {
            Some(&known) if known >= started => return false,
            Some(&known) => self.words_by_age.remove(&(known, plugin, who.clone())),
            None => true,
        };
        self.words.insert(key, started);
        self.words_by_age.insert((started, plugin, who.clone()));
        true
    }

    /// Writes the start of a DEL.
    pub(super) fn say(&mut self, plugin: Plugin, who: &Attachment, started: u64, batch: &mut Batch) {
        if self.recall_word(plugin, who, started) {
            batch.put(Key::Word(plugin, who.clone()), Record::Word(started));
        }
    }

    /// Forgets DELs that started before `horizon`. A batch is never made for this alone.
    pub(super) fn forget_words(&mut self, horizon: u64, batch: &mut Batch) {
        while let Some((started, plugin, who)) = self.words_by_age.first().cloned() {
            if started >= horizon {
                return;
            }
            self.words_by_age.pop_first();
            self.words.remove(&(plugin, who.clone()));
            batch.delete(Key::Word(plugin, who));
        }
    }
}
