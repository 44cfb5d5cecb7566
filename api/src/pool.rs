//! SpiderIPPool: addresses that may be given out, with gateway, routes and affinities.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use spiderpool_core::address::{AddressRange, AddressSet, Family};
use spiderpool_core::world::{self, Affinity, Pool, Selector};

use crate::invalid::{Faults, Invalid};
use crate::metadata::{Metadata, is_label, is_subdomain, not_a_label, not_a_subdomain};
use crate::network::{self, Route};
use crate::selector::LabelSelector;

/// A pool of addresses. Cluster scoped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpiderIPPool {
    /// Name and state.
    pub metadata: Metadata,
    /// What is wanted.
    pub spec: SpiderIPPoolSpec,
    /// What is in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<SpiderIPPoolStatus>,
}

/// What a pool offers, and to whom.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SpiderIPPoolSpec {
    /// 4 or 6; inferred from the subnet if absent. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_version: Option<i64>,
    /// The subnet in CIDR form; its prefix length is the one that Pods configure. Immutable.
    pub subnet: String,
    /// Addresses, each entry one (`10.6.0.9`) or a range (`10.6.0.9-10.6.0.19`), all inside the subnet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ips: Option<Vec<String>>,
    /// Addresses of `ips` that are not given out, in the same form.
    #[serde(default, rename = "excludeIPs", skip_serializing_if = "Option::is_none")]
    pub exclude_ips: Option<Vec<String>>,
    /// The default gateway, inside the subnet and none of the addresses to be given out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
    /// Further routes by gateways inside the subnet; the default route is `gateway`'s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub routes: Option<Vec<Route>>,
    /// Labels of the Pods that may use the pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_affinity: Option<LabelSelector>,
    /// Labels of the namespaces whose Pods may use the pool; `namespaceName` wins over it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_affinity: Option<LabelSelector>,
    /// Names of the namespaces whose Pods may use the pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_name: Option<Vec<String>>,
    /// Labels of the nodes that may use the pool; `nodeName` wins over it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_affinity: Option<LabelSelector>,
    /// Names of the nodes that may use the pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_name: Option<Vec<String>>,
    /// Networks that may use the pool: names of NetworkAttachmentDefinitions, with `namespace/` before them or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub multus_name: Option<Vec<String>>,
    /// Serves Pods that name no pool; default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<bool>,
    /// Gives out nothing new; default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disable: Option<bool>,
}

/// What is in use of a pool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SpiderIPPoolStatus {
    /// A JSON document: address to Pod and UID. Absent when nothing is allocated.
    #[serde(default, rename = "allocatedIPs", skip_serializing_if = "Option::is_none")]
    pub allocated_ips: Option<String>,
    /// Addresses of the pool.
    #[serde(default, rename = "totalIPCount", skip_serializing_if = "Option::is_none")]
    pub total_ip_count: Option<i64>,
    /// Addresses in use.
    #[serde(default, rename = "allocatedIPCount", skip_serializing_if = "Option::is_none")]
    pub allocated_ip_count: Option<i64>,
}

impl SpiderIPPool {
    /// The pool as core knows it.
    ///
    /// # Errors
    /// Every field that is not valid.
    pub fn parse(&self) -> Result<Pool, Vec<Invalid>> {
        let spec = &self.spec;
        let mut faults = Faults::default();
        self.metadata.check_name(&mut faults);
        let subnet = faults.take("spec.subnet", network::cidr(&spec.subnet));
        spec.check_version(subnet, &mut faults);
        let included = ranges("spec.ips", &spec.ips, subnet, &mut faults);
        let excluded = ranges("spec.excludeIPs", &spec.exclude_ips, subnet, &mut faults);
        let without: AddressSet = excluded.into_iter().map(|(_, range)| range).collect();
        let gateway = spec.parse_gateway(subnet, &included, &without, &mut faults);
        let routes = spec.parse_routes(subnet, &mut faults);
        let all: AddressSet = included.into_iter().map(|(_, range)| range).collect();
        let (node, namespace) = (spec.parse_node(&mut faults), spec.parse_namespace(&mut faults));
        let (pod, multus_names) = (spec.parse_pod(&mut faults), spec.parse_networks(&mut faults));
        let pool = subnet.map(|subnet| Pool {
            name: self.metadata.name.as_str().into(),
            subnet,
            addresses: all.difference(&without),
            gateway,
            routes,
            default: spec.default.unwrap_or_default(),
            disabled: spec.disable.unwrap_or_default(),
            terminating: self.metadata.terminating(),
            node,
            namespace,
            pod,
            multus_names,
        });
        faults.or_none(pool)
    }

