//! The stories of the coordinator plugin, each from top to bottom.
//!
//! Stories of one sandbox follow each other. A plan is on disk before the kernel is touched; an ADD that fails leaves
//! neither kernel objects nor its part of the record. DEL reads records alone: neither settings nor the namespace
//! need to be there. Where the mode is `disabled` the part is recorded, and nothing is planned for it.

mod kernel;
mod result;
mod settings;
mod shared;
mod turns;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use ipnet::IpNet;
use prometheus_client::metrics::counter::Counter;
use spiderpool_cni::failpoint::{Point, reach};
use spiderpool_cni::types::{CniError, CniResult, Code};
use spiderpool_core::node::attachment::{Attachment, Netns, Sandbox as Record};
use spiderpool_core::node::event::{Event, Plumb, Reply};
use spiderpool_core::plan::{
    Ask, Change, Extended, Inputs, Object, Plan, Refused, Side, changes, extend, undo, withdraw,
};
use spiderpool_core::world::Mode;
use tracing::{debug, warn};

use crate::call::{Call, Ending, Failure};
use crate::keeper::{Keeper, Stopped};
use crate::net::{self, NetError, Outcome};
use crate::view::View;

use kernel::Kernel;
use result::{addresses, answer, other_gateways, other_mac};
pub(crate) use settings::synced;
use shared::{Left, Shared};
use turns::Turns;

/// What the stories need.
#[derive(Clone)]
pub(crate) struct Coordinator {
    keeper: Keeper,
    view: View,
    proc: PathBuf,
    warnings: Counter,
    turns: Arc<Turns>,
    shared: Arc<Shared>,
}

/// What came of taking back a failed ADD.
struct Taken {
    left: Left,
    error: CniError,
    /// Nothing that it made is left on the host.
    all: bool,
}

impl Coordinator {
    /// Stories over the state and the world; `proc` is where the host's procfs is mounted, `warnings` counts what could
    /// not be done as asked.
    pub(crate) fn new(keeper: Keeper, view: View, proc: PathBuf, warnings: Counter) -> Coordinator {
        let shared = Arc::new(Shared::new(keeper.clone()));
        Coordinator { keeper, view, proc, warnings, turns: Arc::default(), shared }
    }

