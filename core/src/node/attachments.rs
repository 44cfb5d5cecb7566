//! Who is attached: the addresses that attachments hold, the plans of their sandboxes, and the last word of their DELs.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use crate::journal::{Batch, Key, Record};
use crate::node::attachment::{Attachment, Held, Plugin, Sandbox};
use crate::plan::Object;

/// How long the start of a DEL is remembered, in nanoseconds of the boot clock. An ADD that started longer ago than
/// that is refused: its program gave up long before.
pub const WORD_KEPT: u64 = 600_000_000_000;

/// DELs forgotten at once: more than one event can remember, so that they do not pile up.
const FORGOTTEN: usize = 64;

/// Most attachments of one sandbox.
pub const MOST: usize = 256;

/// All attachments of the node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Attachments {
    held: BTreeMap<Attachment, Held>,
    holders: BTreeMap<IpAddr, Attachment>,
    by_pod: BTreeSet<(String, Attachment)>,
    sandboxes: BTreeMap<Arc<str>, Sandbox>,
    /// The objects on the host that plans want, with the sandboxes of those.
    on_host: BTreeSet<(Object, Arc<str>)>,
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

    /// The sandboxes whose plans want an object on the host.
    pub fn wanting<'a>(&'a self, object: &'a Object) -> impl Iterator<Item = &'a Arc<str>> {
        let from = self.on_host.range((object.clone(), Arc::from(""))..);
        from.take_while(move |(wanted, _)| wanted == object).map(|(_, container)| container)
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
        self.forget_sandbox(&container);
        let wanted = sandbox.plan.host_objects().into_iter().map(|object| (object.clone(), Arc::clone(&container)));
        self.on_host.extend(wanted);
        self.sandboxes.insert(container, sandbox);
    }

    fn forget_sandbox(&mut self, container: &Arc<str>) {
        for object in self.sandboxes.remove(container).iter().flat_map(|old| old.plan.host_objects()) {
            self.on_host.remove(&(object.clone(), Arc::clone(container)));
        }
    }

    /// Replaces a sandbox's record; one without parts is erased.
    pub(super) fn plan(&mut self, container: &Arc<str>, sandbox: Sandbox, batch: &mut Batch) {
        if sandbox.parts.is_empty() {
            batch.delete(Key::Sandbox(Arc::clone(container)));
            self.forget_sandbox(container);
        } else {
            batch.put(Key::Sandbox(Arc::clone(container)), Record::Sandbox(sandbox.clone()));
            self.recall_sandbox(Arc::clone(container), sandbox);
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

    /// Forgets DELs that started before `horizon`, the oldest first and some at a time. A batch is never made for this
    /// alone.
    pub(super) fn forget_words(&mut self, horizon: u64, batch: &mut Batch) {
        for _ in 0..FORGOTTEN {
            let Some((_, plugin, who)) = self.words_by_age.first().cloned().filter(|(start, ..)| *start < horizon)
            else {
                return;
            };
            self.words_by_age.pop_first();
            self.words.remove(&(plugin, who.clone()));
            batch.delete(Key::Word(plugin, who));
        }
    }
}
