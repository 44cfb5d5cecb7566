//! A node: a network namespace on the segment, folders of its own, a daemon.

use anyhow::{Context, Result};
use std::fs::DirBuilder;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Path, PathBuf};

use crate::daemon::{Daemon, Places};
use crate::example::{DNS_POD, GATEWAY, GATEWAY_SIX, POD_CIDR, SERVICE, SERVICE_CIDR, SERVICE_PORT, UNDERLAY_LINK};
use crate::launcher::{Bind, Launcher};
use crate::namespace::Namespace;
use crate::program::Program;
use crate::shim::Shim;
use crate::software::CNI_PLUGINS;
use crate::standalone::{self, Standalone};
use crate::topology::Topology;

/// What a node is made from.
#[derive(Clone, Debug)]
pub struct NodeSpec {
    /// Its name.
    pub name: String,
    /// Its address on the segment, /16.
    pub address: Ipv4Addr,
    /// The address ranges of its pool, first and last address of each.
    pub ranges: Vec<(Ipv4Addr, Ipv4Addr)>,
}

impl NodeSpec {
    /// Whether its pool has the address.
    pub fn owns(&self, address: Ipv4Addr) -> bool {
        self.ranges.iter().any(|(first, last)| (*first..=*last).contains(&address))
    }
}

/// A node of the lab.
#[derive(Debug)]
pub struct Node {
    daemon: Daemon,
    spec: NodeSpec,
    namespace: Namespace,
    folder: PathBuf,
    standalone: Standalone,
}

