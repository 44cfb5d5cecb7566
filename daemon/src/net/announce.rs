//! Tells the neighbours on the segment where an address is: gratuitous ARP (RFC 5227, section 3) as request and as
//! reply, and unsolicited Neighbour Advertisements (RFC 4861, section 7.2.6).

use std::io;
use std::mem::size_of;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::thread;

use nix::libc;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use spiderpool_core::plan::Mac;

use super::{NetError, Sandbox};

const ETHERTYPE_ARP: u16 = 0x0806;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const BROADCAST: Mac = Mac([0xff; 6]);
/// The group of all nodes on a link, and its Ethernet address (RFC 2464, section 7).
const ALL_NODES: (Ipv6Addr, Mac) = (Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1), Mac([0x33, 0x33, 0, 0, 0, 1]));

/// Announces addresses from an interface of the sandbox.
///
/// # Errors
/// A frame could not be sent.
pub(crate) fn announce(sandbox: &Sandbox, index: u32, mac: Mac, addresses: &[IpAddr]) -> Result<(), NetError> {
    if addresses.is_empty() {
        return Ok(());
    }
    // The socket keeps the namespace it was made in. Protocol 0: it receives nothing.
    let open = || Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(0)));
    let socket = sandbox.namespace.enter(open)?.map_err(NetError::kernel("open a packet socket"))?;
    for address in addresses {
        let frames = match address {
            IpAddr::V4(v4) => [1, 2].map(|operation| arp(operation, mac, *v4)).to_vec(),
            IpAddr::V6(v6) => vec![advertisement(mac, *v6)],
        };
        for frame in frames {
            send(&socket, index, &frame).map_err(NetError::kernel(format!("announce {address}")))?;
        }
    }
    // The kernel takes milliseconds to close a packet socket: nobody need wait for it.
    thread::spawn(move || drop(socket));
    Ok(())
}

/// An ARP packet for one's own address (RFC 826).
fn arp(operation: u16, mac: Mac, address: Ipv4Addr) -> Vec<u8> {
    let target = if operation == 1 { Mac([0; 6]) } else { mac };
    let mut frame = ethernet(BROADCAST, mac, ETHERTYPE_ARP);
    frame.extend([0, 1, 8, 0, 6, 4]);
    frame.extend(operation.to_be_bytes());
    frame.extend(mac.0);
    frame.extend(address.octets());
    frame.extend(target.0);
    frame.extend(address.octets());
    frame
}

/// An unsolicited Neighbour Advertisement with the override flag.
fn advertisement(mac: Mac, address: Ipv6Addr) -> Vec<u8> {
    const ICMPV6: u8 = 58;
    let mut message = vec![136, 0, 0, 0, 0x20, 0, 0, 0];
    message.extend(address.octets());
    message.extend([2, 1]);
    message.extend(mac.0);
    let length = message.len() as u16;
    let pseudo_header =
        [&address.octets()[..], &ALL_NODES.0.octets(), &u32::from(length).to_be_bytes(), &[0, 0, 0, ICMPV6]].concat();
    let sum = checksum(&[pseudo_header, message.clone()].concat());
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut frame = ethernet(ALL_NODES.1, mac, ETHERTYPE_IPV6);
    frame.extend([0x60, 0, 0, 0]);
    frame.extend(length.to_be_bytes());
    frame.extend([ICMPV6, 255]);
    frame.extend(address.octets());
    frame.extend(ALL_NODES.0.octets());
    frame.extend(message);
    frame
}

fn ethernet(destination: Mac, source: Mac, ethertype: u16) -> Vec<u8> {
    [&destination.0[..], &source.0, &ethertype.to_be_bytes()].concat()
}

/// The Internet checksum (RFC 1071) of an even number of bytes.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn send(socket: &Socket, index: u32, frame: &[u8]) -> io::Result<()> {
    socket.send_to(frame, &link_address(index)?).map(drop)
}

/// Where a frame goes out (packet(7)); the frame itself says to whom.
#[allow(unsafe_code)]
fn link_address(index: u32) -> io::Result<SockAddr> {
    let index = i32::try_from(index).map_err(io::Error::other)?;
    // SAFETY: the storage is zeroed, larger than a sockaddr_ll, aligned for any socket address, and the length that
    // is set is that of the sockaddr_ll written.
    let ((), address) = unsafe {
        SockAddr::try_init(|storage, length| {
            let link = storage.cast::<libc::sockaddr_ll>();
            (*link).sll_family = libc::AF_PACKET as libc::sa_family_t;
            (*link).sll_ifindex = index;
            *length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
            Ok(())
        })?
    };
    Ok(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = Mac([0x2a, 0x1e, 0xa1, 0xdb, 0x2a, 0x9a]);

    #[test]
    fn a_gratuitous_request_asks_for_its_own_address() {
        let frame = arp(1, MAC, Ipv4Addr::new(10, 6, 212, 145));
        assert_eq!(frame.len(), 42);
        assert_eq!(&frame[..14], [&[0xff; 6][..], &MAC.0, &[8, 6]].concat());
        assert_eq!(&frame[28..32], &frame[38..42], "sender and target address");
    }

    #[test]
    fn an_advertisement_sums_to_nothing() {
        let address: Ipv6Addr = "fd00:10:6::2e5".parse().unwrap();
        let frame = advertisement(MAC, address);
        assert_eq!(frame.len(), 14 + 40 + 32);
        let pseudo = [&frame[22..54], &32_u32.to_be_bytes(), &[0, 0, 0, 58]].concat();
        assert_eq!(checksum(&[&pseudo[..], &frame[54..]].concat()), 0);
    }
}
