//! Addresses that are dying, and what the kernel shows of each.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::Bound;

use spiderpool_core::node::Node;
use spiderpool_core::node::attachment::Netns;
use spiderpool_core::node::lease::Dying;
use spiderpool_proto::node::{self as wire, DyingReason};
use tonic::Status;

use super::Inspector;
use crate::evidence::{Seen, Survey};

/// A dying address before the kernel was looked at.
pub(super) struct Dead {
    /// The address as text.
    pub address: String,
    ip: IpAddr,
    dying: Dying,
}

impl Dead {
    pub(super) fn new(address: IpAddr, dying: &Dying) -> Dead {
        Dead { address: address.to_string(), ip: address, dying: dying.clone() }
    }

    fn seen(self, seen: &Seen) -> wire::Dying {
        let Dead { address, ip, dying: Dying { pool, holder, netns } } = self;
        let reason = match seen {
            Seen::Alive(addresses) if addresses.contains(&ip) => DyingReason::Configured,
            Seen::Alive(_) | Seen::Gone => DyingReason::Gone,
            Seen::Unknown => DyingReason::Unknown,
        };
        wire::Dying {
            address,
            pool: pool.to_string(),
            network: holder.network.to_string(),
            container_id: holder.container.to_string(),
            interface: holder.interface.to_string(),
            netns: netns.path,
            reason: reason.into(),
        }
    }
}

/// A page of them, and whether there are more.
pub(super) fn page(node: &Node, size: usize, after: Option<IpAddr>) -> (Vec<Dead>, bool) {
    let from = after.map_or(Bound::Unbounded, Bound::Excluded);
    let mut rest = node.leases().dying().range((from, Bound::Unbounded));
    let page = rest.by_ref().take(size).map(|(address, dying)| Dead::new(*address, dying)).collect();
    (page, rest.next().is_some())
}

impl Inspector {
    /// Looks at the kernel, each namespace once.
    pub(super) async fn explain(&self, dead: Vec<Dead>) -> Result<Vec<wire::Dying>, Status> {
        if dead.is_empty() {
            return Ok(Vec::new());
        }
        let proc = self.proc.clone();
        let looks = tokio::task::spawn_blocking(move || {
            let survey = Survey::take(&proc);
            let mut seen: BTreeMap<Netns, Seen> = BTreeMap::new();
            let explained = dead.into_iter().map(|dead| {
                let netns = dead.dying.netns.clone();
                let seen = seen.entry(netns).or_insert_with_key(|netns| survey.look(netns));
                dead.seen(seen)
            });
            explained.collect()
        });
        looks.await.map_err(|ended| Status::internal(format!("a look at the kernel ended early: {ended}")))
    }
}
