//! A DEL while no daemon serves leaves a tombstone, and the next daemon carries it out.

use anyhow::{Result, ensure};
use serde_json::Value;
use spiderpool_lab::wait_for;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use crate::rig::{Document, Rig, SOON, address, example_pool, pools};

fn held(rig: &Rig) -> Result<Vec<String>> {
    let text = |held: &Value| held["containerId"].as_str().unwrap_or_default().to_owned();
    Ok(rig.inspect().allocations()?.iter().map(text).collect())
}

/// Rule: DEL always ends. The address is free again after the kernel shows it gone and the cooldown.
#[test]
fn a_del_without_a_daemon_is_carried_out_at_its_start() -> Result<()> {
    let rig = Rig::start_with(&["--cooldown", "0.5"])?;
    rig.pool(&Document::pool("one", "10.8.0.0/24", "10.8.0.10"))?;
    let (sandbox, other) = (rig.node().sandbox("a")?, rig.node().sandbox("b")?);
    rig.ipam("c", &sandbox).call("ADD", pools(&["one"]))?.result()?;
    sandbox.ip(&["addr", "add", "10.8.0.10/24", "dev", "lo"])?;
    rig.node().daemon().kill()?;
    let stopwatch = spiderpool_lab::Stopwatch::start();
    rig.ipam("c", &sandbox).call("DEL", pools(&["one"]))?.silent()?;
    ensure!(stopwatch.elapsed() < Duration::from_secs(1), "DEL should not wait: {:?}", stopwatch.elapsed());
    ensure!(rig.spooled()?.len() == 1, "{:?}", rig.spooled()?);
    let mode = fs::metadata(rig.node().daemon().spool())?.permissions().mode() & 0o777;
    ensure!(mode == 0o700, "{mode:o}");

    rig.node().daemon().start_with(&["--cooldown", "0.5"])?;
    ensure!(rig.spooled()?.is_empty() && held(&rig)?.is_empty(), "drained before it serves: {:?}", rig.spooled()?);
    ensure!(rig.inspect().counts("one")?.dying == 1, "{:?}", rig.inspect().counts("one")?);
    sandbox.ip(&["addr", "del", "10.8.0.10/24", "dev", "lo"])?;
    wait_for("the address to be free", SOON, || Ok((rig.inspect().counts("one")?.free == 1).then_some(())))?;
    let result = rig.ipam("d", &other).call("ADD", pools(&["one"]))?.result()?;
    ensure!(address(&result)? == "10.8.0.10");
    Ok(())
}

/// Rule: Last word by start. A tombstone outdoes what began before it, and nothing that began after it.
#[test]
fn an_add_after_the_tombstone_is_not_undone_by_it() -> Result<()> {
    let rig = Rig::start()?;
    let sandbox = rig.node().sandbox("a")?;
    let shim = rig.ipam("c", &sandbox);
    shim.call("ADD", example_pool())?.result()?;
    rig.node().daemon().kill()?;
    shim.call("DEL", example_pool())?.silent()?;
    let result = std::thread::scope(|scope| -> Result<_> {
        let caller = scope.spawn(|| shim.call("ADD", example_pool()));
        std::thread::sleep(Duration::from_millis(100));
        rig.node().daemon().start()?;
        caller.join().map_err(|_| anyhow::anyhow!("the caller panicked"))??.result()
    })?;
    ensure!(address(&result)? != "10.6.212.145", "a new life, a new address: {result}");
    ensure!(held(&rig)? == ["c"] && rig.spooled()?.is_empty());
    Ok(())
}

/// Tombstones may appear while the daemon serves: an ADD of the attachment takes them first, and nobody forgets them.
#[test]
fn a_tombstone_that_appears_is_taken_before_the_add_and_in_any_case() -> Result<()> {
    let rig = Rig::start()?;
    let sandbox = rig.node().sandbox("a")?;
    let aside = rig.lab.folder().join("tombstones");
    for container in ["c", "d"] {
        rig.ipam(container, &sandbox).call("ADD", example_pool())?.result()?;
    }
    rig.node().daemon().stop()?;
    for container in ["c", "d"] {
        rig.ipam(container, &sandbox).call("DEL", example_pool())?.silent()?;
    }
    let spool = rig.node().daemon().spool();
    fs::rename(spool, &aside)?;
    rig.node().daemon().start()?;
    ensure!(held(&rig)? == ["c", "d"], "nothing to drain yet");
    // By a rename each, whole.
    fs::create_dir_all(spool)?;
    fs::write(spool.join("junk.tombstone"), "not whole")?;
    for file in fs::read_dir(&aside)? {
        let file = file?;
        fs::rename(file.path(), spool.join(file.file_name()))?;
    }
    let result = rig.ipam("c", &sandbox).call("ADD", example_pool())?.result()?;
    ensure!(address(&result)? != "10.6.212.145", "the old life ended first: {result}");
    wait_for("the other tombstone to be carried out", Duration::from_secs(8), || {
        Ok((held(&rig)? == ["c"]).then_some(()))
    })?;
    // Junk is set aside under a name that is not read again, and said.
    ensure!(rig.spooled()? == ["junk"], "{:?}", rig.spooled()?);
    rig.logged(&["not whole", "junk.tombstone"])?;
    Ok(())
}

/// A DEL of the coordinator goes the same way: the routes on the host are withdrawn.
#[test]
fn a_coordinator_s_tombstone_withdraws_its_routes() -> Result<()> {
    let rig = Rig::start()?;
    let pod = rig.lab.pod("worker01", spiderpool_lab::example::nginx_rswak())?;
    let chain = spiderpool_lab::Chain::overlay();
    pod.add(&chain, "net1", &[])?;
    let host = rig.node().namespace();
    ensure!(host.ip(&["rule"])?.contains("lookup 500"));
    rig.node().daemon().kill()?;
    pod.del(&chain, "net1", &[])?;
    ensure!(rig.spooled()?.len() == 2, "{:?}", rig.spooled()?);
    rig.node().daemon().start()?;
    ensure!(!host.ip(&["rule"])?.contains("lookup 500"), "{}", host.ip(&["rule"])?);
    let node = rig.inspect().node()?;
    ensure!(node["attachments"] == "0" && node["plans"] == "0", "{node}");
    // The Pod is as Calico made it.
    let rules = pod.namespace().ip(&["rule"])?;
    ensure!(rules.lines().count() == 3, "{rules}");
    wait_for("the address to be gone", SOON, || Ok((rig.inspect().counts("10-6-v4")?.dying == 0).then_some(())))
}
