//! The stories of the coordinator plugin, each from top to bottom.
//!
//! Stories of one sandbox follow each other. A plan is on disk before the kernel is touched; an ADD that fails leaves
//! neither kernel objects nor its part of the record. DEL reads records alone: neither settings nor the namespace
//! need to be there. Objects on the host that sandboxes share go with the last plan that wants them: an ADD holds the
//! host's gate open from its look until its changes are made, and whoever takes something away on the host waits
//! until no ADD is between the two.

mod kernel;
mod settings;

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use ipnet::IpNet;
use spiderpool_cni::types::{CniError, CniResult, Code};
use spiderpool_core::node::Node;
use spiderpool_core::node::attachment::{Attachment, Netns, Sandbox as Record};
use spiderpool_core::node::event::{Event, Plumb, Reply};
use spiderpool_core::plan::{Change, Extended, Inputs, Object, Plan, Refused, Side, changes, extend, undo, withdraw};
use spiderpool_core::world::Mode;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard, RwLock};
use tracing::{debug, warn};

use crate::keeper::{Keeper, Stopped};
use crate::net::NetError;
use crate::server::call::Call;
use crate::server::{Ending, Failure};
use crate::view::View;

use kernel::Kernel;

/// What the stories need.
#[derive(Clone)]
pub(crate) struct Coordinator {
    keeper: Keeper,
    view: View,
    proc: PathBuf,
    turns: Arc<Turns>,
    /// Shared by ADDs between their look at the host and their changes; held alone to take away.
    gate: Arc<RwLock<()>>,
}

/// One turn a sandbox.
#[derive(Default)]
struct Turns {
    by_container: Mutex<HashMap<Arc<str>, Weak<AsyncMutex<()>>>>,
}

impl Coordinator {
    /// Stories over the state and the world; `proc` is where the host's procfs is mounted.
    pub(crate) fn new(keeper: Keeper, view: View, proc: PathBuf) -> Coordinator {
        Coordinator { keeper, view, proc, turns: Arc::default(), gate: Arc::default() }
    }

    /// ADD: look, plan, write the plan, change the kernel, tell the segment.
    pub(crate) async fn add(&self, call: &Call) -> Ending {
        let previous = call.config.previous_result()?.ok_or_else(|| {
            let msg = "prevResult is missing; the coordinator is no first plugin: put it last in the list of plugins";
            CniError::new(Code::InvalidConfiguration, msg)
        })?;
        let Some(inputs) = self.inputs(call, &previous)? else {
            return Ok(previous.render(call.config.cni_version));
        };
        let _turn = self.turns.take(&call.who.container).await;
        let record = self.record(call).await?;
        let open = self.gate.read().await;
        let mut kernel = Kernel::open(call.netns.clone(), &self.proc).await?.map_err(netns_error)?;
        let netns = kernel.identity().map_err(netns_error)?;
        // A record of another namespace is of a sandbox that is gone: what it wants of the host goes now.
        let known = record.as_ref().filter(|record| record.netns.is_same(&netns));
        let before = known.map(|record| record.plan.clone()).unwrap_or_default();
        let recorded = record.as_ref().map(|record| record.plan.clone()).unwrap_or_default();
        kernel = kernel.look_for_inputs(&recorded, &inputs).await?.map_err(kernel_error)?;
        kernel.seen.elsewhere = self.wanted_beside(&call.who.container, recorded.host_objects()).await?;
        let Extended { plan, warnings } = extend(&before, &inputs, &kernel.seen).map_err(refusal)?;
        for warning in &warnings {
            warn!(container = %call.who.container, interface = inputs.interface, %warning, "Not all is as asked");
        }
        self.write(call, &netns, plan.clone()).await?;
        let steps = changes(&recorded, &plan, &kernel.seen);
        let (kernel, outcome) = kernel.apply(steps).await?;
        drop(open);
        if !outcome.failures.is_empty() {
            let failures: Vec<String> = outcome.failures.iter().map(ToString::to_string).collect();
            let left = self.take_back(call, kernel, outcome.applied).await?;
            match known.filter(|record| record.parts.contains_key(&call.who)) {
                Some(record) => self.write(call, &netns, record.plan.clone()).await?,
                None => self.erase(call, before).await?,
            }
            let error = CniError::new(Code::Io, format!("the kernel refused: {}", failures.join("; ")));
            return Err(if left.is_empty() { error } else { error.with_details(left) }.into());
        }
        kernel.announce(&plan, &inputs.interface).await?;
        Ok(answer(previous, &plan, &inputs.interface).render(call.config.cni_version))
    }

