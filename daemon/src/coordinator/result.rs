//! CNI results as the coordinator reads and prints them.

use ipnet::IpNet;
use spiderpool_cni::types::{CniError, CniResult, Interface, IpConfiguration};
use spiderpool_core::plan::{Mac, Object, Plan, Route, Seen};

use crate::call::Call;

/// The interface's addresses in a result. One that names no interface is the caller's.
pub(super) fn addresses(result: &CniResult, interface: &str) -> Vec<IpNet> {
    let own = |index: usize| result.interfaces.get(index).is_none_or(|found| found.name == interface);
    result.ips.iter().filter(|ip| ip.interface.is_none_or(own)).map(|ip| ip.address).collect()
}

/// The result to print: what came in, with the MAC address that the interface has now.
pub(super) fn answer(previous: CniResult, plan: &Plan, interface: &str) -> CniResult {
    let mut result = previous;
    if let Some(mac) = plan.attached(interface).and_then(|attached| attached.mac) {
        for found in result.interfaces.iter_mut().filter(|found| found.name == interface && found.sandbox.is_some()) {
            found.mac = Some(mac.to_string());
        }
    }
    result
}

/// Default routes of the interface that no plan speaks of, as they are where macvlan made them: by another gateway than the
/// one that was printed, or gone from an interface that has the Pod's default route.
///
/// # Errors
/// `prevResult` cannot be read.
pub(super) fn other_gateways(call: &Call, plan: &Plan, seen: &Seen) -> Result<Vec<String>, CniError> {
    let Some(previous) = call.config.previous_result()? else { return Ok(Vec::new()) };
    let interface = &*call.who.interface;
    let is_default = |route: &Route, address: &IpNet| {
        route.destination.prefix_len() == 0 && route.device == interface && is_like(&route.destination, address)
    };
    let is_planned = |address: &IpNet| {
        plan.wanted().into_iter().any(|object| matches!(object, Object::Route(route) if is_default(route, address)))
    };
    // Nothing was to be done for it.
    let Some(attached) = plan.attached(interface) else { return Ok(Vec::new()) };
    let has_the_pods = attached.default_route_nic.as_deref() == Some(interface);
    let own: Vec<&IpConfiguration> =
        previous.ips.iter().filter(|ip| addresses(&previous, interface).contains(&ip.address)).collect();
    // Of several addresses of a family the first one's gateway is that of routes without one.
    let firsts = [true, false].map(|four| own.iter().find(|ip| ip.address.addr().is_ipv4() == four));
    let mut differences = Vec::new();
    for ip in firsts.into_iter().flatten().filter(|ip| !is_planned(&ip.address)) {
        let printed = previous
            .routes
            .iter()
            .find(|route| route.destination.prefix_len() == 0 && is_like(&route.destination, &ip.address));
        let Some(gateway) = printed.and_then(|route| route.gateway.or(ip.gateway)) else { continue };
        let found: Vec<&Route> = seen.routes.iter().filter(|route| is_default(route, &ip.address)).collect();
        let is_there = found.iter().any(|route| route.gateway == Some(gateway));
        if !is_there && (has_the_pods || !found.is_empty()) {
            let found = found.into_iter().map(|route| Object::from(route.clone()).to_string()).collect::<Vec<_>>();
            let found = if found.is_empty() { "none".to_owned() } else { found.join(", ") };
            differences.push(format!("wanted: pod default route via {gateway} dev {interface}; found: {found}"));
        }
    }
    Ok(differences)
}

/// Whether both are of one family.
fn is_like(one: &IpNet, other: &IpNet) -> bool {
    one.addr().is_ipv4() == other.addr().is_ipv4()
}

/// How the interface's MAC address differs from the one that was printed, unless the plan speaks of it.
///
/// # Errors
/// `prevResult` cannot be read.
pub(super) fn other_mac(call: &Call, plan: &Plan, seen: &Seen) -> Result<Option<String>, CniError> {
    let interface = &call.who.interface;
    if plan.attached(interface).is_some_and(|attached| attached.mac.is_some()) {
        return Ok(None);
    }
    let Some(previous) = call.config.previous_result()? else { return Ok(None) };
    let own = |found: &&Interface| *found.name == **interface && found.sandbox.is_some();
    let printed = previous.interfaces.iter().find(own).and_then(|found| found.mac.as_deref()?.parse::<Mac>().ok());
    let (Some(printed), Some(link)) = (printed, seen.link(interface)) else { return Ok(None) };
    if link.mac == Some(printed) {
        return Ok(None);
    }
    let found = link.mac.map_or_else(|| "none".into(), |mac| mac.to_string());
    Ok(Some(format!("wanted: pod link {interface} address {printed}; found: {found}")))
}
