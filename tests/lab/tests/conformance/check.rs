//! CHECK of both programs: the record and the kernel are as ADD left them, or each difference is named.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use spiderpool_lab::{Chain, Namespace, Pod, example};

use crate::rig::{Rig, VERSIONS, example_pool, network};

#[test]
fn ipam_is_held_against_the_record() -> Result<()> {
    let rig = Rig::start()?;
    let (sandbox, other) = (rig.node().sandbox("a")?, rig.node().sandbox("b")?);
    let shim = rig.ipam("c", &sandbox);
    let with = |version: &str, result: &Value| {
        let mut config = network(version, &json!({ "default_ipv4_ippool": ["10-6-v4"] }));
        config["prevResult"] = result.clone();
        config
    };
    let result = shim.call("ADD", example_pool())?.result()?;
    for version in VERSIONS.into_iter().filter(|version| *version >= "0.4.0") {
        shim.call("CHECK", with(version, &result))?.silent()?;
    }
    shim.call("CHECK", example_pool())?.error(7, &["prevResult"])?;
    rig.ipam("nobody", &sandbox).call("CHECK", with("1.0.0", &result))?.error(3, &["nobody", "net1"])?;
    shim.clone().interface("net2").call("CHECK", with("1.0.0", &result))?.error(3, &["net2"])?;
    let mut wrong = result.clone();
    wrong["ips"][0]["address"] = "10.6.212.99/16".into();
    shim.call("CHECK", with("1.0.0", &wrong))?.error(101, &["10.6.212.145/16"])?;
    for gateway in ["10.6.0.9".into(), Value::Null] {
        let mut wrong = result.clone();
        wrong["ips"][0]["gateway"] = gateway;
        shim.call("CHECK", with("1.0.0", &wrong))?.error(101, &["10.6.212.145/16 gateway 10.6.0.1"])?;
    }
    shim.clone().sandbox(&other).call("CHECK", with("1.0.0", &result))?.error(101, &["CNI_NETNS"])?;
    shim.call("DEL", example_pool())?.silent()?;
    shim.call("CHECK", with("1.0.0", &result))?.error(3, &["c"])?;
    Ok(())
}

/// What CHECK of the whole chain says, as the runner prints it; empty if it is content.
fn complaint(pod: &Pod, chain: &Chain) -> Result<String> {
    let finished = pod.cni("check", chain, "net1", &[])?;
    if finished.status.success() {
        ensure!(finished.stdout.trim().is_empty(), "CHECK should print nothing: {}", finished.stdout);
        return Ok(String::new());
    }
    Ok(finished.stdout + &finished.stderr)
}

/// Takes an object away by hand, sees it named, puts it back.
fn missed(pod: &Pod, chain: &Chain, namespace: &Namespace, take: &str, back: &str, named: &str) -> Result<()> {
    namespace.ip_batch(take)?;
    let complaint = complaint(pod, chain)?;
    ensure!(complaint.contains(named), "after `{take}` CHECK should name {named:?}: {complaint}");
    namespace.ip_batch(back)?;
    ensure!(self::complaint(pod, chain)?.is_empty(), "after `{back}`: {}", self::complaint(pod, chain)?);
    Ok(())
}

/// The chain of real macvlan, spiderpool and coordinator, checked by the reference runner.
#[test]
fn a_chain_is_held_against_the_kernel_and_each_object_is_named() -> Result<()> {
    let rig = Rig::start()?;
    let pod = rig.lab.pod("worker01", example::nginx_rswak())?;
    for version in ["0.4.0", "1.0.0"] {
        let chain = Chain::overlay().version(version);
        pod.add(&chain, "net1", &[]).with_context(|| rig.node().daemon().log().unwrap_or_default())?;
        let (net1, _) = pod.address("net1")?;
        let (inside, host, link) = (pod.namespace(), rig.node().namespace(), pod.host_link());
        ensure!(complaint(&pod, &chain)?.is_empty(), "right after ADD: {}", complaint(&pod, &chain)?);

        let rule = format!("rule add from {net1} lookup 101 pref 32760\n");
        let named = format!("rule 32760: from {net1} lookup 101");
        missed(&pod, &chain, inside, "rule del pref 32760\n", &rule, &named)?;
        let route = "route add 10.233.0.0/18 via 10.6.212.132 dev eth0 table 101\n";
        let named = "table 101: 10.233.0.0/18 via 10.6.212.132 dev eth0";
        missed(&pod, &chain, inside, "route del 10.233.0.0/18 table 101\n", route, named)?;
        let address = inside.ip_json(&["link", "show", "eth0"])?;
        let mac = address[0]["address"].as_str().context("no MAC address")?.to_owned();
        let neighbour = format!("neigh add {net1} lladdr {mac} dev {link} nud permanent\n");
        let named = format!("neighbour {net1} dev {link}");
        missed(&pod, &chain, host, &format!("neigh del {net1} dev {link}\n"), &neighbour, &named)?;
        let route = format!("route add {net1} dev {link} scope link table 500\n");
        let named = format!("table 500: {net1} dev {link}");
        missed(&pod, &chain, host, &format!("route del {net1} table 500\n"), &route, &named)?;

        // Several at once: each is named.
        inside.ip_batch("rule del pref 32760\nroute del default table 101\n")?;
        let both = complaint(&pod, &chain)?;
        ensure!(both.contains("rule 32760") && both.contains("table 101: default"), "{both}");
        pod.del(&chain, "net1", &[])?;
    }
    let node = rig.inspect().node()?;
    ensure!(node["attachments"] == "0" && node["plans"] == "0", "{node}");
    Ok(())
}

#[test]
fn the_coordinator_knows_nothing_of_a_stranger() -> Result<()> {
    let rig = Rig::start()?;
    let pod = rig.lab.pod("worker01", example::nginx_rswak())?;
    let shim = rig.node().shim("coordinator").container("c").sandbox(pod.namespace());
    let config = json!({ "cniVersion": "1.0.0", "name": "n", "type": "coordinator", "mode": "overlay" });
    shim.call("CHECK", config)?.error(3, &["net1", "container c"])?;
    Ok(())
}
