//! Who may write a file. What a program reads as root must be writable by root alone.

use std::{fs, io, os::unix::fs::MetadataExt, path::Path};

use nix::unistd::Uid;

/// Group and others.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// Is `path` owned by root (or by whoever runs this program) and writable by nobody else?
pub(crate) fn check(path: &Path) -> io::Result<()> {
    let metadata = fs::metadata(path)?;
    let reason = if metadata.uid() != 0 && metadata.uid() != Uid::effective().as_raw() {
        format!("belongs to uid {}, not to root: run chown root on it", metadata.uid())
    } else if metadata.mode() & WRITABLE_BY_OTHERS != 0 {
        format!("is writable by others than root (mode {:o}): run chmod go-w on it", metadata.mode() & 0o7777)
    } else {
        return Ok(());
    };
    Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("{} {reason}", path.display())))
}
