//! A node on a segment with both families and three subnets, its daemon, and chains for them.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
pub(crate) use spiderpool_lab::example::POOL_SIX;
use spiderpool_lab::example::{self, GATEWAY, HIJACK_CIDR, POD_CIDR, POD_CIDR_SIX, POOL, SERVICE_CIDR};
use spiderpool_lab::{
    Capture, Chain, Inspect, Lab, Namespace, Node, Packet, Payload, Pod, Program, Shim, Subnet, difference, wait_for,
};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The node, on the segment.
pub(crate) const NODE: Ipv4Addr = Ipv4Addr::new(10, 6, 212, 132);
pub(crate) const NODE_SIX: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x10, 6, 0, 0, 0, 0, 0x132);
/// eth0.
pub(crate) const ETH0: Ipv4Addr = Ipv4Addr::new(10, 233, 73, 210);
pub(crate) const ETH0_SIX: Ipv6Addr = Ipv6Addr::new(0xfd85, 0xee78, 0xd8a6, 0x8607, 0, 0, 1, 0xeb84);
/// The first addresses of the pools.
pub(crate) const NET1: Ipv4Addr = Ipv4Addr::new(10, 6, 212, 145);
pub(crate) const NET1_SIX: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x10, 6, 0, 0, 0, 0, 0x2e5);
pub(crate) const NET2: Ipv4Addr = Ipv4Addr::new(10, 8, 0, 20);
pub(crate) const NET3: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 30);
/// Behind the gateway of the segment.
pub(crate) const BEYOND_SIX: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x77, 0, 0, 0, 0, 0, 1);

/// The interfaces of a Pod with three, each with its pool and its first address.
pub(crate) const THREE: [(&str, &str, Ipv4Addr); 3] =
    [("net1", POOL, NET1), ("net2", "10-8-v4", NET2), ("net3", "10-9-v4", NET3)];

/// A daemon with a new journal takes up each address that a namespace of the machine has, so that it is given to nobody
/// else: labs with the same addresses follow each other.
static ALONE: Mutex<()> = Mutex::new(());

pub(crate) struct Rig {
    pub(crate) lab: Lab,
    _alone: MutexGuard<'static, ()>,
}

impl Rig {
    pub(crate) fn start() -> Result<Self> {
        Self::start_with("")
    }

    /// With further lines in the spec of the cluster's coordinator.
    pub(crate) fn start_with(spec: &str) -> Result<Self> {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let rig = Self { lab: Lab::start_with(vec![example::worker01()])?, _alone: alone };
        rig.lab.join_ipv6()?;
        // Another subnet, what lies beyond, and the ways back.
        rig.lab.topology().gateway.ip_batch(&format!(
            "addr add 10.9.0.1/24 dev underlay\n\
             addr add {BEYOND_SIX}/128 dev lo nodad\naddr add 10.77.0.1/32 dev lo\n\
             route add {POD_CIDR_SIX} via {NODE_SIX}\nroute add {POD_CIDR} via {NODE}\n"
        ))?;
        let documents = rig.node().standalone();
        documents.write("coordinator.yaml", &coordinator(spec))?;
        let third = Subnet { pool: "10-9-v4", network: "10.9.0.0/24", gateway: Ipv4Addr::new(10, 9, 0, 1).into() };
        for (subnet, range) in [
            (Subnet::NET1[1], "fd00:10:6::2e5-fd00:10:6::2ff"),
            (Subnet::NET2[0], "10.8.0.20-10.8.0.29"),
            (third, "10.9.0.30-10.9.0.39"),
        ] {
            documents.write_pool_of(&subnet, range)?;
        }
        rig.node().daemon().start()?;
        Ok(rig)
    }

    pub(crate) fn node(&self) -> &Node {
        &self.lab.nodes()[0]
    }

    pub(crate) fn host(&self) -> &Namespace {
        self.node().namespace()
    }

    pub(crate) fn inspect(&self) -> Inspect {
        self.lab.inspect(self.node())
    }

    /// A Pod whose eth0 has IPv4 alone.
    pub(crate) fn pod(&self) -> Result<Pod> {
        let pod = self.lab.pod("worker01", example::nginx_rswak())?;
        // A moment after both ends are up the kernel gives them link-local addresses, and no route is `linkdown` any more.
        wait_for("eth0 to be settled", Duration::from_secs(5), || {
            let (inside, outside) = (routing(pod.namespace())?, routing(self.host())?);
            let local = |routes: &str, link: &str| {
                routes.lines().any(|route| route.starts_with("local fe80:") && route.contains(&format!("dev {link} ")))
            };
            let settled = local(&inside, "eth0") && local(&outside, pod.host_link()) && !outside.contains("linkdown");
            Ok(settled.then_some(()))
        })?;
        Ok(pod)
    }

