//! Asks now and then whether strangers still use what is in quarantine, from sandboxes on the same segment: an address
//! comes free again when one of them hears nobody.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use spiderpool_core::node::Node;
use spiderpool_core::node::event::{Event, Evidence};
use spiderpool_core::world::PoolName;
use tracing::{debug, info};

use crate::keeper::{Keeper, Stopped};
use crate::net::{self, Place, Question};

/// How often.
const ROUND: Duration = Duration::from_secs(60);

/// Addresses asked about in one round: each that is free takes a third of a second.
const ADDRESSES: usize = 64;

/// Sandboxes of a pool that are asked from: one whose interface is down tells nothing.
const PLACES: usize = 3;

/// Asks until the daemon stops.
pub(crate) async fn run(keeper: Keeper, proc: PathBuf) {
    while round(&keeper, &proc).await.is_ok() {
        tokio::time::sleep(ROUND).await;
    }
}

async fn round(keeper: &Keeper, proc: &std::path::Path) -> Result<(), Stopped> {
    let (addresses, places) = keeper.read(|node, _| (addresses(node), places(node))).await?;
    for (address, pool, probed) in addresses {
        for place in places.get(&pool).into_iter().flatten() {
            let question = Question { address, conflict: true, gateway: None };
            match net::probe(place.clone(), proc.to_owned(), &[question]).await {
                Ok(findings) if findings.taken.is_empty() => {
                    info!(%address, %pool, "Nobody uses an address any more that was in quarantine");
                    keeper.tell(Event::Evidence(Evidence::Unused(address, probed))).await?;
                    break;
                }
                Ok(_) => break,
                Err(error) => debug!(%address, netns = place.netns.path, %error, "No probe from this sandbox"),
            }
        }
    }
    Ok(())
}

/// What to ask about, the longest not probed first.
fn addresses(node: &Node) -> Vec<(IpAddr, PoolName, u64)> {
    let mut known: Vec<_> =
        node.leases().quarantined().map(|(address, of)| (address, of.pool.clone(), of.probed)).collect();
    known.sort_by_key(|(_, _, probed)| *probed);
    known.truncate(ADDRESSES);
    known
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
