//! The lab itself, without any of the product: routes are set by hand, as the coordinator should set them, and
//! addresses come from host-local. If these pass and the demo fails, the product is at fault.

use anyhow::{Context, Result, ensure};
use serde_json::json;
use spiderpool_lab::example::{
    self, DNS_POD, FAR_HOST, GATEWAY, HIJACK_CIDR, OUTSIDE_HOST, POD_CIDR, SERVICE, SERVICE_CIDR,
};
use spiderpool_lab::{Capture, Chain, Lab, Packet, Payload, Pod, PodTables, Program, SilentListener, difference};
use std::net::Ipv4Addr;

/// A Pod on worker01 with `net1` at 10.6.212.145 and the DNS Pod on controller.
struct World {
    lab: Lab,
    pod: Pod,
    _dns: Pod,
    _listener: SilentListener,
    tables: PodTables,
}

fn host_local() -> Chain {
    Chain::macvlan(&json!({
        "type": "host-local",
        "ranges": [[{
            "subnet": "10.6.0.0/16", "rangeStart": "10.6.212.145", "rangeEnd": "10.6.212.147", "gateway": GATEWAY,
        }]],
        "routes": [{ "dst": "0.0.0.0/0" }],
    }))
}

fn world() -> Result<World> {
    let lab = Lab::start()?;
    let pod = lab.pod("worker01", example::nginx_rswak())?;
    let dns = lab.pod("controller", example::coredns())?;
    let listener = SilentListener::start(dns.namespace(), example::SERVICE_PORT)?;
    pod.add(&host_local(), "net1", &[])?;
    let (net1, prefix) = pod.address("net1")?;
    ensure!((net1, prefix) == (Ipv4Addr::new(10, 6, 212, 145), 16), "net1 has {net1}/{prefix}");
    let node = lab.node("worker01")?.address();
    let tables = PodTables { node, eth0: pod.spec().address, net1, net2: None, default_by_net1: false };
    route_by_hand(&lab, &pod, tables)?;
    Ok(World { lab, pod, _dns: dns, _listener: listener, tables })
}

fn route_by_hand(lab: &Lab, pod: &Pod, tables: PodTables) -> Result<()> {
    let PodTables { node, eth0, net1, .. } = tables;
    let namespace = pod.namespace();
    namespace.sysctl(&[("ipv4/conf/all/rp_filter", "0"), ("ipv4/conf/net1/rp_filter", "0")])?;
    let mut commands = format!(
        "route del default via {GATEWAY} dev net1\n\
         neigh replace {node} lladdr ee:ee:ee:ee:ee:ee dev eth0 nud permanent\n\
         route add {node} dev eth0 scope link\n\
         route add default via {GATEWAY} dev net1 table 101\n\
         route add 10.6.0.0/16 dev net1 scope link src {net1} table 101\n\
         route add {node} dev eth0 scope link table 101\n\
         route add default via 169.254.1.1 dev eth0 table 100\n\
         rule add from {net1} lookup 101 pref 32760\n\
         rule add from {eth0} lookup 100 pref 32762\n"
    );
    for cidr in [POD_CIDR, SERVICE_CIDR, HIJACK_CIDR] {
        for table in ["main", "101"] {
            commands.push_str(&format!("route add {cidr} via {node} dev eth0 table {table}\n"));
        }
    }
    namespace.ip_batch(&commands)?;
    let link = namespace.ip_json(&["link", "show", "eth0"])?;
    let mac = link[0]["address"].as_str().context("no MAC address")?.to_owned();
    lab.node("worker01")?.namespace().ip_batch(&format!(
        "rule add from all lookup 500 pref 1000\n\
         route add {net1}/32 dev {host} scope link table 500\n\
         neigh replace {net1} lladdr {mac} dev {host} nud permanent\n",
        host = pod.host_link()
    ))
}

/// Pings and returns what left and came, after checking the time to live of the answers.
fn ping(pod: &Pod, options: &[&str], destination: Ipv4Addr, ttl: u8) -> Result<Vec<Packet>> {
    let capture = Capture::start(pod.namespace())?;
    let pinged = pod.ping(options, destination)?.success()?;
    ensure!(pinged.stdout.contains(&format!(" ttl={ttl} ")), "not ttl={ttl}:\n{}", pinged.stdout);
    capture.packets()
}

fn echoes(packets: &[Packet], source: Ipv4Addr, destination: Ipv4Addr) -> Vec<&Packet> {
    let echo = |packet: &&Packet| matches!(packet.payload, Payload::EchoRequest | Payload::EchoReply);
    packets.iter().filter(echo).filter(|packet| packet.goes(source, destination)).collect()
}

