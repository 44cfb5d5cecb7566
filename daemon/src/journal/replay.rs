//! From the journal's folder to the node. A journal that cannot be read is set aside under a name with the time, never
//! deleted, and a new one begins: what it held is found again by adoption. Only content is judged: an error of the disk,
//! or rows of another version, end the start instead.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use spiderpool_core::journal::{Binding, Journal as _, Table};
use spiderpool_core::message::JournalId;
use spiderpool_core::node::Node;
use spiderpool_core::node::recover::Broken;
use tracing::{error, info};

use super::{OpenError, SledJournal, panic_text};
use crate::clock;
use crate::room::Room;

/// Rows between two lines that say how far the reading is.
const ROWS_TOLD: usize = 100_000;

/// Opens the journal in a folder and replays it. `cooldown` is in nanoseconds.
pub(crate) fn replay(folder: &Path, room: &Room, here: &Binding, cooldown: u64) -> anyhow::Result<(SledJournal, Node)> {
    match attempt(folder, room, here, cooldown) {
        Err(Unusable::Content(reason)) => {
            let aside = set_aside(folder)?;
            error!(reason, kept_as = %aside.display(), "The journal cannot be read; a new one begins");
            attempt(folder, room, here, cooldown).map_err(|unusable| match unusable {
                Unusable::Content(reason) => anyhow!("a new journal cannot be read: {reason}"),
                Unusable::Other(error) => error,
            })
        }
        Err(Unusable::Other(error)) => Err(error),
        Ok(opened) => Ok(opened),
    }
}

enum Unusable {
    /// What is on the disk makes no sense.
    Content(String),
    /// The disk, or another version of the program.
    Other(anyhow::Error),
}

fn attempt(folder: &Path, room: &Room, here: &Binding, cooldown: u64) -> Result<(SledJournal, Node), Unusable> {
    let begun = clock::boot();
    let was_there = folder.join("db").exists();
    let mut journal = SledJournal::open(folder, room).map_err(|error| match error {
        OpenError::Corrupt { reason, .. } => Unusable::Content(reason),
        OpenError::Io { .. } | OpenError::Full(_) => Unusable::Other(error.into()),
    })?;
    // sled begins anew, without a word, over a file of which it can make nothing.
    if was_there && journal.rows(Table::All).next().is_none() {
        return Err(Unusable::Content("its file was there, but not one row is left in it".into()));
    }
    let rows = journal.rows(Table::All).enumerate().map(|(read, row)| {
        if read > 0 && read % ROWS_TOLD == 0 {
            info!(rows = read, "Reading the journal");
        }
        row
    });
    let fresh = JournalId(random().map_err(Unusable::Other)?);
    // sled panics over some of what it cannot read.
    let recovered = catch_unwind(AssertUnwindSafe(|| Node::recover(rows, here, fresh, cooldown)));
    let recovered = recovered.map_err(|panic| Unusable::Content(panic_text(panic.as_ref())))?;
    let (node, batch) = recovered.map_err(|broken| match broken {
        Broken::Schema(_) => Unusable::Other(anyhow!(broken).context("install the version that wrote the journal")),
        Broken::Damage(_) | Broken::NoMeta | Broken::Stray(_) => Unusable::Content(broken.to_string()),
    })?;
    if was_there && node.meta().journal == fresh {
        info!(
            node = here.node.as_deref(),
            "The journal is of another boot, machine or node name: what it leased is not this node's. A new one begins"
        );
    }
    if !batch.is_empty() {
        room.for_journal(batch.rows.len()).map_err(|full| Unusable::Other(full.into()))?;
        journal.commit(&batch).map_err(|error| Unusable::Other(error.into()))?;
    }
    let ms = clock::boot().saturating_sub(begun) / 1_000_000;
    let (attachments, bytes) = (node.attachments().held().len(), journal.size());
    info!(journal = %node.meta().journal, attachments, bytes, ms, "Opened the journal");
    Ok((journal, node))
}

