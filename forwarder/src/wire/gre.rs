//! GRE (RFC 2784) with key and sequence number (RFC 2890).

use super::checksum::Sum;
use super::ip::Version;
use super::{ethertype, head, tail};
use crate::verdict::DropReason;

/// Flags, version and protocol: the 4 bytes that are always there. Those announced by C, K and S follow in this order.
///
/// ```text
///  0 1 2 3 4 5             13    16                              32
/// +-+-+-+-+-+-------------+-----+-------------------------------+
/// |C|R|K|S|s| reserved    | ver | protocol type                 |
/// +-+-+-+-+-+-------------+-----+-------------------------------+
/// | checksum (C)                | reserved (C)                  |
/// +-----------------------------+-------------------------------+
/// | key (K)                                                     |
/// +-------------------------------------------------------------+
/// | sequence number (S)                                         |
/// +-------------------------------------------------------------+
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Gre<'a>(&'a [u8; Gre::LEN]);

/// C: a checksum is present.
pub const CHECKSUM: u16 = 0x8000;
/// R of RFC 1701: routing is present.
pub const ROUTING: u16 = 0x4000;
/// K: a key is present.
pub const KEY: u16 = 0x2000;
/// S: a sequence number is present.
pub const SEQUENCE: u16 = 0x1000;
/// Bits 4 and 5, which a receiver must refuse; 6 to 12 it ignores (RFC 2784 §2.3).
pub const RESERVED: u16 = 0x0c00;
/// The version.
pub const VERSION: u16 = 0x0007;

/// Protocol type of a keepalive on its way back; it has no payload.
pub const KEEPALIVE: u16 = 0;
/// Protocol type that Huawei's routers put in front of one on its way out.
pub const HUAWEI_KEEPALIVE: u16 = 4;

impl<'a> Gre<'a> {
    /// Bytes without optional fields.
    pub const LEN: usize = 4;

    /// The header at the front of `bytes`.
    ///
    /// # Errors
    /// [`DropReason::Truncated`].
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Result<Self, DropReason> {
        Ok(Gre(head(bytes)?))
    }

    /// The word that holds flags and version.
    #[inline]
    pub fn flags(self) -> u16 {
        u16::from_be_bytes([self.0[0], self.0[1]])
    }

    /// Ethertype of the payload.
    #[inline]
    pub fn protocol_type(self) -> u16 {
        u16::from_be_bytes([self.0[2], self.0[3]])
    }

    /// Header length in bytes that the flags announce.
    #[inline]
    pub fn header_len(self) -> usize {
        header_len(self.flags())
    }
}

/// Header length in bytes with the optional fields that `flags` announce.
#[inline]
pub fn header_len(flags: u16) -> usize {
    let fields = (flags & (CHECKSUM | KEY | SEQUENCE)).count_ones();
    Gre::LEN + 4 * fields as usize
}

/// The header as a value, its checksum left out: that belongs to the payload as much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GreRepr {
    /// Ethertype of the payload.
    pub protocol_type: u16,
    /// Whether there is a checksum.
    pub has_checksum: bool,
    /// Key.
    pub key: Option<u32>,
    /// Sequence number.
    pub sequence: Option<u32>,
}

impl GreRepr {
    /// Parses the header at the front of `packet` and checks everything but the checksum, see [`verify`].
    ///
    /// # Errors
    /// [`DropReason::Truncated`], [`DropReason::GreVersion`], [`DropReason::GreRouting`], [`DropReason::GreReserved`].
    #[inline]
    pub fn parse(packet: &[u8]) -> Result<Self, DropReason> {
        let header = Gre::new(packet)?;
        let flags = header.flags();
        if flags & VERSION != 0 {
            return Err(DropReason::GreVersion);
        }
        if flags & ROUTING != 0 {
            return Err(DropReason::GreRouting);
        }
        if flags & RESERVED != 0 {
            return Err(DropReason::GreReserved);
        }
        if packet.len() < header.header_len() {
            return Err(DropReason::Truncated);
        }
        let mut fields = tail(packet, Gre::LEN).as_chunks::<4>().0.iter();
        let mut field = |flag| if flags & flag == 0 { None } else { fields.next().copied() };
        Ok(GreRepr {
            protocol_type: header.protocol_type(),
            has_checksum: field(CHECKSUM).is_some(),
            key: field(KEY).map(u32::from_be_bytes),
            sequence: field(SEQUENCE).map(u32::from_be_bytes),
        })
    }

    /// Flags as they stand in the first word.
    #[inline]
    pub fn flags(&self) -> u16 {
        let flag = |set: bool, flag: u16| if set { flag } else { 0 };
        flag(self.has_checksum, CHECKSUM)
            | flag(self.key.is_some(), KEY)
            | flag(self.sequence.is_some(), SEQUENCE)
    }

    /// Header length in bytes.
    #[inline]
    pub fn header_len(&self) -> usize {
        header_len(self.flags())
    }

