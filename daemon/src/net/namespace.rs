//! Network namespaces: opened by path, entered only by a thread that ends there.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, mpsc};
use std::thread;

use nix::libc;
use nix::sched::CloneFlags;
use nix::sys::statfs::{NSFS_MAGIC, fstatfs};
use socket2::{Domain, Socket, Type};
use spiderpool_core::node::attachment::Netns;

use super::{Connection, NetError, observe};

/// An open network namespace: it lives as long as this does.
#[derive(Debug)]
pub(crate) struct Namespace {
    file: File,
    path: PathBuf,
}

impl Namespace {
    /// The namespace at a path.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn open(path: &Path) -> Result<Namespace, NetError> {
        let shown = path.display().to_string();
        let file = File::open(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => NetError::NoNamespace(shown.clone()),
            _ => NetError::Kernel { what: format!("open network namespace {shown}"), source: error },
        })?;
        let kind = fstatfs(&file)
            .map_err(|errno| NetError::Kernel { what: format!("look at {shown}"), source: errno.into() })?;
        // What stays of a namespace whose mount is gone is a plain file in its folder.
        if kind.filesystem_type() != NSFS_MAGIC {
            return Err(NetError::NotANamespace(shown));
        }
        Ok(Namespace { file, path: path.into() })
    }

    /// What identifies it, given its cookie.
    ///
    /// # Errors
    /// The file cannot be looked at.
    pub(crate) fn identity(&self, cookie: u64) -> io::Result<Netns> {
        Ok(Netns { path: self.path.display().to_string(), inode: self.file.metadata()?.ino(), cookie })
    }

    /// The addresses on its links, link-local ones and the loopback's too.
    ///
    /// # Errors
    /// The kernel refused.
    pub(crate) fn addresses(&self) -> io::Result<BTreeSet<IpAddr>> {
        let mut netlink = self.enter(Connection::open)??;
        Ok(observe::addresses(&mut netlink)?)
    }

    /// Does work inside the namespace, on a thread of its own: no thread that has been inside serves anything else.
    /// Its end is not waited for: the kernel takes a millisecond over a thread that leaves a namespace.
    ///
    /// # Errors
    /// The namespace could not be entered.
    pub(crate) fn enter<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, NetError> {
        let file = self.file.try_clone().map_err(NetError::kernel("keep a network namespace open"))?;
        let path = self.path.clone();
        let (done, result) = mpsc::sync_channel(1);
        let inside = move || {
            // Nobody hears it only if the caller panicked.
            let _ = done.send(join(&file, &path).map(|()| work()));
        };
        thread::Builder::new().name("netns".into()).spawn(inside).map_err(NetError::kernel("start a thread"))?;
        let ended = || NetError::kernel("work in a network namespace")(io::Error::other("its thread panicked"));
        result.recv().unwrap_or_else(|_| Err(ended()))
    }
}

#[allow(clippy::disallowed_methods)] // The one place that enters a namespace.
fn join(file: &File, path: &Path) -> Result<(), NetError> {
    nix::sched::setns(file, CloneFlags::CLONE_NEWNET).map_err(|errno| match errno {
        nix::errno::Errno::EINVAL => NetError::NotANamespace(path.display().to_string()),
        _ => NetError::Kernel { what: format!("enter network namespace {}", path.display()), source: errno.into() },
    })
}

/// The cookie of the namespace that the calling thread is in: never given to another one within a boot.
///
/// # Errors
/// The kernel has no cookies (before Linux 5.14), or no socket to give.
pub(crate) fn own_cookie() -> Result<u64, NetError> {
    let read = || -> io::Result<u64> {
        let socket = Socket::new(Domain::UNIX, Type::DGRAM, None)?;
        cookie_of(&socket)
    };
    read().map_err(NetError::kernel("read a network namespace's cookie (needs Linux 5.14)"))
}

#[allow(unsafe_code)]
fn cookie_of(socket: &Socket) -> io::Result<u64> {
    /// From `asm-generic/socket.h`.
    const SO_NETNS_COOKIE: libc::c_int = 71;
    let mut cookie = 0_u64;
    let mut length = size_of::<u64>() as libc::socklen_t;
    // SAFETY: the descriptor is open, and both pointers are to locals of the sizes that the kernel is told.
    let answer = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    if answer == 0 { Ok(cookie) } else { Err(io::Error::last_os_error()) }
}

/// What identifies the namespace at a path.
///
/// # Errors
/// There is none, or it cannot be entered.
pub(crate) fn identify(path: &Path) -> io::Result<Netns> {
    let namespace = Namespace::open(path)?;
    // Asking for its handle spares a thread that would have to enter it.
    if can_find()
        && let Ok(cookie) = cookie_by_handle(&namespace.file)
    {
        return namespace.identity(cookie);
    }
    namespace.identity(namespace.enter(own_cookie)??)
}

/// The addresses on the links of the namespace at a path, link-local ones and the loopback's too.
///
/// # Errors
/// There is none, or the kernel refused.
pub(crate) fn addresses(path: &Path) -> io::Result<BTreeSet<IpAddr>> {
    Namespace::open(path)?.addresses()
}

/// What the kernel says of a namespace that is asked for by its identity alone.
#[derive(Debug)]
pub(crate) enum Found {
    /// It lives, whoever holds it: a process, a mount anywhere, an open file.
    Alive(Namespace),
    /// Nothing holds it any more.
    Gone,
}

