//! The disk of the journal is full: ADDs are refused, DELs end, and room that is made is used without a restart.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use spiderpool_lab::{Lab, Namespace, Node, Shim, example, wait_for};
use std::fs;
use std::net::Ipv4Addr;
use std::time::Duration;

use crate::image::Image;

const SOON: Duration = Duration::from_secs(5);
/// The spool is looked at every 5 s.
const LATER: Duration = Duration::from_secs(15);
const FLAGS: [&str; 2] = ["--cooldown", "0"];
const MEGABYTES: u64 = 48;
const HOLDERS: usize = 20;

fn config() -> Value {
    let ipam = json!({ "type": "spiderpool", "default_ipv4_ippool": [example::POOL] });
    json!({ "cniVersion": "1.1.0", "name": "underlay", "type": "macvlan", "ipam": ipam })
}

fn shim(node: &Node, container: &str, sandbox: &Namespace) -> Shim {
    node.shim("spiderpool").container(container).sandbox(sandbox).pod("default", container, container)
}

/// Rule: DEL always ends.
#[test]
fn adds_are_refused_on_a_full_disk_and_dels_end() -> Result<()> {
    let lab = Lab::start_with(vec![example::worker01()])?;
    let node = &lab.nodes()[0];
    let disk = Image::make(node, lab.folder(), MEGABYTES)?;
    node.daemon().start_with(&FLAGS)?;
    let process = node.daemon().id();
    let sandbox = node.sandbox("a")?;
    for number in 0..HOLDERS {
        shim(node, &format!("c{number}"), &sandbox).call("ADD", config())?.result()?;
    }
    ensure!(node.figure("spiderpool_state_reserve_bytes")? == 8 << 20);

    let fill = disk.fill("fill")?;
    let words = ["the disk is full", &*disk.place().to_string_lossy(), "bytes free", "make room"];
    shim(node, "late", &sandbox).call("ADD", config())?.error(11, &words)?;
    let chained =
        json!({ "cniVersion": "1.1.0", "name": "n", "type": "coordinator", "prevResult": { "cniVersion": "1.1.0" } });
    let coordinator = node.shim("coordinator").container("late").sandbox(&sandbox);
    coordinator.call("ADD", chained)?.error(11, &words)?;
    shim(node, "c0", &sandbox).call("STATUS", config())?.silent()?;
    for number in 0..HOLDERS {
        shim(node, &format!("c{number}"), &sandbox).call("DEL", config())?.silent()?;
    }
    wait_for("every address to be free", SOON, || {
        let counts = lab.inspect(node).counts(example::POOL)?;
        Ok((counts.in_use == 0 && counts.free == counts.total).then_some(()))
    })?;
    // What the DELs were given is not there for ADDs.
    shim(node, "late", &sandbox).call("ADD", config())?.error(11, &words)?;
    ensure!(node.figure("spiderpool_state_reserve_bytes")? == 0);
    ensure!(node.figure("spiderpool_state_free_bytes")? < 8 << 20);

    disk.remove(&fill)?;
    shim(node, "late", &sandbox).call("ADD", config())?.result()?;
    ensure!(node.figure("spiderpool_state_reserve_bytes")? == 8 << 20, "the reserve is made anew");
    ensure!(node.daemon().id() == process && node.daemon().ended()?.is_none(), "the same process serves");
    let log = node.daemon().log()?;
    for line in ["The disk of the state folder is nearly full", "The disk of the state folder has room again"] {
        ensure!(log.matches(line).count() == 1, "{line}: {log}");
    }
    ensure!(lab.inspect(node).node()?["attachments"] == "1");
    Ok(())
}

