//! The one's-complement sum of an inner packet, for checksums of the headers around it.
//!
//! A TCP or UDP packet whose checksum is right sums to something that is known without looking at its data: an IPv4 header
//! sums to nothing, and what the upper layer's checksum covers sums to the opposite of its pseudo-header (the kernel calls
//! this local checksum offload). Only where nothing promises a checksum is the whole packet added up. A packet that was
//! damaged before it came here gets outer headers that say so, and is dropped by the tunnel's other end in place of its
//! receiver.

use crate::wire::checksum::Sum;
use crate::wire::ip::{Ip, Plain, Version};
use crate::wire::ipv6::Ipv6;
use crate::wire::tcp::Tcp;
use crate::wire::udp::Udp;
use crate::wire::{protocol, tail};

/// The sum of `packet`, which begins with a checked header of this version and ends with its last byte.
#[inline]
pub(crate) fn sum(packet: &[u8], version: Version) -> Sum {
    Ip::new(packet, version).ok().and_then(|ip| promised(ip, packet)).unwrap_or_else(|| Sum::of(packet))
}

/// The same for a packet that was seen at a glance; `packet` begins with it, and is longer.
#[inline(always)]
pub(crate) fn plain(packet: &[u8], ip: Plain) -> Sum {
    seen(packet, ip).unwrap_or_else(|| Sum::apart(packet.get(..ip.total_len).unwrap_or(packet)))
}

#[inline(always)]
fn seen(head: &[u8], ip: Plain) -> Option<Sum> {
    // Of each family on its own, so that the number of words is known.
    let addresses = match ip.version {
        Version::V4 => Sum::of(head.get(12..20)?),
        Version::V6 => Sum::of(head.get(8..40)?),
    };
    let header_len = ip.header_len;
    let len = ip.total_len - header_len;
    match ip.protocol {
        protocol::TCP if len >= Tcp::LEN => {}
        // What stands behind the packet may look like the rest of a header that was cut short.
        protocol::UDP if len >= Udp::LEN => {
            let header = Udp::new(head.get(header_len..)?).ok()?;
            if header.checksum() == [0, 0] || header.length() != len {
                return None;
            }
        }
        _ => return None,
    }
    let covered = (addresses + Sum::pseudo_header(&[], ip.protocol, len)).opposite();
    Some(match ip.version {
        Version::V4 => covered,
        Version::V6 => covered + Sum::of(head.get(..Ipv6::LEN)?),
    })
}

