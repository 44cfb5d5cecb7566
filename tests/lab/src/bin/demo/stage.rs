//! The cluster of the demo, as it stands before the first step.

use anyhow::{Context, Result};
use spiderpool_lab::{Chain, Lab, Pod, PodTables, SilentListener, example};

use crate::report::Report;

/// The interface that the chain adds.
pub(crate) const NET1: &str = "net1";

/// Two nodes with daemons, two nginx Pods with `net1`, the DNS Pod with `eth0` alone. Fields drop in this order.
pub(crate) struct Stage {
    pub(crate) pod: Pod,
    pub(crate) neighbour: Pod,
    pub(crate) chain: Chain,
    _listener: SilentListener,
    _dns: Pod,
    pub(crate) lab: Lab,
}

impl Stage {
    pub(crate) fn build(report: &Report) -> Result<Self> {
        let lab = report.progress("Building an underlay, two routers and two nodes in namespaces", Lab::start)?;
        for node in lab.nodes() {
            report.progress(&format!("Starting spiderpool-agent on {}", node.name()), || node.daemon().start())?;
        }
        let dns = lab.pod("controller", example::coredns())?;
        let listener = SilentListener::start(dns.namespace(), example::SERVICE_PORT)?;
        let chain = Chain::overlay();
        let add = |node: &str, spec| -> Result<Pod> {
            let pod = lab.pod(node, spec)?;
            pod.add(&chain, NET1, &[]).with_context(|| log_of(&lab, node))?;
            Ok(pod)
        };
        let what = "Adding net1 to both nginx Pods: cnitool, macvlan, spiderpool, coordinator";
        let (pod, neighbour) = report.progress(what, || {
            Ok((add("worker01", example::nginx_rswak())?, add("controller", example::nginx_aswpm())?))
        })?;
        Ok(Self { pod, neighbour, chain, _listener: listener, _dns: dns, lab })
    }

    /// The tables that the Pod on worker01 must have, with the address that `net1` has now.
    pub(crate) fn tables(&self, default_by_net1: bool) -> Result<PodTables> {
        let (net1, _) = self.pod.address(NET1)?;
        let node = self.lab.node("worker01")?.address();
        Ok(PodTables { node, eth0: self.pod.spec().address, net1, net2: None, default_by_net1 })
    }

    /// What the demo's prompt says for the Pod on worker01.
    pub(crate) fn prompt(&self) -> &str {
        &self.pod.spec().name
    }

    /// Takes the cluster down.
    pub(crate) fn end(self, report: &Report) -> Result<()> {
        println!();
        report.progress("Stopping the daemons, removing every namespace", || {
            for node in self.lab.nodes() {
                node.daemon().stop()?;
            }
            drop(self);
            Ok(())
        })
    }
}

/// The end of a daemon's log, for an error.
pub(crate) fn log_of(lab: &Lab, node: &str) -> String {
    let log = lab.node(node).and_then(|node| node.daemon().log()).unwrap_or_default();
    let lines: Vec<_> = log.lines().collect();
    format!("on {node}, whose daemon last said:\n{}\n", lines[lines.len().saturating_sub(8)..].join("\n"))
}
