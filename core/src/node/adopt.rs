//! Adoption: a journal that is not of this boot, or was lost, takes over what the kernel and the runtime know of, before
//! the first ADD. What a runtime's result names becomes an attachment again, so that its DEL works; what is merely on
//! a link is dying until it is gone from there. Neither can be given out (One holder).
//!
//! The kernel's word counts before the runtime's: an address on links is an attachment's only if its namespace has it.
//! Of two results for an address that no link has, the first counts.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use crate::journal::{Key, Record};
use crate::node::Node;
use crate::node::attachment::{Allocation, Attachment, Held, Netns};
use crate::node::event::{Effects, Errand, Found, Now, Reply, Ticket};
use crate::node::fact::FactKind;
use crate::node::lease::Dying;

/// The container's name in the record of an address that no runtime's result speaks of.
pub const NOBODY: &str = "nobody";

/// Addresses on links, and in which namespaces, by their identity.
type OnLinks = BTreeMap<IpAddr, BTreeSet<(u64, u64)>>;

impl Node {
    /// Takes over what was found, as far as it lies in the lease, and remembers that it is done.
    pub(super) fn adopt(&mut self, now: Now, ticket: Ticket, found: Found, out: &mut Effects) {
        let mut on_links: OnLinks = BTreeMap::new();
        for (address, netns) in &found.seen {
            on_links.entry(*address).or_default().insert(netns.identity());
        }
        // Of two results for one attachment, too, that which a link bears out counts.
        let borne_out = |held: &Held| {
            let mut on = held.allocations.iter().filter_map(|allocation| on_links.get(&allocation.address));
            on.any(|on| on.contains(&held.netns.identity()))
        };
        let (shown, claimed): (Vec<_>, Vec<_>) = found.held.into_iter().partition(|(_, held)| borne_out(held));
        for (who, held) in shown.into_iter().chain(claimed) {
            self.adopt_held(now, who, held, &on_links, out);
        }
        for (address, netns) in found.seen {
            self.adopt_seen(address, netns, out);
        }
        self.meta.adopted = true;
        out.batch.put(Key::Meta, Record::Meta(self.meta.clone()));
        out.errands.push(Errand::Look);
        out.replies.push((ticket, Reply::Done));
    }

    fn adopt_held(&mut self, now: Now, who: Attachment, mut held: Held, on_links: &OnLinks, out: &mut Effects) {
        if self.attachments.held().contains_key(&who) {
            return;
        }
        let netns = held.netns.identity();
        let is_elsewhere = |address| on_links.get(&address).is_some_and(|on| !on.contains(&netns));
        // A runtime's result may name an address twice.
        let mut known = BTreeSet::new();
        held.allocations = std::mem::take(&mut held.allocations)
            .into_iter()
            .filter(|allocation| self.is_free(allocation.address) && !is_elsewhere(allocation.address))
            .filter(|allocation| known.insert(allocation.address))
            .filter_map(|allocation| {
                let pool = self.leases.pool_of(allocation.address)?.clone();
                Some(Allocation { pool, ..allocation })
            })
            .collect();
        if held.allocations.is_empty() {
            return;
        }
        for allocation in held.allocations.clone() {
            self.leases.take(&allocation.pool, allocation.address, &mut out.batch);
            self.tell(now, FactKind::Allocated, &allocation, &who, &held.pod, out);
        }
        self.attachments.hold(who, held, &mut out.batch);
    }

    fn adopt_seen(&mut self, address: IpAddr, netns: Netns, out: &mut Effects) {
        let Some(pool) = self.leases.pool_of(address).filter(|_| self.is_free(address)).cloned() else { return };
        self.leases.take(&pool, address, &mut out.batch);
        let holder = Attachment { container: Arc::from(NOBODY), interface: "".into(), network: "".into() };
        self.leases.die(address, Dying { pool, holder, netns }, &mut out.batch);
    }

    fn is_free(&self, address: IpAddr) -> bool {
        self.attachments.holder(address).is_none() && !self.leases.dying().contains_key(&address)
    }
}
