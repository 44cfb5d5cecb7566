//! ADDs that wait: for the feeder, for the kernel, for nothing.

use super::*;

fn demand(pool: &str, waiting: u32) -> Up {
    Up::Demand { pool: pool.into(), waiting }
}

/// Rule: Only from the lease.
#[test]
fn a_miss_waits_for_a_grant() {
    let mut bed = Bed::new();
    bed.messages.clear();
    let ticket = bed.add(ask("a", "net1", 0, v4(&["1", "2"])));
    assert_eq!((bed.node.waiting(), bed.node.due()), (1, Some(at(8))));
    assert_eq!(bed.messages, [demand("1", 1)]);
    bed.grant("2", &["10.1.2.1"]);
    assert_eq!(bed.reply(ticket), None, "the first pool was not denied yet");
    bed.grant("1", &["10.1.1.1"]);
    assert_eq!(bed.addresses(ticket), [ip("10.1.1.1")]);
    assert_eq!((bed.node.waiting(), bed.node.due()), (0, None));
    assert_eq!(bed.messages[1..], [demand("1", 0)]);
}

/// A level is stated when it changes and when an answer did not meet it, and not otherwise.
#[test]
fn a_demand_is_a_level() {
    let mut bed = Bed::new();
    bed.messages.clear();
    for container in ["a", "b", "c", "d"] {
        bed.add(ask(container, "net1", 0, v4(&["1", "2"])));
    }
    assert_eq!(bed.messages, [demand("1", 1), demand("1", 2), demand("1", 3), demand("1", 4)]);
    bed.messages.clear();
    bed.happen(Event::Abandon(2));
    bed.happen(Event::Abandon(2));
    bed.del(&who("c", "net1"), at(0));
    assert_eq!(bed.messages, [demand("1", 3), demand("1", 2)]);
    bed.messages.clear();
    bed.grant("1", &["10.1.1.1"]);
    assert_eq!(bed.messages, [demand("1", 1)]);
    bed.messages.clear();
    bed.grant("1", &["10.9.9.9"]);
    assert_eq!(bed.messages, [demand("1", 1)], "an answer that helped nobody");
    bed.messages.clear();
    bed.deny("1");
    assert_eq!(bed.messages, [demand("1", 0), demand("2", 1)]);
    bed.messages.clear();
    bed.deny("1");
    bed.deny("2");
    assert_eq!(bed.messages, [demand("2", 0)], "an answer to nothing is not answered");
}

/// A denial is the word of one session: the next one is asked anew.
#[test]
fn a_new_session_is_asked_anew() {
    let mut bed = Bed::new();
    bed.grant("1", &["10.1.1.1"]);
    bed.added(ask("a", "net1", 0, v4(&["1"])));
    bed.del(&who("a", "net1"), at(1));
    bed.add(ask("b", "net1", 2, v4(&["1"])));
    bed.deny("1");
    assert_eq!(bed.node.waiting(), 1, "for the dying address");
    let session = bed.node.meta().session;
    bed.happen(Event::Closed(session));
    bed.messages.clear();
    bed.happen(Event::Session(session, Down::Denied { pool: "1".into() }));
    bed.add(ask("c", "net1", 2, v4(&["1"])));
    assert_eq!(bed.messages, [], "nobody is there to hear it");
    bed.happen(Event::Opened);
    assert_eq!(bed.messages[1..], [demand("1", 2)]);
    bed.happen(Event::Closed(session));
    bed.grant("1", &["10.1.1.1-10.1.1.2"]);
    assert_eq!(bed.addresses(3), [ip("10.1.1.2")], "the session was not the one that closed");
    assert_eq!(bed.node.waiting(), 1);
}

/// The order of coming is the order of serving.
#[test]
fn first_come_first_served() {
    let mut bed = Bed::new();
    let tickets = ["a", "b", "c"].map(|container| bed.add(ask(container, "net1", 0, v4(&["1"]))));
    bed.grant("1", &["10.1.1.1-10.1.1.2"]);
    assert_eq!(bed.addresses(tickets[0]), [ip("10.1.1.1")]);
    assert_eq!(bed.addresses(tickets[1]), [ip("10.1.1.2")]);
    assert_eq!(bed.reply(tickets[2]), None);
}

/// A further pool comes only after a denial of the first.
#[test]
fn a_denial_leads_to_the_next_pool() {
    let mut bed = Bed::new();
    bed.grant("2", &["10.1.2.1"]);
    let ticket = bed.add(ask("a", "net1", 0, v4(&["1", "2"])));
    assert_eq!(bed.reply(ticket), None);
    bed.deny("1");
    assert_eq!(bed.addresses(ticket), [ip("10.1.2.1")]);
}

/// Idle addresses of a further pool go before cooling ones of the first.
#[test]
fn cooling_addresses_are_the_last_resort() {
    let mut bed = Bed::new();
    bed.grant("1", &["10.1.1.1"]);
    bed.grant("2", &["10.1.2.1"]);
    bed.added(ask("a", "net1", 0, v4(&["1"])));
    bed.del(&who("a", "net1"), at(1));
    bed.sandbox_gone("a", &netns("a", 1));
    let tickets = ["b", "c"].map(|container| bed.add(ask(container, "net1", 2, v4(&["1", "2"]))));
    bed.deny("1");
    assert_eq!(bed.addresses(tickets[0]), [ip("10.1.2.1")]);
    assert_eq!(bed.reply(tickets[1]), None, "the second pool was not denied yet");
    bed.deny("2");
    assert_eq!(bed.addresses(tickets[1]), [ip("10.1.1.1")]);
}

