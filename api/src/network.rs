//! Addresses, networks and routes as single values of an object.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use spiderpool_core::address::Family;
use spiderpool_core::world;

use crate::invalid::{Faults, Invalid};

/// A route as objects write it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Destination, in CIDR form.
    pub dst: String,
    /// Address of the next hop.
    pub gw: String,
}

/// A network in CIDR form. Host bits are refused, with the corrected value.
pub fn cidr(text: &str) -> Result<IpNet, String> {
    match text.parse::<IpNet>() {
        Ok(net) if net == net.trunc() => Ok(net),
        Ok(net) => Err(format!("{text:?} has host bits set; write {}", net.trunc())),
        Err(_) => Err(match text.parse::<IpAddr>() {
            Ok(address) => format!("{text:?} has no prefix length; write {}", IpNet::from(address)),
            Err(_) => format!("{text:?} is not a network; write it in CIDR form, like 10.6.0.0/16 or fd00:10:6::/64"),
        }),
    }
}

/// A network in CIDR form, or one address, which means itself alone.
pub fn destination(text: &str) -> Result<IpNet, String> {
    text.parse::<IpAddr>().map_or_else(|_| cidr(text), |address| Ok(address.into()))
}

/// A list of [`destination`]s; `field` is the list's path.
///
/// # Errors
/// Every entry that is none.
pub fn destinations(field: &str, texts: &[String]) -> Result<Vec<IpNet>, Vec<Invalid>> {
    let mut faults = Faults::default();
    let take = |(place, text): (usize, &String)| faults.take(format!("{field}[{place}]"), destination(text));
    let nets = texts.iter().enumerate().filter_map(take).collect();
    faults.or(nets)
}

/// An address without prefix length.
pub fn address(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| format!("{text:?} is not an IP address; write it like 10.6.0.1 or fd00:10:6::1"))
}

/// The routes of `policyRoutes`: the destination may be a bare address; both ends are of one family. `field` is the
/// list's path.
///
/// # Errors
/// Every value that is wrong.
pub fn policy_routes(field: &str, routes: &[Route]) -> Result<Vec<world::Route>, Vec<Invalid>> {
    let mut faults = Faults::default();
    let mut parsed = Vec::new();
    for (place, route) in routes.iter().enumerate() {
        let destination = faults.take(format!("{field}[{place}].dst"), destination(&route.dst));
        let gateway = faults.take(format!("{field}[{place}].gw"), address(&route.gw));
        let (Some(destination), Some(gateway)) = (destination, gateway) else { continue };
        let family = Family::of_net(&destination);
        if Family::of(&gateway) == family {
            parsed.push(world::Route { destination, gateway });
        } else {
            let reason = format!("{gateway} cannot be the gateway to {destination}; write an {family} address");
            faults.add(format!("{field}[{place}].gw"), reason);
        }
    }
    faults.or(parsed)
}
