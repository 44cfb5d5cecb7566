//! What every test needs: a node whose daemon runs, calls of the IPAM plugin, documents of pools.

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use spiderpool_lab::example::{self, POOL};
use spiderpool_lab::{Inspect, Lab, Namespace, Node, Shim, wait_for};
use std::fs;
use std::time::Duration;

/// The versions of the CNI specification that the programs speak.
pub(crate) const VERSIONS: [&str; 5] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];
/// For what happens right after something else did.
pub(crate) const SOON: Duration = Duration::from_secs(5);
/// A network whose addresses come from the example's pool.
pub(crate) const NETWORK: &str = "macvlan-ens192";

/// A lab with the node worker01.
pub(crate) struct Rig {
    pub(crate) lab: Lab,
}

impl Rig {
    /// The daemon does not run yet, but the programs are installed.
    pub(crate) fn without_daemon() -> Result<Self> {
        let rig = Self { lab: Lab::start_with(vec![example::worker01()])? };
        rig.node().daemon().install_shims()?;
        Ok(rig)
    }

    /// The daemon runs.
    pub(crate) fn start() -> Result<Self> {
        Self::start_with(&[])
    }

    /// The daemon runs with more flags.
    pub(crate) fn start_with(flags: &[&str]) -> Result<Self> {
        let rig = Self { lab: Lab::start_with(vec![example::worker01()])? };
        rig.node().daemon().start_with(flags)?;
        Ok(rig)
    }

    pub(crate) fn node(&self) -> &Node {
        &self.lab.nodes()[0]
    }

    pub(crate) fn inspect(&self) -> Inspect {
        self.lab.inspect(self.node())
    }

    /// The IPAM program, for an attachment.
    pub(crate) fn ipam(&self, container: &str, sandbox: &Namespace) -> Shim {
        let uid = format!("uid-of-{container}");
        self.node().shim("spiderpool").container(container).sandbox(sandbox).pod("default", container, &uid)
    }

    /// Writes a pool and waits until the daemon has it.
    pub(crate) fn pool(&self, pool: &Document) -> Result<()> {
        self.node().standalone().write(&format!("{}.yaml", pool.name), &pool.text())?;
        wait_for(&format!("pool {}", pool.name), SOON, || {
            let listed = self.inspect().pools()?;
            Ok(listed.iter().any(|listed| listed["name"] == pool.name && listed["subnet"] == pool.subnet).then_some(()))
        })
    }

    /// Waits until the daemon's log has a line with all the words.
    pub(crate) fn logged(&self, words: &[&str]) -> Result<String> {
        wait_for(&format!("a line of the log with {words:?}"), SOON, || {
            let log = self.node().daemon().log()?;
            let line = log.lines().find(|line| words.iter().all(|word| line.contains(word)));
            Ok(line.map(str::to_owned))
        })
    }

    /// The names of files in the spool; none if it was never made.
    pub(crate) fn spooled(&self) -> Result<Vec<String>> {
        let folder = self.node().daemon().spool();
        if !folder.exists() {
            return Ok(Vec::new());
        }
        fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }

    /// This boot's stamp as a request carries it.
    pub(crate) fn stamp(&self) -> Result<Stamp> {
        let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned();
        let uptime = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME)?;
        let seconds = u64::try_from(uptime.tv_sec())?;
        Ok(Stamp { boot_id, nanoseconds: seconds * 1_000_000_000 + u64::try_from(uptime.tv_nsec())? })
    }

    /// A request of the IPAM plugin as gRPC takes it, with a stamp of its own.
    pub(crate) fn request(&self, container: &str, sandbox: &Namespace, started: &Stamp, config: &Value) -> Value {
        json!({
            "plugin": "PLUGIN_IPAM",
            "container_id": container,
            "netns": sandbox.path().to_string_lossy(),
            "interface": "net1",
            "args": format!("K8S_POD_NAMESPACE=default;K8S_POD_NAME={container};K8S_POD_UID=uid-of-{container}"),
            "path": self.node().cni_path(),
            "started": { "boot_id": started.boot_id, "boottime_ns": started.nanoseconds.to_string() },
            "config": config.to_string(),
        })
    }
}

/// When a program started.
#[derive(Clone, Debug)]
pub(crate) struct Stamp {
    pub(crate) boot_id: String,
    pub(crate) nanoseconds: u64,
}

impl Stamp {
    /// Later, or with a negative number earlier.
    pub(crate) fn plus(&self, milliseconds: i64) -> Self {
        Self { nanoseconds: self.nanoseconds.saturating_add_signed(milliseconds * 1_000_000), ..self.clone() }
    }
}

/// A SpiderIPPool.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    pub(crate) name: String,
    pub(crate) subnet: String,
    spec: Vec<String>,
}

impl Document {
    /// A pool with one range.
    pub(crate) fn pool(name: &str, subnet: &str, range: &str) -> Self {
        let document = Self { name: name.to_owned(), subnet: subnet.to_owned(), spec: Vec::new() };
        document.with(&format!("ips: [\"{range}\"]"))
    }

    /// With a further line of its spec.
    pub(crate) fn with(mut self, line: &str) -> Self {
        self.spec.push(line.to_owned());
        self
    }

    pub(crate) fn text(&self) -> String {
        let Self { name, subnet, spec } = self;
        format!(
            "apiVersion: spiderpool.spidernet.io/v2beta1\nkind: SpiderIPPool\nmetadata:\n  name: {name}\n\
             spec:\n  subnet: \"{subnet}\"\n  {}\n",
            spec.join("\n  ")
        )
    }
}

/// A network's configuration with these keys of `ipam`.
pub(crate) fn network(version: &str, ipam: &Value) -> Value {
    let mut ipam = ipam.clone();
    ipam["type"] = "spiderpool".into();
    json!({ "cniVersion": version, "name": NETWORK, "type": "macvlan", "master": "ens192", "ipam": ipam })
}

/// A network that names pools for IPv4, in version 1.0.0.
pub(crate) fn pools(names: &[&str]) -> Value {
    network("1.0.0", &json!({ "default_ipv4_ippool": names }))
}

/// A network that names the example's pool.
pub(crate) fn example_pool() -> Value {
    pools(&[POOL])
}

/// The only address of a result, without its prefix length.
pub(crate) fn address(result: &Value) -> Result<String> {
    let ips = result["ips"].as_array().with_context(|| format!("no ips: {result}"))?;
    let [ip] = ips.as_slice() else { bail!("not one address: {result}") };
    let text = ip["address"].as_str().with_context(|| format!("no address: {result}"))?;
    Ok(text.split('/').next().unwrap_or_default().to_owned())
}

/// Holds two values to be equal, and says which they are without ending the test's clean-up.
pub(crate) fn same(found: &Value, expected: &Value) -> Result<()> {
    ensure!(found == expected, "expected {expected}\nfound    {found}");
    Ok(())
}
