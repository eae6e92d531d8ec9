//! Lowering the maximum segment size that a TCP SYN announces (RFC 9293 §3.7.1).
//!
//! Only SYN and SYN-ACK carry the option that matters; it is lowered, never raised and never inserted, and the checksum
//! is corrected by the difference (RFC 1624). Everything that is not plainly a TCP header with well-formed options up to
//! the MSS option stays as it is: a packet of that kind is the end systems' matter.

use crate::wire::checksum;
use crate::wire::ip::Ip;
use crate::wire::tcp::{self, Tcp};
use crate::wire::{at_mut, protocol, tail};
use ipnet::IpNet;
use std::net::IpAddr;

const END_OF_OPTIONS: u8 = 0;
const NO_OPERATION: u8 = 1;
const MSS: u8 = 2;
const MSS_LEN: u8 = 4;

/// Where the TCP header of a SYN begins in `packet`; `None` for everything else, later fragments included.
#[inline]
pub fn syn_offset(ip: Ip<'_>, packet: &[u8]) -> Option<usize> {
    // Nearly all packets end here: not TCP, or TCP without SYN.
    if matches!(ip.protocol(), protocol::UDP | protocol::GRE | protocol::ICMP | protocol::ICMPV6) {
        return None;
    }
    let upper = ip.upper_layer(packet).ok()?;
    if upper.protocol != protocol::TCP || upper.is_later_fragment {
        return None;
    }
    let header = Tcp::new(tail(packet, upper.offset)).ok()?;
    (header.flags() & tcp::SYN != 0).then_some(upper.offset)
}

/// Lowers the MSS option of the TCP header at `offset` to `limit`. Returns what it said before, where that changed.
pub fn clamp(packet: &mut [u8], offset: usize, limit: u16) -> Option<u16> {
    let header = Tcp::new(tail(packet, offset)).ok()?;
    let (len, mut sum) = (header.header_len(), header.checksum());
    let mut changed = None;
    let mut at = Tcp::LEN;
    // Where the header says that it is longer than the packet, nothing in it can be trusted.
    let segment = packet.get_mut(offset..)?;
    let options_end = segment.get(..len).map(<[u8]>::len)?;
    while at < options_end {
        let (kind, length) = match segment.get(at..options_end) {
            Some([END_OF_OPTIONS, ..]) => break,
            Some([NO_OPERATION, ..]) => {
                at += 1;
                continue;
            }
            Some([kind, length, ..]) if *length >= 2 => (*kind, *length),
            _ => break,
        };
        let end = at + usize::from(length);
        if end > options_end {
            break;
        }
        if kind == MSS && length == MSS_LEN {
            let Ok(value) = at_mut::<2>(segment, at + 2) else { break };
            if u16::from_be_bytes(*value) > limit {
                let (old, new) = (*value, limit.to_be_bytes());
                *value = new;
                sum = update_at(sum, at, old, new);
                changed.get_or_insert(u16::from_be_bytes(old));
            }
        }
        at = end;
    }
    if let (Some(_), Ok(field)) = (changed, at_mut::<2>(segment, tcp::CHECKSUM)) {
        *field = sum;
    }
    changed
}

/// The checksum after a change at this distance from the header's start. At an odd one the two bytes belong to two words
/// of the sum, in which they stand the other way round.
#[inline]
fn update_at(sum: [u8; 2], at: usize, old: [u8; 2], new: [u8; 2]) -> [u8; 2] {
    let swap = |[high, low]: [u8; 2]| [low, high];
    if at.is_multiple_of(2) {
        checksum::update(sum, old, new)
    } else {
        checksum::update(sum, swap(old), swap(new))
    }
}

/// The limits that hold where packets cross an interface or tunnel in one direction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Clamps {
    everything: Limits,
    by_prefix: Vec<(IpNet, Limits)>,
}

/// A limit for each family, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Limits {
    /// For IPv4.
    pub ipv4: Option<u16>,
    /// For IPv6.
    pub ipv6: Option<u16>,
}

