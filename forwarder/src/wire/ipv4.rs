//! IPv4 (RFC 791).

use super::checksum::{self, Sum};
use super::ip::{Plain, Version};
use super::{at_mut, head};
use crate::table::Sender;
use crate::verdict::DropReason;
use std::net::Ipv4Addr;

/// The fixed 20 bytes; options, if any, follow.
///
/// ```text
///  0       4       8               16                              32
/// +-------+-------+---------------+-------------------------------+
/// |version| IHL   | DSCP and ECN  | total length                  |
/// +-------+-------+---------------+-----+-------------------------+
/// | identification                |0 D M| fragment offset         |
/// +---------------+---------------+-----+-------------------------+
/// | TTL           | protocol      | header checksum               |
/// +---------------+---------------+-------------------------------+
/// | source                                                        |
/// +---------------------------------------------------------------+
/// | destination                                                   |
/// +---------------------------------------------------------------+
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Ipv4<'a>(&'a [u8; Ipv4::LEN]);

/// Don't fragment, in the word that holds flags and fragment offset.
pub const DF: u16 = 0x4000;
/// More fragments, in the same word.
pub const MF: u16 = 0x2000;
/// The fragment offset in the same word, in units of 8 bytes.
pub const OFFSET: u16 = 0x1fff;

impl<'a> Ipv4<'a> {
    /// Bytes without options.
    pub const LEN: usize = 20;

    /// The header at the front of `bytes`. Only that it is there is checked; see [`check`] for the rest.
    ///
    /// # Errors
    /// [`DropReason::Truncated`].
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Result<Self, DropReason> {
        Ok(Ipv4(head(bytes)?))
    }

    /// Version, 4 if this is IPv4.
    #[inline]
    pub fn version(self) -> u8 {
        self.0[0] >> 4
    }

    /// Header length in bytes, options included: IHL times four.
    #[inline]
    pub fn header_len(self) -> usize {
        usize::from(self.0[0] & 0x0f) * 4
    }

    /// DSCP (upper six bits) and ECN (lower two).
    #[inline]
    pub fn traffic_class(self) -> u8 {
        self.0[1]
    }

    /// Length of header and payload in bytes.
    #[inline]
    pub fn total_len(self) -> usize {
        usize::from(u16::from_be_bytes([self.0[2], self.0[3]]))
    }

    /// Identification.
    #[inline]
    pub fn identification(self) -> u16 {
        u16::from_be_bytes([self.0[4], self.0[5]])
    }

    /// Flags and fragment offset: [`DF`], [`MF`], [`OFFSET`].
    #[inline]
    pub fn fragment(self) -> u16 {
        u16::from_be_bytes([self.0[6], self.0[7]])
    }

    /// Time to live.
    #[inline]
    pub fn ttl(self) -> u8 {
        self.0[8]
    }

    /// Protocol of the payload.
    #[inline]
    pub fn protocol(self) -> u8 {
        self.0[9]
    }

    /// Header checksum as on the wire.
    #[inline]
    pub fn checksum(self) -> [u8; 2] {
        [self.0[10], self.0[11]]
    }

    /// Source address.
    #[inline]
    pub fn source(self) -> Ipv4Addr {
        Ipv4Addr::new(self.0[12], self.0[13], self.0[14], self.0[15])
    }

    /// Destination address.
    #[inline]
    pub fn destination(self) -> Ipv4Addr {
        Ipv4Addr::new(self.0[16], self.0[17], self.0[18], self.0[19])
    }

    /// Both addresses as on the wire, source first.
    #[inline]
    pub fn addresses(self) -> &'a [u8; 8] {
        self.0.last_chunk().unwrap_or(&[0; 8])
    }
}

/// Checks a header as RFC 1812 §5.2.2 asks: version, lengths, checksum. `bytes` begin with it and may be longer than the
/// packet. Returns the header's view; `header_len` and `total_len` then lie within `bytes`.
///
/// # Errors
/// [`DropReason::Truncated`], [`DropReason::IpVersion`], [`DropReason::Ipv4Header`], [`DropReason::Ipv4Checksum`].
#[inline]
pub fn check(bytes: &[u8]) -> Result<Ipv4<'_>, DropReason> {
    let header = Ipv4::new(bytes)?;
    if header.version() != 4 {
        return Err(DropReason::IpVersion);
    }
    let (header_len, total_len) = (header.header_len(), header.total_len());
    if header_len < Ipv4::LEN || total_len < header_len {
        return Err(DropReason::Ipv4Header);
    }
    if total_len > bytes.len() {
        return Err(DropReason::Truncated);
    }
    let intact = match header_len {
        Ipv4::LEN => Sum::of(header.0).is_intact(),
        _ => bytes.get(..header_len).is_some_and(|options_too| Sum::of(options_too).is_intact()),
    };
    if intact { Ok(header) } else { Err(DropReason::Ipv4Checksum) }
}

