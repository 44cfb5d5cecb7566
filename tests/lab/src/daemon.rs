//! The daemon of one node as a process: started, stopped, killed.

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use crate::clock::{Deadline, wait_for};
use crate::namespace::Namespace;
use crate::program::Program;
use crate::software::{FAIL_POINTS, Product};

/// How long the daemon may take to serve, or to end after SIGTERM.
const PATIENCE: Duration = Duration::from_secs(15);

/// Where a daemon keeps things.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    pub(crate) standalone: PathBuf,
    pub(crate) state: PathBuf,
    pub(crate) socket: PathBuf,
    pub(crate) spool: PathBuf,
    pub(crate) cni_bin: PathBuf,
    pub(crate) netns: PathBuf,
    pub(crate) proc: PathBuf,
    pub(crate) log: PathBuf,
}

/// A node's daemon, running or not.
#[derive(Debug)]
pub struct Daemon {
    node: String,
    namespace: Namespace,
    places: Places,
    programs: OnceLock<Product>,
    child: Mutex<Option<Child>>,
    /// Where the log of the life that is to fail begins.
    life: AtomicU64,
}

impl Daemon {
    pub(crate) fn new(node: &str, namespace: Namespace, places: Places) -> Self {
        Self {
            node: node.to_owned(),
            namespace,
            places,
            programs: OnceLock::new(),
            child: Mutex::new(None),
            life: AtomicU64::new(0),
        }
    }

    /// Uses other programs than the shipped ones, from the first start on.
    ///
    /// # Errors
    /// It was said before.
    pub fn use_programs(&self, programs: Product) -> Result<()> {
        self.programs.set(programs).ok().with_context(|| format!("{} has its programs already", self.node))
    }

    fn programs(&self) -> Result<Product> {
        self.programs.get().cloned().map_or_else(Product::find, Ok)
    }

    /// Puts the shims in place, with no daemon to answer them.
    ///
    /// # Errors
    /// A program is missing.
    pub fn install_shims(&self) -> Result<()> {
        self.install(&self.programs()?)
    }

    /// Starts one more daemon of the same flags beside the one that runs. It logs into the same file; the caller ends it.
    ///
    /// # Errors
    /// A program is missing.
    pub fn start_second(&self) -> Result<Child> {
        self.namespace.spawn(self.command(&self.programs()?, &[], &[])?)
    }

    /// Puts the shims in place, starts the daemon and waits until it serves.
    ///
    /// # Errors
    /// A program is missing, the daemon runs already, or it did not come up; then with the end of its log.
    pub fn start(&self) -> Result<()> {
        self.start_with(&[])
    }

    /// As [`Daemon::start`], with more arguments for `spiderpool-agent run`.
    ///
    /// # Errors
    /// As [`Daemon::start`].
    pub fn start_with(&self, arguments: &[&str]) -> Result<()> {
        self.begin(&[], arguments, PATIENCE)
    }

    /// As [`Daemon::start_with`], by a program that becomes the daemon: `env NAME=VALUE`, say.
    ///
    /// # Errors
    /// As [`Daemon::start`].
    pub fn start_under(&self, wrapper: &[&str], arguments: &[&str]) -> Result<()> {
        self.begin(wrapper, arguments, PATIENCE)
    }

    /// As [`Daemon::start`], with another time to serve within.
    ///
    /// # Errors
    /// As [`Daemon::start`].
    pub fn start_within(&self, patience: Duration) -> Result<()> {
        self.begin(&[], &[], patience)
    }

    fn begin(&self, wrapper: &[&str], arguments: &[&str], patience: Duration) -> Result<()> {
        let product = self.programs()?;
        self.install(&product)?;
        let mut slot = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        if slot.is_some() {
            bail!("the daemon of {} runs already", self.node);
        }
        let mut child = self.namespace.spawn(self.command(&product, wrapper, arguments)?)?;
        let what = format!("the daemon of {} to listen on {}", self.node, self.places.socket.display());
        let ready = wait_for(&what, patience, || {
            if let Some(status) = child.try_wait()? {
                bail!("the daemon of {} ended ({status})", self.node);
            }
            Ok(UnixStream::connect(&self.places.socket).ok())
        });
        // Also one that did not come up is kept: it must not be left running unseen.
        *slot = Some(child);
        ready.with_context(|| format!("its log ends with:\n{}", self.log_end())).map(drop)
    }

    /// Starts the daemon, built with fail points, so that it kills itself when it gets to one of these for the time that is
    /// given with it. Does not wait until it serves: it may never come to that.
    ///
    /// # Errors
    /// A program is missing, or the daemon runs already.
    pub fn start_failing(&self, points: &[(&str, u64)], arguments: &[&str]) -> Result<()> {
        let mut slot = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        if slot.is_some() {
            bail!("the daemon of {} runs already", self.node);
        }
        let mut command = self.command(&self.programs()?, &[], arguments)?;
        let points: Vec<_> = points.iter().map(|(point, hit)| format!("{point}:{hit}")).collect();
        command.env(FAIL_POINTS, points.join(","));
        self.life.store(fs::metadata(&self.places.log)?.len(), Ordering::Relaxed);
        *slot = Some(self.namespace.spawn(command)?);
        Ok(())
    }

