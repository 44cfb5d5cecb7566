//! What a Pod or a node may look like, and what must not come of it.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use spiderpool_lab::example::POOL;
use spiderpool_lab::{Pod, Shim};

use crate::rig::{ETH0, NODE, Rig, all, calico, chain, cluster, leaves_by, own, routes, routing, rules, table};

/// The coordinator on a `net1` that was made by hand, with these addresses.
fn by_hand(rig: &Rig, pod: &Pod, addresses: &[&str]) -> Result<(Shim, Value)> {
    rig.node().make_macvlan(pod.namespace(), "net1")?;
    let lines: String = addresses.iter().map(|address| format!("addr add {address} dev net1\n")).collect();
    pod.namespace().ip_batch(&format!("{lines}link set net1 up\nroute prepend default via 10.6.0.1 dev net1\n"))?;
    let ips: Vec<Value> =
        addresses.iter().map(|address| json!({ "address": address, "gateway": "10.6.0.1", "interface": 0 })).collect();
    let config = json!({
        "cniVersion": "1.0.0", "name": "by-hand", "type": "coordinator", "prevResult": {
            "cniVersion": "1.0.0", "interfaces": [{ "name": "net1", "sandbox": pod.namespace().path() }], "ips": ips,
        },
    });
    Ok((rig.node().shim("coordinator").container("c").sandbox(pod.namespace()), config))
}

/// With metric and MTU, and with a next hop that no table leads to.
#[test]
fn routes_are_moved_whole() -> Result<()> {
    let rig = Rig::start()?;
    let pod = rig.pod()?;
    let inside = pod.namespace();
    // The one route without its next hop in any table, the other with a metric.
    inside.ip_batch(
        "route del default\nroute del 169.254.1.1 dev eth0\nroute add default via 169.254.1.1 dev eth0 onlink mtu 1400\n\
         route add default via 169.254.1.1 dev eth0 onlink metric 50\n",
    )?;
    let before = (routing(inside)?, routing(rig.host())?);
    let chain = chain(&[POOL]).default_route_nic("net1");
    rig.add(&pod, &chain, "net1")?;
    let moved =
        ["default via 169.254.1.1 dev eth0 onlink mtu 1400", "default via 169.254.1.1 dev eth0 metric 50 onlink"];
    let moved = moved.map(str::to_owned);
    let sorted = |line: &String| {
        let mut words: Vec<&str> = line.split_whitespace().collect();
        words.sort_unstable();
        words.join(" ")
    };
    let printed = routes(inside, "-4", "101")?;
    let found: Vec<String> =
        printed.lines().filter(|line| line.starts_with("default")).map(|line| sorted(&line.to_owned())).collect();
    ensure!(moved.iter().all(|line| found.contains(&sorted(line))) && found.len() == 2, "{printed}");
    table(inside, "-4", "main", &all(&[&own("net1"), &cluster()]))?;
    pod.check(&chain, "net1", &[])?;
    pod.del(&chain, "net1", &[])?;
    ensure!((routing(inside)?, routing(rig.host())?) == before, "{}\nbefore:\n{}", routing(inside)?, before.0);
    Ok(())
}

/// Not those of links that are down or of a container network; those of a link whose name only begins like one are.
#[test]
fn the_nodes_addresses_are_those_of_its_own_links_that_are_up() -> Result<()> {
    let rig = Rig::start()?;
    rig.host().ip_batch(
        "link add ens224 type bridge\naddr add 10.91.0.1/24 dev ens224\n\
         link add cilium_host type bridge\naddr add 10.92.0.1/24 dev cilium_host\nlink set cilium_host up\n\
         link add docker0 type bridge\naddr add 10.93.0.1/24 dev docker0\nlink set docker0 up\n\
         link add ciliu0 type bridge\naddr add 10.94.0.1/24 dev ciliu0\nlink set ciliu0 up\n",
    )?;
    let pod = rig.pod()?;
    rig.add(&pod, &chain(&[POOL]), "net1")?;
    let other = "10.94.0.1 dev eth0 scope link".to_owned();
    table(
        pod.namespace(),
        "-4",
        "main",
        &all(&[&calico(), &own("net1")[1..], &cluster(), std::slice::from_ref(&other)]),
    )?;
    table(pod.namespace(), "-4", "101", &all(&[&own("net1"), &cluster(), &[other]]))?;
    let (net1, _) = pod.address("net1")?;
    ensure!(leaves_by(&pod, &["-I", &net1.to_string()], std::net::Ipv4Addr::new(10, 94, 0, 1))?.0 == "eth0");
    ensure!(leaves_by(&pod, &[], NODE)?.0 == "eth0");
    Ok(())
}

/// Beside it no link of the node leads to the Pod, and nothing may be made on a wrong one.
#[test]
fn an_eth0_that_is_no_veth_is_refused() -> Result<()> {
    let rig = Rig::start()?;
    let pod = rig.pod()?;
    pod.namespace().ip_batch("link del eth0\n")?;
    rig.node().make_macvlan(pod.namespace(), "eth0")?;
    pod.namespace().ip_batch("addr add 10.6.212.77/16 dev eth0\nlink set eth0 up\n")?;
    let before = routing(rig.host())?;
    let (shim, config) = by_hand(&rig, &pod, &["10.6.212.150/16"])?;
    shim.call("ADD", &config)?.error(7, &["eth0", "is no veth to this node (it is macvlan)", "podDefaultCniNic"])?;
    ensure!(routing(rig.host())? == before && rig.inspect().node()?["plans"] == "0");
    Ok(())
}

#[test]
fn two_addresses_of_an_interface_have_a_rule_each_and_one_table() -> Result<()> {
    let rig = Rig::start()?;
    let pod = rig.pod()?;
    let (shim, config) = by_hand(&rig, &pod, &["10.6.212.150/16", "10.6.212.151/16"])?;
    let before = (routing(pod.namespace())?, routing(rig.host())?);
    shim.call("ADD", &config)?.result()?;
    let from = |address: &str| format!("32760: from {address} lookup 101");
    let base = format!("32762: from {ETH0} lookup 100");
    rules(pod.namespace(), "-4", &[from("10.6.212.150"), from("10.6.212.151"), base])?;
    for address in ["10.6.212.150", "10.6.212.151"] {
        ensure!(leaves_by(&pod, &["-I", address], std::net::Ipv4Addr::new(10, 77, 0, 1))?.0 == "net1");
        rig.host().run(&spiderpool_lab::Program::new("ping").args(["-c", "1", "-W", "2", address]))?.success()?;
    }
    shim.call("CHECK", &config)?.silent()?;
    shim.call("DEL", &config)?.silent()?;
    ensure!((routing(pod.namespace())?, routing(rig.host())?) == before);
    Ok(())
}