    /// ADD: look, plan, write the plan, change the kernel, tell the segment.
    pub(crate) async fn add(&self, call: &Call) -> Ending {
        let previous = call.config.previous_result()?.ok_or_else(|| {
            let msg = "prevResult is missing; the coordinator is no first plugin: put it last in the list of plugins";
            CniError::new(Code::InvalidConfiguration, msg)
        })?;
        let inputs = self.inputs(call, &previous)?;
        let _turn = self.turns.take(&call.who.container).await;
        let record = match self.record(call).await? {
            // The daemon ended in the middle of this very call: it begins anew, so that nothing stays of it if it fails.
            Some(begun) if begun.parts.get(&call.who) == Some(&call.started) => {
                // Else what is in the Pod would stay there, and look as if it had been there before.
                Kernel::open(call.netns.clone(), &self.proc, Ask::default()).await?.map_err(netns_error)?;
                self.withdraw(call, &begun).await?;
                self.record(call).await?
            }
            record => record,
        };
        let recorded = record.as_ref().map(|record| record.plan.clone()).unwrap_or_default();
        let ask = inputs.as_ref().map(|inputs| Ask::of_inputs(&recorded, inputs)).unwrap_or_default();
        let kernel = Kernel::open(call.netns.clone(), &self.proc, ask).await?.map_err(netns_error)?;
        let netns = kernel.identity().map_err(netns_error)?;
        let record = match record {
            Some(old) if !old.netns.is_same(&netns) => {
                self.supersede(call, old).await?;
                None
            }
            same => same,
        };
        let before = record.as_ref().map(|record| record.plan.clone()).unwrap_or_default();
        let Some(inputs) = inputs else {
            self.write(call, &netns, before).await?;
            return Ok(previous.render(call.config.cni_version));
        };
        let open = self.shared.enter().await;
        let mut kernel = kernel.look().await?.map_err(kernel_error)?;
        let on_host = before.host_objects().into_iter().cloned().collect();
        kernel.seen.elsewhere = self.shared.wanted_beside(&call.who.container, on_host).await?;
        let Extended { plan, warnings } = extend(&before, &inputs, &kernel.seen).map_err(refusal)?;
        for warning in &warnings {
            self.warnings.inc();
            warn!(container = %call.who.container, interface = inputs.interface, %warning, "Not all is as asked");
        }
        reach(Point::RoutesAddLooked);
        self.write(call, &netns, plan.clone()).await?;
        reach(Point::RoutesAddRecorded);
        let steps = changes(&before, &plan, &kernel.seen);
        let (kernel, outcome) = kernel.apply(steps).await?;
        drop(open);
        if !outcome.failures.is_empty() {
            reach(Point::RoutesAddRefused);
            let Taken { left, error, all } = self.take_back(call, kernel, outcome, [&plan, &before]).await?;
            reach(Point::RoutesAddUndone);
            // What still stands on the host stays recorded, for the DEL that follows or for the next look.
            if all {
                match record.filter(|record| record.parts.contains_key(&call.who)) {
                    Some(record) => self.write(call, &netns, record.plan.clone()).await?,
                    None => self.erase(call.who.clone(), before).await?,
                }
            }
            drop(left);
            reach(Point::RoutesAddForgotten);
            return Err(error.into());
        }
        reach(Point::RoutesAddMade);
        kernel.announce(&plan, &inputs.interface);
        Ok(answer(previous, &plan, &inputs.interface).render(call.config.cni_version))
    }

    /// DEL: take back what the record says, as far as it is still there, then erase the record.
    pub(crate) async fn del(&self, call: &Call) -> Ending {
        let (who, started) = (call.who.clone(), call.started);
        self.keeper.call(|ticket| Event::Unplumb { ticket, who, started }).await?;
        reach(Point::RoutesDelBegun);
        let _turn = self.turns.take(&call.who.container).await;
        let Some(record) = self.record(call).await? else { return Ok(String::new()) };
        // No part: deleted before. A part that started later: this DEL is not meant for it.
        if record.parts.get(&call.who).is_none_or(|part| *part > call.started) {
            return Ok(String::new());
        }
        self.withdraw(call, &record).await?;
        reach(Point::RoutesDelErased);
        Ok(String::new())
    }

    /// Takes back what an attachment's part of a record wants, and erases the part.
    async fn withdraw(&self, call: &Call, record: &Record) -> Result<(), Failure> {
        // An interface whose DEL was lost may have come back in another network: what it wants is that one's now.
        let of_another = |other: &Attachment| *other != call.who && other.interface == call.who.interface;
        let after = if record.parts.keys().any(of_another) {
            record.plan.clone()
        } else {
            withdraw(&record.plan, &call.who.interface)
        };
        let left = self.retire(record, &after, &call.who.container).await?;
        reach(Point::RoutesDelWithdrawn);
        self.erase(call.who.clone(), after).await?;
        drop(left);
        Ok(())
    }