    /// What is allowed but probably not meant: ranges that overlap others of the same list. They count once.
    pub fn remarks(&self) -> Vec<Invalid> {
        let mut remarks = overlaps("spec.ips", &self.spec.ips);
        remarks.extend(overlaps("spec.excludeIPs", &self.spec.exclude_ips));
        remarks
    }
}

impl SpiderIPPoolSpec {
    fn check_version(&self, subnet: Option<IpNet>, faults: &mut Faults) {
        if let Some(version) = self.ip_version {
            check_version(version, subnet.map(|subnet| Family::of_net(&subnet)), "of the subnet", faults);
        }
    }

    fn parse_gateway(
        &self,
        subnet: Option<IpNet>,
        included: &[(usize, AddressRange)],
        without: &AddressSet,
        faults: &mut Faults,
    ) -> Option<IpAddr> {
        let gateway = faults.take("spec.gateway", network::address(self.gateway.as_ref()?))?;
        check_inside("spec.gateway", gateway, subnet, faults);
        for (place, range) in included {
            if range.contains(gateway) && !without.contains(gateway) {
                let reason = format!("{range} holds the gateway {gateway}; leave it out, or list it in excludeIPs");
                faults.add(format!("spec.ips[{place}]"), reason);
            }
        }
        Some(gateway)
    }

    fn parse_routes(&self, subnet: Option<IpNet>, faults: &mut Faults) -> Vec<world::Route> {
        let mut routes: Vec<world::Route> = Vec::new();
        for (place, route) in self.routes.iter().flatten().enumerate() {
            let (at_dst, at_gw) = (format!("spec.routes[{place}].dst"), format!("spec.routes[{place}].gw"));
            let destination = faults.take(&at_dst, network::cidr(&route.dst));
            let gateway = faults.take(&at_gw, network::address(&route.gw));
            if let Some(gateway) = gateway {
                check_inside(&at_gw, gateway, subnet, faults);
            }
            let Some(destination) = destination else { continue };
            let family = subnet.map(|subnet| Family::of_net(&subnet));
            if let Some(family) = family.filter(|family| Family::of_net(&destination) != *family) {
                faults.add(&at_dst, format!("{destination} is not {family}, as the subnet is; put it in another pool"));
            } else if destination.prefix_len() == 0 {
                faults.add(&at_dst, format!("{destination} is the default route; remove it and set spec.gateway"));
            } else if routes.iter().any(|earlier| earlier.destination == destination) {
                faults.add(&at_dst, format!("{destination} is listed twice; remove one of the routes"));
            } else if let Some(gateway) = gateway {
                routes.push(world::Route { destination, gateway });
            }
        }
        routes
    }

    fn parse_pod(&self, faults: &mut Faults) -> Option<Selector> {
        let selector = self.pod_affinity.as_ref()?.parse("spec.podAffinity", faults);
        if selector.0.is_empty() {
            faults.add(
                "spec.podAffinity",
                "selects nothing in particular; remove it, or say which labels Pods must have",
            );
        }
        Some(selector)
    }

    fn parse_node(&self, faults: &mut Faults) -> Affinity {
        let names = self.node_name.as_deref().unwrap_or_default();
        for (place, name) in names.iter().enumerate().filter(|(_, name)| !is_subdomain(name)) {
            faults.add(format!("spec.nodeName[{place}]"), not_a_subdomain(name));
        }
        affinity(names, &self.node_affinity, "spec.nodeAffinity", faults)
    }

