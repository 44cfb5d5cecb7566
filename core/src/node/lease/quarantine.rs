//! Leased addresses that a stranger was seen to use: not given out until a probe hears nobody.

use std::net::IpAddr;

use super::{Leases, PoolLease};
use crate::address::AddressSet;
use crate::journal::{Batch, Key, Record, Released};
use crate::message::Up;
use crate::node::attachment::Stranger;
use crate::world::PoolName;

/// An address that a stranger was seen to use.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Quarantined {
    /// The pool it is leased under.
    pub pool: PoolName,
    /// Who was seen.
    pub stranger: Stranger,
    /// When an ADD had it probed last, in nanoseconds of the boot clock.
    pub probed: u64,
}

impl Leases {
    /// All quarantined addresses.
    pub fn quarantined(&self) -> impl Iterator<Item = (IpAddr, &Quarantined)> {
        self.quarantined.iter().map(|(address, quarantined)| (*address, quarantined))
    }

    /// What is known of an address in quarantine.
    pub fn quarantine_of(&self, address: IpAddr) -> Option<&Quarantined> {
        self.quarantined.get(&address)
    }

    /// The quarantined address of a pool whose last probe is the longest ago, within the allowed ones, if that was
    /// before a time of the boot clock.
    pub fn probed_before(&self, pool: &str, allowed: &AddressSet, before: u64) -> Option<IpAddr> {
        if self.pools.get(pool)?.quarantined == 0 {
            return None;
        }
        let known = self.quarantined.iter().filter(|(address, of)| *of.pool == *pool && allowed.contains(**address));
        let last = known.filter(|(_, of)| of.probed < before).min_by_key(|(_, of)| of.probed);
        last.map(|(address, _)| *address)
    }

    /// A held address is a stranger's. One that was withdrawn goes back at once: this node does not configure it.
    pub(in crate::node) fn quarantine(
        &mut self,
        address: IpAddr,
        quarantined: Quarantined,
        batch: &mut Batch,
        messages: &mut Vec<Up>,
    ) {
        self.lease(&quarantined.pool).held -= 1;
        if self.withdrawn.contains(address) {
            return self.give_back(&[address].into_iter().collect(), batch, messages);
        }
        self.lease(&quarantined.pool).quarantined += 1;
        let Quarantined { stranger, probed, .. } = quarantined;
        batch.put(Key::Released(address), Record::Released(Released::Quarantined { stranger, probed }));
        self.quarantined.insert(address, quarantined);
    }

    /// Nobody uses an address any more that is quarantined since a probe at that time: it is idle, behind those that
    /// rested longer.
    pub(in crate::node) fn unused(&mut self, address: IpAddr, probed: u64, now: u64, batch: &mut Batch) {
        let known = self.quarantined.get(&address).filter(|known| known.probed == probed);
        let Some(pool) = known.map(|known| known.pool.clone()) else { return };
        self.quarantined.remove(&address);
        self.lease(&pool).quarantined -= 1;
        self.rest(pool, address, now, batch);
    }

    /// The pool lost these addresses: those in quarantine go back as idle ones do.
    pub(super) fn forget_quarantined(&mut self, pool: &PoolName, lost: &AddressSet, batch: &mut Batch) -> Vec<IpAddr> {
        let of_pool = self.quarantined.iter().filter(|(address, of)| of.pool == *pool && lost.contains(**address));
        let gone: Vec<IpAddr> = of_pool.map(|(address, _)| *address).collect();
        for address in &gone {
            self.quarantined.remove(address);
            batch.delete(Key::Released(*address));
        }
        let PoolLease { quarantined, .. } = self.lease(pool);
        *quarantined -= gone.len() as u64;
        gone
    }
}
