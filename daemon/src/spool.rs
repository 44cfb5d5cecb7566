//! Drains the tombstones that the CNI programs left while the daemon was away: before it serves, every few seconds, and
//! new ones and those of its own sandbox before an ADD (DEL always ends).
//!
//! One that disk or kernel refuse stays for a later try, and other sandboxes' ADDs do not wait for it. Junk is moved out
//! of the way.

use std::collections::HashMap;
use std::fs;
use std::future::Future;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use spiderpool_cni::failpoint::{Point, reach};
use spiderpool_cni::spool;
use spiderpool_cni::types::{CniError, Code};
use spiderpool_proto::node::CniRequest;
use tracing::{info, warn};

use crate::keeper::Stopped;

/// The spool's reader.
#[derive(Clone)]
pub(crate) struct Spool {
    folder: PathBuf,
    /// The tombstones that were read and are there still, as they are being carried out or were refused: by path, each with
    /// what it is about.
    known: Arc<Mutex<HashMap<PathBuf, Sandbox>>>,
}

/// What a request is about, by both of its names.
#[derive(Debug, Default)]
struct Sandbox {
    container: String,
    /// Path of the namespace. May be empty in a DEL.
    netns: String,
}

impl Sandbox {
    fn of(request: &CniRequest) -> Sandbox {
        Sandbox { container: request.container_id.clone(), netns: request.netns.clone() }
    }

    /// Whether the ADD of one waits for the DEL of the other. A namespace may go to another container, whose routes
    /// would be taken along.
    fn is_of(&self, request: &CniRequest) -> bool {
        self.container == request.container_id || (!self.netns.is_empty() && self.netns == request.netns)
    }
}

impl Spool {
    /// The spool in a folder.
    pub(crate) fn new(folder: PathBuf) -> Spool {
        Spool { folder, known: Arc::default() }
    }

    /// Carries out tombstones by `del`: all of them, or, before an ADD, those that nobody has read yet and those of its own
    /// sandbox. What is junk is set aside once. Two drains at one time may carry out a tombstone twice, which does no harm,
    /// and neither waits for the other.
    pub(crate) async fn drain<D>(&self, before_add: Option<&CniRequest>, del: impl Fn(CniRequest) -> D)
    where
        D: Future<Output = Result<Result<(), CniError>, Stopped>>,
    {
        let entries = match self.read(before_add) {
            Ok(entries) => entries,
            Err(error) => return warn!(%error, "Cannot read the spool"),
        };
        let (mut done, mut junk) = (0, 0);
        for spool::Entry { path, request } in entries {
            match request {
                Ok(request) => {
                    if is_settled(del(request).await) {
                        done += 1;
                        reach(Point::TombstoneDone);
                        if let Err(error) = spool::remove(&path) {
                            warn!(%error, "Cannot remove a tombstone");
                        }
                        reach(Point::TombstoneRemoved);
                        self.known().remove(&path);
                    }
                }
                Err(reason) => {
                    junk += 1;
                    match self.set_aside(&path, &reason.to_string()) {
                        Ok(()) => drop(self.known().remove(&path)),
                        Err(error) => warn!(%error, "Cannot set a junk tombstone aside"),
                    }
                }
            }
        }
        if done + junk > 0 {
            info!(done, junk, "Drained the spool");
        }
    }

    /// Whether there is anything to drain: cheap enough to ask before every ADD.
    pub(crate) fn is_empty(&self) -> bool {
        fs::read_dir(&self.folder).map_or(true, |mut files| {
            !files.any(|file| file.is_ok_and(|file| file.path().extension().is_some_and(|end| end == "tombstone")))
        })
    }

    /// The tombstones that are in turn, known from now on.
    fn read(&self, before_add: Option<&CniRequest>) -> std::io::Result<Vec<spool::Entry>> {
        // Held over the reading, so that of many ADDs at once one takes what is new.
        let mut known = self.known();
        if before_add.is_none() {
            known.retain(|path, _| path.exists());
        }
        let in_turn = |path: &Path| match (before_add, known.get(path)) {
            (Some(add), Some(sandbox)) => sandbox.is_of(add),
            _ => true,
        };
        let entries = spool::read(&self.folder, in_turn)?;
        for spool::Entry { path, request } in &entries {
            known.insert(path.clone(), request.as_ref().map(Sandbox::of).unwrap_or_default());
        }
        Ok(entries)
    }

