//! The IPv6 fragment header (RFC 8200 §4.5).

use super::head;
use crate::verdict::DropReason;

/// Next header, fragment offset, more fragments, identification: 8 bytes.
///
/// ```text
///  0               8               16                          29   31
/// +---------------+---------------+---------------------------+---+-+
/// | next header   | reserved      | fragment offset           |res|M|
/// +---------------+---------------+---------------------------+---+-+
/// | identification                                                  |
/// +-----------------------------------------------------------------+
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Ipv6Fragment<'a>(&'a [u8; Ipv6Fragment::LEN]);

/// More fragments, in the word that holds the fragment offset.
const MORE: u16 = 0x0001;
/// The fragment offset in the same word, where it stands so that it counts bytes.
const OFFSET: u16 = 0xfff8;

impl<'a> Ipv6Fragment<'a> {
    /// Bytes.
    pub const LEN: usize = 8;

    /// The header at the front of `bytes`.
    ///
    /// # Errors
    /// [`DropReason::Truncated`].
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Result<Self, DropReason> {
        Ok(Ipv6Fragment(head(bytes)?))
    }

    /// Protocol of what was cut, as the first fragment says it; later ones may say something else.
    #[inline]
    pub fn next_header(self) -> u8 {
        self.0[0]
    }

    /// Bytes of the fragmentable part in front of this fragment, a multiple of 8.
    #[inline]
    pub fn offset(self) -> u16 {
        self.word() & OFFSET
    }

    /// Whether this is not the last fragment.
    #[inline]
    pub fn more(self) -> bool {
        self.word() & MORE != 0
    }

    /// Identification.
    #[inline]
    pub fn identification(self) -> u32 {
        self.0.last_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes))
    }

    fn word(self) -> u16 {
        u16::from_be_bytes([self.0[2], self.0[3]])
    }
}

/// The header as a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv6FragmentRepr {
    /// Protocol of what was cut.
    pub next_header: u8,
    /// Bytes of the fragmentable part in front of this fragment, a multiple of 8.
    pub offset: u16,
    /// Whether this is not the last fragment.
    pub more: bool,
    /// Identification.
    pub identification: u32,
}

impl Ipv6FragmentRepr {
    /// The header's fields.
    pub fn parse(header: Ipv6Fragment<'_>) -> Self {
        Ipv6FragmentRepr {
            next_header: header.next_header(),
            offset: header.offset(),
            more: header.more(),
            identification: header.identification(),
        }
    }

    /// The header's bytes; reserved bits are zero.
    pub fn emit(&self) -> [u8; Ipv6Fragment::LEN] {
        let [o0, o1] = (self.offset & OFFSET | if self.more { MORE } else { 0 }).to_be_bytes();
        let [i0, i1, i2, i3] = self.identification.to_be_bytes();
        [self.next_header, 0, o0, o1, i0, i1, i2, i3]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::quartet::*;
    use proptest::prelude::*;

    fn parse(bytes: &[u8]) -> Result<Ipv6FragmentRepr, DropReason> {
        Ipv6Fragment::new(bytes).map(Ipv6FragmentRepr::parse)
    }

    fn emit(value: &Ipv6FragmentRepr, bytes: &mut [u8]) {
        bytes.copy_from_slice(&value.emit());
    }

    proptest! {
        #[test]
        fn quartet(mut bytes: [u8; Ipv6Fragment::LEN], identification: u32) {
            // Reserved bits are ignored on the way in and zero on the way out.
            bytes[1] = 0;
            bytes[3] &= !0x06;
            bytes_survive(&bytes, emit, parse);
            let value = parse(&bytes).unwrap();
            value_survives(&value, Ipv6Fragment::LEN, emit, parse);
            write_stays_inside(&bytes, 4..8, |bytes| emit(&Ipv6FragmentRepr { identification, ..value }, bytes));
        }
    }

    #[test]
    fn reserved_bits_mean_nothing() {
        let value =
            Ipv6FragmentRepr { next_header: 47, offset: 1448, more: true, identification: 0x0102_0304 };
        let mut bytes = value.emit();
        assert_eq!(bytes, [47, 0, 0x05, 0xa9, 1, 2, 3, 4]);
        bytes[1] = 0xff;
        bytes[3] |= 0x06;
        assert_eq!(parse(&bytes), Ok(value));
    }
}
