//! Several interfaces: the default route NIC naming each of them in turn, in which order they go, and two in one subnet.

use anyhow::{Context, Result, ensure};
use spiderpool_lab::example::POOL;
use spiderpool_lab::{Chain, Pod};
use std::net::Ipv4Addr;

use crate::rig::{
    ETH0, NET1, NET2, NODE, Rig, THREE, all, calico, chain, cluster, leaves_by, own, routing, rules, table,
};

const BEYOND: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);

/// The chain of one of the three, with the default route NIC that all of them name.
fn naming(pool: &str, nic: Option<&str>) -> Chain {
    let chain = chain(&[pool]);
    nic.map_or(chain.clone(), |nic| chain.default_route_nic(nic))
}

fn add_three(rig: &Rig, pod: &Pod, nic: Option<&str>) -> Result<()> {
    for (interface, pool, _) in THREE {
        rig.add(pod, &naming(pool, nic), interface).with_context(|| format!("{interface}, naming {nic:?}"))?;
    }
    Ok(())
}

/// What docs/routes.md derives for three interfaces of which `keeper`, or eth0, has the default route.
fn as_derived(pod: &Pod, keeper: Option<&str>) -> Result<()> {
    let inside = pod.namespace();
    let number = |interface: &str| interface.trim_start_matches("net").parse::<u32>().unwrap_or_default();
    let mut expected = vec![format!("32762: from {ETH0} lookup {}", 100 + keeper.map_or(0, number))];
    let mut main = all(&[&calico()[1..], &cluster()]);
    main.push(keeper.map_or_else(|| calico()[0].clone(), |keeper| own(keeper)[0].clone()));
    for (interface, _, address) in THREE {
        let [default, subnet] = own(interface);
        main.push(subnet.clone());
        let cur = 100 + number(interface);
        if keeper == Some(interface) {
            table(inside, "-4", &cur.to_string(), &all(&[&calico(), &cluster()]))?;
        } else {
            expected.push(format!("{}: from {address} lookup {cur}", 32861 - cur));
            table(inside, "-4", &cur.to_string(), &all(&[&[default, subnet], &cluster()]))?;
        }
    }
    rules(inside, "-4", &expected)?;
    table(inside, "-4", "main", &main)?;
    let by_calico = if keeper.is_none() { calico()[..1].to_vec() } else { Vec::new() };
    table(inside, "-4", "100", &by_calico)
}

/// Also while net1 is added and the name is that of an interface that comes later.
#[test]
fn the_default_route_nic_may_be_any_of_three() -> Result<()> {
    for nic in [None, Some("eth0"), Some("net1"), Some("net2"), Some("net3")] {
        let rig = Rig::start()?;
        let pod = rig.pod()?;
        let before = (routing(pod.namespace())?, routing(rig.host())?);
        add_three(&rig, &pod, nic)?;
        let keeper = nic.filter(|nic| *nic != "eth0");
        as_derived(&pod, keeper).with_context(|| format!("naming {nic:?}"))?;
        let (link, source) = leaves_by(&pod, &[], BEYOND)?;
        let first = THREE.into_iter().find(|(interface, ..)| Some(*interface) == keeper);
        let expected = first.map_or(("eth0", ETH0), |(interface, _, address)| (interface, address));
        ensure!((&*link, source) == (expected.0, expected.1.into()), "naming {nic:?}: {link} from {source}");
        for (interface, pool, address) in THREE {
            let from = leaves_by(&pod, &["-I", &address.to_string()], BEYOND)?;
            ensure!(from == (interface.to_owned(), address.into()), "naming {nic:?}: {from:?}");
            ensure!(leaves_by(&pod, &["-I", &address.to_string()], NODE)?.0 == "eth0", "the node is behind eth0");
            pod.check(&naming(pool, nic), interface, &[])?;
        }
        for (interface, pool, _) in THREE {
            pod.del(&naming(pool, nic), interface, &[])?;
        }
        ensure!((routing(pod.namespace())?, routing(rig.host())?) == before, "{}", routing(pod.namespace())?);
    }
    Ok(())
}