/// Where the source begins, in bytes from the start of the header; the destination follows.
pub(super) const SOURCE: usize = 12;
/// A header at a glance; `None` where there is anything unusual about it, or [`check`]
/// would refuse it. `room` is what there is of the packet in bytes.
#[inline(always)]
pub(crate) fn plain(header: &[u8; Ipv4::LEN], room: usize) -> Option<Plain> {
    // Version and header length, and MF with the fragment offset, in one comparison.
    const MASK: u64 = u64::from_ne_bytes([0xff, 0, 0, 0, 0, 0, ((MF | OFFSET) >> 8) as u8, OFFSET as u8]);
    const WHOLE: u64 = u64::from_ne_bytes([0x45, 0, 0, 0, 0, 0, 0, 0]);
    let view = Ipv4(header);
    let first = u64::from_ne_bytes(*header.first_chunk()?);
    let is_plain = first & MASK == WHOLE
        && (Ipv4::LEN..=room).contains(&view.total_len())
        && is_global(view.source())
        && is_global(view.destination())
        && Sum::of_header(header).is_intact();
    is_plain.then(|| fields(header))
}

/// What a header says that was found to be plain but for its checksum, where that is right.
#[inline(always)]
pub(crate) fn intact(header: &[u8; Ipv4::LEN]) -> Option<Plain> {
    Sum::of_header(header).is_intact().then(|| fields(header))
}

/// What a plain header says.
#[inline(always)]
pub(crate) fn fields(header: &[u8; Ipv4::LEN]) -> Plain {
    let view = Ipv4(header);
    Plain {
        version: Version::V4,
        protocol: view.protocol(),
        traffic_class: view.traffic_class(),
        ttl: view.ttl(),
        dont_fragment: view.fragment() & DF != 0,
        total_len: view.total_len(),
        header_len: Ipv4::LEN,
    }
}

/// The destination as on the wire.
#[inline(always)]
pub(crate) fn destination(header: &[u8; Ipv4::LEN]) -> [u8; 4] {
    Ipv4(header).destination().octets()
}

/// The source, by which tunnels are matched.
#[inline(always)]
pub(crate) fn sender(header: &[u8; Ipv4::LEN]) -> Sender {
    sender_of(Ipv4(header).source().octets())
}

/// The address of these octets as a sender.
#[inline(always)]
pub(crate) fn sender_of(octets: [u8; 4]) -> Sender {
    Sender { is_ipv4: true, upper: 0, lower: u64::from(u32::from_be_bytes(octets)) }
}

/// Whether an address is one host's, by the first octet: not 0, 127, or 224 and more.
#[inline(always)]
pub(crate) fn is_global(address: Ipv4Addr) -> bool {
    let [first, ..] = address.octets();
    IS_GLOBAL.get(usize::from(first)).is_some_and(|is_global| *is_global)
}

/// The same for every first octet: a look-up costs less than the comparisons.
#[allow(clippy::indexing_slicing)] // Evaluated when this is compiled.
static IS_GLOBAL: [bool; 256] = {
    let mut octets = [false; 256];
    let mut first = 1;
    while first < 224 {
        octets[first] = first != 127;
        first += 1;
    }
    octets
};

/// Whether the options of the header in `bytes` hold a loose or strict source route (RFC 791 §3.1). Options that are cut
/// short end the search: nothing behind them could be read by anyone.
pub fn has_source_route(header: &[u8]) -> bool {
    let mut options = header.get(Ipv4::LEN..).unwrap_or_default();
    loop {
        options = match options {
            [0, ..] | [] => return false,
            [1, rest @ ..] => rest,
            [131 | 137, ..] => return true,
            [_, len, ..] if *len >= 2 => options.get(usize::from(*len)..).unwrap_or_default(),
            _ => return false,
        };
    }
}

