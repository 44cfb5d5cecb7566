//! Grants, withdrawals, and the order in which addresses are given out.

use super::*;

fn returned(grant: GrantId, ranges: &[&str]) -> Up {
    Up::Returned { grant, addresses: set(ranges) }
}

/// Never used ones first, lowest first; then those released longest ago.
#[test]
fn the_least_recently_used_address_goes_first() {
    let mut bed = Bed::new();
    bed.grant("1", &["10.1.1.1-10.1.1.3"]);
    for container in ["a", "b"] {
        bed.added(ask(container, "net1", 0, v4(&["1"])));
    }
    // b lets go before a.
    for (second, container) in [(1, "b"), (2, "a")] {
        bed.now.boot = at(second);
        bed.del(&who(container, "net1"), at(second));
        bed.sandbox_gone(container, &netns(container, 1));
    }
    assert_eq!(bed.counts("1"), (1, 0, 0, 2));
    bed.now.boot = at(31);
    assert_eq!(bed.counts("1"), (2, 0, 0, 1));
    bed.now.boot = at(32);
    bed.restart();
    let next = ["c", "d", "e"].map(|container| bed.added(ask(container, "net1", 32, v4(&["1"])))[0]);
    assert_eq!(next, [ip("10.1.1.3"), ip("10.1.1.2"), ip("10.1.1.1")]);
}

/// Under pressure the address that has been cooling longest goes first.
#[test]
fn pressure_ends_a_cooldown() {
    let mut bed = Bed::new();
    bed.grant("1", &["10.1.1.1-10.1.1.2"]);
    for container in ["a", "b"] {
        bed.added(ask(container, "net1", 0, v4(&["1"])));
    }
    for container in ["b", "a"] {
        bed.pass(1);
        bed.del(&who(container, "net1"), at(1));
        bed.sandbox_gone(container, &netns(container, 1));
    }
    let ticket = bed.add(ask("c", "net1", 3, v4(&["1"])));
    assert_eq!(bed.reply(ticket), None, "the feeder is asked before");
    bed.deny("1");
    assert_eq!(bed.addresses(ticket), [ip("10.1.1.2")]);
}

/// A cooldown made shorter does not let later releases overtake earlier ones.
#[test]
fn the_order_of_release_survives_a_shorter_cooldown() {
    let mut bed = Bed::new();
    bed.grant("1", &["10.1.1.1-10.1.1.2"]);
    for container in ["a", "b"] {
        bed.added(ask(container, "net1", 0, v4(&["1"])));
        bed.del(&who(container, "net1"), at(1));
    }
    bed.sandbox_gone("a", &netns("a", 1));
    bed.node.cooldown = 0;
    let mut out = Effects::default();
    let gone = Evidence::AddressGone(ip("10.1.1.2"), netns("b", 1));
    bed.node.handle(bed.now, Event::Evidence(gone), &mut out);
    assert_eq!(bed.counts("1"), (0, 0, 0, 2));
    bed.pass(30);
    assert_eq!(bed.node.leases().idle("1", &set(&["10.1.1.1-10.1.1.2"]), bed.now.boot), Some(ip("10.1.1.1")));
    assert_eq!(bed.counts("1"), (2, 0, 0, 0));
}

/// Rule: One holder. A grant's ID counts once, also after all it brought went back.
#[test]
fn a_grant_that_comes_twice_is_one_grant() {
    let mut bed = Bed::new();
    let id = bed.grant("1", &["10.1.1.1-10.1.1.2"]);
    let again = Down::Grant(Grant { id, pool: "1".into(), addresses: set(&["10.1.1.1-10.1.1.2"]) });
    bed.say(Down::Withdrawn { grant: id, addresses: set(&["10.1.1.1"]) });
    bed.say(again.clone());
    assert_eq!(bed.counts("1"), (1, 0, 0, 0));
    bed.say(Down::Withdrawn { grant: id, addresses: set(&["10.1.1.2"]) });
    bed.say(again.clone());
    assert_eq!(bed.counts("1"), (0, 0, 0, 0));
    assert!(!bed.rows.keys().any(|key| matches!(key, Key::Lease(_))));
    bed.restart();
    bed.happen(Event::Opened);
    bed.say(again);
    assert_eq!(bed.counts("1"), (0, 0, 0, 0), "of an earlier session");
}

/// Rule: One holder.
#[test]
fn what_is_leased_already_stays_with_its_grant() {
    let mut bed = Bed::new();
    bed.grant("1", &["10.1.1.1-10.1.1.3"]);
    bed.added(ask("a", "net1", 0, v4(&["1"])));
    bed.grant("2", &["10.1.1.1-10.1.1.4"]);
    assert_eq!((bed.counts("1"), bed.counts("2")), ((2, 1, 0, 0), (1, 0, 0, 0)));
    bed.grant("2", &["10.1.1.1"]);
    let leases = |bed: &Bed| bed.rows.keys().filter(|key| matches!(key, Key::Lease(_))).count();
    assert_eq!(leases(&bed), 2, "a grant that brings nothing leaves no row");
}

