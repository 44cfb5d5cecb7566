//! Addresses that are probed before they are answered, and those that strangers use.

use super::*;
use crate::journal::Released;
use crate::node::lease::Counts;

const STRANGER: Mac = Mac([2, 0, 0, 0, 0, 9]);

impl Bed {
    /// A probe of what an ADD was given found strangers on these addresses, or another fault.
    fn unfit(&mut self, add: &Add, taken: &[&str]) -> Reply {
        let taken = taken.iter().map(|address| (ip(address), STRANGER)).collect();
        self.probed(add, Verdict::Unfit(taken))
    }

    fn probed(&mut self, add: &Add, verdict: Verdict) -> Reply {
        self.tickets += 1;
        let (ticket, who, started, addresses) = (self.tickets, add.who.clone(), add.started, self.holds(&add.who));
        self.happen(Event::Probed(Box::new(Probed { ticket, who, started, addresses, verdict })));
        self.replies[&ticket].clone()
    }

    fn quarantined(&self, pool: &str) -> u64 {
        self.node.leases().counts(pool, self.now.boot).quarantined
    }
}

fn probing(container: &str, wants: Vec<Want>) -> Add {
    Add { probes: true, ..ask(container, "net1", 0, wants) }
}

fn bed_with(pool: &str, ranges: &[&str]) -> Bed {
    let mut bed = Bed::new();
    bed.grant(pool, ranges);
    bed.pass(1);
    bed
}

/// Rule: One holder. What a stranger uses is not given out again, after a restart neither; what was given beside it dies as
/// after a DEL; the next try gets the next address.
#[test]
fn what_a_stranger_uses_is_quarantined() {
    let mut bed = bed_with("1", &["10.1.1.1-10.1.1.3"]);
    bed.grant("6", &["fd00:6::1-fd00:6::3"]);
    let both = vec![want(Family::V4, &["1"]), want(Family::V6, &["6"])];
    let add = probing("a", both.clone());
    assert_eq!(bed.added(add.clone()), [ip("10.1.1.1"), ip("fd00:6::1")]);
    assert_eq!(bed.unfit(&add, &["10.1.1.1"]), Reply::Done);
    assert_eq!(bed.holds(&add.who), Vec::<IpAddr>::new());
    assert_eq!((bed.quarantined("1"), bed.counts("6")), (1, (2, 0, 1, 0)));
    assert_eq!(bed.added(add.clone()), [ip("10.1.1.2"), ip("fd00:6::2")]);
    assert_eq!(bed.probed(&add, Verdict::Fit), Reply::Done);
    bed.restart();
    assert_eq!(bed.quarantined("1"), 1);
    assert_eq!(bed.added(ask("b", "net1", 0, v4(&["1"]))), [ip("10.1.1.3")]);
    let kinds: Vec<FactKind> = bed
        .rows
        .values()
        .filter_map(|record| match record {
            Record::Fact(fact) if fact.address == ip("10.1.1.1") => Some(fact.kind),
            _ => None,
        })
        .collect();
    assert_eq!(kinds, [FactKind::Allocated, FactKind::Taken(STRANGER)]);
}

/// Nothing else left: an ADD that probes tries what it has not probed itself, once; one that does not probe never does.
#[test]
fn a_quarantined_address_is_tried_last_and_only_with_a_probe() {
    let mut bed = bed_with("1", &["10.1.1.1"]);
    let add = probing("a", v4(&["1"]));
    bed.added(add.clone());
    bed.unfit(&add, &["10.1.1.1"]);
    bed.deny("1");
    let again = bed.add(add);
    bed.deny("1");
    assert!(matches!(bed.refused(again), Refused::Exhausted(_)), "probed by itself before");
    let careless = bed.add(ask("b", "net1", 3, v4(&["1"])));
    bed.deny("1");
    let text = bed.refused(careless).to_string();
    assert!(text.ends_with("0 cooling, 1 quarantined, 0 idle"), "{text}");
    bed.pass(2);
    let later = Add { started: at(3), ..probing("c", v4(&["1"])) };
    let ticket = bed.add(later.clone());
    bed.deny("1");
    assert_eq!(bed.addresses(ticket), [ip("10.1.1.1")]);
    assert_eq!(bed.quarantined("1"), 0, "it is held while it is probed");
    assert_eq!(bed.unfit(&later, &["10.1.1.1"]), Reply::Done);
    assert_eq!(bed.quarantined("1"), 1);
}

/// Rule: One holder. Whatever ends a probe early, or leaves it without an answer, leaves the quarantine as it was; only a
/// probe to the end lifts it.
#[test]
fn a_quarantine_outlives_a_probe_without_an_answer() {
    let mut bed = bed_with("1", &["10.1.1.1"]);
    bed.deny("1");
    let add = probing("a", v4(&["1"]));
    bed.added(add.clone());
    bed.unfit(&add, &["10.1.1.1"]);
    let again = |bed: &mut Bed, second| {
        bed.pass(5);
        bed.happen(Event::Opened);
        let add = Add { started: at(second), until: at(second + 8), ..add.clone() };
        let ticket = bed.add(add.clone());
        bed.deny("1");
        assert_eq!(bed.addresses(ticket), [ip("10.1.1.1")]);
        bed.restart();
        add
    };
    let unheard = again(&mut bed, 5);
    bed.unfit(&unheard, &[]);
    assert_eq!((bed.quarantined("1"), bed.counts("1").2), (1, 0));
    let deleted = again(&mut bed, 10);
    bed.del(&deleted.who, at(10));
    assert_eq!(bed.quarantined("1"), 1);
    again(&mut bed, 15);
    bed.sandbox_gone("a", &netns("a", 1));
    assert_eq!(bed.quarantined("1"), 1);
    let clean = again(&mut bed, 20);
    assert_eq!(bed.probed(&clean, Verdict::Fit), Reply::Done);
    bed.restart();
    bed.del(&clean.who, at(20));
    assert_eq!((bed.quarantined("1"), bed.counts("1").2), (0, 1), "dying, as any other");
}