/// Lowers the TTL, which is not 0, by one and corrects the checksum.
#[inline(always)]
pub fn lower_ttl(header: &mut [u8; Ipv4::LEN]) {
    header[8] = header[8].wrapping_sub(1);
    // The word of the TTL is less by its first byte's one, whatever it was, and so the checksum is that much more (RFC 1624).
    [header[10], header[11]] = checksum::lessen([header[10], header[11]], [1, 0]);
}

/// Replaces DSCP and ECN and corrects the checksum.
#[inline]
pub fn set_traffic_class(header: &mut [u8; Ipv4::LEN], class: u8) {
    let old = [header[0], header[1]];
    header[1] = class;
    let new = [header[0], header[1]];
    [header[10], header[11]] = checksum::update([header[10], header[11]], old, new);
}

/// Replaces the destination and corrects the checksum.
#[inline]
pub fn set_destination(header: &mut [u8; Ipv4::LEN], destination: Ipv4Addr) {
    let [a, b, c, d] = destination.octets();
    let sum = checksum::update([header[10], header[11]], [header[16], header[17]], [a, b]);
    [header[10], header[11]] = checksum::update(sum, [header[18], header[19]], [c, d]);
    [header[16], header[17], header[18], header[19]] = [a, b, c, d];
}

/// Writes the header checksum, whatever stood there.
#[inline]
pub fn fill_checksum(header: &mut [u8; Ipv4::LEN]) {
    [header[10], header[11]] = [0, 0];
    [header[10], header[11]] = Sum::of(header).checksum();
}

/// Makes a header, options included, that of a fragment: its length with `data_len` bytes behind it, identification, flags
/// and offset, checksum. Nothing where `header` is shorter than a header.
pub fn set_fragment(header: &mut [u8], data_len: usize, identification: u16, fragment: u16) {
    let (words, total_len) = (header.len() / 4, header.len() + data_len);
    if let Ok(fixed) = at_mut::<{ Ipv4::LEN }>(header, 0) {
        fixed[0] = 0x40 | words as u8 & 0x0f;
        [fixed[2], fixed[3]] = (total_len as u16).to_be_bytes();
        [fixed[4], fixed[5]] = identification.to_be_bytes();
        [fixed[6], fixed[7]] = fragment.to_be_bytes();
        [fixed[10], fixed[11]] = [0, 0];
    }
    let checksum = Sum::of(header).checksum();
    if let Ok(field) = at_mut(header, 10) {
        *field = checksum;
    }
}

/// The header without options as a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv4Repr {
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// Length of header and payload in bytes.
    pub total_len: u16,
    /// Identification.
    pub identification: u16,
    /// Flags and fragment offset.
    pub fragment: u16,
    /// Time to live.
    pub ttl: u8,
    /// Protocol of the payload.
    pub protocol: u8,
    /// Source address.
    pub source: Ipv4Addr,
    /// Destination address.
    pub destination: Ipv4Addr,
}

impl Ipv4Repr {
    /// The header's fields.
    pub fn parse(header: Ipv4<'_>) -> Self {
        Ipv4Repr {
            traffic_class: header.traffic_class(),
            total_len: header.total_len() as u16,
            identification: header.identification(),
            fragment: header.fragment(),
            ttl: header.ttl(),
            protocol: header.protocol(),
            source: header.source(),
            destination: header.destination(),
        }
    }

