use std::{fs, os::unix::fs::PermissionsExt as _, thread};

use spiderpool_proto::node::{Plugin, Stamp};

use super::*;

fn request(container: &str, boottime_ns: u64) -> CniRequest {
    CniRequest {
        plugin: Plugin::Ipam.into(),
        container_id: container.to_owned(),
        interface: "net1".to_owned(),
        started: Some(Stamp { boot_id: "boot".to_owned(), boottime_ns }),
        config: "{\"name\": \"n\"}\n".to_owned(),
        ..CniRequest::default()
    }
}

fn containers(folder: &Path) -> Vec<String> {
    read(folder, |_| true)
        .unwrap()
        .into_iter()
        .map(|entry| entry.request.map_or_else(|junk| junk.to_string(), |request| request.container_id))
        .collect()
}

/// Rule: DEL always ends.
#[test]
fn tombstones_come_back_whole_in_the_order_of_their_start() {
    let folder = tempfile::tempdir().unwrap();
    let spool = folder.path().join("var/lib/spool");
    for (container, at) in [("third", 30), ("first", 10), ("second", 20)] {
        let path = write(&spool, &request(container, at)).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
    assert_eq!(fs::metadata(&spool).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(containers(&spool), ["first", "second", "third"]);

    let first = read(&spool, |_| true).unwrap().remove(0);
    assert_eq!(first.request.unwrap(), request("first", 10));
    remove(&first.path).unwrap();
    remove(&first.path).unwrap();
    assert_eq!(containers(&spool), ["second", "third"]);
}

#[test]
fn a_torn_tombstone_is_told_from_a_whole_one_at_every_length() {
    let whole = format::encode(&request("abc", 1));
    assert_eq!(format::decode(&whole).unwrap(), request("abc", 1));
    for length in 0..whole.len() {
        assert!(format::decode(&whole[..length]).is_err(), "cut at {length}");
        let mut flipped = whole.clone();
        flipped[length] ^= 0x40;
        assert!(format::decode(&flipped).map_or(true, |read| read == request("abc", 1)), "flipped at {length}");
    }
    assert!(format::decode(&[whole.as_slice(), b"x"].concat()).is_err());
}

#[test]
fn junk_is_listed_last_with_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    let spool = folder.path();
    write(spool, &request("good", 1)).unwrap();
    fs::write(spool.join("a.tombstone"), "rubbish").unwrap();
    fs::write(spool.join("b.tombstone"), "spiderpool tombstone 2 00000000 0\n").unwrap();
    fs::write(spool.join("c.tombstone"), "spiderpool tombstone 1 00000000 5\n").unwrap();
    fs::create_dir(spool.join("d.tombstone")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", spool.join("e.tombstone")).unwrap();
    fs::write(spool.join("notes.txt"), "passed over").unwrap();
    let listed = containers(spool);
    assert_eq!(listed.len(), 6, "{listed:?}");
    assert_eq!(listed[0], "good");
    for (at, reason) in [(1, "no header"), (2, "version 2"), (3, "torn"), (4, "cannot be read"), (5, "cannot be read")]
    {
        assert!(listed[at].contains(reason), "{listed:?}");
    }
}

#[test]
fn a_folder_that_is_not_there_is_empty() {
    let folder = tempfile::tempdir().unwrap();
    assert!(read(&folder.path().join("none"), |_| true).unwrap().is_empty());
}

#[test]
fn a_folder_that_others_may_write_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &request("a", 1)).unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let error = read(folder.path(), |_| true).unwrap_err();
    assert!(error.to_string().contains("writable by others"), "{error}");
}

#[test]
fn leftovers_of_dead_writers_are_removed_and_those_of_living_ones_stay() {
    let folder = tempfile::tempdir().unwrap();
    let (dead, living) = (folder.path().join("dead.tmp"), folder.path().join("living.tmp"));
    fs::write(&dead, "half").unwrap();
    let lock = Flock::lock(File::create(&living).unwrap(), FlockArg::LockExclusive).unwrap();
    assert!(read(folder.path(), |_| true).unwrap().is_empty());
    assert!(!dead.exists() && living.exists());
    drop(lock);
}

#[test]
fn a_reader_that_cleans_all_the_time_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let spool = folder.path();
    thread::scope(|scope| {
        let writers: Vec<_> = (0..4_u64)
            .map(|writer| {
                scope.spawn(move || {
                    for n in 0..25 {
                        write(spool, &request(&format!("{writer}-{n}"), writer * 100 + n)).unwrap();
                    }
                })
            })
            .collect();
        while !writers.iter().all(|writer| writer.is_finished()) {
            for entry in read(spool, |_| true).unwrap() {
                entry.request.unwrap();
            }
        }
    });
    assert_eq!(read(spool, |_| true).unwrap().len(), 100);
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let error = write(&file.join("spool"), &request("a", 1)).unwrap_err();
    assert!(error.to_string().contains("file/spool"), "{error}");
}
