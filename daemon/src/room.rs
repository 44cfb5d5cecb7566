//! Room on the disk of the state folder: ADDs are refused while there is little, so that DELs can still be recorded.
//!
//! A reserve, a file of allocated blocks, is given up when others fill the disk, and made anew when there is room again;
//! nobody has to start the daemon for that. The journal is neither opened nor written when even so there is next to
//! none: its store survives a refused write, but not always an opening on a full disk.

use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::statvfs::statvfs;
use tracing::{info, warn};

use crate::clock;

/// Bytes of the reserve: some thousand DELs, each with a commit of its own.
const RESERVE: u64 = 8 << 20;

/// Bytes, the reserve among them, that ADDs need: all that may be under way at once fit between this and the reserve.
const NEEDED: u64 = 16 << 20;

/// Bytes below which the reserve is given up at the latest, and nothing is written once it is gone: what the store writes
/// besides a batch, and what it writes when it is opened.
const LEAST: u64 = 2 << 20;

/// Bytes of a row and what the store makes of it, beyond what `LEAST` has room for.
const ROW: u64 = 512;

/// Rows at which a batch is long enough. There must be room for twice as many before anything happens: one event more
/// than these.
pub(crate) const BATCH: usize = 1024;

/// Nanoseconds until a reserve that could not be made is tried again.
const AGAIN: u64 = 60_000_000_000;

/// The disk's room, for whoever is about to use some.
pub(crate) struct Room {
    folder: PathBuf,
    reserve: PathBuf,
    free: Free,
    state: Mutex<State>,
}

/// Free bytes of a folder's file system, as `df` shows them.
type Free = Box<dyn Fn(&Path) -> u64 + Send + Sync>;

struct State {
    /// Whether the reserve is there.
    kept: bool,
    /// Whether ADDs were refused at the last look.
    short: bool,
    /// The file system has refused to keep a reserve; it is asked again at that time of the boot clock.
    refused_until: u64,
}

/// How much there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Measure {
    /// Free bytes, as `df` shows them.
    pub free: u64,
    /// Bytes of the reserve.
    pub reserve: u64,
}

/// Too little room.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the disk is full: {folder} has {free} bytes free, {needed} are needed; make room on its file system, or move the \
     folder (--state-dir)"
)]
pub(crate) struct Full {
    folder: String,
    free: u64,
    needed: u64,
}

impl Room {
    /// The room of a folder that exists. Makes the reserve, if there is room for it.
    pub(crate) fn new(folder: &Path) -> Room {
        let reserve = folder.join("reserve");
        // A file that was cut short, or has holes, reserves nothing.
        let kept = fs::metadata(&reserve).is_ok_and(|file| file.blocks() * 512 >= RESERVE);
        let state = State { kept, short: false, refused_until: 0 };
        Room { folder: folder.to_owned(), reserve, free: Box::new(free), state: Mutex::new(state) }
    }

    /// The room of a disk that is played.
    #[cfg(test)]
    pub(crate) fn played(folder: &Path, free: impl Fn() -> u64 + Send + Sync + 'static) -> Room {
        Room { free: Box::new(move |_| free()), ..Room::new(folder) }
    }

    /// Whether new addresses may be given out and new routes planned.
    pub(crate) fn for_add(&self) -> Result<(), Full> {
        let measure = self.look();
        // What is asked for is free bytes: the reserve is none of the reader's business.
        self.demand(measure, measure.free + measure.reserve >= NEEDED, NEEDED - measure.reserve)
    }

    /// Whether so many rows may be written to the journal. Gives the reserve up if that is what it takes.
    pub(crate) fn for_journal(&self, rows: usize) -> Result<(), Full> {
        let needed = LEAST + ROW * rows as u64;
        let measure = self.look_for(needed);
        self.demand(measure, measure.free >= needed, needed)
    }

    /// Whether the journal may be opened, and things may happen on the node that are to be written to it.
    pub(crate) fn for_events(&self) -> Result<(), Full> {
        self.for_journal(2 * BATCH)
    }

