//! ADD and DEL of attachments.

use super::*;
use crate::address::Family;

/// Rule: Durable first. A retry is answered from the record, and renews its start.
#[test]
fn an_add_again_gets_the_same_answer() {
    let mut bed = Bed::new();
    bed.grant("1", &["10.1.1.1-10.1.1.9"]);
    let first = bed.added(ask("a", "net1", 0, v4(&["1"])));
    // By another path, and whatever it wants now: the namespace is the same.
    let netns = Netns { path: "/proc/7/ns/net".into(), ..netns("a", 1) };
    assert_eq!(bed.added(Add { netns, ..ask("a", "net1", 5, v4(&["2"])) }), first);
    assert_eq!(bed.added(ask("a", "net1", 5, Vec::new())), first, "no pool fits any more");
    assert_eq!(bed.added(ask("a", "net1", 2, v4(&["1"]))), first);
    assert_eq!(bed.node.attachments().held()[&who("a", "net1")].started, at(5), "an older retry takes nothing back");
    bed.restart();
    assert_eq!(bed.added(ask("a", "net1", 6, Vec::new())), first);
    assert_eq!(bed.counts("1"), (8, 1, 0, 0));
}

/// Rule: Last word by start.
#[test]
fn a_del_refuses_adds_that_started_before_it() {
    let mut bed = Bed::new();
    bed.grant("1", &["10.1.1.1-10.1.1.9"]);
    bed.del(&who("a", "net1"), at(10));
    for (second, refused) in [(9, true), (10, true), (11, false)] {
        let ticket = bed.add(ask("a", "net1", second, v4(&["1"])));
        let expected = Some(&Reply::Refused(Refused::Overtaken)).filter(|_| refused);
        assert_eq!(bed.reply(ticket).filter(|reply| matches!(reply, Reply::Refused(_))), expected, "{second}");
    }
    assert_eq!(bed.holds(&who("a", "net1")), [ip("10.1.1.1")]);
    bed.add(ask("a", "net2", 9, v4(&["1"])));
    assert_eq!(bed.holds(&who("a", "net2")), [ip("10.1.1.2")], "a word on one interface is none on another");
}

/// Rule: Last word by start. The word outlives the process.
#[test]
fn a_del_is_remembered_over_a_restart() {
    let mut bed = Bed::new();
    bed.del(&who("a", "net1"), at(10));
    bed.del(&who("a", "net1"), at(3));
    bed.restart();
    let late = bed.add(ask("a", "net1", 9, v4(&["1"])));
    assert_eq!(bed.refused(late), &Refused::Overtaken);
}

/// Rule: Last word by start.
#[test]
fn a_del_evicts_what_started_no_later() {
    for (started, evicted) in [(at(4), false), (at(5), true), (at(6), true)] {
        let mut bed = Bed::new();
        bed.grant("1", &["10.1.1.1"]);
        bed.added(ask("a", "net1", 1, v4(&["1"])));
        bed.added(ask("a", "net1", 5, v4(&["1"])));
        bed.del(&who("a", "net1"), started);
        assert_eq!(bed.holds(&who("a", "net1")).is_empty(), evicted);
        assert_eq!(bed.counts("1"), if evicted { (0, 0, 1, 0) } else { (0, 1, 0, 0) });
    }
}

/// Rule: Last word by start. Rule: DEL always ends.
#[test]
fn words_are_forgotten_with_the_adds_they_refuse() {
    let mut bed = Bed::new();
    bed.grant("1", &["10.1.1.1-10.1.1.9"]);
    bed.del(&who("a", "net1"), at(10));
    let words = |bed: &Bed| bed.rows.keys().filter(|key| matches!(key, Key::Word(..))).count();
    bed.now.boot = at(10) + WORD_KEPT;
    bed.del(&who("b", "net1"), at(600));
    assert_eq!(words(&bed), 2);
    let late = bed.add(ask("a", "net1", 10, v4(&["1"])));
    assert_eq!(bed.refused(late), &Refused::Overtaken);

    bed.pass(1);
    // A tombstone from long ago still deletes, and leaves no word behind.
    bed.added(ask("c", "net1", 600, v4(&["1"])));
    bed.del(&who("c", "net1"), at(9));
    assert_eq!(words(&bed), 1);
    let late = bed.add(ask("a", "net1", 10, v4(&["1"])));
    assert_eq!(bed.refused(late), &Refused::TooOld);
    assert!(bed.holds(&who("a", "net1")).is_empty());
}

