//! Which packets pass which interface of a namespace.
//!
//! One packet socket (packet(7)) hears all interfaces of its namespace from the moment it is opened; packets wait
//! in the kernel until they are asked for. So there is no second program to wait for, before or after.

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::libc::PACKET_OUTGOING;
use nix::net::if_::if_indextoname;
use nix::sys::socket::{
    AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, recvfrom, setsockopt, socket, sockopt::RcvBufForce,
};
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};

use crate::namespace::Namespace;

/// Room for some thousand packets (bytes).
const BUFFER: usize = 8 << 20;
const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_ARP: u16 = 0x0806;
const ETHERTYPE_IPV6: u16 = 0x86dd;

/// Seen from the namespace.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Direction {
    /// The packet came in.
    In,
    /// The packet left.
    Out,
}

/// What a packet carries.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Payload {
    /// An echo request of ICMP or ICMPv6.
    EchoRequest,
    /// An echo reply of ICMP or ICMPv6.
    EchoReply,
    /// Other ICMP or ICMPv6, with its type.
    Icmp(u8),
    /// TCP with its ports.
    Tcp {
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
    },
    /// UDP with its ports.
    Udp {
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
    },
    /// ARP with its operation: 1 request, 2 reply. The packet's addresses are the sender's and the target's.
    Arp(u16),
    /// Another protocol on IP.
    Other(u8),
}

/// A packet that passed an interface.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Packet {
    /// Name of the interface.
    pub interface: String,
    /// Which way it went.
    pub direction: Direction,
    /// Who sent it.
    pub source: IpAddr,
    /// Whom it is for.
    pub destination: IpAddr,
    /// What it carries.
    pub payload: Payload,
}

/// Listens on all interfaces of a namespace.
#[derive(Debug)]
pub struct Capture {
    namespace: Namespace,
    socket: OwnedFd,
}

impl Capture {
    /// Begins: every packet from now on is seen.
    ///
    /// # Errors
    /// The kernel has no packet sockets.
    pub fn start(namespace: &Namespace) -> Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = namespace
            .enter(|| socket(AddressFamily::Packet, SockType::Datagram, flags, SockProtocol::EthAll))?
            .with_context(|| format!("open a packet socket in {}", namespace.name()))?;
        setsockopt(&socket, RcvBufForce, &BUFFER).context("enlarge the buffer of a packet socket")?;
        Ok(Self { namespace: namespace.clone(), socket })
    }

    /// All packets since the start or the last call, in order. Unknown protocols are left out.
    ///
    /// # Errors
    /// The kernel had to drop packets.
    pub fn packets(&self) -> Result<Vec<Packet>> {
        let mut buffer = vec![0; 1 << 16];
        let mut seen = Vec::new();
        loop {
            match recvfrom::<LinkAddr>(self.socket.as_raw_fd(), &mut buffer) {
                Ok((length, Some(link))) => {
                    if let Some((source, destination, payload)) =
                        parse(u16::from_be(link.protocol()), &buffer[..length])
                    {
                        let direction = if link.pkttype() == PACKET_OUTGOING { Direction::Out } else { Direction::In };
                        seen.push((link.ifindex(), direction, source, destination, payload));
                    }
                }
                Ok((_, None)) => bail!("a packet without an interface"),
                Err(Errno::EAGAIN) => break,
                Err(error) => return Err(error).context("read from a packet socket"),
            }
        }
        let names = self.names(seen.iter().map(|packet| packet.0))?;
        let named = seen.into_iter().map(|(index, direction, source, destination, payload)| {
            let interface = names.get(&index).cloned().unwrap_or_else(|| format!("interface {index}, gone"));
            Packet { interface, direction, source, destination, payload }
        });
        Ok(named.collect())
    }

    fn names(&self, indexes: impl Iterator<Item = usize>) -> Result<BTreeMap<usize, String>> {
        let mut names: BTreeMap<_, _> = indexes.map(|index| (index, String::new())).collect();
        self.namespace.enter(|| {
            names.retain(|index, name| {
                let known = u32::try_from(*index).ok().and_then(|index| if_indextoname(index).ok());
                known.is_some_and(|known| {
                    *name = known.to_string_lossy().into_owned();
                    true
                })
            });
        })?;
        Ok(names)
    }
}

impl Packet {
    /// Whether it left by `interface`.
    pub fn left_by(&self, interface: &str) -> bool {
        self.direction == Direction::Out && self.interface == interface
    }

    /// Whether it came in by `interface`.
    pub fn came_by(&self, interface: &str) -> bool {
        self.direction == Direction::In && self.interface == interface
    }

