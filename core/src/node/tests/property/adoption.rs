//! The journal is lost while sandboxes live: what kernel and runtimes know of is found and taken over.

use std::collections::BTreeSet;

use super::End;
use super::around::attachment;
use super::world::{Heard, World};
use crate::node::attachment::Held;
use crate::node::event::Found;
use crate::node::tests::*;
use crate::world::PoolName;

/// An answer as a runtime's cache keeps it. Nobody clears a cache for sure: it may be of an attachment that is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cached {
    pub(super) who: Attachment,
    pub(super) netns: Netns,
    pub(super) addresses: Vec<IpAddr>,
}

impl World {
    /// The journal is gone, the boot goes on: another one begins, is leased what there is, and takes over what is found.
    /// The bits of `kept` say which answers caches still have; they also have what nobody was ever answered.
    pub(super) fn lose_journal(&mut self, kept: u64, invented: &[(u8, u8, u8)], end: End) {
        self.journals += 1;
        let (here, journal) = (self.node.meta().bound.clone(), JournalId(self.journals));
        let (node, batch) = Node::recover(std::iter::empty(), &here, journal, self.cooldown).expect("an empty journal");
        self.rows.clear();
        audit::commit(&mut self.rows, &batch);
        self.node = node;
        // A start takes longer than that.
        self.going.clear();
        self.calls.clear();
        self.probing.clear();
        self.quarantined.clear();
        self.deleted.clear();
        self.asked.clear();
        self.open();
        (0..3).for_each(|pool| self.grant(pool, usize::MAX, End::Served));
        let found = self.find(kept, invented);
        self.adopt(found.clone(), end);
        if !self.node.meta().adopted {
            self.open();
            self.adopt(found.clone(), End::Served);
        }
        assert!(self.node.meta().adopted, "once is enough");
        self.judge(&found);
        // What the runtime knows of counts as heard: its DEL is to come.
        let known = |held: &Held| {
            let addresses = held.allocations.iter().map(|held| held.address).collect();
            Heard { started: held.started, netns: held.netns.clone(), addresses }
        };
        self.heard = self.node.attachments().held().iter().map(|(who, held)| (who.clone(), known(held))).collect();
    }

    /// Everything that is on links, and results in living namespaces: inventions of some sandbox, interface and address,
    /// then those answers that were kept.
    fn find(&self, kept: u64, invented: &[(u8, u8, u8)]) -> Found {
        let address = |place: u8| self.belongs.keys().nth(usize::from(place) % self.belongs.len());
        let invented = invented.iter().map(|(sandbox, interface, place)| Cached {
            who: attachment(*sandbox, *interface),
            netns: self.netns(*sandbox),
            addresses: address(*place).into_iter().copied().collect(),
        });
        let living = self.cached.iter().filter(|cached| self.kernel.contains_key(&cached.netns.inode));
        // The latest ones: a history has more of them than there are bits.
        let chosen = living.rev().enumerate().filter(|(place, _)| kept.rotate_right(*place as u32) & 1 != 0);
        let held = invented.chain(chosen.map(|(_, cached)| cached.clone())).map(Cached::into_found).collect();
        Found { held, seen: self.on_links() }
    }

    fn on_links(&self) -> Vec<(IpAddr, Netns)> {
        let at = |inode: u64| Netns { path: String::new(), inode, cookie: 0 };
        let links = self.kernel.iter().flat_map(|(inode, there)| there.iter().map(|address| (*address, *inode)));
        links.map(|(address, inode)| (address, at(inode))).collect()
    }

    fn adopt(&mut self, found: Found, end: End) {
        let ticket = self.ticket();
        self.happen(Event::Adopt { ticket, found }, end);
    }

    /// A look at links alone, for when addresses may have come new into the lease.
    pub(super) fn look_again(&mut self, end: End) {
        self.adopt(Found { held: Vec::new(), seen: self.on_links() }, end);
    }