/// Rule: DEL always ends. Rule: Live means held.
#[test]
fn what_was_given_back_dies_until_the_kernel_shows_it_gone() {
    let mut bed = Bed::new();
    bed.grant("1", &["10.1.1.1"]);
    let a = who("a", "net1");
    bed.del(&a, at(0));
    bed.added(ask("a", "net1", 1, v4(&["1"])));
    bed.del(&a, at(2));
    bed.del(&a, at(2));
    assert_eq!(bed.errands, [Errand::Look]);
    bed.pass(100_000);
    assert_eq!(bed.counts("1"), (0, 0, 1, 0), "time alone never frees an address");
    bed.restart();
    bed.address_gone("10.1.1.1", &netns("a", 2));
    bed.sandbox_gone("a", &netns("a", 2));
    bed.sandbox_gone("b", &netns("b", 1));
    assert_eq!(bed.counts("1"), (0, 0, 1, 0), "another namespace proves nothing");
    bed.address_gone("10.1.1.1", &netns("a", 1));
    assert_eq!(bed.counts("1"), (0, 0, 0, 1));
    bed.address_gone("10.1.1.1", &netns("a", 1));
    bed.pass(30);
    assert_eq!(bed.counts("1"), (1, 0, 0, 0));
}

/// Rule: Live means held. An address in use is not gone because a link does not show it.
#[test]
fn evidence_of_an_address_says_nothing_of_one_in_use() {
    let mut bed = Bed::new();
    bed.grant("1", &["10.1.1.1"]);
    bed.added(ask("a", "net1", 0, v4(&["1"])));
    bed.address_gone("10.1.1.1", &netns("a", 1));
    assert_eq!(bed.counts("1"), (0, 1, 0, 0));
}

/// Rule: Live means held. A namespace that is gone takes all of its sandbox's addresses with it, and no others.
#[test]
fn a_sandbox_that_is_gone_gives_back_all_it_held() {
    let mut bed = Bed::new();
    bed.grant("1", &["10.1.1.1-10.1.1.9"]);
    for (container, interface) in [("a", "net1"), ("a", "net2"), ("ab", "net1"), ("b", "net1")] {
        bed.added(ask(container, interface, 0, v4(&["1"])));
    }
    bed.del(&who("a", "net2"), at(1));
    bed.sandbox_gone("a", &netns("a", 2));
    assert_eq!(bed.counts("1"), (5, 3, 1, 0), "another namespace under the same name");
    bed.sandbox_going("a", &netns("a", 1));
    assert_eq!(bed.counts("1"), (5, 2, 2, 0), "its links answer for a moment yet");
    bed.sandbox_gone("a", &netns("a", 1));
    assert_eq!(bed.counts("1"), (5, 2, 0, 2));
    assert_eq!(bed.holds(&who("ab", "net1")), [ip("10.1.1.3")]);
}

/// Rule: Two UIDs, one name. A newer sandbox of a Pod has the older ones looked at; evidence alone takes from them.
#[test]
fn a_newer_sandbox_supersedes_those_that_are_dead() {
    let mut bed = Bed::new();
    bed.grant("1", &["10.1.1.1-10.1.1.2"]);
    let of = |uid: &str, add| Add { pod: PodId { uid: uid.into(), ..PodId::default() }, ..add };
    bed.added(of("u", ask("a", "net1", 0, v4(&["1"]))));
    bed.added(of("u", ask("a", "net2", 0, v4(&["1"]))));
    assert_eq!(bed.errands, [], "a sandbox does not supersede itself");
    let waits = bed.add(of("u", ask("b", "net1", 1, v4(&["1"]))));
    assert_eq!(bed.errands, [Errand::LookAt { container: "a".into(), netns: netns("a", 1) }]);
    assert_eq!(bed.counts("1"), (0, 2, 0, 0), "it is looked at, not robbed");
    bed.deny("1");
    assert!(matches!(bed.refused(waits), Refused::Exhausted(_)));

    let waits = bed.add(of("u", ask("b", "net1", 2, v4(&["1"]))));
    bed.sandbox_gone("a", &netns("a", 1));
    bed.deny("1");
    assert_eq!(bed.addresses(waits), [ip("10.1.1.1")]);
    bed.errands.clear();
    bed.add(ask("c", "net1", 3, v4(&["1"])));
    for uid in ["t", "ua", "v"] {
        bed.add(of(uid, ask(uid, "net1", 3, v4(&["1"]))));
    }
    assert_eq!(bed.errands, [], "no UID, or another one");
}

