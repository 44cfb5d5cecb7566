//! What a journal says when the daemon starts.

use super::*;
use crate::journal::{Damage, Lease, Released};
use crate::message::GrantId;
use crate::node::attachment::Held;
use crate::node::history::KEPT;
use crate::node::recover::Broken;

fn rows(bed: &Bed) -> impl Iterator<Item = Result<(Key, Record), Damage>> + use<> {
    bed.rows.clone().into_iter().map(Ok)
}

fn busy() -> Bed {
    let mut bed = Bed::new();
    bed.grant("1", &["10.1.1.1-10.1.1.9"]);
    for container in ["a", "b", "c"] {
        bed.added(ask(container, "net1", 0, v4(&["1"])));
    }
    bed.del(&who("b", "net1"), at(1));
    bed.del(&who("c", "net1"), at(1));
    bed.sandbox_gone("c", &netns("c", 1));
    bed
}

/// Rule: Live means held. A new boot begins a new journal with an empty lease; what happened stays on record.
#[test]
fn a_new_boot_begins_a_new_journal() {
    let mut bed = busy();
    let facts =
        |bed: &Bed| -> Vec<Key> { bed.rows.keys().filter(|key| matches!(key, Key::Fact(_))).cloned().collect() };
    let before = facts(&bed);
    assert_eq!(before.len(), 5);
    let (node, batch) = Node::recover(rows(&bed), &here(BootId(2)), JournalId(8), COOLDOWN).unwrap();
    audit::commit(&mut bed.rows, &batch);
    let meta = Meta {
        schema: crate::journal::SCHEMA,
        journal: JournalId(8),
        bound: here(BootId(2)),
        session: 0,
        adopted: false,
    };
    assert_eq!(*node.meta(), meta);
    assert_eq!(facts(&bed), before);
    assert_eq!(bed.rows.len(), before.len() + 1, "meta and facts alone: {:?}", bed.rows.keys());
    assert!(node.attachments().held().is_empty() && node.leases().grants().next().is_none());
    let again = Node::recover(rows(&bed), &here(BootId(2)), JournalId(9), COOLDOWN).unwrap();
    assert_eq!(again, (node, Default::default()), "the new journal is found again");
}

/// Rule: One holder. A copy on another machine, or under another name, would give out what the original does.
#[test]
fn a_copied_journal_is_no_lease() {
    let bed = busy();
    let own = here(BOOT);
    let elsewhere = [
        Binding { node: Some("worker02".into()), ..own.clone() },
        Binding { machine: Some(MachineId(4)), ..own.clone() },
        Binding { node: Some("worker02".into()), machine: None, ..own.clone() },
    ];
    for here in elsewhere {
        let mut rows = bed.rows.clone();
        let (node, batch) = Node::recover(rows.clone().into_iter().map(Ok), &here, JournalId(8), COOLDOWN).unwrap();
        audit::commit(&mut rows, &batch);
        assert_eq!((node.meta().journal, &node.meta().bound, node.meta().adopted), (JournalId(8), &here, false));
        assert!(node.attachments().held().is_empty() && node.leases().grants().next().is_none(), "{here:?}");
        let stays = |key: &Key| matches!(key, Key::Meta | Key::Fact(_) | Key::Word(..) | Key::Sandbox(_));
        assert!(rows.keys().all(stays), "what happened, and what the kernel has, stays: {rows:?}");
        assert_eq!(node.attachments().sandboxes(), bed.node.attachments().sandboxes());
        assert_eq!(audit::recover(&rows, &here, COOLDOWN), node, "the new journal is found again");
    }
}

/// Rows of a version that kept the boot alone, and a machine without an ID: what is not said accuses nobody. It is said
/// from then on.
#[test]
fn a_journal_learns_what_it_is_bound_to() {
    let bed = busy();
    let own = here(BOOT);
    let bound = |bound: &Binding| {
        let mut rows = bed.rows.clone();
        rows.insert(Key::Meta, Record::Meta(Meta { bound: bound.clone(), ..bed.node.meta().clone() }));
        rows
    };
    let less = [Binding { node: None, machine: None, ..own.clone() }, Binding { machine: None, ..own.clone() }];
    for known in &less {
        let mut rows = bound(known);
        let (node, batch) = Node::recover(rows.clone().into_iter().map(Ok), &own, JournalId(8), COOLDOWN).unwrap();
        assert_eq!((node.meta(), node.attachments()), (bed.node.meta(), bed.node.attachments()));
        audit::commit(&mut rows, &batch);
        assert_eq!(rows, bed.rows, "durably");
    }
    let without = Binding { machine: None, ..own.clone() };
    let (node, batch) = Node::recover(rows(&bed), &without, JournalId(8), COOLDOWN).unwrap();
    assert_eq!((node.meta(), batch.is_empty()), (bed.node.meta(), true), "nor does it forget");
}

/// Rule: Last word by start. Sessions count on, whatever happens between them.
#[test]
fn a_session_number_is_used_once() {
    let mut bed = Bed::new();
    let first = bed.node.meta().session;
    bed.restart();
    bed.happen(Event::Opened);
    assert_eq!(bed.node.meta().session, first + 1);
}