    /// CHECK: the kernel is as the record says.
    pub(crate) async fn check(&self, call: &Call) -> Ending {
        let _turn = self.turns.take(&call.who.container).await;
        let record = self.record(call).await?.filter(|record| record.parts.contains_key(&call.who));
        let Some(record) = record else {
            // Its record went with a journal that was lost.
            if settings::is_disabled(call, &self.view.world())? {
                return Ok(String::new());
            }
            let msg = format!("nothing is planned for {} of container {}", call.who.interface, call.who.container);
            return Err(CniError::new(Code::UnknownContainer, msg).into());
        };
        let ask = Ask::of_plan(&record.plan);
        let kernel = Kernel::open(call.netns.clone(), &self.proc, ask).await?.map_err(netns_error)?;
        if !kernel.identity().map_err(netns_error)?.is_same(&record.netns) {
            let msg = format!("CNI_NETNS is not the namespace {} that was planned for", record.netns.path);
            return Err(CniError::new(Code::Difference, msg).into());
        }
        let kernel = kernel.look().await?.map_err(kernel_error)?;
        let mut differences: Vec<String> =
            changes(&record.plan, &record.plan, &kernel.seen).iter().map(Change::difference).collect();
        differences.extend(kernel.seen.pod.missing_addresses(&record.plan));
        differences.extend(other_gateways(call, &record.plan, &kernel.seen.pod)?);
        differences.extend(other_mac(call, &record.plan, &kernel.seen.pod)?);
        if differences.is_empty() {
            return Ok(String::new());
        }
        Err(CniError::new(Code::Difference, differences.join("; ")).into())
    }

    /// Takes back what a sandbox wants of the host, and erases its record. Its namespace is gone. Where that cannot be
    /// done the record stays, for the next look.
    ///
    /// # Errors
    /// The daemon is stopping.
    pub(crate) async fn forget(&self, container: &Arc<str>, netns: &Netns) -> Result<(), Stopped> {
        let _turn = self.turns.take(container).await;
        let key = Arc::clone(container);
        let record = self.keeper.read(move |node, _| node.attachments().sandboxes().get(&key).cloned()).await?;
        let Some(record) = record.filter(|record| record.netns.is_same(netns)) else { return Ok(()) };
        let left = match self.retire(&record, &Plan::default(), container).await {
            Ok(left) => left,
            Err(Failure::Stopped(stopped)) => return Err(stopped),
            Err(error) => {
                warn!(%container, %error, "The host's side of a sandbox that is gone cannot be taken back yet");
                return Ok(());
            }
        };
        reach(Point::SandboxWithdrawn);
        for who in record.parts.into_keys() {
            self.erase(who, Plan::default()).await?;
        }
        drop(left);
        reach(Point::SandboxForgotten);
        Ok(())
    }