/// Rule: Live means held. Rule: Last word by start.
#[test]
fn a_containers_name_used_again_gets_new_addresses() {
    let mut bed = Bed::new();
    bed.grant("1", &["10.1.1.1-10.1.1.9"]);
    bed.added(ask("a", "net1", 5, v4(&["1"])));
    let again = |second, wants| Add { netns: netns("a", 2), ..ask("a", "net1", second, wants) };
    let nothing = bed.add(again(6, Vec::new()));
    assert_eq!(bed.refused(nothing), &Refused::Unknown);
    let older = bed.add(again(4, v4(&["1"])));
    assert_eq!(bed.refused(older), &Refused::Overtaken);
    assert_eq!(bed.counts("1"), (8, 1, 0, 0), "who was refused changed nothing");

    assert_eq!(bed.added(again(6, v4(&["1"]))), [ip("10.1.1.2")]);
    assert_eq!(bed.counts("1"), (7, 1, 1, 0));
    bed.sandbox_gone("a", &netns("a", 1));
    assert_eq!(bed.counts("1"), (7, 1, 0, 1), "the new one stays");
}

/// Rule: Only from the lease.
#[test]
fn an_add_without_wants_is_answered_by_its_record_alone() {
    let mut bed = Bed::new();
    bed.grant("1", &["10.1.1.1"]);
    let ticket = bed.add(ask("a", "net1", 0, Vec::new()));
    assert_eq!(bed.refused(ticket), &Refused::Unknown);
}

/// Rule: Two UIDs, one name. Two interfaces of a Pod never share an address.
#[test]
fn interfaces_of_a_pod_have_an_address_each() {
    let mut bed = Bed::new();
    bed.grant("1", &["10.1.1.1-10.1.1.2"]);
    let first = bed.added(ask("a", "net1", 0, v4(&["1"])));
    let second = bed.added(ask("a", "net2", 0, v4(&["1"])));
    assert_ne!(first, second);
    let mut third = ask("a", "net1", 0, v4(&["1"]));
    third.who.network = "another".into();
    let third = bed.add(third);
    bed.deny("1");
    assert!(matches!(bed.refused(third), Refused::Exhausted(_)), "another network is another attachment");
}

/// Rule: All or nothing.
#[test]
fn both_families_or_neither() {
    let both = || vec![want(Family::V4, &["1"]), want(Family::V6, &["2"])];
    for first in ["1", "2"] {
        let second = if first == "1" { "2" } else { "1" };
        let mut bed = Bed::new();
        let range = |pool| if pool == "1" { ["10.1.1.1"] } else { ["fd00:2::1"] };
        bed.grant(first, &range(first));
        let ticket = bed.add(ask("a", "net1", 0, both()));
        assert_eq!((bed.reply(ticket), bed.counts(first)), (None, (1, 0, 0, 0)));
        assert!(!bed.rows.keys().any(|key| matches!(key, Key::Attachment(_) | Key::Fact(_))));
        bed.grant(second, &range(second));
        assert_eq!(bed.addresses(ticket), [ip("10.1.1.1"), ip("fd00:2::1")]);

        let refused = bed.add(ask("b", "net1", 0, both()));
        bed.grant(first, &[if first == "1" { "10.1.1.2" } else { "fd00:2::2" }]);
        bed.deny(second);
        assert!(matches!(bed.refused(refused), Refused::Exhausted(_)));
        assert_eq!(bed.counts(first), (1, 1, 0, 0));
        assert!(bed.holds(&who("b", "net1")).is_empty());
    }
}

/// Everything from outside is bounded. What is there already is answered all the same.
#[test]
fn a_sandbox_has_so_many_attachments_and_no_more() {
    let mut bed = Bed::new();
    bed.grant("1", &["10.1.1.0-10.1.1.255"]);
    for number in 0..MOST {
        bed.added(ask("a", &format!("net{number}"), 0, v4(&["1"])));
    }
    let one_more = ask("a", "more", 1, v4(&["1"]));
    let refused = bed.add(one_more.clone());
    assert_eq!(bed.refused(refused), &Refused::Crowded);
    bed.added(ask("a", "net0", 1, v4(&["1"])));
    bed.del(&who("a", "net1"), at(2));
    let waits = bed.add(Add { started: at(3), ..one_more });
    assert_eq!(bed.replies.get(&waits), None, "for the address that is dying");
}

/// Who waits is counted when it is served.
#[test]
fn of_more_that_wait_than_may_be_the_first_are_served() {
    let mut bed = Bed::new();
    bed.grant("1", &["10.1.1.0-10.1.1.254"]);
    for number in 0..MOST - 1 {
        bed.added(ask("a", &format!("net{number}"), 0, v4(&["1"])));
    }
    let [first, second] = ["more", "even-more"].map(|name| bed.add(ask("a", name, 1, v4(&["1"]))));
    assert!(!bed.replies.contains_key(&first) && !bed.replies.contains_key(&second));
    bed.grant("1", &["10.1.1.255"]);
    assert_eq!(bed.addresses(first).len(), 1);
    assert_eq!(bed.refused(second), &Refused::Crowded);
}
