//! IPv6: alone, beside IPv4, beside an eth0 without it, and what a router on the segment says.

use anyhow::{Context, Result, ensure};
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn6, sendto, setsockopt, socket,
    sockopt::Ipv6MulticastHops,
};
use spiderpool_lab::example::POOL;
use spiderpool_lab::{Capture, Payload, wait_for};
use std::net::{Ipv6Addr, SocketAddrV6};
use std::os::fd::AsRawFd;
use std::time::Duration;

use crate::rig::{
    BEYOND_SIX, ETH0, ETH0_SIX, NET1, NET1_SIX, NODE_SIX, POOL_SIX, Rig, all, calico, chain, cluster, cluster_six,
    leaves_by, own, routing, rules, setting, table,
};

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

fn calico_six() -> String {
    "default via fe80::ecee:eeff:feee:eeee dev eth0".to_owned()
}

/// What the kernel made for eth0's address.
fn eth0_six() -> String {
    format!("{ETH0_SIX} dev eth0 metric 256")
}

fn own_six() -> [String; 2] {
    ["default via fd00:10:6::1 dev net1".to_owned(), "fd00:10:6::/64 dev net1 metric 256".to_owned()]
}

#[test]
fn six_alone_has_the_same_shape_as_four() -> Result<()> {
    let rig = Rig::start()?;
    let pod = rig.dual_pod()?;
    pod.remove_ipv4()?;
    let inside = pod.namespace();
    let before = (routing(inside)?, routing(rig.host())?);
    let capture = Capture::start(&rig.lab.topology().gateway)?;
    rig.add(&pod, &chain(&[POOL_SIX]), "net1")?;
    rules(inside, "-6", &[format!("32760: from {NET1_SIX} lookup 101"), format!("32762: from {ETH0_SIX} lookup 100")])?;
    rules(inside, "-4", &[])?;
    table(inside, "-6", "main", &all(&[&[calico_six(), eth0_six(), own_six()[1].clone()], &cluster_six()]))?;
    table(inside, "-6", "101", &all(&[&own_six(), &cluster_six()]))?;
    table(inside, "-6", "100", &[calico_six()])?;
    rules(rig.host(), "-6", &["1000: from all lookup 500".to_owned()])?;
    rules(rig.host(), "-4", &[])?;
    table(rig.host(), "-6", "500", &[format!("{NET1_SIX} dev {}", pod.host_link())])?;

    // Unasked for: eth0, by the node. From net1's address: net1. The node and the cluster: eth0, from either.
    ensure!(leaves_by(&pod, &[], BEYOND_SIX)? == ("eth0".to_owned(), ETH0_SIX.into()));
    ensure!(leaves_by(&pod, &["-I", &NET1_SIX.to_string()], BEYOND_SIX)? == ("net1".to_owned(), NET1_SIX.into()));
    ensure!(leaves_by(&pod, &["-I", &NET1_SIX.to_string()], NODE_SIX)?.0 == "eth0");
    ensure!(leaves_by(&pod, &[], NODE_SIX)?.0 == "eth0");
    rig.host().run(&spiderpool_lab::Program::ping(&[], NET1_SIX))?.success()?;

    // The segment was told: an unsolicited Neighbour Advertisement (136) from the address itself.
    wait_for("an unsolicited neighbour advertisement", Duration::from_secs(5), || {
        let told = capture.packets()?.iter().any(|packet| {
            packet.payload == Payload::Icmp(136) && packet.goes(NET1_SIX, ALL_NODES) && packet.came_by("underlay")
        });
        Ok(told.then_some(()))
    })?;
    pod.check(&chain(&[POOL_SIX]), "net1", &[])?;
    pod.del(&chain(&[POOL_SIX]), "net1", &[])?;
    ensure!((routing(inside)?, routing(rig.host())?) == before, "{}\n{}", routing(inside)?, routing(rig.host())?);
    Ok(())
}