/// The namespace of an identity, whatever path leads to it, by its file handle (open_by_handle_at(2)).
///
/// # Errors
/// The kernel cannot tell. Whether it can at all, says [`can_find`].
pub(crate) fn find(netns: &Netns) -> io::Result<Found> {
    match by_handle(netns) {
        Ok(file) => Ok(Found::Alive(Namespace { file, path: netns.path.clone().into() })),
        Err(error) if error.raw_os_error() == Some(libc::ESTALE) => Ok(Found::Gone),
        Err(error) => Err(error),
    }
}

/// Whether [`find`] is to be believed here: the kernel knows handles of namespaces (Linux 6.18), and finds by its
/// cookie and inode one that this thread is not in. Asked once: the kernel does not change while the daemon runs.
pub(crate) fn can_find() -> bool {
    static CAN: LazyLock<bool> = LazyLock::new(finds_another);
    *CAN
}

/// Looks up a namespace made for the purpose, from outside of it: inside, the kernel asks for no permission, and a
/// refusal looks like "gone". A thread stays in it until the answer is there.
fn finds_another() -> bool {
    let (tell, told) = mpsc::sync_channel(1);
    let (keep, kept) = mpsc::channel::<()>();
    let stay = move || {
        let identity = || -> io::Result<Netns> {
            nix::sched::unshare(CloneFlags::CLONE_NEWNET)?;
            let inode = std::fs::metadata("/proc/thread-self/ns/net")?.ino();
            Ok(Netns { path: String::new(), inode, cookie: own_cookie()? })
        };
        // Both ends are this function's: a failed send or an ended wait is its end.
        let _ = tell.send(identity());
        let _ = kept.recv();
    };
    let look = || -> io::Result<bool> {
        thread::Builder::new().name("netns-test".into()).spawn(stay)?;
        let other = told.recv().map_err(io::Error::other)??;
        let absent = Netns { cookie: other.cookie ^ (1 << 62), ..other.clone() };
        let file = by_handle(&other)?;
        let same = file.metadata()?.ino() == other.inode && cookie_by_handle(&file)? == other.cookie;
        Ok(same && matches!(find(&absent)?, Found::Gone))
    };
    let found = look().unwrap_or(false);
    drop(keep);
    found
}

/// A handle of the kernel's namespace file system: `struct file_handle` with `struct nsfs_file_handle`
/// (linux/nsfs.h) in it.
#[repr(C)]
struct Handle {
    bytes: libc::c_uint,
    kind: libc::c_int,
    id: u64,
    namespace_kind: u32,
    inode: u32,
}

impl Handle {
    /// Bytes of `struct nsfs_file_handle`.
    const LENGTH: libc::c_uint = 16;
    /// `FILEID_NSFS` (linux/exportfs.h).
    const KIND: libc::c_int = 0xf1;
}

/// The cookie of an open namespace, as its handle tells it (name_to_handle_at(2)).
#[allow(unsafe_code)]
fn cookie_by_handle(file: &File) -> io::Result<u64> {
    let mut handle = Handle { bytes: Handle::LENGTH, kind: 0, id: 0, namespace_kind: 0, inode: 0 };
    let mut mount = 0;
    // SAFETY: the descriptor is open, the path is an empty string, and the pointers are to locals, of which the first
    // begins as `struct file_handle` does and has room for as many bytes as it says.
    let answer = unsafe {
        libc::name_to_handle_at(
            file.as_raw_fd(),
            c"".as_ptr(),
            (&raw mut handle).cast(),
            &raw mut mount,
            libc::AT_EMPTY_PATH,
        )
    };
    match answer {
        0 if handle.kind == Handle::KIND && handle.bytes == Handle::LENGTH => Ok(handle.id),
        0 => Err(io::ErrorKind::Unsupported.into()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[allow(unsafe_code)]
fn by_handle(netns: &Netns) -> io::Result<File> {
    /// `FD_NSFS_ROOT` (linux/fcntl.h): the handle is one of the namespace file system.
    const NSFS_ROOT: libc::c_int = -10003;
    let inode = u32::try_from(netns.inode).map_err(|_| io::ErrorKind::InvalidInput)?;
    // The ID that handles carry is the cookie that sockets tell; `can_find` proves it.
    let mut handle = Handle {
        bytes: Handle::LENGTH,
        kind: Handle::KIND,
        id: netns.cookie,
        namespace_kind: libc::CLONE_NEWNET as u32,
        inode,
    };
    // SAFETY: the pointer is to a local that begins as `struct file_handle` does and holds as many bytes as it says.
    let opened =
        unsafe { libc::open_by_handle_at(NSFS_ROOT, (&raw mut handle).cast(), libc::O_RDONLY | libc::O_CLOEXEC) };
    if opened < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given this descriptor to us alone.
    Ok(unsafe { File::from_raw_fd(opened) })
}

/// Runs a whole test inside a namespace, on a thread that ends with it.
#[cfg(test)]
pub(crate) fn stay_inside(path: &Path, test: impl FnOnce() + Send) {
    let namespace = Namespace::open(path).unwrap();
    let inside = || {
        join(&namespace.file, path).unwrap();
        test();
    };
    thread::scope(|scope| scope.spawn(inside).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}
