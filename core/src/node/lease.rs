//! The addresses leased to this node, and which of them can be given out.
//!
//! An address is in one state: idle, held, dying, resting or quarantined. Idle ones that were never used are kept as intervals, so
//! a /64 costs no more than a /24; the others have a row each. A resting address is cooling until its time, then idle.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::address::AddressSet;
use crate::journal::{Batch, Key, Lease, Record, Released};
use crate::message::{Grant, GrantId, Up};
use crate::node::attachment::{Attachment, Netns};
use crate::world::PoolName;

mod quarantine;

pub use quarantine::Quarantined;

/// Resting addresses remembered per pool; beyond that the oldest idle one counts as never used.
const RESTING_KEPT: usize = 65_536;

/// Counts of a pool's leased addresses: total = held + dying + cooling + quarantined + idle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Leased to this node.
    pub total: u128,
    /// Held by an attachment.
    pub held: u64,
    /// Released, not yet shown gone by the kernel.
    pub dying: u64,
    /// Gone, resting before reuse.
    pub cooling: u64,
    /// A stranger was seen to use it.
    pub quarantined: u64,
    /// Can be given out at once.
    pub idle: u128,
}

/// The lease of one pool, over all its grants.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct PoolLease {
    /// Idle and never used.
    fresh: AddressSet,
    /// Released and gone, by order of release.
    resting: BTreeMap<u64, (IpAddr, u64)>,
    held: u64,
    dying: u64,
    quarantined: u64,
}

/// An address that nobody holds any more, and that the kernel may still have.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Dying {
    /// The pool it is leased under.
    pub pool: PoolName,
    /// Who held it.
    pub holder: Attachment,
    /// Where it may still be configured.
    pub netns: Netns,
}

/// An address that is gone from the kernel and rests before reuse.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Resting {
    /// The pool it is leased under.
    pub pool: PoolName,
    /// Place in the order of releases.
    order: u64,
    /// End of the cooldown, in nanoseconds of the boot clock.
    pub until: u64,
}

/// All leases of the node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Leases {
    grants: BTreeMap<GrantId, Lease>,
    pools: BTreeMap<PoolName, PoolLease>,
    dying: BTreeMap<IpAddr, Dying>,
    resting: BTreeMap<IpAddr, Resting>,
    quarantined: BTreeMap<IpAddr, Quarantined>,
    /// Recalled while in use: they go back on release.
    pub(super) withdrawn: AddressSet,
    pub(super) next_order: u64,
}

