//! A node with a large pool, its daemon's memory, and calls without a program in between.

use anyhow::{Context, Result};
use nix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};
use spiderpool_lab::{Lab, Namespace, Node, example};
use std::fs;

use crate::client::{number, text};

pub(crate) const POOL: &str = "large";
/// Addresses of the pool.
pub(crate) const ADDRESSES: u128 = 30 * 256;
const DOCUMENT: &str = "apiVersion: spiderpool.spidernet.io/v2beta1
kind: SpiderIPPool
metadata:
  name: large
spec:
  subnet: 10.8.0.0/16
  ips: [10.8.1.0-10.8.30.255]
";

/// A lab with one node.
pub(crate) struct Rig {
    pub(crate) lab: Lab,
}

impl Rig {
    /// The daemon runs, started by a program that becomes it, if one is given.
    pub(crate) fn start(wrapper: &[&str], flags: &[&str]) -> Result<Self> {
        let rig = Self { lab: Lab::start_with(vec![example::worker01()])? };
        rig.node().standalone().write("large.yaml", DOCUMENT)?;
        rig.node().daemon().start_under(wrapper, flags)?;
        Ok(rig)
    }

    pub(crate) fn node(&self) -> &Node {
        &self.lab.nodes()[0]
    }

    /// Resident memory of the daemon in KiB.
    pub(crate) fn memory(&self) -> Result<u64> {
        let process = self.node().daemon().id().context("no daemon runs")?;
        let status = fs::read_to_string(format!("/proc/{process}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        line.trim().trim_end_matches(" kB").parse().context("VmRSS")
    }
}

/// The network that names the pool.
pub(crate) fn config() -> Value {
    let ipam = json!({ "type": "spiderpool", "default_ipv4_ippool": [POOL] });
    json!({ "cniVersion": "1.1.0", "name": "underlay", "type": "macvlan", "ipam": ipam })
}

/// A CniRequest of the IPAM plugin that starts now.
pub(crate) fn request(container: &str, sandbox: &Namespace) -> Result<Vec<u8>> {
    let (mut stamp, mut message) = (Vec::new(), Vec::new());
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME)?;
    text(&mut stamp, 1, fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim());
    number(&mut stamp, 2, u64::try_from(now.tv_sec())? * 1_000_000_000 + u64::try_from(now.tv_nsec())?);
    number(&mut message, 1, 1);
    text(&mut message, 2, container);
    text(&mut message, 3, sandbox.path().to_string_lossy().as_bytes());
    text(&mut message, 4, "net1");
    let pod = format!("K8S_POD_NAMESPACE=default;K8S_POD_NAME={container};K8S_POD_UID={container}");
    text(&mut message, 5, pod);
    text(&mut message, 7, stamp);
    text(&mut message, 8, config().to_string());
    Ok(message)
}
