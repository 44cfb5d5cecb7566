//! What lies outside of the nodes: the underlay segment, two routers, and a host behind each.

use anyhow::Result;
use std::path::Path;
use std::sync::Arc;

use crate::example::{FAR_HOST, GATEWAY, OUTSIDE_HOST, SUBNET};
use crate::launcher::Launcher;
use crate::namespace::Namespace;
use crate::subnet::Subnet;

/// The namespaces outside of the nodes.
#[derive(Debug)]
pub struct Topology {
    /// The switch that joins the nodes' `ens192` and the gateway.
    pub segment: Namespace,
    /// 10.6.0.1, the gateway of the underlay subnet.
    pub gateway: Namespace,
    /// The next router, 10.7.0.1.
    pub router: Namespace,
    /// 10.7.212.101, behind the router.
    pub far: Namespace,
    /// 172.16.5.20, behind the gateway.
    pub outside: Namespace,
}

impl Topology {
    /// Builds everything.
    pub(crate) fn build(launcher: &Arc<Launcher>, folder: &Path) -> Result<Self> {
        let make = |name: &str| Namespace::create(launcher, folder, name);
        let topology = Self {
            segment: make("segment")?,
            gateway: make("gateway")?,
            router: make("router")?,
            far: make("far")?,
            outside: make("outside")?,
        };
        // Ports of the bridge forward at once: no spanning tree, no multicast queries.
        topology.segment.ip_batch("link add bridge type bridge mcast_snooping 0\nlink set bridge up\n")?;
        topology.plug("gateway", &topology.gateway, "underlay")?;
        topology.gateway.wire("to-router", "", &topology.router, "to-gateway")?;
        topology.gateway.wire("to-outside", "", &topology.outside, "eth0")?;
        topology.router.wire("to-far", "", &topology.far, "eth0")?;
        topology.address()?;
        for router in [&topology.gateway, &topology.router] {
            router.sysctl(&[("ipv4/ip_forward", "1")])?;
        }
        Ok(topology)
    }

    /// Joins `namespace` to the segment by a link that it sees as `link`.
    pub(crate) fn plug(&self, port: &str, namespace: &Namespace, link: &str) -> Result<()> {
        self.segment.wire(port, "", namespace, link)?;
        self.segment.ip_batch(&format!("link set {port} master bridge up\n"))
    }

    /// Gives the gateway IPv6, and an address in each subnet of `net2`.
    pub(crate) fn join_ipv6(&self) -> Result<()> {
        self.gateway.route_ipv6("underlay")?;
        let ([_, six], [other, other_six]) = (Subnet::NET1, Subnet::NET2);
        let [other, six, other_six] = [other, six, other_six].map(|subnet| subnet.with_length(subnet.gateway));
        self.gateway.ip_batch(&format!(
            "addr add {other} dev underlay\n\
             addr add {six} dev underlay nodad\n\
             addr add {other_six} dev underlay nodad\n"
        ))
    }

    fn address(&self) -> Result<()> {
        self.gateway.ip_batch(&format!(
            "addr add {GATEWAY}/16 brd + dev underlay\n\
             addr add 10.200.0.1/30 dev to-router\n\
             addr add 172.16.5.1/24 dev to-outside\n\
             link set underlay up\nlink set to-router up\nlink set to-outside up\n\
             route add 10.7.0.0/16 via 10.200.0.2\n"
        ))?;
        self.router.ip_batch(&format!(
            "addr add 10.200.0.2/30 dev to-gateway\n\
             addr add 10.7.0.1/16 brd + dev to-far\n\
             link set to-gateway up\nlink set to-far up\n\
             route add {SUBNET} via 10.200.0.1\n\
             route add 172.16.5.0/24 via 10.200.0.1\n"
        ))?;
        self.far.ip_batch(&format!(
            "addr add {FAR_HOST}/16 brd + dev eth0\nlink set eth0 up\nroute add default via 10.7.0.1\n"
        ))?;
        self.outside.ip_batch(&format!(
            "addr add {OUTSIDE_HOST}/24 brd + dev eth0\nlink set eth0 up\nroute add default via 172.16.5.1\n"
        ))
    }
}
