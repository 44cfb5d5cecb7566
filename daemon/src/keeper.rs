//! The one thread that owns the node's state and its journal.
//!
//! It takes what has arrived, lets the state machine handle all of it, commits the rows once, and only then lets out
//! replies, messages and errands (Durable first). What arrives during the fsync is the next batch: concurrent calls
//! share one. A commit that fails releases nothing: the thread ends, and with it the process, which replays the
//! journal when it starts again. While the disk has no room for what events may write, none happens: they wait in their
//! order, and looks are served.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use spiderpool_cni::failpoint::{Point, reach};
use spiderpool_core::journal::{CommitError, Journal};
use spiderpool_core::message::{SessionId, Up};
use spiderpool_core::node::Node;
use spiderpool_core::node::event::{Effects, Errand, Event, Reply, Ticket};
use tokio::sync::{Semaphore, SemaphorePermit, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::clock;
use crate::metrics::JournalMetrics;
use crate::room::{self, Full, Room};

/// Most events in one batch.
const BATCH: usize = 256;

/// Room of the inbox.
const INBOX: usize = 4096;

/// Pause before a disk without room is looked at again.
const PAUSE: Duration = Duration::from_millis(200);

/// ADDs at a time: fewer than the inbox holds, so that DEL and the feeder always fit.
const ADDS: usize = 1024;

/// The thread's handle, for everyone who asks or tells.
#[derive(Clone)]
pub(crate) struct Keeper {
    inbox: mpsc::Sender<Ask>,
    adds: Arc<Semaphore>,
    tickets: Arc<AtomicU64>,
}

/// Where the thread sends what it lets out.
pub(crate) struct Outlets {
    /// To the feeder. Without bound, as one event makes few messages and events are bounded.
    pub messages: mpsc::UnboundedSender<(SessionId, Up)>,
    /// To whoever looks after the kernel.
    pub errands: mpsc::UnboundedSender<Errand>,
}

type View = Box<dyn FnOnce(&Node, &dyn Journal) + Send>;

enum Ask {
    Call(Ticket, Event, oneshot::Sender<Reply>),
    Tell(Event),
    Read(View),
    Look(View),
    Stop,
}

/// The thread has ended; the process is about to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the daemon is stopping")]
pub(crate) struct Stopped;

impl Keeper {
    /// Starts the thread. The receiver tells how it ended.
    pub(crate) fn start(
        node: Node,
        journal: Box<dyn Journal + Send>,
        outlets: Outlets,
        metrics: JournalMetrics,
        room: Arc<Room>,
    ) -> std::io::Result<(Keeper, oneshot::Receiver<Result<(), CommitError>>)> {
        let (inbox, asked) = mpsc::channel(INBOX);
        let (ending, ended) = oneshot::channel();
        let runtime = tokio::runtime::Handle::current();
        thread::Builder::new().name("keeper".into()).spawn(move || {
            let mut owner = Owner {
                node,
                journal,
                outlets,
                metrics,
                room,
                asked,
                held: VecDeque::new(),
                runtime,
                waiting: HashMap::new(),
            };
            // How it ended is said before its outlets close and others end of that. Nobody may listen any more when the
            // process is ending anyway.
            let _ = ending.send(owner.run());
        })?;
        let tickets = Arc::new(AtomicU64::new(1));
        Ok((Keeper { inbox, adds: Arc::new(Semaphore::new(ADDS)), tickets }, ended))
    }

    /// A place among the ADDs that may be under way.
    pub(crate) async fn admit(&self) -> Result<SemaphorePermit<'_>, Stopped> {
        self.adds.acquire().await.map_err(|_| Stopped)
    }

    /// Lets an event happen and waits for its reply. `make` is given the ticket to put into the event.
    pub(crate) async fn call(&self, make: impl FnOnce(Ticket) -> Event) -> Result<Reply, Stopped> {
        let (_, reply) = self.begin(make).await?;
        reply.await.map_err(|_| Stopped)
    }

    /// As [`Keeper::call`], but gives up when the token is cancelled while the event still waits. None: given up,
    /// nothing was done.
    pub(crate) async fn call_unless(
        &self,
        cancelled: &CancellationToken,
        make: impl FnOnce(Ticket) -> Event,
    ) -> Result<Option<Reply>, Stopped> {
        let (ticket, mut reply) = self.begin(make).await?;
        tokio::select! {
            reply = &mut reply => return reply.map(Some).map_err(|_| Stopped),
            () = cancelled.cancelled() => self.tell(Event::Abandon(ticket)).await?,
        }
        Ok(reply.await.ok())
    }

    async fn begin(&self, make: impl FnOnce(Ticket) -> Event) -> Result<(Ticket, oneshot::Receiver<Reply>), Stopped> {
        let ticket = self.tickets.fetch_add(1, Ordering::Relaxed);
        let (answer, reply) = oneshot::channel();
        self.inbox.send(Ask::Call(ticket, make(ticket), answer)).await.map_err(|_| Stopped)?;
        Ok((ticket, reply))
    }

    /// Lets an event happen that nobody waits for.
    pub(crate) async fn tell(&self, event: Event) -> Result<(), Stopped> {
        self.inbox.send(Ask::Tell(event)).await.map_err(|_| Stopped)
    }

    /// Reads the state as it is on disk, after what was asked before.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Node, &dyn Journal) -> T + Send + 'static,
    ) -> Result<T, Stopped> {
        self.view(look, Ask::Read).await
    }

    /// As [`Keeper::read`], but while events wait for room on the disk it does not wait with them: for people, and for
    /// calls that change nothing.
    pub(crate) async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Node, &dyn Journal) -> T + Send + 'static,
    ) -> Result<T, Stopped> {
        self.view(look, Ask::Look).await
    }

    async fn view<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Node, &dyn Journal) -> T + Send + 'static,
        ask: fn(View) -> Ask,
    ) -> Result<T, Stopped> {
        let (answer, seen) = oneshot::channel();
        let view: View = Box::new(move |node, journal| drop(answer.send(look(node, journal))));
        self.inbox.send(ask(view)).await.map_err(|_| Stopped)?;
        seen.await.map_err(|_| Stopped)
    }

    /// Ends the thread, after what was asked before if that can be recorded.
    pub(crate) async fn stop(&self) {
        // It has ended already if this fails.
        let _ = self.inbox.send(Ask::Stop).await;
    }
}

