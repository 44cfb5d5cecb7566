//! Evidence on kernels that cannot be asked for a namespace by its identity: who holds one is looked for.
//!
//! Looked at are the threads of every process, since each may be in a namespace of its own and outlive the first one, the
//! mounts that each mount namespace has, and open files. Twice, since a holder may hand over to one that was passed
//! already. What was found and is no longer there when it is looked at closely proves nothing. A namespace that only a
//! socket keeps is not found.

use std::cell::OnceCell;
use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::sync::Once;

use spiderpool_core::node::attachment::Netns;
use tracing::warn;

use super::Seen;
use crate::net::namespace;

/// Said once: it does not change while the daemon runs.
static UNREAD: Once = Once::new();

/// Paths remembered of a namespace: one that still leads there is enough, and a node's own has thousands.
const PATHS: usize = 8;

/// A look around, made when it is needed first: a namespace that is where it was recorded needs none.
pub(crate) struct Around {
    proc: PathBuf,
    holders: OnceCell<Holders>,
}

/// Paths to the namespaces that something holds, by inode.
#[derive(Default)]
pub(super) struct Holders {
    held: HashMap<u64, HashSet<PathBuf>>,
    /// Something that could not be read: what was not found may still be there.
    unread: Option<String>,
}

/// Where a namespace is.
enum Place {
    /// This path leads there.
    At(PathBuf),
    /// Nothing holds it any more.
    Nowhere,
    /// Not all could be seen.
    Unclear,
}

impl Around {
    /// Whoever holds a namespace, as a process file system shows it.
    pub(super) fn of(proc: &Path) -> Around {
        Around { proc: proc.to_owned(), holders: OnceCell::new() }
    }

    /// What is known of a namespace.
    pub(super) fn look(&self, netns: &Netns) -> Seen {
        match self.find(netns) {
            Place::At(path) => namespace::addresses(&path).map_or(Seen::Unknown, Seen::Alive),
            Place::Nowhere => Seen::Gone,
            Place::Unclear => Seen::Unknown,
        }
    }

    /// Whether nothing holds a namespace any more.
    pub(super) fn is_gone(&self, netns: &Netns) -> bool {
        matches!(self.find(netns), Place::Nowhere)
    }

    fn find(&self, netns: &Netns) -> Place {
        let recorded = Path::new(&netns.path);
        match namespace::identify(recorded) {
            Ok(found) if found.is_same(netns) => return Place::At(recorded.to_owned()),
            // Its number is used again: the kernel has ended it.
            Ok(found) if found.inode == netns.inode => return Place::Nowhere,
            _ => {}
        }
        self.holders.get_or_init(|| Holders::take(&self.proc)).find(netns)
    }
}

impl Holders {
    /// Looks at every process, and at every mount that one of them sees.
    pub(super) fn take(proc: &Path) -> Holders {
        let mut holders = Holders::default();
        for _ in 0..2 {
            holders.pass(proc);
        }
        if let Some(unread) = &holders.unread {
            UNREAD.call_once(|| {
                warn!(
                    unread,
                    "Cannot see every process: what sandboxes that are gone held stays held; grant CAP_SYS_PTRACE"
                );
            });
        }
        holders
    }

    /// What could not be read, if something could not: there may be more.
    pub(super) fn unread(&self) -> Option<&str> {
        self.unread.as_deref()
    }

    /// The namespaces found: each one's inode, and paths that led there.
    pub(super) fn into_paths(self) -> impl Iterator<Item = (u64, HashSet<PathBuf>)> {
        self.held.into_iter()
    }

    fn find(&self, netns: &Netns) -> Place {
        let mut unclear = self.unread.is_some();
        for path in self.held.get(&netns.inode).into_iter().flatten() {
            match namespace::identify(path) {
                Ok(found) if found.is_same(netns) => return Place::At(path.to_owned()),
                Ok(found) if found.inode == netns.inode => return Place::Nowhere,
                // Who was seen with it is somewhere else by now, or gone; another one may have it.
                _ => unclear = true,
            }
        }
        if unclear { Place::Unclear } else { Place::Nowhere }
    }

    fn pass(&mut self, proc: &Path) {
        let mut mount_namespaces = HashSet::new();
        // This process too where the folder is of another PID namespace than its own.
        for process in self.numbered(proc).into_iter().chain([proc.join("self")]) {
            let known = self.unread.clone();
            for thread in self.numbered(&process.join("task")) {
                if let Some(name) = self.link(&thread.join("ns/net")) {
                    self.note(&name, thread.join("ns/net"));
                }
                let mounts = self.link(&thread.join("ns/mnt")).filter(|name| !mount_namespaces.contains(name));
                if let Some(name) = mounts
                    && self.mounts(&thread)
                {
                    mount_namespaces.insert(name);
                }
            }
            for file in self.numbered(&process.join("fd")) {
                if let Some(name) = self.link(&file) {
                    self.note(&name, file);
                }
            }
            // The machine's first process is in no sandbox, and may be out of reach even for root.
            if process.ends_with("1") {
                self.unread = known;
            }
        }
    }

