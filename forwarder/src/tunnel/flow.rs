//! The hash of a flow: what spreads packets over routes, source ports and flow labels, and keeps those of a flow together.

use crate::wire::ip::{Ip, Plain, Version};
use crate::wire::{head, part, protocol, tail};

/// The hash of an inner flow, and what is taken from it: different bits for different uses, so that a choice made here
/// does not thin out the choices of routers further on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowHash(pub u64);

impl FlowHash {
    /// That of a packet: the same for all packets of a flow and direction, well mixed over all bits.
    ///
    /// TCP and UDP ports take part where the packet is whole; a fragment has the addresses and protocol only, the first
    /// one too, so that all fragments of one packet go one way (RFC 8086 §3.2).
    #[inline]
    pub fn of(ip: Ip<'_>, packet: &[u8]) -> Self {
        let Ok(upper) = ip.upper_layer(packet) else { return mix_all(ip.addresses(), 0) };
        let ports = match upper.protocol {
            protocol::TCP | protocol::UDP if !upper.is_fragment => {
                head::<4>(tail(packet, upper.offset)).copied().map_or(0, u32::from_le_bytes)
            }
            _ => 0,
        };
        mix_all(ip.addresses(), u64::from(ports) << 8 | u64::from(upper.protocol))
    }

    /// The same of a plain packet that `head` begins, which may reach behind its end.
    #[inline(always)]
    pub(crate) fn plain(head: &[u8; 64], ip: Plain) -> Self {
        let has_ports =
            matches!(ip.protocol, protocol::TCP | protocol::UDP) && ip.total_len >= ip.header_len + 4;
        // Of each family on its own, so that the number of words is known.
        match ip.version {
            Version::V4 => Self::new(bytes::<8>(head, 12), ip.protocol, ports(head, 20, has_ports)),
            Version::V6 => Self::new(bytes::<32>(head, 8), ip.protocol, ports(head, 40, has_ports)),
        }
    }

    /// The same by its parts: addresses and ports as on the wire, no ports where it has none.
    #[inline(always)]
    pub(crate) fn new(addresses: &[u8], protocol: u8, ports: [u8; 4]) -> Self {
        mix_all(addresses, u64::from(u32::from_le_bytes(ports)) << 8 | u64::from(protocol))
    }

    /// UDP source port, 49152 to 65535 (RFC 8086 §3.1).
    #[inline]
    pub fn source_port(self) -> u16 {
        0xc000 | (self.0 & 0x3fff) as u16
    }

    /// IPv6 flow label, 1 to 0xfffff (RFC 6438 §3).
    #[inline]
    pub fn label(self) -> u32 {
        (((self.0 >> 14) & 0xf_ffff) as u32).max(1)
    }

    /// A number from 0 to `choices` − 1, for `choices` up to 2³².
    #[inline]
    pub fn choice(self, choices: u64) -> u64 {
        ((self.0 >> 34) * choices) >> 30
    }

    /// A hash of the same flow for a further choice, which the first one does not foretell.
    #[inline]
    pub fn again(self) -> Self {
        FlowHash(mix(self.0, 0xd6e8_feb8_6659_fd93))
    }
}

/// The ports at this place, where there are any.
#[inline(always)]
fn ports(head: &[u8; 64], at: usize, has_ports: bool) -> [u8; 4] {
    if has_ports { *bytes(head, at) } else { [0; 4] }
}

/// So many bytes at this place, which are there.
#[inline(always)]
fn bytes<const N: usize>(head: &[u8; 64], at: usize) -> &[u8; N] {
    part(head, at).unwrap_or(&[0; N])
}

#[inline(always)]
fn mix_all(addresses: &[u8], seed: u64) -> FlowHash {
    let mut hash = mix(seed, 0x9e37_79b9_7f4a_7c15);
    for word in addresses.as_chunks::<8>().0 {
        hash = mix(hash ^ u64::from_le_bytes(*word), 0xd6e8_feb8_6659_fd93);
    }
    FlowHash(hash)
}

/// Multiplies to 128 bits and folds the halves: every bit of the product reaches the result.
#[inline]
pub(crate) fn mix(word: u64, factor: u64) -> u64 {
    let product = u128::from(word ^ 0xa076_1d64_78bd_642f) * u128::from(factor);
    (product >> 64) as u64 ^ product as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::ipv4::{self, Ipv4Repr};
    use std::collections::HashSet;
    use std::net::Ipv4Addr;

    fn packet(fragment: u16, protocol: u8, ports: [u8; 4], last: u8) -> Vec<u8> {
        let header = Ipv4Repr {
            traffic_class: 0,
            total_len: 28,
            identification: 0,
            fragment,
            ttl: 64,
            protocol,
            source: Ipv4Addr::new(192, 0, 2, 1),
            destination: Ipv4Addr::new(198, 51, 100, last),
        };
        [header.emit().as_slice(), &ports, &[0; 4]].concat()
    }

    fn hash(packet: &[u8]) -> u64 {
        FlowHash::of(Ip::check(packet, Version::V4).unwrap(), packet).0
    }

    #[test]
    fn fragments_of_one_packet_share_the_hash() {
        let first = hash(&packet(ipv4::MF, 17, [1, 2, 3, 4], 1));
        assert_eq!(first, hash(&packet(ipv4::MF | 5, 17, [9, 9, 9, 9], 1)));
        assert_eq!(first, hash(&packet(7, 17, [8, 8, 8, 8], 1)));
        assert_ne!(first, hash(&packet(0, 17, [1, 2, 3, 4], 1)));
    }

    #[test]
    fn neighbouring_flows_spread_over_all_bits() {
        for shift in [0, 14, 28, 44, 50] {
            let buckets: HashSet<_> =
                (0..=255u8).map(|port| hash(&packet(0, 6, [0, port, 0, 80], 1)) >> shift & 0x3f).collect();
            assert!(buckets.len() > 58, "{} of 64 values at bit {shift}", buckets.len());
        }
    }

    #[test]
    fn entropy_stays_in_its_ranges() {
        for hash in [0, u64::MAX, 1 << 63, 0x3fff, 0x3_ffff_c000] {
            let flow = FlowHash(hash);
            assert!(flow.source_port() >= 49152);
            assert!((1..=0xf_ffff).contains(&flow.label()));
            assert!(flow.choice(7) < 7 && flow.choice(1 << 32) < 1 << 32);
        }
    }
}