#[test]
fn both_families_are_tuned_apart() -> Result<()> {
    let rig = Rig::start()?;
    let pod = rig.dual_pod()?;
    let inside = pod.namespace();
    let chain = chain(&[POOL, POOL_SIX]).default_route_nic("net1");
    rig.add(&pod, &chain, "net1")?;
    rules(inside, "-4", &[format!("32762: from {ETH0} lookup 101")])?;
    rules(inside, "-6", &[format!("32762: from {ETH0_SIX} lookup 101")])?;
    table(inside, "-4", "main", &all(&[&own("net1"), &calico()[1..], &cluster()]))?;
    table(inside, "-6", "main", &all(&[&own_six(), &[eth0_six()], &cluster_six()]))?;
    table(inside, "-4", "101", &all(&[&calico(), &cluster()]))?;
    table(inside, "-6", "101", &all(&[&[calico_six(), eth0_six()], &cluster_six()]))?;
    for family in ["-4", "-6"] {
        table(inside, family, "100", &[])?;
    }
    ensure!(leaves_by(&pod, &[], BEYOND_SIX)? == ("net1".to_owned(), NET1_SIX.into()));
    ensure!(leaves_by(&pod, &["-I", &ETH0_SIX.to_string()], BEYOND_SIX)?.0 == "eth0");
    pod.check(&chain, "net1", &[])
}

/// D and W are found for each family: net1's only IPv6 default route stays where unasked traffic looks for it.
#[test]
fn an_eth0_without_six_leaves_it_to_net1() -> Result<()> {
    let rig = Rig::start()?;
    let pod = rig.pod()?;
    let inside = pod.namespace();
    let chain = chain(&[POOL, POOL_SIX]);
    rig.add(&pod, &chain, "net1")?;
    rules(inside, "-4", &[format!("32760: from {NET1} lookup 101"), format!("32762: from {ETH0} lookup 100")])?;
    rules(inside, "-6", &[])?;
    table(inside, "-6", "main", &all(&[&own_six(), &cluster_six()]))?;
    table(inside, "-6", "101", &cluster_six())?;
    table(inside, "-4", "main", &all(&[&calico(), &own("net1")[1..], &cluster()]))?;
    ensure!(leaves_by(&pod, &[], BEYOND_SIX)? == ("net1".to_owned(), NET1_SIX.into()));
    ensure!(leaves_by(&pod, &[], NODE_SIX)?.0 == "eth0");
    pod.check(&chain, "net1", &[])
}

/// IPv6 is off in the Pod but for the interface that gets an address: it stays off on eth0, which gets no IPv6 routes.
#[test]
fn six_is_switched_on_where_an_address_is_given_alone() -> Result<()> {
    let rig = Rig::start()?;
    let pod = rig.pod()?;
    let inside = pod.namespace();
    inside.sysctl(&[("ipv6/conf/all/disable_ipv6", "1"), ("ipv6/conf/default/disable_ipv6", "1")])?;
    let chain = chain(&[POOL, POOL_SIX]);
    let result = rig.add(&pod, &chain, "net1")?;
    ensure!(setting(inside, "ipv6/conf/net1/disable_ipv6")? == "0");
    ensure!(
        setting(inside, "ipv6/conf/eth0/disable_ipv6")? == "1" && setting(inside, "ipv6/conf/all/disable_ipv6")? == "1"
    );
    table(inside, "-6", "main", &own_six())?;
    table(inside, "-4", "101", &all(&[&own("net1"), &cluster()]))?;
    rig.log_says(&["WARN", "IPv6 is switched off on eth0"])?;
    pod.check(&chain, "net1", &[])?;
    // The coordinator puts it right by itself, and CHECK says so before.
    inside.sysctl(&[("ipv6/conf/net1/disable_ipv6", "1")])?;
    let (shim, config) = rig.coordinator(&pod, &chain, "net1", &result)?;
    shim.call("CHECK", &config)?
        .error(101, &["net/ipv6/conf/net1/disable_ipv6 = 0", "missing: pod address fd00:10:6::2e5/64"])?;
    shim.call("ADD", &config)?.result()?;
    ensure!(setting(inside, "ipv6/conf/net1/disable_ipv6")? == "0");
    ensure!(setting(inside, "ipv6/conf/eth0/disable_ipv6")? == "1");
    Ok(())
}

