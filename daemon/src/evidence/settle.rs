//! Acts on evidence: one function for start, GC, the periodic round and dying addresses.
//!
//! A sandbox whose namespace is gone gives back what it held, and the host's objects of its plan go. A dying address
//! that no link shows any more begins its cooldown. Everything else stays as it is.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

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

/// How often every sandbox is held against the kernel.
const ROUND: Duration = Duration::from_secs(60);

/// Pauses between looks at dying addresses: macvlan deletes its link right after it called us.
const PAUSES: [Duration; 6] = [
    Duration::from_millis(5),
    Duration::from_millis(20),
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_secs(2),
    Duration::from_secs(10),
];

/// A sandbox's namespace.
pub(crate) type Place = (Arc<str>, Netns);

/// Holds the state against the kernel.
#[derive(Clone)]
pub(crate) struct Settler {
    /// The state.
    pub keeper: Keeper,
    /// Routes and rules of sandboxes.
    pub coordinator: Coordinator,
    /// The host's proc file system.
    pub proc: PathBuf,
    /// One look at a time: what it saw must not be told of an address that has died anew since.
    pub turn: Arc<Mutex<()>>,
}

impl Settler {
    /// Looks at every sandbox and every dying address once.
    pub(crate) async fn round(&self) -> Result<(), Stopped> {
        let places = self.keeper.read(|node, _| all_places(node)).await?;
        let gone = self.settle(places).await?;
        if !gone.is_empty() {
            info!(sandboxes = gone.len(), "Sandboxes whose network namespace is gone gave back what they held");
        }
        Ok(())
    }

    /// Looks at these namespaces and acts on what is seen. Returns the ones that are gone.
    pub(crate) async fn settle(&self, places: BTreeSet<Place>) -> Result<BTreeSet<Place>, Stopped> {
        if places.is_empty() {
            return Ok(places);
        }
        let _turn = self.turn.lock().await;
        // Read before the look: an address that dies during it may be configured after it was looked for.
        let mut dying = self.keeper.read(|node, _| dying(node)).await?;
        let proc = self.proc.clone();
        let looks = tokio::task::spawn_blocking(move || {
            let survey = Survey::take(&proc);
            places.into_iter().map(|place| (survey.look(&place.1), place)).collect::<Vec<_>>()
        });
        let looks = match looks.await {
            Ok(looks) => looks,
            Err(ended) => {
                warn!(error = %ended, "A look at the sandboxes ended early; nothing is given back");
                return Ok(BTreeSet::new());
            }
        };
        let mut gone = BTreeSet::new();
        for (seen, place) in looks {
            match seen {
                Seen::Gone => {
                    let (container, netns) = place.clone();
                    self.coordinator.forget(&container, &netns).await?;
                    self.keeper.tell(Event::Evidence(Evidence::SandboxGone { container, netns })).await?;
                    gone.insert(place);
                }
                Seen::Alive(addresses) => {
                    // Once a namespace, however many containers name it.
                    let here = dying.remove(&place.1).into_iter().flatten();
                    for address in here.filter(|address| !addresses.contains(address)) {
                        let evidence = Evidence::AddressGone(address, place.1.clone());
                        self.keeper.tell(Event::Evidence(evidence)).await?;
                    }
                }
                Seen::Unknown => {}
            }
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
        let mut next_round = tokio::time::interval(ROUND);
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
                    places
                }
                _ = next_round.tick() => self.keeper.read(|node, _| all_places(node)).await,
            };
            let settled = match places {
                Ok(places) => self.settle(places).await,
                Err(stopped) => Err(stopped),
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

fn all_places(node: &Node) -> BTreeSet<Place> {
    let of = |plugin| attachments(node, plugin).map(|(who, _, netns)| (Arc::clone(&who.container), netns.clone()));
    of(Plugin::Ipam).chain(of(Plugin::Coordinator)).chain(dying_places(node)).collect()
}

fn dying_places(node: &Node) -> BTreeSet<Place> {
    node.leases().dying().values().map(|dying| (Arc::clone(&dying.holder.container), dying.netns.clone())).collect()
}

fn dying(node: &Node) -> BTreeMap<Netns, Vec<IpAddr>> {
    let mut places: BTreeMap<Netns, Vec<IpAddr>> = BTreeMap::new();
    for (address, dying) in node.leases().dying() {
        places.entry(dying.netns.clone()).or_default().push(*address);
    }
    places
}
