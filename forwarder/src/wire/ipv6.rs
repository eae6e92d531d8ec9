//! IPv6 (RFC 8200), and the way through its extension headers.

use super::ip::{Plain, Version};
use super::ipv6_fragment::Ipv6Fragment;
use super::{head, protocol, tail};
use crate::table::Sender;
use crate::verdict::DropReason;
use std::net::Ipv6Addr;

/// The fixed 40 bytes.
///
/// ```text
///  0       4               12                                      32
/// +-------+---------------+---------------------------------------+
/// |version| traffic class | flow label                            |
/// +-------+---------------+-------+---------------+---------------+
/// | payload length                | next header   | hop limit     |
/// +-------------------------------+---------------+---------------+
/// | source (16 bytes)                                             |
/// +---------------------------------------------------------------+
/// | destination (16 bytes)                                        |
/// +---------------------------------------------------------------+
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Ipv6<'a>(&'a [u8; Ipv6::LEN]);

impl<'a> Ipv6<'a> {
    /// Bytes.
    pub const LEN: usize = 40;

    /// The header at the front of `bytes`. Only that it is there is checked; see [`check`] for the rest.
    ///
    /// # Errors
    /// [`DropReason::Truncated`].
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Result<Self, DropReason> {
        Ok(Ipv6(head(bytes)?))
    }

    /// Version, 6 if this is IPv6.
    #[inline]
    pub fn version(self) -> u8 {
        self.0[0] >> 4
    }

    /// DSCP (upper six bits) and ECN (lower two).
    #[inline]
    pub fn traffic_class(self) -> u8 {
        self.0[0] << 4 | self.0[1] >> 4
    }

    /// Flow label, 20 bits.
    #[inline]
    pub fn flow_label(self) -> u32 {
        u32::from_be_bytes([0, self.0[1] & 0x0f, self.0[2], self.0[3]])
    }

    /// Bytes that follow the fixed header.
    #[inline]
    pub fn payload_len(self) -> usize {
        usize::from(u16::from_be_bytes([self.0[4], self.0[5]]))
    }

    /// Length of header and payload in bytes.
    #[inline]
    pub fn total_len(self) -> usize {
        Ipv6::LEN + self.payload_len()
    }

    /// Protocol of what follows the fixed header.
    #[inline]
    pub fn next_header(self) -> u8 {
        self.0[6]
    }

    /// Hop limit.
    #[inline]
    pub fn hop_limit(self) -> u8 {
        self.0[7]
    }

    /// Source address.
    #[inline]
    pub fn source(self) -> Ipv6Addr {
        self.addresses().first_chunk::<16>().map_or(Ipv6Addr::UNSPECIFIED, |octets| Ipv6Addr::from(*octets))
    }

    /// Destination address.
    #[inline]
    pub fn destination(self) -> Ipv6Addr {
        self.0.last_chunk::<16>().map_or(Ipv6Addr::UNSPECIFIED, |octets| Ipv6Addr::from(*octets))
    }

    /// Both addresses as on the wire, source first.
    #[inline]
    pub fn addresses(self) -> &'a [u8; 32] {
        self.0.last_chunk().unwrap_or(&[0; 32])
    }
}

/// Checks a header: version and length. `bytes` begin with it and may be longer than the packet. `total_len` then lies
/// within `bytes`.
///
/// # Errors
/// [`DropReason::Truncated`], [`DropReason::IpVersion`].
#[inline]
pub fn check(bytes: &[u8]) -> Result<Ipv6<'_>, DropReason> {
    let header = Ipv6::new(bytes)?;
    if header.version() != 6 {
        return Err(DropReason::IpVersion);
    }
    if header.total_len() > bytes.len() {
        return Err(DropReason::Truncated);
    }
    Ok(header)
}

/// Where the source begins, in bytes from the start of the header; the destination follows.
pub(super) const SOURCE: usize = 8;
/// A header at a glance; `None` where there is anything unusual about it, or [`check`]
/// would refuse it. `room` is what there is of the packet in bytes.
#[inline(always)]
pub(crate) fn plain(header: &[u8; Ipv6::LEN], room: usize) -> Option<Plain> {
    let view = Ipv6(header);
    let is_plain = view.version() == 6 && view.total_len() <= room && !is_extension(view.next_header());
    let is_between_hosts = is_global(view.source()) && is_global(view.destination());
    (is_plain && is_between_hosts).then(|| fields(header))
}

