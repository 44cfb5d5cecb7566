//! Programs that are given too much, or are killed.

use anyhow::{Result, anyhow, ensure};
use serde_json::json;
use spiderpool_lab::{Namespace, Shim, wait_for};
use std::thread;
use std::time::Duration;

use crate::client::{Connection, text};
use crate::rig::{ADDRESSES, POOL, Rig, config, request};

const SOON: Duration = Duration::from_secs(5);
const MEGABYTE: usize = 1 << 20;

fn shim(rig: &Rig, container: &str, sandbox: &Namespace) -> Shim {
    rig.node().shim("spiderpool").container(container).sandbox(sandbox).pod("default", container, container)
}

/// A megabyte of standard input is the most that either program takes, and what goes round them is bounded too.
#[test]
fn more_than_a_megabyte_is_refused() -> Result<()> {
    let rig = Rig::start(&[], &[])?;
    let sandbox = rig.node().sandbox("a")?;
    let before = rig.memory()?;
    let padded = |size: usize| {
        let mut config = config();
        config["type"] = "coordinator".into();
        config["padding"] = "x".repeat(size).into();
        config.to_string()
    };
    let coordinator = rig.node().shim("coordinator").container("c").sandbox(&sandbox);
    // The daemon has read it: it misses the result of the plugin before.
    coordinator.call("ADD", padded(MEGABYTE - 500))?.error(7, &["prevResult is missing"])?;
    for program in [shim(&rig, "c", &sandbox), coordinator] {
        program.call("ADD", padded(MEGABYTE))?.error(6, &["larger than 1048576 bytes"])?;
        program.call("DEL", padded(8 * MEGABYTE))?.error(6, &["larger than 1048576 bytes"])?;
    }
    let mut message = request("c", &sandbox)?;
    text(&mut message, 8, " ".repeat(8 * MEGABYTE));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let socket = rig.node().daemon().socket().to_owned();
    let refused = runtime.block_on(async { Connection::open(&socket).await?.cni("Add", &message).await });
    ensure!(refused.is_err(), "{refused:?}");
    shim(&rig, "c", &sandbox).call("ADD", config())?.result()?;
    let after = rig.memory()?;
    ensure!(after < before + (16 << 10), "{before} KiB, then {after} KiB");
    Ok(())
}

/// Rule: All or nothing. Whatever the moment in which an ADD's program is killed, its DEL leaves nothing behind.
#[test]
fn a_program_may_be_killed_at_any_moment() -> Result<()> {
    let rig = Rig::start(&[], &["--cooldown", "0"])?;
    let sandbox = rig.node().sandbox("a")?;
    let mut answered = 0;
    for turn in 0..100_u64 {
        let caller = shim(&rig, &format!("c{turn}"), &sandbox);
        let life = Duration::from_micros(300 + turn * 80);
        answered += u64::from(caller.call_killed(life, "ADD", config())?.is_success());
        caller.call_killed(life, "DEL", config())?;
        caller.call("DEL", config())?.silent()?;
    }
    ensure!(answered < 100, "some were killed before they were answered");
    wait_for("every address to be free", SOON, || {
        let counts = rig.lab.inspect(rig.node()).counts(POOL)?;
        Ok((counts.in_use == 0 && counts.free == ADDRESSES).then_some(()))
    })
}

/// One that waits for an address when its program is killed waits no longer.
#[test]
fn an_add_whose_program_was_killed_is_abandoned() -> Result<()> {
    let rig = Rig::start(&[], &["--cooldown", "0", "--budget", "60"])?;
    let single = "apiVersion: spiderpool.spidernet.io/v2beta1\nkind: SpiderIPPool\nmetadata:\n  name: single\n\
                  spec:\n  subnet: 10.9.0.0/24\n  ips: [10.9.0.10]\n";
    rig.node().standalone().write("single.yaml", single)?;
    wait_for("the pool", SOON, || Ok((rig.lab.inspect(rig.node()).counts("single")?.total == 1).then_some(())))?;
    let mut config = config();
    config["ipam"]["default_ipv4_ippool"] = json!(["single"]);
    let (first, second) = (rig.node().sandbox("a")?, rig.node().sandbox("b")?);
    shim(&rig, "first", &first).call("ADD", &config)?.result()?;
    first.ip(&["addr", "add", "10.9.0.10/24", "dev", "lo"])?;
    shim(&rig, "first", &first).call("DEL", &config)?.silent()?;
    let waits = |count: &str| {
        let waiting = || Ok((rig.lab.inspect(rig.node()).node()?["waiting"] == count).then_some(()));
        wait_for(&format!("{count} to wait"), SOON, waiting)
    };
    thread::scope(|scope| -> Result<()> {
        let killed = scope.spawn(|| shim(&rig, "second", &second).call_killed(Duration::from_secs(2), "ADD", &config));
        waits("1")?;
        killed.join().map_err(|_| anyhow!("the caller panicked"))??;
        waits("0")
    })?;
    wait_for("the log to say so", SOON, || {
        Ok(rig.node().daemon().log()?.contains("the caller gave up while it waited").then_some(()))
    })?;
    first.ip(&["addr", "flush", "dev", "lo"])?;
    wait_for("the address to be free", SOON, || {
        Ok((rig.lab.inspect(rig.node()).counts("single")?.free == 1).then_some(()))
    })?;
    shim(&rig, "second", &second).call("DEL", &config)?.silent()
}
