//! Adoption: a journal that is not of this boot, or was lost, takes over what the kernel and the runtime know of, before
//! the first ADD. What a runtime's result names becomes an attachment again, so that its DEL works; what is merely on
//! a link is dying until it is gone from there. Neither can be given out (One holder).

use std::collections::BTreeSet;
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

impl Node {
    /// Takes over what was found, as far as it lies in the lease, and remembers that it is done.
    pub(super) fn adopt(&mut self, now: Now, ticket: Ticket, found: Found, out: &mut Effects) {
        for (who, held) in found.held {
            self.adopt_held(now, who, held, out);
        }
        for (address, netns) in found.seen {
            self.adopt_seen(address, netns, out);
        }
        self.meta.adopted = true;
        out.batch.put(Key::Meta, Record::Meta(self.meta));
        out.errands.push(Errand::Look);
        out.replies.push((ticket, Reply::Done));
    }

    fn adopt_held(&mut self, now: Now, who: Attachment, mut held: Held, out: &mut Effects) {
        if self.attachments.held().contains_key(&who) {
            return;
        }
        // A runtime's result may name an address twice.
        let mut known = BTreeSet::new();
        held.allocations = std::mem::take(&mut held.allocations)
            .into_iter()
            .filter(|allocation| self.is_free(allocation.address) && known.insert(allocation.address))
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
