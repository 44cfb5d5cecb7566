//! The world around a node, as simple as it can be: what the kernel has, what the feeder leased, what callers heard.

use std::collections::{BTreeMap, BTreeSet};

use super::adoption::Cached;
use super::around::attachment;
use super::{End, Op};
use crate::node::tests::*;
use crate::plan::{Object, Plan, Side, Sysctl};
use crate::world::PoolName;

pub(super) const POOLS: [&str; 3] = ["1", "2", "6"];

/// An answer that a caller heard.
pub(super) struct Heard {
    pub(super) started: u64,
    pub(super) netns: Netns,
    pub(super) addresses: Vec<IpAddr>,
}

pub(super) struct World {
    pub(super) node: Node,
    pub(super) rows: BTreeMap<Key, Record>,
    pub(super) now: Now,
    pub(super) boots: u128,
    /// The ID of the latest journal.
    pub(super) journals: u128,
    pub(super) cooldown: u64,
    pub(super) tickets: Ticket,
    /// ADDs without an answer yet.
    pub(super) calls: BTreeMap<Ticket, Add>,
    pub(super) heard: BTreeMap<Attachment, Heard>,
    /// What runtimes keep of all answers that were ever heard.
    pub(super) cached: Vec<Cached>,
    /// ADDs whose addresses are being probed, and whether these are newly given.
    pub(super) probing: Vec<(Add, Vec<Allocation>, bool)>,
    /// What a stranger uses.
    pub(super) strangers: BTreeSet<IpAddr>,
    /// What a probe found to be a stranger's, until one hears nobody.
    pub(super) quarantined: BTreeSet<IpAddr>,
    /// The latest reply to a call that is no ADD.
    pub(super) reply: Option<Reply>,
    /// Every ADD that wanted something of this journal.
    pub(super) asked: Vec<Add>,
    /// The latest DEL that was answered.
    pub(super) deleted: BTreeMap<Attachment, u64>,
    /// The namespaces that exist, with the addresses on their links.
    pub(super) kernel: BTreeMap<u64, BTreeSet<IpAddr>>,
    /// Namespaces that nobody holds any more, while their links are there yet.
    pub(super) going: BTreeMap<u64, BTreeSet<IpAddr>>,
    /// The namespace of each sandbox.
    pub(super) sandboxes: [u64; 3],
    pub(super) inodes: u64,
    /// Which pool has an address.
    pub(super) belongs: BTreeMap<IpAddr, Option<PoolName>>,
    /// Who leased an address: by which grant, under which pool.
    pub(super) ledger: BTreeMap<IpAddr, (GrantId, PoolName)>,
    pub(super) open: bool,
    pub(super) granted: u32,
    pub(super) last_grant: Option<Grant>,
    /// What the feeder heard last of each pool, above zero.
    pub(super) levels: BTreeMap<PoolName, u32>,
}

impl World {
    pub(super) fn new() -> World {
        let v4 = (1..=6).map(|n| (ip(&format!("10.1.1.{n}")), Some("1".into())));
        let more = (1..=4).map(|n| (ip(&format!("10.1.2.{n}")), Some("2".into())));
        let v6 = (1..=4).map(|n| (ip(&format!("fd00::{n}")), Some("6".into())));
        let (node, batch) = Node::recover(std::iter::empty(), &here(BOOT), JOURNAL, COOLDOWN).unwrap();
        let mut rows = BTreeMap::new();
        audit::commit(&mut rows, &batch);
        let mut world = World {
            node,
            rows,
            now: Now { boot: at(0), wall: 0 },
            boots: BOOT.0,
            journals: 1000,
            cooldown: COOLDOWN,
            tickets: 0,
            calls: BTreeMap::new(),
            heard: BTreeMap::new(),
            cached: Vec::new(),
            probing: Vec::new(),
            strangers: BTreeSet::new(),
            quarantined: BTreeSet::new(),
            reply: None,
            asked: Vec::new(),
            deleted: BTreeMap::new(),
            kernel: BTreeMap::from([(1, BTreeSet::new()), (2, BTreeSet::new()), (3, BTreeSet::new())]),
            going: BTreeMap::new(),
            sandboxes: [1, 2, 3],
            inodes: 3,
            belongs: v4.chain(more).chain(v6).collect(),
            ledger: BTreeMap::new(),
            open: false,
            granted: 0,
            last_grant: None,
            levels: BTreeMap::new(),
        };
        world.open();
        world
    }

