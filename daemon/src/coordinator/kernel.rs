//! Both namespaces of one story, and the threads on which the kernel is waited for.

use std::path::{Path, PathBuf};

use spiderpool_cni::types::{CniError, Code};
use spiderpool_core::node::attachment::Netns;
use spiderpool_core::plan::{Ask, Change, Inputs, Observation, Plan};
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
    proc: PathBuf,
    /// What was seen last.
    pub(super) seen: Observation,
}

type Looked = Result<Result<Kernel, NetError>, CniError>;

impl Kernel {
    /// The host and the sandbox whose namespace is at a path.
    pub(super) async fn open(netns: PathBuf, proc: &Path) -> Looked {
        let proc = proc.to_owned();
        blocking(move || {
            let sandbox = Some(Sandbox::open(&netns)?);
            Ok(Kernel { sandbox, host: Connection::open()?, proc, seen: Observation::default() })
        })
        .await
    }

    /// The host, and the sandbox if its path still leads to that very namespace.
    pub(super) async fn open_if_there(netns: &Netns, proc: &Path) -> Looked {
        let (netns, proc) = (netns.clone(), proc.to_owned());
        blocking(move || {
            let found = Sandbox::open(Path::new(&netns.path)).and_then(|found| Ok((found.identity()?, found)));
            let sandbox = match found {
                Ok((identity, sandbox)) => Some(sandbox).filter(|_| identity.is_same(&netns)),
                Err(error) => {
                    debug!(netns = netns.path, %error, "The sandbox's namespace is not to be had");
                    None
                }
            };
            Ok(Kernel { sandbox, host: Connection::open()?, proc, seen: Observation::default() })
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

    /// Looks for what an ADD needs to know.
    pub(super) async fn look_for_inputs(self, before: &Plan, inputs: &Inputs) -> Looked {
        self.look(Ask::of_inputs(before, inputs)).await
    }

    /// Looks for what a recorded plan wants.
    pub(super) async fn look_for_plan(self, plan: &Plan) -> Looked {
        self.look(Ask::of_plan(plan)).await
    }

    async fn look(mut self, ask: Ask) -> Looked {
        blocking(move || {
            self.seen = net::observe(&ask, self.sandbox.as_mut(), &mut self.host, &self.proc)?;
            Ok(self)
        })
        .await
    }

    /// Makes changes until one is refused; see [`net::apply`].
    pub(super) async fn apply(mut self, steps: Vec<Change>) -> Result<(Kernel, Outcome), CniError> {
        blocking(move || {
            let outcome = net::apply(&steps, &self.seen, self.sandbox.as_mut(), &mut self.host, &self.proc);
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
            let outcome = net::apply_all(&steps, &self.seen, self.sandbox.as_mut(), &mut self.host, &self.proc);
            (self, outcome)
        })
        .await
    }

    /// Tells the interface's segment where its addresses are. A segment that cannot be told learns by itself.
    pub(super) async fn announce(self, plan: &Plan, interface: &str) -> Result<(), CniError> {
        let addresses: Vec<_> = plan.addresses(interface).collect();
        let planned = plan.attached(interface).and_then(|attached| attached.mac);
        let Some(link) = self.seen.pod.link(interface).cloned() else { return Ok(()) };
        let (Some(mac), Some(sandbox)) = (planned.or(link.mac), self.sandbox) else { return Ok(()) };
        let told = blocking(move || net::announce(&sandbox, link.index, mac, &addresses)).await?;
        if let Err(error) = told {
            warn!(interface, %error, "The interface's addresses were not announced");
        }
        Ok(())
    }
}
