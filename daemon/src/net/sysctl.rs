//! Kernel settings of a network namespace.
//!
//! `/proc/sys/net` shows the namespace of the thread that opens it, whichever procfs it belongs to: so the thread
//! enters the namespace, and the path may be that of a host's procfs mounted elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::NetError;
use super::namespace::Namespace;

/// The settings that exist, of those asked for.
///
/// # Errors
/// One exists and cannot be read.
pub(super) fn read(
    namespace: &Namespace,
    proc: &Path,
    keys: &BTreeSet<String>,
) -> Result<BTreeMap<String, String>, NetError> {
    if keys.is_empty() {
        return Ok(BTreeMap::new());
    }
    let files: Vec<(String, PathBuf)> = keys.iter().map(|key| (key.clone(), file(proc, key))).collect();
    namespace.enter(move || {
        let mut found = BTreeMap::new();
        for (key, path) in files {
            match fs::read_to_string(&path) {
                Ok(text) => {
                    found.insert(key, text.trim_end().to_owned());
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(NetError::kernel(format!("read {}", path.display()))(error)),
            }
        }
        Ok(found)
    })?
}

/// Writes settings in order; an answer for each.
///
/// # Errors
/// The namespace could not be entered.
pub(super) fn write(
    namespace: &Namespace,
    proc: &Path,
    settings: &[(&str, &str)],
) -> Result<Vec<io::Result<()>>, NetError> {
    if settings.is_empty() {
        return Ok(Vec::new());
    }
    let files: Vec<(PathBuf, String)> =
        settings.iter().map(|(key, value)| (file(proc, key), (*value).to_owned())).collect();
    namespace.enter(move || files.into_iter().map(|(path, value)| fs::write(path, value)).collect())
}

fn file(proc: &Path, key: &str) -> PathBuf {
    proc.join("sys").join(key)
}