    pub(super) fn step(&mut self, op: &Op, end: End) {
        match *op {
            Op::Add { sandbox, interface, age, wants, patience } => {
                let add = self.call(sandbox, interface, age, wants, patience);
                self.calls.insert(add.ticket, add.clone());
                self.asked.extend(Some(add.clone()).filter(|add| !add.wants.is_empty()));
                self.happen(Event::Add(Box::new(add)), end);
            }
            Op::Del { sandbox, interface, age } => {
                let (who, started) = (attachment(sandbox, interface), self.stamp(age));
                let ticket = self.ticket();
                self.happen(Event::Del { ticket, who: who.clone(), started }, end);
                if end != End::Lost {
                    self.delete(who, started);
                }
            }
            Op::Abandon(choice) => {
                let ticket = self.calls.keys().nth(usize::from(choice) % self.calls.len().max(1)).copied();
                if let Some(ticket) = ticket {
                    self.calls.remove(&ticket);
                    self.happen(Event::Abandon(ticket), end);
                }
            }
            Op::Probe { choice, silent, deaf } => self.probe(choice, silent, deaf, end),
            Op::Strangers(addresses) => {
                let all = self.belongs.keys().enumerate().filter(|(place, _)| addresses & (1 << place) != 0);
                self.strangers = all.map(|(_, address)| *address).collect();
            }
            Op::Plumb { sandbox, interface, age } => {
                let (ticket, who, started) = (self.ticket(), attachment(sandbox, interface), self.stamp(age));
                let (pod, netns, plan) = (PodId::default(), self.netns(sandbox), plan(interface, age));
                self.happen(Event::Plumb(Box::new(Plumb { ticket, who, started, pod, netns, plan })), end);
            }
            Op::Unplumb { sandbox, interface, age } => {
                let (ticket, who, started) = (self.ticket(), attachment(sandbox, interface), self.stamp(age));
                self.happen(Event::Unplumb { ticket, who: who.clone(), started }, end);
                let ticket = self.ticket();
                let plan = if age % 2 == 0 { Plan::default() } else { plan(interface, age) };
                self.happen(Event::Unplumbed { ticket, who, plan }, End::Served);
            }
            Op::Unlink(choice) => self.unlink(choice),
            Op::Die(sandbox) => self.die(sandbox),
            Op::Look => self.look(end),
            Op::Open => self.open(),
            Op::Close => self.close(end),
            Op::Grant { pool, count } => self.grant(usize::from(pool), usize::from(count), end),
            Op::Repeat => {
                if let Some(grant) = self.last_grant.clone() {
                    self.say(Down::Grant(grant), end);
                }
            }
            Op::Deny(pool) => self.say(Down::Denied { pool: POOLS[usize::from(pool)].into() }, end),
            Op::Move { addresses, pool } => self.hand_over(addresses, POOLS.get(usize::from(pool)).copied(), end),
            Op::Elsewhere { addresses } => self.lease_elsewhere(addresses),
            Op::Pass(seconds) => {
                self.now.boot += u64::from(seconds) * SECOND;
                if self.node.due().is_some_and(|due| due <= self.now.boot) {
                    self.happen(Event::Due, end);
                }
            }
            Op::Boot => self.boot(),
            Op::LookAgain => self.look_again(end),
            Op::LoseJournal { kept, ref invented } => self.lose_journal(kept, invented, end),
        }
        self.check();
    }

