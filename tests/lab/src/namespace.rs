//! A network namespace of the lab, and what is done inside it.

use anyhow::{Context, Result, anyhow};
use nix::mount::{MntFlags, umount2};
use nix::sched::{CloneFlags, setns};
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::thread;

use crate::launcher::Launcher;
use crate::program::{Finished, Program};

/// A network namespace, pinned as a file that the launcher's processes see. Cheap to clone; gone with the last clone.
#[derive(Clone, Debug)]
pub struct Namespace(Arc<Pin>);

#[derive(Debug)]
struct Pin {
    name: String,
    path: PathBuf,
    file: Arc<File>,
    launcher: Arc<Launcher>,
}

impl Namespace {
    /// A new namespace with its loopback up, pinned as `name` in `folder`.
    ///
    /// # Errors
    /// The file exists, or the kernel refuses (this needs root).
    pub fn create(launcher: &Arc<Launcher>, folder: &Path, name: &str) -> Result<Self> {
        let path = folder.join(name);
        let context = || format!("make the network namespace {name}");
        File::create_new(&path).with_context(context)?;
        let own = Arc::new(File::open("/proc/thread-self/ns/net").with_context(context)?);
        let option = format!("--net={}", path.display());
        launcher
            .run(own, &Program::new("unshare").arg(option).args(["ip", "link", "set", "lo", "up"]))
            .and_then(Finished::success)
            .with_context(context)?;
        let pinned = path.clone();
        let file = launcher.call(move || File::open(pinned))?.with_context(context)?;
        let pin = Pin { name: name.to_owned(), path, file: Arc::new(file), launcher: Arc::clone(launcher) };
        Ok(Self(Arc::new(pin)))
    }

    /// Its name, for messages.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The pinned file, as the launcher's processes see it: what a runtime passes as `CNI_NETNS`.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// A path to the namespace that every process of this machine can open while the lab lives.
    pub fn reference(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.file.as_raw_fd())
    }

    /// The launcher whose mounts its processes see.
    pub fn launcher(&self) -> &Arc<Launcher> {
        &self.0.launcher
    }

    /// Runs a program in it to its end; any exit status is fine.
    ///
    /// # Errors
    /// The program could not be started or did not end.
    pub fn run(&self, program: &Program) -> Result<Finished> {
        self.0.launcher.run(Arc::clone(&self.0.file), program).with_context(|| format!("in {}", self.name()))
    }

    /// Starts a program in it that runs until it is stopped, or the lab ends.
    ///
    /// # Errors
    /// The program could not be started.
    pub fn spawn(&self, command: Command) -> Result<Child> {
        self.0.launcher.spawn(Arc::clone(&self.0.file), command).with_context(|| format!("in {}", self.name()))
    }

    /// Runs `ip` with `arguments` and returns what it printed.
    ///
    /// # Errors
    /// `ip` failed.
    pub fn ip(&self, arguments: &[&str]) -> Result<String> {
        Ok(self.run(&Program::new("ip").args(arguments))?.success()?.stdout)
    }

    /// Runs `ip -j` with `arguments`.
    ///
    /// # Errors
    /// `ip` failed or printed no JSON.
    pub fn ip_json(&self, arguments: &[&str]) -> Result<serde_json::Value> {
        self.run(&Program::new("ip").arg("-j").args(arguments))?.success()?.json()
    }

    /// Runs many `ip` commands, one a line, in order; the first that fails ends it.
    ///
    /// # Errors
    /// Names the line that failed.
    pub fn ip_batch(&self, commands: &str) -> Result<()> {
        let program = Program::new("ip").args(["-batch", "-"]).input(commands);
        self.run(&program)?.success().with_context(|| format!("ip commands of {}:\n{commands}", self.name()))?;
        Ok(())
    }

    /// Loads nftables rules in one transaction.
    ///
    /// # Errors
    /// `nft` refused them.
    pub fn nft(&self, rules: &str) -> Result<()> {
        self.run(&Program::new("nft").args(["-f", "-"]).input(rules))?.success()?;
        Ok(())
    }

    /// Runs `work` on a thread of its own inside the namespace. Sockets that it opens stay there.
    ///
    /// # Errors
    /// The namespace could not be entered, or `work` panicked.
    #[allow(clippy::disallowed_methods, reason = "the lab's only entrance, on a thread that ends")]
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        let file = Arc::clone(&self.0.file);
        let inside = move || setns(&*file, CloneFlags::CLONE_NEWNET).map(|()| work());
        let outcome = thread::scope(|scope| scope.spawn(inside).join());
        outcome
            .map_err(|_| anyhow!("work in the namespace {} panicked", self.name()))?
            .with_context(|| format!("enter the namespace {}", self.name()))
    }

    /// Sets sysctls below `net`, e.g. `("ipv4/ip_forward", "1")`. Slashes, since interface names may have dots.
    ///
    /// # Errors
    /// Names the key that could not be written.
    pub fn sysctl(&self, settings: &[(&str, &str)]) -> Result<()> {
        self.enter(|| {
            for (key, value) in settings {
                let path = format!("/proc/sys/net/{key}");
                fs::write(&path, value).with_context(|| format!("write {value} to {path}"))?;
            }
            Ok(())
        })?
    }

    /// Switches IPv6 on for a link, and forwarding, without duplicate address detection: also for the link-local address
    /// that is there already.
    ///
    /// # Errors
    /// There is no such link.
    pub fn route_ipv6(&self, link: &str) -> Result<()> {
        let (off, detection) = (format!("ipv6/conf/{link}/disable_ipv6"), format!("ipv6/conf/{link}/accept_dad"));
        self.sysctl(&[("ipv6/conf/all/forwarding", "1"), ("ipv6/conf/default/accept_dad", "0")])?;
        self.sysctl(&[(&detection, "0"), (&off, "1"), (&off, "0")])
    }

    /// Makes a veth pair: `name` here with the options that `ip link add` takes, `peer` in the other namespace.
    ///
    /// # Errors
    /// A name is taken.
    pub fn wire(&self, name: &str, options: &str, other: &Namespace, peer: &str) -> Result<()> {
        let reference = other.reference();
        self.ip_batch(&format!("link add {name} {options} type veth peer name {peer} netns {reference}\n"))
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let path = self.path.clone();
        // Gone already if the folder was removed by hand; the mount dies with the launcher in any case.
        drop(self.launcher.call(move || umount2(&path, MntFlags::MNT_DETACH)));
        drop(fs::remove_file(&self.path));
    }
}