/// Rule: Only from the lease. Messages of a session that is over, or to another journal, lease nothing.
#[test]
fn a_stale_session_is_not_heard() {
    let mut bed = Bed::new();
    let first = bed.node.meta().session;
    bed.happen(Event::Opened);
    let grant = |session, journal| {
        let id = GrantId { journal, session, number: 1 };
        Down::Grant(Grant { id, pool: "1".into(), addresses: set(&["10.1.1.1"]) })
    };
    bed.happen(Event::Session(first, grant(first, JOURNAL)));
    bed.happen(Event::Session(first + 1, grant(first, JOURNAL)));
    bed.happen(Event::Session(first + 1, grant(first + 1, JournalId(8))));
    assert_eq!(bed.counts("1"), (0, 0, 0, 0));
    bed.happen(Event::Session(first + 1, grant(first + 1, JOURNAL)));
    assert_eq!(bed.counts("1"), (1, 0, 0, 0));
    let id = GrantId { journal: JOURNAL, session: first + 1, number: 1 };
    bed.happen(Event::Session(first, Down::Withdrawn { grant: id, addresses: set(&["10.1.1.1"]) }));
    assert_eq!(bed.counts("1"), (1, 0, 0, 0));
}

/// Rule: Shrink by consent. Idle and cooling addresses go back now, the others on release, when the kernel agrees.
#[test]
fn withdrawn_addresses_go_back_when_nobody_has_them() {
    let mut bed = Bed::new();
    let grant = bed.grant("1", &["10.1.1.1-10.1.1.5"]);
    for container in ["a", "b", "c"] {
        bed.added(ask(container, "net1", 0, v4(&["1"])));
    }
    bed.del(&who("a", "net1"), at(1));
    bed.del(&who("b", "net1"), at(1));
    bed.sandbox_gone("a", &netns("a", 1));
    bed.messages.clear();
    // .1 cools, .2 is dying, .3 is held, .4 and .5 are idle.
    bed.say(Down::Withdrawn { grant, addresses: set(&["10.1.1.0-10.1.1.4"]) });
    bed.say(Down::Withdrawn { grant, addresses: set(&["10.1.1.0-10.1.1.4"]) });
    assert_eq!(bed.messages, [returned(grant, &["10.1.1.1", "10.1.1.4"])]);
    assert_eq!(bed.counts("1"), (1, 1, 1, 0));
    bed.address_gone("10.1.1.2", &netns("b", 1));
    bed.del(&who("c", "net1"), at(2));
    assert_eq!(bed.messages[1..], [returned(grant, &["10.1.1.2"])]);
    bed.address_gone("10.1.1.3", &netns("c", 1));
    assert_eq!(bed.messages[2..], [returned(grant, &["10.1.1.3"])]);
    assert_eq!(bed.counts("1"), (1, 0, 0, 0));
    bed.say(Down::Withdrawn { grant, addresses: set(&["10.1.1.5"]) });
    assert_eq!(bed.node.leases().pools().count(), 0);
}

/// Rule: Shrink by consent. A recall names the grant; under another name it means other addresses.
#[test]
fn a_withdrawal_names_its_grant() {
    let mut bed = Bed::new();
    let grant = bed.grant("1", &["10.1.1.1"]);
    bed.say(Down::Withdrawn { grant: GrantId { number: 9, ..grant }, addresses: set(&["10.1.1.1"]) });
    assert_eq!(bed.counts("1"), (1, 0, 0, 0));
}

/// Rule: Durable first. What went back without a session is not in the next hello.
#[test]
fn a_hello_lists_the_leases_as_they_are() {
    let mut bed = Bed::new();
    let first = bed.grant("1", &["10.1.1.1-10.1.1.3"]);
    bed.added(ask("a", "net1", 0, v4(&["1"])));
    bed.say(Down::Withdrawn { grant: first, addresses: set(&["10.1.1.1"]) });
    let session = bed.node.meta().session;
    bed.happen(Event::Closed(session));
    bed.messages.clear();
    bed.sandbox_gone("a", &netns("a", 1));
    assert_eq!(bed.messages, []);
    bed.restart();
    bed.happen(Event::Opened);
    let leases = vec![Grant { id: first, pool: "1".into(), addresses: set(&["10.1.1.2-10.1.1.3"]) }];
    assert_eq!(bed.messages, [Up::Hello { journal: JOURNAL, session: session + 1, leases }]);
}
