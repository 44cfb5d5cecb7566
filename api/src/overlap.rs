//! What two pools must not have in common. These are the checks of a pool that need other objects.

use ipnet::IpNet;
use spiderpool_core::address::{AddressRange, AddressSet};
use spiderpool_core::world::Pool;

use crate::invalid::Invalid;

/// Why a pool cannot stand beside another one: their subnets overlap without being the same, or they share
/// addresses. A pool is never in conflict with one of its own name, which is an earlier state of itself.
pub fn conflict(pool: &Pool, other: &Pool) -> Option<Invalid> {
    if pool.name == other.name || pool.family() != other.family() {
        return None;
    }
    let name = &other.name;
    if pool.subnet != other.subnet {
        return overlap(&pool.subnet, &other.subnet).then(|| Invalid {
            field: "spec.subnet".into(),
            reason: format!(
                "{} overlaps the subnet {} of pool {name}; pools of one subnet must write it the same way",
                pool.subnet, other.subnet
            ),
        });
    }
    let shared = pool.addresses.intersection(&other.addresses);
    (!shared.is_empty()).then(|| Invalid {
        field: "spec.ips".into(),
        reason: format!("{} belong to pool {name} already; leave them out of one of the two", brief(&shared)),
    })
}

fn overlap(left: &IpNet, right: &IpNet) -> bool {
    left.contains(&right.network()) || right.contains(&left.network())
}

/// The first few ranges of a set.
fn brief(set: &AddressSet) -> String {
    const SHOWN: usize = 3;
    let ranges: Vec<String> = set.ranges().take(SHOWN).map(|range: AddressRange| range.to_string()).collect();
    let more = if set.ranges().nth(SHOWN).is_some() { ", ..." } else { "" };
    format!("{}{more}", ranges.join(", "))
}

#[cfg(test)]
mod tests;
