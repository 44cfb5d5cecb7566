//! Every setting of the coordinator: in the kernel where it belongs, and nowhere else.

use anyhow::{Context, Result, ensure};
use serde_json::json;
use spiderpool_lab::example::{HIJACK_CIDR, POOL, nginx_aswpm};
use spiderpool_lab::{Capture, Payload, difference};
use std::net::Ipv4Addr;

use crate::rig::{
    ETH0, NET1, NET1_SIX, NODE, POOL_SIX, Rig, all, calico, chain, cluster, cluster_and_hijacked, leaves_by, link, own,
    routes, routing, rules, setting, table,
};

/// A network to hijack stands in main and in the interface's own table; the network's list replaces the cluster's.
#[test]
fn hijacked_networks_go_by_eth0_from_every_table() -> Result<()> {
    let rig = Rig::start_with(&format!("  hijackCIDR: [{HIJACK_CIDR}]\n"))?;
    let pod = rig.pod()?;
    let inside = pod.namespace();
    rig.add(&pod, &chain(&[POOL]), "net1")?;
    table(inside, "-4", "main", &all(&[&calico(), &own("net1")[1..], &cluster_and_hijacked()]))?;
    table(inside, "-4", "101", &all(&[&own("net1"), &cluster_and_hijacked()]))?;
    pod.del(&chain(&[POOL]), "net1", &[])?;
    let own_list = chain(&[POOL]).with("hijackCIDR", json!(["10.77.0.0/24"]));
    rig.add(&pod, &own_list, "net1")?;
    ensure!(!routes(inside, "-4", "main")?.contains(HIJACK_CIDR), "{}", routes(inside, "-4", "main")?);
    // 10.77.0.1 is behind the gateway of net1, and is now asked for by eth0 from either address.
    let (net1, _) = pod.address("net1")?;
    let beyond = Ipv4Addr::new(10, 77, 0, 1);
    ensure!(leaves_by(&pod, &["-I", &net1.to_string()], beyond)?.0 == "eth0");
    ensure!(leaves_by(&pod, &[], beyond)?.0 == "eth0");
    Ok(())
}

/// If the old MAC address were printed, macvlan's CHECK would fail ever after.
#[test]
fn a_mac_prefix_is_set_printed_and_told_the_segment() -> Result<()> {
    let rig = Rig::start()?;
    let pod = rig.pod()?;
    let inside = pod.namespace();
    for (pools, expected) in [
        (vec![POOL], format!("0a:1b:{}", hexadecimal(NET1.octets()))),
        // IPv4 wins; IPv6 alone gives its last four bytes.
        (vec![POOL, POOL_SIX], String::new()),
        (vec![POOL_SIX], String::new()),
    ] {
        let chain = chain(&pools).with("podMACPrefix", "0a:1b");
        let capture = Capture::start(&rig.lab.topology().gateway)?;
        let result = rig.add(&pod, &chain, "net1")?;
        let printed = result["interfaces"][0]["mac"].as_str().context("no MAC address printed")?.to_owned();
        let expected = if expected.is_empty() { by_address(&result)? } else { expected };
        ensure!(printed == expected && link(inside, "net1", "address")? == *expected, "{printed}, not {expected}");
        pod.check(&chain, "net1", &[]).context("macvlan holds the printed MAC address against the link")?;
        spiderpool_lab::wait_for("the segment to be told", std::time::Duration::from_secs(5), || {
            let told = |payload: &Payload| matches!(payload, Payload::Arp(1 | 2) | Payload::Icmp(136));
            let own = |address: std::net::IpAddr| result["ips"].to_string().contains(&format!("{address}/"));
            Ok(capture.packets()?.iter().any(|packet| told(&packet.payload) && own(packet.source)).then_some(()))
        })?;
        // By hand another one: CHECK names both.
        let (shim, config) = rig.coordinator(&pod, &chain, "net1", &result)?;
        inside.ip_batch("link set net1 address 0a:1b:00:00:00:01\n")?;
        shim.call("CHECK", &config)?.error(101, &[&format!("net1 address {expected}"), "0a:1b:00:00:00:01"])?;
        pod.del(&chain, "net1", &[])?;
    }
    Ok(())
}