    /// What a folder of processes, threads or open files has. One that is gone has none.
    fn numbered(&mut self, folder: &Path) -> Vec<PathBuf> {
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>(),
            Err(error) => Err(error),
        };
        let is_number = |path: &PathBuf| {
            let name = path.file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| name.parse::<u32>().is_ok())
        };
        self.read(folder, entries).unwrap_or_default().into_iter().filter(is_number).collect()
    }

    /// Where a link leads. None: whose it was is gone, or a zombie, which holds no namespace.
    fn link(&mut self, link: &Path) -> Option<PathBuf> {
        self.read(link, fs::read_link(link))
    }

    /// The namespaces that are mounted where a thread sees them: lines of mountinfo (proc_pid_mountinfo(5)), of which
    /// field 4 is the root, `net:[INODE]` for a namespace, and field 5 the place. False: they could not be read here.
    fn mounts(&mut self, thread: &Path) -> bool {
        let path = thread.join("mountinfo");
        let Some(text) = self.read(&path, fs::read(&path)) else { return false };
        // A mount's place is any bytes; what is no text is no place of ours, but may hold a namespace.
        for line in text.split(|byte| *byte == b'\n') {
            let mut fields = line.split(|byte| *byte == b' ').skip(3);
            if let (Some(root), Some(place)) = (fields.next(), fields.next()) {
                let (root, place) = (Path::new(OsStr::from_bytes(root)), unescaped(place));
                self.note(root, thread.join("root").join(place.strip_prefix("/").unwrap_or(&place)));
            }
        }
        true
    }

    /// What was read; what is gone meanwhile holds nothing, what cannot be read may hold anything.
    fn read<T>(&mut self, path: &Path, read: io::Result<T>) -> Option<T> {
        use nix::libc::{EACCES, EINVAL, ENAMETOOLONG, ESRCH};
        let error = match read {
            Ok(read) => return Some(read),
            Err(error) => error,
        };
        let gone = match error.raw_os_error() {
            // The mounts of a thread that has ended; a link to something with a longer name than any namespace has.
            Some(EINVAL | ENAMETOOLONG | ESRCH) => true,
            // Also said of one that ended between opening and reading.
            Some(EACCES) => fs::symlink_metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound),
            _ => error.kind() == io::ErrorKind::NotFound,
        };
        if !gone {
            self.unread.get_or_insert_with(|| format!("{}: {error}", path.display()));
        }
        None
    }

    fn note(&mut self, name: &Path, path: PathBuf) {
        let name = name.to_str().and_then(|name| name.strip_prefix("net:[")?.strip_suffix(']')?.parse().ok());
        let Some(paths) = name.map(|inode| self.held.entry(inode).or_default()) else { return };
        if paths.len() < PATHS {
            paths.insert(path);
        }
    }
}