/// What a plain header says.
#[inline(always)]
pub(super) fn fields(header: &[u8; Ipv6::LEN]) -> Plain {
    let view = Ipv6(header);
    Plain {
        version: Version::V6,
        protocol: view.next_header(),
        traffic_class: view.traffic_class(),
        ttl: view.hop_limit(),
        dont_fragment: false,
        total_len: view.total_len(),
        header_len: Ipv6::LEN,
    }
}

/// The destination as on the wire.
#[inline(always)]
pub(crate) fn destination(header: &[u8; Ipv6::LEN]) -> [u8; 16] {
    Ipv6(header).destination().octets()
}

/// The source, by which tunnels are matched.
#[inline(always)]
pub(crate) fn sender(header: &[u8; Ipv6::LEN]) -> Sender {
    sender_of(Ipv6(header).source().octets())
}

/// The address of these octets as a sender.
#[inline(always)]
pub(crate) fn sender_of(octets: [u8; 16]) -> Sender {
    let bits = u128::from_be_bytes(octets);
    Sender { is_ipv4: false, upper: (bits >> 64) as u64, lower: bits as u64 }
}

/// Whether an address is one host's beyond its link: not multicast, link-local, unspecified or loopback.
#[inline(always)]
pub(crate) fn is_global(address: Ipv6Addr) -> bool {
    let bits = address.to_bits();
    let first = (bits >> 112) as u16;
    first < 0xff00 && first & 0xffc0 != 0xfe80 && bits > 1
}

/// Extension headers that a packet may have; more are refused, as no sender needs them (RFC 8504 §5.3 lets a node set
/// such a limit).
const MAX_EXTENSIONS: usize = 8;

/// What the extension headers of a packet lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpperLayer {
    /// Protocol of the first header that is not an extension.
    pub protocol: u8,
    /// Where that header begins, in bytes from the start of the packet.
    pub offset: usize,
    /// Whether the packet is a fragment, atomic ones (RFC 6946) left aside.
    pub is_fragment: bool,
    /// Whether the fragment is not the first; then there is no upper-layer header at `offset`.
    pub is_later_fragment: bool,
    /// Whether a routing header has segments left.
    pub is_source_routed: bool,
}

/// Walks the extension headers of `packet`, which begins with a checked IPv6 header. Options are skipped unread, the
/// tunnel encapsulation limit (RFC 2473 §5.1) among them.
///
/// # Errors
/// [`DropReason::Ipv6Extensions`] for headers that end outside of the packet, or too many of them.
#[inline]
pub fn upper_layer(packet: &[u8]) -> Result<UpperLayer, DropReason> {
    let next_header = Ipv6::new(packet)?.next_header();
    let mut upper = UpperLayer {
        protocol: next_header,
        offset: Ipv6::LEN,
        is_fragment: false,
        is_later_fragment: false,
        is_source_routed: false,
    };
    if !is_extension(next_header) {
        return Ok(upper);
    }
    for _ in 0..MAX_EXTENSIONS {
        let header: &[u8; 8] = head(tail(packet, upper.offset)).map_err(|_| DropReason::Ipv6Extensions)?;
        let mut len = (usize::from(header[1]) + 1) * 8;
        match upper.protocol {
            protocol::FRAGMENT => {
                let fragment = Ipv6Fragment::new(header)?;
                upper.is_later_fragment = fragment.offset() != 0;
                // Of several such headers the outermost that is not atomic counts: what follows is cut off somewhere.
                upper.is_fragment |= fragment.offset() != 0 || fragment.more();
                len = Ipv6Fragment::LEN;
            }
            protocol::ROUTING => upper.is_source_routed |= header[3] != 0,
            _ => {}
        }
        upper.protocol = header[0];
        upper.offset += len;
        if upper.offset > packet.len() {
            return Err(DropReason::Ipv6Extensions);
        }
        if upper.is_later_fragment || !is_extension(upper.protocol) {
            return Ok(upper);
        }
    }
    Err(DropReason::Ipv6Extensions)
}

/// Where a fragment header stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FragmentPlace {
    /// Where it begins, in bytes from the start of the packet: the end of what every fragment carries.
    pub offset: usize,
    /// Where the byte is that announces it, in the header before.
    pub announced_at: usize,
}

/// Finds the first fragment header of `packet`, which begins with a checked IPv6 header and of which [`upper_layer`] said
/// that it is a fragment; `None` where there is none.
pub fn fragment_place(packet: &[u8]) -> Option<FragmentPlace> {
    let (mut next_header, mut offset, mut announced_at) =
        (Ipv6::new(packet).ok()?.next_header(), Ipv6::LEN, 6);
    for _ in 0..MAX_EXTENSIONS {
        if next_header == protocol::FRAGMENT {
            return Some(FragmentPlace { offset, announced_at });
        }
        if !is_extension(next_header) {
            return None;
        }
        let header: &[u8; 8] = head(tail(packet, offset)).ok()?;
        announced_at = offset;
        next_header = header[0];
        offset += (usize::from(header[1]) + 1) * 8;
    }
    None
}

