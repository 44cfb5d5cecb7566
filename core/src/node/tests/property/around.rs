//! What the kernel, the feeder and the callers do.

use std::collections::BTreeSet;

use super::End;
use super::world::{POOLS, World};
use crate::node::tests::*;
use crate::world::PoolName;

impl World {
    pub(super) fn ticket(&mut self) -> Ticket {
        self.tickets += 1;
        self.tickets
    }

    pub(super) fn stamp(&self, age: u8) -> u64 {
        self.now.boot - u64::from(age) * SECOND
    }

    pub(super) fn netns(&self, sandbox: u8) -> Netns {
        Netns { path: String::new(), inode: self.sandboxes[usize::from(sandbox)], cookie: 0 }
    }

    /// An ADD; the bits of `wants` name its pools, the fourth says that it probes.
    pub(super) fn call(&mut self, sandbox: u8, interface: u8, age: u8, wants: u8, patience: u8) -> Add {
        let chosen = |place: usize| wants & (1 << place) != 0;
        let candidate = |pool: &str| {
            let mut candidate = candidate(pool, &[]);
            let own = self.belongs.iter().filter(|(_, of)| of.as_deref() == Some(pool));
            candidate.allowed = Arc::new(own.map(|(address, _)| *address).collect());
            candidate
        };
        let want = |family, places: &[usize]| {
            let candidates: Vec<Candidate> =
                places.iter().filter(|place| chosen(**place)).map(|place| candidate(POOLS[*place])).collect();
            (!candidates.is_empty()).then_some(Want { family, candidates })
        };
        let wants = [want(Family::V4, &[0, 1]), want(Family::V6, &[2])].into_iter().flatten().collect();
        Add {
            ticket: self.ticket(),
            who: attachment(sandbox, interface),
            started: self.stamp(age),
            pod: PodId { uid: format!("uid-{}", sandbox % 2), ..PodId::default() },
            netns: self.netns(sandbox),
            wants,
            until: self.now.boot + u64::from(patience) * SECOND,
            probes: chosen(3),
        }
    }

    /// A probe of what an ADD was given ends: the answer is heard, or something is in its way.
    pub(super) fn probe(&mut self, choice: u8, silent: bool, deaf: bool, end: End) {
        if self.probing.is_empty() {
            return;
        }
        let (add, allocations, is_new) = self.probing.remove(usize::from(choice) % self.probing.len());
        let deaf = deaf || !add.probes;
        let addresses: Vec<IpAddr> = allocations.iter().map(|held| held.address).collect();
        // What the interface has from an answer before is not asked about.
        let own = self.kernel.get(&add.netns.inode).cloned().unwrap_or_default();
        let asked = addresses.iter().filter(|address| !deaf && !own.contains(address));
        let strange = asked.filter(|address| self.strangers.contains(address));
        let taken: BTreeMap<IpAddr, Mac> = strange.map(|address| (*address, Mac([2; 6]))).collect();
        let suspect = allocations.iter().any(|held| held.stranger.is_some());
        let fit = taken.is_empty() && if deaf { !suspect } else { !silent };
        let verdict = if fit { Verdict::Fit } else { Verdict::Unfit(taken.clone()) };
        let (ticket, who, started) = (self.ticket(), add.who.clone(), add.started);
        let is_given = |held: &Held| held.allocations.iter().map(|held| held.address).eq(addresses.clone());
        let current =
            self.node.attachments().held().get(&who).is_some_and(|held| held.started == started && is_given(held));
        self.reply = None;
        if end != End::Lost && current && !fit {
            self.quarantined.extend(taken.keys());
            self.heard.remove(&who);
        }
        if end != End::Lost && current && fit {
            self.quarantined.retain(|address| !addresses.contains(address));
        }
        self.happen(Event::Probed(Box::new(Probed { ticket, who, started, addresses, verdict })), end);
        if end == End::Served {
            assert_eq!(self.reply == Some(Reply::Done), current, "{:?}", self.reply);
            if fit && current {
                self.hear_answer(add, &allocations, is_new);
            }
        }
    }

