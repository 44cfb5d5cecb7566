//! SpiderCoordinator: the cluster's settings for routes, and in its status what is known of the cluster's subnets.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use spiderpool_core::world::{Coordinator, Probes, Settings};

use crate::invalid::{Faults, Invalid};
use crate::metadata::Metadata;
use crate::network::{self, Route};
use crate::setting;

/// Settings for routes. Cluster scoped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpiderCoordinator {
    /// Name and state.
    pub metadata: Metadata,
    /// What is wanted.
    pub spec: CoordinatorSpec,
    /// What is known of the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<CoordinatorStatus>,
}

/// Settings, each of which a network's own configuration may override.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CoordinatorSpec {
    /// `auto` (default), `underlay`, `overlay` or `disabled`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// Where the subnets of the default CNI's Pods are read: `auto`, `cluster`, `calico`, `cilium` or `none`.
    #[serde(default, rename = "podCIDRType", skip_serializing_if = "Option::is_none")]
    pub pod_cidr_type: Option<String>,
    /// Further destinations, addresses or networks, that leave by the default CNI.
    #[serde(default, rename = "hijackCIDR", skip_serializing_if = "Option::is_none")]
    pub hijack_cidr: Option<Vec<String>>,
    /// Routes by the NIC itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_routes: Option<Vec<Route>>,
    /// First two bytes of the NIC's MAC address, as `hh:hh`; empty: left alone.
    #[serde(default, rename = "podMACPrefix", skip_serializing_if = "Option::is_none")]
    pub pod_mac_prefix: Option<String>,
    /// Whether default routes and rules are tuned; default true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tune_pod_routes: Option<bool>,
    /// The NIC that keeps the Pod's default route; empty: the one that has it.
    #[serde(default, rename = "podDefaultRouteNIC", skip_serializing_if = "Option::is_none")]
    pub pod_default_route_nic: Option<String>,
    /// Table of the host's routes to Pods; default 500.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_rule_table: Option<i64>,
    /// `rp_filter` inside the Pod: 0 (default), 1 or 2; negative: left alone.
    #[serde(default, rename = "podRPFilter", skip_serializing_if = "Option::is_none")]
    pub pod_rp_filter: Option<i64>,
    /// `rp_filter` of the host, which the daemon sees to; default 0. Kept for configurations that have it.
    #[serde(default, rename = "hostRPFilter", skip_serializing_if = "Option::is_none")]
    pub host_rp_filter: Option<i64>,
    /// Transmit queue length of the NIC inside the Pod; 0 (default): left alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tx_queue_len: Option<i64>,
    /// IPv4 link-local address of `veth0` in underlay mode; empty: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub veth_link_address: Option<String>,
    /// MTU of the veth pair in underlay mode; default 1500.
    #[serde(default, rename = "vethMTU", skip_serializing_if = "Option::is_none")]
    pub veth_mtu: Option<i64>,
    /// Probe the gateway before an address is given; default false. One more switch beside the IPAM's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detect_gateway: Option<bool>,
    /// Probe an address for conflicts before it is given; default false. One more switch beside the IPAM's own.
    #[serde(default, rename = "detectIPConflict", skip_serializing_if = "Option::is_none")]
    pub detect_ip_conflict: Option<bool>,
}

/// What is known of the cluster's subnets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CoordinatorStatus {
    /// `Synced` or `NotReady`.
    pub phase: String,
    /// Why not ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Subnets of the default CNI's Pods.
    #[serde(default, rename = "overlayPodCIDR", skip_serializing_if = "Option::is_none")]
    pub overlay_pod_cidr: Option<Vec<String>>,
    /// Subnets of Services.
    #[serde(default, rename = "serviceCIDR", skip_serializing_if = "Option::is_none")]
    pub service_cidr: Option<Vec<String>>,
}

const POD_CIDR_TYPES: [&str; 5] = ["auto", "cluster", "calico", "cilium", "none"];

