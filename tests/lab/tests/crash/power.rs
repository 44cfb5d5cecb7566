//! Power cuts under load, on images of the disk.
//!
//! The journal lies on a file system in a file. While callers add and delete, the daemon is stopped at some moment and
//! the file is copied: what the daemon had handed to the kernel but not brought to the disk is not in the copy. The
//! next daemon starts on the copy, as after a power cut. Whatever was answered before must be there: addresses, and plans
//! of routes, whose rows are long enough to be written in pieces.

use anyhow::{Context, Result, anyhow, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use spiderpool_lab::{Lab, Namespace, Node, Pod, Program, Shim, comes_true, example, wait_for};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::image::Image;

const CUTS: u64 = 100;
const CALLERS: u64 = 6;
/// ADDs that are answered, and not deleted, before each cut.
const CALLS: u64 = 6;
/// Networks that a plan has routes to: its row is longer than what the journal writes in one piece.
const NETWORKS: usize = 60;
const POOL: &str = "power";
const POOL_TEXT: &str = "apiVersion: spiderpool.spidernet.io/v2beta1
kind: SpiderIPPool
metadata:
  name: power
spec:
  subnet: 10.8.0.0/16
  ips: [10.8.0.10-10.8.255.200]
";

fn config() -> Value {
    let ipam = json!({ "type": "spiderpool", "default_ipv4_ippool": [POOL] });
    json!({ "cniVersion": "1.0.0", "name": "underlay", "type": "macvlan", "ipam": ipam })
}

fn shim(node: &Node, container: &str, sandbox: &Namespace) -> Shim {
    node.shim("spiderpool").container(container).sandbox(sandbox).pod("default", container, container)
}

/// The disk that the journal lies on.
struct Disk<'a> {
    image: Image<'a>,
    cuts: u64,
}

impl<'a> Disk<'a> {
    fn make(node: &'a Node, folder: &Path) -> Result<Self> {
        Ok(Self { image: Image::make(node, folder, 64)?, cuts: 0 })
    }

    /// The power goes: the daemon ends, and only what was on the disk at that moment is left.
    fn cut(&mut self) -> Result<()> {
        let daemon = self.image.node.daemon();
        kill(Pid::from_raw(i32::try_from(daemon.id().context("no daemon runs")?)?), Signal::SIGSTOP)?;
        self.cuts += 1;
        let copy = self.image.file.with_file_name(format!("disk-{}", self.cuts));
        self.image.run(Program::new("cp").args(["--sparse=always"]).arg(&self.image.file).arg(&copy))?;
        daemon.kill()?;
        self.image.unmount()?;
        fs::remove_file(std::mem::replace(&mut self.image.file, copy))?;
        self.image.mount()
    }
}

/// What one caller knows to be so: containers with their addresses, as they were answered.
fn call_until(
    over: &AtomicBool,
    served: &AtomicU64,
    node: &Node,
    sandbox: &Namespace,
    name: &str,
) -> Result<BTreeMap<String, String>> {
    let mut known = BTreeMap::new();
    for turn in 0.. {
        if over.load(Ordering::Relaxed) {
            break;
        }
        let container = format!("{name}-{turn}");
        let shim = shim(node, &container, sandbox);
        let answer = shim.call("ADD", config())?;
        if answer.is_success() && turn % 3 != 0 {
            let result = answer.result()?;
            let address = result["ips"][0]["address"].as_str().context("no address")?;
            known.insert(container, address.to_owned());
            served.fetch_add(1, Ordering::Relaxed);
        } else {
            shim.call("DEL", config())?.silent()?;
        }
    }
    Ok(known)
}

/// The coordinator of one Pod, for one container after the other.
struct Plumber {
    pod: Pod,
    config: Value,
}

impl Plumber {
    /// The Pod has a `net1` that was made by hand.
    fn make(lab: &Lab, node: &Node) -> Result<Self> {
        let pod = lab.pod("worker01", example::nginx_rswak())?;
        node.make_macvlan(pod.namespace(), "net1")?;
        pod.namespace().ip_batch("addr add 10.6.212.150/16 dev net1\nlink set net1 up\n")?;
        let hijacked: Vec<String> = (0..NETWORKS).map(|third| format!("172.31.{third}.0/24")).collect();
        let previous = json!({
            "cniVersion": "1.0.0",
            "interfaces": [{ "name": "net1", "sandbox": pod.namespace().path() }],
            "ips": [{ "address": "10.6.212.150/16", "gateway": "10.6.0.1", "interface": 0 }],
        });
        let config = json!({
            "cniVersion": "1.0.0", "name": "planned", "type": "coordinator", "hijackCIDR": hijacked, "prevResult": previous,
        });
        Ok(Self { pod, config })
    }

    /// Containers with a plan, as it was answered.
    fn plan_until(&self, over: &AtomicBool, node: &Node, name: &str) -> Result<BTreeSet<String>> {
        let mut known = BTreeSet::new();
        for turn in 0.. {
            if over.load(Ordering::Relaxed) {
                break;
            }
            let container = format!("{name}-{turn}");
            let shim = node.shim("coordinator").container(&container).sandbox(self.pod.namespace());
            if shim.call("ADD", &self.config)?.is_success() && turn % 3 != 0 {
                known.insert(container);
            } else {
                shim.call("DEL", &self.config)?.silent()?;
            }
        }
        Ok(known)
    }

