//! CNI results as the coordinator reads and prints them.

use ipnet::IpNet;
use spiderpool_cni::types::{CniError, CniResult, Interface, IpConfiguration};
use spiderpool_core::address::Family;
use spiderpool_core::plan::{Mac, Object, Plan, Route, Seen};

use crate::call::Call;

/// The interface's addresses in a result.
pub(super) fn addresses(result: &CniResult, interface: &str) -> Vec<IpNet> {
    own(result, interface).map(|ip| ip.address).collect()
}

/// What a result says of the interface's addresses. One that names no interface is the caller's.
fn own<'a>(result: &'a CniResult, interface: &'a str) -> impl Iterator<Item = &'a IpConfiguration> {
    let is_own = move |index: usize| result.interfaces.get(index).is_none_or(|found| found.name == interface);
    result.ips.iter().filter(move |ip| ip.interface.is_none_or(is_own))
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
    let interface = &*call.who.interface;
    // Of no plan: nothing was to be done for it.
    let (Some(previous), Some(attached)) = (call.config.previous_result()?, plan.attached(interface)) else {
        return Ok(Vec::new());
    };
    let has_the_pods = attached.default_route_nic.as_deref() == Some(interface);
    let mut differences = Vec::new();
    for family in [Family::V4, Family::V6] {
        let is_default = |to: &IpNet| to.prefix_len() == 0 && Family::of_net(to) == family;
        let is_own = |route: &Route| is_default(&route.destination) && route.device == interface;
        // Of several addresses of a family the first one's gateway is that of routes without one.
        let first = own(&previous, interface).find(|ip| Family::of_net(&ip.address) == family);
        let printed = previous.routes.iter().find(|route| is_default(&route.destination));
        let gateway = first.zip(printed).and_then(|(ip, route)| route.gateway.or(ip.gateway));
        let is_planned = || plan.wanted().iter().any(|object| matches!(object, Object::Route(route) if is_own(route)));
        let Some(gateway) = gateway.filter(|_| !is_planned()) else { continue };
        let found: Vec<&Route> = seen.routes.iter().filter(|route| is_own(route)).collect();
        let is_there = found.iter().any(|route| route.gateway == Some(gateway));
        if !is_there && (has_the_pods || !found.is_empty()) {
            let found: Vec<String> = found.into_iter().map(|route| Object::from(route.clone()).to_string()).collect();
            let found = if found.is_empty() { "none".to_owned() } else { found.join(", ") };
            differences.push(format!("wanted: pod default route via {gateway} dev {interface}; found: {found}"));
        }
    }
    Ok(differences)
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
