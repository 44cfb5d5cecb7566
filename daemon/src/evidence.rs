//! What the kernel proves of sandboxes. Reads only; [`settle`] acts on it.
//!
//! A namespace is known by inode and cookie. That its path is gone, or leads elsewhere, proves nothing: a process may
//! still live in it, or another path lead to it. It counts as gone when no process and no mount of it is left; when
//! something could not be read, it counts as alive (Live means held).

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use spiderpool_core::node::attachment::Netns;

use crate::net::namespace;

pub(crate) mod settle;

/// What is known of a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Nothing holds it any more.
    Gone,
    /// It is there, with these addresses on its links.
    Alive(BTreeSet<IpAddr>),
    /// It is there, or may be; what is in it could not be read.
    Unknown,
}

/// Paths to the namespaces that something holds now, by inode.
pub(crate) struct Survey {
    held: HashMap<u64, PathBuf>,
    /// Something could not be read: what was not found may still be there.
    partial: bool,
}

impl Survey {
    /// Looks at every process and at the mounts that this process and the host's first one see.
    pub(crate) fn take(proc: &Path) -> Survey {
        let mut survey = Survey { held: HashMap::new(), partial: false };
        match fs::read_dir(proc) {
            Ok(entries) => entries.for_each(|entry| survey.process(entry.map(|entry| entry.path()))),
            Err(_) => survey.partial = true,
        }
        for process in ["self", "1"] {
            match fs::read_to_string(proc.join(process).join("mountinfo")) {
                Ok(mounts) => mounts.lines().for_each(|line| survey.mount(proc, process, line)),
                Err(_) => survey.partial = true,
            }
        }
        survey
    }

    fn process(&mut self, path: io::Result<PathBuf>) {
        let Ok(path) = path else {
            self.partial = true;
            return;
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
            Err(_) => self.partial = true,
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
    pub(crate) fn look(&self, netns: &Netns) -> Seen {
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
        if self.partial || unclear { Seen::Unknown } else { Seen::Gone }
    }
}