#[test]
fn a_journal_that_does_not_fit_together_is_broken() {
    let bed = busy();
    let recover = |change: &dyn Fn(&mut BTreeMap<Key, Record>)| {
        let mut rows = bed.rows.clone();
        change(&mut rows);
        Node::recover(rows.into_iter().map(Ok), &here(BOOT), JOURNAL, COOLDOWN).map(drop)
    };
    assert_eq!(recover(&|_| {}), Ok(()));
    assert_eq!(recover(&|rows| drop(rows.remove(&Key::Meta))), Err(Broken::NoMeta));
    let facts_alone = |rows: &mut BTreeMap<Key, Record>| rows.retain(|key, _| matches!(key, Key::Fact(_)));
    assert_eq!(recover(&facts_alone), Err(Broken::NoMeta));
    let lease = bed.rows.keys().find(|key| matches!(key, Key::Lease(_))).unwrap();
    let a = Key::Attachment(who("a", "net1"));
    assert_eq!(recover(&|rows| drop(rows.remove(lease))), Err(Broken::Stray(a.clone())), "held and not leased");

    let put = |key: &Key, record: &Record| recover(&|rows| drop(rows.insert(key.clone(), record.clone())));
    let stray = |key: Key, record: &Record| assert_eq!(put(&key, record), Err(Broken::Stray(key)));
    let other = Lease { pool: "2".into(), addresses: set(&["10.1.1.1-10.1.1.9"]) };
    assert_eq!(put(lease, &Record::Lease(other)), Err(Broken::Stray(a.clone())), "leased under another pool");
    stray(Key::Attachment(who("z", "net1")), &bed.rows[&a]);
    let resting = |order| Record::Released(Released::Resting { order, until: 0 });
    stray(Key::Released(ip("10.1.1.1")), &resting(5));
    stray(Key::Released(ip("10.9.9.9")), &resting(5));
    stray(Key::Released(ip("10.1.1.5")), &resting(0));
    stray(Key::Sandbox("a".into()), &Record::Word(1));
    let lease_again = |session, number| {
        let Key::Lease(id) = lease.clone() else { panic!("{lease:?}") };
        Key::Lease(GrantId { session, number, ..id })
    };
    stray(lease_again(1, 7), &Record::Lease(Lease { pool: "1".into(), addresses: set(&["10.1.1.9-10.1.1.20"]) }));
    stray(lease_again(1, 7), &Record::Lease(Lease { pool: "3".into(), addresses: set(&[]) }));
    let elsewhere = Record::Lease(Lease { pool: "3".into(), addresses: set(&["10.1.3.1"]) });
    assert_eq!(put(&lease_again(1, 7), &elsewhere), Ok(()));
    stray(lease_again(2, 1), &elsewhere);
    let Record::Attachment(held) = bed.rows[&a].clone() else { panic!("a holds nothing") };
    let twice = [held.allocations.clone(), held.allocations.clone()].concat();
    stray(a.clone(), &Record::Attachment(Held { allocations: twice, ..held.clone() }));
    stray(a.clone(), &Record::Attachment(Held { allocations: Vec::new(), ..held }));
    stray(Key::Fact(6), &bed.rows[&Key::Fact(0)]);
    let schema = Record::Meta(Meta { schema: 9, ..bed.node.meta().clone() });
    assert_eq!(put(&Key::Meta, &schema), Err(Broken::Schema(9)));
    let damage = Damage { key: "6d".into(), reason: "torn".into() };
    let torn = Node::recover(rows(&bed).chain([Err(damage.clone())]), &here(BOOT), JOURNAL, COOLDOWN);
    assert_eq!(torn.map(drop), Err(Broken::Damage(damage)));
}

/// Counts that no node gets to would overflow sooner or later.
#[test]
fn a_count_without_end_is_broken() {
    let put = |key: &Key, record: Record| {
        let mut rows = busy().rows;
        rows.insert(key.clone(), record);
        Node::recover(rows.into_iter().map(Ok), &here(BOOT), JOURNAL, COOLDOWN).map(drop)
    };
    let endless = |key: Key, record| assert_eq!(put(&key, record), Err(Broken::Stray(key)));
    endless(Key::Meta, Record::Meta(Meta { session: 1 << 63, ..busy().node.meta().clone() }));
    let resting = Released::Resting { order: 1 << 63, until: 0 };
    endless(Key::Released(ip("10.1.1.5")), Record::Released(resting));
    let mut rows = busy().rows;
    let fact = rows[&Key::Fact(0)].clone();
    rows.retain(|key, _| !matches!(key, Key::Fact(_)));
    rows.insert(Key::Fact(1 << 63), fact);
    let ended = Node::recover(rows.into_iter().map(Ok), &here(BOOT), JOURNAL, COOLDOWN).map(drop);
    assert_eq!(ended, Err(Broken::Stray(Key::Fact(1 << 63))));
}

/// What happened is told in order, and the oldest goes once there is too much of it.
#[test]
fn history_is_told_in_order_and_capped() {
    let mut bed = busy();
    let said: Vec<(FactKind, IpAddr, String)> = (0..5)
        .map(|sequence| match &bed.rows[&Key::Fact(sequence)] {
            Record::Fact(fact) => (fact.kind, fact.address, fact.attachment.to_string()),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(said[0], (FactKind::Allocated, ip("10.1.1.1"), "a/net1/macvlan".into()));
    assert_eq!(said[4], (FactKind::Released, ip("10.1.1.3"), "c/net1/macvlan".into()));

    let Record::Fact(fact) = bed.rows[&Key::Fact(0)].clone() else { panic!("no fact") };
    let mut history = bed.node.history.clone();
    for _ in 0..KEPT {
        let mut batch = Default::default();
        history.tell(fact.clone(), &mut batch);
        audit::commit(&mut bed.rows, &batch);
    }
    let kept: Vec<&Key> = bed.rows.keys().filter(|key| matches!(key, Key::Fact(_))).collect();
    assert_eq!((kept.len() as u64, kept[0]), (KEPT, &Key::Fact(5)));
    assert_eq!(audit::recover(&bed.rows, &here(BOOT), COOLDOWN).history, history);
}
