//! What the figures were taken on.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use spiderpool_lab::Stopwatch;

use crate::figures::quantile;

/// Appends that the disk is asked to make durable.
const APPENDS: usize = 200;

/// One line about the machine, and the folder where daemon and peer keep their state.
pub(crate) fn facts(state: &Path) -> Result<String> {
    let cores = thread::available_parallelism().context("count the cores")?;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").context("read the kernel's release")?;
    let (kind, sync) = (file_system(state)?, durable_append(state)?);
    Ok(format!(
        "{cores} cores, Linux {}, state on {kind}; append of 4 KiB and fdatasync: p50 {:.2} ms",
        kernel.trim(),
        sync.as_secs_f64() * 1e3
    ))
}

/// The type of the file system that a folder is on (proc(5), mountinfo).
fn file_system(folder: &Path) -> Result<String> {
    let device = fs::metadata(folder).with_context(|| format!("look at {}", folder.display()))?.dev();
    let device = format!("{}:{}", nix::libc::major(device), nix::libc::minor(device));
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("read the mounts")?;
    let mount = mounts.lines().find(|line| line.split(' ').nth(2) == Some(&device));
    let kind = mount.and_then(|line| line.split_once(" - ")).and_then(|(_, after)| after.split(' ').next());
    Ok(kind.unwrap_or("an unknown file system").to_owned())
}

fn durable_append(folder: &Path) -> Result<Duration> {
    let path = folder.join("append");
    let mut file = File::create(&path).with_context(|| format!("make {}", path.display()))?;
    let mut samples = Vec::new();
    for _ in 0..APPENDS {
        let clock = Stopwatch::start();
        file.write_all(&[1; 4096]).and_then(|()| file.sync_data()).context("append durably")?;
        samples.push(clock.elapsed());
    }
    fs::remove_file(&path).context("remove the file of appends")?;
    Ok(quantile(&samples, 0.5))
}

/// Memory of a process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    /// Bytes resident now.
    pub(crate) resident: u64,
    /// Most bytes that were ever resident.
    pub(crate) highest: u64,
}

impl Memory {
    /// Reads VmRSS and VmHWM (proc(5), status).
    pub(crate) fn of(process: u32) -> Result<Self> {
        let text = fs::read_to_string(format!("/proc/{process}/status")).context("read the daemon's status")?;
        let field = |name: &str| {
            let value =
                text.lines().find_map(|line| line.strip_prefix(name)).and_then(|rest| rest.split_whitespace().next());
            let kibibytes: u64 = value.with_context(|| format!("no {name} in the daemon's status"))?.parse()?;
            anyhow::Ok(kibibytes * 1024)
        };
        Ok(Self { resident: field("VmRSS:")?, highest: field("VmHWM:")? })
    }
}
