//! Evidence on kernels that cannot be asked for a namespace by its identity: who holds one is looked for.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Once;

use spiderpool_core::node::attachment::Netns;
use tracing::warn;

use super::Seen;
use crate::net::namespace;

/// Said once: it does not change while the daemon runs.
static UNREAD: Once = Once::new();

/// Paths to the namespaces that something holds, by inode.
pub(crate) struct Around {
    held: HashMap<u64, PathBuf>,
    /// Something that could not be read: what was not found may still be there.
    unread: Option<String>,
}

impl Around {
    /// Looks at every process and at the mounts that this process and the host's first one see.
    pub(super) fn take(proc: &Path) -> Around {
        let mut around = Around { held: HashMap::new(), unread: None };
        match fs::read_dir(proc) {
            Ok(entries) => entries.for_each(|entry| around.process(proc, entry.map(|entry| entry.path()))),
            Err(error) => around.missed(proc, &error),
        }
        for process in ["self", "1"] {
            let path = proc.join(process).join("mountinfo");
            match fs::read_to_string(&path) {
                Ok(mounts) => mounts.lines().for_each(|line| around.mount(proc, process, line)),
                Err(error) => around.missed(&path, &error),
            }
        }
        if let Some(unread) = &around.unread {
            UNREAD.call_once(|| {
                warn!(
                    unread,
                    "Cannot see every process: what sandboxes that are gone held stays held; grant CAP_SYS_PTRACE"
                );
            });
        }
        around
    }

    /// Every path found.
    pub(super) fn into_places(self) -> Vec<PathBuf> {
        self.held.into_values().collect()
    }

    fn missed(&mut self, path: &Path, error: &io::Error) {
        self.unread.get_or_insert_with(|| format!("{}: {error}", path.display()));
    }

    fn process(&mut self, proc: &Path, path: io::Result<PathBuf>) {
        let path = match path {
            Ok(path) => path,
            Err(error) => return self.missed(proc, &error),
        };
        let is_process =
            path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.parse::<u32>().is_ok());
        if !is_process {
            return;
        }
        let link = path.join("ns/net");
        match fs::read_link(&link) {
            Ok(target) => self.note(target.to_str(), link),
            // It ended, or it is a zombie: neither holds a namespace.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) if error.raw_os_error() == Some(nix::libc::ESRCH) => {}
            Err(error) => self.missed(&link, &error),
        }
    }

    /// A line of mountinfo (proc_pid_mountinfo(5)): field 4 is the root, `net:[INODE]` for a namespace; field 5 the place.
    fn mount(&mut self, proc: &Path, process: &str, line: &str) {
        let mut fields = line.split(' ').skip(3);
        if let (root @ Some(_), Some(place)) = (fields.next(), fields.next()) {
            let place = place.trim_start_matches('/');
            self.note(root, proc.join(process).join("root").join(place));
        }
    }

    fn note(&mut self, name: Option<&str>, path: PathBuf) {
        let inode = name.and_then(|name| name.strip_prefix("net:[")?.strip_suffix(']')?.parse().ok());
        if let Some(inode) = inode {
            self.held.entry(inode).or_insert(path);
        }
    }

    /// What is known of a namespace.
    pub(super) fn look(&self, netns: &Netns) -> Seen {
        let recorded = Path::new(&netns.path);
        let other = self.held.get(&netns.inode).map(PathBuf::as_path);
        for path in [Some(recorded), other].into_iter().flatten() {
            if namespace::identify(path).is_ok_and(|found| found.is_same(netns)) {
                return namespace::addresses(path).map_or(Seen::Unknown, Seen::Alive);
            }
        }
        // Found by inode but not the same: the inode was used again, which proves the old one gone. Found and not
        // readable: it may be the one.
        let unclear = other.is_some_and(|path| namespace::identify(path).is_err());
        if self.unread.is_some() || unclear { Seen::Unknown } else { Seen::Gone }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn netns(inode: u64) -> Netns {
        Netns { path: "/nowhere/at/all".into(), inode, cookie: 9 }
    }

    /// A proc file system with one process, and what it and the first process mount.
    fn proc(link: &str, mounts: &str) -> tempfile::TempDir {
        let proc = tempfile::tempdir().unwrap();
        for process in ["self", "1", "77"] {
            fs::create_dir_all(proc.path().join(process).join("ns")).unwrap();
            fs::write(proc.path().join(process).join("mountinfo"), mounts).unwrap();
        }
        symlink("net:[5]", proc.path().join("1/ns/net")).unwrap();
        symlink(link, proc.path().join("77/ns/net")).unwrap();
        fs::write(proc.path().join("uptime"), "no process").unwrap();
        proc
    }

    /// Rule: Live means held.
    #[test]
    fn a_namespace_is_gone_only_when_nothing_holds_it_and_all_was_seen() {
        let whole =
            proc("net:[12]", "1 2 0:4 / / rw - ext4\n3 1 0:4 net:[13] /run/netns/x rw shared:5 - nsfs nsfs rw\n");
        let around = Around::take(whole.path());
        assert_eq!(around.look(&netns(11)), Seen::Gone);
        for held in [5, 12, 13] {
            assert_eq!(around.look(&netns(held)), Seen::Unknown, "{held} is held by something that cannot be entered");
        }
        fs::remove_file(whole.path().join("1/mountinfo")).unwrap();
        assert_eq!(Around::take(whole.path()).look(&netns(11)), Seen::Unknown, "something was not seen");
    }

    #[test]
    fn a_process_that_ended_meanwhile_is_no_hindrance() {
        let whole = proc("net:[12]", "");
        fs::create_dir(whole.path().join("78")).unwrap();
        assert_eq!(Around::take(whole.path()).look(&netns(11)), Seen::Gone);
    }
}