    fn parse_namespace(&self, faults: &mut Faults) -> Affinity {
        let names = self.namespace_name.as_deref().unwrap_or_default();
        for (place, name) in names.iter().enumerate().filter(|(_, name)| !is_label(name)) {
            faults.add(format!("spec.namespaceName[{place}]"), not_a_label(name));
        }
        affinity(names, &self.namespace_affinity, "spec.namespaceAffinity", faults)
    }

    fn parse_networks(&self, faults: &mut Faults) -> Vec<String> {
        let names = self.multus_name.as_deref().unwrap_or_default();
        for (place, text) in names.iter().enumerate() {
            let (namespace, name) = text.split_once('/').map_or((None, text.as_str()), |(a, b)| (Some(a), b));
            if !is_subdomain(name) || namespace.is_some_and(|namespace| !is_label(namespace)) {
                let reason =
                    format!("{text:?} is no network; write NAME or NAMESPACE/NAME of its NetworkAttachmentDefinition");
                faults.add(format!("spec.multusName[{place}]"), reason);
            }
        }
        names.to_vec()
    }
}

/// Names win over labels. A selector without requirements matches everything, so it is as good as none.
fn affinity(names: &[String], labels: &Option<LabelSelector>, field: &str, faults: &mut Faults) -> Affinity {
    let selector = labels.as_ref().map(|labels| labels.parse(field, faults)).unwrap_or_default();
    match (names, selector) {
        ([], selector) if selector.0.is_empty() => Affinity::Any,
        ([], selector) => Affinity::Labels(selector),
        (names, _) => Affinity::Names(names.to_vec()),
    }
}

/// `spec.ipVersion` against the family that other fields show.
pub(crate) fn check_version(version: i64, family: Option<Family>, whose: &str, faults: &mut Faults) {
    match family {
        _ if ![4, 6].contains(&version) => {
            faults.add("spec.ipVersion", format!("{version} is no IP version; write 4 or 6, or remove the field"));
        }
        Some(family) if i64::from(family.number()) != version => {
            let right = family.number();
            faults.add("spec.ipVersion", format!("{version} is not the version {whose}; write {right}, or remove it"));
        }
        _ => {}
    }
}

/// The ranges of a list with their places; those that are wrong are noted.
pub(crate) fn ranges(
    field: &str,
    texts: &Option<Vec<String>>,
    subnet: Option<IpNet>,
    faults: &mut Faults,
) -> Vec<(usize, AddressRange)> {
    let mut ranges = Vec::new();
    for (place, text) in texts.iter().flatten().enumerate() {
        let field = format!("{field}[{place}]");
        let Some(range) = faults.take(&field, text.parse::<AddressRange>()) else { continue };
        let inside = |net: &IpNet| net.contains(&range.first()) && net.contains(&range.last());
        match subnet {
            Some(subnet) if !inside(&subnet) => {
                let whole = AddressRange::of_net(&subnet);
                faults.add(&field, format!("{range} is not inside the subnet {subnet}; stay within {whole}"));
            }
            _ => ranges.push((place, range)),
        }
    }
    ranges
}

fn check_inside(field: &str, address: IpAddr, subnet: Option<IpNet>, faults: &mut Faults) {
    if let Some(subnet) = subnet.filter(|subnet| !subnet.contains(&address)) {
        faults.add(field, format!("{address} is not inside the subnet {subnet}; write an address of it"));
    }
}

/// The entries that share addresses with an earlier one of the list.
fn overlaps(field: &str, texts: &Option<Vec<String>>) -> Vec<Invalid> {
    let mut seen = AddressSet::new();
    let mut found = Vec::new();
    for (place, range) in ranges(field, texts, None, &mut Faults::default()) {
        let shared = seen.intersection(&AddressSet::from_iter([range]));
        if !shared.is_empty() {
            let reason = format!("{shared} is listed before; it counts once");
            found.push(Invalid { field: format!("{field}[{place}]"), reason });
        }
        seen.insert(range);
    }
    found
}

#[cfg(test)]
mod tests;