    /// Nothing that was found can be given out, and what was heard and is shown by a link and a result is held.
    fn judge(&self, found: &Found) {
        let (attachments, leases) = (self.node.attachments(), self.node.leases());
        let is_leased = |address: &IpAddr| leases.pool_of(*address).is_some();
        for (address, netns) in found.seen.iter().filter(|(address, _)| is_leased(address)) {
            let held = attachments.holder(*address).map(|who| &attachments.held()[who].netns);
            let dying = leases.dying().get(address).map(|dying| &dying.netns);
            assert_eq!(held.or(dying), Some(netns), "{address} is on a link");
        }
        let addresses = |held: &Held| held.allocations.iter().map(|held| held.address).collect::<BTreeSet<_>>();
        let shows = |held: &Held| !addresses(held).is_disjoint(&self.kernel[&held.netns.inode]);
        for (place, (who, claimed)) in found.held.iter().enumerate() {
            let others = found.held.iter().enumerate().filter(|(other, _)| *other != place).map(|(_, other)| other);
            let own: Vec<&Held> = others.clone().filter(|(other, _)| other == who).map(|(_, held)| held).collect();
            let leased: BTreeSet<IpAddr> = addresses(claimed).into_iter().filter(is_leased).collect();
            let is_taken = |address| attachments.holder(address).is_some() || leases.dying().contains_key(&address);
            let free: Vec<_> = leased.iter().filter(|address| !is_taken(**address)).collect();
            assert!(free.is_empty() || !own.is_empty(), "{free:?} are free, though a runtime says that {who} has them");
            // What a namespace has on links does not tell which of its interfaces a result is of.
            let beside = |held: &Held| held.netns == claimed.netns && !addresses(held).is_disjoint(&addresses(claimed));
            let is_open = others.clone().any(|(_, held)| beside(held)) || own.iter().any(|held| shows(held));
            let on_links = addresses(claimed).is_subset(&self.kernel[&claimed.netns.inode]);
            if on_links && !is_open && !leased.is_empty() && self.heard.get(who).is_some_and(|heard| heard.is(claimed))
            {
                let held = attachments.held().get(who).map(addresses).unwrap_or_default();
                assert_eq!(held, leased, "what {who} was answered, its link has and its runtime knows");
            }
        }
    }

    /// Whether an address is on this node's account still, by a journal that was lost.
    pub(super) fn is_of_a_lost_journal(&self, address: IpAddr) -> bool {
        let by = self.ledger.get(&address).map(|(id, _)| id.journal);
        by.is_some_and(|journal| journal != JournalId(99) && journal != self.node.meta().journal)
    }

    /// The account of a lost journal shrinks by what no link has any more.
    pub(super) fn free_lost(&mut self) {
        let there: BTreeSet<IpAddr> = self.kernel.values().chain(self.going.values()).flatten().copied().collect();
        let lost: Vec<IpAddr> =
            self.ledger.keys().copied().filter(|address| self.is_of_a_lost_journal(*address)).collect();
        for address in lost.iter().filter(|address| !there.contains(address)) {
            self.ledger.remove(address);
        }
    }

    /// Addresses of a lost journal that come into a pool again: leased and looked for before any ADD knows of it.
    pub(super) fn lease_lost(&mut self, pool: &str, addresses: &BTreeSet<IpAddr>) {
        let lost: BTreeSet<IpAddr> =
            addresses.iter().copied().filter(|address| self.is_of_a_lost_journal(*address)).collect();
        if !lost.is_empty() {
            self.lease(PoolName::from(pool), lost, End::Served);
            self.look_again(End::Served);
        }
    }
}

impl Heard {
    /// Whether a result says the same.
    fn is(&self, claimed: &Held) -> bool {
        self.netns == claimed.netns && claimed.allocations.iter().map(|held| &held.address).eq(&self.addresses)
    }
}

impl Cached {
    fn into_found(self) -> (Attachment, Held) {
        let terms = Terms { prefix: 24, gateway: None, default_route: false, routes: Vec::new() };
        let allocation =
            |address: &IpAddr| Allocation { address: *address, pool: "?".into(), terms: terms.clone(), stranger: None };
        let allocations = self.addresses.iter().map(allocation).collect();
        let pod = PodId { uid: format!("uid-{}", &self.who.container), ..PodId::default() };
        (self.who, Held { started: 0, pod, netns: self.netns, since: 0, allocations })
    }
}