/// Whether this next header is an extension that [`upper_layer`] looks behind.
#[inline]
pub fn is_extension(next_header: u8) -> bool {
    matches!(
        next_header,
        protocol::HOP_BY_HOP | protocol::ROUTING | protocol::FRAGMENT | protocol::DESTINATION_OPTIONS
    )
}

/// Lowers the hop limit by one.
#[inline]
pub fn lower_hop_limit(header: &mut [u8; Ipv6::LEN]) {
    header[7] = header[7].saturating_sub(1);
}

/// Replaces the destination. Checksums of what follows cover it and are left alone.
#[inline]
pub fn set_destination(header: &mut [u8; Ipv6::LEN], destination: Ipv6Addr) {
    if let Some(field) = header.last_chunk_mut() {
        *field = destination.octets();
    }
}

/// Replaces the length of what follows the fixed header.
pub fn set_payload_len(header: &mut [u8; Ipv6::LEN], len: u16) {
    [header[4], header[5]] = len.to_be_bytes();
}

/// Replaces DSCP and ECN.
#[inline]
pub fn set_traffic_class(header: &mut [u8; Ipv6::LEN], class: u8) {
    header[0] = 0x60 | class >> 4;
    header[1] = class << 4 | header[1] & 0x0f;
}

/// The header as a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv6Repr {
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// Flow label, 20 bits.
    pub flow_label: u32,
    /// Bytes that follow the fixed header.
    pub payload_len: u16,
    /// Protocol of what follows.
    pub next_header: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// Source address.
    pub source: Ipv6Addr,
    /// Destination address.
    pub destination: Ipv6Addr,
}

impl Ipv6Repr {
    /// The header's fields.
    pub fn parse(header: Ipv6<'_>) -> Self {
        Ipv6Repr {
            traffic_class: header.traffic_class(),
            flow_label: header.flow_label(),
            payload_len: header.payload_len() as u16,
            next_header: header.next_header(),
            hop_limit: header.hop_limit(),
            source: header.source(),
            destination: header.destination(),
        }
    }