    /// Looks at the disk, and gives the reserve up or makes it anew. One system call, unless something changes.
    pub(crate) fn look(&self) -> Measure {
        self.look_for(LEAST)
    }

    /// As [`Room::look`], for whoever needs so many bytes.
    fn look_for(&self, needed: u64) -> Measure {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free = (self.free)(&self.folder);
        if state.kept && free < needed {
            self.give_up(&mut state);
            free = (self.free)(&self.folder);
        } else if !state.kept && free >= NEEDED.max(needed + RESERVE) && clock::boot() >= state.refused_until {
            self.keep(&mut state);
            free = (self.free)(&self.folder);
        }
        let reserve = if state.kept { RESERVE } else { 0 };
        let short = free + reserve < NEEDED;
        if short != state.short {
            state.short = short;
            let folder = self.folder.display();
            if short {
                warn!(%folder, free, "The disk of the state folder is nearly full; ADDs are refused, DELs are served");
            } else {
                info!(%folder, free, "The disk of the state folder has room again");
            }
        }
        Measure { free, reserve }
    }

    fn demand(&self, measure: Measure, is_met: bool, needed: u64) -> Result<(), Full> {
        if is_met {
            return Ok(());
        }
        Err(Full { folder: self.folder.display().to_string(), free: measure.free, needed })
    }

    fn keep(&self, state: &mut State) {
        let open = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&self.reserve);
        let made = open.and_then(|file: File| {
            fallocate(&file, FallocateFlags::empty(), 0, RESERVE as i64).map_err(std::io::Error::from)
        });
        match made {
            Ok(()) => state.kept = true,
            Err(error) => {
                // Some file systems have no such blocks, some have run out of other things than these.
                state.refused_until = clock::boot().saturating_add(AGAIN);
                let _ = fs::remove_file(&self.reserve);
                warn!(file = %self.reserve.display(), %error, "No disk space can be kept in reserve for DELs");
            }
        }
    }

    fn give_up(&self, state: &mut State) {
        // Emptied before it is removed: some file systems free the blocks of a removed file only in a while.
        let emptied = OpenOptions::new().write(true).open(&self.reserve).and_then(|file| file.set_len(0));
        match emptied.and_then(|()| fs::remove_file(&self.reserve)) {
            Ok(()) => state.kept = false,
            Err(error) if error.kind() == ErrorKind::NotFound => state.kept = false,
            Err(error) => warn!(file = %self.reserve.display(), %error, "The reserve of disk space cannot be given up"),
        }
    }
}

/// A file system that does not say counts as one with room: its write will tell.
fn free(folder: &Path) -> u64 {
    statvfs(folder).map_or(u64::MAX / 2, |disk| {
        #[allow(clippy::useless_conversion)] // other widths on other machines
        u64::from(disk.blocks_available()).saturating_mul(u64::from(disk.fragment_size()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Else what is to be written would find no room, for ever.
    #[test]
    fn no_reserve_is_made_of_what_somebody_needs() {
        let folder = tempfile::tempdir().unwrap();
        let room = Room::played(folder.path(), || NEEDED + (1 << 20));
        assert_eq!(room.for_journal(20_000), Ok(()));
        assert!(!room.state.lock().unwrap().kept);
        assert_eq!(room.look().reserve, RESERVE);
    }

    #[test]
    fn a_reserve_is_kept_while_there_is_room() {
        let folder = tempfile::tempdir().unwrap();
        let room = Room::new(folder.path());
        assert_eq!(room.for_add(), Ok(()));
        assert_eq!(room.look().reserve, RESERVE);
        let file = fs::metadata(folder.path().join("reserve")).unwrap();
        assert!(file.blocks() * 512 >= RESERVE && file.mode() & 0o777 == 0o600, "{file:?}");
        // The next daemon finds it; one that reserves nothing is made anew.
        assert!(Room::new(folder.path()).state.into_inner().unwrap().kept);
        File::create(folder.path().join("reserve")).unwrap().set_len(RESERVE).unwrap();
        let room = Room::new(folder.path());
        assert_eq!((room.for_journal(0), room.look().reserve), (Ok(()), RESERVE));
    }
}
