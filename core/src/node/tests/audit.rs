//! The state held against a recount, and against what the journal's rows alone say.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::address::AddressSet;
use crate::journal::{Batch, Binding, Key, Record, Released};
use crate::node::Node;
use crate::node::event::Now;
use crate::node::lease::Counts;
use crate::node::tests::JOURNAL;
use crate::node::wait::Waiters;
use crate::plan::Object;
use crate::world::PoolName;

/// What a store does with a batch: the last word on a key wins.
pub(super) fn commit(rows: &mut BTreeMap<Key, Record>, batch: &Batch) {
    for (key, record) in batch.rows.clone() {
        match record {
            Some(record) => drop(rows.insert(key, record)),
            None => drop(rows.remove(&key)),
        }
    }
}

/// The node that the rows give where they were written.
pub(super) fn recover(rows: &BTreeMap<Key, Record>, here: &Binding, cooldown: u64) -> Node {
    let rows_again = rows.clone().into_iter().map(Ok);
    let (node, batch) = Node::recover(rows_again, here, JOURNAL, cooldown).expect("a journal that the node wrote");
    assert!(batch.is_empty(), "nothing to repair in a journal of this place");
    node
}

pub(super) fn audit(node: &Node, rows: &BTreeMap<Key, Record>, now: Now, cooldown: u64) {
    rows_say_the_same(node, rows, cooldown);
    rows_say_it_once(rows);
    counts_are_a_recount(node, rows, now);
    who_wants_of_the_host_is_a_recount(node);
}

/// Rule: Derived, not stored.
fn who_wants_of_the_host_is_a_recount(node: &Node) {
    let mut wanting: BTreeMap<&Object, Vec<&str>> = BTreeMap::new();
    for (container, sandbox) in node.attachments().sandboxes() {
        for object in sandbox.plan.host_objects() {
            wanting.entry(object).or_default().push(container);
        }
    }
    let known: BTreeMap<&Object, Vec<&str>> = wanting
        .keys()
        .map(|object| (*object, node.attachments().wanting(object).map(|name| &**name).collect()))
        .collect();
    assert_eq!(known, wanting, "sandboxes by the host objects that they want");
}

/// What is in memory alone is named here, one by one; everything else must come back from the rows.
fn rows_say_the_same(node: &Node, rows: &BTreeMap<Key, Record>, cooldown: u64) {
    let mut durable = node.clone();
    durable.session = None;
    durable.waiters = Waiters::default();
    durable.leases.withdrawn = AddressSet::new();
    let again = recover(rows, &node.meta.bound, cooldown);
    let orders = rows.values().filter_map(|record| match record {
        Record::Released(Released::Resting { order, .. }) => Some(*order),
        _ => None,
    });
    assert!(orders.max().is_none_or(|last| last < again.leases.next_order), "a new release comes last");
    assert!(again.leases.next_order <= durable.leases.next_order);
    durable.leases.next_order = again.leases.next_order;
    assert_eq!(durable, again, "what the journal gives back");
}

/// Rule: One holder. An address stands in one lease, and in one attachment's row or one released row, or in none.
fn rows_say_it_once(rows: &BTreeMap<Key, Record>) {
    let mut leased: BTreeMap<IpAddr, PoolName> = BTreeMap::new();
    for lease in rows.values().filter_map(|record| if let Record::Lease(lease) = record { Some(lease) } else { None }) {
        assert!(!lease.addresses.is_empty(), "no row for nothing");
        for address in addresses(&lease.addresses) {
            assert_eq!(leased.insert(address, lease.pool.clone()), None, "{address} is leased twice");
        }
    }
    let mut used: BTreeMap<IpAddr, Key> = BTreeMap::new();
    for (key, record) in rows {
        let here = match (key, record) {
            (Key::Attachment(_), Record::Attachment(held)) => {
                assert!(!held.allocations.is_empty());
                for allocation in &held.allocations {
                    assert_eq!(leased.get(&allocation.address), Some(&allocation.pool), "only from the lease");
                }
                held.allocations.iter().map(|allocation| allocation.address).collect()
            }
            (Key::Released(address), _) => vec![*address],
            _ => Vec::new(),
        };
        for address in here {
            assert!(leased.contains_key(&address), "{address} is used and not leased");
            assert_eq!(used.insert(address, key.clone()), None, "{address} is in two states");
        }
    }
}

/// Rule: Derived, not stored. Every leased address is idle, held, dying, cooling or quarantined: counted one by one from
/// the rows, after every event of every test.
fn counts_are_a_recount(node: &Node, rows: &BTreeMap<Key, Record>, now: Now) {
    let mut counts: BTreeMap<PoolName, Counts> = BTreeMap::new();
    for (id, lease) in rows.iter().filter_map(|(key, record)| match (key, record) {
        (Key::Lease(id), Record::Lease(lease)) => Some((id, lease)),
        _ => None,
    }) {
        assert!(node.leases().grants().any(|grant| grant.id == *id && grant.addresses == lease.addresses));
        let count = counts.entry(lease.pool.clone()).or_default();
        for address in addresses(&lease.addresses) {
            count.total += 1;
            match rows.get(&Key::Released(address)) {
                Some(Record::Released(Released::Dying { .. })) => count.dying += 1,
                Some(Record::Released(Released::Quarantined { .. })) => count.quarantined += 1,
                Some(Record::Released(Released::Resting { until, .. })) if *until > now.boot => count.cooling += 1,
                _ if node.attachments().holder(address).is_some() => count.held += 1,
                _ => count.idle += 1,
            }
        }
    }
    let said: BTreeMap<PoolName, Counts> =
        node.leases().pools().map(|pool| (pool.clone(), node.leases().counts(pool, now.boot))).collect();
    assert_eq!(said, counts, "what the node counts");
    for (pool, Counts { total, held, dying, cooling, quarantined, idle }) in counts {
        assert_eq!(total, u128::from(held + dying + cooling + quarantined) + idle, "{pool}");
    }
}

fn addresses(set: &AddressSet) -> Vec<IpAddr> {
    let all = set.ranges().flat_map(|range| -> Vec<IpAddr> {
        assert!(range.count() < 1024, "tests lease few addresses");
        match (range.first(), range.last()) {
            (IpAddr::V4(first), IpAddr::V4(last)) => {
                (first.to_bits()..=last.to_bits()).map(|bits| IpAddr::V4(bits.into())).collect()
            }
            (IpAddr::V6(first), IpAddr::V6(last)) => {
                (first.to_bits()..=last.to_bits()).map(|bits| IpAddr::V6(bits.into())).collect()
            }
            _ => unreachable!("a range has one family"),
        }
    });
    all.collect()
}