    /// The fail point at which it ended, by its last words.
    ///
    /// # Errors
    /// They do not say.
    pub fn failed_at(&self) -> Result<String> {
        let mut log = File::open(&self.places.log)?;
        log.seek(SeekFrom::Start(self.life.load(Ordering::Relaxed)))?;
        let mut words = Vec::new();
        log.read_to_end(&mut words)?;
        let words = String::from_utf8_lossy(&words).into_owned();
        let said = words.lines().rev().find_map(|line| line.split_once("fail point: "));
        said.map(|(_, point)| point.to_owned()).with_context(|| format!("no fail point in its last words: {words}"))
    }

    /// Waits for the daemon to end by itself; none: it still runs after `patience`.
    ///
    /// # Errors
    /// It did not run.
    pub fn ends_within(&self, patience: Duration) -> Result<Option<ExitStatus>> {
        let mut slot = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        let child = slot.as_mut().with_context(|| format!("the daemon of {} does not run", self.node))?;
        let deadline = Deadline::after(patience);
        loop {
            if let Some(status) = child.try_wait().context("wait for the daemon")? {
                *slot = None;
                return Ok(Some(status));
            }
            if deadline.passed() {
                return Ok(None);
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Ends the daemon with SIGTERM and waits for it.
    ///
    /// # Errors
    /// It did not run, or did not end in time.
    pub fn stop(&self) -> Result<ExitStatus> {
        self.end(Signal::SIGTERM)
    }

    /// Ends the daemon with SIGKILL.
    ///
    /// # Errors
    /// It did not run.
    pub fn kill(&self) -> Result<ExitStatus> {
        self.end(Signal::SIGKILL)
    }

    /// How the daemon ended by itself. None: it still runs.
    ///
    /// # Errors
    /// It was stopped, or never started.
    pub fn ended(&self) -> Result<Option<ExitStatus>> {
        let mut slot = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        let child = slot.as_mut().with_context(|| format!("the daemon of {} does not run", self.node))?;
        let status = child.try_wait().context("wait for the daemon")?;
        if status.is_some() {
            *slot = None;
        }
        Ok(status)
    }

    /// Stops the daemon and starts it again.
    ///
    /// # Errors
    /// As [`Daemon::stop`] and [`Daemon::start`].
    pub fn restart(&self) -> Result<()> {
        self.stop()?;
        self.start()
    }

    /// The process ID, while it runs.
    pub fn id(&self) -> Option<u32> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(Child::id)
    }

    /// Its Unix socket.
    pub fn socket(&self) -> &Path {
        &self.places.socket
    }

    /// The folder of its journal.
    pub fn state(&self) -> &Path {
        &self.places.state
    }

    /// The folder where shims leave tombstones.
    pub fn spool(&self) -> &Path {
        &self.places.spool
    }

    /// Everything it has logged since the lab began.
    ///
    /// # Errors
    /// It was never started.
    pub fn log(&self) -> Result<String> {
        fs::read_to_string(&self.places.log).with_context(|| format!("read {}", self.places.log.display()))
    }

    fn log_end(&self) -> String {
        let log = self.log().unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    fn install(&self, product: &Product) -> Result<()> {
        let Places { cni_bin, socket, spool, .. } = &self.places;
        let program = Program::new(&product.agent).arg("install").arg("--bin-dir").arg(cni_bin);
        let program = program.arg("--from").arg(&product.shims);
        let program = program.arg("--socket").arg(socket).arg("--spool").arg(spool);
        self.namespace.run(&program)?.success().with_context(|| format!("install the shims on {}", self.node))?;
        Ok(())
    }

    fn command(&self, product: &Product, wrapper: &[&str], arguments: &[&str]) -> Result<Command> {
        let Places { standalone, state, socket, spool, netns, proc, log, cni_bin: _ } = &self.places;
        let log = File::options().create(true).append(true).open(log).context("open the daemon's log")?;
        let mut command = match wrapper {
            [] => Command::new(&product.agent),
            [program, rest @ ..] => {
                let mut command = Command::new(program);
                command.args(rest).arg(&product.agent);
                command
            }
        };
        command.arg("run").args(["--node-name", &self.node, "--http-listen", "127.0.0.1:5711"]);
        command.arg("--standalone").arg(standalone).arg("--state-dir").arg(state);
        command.arg("--socket").arg(socket).arg("--spool").arg(spool).arg("--netns-folder").arg(netns);
        command.arg("--proc").arg(proc);
        command.args(arguments);
        command.stdin(Stdio::null()).stdout(log.try_clone().context("share the daemon's log")?).stderr(log);
        Ok(command)
    }

    fn end(&self, signal: Signal) -> Result<ExitStatus> {
        let mut slot = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        let child = slot.as_mut().with_context(|| format!("the daemon of {} does not run", self.node))?;
        let process = Pid::from_raw(i32::try_from(child.id()).context("a process ID")?);
        // Not waited for yet, so the ID is still its own.
        kill(process, signal).with_context(|| format!("send {signal} to the daemon of {}", self.node))?;
        let what = format!("the daemon of {} to end after {signal}", self.node);
        let status = wait_for(&what, PATIENCE, || child.try_wait().context("wait for the daemon"))?;
        *slot = None;
        Ok(status)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.id().is_some() {
            drop(self.kill());
        }
    }
}
