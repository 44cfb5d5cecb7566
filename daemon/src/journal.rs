//! The journal on disk: the only room that knows sled.
//!
//! sled's own `flush` is no fsync (it calls sync_file_range, which writes neither metadata nor the disk's cache), so
//! every commit is followed by `fdatasync` on sled's one data file; that is what makes an acknowledged batch survive
//! a power cut. All rows lie in one Tree, since a batch is atomic within a Tree only. Values that grow past a few KiB
//! go to files of their own in sled, which the fdatasync would miss: so a value is cut into pieces that stay inline.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use spiderpool_cni::failpoint::{Point, reach};
use spiderpool_core::journal::{Batch, CommitError, Damage, Journal, Key, Record, Table};
use spiderpool_proto::journal::{decode_key, decode_record, encode_key, encode_record, frame, unframe};
use tracing::warn;

use crate::room::{Full, Room};

pub(crate) mod replay;

/// Longest piece of a value: well inside what sled keeps in its one data file.
const PIECE: usize = 3 * 1024;

/// The store. Whoever commits has asked whether the disk has room: a refused write ends the process.
pub(crate) struct SledJournal {
    tree: sled::Db,
    /// sled's data file, for fdatasync.
    data: File,
}

/// Why the store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    /// An opening on a full disk may spoil the store.
    #[error(transparent)]
    Full(#[from] Full),
    /// The folder or a file in it.
    #[error("{path}: {source}")]
    Io {
        /// What was touched.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// sled refuses its files, or panicked over them.
    #[error("{path} cannot be read as a journal: {reason}")]
    Corrupt {
        /// The journal's folder.
        path: PathBuf,
        /// What sled said.
        reason: String,
    },
}

impl SledJournal {
    /// Opens the journal in a folder, or begins one there. The caller holds the node's lock.
    pub(crate) fn open(folder: &Path, room: &Room) -> Result<SledJournal, OpenError> {
        room.for_events()?;
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| OpenError::Io { path, source }
        };
        let parent = folder.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(folder).map_err(io(folder))?;
        let corrupt = |reason: String| OpenError::Corrupt { path: folder.to_owned(), reason };
        let opened = catch_unwind(AssertUnwindSafe(|| open_sled(folder)));
        let tree = opened.map_err(|panic| corrupt(panic_text(panic.as_ref())))?.map_err(|error| match error {
            // The system's own word: the disk, not what is on it.
            sled::Error::Io(source) if source.raw_os_error().is_some() => io(folder)(source),
            error => corrupt(error.to_string()),
        })?;
        let file = folder.join("db");
        let data = File::open(&file).map_err(io(&file))?;
        data.sync_data().map_err(io(&file))?;
        for made in [folder, parent] {
            File::open(made).and_then(|made| made.sync_all()).map_err(io(made))?;
        }
        Ok(SledJournal { tree, data })
    }

    /// Bytes on disk.
    pub(crate) fn size(&self) -> u64 {
        self.tree.size_on_disk().unwrap_or(0)
    }

    /// Whole values with their keys, in order, each joined from its pieces.
    fn raw(&self, start: Vec<u8>) -> impl Iterator<Item = Result<(Vec<u8>, Vec<u8>), Damage>> + '_ {
        let mut rows = self.tree.range(start..).peekable();
        std::iter::from_fn(move || {
            let first = match rows.next()? {
                Ok(row) => row,
                Err(error) => return Some(Err(damage(&[], error.to_string()))),
            };
            let Some((name, 0_u16)) = split_key(&first.0) else {
                return Some(Err(damage(&first.0, "a piece without its beginning".into())));
            };
            let (mut value, mut count) = (first.1.to_vec(), 1_u16);
            let is_next = |row: &sled::Result<(sled::IVec, sled::IVec)>, count| {
                row.as_ref().is_ok_and(|(key, _)| split_key(key) == Some((name, count)))
            };
            while let Some(Ok((_, piece))) = rows.next_if(|row| is_next(row, count)) {
                value.extend_from_slice(&piece);
                count += 1;
            }
            Some(Ok((name.to_vec(), value)))
        })
    }

    /// The batch in sled's terms: the last word on each key, in pieces, and the end of a longer value before it.
    fn stage(&self, batch: &Batch) -> sled::Result<sled::Batch> {
        let mut staged = sled::Batch::default();
        let mut settled = HashSet::new();
        for (key, record) in batch.rows.iter().rev() {
            let name = encode_key(key);
            if !settled.insert(name.clone()) {
                continue;
            }
            let framed = record.as_ref().map(|record| frame(&name, &encode_record(record)));
            let mut number = 0;
            for piece in framed.as_deref().unwrap_or_default().chunks(PIECE) {
                staged.insert(piece_key(&name, number), piece);
                number += 1;
            }
            while self.tree.contains_key(piece_key(&name, number))? {
                staged.remove(piece_key(&name, number));
                number += 1;
            }
        }
        Ok(staged)
    }
}

