//! DEL of the IPAM plugin: it always ends, and the last word is by start.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use spiderpool_lab::wait_for;
use std::thread;

use crate::rig::{Document, Rig, SOON, address, example_pool, network, pools};

fn held(rig: &Rig) -> Result<Vec<String>> {
    let text = |held: &Value| held["containerId"].as_str().unwrap_or_default().to_owned();
    Ok(rig.inspect().allocations()?.iter().map(text).collect())
}

/// Rule: DEL always ends.
#[test]
fn del_ends_well_whatever_is_there() -> Result<()> {
    let rig = Rig::start()?;
    let sandbox = rig.node().sandbox("a")?;
    let shim = rig.ipam("c", &sandbox);
    shim.call("DEL", example_pool())?.silent()?;
    let first = shim.call("ADD", example_pool())?.result()?;
    for _ in 0..3 {
        shim.call("DEL", example_pool())?.silent()?;
    }
    ensure!(held(&rig)?.is_empty());
    // An ADD that began after them is served anew.
    let second = shim.call("ADD", example_pool())?.result()?;
    ensure!(address(&first)? != address(&second)?, "the address should rest: {second}");

    // Without a namespace, with a configuration that ADD would refuse, in another version.
    let wrong = network("0.3.0", &json!({ "default_ipv4_ippool": 5, "match_master_subnet": true }));
    shim.clone().without("CNI_NETNS").without("CNI_ARGS").call("DEL", wrong)?.silent()?;
    ensure!(held(&rig)?.is_empty());

    // With the namespace gone, and one whose path leads elsewhere.
    shim.call("ADD", example_pool())?.result()?;
    drop(sandbox);
    shim.call("DEL", example_pool())?.silent()?;
    shim.clone().variable("CNI_NETNS", "/etc/hostname").call("DEL", example_pool())?.silent()?;
    ensure!(held(&rig)?.is_empty());
    ensure!(rig.spooled()?.is_empty(), "the daemon answered each");
    Ok(())
}

/// Rule: DEL always ends. It reads records, never the pools.
#[test]
fn del_needs_no_pool() -> Result<()> {
    let rig = Rig::start()?;
    rig.pool(&Document::pool("p", "10.8.0.0/24", "10.8.0.10-10.8.0.19"))?;
    let sandbox = rig.node().sandbox("a")?;
    rig.ipam("c", &sandbox).call("ADD", pools(&["p"]))?.result()?;
    rig.node().standalone().remove("p.yaml")?;
    rig.logged(&["Withdrew"])?;
    rig.ipam("c", &sandbox).call("DEL", pools(&["p"]))?.silent()?;
    wait_for("the pool to leave the list", SOON, || {
        Ok(rig.inspect().pools()?.iter().all(|pool| pool["name"] != "p").then_some(()))
    })
}

/// Rule: Last word by start. The DEL arrives before the ADD that began earlier.
#[test]
fn a_del_that_began_later_refuses_an_add_that_arrives_after_it() -> Result<()> {
    let rig = Rig::start()?;
    let sandbox = rig.node().sandbox("a")?;
    let now = rig.stamp()?;
    let request = |started| rig.request("c", &sandbox, &started, &example_pool());
    let inspect = rig.inspect();
    ensure!(inspect.cni("Del", &request(now.plus(-100)))? == Ok(Value::Null));
    for earlier in [-200, -100] {
        let error = inspect.cni("Add", &request(now.plus(earlier)))?.expect_err("an ADD that began before");
        ensure!(
            error["code"] == 11 && error["msg"].as_str().is_some_and(|msg| msg.contains("started later")),
            "{error}"
        );
    }
    ensure!(held(&rig)?.is_empty());
    // It holds over a restart.
    rig.node().daemon().kill()?;
    rig.node().daemon().start()?;
    inspect.cni("Add", &request(now.plus(-150)))?.expect_err("an ADD that began before");
    inspect.cni("Add", &request(now.plus(-50)))?.map_err(|error| anyhow::anyhow!("a later ADD: {error}"))?;

    // A DEL of the life before, late: what began after it stays.
    ensure!(inspect.cni("Del", &request(now.plus(-60)))? == Ok(Value::Null));
    ensure!(held(&rig)? == ["c"]);
    // A retry of ADD renews the start.
    inspect.cni("Add", &request(now.plus(0)))?.map_err(|error| anyhow::anyhow!("the retry: {error}"))?;
    ensure!(inspect.cni("Del", &request(now.plus(-20)))? == Ok(Value::Null));
    ensure!(held(&rig)? == ["c"]);
    ensure!(inspect.cni("Del", &request(rig.stamp()?))? == Ok(Value::Null));
    ensure!(held(&rig)?.is_empty());
    Ok(())
}

