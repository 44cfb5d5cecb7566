//! Probes of addresses and gateways, with strangers and routers that really answer: the gateway's namespace plays both.

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;
use spiderpool_lab::example::POOL;
use spiderpool_lab::{Capture, Packet, Payload, Pod, PodSpec, Product, wait_for};
use std::net::IpAddr;
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use crate::rig::{NET1, NET1_SIX, POOL_SIX, Rig, chain};

const CONFLICT: &str = "  detectIPConflict: true\n";
const GATEWAY: &str = "  detectGateway: true\n";
const SOON: Duration = Duration::from_secs(10);

/// A stranger takes an address, or lets go of it.
fn stranger(rig: &Rig, what: &str, address: IpAddr) -> Result<()> {
    let prefix = if address.is_ipv4() { "16" } else { "64 nodad" };
    rig.lab.topology().gateway.ip_batch(&format!("addr {what} {address}/{prefix} dev underlay\n"))
}

fn its_mac(rig: &Rig) -> Result<String> {
    let shown = rig.lab.topology().gateway.ip_json(&["link", "show", "underlay"])?;
    Ok(shown[0]["address"].as_str().context("no MAC")?.to_owned())
}

fn pod(rig: &Rig, number: u8) -> Result<Pod> {
    let name = format!("web-{number}");
    rig.lab.pod("worker01", PodSpec::new(&name, &format!("uid-{number}"), [10, 233, 73, number].into()))
}

fn is(rig: &Rig, address: IpAddr, state: &str) -> Result<Value> {
    let seen = rig.inspect().address(address)?;
    ensure!(seen["state"] == state, "not {state}: {seen}");
    Ok(seen)
}

fn addresses(result: &Value) -> Vec<String> {
    let ips = result["ips"].as_array().cloned().unwrap_or_default();
    ips.iter().filter_map(|ip| ip["address"].as_str()).map(str::to_owned).collect()
}

/// Rule: One holder, beyond this system: the Pod gets the next address, the stranger keeps its own in everybody's cache,
/// and once it is gone the address comes back.
#[test]
fn a_strangers_address_is_passed_over_until_it_is_free() -> Result<()> {
    let rig = Rig::start_with(CONFLICT)?;
    let first = pod(&rig, 1)?;
    stranger(&rig, "add", NET1.into())?;
    let result = rig.add(&first, &chain(&[POOL, POOL_SIX]), "net1")?;
    ensure!(addresses(&result) == ["10.6.212.146/16", "fd00:10:6::2e6/64"], "{result}");
    let seen = is(&rig, NET1.into(), "ADDRESS_STATE_QUARANTINED")?;
    ensure!(seen["usedBy"] == its_mac(&rig)?.as_str(), "{seen}");
    let kinds: Vec<&Value> = seen["history"].as_array().into_iter().flatten().map(|fact| &fact["kind"]).collect();
    ensure!(kinds == ["FACT_KIND_ALLOCATED", "FACT_KIND_TAKEN"], "{seen}");
    ensure!(rig.inspect().counts(POOL)?.quarantined == 1, "{:?}", rig.inspect().counts(POOL)?);
    rig.log_says(&["WARN", "A stranger uses an address of a pool", "address=10.6.212.145", &its_mac(&rig)?])?;
    // What was given beside it is not lost.
    wait_for("the other family's address to rest", SOON, || {
        Ok((rig.inspect().address(NET1_SIX)?["state"] == "ADDRESS_STATE_COOLING").then_some(()))
    })?;

    stranger(&rig, "add", NET1_SIX.into())?;
    let second = pod(&rig, 2)?;
    let result = rig.add(&second, &chain(&[POOL, POOL_SIX]), "net1")?;
    ensure!(addresses(&result) == ["10.6.212.147/16", "fd00:10:6::2e7/64"], "{result}");
    first.check(&chain(&[POOL, POOL_SIX]), "net1", &[])?;

    // A daemon that starts looks at once; else it is a minute.
    rig.node().daemon().restart()?;
    std::thread::sleep(Duration::from_secs(1));
    is(&rig, NET1.into(), "ADDRESS_STATE_QUARANTINED")?;
    stranger(&rig, "del", NET1.into())?;
    rig.node().daemon().restart()?;
    wait_for("a clean probe", SOON, || {
        Ok((rig.inspect().address(NET1)?["state"] == "ADDRESS_STATE_IDLE").then_some(()))
    })?;
    ensure!(rig.inspect().counts(POOL)?.quarantined == 0);
    Ok(())
}