    /// Takes back what a container's record of another namespace wants, and erases it: that sandbox is gone.
    async fn supersede(&self, call: &Call, old: Record) -> Result<(), Failure> {
        if old.parts.values().any(|part| *part > call.started) {
            let msg = format!("container {} is in the newer namespace {}", call.who.container, old.netns.path);
            return Err(CniError::new(Code::TryAgain, msg).into());
        }
        let left = self.retire(&old, &Plan::default(), &call.who.container).await?;
        for who in old.parts.into_keys() {
            self.erase(who, Plan::default()).await?;
        }
        drop(left);
        Ok(())
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
            // Without Pod objects nobody says which interfaces a Pod will get.
            to_come: None,
        }))
    }

    async fn record(&self, call: &Call) -> Result<Option<Record>, Stopped> {
        let container = Arc::clone(&call.who.container);
        // Nobody but whoever has the sandbox's turn changes its record, and CHECK has it too.
        self.keeper.look(move |node, _| node.attachments().sandboxes().get(&container).cloned()).await
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

    /// Erases an attachment's part; `plan` is what stays.
    async fn erase(&self, who: Attachment, plan: Plan) -> Result<(), Stopped> {
        self.keeper.call(|ticket| Event::Unplumbed { ticket, who, plan }).await.map(drop)
    }

    /// Undoes what a failed ADD did, but for what others want by now, and takes along a rule of the host that it found
    /// and that was left to its plan meanwhile. The error says what failed, and what could not be undone.
    async fn take_back(
        &self,
        call: &Call,
        kernel: Kernel,
        outcome: Outcome,
        [plan, before]: [&Plan; 2],
    ) -> Result<Taken, Failure> {
        let Outcome { applied, failures } = outcome;
        let container = &call.who.container;
        let _alone = self.shared.close().await;
        let given_up = given_up(plan, before);
        let made = applied.iter().map(Change::object).filter(|object| object.side() == Side::Host);
        let touched = given_up.iter().chain(made).cloned().collect();
        let elsewhere = self.shared.wanted_beside(container, touched).await?;
        let left = self.shared.leave(container, given_up);
        let is_kept = |step: &Change| matches!(step, Change::Remove { object, .. } if elsewhere.contains(object));
        let steps = undo(&applied).into_iter().filter(|step| !is_kept(step)).collect();
        let (kernel, undone) = kernel.apply_all(steps).await?;
        let is_on_host = |failure: &net::Failure| failure.change.side() == Side::Host;
        let mut all = !undone.failures.iter().any(is_on_host);
        let mut stays: Vec<String> = undone.failures.iter().map(ToString::to_string).collect();
        match kernel.look().await? {
            Ok(mut kernel) => {
                kernel.seen.elsewhere = elsewhere;
                let is_rule = |step: &Change| match step {
                    Change::Remove { object, .. } => object.side() == Side::Host && matches!(object, Object::Rule(_)),
                    Change::Add { .. } | Change::Replace { .. } => false,
                };
                let rules = changes(plan, before, &kernel.seen).into_iter().filter(is_rule).collect();
                let (_, went) = kernel.apply_all(rules).await?;
                all &= went.failures.is_empty();
                stays.extend(went.failures.iter().map(ToString::to_string));
            }
            Err(error) => {
                all = false;
                stays.push(error.to_string());
            }
        }
        let mut error = refused_by_kernel(&failures.iter().collect::<Vec<_>>());
        if !stays.is_empty() {
            error = error.with_details(format!("could not undo: {}", stays.join("; ")));
        }
        Ok(Taken { left, error, all })
    }

    /// Changes the kernel from a record to what stays of it, as far as things are still there. In the Pod the rest goes
    /// with the namespace; on the host nothing may stay.
    async fn retire(&self, record: &Record, after: &Plan, container: &Arc<str>) -> Result<Left, Failure> {
        let ask = Ask::of_plan(&record.plan);
        let kernel = Kernel::open_if_there(&record.netns, &self.proc, ask).await?.map_err(kernel_error)?;
        let mut kernel = kernel.look().await?.map_err(kernel_error)?;
        let _alone = self.shared.close().await;
        let given_up = given_up(&record.plan, after);
        let elsewhere = self.shared.wanted_beside(container, given_up.clone()).await?;
        if given_up.iter().any(|object| matches!(object, Object::Rule(_)) && !elsewhere.contains(object)) {
            // Another sandbox may have left the rule's table since the look: who goes last takes the rule along.
            kernel = kernel.look().await?.map_err(kernel_error)?;
        }
        kernel.seen.elsewhere = elsewhere;
        let left = self.shared.leave(container, given_up);
        let steps = changes(&record.plan, after, &kernel.seen);
        let (_, outcome) = kernel.apply_all(steps).await?;
        for failure in &outcome.failures {
            warn!(%container, %failure, "Something planned for a sandbox could not be taken back");
        }
        let stays = |change: &Change| matches!(change, Change::Remove { object, .. } if object.side() == Side::Host);
        let stays: Vec<_> = outcome.failures.iter().filter(|failure| stays(&failure.change)).collect();
        if !stays.is_empty() {
            return Err(refused_by_kernel(&stays).into());
        }
        debug!(%container, applied = outcome.applied.len(), "Took back what was planned");
        Ok(left)
    }
}

/// What one plan wants of the host and the other does not.
fn given_up(before: &Plan, after: &Plan) -> BTreeSet<Object> {
    before.host_objects().difference(&after.host_objects()).copied().cloned().collect()
}

fn refused_by_kernel(failures: &[&net::Failure]) -> CniError {
    let failures: Vec<String> = failures.iter().map(ToString::to_string).collect();
    CniError::new(Code::Io, format!("the kernel refused: {}", failures.join("; ")))
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
