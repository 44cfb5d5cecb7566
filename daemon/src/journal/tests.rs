use std::sync::Arc;

use spiderpool_core::journal::{Lease, Meta};
use spiderpool_core::message::{GrantId, JournalId};

use super::*;

fn open(folder: &Path) -> Result<SledJournal, OpenError> {
    SledJournal::open(folder, &Room::new(folder))
}

fn lease(ranges: usize) -> Record {
    let address = |n: usize| std::net::IpAddr::from(std::net::Ipv6Addr::from_bits(2 * n as u128));
    Record::Lease(Lease { pool: Arc::from("p"), addresses: (0..ranges).map(address).collect() })
}

fn key(number: u32) -> Key {
    Key::Lease(GrantId { journal: JournalId(7), session: 1, number })
}

fn scan(journal: &SledJournal) -> Result<Vec<(Key, Record)>, Damage> {
    journal.rows(Table::All).collect()
}

fn put(journal: &mut SledJournal, key: Key, record: Option<Record>) {
    journal.commit(&Batch { rows: vec![(key, record)] }).unwrap();
}

#[test]
fn rows_survive_reopening_and_long_ones_come_in_pieces() {
    let folder = tempfile::tempdir().unwrap();
    let meta =
        Record::Meta(Meta { schema: 1, journal: JournalId(7), bound: Default::default(), session: 3, adopted: true });
    {
        let mut journal = open(folder.path()).unwrap();
        put(&mut journal, Key::Meta, Some(meta.clone()));
        put(&mut journal, key(1), Some(lease(2_000)));
        put(&mut journal, key(2), Some(lease(1)));
    }
    let mut journal = open(folder.path()).unwrap();
    assert!(journal.tree.iter().values().all(|value| value.unwrap().len() <= PIECE));
    assert_eq!(scan(&journal).unwrap(), [(key(1), lease(2_000)), (key(2), lease(1)), (Key::Meta, meta)]);
    put(&mut journal, key(1), Some(lease(3)));
    put(&mut journal, key(2), None);
    put(&mut journal, Key::Meta, None);
    assert_eq!(scan(&journal).unwrap(), [(key(1), lease(3))]);
    assert_eq!(journal.tree.len(), 1, "no piece of the longer value stays behind");
}

#[test]
fn the_last_word_of_a_batch_counts() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = open(folder.path()).unwrap();
    let rows = vec![(key(1), Some(lease(2_000))), (key(2), Some(lease(1))), (key(1), Some(lease(2))), (key(2), None)];
    journal.commit(&Batch { rows }).unwrap();
    assert_eq!(scan(&journal).unwrap(), [(key(1), lease(2))]);
}

#[test]
fn a_changed_byte_is_damage() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = open(folder.path()).unwrap();
    put(&mut journal, key(1), Some(lease(1)));
    let (name, value) = journal.tree.iter().next().unwrap().unwrap();
    for place in 0..value.len() {
        let mut torn = value.to_vec();
        torn[place] ^= 1;
        journal.tree.insert(&name, torn).unwrap();
        assert!(scan(&journal).is_err(), "byte {place}");
    }
    journal.tree.remove(&name).unwrap();
    journal.tree.insert(piece_key(&encode_key(&key(2)), 0), value).unwrap();
    assert!(scan(&journal).is_err(), "a value under another key");
}

/// Rule: One daemon, one journal. A lock that is held means wait, never corruption.
#[test]
fn files_that_are_still_locked_are_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = open(folder.path()).unwrap();
    put(&mut journal, key(1), Some(lease(1)));
    let begun = std::thread::spawn({
        let folder = folder.path().to_owned();
        move || open(&folder).map(|journal| scan(&journal))
    });
    std::thread::sleep(std::time::Duration::from_millis(60));
    assert!(!begun.is_finished(), "it did not wait");
    drop(journal);
    assert_eq!(begun.join().unwrap().unwrap().unwrap(), [(key(1), lease(1))]);
}
