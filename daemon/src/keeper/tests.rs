//! A disk that is full, played: what happens waits, and nothing of it is let out.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};

use spiderpool_core::journal::{Batch, Binding, Damage, Key, Record, Table};
use spiderpool_core::message::JournalId;
use spiderpool_core::node::attachment::Attachment;

use super::*;
use crate::metrics::Metrics;

const PATIENCE: Duration = Duration::from_secs(10);

/// A store that counts.
struct Store(Arc<AtomicUsize>);

impl Journal for Store {
    fn rows(&self, _: Table) -> Box<dyn Iterator<Item = Result<(Key, Record), Damage>> + '_> {
        Box::new(std::iter::empty())
    }

    fn commit(&mut self, _: &Batch) -> Result<(), CommitError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// A disk that has room so many more times that it is asked, and then none until there is some again.
#[derive(Default)]
struct Disk {
    times: AtomicU64,
    has_room: AtomicBool,
}

impl Disk {
    fn free(&self) -> u64 {
        let more = self.times.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |times| times.checked_sub(1)).is_ok();
        if more || self.has_room.load(Ordering::Relaxed) { 4 << 20 } else { 0 }
    }
}

struct Bed {
    keeper: Keeper,
    disk: Arc<Disk>,
    commits: Arc<AtomicUsize>,
    ended: oneshot::Receiver<Result<(), CommitError>>,
    _outlets: (mpsc::UnboundedReceiver<(u64, Up)>, mpsc::UnboundedReceiver<Errand>),
}

impl Bed {
    fn start(folder: &Path, times: u64) -> Bed {
        let disk = Arc::new(Disk { times: AtomicU64::new(times), has_room: AtomicBool::new(false) });
        let commits = Arc::<AtomicUsize>::default();
        let (node, _) = Node::recover(std::iter::empty(), &Binding::default(), JournalId(1), 0).unwrap();
        let (messages, heard) = mpsc::unbounded_channel();
        let (errands, asked) = mpsc::unbounded_channel();
        let played = Arc::clone(&disk);
        let room = Arc::new(Room::played(folder, move || played.free()));
        let store = Box::new(Store(Arc::clone(&commits)));
        let outlets = Outlets { messages, errands };
        let (keeper, ended) = Keeper::start(node, store, outlets, Metrics::new().journal.clone(), room).unwrap();
        Bed { keeper, disk, commits, ended, _outlets: (heard, asked) }
    }

    /// A DEL, under way.
    fn del(&self) -> tokio::task::JoinHandle<Result<Reply, Stopped>> {
        let keeper = self.keeper.clone();
        let who = Attachment { container: "c1".into(), interface: "net1".into(), network: "n".into() };
        tokio::spawn(async move { keeper.call(|ticket| Event::Del { ticket, who, started: 1 }).await })
    }

    /// Whether a look is answered within this time.
    async fn looks(&self, patience: Duration) -> bool {
        tokio::time::timeout(patience, self.keeper.look(|_, _| ())).await.is_ok()
    }

    fn committed(&self) -> usize {
        self.commits.load(Ordering::Relaxed)
    }
}

/// Rule: Durable first.
#[tokio::test]
async fn events_wait_for_room_in_their_order_and_looks_do_not() {
    let folder = tempfile::tempdir().unwrap();
    let bed = Bed::start(folder.path(), 0);
    // A look that comes first opens no way for what comes behind it.
    let first = bed.keeper.look(|_, _| ());
    let del = bed.del();
    tokio::time::timeout(PATIENCE, first).await.unwrap().unwrap();
    let keeper = bed.keeper.clone();
    let read = tokio::spawn(async move { keeper.read(|_, _| ()).await });
    assert!(bed.looks(PATIENCE).await && bed.looks(PATIENCE).await);
    assert!(!del.is_finished() && !read.is_finished());
    assert_eq!(bed.committed(), 0);
    bed.disk.has_room.store(true, Ordering::Relaxed);
    assert_eq!(tokio::time::timeout(PATIENCE, del).await.unwrap().unwrap(), Ok(Reply::Done));
    assert_eq!(tokio::time::timeout(PATIENCE, read).await.unwrap().unwrap(), Ok(()));
    assert_eq!(bed.committed(), 1);
}

/// Rule: Durable first. What happened already is not shown before it can be written.
#[tokio::test]
async fn a_batch_that_finds_no_room_waits_and_nobody_sees_it() {
    let folder = tempfile::tempdir().unwrap();
    let bed = Bed::start(folder.path(), 1);
    let del = bed.del();
    tokio::task::yield_now().await;
    // Several looks at the disk pass meanwhile.
    assert!(!bed.looks(3 * PAUSE).await);
    assert!(!del.is_finished());
    assert_eq!(bed.committed(), 0);
    bed.disk.has_room.store(true, Ordering::Relaxed);
    assert_eq!(tokio::time::timeout(PATIENCE, del).await.unwrap().unwrap(), Ok(Reply::Done));
    assert_eq!(bed.committed(), 1);
}

/// It ends when it is told to, whether events wait to happen or to be written.
#[tokio::test]
async fn the_end_waits_for_no_room() {
    for times in [0, 1] {
        let folder = tempfile::tempdir().unwrap();
        let bed = Bed::start(folder.path(), times);
        let del = bed.del();
        tokio::task::yield_now().await;
        bed.keeper.stop().await;
        assert_eq!(tokio::time::timeout(PATIENCE, bed.ended).await.unwrap().unwrap(), Ok(()));
        assert_eq!(del.await.unwrap(), Err(Stopped));
        assert_eq!(bed.commits.load(Ordering::Relaxed), 0);
    }
}
