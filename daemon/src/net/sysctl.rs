//! Kernel settings of a network namespace.
//!
//! `/proc/sys/net` shows the namespace of the thread that opens a file in it, whichever procfs it belongs to; the open
//! file stays with that namespace. So the files are opened inside, by a path that may be that of a host's procfs
//! mounted elsewhere, and used from outside.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::NetError;

/// Open settings by key (a path below `/proc/sys`).
#[derive(Debug, Default)]
pub(super) struct Sysctls {
    files: BTreeMap<String, Setting>,
}

#[derive(Debug)]
struct Setting {
    file: File,
    writable: bool,
}

impl Sysctls {
    /// The settings that exist, of those asked for, in the namespace that the calling thread is in.
    ///
    /// # Errors
    /// One exists and cannot be opened.
    pub(super) fn open(proc: &Path, keys: &BTreeSet<String>) -> Result<Sysctls, NetError> {
        let mut files = BTreeMap::new();
        for key in keys {
            let path = proc.join("sys").join(key);
            match Setting::open(&path) {
                Ok(setting) => {
                    files.insert(key.clone(), setting);
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(NetError::kernel(format!("open {}", path.display()))(error)),
            }
        }
        Ok(Sysctls { files })
    }

    /// Their values now. One whose interface has gone is missing.
    pub(super) fn read(&self) -> BTreeMap<String, String> {
        let values = self.files.iter().filter_map(|(key, setting)| Some((key.clone(), setting.read().ok()?)));
        values.collect()
    }

    /// Sets one.
    ///
    /// # Errors
    /// It is not there, or cannot be written.
    pub(super) fn write(&self, key: &str, value: &str) -> io::Result<()> {
        match self.files.get(key) {
            Some(Setting { file, writable: true }) => file.write_at(value.as_bytes(), 0).map(drop),
            Some(_) => Err(io::Error::new(
                io::ErrorKind::ReadOnlyFilesystem,
                "procfs is mounted read-only; name a writable one by the daemon's flag --proc",
            )),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

impl Setting {
    fn open(path: &Path) -> io::Result<Setting> {
        match OpenOptions::new().read(true).write(true).open(path) {
            Ok(file) => Ok(Setting { file, writable: true }),
            Err(error)
                if matches!(error.kind(), io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied) =>
            {
                Ok(Setting { file: File::open(path)?, writable: false })
            }
            Err(error) => Err(error),
        }
    }

    fn read(&self) -> io::Result<String> {
        let mut text = [0; 64];
        let length = self.file.read_at(&mut text, 0)?;
        Ok(String::from_utf8_lossy(&text[..length]).trim_end().to_owned())
    }
}
