//! Drains the tombstones that the CNI programs left while the daemon was away: before it serves, whenever a new one
//! appears, and those of an attachment before its ADD (DEL always ends).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use spiderpool_cni::spool;
use spiderpool_proto::node::CniRequest;
use tokio::sync::Mutex;
use tracing::{info, warn};

use crate::server::Server;

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

    /// Carries out every tombstone. What is junk is set aside once, under a name that is not read again.
    pub(crate) async fn drain(&self, server: &Server) {
        let _turn = self.turn.lock().await;
        let entries = match spool::read(&self.folder) {
            Ok(entries) => entries,
            Err(error) => return warn!(%error, "Cannot read the spool"),
        };
        let (mut done, mut junk) = (0, 0);
        for spool::Entry { path, request } in entries {
            match request {
                Ok(request) => {
                    if self.carry_out(server, request).await {
                        done += 1;
                        if let Err(error) = spool::remove(&path) {
                            warn!(%error, "Cannot remove a tombstone");
                        }
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

    /// True: it is done and can go. False: the daemon is stopping.
    async fn carry_out(&self, server: &Server, request: CniRequest) -> bool {
        match server.del(request).await {
            Ok(Ok(())) => true,
            // A request that no daemon can read stays unreadable: keeping it would block nobody and help nobody.
            Ok(Err(error)) => {
                warn!(%error, "A tombstone cannot be carried out, it is dropped");
                true
            }
            Err(_) => false,
        }
    }

    /// Whether there is anything to drain: cheap enough to ask before every ADD.
    pub(crate) fn is_empty(&self) -> bool {
        std::fs::read_dir(&self.folder).map_or(true, |mut files| {
            !files.any(|file| file.is_ok_and(|file| file.path().extension().is_some_and(|end| end == "tombstone")))
        })
    }
}

fn set_aside(path: &Path, reason: &str) {
    let aside = path.with_extension("junk");
    warn!(file = %path.display(), kept_as = %aside.display(), reason, "A tombstone is not whole");
    if let Err(error) = std::fs::rename(path, &aside) {
        warn!(%error, "Cannot set a junk tombstone aside");
    }
}
