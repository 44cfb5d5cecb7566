//! The feeder without a cluster: a folder says which pools there are, and this node owns every address in them.
//!
//! It speaks the messages that a controller would speak. Addresses are granted before the view names their pool, and
//! withdrawn after the view has dropped it, so no ADD meets a pool without its lease.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use notify::Watcher as _;
use spiderpool_api::folder::{File, Folder, Loaded};
use spiderpool_core::address::AddressSet;
use spiderpool_core::journal::Lease;
use spiderpool_core::message::{Down, Grant, GrantId, JournalId, SessionId, Up};
use spiderpool_core::node::event::Event;
use spiderpool_core::world::World;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::evidence::adopt::Search;
use crate::keeper::{Keeper, Stopped};
use crate::view::View;

mod presence;
mod source;

use presence::Presence;
use source::Source;

/// Editors write a file in several steps; what happens within this time is one change.
const SETTLE: Duration = Duration::from_millis(50);

/// Pause before a folder that is away is looked for again.
const PAUSE: Duration = Duration::from_millis(500);

/// The folder is read so often whether a change is told of or not: none is of a file system that is mounted over it.
const ROUND: Duration = Duration::from_secs(5);

/// Name of the SpiderCoordinator that counts.
const COORDINATOR: &str = "default";

/// The feeder.
pub(crate) struct Standalone {
    source: Source,
    folder: Folder,
    view: View,
    keeper: Keeper,
    session: Option<Session>,
    search: Search,
}

/// The session as the feeder sees it.
struct Session {
    journal: JournalId,
    id: SessionId,
    granted: u32,
    /// What the node holds, or will.
    leases: BTreeMap<GrantId, Lease>,
    /// What was asked back and has not come yet.
    asked_back: AddressSet,
}

impl Standalone {
    /// Reads the folder once. Fails if there is none: an absent source must not look like an empty one.
    pub(crate) fn open(
        folder: &Path,
        state: &Path,
        node: &str,
        view: View,
        keeper: Keeper,
        search: Search,
    ) -> anyhow::Result<Standalone> {
        let source = Source::new(folder.to_owned(), state.join("standalone-last-good.json"));
        let mut known = Folder::new(node, COORDINATOR);
        if let Some(files) = source.last_good() {
            known.load(files);
        }
        let files = source.read().with_context(|| format!("cannot read the folder {}", folder.display()))?;
        source.has_changed(&files);
        let mut standalone = Standalone { source, folder: known, view, keeper, session: None, search };
        let loaded = standalone.take(files);
        standalone.view.replace(loaded.world, loaded.refused.iter().map(ToString::to_string).collect());
        Ok(standalone)
    }

    /// Parses files, says what is wrong with them, and keeps them if nothing is.
    fn take(&mut self, files: Vec<File>) -> Loaded {
        let loaded = self.folder.load(files.clone());
        for remark in &loaded.refused {
            warn!(
                file = remark.file,
                line = remark.line,
                field = remark.field,
                reason = remark.text,
                "Refused a document"
            );
        }
        for remark in &loaded.noticed {
            info!(
                file = remark.file,
                line = remark.line,
                field = remark.field,
                text = remark.text,
                "Noticed in a document"
            );
        }
        if loaded.refused.is_empty() {
            self.source.keep(&files);
        }
        let (pools, refused) = (loaded.world.pools().len(), loaded.refused.len());
        info!(folder = %self.source.folder().display(), pools, refused, "Read the standalone folder");
        loaded
    }

    /// Opens the session, answers the node's hello and brings its lease up to date.
    pub(crate) async fn begin(
        &mut self,
        messages: &mut mpsc::UnboundedReceiver<(SessionId, Up)>,
    ) -> Result<(), Stopped> {
        self.keeper.tell(Event::Opened).await?;
        while self.session.is_none() {
            let (session, message) = messages.recv().await.ok_or(Stopped)?;
            self.hear(session, message).await?;
        }
        self.keeper.read(|_, _| ()).await
    }

