//! A caller's sandbox: its links are there all the time, and what macvlan does with an address is done by `ip`.

use anyhow::Result;
use spiderpool_lab::{Attached, Picture, Pod, PodSpec, Program, Subnet};
use std::net::{Ipv4Addr, Ipv6Addr};

use super::caller::Shared;

/// An interface beside `eth0`.
#[derive(Clone, Copy)]
pub(super) struct Nic {
    pub(super) interface: &'static str,
    /// The name of its CNI network.
    pub(super) network: &'static str,
    /// The subnets that it gets an address of each.
    pub(super) subnets: &'static [Subnet],
}

/// One of IPv4.
const ONE: [Nic; 1] = [Nic { interface: "net1", network: "underlay", subnets: &[Subnet::NET1[0]] }];
/// Two of both families.
const TWO: [Nic; 2] = [
    Nic { interface: "net1", network: "underlay", subnets: &Subnet::NET1 },
    Nic { interface: "net2", network: "further", subnets: &Subnet::NET2 },
];

impl Nic {
    /// The interfaces of a Pod.
    pub(super) fn all(dual: bool) -> &'static [Nic] {
        if dual { &TWO } else { &ONE }
    }

    /// The networks of all.
    pub(super) fn networks() -> [&'static str; 2] {
        TWO.map(|nic| nic.network)
    }
}

/// A Pod, and what its namespace looked like when it was made.
pub(super) struct Home {
    pub(super) pod: Pod,
    pub(super) made: Picture,
}

impl Home {
    pub(super) fn new(shared: &Shared<'_>, number: usize, turn: u32, nics: &[Nic]) -> Result<Self> {
        let last = u8::try_from(number)? + 1;
        let spec = PodSpec::new(&format!("p{number:02}-{turn}"), "", Ipv4Addr::new(10, 233, 73, last));
        let pod = shared.lab.pod(shared.node.name(), spec)?;
        if nics.iter().any(|nic| nic.subnets.len() > 1) {
            pod.add_ipv6(Ipv6Addr::new(0xfd85, 0xee78, 0xd8a6, 0x8607, 0, 0, 1, last.into()))?;
        }
        nics.iter().try_for_each(|nic| shared.node.make_macvlan(pod.namespace(), nic.interface))?;
        let made = Picture::take(pod.namespace())?;
        Ok(Self { pod, made })
    }

    /// What macvlan does with the addresses; where it is the first interface, in a namespace that is as a new one.
    pub(super) fn configure(&self, attached: &Attached, is_first: bool) -> Result<()> {
        let (namespace, interface) = (self.pod.namespace(), attached.interface);
        let own = format!("ipv4/conf/{interface}/rp_filter");
        let settings = [("ipv4/conf/all/rp_filter", "1"), (&*own, "1")];
        namespace.sysctl(&settings[usize::from(!is_first)..])?;
        let mut commands = format!("link set {interface} up\n");
        for address in &attached.addresses {
            let subnet = Subnet::of(interface, *address);
            let option = if address.is_ipv6() { " nodad" } else { "" };
            commands += &format!(
                "addr add {} dev {interface}{option}\nroute prepend default via {} dev {interface}\n",
                subnet.with_length(*address),
                subnet.gateway
            );
        }
        namespace.ip_batch(&commands)
    }

    /// The link goes, as far as routes and addresses can tell.
    pub(super) fn strip(&self, attached: &Attached) -> Result<()> {
        let interface = attached.interface;
        let of = |address| Subnet::of(interface, address).with_length(address);
        let gone = attached.addresses.iter().map(|address| format!("addr del {} dev {interface}\n", of(*address)));
        self.pod.namespace().ip_batch(&(gone.collect::<String>() + &format!("link set {interface} down\n")))?;
        for address in attached.addresses.iter().filter(|address| address.is_ipv6()) {
            // One of several next hops outlives its link while that is merely down. A DEL that waits as a tombstone may
            // bring it back until then, so it may be there or not.
            let gateway = Subnet::of(interface, *address).gateway.to_string();
            let program = Program::new("ip").args(["-6", "route", "del", "default", "via", &gateway, "dev", interface]);
            self.pod.namespace().run(&program)?;
        }
        Ok(())
    }
}