    /// Each of these has its plan, whole, and nobody else has one.
    fn judge(&self, lab: &Lab, node: &Node, known: &BTreeSet<String>) -> Result<()> {
        let inspect = lab.inspect(node);
        let plans: usize = inspect.node()?["plans"].as_str().context("no count of plans")?.parse()?;
        ensure!(plans == known.len(), "{plans} plans, {} were answered", known.len());
        for container in known {
            let record =
                inspect.call("spiderpool.node.v1.Inspect/GetContainer", &json!({ "container_id": container }))?;
            let plan = record["plan"].as_str().unwrap_or_default();
            let hijacked = plan.lines().filter(|line| line.contains("172.31.")).count();
            // In the Pod's main table and in net1's own.
            ensure!(hijacked == 2 * NETWORKS, "the plan of {container} has {hijacked} routes to networks: {plan}");
        }
        Ok(())
    }
}

fn listed(lab: &Lab, node: &Node) -> Result<BTreeMap<String, String>> {
    let text = |held: &Value, field: &str| held[field].as_str().unwrap_or_default().to_owned();
    let all = lab.inspect(node).allocations()?;
    Ok(all.iter().map(|held| (text(held, "containerId"), text(held, "ipv4"))).collect())
}

/// Rule: Durable first. Nothing that was answered is lost by a power cut, and no store is unreadable after one.
#[test]
fn what_was_answered_survives_power_cuts() -> Result<()> {
    let lab = Lab::start_with(vec![example::worker01()])?;
    let node = &lab.nodes()[0];
    node.standalone().write("power.yaml", POOL_TEXT)?;
    let mut disk = Disk::make(node, lab.folder())?;
    let flags = ["--cooldown", "0"];
    node.daemon().start_with(&flags)?;
    let journal = lab.inspect(node).node()?["journalId"].clone();
    let sandboxes: Vec<Namespace> =
        (0..CALLERS).map(|number| node.sandbox(&format!("s{number}"))).collect::<Result<_>>()?;
    let plumber = Plumber::make(&lab, node)?;
    let (mut known, mut planned, mut answered, mut plans) = (BTreeMap::new(), BTreeSet::new(), 0, 0);
    for cut in 0..CUTS {
        let (over, served) = (AtomicBool::new(false), AtomicU64::new(0));
        let answers = || served.load(Ordering::Relaxed);
        let (after, more) = thread::scope(|scope| -> Result<_> {
            let calls: Vec<_> = (0..CALLERS)
                .zip(&sandboxes)
                .map(|(caller, sandbox)| {
                    let (over, served, name) = (&over, &served, format!("r{cut}-c{caller}"));
                    scope.spawn(move || call_until(over, served, node, sandbox, &name))
                })
                .collect();
            let planning = scope.spawn(|| plumber.plan_until(&over, node, &format!("p{cut}")));
            // So many are answered on a slow machine too; then a moment later, which is another in each round.
            let under_way = || Ok((calls.iter().any(|call| call.is_finished()) || answers() >= CALLS).then_some(()));
            let answering = wait_for("calls to be answered", Duration::from_secs(20), under_way);
            thread::sleep(Duration::from_millis(cut * 37 % 61));
            let failed = answering.and_then(|()| disk.cut());
            over.store(true, Ordering::Relaxed);
            failed.and_then(|()| node.daemon().start_with(&flags))?;
            let mut after = BTreeMap::new();
            for call in calls {
                after.extend(call.join().map_err(|_| anyhow!("a caller panicked"))??);
            }
            Ok((after, planning.join().map_err(|_| anyhow!("a caller panicked"))??))
        })?;
        plans += more.len();
        planned.extend(more);
        answered += after.len();
        known.extend(after);
        // The last DEL may wait as a tombstone.
        comes_true(Duration::from_secs(20), || {
            let found = listed(&lab, node)?;
            ensure!(found == known, "{}", difference(&known, &found));
            plumber.judge(&lab, node, &planned)
        })
        .with_context(|| format!("cut {cut}"))?;
        ensure!(lab.inspect(node).node()?["journalId"] == journal, "cut {cut}: the journal began anew");
        if cut % 10 == 9 {
            for (number, container) in std::mem::take(&mut known).keys().enumerate() {
                shim(node, container, &sandboxes[number % sandboxes.len()]).call("DEL", config())?.silent()?;
            }
            for container in std::mem::take(&mut planned) {
                node.shim("coordinator").container(&container).call("DEL", &plumber.config)?.silent()?;
            }
        }
    }
    println!("{answered} addresses and {plans} plans were answered");
    ensure!(answered as u64 >= CUTS * CALLS, "{answered} calls in all are too few to mean something");
    ensure!(plans as u64 >= CUTS, "{plans} plans in all are too few to mean something");
    let unique: BTreeSet<_> = known.values().collect();
    ensure!(unique.len() == known.len(), "an address was given twice: {known:?}");
    Ok(())
}

fn difference(known: &BTreeMap<String, String>, found: &BTreeMap<String, String>) -> String {
    let lost: Vec<_> = known.iter().filter(|(container, address)| found.get(*container) != Some(address)).collect();
    let extra: Vec<_> = found.keys().filter(|container| !known.contains_key(*container)).collect();
    format!("lost: {lost:?}; there and not answered, or deleted: {extra:?}")
}