impl SpiderCoordinator {
    /// The settings and subnets as core knows them. Without a status they are not synced.
    ///
    /// # Errors
    /// Every field that is not valid.
    pub fn parse(&self) -> Result<Coordinator, Vec<Invalid>> {
        let mut faults = Faults::default();
        self.metadata.check_name(&mut faults);
        if self.spec.pod_cidr_type.is_none() {
            faults.add("spec.podCIDRType", format!("is missing; write one of {}", POD_CIDR_TYPES.join(", ")));
        }
        let settings = self.spec.parse().map_err(|more| faults.append(more)).unwrap_or_default();
        let status = self.status.clone().unwrap_or_default();
        let synced = match status.phase.as_str() {
            "Synced" => Ok(()),
            "NotReady" => Err(status.reason.unwrap_or_else(|| "status.reason says nothing".into())),
            _ if self.status.is_none() => Err("it has no status; status.phase must be Synced".into()),
            other => {
                faults.add("status.phase", format!("{other:?} is no phase; write Synced or NotReady"));
                Ok(())
            }
        };
        let overlay_pod_cidr = cidrs("status.overlayPodCIDR", &status.overlay_pod_cidr, &mut faults);
        let service_cidr = cidrs("status.serviceCIDR", &status.service_cidr, &mut faults);
        let probes = Probes {
            conflict: self.spec.detect_ip_conflict.unwrap_or_default(),
            gateway: self.spec.detect_gateway.unwrap_or_default(),
        };
        let name = self.metadata.name.clone();
        faults.or(Coordinator { name, synced, overlay_pod_cidr, service_cidr, settings, probes })
    }
}

impl CoordinatorSpec {
    /// The settings as core knows them; what is not written stays unset. Also for the `coordinator` block of a
    /// SpiderMultusConfig, which need not say `podCIDRType`.
    ///
    /// # Errors
    /// Every field that is not valid, under `spec`.
    pub fn parse(&self) -> Result<Settings, Vec<Invalid>> {
        let mut faults = Faults::default();
        self.check(&mut faults);
        let hijack = network::destinations("spec.hijackCIDR", self.hijack_cidr.as_deref().unwrap_or_default());
        let routes = network::policy_routes("spec.policyRoutes", self.policy_routes.as_deref().unwrap_or_default());
        let nic = self.pod_default_route_nic.as_deref().map(setting::interface);
        let table = self.host_rule_table.map(setting::host_rule_table);
        let prefix = self.pod_mac_prefix.as_deref().map(setting::mac_prefix);
        let settings = Settings {
            mode: take("spec.mode", self.mode.as_deref().map(setting::mode), &mut faults),
            tune_pod_routes: self.tune_pod_routes,
            pod_default_route_nic: take("spec.podDefaultRouteNIC", nic, &mut faults).flatten(),
            pod_default_cni_nic: None,
            hijack_cidr: hijack.map_err(|more| faults.append(more)).unwrap_or_default(),
            host_rule_table: take("spec.hostRuleTable", table, &mut faults).flatten(),
            pod_rp_filter: take("spec.podRPFilter", self.pod_rp_filter.map(setting::rp_filter), &mut faults),
            tx_queue_length: take("spec.txQueueLen", self.tx_queue_len.map(setting::tx_queue_length), &mut faults),
            pod_mac_prefix: take("spec.podMACPrefix", prefix, &mut faults).flatten(),
            policy_routes: routes.map_err(|more| faults.append(more)).unwrap_or_default(),
        };
        faults.or(settings)
    }

    /// The fields that have rules, but no place in the settings.
    fn check(&self, faults: &mut Faults) {
        if let Some(kind) = self.pod_cidr_type.as_deref().filter(|kind| !POD_CIDR_TYPES.contains(kind)) {
            let reason = format!("{kind:?} is no source of subnets; write one of {}", POD_CIDR_TYPES.join(", "));
            faults.add("spec.podCIDRType", reason);
        }
        let host = self.host_rp_filter.map(setting::rp_filter);
        take("spec.hostRPFilter", host, faults);
        let address = self.veth_link_address.as_deref().filter(|text| !text.is_empty());
        let address = take("spec.vethLinkAddress", address.map(network::address), faults);
        if let Some(address) = address.filter(IpAddr::is_ipv6) {
            faults.add("spec.vethLinkAddress", format!("{address} is not IPv4; write one like 169.254.100.1"));
        }
        if let Some(mtu) = self.veth_mtu.filter(|mtu| !(68..=65_535).contains(mtu)) {
            faults.add("spec.vethMTU", format!("{mtu} is no MTU; write 68 to 65535, like 1500"));
        }
    }
}

fn take<T>(field: &str, parsed: Option<Result<T, String>>, faults: &mut Faults) -> Option<T> {
    parsed.and_then(|parsed| faults.take(field, parsed))
}

fn cidrs(field: &str, texts: &Option<Vec<String>>, faults: &mut Faults) -> Vec<IpNet> {
    let take = |(place, text): (usize, &String)| faults.take(format!("{field}[{place}]"), network::cidr(text));
    texts.iter().flatten().enumerate().filter_map(take).collect()
}

#[cfg(test)]
mod tests;
