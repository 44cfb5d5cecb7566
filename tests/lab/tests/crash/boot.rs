//! Another boot: the journal answers for its history alone.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use spiderpool_lab::example::{self, POOL};
use spiderpool_lab::{Lab, Namespace, Node, Program, Shim};
use std::fs;
use std::path::Path;

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

fn config() -> Value {
    let ipam = json!({ "type": "spiderpool", "default_ipv4_ippool": [POOL] });
    json!({ "cniVersion": "1.0.0", "name": "underlay", "type": "macvlan", "ipam": ipam })
}

fn shim(node: &Node, container: &str, sandbox: &Namespace) -> Shim {
    node.shim("spiderpool").container(container).sandbox(sandbox).pod("default", container, container)
}

fn held(lab: &Lab, node: &Node) -> Result<Vec<String>> {
    let text = |held: &Value| held["containerId"].as_str().unwrap_or_default().to_owned();
    Ok(lab.inspect(node).allocations()?.iter().map(text).collect())
}

/// From now on the node's programs are in another boot.
pub(crate) fn reboot(node: &Node, folder: &Path, id: &str) -> Result<()> {
    let file = folder.join(id);
    fs::write(&file, format!("{id}\n"))?;
    node.namespace().run(&Program::new("mount").arg("--bind").arg(&file).arg(BOOT_ID))?.success().map(drop)
}

/// Back in the boot before.
pub(crate) fn undo_reboot(node: &Node) -> Result<()> {
    node.namespace().run(&Program::new("umount").arg(BOOT_ID))?.success().map(drop)
}

/// Rule: Last word by start. Nothing of the boot before is held; a DEL of it undoes nothing of this one.
#[test]
fn after_a_boot_everything_is_free_and_the_history_is_there() -> Result<()> {
    let lab = Lab::start_with(vec![example::worker01()])?;
    let node = &lab.nodes()[0];
    node.daemon().start()?;
    let before = lab.inspect(node).node()?["journalId"].clone();
    for container in ["c0", "c1", "c2"] {
        let sandbox = node.sandbox(container)?;
        shim(node, container, &sandbox).call("ADD", config())?.result()?;
        if container == "c2" {
            node.daemon().kill()?;
            shim(node, container, &sandbox).call("DEL", config())?.silent()?;
        }
    }
    // Held back, as by a slow disk.
    let (spool, aside) = (node.daemon().spool(), lab.folder().join("aside"));
    fs::rename(spool, &aside)?;
    reboot(node, lab.folder(), "11111111-2222-4333-8444-555555555555")?;
    node.daemon().start()?;
    let after = lab.inspect(node).node()?;
    ensure!(after["journalId"] != before && after["attachments"] == "0", "{before} {after}");
    ensure!(after["bootId"] == "11111111222243338444555555555555", "{after}");
    let counts = lab.inspect(node).counts(POOL)?;
    ensure!(counts.free == counts.total && counts.total == 30, "{counts:?}");
    let history = lab.inspect(node).address([10, 6, 212, 145])?["history"].clone();
    ensure!(history[0]["containerId"] == "c0", "{history}");

    let sandbox = node.sandbox("again")?;
    shim(node, "c1", &sandbox).call("DEL", config())?.silent()?;
    shim(node, "c2", &sandbox).call("ADD", config())?.result()?;
    fs::remove_dir_all(spool).or_else(|error| if spool.exists() { Err(error) } else { Ok(()) })?;
    fs::rename(&aside, spool)?;
    // An ADD takes what is in the spool first.
    shim(node, "c3", &sandbox).call("ADD", config())?.result()?;
    ensure!(fs::read_dir(spool)?.count() == 0, "the tombstone is carried out");
    ensure!(held(&lab, node)? == ["c2", "c3"], "{:?}", held(&lab, node)?);
    Ok(())
}

/// Rule: One holder. A journal that was copied from another node is no lease, in a boot of its own or, as in containers of
/// one machine, in the same.
#[test]
fn a_journal_of_another_node_gives_nothing_out() -> Result<()> {
    let lab = Lab::start()?;
    let (theirs, ours) = (lab.node("controller")?, lab.node("worker01")?);
    theirs.daemon().start()?;
    let sandbox = theirs.sandbox("a")?;
    let given = shim(theirs, "c0", &sandbox).call("ADD", config())?.result()?;
    let address = given["ips"][0]["address"].as_str().and_then(|text| text.split('/').next()).context("no address")?;
    for boot in [None, Some("66666666-7777-4888-8999-aaaaaaaaaaaa")] {
        if let Some(boot) = boot {
            reboot(ours, lab.folder(), boot)?;
        }
        theirs.daemon().kill()?;
        let journal = ours.daemon().state().join("journal");
        let copy = Program::new("cp").arg("-r").arg(theirs.daemon().state().join("journal")).arg(&journal);
        ours.namespace().run(&copy)?.success()?;
        theirs.daemon().start()?;
        ours.daemon().start()?;
        let (original, copy) = (lab.inspect(theirs).node()?, lab.inspect(ours).node()?);
        ensure!((original["bootId"] == copy["bootId"]) == boot.is_none(), "{original} {copy}");
        ensure!(original["journalId"] != copy["journalId"], "{original} {copy}");
        ensure!(original["attachments"] == "1" && copy["attachments"] == "0", "{original} {copy}");
        ensure!(lab.inspect(ours).counts(POOL)?.total == 30, "its own pool's addresses");
        let seen = lab.inspect(ours).address(address.parse::<std::net::IpAddr>()?)?;
        ensure!(seen["state"] == "ADDRESS_STATE_NOT_LEASED", "{seen}");
        let sandbox = ours.sandbox(boot.map_or("b", |_| "c"))?;
        let other = shim(ours, "c0", &sandbox).call("ADD", config())?.result()?;
        ensure!(other["ips"][0]["address"] == "10.6.212.145/16", "{other}");
        ours.daemon().kill()?;
        fs::remove_dir_all(&journal)?;
    }
    Ok(())
}

/// Rule: One holder. A machine that was cloned has the name and the state of the first.
#[test]
fn a_journal_of_another_machine_gives_nothing_out() -> Result<()> {
    let lab = Lab::start_with(vec![example::worker01()])?;
    let node = &lab.nodes()[0];
    let started = |machine: &str| -> Result<Value> {
        let file = lab.folder().join("machine-id");
        fs::write(&file, format!("{machine}\n"))?;
        node.daemon().start_with(&["--machine-id", file.to_str().context("a path")?])?;
        lab.inspect(node).node()
    };
    let first = started("0123456789abcdef0123456789abcdef")?;
    let sandbox = node.sandbox("a")?;
    shim(node, "c0", &sandbox).call("ADD", config())?.result()?;
    node.daemon().kill()?;
    let again = started("0123456789abcdef0123456789abcdef")?;
    ensure!(again["journalId"] == first["journalId"] && again["attachments"] == "1", "{first} {again}");
    node.daemon().kill()?;
    let clone = started("fedcba9876543210fedcba9876543210")?;
    ensure!(clone["journalId"] != first["journalId"] && clone["attachments"] == "0", "{first} {clone}");
    Ok(())
}
