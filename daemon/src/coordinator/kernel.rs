//! Both namespaces of one story, and the threads on which the kernel is waited for.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use spiderpool_cni::types::{CniError, Code};
use spiderpool_core::node::attachment::Netns;
use spiderpool_core::plan::{Ask, Change, Observation, Plan};
use tracing::{debug, warn};

use crate::net::{self, Connection, NetError, Outcome, Sandbox};

/// Does work that blocks on a thread for such work.
///
/// # Errors
/// The work panicked.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, CniError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|panic| CniError::new(Code::Io, format!("a look at the kernel ended early: {panic}")))
}

/// The host's namespace, the sandbox's if it is there, and what was seen of them last.
pub(super) struct Kernel {
    sandbox: Option<Sandbox>,
    host: Connection,
    ask: Ask,
    /// What was seen last.
    pub(super) seen: Observation,
}

type Looked = Result<Result<Kernel, NetError>, CniError>;

impl Kernel {
    /// The host and the sandbox whose namespace is at a path, ready to be looked at.
    pub(super) async fn open(netns: PathBuf, proc: &Path, ask: Ask) -> Looked {
        let proc = proc.to_owned();
        blocking(move || {
            let sandbox = Some(Sandbox::open(&netns, &proc, &ask)?);
            Ok(Kernel { sandbox, host: Connection::open()?, ask, seen: Observation::default() })
        })
        .await
    }

    /// The host, and the sandbox if its path still leads to that very namespace.
    pub(super) async fn open_if_there(netns: &Netns, proc: &Path, ask: Ask) -> Looked {
        let (netns, proc) = (netns.clone(), proc.to_owned());
        blocking(move || {
            let opened = Sandbox::open(Path::new(&netns.path), &proc, &ask);
            let sandbox = match opened.and_then(|opened| Ok((opened.identity()?, opened))) {
                Ok((identity, sandbox)) => Some(sandbox).filter(|_| identity.is_same(&netns)),
                Err(error) if error.is_gone() || matches!(error, NetError::OwnNamespace(_)) => {
                    debug!(netns = netns.path, %error, "The sandbox's namespace is not there any more");
                    None
                }
                // Out of files, or of memory: the sandbox may live, and what it has is not taken for gone.
                Err(error) => return Err(error),
            };
            Ok(Kernel { sandbox, host: Connection::open()?, ask, seen: Observation::default() })
        })
        .await
    }

    /// What identifies the sandbox's namespace.
    pub(super) fn identity(&self) -> Result<Netns, NetError> {
        match &self.sandbox {
            Some(sandbox) => sandbox.identity(),
            None => Err(NetError::NoNamespace(String::new())),
        }
    }

    /// Looks at what was asked.
    pub(super) async fn look(mut self) -> Looked {
        blocking(move || {
            self.seen = net::observe(&self.ask, self.sandbox.as_mut(), &mut self.host)?;
            Ok(self)
        })
        .await
    }

    /// Makes changes until one is refused; see [`net::apply`].
    pub(super) async fn apply(mut self, steps: Vec<Change>) -> Result<(Kernel, Outcome), CniError> {
        blocking(move || {
            let outcome = net::apply(&steps, &self.seen, self.sandbox.as_mut(), &mut self.host);
            (self, outcome)
        })
        .await
    }

    /// Makes every change that can be made; see [`net::apply_all`].
    pub(super) async fn apply_all(mut self, steps: Vec<Change>) -> Result<(Kernel, Outcome), CniError> {
        if steps.is_empty() {
            return Ok((self, Outcome::default()));
        }
        blocking(move || {
            let outcome = net::apply_all(&steps, &self.seen, self.sandbox.as_mut(), &mut self.host);
            (self, outcome)
        })
        .await
    }

    /// Tells the interface's segment where its addresses are. Nobody waits for it: a segment that is not told learns
    /// by itself.
    pub(super) fn announce(self, plan: &Plan, interface: &str) {
        let addresses: Vec<IpAddr> = plan.addresses(interface).collect();
        let planned = plan.attached(interface).and_then(|attached| attached.mac);
        let Some(link) = self.seen.pod.link(interface).cloned() else { return };
        let (Some(mac), Some(sandbox)) = (planned.or(link.mac), self.sandbox) else { return };
        tokio::task::spawn_blocking(move || {
            if let Err(error) = net::announce(&sandbox, link.index, mac, &addresses) {
                warn!(interface = link.name, %error, "The interface's addresses were not announced");
            }
        });
    }
}
