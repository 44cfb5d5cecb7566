//! What a journal that was lost takes over before the first ADD.

use super::*;
use crate::node::adopt::NOBODY;
use crate::node::attachment::{Allocation, Held};
use crate::node::event::Found;

fn cached(container: &str, addresses: &[&str]) -> (Attachment, Held) {
    let terms = Terms { prefix: 24, gateway: None, default_route: true, routes: Vec::new() };
    let allocation =
        |address: &&str| Allocation { address: ip(address), pool: "?".into(), terms: terms.clone(), stranger: None };
    let allocations = addresses.iter().map(allocation).collect();
    let held = Held { started: 0, pod: PodId::default(), netns: netns(container, 1), since: 0, allocations };
    (who(container, "net1"), held)
}

fn adopt(bed: &mut Bed, found: Found) {
    bed.tickets += 1;
    let ticket = bed.tickets;
    bed.happen(Event::Adopt { ticket, found });
    assert_eq!(bed.reply(ticket), Some(&Reply::Done));
}

/// Rule: One holder. Rule: Live means held.
#[test]
fn what_is_adopted_is_not_given_out_and_its_del_works() {
    let mut bed = Bed::new();
    bed.grant("1", &["10.1.1.1-10.1.1.4"]);
    assert!(!bed.node.meta().adopted);
    let held = vec![cached("a", &["10.1.1.1"]), cached("b", &["10.9.9.9"])];
    let seen = vec![(ip("10.1.1.1"), netns("a", 1)), (ip("10.1.1.2"), netns("x", 1)), (ip("10.9.9.9"), netns("b", 1))];
    adopt(&mut bed, Found { held, seen });
    assert!(bed.node.meta().adopted);
    assert_eq!(
        bed.holds(&who("a", "net1")),
        [ip("10.1.1.1")],
        "by the runtime's result, under the pool that leases it"
    );
    assert_eq!(bed.counts("1"), (2, 1, 1, 0), "what is merely seen is dying; what is not leased is not ours");
    assert_eq!(&*bed.node.leases().dying()[&ip("10.1.1.2")].holder.container, NOBODY);

    assert_eq!(bed.added(ask("c", "net1", 0, v4(&["1"]))), [ip("10.1.1.3")]);
    bed.restart();
    assert!(bed.node.meta().adopted, "and once is enough");
    bed.del(&who("a", "net1"), at(1));
    bed.address_gone("10.1.1.1", &netns("a", 1));
    bed.address_gone("10.1.1.2", &netns("x", 1));
    assert_eq!(bed.counts("1"), (1, 1, 0, 2));
}

#[test]
fn of_two_results_for_one_address_the_first_holds_it() {
    let mut bed = Bed::new();
    bed.grant("1", &["10.1.1.1-10.1.1.4"]);
    let held = vec![cached("a", &["10.1.1.1"]), cached("b", &["10.1.1.1", "10.1.1.2"])];
    adopt(&mut bed, Found { held, seen: Vec::new() });
    assert_eq!(bed.holds(&who("a", "net1")), [ip("10.1.1.1")]);
    assert_eq!(bed.holds(&who("b", "net1")), [ip("10.1.1.2")]);
}

/// Rule: One holder. Rule: Live means held. The kernel's word counts before what a runtime remembers.
#[test]
fn of_two_results_for_one_address_that_on_whose_link_it_is_holds_it() {
    for stale_first in [true, false] {
        let mut bed = Bed::new();
        bed.grant("1", &["10.1.1.1-10.1.1.4"]);
        let mut held = vec![cached("a", &["10.1.1.2", "10.1.1.1"]), cached("b", &["10.1.1.1"])];
        if !stale_first {
            held.reverse();
        }
        let seen = vec![(ip("10.1.1.2"), netns("a", 1)), (ip("10.1.1.1"), netns("b", 1))];
        adopt(&mut bed, Found { held, seen });
        assert_eq!(bed.holds(&who("a", "net1")), [ip("10.1.1.2")]);
        assert_eq!(bed.holds(&who("b", "net1")), [ip("10.1.1.1")]);
        assert_eq!(bed.counts("1"), (2, 2, 0, 0));
        bed.del(&who("a", "net1"), at(1));
        bed.address_gone("10.1.1.2", &netns("a", 1));
        assert_eq!(bed.holds(&who("b", "net1")), [ip("10.1.1.1")], "b's is not touched");
    }
}

/// Rule: Live means held. Freed with the end of a sandbox that has it on no link, it would be given out beside the other.
#[test]
fn what_is_on_the_link_of_another_is_not_its_claimants() {
    let mut bed = Bed::new();
    bed.grant("1", &["10.1.1.1-10.1.1.2"]);
    let held = vec![cached("a", &["10.1.1.1"]), cached("b", &["10.1.1.1"])];
    adopt(&mut bed, Found { held, seen: vec![(ip("10.1.1.1"), netns("x", 1))] });
    assert!(bed.node.attachments().held().is_empty());
    assert_eq!(bed.node.leases().dying()[&ip("10.1.1.1")].netns, netns("x", 1));
    bed.sandbox_gone("a", &netns("a", 1));
    assert_eq!(bed.counts("1"), (1, 0, 1, 0));
    bed.sandbox_gone(NOBODY, &netns("x", 1));
    assert_eq!(bed.counts("1"), (1, 0, 0, 1));
}

/// Caches of two runtimes may both speak of one attachment; only one of them is what is there.
#[test]
fn of_two_results_for_one_attachment_that_on_whose_link_it_is_counts() {
    for stale_first in [true, false] {
        let mut bed = Bed::new();
        bed.grant("1", &["10.1.1.1-10.1.1.4"]);
        let mut held = vec![cached("a", &["10.1.1.1"]), cached("a", &["10.1.1.2"]), cached("a", &["10.1.1.2"])];
        if !stale_first {
            held.reverse();
        }
        adopt(&mut bed, Found { held, seen: vec![(ip("10.1.1.2"), netns("a", 1))] });
        assert_eq!(bed.holds(&who("a", "net1")), [ip("10.1.1.2")]);
        assert_eq!(bed.counts("1"), (3, 1, 0, 0));
    }
}
