//! Drains the tombstones that the CNI programs left while the daemon was away: before it serves, whenever a new one
//! appears, and those of an attachment before its ADD (DEL always ends).

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use spiderpool_cni::failpoint::{Point, reach};
use spiderpool_cni::spool;
use spiderpool_cni::types::{CniError, Code};
use spiderpool_proto::node::CniRequest;
use tokio::sync::Mutex;
use tracing::{info, warn};

use crate::keeper::Stopped;

/// The spool's reader.
#[derive(Clone)]
pub(crate) struct Spool {
    folder: PathBuf,
    /// One drain at a time; whoever waits finds the folder empty.
    turn: Arc<Mutex<()>>,
}

impl Spool {
    /// The spool in a folder.
    pub(crate) fn new(folder: PathBuf) -> Spool {
        Spool { folder, turn: Arc::default() }
    }

    /// Carries out every tombstone by `del`. What is junk is set aside once, under a name that is not read again.
    pub(crate) async fn drain<D>(&self, del: impl Fn(CniRequest) -> D)
    where
        D: Future<Output = Result<Result<(), CniError>, Stopped>>,
    {
        let _turn = self.turn.lock().await;
        let entries = match spool::read(&self.folder) {
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
                    }
                }
                Err(reason) => {
                    junk += 1;
                    set_aside(&path, &reason.to_string());
                }
            }
        }
        if done + junk > 0 {
            info!(done, junk, "Drained the spool");
        }
    }

    /// Whether there is anything to drain: cheap enough to ask before every ADD.
    pub(crate) fn is_empty(&self) -> bool {
        std::fs::read_dir(&self.folder).map_or(true, |mut files| {
            !files.any(|file| file.is_ok_and(|file| file.path().extension().is_some_and(|end| end == "tombstone")))
        })
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

fn set_aside(path: &Path, reason: &str) {
    let aside = path.with_extension("junk");
    warn!(file = %path.display(), kept_as = %aside.display(), reason, "A tombstone is not whole");
    if let Err(error) = std::fs::rename(path, &aside) {
        warn!(%error, "Cannot set a junk tombstone aside");
    }
}
