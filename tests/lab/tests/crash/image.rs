//! A disk of a node's own: an ext4 file system in a file, mounted where the daemon keeps its journal.

use anyhow::{Context, Result, ensure};
use spiderpool_lab::{Finished, Node, Program};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// The disk below a node's state folder. Only the node's programs see it.
pub(crate) struct Image<'a> {
    pub(crate) node: &'a Node,
    pub(crate) file: PathBuf,
}

impl<'a> Image<'a> {
    /// Makes the file system and mounts it. The node's daemon does not run.
    pub(crate) fn make(node: &'a Node, folder: &Path, megabytes: u64) -> Result<Self> {
        let image = Self { node, file: folder.join("disk-0") };
        File::create(&image.file)?.set_len(megabytes << 20)?;
        image.run(Program::new("mkfs.ext4").args(["-q", "-F"]).arg(&image.file))?;
        image.mount()?;
        Ok(image)
    }

    /// Where it is mounted.
    pub(crate) fn place(&self) -> &Path {
        self.node.daemon().state()
    }

    /// Runs a program that sees it.
    pub(crate) fn run(&self, program: Program) -> Result<Finished> {
        self.node.namespace().run(&program)?.success()
    }

    /// Mounts it; an error that the kernel finds in it makes it read-only.
    pub(crate) fn mount(&self) -> Result<()> {
        let mount = Program::new("mount").args(["-o", "loop,errors=remount-ro"]).arg(&self.file).arg(self.place());
        self.run(mount).map(drop)
    }

    /// Takes it away; its file stays.
    pub(crate) fn unmount(&self) -> Result<()> {
        self.run(Program::new("umount").arg(self.place())).map(drop)
    }

    /// Somebody writes until not a block is left. Returns what was written.
    pub(crate) fn fill(&self, name: &str) -> Result<PathBuf> {
        let file = self.place().join(name);
        let write = ["if=/dev/zero", "bs=1k", "oflag=append", "conv=notrunc,fsync"];
        // What the file system held back for a write is free again after its sync.
        for _ in 0..3 {
            let write = Program::new("dd").args(write).arg(format!("of={}", file.display()));
            let finished = self.node.namespace().run(&write)?;
            ensure!(finished.stderr.contains("No space left"), "it is not full: {}", finished.stderr);
        }
        Ok(file)
    }

    /// Removes a file from it.
    pub(crate) fn remove(&self, file: &Path) -> Result<()> {
        self.run(Program::new("rm").arg(file)).map(drop)
    }

    /// The kernel finds an error in it.
    pub(crate) fn fail(&self) -> Result<()> {
        let device = self.run(Program::new("findmnt").args(["-n", "-o", "SOURCE"]).arg(self.place()))?.stdout;
        let name = Path::new(device.trim()).file_name().context("a device")?.to_owned();
        fs::write(Path::new("/sys/fs/ext4").join(name).join("trigger_fs_error"), "lab").context("break the disk")
    }
}