    /// Answers the node and follows the folder until the keeper ends.
    pub(crate) async fn run(mut self, mut messages: mpsc::UnboundedReceiver<(SessionId, Up)>) -> anyhow::Result<()> {
        let (changed, mut changes) = mpsc::channel(1);
        // A full channel means that a change is known already.
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Reading the folder is an event too, and no change.
            if !event.is_ok_and(|event| event.kind.is_access()) {
                let _ = changed.try_send(());
            }
        })?;
        let folder = self.source.folder().to_owned();
        // When to read again; at first for what changed between the first reading and the watch. A moment, not a pause:
        // messages come all the time while a pool is used out, and must not put it off.
        let mut due = Instant::now() + SETTLE;
        let (mut presence, mut is_watched) = (Presence::default(), true);
        loop {
            let heard = tokio::select! {
                message = messages.recv() => match message {
                    Some((session, message)) => self.hear(session, message).await,
                    None => return Ok(()),
                },
                Some(()) = changes.recv(), if due > Instant::now() + SETTLE => {
                    due = Instant::now() + SETTLE;
                    Ok(())
                }
                () = tokio::time::sleep_until(due) => {
                    while changes.try_recv().is_ok() {}
                    // Anew each time: another folder may have come in its place, with or without a word.
                    let watched = watcher.watch(&folder, notify::RecursiveMode::NonRecursive);
                    let files = presence.judge(&folder, self.source.read());
                    due = Instant::now() + if files.is_some() { ROUND } else { PAUSE };
                    if let (Err(error), Some(_), true) = (&watched, &files, is_watched) {
                        warn!(%error, folder = %folder.display(), "Cannot watch the folder; it is read every 5 s");
                    }
                    is_watched = watched.is_ok() || files.is_none();
                    match files {
                        Some(files) => self.reload(files).await,
                        None => Ok(()),
                    }
                }
            };
            if heard.is_err() {
                return Ok(());
            }
        }
    }

    async fn reload(&mut self, files: Vec<File>) -> Result<(), Stopped> {
        if !self.source.has_changed(&files) {
            return Ok(());
        }
        let loaded = self.take(files);
        if self.grant(&loaded.world).await? {
            self.search.look_again(&self.keeper).await?;
        }
        self.view.replace(Arc::clone(&loaded.world), loaded.refused.iter().map(ToString::to_string).collect());
        self.withdraw(&loaded.world).await
    }

    async fn hear(&mut self, id: SessionId, message: Up) -> Result<(), Stopped> {
        match message {
            Up::Hello { journal, session, leases } => {
                let leases = leases.into_iter().map(|Grant { id, pool, addresses }| (id, Lease { pool, addresses }));
                let (granted, asked_back) = (0, AddressSet::new());
                self.session = Some(Session { journal, id: session, granted, leases: leases.collect(), asked_back });
                self.keeper.tell(Event::Session(session, Down::Repaired)).await?;
                let world = self.view.world();
                self.grant(&world).await?;
                self.withdraw(&world).await
            }
            // Every address of every pool is leased already.
            Up::Demand { pool, .. } => self.keeper.tell(Event::Session(id, Down::Denied { pool })).await,
            Up::Returned { grant, addresses } => {
                if let Some(session) = &mut self.session {
                    session.returned(grant, &addresses);
                }
                let world = self.view.world();
                self.grant(&world).await.map(drop)
            }
        }
    }

    /// Leases what pools have and the node lacks, and waits until that is on its disk. True: there was something.
    async fn grant(&mut self, world: &World) -> Result<bool, Stopped> {
        let Some(session) = &mut self.session else { return Ok(false) };
        let grants = session.missing(world);
        let some = !grants.is_empty();
        for grant in grants {
            let (pool, addresses) = (grant.pool.to_string(), grant.addresses.count());
            info!(pool, addresses, grant = %grant.id, "Leased");
            self.keeper.tell(Event::Session(session.id, Down::Grant(grant))).await?;
        }
        self.keeper.read(|_, _| ()).await?;
        Ok(some)
    }

    /// Asks back what pools have no more.
    async fn withdraw(&mut self, world: &World) -> Result<(), Stopped> {
        let Some(session) = &mut self.session else { return Ok(()) };
        for (grant, addresses) in session.surplus(world) {
            info!(%addresses, %grant, "Withdrew: the pool no longer has these addresses");
            self.keeper.tell(Event::Session(session.id, Down::Withdrawn { grant, addresses })).await?;
        }
        Ok(())
    }
}

impl Session {
    fn missing(&mut self, world: &World) -> Vec<Grant> {
        let leased = self.leases.values().fold(AddressSet::new(), |all, lease| all.union(&lease.addresses));
        let mut grants = Vec::new();
        for pool in world.pools().values() {
            let addresses = pool.addresses.difference(&leased);
            if addresses.is_empty() {
                continue;
            }
            self.granted += 1;
            let id = GrantId { journal: self.journal, session: self.id, number: self.granted };
            self.leases.insert(id, Lease { pool: pool.name.clone(), addresses: addresses.clone() });
            grants.push(Grant { id, pool: pool.name.clone(), addresses });
        }
        grants
    }

    fn surplus(&mut self, world: &World) -> Vec<(GrantId, AddressSet)> {
        let nothing = AddressSet::new();
        let mut surplus = Vec::new();
        for (id, lease) in &self.leases {
            let wanted = world.pools().get(&lease.pool).map_or(&nothing, |pool| &pool.addresses);
            let lost = lease.addresses.difference(wanted).difference(&self.asked_back);
            if !lost.is_empty() {
                surplus.push((*id, lost));
            }
        }
        for (_, lost) in &surplus {
            self.asked_back = self.asked_back.union(lost);
        }
        surplus
    }

    fn returned(&mut self, grant: GrantId, addresses: &AddressSet) {
        self.asked_back = self.asked_back.difference(addresses);
        if let Some(lease) = self.leases.get_mut(&grant) {
            lease.addresses = lease.addresses.difference(addresses);
            if lease.addresses.is_empty() {
                self.leases.remove(&grant);
            }
        }
    }
}

#[cfg(test)]
mod tests;