    /// A Pod whose eth0 has both families.
    pub(crate) fn dual_pod(&self) -> Result<Pod> {
        let pod = self.pod()?;
        pod.add_ipv6(ETH0_SIX)?;
        Ok(pod)
    }

    /// CNI ADD, with the daemon's log where it fails.
    pub(crate) fn add(&self, pod: &Pod, chain: &Chain, interface: &str) -> Result<Value> {
        pod.add(chain, interface, &[]).with_context(|| self.node().daemon().log().unwrap_or_default())
    }

    /// The coordinator alone, for an interface that a runner has added; and the configuration it had, with the result.
    pub(crate) fn coordinator(
        &self,
        pod: &Pod,
        chain: &Chain,
        interface: &str,
        result: &Value,
    ) -> Result<(Shim, Value)> {
        let path = pod.namespace().path().to_string_lossy().into_owned();
        let all = self.inspect().allocations()?;
        let own = all.iter().find(|one| one["netns"] == path && one["interface"] == interface);
        let container = own.and_then(|one| one["containerId"].as_str()).context("no allocation of the Pod")?;
        let list: Value = serde_json::from_str(&chain.to_string())?;
        let mut config = list["plugins"].as_array().and_then(|plugins| plugins.last()).context("no plugins")?.clone();
        for key in ["name", "cniVersion"] {
            config[key] = list[key].clone();
        }
        config["prevResult"] = result.clone();
        let shim = self.node().shim("coordinator").container(container).sandbox(pod.namespace()).interface(interface);
        Ok((shim.pod("default", &pod.spec().name, &pod.spec().uid), config))
    }

    /// The recorded plan of the only sandbox, as text.
    pub(crate) fn plan(&self) -> Result<String> {
        let all = self.inspect().allocations()?;
        let container = all.first().map(|one| one["containerId"].clone()).context("nothing is allocated")?;
        let reply =
            self.inspect().call("spiderpool.node.v1.Inspect/GetContainer", &json!({ "container_id": container }))?;
        Ok(reply["plan"].as_str().context("no plan")?.to_owned())
    }

    /// Waits until the daemon's log has a line with all the words.
    pub(crate) fn log_says(&self, words: &[&str]) -> Result<String> {
        wait_for(&format!("a line of the log with {words:?}"), Duration::from_secs(5), || {
            let log = self.node().daemon().log()?;
            Ok(log.lines().find(|line| words.iter().all(|word| line.contains(word))).map(str::to_owned))
        })
    }
}

fn coordinator(spec: &str) -> String {
    format!(
        "apiVersion: spiderpool.spidernet.io/v2beta1\nkind: SpiderCoordinator\nmetadata:\n  name: default\n\
         spec:\n  mode: auto\n  podCIDRType: none\n{spec}\
         status:\n  phase: Synced\n  overlayPodCIDR: [\"{POD_CIDR}\", \"{POD_CIDR_SIX}\"]\n  \
         serviceCIDR: [\"{SERVICE_CIDR}\"]\n"
    )
}

/// macvlan with addresses of these pools, then the coordinator with no settings of its own.
pub(crate) fn chain(pools: &[&str]) -> Chain {
    let of = |six: bool| pools.iter().filter(|pool| pool.ends_with("v6") == six).collect::<Vec<_>>();
    let mut ipam = json!({ "type": "spiderpool" });
    for (key, list) in [("default_ipv4_ippool", of(false)), ("default_ipv6_ippool", of(true))] {
        if !list.is_empty() {
            ipam[key] = json!(list);
        }
    }
    Chain::macvlan(&ipam).version("1.0.0").then(json!({ "type": "coordinator" }))
}

/// A number of a table, or `main`.
pub(crate) fn routes(namespace: &Namespace, family: &str, table: &str) -> Result<String> {
    // A table that was never used is no error to anyone but `ip`.
    let arguments = [family, "route", "show", "table", table];
    let finished = namespace.run(&Program::new("ip").args(arguments))?;
    ensure!(finished.status.success() || finished.stderr.contains("does not exist"), "{}", finished.stderr);
    Ok(plain_six(&finished.stdout))
}

/// What IPv6 says of every route left out, and the kernel's own networks of links.
fn plain_six(printed: &str) -> String {
    let lines = printed.lines().filter(|line| !line.starts_with("fe80::/64"));
    lines.map(|line| line.replace(" pref medium", "").replace(" metric 1024", "") + "\n").collect()
}

