//! Where the lab's processes come from.
//!
//! A launcher is a thread with a mount namespace of its own. Network namespaces are pinned as files inside it,
//! every process of the lab is started by it and is killed by the kernel when it ends (`PR_SET_PDEATHSIG`,
//! prctl(2)). So nothing has to be cleaned up by hand: when the thread ends, or the whole process dies, the last
//! user of the mount namespace is gone, and with it every network namespace and what is in it.

use anyhow::{Context, Result, anyhow};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};

use crate::program::{Finished, Program};

type Job = Box<dyn FnOnce() + Send>;

/// A folder that is seen at another place by the launcher's processes.
#[derive(Clone, Debug)]
pub struct Bind {
    /// The folder.
    pub from: PathBuf,
    /// Where it is seen; a folder that exists.
    pub to: PathBuf,
}

/// A thread with a mount namespace of its own, from which processes are started.
#[derive(Debug)]
pub struct Launcher {
    name: String,
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Launcher {
    /// Starts the thread and makes its mounts.
    ///
    /// # Errors
    /// The kernel refuses (this needs root), or a folder does not exist.
    pub fn start(name: &str, binds: Vec<Bind>) -> Result<Arc<Self>> {
        let (jobs, inbox) = mpsc::channel::<Job>();
        let thread = thread::Builder::new()
            .name(format!("launch-{name}"))
            .spawn(move || inbox.into_iter().for_each(|job| job()))
            .context("start a thread")?;
        let launcher = Self { name: name.to_owned(), jobs: Some(jobs), thread: Some(thread) };
        launcher
            .call(move || separate_mounts(&binds))?
            .with_context(|| format!("make a mount namespace for {name} (this needs root)"))?;
        Ok(Arc::new(launcher))
    }

    /// Runs `job` on the thread, so that it sees the launcher's mounts.
    ///
    /// # Errors
    /// The thread has ended.
    pub fn call<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let (sender, receiver) = mpsc::sync_channel(1);
        self.jobs
            .as_ref()
            .and_then(|jobs| jobs.send(Box::new(move || drop(sender.send(job())))).ok())
            .ok_or_else(|| anyhow!("the launcher {} has ended", self.name))?;
        receiver.recv().with_context(|| format!("the launcher {} has ended", self.name))
    }

    /// A path to the mount namespace that every process of this machine can open while the launcher lives.
    ///
    /// # Errors
    /// The thread has ended.
    pub fn mounts(&self) -> Result<String> {
        let thread = self.call(nix::unistd::gettid)?;
        Ok(format!("/proc/{}/task/{thread}/ns/mnt", std::process::id()))
    }

    /// Starts `command` in a network namespace. It is killed when the launcher ends.
    ///
    /// # Errors
    /// The program could not be started.
    pub fn spawn(&self, namespace: Arc<File>, mut command: Command) -> Result<Child> {
        let line = format!("{command:?}");
        let parent = nix::unistd::getpid();
        die_with_launcher(&mut command, parent, namespace);
        self.call(move || command.spawn())?.with_context(|| format!("start {line}"))
    }

    /// Runs `program` in a network namespace to its end.
    ///
    /// # Errors
    /// It could not be started or did not end. A status other than 0 is not an error here.
    pub(crate) fn run(&self, namespace: Arc<File>, program: &Program) -> Result<Finished> {
        program.finish(self.spawn(namespace, program.command())?)
    }
}

impl Drop for Launcher {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            // A launcher whose last owner was a job of its own cannot wait for itself.
            if thread.thread().id() != thread::current().id() {
                drop(thread.join());
            }
        }
    }
}

fn separate_mounts(binds: &[Bind]) -> Result<()> {
    const NONE: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE).context("make mounts private")?;
    for Bind { from, to } in binds {
        mount(Some(from), to, NONE, MsFlags::MS_BIND, NONE)
            .with_context(|| format!("bind {} to {}", from.display(), to.display()))?;
    }
    Ok(())
}

#[allow(unsafe_code)]
#[allow(clippy::disallowed_methods, reason = "enters the namespace in the child, which then becomes the program")]
fn die_with_launcher(command: &mut Command, parent: nix::unistd::Pid, namespace: Arc<File>) {
    // SAFETY: between fork and exec the closure makes three system calls and allocates nothing.
    unsafe {
        command.pre_exec(move || {
            set_pdeathsig(Signal::SIGKILL)?;
            // The parent may have died before the line above: then nobody would ever send the signal.
            if nix::unistd::getppid() != parent {
                return Err(io::Error::from_raw_os_error(nix::libc::ECHILD));
            }
            setns(&*namespace, CloneFlags::CLONE_NEWNET)?;
            Ok(())
        });
    }
}
