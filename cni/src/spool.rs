//! The spool: a folder of tombstones. A tombstone is a DEL that found no daemon: the whole request, kept until a daemon
//! carries it out. The programs write, the daemon reads and removes.
//!
//! Guarantees: once [`write()`] returned, the tombstone is on disk, whole, whatever happens; a file that is not whole is
//! told from one that is; names are random, so that nothing of a request becomes a path.
//!
//! A file is one header line, `spiderpool tombstone 1 CRC LENGTH` (CRC-32 in hexadecimal, length in bytes), and the
//! request as protobuf.

mod format;

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

pub use format::{Junk, decode, encode};
use nix::fcntl::{Flock, FlockArg};
use spiderpool_proto::node::CniRequest;

use crate::failpoint::{Point, reach};
use crate::trust;

const EXTENSION: &str = "tombstone";
const TEMPORARY: &str = "tmp";
/// A request is at most 1 MiB of configuration and a few short strings; a file beyond this is no tombstone.
const LARGEST: u64 = 4 << 20;
/// The cleaner may take a temporary file in the instant between its creation and its lock.
const ATTEMPTS: usize = 5;

/// A file of the spool that looks like a tombstone.
#[derive(Debug)]
pub struct Entry {
    /// Where it is: for [`remove`], and for the log.
    pub path: PathBuf,
    /// The request, or why there is none.
    pub request: Result<CniRequest, Junk>,
}

/// Writes a tombstone durably and returns its path. Makes the folder, for root alone, if it is not there.
///
/// # Errors
/// Those of the file system; the message names the path.
pub fn write(folder: &Path, request: &CniRequest) -> io::Result<PathBuf> {
    make_folder(folder)?;
    let content = encode(request);
    let mut outcome = Err(io::ErrorKind::NotFound.into());
    for _ in 0..ATTEMPTS {
        outcome = write_once(folder, &content);
        if outcome.as_ref().err().is_none_or(|error| error.kind() != io::ErrorKind::NotFound) {
            break;
        }
    }
    outcome
}

/// Reads the tombstones that are wanted by their path, in the order in which the programs started (within a boot; the
/// boots themselves are in no order); junk comes last. A folder that does not exist is an empty one. Other files are
/// passed over, and temporary files whose writer is dead are removed.
///
/// # Errors
/// The folder cannot be read, or others than root may write it.
pub fn read(folder: &Path, wanted: impl Fn(&Path) -> bool) -> io::Result<Vec<Entry>> {
    let listing = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(at(folder))?,
    };
    trust::check(folder)?;
    let mut entries = Vec::new();
    for file in listing {
        let path = file.map_err(at(folder))?.path();
        match path.extension().and_then(|extension| extension.to_str()) {
            Some(EXTENSION) if wanted(&path) => entries.extend(read_one(path)),
            Some(TEMPORARY) => clean(&path),
            _ => {}
        }
    }
    entries.sort_by(|a, b| order(a).cmp(&order(b)).then_with(|| a.path.cmp(&b.path)));
    Ok(entries)
}

/// Removes a tombstone, not durably: one that comes back after a power cut is carried out again, which does no harm.
///
/// # Errors
/// Those of the file system, except that it is gone already.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(at(path)),
    }
}

fn order(entry: &Entry) -> (bool, Option<(&str, u64)>) {
    let started = entry.request.as_ref().ok().and_then(|request| request.started.as_ref());
    (started.is_none(), started.map(|stamp| (stamp.boot_id.as_str(), stamp.boottime_ns)))
}

/// `None` if another reader was faster.
fn read_one(path: PathBuf) -> Option<Entry> {
    // Not a symbolic link, and nothing that blocks: a fifo, say.
    let flags = nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK;
    let content = OpenOptions::new().read(true).custom_flags(flags).open(&path).and_then(|file| {
        let metadata = file.metadata()?;
        if !metadata.is_file() || metadata.len() > LARGEST {
            return Err(io::Error::other(format!("no regular file of at most {LARGEST} bytes")));
        }
        let mut content = Vec::new();
        io::Read::read_to_end(&mut io::Read::take(file, LARGEST), &mut content)?;
        Ok(content)
    });
    let request = match content {
        Ok(content) => decode(&content),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => Err(Junk::Unreadable(error)),
    };
    Some(Entry { path, request })
}

fn write_once(folder: &Path, content: &[u8]) -> io::Result<PathBuf> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|error| io::Error::other(error.to_string()))?;
    let name = format!("{:032x}", u128::from_be_bytes(random));
    let temporary = folder.join(format!("{name}.{TEMPORARY}"));
    let path = folder.join(format!("{name}.{EXTENSION}"));
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary).map_err(at(&temporary))?;
    let written = fill(file, content).and_then(|lock| {
        reach(Point::ShimTombstoneSynced);
        fs::rename(&temporary, &path)?;
        reach(Point::ShimTombstoneRenamed);
        drop(lock);
        File::open(folder)?.sync_all()
    });
    if written.is_err() {
        // What is left of it helps nobody; the first error is the one to report.
        let _ = fs::remove_file(&temporary);
    }
    written.map_err(at(&temporary))?;
    Ok(path)
}

/// Fills the file and syncs it. The lock says that its writer lives.
fn fill(file: File, content: &[u8]) -> io::Result<Flock<File>> {
    let mut lock = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| io::Error::from(errno))?;
    reach(Point::ShimTombstoneMade);
    lock.write_all(content)?;
    reach(Point::ShimTombstoneWritten);
    lock.sync_all()?;
    Ok(lock)
}

/// Removes a temporary file whose writer is dead. Its writer's lock ended with it; no clock is asked.
fn clean(path: &Path) {
    if let Ok(file) = File::open(path)
        && Flock::lock(file, FlockArg::LockExclusiveNonblock).is_ok()
    {
        // If it stays it is tried again at the next reading.
        let _ = fs::remove_file(path);
    }
}

/// Makes the folder and those above it, each synced into its parent.
fn make_folder(folder: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = folder.ancestors().take_while(|ancestor| !ancestor.exists()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(at(folder))?;
    for parent in missing.iter().filter_map(|made| made.parent()) {
        File::open(parent).and_then(|parent| parent.sync_all()).map_err(at(parent))?;
    }
    Ok(())
}

fn at(path: &Path) -> impl Fn(io::Error) -> io::Error + '_ {
    |error| io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests;