/// The one that comes last names itself: what the first had decided is replaced, not stacked upon.
#[test]
fn a_later_interface_replaces_what_an_earlier_one_chose() -> Result<()> {
    let rig = Rig::start()?;
    let pod = rig.pod()?;
    rig.add(&pod, &chain(&[POOL]), "net1")?;
    rig.add(&pod, &chain(&["10-8-v4"]).default_route_nic("net2"), "net2")?;
    let from = [format!("32760: from {NET1} lookup 101"), format!("32762: from {ETH0} lookup 102")];
    rules(pod.namespace(), "-4", &from)?;
    table(pod.namespace(), "-4", "100", &[])?;
    table(pod.namespace(), "-4", "102", &all(&[&calico(), &cluster()]))?;
    ensure!(leaves_by(&pod, &[], BEYOND)? == ("net2".to_owned(), NET2.into()));
    Ok(())
}

/// Interfaces come in the order of their numbers: what net2 does not find of net1 never comes.
#[test]
fn a_default_route_nic_that_never_comes_fails_and_is_named() -> Result<()> {
    let rig = Rig::start()?;
    let pod = rig.pod()?;
    let before = (routing(pod.namespace())?, routing(rig.host())?);
    let failed = pod.cni("add", &chain(&["10-8-v4"]).default_route_nic("net1"), "net2", &[])?;
    let text = failed.stdout + &failed.stderr;
    ensure!(!failed.status.success() && text.contains("default route NIC \"net1\" is not in the Pod"), "{text}");
    pod.del(&chain(&["10-8-v4"]), "net2", &[])?;
    ensure!((routing(pod.namespace())?, routing(rig.host())?) == before);
    // A name that may still come: as if none were named, a line in the log, and a figure.
    let warnings = || rig.node().figure("spiderpool_coordinator_warnings_total");
    ensure!(warnings()? == 0, "a refusal is none: {}", warnings()?);
    rig.add(&pod, &chain(&[POOL]).default_route_nic("net7"), "net1")?;
    rig.log_says(&["WARN", "net7"])?;
    ensure!(warnings()? == 1, "{}", warnings()?);
    table(pod.namespace(), "-4", "main", &all(&[&calico(), &own("net1")[1..], &cluster()]))
}

/// No gateway: eth0 keeps the default route, or the Pod would have none.
#[test]
fn a_default_route_nic_without_a_gateway_takes_nothing() -> Result<()> {
    let rig = Rig::start()?;
    let document = "apiVersion: spiderpool.spidernet.io/v2beta1\nkind: SpiderIPPool\nmetadata:\n  name: no-gateway\n\
                    spec:\n  subnet: 10.6.0.0/16\n  ips: [10.6.212.145]\n";
    rig.node().standalone().write("pool.yaml", document)?;
    rig.log_says(&["no-gateway"])?;
    let pod = rig.pod()?;
    rig.add(&pod, &chain(&["no-gateway"]).default_route_nic("net1"), "net1")?;
    rig.log_says(&["WARN", "has no IPv4 gateway"])?;
    table(pod.namespace(), "-4", "main", &all(&[&calico(), &own("net1")[1..], &cluster()]))?;
    ensure!(leaves_by(&pod, &[], BEYOND)?.0 == "eth0");
    Ok(())
}

