//! An ADD again, an ADD after what was left behind, an ADD that fails: nothing twice, nothing left.

use anyhow::{Context, Result, ensure};
use serde_json::json;
use spiderpool_lab::example::POOL;
use spiderpool_lab::{Answer, Pod, PodSpec, Stopwatch, comes_true, wait_for};
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use crate::rig::{NET1, NET1_SIX, POOL_SIX, Rig, chain, routing};

/// No rule doubles, whichever of the interfaces is added again.
#[test]
fn an_add_again_changes_nothing() -> Result<()> {
    let rig = Rig::start()?;
    let pod = rig.dual_pod()?;
    let networks = [
        ("net1", chain(&[POOL, POOL_SIX]).default_route_nic("net2")),
        ("net2", chain(&["10-8-v4"]).default_route_nic("net2")),
        ("net3", chain(&["10-9-v4"]).with("podMACPrefix", "0a:1b").default_route_nic("net2")),
    ];
    let mut calls = Vec::new();
    for (interface, chain) in &networks {
        let result = rig.add(&pod, chain, interface)?;
        let (shim, config) = rig.coordinator(&pod, chain, interface, &result)?;
        let now = (routing(pod.namespace())?, routing(rig.host())?, rig.plan()?);
        calls.push((shim, config, result));
        for (shim, config, result) in calls.iter().rev().chain(&calls) {
            ensure!(shim.call("ADD", config)?.result()? == *result);
            let again = (routing(pod.namespace())?, routing(rig.host())?, rig.plan()?);
            ensure!(again == now, "after {interface}:\n{}\nbefore:\n{}", again.2, now.2);
        }
    }
    Ok(())
}

/// A Pod that went without DEL, and its address on another: stale routes and neighbours of it give way.
#[test]
fn what_is_left_of_an_address_gives_way() -> Result<()> {
    let rig = Rig::start()?;
    let pod = rig.pod()?;
    rig.host().ip_batch(&format!(
        "link add calidead type veth peer name calipeer\nlink set calidead up\n\
         route add {NET1}/32 dev calidead scope link table 500\n\
         neigh add {NET1} lladdr 02:00:00:00:00:09 dev calidead nud permanent\n"
    ))?;
    rig.add(&pod, &chain(&[POOL]), "net1")?;
    ensure!(pod.address("net1")?.0 == NET1);
    let left = routing(rig.host())?;
    ensure!(!left.lines().any(|line| line.contains("calidead") && line.contains(&NET1.to_string())), "{left}");
    rig.host().run(&spiderpool_lab::Program::ping(&[], NET1))?.success()?;
    Ok(())
}

/// A container whose record names another namespace: what that one wanted goes before anything else, and a failing ADD
/// brings none of it back.
#[test]
fn a_container_in_a_new_namespace_begins_anew() -> Result<()> {
    let rig = Rig::start()?;
    let before = routing(rig.host())?;
    let (old, new) = (rig.pod()?, rig.pod()?);
    plumb(&rig, &old, "10.6.212.150", "")?.result()?;
    ensure!(routing(rig.host())?.contains("10.6.212.150"));
    // The MAC address that the ADD would set is another link's already: the kernel refuses it.
    rig.host().ip_batch(
        "link add rival link ens192 address 0a:1b:0a:06:d4:97 type macvlan mode bridge\nlink set rival up\n",
    )?;
    plumb(&rig, &new, "10.6.212.151", "0a:1b")?.error(5, &["0a:1b:0a:06:d4:97"])?;
    let after = routing(rig.host())?;
    for left in ["10.6.212.150", "10.6.212.151", "lookup 500"] {
        ensure!(!after.contains(left), "{left} is still there:\n{after}");
    }
    ensure!(rig.inspect().node()?["plans"] == "0");
    plumb(&rig, &new, "10.6.212.151", "")?.result().context("after the failure")?;
    let shim = rig.node().shim("coordinator").container("c").sandbox(new.namespace());
    shim.call("DEL", json!({ "cniVersion": "1.0.0", "name": "macvlan-ens192" }))?.silent()?;
    rig.host().ip_batch("link del rival\n")?;
    drop((old, new));
    let left = routing(rig.host())?;
    ensure!(!left.contains("lookup 500") && !left.contains("10.6.212.15"), "{left}\nbefore:\n{before}");
    Ok(())
}

