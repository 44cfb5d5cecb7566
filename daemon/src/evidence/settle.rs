//! Acts on evidence: one function for start, GC, the periodic round and dying addresses.
//!
//! A sandbox whose namespace is gone gives back what it held, and the host's objects of its plan go. A dying address
//! that no link shows any more begins its cooldown; one whose namespace is gone, a moment later. Everything else stays as
//! it is.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::Bound;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use spiderpool_cni::failpoint::{Point, reach};
use spiderpool_cni::types::ValidAttachment;
use spiderpool_core::node::Node;
use spiderpool_core::node::attachment::{Attachment, Netns, Plugin};
use spiderpool_core::node::event::{Errand, Event, Evidence};
use tokio::sync::{Mutex, mpsc};
use tokio::time::Instant;
use tracing::{info, warn};

use crate::call::{Call, Ending};
use crate::coordinator::Coordinator;
use crate::evidence::{Seen, Survey};
use crate::keeper::{Keeper, Stopped};

/// Pauses between looks at dying addresses: macvlan deletes its link right after it called us.
const PAUSES: [Duration; 7] = [
    Duration::from_millis(5),
    Duration::from_millis(20),
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_millis(500),
    Duration::from_secs(2),
    Duration::from_secs(10),
];

/// A namespace is gone when nobody holds it any more, and its links go after that; until then they answer for their
/// addresses, and nothing shows whether they do. Some 20 ms is usual, for a hundred namespaces at once, too.
const LINKS_GO: Duration = Duration::from_secs(1);

/// Sandboxes that are read from the state at a time.
const PAGE: usize = 4096;

/// What tells a namespace from others.
type Identity = (u64, u64);

/// Dying addresses by namespace, each with the namespace as its record names it.
type Dying = BTreeMap<Identity, Vec<(IpAddr, Netns)>>;

/// A sandbox's namespace.
pub(crate) type Place = (Arc<str>, Netns);

/// Places that were read together, and the key behind which the next ones are.
type Page<K> = (BTreeSet<Place>, Option<K>);

/// Holds the state against the kernel.
#[derive(Clone)]
pub(crate) struct Settler {
    /// The state.
    pub keeper: Keeper,
    /// Routes and rules of sandboxes.
    pub coordinator: Coordinator,
    /// The host's proc file system.
    pub proc: PathBuf,
    /// How often every sandbox is held against the kernel.
    pub every: Duration,
    /// One look at a time: what it saw must not be told of an address that has died anew since.
    pub turn: Arc<Mutex<Going>>,
}

/// Since when namespaces are gone, by their identity, which no other one gets: as long as an address is dying there.
#[derive(Default)]
pub(crate) struct Going {
    since: BTreeMap<Identity, Instant>,
}

impl Going {
    /// Takes note of what was seen. On older kernels a namespace that seemed gone may be seen again.
    fn note(&mut self, seen: &BTreeMap<Identity, Seen>, dying: &Dying, now: Instant) {
        let is_gone = |seen: &Seen| *seen == Seen::Gone;
        self.since.retain(|netns, _| dying.contains_key(netns) && seen.get(netns).is_none_or(is_gone));
        for (netns, _) in seen.iter().filter(|(_, seen)| is_gone(seen)) {
            self.since.entry(*netns).or_insert(now);
        }
    }

    /// Whether the links of a namespace are gone with it.
    fn links_are_gone(&self, netns: &Identity, now: Instant) -> bool {
        self.since.get(netns).is_some_and(|since| now.duration_since(*since) >= LINKS_GO)
    }
}

impl Settler {
    /// Looks at every sandbox and every dying address once. Returns the sandboxes that are gone.
    pub(crate) async fn round(&self) -> Result<BTreeSet<Place>, Stopped> {
        let mut gone = self.settle(self.keeper.read(|node, _| dying_places(node)).await?).await?;
        gone.append(&mut self.settle_pages(held_places).await?);
        gone.append(&mut self.settle_pages(planned_places).await?);
        if !gone.is_empty() {
            info!(sandboxes = gone.len(), "Sandboxes whose network namespace is gone gave back what they held");
        }
        Ok(gone)
    }