impl Limits {
    fn lower(&mut self, other: Limits) {
        self.ipv4 = lowest(self.ipv4, other.ipv4);
        self.ipv6 = lowest(self.ipv6, other.ipv6);
    }

    fn of(self, address: IpAddr) -> Option<u16> {
        if address.is_ipv4() { self.ipv4 } else { self.ipv6 }
    }
}

impl Clamps {
    /// Adds limits, for flows with an address in `prefix` on either side, or for all.
    pub fn add(&mut self, prefix: Option<IpNet>, limits: Limits) {
        match prefix {
            None => self.everything.lower(limits),
            Some(prefix) => self.by_prefix.push((prefix, limits)),
        }
    }

    /// The lowest limit for a packet of these addresses.
    pub fn limit(&self, source: IpAddr, destination: IpAddr) -> Option<u16> {
        let matching =
            self.by_prefix.iter().filter(|(net, _)| net.contains(&source) || net.contains(&destination));
        matching.map(|(_, limits)| limits.of(source)).fold(self.everything.of(source), lowest)
    }
}

fn lowest(one: Option<u16>, other: Option<u16>) -> Option<u16> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::checksum::Sum;
    use proptest::prelude::*;

    /// A TCP segment with these options, its checksum right.
    fn segment(options: &[u8], payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x30, 0x39, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0, tcp::SYN, 0xff, 0xff, 0, 0, 0, 0];
        let mut options = options.to_vec();
        options.resize(options.len().next_multiple_of(4), 0);
        bytes[12] = ((20 + options.len()) * 4) as u8;
        bytes.extend_from_slice(&options);
        bytes.extend_from_slice(payload);
        let sum = checksum_of(&bytes);
        bytes[16..18].copy_from_slice(&sum);
        bytes
    }

    fn pseudo(len: usize) -> Sum {
        Sum::pseudo_header(&[192, 0, 2, 1, 192, 0, 2, 2], protocol::TCP, len)
    }

    fn checksum_of(segment: &[u8]) -> [u8; 2] {
        (pseudo(segment.len()) + Sum::of(segment)).checksum()
    }

    fn is_intact(segment: &[u8]) -> bool {
        (pseudo(segment.len()) + Sum::of(segment)).is_intact()
    }

    fn option(mss: u16) -> [u8; 4] {
        let [high, low] = mss.to_be_bytes();
        [2, 4, high, low]
    }

    #[test]
    fn clamp_lowers_at_every_alignment_and_keeps_the_checksum_right() {
        for padding in 0..4 {
            let nops = vec![1; padding];
            let mut packet = segment(&[nops.as_slice(), &option(1460), &[4, 2]].concat(), b"odd");
            assert!(clamp(&mut packet, 0, 1332).is_some());
            assert_eq!(packet, segment(&[nops.as_slice(), &option(1332), &[4, 2]].concat(), b"odd"));
        }
    }

    #[test]
    fn clamp_leaves_smaller_mss_alone() {
        for mss in [0, 536, 1331, 1332] {
            let mut packet = segment(&option(mss), b"");
            let before = packet.clone();
            assert_eq!(clamp(&mut packet, 0, 1332), None);
            assert_eq!(packet, before);
        }
    }

    #[test]
    fn clamp_inserts_nothing_and_reads_nothing_behind_the_end() {
        let cases: &[&[u8]] = &[
            &[],
            &[1, 1, 1, 1],
            &[0, 2, 4, 0x05, 0xb4, 0, 0, 0], // behind the end of options
            &[2, 4, 0x05],                   // padded with the end of options: no limit above it
            &[2, 3, 0x05, 0xb4],             // wrong length
            &[3, 0, 2, 4, 0x05, 0xb4],       // length 0
            &[3, 1, 2, 4, 0x05, 0xb4],       // length 1
            &[3, 255, 2, 4, 0x05, 0xb4],     // length beyond the header
            &[1, 1, 1, 2],                   // kind without length
            &[1, 1, 2, 4],                   // cut by the end of the header
        ];
        for options in cases {
            let mut packet = segment(options, &[0x05, 0xb4, 2, 4, 0x05, 0xb4]);
            let before = packet.clone();
            clamp(&mut packet, 0, 1332);
            assert_eq!(packet, before, "{options:?}");
        }
    }

    #[test]
    fn clamp_stops_at_a_header_longer_than_the_packet() {
        let mut packet = segment(&option(1460), b"");
        packet[12] = 0xf0;
        let before = packet.clone();
        assert_eq!(clamp(&mut packet, 0, 1332), None);
        assert_eq!(packet, before);
        let mut short = packet[..19].to_vec();
        assert_eq!(clamp(&mut short, 0, 1332), None);
    }

    /// The options as a reader of RFC 9293 §3.2 would list them, written without looking at [`clamp`].
    fn expected(options: &[u8], limit: u16) -> Vec<u8> {
        match options {
            [] | [0, ..] => options.to_vec(),
            [1, rest @ ..] => [&[1], expected(rest, limit).as_slice()].concat(),
            [2, 4, high, low, rest @ ..] => {
                let mss = u16::from_be_bytes([*high, *low]).min(limit);
                [&[2, 4], mss.to_be_bytes().as_slice(), expected(rest, limit).as_slice()].concat()
            }
            [_, len, ..] if *len >= 2 && usize::from(*len) <= options.len() => {
                let (one, rest) = options.split_at(usize::from(*len));
                [one, expected(rest, limit).as_slice()].concat()
            }
            _ => options.to_vec(),
        }
    }

    proptest! {
        #[test]
        fn clamp_agrees_with_a_reading_of_the_rfc(
            parts in prop::collection::vec(
                prop_oneof![
                    Just(vec![1]),
                    any::<u16>().prop_map(|mss| option(mss).to_vec()),
                    prop::collection::vec(any::<u8>(), 1..8),
                    Just(vec![4, 2]),
                    Just(vec![8, 10, 1, 2, 3, 4, 5, 6, 7, 8]),
                ],
                0..6,
            ),
            limit: u16,
        ) {
            let mut options = parts.concat();
            options.truncate(40);
            options.resize(options.len().next_multiple_of(4), 0);
            let mut packet = segment(&options, b"data");
            let before = packet.clone();
            let changed = clamp(&mut packet, 0, limit).is_some();
            let wanted = expected(&options, limit);
            prop_assert_eq!(&packet[20..20 + options.len()], wanted.as_slice());
            prop_assert_eq!(changed, packet != before);
            prop_assert!(is_intact(&packet));
            prop_assert_eq!(&packet[..16], &before[..16]);
            prop_assert_eq!(&packet[20 + options.len()..], &before[20 + options.len()..]);
        }

        #[test]
        fn clamp_takes_any_bytes(mut bytes in prop::collection::vec(any::<u8>(), 0..100), offset in 0usize..120, limit: u16) {
            clamp(&mut bytes, offset, limit);
        }
    }

    #[test]
    fn the_lowest_limit_holds() {
        let mut clamps = Clamps::default();
        let [near, far] = ["192.0.2.1", "198.51.100.1"].map(|address| address.parse().unwrap());
        assert_eq!(clamps.limit(near, far), None);
        clamps.add(Some("192.0.2.0/24".parse().unwrap()), Limits { ipv4: Some(1300), ipv6: None });
        clamps.add(None, Limits { ipv4: Some(1400), ipv6: Some(1380) });
        clamps.add(Some("203.0.113.0/24".parse().unwrap()), Limits { ipv4: Some(1200), ipv6: None });
        assert_eq!(clamps.limit(near, far), Some(1300));
        assert_eq!(clamps.limit(far, near), Some(1300));
        assert_eq!(clamps.limit(far, far), Some(1400));
        let six = "2001:db8::1".parse().unwrap();
        assert_eq!(clamps.limit(six, six), Some(1380));
    }
}