fn hexadecimal(bytes: [u8; 4]) -> String {
    bytes.map(|byte| format!("{byte:02x}")).join(":")
}

/// What the prefix makes of the addresses of a result.
fn by_address(result: &serde_json::Value) -> Result<String> {
    let ips = result["ips"].as_array().context("no addresses")?;
    let texts = ips.iter().filter_map(|ip| ip["address"].as_str()?.split('/').next());
    let mut parsed: Vec<std::net::IpAddr> = texts.map(str::parse).collect::<Result<_, _>>()?;
    parsed.sort();
    let last = match parsed.first().context("no addresses")? {
        std::net::IpAddr::V4(four) => four.octets(),
        std::net::IpAddr::V6(six) => *six.octets().last_chunk().context("16 bytes")?,
    };
    Ok(format!("0a:1b:{}", hexadecimal(last)))
}

/// The node may have a link of that name too.
#[test]
fn the_queue_length_is_that_of_the_pods_link_alone() -> Result<()> {
    let rig = Rig::start()?;
    let pod = rig.pod()?;
    rig.host().ip_batch("link add net1 txqueuelen 123 type veth peer name net1-peer\n")?;
    let chain = chain(&[POOL]).with("txQueueLen", 2000);
    let result = rig.add(&pod, &chain, "net1")?;
    ensure!(link(pod.namespace(), "net1", "txqlen")? == 2000, "{}", link(pod.namespace(), "net1", "txqlen")?);
    ensure!(link(pod.namespace(), "eth0", "txqlen")? != 2000);
    ensure!(link(rig.host(), "net1", "txqlen")? == 123 && link(rig.host(), pod.host_link(), "txqlen")? != 2000);
    let (shim, config) = rig.coordinator(&pod, &chain, "net1", &result)?;
    pod.namespace().ip_batch("link set net1 txqueuelen 999\n")?;
    shim.call("CHECK", &config)?.error(101, &["pod link net1 txqueuelen 2000", "999"])?;
    Ok(())
}

/// The kernel takes the greater of `all` and the interface's own value: what was asked for is what holds.
#[test]
fn the_reverse_path_filter_is_what_was_asked_for() -> Result<()> {
    let rig = Rig::start()?;
    let key = |name: &str| format!("ipv4/conf/{name}/rp_filter");
    let own = setting(rig.host(), &key("all"))?;
    for (asked, expected) in
        [(Some(0), "0"), (Some(1), "1"), (Some(2), "2"), (None, "0"), (Some(-1), "1"), (Some(-2), "1")]
    {
        let pod = rig.pod()?;
        let mut chain = chain(&[POOL]);
        if let Some(asked) = asked {
            chain = chain.with("podRPFilter", asked);
        }
        rig.add(&pod, &chain, "net1")?;
        let value = |name: &str| setting(pod.namespace(), &key(name));
        let holds = value("all")?.max(value("net1")?);
        ensure!(holds == expected, "podRPFilter {asked:?}: {holds}");
        ensure!(value("eth0")? == "1", "eth0's own is left alone");
        pod.check(&chain, "net1", &[])?;
        pod.del(&chain, "net1", &[])?;
    }
    ensure!(setting(rig.host(), &key("all"))? == own, "the node's is not touched");
    Ok(())
}

/// Each has its own, though `all` is one for the whole Pod.
#[test]
fn each_interface_has_its_own_reverse_path_filter() -> Result<()> {
    let rig = Rig::start()?;
    let pod = rig.pod()?;
    rig.add(&pod, &chain(&[POOL]).with("podRPFilter", 2), "net1")?;
    rig.add(&pod, &chain(&["10-8-v4"]).with("podRPFilter", 0), "net2")?;
    let value = |name: &str| setting(pod.namespace(), &format!("ipv4/conf/{name}/rp_filter"));
    ensure!(value("all")?.max(value("net1")?) == "2" && value("all")?.max(value("net2")?) == "0");
    pod.check(&chain(&[POOL]).with("podRPFilter", 2), "net1", &[])
}