    /// A page after the other, so that calls wait for the reading of one at most.
    async fn settle_pages<K: Send + 'static>(
        &self,
        page: fn(&Node, Option<K>) -> Page<K>,
    ) -> Result<BTreeSet<Place>, Stopped> {
        let (mut gone, mut after) = (BTreeSet::new(), None);
        loop {
            let from = after.take();
            let (places, last) = self.keeper.read(move |node, _| page(node, from)).await?;
            gone.append(&mut self.settle(places).await?);
            if last.is_none() {
                return Ok(gone);
            }
            after = last;
        }
    }

    /// Looks at these namespaces and acts on what is seen. Returns the ones that are gone.
    pub(crate) async fn settle(&self, places: BTreeSet<Place>) -> Result<BTreeSet<Place>, Stopped> {
        if places.is_empty() {
            return Ok(places);
        }
        let mut going = self.turn.lock().await;
        // Read before the look: an address that dies during it may be configured after it was looked for.
        let dying = self.keeper.read(|node, _| dying(node)).await?;
        let proc = self.proc.clone();
        let looks = tokio::task::spawn_blocking(move || (look(&Survey::take(&proc), &places, &dying), places, dying));
        let (seen, places, dying) = match looks.await {
            Ok(looks) => looks,
            Err(ended) => {
                warn!(error = %ended, "A look at the sandboxes ended early; nothing is given back");
                return Ok(BTreeSet::new());
            }
        };
        let mut gone = BTreeSet::new();
        let now = Instant::now();
        going.note(&seen, &dying, now);
        for (netns, addresses) in &dying {
            let is_gone = |address: &IpAddr| match seen.get(netns) {
                Some(Seen::Alive(here)) => !here.contains(address),
                Some(Seen::Gone) => going.links_are_gone(netns, now),
                Some(Seen::Unknown) | None => false,
            };
            for (address, netns) in addresses.iter().filter(|(address, _)| is_gone(address)) {
                reach(Point::AddressGone);
                let evidence = Evidence::AddressGone(*address, netns.clone());
                self.keeper.tell(Event::Evidence(evidence)).await?;
            }
        }
        for place in places.into_iter().filter(|(_, netns)| seen.get(&netns.identity()) == Some(&Seen::Gone)) {
            reach(Point::SandboxGone);
            let (container, netns) = place.clone();
            self.coordinator.forget(&container, &netns).await?;
            self.keeper.tell(Event::Evidence(Evidence::SandboxGone { container, netns })).await?;
            gone.insert(place);
        }
        Ok(gone)
    }

    /// GC: what the runtime no longer lists goes, if the kernel shows its sandbox gone. What lives is held and named.
    pub(crate) async fn gc(&self, call: &Call) -> Ending {
        let valid = call.valid_attachments()?;
        let (network, started, plugin) = (call.who.network.clone(), call.started, call.plugin);
        let unlisted = move |who: &Attachment, since: u64| {
            let listed =
                ValidAttachment { container_id: who.container.to_string(), interface: who.interface.to_string() };
            who.network == network && since < started && !valid.contains(&listed)
        };
        let candidates: Vec<(Attachment, Netns)> = self
            .keeper
            .read(move |node, _| {
                let all = attachments(node, plugin).filter(|(who, since, _)| unlisted(who, *since));
                all.map(|(who, _, netns)| (who.clone(), netns.clone())).collect()
            })
            .await?;
        let place = |(who, netns): &(Attachment, Netns)| (Arc::clone(&who.container), netns.clone());
        let gone = self.settle(candidates.iter().map(place).collect()).await?;
        for candidate in candidates.iter().filter(|candidate| !gone.contains(&place(candidate))) {
            warn!(attachment = %candidate.0, "GC does not list an attachment whose sandbox lives; it stays as it is");
        }
        Ok(String::new())
    }

    /// Runs errands, and a round now and then, until the keeper ends.
    pub(crate) async fn run(self, mut errands: mpsc::UnboundedReceiver<Errand>) {
        // A timer of no time at all is none.
        let mut next_round = tokio::time::interval(self.every.max(PAUSES[0]));
        next_round.tick().await;
        let mut looks = Looks::default();
        // Sandboxes that a newer one of the same Pod may have outlived. The kernel takes a moment over a namespace that
        // nobody holds any more, so one look is not enough.
        let mut older = BTreeSet::new();
        // What was dying when the daemon ended has no errand any more.
        looks.ask();
        loop {
            let places = tokio::select! {
                errand = errands.recv() => match errand {
                    Some(Errand::Look) => {
                        looks.ask();
                        continue;
                    }
                    Some(Errand::LookAt { container, netns }) => {
                        older.insert((container, netns));
                        looks.ask();
                        continue;
                    }
                    None => return,
                },
                () = looks.next() => {
                    let dying = self.keeper.read(|node, _| dying_places(node)).await;
                    let places = dying.map(|dying| &dying | &older);
                    looks.done(places.as_ref().is_ok_and(BTreeSet::is_empty));
                    if looks.is_last() {
                        // One that still lives is looked at in the rounds, as all are.
                        older.clear();
                    }
                    Some(places)
                }
                _ = next_round.tick() => None,
            };
            let settled = match places {
                Some(Ok(places)) => self.settle(places).await,
                Some(Err(stopped)) => Err(stopped),
                None => self.round().await,
            };
            match settled {
                Ok(gone) => older.retain(|place| !gone.contains(place)),
                Err(Stopped) => return,
            }
        }
    }
}

