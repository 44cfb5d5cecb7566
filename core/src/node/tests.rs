//! A node on a bed: every event is committed to rows in memory, and after each one the audit holds the state against
//! a recount and against what the rows alone say.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::attachment::Netns;
use super::event::Add;
use super::*;
use crate::address::{AddressRange, AddressSet, Family};
use crate::journal::{Binding, BootId, MachineId};
use crate::message::{Grant, JournalId};
use crate::select::{Candidate, Terms, Want};

mod adopt;
mod attach;
mod audit;
mod lease;
mod property;
mod quarantine;
mod recover;
mod sandbox;
mod wait;

const SECOND: u64 = 1_000_000_000;
const COOLDOWN: u64 = 30 * SECOND;
const BOOT: BootId = BootId(1);
const JOURNAL: JournalId = JournalId(7);

/// This node, in a boot.
fn here(boot: BootId) -> Binding {
    Binding { boot, node: Some("worker01".into()), machine: Some(MachineId(3)) }
}

/// Seconds after the tests begin, on the boot clock.
fn at(seconds: u64) -> u64 {
    (10_000 + seconds) * SECOND
}

struct Bed {
    node: Node,
    rows: BTreeMap<Key, Record>,
    now: Now,
    tickets: Ticket,
    granted: u32,
    replies: BTreeMap<Ticket, Reply>,
    messages: Vec<Up>,
    errands: Vec<Errand>,
}

impl Bed {
    /// A fresh journal with an open session.
    fn new() -> Bed {
        let mut bed = Bed::empty();
        bed.happen(Event::Opened);
        bed.say(Down::Repaired);
        bed
    }

    fn empty() -> Bed {
        let (node, batch) = Node::recover(std::iter::empty(), &here(BOOT), JOURNAL, COOLDOWN).unwrap();
        let mut bed = Bed {
            node,
            rows: BTreeMap::new(),
            now: Now { boot: at(0), wall: 5 },
            tickets: 0,
            granted: 0,
            replies: BTreeMap::new(),
            messages: Vec::new(),
            errands: Vec::new(),
        };
        audit::commit(&mut bed.rows, &batch);
        bed
    }

    fn happen(&mut self, event: Event) {
        let mut out = Effects::default();
        self.node.handle(self.now, event, &mut out);
        audit::commit(&mut self.rows, &out.batch);
        for (ticket, reply) in out.replies {
            assert_eq!(self.replies.insert(ticket, reply), None, "one reply a call");
        }
        self.messages.extend(out.messages.into_iter().map(|(_, message)| message));
        self.errands.extend(out.errands);
        audit::audit(&self.node, &self.rows, self.now, COOLDOWN);
    }

    /// The daemon ends and starts again in the same boot.
    fn restart(&mut self) {
        self.node = audit::recover(&self.rows, &here(BOOT), COOLDOWN);
        self.messages.clear();
    }

    fn pass(&mut self, seconds: u64) {
        self.now.boot += seconds * SECOND;
    }

    fn say(&mut self, message: Down) {
        let session = self.node.meta().session;
        self.happen(Event::Session(session, message));
    }

    fn grant(&mut self, pool: &str, ranges: &[&str]) -> GrantId {
        self.granted += 1;
        let id = GrantId { journal: self.node.meta.journal, session: self.node.meta.session, number: self.granted };
        self.say(Down::Grant(Grant { id, pool: pool.into(), addresses: set(ranges) }));
        id
    }

    fn deny(&mut self, pool: &str) {
        self.say(Down::Denied { pool: pool.into() });
    }

    /// An ADD; its reply, if there is one at once, is in [`Bed::reply`].
    fn add(&mut self, add: Add) -> Ticket {
        self.tickets += 1;
        self.happen(Event::Add(Box::new(Add { ticket: self.tickets, ..add })));
        self.tickets
    }

    /// An ADD that gets addresses at once.
    fn added(&mut self, add: Add) -> Vec<IpAddr> {
        let ticket = self.add(add);
        self.addresses(ticket)
    }

