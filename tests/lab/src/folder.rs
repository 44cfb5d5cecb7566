//! The lab's folder on disk.
//!
//! It is removed when its owner ends, in whatever way: a small shell reads from a pipe that only the owner
//! holds open, and removes the folder when the pipe closes. It runs in a process group of its own, so a Ctrl-C
//! at the terminal ends the owner and not the remover.

use anyhow::{Context, Result};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Processes of the lab that are being killed may still write: hence the second and further tries.
const REMOVER: &str = r#"read -r _; for _ in $(seq 100); do rm -rf -- "$1" && exit 0; sleep 0.1; done"#;

/// A temporary folder that does not outlive its owner.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    remover: Child,
}

impl Folder {
    /// A new empty folder below the machine's folder for temporary files.
    ///
    /// # Errors
    /// The folder or its remover could not be made.
    pub fn create() -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("spiderpool-lab.")
            .tempdir()
            .context("make a folder for the lab below the temporary folder (TMPDIR)")?;
        let remover = Command::new("/bin/sh")
            .args(["-c", REMOVER, "sh"])
            .arg(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .context("start the shell that removes the lab's folder")?;
        Ok(Self { path: folder.keep(), remover })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(self.remover.stdin.take());
        // A folder that cannot be removed is litter, and a destructor has nobody to tell.
        drop(self.remover.wait());
    }
}