fn random() -> anyhow::Result<u128> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| anyhow!("no random numbers: {error}"))?;
    Ok(u128::from_be_bytes(bytes))
}

fn set_aside(folder: &Path) -> anyhow::Result<PathBuf> {
    let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or("journal");
    let stamp = format!("{name}.corrupt-{}-{}", clock::rfc3339(clock::wall()), clock::boot());
    let aside = folder.with_file_name(stamp);
    fs::rename(folder, &aside).with_context(|| format!("cannot set {} aside", folder.display()))?;
    Ok(aside)
}

#[cfg(test)]
mod tests {
    use spiderpool_core::journal::BootId;

    use super::*;

    fn here(node: &str, boot: u128) -> Binding {
        Binding { boot: BootId(boot), node: Some(node.into()), machine: None }
    }

    fn room(state: &tempfile::TempDir) -> Room {
        Room::new(state.path())
    }

    fn names(folder: &Path) -> Vec<String> {
        let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
        files.filter(|name| name.starts_with("journal")).collect()
    }

    #[test]
    fn a_journal_that_makes_no_sense_is_set_aside_and_another_begins() {
        let state = tempfile::tempdir().unwrap();
        let folder = state.path().join("journal");
        let (journal, first) = replay(&folder, &room(&state), &here("worker01", 5), 0).unwrap();
        drop(journal);
        let (journal, again) = replay(&folder, &room(&state), &here("worker01", 5), 0).unwrap();
        assert_eq!(again.meta().journal, first.meta().journal);
        drop(journal);
        fs::write(folder.join("db"), vec![0xa5; 4096]).unwrap();
        let (journal, other) = replay(&folder, &room(&state), &here("worker01", 5), 0).unwrap();
        assert_ne!(other.meta().journal, first.meta().journal);
        assert!(!other.meta().adopted, "what the old one held is to be found again");
        drop(journal);
        let kept = names(state.path()).into_iter().filter_map(|name| {
            // Such as `journal.corrupt-2026-01-31T12:34:56Z-123456789`: the wall clock's time, and the boot clock's.
            let (day, time) = name.strip_prefix("journal.corrupt-")?.rsplit_once('-')?.0.split_once('T')?;
            let digits = |text: &str, shape: &str| {
                text.len() == shape.len()
                    && text.chars().zip(shape.chars()).all(|(is, of)| is == of || of == '0' && is.is_ascii_digit())
            };
            assert!(digits(day, "0000-00-00") && digits(time, "00:00:00Z"), "{name}");
            Some(())
        });
        assert_eq!(kept.count(), 1, "{:?}", names(state.path()));
    }

    /// Rule: One holder. A journal of another boot, or copied from another node, is no lease.
    #[test]
    fn a_journal_of_another_place_begins_anew() {
        let state = tempfile::tempdir().unwrap();
        let folder = state.path().join("journal");
        let (journal, first) = replay(&folder, &room(&state), &here("worker01", 5), 0).unwrap();
        drop(journal);
        let mut known = vec![first.meta().journal];
        for place in [here("worker02", 5), here("worker02", 6)] {
            let (journal, other) = replay(&folder, &room(&state), &place, 0).unwrap();
            assert!(!known.contains(&other.meta().journal), "{place:?}");
            known.push(other.meta().journal);
            drop(journal);
        }
        assert_eq!(names(state.path()), ["journal"], "nothing was wrong with it");
    }

    #[test]
    fn a_disk_that_cannot_be_written_is_no_corruption() {
        let state = tempfile::tempdir().unwrap();
        let folder = state.path().join("journal");
        fs::write(&folder, "a file where the folder should be").unwrap();
        assert!(replay(&folder, &room(&state), &here("worker01", 5), 0).is_err());
        assert_eq!(names(state.path()), ["journal"]);
    }
}