/// Rule: DEL always ends. When even the reserve is used up, nothing is written that could spoil the journal: DELs wait in
/// the spool, and are carried out once there is room. A daemon that starts then ends, and says why.
#[test]
fn a_disk_without_any_room_holds_everything_up_and_nothing_is_lost() -> Result<()> {
    let lab = Lab::start_with(vec![example::worker01()])?;
    let node = &lab.nodes()[0];
    let disk = Image::make(node, lab.folder(), MEGABYTES)?;
    node.daemon().start_with(&FLAGS)?;
    let journal = lab.inspect(node).node()?["journalId"].clone();
    let sandbox = node.sandbox("a")?;
    for container in ["c0", "c1", "c2", "c3"] {
        shim(node, container, &sandbox).call("ADD", config())?.result()?;
    }
    let first = disk.fill("first")?;
    shim(node, "c0", &sandbox).call("DEL", config())?.silent()?;
    // Others take what was in reserve, too.
    let second = disk.fill("second")?;
    shim(node, "c1", &sandbox).call("DEL", config())?.silent()?;
    let spooled = || anyhow::Ok(fs::read_dir(node.daemon().spool())?.count());
    ensure!(spooled()? == 1, "the DEL left a tombstone: {}", spooled()?);
    let words = ["the disk is full", &*disk.place().to_string_lossy(), "make room"];
    shim(node, "late", &sandbox).call("ADD", config())?.error(11, &words)?;
    shim(node, "late", &sandbox).call("STATUS", config())?.silent()?;
    // Whatever else would be written waits too, and what is known is told.
    node.standalone().write_pool(&[(Ipv4Addr::new(10, 6, 213, 1), Ipv4Addr::new(10, 6, 213, 200))])?;
    let waits = "Nothing can be recorded; what happens on this node waits for room on the disk";
    wait_for("events to wait", SOON, || Ok(node.daemon().log()?.contains(waits).then_some(())))?;
    ensure!(lab.inspect(node).allocations()?.len() == 3);
    let told = lab.inspect(node).node()?["full"].clone();
    ensure!(told.as_str().is_some_and(|told| told.starts_with("the disk is full: ")), "{told}");
    let grown = || anyhow::Ok(lab.inspect(node).counts(example::POOL)?.free >= 190);
    ensure!(!grown()?, "nothing was granted");
    let process = node.daemon().id();
    disk.remove(&second)?;
    wait_for("the tombstone to be carried out", LATER, || Ok((spooled()? == 0).then_some(())))?;
    wait_for("the pool's new addresses", SOON, || Ok(grown()?.then_some(())))?;
    ensure!(
        lab.inspect(node).allocations()?.len() == 2
            && node.daemon().id() == process
            && node.daemon().ended()?.is_none()
    );

    let second = disk.fill("second")?;
    // It ends when it is told to, whatever waits.
    node.standalone().write_pool(&[(Ipv4Addr::new(10, 6, 213, 1), Ipv4Addr::new(10, 6, 213, 201))])?;
    wait_for("events to wait again", SOON, || Ok((node.daemon().log()?.matches(waits).count() == 2).then_some(())))?;
    node.daemon().stop()?;
    let failed = node.daemon().start_with(&FLAGS).err().map(|error| format!("{error:#}")).unwrap_or_default();
    ensure!(
        failed.contains("spiderpool-agent: the disk is full: ") && failed.contains("3145728 are needed"),
        "{failed}"
    );
    node.daemon().ended()?;
    let third = disk.fill("third")?;
    // A spool on the same disk takes no tombstone, and the program says so.
    let settings = node.cni_bin().join("spidernet-cni.json");
    let before = fs::read_to_string(&settings)?;
    let aside: Value = serde_json::from_str(&before)?;
    let aside = json!({ "socket": aside["socket"], "spool": disk.place().join("spool"), "timeout": 1 });
    fs::write(&settings, aside.to_string())?;

    let words = ["cannot leave its request in the spool", "No space left on device"];
    shim(node, "c2", &sandbox).call("DEL", config())?.error(5, &words)?;
    fs::write(&settings, before)?;

    for file in [first, second, third] {
        disk.remove(&file)?;
    }
    node.daemon().start_with(&FLAGS)?;
    ensure!(lab.inspect(node).node()?["journalId"] == journal, "the journal is the same");
    let held = lab.inspect(node).allocations()?;
    ensure!(held.iter().map(|held| &held["containerId"]).eq(["c2", "c3"]), "{held:?}");
    shim(node, "c2", &sandbox).call("DEL", config())?.silent()
}