    /// A DEL was served: what it outdoes was never heard.
    pub(super) fn delete(&mut self, who: Attachment, started: u64) {
        if self.heard.get(&who).is_some_and(|heard| heard.started <= started) {
            self.heard.remove(&who);
        }
        let last = self.deleted.entry(who).or_default();
        *last = started.max(*last);
    }

    /// The kernel drops an address that no caller counts on, or the links of a namespace that nobody holds.
    pub(super) fn unlink(&mut self, choice: u8) {
        let kept: BTreeSet<(u64, IpAddr)> = self
            .heard
            .values()
            .flat_map(|heard| heard.addresses.iter().map(|address| (heard.netns.inode, *address)))
            .collect();
        let links = self.kernel.iter().flat_map(|(inode, there)| there.iter().map(|address| (*inode, *address)));
        let loose: Vec<(u64, IpAddr)> = links.filter(|link| !kept.contains(link)).collect();
        let choice = usize::from(choice) % (loose.len() + self.going.len()).max(1);
        if let Some((inode, address)) = loose.get(choice) {
            self.kernel.get_mut(inode).expect("listed").remove(address);
        } else if let Some(inode) = self.going.keys().nth(choice - loose.len()).copied() {
            self.going.remove(&inode);
        }
    }

    pub(super) fn die(&mut self, sandbox: u8) {
        self.inodes += 1;
        let ended = std::mem::replace(&mut self.sandboxes[usize::from(sandbox)], self.inodes);
        self.going.extend(self.kernel.remove_entry(&ended).filter(|(_, there)| !there.is_empty()));
        self.kernel.insert(self.inodes, BTreeSet::new());
    }

    /// Tells what the kernel proves: which namespaces nobody holds, which dying addresses are on no link.
    pub(super) fn look(&mut self, end: End) {
        let attachments = self.node.attachments();
        let held = attachments.held().iter().map(|(who, held)| (Arc::clone(&who.container), held.netns.clone()));
        let planned = attachments.sandboxes().iter().map(|(name, sandbox)| (Arc::clone(name), sandbox.netns.clone()));
        let dying = self.node.leases().dying().values();
        let dying = dying.map(|dying| (Arc::clone(&dying.holder.container), dying.netns.clone()));
        let places = held.chain(planned).chain(dying);
        let gone: BTreeSet<_> = places.filter(|(_, netns)| !self.kernel.contains_key(&netns.inode)).collect();
        let links: BTreeSet<(u64, IpAddr)> = self
            .kernel
            .iter()
            .chain(&self.going)
            .flat_map(|(inode, there)| there.iter().map(|address| (*inode, *address)))
            .collect();
        let off_link = |(address, netns): &(IpAddr, Netns)| !links.contains(&(netns.inode, *address));
        let dying = self.node.leases().dying().iter().map(|(address, dying)| (*address, dying.netns.clone()));
        let dying: Vec<(IpAddr, Netns)> = dying.filter(off_link).collect();
        let quarantined = self.node.leases().quarantined().map(|(address, known)| (address, known.probed));
        let unused: Vec<(IpAddr, u64)> = quarantined.filter(|(known, _)| !self.strangers.contains(known)).collect();
        for (address, probed) in unused {
            if end != End::Lost {
                self.quarantined.remove(&address);
            }
            self.happen(Event::Evidence(Evidence::Unused(address, probed)), end);
        }
        for (container, netns) in gone {
            if end != End::Lost {
                self.heard.retain(|who, heard| who.container != container || heard.netns != netns);
            }
            self.happen(Event::Evidence(Evidence::SandboxGone { container, netns }), end);
        }
        for (address, netns) in dying {
            self.happen(Event::Evidence(Evidence::AddressGone(address, netns)), end);
        }
        self.free_lost();
    }

    pub(super) fn open(&mut self) {
        self.open = true;
        self.granted = 0;
        self.levels.clear();
        self.happen(Event::Opened, End::Served);
        self.say(Down::Repaired, End::Served);
        self.withdraw(End::Served);
    }

    pub(super) fn close(&mut self, end: End) {
        if self.open {
            self.open = false;
            self.levels.clear();
            let session = self.node.meta().session;
            self.happen(Event::Closed(session), end);
        }
    }