    /// DEL: take back what the record says, as far as it is still there, then erase the record.
    pub(crate) async fn del(&self, call: &Call) -> Ending {
        let (who, started) = (call.who.clone(), call.started);
        self.keeper.call(|ticket| Event::Unplumb { ticket, who, started }).await?;
        let _turn = self.turns.take(&call.who.container).await;
        let Some(record) = self.record(call).await? else { return Ok(String::new()) };
        // No part: deleted before. A part that started later: this DEL is not meant for it.
        if record.parts.get(&call.who).is_none_or(|part| *part > call.started) {
            return Ok(String::new());
        }
        // An interface whose DEL was lost may have come back in another network: what it wants is that one's now.
        let of_another = |other: &Attachment| *other != call.who && other.interface == call.who.interface;
        let after = if record.parts.keys().any(of_another) {
            record.plan.clone()
        } else {
            withdraw(&record.plan, &call.who.interface)
        };
        self.retire(&record, &after, &call.who.container).await?;
        self.erase(call, after).await?;
        Ok(String::new())
    }

    /// CHECK: the kernel is as the record says.
    pub(crate) async fn check(&self, call: &Call) -> Ending {
        let _turn = self.turns.take(&call.who.container).await;
        let record = self.record(call).await?.filter(|record| record.parts.contains_key(&call.who));
        let Some(record) = record else {
            if settings::is_disabled(call, &self.view.world())? {
                return Ok(String::new());
            }
            let msg = format!("nothing is planned for {} of container {}", call.who.interface, call.who.container);
            return Err(CniError::new(Code::UnknownContainer, msg).into());
        };
        let kernel = Kernel::open(call.netns.clone(), &self.proc).await?.map_err(netns_error)?;
        if !kernel.identity().map_err(netns_error)?.is_same(&record.netns) {
            let msg = format!("CNI_NETNS is not the namespace {} that was planned for", record.netns.path);
            return Err(CniError::new(Code::Difference, msg).into());
        }
        let kernel = kernel.look_for_plan(&record.plan).await?.map_err(kernel_error)?;
        let differences: Vec<String> =
            changes(&record.plan, &record.plan, &kernel.seen).iter().map(Change::difference).collect();
        if differences.is_empty() {
            return Ok(String::new());
        }
        Err(CniError::new(Code::Difference, differences.join("; ")).into())
    }

    /// Takes back what a sandbox wants of the host. Its namespace is gone; the caller erases the record.
    ///
    /// # Errors
    /// The daemon is stopping.
    pub(crate) async fn forget(&self, container: &Arc<str>, netns: &Netns) -> Result<(), Stopped> {
        let _turn = self.turns.take(container).await;
        let key = Arc::clone(container);
        let record = self.keeper.read(move |node, _| node.attachments().sandboxes().get(&key).cloned()).await?;
        let Some(record) = record.filter(|record| record.netns.is_same(netns)) else { return Ok(()) };
        match self.retire(&record, &Plan::default(), container).await {
            Ok(()) => Ok(()),
            Err(Failure::Stopped(stopped)) => Err(stopped),
            Err(Failure::Cni(error)) => {
                warn!(%container, %error, "The host's side of a sandbox that is gone stays behind");
                Ok(())
            }
        }
    }

    /// What the story plans from; none: the settings say that nothing is to be done.
    fn inputs(&self, call: &Call, previous: &CniResult) -> Result<Option<Inputs>, CniError> {
        let world = self.view.world();
        let (merged, own) = settings::merged(call, &world)?;
        if merged.mode() == Mode::Disabled {
            return Ok(None);
        }
        let cluster = settings::synced(&world)?;
        let list = |own: Vec<IpNet>, cluster: &[IpNet]| if own.is_empty() { cluster.to_vec() } else { own };
        Ok(Some(Inputs {
            interface: call.who.interface.to_string(),
            addresses: addresses(previous, &call.who.interface),
            settings: merged,
            overlay_pod_cidr: list(own.overlay_pod_cidr, &cluster.overlay_pod_cidr),
            service_cidr: list(own.service_cidr, &cluster.service_cidr),
        }))
    }

    async fn record(&self, call: &Call) -> Result<Option<Record>, Stopped> {
        let container = Arc::clone(&call.who.container);
        self.keeper.read(move |node, _| node.attachments().sandboxes().get(&container).cloned()).await
    }

    /// Which of these host objects plans of other sandboxes want too.
    async fn wanted_beside(
        &self,
        container: &Arc<str>,
        objects: BTreeSet<&Object>,
    ) -> Result<BTreeSet<Object>, Stopped> {
        let container = Arc::clone(container);
        let objects: BTreeSet<Object> = objects.into_iter().cloned().collect();
        if objects.is_empty() {
            return Ok(objects);
        }
        let look = move |node: &Node| {
            let others = node.attachments().sandboxes().iter().filter(|(other, _)| **other != container);
            let wanted = others.flat_map(|(_, sandbox)| sandbox.plan.want.iter().map(|(_, object)| object));
            wanted.filter(|object| objects.contains(object)).cloned().collect()
        };
        self.keeper.read(move |node, _| look(node)).await
    }

