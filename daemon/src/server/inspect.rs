//! The operators' views: rendered from the state as it is on disk.

use std::net::IpAddr;
use std::ops::Bound;
use std::path::PathBuf;
use std::sync::Arc;

use spiderpool_core::journal::Journal;
use spiderpool_core::node::Node;
use spiderpool_core::node::attachment::{Attachment, Held};
use spiderpool_core::node::fact::{Fact, FactKind};
use spiderpool_core::world::Pool;
use spiderpool_proto::node::inspect_server::Inspect;
use spiderpool_proto::node::{self as wire, AddressState};
use tonic::{Request, Response, Status};

use crate::clock;
use crate::coordinator::synced;
use crate::keeper::{Keeper, Stopped};
use crate::room::Room;
use crate::view::View;

mod container;
mod dying;
mod history;
mod waiting;

use container::Match;
use dying::Dead;

/// Allocations on a page when the caller does not say.
const PAGE: usize = 100;
const LARGEST_PAGE: usize = 1000;

/// The service.
#[derive(Clone)]
pub(crate) struct Inspector {
    /// The state.
    pub keeper: Keeper,
    /// The world.
    pub view: View,
    /// The node's name.
    pub node: String,
    /// Where pools come from, for people.
    pub feeder: String,
    /// The host's proc file system.
    pub proc: PathBuf,
    /// The disk.
    pub room: Arc<Room>,
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Inspect for Inspector {
    async fn get_node(&self, _: Request<wire::GetNodeRequest>) -> Answer<wire::Node> {
        let (name, feeder, refused) = (self.node.clone(), self.feeder.clone(), self.view.refused());
        let no_routes = synced(&self.view.world()).err().map(|error| error.msg).unwrap_or_default();
        let full = tokio::task::block_in_place(|| self.room.for_add()).err();
        let full = full.map(|full| full.to_string()).unwrap_or_default();
        let look = move |node: &Node, _: &dyn Journal| wire::Node {
            name,
            version: env!("CARGO_PKG_VERSION").into(),
            journal_id: node.meta().journal.to_string(),
            boot_id: format!("{:032x}", node.meta().bound.boot.0),
            feeder,
            attachments: node.attachments().held().len() as u64,
            plans: node.attachments().sandboxes().len() as u64,
            waiting: node.waiting() as u64,
            refused,
            no_routes,
            full,
        };
        answer(self.keeper.look(look).await)
    }

    async fn list_pools(&self, _: Request<wire::ListPoolsRequest>) -> Answer<wire::ListPoolsReply> {
        let world = self.view.world();
        let look = move |node: &Node, _: &dyn Journal| {
            let mut names: Vec<_> = world.pools().keys().chain(node.leases().pools()).cloned().collect();
            names.sort();
            names.dedup();
            let pools = names.iter().map(|name| pool(node, name, world.pools().get(name).map(AsRef::as_ref))).collect();
            wire::ListPoolsReply { pools }
        };
        answer(self.keeper.look(look).await)
    }

    async fn list_allocations(
        &self,
        request: Request<wire::ListAllocationsRequest>,
    ) -> Answer<wire::ListAllocationsReply> {
        let wire::ListAllocationsRequest { page_size, page_token, pool } = request.into_inner();
        let size = page_of(page_size)?;
        let after = if page_token.is_empty() { None } else { Some(as_token(&page_token)?) };
        let name = self.node.clone();
        let look = move |node: &Node, _: &dyn Journal| page(node, &name, size, after, &pool);
        answer(self.keeper.look(look).await)
    }

    async fn get_address(&self, request: Request<wire::GetAddressRequest>) -> Answer<wire::Address> {
        let text = request.into_inner().address;
        let address: IpAddr = text.parse().map_err(|_| {
            Status::invalid_argument(format!("address {text:?} is not an IP address; write it without a prefix length"))
        })?;
        let name = self.node.clone();
        let look = move |node: &Node, _: &dyn Journal| {
            let dead = node.leases().dying().get(&address).map(|dying| Dead::new(address, dying));
            Ok((state(node, address, &name), dead))
        };
        let (mut seen, dead) = self.look(look).await?;
        seen.history = self.history(move |fact| fact.address == address).await?;
        if let Some(dead) = self.explain(dead.into_iter().collect()).await?.first() {
            seen.dying_reason = dead.reason;
        }
        Ok(Response::new(seen))
    }

    async fn get_container(&self, request: Request<wire::GetContainerRequest>) -> Answer<wire::Container> {
        let asked = request.into_inner().container_id;
        let id = match self.find(&asked).await? {
            Match::One(id) => id,
            Match::Several(matches) => {
                return Ok(Response::new(wire::Container { matches, ..wire::Container::default() }));
            }
        };
        let (name, shown) = (self.node.clone(), Arc::clone(&id));
        let look = move |node: &Node, _: &dyn Journal| Ok(container::show(node, &name, &shown));
        let (mut found, dead) = self.look(look).await?;
        found.history = self.history(move |fact| fact.attachment.container == id).await?;
        found.dying = self.explain(dead).await?;
        Ok(Response::new(found))
    }

    async fn list_waiting(&self, _: Request<wire::ListWaitingRequest>) -> Answer<wire::ListWaitingReply> {
        answer(self.keeper.look(|node, _| waiting::list(node, clock::boot())).await)
    }

    async fn list_dying(&self, request: Request<wire::ListDyingRequest>) -> Answer<wire::ListDyingReply> {
        let wire::ListDyingRequest { page_size, page_token } = request.into_inner();
        let size = page_of(page_size)?;
        let after: Option<IpAddr> =
            if page_token.is_empty() { None } else { Some(page_token.parse().map_err(|_| no_token())?) };
        let (page, more) = self.look(move |node, _| Ok(dying::page(node, size, after))).await?;
        let next_page_token = page.last().filter(|_| more).map(|last| last.address.clone()).unwrap_or_default();
        Ok(Response::new(wire::ListDyingReply { dying: self.explain(page).await?, next_page_token }))
    }
}

impl Inspector {
    /// Looks at the state, where that can fail.
    async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Node, &dyn Journal) -> Result<T, Status> + Send + 'static,
    ) -> Result<T, Status> {
        answer(self.keeper.look(look).await)?.into_inner()
    }
}