/// Rule: Live means held. A sandbox with a plan and no address of ours that ended while no daemon ran.
#[test]
fn a_plan_whose_sandbox_ended_goes_at_the_start() -> Result<()> {
    let rig = Rig::start()?;
    let pod = rig.pod()?;
    plumb(&rig, &pod, "10.6.212.150", "")?.result()?;
    ensure!(routing(rig.host())?.contains("lookup 500") && rig.inspect().node()?["plans"] == "1");
    rig.node().daemon().kill()?;
    drop(pod);
    ensure!(routing(rig.host())?.contains("lookup 500"), "the rule has no sandbox to go with");
    rig.node().daemon().start()?;
    ensure!(rig.inspect().node()?["plans"] == "0");
    let left = routing(rig.host())?;
    ensure!(!left.contains("lookup 500") && !left.contains("10.6.212.150"), "{left}");
    Ok(())
}

/// Rule: Live means held, and not longer. Sandboxes with addresses and routes end while the daemon runs, and nobody calls:
/// no DEL, no GC, no start.
#[test]
fn what_a_vanished_sandbox_had_is_free_within_a_round() -> Result<()> {
    let rig = Rig::start()?;
    rig.node().daemon().stop()?;
    rig.node().daemon().start_with(&["--round", "0.2", "--cooldown", "0"])?;
    let before = routing(rig.host())?;
    let both = chain(&[POOL, POOL_SIX]);
    let (first, second) = (rig.pod()?, rig.lab.pod("worker01", PodSpec::new("web", "uid", [10, 233, 73, 1].into()))?);
    rig.add(&first, &both, "net1")?;
    rig.add(&second, &both, "net1")?;
    let free = |addresses: [IpAddr; 2]| {
        wait_for("both addresses to be free", Duration::from_secs(10), || {
            let states = addresses.map(|address| rig.inspect().address(address).map(|seen| seen["state"].clone()));
            Ok(states.into_iter().all(|state| state.is_ok_and(|state| state == "ADDRESS_STATE_IDLE")).then_some(()))
        })
    };
    let stopwatch = Stopwatch::start();
    drop(first);
    free([NET1.into(), NET1_SIX.into()])?;
    // Its links answer for the addresses until the kernel has taken them down.
    ensure!(stopwatch.elapsed() >= Duration::from_secs(1), "{:?}", stopwatch.elapsed());
    // Who lives keeps all it has, and what both wanted.
    ensure!(rig.inspect().node()?["plans"] == "1" && rig.inspect().allocations()?.len() == 1);
    second.check(&both, "net1", &[])?;
    let (address, _) = second.address("net1")?;
    drop(second);
    free([address.into(), Ipv6Addr::from(u128::from(NET1_SIX) + 1).into()])?;
    ensure!(rig.inspect().node()?["plans"] == "0", "{}", rig.inspect().node()?);
    // The links of a namespace that is gone are there for a moment yet, with the routes that the overlay made for them.
    comes_true(Duration::from_secs(10), || {
        let after = routing(rig.host())?;
        ensure!(after == before, "{after}\nbefore:\n{before}");
        Ok(())
    })
}

/// ADD of the coordinator alone, as container `c`, on a `net1` that is made by hand; with `podMACPrefix`, if that is given.
fn plumb(rig: &Rig, pod: &Pod, address: &str, mac_prefix: &str) -> Result<Answer> {
    if !pod.namespace().ip(&["link"])?.contains("net1") {
        rig.node().make_macvlan(pod.namespace(), "net1")?;
        pod.namespace().ip_batch(&format!("addr add {address}/16 dev net1\nlink set net1 up\n"))?;
    }
    let mut config = json!({
        "cniVersion": "1.0.0", "name": "macvlan-ens192", "type": "coordinator", "prevResult": {
            "cniVersion": "1.0.0", "interfaces": [{ "name": "net1", "sandbox": pod.namespace().path() }],
            "ips": [{ "address": format!("{address}/16"), "gateway": "10.6.0.1", "interface": 0 }],
        },
    });
    if !mac_prefix.is_empty() {
        config["podMACPrefix"] = mac_prefix.into();
    }
    rig.node().shim("coordinator").container("c").sandbox(pod.namespace()).call("ADD", &config)
}
