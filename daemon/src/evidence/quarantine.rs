//! Asks now and then whether strangers still use what is in quarantine, from sandboxes on the same segment: an address
//! comes free again when one of them hears nobody.

use std::collections::BTreeMap;
use std::future::pending;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use spiderpool_core::node::Node;
use spiderpool_core::node::event::{Event, Evidence};
use spiderpool_core::world::PoolName;
use tracing::{debug, info};

use crate::keeper::{Keeper, Stopped};
use crate::net::{self, Place};

/// How often.
const ROUND: Duration = Duration::from_secs(60);

/// Addresses asked about in one round: each that is free takes a third of a second.
const ADDRESSES: usize = 64;

/// Sandboxes of a pool that are asked from: one whose interface is down tells nothing.
const PLACES: usize = 3;

/// Something to ask: the address, when an ADD had it probed, and where from.
type Question = (IpAddr, u64, Vec<Place>);

/// Asks until the daemon stops.
pub(crate) async fn run(keeper: Keeper, proc: PathBuf) {
    let mut last = None;
    loop {
        match round(&keeper, &proc, last).await {
            Ok(asked) => last = asked,
            Err(Stopped) => return,
        }
        tokio::time::sleep(ROUND).await;
    }
}

/// Asks about the addresses behind the last one. Returns the last one now.
async fn round(keeper: &Keeper, proc: &Path, last: Option<IpAddr>) -> Result<Option<IpAddr>, Stopped> {
    let questions = keeper.read(move |node, _| questions(node, last)).await?;
    let last = questions.last().map(|(address, ..)| *address);
    for (address, probed, places) in questions {
        for place in places {
            let netns = place.netns.path.clone();
            let question = net::Question { address, conflict: true, gateway: None };
            match net::probe(place, proc.to_owned(), &[question], pending()).await {
                Ok(findings) if findings.taken.is_empty() => {
                    info!(%address, "Nobody uses an address any more that was in quarantine");
                    keeper.tell(Event::Evidence(Evidence::Unused(address, probed))).await?;
                    break;
                }
                Ok(_) => break,
                Err(error) => debug!(%address, netns, %error, "No probe from this sandbox"),
            }
        }
    }
    Ok(last)
}

/// What can be asked about, as far as one round goes: in the order of addresses, and round and round.
fn questions(node: &Node, last: Option<IpAddr>) -> Vec<Question> {
    let places = places(node);
    let all = node.leases().quarantined().filter_map(|(address, of)| {
        let places = places.get(&of.pool).filter(|places| !places.is_empty())?;
        Some((address, of.probed, places.clone()))
    });
    let (before, mut behind): (Vec<_>, Vec<_>) = all.partition(|(address, ..)| Some(*address) <= last);
    behind.extend(before);
    behind.truncate(ADDRESSES);
    behind
}

/// Where to ask from, for each pool with something in quarantine.
fn places(node: &Node) -> BTreeMap<PoolName, Vec<Place>> {
    let pools = node.leases().quarantined().map(|(_, of)| of.pool.clone());
    let mut places: BTreeMap<PoolName, Vec<Place>> = pools.map(|pool| (pool, Vec::new())).collect();
    let mut wanting = places.len();
    for (who, held) in node.attachments().held() {
        if wanting == 0 {
            break;
        }
        for allocation in &held.allocations {
            if let Some(of_pool) = places.get_mut(&allocation.pool).filter(|of_pool| of_pool.len() < PLACES) {
                of_pool.push(Place { netns: held.netns.clone(), interface: who.interface.to_string(), new: false });
                wanting -= usize::from(of_pool.len() == PLACES);
            }
        }
    }
    places
}