    /// Everyone who waits gets an answer: the feeder gives each pool's, and the kernel lets go of what is dying.
    pub(super) fn settle(&mut self) {
        self.close(End::Served);
        self.open();
        for _ in 0..2 * self.belongs.len() {
            for pool in self.levels.keys().cloned().collect::<Vec<_>>() {
                self.say(Down::Denied { pool }, End::Served);
            }
            self.unlink(0);
            self.look(End::Served);
            self.check();
        }
        assert_eq!((self.node.waiting(), self.calls.len()), (0, 0), "nobody waits for nothing");
        self.check();
    }

    pub(super) fn happen(&mut self, event: Event, end: End) {
        let before = self.node.attachments().held().clone();
        let mut out = Effects::default();
        self.node.handle(self.now, event, &mut out);
        if end == End::Lost {
            return self.crash();
        }
        audit::commit(&mut self.rows, &out.batch);
        audit::audit(&self.node, &self.rows, self.now, self.cooldown);
        for (ticket, reply) in &out.replies {
            if let (true, Reply::Added(allocations)) = (self.calls.contains_key(ticket), reply) {
                for Allocation { address, stranger, .. } in allocations {
                    let marked = stranger.is_some();
                    assert_eq!(
                        self.quarantined.contains(address),
                        marked,
                        "{address}: a stranger's, and known as such"
                    );
                }
            }
        }
        if end == End::Unsaid {
            return self.crash();
        }
        let mut given = BTreeSet::new();
        for (ticket, reply) in out.replies {
            match (self.calls.remove(&ticket), reply) {
                (Some(add), Reply::Added(allocations)) => {
                    let of_record = before.get(&add.who).is_some_and(|held| held.netns == add.netns);
                    let is_new = given.insert(add.who.clone()) && !of_record;
                    if add.probes || allocations.iter().any(|held| held.stranger.is_some()) {
                        self.probing.push((add, allocations, is_new));
                    } else {
                        self.hear_answer(add, &allocations, is_new);
                    }
                }
                (Some(_), _) => {}
                (None, reply) => {
                    assert_eq!(self.tickets, ticket, "a reply to nobody");
                    self.reply = Some(reply);
                }
            }
        }
        for (session, message) in out.messages {
            assert_eq!(session, self.node.meta.session);
            self.hear_message(message);
        }
    }

    /// The process ends and starts again, perhaps with another cooldown.
    fn crash(&mut self) {
        self.cooldown = COOLDOWN - self.cooldown;
        self.node = audit::recover(&self.rows, &self.node.meta.bound, self.cooldown);
        self.calls.clear();
        self.probing.clear();
        self.open = false;
        self.levels.clear();
    }

    pub(super) fn hear_answer(&mut self, add: Add, allocations: &[Allocation], is_new: bool) {
        let addresses: Vec<IpAddr> = allocations.iter().map(|held| held.address).collect();
        assert!(self.deleted.get(&add.who).is_none_or(|del| *del < add.started), "the last word is a DEL's");
        let before = self.heard.get(&add.who).filter(|heard| heard.netns == add.netns);
        let own = before.map(|heard| heard.addresses.clone()).unwrap_or_default();
        assert!(own.is_empty() || own == addresses, "a retry gets the same answer");
        if is_new {
            let (given, wanted) = (addresses.iter().map(Family::of), add.wants.iter().map(|want| want.family));
            assert!(given.eq(wanted), "all or nothing: {addresses:?}");
        }
        for (inode, there) in self.kernel.iter().chain(&self.going) {
            let known: &[IpAddr] = if *inode == add.netns.inode { &own } else { &[] };
            let taken = addresses.iter().find(|address| there.contains(address) && !known.contains(address));
            assert_eq!(taken, None, "given out while namespace {inode} has it");
        }
        if let Some(links) = self.kernel.get_mut(&add.netns.inode) {
            links.extend(&addresses);
        }
        let started = before.map_or(add.started, |before| before.started.max(add.started));
        let cached = Cached { who: add.who.clone(), netns: add.netns.clone(), addresses: addresses.clone() };
        self.cached.retain(|known| *known != cached);
        self.cached.push(cached);
        self.heard.insert(add.who, Heard { started, netns: add.netns, addresses });
    }