    /// The header's bytes, checksum included.
    pub fn emit(&self) -> [u8; Ipv4::LEN] {
        let [l0, l1] = self.total_len.to_be_bytes();
        let [i0, i1] = self.identification.to_be_bytes();
        let [f0, f1] = self.fragment.to_be_bytes();
        let [s0, s1, s2, s3] = self.source.octets();
        let [d0, d1, d2, d3] = self.destination.octets();
        let mut header = [
            0x45,
            self.traffic_class,
            l0,
            l1,
            i0,
            i1,
            f0,
            f1,
            self.ttl,
            self.protocol,
            0,
            0,
            s0,
            s1,
            s2,
            s3,
            d0,
            d1,
            d2,
            d3,
        ];
        fill_checksum(&mut header);
        header
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::quartet::*;
    use proptest::prelude::*;

    fn parse(bytes: &[u8]) -> Result<Ipv4Repr, DropReason> {
        Ipv4::new(bytes).map(Ipv4Repr::parse)
    }

    fn emit(value: &Ipv4Repr, bytes: &mut [u8]) {
        bytes.copy_from_slice(&value.emit());
    }

    fn header(mut bytes: [u8; Ipv4::LEN]) -> [u8; Ipv4::LEN] {
        bytes[0] = 0x45;
        fill_checksum(&mut bytes);
        bytes
    }

    proptest! {
        #[test]
        fn quartet(bytes: [u8; Ipv4::LEN], ttl: u8) {
            let bytes = header(bytes);
            bytes_survive(&bytes, emit, parse);
            let value = parse(&bytes).unwrap();
            value_survives(&value, Ipv4::LEN, emit, parse);
            // The checksum covers every field and changes with each; the protocol lies between.
            write_stays_inside(&bytes, 8..12, |bytes| emit(&Ipv4Repr { ttl, ..value }, bytes));
            prop_assert_eq!(Ipv4Repr { ttl, ..value }.emit()[9], bytes[9]);
        }

        #[test]
        fn changed_headers_stay_intact(bytes: [u8; Ipv4::LEN], class: u8) {
            let mut bytes = header(bytes);
            // A packet without a TTL to lower goes no further.
            bytes[8] = bytes[8].max(1);
            fill_checksum(&mut bytes);
            let before = parse(&bytes).unwrap();
            lower_ttl(&mut bytes);
            set_traffic_class(&mut bytes, class);
            prop_assert!(Sum::of(&bytes).is_intact());
            let after = Ipv4Repr { traffic_class: class, ttl: before.ttl - 1, ..before };
            prop_assert_eq!(parse(&bytes).unwrap(), after);
        }
    }

    #[test]
    fn check_names_what_is_wrong() {
        let good = Ipv4Repr {
            traffic_class: 0,
            total_len: 24,
            identification: 1,
            fragment: DF,
            ttl: 64,
            protocol: 17,
            source: Ipv4Addr::new(192, 0, 2, 1),
            destination: Ipv4Addr::new(192, 0, 2, 2),
        };
        let packet = |header: [u8; 20]| [header.as_slice(), &[0; 8]].concat();
        assert!(check(&packet(good.emit())).is_ok());
        assert_eq!(check(&packet(good.emit())[..23]).unwrap_err(), DropReason::Truncated);
        assert_eq!(check(&packet(good.emit())[..19]).unwrap_err(), DropReason::Truncated);
        let changed = |index: usize, value: u8| {
            let mut header = good.emit();
            header[index] = value;
            packet(header)
        };
        assert_eq!(check(&changed(0, 0x65)).unwrap_err(), DropReason::IpVersion);
        assert_eq!(check(&changed(0, 0x44)).unwrap_err(), DropReason::Ipv4Header);
        assert_eq!(check(&changed(3, 19)).unwrap_err(), DropReason::Ipv4Header);
        assert_eq!(check(&changed(8, 63)).unwrap_err(), DropReason::Ipv4Checksum);
    }

    #[test]
    fn options_are_part_of_the_checksum() {
        let mut packet =
            vec![0x46, 0, 0, 24, 0, 0, 0, 0, 64, 1, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2, 1, 1, 1, 0];
        let checksum = Sum::of(&packet).checksum();
        packet[10..12].copy_from_slice(&checksum);
        assert_eq!(check(&packet).unwrap().header_len(), 24);
        packet[20] = 0;
        assert_eq!(check(&packet).unwrap_err(), DropReason::Ipv4Checksum);
    }

    #[test]
    fn source_routes_are_found_behind_other_options_only_where_they_are_read() {
        let with = |options: &[u8]| has_source_route(&[&[0; 20], options].concat());
        assert!(with(&[131, 3, 4, 0]));
        assert!(with(&[1, 137, 3, 4]));
        assert!(with(&[7, 3, 4, 131, 3, 4, 0, 0]));
        assert!(!with(&[0, 131, 3, 4]));
        assert!(!with(&[7, 4, 131, 0]));
        assert!(!with(&[7, 0, 131, 3]));
        assert!(!with(&[7, 1, 131, 3]));
        assert!(!with(&[7, 200, 131, 3]));
        assert!(!with(&[]));
    }
}