fn answer<T>(seen: Result<T, Stopped>) -> Answer<T> {
    seen.map(Response::new).map_err(|stopped| Status::unavailable(stopped.to_string()))
}

fn page_of(size: u32) -> Result<usize, Status> {
    match size as usize {
        0 => Ok(PAGE),
        size @ 1..=LARGEST_PAGE => Ok(size),
        size => Err(Status::invalid_argument(format!("page_size {size} is above {LARGEST_PAGE}"))),
    }
}

fn pool(node: &Node, name: &str, known: Option<&Pool>) -> wire::Pool {
    let counts = node.leases().counts(name, clock::boot());
    wire::Pool {
        name: name.into(),
        ip_version: known.map_or(0, |pool| pool.family().number().into()),
        subnet: known.map(|pool| pool.subnet.to_string()).unwrap_or_default(),
        gateway: known.and_then(|pool| pool.gateway).map(|gateway| gateway.to_string()).unwrap_or_default(),
        total: counts.total.to_string(),
        in_use: counts.held,
        dying: counts.dying,
        cooling: counts.cooling,
        free: counts.idle.to_string(),
        disabled: known.is_none_or(|pool| pool.disabled || pool.terminating),
        default: known.is_some_and(|pool| pool.default),
        quarantined: counts.quarantined,
    }
}

fn page(node: &Node, name: &str, size: usize, after: Option<Attachment>, pool: &str) -> wire::ListAllocationsReply {
    let from = after.map_or(Bound::Unbounded, Bound::Excluded);
    let wanted = |held: &Held| pool.is_empty() || held.allocations.iter().any(|of| &*of.pool == pool);
    let mut rest =
        node.attachments().held().range((from, Bound::Unbounded)).filter(|(_, held)| wanted(held)).peekable();
    let mut reply = wire::ListAllocationsReply::default();
    let mut last = None;
    for (who, held) in rest.by_ref().take(size) {
        reply.allocations.push(allocation(who, held, name));
        last = Some(who);
    }
    if let (Some(who), true) = (last, rest.peek().is_some()) {
        reply.next_page_token = token(who);
    }
    reply
}

