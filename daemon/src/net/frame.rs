//! Ethernet frames that ask or tell who has an address: ARP (RFC 826, RFC 5227) and IPv6 Neighbor Discovery (RFC 4861),
//! made and read.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use spiderpool_core::plan::Mac;

pub(super) const ETHERTYPE_ARP: u16 = 0x0806;
pub(super) const ETHERTYPE_IPV6: u16 = 0x86dd;
pub(super) const ICMPV6: u8 = 58;
pub(super) const SOLICITATION: u8 = 135;
pub(super) const ADVERTISEMENT: u8 = 136;
/// Where an IPv6 packet's next header and an ICMPv6 message's type stand in a frame.
pub(super) const NEXT_HEADER: usize = 14 + 6;
pub(super) const MESSAGE: usize = 14 + 40;

const BROADCAST: Mac = Mac([0xff; 6]);
/// The group of all nodes on a link.
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

const REQUEST: u16 = 1;
const REPLY: u16 = 2;

/// What a frame says of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// The sender has this address.
    Has(IpAddr, Mac),
    /// The sender would like to have this address, and asks whether somebody has it.
    Wants(IpAddr, Mac),
}

/// Frames that tell the segment where an address is: gratuitous ARP as request and as reply (RFC 5227, section 3), an
/// unsolicited advertisement (RFC 4861, section 7.2.6), and a solicitation that nobody else answers.
pub(super) fn announcements(mac: Mac, address: IpAddr) -> Vec<Vec<u8>> {
    match address {
        IpAddr::V4(v4) => vec![arp(REQUEST, mac, v4, Mac([0; 6]), v4), arp(REPLY, mac, v4, mac, v4)],
        IpAddr::V6(v6) => vec![advertisement(mac, v6), solicitation(mac, v6, v6)],
    }
}

/// Asks who has an address, from nobody's address: no neighbour remembers it (RFC 5227, section 2.1.1; RFC 4862,
/// section 5.4.2).
pub(super) fn probe(mac: Mac, target: IpAddr) -> Vec<u8> {
    match target {
        IpAddr::V4(v4) => arp(REQUEST, mac, Ipv4Addr::UNSPECIFIED, Mac([0; 6]), v4),
        IpAddr::V6(v6) => solicitation(mac, Ipv6Addr::UNSPECIFIED, v6),
    }
}

/// Asks who has an address, from an address of the same family; none if they are of two.
pub(super) fn request(mac: Mac, from: IpAddr, target: IpAddr) -> Option<Vec<u8>> {
    match (from, target) {
        (IpAddr::V4(from), IpAddr::V4(target)) => Some(arp(REQUEST, mac, from, Mac([0; 6]), target)),
        (IpAddr::V6(from), IpAddr::V6(target)) => Some(solicitation(mac, from, target)),
        _ => None,
    }
}

/// What a frame says; none if it is of another kind, or not as it should be.
pub(super) fn heard(frame: &[u8]) -> Option<Heard> {
    match u16::from_be_bytes(field(frame, 12)?) {
        ETHERTYPE_ARP => heard_arp(frame),
        ETHERTYPE_IPV6 => heard_discovery(frame),
        _ => None,
    }
}

fn heard_arp(frame: &[u8]) -> Option<Heard> {
    if frame.get(14..20)? != [0, 1, 8, 0, 6, 4] {
        return None;
    }
    let mac = Mac(field(frame, 22)?);
    let [sender, target] = [28, 38].map(|place| field::<4>(frame, place).map(Ipv4Addr::from));
    let (sender, target) = (sender?, target?);
    match (u16::from_be_bytes(field(frame, 20)?), sender) {
        (REQUEST, Ipv4Addr::UNSPECIFIED) => Some(Heard::Wants(target.into(), mac)),
        (REQUEST | REPLY, sender) if !sender.is_unspecified() => Some(Heard::Has(sender.into(), mac)),
        _ => None,
    }
}

/// The checksum is not looked at: a sender on the same machine may have left it to hardware that is not there.
fn heard_discovery(frame: &[u8]) -> Option<Heard> {
    // A hop limit of 255 proves that no router let it through (RFC 4861, section 7.1).
    let [next_header, hop_limit] = field(frame, NEXT_HEADER)?;
    let [kind, code] = field(frame, MESSAGE)?;
    if (next_header, hop_limit, code) != (ICMPV6, 255, 0) {
        return None;
    }
    let sender = Mac(field(frame, 6)?);
    let source = Ipv6Addr::from(field::<16>(frame, 22)?);
    let target = Ipv6Addr::from(field::<16>(frame, MESSAGE + 8)?);
    match kind {
        ADVERTISEMENT => Some(Heard::Has(target.into(), sender)),
        SOLICITATION if source.is_unspecified() => Some(Heard::Wants(target.into(), sender)),
        SOLICITATION => Some(Heard::Has(source.into(), sender)),
        _ => None,
    }
}

fn field<const LENGTH: usize>(frame: &[u8], place: usize) -> Option<[u8; LENGTH]> {
    frame.get(place..)?.first_chunk().copied()
}