#[test]
fn hand_set_routes_are_what_the_tables_say() -> Result<()> {
    let world = world()?;
    let World { pod, tables, .. } = &world;
    let namespace = pod.namespace();
    assert_eq!(difference(&tables.rules(), &namespace.ip(&["rule"])?), None);
    assert_eq!(difference(&tables.main(), &namespace.ip(&["route"])?), None);
    assert_eq!(difference(&tables.table_101(), &namespace.ip(&["route", "show", "table", "101"])?), None);
    assert_eq!(difference(&tables.table_100(), &namespace.ip(&["route", "show", "table", "100"])?), None);
    Ok(())
}

#[test]
fn cluster_traffic_goes_by_eth0() -> Result<()> {
    let world = world()?;
    let World { lab, pod, tables, .. } = &world;
    let PodTables { node, eth0, net1, .. } = *tables;

    let packets = ping(pod, &[], DNS_POD, 62)?;
    let requests = echoes(&packets, eth0, DNS_POD);
    assert!(requests.len() == 2 && requests.iter().all(|packet| packet.left_by("eth0")), "{packets:?}");

    let capture = Capture::start(pod.namespace())?;
    let curl = pod.namespace().run(&Program::new("curl").args(["-sS", "-I", "-m", "5", "10.233.0.3:53"]))?;
    assert_eq!((curl.status.code(), curl.stderr.trim()), (Some(52), "curl: (52) Empty reply from server"));
    let packets = capture.packets()?;
    let sent: Vec<_> = packets.iter().filter(|packet| packet.goes(eth0, SERVICE)).collect();
    assert!(!sent.is_empty() && sent.iter().all(|packet| packet.left_by("eth0")), "{packets:?}");

    // The node and its own Pod: macvlan cannot carry that, so both ways go by eth0.
    ping(pod, &[], node, 64)?;
    let capture = Capture::start(pod.namespace())?;
    lab.node("worker01")?.namespace().run(&Program::ping(&[], net1))?.success()?;
    let packets = capture.packets()?;
    let answers = echoes(&packets, net1, node);
    assert!(answers.len() == 2 && answers.iter().all(|packet| packet.left_by("eth0")), "{packets:?}");
    Ok(())
}

#[test]
fn a_far_host_is_reached_by_eth0_masqueraded_and_by_net1_as_itself() -> Result<()> {
    let world = world()?;
    let World { lab, pod, tables, .. } = &world;
    let PodTables { node, eth0, net1, .. } = *tables;

    let far = Capture::start(&lab.topology().far)?;
    let packets = ping(pod, &[], FAR_HOST, 61)?;
    assert!(echoes(&packets, eth0, FAR_HOST).iter().all(|packet| packet.left_by("eth0")), "{packets:?}");
    assert_eq!(echoes(&far.packets()?, node, FAR_HOST).len(), 2, "the far host should see the node");

    // Bound to net1's address too (-B): bound to the link alone, the kernel asks the rules before it has a source.
    let packets = ping(pod, &["-B", "-I", "net1"], FAR_HOST, 62)?;
    let requests = echoes(&packets, net1, FAR_HOST);
    assert!(requests.len() == 2 && requests.iter().all(|packet| packet.left_by("net1")), "{packets:?}");
    assert_eq!(echoes(&far.packets()?, net1, FAR_HOST).len(), 2, "the far host should see net1's address");
    Ok(())
}

#[test]
fn an_outside_host_reaches_net1_and_is_answered_by_net1() -> Result<()> {
    let world = world()?;
    let World { lab, pod, tables, .. } = &world;
    let capture = Capture::start(pod.namespace())?;
    lab.topology().outside.run(&Program::ping(&[], tables.net1))?.success()?;
    let packets = capture.packets()?;
    let requests = echoes(&packets, OUTSIDE_HOST, tables.net1);
    let answers = echoes(&packets, tables.net1, OUTSIDE_HOST);
    assert!(requests.len() == 2 && requests.iter().all(|packet| packet.came_by("net1")), "{packets:?}");
    assert!(answers.len() == 2 && answers.iter().all(|packet| packet.left_by("net1")), "{packets:?}");

    // Were it not for the rule, the answers would leave by eth0: the capture can tell.
    pod.namespace().ip(&["rule", "del", "pref", "32760"])?;
    lab.topology().outside.run(&Program::ping(&[], tables.net1))?;
    let packets = capture.packets()?;
    let answers = echoes(&packets, tables.net1, OUTSIDE_HOST);
    assert!(!answers.is_empty() && answers.iter().all(|packet| packet.left_by("eth0")), "{packets:?}");
    Ok(())
}

#[test]
fn a_chain_can_be_checked_and_deleted() -> Result<()> {
    let lab = Lab::start()?;
    let pod = lab.pod("worker01", example::nginx_rswak())?;
    let chain = host_local();
    let result = pod.add(&chain, "net1", &[])?;
    assert_eq!(result["ips"][0]["address"], "10.6.212.145/16");
    let cached = lab.node("worker01")?.cni_cache();
    assert!(cached.join("results").is_dir(), "the runner should cache below the node's own folder");
    pod.del(&chain, "net1", &[])?;
    pod.address("net1").expect_err("net1 should be gone");
    Ok(())
}