    pub(super) fn say(&mut self, message: Down, end: End) {
        if self.open {
            if let Down::Denied { pool } = &message {
                self.levels.remove(pool);
            }
            let session = self.node.meta().session;
            self.happen(Event::Session(session, message), end);
        }
    }

    /// Leases some free addresses of a pool: the ledger is written first.
    pub(super) fn grant(&mut self, pool: usize, count: usize, end: End) {
        if !self.open {
            return;
        }
        let pool: PoolName = POOLS[pool].into();
        let is_free = |address| !self.ledger.contains_key(&address) || self.is_of_a_lost_journal(address);
        let free = self.belongs.iter().filter(|(address, of)| of.as_ref() == Some(&pool) && is_free(**address));
        let addresses = free.map(|(address, _)| *address).take(count).collect();
        self.lease(pool, addresses, end);
    }

    pub(super) fn lease(&mut self, pool: PoolName, addresses: BTreeSet<IpAddr>, end: End) {
        self.granted += 1;
        let journal = self.node.meta().journal;
        let id = GrantId { journal, session: self.node.meta().session, number: self.granted };
        self.ledger.extend(addresses.iter().map(|address| (*address, (id, pool.clone()))));
        let grant = Grant { id, pool, addresses: addresses.into_iter().collect() };
        self.last_grant = Some(grant.clone());
        self.say(Down::Grant(grant), end);
    }

    /// Addresses belong to another pool now.
    pub(super) fn hand_over(&mut self, addresses: u16, pool: Option<&str>, end: End) {
        let chosen = self.belongs.keys().enumerate().filter(|(place, _)| addresses & (1 << place) != 0);
        let mut chosen: BTreeSet<IpAddr> = chosen.map(|(_, address)| *address).collect();
        chosen.retain(|address| pool.is_none_or(|pool| (pool == "6") == address.is_ipv6()));
        match pool {
            Some(pool) if self.open => self.lease_lost(pool, &chosen),
            Some(_) => chosen.retain(|address| !self.is_of_a_lost_journal(*address)),
            None => {}
        }
        for address in chosen {
            self.belongs.insert(address, pool.map(PoolName::from));
        }
        self.withdraw(end);
    }

    /// Asks back what is leased under a pool that does not have it.
    fn withdraw(&mut self, end: End) {
        let journal = self.node.meta().journal;
        let mut lost: BTreeMap<GrantId, AddressSet> = BTreeMap::new();
        for (address, (id, pool)) in self.ledger.iter().filter(|(_, (id, _))| id.journal == journal) {
            if self.belongs[address].as_ref() != Some(pool) {
                lost.entry(*id).or_default().insert(*address);
            }
        }
        for (grant, addresses) in lost {
            self.say(Down::Withdrawn { grant, addresses }, end);
        }
    }

    pub(super) fn lease_elsewhere(&mut self, addresses: u16) {
        let other = GrantId { journal: JournalId(99), session: 1, number: 1 };
        self.ledger.retain(|_, (id, _)| *id != other);
        for (place, address) in self.belongs.keys().enumerate() {
            if addresses & (1 << place) != 0 {
                self.ledger.entry(*address).or_insert((other, "1".into()));
            }
        }
    }

    /// The machine starts anew: no sandbox is left, and the old journal's lease is free.
    pub(super) fn boot(&mut self) {
        self.boots += 1;
        self.journals += 1;
        let rows = self.rows.clone().into_iter().map(Ok);
        let (journal, here) = (JournalId(self.journals), here(BootId(self.boots)));
        let (node, batch) = Node::recover(rows, &here, journal, self.cooldown).expect("a journal that the node wrote");
        audit::commit(&mut self.rows, &batch);
        self.node = node;
        (self.open, self.last_grant) = (false, None);
        self.calls.clear();
        self.heard.clear();
        self.probing.clear();
        self.deleted.clear();
        self.levels.clear();
        self.kernel.clear();
        self.going.clear();
        (0..3).for_each(|sandbox| self.die(sandbox));
        self.ledger.retain(|_, (id, _)| id.journal == JournalId(99));
    }
}

pub(super) fn attachment(sandbox: u8, interface: u8) -> Attachment {
    who(["a", "b", "c"][usize::from(sandbox)], ["net1", "net2"][usize::from(interface)])
}
