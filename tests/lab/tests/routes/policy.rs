//! Policy routes: where the interface's traffic looks, and by the interface whose subnet has the gateway.

use anyhow::{Result, ensure};
use serde_json::json;
use spiderpool_lab::example::POOL;
use std::net::Ipv4Addr;

use crate::rig::{Rig, chain, leaves_by, routes};

const BEYOND: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);

#[test]
fn the_network_s_own_stand_where_its_traffic_looks() -> Result<()> {
    let rig = Rig::start()?;
    let own = json!([{ "dst": "10.77.0.0/24", "gw": "10.6.0.1" }]);
    let route = "10.77.0.0/24 via 10.6.0.1 dev net1";
    let with = |nic: Option<&str>, tune: bool| {
        let chain = chain(&[POOL]).with("policyRoutes", own.clone()).with("tunePodRoutes", tune);
        nic.map_or(chain.clone(), |nic| chain.default_route_nic(nic))
    };
    for (chain, expected) in
        [(with(None, true), "101"), (with(Some("net1"), true), "main"), (with(None, false), "main")]
    {
        let pod = rig.pod()?;
        rig.add(&pod, &chain, "net1")?;
        for place in ["main", "101"] {
            let there = routes(pod.namespace(), "-4", place)?.contains(route);
            ensure!(there == (place == expected), "in {place}:\n{}", routes(pod.namespace(), "-4", place)?);
        }
        let (net1, _) = pod.address("net1")?;
        ensure!(leaves_by(&pod, &["-I", &net1.to_string()], BEYOND)?.0 == "net1");
        let unasked = if expected == "main" { "net1" } else { "eth0" };
        ensure!(leaves_by(&pod, &[], BEYOND)?.0 == unasked);
        pod.check(&chain, "net1", &[])?;
        pod.del(&chain, "net1", &[])?;
    }
    Ok(())
}

/// An item for each interface would fail the second ADD: its gateway is not in that one's subnet.
#[test]
fn the_clusters_go_by_the_interface_of_their_gateway() -> Result<()> {
    let rig = Rig::start_with(
        "  policyRoutes:\n  - {dst: 10.77.0.0/24, gw: 10.8.0.1}\n  - {dst: 10.78.0.0/24, gw: 10.6.0.1}\n  \
         - {dst: 10.79.0.0/24, gw: 10.99.0.1}\n  - {dst: \"fd00:77::/64\", gw: \"fd00:10:6::1\"}\n",
    )?;
    let pod = rig.pod()?;
    for (interface, pool) in [("net1", POOL), ("net2", "10-8-v4")] {
        rig.add(&pod, &chain(&[pool]), interface)?;
    }
    let all = pod.namespace().ip(&["route", "show", "table", "all"])?;
    let policy: Vec<&str> = all.lines().filter(|line| line.starts_with("10.7")).map(str::trim).collect();
    ensure!(
        policy == ["10.78.0.0/24 via 10.6.0.1 dev net1 table 101", "10.77.0.0/24 via 10.8.0.1 dev net2 table 102"],
        "{policy:?}"
    );
    ensure!(!pod.namespace().ip(&["-6", "route", "show", "table", "all"])?.contains("fd00:77::"));
    let (net2, _) = pod.address("net2")?;
    ensure!(leaves_by(&pod, &["-I", &net2.to_string()], BEYOND)?.0 == "net2");
    Ok(())
}