fn allocation(who: &Attachment, held: &Held, node: &str) -> wire::Allocation {
    let mut allocation = wire::Allocation {
        network: who.network.to_string(),
        container_id: who.container.to_string(),
        interface: who.interface.to_string(),
        pod_namespace: held.pod.namespace.clone(),
        pod_name: held.pod.name.clone(),
        pod_uid: held.pod.uid.clone(),
        netns: held.netns.path.clone(),
        node: node.into(),
        since: clock::rfc3339(held.since),
        ..wire::Allocation::default()
    };
    for of in &held.allocations {
        let (address, pool) = (format!("{}/{}", of.address, of.terms.prefix), of.pool.to_string());
        match of.address {
            IpAddr::V4(_) => (allocation.ipv4, allocation.ipv4_pool) = (address, pool),
            IpAddr::V6(_) => (allocation.ipv6, allocation.ipv6_pool) = (address, pool),
        }
    }
    allocation
}

fn state(node: &Node, address: IpAddr, name: &str) -> wire::Address {
    let leases = node.leases();
    let pool = leases.pool_of(address).map(ToString::to_string);
    let mut seen = wire::Address {
        address: address.to_string(),
        state: AddressState::NotLeased.into(),
        pool: pool.clone().unwrap_or_default(),
        ..wire::Address::default()
    };
    let held = node.attachments().holder(address).and_then(|who| node.attachments().held().get_key_value(who));
    let state = if let Some((who, held)) = held {
        seen.holder = Some(allocation(who, held, name));
        AddressState::InUse
    } else if let Some(dying) = leases.dying().get(&address) {
        let (network, container_id) = (dying.holder.network.to_string(), dying.holder.container.to_string());
        let (interface, netns) = (dying.holder.interface.to_string(), dying.netns.path.clone());
        seen.holder = Some(wire::Allocation { network, container_id, interface, netns, ..wire::Allocation::default() });
        AddressState::Dying
    } else if let Some(quarantined) = leases.quarantine_of(address) {
        seen.used_by = quarantined.stranger.mac.to_string();
        seen.seen = clock::rfc3339(quarantined.stranger.seen);
        AddressState::Quarantined
    } else if let Some(left) =
        leases.resting(address).map(|resting| clock::until(resting.until)).filter(|left| !left.is_zero())
    {
        seen.cooling_seconds = left.as_secs() + 1;
        AddressState::Cooling
    } else if pool.is_some() {
        AddressState::Idle
    } else {
        AddressState::NotLeased
    };
    seen.set_state(state);
    seen
}

fn fact(sequence: u64, fact: &Fact) -> wire::Fact {
    let kind = match fact.kind {
        FactKind::Allocated => wire::FactKind::Allocated,
        FactKind::Released => wire::FactKind::Released,
        FactKind::Taken(_) => wire::FactKind::Taken,
    };
    let used_by = if let FactKind::Taken(by) = fact.kind { by.to_string() } else { String::new() };
    wire::Fact {
        sequence,
        at: clock::rfc3339(fact.at),
        kind: kind.into(),
        network: fact.attachment.network.to_string(),
        container_id: fact.attachment.container.to_string(),
        interface: fact.attachment.interface.to_string(),
        pod_namespace: fact.pod.namespace.clone(),
        pod_name: fact.pod.name.clone(),
        pod_uid: fact.pod.uid.clone(),
        address: fact.address.to_string(),
        pool: fact.pool.to_string(),
        used_by,
    }
}

/// Where to go on: the last attachment of the page. None of its parts can hold a slash.
fn token(who: &Attachment) -> String {
    who.to_string()
}

fn as_token(token: &str) -> Result<Attachment, Status> {
    let mut parts = token.split('/');
    let mut next = || parts.next().map(Arc::from);
    match (next(), next(), next(), next()) {
        (Some(container), Some(interface), Some(network), None) => Ok(Attachment { container, interface, network }),
        _ => Err(no_token()),
    }
}

fn no_token() -> Status {
    Status::invalid_argument("page_token is not one that an answer gave; leave it empty to begin")
}