/// What lives on the thread.
struct Owner {
    node: Node,
    journal: Box<dyn Journal + Send>,
    outlets: Outlets,
    metrics: JournalMetrics,
    room: Arc<Room>,
    asked: mpsc::Receiver<Ask>,
    /// What is to come before what is still in the inbox. As long as what its callers have under way at most.
    held: VecDeque<Ask>,
    runtime: tokio::runtime::Handle,
    waiting: HashMap<Ticket, oneshot::Sender<Reply>>,
}

impl Owner {
    fn run(&mut self) -> Result<(), CommitError> {
        while let Some(first) = self.next() {
            self.held.push_front(first);
            if !self.has_room(Room::for_events, false) {
                break;
            }
            let mut effects = Effects::default();
            let mut views = Vec::new();
            let (mut stop, mut taken) = (false, 0);
            while !stop
                && taken < BATCH
                && effects.batch.rows.len() < room::BATCH
                && let Some(ask) = self.held.pop_front().or_else(|| self.asked.try_recv().ok())
            {
                stop = self.take(ask, &mut effects, &mut views);
                taken += 1;
            }
            if stop {
                // Not to be waited for room with.
                self.held.push_front(Ask::Stop);
            }
            // What events write cannot be known before they happen. Nothing of it is let out yet.
            let rows = effects.batch.rows.len();
            if rows > 0 && !self.has_room(|room| room.for_journal(rows), true) {
                break;
            }
            self.commit(&effects)?;
            self.release(effects);
            reach(Point::BatchReleased);
            views.into_iter().for_each(|view| view(&self.node, self.journal.as_ref()));
            if stop {
                break;
            }
        }
        Ok(())
    }

