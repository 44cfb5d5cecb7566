//! The addresses of the example cluster: Calico for `eth0`, macvlan on `ens192` for `net1`.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::node::NodeSpec;
use crate::pod::PodSpec;

/// The pool's name. Every node has a pool of this name with addresses of its own.
pub const POOL: &str = "10-6-v4";
/// The underlay subnet.
pub const SUBNET: &str = "10.6.0.0/16";
/// The gateway of the underlay subnet.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 6, 0, 1);
/// The pool of IPv6, where a test brings it.
pub const POOL_SIX: &str = "10-6-v6";
/// The underlay subnet of IPv6.
pub const SUBNET_SIX: &str = "fd00:10:6::/64";
/// Its gateway.
pub const GATEWAY_SIX: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x10, 6, 0, 0, 0, 0, 1);
/// The cluster's Pod addresses.
pub const POD_CIDR: &str = "10.233.64.0/18";
/// The same of IPv6.
pub const POD_CIDR_SIX: &str = "fd85:ee78:d8a6:8607::/64";
/// The cluster's Service addresses.
pub const SERVICE_CIDR: &str = "10.233.0.0/18";
/// What the coordinator sends to the node beside the two above (`hijackCIDR`).
pub const HIJACK_CIDR: &str = "169.254.0.0/16";
/// The next hop that Calico gives every Pod: nobody has it, the node answers for it (proxy ARP).
pub const CALICO_NEXT_HOP: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// The same for IPv6: the link-local address of the node's end of `eth0`.
pub const CALICO_NEXT_HOP_IPV6: &str = "fe80::ecee:eeff:feee:eeee";
/// The underlay link of every node.
pub const UNDERLAY_LINK: &str = "ens192";
/// The DNS Service.
pub const SERVICE: Ipv4Addr = Ipv4Addr::new(10, 233, 0, 3);
/// Port of the DNS Service.
pub const SERVICE_PORT: u16 = 53;
/// The Pod behind the DNS Service; it runs on `controller`.
pub const DNS_POD: Ipv4Addr = Ipv4Addr::new(10, 233, 73, 195);
/// A host two routers away from the underlay segment.
pub const FAR_HOST: Ipv4Addr = Ipv4Addr::new(10, 7, 212, 101);
/// A host outside of the cluster, one router away.
pub const OUTSIDE_HOST: Ipv4Addr = Ipv4Addr::new(172, 16, 5, 20);

/// The node `controller`.
pub fn controller() -> NodeSpec {
    NodeSpec { name: "controller".to_owned(), address: Ipv4Addr::new(10, 6, 212, 131), ranges: vec![range(148, 173)] }
}

/// The node `worker01`.
pub fn worker01() -> NodeSpec {
    NodeSpec {
        name: "worker01".to_owned(),
        address: Ipv4Addr::new(10, 6, 212, 132),
        ranges: vec![range(145, 147), range(174, 200)],
    }
}

/// The nginx Pod of `worker01`.
pub fn nginx_rswak() -> PodSpec {
    PodSpec::new("nginx-4653bc4f24-rswak", "6d8f62a3-7c0e-4f3a-9d5b-3f1c8f0f7a01", Ipv4Addr::new(10, 233, 73, 210))
}

/// The nginx Pod of `controller`.
pub fn nginx_aswpm() -> PodSpec {
    PodSpec::new("nginx-4653bc4f24-aswpm", "0b7e1f54-52a9-4c39-8d0e-a5f3b2c4d602", Ipv4Addr::new(10, 233, 105, 167))
}

/// The DNS Pod of `controller`.
pub fn coredns() -> PodSpec {
    PodSpec {
        namespace: "kube-system".to_owned(),
        ..PodSpec::new("coredns-57fbf68cf6-kvcwl", "f3c1d9a7-10b4-4e0f-8a55-7be94d6c1b03", DNS_POD)
    }
}

fn range(first: u8, last: u8) -> (Ipv4Addr, Ipv4Addr) {
    (Ipv4Addr::new(10, 6, 212, first), Ipv4Addr::new(10, 6, 212, last))
}
