//! A Pod: a sandbox with a Calico-like `eth0`, and further interfaces by CNI.

use anyhow::{Context, Result, bail};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use crate::chain::Chain;
use crate::example::{CALICO_NEXT_HOP, CALICO_NEXT_HOP_IPV6};
use crate::namespace::Namespace;
use crate::node::Node;
use crate::program::{Finished, Program};
use crate::software::Tools;

/// What a Pod is made from.
#[derive(Clone, Debug)]
pub struct PodSpec {
    /// Its Kubernetes namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// The address of its `eth0`.
    pub address: Ipv4Addr,
}

impl PodSpec {
    /// A Pod in the namespace `default`.
    pub fn new(name: &str, uid: &str, address: Ipv4Addr) -> Self {
        Self { namespace: "default".to_owned(), name: name.to_owned(), uid: uid.to_owned(), address }
    }
}

/// A Pod of the lab. When it is dropped its sandbox is gone, as after a crash: nobody calls DEL.
#[derive(Debug)]
pub struct Pod {
    spec: PodSpec,
    sandbox: Namespace,
    node: Namespace,
    host_link: String,
    configurations: PathBuf,
    cni_path: String,
    cnitool: PathBuf,
}

impl Pod {
    /// Makes the sandbox and its `eth0`. `number` is unique in the lab.
    pub(crate) fn build(node: &Node, spec: PodSpec, number: u32, tools: &Tools) -> Result<Self> {
        let sandbox = format!("{}-{number}", spec.name);
        let configurations = node.configurations(&sandbox);
        fs::create_dir(&configurations).with_context(|| format!("make {}", configurations.display()))?;
        let pod = Self {
            sandbox: node.sandbox(&sandbox)?,
            node: node.namespace().clone(),
            host_link: format!("cali{number:011x}"),
            configurations,
            cni_path: node.cni_path(),
            cnitool: tools.cnitool.clone(),
            spec,
        };
        pod.wire().with_context(|| format!("wire eth0 of {} on {}", pod.spec.name, node.name()))?;
        Ok(pod)
    }

    /// What it was made from.
    pub fn spec(&self) -> &PodSpec {
        &self.spec
    }