/// Whichever goes first: the others' objects stay as they are, and nothing of the one that goes.
#[test]
fn interfaces_go_in_any_order() -> Result<()> {
    let rig = Rig::start()?;
    let pod = rig.pod()?;
    let before = (routing(pod.namespace())?, routing(rig.host())?);
    let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    for (order, nic) in orders.into_iter().zip([None, Some("net1"), Some("net2"), Some("net3")].into_iter().cycle()) {
        let mut there = Vec::new();
        for (interface, pool, _) in THREE {
            let result = rig.add(&pod, &naming(pool, nic), interface)?;
            let (link, source) = (interface.to_owned(), address_of(&result)?);
            there.push((link, source, rig.coordinator(&pod, &naming(pool, nic), interface, &result)?));
        }
        for at in order {
            let (interface, pool, _) = THREE[at];
            pod.del(&naming(pool, nic), interface, &[])?;
            let gone = there.iter().position(|(link, ..)| link == interface).context("deleted before")?;
            let (_, address, _) = there.remove(gone);
            for namespace in [pod.namespace(), rig.host()] {
                let left = routing(namespace)?;
                let mentions = left.lines().find(|line| line.split_whitespace().any(|word| word == address));
                ensure!(mentions.is_none(), "{order:?}, naming {nic:?}, without {interface}: {mentions:?}");
            }
            for (other, source, (shim, config)) in &there {
                let context = || format!("{order:?}, naming {nic:?}, without {interface}: {other}");
                shim.call("CHECK", config)?.silent().with_context(context)?;
                ensure!(leaves_by(&pod, &["-I", source], BEYOND).with_context(context)?.0 == *other, "{}", context());
            }
        }
        let after = (routing(pod.namespace())?, routing(rig.host())?);
        ensure!(after == before, "{order:?}, naming {nic:?}:\n{}\nbefore:\n{}", after.0, before.0);
    }
    Ok(())
}

fn address_of(result: &serde_json::Value) -> Result<String> {
    let text = result["ips"][0]["address"].as_str().with_context(|| format!("no address: {result}"))?;
    Ok(text.split('/').next().unwrap_or_default().to_owned())
}

#[test]
fn two_interfaces_may_stand_in_one_subnet() -> Result<()> {
    let rig = Rig::start()?;
    let pod = rig.pod()?;
    let before = (routing(pod.namespace())?, routing(rig.host())?);
    for interface in ["net1", "net2"] {
        rig.add(&pod, &chain(&[POOL]), interface)?;
    }
    for interface in ["net1", "net2"] {
        let (address, _) = pod.address(interface)?;
        ensure!(leaves_by(&pod, &["-I", &address.to_string()], BEYOND)? == (interface.to_owned(), address.into()));
        pod.check(&chain(&[POOL]), interface, &[])?;
    }
    for interface in ["net1", "net2"] {
        pod.del(&chain(&[POOL]), interface, &[])?;
    }
    ensure!((routing(pod.namespace())?, routing(rig.host())?) == before);
    Ok(())
}

/// Both links are there before the first ADD, as when another runner made them: each has the table of its name.
#[test]
fn tables_belong_to_interfaces_not_to_their_count() -> Result<()> {
    let rig = Rig::start()?;
    let pod = rig.pod()?;
    let mut calls = Vec::new();
    for (interface, _, address) in &THREE[..2] {
        rig.node().make_macvlan(pod.namespace(), interface)?;
        let (bits, gateway) = if *interface == "net1" { (16, "10.6.0.1") } else { (24, "10.8.0.1") };
        pod.namespace().ip_batch(&format!(
            "addr add {address}/{bits} dev {interface}\nlink set {interface} up\n\
             route prepend default via {gateway} dev {interface}\n"
        ))?;
        let config = serde_json::json!({
            "cniVersion": "1.0.0", "name": "by-hand", "type": "coordinator", "prevResult": {
                "cniVersion": "1.0.0", "interfaces": [{ "name": interface, "sandbox": pod.namespace().path() }],
                "ips": [{ "address": format!("{address}/{bits}"), "gateway": gateway, "interface": 0 }],
            },
        });
        calls.push((
            rig.node().shim("coordinator").container("c").sandbox(pod.namespace()).interface(interface),
            config,
        ));
    }
    for (shim, config) in &calls {
        shim.call("ADD", config)?.result()?;
    }
    let from = |address: Ipv4Addr, priority: u32, table: u32| format!("{priority}: from {address} lookup {table}");
    rules(pod.namespace(), "-4", &[from(NET1, 32760, 101), from(NET2, 32759, 102), from(ETH0, 32762, 100)])?;
    table(pod.namespace(), "-4", "101", &all(&[&own("net1"), &cluster()]))?;
    table(pod.namespace(), "-4", "102", &all(&[&own("net2"), &cluster()]))
}
