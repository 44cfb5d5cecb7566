//! Addresses of both layers, networks and sets of them as bytes.

use std::net::IpAddr;

use ipnet::IpNet;
use spiderpool_core::address::{AddressRange, AddressSet};
use spiderpool_core::plan::Mac;
use spiderpool_core::world::Route;

use super::{Malformed, required, wire};

/// 4 or 16 bytes in network order.
pub(super) fn address(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

pub(super) fn as_address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = || <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    let v6 = || <[u8; 16]>::try_from(bytes).map(IpAddr::from);
    v4().or_else(|_| v6()).ok()
}

pub(super) fn as_mac(bytes: &[u8], name: &'static str) -> Result<Mac, Malformed> {
    bytes.try_into().map(Mac).map_err(|_| Malformed::Field(name))
}

pub(super) fn net(net: IpNet) -> wire::Net {
    wire::Net { address: address(net.addr()), prefix: net.prefix_len().into() }
}

pub(super) fn as_net(net: &wire::Net, name: &'static str) -> Result<IpNet, Malformed> {
    let prefix = u8::try_from(net.prefix).ok();
    let parsed = as_address(&net.address).zip(prefix).and_then(|(address, prefix)| IpNet::new(address, prefix).ok());
    required(parsed, name)
}

pub(super) fn as_nets(nets: &[wire::Net], name: &'static str) -> Result<Vec<IpNet>, Malformed> {
    nets.iter().map(|net| as_net(net, name)).collect()
}

pub(super) fn set(set: &AddressSet) -> Vec<wire::Range> {
    let range = |range: AddressRange| wire::Range {
        first: address(range.first()),
        last: if range.first() == range.last() { Vec::new() } else { address(range.last()) },
    };
    set.ranges().map(range).collect()
}

pub(super) fn as_set(ranges: &[wire::Range], name: &'static str) -> Result<AddressSet, Malformed> {
    let range = |range: &wire::Range| {
        let first = as_address(&range.first)?;
        let last = if range.last.is_empty() { first } else { as_address(&range.last)? };
        AddressRange::new(first, last)
    };
    ranges.iter().map(|one| required(range(one), name)).collect()
}

pub(super) fn routes(routes: &[Route]) -> Vec<wire::PoolRoute> {
    let route =
        |route: &Route| wire::PoolRoute { destination: Some(net(route.destination)), gateway: address(route.gateway) };
    routes.iter().map(route).collect()
}

pub(super) fn as_routes(routes: &[wire::PoolRoute]) -> Result<Vec<Route>, Malformed> {
    let route = |route: &wire::PoolRoute| {
        let destination = required(route.destination.as_ref(), "destination")?;
        Ok(Route {
            destination: as_net(destination, "destination")?,
            gateway: required(as_address(&route.gateway), "gateway")?,
        })
    };
    routes.iter().map(route).collect()
}
