//! ADD calls that wait for an address.

use std::collections::BTreeSet;

use spiderpool_core::node::Node;
use spiderpool_core::node::event::Add;
use spiderpool_core::world::PoolName;
use spiderpool_proto::node as wire;

/// Most calls, and most pools of a call, in an answer.
const LISTED: usize = 100;

/// The calls, the longest waiting first, at a time of the boot clock.
pub(super) fn list(node: &Node, now: u64) -> wire::ListWaitingReply {
    let mut waits: Vec<_> = node.waits().collect();
    waits.sort_by_key(|(add, _)| add.started);
    let total = waits.len() as u64;
    wire::ListWaitingReply { waiting: waits.into_iter().take(LISTED).map(|wait| waiting(wait, now)).collect(), total }
}

/// The calls of one sandbox.
pub(super) fn of_container(node: &Node, container: &str, now: u64) -> Vec<wire::Waiting> {
    node.waits().filter(|(add, _)| &*add.who.container == container).map(|wait| waiting(wait, now)).collect()
}

fn waiting((add, asked): (&Add, &BTreeSet<PoolName>), now: u64) -> wire::Waiting {
    let Add { who, pod, wants, started, until, .. } = add;
    let pools = wants.iter().flat_map(|want| &want.candidates).map(|candidate| candidate.pool.to_string());
    let seconds = |nanoseconds: u64| nanoseconds as f64 / 1e9;
    wire::Waiting {
        network: who.network.to_string(),
        container_id: who.container.to_string(),
        interface: who.interface.to_string(),
        pod_namespace: pod.namespace.clone(),
        pod_name: pod.name.clone(),
        pod_uid: pod.uid.clone(),
        pools: pools.take(LISTED).collect(),
        asked: asked.iter().take(LISTED).map(ToString::to_string).collect(),
        waited_seconds: seconds(now.saturating_sub(*started)),
        left_seconds: seconds(until.saturating_sub(now)),
    }
}