impl Leases {
    /// All leases, for the hello.
    pub fn grants(&self) -> impl Iterator<Item = Grant> + '_ {
        self.grants.iter().map(|(id, lease)| Grant {
            id: *id,
            pool: lease.pool.clone(),
            addresses: lease.addresses.clone(),
        })
    }

    /// The pool that an address is leased under.
    pub fn pool_of(&self, address: IpAddr) -> Option<&PoolName> {
        self.grants.values().find(|lease| lease.addresses.contains(address)).map(|lease| &lease.pool)
    }

    /// Whether one of these addresses is leased.
    pub(super) fn lease_any(&self, addresses: &AddressSet) -> bool {
        self.grants.values().any(|lease| lease.addresses.first_common(addresses).is_some())
    }

    /// Pools with leased addresses.
    pub fn pools(&self) -> impl Iterator<Item = &PoolName> {
        self.pools.keys()
    }

    /// Addresses that the kernel has not shown gone yet.
    pub fn dying(&self) -> &BTreeMap<IpAddr, Dying> {
        &self.dying
    }

    /// What is known of an address that is resting.
    pub fn resting(&self, address: IpAddr) -> Option<&Resting> {
        self.resting.get(&address)
    }

    /// Counts of a pool at a time of the boot clock.
    pub fn counts(&self, pool: &str, now: u64) -> Counts {
        let Some(lease) = self.pools.get(pool) else { return Counts::default() };
        let cooling = lease.resting.values().rev().take_while(|(_, until)| *until > now).count() as u64;
        let idle = lease.fresh.count().saturating_add(lease.resting.len() as u128 - u128::from(cooling));
        let &PoolLease { held, dying, quarantined, .. } = lease;
        let busy = [held, dying, cooling, quarantined].into_iter().map(u128::from).sum();
        Counts { total: idle.saturating_add(busy), held, dying, cooling, quarantined, idle }
    }

    /// Whether one of the allowed addresses of a pool is dying, and can be given out once it is gone.
    pub fn comes_back(&self, pool: &str, allowed: &AddressSet) -> bool {
        let returns = |address: IpAddr| allowed.contains(address) && !self.withdrawn.contains(address);
        self.pools.get(pool).is_some_and(|lease| lease.dying > 0)
            && self.dying.iter().any(|(address, dying)| *dying.pool == *pool && returns(*address))
    }

    /// The least recently used idle address of a pool within the allowed ones: never used first, lowest first.
    pub fn idle(&self, pool: &str, allowed: &AddressSet, now: u64) -> Option<IpAddr> {
        let lease = self.pools.get(pool)?;
        lease.fresh.first_common(allowed).or_else(|| {
            let rested = lease.resting.values().take_while(|(_, until)| *until <= now);
            rested.map(|(address, _)| *address).find(|address| allowed.contains(*address))
        })
    }

    /// The address of a pool that has been cooling longest, within the allowed ones: for when nothing is idle.
    pub fn cooling(&self, pool: &str, allowed: &AddressSet) -> Option<IpAddr> {
        let lease = self.pools.get(pool)?;
        lease.resting.values().map(|(address, _)| *address).find(|address| allowed.contains(*address))
    }

    /// Takes an idle, cooling or quarantined address into use.
    pub(super) fn take(&mut self, pool: &PoolName, address: IpAddr, batch: &mut Batch) {
        if let Some(Resting { order, .. }) = self.resting.remove(&address) {
            batch.delete(Key::Released(address));
            self.lease(pool).resting.remove(&order);
        }
        if self.quarantined.remove(&address).is_some() {
            batch.delete(Key::Released(address));
            self.lease(pool).quarantined -= 1;
        }
        self.recall_held(pool, address);
    }

    /// Marks an address read from the journal as held.
    pub(super) fn recall_held(&mut self, pool: &PoolName, address: IpAddr) {
        let lease = self.lease(pool);
        lease.fresh.remove(address);
        lease.held += 1;
    }

    /// Remembers a lease read from the journal.
    pub(super) fn recall_grant(&mut self, id: GrantId, lease: Lease) {
        for range in lease.addresses.ranges() {
            self.lease(&lease.pool).fresh.insert(range);
        }
        self.grants.insert(id, lease);
    }

    /// Remembers a released address read from the journal. False: it is not leased, or its place is taken.
    pub(super) fn recall_released(&mut self, address: IpAddr, released: Released) -> bool {
        let Some(pool) = self.pool_of(address).cloned() else { return false };
        let lease = self.lease(&pool);
        lease.fresh.remove(address);
        match released {
            Released::Dying { holder, netns } => {
                lease.dying += 1;
                self.dying.insert(address, Dying { pool, holder, netns });
            }
            Released::Resting { order, until } => {
                if lease.resting.insert(order, (address, until)).is_some() {
                    return false;
                }
                self.next_order = self.next_order.max(order.saturating_add(1));
                self.resting.insert(address, Resting { pool, order, until });
            }
            Released::Quarantined { stranger, probed } => {
                lease.quarantined += 1;
                self.quarantined.insert(address, Quarantined { pool, stranger, probed });
            }
        }
        true
    }

    /// A held address was let go: it is dying until the kernel shows it gone.
    pub(super) fn die(&mut self, address: IpAddr, dying: Dying, batch: &mut Batch) {
        let lease = self.lease(&dying.pool);
        lease.held -= 1;
        lease.dying += 1;
        let released = Released::Dying { holder: dying.holder.clone(), netns: dying.netns.clone() };
        batch.put(Key::Released(address), Record::Released(released));
        self.dying.insert(address, dying);
    }

    /// The kernel shows a dying address gone: it cools until the given time, or goes back if it was withdrawn.
    pub(super) fn gone(&mut self, address: IpAddr, until: u64, batch: &mut Batch, messages: &mut Vec<Up>) {
        let Some(Dying { pool, .. }) = self.dying.remove(&address) else { return };
        self.lease(&pool).dying -= 1;
        if self.withdrawn.contains(address) {
            batch.delete(Key::Released(address));
            self.give_back(&[address].into_iter().collect(), batch, messages);
            return;
        }
        self.rest(pool, address, until, batch);
    }

    /// An address that nobody has any more cools until the given time.
    fn rest(&mut self, pool: PoolName, address: IpAddr, until: u64, batch: &mut Batch) {
        let order = self.next_order;
        self.next_order += 1;
        // In the order of release, also where the cooldown was made shorter meanwhile.
        let until = self.lease(&pool).resting.values().next_back().map_or(until, |(_, last)| until.max(*last));
        batch.put(Key::Released(address), Record::Released(Released::Resting { order, until }));
        self.lease(&pool).resting.insert(order, (address, until));
        self.resting.insert(address, Resting { pool: pool.clone(), order, until });
        self.forget_rested(&pool, batch);
    }

    /// Adds a grant. Addresses that are leased already stay with the grant they came with.
    pub(super) fn grant(&mut self, grant: Grant, batch: &mut Batch) {
        let known = self.grants.values().fold(AddressSet::new(), |all, lease| all.union(&lease.addresses));
        let lease = Lease { pool: grant.pool, addresses: grant.addresses.difference(&known) };
        if lease.addresses.is_empty() {
            return;
        }
        batch.put(Key::Lease(grant.id), Record::Lease(lease.clone()));
        self.recall_grant(grant.id, lease);
    }

    /// The pool lost addresses of a grant: idle ones go back now, those in use on release.
    pub(super) fn withdraw(&mut self, id: GrantId, addresses: &AddressSet, batch: &mut Batch, messages: &mut Vec<Up>) {
        let Some(lease) = self.grants.get(&id) else { return };
        let (pool, lost) = (lease.pool.clone(), lease.addresses.intersection(addresses));
        let lease = self.pools.entry(pool.clone()).or_default();
        let mut idle = lease.fresh.intersection(&lost);
        for range in idle.ranges() {
            lease.fresh.remove(range);
        }
        let rested: Vec<(u64, IpAddr)> = lease.resting.iter().map(|(order, (address, _))| (*order, *address)).collect();
        for (order, address) in rested.into_iter().filter(|(_, address)| lost.contains(*address)) {
            lease.resting.remove(&order);
            self.resting.remove(&address);
            batch.delete(Key::Released(address));
            idle.insert(address);
        }
        for address in self.forget_quarantined(&pool, &lost, batch) {
            idle.insert(address);
        }
        self.withdrawn = self.withdrawn.union(&lost.difference(&idle));
        self.give_back(&idle, batch, messages);
    }

    fn give_back(&mut self, addresses: &AddressSet, batch: &mut Batch, messages: &mut Vec<Up>) {
        self.withdrawn = self.withdrawn.difference(addresses);
        for (id, lease) in &mut self.grants {
            let back = lease.addresses.intersection(addresses);
            if !back.is_empty() {
                lease.addresses = lease.addresses.difference(&back);
                batch.put(Key::Lease(*id), Record::Lease(lease.clone()));
                messages.push(Up::Returned { grant: *id, addresses: back });
            }
        }
        self.grants.retain(|id, lease| {
            let empty = lease.addresses.is_empty();
            if empty {
                batch.delete(Key::Lease(*id));
            }
            !empty
        });
        self.pools.retain(|_, lease| *lease != PoolLease::default());
    }

    fn forget_rested(&mut self, pool: &PoolName, batch: &mut Batch) {
        let lease = self.lease(pool);
        if lease.resting.len() <= RESTING_KEPT {
            return;
        }
        if let Some((_, (address, _))) = lease.resting.pop_first() {
            lease.fresh.insert(address);
            self.resting.remove(&address);
            batch.delete(Key::Released(address));
        }
    }

    fn lease(&mut self, pool: &PoolName) -> &mut PoolLease {
        self.pools.entry(pool.clone()).or_default()
    }
}