impl Node {
    pub(crate) fn build(spec: NodeSpec, lab: &Path, topology: &Topology) -> Result<Self> {
        let folder = lab.join(&spec.name);
        let private = |part: &str| DirBuilder::new().mode(0o700).create(folder.join(part));
        for part in ["", "netns", "pods", "cni-bin", "net.d", "state", "run", "var-lib", "var-lib/cni", "proc"] {
            private(part).with_context(|| format!("make {part} in {}", folder.display()))?;
        }
        // A machine of its own has processes of its own: what other nodes and the machine below hold is not this node's.
        let proc = folder.join("proc");
        for part in ["sys", "self"] {
            symlink(Path::new("/proc").join(part), proc.join(part)).with_context(|| format!("link {part}"))?;
        }
        // libcni and host-local write below /var/lib/cni, with no way to say otherwise.
        let binds = vec![Bind { from: folder.join("var-lib"), to: "/var/lib".into() }];
        let launcher = Launcher::start(&spec.name, binds)?;
        let namespace = Namespace::create(&launcher, &folder.join("netns"), &spec.name)?;
        topology.plug(&spec.name, &namespace, UNDERLAY_LINK)?;

        let standalone = Standalone::create(folder.join("standalone"))?;
        standalone.write_pool(&spec.ranges)?;
        standalone.write("coordinator.yaml", &standalone::coordinator())?;
        standalone.write("cluster.yaml", &standalone::cluster(&spec.name))?;
        let places = Places {
            standalone: standalone.path().to_owned(),
            state: folder.join("state"),
            socket: folder.join("run/spiderpool.sock"),
            spool: folder.join("spool"),
            cni_bin: folder.join("cni-bin"),
            netns: folder.join("pods"),
            proc,
            log: folder.join("daemon.log"),
        };
        let daemon = Daemon::new(&spec.name, namespace.clone(), places);
        let node = Self { daemon, spec, namespace, folder, standalone };
        node.join_segment().with_context(|| format!("set up the node {}", node.name()))?;
        Ok(node)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// What it was made from.
    pub fn spec(&self) -> &NodeSpec {
        &self.spec
    }

    /// Its address on the segment.
    pub fn address(&self) -> Ipv4Addr {
        self.spec.address
    }

    /// Its IPv6 address, once it has one: with the digits of the last byte of the other.
    pub fn address_six(&self) -> Ipv6Addr {
        let [.., last] = self.spec.address.octets();
        let digits = u16::from(last / 100) << 8 | u16::from(last / 10 % 10) << 4 | u16::from(last % 10);
        Ipv6Addr::new(0xfd00, 0x10, 6, 0, 0, 0, 0, digits)
    }

    /// Its own network namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Its daemon.
    pub fn daemon(&self) -> &Daemon {
        &self.daemon
    }

    /// The documents that its daemon reads.
    pub fn standalone(&self) -> &Standalone {
        &self.standalone
    }

    /// What its programs see as /var/lib/cni: the runtime's cached results.
    pub fn cni_cache(&self) -> PathBuf {
        self.folder.join("var-lib/cni")
    }

    /// The folder with the installed shims.
    pub fn cni_bin(&self) -> PathBuf {
        self.folder.join("cni-bin")
    }

    /// The folders of CNI plugins, as `CNI_PATH`: the shims' own and Debian's.
    pub fn cni_path(&self) -> String {
        format!("{}:{CNI_PLUGINS}", self.cni_bin().display())
    }

    /// An installed CNI program, `spiderpool` or `coordinator`, to be called without a runner.
    pub fn shim(&self, program: &str) -> Shim {
        Shim::new(self.namespace.clone(), self.cni_bin().join(program), self.cni_path())
    }

    /// What Prometheus would scrape.
    ///
    /// # Errors
    /// The daemon does not serve.
    pub fn figures(&self) -> Result<String> {
        let curl = Program::new("curl").args(["-sf", "-m", "5", "http://127.0.0.1:5711/metrics"]);
        Ok(self.namespace.run(&curl)?.success()?.stdout)
    }

    /// One of the figures, by its name with its labels.
    ///
    /// # Errors
    /// There is no such figure, or it is no whole number.
    pub fn figure(&self, name: &str) -> Result<u64> {
        let text = self.figures()?;
        let figure = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
        figure.with_context(|| format!("no figure {name}:\n{text}"))
    }

    /// A folder for the network configurations of one sandbox.
    pub(crate) fn configurations(&self, sandbox: &str) -> PathBuf {
        self.folder.join("net.d").join(sandbox)
    }

    /// An empty network namespace among those of the node's Pods.
    ///
    /// # Errors
    /// The name is taken.
    pub fn sandbox(&self, name: &str) -> Result<Namespace> {
        Namespace::create(self.namespace.launcher(), &self.folder.join("pods"), name)
    }

    /// A macvlan on the underlay, made by hand: down, and without addresses.
    ///
    /// # Errors
    /// The sandbox has a link of that name.
    pub fn make_macvlan(&self, sandbox: &Namespace, name: &str) -> Result<()> {
        let reference = sandbox.reference();
        self.namespace.ip_batch(&format!(
            "link add link {UNDERLAY_LINK} name {name} netns {reference} type macvlan mode bridge\n"
        ))
    }

    fn join_segment(&self) -> Result<()> {
        self.namespace.sysctl(&[
            ("ipv4/ip_forward", "1"),
            // The node forwards for Pods with addresses of both networks: a strict filter would drop them.
            ("ipv4/conf/all/rp_filter", "0"),
            ("ipv4/conf/default/rp_filter", "0"),
            ("ipv4/conf/ens192/rp_filter", "0"),
        ])?;
        self.namespace.ip_batch(&format!(
            "addr add {}/16 brd + dev {UNDERLAY_LINK}\n\
             link set {UNDERLAY_LINK} up\n\
             route add default via {GATEWAY}\n",
            self.address()
        ))
    }

    /// Gives it IPv6 on the segment.
    pub(crate) fn join_ipv6(&self) -> Result<()> {
        self.namespace.route_ipv6(UNDERLAY_LINK)?;
        self.namespace.ip_batch(&format!(
            "addr add {}/64 dev {UNDERLAY_LINK} nodad\nroute add default via {GATEWAY_SIX}\n",
            self.address_six()
        ))
    }

    /// What kube-proxy and Calico have on every node: the Service's translation, and a new source address for
    /// Pod traffic that leaves the cluster.
    pub(crate) fn translate(&self, nodes: &[Ipv4Addr]) -> Result<()> {
        let nodes = nodes.iter().map(Ipv4Addr::to_string).collect::<Vec<_>>().join(", ");
        let service =
            format!("ip daddr {SERVICE} meta l4proto {{ tcp, udp }} th dport {SERVICE_PORT} dnat to {DNS_POD}");
        self.namespace.nft(&format!(
            "table ip cluster {{\n\
               chain prerouting {{ type nat hook prerouting priority dstnat; {service}; }}\n\
               chain output {{ type nat hook output priority -100; {service}; }}\n\
               chain postrouting {{ type nat hook postrouting priority srcnat;\n\
                 ip saddr {POD_CIDR} ip daddr != {{ {POD_CIDR}, {SERVICE_CIDR}, {nodes} }} masquerade; }}\n\
             }}\n"
        ))
    }
}