/// Rule: Live means held. A dying address is worth waiting for, if it will do.
#[test]
fn a_dying_address_is_waited_for() {
    let mut bed = Bed::new();
    let grant = bed.grant("1", &["10.1.1.1-10.1.1.2"]);
    bed.added(ask("a", "net1", 0, v4(&["1"])));
    bed.added(ask("b", "net1", 0, v4(&["1"])));
    bed.del(&who("a", "net1"), at(1));
    let narrow = vec![Want { family: Family::V4, candidates: vec![candidate("1", &["10.1.1.2"])] }];
    let (useless, waits) = (bed.add(ask("c", "net1", 2, narrow)), bed.add(ask("d", "net1", 2, v4(&["1"]))));
    bed.deny("1");
    assert!(matches!(bed.refused(useless), Refused::Exhausted(_)), "the pool no longer has what is dying");
    assert_eq!(bed.reply(waits), None);
    bed.address_gone("10.1.1.1", &netns("a", 1));
    assert_eq!(bed.addresses(waits), [ip("10.1.1.1")]);

    bed.say(Down::Withdrawn { grant, addresses: set(&["10.1.1.2"]) });
    bed.del(&who("b", "net1"), at(3));
    let useless = bed.add(ask("e", "net1", 4, v4(&["1"])));
    bed.deny("1");
    assert!(matches!(bed.refused(useless), Refused::Exhausted(_)), "what is dying goes back");
}

/// A wait ends in time, with the counts that explain it.
#[test]
fn a_wait_expires() {
    let mut bed = Bed::new();
    bed.grant("1", &["10.1.1.1"]);
    bed.added(ask("a", "net1", 0, v4(&["1"])));
    let (early, late) = (bed.add(ask("b", "net1", 1, v4(&["1"]))), bed.add(ask("c", "net1", 2, v4(&["1"]))));
    bed.now.boot = at(9) - 1;
    bed.happen(Event::Due);
    assert_eq!((bed.reply(early), bed.node.due()), (None, Some(at(9))));
    bed.now.boot = at(9);
    bed.happen(Event::Due);
    assert_eq!(
        bed.refused(early).to_string(),
        "no free address: pool 1: 1 leased here, 1 in use, 0 dying, 0 cooling, 0 quarantined, 0 idle, more were asked for and no answer came in time"
    );
    assert_eq!((bed.reply(late), bed.node.due()), (None, Some(at(10))));
}

/// What has cooled down while an ADD waited is given out, though no event said so.
#[test]
fn a_wait_ends_with_what_has_cooled_down() {
    let mut bed = Bed::new();
    bed.grant("1", &["10.1.1.1"]);
    bed.added(ask("a", "net1", 0, v4(&["1"])));
    bed.del(&who("a", "net1"), at(0));
    bed.sandbox_gone("a", &netns("a", 1));
    bed.pass(25);
    let ticket = bed.add(ask("b", "net1", 25, v4(&["1"])));
    assert_eq!(bed.reply(ticket), None);
    bed.pass(8);
    bed.happen(Event::Due);
    assert_eq!(bed.addresses(ticket), [ip("10.1.1.1")]);
}

/// Rule: Last word by start. A DEL ends the wait of what started no later.
#[test]
fn a_del_ends_a_wait() {
    let mut bed = Bed::new();
    let (older, newer) = (bed.add(ask("a", "net1", 1, v4(&["1"]))), bed.add(ask("a", "net1", 3, v4(&["1"]))));
    let other = bed.add(ask("a", "net2", 1, v4(&["1"])));
    bed.del(&who("a", "net1"), at(2));
    assert_eq!(bed.refused(older), &Refused::Overtaken);
    assert_eq!((bed.reply(newer), bed.reply(other)), (None, None));
}

/// A caller that has gone gets nothing, and nothing is taken for it.
#[test]
fn an_abandoned_wait_takes_nothing() {
    let mut bed = Bed::new();
    let ticket = bed.add(ask("a", "net1", 0, v4(&["1"])));
    bed.happen(Event::Abandon(ticket));
    bed.grant("1", &["10.1.1.1"]);
    assert_eq!((bed.reply(ticket), bed.counts("1")), (None, (1, 0, 0, 0)));
}

/// Rule: One holder. Two ADDs of one attachment that wait at a time are one: the retry of a caller that gave up.
#[test]
fn two_waits_of_an_attachment_get_one_answer() {
    let mut bed = Bed::new();
    let (first, retry) = (bed.add(ask("a", "net1", 0, v4(&["1"]))), bed.add(ask("a", "net1", 3, v4(&["1"]))));
    bed.grant("1", &["10.1.1.1-10.1.1.9"]);
    assert_eq!(bed.addresses(first), bed.addresses(retry));
    assert_eq!(bed.node.attachments().held()[&who("a", "net1")].started, at(3));
    assert_eq!(bed.counts("1"), (8, 1, 0, 0));
}

/// Rule: Last word by start. What an ADD waited for is no more its own when a newer one in another namespace has it.
#[test]
fn an_older_wait_takes_nothing_from_a_newer_add() {
    let mut bed = Bed::new();
    let older = bed.add(ask("a", "net1", 0, v4(&["1"])));
    bed.grant("2", &["10.1.2.1"]);
    bed.added(Add { netns: netns("a", 2), ..ask("a", "net1", 1, v4(&["2"])) });
    bed.grant("1", &["10.1.1.1"]);
    assert_eq!(bed.refused(older), &Refused::Overtaken);
    assert_eq!(bed.holds(&who("a", "net1")), [ip("10.1.2.1")]);
}
