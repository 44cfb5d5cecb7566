//! The documents of a standalone node: what the daemon reads instead of a cluster.

use anyhow::{Context, Result};
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use crate::example::{HIJACK_CIDR, POD_CIDR, POD_CIDR_SIX, SERVICE_CIDR};
use crate::subnet::Subnet;

/// A folder of YAML documents.
#[derive(Clone, Debug)]
pub struct Standalone {
    path: PathBuf,
}

impl Standalone {
    /// Makes the folder.
    pub(crate) fn create(path: PathBuf) -> Result<Self> {
        fs::create_dir(&path).with_context(|| format!("make {}", path.display()))?;
        Ok(Self { path })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Puts a document in place, whole or not at all.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn write(&self, name: &str, document: &str) -> Result<()> {
        let (aside, place) = (self.path.join(format!(".{name}.new")), self.path.join(name));
        fs::write(&aside, document)
            .and_then(|()| fs::rename(&aside, &place))
            .with_context(|| format!("write {}", place.display()))
    }

    /// Gives the node's pool these ranges, first and last address of each.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn write_pool(&self, ranges: &[(Ipv4Addr, Ipv4Addr)]) -> Result<()> {
        let ranges: Vec<_> = ranges.iter().map(|(first, last)| format!("{first}-{last}")).collect();
        self.write("pool.yaml", &pool(&Subnet::NET1[0], &ranges))
    }

    /// Makes a pool of a subnet, of one range, `FIRST-LAST`.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn write_pool_of(&self, subnet: &Subnet, range: &str) -> Result<()> {
        self.write(&format!("{}.yaml", subnet.pool), &pool(subnet, &[range.to_owned()]))
    }

    /// Takes a document away.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn remove(&self, name: &str) -> Result<()> {
        let place = self.path.join(name);
        fs::remove_file(&place).with_context(|| format!("remove {}", place.display()))
    }
}

fn pool(subnet: &Subnet, ranges: &[String]) -> String {
    let Subnet { pool, network, gateway } = subnet;
    let ips = ranges.iter().map(|range| format!("\"{range}\"")).collect::<Vec<_>>().join(", ");
    format!(
        "apiVersion: spiderpool.spidernet.io/v2beta1\n\
         kind: SpiderIPPool\n\
         metadata:\n  name: {pool}\n\
         spec:\n  disable: false\n  gateway: \"{gateway}\"\n  ips: [{ips}]\n  subnet: \"{network}\"\n"
    )
}

/// The cluster's coordinator as its controller would have left it.
pub(crate) fn coordinator() -> String {
    format!(
        "apiVersion: spiderpool.spidernet.io/v2beta1\n\
         kind: SpiderCoordinator\n\
         metadata:\n  name: default\n\
         spec:\n  detectGateway: false\n  detectIPConflict: false\n  hijackCIDR: [{HIJACK_CIDR}]\n  \
         podRPFilter: 0\n  hostRPFilter: 0\n  hostRuleTable: 500\n  mode: auto\n  podCIDRType: calico\n  \
         podDefaultRouteNIC: \"\"\n  podMACPrefix: \"\"\n  tunePodRoutes: true\n\
         status:\n  overlayPodCIDR: [\"{POD_CIDR}\", \"{POD_CIDR_SIX}\"]\n  phase: Synced\n  serviceCIDR: [{SERVICE_CIDR}]\n"
    )
}

/// The node and the namespaces that the example's Pods live in.
pub(crate) fn cluster(node: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Node\nmetadata:\n  name: {node}\n  labels:\n    kubernetes.io/hostname: {node}\n\
         ---\napiVersion: v1\nkind: Namespace\nmetadata:\n  name: default\n\
         ---\napiVersion: v1\nkind: Namespace\nmetadata:\n  name: kube-system\n"
    )
}