/// Where strangers have everything the error names them; whoever tries after they left gets an address.
#[test]
fn a_pool_that_strangers_use_up_is_code_11_and_names_them() -> Result<()> {
    let rig = Rig::start()?;
    // The flag does what the SpiderCoordinator's field does.
    rig.node().daemon().stop()?;
    rig.node().daemon().start_with(&["--enable-ip-conflict-detection"])?;
    for last in 20..=29 {
        stranger(&rig, "add", [10, 8, 0, last].into())?;
    }
    let pod = pod(&rig, 1)?;
    let refused = pod.cni("add", &chain(&["10-8-v4"]), "net1", &[])?;
    let said = refused.stdout + &refused.stderr;
    let named = format!("10.8.0.20 by {}", its_mac(&rig)?);
    for words in ["addresses are used by strangers", named.as_str(), "and 5 more", "10 quarantined, 0 idle"] {
        ensure!(said.contains(words), "{words:?} is missing: {said}");
    }
    ensure!(rig.inspect().allocations()?.is_empty(), "nothing is left behind");
    let counts = rig.inspect().counts("10-8-v4")?;
    ensure!((counts.quarantined, counts.total) == (10, 10), "{counts:?}");
    // As kubelet does before it tries again: macvlan leaves its link behind.
    pod.del(&chain(&["10-8-v4"]), "net1", &[])?;
    stranger(&rig, "del", [10, 8, 0, 24].into())?;
    let result = rig.add(&pod, &chain(&["10-8-v4"]), "net1")?;
    ensure!(addresses(&result) == ["10.8.0.24/24"], "{result}");
    ensure!(rig.inspect().counts("10-8-v4")?.quarantined == 9);
    Ok(())
}

/// Rule: All or nothing.
#[test]
fn a_gateway_that_does_not_answer_is_code_11() -> Result<()> {
    let rig = Rig::start_with(GATEWAY)?;
    let gateway = &rig.lab.topology().gateway;
    let pod = pod(&rig, 1)?;
    let both = chain(&[POOL, POOL_SIX]);
    rig.add(&pod, &both, "net1")?;
    pod.del(&both, "net1", &[])?;
    gateway.ip_batch("addr del fd00:10:6::1/64 dev underlay\n")?;
    let refused = pod.cni("add", &both, "net1", &[])?;
    let said = refused.stdout + &refused.stderr;
    ensure!(said.contains("gateway fd00:10:6::1 does not answer on net1") && said.contains("detectGateway"), "{said}");
    ensure!(rig.inspect().allocations()?.is_empty(), "nothing is left behind");
    // IPv4 alone has its gateway.
    pod.del(&both, "net1", &[])?;
    rig.add(&pod, &chain(&[POOL]), "net1")?;
    Ok(())
}

/// As the runtime reads it: a CNI error on standard output, exit status 1. Rule: All or nothing.
#[test]
fn a_silent_gateway_is_code_11_on_the_programs_standard_output() -> Result<()> {
    let rig = Rig::start_with(GATEWAY)?;
    let gateway = &rig.lab.topology().gateway;
    let sandbox = rig.node().sandbox("bare")?;
    rig.node().make_macvlan(&sandbox, "net1")?;
    let shim = rig.node().shim("spiderpool").container("bare").sandbox(&sandbox).pod("default", "bare", "uid");
    let network = network()?;
    gateway.ip_batch("addr del 10.6.0.1/16 dev underlay\n")?;
    let error =
        shim.call("ADD", &network)?.error(11, &["gateway 10.6.0.1 does not answer on net1", "detectGateway"])?;
    ensure!(error["cniVersion"] == "1.0.0", "{error}");
    ensure!(rig.inspect().allocations()?.is_empty(), "nothing is left behind");
    ensure!(rig.node().figure("spiderpool_ipam_allocation_failures_total{code=\"11\"}")? == 1);
    ensure!(rig.node().figure("spiderpool_probes_total{outcome=\"unreachable\"}")? == 1);
    gateway.ip_batch("addr add 10.6.0.1/16 dev underlay\n")?;
    shim.call("ADD", &network)?.result().map(drop)
}