/// The sum that the packet's own checksums promise, where there are any.
#[inline]
fn promised(ip: Ip<'_>, packet: &[u8]) -> Option<Sum> {
    let upper = ip.upper_layer(packet).ok().filter(|upper| !upper.is_fragment)?;
    // What stands between IPv6 and the upper layer may say which addresses the checksum is over in place of these: a routing
    // header the last destination (RFC 8200 §8.1), an option the home address (RFC 6275 §11.3.1).
    if ip.version() == Version::V6 && upper.offset != Ipv6::LEN {
        return None;
    }
    let len = packet.len().checked_sub(upper.offset)?;
    match upper.protocol {
        protocol::TCP if len >= Tcp::LEN => {}
        protocol::UDP => {
            // Zero is none; and a datagram shorter than its packet does not cover all of it.
            let header = Udp::new(tail(packet, upper.offset)).ok()?;
            if header.checksum() == [0, 0] || header.length() != len {
                return None;
            }
        }
        _ => return None,
    }
    let covered = Sum::pseudo_header(ip.addresses(), upper.protocol, len).opposite();
    Some(match ip {
        Ip::V4(_) => covered,
        // This header has no checksum of its own.
        Ip::V6(_) => covered + Sum::of(packet.get(..upper.offset)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::ipv4::Ipv4Repr;
    use crate::wire::ipv6::Ipv6Repr;
    use proptest::prelude::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    fn packet(is_ipv4: bool, protocol: u8, options: usize, mut segment: Vec<u8>) -> (Vec<u8>, Version) {
        let at = if protocol == protocol::TCP { 16 } else { 6 };
        segment[at..at + 2].copy_from_slice(&[0, 0]);
        if protocol == protocol::UDP {
            let len = (segment.len() as u16).to_be_bytes();
            segment[4..6].copy_from_slice(&len);
        }
        let mut bytes = if is_ipv4 {
            let (source, destination) = (Ipv4Addr::new(10, 1, 2, 3), Ipv4Addr::new(192, 0, 2, 200));
            let total_len = (20 + segment.len()) as u16;
            let header = Ipv4Repr {
                traffic_class: 3,
                total_len,
                identification: 9,
                fragment: 0,
                ttl: 7,
                protocol,
                source,
                destination,
            };
            header.emit().to_vec()
        } else {
            let extension = match options {
                0 => Vec::new(),
                _ => {
                    [protocol, options as u8 - 1, 1, 4].into_iter().chain(vec![0; options * 8 - 4]).collect()
                }
            };
            let (source, destination) = (Ipv6Addr::LOCALHOST, Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 9));
            let payload_len = (segment.len() + extension.len()) as u16;
            let header = Ipv6Repr {
                traffic_class: 1,
                flow_label: 5,
                payload_len,
                next_header: if options == 0 { protocol } else { protocol::DESTINATION_OPTIONS },
                hop_limit: 9,
                source,
                destination,
            };
            header.emit().into_iter().chain(extension).collect()
        };
        let version = if is_ipv4 { Version::V4 } else { Version::V6 };
        let addresses = Ip::new(&bytes, version).unwrap().addresses().to_vec();
        let checksum =
            (Sum::pseudo_header(&addresses, protocol, segment.len()) + Sum::of(&segment)).checksum();
        segment[at..at + 2].copy_from_slice(&if checksum == [0, 0] { [0xff, 0xff] } else { checksum });
        bytes.extend(segment);
        (bytes, version)
    }

    proptest! {
        #[test]
        fn what_checksums_promise_is_what_adding_up_gives(
            is_ipv4: bool, is_tcp: bool, segment in prop::collection::vec(any::<u8>(), 20..120),
        ) {
            let protocol = if is_tcp { protocol::TCP } else { protocol::UDP };
            let (packet, version) = packet(is_ipv4, protocol, 0, segment);
            let ip = Ip::check(&packet, version).unwrap();
            let promised = promised(ip, &packet).expect("it has a checksum");
            // Both zeros stand for nothing; something not zero is always added to either.
            let with = |sum: Sum| (sum + Sum::word([8, 0])).checksum();
            prop_assert_eq!(with(promised), with(Sum::of(&packet)));
        }
    }

    #[test]
    fn nothing_is_promised_without_a_checksum_that_covers_all() {
        let (mut udp, version) = packet(true, protocol::UDP, 0, vec![7; 40]);
        assert!(promised(Ip::check(&udp, version).unwrap(), &udp).is_some());
        udp[26..28].copy_from_slice(&[0, 0]);
        assert!(promised(Ip::check(&udp, version).unwrap(), &udp).is_none());
        let (mut short, version) = packet(true, protocol::UDP, 0, vec![7; 40]);
        short[25] -= 1;
        assert!(promised(Ip::check(&short, version).unwrap(), &short).is_none());
        let (mut fragment, version) = packet(true, protocol::TCP, 0, vec![7; 40]);
        fragment[6] |= 0x20;
        assert!(promised(Ip::new(&fragment, version).unwrap(), &fragment).is_none());
    }

    #[test]
    fn nothing_is_promised_by_what_stands_behind_the_packet() {
        // A header that goes on behind the end, where bytes happen to say what a datagram would.
        for len in [4u8, 6, 7] {
            let (mut bytes, _) = packet(true, protocol::UDP, 0, vec![7; 44]);
            bytes[2..4].copy_from_slice(&[0, 20 + len]);
            bytes[24..26].copy_from_slice(&[0, len]);
            let ip = Plain { protocol: protocol::UDP, total_len: 20 + usize::from(len), ..Plain::BLANK };
            let head: &[u8; 64] = bytes.first_chunk().unwrap();
            assert!(seen(head, ip).is_none(), "{len} bytes");
        }
    }

    #[test]
    fn nothing_is_promised_where_the_checksum_is_over_other_addresses() {
        // A routing header has the last destination, which the checksum is over (RFC 8200 §8.1).
        let (mut routed, version) = packet(false, protocol::TCP, 3, vec![7; 40]);
        (routed[6], routed[43]) = (protocol::ROUTING, 1);
        assert!(promised(Ip::check(&routed, version).unwrap(), &routed).is_none());
        // An option may have the home address, which it is over in place of the source (RFC 6275 §11.3.1).
        let (mut mobile, version) = packet(false, protocol::TCP, 3, vec![7; 40]);
        mobile[42..46].copy_from_slice(&[1, 0, 201, 16]);
        assert!(promised(Ip::check(&mobile, version).unwrap(), &mobile).is_none());
    }
}
