//! Generic UDP Encapsulation, variant 0 (draft-ietf-intarea-gue-09 §3).

use super::head;
use crate::verdict::DropReason;

/// Variant, control bit, length, protocol and flags: the 4 bytes that are always there; fields of `hlen` words follow.
///
/// ```text
///  0 1 2 3       8               16                              32
/// +---+-+---------+---------------+-------------------------------+
/// | 0 |C| hlen    | proto/ctype   | flags                         |
/// +---+-+---------+---------------+-------------------------------+
/// ```
///
/// Variant 1 has no header: the two bits that would say 1 are the first two of an IP version, 4 or 6 (§4).
#[derive(Clone, Copy, Debug)]
pub struct Gue<'a>(&'a [u8; Gue::LEN]);

impl<'a> Gue<'a> {
    /// Bytes without fields.
    pub const LEN: usize = 4;

    /// The header at the front of `bytes`.
    ///
    /// # Errors
    /// [`DropReason::Truncated`].
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Result<Self, DropReason> {
        Ok(Gue(head(bytes)?))
    }

    /// Variant: 0 for this header, 1 for bare IP.
    #[inline]
    pub fn variant(self) -> u8 {
        self.0[0] >> 6
    }

    /// Whether this is a control message.
    #[inline]
    pub fn is_control(self) -> bool {
        self.0[0] & 0x20 != 0
    }

    /// Header length in bytes, fields and private data included.
    #[inline]
    pub fn header_len(self) -> usize {
        Gue::LEN + usize::from(self.0[0] & 0x1f) * 4
    }

    /// Protocol of the payload, or type of a control message.
    #[inline]
    pub fn protocol(self) -> u8 {
        self.0[1]
    }

    /// Flags, each of which announces a field.
    #[inline]
    pub fn flags(self) -> u16 {
        u16::from_be_bytes([self.0[2], self.0[3]])
    }
}

/// What begins on a GUE port, at a glance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plain {
    /// Variant 0: data of this protocol, without flags and private data.
    Variant0(u8),
    /// Variant 1.
    Variant1,
}

/// The first bytes behind UDP; `None` where there is anything else about them.
#[inline(always)]
pub(crate) fn plain(bytes: &[u8; Gue::LEN]) -> Option<Plain> {
    match (bytes[0], bytes[2], bytes[3]) {
        (0, 0, 0) => Some(Plain::Variant0(bytes[1])),
        (first, ..) if first >> 6 == 1 => Some(Plain::Variant1),
        _ => None,
    }
}

/// The fixed part of a data message of variant 0 as a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GueRepr {
    /// Header length in bytes, a multiple of four from 4 to 128.
    pub header_len: usize,
    /// Protocol of the payload.
    pub protocol: u8,
}

impl GueRepr {
    /// Parses the header at the front of `packet` and checks that it is one that is taken: data, no flags; private data
    /// are within `header_len`.
    ///
    /// # Errors
    /// [`DropReason::Truncated`], [`DropReason::GueVersion`], [`DropReason::GueControl`], [`DropReason::GueFlags`].
    #[inline]
    pub fn parse(packet: &[u8]) -> Result<Self, DropReason> {
        let header = Gue::new(packet)?;
        if header.variant() != 0 {
            return Err(DropReason::GueVersion);
        }
        if header.is_control() {
            return Err(DropReason::GueControl);
        }
        if header.flags() != 0 {
            return Err(DropReason::GueFlags);
        }
        if packet.len() < header.header_len() {
            return Err(DropReason::Truncated);
        }
        Ok(GueRepr { header_len: header.header_len(), protocol: header.protocol() })
    }

    /// The fixed part's bytes.
    pub fn emit(&self) -> [u8; Gue::LEN] {
        let words = self.header_len.saturating_sub(Gue::LEN) / 4;
        [words as u8 & 0x1f, self.protocol, 0, 0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::quartet::*;
    use proptest::prelude::*;

    fn emit(value: &GueRepr, bytes: &mut [u8]) {
        bytes[..Gue::LEN].copy_from_slice(&value.emit());
    }

    proptest! {
        #[test]
        fn quartet(words in 0usize..32, protocol: u8, other: u8) {
            let value = GueRepr { header_len: 4 + 4 * words, protocol };
            value_survives(&value, value.header_len, emit, GueRepr::parse);
            let mut bytes = vec![0; value.header_len];
            emit(&value, &mut bytes);
            bytes_survive(&bytes, emit, GueRepr::parse);
            write_stays_inside(&bytes, 1..2, |bytes| emit(&GueRepr { protocol: other, ..value }, bytes));
        }

        #[test]
        fn everything_else_is_refused_by_name(first: u8, flags: u16, rest: [u8; 124]) {
            let packet = [[first, 4].as_slice(), &flags.to_be_bytes(), &rest].concat();
            let expected = match (first >> 6, first & 0x20, flags) {
                (1.., _, _) => Err(DropReason::GueVersion),
                (_, 0x20, _) => Err(DropReason::GueControl),
                (_, _, 1..) => Err(DropReason::GueFlags),
                _ => Ok(GueRepr { header_len: 4 + 4 * usize::from(first & 0x1f), protocol: 4 }),
            };
            prop_assert_eq!(GueRepr::parse(&packet), expected);
        }
    }
}
