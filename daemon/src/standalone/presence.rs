//! Whether the folder is there. One that was away is believed once two readings in a row say the same: who makes it anew
//! fills it file by file.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use spiderpool_api::folder::File;
use tracing::{info, warn};

use super::source::by_name;

/// What the readings so far say.
#[derive(Debug, Default)]
pub(super) enum Presence {
    /// It is there.
    #[default]
    Here,
    /// It could not be read.
    Away,
    /// It was away, and was read once.
    Back(BTreeMap<String, Result<String, String>>),
}

impl Presence {
    /// Takes note of a reading. None: what is known stays.
    pub(super) fn judge(&mut self, folder: &Path, read: io::Result<Vec<File>>) -> Option<Vec<File>> {
        let folder = folder.display();
        let files = match read {
            Ok(files) => files,
            Err(error) => {
                if let Presence::Here = self {
                    warn!(%error, %folder, "Cannot read the folder; what is known stays");
                }
                *self = Presence::Away;
                return None;
            }
        };
        let now = match self {
            Presence::Here => return Some(files),
            Presence::Away => by_name(&files),
            Presence::Back(before) => {
                let now = by_name(&files);
                if *before == now {
                    info!(%folder, "The folder is back");
                    *self = Presence::Here;
                    return Some(files);
                }
                now
            }
        };
        *self = Presence::Back(now);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rule: No data is not no Pods.
    #[test]
    fn a_folder_that_comes_back_is_believed_when_it_is_still() {
        let folder = Path::new("/folder");
        let file = |name: &&str| File { name: (*name).into(), text: Ok(String::new()) };
        let mut presence = Presence::default();
        let mut reads = |names: Option<&[&str]>| {
            let read =
                names.map(|names| names.iter().map(file).collect()).ok_or_else(|| io::ErrorKind::NotFound.into());
            presence.judge(folder, read).map(|files| files.len())
        };
        assert_eq!(reads(Some(&["a"])), Some(1));
        assert_eq!(reads(Some(&[])), Some(0), "somebody removed the last one");
        assert_eq!(reads(None), None);
        assert_eq!(reads(Some(&[])), None);
        assert_eq!(reads(Some(&["a"])), None);
        assert_eq!(reads(None), None);
        assert_eq!(reads(Some(&["a", "b"])), None);
        assert_eq!(reads(Some(&["a", "b"])), Some(2));
        assert_eq!(reads(Some(&["a"])), Some(1));
    }
}
