//! Whole journals: rows that can be read, one by one, and the node that they make. A row is the length of its key in a
//! byte, the length of its value in two, the key, the value.
//!
//! Holds: rows that are taken for a node's make the same node again; that node can live on, and what it then writes is
//! a journal too, of the same node.

#![no_main]

use std::collections::BTreeMap;
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use spiderpool_core::address::{AddressSet, Family};
use spiderpool_core::journal::{Batch, Binding, BootId, Key, Record, Released};
use spiderpool_core::message::{Down, Grant, GrantId, JournalId};
use spiderpool_core::node::Node;
use spiderpool_core::node::attachment::{Attachment, Netns};
use spiderpool_core::node::event::{Add, Effects, Event, Evidence, Found, Now};
use spiderpool_core::select::{Candidate, Terms, Want};
use spiderpool_core::world::PodId;
use spiderpool_proto::journal::{decode_key, decode_record};

type Rows = BTreeMap<Key, Record>;

const FRESH: JournalId = JournalId(1);
const NOW: Now = Now { boot: 1_000_000_000_000, wall: 1 };
const COOLDOWN: u64 = 30_000_000_000;

fuzz_target!(|input: &[u8]| {
    let Some((first, rest)) = input.split_first() else { return };
    let mut rows = read(rest);
    let here = match rows.get(&Key::Meta) {
        Some(Record::Meta(meta)) if *first != b'o' => meta.bound.clone(),
        _ => Binding { boot: BootId(7), ..Binding::default() },
    };
    let Ok((mut node, batch)) = recover(&rows, &here) else { return };
    commit(&mut rows, batch);
    same_again(&node, &rows, &here);
    if rows.iter().all(|(key, record)| is_young(key, record)) {
        live_on(&mut node, &mut rows);
        same_again(&node, &rows, &here);
    }
});

/// Whether a count in a row can go on: a node near the end of one would write what no node reads.
fn is_young(key: &Key, record: &Record) -> bool {
    let count = match (key, record) {
        (Key::Fact(sequence), _) => *sequence,
        (_, Record::Meta(meta)) => meta.session,
        (_, Record::Released(Released::Resting { order, .. })) => *order,
        _ => 0,
    };
    count < 1 << 62
}

fn read(mut input: &[u8]) -> Rows {
    let mut rows = Rows::new();
    while let Some((&[key, high, low], rest)) = input.split_first_chunk() {
        let value = usize::from(u16::from_be_bytes([high, low]));
        let Some((name, rest)) = rest.split_at_checked(key.into()) else { break };
        let Some((value, rest)) = rest.split_at_checked(value) else { break };
        input = rest;
        if let Ok(key) = decode_key(name)
            && let Ok(record) = decode_record(&key, value)
        {
            rows.insert(key, record);
        }
    }
    rows
}

fn recover(rows: &Rows, here: &Binding) -> Result<(Node, Batch), impl std::error::Error + use<>> {
    Node::recover(rows.clone().into_iter().map(Ok), here, FRESH, COOLDOWN)
}

fn commit(rows: &mut Rows, batch: Batch) {
    for (key, record) in batch.rows {
        match record {
            Some(record) => drop(rows.insert(key, record)),
            None => drop(rows.remove(&key)),
        }
    }
}

/// The rows make this node, as far as it is kept in rows.
fn same_again(node: &Node, rows: &Rows, here: &Binding) {
    let (again, batch) = recover(rows, here).expect("a journal that a node wrote");
    assert!(batch.is_empty(), "nothing to repair");
    assert_eq!(again.meta(), node.meta());
    assert_eq!(again.attachments(), node.attachments());
    let (was, is) = (node.leases(), again.leases());
    assert_eq!(is.dying(), was.dying());
    assert!(is.grants().eq(was.grants()));
    assert!(is.pools().eq(was.pools()));
    for pool in was.pools() {
        let counts = was.counts(pool, NOW.boot);
        assert_eq!(is.counts(pool, NOW.boot), counts);
        let leased = was.grants().filter(|grant| grant.pool == *pool);
        assert_eq!(
            counts.total,
            leased.fold(0_u128, |sum, grant| sum.saturating_add(grant.addresses.count())),
            "{pool}"
        );
    }
}

/// What happens on any node: a session, an ADD from every pool, DELs, evidence, a pool that goes away.
fn live_on(node: &mut Node, rows: &mut Rows) {
    let mut happen = |node: &mut Node, event: Event| {
        let mut out = Effects::default();
        node.handle(NOW, event, &mut out);
        commit(rows, out.batch);
    };
    happen(node, Event::Opened);
    let session = node.meta().session;
    let id = GrantId { journal: node.meta().journal, session, number: 1 };
    let addresses: AddressSet = [std::net::IpAddr::from([10, 0, 0, 1])].into_iter().collect();
    happen(node, Event::Session(session, Down::Grant(Grant { id, pool: "p".into(), addresses })));
    happen(node, Event::Add(Box::new(add(node))));
    let dying: Vec<_> = node.leases().dying().iter().map(|(address, dying)| (*address, dying.netns.clone())).collect();
    for (address, netns) in dying {
        happen(node, Event::Evidence(Evidence::AddressGone(address, netns)));
    }
    let held: Vec<_> = node.attachments().held().iter().map(|(who, held)| (who.clone(), held.clone())).collect();
    for (place, (who, held)) in held.into_iter().enumerate() {
        let event = match place % 3 {
            0 => Event::Del { ticket: 1, who, started: held.started },
            1 => Event::Evidence(Evidence::SandboxGone { container: who.container, netns: held.netns }),
            _ => continue,
        };
        happen(node, event);
    }
    let seen = node.leases().grants().filter_map(|grant| Some((grant.addresses.first()?, Netns::default()))).collect();
    happen(node, Event::Adopt { ticket: 2, found: Found { held: Vec::new(), seen } });
    let grants: Vec<_> = node.leases().grants().collect();
    for grant in grants {
        happen(node, Event::Session(session, Down::Withdrawn { grant: grant.id, addresses: grant.addresses }));
    }
    happen(node, Event::Due);
}

/// An ADD of a new attachment that takes from whatever pool there is.
fn add(node: &Node) -> Add {
    let candidate = |grant: Grant| Candidate {
        pool: grant.pool,
        allowed: Arc::new(grant.addresses),
        terms: Terms { prefix: 16, gateway: None, default_route: false, routes: Vec::new() },
    };
    let name = || "fuzz".into();
    Add {
        ticket: 0,
        who: Attachment { container: name(), interface: name(), network: name() },
        started: NOW.boot,
        pod: PodId::default(),
        netns: Netns::default(),
        wants: vec![Want { family: Family::V4, candidates: node.leases().grants().map(candidate).collect() }],
        until: NOW.boot,
        probes: true,
    }
}