    fn known(&self) -> MutexGuard<'_, HashMap<PathBuf, Sandbox>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves what is no tombstone out of the way.
    fn set_aside(&self, path: &Path, reason: &str) -> std::io::Result<()> {
        let folder = self.folder.join("junk");
        let aside = folder.join(path.file_name().unwrap_or_default());
        warn!(file = %path.display(), kept_as = %aside.display(), reason, "A tombstone is not whole");
        fs::create_dir_all(&folder)?;
        match fs::rename(path, &aside) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }
}

/// Whether a tombstone can go.
fn is_settled(ending: Result<Result<(), CniError>, Stopped>) -> bool {
    match ending {
        Ok(Ok(())) => true,
        // The disk or the kernel may be better later.
        Ok(Err(error)) if error.code == Code::Io => {
            warn!(%error, "A tombstone cannot be carried out now, it stays");
            false
        }
        // A request that this daemon refuses it will refuse again.
        Ok(Err(error)) => {
            warn!(%error, "A tombstone cannot be carried out, it is dropped");
            true
        }
        Err(Stopped) => false,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    /// A request of a container, whose namespace has its name.
    fn of(container: &str) -> CniRequest {
        let netns = format!("/run/netns/{container}");
        CniRequest { container_id: container.into(), netns, ..CniRequest::default() }
    }

    fn bury(folder: &Path, container: &str) -> PathBuf {
        spool::write(folder, &of(container)).unwrap()
    }

    /// The containers whose tombstones were tried; those in `fail` are refused by the kernel.
    async fn tried(spool: &Spool, before_add: Option<&CniRequest>, fail: &[&str]) -> Vec<String> {
        let tried = RefCell::new(Vec::new());
        let del = async |request: CniRequest| {
            let outcome = if fail.contains(&&*request.container_id) {
                Err(CniError::new(Code::Io, "the kernel refused"))
            } else {
                Ok(())
            };
            tried.borrow_mut().push(request.container_id);
            Ok(outcome)
        };
        spool.drain(before_add, del).await;
        let mut tried = tried.into_inner();
        tried.sort();
        tried
    }

    /// Rule: DEL always ends. What the kernel refuses stays for later; ADDs wait for their own sandbox's alone, be it
    /// the container or its namespace.
    #[tokio::test]
    async fn an_add_does_not_wait_for_what_others_were_refused() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::new(folder.path().join("spool"));
        for container in ["a", "b", "c"] {
            bury(&spool.folder, container);
        }
        assert_eq!(tried(&spool, None, &["a", "b"]).await, ["a", "b", "c"]);
        assert_eq!(tried(&spool, Some(&of("x")), &["a", "b"]).await, Vec::<String>::new());
        bury(&spool.folder, "d");
        assert_eq!(tried(&spool, Some(&of("a")), &["a", "b"]).await, ["a", "d"]);
        let heir = CniRequest { container_id: "e".into(), ..of("a") };
        assert_eq!(tried(&spool, Some(&heir), &["a", "b"]).await, ["a"]);
        assert_eq!(tried(&spool, Some(&of("a")), &["b"]).await, ["a"]);
        assert_eq!(tried(&spool, None, &[]).await, ["b"]);
        assert!(spool.is_empty() && spool.known().is_empty());
    }

    /// Rule: DEL always ends. The kernel may take its time over the DELs of others.
    #[tokio::test]
    async fn an_add_does_not_wait_for_what_others_are_at() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::new(folder.path().join("spool"));
        bury(&spool.folder, "a");
        let before_add = async {
            bury(&spool.folder, "b");
            tried(&spool, Some(&of("b")), &[]).await
        };
        tokio::select! {
            biased;
            () = spool.drain(None, |_| std::future::pending()) => unreachable!("a DEL that does not end"),
            tried = before_add => assert_eq!(tried, ["b"]),
        }
    }

    #[tokio::test]
    async fn junk_is_moved_out_of_the_way() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::new(folder.path().join("spool"));
        let path = bury(&spool.folder, "a");
        fs::write(&path, "not whole").unwrap();
        assert_eq!(tried(&spool, None, &[]).await, Vec::<String>::new());
        assert!(spool.is_empty());
        assert_eq!(fs::read(spool.folder.join("junk").join(path.file_name().unwrap())).unwrap(), b"not whole");
    }
}