/// Nor does an ADD fail because the node has no route to an address that a router made net1 take.
#[test]
fn what_a_router_says_is_left_alone() -> Result<()> {
    let rig = Rig::start()?;
    let pod = rig.dual_pod()?;
    let inside = pod.namespace();
    // The node knows no way to what the router will make net1 believe.
    rig.host().ip(&["-6", "route", "del", "default"])?;
    // net1 has IPv4 alone: eth0's IPv6 stays as it is, whatever comes by net1.
    let four = chain(&[POOL]);
    let untouched = |when: &str| -> Result<()> {
        rules(inside, "-6", &[]).with_context(|| when.to_owned())?;
        ensure!(inside.ip(&["-6", "route"])?.contains("default via fe80::ecee:eeff:feee:eeee dev eth0"), "{when}");
        Ok(())
    };
    let result = rig.add(&pod, &four, "net1")?;
    untouched("before the router speaks")?;
    advertise(&rig)?;
    let learnt = wait_for("an address by a router", Duration::from_secs(5), || {
        let addresses = inside.ip(&["-6", "addr", "show", "dev", "net1", "dynamic"])?;
        Ok(addresses.contains("fd00:99::").then_some(addresses))
    })?;
    let (shim, config) = rig.coordinator(&pod, &four, "net1", &result)?;
    // An ADD again, as if the advertisement had come first.
    shim.call("ADD", &config)?.result()?;
    untouched("after the router spoke")?;
    shim.call("CHECK", &config)?.silent()?;
    pod.del(&four, "net1", &[])?;

    // Both families: the plan knows the addresses of the result alone, before and after.
    let both = chain(&[POOL, POOL_SIX]);
    let result = rig.add(&pod, &both, "net1")?;
    let plan = rig.plan()?;
    advertise(&rig)?;
    wait_for("an address by a router", Duration::from_secs(5), || {
        Ok(inside.ip(&["-6", "addr", "show", "dev", "net1"])?.contains("fd00:99::").then_some(()))
    })?;
    let (shim, config) = rig.coordinator(&pod, &both, "net1", &result)?;
    shim.call("CHECK", &config)?.silent()?;
    shim.call("ADD", &config)?.result()?;
    ensure!(rig.plan()? == plan && !plan.contains("fd00:99"), "{plan}\nlater:\n{}", rig.plan()?);
    let main = inside.ip(&["-6", "route"])?;
    ensure!(main.contains("fd00:99::/64 dev net1"), "its subnet stays: {main}\n{learnt}");
    table(inside, "-6", "101", &all(&[&own_six(), &cluster_six()]))?;
    shim.call("CHECK", &config)?.silent()
}

/// A Router Advertisement (RFC 4861, section 4.2) to all nodes, with a prefix to make addresses of.
fn advertise(rig: &Rig) -> Result<()> {
    let mut message = vec![134, 0, 0, 0, 64, 0];
    message.extend(1800_u16.to_be_bytes());
    message.extend([0; 8]);
    // Prefix information (section 4.6.2): on the link, for addresses.
    message.extend([3, 4, 64, 0xc0]);
    message.extend(86_400_u32.to_be_bytes());
    message.extend(14_400_u32.to_be_bytes());
    message.extend([0; 4]);
    message.extend(Ipv6Addr::new(0xfd00, 0x99, 0, 0, 0, 0, 0, 0).octets());
    let send = move || -> nix::Result<usize> {
        let out = socket(AddressFamily::Inet6, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::IcmpV6)?;
        setsockopt(&out, Ipv6MulticastHops, &255)?;
        let to = SockaddrIn6::from(SocketAddrV6::new(ALL_NODES, 0, 0, if_nametoindex("underlay")?));
        sendto(out.as_raw_fd(), &message, &to, MsgFlags::empty())
    };
    rig.lab.topology().gateway.enter(send)?.context("send a router advertisement")?;
    Ok(())
}