    fn hear_message(&mut self, message: Up) {
        match message {
            Up::Hello { journal, session, leases } => {
                assert_eq!((journal, session), (self.node.meta.journal, self.node.meta.session));
                let listed = |address: &IpAddr, id| leases.iter().any(|l| l.id == id && l.addresses.contains(*address));
                self.ledger.retain(|address, (id, _)| id.journal != journal || listed(address, *id));
            }
            Up::Demand { pool, waiting: 0 } => drop(self.levels.remove(&pool)),
            Up::Demand { pool, waiting } => drop(self.levels.insert(pool, waiting)),
            Up::Returned { grant, addresses } => {
                let back: Vec<IpAddr> = self.ledger.keys().filter(|a| addresses.contains(**a)).copied().collect();
                assert_eq!(back.len() as u128, addresses.count(), "returned and not leased");
                for address in back {
                    assert_eq!(self.ledger.remove(&address).map(|(id, _)| id), Some(grant));
                }
            }
        }
    }

    /// What must hold after every step.
    fn check(&mut self) {
        assert_eq!(self.node.waiting(), self.calls.len(), "every call waits, or has its answer");
        // What went back is no longer this node's to remember.
        let leases = self.node.leases();
        self.quarantined.retain(|address| leases.pool_of(*address).is_some());
        let held = self.node.attachments().held().values().flat_map(|held| &held.allocations);
        let suspects = held.filter(|held| held.stranger.is_some()).map(|held| held.address);
        let known: BTreeSet<IpAddr> =
            self.node.leases().quarantined().map(|(address, _)| address).chain(suspects).collect();
        assert_eq!(known, self.quarantined, "what a probe saw is remembered");
        let heard: BTreeSet<&IpAddr> = self.heard.values().flat_map(|heard| &heard.addresses).collect();
        assert!(!heard.iter().any(|address| self.quarantined.contains(address)), "answered without a probe");
        for lease in self.node.leases().grants() {
            for address in self.belongs.keys().filter(|address| lease.addresses.contains(**address)) {
                let entry = self.ledger.get(address);
                assert_eq!(entry, Some(&(lease.id, lease.pool.clone())), "{address} is leased, and not in the ledger");
            }
        }
        let asked = &self.asked;
        let held = self.node.attachments().held();
        // The name of a container used again, in another namespace: the old answer counts no more.
        self.heard.retain(|who, heard| {
            let newer = |add: &&Add| add.who == *who && add.netns != heard.netns && add.started >= heard.started;
            let is_held = held.get(who).is_some_and(|held| held.netns == heard.netns);
            is_held || !asked.iter().any(|add| newer(&add))
        });
        for (who, heard) in &mut self.heard {
            let held = self.node.attachments().held().get(who).expect("an answer that was heard is kept");
            let addresses: Vec<IpAddr> = held.allocations.iter().map(|held| held.address).collect();
            assert_eq!((&addresses, &held.netns), (&heard.addresses, &heard.netns));
            // Renewed by ADDs of which nothing was heard, too.
            assert!(held.started >= heard.started);
            let adopted = held.started == 0;
            assert!(adopted || asked.iter().any(|add| add.who == *who && add.started == held.started));
            heard.started = held.started;
        }
        for (who, held) in self.node.attachments().held() {
            assert!(
                self.deleted.get(who).is_none_or(|del| *del < held.started),
                "what was released does not come back"
            );
        }
    }
}

/// A plan with an object of the host that all want, and one that those of an age do.
fn plan(interface: u8, age: u8) -> Plan {
    let object = |key: String| Object::from(Sysctl { side: Side::Host, key, value: "1".into() });
    let want = ["shared".to_owned(), format!("age{}", age % 3)].map(|key| (format!("net{interface}"), object(key)));
    Plan { want: want.into(), ..Plan::default() }
}