    /// The next ask, or `Due` when time has come for something that waits.
    fn next(&mut self) -> Option<Ask> {
        if let Some(ask) = self.held.pop_front() {
            return Some(ask);
        }
        let due = self.node.due().map(clock::until);
        let asked = &mut self.asked;
        self.runtime.block_on(async {
            match due {
                None => asked.recv().await,
                Some(Duration::ZERO) => Some(Ask::Tell(Event::Due)),
                Some(wait) => tokio::time::timeout(wait, asked.recv()).await.unwrap_or(Some(Ask::Tell(Event::Due))),
            }
        })
    }

    /// Waits until the disk has room. False: the thread is to end. Looks are served meanwhile, unless the state is ahead of
    /// the disk.
    fn has_room(&mut self, look: impl Fn(&Room) -> Result<(), Full>, is_ahead: bool) -> bool {
        let Err(full) = look(&self.room) else { return true };
        warn!(error = %full, "Nothing can be recorded; what happens on this node waits for room on the disk");
        let begun = clock::boot();
        let mut asks = std::mem::take(&mut self.held);
        loop {
            for ask in asks.drain(..) {
                match ask {
                    Ask::Look(view) if !is_ahead => view(&self.node, self.journal.as_ref()),
                    Ask::Stop => return false,
                    ask => self.held.push_back(ask),
                }
            }
            if look(&self.room).is_ok() {
                let seconds = clock::boot().saturating_sub(begun) / 1_000_000_000;
                info!(seconds, "There is room to record again");
                return true;
            }
            let asked = &mut self.asked;
            match self.runtime.block_on(async { tokio::time::timeout(PAUSE, asked.recv()).await }) {
                Ok(Some(ask)) => asks.push_back(ask),
                Ok(None) => return false,
                Err(_) => {}
            }
        }
    }

    /// Handles one ask. True: the thread is to end.
    fn take(&mut self, ask: Ask, effects: &mut Effects, views: &mut Vec<View>) -> bool {
        match ask {
            Ask::Call(ticket, event, reply) => {
                self.waiting.insert(ticket, reply);
                self.node.handle(clock::now(), event, effects);
            }
            Ask::Tell(event) => {
                let abandoned = if let Event::Abandon(ticket) = event { Some(ticket) } else { None };
                self.node.handle(clock::now(), event, effects);
                // A reply on its way out is worth more than the abandonment that crossed it.
                if let Some(ticket) = abandoned.filter(|ticket| !effects.replies.iter().any(|(to, _)| to == ticket)) {
                    self.waiting.remove(&ticket);
                }
            }
            Ask::Read(view) | Ask::Look(view) => views.push(view),
            Ask::Stop => return true,
        }
        false
    }

    fn commit(&mut self, effects: &Effects) -> Result<(), CommitError> {
        if effects.batch.is_empty() {
            return Ok(());
        }
        let begun = clock::boot();
        self.journal.commit(&effects.batch)?;
        let took = Duration::from_nanos(clock::boot().saturating_sub(begun));
        self.metrics.committed(took, effects.batch.rows.len());
        Ok(())
    }

    fn release(&mut self, effects: Effects) {
        for (ticket, reply) in effects.replies {
            if let Some(waiting) = self.waiting.remove(&ticket) {
                // The caller may have gone; the record answers its retry or its DEL.
                let _ = waiting.send(reply);
            }
        }
        // Receivers end only with the process.
        for message in effects.messages {
            let _ = self.outlets.messages.send(message);
        }
        for errand in effects.errands {
            let _ = self.outlets.errands.send(errand);
        }
    }
}

#[cfg(test)]
mod tests;