    fn addresses(&self, ticket: Ticket) -> Vec<IpAddr> {
        match self.replies.get(&ticket) {
            Some(Reply::Added(allocations)) => allocations.iter().map(|held| held.address).collect(),
            other => panic!("no addresses: {other:?}"),
        }
    }

    fn reply(&self, ticket: Ticket) -> Option<&Reply> {
        self.replies.get(&ticket)
    }

    fn refused(&self, ticket: Ticket) -> &Refused {
        match self.replies.get(&ticket) {
            Some(Reply::Refused(refused)) => refused,
            other => panic!("not refused: {other:?}"),
        }
    }

    fn del(&mut self, who: &Attachment, started: u64) {
        self.tickets += 1;
        let ticket = self.tickets;
        self.happen(Event::Del { ticket, who: who.clone(), started });
        assert_eq!(self.replies.get(&ticket), Some(&Reply::Done), "DEL always ends");
    }

    fn address_gone(&mut self, address: &str, netns: &Netns) {
        self.happen(Event::Evidence(Evidence::AddressGone(ip(address), netns.clone())));
    }

    /// Nobody holds the namespace any more.
    fn sandbox_going(&mut self, container: &str, netns: &Netns) {
        let (container, netns) = (container.into(), netns.clone());
        self.happen(Event::Evidence(Evidence::SandboxGone { container, netns }));
    }

    /// And its links are gone with it.
    fn sandbox_gone(&mut self, container: &str, netns: &Netns) {
        self.sandbox_going(container, netns);
        let dying = self.node.leases().dying().iter().filter(|(_, dying)| dying.netns == *netns);
        let dying: Vec<IpAddr> = dying.map(|(address, _)| *address).collect();
        for address in dying {
            self.happen(Event::Evidence(Evidence::AddressGone(address, netns.clone())));
        }
    }

    /// What is known of a pool: idle, held, dying, cooling.
    fn counts(&self, pool: &str) -> (u128, u64, u64, u64) {
        let counts = self.node.leases().counts(pool, self.now.boot);
        (counts.idle, counts.held, counts.dying, counts.cooling)
    }

    fn holds(&self, who: &Attachment) -> Vec<IpAddr> {
        let held = self.node.attachments().held().get(who);
        held.map(|held| held.allocations.iter().map(|held| held.address).collect()).unwrap_or_default()
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn set(ranges: &[&str]) -> AddressSet {
    ranges.iter().map(|range| range.parse::<AddressRange>().unwrap()).collect()
}

fn who(container: &str, interface: &str) -> Attachment {
    Attachment { container: container.into(), interface: interface.into(), network: "macvlan".into() }
}

/// The namespace of a container. Another number is another namespace, under the same path.
fn netns(container: &str, number: u64) -> Netns {
    Netns { path: format!("/run/netns/{container}"), inode: number, cookie: u64::from(container.as_bytes()[0]) }
}

fn candidate(pool: &str, ranges: &[&str]) -> Candidate {
    let terms = Terms { prefix: 24, gateway: None, default_route: false, routes: Vec::new() };
    Candidate { pool: pool.into(), allowed: Arc::new(set(ranges)), terms }
}

/// One family's want of pools that allow 10.1.POOL.0/24 or fd00:POOL::/112; a pool's name is a digit.
fn want(family: Family, pools: &[&str]) -> Want {
    let range = |pool: &str| match family {
        Family::V4 => format!("10.1.{pool}.0-10.1.{pool}.255"),
        Family::V6 => format!("fd00:{pool}::-fd00:{pool}::ffff"),
    };
    Want { family, candidates: pools.iter().map(|pool| candidate(pool, &[&range(pool)])).collect() }
}

fn v4(pools: &[&str]) -> Vec<Want> {
    vec![want(Family::V4, pools)]
}

/// An ADD of a container's interface that started at a second and waits eight.
fn ask(container: &str, interface: &str, second: u64, wants: Vec<Want>) -> Add {
    Add {
        ticket: 0,
        who: who(container, interface),
        started: at(second),
        pod: PodId::default(),
        netns: netns(container, 1),
        wants,
        until: at(second + 8),
        probes: false,
    }
}
