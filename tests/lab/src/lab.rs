//! The whole lab: the world outside, the nodes, and Pods on them.

use anyhow::{Context, Result};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::example::{self, UNDERLAY_LINK};
use crate::folder::Folder;
use crate::inspect::Inspect;
use crate::launcher::Launcher;
use crate::node::{Node, NodeSpec};
use crate::pod::{Pod, PodSpec};
use crate::software::{self, Tools};
use crate::topology::Topology;

/// A running lab. Dropping it takes everything down, daemons first and its folder last.
#[derive(Debug)]
pub struct Lab {
    nodes: Vec<Node>,
    topology: Topology,
    tools: Tools,
    pods: AtomicU32,
    folder: Folder,
}

impl Lab {
    /// Builds the example cluster. No daemon runs yet, and no Pod.
    ///
    /// # Errors
    /// Not root, or a program of the machine is missing: names what to install.
    pub fn start() -> Result<Self> {
        Self::start_with(vec![example::controller(), example::worker01()])
    }

    /// Builds a cluster of the given nodes.
    ///
    /// # Errors
    /// As [`Lab::start`].
    pub fn start_with(nodes: Vec<NodeSpec>) -> Result<Self> {
        software::require_machine()?;
        let tools = Tools::find()?;
        let folder = Folder::create()?;
        let world = folder.path().join("world");
        fs::create_dir(&world).with_context(|| format!("make {}", world.display()))?;
        let launcher = Launcher::start("world", Vec::new())?;
        let topology = Topology::build(&launcher, &world).context("build the underlay")?;
        let addresses: Vec<_> = nodes.iter().map(|node| node.address).collect();
        let nodes = nodes
            .into_iter()
            .map(|spec| {
                let node = Node::build(spec, folder.path(), &topology)?;
                node.translate(&addresses)?;
                Ok(node)
            })
            .collect::<Result<_>>()?;
        Ok(Self { nodes, topology, tools, pods: AtomicU32::new(1), folder })
    }

    /// Brings IPv6 to the segment, and the subnets of `net2`.
    ///
    /// # Errors
    /// They are there already.
    pub fn join_ipv6(&self) -> Result<()> {
        self.topology.join_ipv6()?;
        self.nodes.iter().try_for_each(Node::join_ipv6)
    }

    /// The lab's folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What lies outside of the nodes.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// The foreign programs.
    pub fn tools(&self) -> &Tools {
        &self.tools
    }

    /// All nodes.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The node of that name.
    ///
    /// # Errors
    /// There is none.
    pub fn node(&self, name: &str) -> Result<&Node> {
        self.nodes.iter().find(|node| node.name() == name).with_context(|| format!("no node `{name}` in the lab"))
    }

    /// The foreign gRPC client, pointed at a node's daemon.
    pub fn inspect(&self, node: &Node) -> Inspect {
        Inspect::new(self.tools.grpcurl.clone(), node.namespace().clone(), node.daemon().socket().to_owned())
    }

    /// A new Pod on a node, with `eth0`, reachable from all nodes.
    ///
    /// # Errors
    /// There is no such node, or its `eth0` could not be wired.
    pub fn pod(&self, node: &str, spec: PodSpec) -> Result<Pod> {
        let node = self.node(node)?;
        let pod = Pod::build(node, spec, self.pods.fetch_add(1, Ordering::Relaxed), &self.tools)?;
        for other in self.nodes.iter().filter(|other| other.name() != node.name()) {
            // One route a Pod, where Calico has one a block: tests may then give any address to any node.
            let (address, via) = (pod.spec().address, node.address());
            other.namespace().ip_batch(&format!("route replace {address}/32 via {via} dev {UNDERLAY_LINK}\n"))?;
        }
        Ok(pod)
    }
}
