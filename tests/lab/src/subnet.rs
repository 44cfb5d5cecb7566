//! The subnets of the segment that have a pool each.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::example::{GATEWAY, GATEWAY_SIX, POOL, POOL_SIX, SUBNET, SUBNET_SIX};

/// A subnet with its pool.
#[derive(Clone, Copy, Debug)]
pub struct Subnet {
    /// The pool's name.
    pub pool: &'static str,
    /// The subnet as a CIDR.
    pub network: &'static str,
    /// Its gateway.
    pub gateway: IpAddr,
}

impl Subnet {
    /// Of `net1`, IPv4 first.
    pub const NET1: [Self; 2] = [
        Self { pool: POOL, network: SUBNET, gateway: IpAddr::V4(GATEWAY) },
        Self { pool: POOL_SIX, network: SUBNET_SIX, gateway: IpAddr::V6(GATEWAY_SIX) },
    ];

    /// Of `net2`, IPv4 first.
    pub const NET2: [Self; 2] = [
        Self { pool: "10-8-v4", network: "10.8.0.0/24", gateway: IpAddr::V4(Ipv4Addr::new(10, 8, 0, 1)) },
        Self {
            pool: "10-8-v6",
            network: "fd00:10:8::/64",
            gateway: IpAddr::V6(Ipv6Addr::new(0xfd00, 0x10, 8, 0, 0, 0, 0, 1)),
        },
    ];

    /// That of an interface and of an address's family.
    pub fn of(interface: &str, address: IpAddr) -> Self {
        let subnets = if interface == "net2" { Self::NET2 } else { Self::NET1 };
        subnets[usize::from(address.is_ipv6())]
    }

    /// An address with the length of the subnet's prefix.
    pub fn with_length(&self, address: IpAddr) -> String {
        let length = self.network.split_once('/').map(|(_, length)| length).unwrap_or_default();
        format!("{address}/{length}")
    }

    /// The route that the kernel makes for an address of the subnet, as `ip` prints it.
    pub fn on_link(&self, interface: &str, address: IpAddr) -> String {
        let rest = if address.is_ipv6() { "metric 256".to_owned() } else { format!("scope link src {address}") };
        format!("{} dev {interface} {rest}", self.network)
    }

    /// The default route by the gateway, as `ip` prints it.
    pub fn default_by(&self, interface: &str) -> String {
        let metric = if self.gateway.is_ipv6() { " metric 1024" } else { "" };
        format!("default via {} dev {interface}{metric}", self.gateway)
    }
}
