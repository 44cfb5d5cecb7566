//! The CNI result (CNI specification 1.1.0, section 5, "ADD Success") in one form for all versions.
//!
//! Guarantees: in a result made here IPv4 comes before IPv6; `ips[].version` is there in 0.3.0 to 0.4.0 and nowhere else; what a version
//! does not know is not printed in it. A result that was read keeps everything it held, known or not, when it is
//! printed in its own version or a newer one: a chained plugin must hand on what others said.

mod read;
mod render;

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::{Map, Value};

use super::{CniError, CniVersion, Reader};

/// What ADD made.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CniResult {
    /// The interfaces; an IPAM plugin names none.
    pub interfaces: Vec<Interface>,
    /// The addresses.
    pub ips: Vec<IpConfiguration>,
    /// The routes.
    pub routes: Vec<Route>,
    /// Name resolution.
    pub dns: Dns,
    /// Other keys, as read.
    pub extra: Map<String, Value>,
    /// The version it was read in; none for one made here.
    pub source: Option<CniVersion>,
}

/// An interface that a plugin made.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its hardware address, as text.
    pub mac: Option<String>,
    /// Bytes; since 1.1.0.
    pub mtu: Option<u32>,
    /// Path of the namespace it is in; none for the host's.
    pub sandbox: Option<String>,
    /// Path of a socket that stands for it; since 1.1.0.
    pub socket_path: Option<String>,
    /// Address on the PCI bus; since 1.1.0.
    pub pci_id: Option<String>,
    /// Other keys, as read.
    pub extra: Map<String, Value>,
}

/// An address of an interface.
#[derive(Clone, Debug, PartialEq)]
pub struct IpConfiguration {
    /// The address with the prefix length of its subnet.
    pub address: IpNet,
    /// The subnet's gateway.
    pub gateway: Option<IpAddr>,
    /// Index into [`CniResult::interfaces`].
    pub interface: Option<usize>,
    /// Other keys, as read.
    pub extra: Map<String, Value>,
}

impl IpConfiguration {
    /// An address that belongs to no interface yet.
    pub fn new(address: IpNet, gateway: Option<IpAddr>) -> Self {
        Self { address, gateway, interface: None, extra: Map::new() }
    }
}

/// A route in the sandbox.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// Key `dst`.
    pub destination: IpNet,
    /// Key `gw`; none for the subnet's gateway.
    pub gateway: Option<IpAddr>,
    /// Bytes; since 1.1.0.
    pub mtu: Option<u32>,
    /// Bytes, key `advmss`; since 1.1.0.
    pub advertised_mss: Option<u32>,
    /// Lower wins; since 1.1.0.
    pub priority: Option<u32>,
    /// Number of the routing table; since 1.1.0.
    pub table: Option<u32>,
    /// As in rtnetlink(7), `rtm_scope`; since 1.1.0.
    pub scope: Option<u8>,
    /// Other keys, as read.
    pub extra: Map<String, Value>,
}

impl Route {
    /// A route without what came with 1.1.0.
    pub fn new(destination: IpNet, gateway: Option<IpAddr>) -> Self {
        Self {
            destination,
            gateway,
            mtu: None,
            advertised_mss: None,
            priority: None,
            table: None,
            scope: None,
            extra: Map::new(),
        }
    }
}

/// Name resolution in the sandbox.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Dns {
    /// Addresses of servers, by preference.
    pub nameservers: Vec<String>,
    /// The local domain.
    pub domain: Option<String>,
    /// Search list.
    pub search: Vec<String>,
    /// Resolver options.
    pub options: Vec<String>,
    /// Other keys, as read.
    pub extra: Map<String, Value>,
}

impl CniResult {
    /// Reads JSON text, such as a runtime's cached result.
    ///
    /// # Errors
    /// Code 6 if it is no JSON object, 1 for the version, 7 for a value of the wrong type.
    pub fn parse(text: &str) -> Result<Self, CniError> {
        let object: Map<String, Value> = serde_json::from_str(text).map_err(|error| {
            CniError::new(super::Code::Decode, format!("the CNI result is no JSON object: {error}"))
        })?;
        Self::read(&Reader::root(&object), None)
    }
}

#[cfg(test)]
mod tests;