/// Rule: Last word by start. An ADD that waits for an address is evicted.
#[test]
fn a_del_evicts_an_add_that_waits() -> Result<()> {
    let rig = Rig::start()?;
    rig.pool(&Document::pool("one", "10.8.0.0/24", "10.8.0.10"))?;
    let (first, second) = (rig.node().sandbox("a")?, rig.node().sandbox("b")?);
    rig.ipam("first", &first).call("ADD", pools(&["one"]))?.result()?;
    // Dying: the next ADD waits for it.
    first.ip(&["addr", "add", "10.8.0.10/24", "dev", "lo"])?;
    rig.ipam("first", &first).call("DEL", pools(&["one"]))?.silent()?;
    let waiting = thread::scope(|scope| -> Result<_> {
        let caller = scope.spawn(|| rig.ipam("second", &second).call("ADD", pools(&["one"])));
        wait_for("the ADD to wait", SOON, || Ok((rig.inspect().node()?["waiting"] == "1").then_some(())))?;
        rig.ipam("second", &second).call("DEL", pools(&["one"]))?.silent()?;
        ensure!(rig.inspect().node()?["waiting"] == "0");
        caller.join().map_err(|_| anyhow::anyhow!("the caller panicked"))?
    })?;
    waiting.error(11, &["started later"])?;
    first.ip(&["addr", "del", "10.8.0.10/24", "dev", "lo"])?;
    wait_for("the address to be gone", SOON, || Ok((rig.inspect().counts("one")?.dying == 0).then_some(())))?;
    ensure!(held(&rig)?.is_empty(), "nobody may have got it");
    Ok(())
}

/// Rule: Live means held. An address is dying until the kernel shows it gone; then the cooldown; then it is free.
#[test]
fn a_released_address_is_dying_until_the_kernel_shows_it_gone() -> Result<()> {
    let rig = Rig::start_with(&["--cooldown", "1"])?;
    rig.pool(&Document::pool("one", "10.8.0.0/24", "10.8.0.10"))?;
    let (first, second) = (rig.node().sandbox("a")?, rig.node().sandbox("b")?);
    let state = || -> Result<String> {
        let seen = rig.inspect().address([10, 8, 0, 10])?;
        Ok(seen["state"].as_str().unwrap_or_default().trim_start_matches("ADDRESS_STATE_").to_owned())
    };
    ensure!(state()? == "IDLE");
    rig.ipam("first", &first).call("ADD", pools(&["one"]))?.result()?;
    ensure!(state()? == "IN_USE");
    first.ip(&["addr", "add", "10.8.0.10/24", "dev", "lo"])?;
    rig.ipam("first", &first).call("DEL", pools(&["one"]))?.silent()?;
    thread::sleep(std::time::Duration::from_millis(300));
    ensure!(state()? == "DYING", "the kernel still has it: {}", state()?);
    // Also over a kill.
    rig.node().daemon().kill()?;
    rig.node().daemon().start_with(&["--cooldown", "1"])?;
    ensure!(state()? == "DYING", "after a restart: {}", state()?);

    // Under pressure it is given out while it cools, but not while it is dying.
    let given = thread::scope(|scope| -> Result<_> {
        let caller = scope.spawn(|| rig.ipam("second", &second).call("ADD", pools(&["one"])));
        wait_for("the ADD to wait", SOON, || Ok((rig.inspect().node()?["waiting"] == "1").then_some(())))?;
        first.ip(&["addr", "del", "10.8.0.10/24", "dev", "lo"])?;
        caller.join().map_err(|_| anyhow::anyhow!("the caller panicked"))?
    })?;
    ensure!(address(&given.result()?)? == "10.8.0.10");
    rig.ipam("second", &second).call("DEL", pools(&["one"]))?.silent()?;
    wait_for("the address to cool", SOON, || Ok((state()? == "COOLING").then_some(())))?;
    wait_for("the cooldown to end", SOON, || Ok((state()? == "IDLE").then_some(())))
}

/// Rule: Live means held, and not longer: whoever waits for a dying address gets it soon after it is gone, however long
/// it had been dying by then.
#[test]
fn an_add_that_waits_for_a_dying_address_has_it_looked_for() -> Result<()> {
    let rig = Rig::start_with(&["--budget", "3"])?;
    rig.pool(&Document::pool("one", "10.8.0.0/24", "10.8.0.10"))?;
    let (first, second) = (rig.node().sandbox("a")?, rig.node().sandbox("b")?);
    rig.ipam("first", &first).call("ADD", pools(&["one"]))?.result()?;
    first.ip(&["addr", "add", "10.8.0.10/24", "dev", "lo"])?;
    rig.ipam("first", &first).call("DEL", pools(&["one"]))?.silent()?;
    thread::sleep(std::time::Duration::from_secs(4));
    first.ip(&["addr", "del", "10.8.0.10/24", "dev", "lo"])?;
    rig.ipam("second", &second).call("ADD", pools(&["one"]))?.result().map(drop)
}

/// An ADD that waits selects again when the world changes: addresses that a pool gets meanwhile serve it.
#[test]
fn an_add_that_waits_gets_an_address_that_its_pool_gets_meanwhile() -> Result<()> {
    let rig = Rig::start_with(&["--budget", "6"])?;
    rig.pool(&Document::pool("one", "10.8.0.0/24", "10.8.0.10"))?;
    let (first, second) = (rig.node().sandbox("a")?, rig.node().sandbox("b")?);
    rig.ipam("first", &first).call("ADD", pools(&["one"]))?.result()?;
    first.ip(&["addr", "add", "10.8.0.10/24", "dev", "lo"])?;
    rig.ipam("first", &first).call("DEL", pools(&["one"]))?.silent()?;
    thread::scope(|scope| {
        let waits = scope.spawn(|| rig.ipam("second", &second).call("ADD", pools(&["one"])));
        thread::sleep(std::time::Duration::from_millis(500));
        rig.pool(&Document::pool("one", "10.8.0.0/24", "10.8.0.10-10.8.0.11"))?;
        let answer = waits.join().map_err(|_| anyhow::anyhow!("the caller panicked"))??.result()?;
        ensure!(answer["ips"][0]["address"] == "10.8.0.11/24", "{answer}");
        Ok(())
    })
}