/// Holds the routes of a table to be exactly these.
pub(crate) fn table(namespace: &Namespace, family: &str, table: &str, expected: &[String]) -> Result<()> {
    match difference(expected, &routes(namespace, family, table)?) {
        Some(difference) => anyhow::bail!("ip {family} route show table {table}:\n{difference}"),
        None => Ok(()),
    }
}

/// Holds the rules to be exactly these beside the kernel's own.
pub(crate) fn rules(namespace: &Namespace, family: &str, expected: &[String]) -> Result<()> {
    let mut all = vec!["0: from all lookup local".to_owned(), "32766: from all lookup main".to_owned()];
    if family == "-4" {
        all.push("32767: from all lookup default".to_owned());
    }
    all.extend_from_slice(expected);
    match difference(&all, &namespace.ip(&[family, "rule"])?) {
        Some(difference) => anyhow::bail!("ip {family} rule:\n{difference}"),
        None => Ok(()),
    }
}

/// All that a plan may touch in a namespace. What a router makes the kernel learn is left out.
pub(crate) fn routing(namespace: &Namespace) -> Result<String> {
    let mut text = String::new();
    for family in ["-4", "-6"] {
        text += &namespace.ip(&[family, "rule"])?;
        let mut lines: Vec<String> =
            namespace.ip(&[family, "route", "show", "table", "all"])?.lines().map(str::to_owned).collect();
        lines.sort();
        text += &lines.join("\n");
    }
    text += &namespace.ip(&["neigh", "show", "nud", "permanent"])?;
    Ok(text)
}

/// A kernel setting below `net`.
pub(crate) fn setting(namespace: &Namespace, key: &str) -> Result<String> {
    let path = format!("/proc/sys/net/{key}");
    let value = namespace.enter(|| fs::read_to_string(&path))?.with_context(|| format!("read {path}"))?;
    Ok(value.trim().to_owned())
}

/// A field of a link.
pub(crate) fn link(namespace: &Namespace, name: &str, field: &str) -> Result<Value> {
    Ok(namespace.ip_json(&["link", "show", name])?[0][field].clone())
}

/// Pings once from the Pod, holds the answer to have come, and says by which link the request left, from which source.
pub(crate) fn leaves_by(pod: &Pod, options: &[&str], destination: impl Into<IpAddr>) -> Result<(String, IpAddr)> {
    let destination = destination.into();
    let capture = Capture::start(pod.namespace())?;
    let ping = Program::new("ping").args(["-c", "1", "-W", "2"]).args(options).arg(destination.to_string());
    pod.namespace().run(&ping)?.success()?;
    let packets = capture.packets()?;
    let asked = |packet: &&Packet| packet.payload == Payload::EchoRequest && packet.destination == destination;
    let requests: Vec<&Packet> = packets.iter().filter(asked).collect();
    let first = requests.first().with_context(|| format!("no request was seen: {packets:?}"))?;
    ensure!(requests.len() == 1 && first.left_by(&first.interface), "{requests:?}");
    Ok((first.interface.clone(), first.source))
}

/// The node and the cluster's networks of IPv4, by eth0.
pub(crate) fn cluster() -> Vec<String> {
    let through = [POD_CIDR, SERVICE_CIDR].map(|cidr| format!("{cidr} via {NODE} dev eth0"));
    [format!("{NODE} dev eth0 scope link")].into_iter().chain(through).collect()
}

/// The same with the hijacked network.
pub(crate) fn cluster_and_hijacked() -> Vec<String> {
    let hijacked = format!("{HIJACK_CIDR} via {NODE} dev eth0");
    cluster().into_iter().chain([hijacked]).collect()
}

/// The same of IPv6.
pub(crate) fn cluster_six() -> Vec<String> {
    vec![format!("{NODE_SIX} dev eth0"), format!("{POD_CIDR_SIX} via {NODE_SIX} dev eth0")]
}

/// The default route and the subnet of one of the three.
pub(crate) fn own(interface: &str) -> [String; 2] {
    let (gateway, subnet, address) = match interface {
        "net1" => (GATEWAY.to_string(), "10.6.0.0/16", NET1),
        "net2" => ("10.8.0.1".to_owned(), "10.8.0.0/24", NET2),
        _ => ("10.9.0.1".to_owned(), "10.9.0.0/24", NET3),
    };
    [format!("default via {gateway} dev {interface}"), format!("{subnet} dev {interface} scope link src {address}")]
}

/// What Calico made.
pub(crate) fn calico() -> [String; 2] {
    ["default via 169.254.1.1 dev eth0".to_owned(), "169.254.1.1 dev eth0 scope link".to_owned()]
}

/// Lists in one.
pub(crate) fn all(lists: &[&[String]]) -> Vec<String> {
    lists.concat()
}