/// Each table has its own.
#[test]
fn the_hosts_rule_goes_with_the_last_attachment() -> Result<()> {
    let rig = Rig::start()?;
    let (pod, other) = (rig.pod()?, rig.lab.pod("worker01", nginx_aswpm())?);
    let before = routing(rig.host())?;
    let plain = chain(&[POOL]);
    let moved = chain(&[POOL]).with("hostRuleTable", 600);
    let rule = |table: u32| format!("1000: from all lookup {table}");
    rig.add(&pod, &moved, "net1")?;
    rules(rig.host(), "-4", &[rule(600)])?;
    table(rig.host(), "-4", "600", &[format!("{} dev {} scope link", pod.address("net1")?.0, pod.host_link())])?;
    table(rig.host(), "-4", "500", &[])?;
    rig.host().run(&spiderpool_lab::Program::ping(&[], pod.address("net1")?.0))?.success()?;
    rig.add(&other, &moved, "net1")?;
    rig.add(&pod, &plain, "net2")?;
    rules(rig.host(), "-4", &[rule(500), rule(600)])?;
    pod.del(&moved, "net1", &[])?;
    rules(rig.host(), "-4", &[rule(500), rule(600)])?;
    pod.del(&plain, "net2", &[])?;
    rules(rig.host(), "-4", &[rule(600)])?;
    other.check(&moved, "net1", &[])?;
    other.del(&moved, "net1", &[])?;
    rules(rig.host(), "-4", &[])?;
    ensure!(routing(rig.host())? == before, "{}", routing(rig.host())?);
    Ok(())
}

/// No rules, no moves; the routes and neighbours to node and cluster are there all the same. What goes without a source
/// leaves by the interface attached last, as the plugin before has it.
#[test]
fn untuned_routes_are_left_as_they_are() -> Result<()> {
    let rig = Rig::start()?;
    let pod = rig.pod()?;
    let inside = pod.namespace();
    let untuned = |pool: &str| chain(&[pool]).with("tunePodRoutes", false);
    rig.add(&pod, &untuned(POOL), "net1")?;
    rules(inside, "-4", &[])?;
    table(inside, "-4", "main", &all(&[&own("net1"), &calico(), &cluster()]))?;
    table(inside, "-4", "101", &cluster())?;
    let beyond = Ipv4Addr::new(10, 77, 0, 1);
    ensure!(leaves_by(&pod, &[], beyond)? == ("net1".to_owned(), NET1.into()));
    ensure!(leaves_by(&pod, &[], NODE)? == ("eth0".to_owned(), ETH0.into()));
    rig.add(&pod, &untuned("10-8-v4"), "net2")?;
    rules(inside, "-4", &[])?;
    table(inside, "-4", "main", &all(&[&own("net1"), &own("net2"), &calico(), &cluster()]))?;
    ensure!(leaves_by(&pod, &[], beyond)?.0 == "net2", "the one attached last");
    rules(rig.host(), "-4", &["1000: from all lookup 500".to_owned()])?;
    for (pool, interface) in [(POOL, "net1"), ("10-8-v4", "net2")] {
        pod.check(&untuned(pool), interface, &[])?;
        pod.del(&untuned(pool), interface, &[])?;
    }
    let left = difference(&calico(), &inside.ip(&["route"])?);
    ensure!(left.is_none(), "{left:?}");
    Ok(())
}

/// The node reaches both addresses by the veth, and the Pod the node.
#[test]
fn the_node_reaches_both_families_of_net1() -> Result<()> {
    let rig = Rig::start()?;
    let pod = rig.dual_pod()?;
    rig.add(&pod, &chain(&[POOL, POOL_SIX]), "net1")?;
    let capture = Capture::start(rig.host())?;
    rig.host().run(&spiderpool_lab::Program::ping(&[], NET1))?.success()?;
    rig.host().run(&spiderpool_lab::Program::ping(&[], NET1_SIX))?.success()?;
    let packets = capture.packets()?;
    for (echo, out) in [(Payload::EchoRequest, true), (Payload::EchoReply, false)] {
        let seen: Vec<_> = packets.iter().filter(|packet| packet.payload == echo).collect();
        let by = |packet: &&&spiderpool_lab::Packet| {
            if out { packet.left_by(pod.host_link()) } else { packet.came_by(pod.host_link()) }
        };
        ensure!(seen.len() == 4 && seen.iter().filter(by).count() == 4, "{packets:?}");
    }
    Ok(())
}