/// A place as mountinfo writes it, with blanks, line ends and backslashes as three octal digits.
fn unescaped(place: &[u8]) -> PathBuf {
    let (mut plain, mut rest) = (Vec::new(), place);
    while let Some((&first, after)) = rest.split_first() {
        let digits =
            after.get(..3).filter(|digits| first == b'\\' && digits.iter().all(|digit| (b'0'..b'8').contains(digit)));
        match digits {
            Some(digits) => {
                plain.push(digits.iter().fold(0_u8, |value, digit| value.wrapping_mul(8).wrapping_add(digit - b'0')));
                rest = &after[3..];
            }
            None => {
                plain.push(first);
                rest = after;
            }
        }
    }
    PathBuf::from(OsString::from_vec(plain))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn netns(inode: u64) -> Netns {
        Netns { path: "/nowhere/at/all".into(), inode, cookie: 9 }
    }

    /// A proc file system of threads: process, thread, inode of its network namespace, of its mount namespace, its mounts.
    fn proc(threads: &[(u32, u32, u64, u64, &str)]) -> tempfile::TempDir {
        let proc = tempfile::tempdir().unwrap();
        for (process, thread, net, mnt, mounts) in threads {
            let thread = proc.path().join(format!("{process}/task/{thread}"));
            fs::create_dir_all(thread.join("ns")).unwrap();
            symlink(format!("net:[{net}]"), thread.join("ns/net")).unwrap();
            symlink(format!("mnt:[{mnt}]"), thread.join("ns/mnt")).unwrap();
            fs::write(thread.join("mountinfo"), mounts).unwrap();
        }
        fs::write(proc.path().join("uptime"), "no process").unwrap();
        proc
    }

    fn mounted(inode: u64) -> String {
        format!("1 2 0:4 / / rw - ext4\n3 1 0:4 net:[{inode}] /run/netns/x rw shared:5 - nsfs nsfs rw\n")
    }

    /// Rule: Live means held.
    #[test]
    fn a_namespace_is_gone_only_when_nothing_holds_it_and_all_was_seen() {
        let proc = proc(&[
            (1, 1, 5, 100, &mounted(13)),
            // Its first thread is elsewhere.
            (77, 77, 5, 100, &mounted(13)),
            (77, 78, 12, 100, &mounted(13)),
            // It sees other mounts.
            (80, 80, 5, 101, &mounted(14)),
        ]);
        let around = Around::of(proc.path());
        assert_eq!(around.look(&netns(11)), Seen::Gone);
        for held in [5, 12, 13, 14] {
            assert_eq!(around.look(&netns(held)), Seen::Unknown, "{held} is held by something that cannot be entered");
        }
        let unreadable = proc.path().join("80/task/80/mountinfo");
        fs::remove_file(&unreadable).unwrap();
        fs::create_dir(unreadable).unwrap();
        assert_eq!(Around::of(proc.path()).look(&netns(11)), Seen::Unknown, "something was not seen");
    }

    #[test]
    fn the_first_process_may_be_out_of_reach() {
        let proc = proc(&[(1, 1, 5, 100, ""), (77, 77, 5, 100, "")]);
        for (process, seen) in [("1", Seen::Gone), ("77", Seen::Unknown)] {
            // No folder, so what it holds cannot be read.
            fs::write(proc.path().join(process).join("fd"), "").unwrap();
            assert_eq!(Around::of(proc.path()).look(&netns(11)), seen, "{process}");
        }
    }

    /// Rule: Live means held. A group whose first thread has ended, as a zombie, lives on in the others.
    #[test]
    fn a_thread_may_outlive_the_first_one() {
        let proc = proc(&[(1, 1, 5, 100, ""), (77, 78, 12, 100, "")]);
        fs::create_dir_all(proc.path().join("77/task/77")).unwrap();
        assert_eq!(Around::of(proc.path()).look(&netns(12)), Seen::Unknown);
    }

    /// Rule: Live means held. A thread that ended before its mounts were read leaves them to the next.
    #[test]
    fn mounts_are_read_from_a_thread_that_lives() {
        let proc = proc(&[(1, 1, 5, 100, ""), (77, 77, 5, 101, ""), (78, 78, 5, 101, &mounted(14))]);
        fs::remove_file(proc.path().join("77/task/77/mountinfo")).unwrap();
        assert_eq!(Around::of(proc.path()).look(&netns(14)), Seen::Unknown);
    }

    /// Rule: Live means held. Nobody is in it, but somebody keeps it open.
    #[test]
    fn an_open_file_holds_a_namespace() {
        let proc = proc(&[(1, 1, 5, 100, "")]);
        fs::create_dir_all(proc.path().join("1/fd")).unwrap();
        symlink("net:[12]", proc.path().join("1/fd/3")).unwrap();
        assert_eq!(Around::of(proc.path()).look(&netns(12)), Seen::Unknown);
    }

    /// What any process can do to names hinders nobody.
    #[test]
    fn odd_names_are_no_hindrance() {
        let mounts = b"1 2 0:4 / /a\xffb rw - ext4\n3 1 0:4 net:[14] /run/a\\040b\\134 rw - nsfs nsfs rw\n";
        let proc = proc(&[(1, 1, 5, 100, "")]);
        fs::write(proc.path().join("1/task/1/mountinfo"), mounts).unwrap();
        let around = Around::of(proc.path());
        assert_eq!(around.look(&netns(11)), Seen::Gone);
        let places = &around.holders.get().unwrap().held[&14];
        assert!(places.iter().all(|place| place.ends_with("1/root/run/a b\\")), "{places:?}");
    }

    #[test]
    fn a_process_that_ended_meanwhile_is_no_hindrance() {
        let proc = proc(&[(1, 1, 5, 100, "")]);
        fs::create_dir(proc.path().join("78")).unwrap();
        fs::create_dir_all(proc.path().join("79/task/79")).unwrap();
        assert_eq!(Around::of(proc.path()).look(&netns(11)), Seen::Gone);
    }

    /// Rule: Live means held. The number of a process is used again between the look around and the closer look.
    #[test]
    fn who_is_somewhere_else_by_now_proves_nothing() {
        let lab = crate::net::lab::Lab::new();
        let place = crate::net::lab::path(&lab.pod);
        let found = namespace::identify(&place).unwrap();
        let mut holders = Holders::default();
        holders.note(Path::new("net:[11]"), place.clone());
        holders.note(Path::new(&format!("net:[{}]", found.inode)), place.clone());
        let around = Around::of(Path::new("/nowhere"));
        assert!(around.holders.set(holders).is_ok());
        assert_eq!(around.look(&netns(11)), Seen::Unknown, "the path leads to another namespace");
        let moved = Netns { path: "/nowhere".into(), ..found };
        assert!(matches!(around.look(&moved), Seen::Alive(_)));
        let older = Netns { cookie: moved.cookie + 1, ..moved };
        assert_eq!(around.look(&older), Seen::Gone, "its number is another one's");
    }
}
