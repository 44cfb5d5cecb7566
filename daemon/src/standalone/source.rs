//! The folder's files, and a copy of their last state without fault: after a restart a document that has become bad
//! since falls back to it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use spiderpool_api::folder::{File, Folder};
use tracing::warn;

/// A larger file is no document of ours.
const LARGEST: u64 = 4 << 20;

/// Where documents come from.
pub(super) struct Source {
    folder: PathBuf,
    kept: PathBuf,
    /// What was read last, to tell a change from a mere touch.
    seen: Mutex<Option<BTreeMap<String, Result<String, String>>>>,
}

impl Source {
    pub(super) fn new(folder: PathBuf, kept: PathBuf) -> Source {
        Source { folder, kept, seen: Mutex::new(None) }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The files that count. A file that cannot be read is among them with the reason.
    pub(super) fn read(&self) -> io::Result<Vec<File>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()).filter(|name| Folder::reads(name)) else {
                continue;
            };
            files.push(File { name: name.to_owned(), text: text(&path).map_err(|error| error.to_string()) });
        }
        Ok(files)
    }

    /// Whether these differ from what was asked about before.
    pub(super) fn has_changed(&self, files: &[File]) -> bool {
        let now = by_name(files);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = seen.as_ref() != Some(&now);
        *seen = Some(now);
        changed
    }

    /// The files of the last state without fault, if there is one.
    pub(super) fn last_good(&self) -> Option<Vec<File>> {
        let text = fs::read(&self.kept).ok()?;
        let files: BTreeMap<String, String> = serde_json::from_slice(&text).ok()?;
        Some(files.into_iter().map(|(name, text)| File { name, text: Ok(text) }).collect())
    }

    /// Remembers these as the last state without fault. That it fails is said, and costs nothing until a restart.
    pub(super) fn keep(&self, files: &[File]) {
        let whole: BTreeMap<&str, &str> =
            files.iter().filter_map(|file| Some((file.name.as_str(), file.text.as_deref().ok()?))).collect();
        let write = || -> io::Result<()> {
            let beside = self.kept.with_extension("new");
            let mut file = fs::File::create(&beside)?;
            file.write_all(&serde_json::to_vec(&whole)?)?;
            file.sync_all()?;
            fs::rename(&beside, &self.kept)
        };
        if let Err(error) = write() {
            warn!(%error, file = %self.kept.display(), "Cannot keep a copy of the standalone folder");
        }
    }
}

fn text(path: &Path) -> io::Result<String> {
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() || metadata.len() > LARGEST {
        return Err(io::Error::other(format!("not a regular file of at most {LARGEST} bytes")));
    }
    fs::read_to_string(path)
}

pub(super) fn by_name(files: &[File]) -> BTreeMap<String, Result<String, String>> {
    files.iter().map(|file| (file.name.clone(), file.text.clone())).collect()
}