    /// Its network namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.sandbox
    }

    /// Gives `eth0` an IPv6 address as Calico does: the next hop is the link-local address of the node's end.
    ///
    /// # Errors
    /// The address is there already.
    pub fn add_ipv6(&self, address: Ipv6Addr) -> Result<()> {
        let link = &self.host_link;
        self.node.ip_batch(&format!("route replace {address}/128 dev {link}\n"))?;
        self.sandbox.ip_batch(&format!(
            "addr add {address}/128 dev eth0 nodad\nroute add default via {CALICO_NEXT_HOP_IPV6} dev eth0\n"
        ))
    }

    /// Takes `eth0`'s IPv4 away.
    ///
    /// # Errors
    /// It has none.
    pub fn remove_ipv4(&self) -> Result<()> {
        let address = self.spec.address;
        self.node.ip_batch(&format!("route del {address}/32 dev {}\n", self.host_link))?;
        self.sandbox.ip_batch(&format!(
            "route del default dev eth0\nroute del {CALICO_NEXT_HOP} dev eth0\naddr del {address}/32 dev eth0\n"
        ))
    }

    /// The node's end of `eth0`.
    pub fn host_link(&self) -> &str {
        &self.host_link
    }

    /// CNI ADD of a chain; returns the CNI result. `arguments` are further `CNI_ARGS`.
    ///
    /// # Errors
    /// The chain failed; with the CNI error as the runner prints it.
    pub fn add(&self, chain: &Chain, interface: &str, arguments: &[(&str, &str)]) -> Result<serde_json::Value> {
        self.cni("add", chain, interface, arguments)?.success()?.json()
    }

    /// CNI DEL of a chain.
    ///
    /// # Errors
    /// As [`Pod::add`].
    pub fn del(&self, chain: &Chain, interface: &str, arguments: &[(&str, &str)]) -> Result<()> {
        self.cni("del", chain, interface, arguments)?.success().map(drop)
    }

    /// CNI CHECK of a chain.
    ///
    /// # Errors
    /// As [`Pod::add`].
    pub fn check(&self, chain: &Chain, interface: &str, arguments: &[(&str, &str)]) -> Result<()> {
        self.cni("check", chain, interface, arguments)?.success().map(drop)
    }

    /// Runs the reference runner with one verb, whatever comes of it.
    ///
    /// # Errors
    /// The runner could not be started.
    pub fn cni(&self, verb: &str, chain: &Chain, interface: &str, arguments: &[(&str, &str)]) -> Result<Finished> {
        let folder = self.configurations.join(interface);
        fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
        let file = folder.join("chain.conflist");
        fs::write(&file, chain.to_string()).with_context(|| format!("write {}", file.display()))?;
        let known = [
            ("IgnoreUnknown", "1"),
            ("K8S_POD_NAMESPACE", &*self.spec.namespace),
            ("K8S_POD_NAME", &*self.spec.name),
            ("K8S_POD_UID", &*self.spec.uid),
        ];
        let pairs = known.iter().chain(arguments).map(|(key, value)| format!("{key}={value}"));
        let program = Program::new(&self.cnitool)
            .args([verb, chain.name()])
            .arg(self.sandbox.path())
            .env("NETCONFPATH", folder.to_string_lossy())
            .env("CNI_PATH", &self.cni_path)
            .env("CNI_IFNAME", interface)
            .env("CNI_ARGS", pairs.collect::<Vec<_>>().join(";"));
        self.node.run(&program)
    }

    /// The IPv4 address of an interface, with its prefix length.
    ///
    /// # Errors
    /// The interface does not exist or has no IPv4 address, or more than one.
    pub fn address(&self, interface: &str) -> Result<(Ipv4Addr, u8)> {
        let links = self.sandbox.ip_json(&["-4", "addr", "show", "dev", interface])?;
        let addresses = links[0]["addr_info"].as_array().cloned().unwrap_or_default();
        let [address] = addresses.as_slice() else {
            bail!("{interface} of {} has {} IPv4 addresses, not one", self.spec.name, addresses.len());
        };
        let text = address["local"].as_str().context("`ip -j addr` without `local`")?;
        let prefix = address["prefixlen"].as_u64().context("`ip -j addr` without `prefixlen`")?;
        Ok((text.parse()?, u8::try_from(prefix)?))
    }

    /// Pings twice from inside; `options` go before the destination.
    ///
    /// # Errors
    /// `ping` could not be started. No answer is not an error here.
    pub fn ping(&self, options: &[&str], destination: impl Into<IpAddr>) -> Result<Finished> {
        self.sandbox.run(&Program::ping(options, destination))
    }

    fn wire(&self) -> Result<()> {
        let Self { host_link, node, sandbox, .. } = self;
        let address = self.spec.address;
        sandbox.sysctl(&[
            // As distributions set it: an interface drops what its routes would not send back.
            ("ipv4/conf/default/rp_filter", "1"),
            // No duplicate address detection: nobody waits a second for each IPv6 address.
            ("ipv6/conf/default/accept_dad", "0"),
        ])?;
        // Calico's MTU, and its MAC address of the node's end.
        let options = "address ee:ee:ee:ee:ee:ee mtu 1430";
        node.wire(host_link, options, sandbox, "eth0 mtu 1430")?;
        node.sysctl(&[
            (&format!("ipv4/conf/{host_link}/proxy_arp"), "1"),
            (&format!("ipv4/neigh/{host_link}/proxy_delay"), "0"),
        ])?;
        node.ip_batch(&format!("link set {host_link} up\nroute replace {address}/32 dev {host_link} scope link\n"))?;
        sandbox.ip_batch(&format!(
            "addr add {address}/32 dev eth0\n\
             link set eth0 up\n\
             route add {CALICO_NEXT_HOP} dev eth0 scope link\n\
             route add default via {CALICO_NEXT_HOP} dev eth0\n"
        ))
    }
}