fn arp(operation: u16, mac: Mac, sender: Ipv4Addr, target_mac: Mac, target: Ipv4Addr) -> Vec<u8> {
    let mut frame = ethernet(BROADCAST, mac, ETHERTYPE_ARP);
    frame.extend([0, 1, 8, 0, 6, 4]);
    frame.extend(operation.to_be_bytes());
    frame.extend(mac.0);
    frame.extend(sender.octets());
    frame.extend(target_mac.0);
    frame.extend(target.octets());
    frame
}

/// An unsolicited advertisement with the override flag.
fn advertisement(mac: Mac, address: Ipv6Addr) -> Vec<u8> {
    let mut message = vec![ADVERTISEMENT, 0, 0, 0, 0x20, 0, 0, 0];
    message.extend(address.octets());
    message.extend([2, 1]);
    message.extend(mac.0);
    icmpv6(mac, address, ALL_NODES, message)
}

/// A solicitation to the target's group. From the unspecified address it must not name the sender's Ethernet address
/// (RFC 4861, section 4.3).
fn solicitation(mac: Mac, source: Ipv6Addr, target: Ipv6Addr) -> Vec<u8> {
    let mut message = vec![SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
    message.extend(target.octets());
    if !source.is_unspecified() {
        message.extend([1, 1]);
        message.extend(mac.0);
    }
    let [.., a, b, c] = target.octets();
    let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), u16::from_be_bytes([b, c]));
    icmpv6(mac, source, group, message)
}

/// An ICMPv6 message to a group.
fn icmpv6(mac: Mac, source: Ipv6Addr, group: Ipv6Addr, mut message: Vec<u8>) -> Vec<u8> {
    let length = message.len() as u16;
    let ends = [source.octets(), group.octets()].concat();
    let pseudo_header = [&ends[..], &u32::from(length).to_be_bytes(), &[0, 0, 0, ICMPV6]].concat();
    let sum = checksum(&[pseudo_header, message.clone()].concat());
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    // A group's Ethernet address ends as it does (RFC 2464, section 7).
    let [.., a, b, c, d] = group.octets();
    let mut frame = ethernet(Mac([0x33, 0x33, a, b, c, d]), mac, ETHERTYPE_IPV6);
    frame.extend([0x60, 0, 0, 0]);
    frame.extend(length.to_be_bytes());
    frame.extend([ICMPV6, 255]);
    frame.extend(ends);
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

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = Mac([0x2a, 0x1e, 0xa1, 0xdb, 0x2a, 0x9a]);

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_gratuitous_request_asks_for_its_own_address() {
        let [request, reply] = announcements(MAC, ip("10.6.212.145")).try_into().unwrap();
        assert_eq!((request.len(), reply.len()), (42, 42));
        assert_eq!(&request[..14], [&[0xff; 6][..], &MAC.0, &[8, 6]].concat());
        assert_eq!(&request[28..32], &request[38..42], "sender and target address");
        assert_eq!((request[21], reply[21]), (1, 2));
    }

    #[test]
    fn messages_of_version_6_sum_to_nothing() {
        let address = ip("fd00:10:6::2e5");
        let frames = [announcements(MAC, address), vec![probe(MAC, address)]].concat();
        for (frame, length) in frames.iter().zip([32, 32, 24]) {
            assert_eq!(frame.len(), 14 + 40 + length);
            let pseudo = [&frame[22..54], &(length as u32).to_be_bytes(), &[0, 0, 0, ICMPV6]].concat();
            assert_eq!(checksum(&[&pseudo[..], &frame[54..]].concat()), 0);
        }
        assert_eq!(&frames[1][..6], [0x33, 0x33, 0xff, 0, 0x02, 0xe5], "the group of the target");
    }

    #[test]
    fn what_is_said_is_heard() {
        let (own, other) = (["10.6.0.9", "fd00::9"].map(ip), ["10.6.0.1", "fe80::1"].map(ip));
        for (own, other) in own.into_iter().zip(other) {
            for frame in announcements(MAC, own) {
                assert_eq!(heard(&frame), Some(Heard::Has(own, MAC)));
            }
            assert_eq!(heard(&probe(MAC, other)), Some(Heard::Wants(other, MAC)));
            assert_eq!(heard(&request(MAC, own, other).unwrap()), Some(Heard::Has(own, MAC)));
        }
        assert_eq!(request(MAC, own[0], other[1]), None);
    }

    /// Whatever arrives, cut anywhere, is read or left alone.
    #[test]
    fn a_frame_that_is_not_whole_says_nothing() {
        let frames = ["10.6.0.9", "fd00::9"].map(|address| announcements(MAC, ip(address))).concat();
        for frame in frames {
            let needed = if frame[12..14] == ETHERTYPE_ARP.to_be_bytes() { 42 } else { MESSAGE + 24 };
            assert!((0..needed).all(|length| heard(&frame[..length]).is_none()), "{frame:02x?}");
            let routed = [&frame[..21], &[254], &frame[22..]].concat();
            assert!(frame[12] == 8 || heard(&routed).is_none(), "a router let it through");
        }
    }
}