    /// The header's bytes.
    pub fn emit(&self) -> [u8; Ipv6::LEN] {
        let mut header = [0; Ipv6::LEN];
        let word = 6 << 28 | u32::from(self.traffic_class) << 20 | self.flow_label & 0x000f_ffff;
        [header[0], header[1], header[2], header[3]] = word.to_be_bytes();
        [header[4], header[5]] = self.payload_len.to_be_bytes();
        header[6] = self.next_header;
        header[7] = self.hop_limit;
        let addresses = self.source.octets().into_iter().chain(self.destination.octets());
        for (to, from) in header.iter_mut().skip(8).zip(addresses) {
            *to = from;
        }
        header
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::quartet::*;
    use proptest::prelude::*;

    fn parse(bytes: &[u8]) -> Result<Ipv6Repr, DropReason> {
        Ipv6::new(bytes).map(Ipv6Repr::parse)
    }

    fn emit(value: &Ipv6Repr, bytes: &mut [u8]) {
        bytes.copy_from_slice(&value.emit());
    }

    fn header() -> impl Strategy<Value = [u8; Ipv6::LEN]> {
        (any::<[u8; 8]>(), any::<[u8; 32]>()).prop_map(|(front, addresses)| {
            let mut bytes = [0; Ipv6::LEN];
            bytes[..8].copy_from_slice(&front);
            bytes[8..].copy_from_slice(&addresses);
            bytes[0] = 0x60 | bytes[0] & 0x0f;
            bytes
        })
    }

    proptest! {
        #[test]
        fn quartet(bytes in header(), hop_limit: u8) {
            bytes_survive(&bytes, emit, parse);
            let value = parse(&bytes).unwrap();
            value_survives(&value, Ipv6::LEN, emit, parse);
            write_stays_inside(&bytes, 7..8, |bytes| emit(&Ipv6Repr { hop_limit, ..value }, bytes));
        }

        #[test]
        fn setters_touch_their_own_field(bytes in header(), class: u8, payload_len: u16) {
            let before = parse(&bytes).unwrap();
            let mut bytes = bytes;
            set_traffic_class(&mut bytes, class);
            lower_hop_limit(&mut bytes);
            set_payload_len(&mut bytes, payload_len);
            let hop_limit = before.hop_limit.saturating_sub(1);
            let after = Ipv6Repr { traffic_class: class, hop_limit, payload_len, ..before };
            prop_assert_eq!(parse(&bytes).unwrap(), after);
        }

        #[test]
        fn any_extension_bytes_end_inside_the_packet(first: u8, rest in prop::collection::vec(any::<u8>(), 0..120)) {
            let packet = packet(first, &rest);
            if let Ok(upper) = upper_layer(&packet) {
                prop_assert!(upper.offset <= packet.len());
            }
        }
    }

    fn packet(next_header: u8, rest: &[u8]) -> Vec<u8> {
        let header = Ipv6Repr {
            traffic_class: 0,
            flow_label: 0,
            payload_len: rest.len() as u16,
            next_header,
            hop_limit: 64,
            source: Ipv6Addr::LOCALHOST,
            destination: Ipv6Addr::LOCALHOST,
        };
        [header.emit().as_slice(), rest].concat()
    }

    #[test]
    fn check_names_what_is_wrong() {
        let mut good = packet(17, &[0; 8]);
        assert!(check(&good).is_ok());
        assert_eq!(check(&good[..47]).unwrap_err(), DropReason::Truncated);
        good[0] = 0x45;
        assert_eq!(check(&good).unwrap_err(), DropReason::IpVersion);
    }

    #[test]
    fn encapsulation_limit_is_skipped() {
        let upper = upper_layer(&packet(60, &[47, 0, 4, 1, 4, 1, 0, 0, 0, 0, 8, 0])).unwrap();
        assert_eq!((upper.protocol, upper.offset, upper.is_fragment), (47, 48, false));
    }

    #[test]
    fn fragments_are_told_from_atomic_ones() {
        let fragment = |word: u16| {
            let [high, low] = word.to_be_bytes();
            upper_layer(&packet(44, &[6, 0, high, low, 0, 0, 0, 1, 0, 0])).unwrap()
        };
        assert!(!fragment(0).is_fragment);
        assert!(fragment(1).is_fragment && !fragment(1).is_later_fragment);
        assert!(fragment(8).is_fragment && fragment(8).is_later_fragment);
        assert_eq!(fragment(0).offset, 48);
    }

    #[test]
    fn an_atomic_fragment_header_does_not_make_a_fragment_whole() {
        let upper = upper_layer(&packet(44, &[44, 0, 0, 1, 0, 0, 0, 1, 47, 0, 0, 0, 0, 0, 0, 2, 0, 0, 8, 0]))
            .unwrap();
        assert!(upper.is_fragment);
        assert_eq!((upper.protocol, upper.offset), (47, 56));
    }

    #[test]
    fn the_fragment_header_is_found_behind_other_extensions() {
        let fragment = [47, 0, 0, 1, 0, 0, 0, 1];
        let place = |next, rest: &[u8]| {
            fragment_place(&packet(next, rest)).map(|place| (place.offset, place.announced_at))
        };
        assert_eq!(place(44, &fragment), Some((40, 6)));
        let options = [44, 1, 1, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(place(0, &[options.as_slice(), &fragment].concat()), Some((56, 40)));
        assert_eq!(
            place(0, &[[60, 0, 1, 4, 0, 0, 0, 0].as_slice(), &options, &fragment].concat()),
            Some((64, 48))
        );
        assert_eq!(place(47, &[0; 8]), None);
        assert_eq!(place(60, &[47, 0, 1, 4, 0, 0, 0, 0]), None);
    }

    #[test]
    fn routing_headers_matter_while_segments_are_left() {
        let routed = |left: u8| upper_layer(&packet(43, &[17, 0, 0, left, 0, 0, 0, 0])).unwrap();
        assert!(!routed(0).is_source_routed);
        assert!(routed(1).is_source_routed);
    }

    #[test]
    fn cut_and_endless_chains_are_refused() {
        assert_eq!(upper_layer(&packet(0, &[6, 0, 0, 0, 0, 0, 0])), Err(DropReason::Ipv6Extensions));
        assert_eq!(upper_layer(&packet(0, &[6, 1, 0, 0, 0, 0, 0, 0])), Err(DropReason::Ipv6Extensions));
        let nine = [60, 0, 0, 0, 0, 0, 0, 0].repeat(9);
        assert_eq!(upper_layer(&packet(60, &nine)), Err(DropReason::Ipv6Extensions));
        let mut eight = [60, 0, 0, 0, 0, 0, 0, 0].repeat(8);
        eight[56] = 6;
        assert_eq!(upper_layer(&packet(60, &eight)).unwrap().offset, 40 + 64);
    }
}