/// Off by default: somebody has both addresses, nobody is the gateway, and nobody is asked.
#[test]
fn nobody_is_asked_unless_that_is_switched_on() -> Result<()> {
    let rig = Rig::start()?;
    let gateway = &rig.lab.topology().gateway;
    gateway.ip_batch("addr del 10.6.0.1/16 dev underlay\naddr del fd00:10:6::1/64 dev underlay\n")?;
    stranger(&rig, "add", NET1.into())?;
    stranger(&rig, "add", NET1_SIX.into())?;
    let (first, second) = (pod(&rig, 1)?, pod(&rig, 2)?);
    let both = chain(&[POOL, POOL_SIX]);
    // Of IPv6, the group that all with these last digits belong to (RFC 4291, section 2.7.1): links have questions of
    // their own.
    let targets = ["10.6.212.145", "10.6.212.146", "ff02::1:ff00:2e5", "ff02::1:ff00:2e6"];
    let targets = targets.map(|target| target.parse::<IpAddr>().expect("an address"));
    let asked = |capture: &Capture| -> Result<Vec<Packet>> {
        let packets = capture.packets()?.into_iter().filter(|packet| packet.source.is_unspecified());
        Ok(packets.filter(|packet| targets.contains(&packet.destination)).collect())
    };
    let capture = Capture::start(gateway)?;
    let result = rig.add(&first, &both, "net1")?;
    ensure!(addresses(&result) == ["10.6.212.145/16", "fd00:10:6::2e5/64"], "{result}");
    let heard = asked(&capture)?;
    ensure!(heard.is_empty(), "{heard:?}");
    ensure!(!rig.node().figures()?.contains("spiderpool_probes_total{"), "{}", rig.node().figures()?);

    // The same is seen where it is switched on.
    rig.node().daemon().stop()?;
    rig.node().daemon().start_with(&["--enable-ip-conflict-detection"])?;
    let result = rig.add(&second, &both, "net1")?;
    ensure!(addresses(&result) == ["10.6.212.146/16", "fd00:10:6::2e6/64"], "{result}");
    let asked = asked(&capture)?;
    ensure!(asked.iter().filter(|packet| packet.payload == Payload::Arp(1)).count() == 3, "{asked:?}");
    ensure!(asked.iter().filter(|packet| packet.payload == Payload::Icmp(135)).count() == 3, "{asked:?}");
    ensure!(rig.node().figure("spiderpool_probes_total{outcome=\"clean\"}")? == 1);
    Ok(())
}

/// The IPAM plugin's configuration, as macvlan passes it on.
fn network() -> Result<Value> {
    let list: Value = serde_json::from_str(&chain(&[POOL]).to_string())?;
    let mut network = list["plugins"][0].clone();
    for key in ["name", "cniVersion"] {
        network[key] = list[key].clone();
    }
    Ok(network)
}

/// What cannot be probed is given out all the same, and said.
#[test]
fn where_nothing_can_be_probed_the_add_goes_on() -> Result<()> {
    let rig = Rig::start_with(&format!("{CONFLICT}{GATEWAY}"))?;
    let sandbox = rig.node().sandbox("bare")?;
    let shim = rig.node().shim("spiderpool").container("bare").sandbox(&sandbox).pod("default", "bare", "uid");
    let result = shim.call("ADD", network()?)?.result()?;
    ensure!(addresses(&result) == ["10.6.212.145/16"], "{result}");
    rig.log_says(&["WARN", "Addresses could not be probed", "there is no interface net1 yet"])?;
    Ok(())
}

/// Rule: Durable first. The daemon dies before a probe, or in the middle of one, and starts again: the ADD is answered from
/// the record, but not before that was probed to the end.
#[test]
fn a_probe_that_was_cut_short_is_made_again() -> Result<()> {
    dies_and_probes_again("ipam-add-recorded", 1, "DOWN")?;
    // The interface is to go down again.
    dies_and_probes_again("kernel-request", 2, "UP")
}

/// The daemon dies where it gets to a place so often, with the interface up or down.
fn dies_and_probes_again(point: &str, hit: u64, state: &str) -> Result<()> {
    let rig = Rig::start_with(CONFLICT)?;
    let (pod, daemon) = (pod(&rig, 1)?, rig.node().daemon());
    daemon.stop()?;
    daemon.use_programs(Product::with_fail_points()?)?;
    let finished = std::thread::scope(|scope| {
        daemon.start_failing(&[(point, hit)], &[])?;
        let add = scope.spawn(|| pod.cni("add", &chain(&[POOL]), "net1", &[]));
        let ended = daemon.ends_within(SOON)?.context("the ADD did not get to its record")?;
        ensure!(ended.signal() == Some(Signal::SIGKILL as i32), "{ended}");
        let link = pod.namespace().ip_json(&["link", "show", "net1"])?;
        ensure!(link[0]["operstate"] == state, "{point}: {link}");
        stranger(&rig, "add", NET1.into())?;
        daemon.start()?;
        add.join().expect("no panic")
    })?;
    let result = finished.success()?.json()?;
    ensure!(addresses(&result) == ["10.6.212.146/16"], "{result}");
    Ok(())
}
