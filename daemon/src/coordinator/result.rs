//! CNI results as the coordinator reads and prints them.

use ipnet::IpNet;
use spiderpool_cni::types::{CniError, CniResult, Interface};
use spiderpool_core::plan::{Mac, Plan, Seen};

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