/// When to look at dying addresses next: soon after one began to die, then less and less often.
#[derive(Default)]
struct Looks {
    due: Option<Instant>,
    step: usize,
}

impl Looks {
    /// An address began to die. A look that is due earlier stays due: a stream of DELs must not put it off for ever.
    fn ask(&mut self) {
        let soon = Instant::now() + PAUSES[0];
        self.due = Some(self.due.map_or(soon, |due| due.min(soon)));
        self.step = 0;
    }

    /// Ready when a look is due; never without one.
    async fn next(&self) {
        match self.due {
            Some(due) => tokio::time::sleep_until(due).await,
            None => std::future::pending().await,
        }
    }

    /// Whether the pauses have grown as long as they get.
    fn is_last(&self) -> bool {
        self.step == PAUSES.len() - 1
    }

    /// A look begins. `last`: nothing is dying any more.
    fn done(&mut self, last: bool) {
        self.step = (self.step + 1).min(PAUSES.len() - 1);
        self.due = (!last).then(|| Instant::now() + PAUSES[self.step]);
    }
}

/// A plugin's attachments, with the start of their latest ADD and their namespace.
fn attachments(node: &Node, plugin: Plugin) -> Box<dyn Iterator<Item = (&Attachment, u64, &Netns)> + '_> {
    match plugin {
        Plugin::Ipam => Box::new(node.attachments().held().iter().map(|(who, held)| (who, held.started, &held.netns))),
        Plugin::Coordinator => Box::new(
            node.attachments()
                .sandboxes()
                .values()
                .flat_map(|sandbox| sandbox.parts.iter().map(|(who, started)| (who, *started, &sandbox.netns))),
        ),
    }
}

/// Sandboxes that hold addresses.
fn held_places(node: &Node, after: Option<Attachment>) -> Page<Attachment> {
    page(node.attachments().held(), after, |who, held| (Arc::clone(&who.container), held.netns.clone()))
}

/// Sandboxes with a plan.
fn planned_places(node: &Node, after: Option<Arc<str>>) -> Page<Arc<str>> {
    page(node.attachments().sandboxes(), after, |container, sandbox| (Arc::clone(container), sandbox.netns.clone()))
}

fn page<K: Clone + Ord, V>(table: &BTreeMap<K, V>, after: Option<K>, place: impl Fn(&K, &V) -> Place) -> Page<K> {
    let from = after.map_or(Bound::Unbounded, Bound::Excluded);
    let page: Vec<(&K, &V)> = table.range((from, Bound::Unbounded)).take(PAGE).collect();
    let last = page.last().filter(|_| page.len() == PAGE).map(|(key, _)| (*key).clone());
    (page.into_iter().map(|(key, value)| place(key, value)).collect(), last)
}

fn dying_places(node: &Node) -> BTreeSet<Place> {
    node.leases().dying().values().map(|dying| (Arc::clone(&dying.holder.container), dying.netns.clone())).collect()
}

/// Addresses that are dying, by the identity of their namespace.
fn dying(node: &Node) -> Dying {
    let mut places = Dying::new();
    for (address, dying) in node.leases().dying() {
        places.entry(dying.netns.identity()).or_default().push((*address, dying.netns.clone()));
    }
    places
}

/// What is known of each namespace, by its identity. Many sandboxes may share one; and only one where an address is
/// dying is entered.
fn look(survey: &Survey, places: &BTreeSet<Place>, dying: &Dying) -> BTreeMap<Identity, Seen> {
    let mut seen = BTreeMap::new();
    for (_, netns) in places {
        seen.entry(netns.identity()).or_insert_with(|| match dying.contains_key(&netns.identity()) {
            true => survey.look(netns),
            false if survey.is_gone(netns) => Seen::Gone,
            false => Seen::Unknown,
        });
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_reach_every_entry_once() {
        let netns = |inode| Netns { path: String::new(), inode, cookie: 1 };
        for count in [0, 1, PAGE, PAGE + 1, 3 * PAGE] {
            let table: BTreeMap<u64, Netns> = (0..count as u64).map(|number| (number, netns(number))).collect();
            let (mut found, mut after, mut pages) = (Vec::new(), None, 0);
            loop {
                let (places, last) = page(&table, after, |_, netns| (Arc::from("c"), netns.clone()));
                assert!(places.len() <= PAGE);
                found.extend(places.into_iter().map(|(_, netns)| netns.inode));
                pages += 1;
                after = last;
                if after.is_none() {
                    break;
                }
            }
            assert!(found.iter().copied().eq(0..count as u64), "{count}");
            assert_eq!(pages, count / PAGE + 1);
        }
    }
}
