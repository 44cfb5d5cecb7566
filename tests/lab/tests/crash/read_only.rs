//! The disk of the journal becomes read-only, as ext4 does when it finds an error.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use spiderpool_lab::{Lab, Namespace, Node, Program, Shim, example, wait_for};
use std::fs;
use std::time::Duration;

use crate::image::Image;

const SOON: Duration = Duration::from_secs(5);

fn config() -> Value {
    let ipam = json!({ "type": "spiderpool", "default_ipv4_ippool": [example::POOL] });
    json!({ "cniVersion": "1.0.0", "name": "underlay", "type": "macvlan", "ipam": ipam })
}

fn shim(node: &Node, container: &str, sandbox: &Namespace) -> Shim {
    node.shim("spiderpool").container(container).sandbox(sandbox).pod("default", container, container)
}

/// Rule: Durable first. What cannot be written was not answered; what was answered is there when the disk is. Rule: One
/// daemon, one journal. A failed fsync ends the process.
#[test]
fn a_disk_that_becomes_read_only_ends_the_daemon_and_nothing_is_lost() -> Result<()> {
    let lab = Lab::start_with(vec![example::worker01()])?;
    let node = &lab.nodes()[0];
    let disk = Image::make(node, lab.folder(), 48)?;
    node.daemon().start()?;
    let journal = lab.inspect(node).node()?["journalId"].clone();
    let sandbox = node.sandbox("a")?;
    for container in ["c0", "c1"] {
        shim(node, container, &sandbox).call("ADD", config())?.result()?;
    }
    disk.fail()?;
    shim(node, "c0", &sandbox).call("DEL", config())?.silent()?;
    let status = wait_for("the daemon to end", SOON, || node.daemon().ended())?;
    let log = node.daemon().log()?;
    let last = log.lines().last().unwrap_or_default();
    let said = last.contains("spiderpool-agent: journal commit failed: ") && last.contains("Read-only file system");
    ensure!(!status.success() && said, "{status} {log}");
    ensure!(fs::read_dir(node.daemon().spool())?.count() == 1, "the DEL left a tombstone");

    let failed = node.daemon().start().err().map(|error| format!("{error:#}")).unwrap_or_default();
    ensure!(failed.contains("spiderpool-agent: ") && failed.contains("Read-only file system"), "{failed}");
    node.daemon().ended()?;

    disk.unmount()?;
    // 1: errors were corrected.
    let check = node.namespace().run(&Program::new("e2fsck").arg("-p").arg(&disk.file))?;
    ensure!(check.status.code().is_some_and(|code| code <= 1), "{} {}", check.status, check.stdout);
    disk.mount()?;
    node.daemon().start()?;
    ensure!(lab.inspect(node).node()?["journalId"] == journal, "the journal is the same");
    let held = lab.inspect(node).allocations()?;
    ensure!(held.iter().map(|held| &held["containerId"]).eq(["c1"]), "{held:?}");
    shim(node, "c2", &sandbox).call("ADD", config())?.result().map(drop)
}