impl Journal for SledJournal {
    fn rows(&self, table: Table) -> Box<dyn Iterator<Item = Result<(Key, Record), Damage>> + '_> {
        let start = match table {
            Table::All => Vec::new(),
            Table::Facts { from } => encode_key(&Key::Fact(from)),
        };
        Box::new(self.raw(start).map(|row| row.and_then(|(name, value)| decode(&name, &value))))
    }

    #[allow(clippy::disallowed_methods)] // the one place that knows what flush lacks
    fn commit(&mut self, batch: &Batch) -> Result<(), CommitError> {
        let refused = |error: sled::Error| CommitError(error.to_string());
        let staged = self.stage(batch).map_err(refused)?;
        reach(Point::JournalDecided);
        self.tree.apply_batch(staged).map_err(refused)?;
        reach(Point::JournalApplied);
        self.tree.flush().map_err(refused)?;
        reach(Point::JournalFlushed);
        self.data.sync_data().map_err(|error| CommitError(format!("fdatasync: {error}")))?;
        reach(Point::JournalSynced);
        Ok(())
    }
}

/// Opens sled's files. Its own lock on them may outlive the node's lock for a moment, when the process before this one
/// is still being taken down: that is waited for.
fn open_sled(folder: &Path) -> sled::Result<sled::Db> {
    let mut told = false;
    loop {
        match try_open_sled(folder) {
            Err(sled::Error::Io(error)) if error.to_string().contains("could not acquire lock") => {
                if !told {
                    warn!(%error, "The journal's files are still locked; waiting");
                    told = true;
                }
                thread::sleep(Duration::from_millis(10));
            }
            opened => return opened,
        }
    }
}

fn try_open_sled(folder: &Path) -> sled::Result<sled::Db> {
    sled::Config::new()
        .path(folder)
        .cache_capacity(16 * 1024 * 1024)
        .mode(sled::Mode::LowSpace)
        .flush_every_ms(Some(Duration::from_millis(500).as_millis() as u64))
        .open()
}

/// A piece's key: the row's key, then the piece's number.
fn piece_key(name: &[u8], number: u16) -> Vec<u8> {
    [name, &number.to_be_bytes()].concat()
}

fn split_key(key: &[u8]) -> Option<(&[u8], u16)> {
    let (name, number) = key.split_last_chunk()?;
    Some((name, u16::from_be_bytes(*number)))
}

fn decode(name: &[u8], value: &[u8]) -> Result<(Key, Record), Damage> {
    let payload = unframe(name, value).map_err(|reason| damage(name, reason.to_string()))?;
    let key = decode_key(name).map_err(|error| damage(name, error.to_string()))?;
    let record = decode_record(&key, payload).map_err(|error| damage(name, error.to_string()))?;
    Ok((key, record))
}

fn damage(key: &[u8], reason: String) -> Damage {
    Damage { key: key.iter().map(|byte| format!("{byte:02x}")).collect(), reason }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("panic").to_owned()
}

#[cfg(test)]
mod tests;