/// A probe that hears nobody ends the quarantine, and who waits gets the address.
#[test]
fn a_clean_probe_ends_the_quarantine() {
    let mut bed = bed_with("1", &["10.1.1.1"]);
    let add = probing("a", v4(&["1"]));
    bed.added(add.clone());
    bed.unfit(&add, &["10.1.1.1"]);
    let waiting = bed.add(ask("b", "net1", 0, v4(&["1"])));
    assert_eq!(bed.reply(waiting), None);
    let unused = |probed| Event::Evidence(Evidence::Unused(ip("10.1.1.1"), probed));
    bed.happen(unused(at(0)));
    assert_eq!(bed.quarantined("1"), 1, "of another probe");
    bed.happen(unused(at(1)));
    assert_eq!(bed.addresses(waiting), [ip("10.1.1.1")]);
    bed.happen(unused(at(1)));
    assert_eq!(bed.counts("1"), (0, 1, 0, 0), "held: a late word changes nothing");
}

/// Rule: All or nothing. A probe that fails for another reason gives everything back, and accuses nobody.
#[test]
fn what_cannot_be_used_is_given_back() {
    let mut bed = bed_with("1", &["10.1.1.1"]);
    let add = probing("a", v4(&["1"]));
    bed.added(add.clone());
    assert_eq!(bed.unfit(&add, &[]), Reply::Done);
    assert_eq!((bed.counts("1"), bed.quarantined("1")), ((0, 0, 1, 0), 0));
    assert_eq!(bed.errands, [Errand::Look]);
}

/// Rule: Last word by start. A DEL, or a later ADD, during the probe: the answer goes to nobody, and what the later ADD
/// holds is not touched.
#[test]
fn a_probe_that_was_overtaken_changes_nothing() {
    let mut bed = bed_with("1", &["10.1.1.1-10.1.1.9"]);
    let add = probing("a", v4(&["1"]));
    bed.added(add.clone());
    bed.del(&add.who, at(0));
    let overtaken = Reply::Refused(Refused::Overtaken);
    assert_eq!(bed.probed(&add, Verdict::Fit), overtaken);
    let later = Add { started: at(1), ..add.clone() };
    let held = bed.added(later.clone());
    assert_eq!(bed.unfit(&add, &["10.1.1.1"]), overtaken);
    assert_eq!(bed.unfit(&add, &[]), overtaken);
    assert_eq!((bed.holds(&add.who), bed.quarantined("1")), (held, 0));
}

/// Rule: Shrink by consent. What the pool lost goes back from quarantine at once, and from a probe when it ends.
#[test]
fn withdrawn_addresses_leave_quarantine() {
    let mut bed = bed_with("1", &[]);
    let grant = bed.grant("1", &["10.1.1.1-10.1.1.2"]);
    let (add, other) = (probing("a", v4(&["1"])), probing("b", v4(&["1"])));
    bed.added(add.clone());
    bed.added(other.clone());
    bed.unfit(&add, &["10.1.1.1"]);
    bed.say(Down::Withdrawn { grant, addresses: set(&["10.1.1.1-10.1.1.2"]) });
    assert_eq!(bed.messages.pop(), Some(Up::Returned { grant, addresses: set(&["10.1.1.1"]) }));
    bed.unfit(&other, &["10.1.1.2"]);
    assert_eq!(bed.messages.pop(), Some(Up::Returned { grant, addresses: set(&["10.1.1.2"]) }));
    let left = bed.rows.values().any(|record| matches!(record, Record::Released(Released::Quarantined { .. })));
    assert!(!left, "{:?}", bed.rows);
}

/// Rule: Derived, not stored. A row says what an address is, none how many there are: the rows alone give the counts again.
#[test]
fn counts_are_those_of_the_rows() {
    let mut bed = bed_with("1", &["10.1.1.1-10.1.1.9"]);
    for container in ["a", "b", "c"] {
        bed.added(ask(container, "net1", 0, v4(&["1"])));
    }
    bed.del(&who("b", "net1"), at(1));
    bed.del(&who("c", "net1"), at(1));
    bed.sandbox_gone("c", &netns("c", 1));
    let add = probing("d", v4(&["1"]));
    bed.added(add.clone());
    assert_eq!(bed.unfit(&add, &["10.1.1.4"]), Reply::Done);
    let counts = |bed: &Bed| bed.node.leases().counts("1", bed.now.boot);
    let counted = Counts { total: 9, held: 1, dying: 1, cooling: 1, quarantined: 1, idle: 5 };
    assert_eq!(counts(&bed), counted);
    bed.restart();
    assert_eq!(counts(&bed), counted);
    // A row that goes takes its count with it.
    bed.rows.remove(&Key::Released(ip("10.1.1.4")));
    bed.restart();
    assert_eq!(counts(&bed), Counts { quarantined: 0, idle: 6, ..counted });
    bed.pass(31);
    assert_eq!(counts(&bed), Counts { quarantined: 0, cooling: 0, idle: 7, ..counted });
}