    /// Whether it goes from `source` to `destination`.
    pub fn goes(&self, source: impl Into<IpAddr>, destination: impl Into<IpAddr>) -> bool {
        self.source == source.into() && self.destination == destination.into()
    }
}

/// One line, such as `net1 out 10.6.212.145 > 10.7.212.101 EchoRequest`.
impl fmt::Display for Packet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let direction = if self.direction == Direction::Out { "out" } else { "in" };
        let Self { interface, source, destination, payload, .. } = self;
        write!(formatter, "{interface} {direction} {source} > {destination} {payload:?}")
    }
}

type Parsed = (IpAddr, IpAddr, Payload);

fn parse(ethertype: u16, bytes: &[u8]) -> Option<Parsed> {
    match ethertype {
        ETHERTYPE_IPV4 => parse_ipv4(bytes),
        ETHERTYPE_IPV6 => parse_ipv6(bytes),
        ETHERTYPE_ARP => parse_arp(bytes),
        _ => None,
    }
}

/// RFC 791, section 3.1.
fn parse_ipv4(bytes: &[u8]) -> Option<Parsed> {
    let header = usize::from(bytes.first()? & 0x0f) * 4;
    let source = Ipv4Addr::from(array::<4>(bytes, 12)?);
    let destination = Ipv4Addr::from(array::<4>(bytes, 16)?);
    let payload = transport(*bytes.get(9)?, bytes.get(header..)?);
    Some((source.into(), destination.into(), payload))
}

/// RFC 8200, section 3; extension headers are not followed.
fn parse_ipv6(bytes: &[u8]) -> Option<Parsed> {
    let source = Ipv6Addr::from(array::<16>(bytes, 8)?);
    let destination = Ipv6Addr::from(array::<16>(bytes, 24)?);
    let payload = transport(*bytes.get(6)?, bytes.get(40..)?);
    Some((source.into(), destination.into(), payload))
}

/// RFC 826, for Ethernet and IPv4.
fn parse_arp(bytes: &[u8]) -> Option<Parsed> {
    let source = Ipv4Addr::from(array::<4>(bytes, 14)?);
    let destination = Ipv4Addr::from(array::<4>(bytes, 24)?);
    Some((source.into(), destination.into(), Payload::Arp(u16::from_be_bytes(array(bytes, 6)?))))
}

fn transport(protocol: u8, bytes: &[u8]) -> Payload {
    let ports = || Some((u16::from_be_bytes(array(bytes, 0)?), u16::from_be_bytes(array(bytes, 2)?)));
    match (protocol, bytes.first(), ports()) {
        (1, Some(8), _) | (58, Some(128), _) => Payload::EchoRequest,
        (1, Some(0), _) | (58, Some(129), _) => Payload::EchoReply,
        (1 | 58, Some(kind), _) => Payload::Icmp(*kind),
        (6, _, Some((source, destination))) => Payload::Tcp { source, destination },
        (17, _, Some((source, destination))) => Payload::Udp { source, destination },
        _ => Payload::Other(protocol),
    }
}

fn array<const LENGTH: usize>(bytes: &[u8], from: usize) -> Option<[u8; LENGTH]> {
    bytes.get(from..from + LENGTH)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_echo_request_is_read() {
        let bytes = [
            0x45, 0, 0, 28, 0, 0, 0, 0, 64, 1, 0, 0, 10, 6, 212, 145, 10, 7, 212, 101, // IPv4
            8, 0, 0, 0, 0, 1, 0, 1, // ICMP
        ];
        let expected = (IpAddr::from([10, 6, 212, 145]), IpAddr::from([10, 7, 212, 101]), Payload::EchoRequest);
        assert_eq!(parse(ETHERTYPE_IPV4, &bytes), Some(expected));
    }

    #[test]
    fn ports_follow_the_options_of_the_header() {
        let mut bytes = vec![0x46, 0, 0, 28, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 1, 1, 1, 1];
        bytes.extend([0x9c, 0x40, 0, 53]);
        let parsed = parse(ETHERTYPE_IPV4, &bytes).map(|(_, _, payload)| payload);
        assert_eq!(parsed, Some(Payload::Tcp { source: 40000, destination: 53 }));
    }

    #[test]
    fn a_cut_packet_is_left_out() {
        assert_eq!(parse(ETHERTYPE_IPV4, &[0x45, 0, 0]), None);
        assert_eq!(parse(ETHERTYPE_ARP, &[0; 20]), None);
        assert_eq!(parse(ETHERTYPE_IPV6, &[]), None);
    }
}