    /// Makes a plan durable.
    async fn write(&self, call: &Call, netns: &Netns, plan: Plan) -> Result<(), Failure> {
        let (who, started, pod, netns) = (call.who.clone(), call.started, call.pod.clone(), netns.clone());
        let plumb = |ticket| Event::Plumb(Box::new(Plumb { ticket, who, started, pod, netns, plan }));
        match self.keeper.call(plumb).await? {
            Reply::Refused(refused) => Err(CniError::new(Code::TryAgain, refused.to_string()).into()),
            Reply::Done | Reply::Added(_) => Ok(()),
        }
    }

    /// Erases the caller's part; `plan` is what stays.
    async fn erase(&self, call: &Call, plan: Plan) -> Result<(), Stopped> {
        let who = call.who.clone();
        self.keeper.call(|ticket| Event::Unplumbed { ticket, who, plan }).await.map(drop)
    }

    /// Undoes what a failed ADD did, but for what others want by now. Says what could not be undone.
    async fn take_back(&self, call: &Call, kernel: Kernel, applied: Vec<Change>) -> Result<String, Failure> {
        let _alone = self.gate.write().await;
        let host = applied.iter().map(Change::object).filter(|object| object.side() == Side::Host);
        let shared = self.wanted_beside(&call.who.container, host.collect()).await?;
        let kept = |step: &Change| matches!(step, Change::Remove { object, .. } if shared.contains(object));
        let steps = undo(&applied).into_iter().filter(|step| !kept(step)).collect();
        let (_, outcome) = kernel.apply_all(steps).await?;
        let left: Vec<String> = outcome.failures.iter().map(|failure| format!("could not undo: {failure}")).collect();
        Ok(left.join("; "))
    }

    /// Changes the kernel from a record to what stays of it, as far as things are still there.
    async fn retire(&self, record: &Record, after: &Plan, container: &Arc<str>) -> Result<(), Failure> {
        let kernel = Kernel::open_if_there(&record.netns, &self.proc).await?.map_err(kernel_error)?;
        let mut kernel = kernel.look_for_plan(&record.plan).await?.map_err(kernel_error)?;
        let _alone = self.gate.write().await;
        kernel.seen.elsewhere = self.wanted_beside(container, record.plan.host_objects()).await?;
        let steps = changes(&record.plan, after, &kernel.seen);
        let (_, outcome) = kernel.apply_all(steps).await?;
        for failure in &outcome.failures {
            // The interface may go at any moment, and its objects with it: nothing to fail for.
            warn!(%container, %failure, "Something planned for a sandbox could not be taken back");
        }
        debug!(%container, applied = outcome.applied.len(), "Took back what was planned");
        Ok(())
    }
}

impl Turns {
    /// Waits for the sandbox's turn.
    async fn take(&self, container: &Arc<str>) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.by_container.lock().unwrap_or_else(PoisonError::into_inner);
            turns.retain(|_, turn| turn.strong_count() > 0);
            match turns.get(container).and_then(Weak::upgrade) {
                Some(turn) => turn,
                None => {
                    let turn = Arc::new(AsyncMutex::new(()));
                    turns.insert(Arc::clone(container), Arc::downgrade(&turn));
                    turn
                }
            }
        };
        turn.lock_owned().await
    }
}

/// The interface's addresses in a result. One that names no interface is the caller's.
fn addresses(result: &CniResult, interface: &str) -> Vec<IpNet> {
    let own = |index: usize| result.interfaces.get(index).is_none_or(|found| found.name == interface);
    result.ips.iter().filter(|ip| ip.interface.is_none_or(own)).map(|ip| ip.address).collect()
}

/// The result to print: what came in, with the MAC address that the interface has now.
fn answer(previous: CniResult, plan: &Plan, interface: &str) -> CniResult {
    let mut result = previous;
    if let Some(mac) = plan.attached(interface).and_then(|attached| attached.mac) {
        for found in result.interfaces.iter_mut().filter(|found| found.name == interface && found.sandbox.is_some()) {
            found.mac = Some(mac.to_string());
        }
    }
    result
}

fn netns_error(error: NetError) -> CniError {
    let code = match &error {
        NetError::OwnNamespace(_) => Code::InvalidNamespace,
        error if error.is_gone() => Code::InvalidEnvironment,
        _ => Code::Io,
    };
    CniError::new(code, format!("CNI_NETNS: {error}"))
}

fn kernel_error(error: NetError) -> CniError {
    CniError::new(Code::Io, error.to_string())
}

fn refusal(refused: Refused) -> CniError {
    let code = if let Refused::Underlay(_) = refused { Code::UnsupportedField } else { Code::InvalidConfiguration };
    CniError::new(code, refused.to_string())
}

#[cfg(test)]
mod tests;