    /// Writes the header, its checksum zero; nothing where `bytes` are too few.
    pub fn emit(&self, bytes: &mut [u8]) {
        let first = u32::from(self.flags()) << 16 | u32::from(self.protocol_type);
        let fields = [Some(first), self.has_checksum.then_some(0), self.key, self.sequence];
        for (to, field) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(fields.into_iter().flatten()) {
            *to = field.to_be_bytes();
        }
    }
}

/// A header at a glance: with a key at the most, and IP behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plain {
    /// Key.
    pub(crate) key: Option<u32>,
    /// Bytes.
    pub(crate) len: usize,
    /// What is carried.
    pub(crate) version: Version,
}

/// The header at the front of `bytes`; `None` where there is anything else about it.
#[inline(always)]
pub(crate) fn plain(bytes: &[u8; 8]) -> Option<Plain> {
    let version = match u16::from_be_bytes([bytes[2], bytes[3]]) {
        ethertype::IPV4 => Version::V4,
        ethertype::IPV6 => Version::V6,
        _ => return None,
    };
    match u16::from_be_bytes([bytes[0], bytes[1]]) {
        0 => Some(Plain { key: None, len: Gre::LEN, version }),
        KEY => {
            let key = u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
            Some(Plain { key: Some(key), len: Gre::LEN + 4, version })
        }
        _ => None,
    }
}

/// Verifies the checksum over header and payload (RFC 2784 §2.2). `packet` begins with a header that has one.
///
/// # Errors
/// [`DropReason::GreChecksum`].
#[inline]
pub fn verify(packet: &[u8]) -> Result<(), DropReason> {
    if Sum::of(packet).is_intact() { Ok(()) } else { Err(DropReason::GreChecksum) }
}

/// The IP version that a protocol type announces.
///
/// # Errors
/// [`DropReason::GreEthernet`], [`DropReason::GreProtocol`].
#[inline]
pub fn ip_version(protocol_type: u16) -> Result<Version, DropReason> {
    match protocol_type {
        ethertype::IPV4 => Ok(Version::V4),
        ethertype::IPV6 => Ok(Version::V6),
        ethertype::ETHERNET => Err(DropReason::GreEthernet),
        _ => Err(DropReason::GreProtocol),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::quartet::*;
    use proptest::prelude::*;

    fn value() -> impl Strategy<Value = GreRepr> {
        (any::<u16>(), any::<bool>(), any::<Option<u32>>(), any::<Option<u32>>()).prop_map(
            |(protocol_type, has_checksum, key, sequence)| GreRepr {
                protocol_type,
                has_checksum,
                key,
                sequence,
            },
        )
    }

    proptest! {
        #[test]
        fn quartet(value in value(), protocol_type: u16) {
            let len = value.header_len();
            value_survives(&value, len, GreRepr::emit, GreRepr::parse);
            let mut bytes = vec![0; len];
            value.emit(&mut bytes);
            bytes_survive(&bytes, GreRepr::emit, GreRepr::parse);
            write_stays_inside(&bytes, 2..4, |bytes| GreRepr { protocol_type, ..value }.emit(bytes));
        }

        #[test]
        fn every_flag_word_is_parsed_or_refused_by_name(flags: u16, rest: [u8; 18]) {
            let packet = [flags.to_be_bytes().as_slice(), &rest].concat();
            let expected = if flags & VERSION != 0 {
                Err(DropReason::GreVersion)
            } else if flags & ROUTING != 0 {
                Err(DropReason::GreRouting)
            } else if flags & RESERVED != 0 {
                Err(DropReason::GreReserved)
            } else {
                Ok(flags & (CHECKSUM | KEY | SEQUENCE))
            };
            prop_assert_eq!(GreRepr::parse(&packet).map(|repr| repr.flags()), expected);
        }
    }

    #[test]
    fn optional_fields_stand_in_the_order_checksum_key_sequence() {
        let packet = [0xb0, 0, 8, 0, 1, 2, 0, 0, 0, 0, 0, 7, 0, 0, 0, 9];
        let repr = GreRepr::parse(&packet).unwrap();
        assert_eq!((repr.has_checksum, repr.key, repr.sequence), (true, Some(7), Some(9)));
    }

    #[test]
    fn key_zero_is_a_key() {
        assert_eq!(GreRepr::parse(&[0x20, 0, 8, 0, 0, 0, 0, 0]).unwrap().key, Some(0));
        assert_eq!(GreRepr::parse(&[0, 0, 8, 0]).unwrap().key, None);
    }

    #[test]
    fn checksum_covers_header_and_payload() {
        let mut packet = vec![0x80, 0, 8, 0, 0, 0, 0, 0, 1, 2, 3];
        let checksum = Sum::of(&packet).checksum();
        packet[4..6].copy_from_slice(&checksum);
        assert_eq!(verify(&packet), Ok(()));
        packet[10] ^= 1;
        assert_eq!(verify(&packet), Err(DropReason::GreChecksum));
    }
}
