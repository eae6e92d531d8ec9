//! Ethernet II.

use super::ip::Version;
use super::vlan::Vlan;
use super::{ethertype, head};
use crate::table::Mac;
use crate::verdict::DropReason;

/// Destination, source, type: 14 bytes, no frame check sequence.
///
/// ```text
///  0                 6                 12        14
/// +-----------------+-----------------+---------+
/// | destination     | source          | type    |
/// +-----------------+-----------------+---------+
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Ethernet<'a>(&'a [u8; Ethernet::LEN]);

impl<'a> Ethernet<'a> {
    /// Bytes.
    pub const LEN: usize = 14;

    /// The header at the front of `bytes`.
    ///
    /// # Errors
    /// [`DropReason::Truncated`].
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Result<Self, DropReason> {
        Ok(Ethernet(head(bytes)?))
    }

    /// Destination address.
    #[inline]
    pub fn destination(self) -> Mac {
        let b = self.0;
        Mac([b[0], b[1], b[2], b[3], b[4], b[5]])
    }

    /// Source address.
    #[inline]
    pub fn source(self) -> Mac {
        let b = self.0;
        Mac([b[6], b[7], b[8], b[9], b[10], b[11]])
    }

    /// Type of the payload, or that of a tag.
    #[inline]
    pub fn ethertype(self) -> u16 {
        u16::from_be_bytes([self.0[12], self.0[13]])
    }
}

/// Bytes of a header with a VLAN tag.
pub const TAGGED_LEN: usize = Ethernet::LEN + Vlan::LEN;

/// A header at a glance: of a frame to one host, with one tag or none, that carries IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plain {
    /// VLAN identifier.
    pub(crate) vlan: Option<u16>,
    /// Bytes, tag included.
    pub(crate) len: usize,
    /// What is carried.
    pub(crate) version: Version,
}

/// The header of a frame to `own`; `None` where there is anything unusual about it. What is behind a header without tag is
/// not looked at.
#[inline(always)]
pub(crate) fn plain(header: &[u8], own: Mac) -> Option<Plain> {
    let header: &[u8; TAGGED_LEN] = header.first_chunk()?;
    if !own.is(header.first_chunk()?) {
        return None;
    }
    // As they stand in memory, so that no bytes are swapped.
    const VLAN: [u8; 2] = ethertype::VLAN.to_be_bytes();
    const IPV4: [u8; 2] = ethertype::IPV4.to_be_bytes();
    const IPV6: [u8; 2] = ethertype::IPV6.to_be_bytes();
    let version = |kind| match kind {
        IPV4 => Some(Version::V4),
        IPV6 => Some(Version::V6),
        _ => None,
    };
    match [header[12], header[13]] {
        VLAN => {
            let id = u16::from_be_bytes([header[14], header[15]]) & 0x0fff;
            let version = version([header[16], header[17]])?;
            (id != 0).then_some(Plain { vlan: Some(id), len: TAGGED_LEN, version })
        }
        kind => Some(Plain { vlan: None, len: Ethernet::LEN, version: version(kind)? }),
    }
}

/// Where the IP packet of a frame begins, with one tag or none in front of it, and its version by the frame; to whom the frame
/// is does not matter. `None` where it carries something else.
#[inline(always)]
pub(crate) fn carried(header: &[u8; TAGGED_LEN]) -> Option<(usize, Version)> {
    let (ethertype, at) = match u16::from_be_bytes([header[12], header[13]]) {
        ethertype::VLAN => (u16::from_be_bytes([header[16], header[17]]), TAGGED_LEN),
        other => (other, Ethernet::LEN),
    };
    match ethertype {
        ethertype::IPV4 => Some((at, Version::V4)),
        ethertype::IPV6 => Some((at, Version::V6)),
        _ => None,
    }
}

impl Mac {
    /// Whether this is a broadcast or multicast address.
    #[inline]
    pub fn is_group(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// Whether these are its octets: compared in two words that need not be put together first.
    #[inline(always)]
    fn is(self, octets: &[u8; 6]) -> bool {
        let ([a, b, c, d, e, f], [g, h, i, j, k, l]) = (self.0, *octets);
        let first = u32::from_ne_bytes([a, b, c, d]) ^ u32::from_ne_bytes([g, h, i, j]);
        let second = u16::from_ne_bytes([e, f]) ^ u16::from_ne_bytes([k, l]);
        first | u32::from(second) == 0
    }
}

/// The header as a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EthernetRepr {
    /// Destination address.
    pub destination: Mac,
    /// Source address.
    pub source: Mac,
    /// Type of the payload.
    pub ethertype: u16,
}

impl EthernetRepr {
    /// The header's fields.
    pub fn parse(header: Ethernet<'_>) -> Self {
        EthernetRepr {
            destination: header.destination(),
            source: header.source(),
            ethertype: header.ethertype(),
        }
    }

    /// The header's bytes.
    pub fn emit(&self) -> [u8; Ethernet::LEN] {
        let [d0, d1, d2, d3, d4, d5] = self.destination.0;
        let [s0, s1, s2, s3, s4, s5] = self.source.0;
        let [t0, t1] = self.ethertype.to_be_bytes();
        [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, t0, t1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::quartet::*;
    use proptest::prelude::*;

    fn parse(bytes: &[u8]) -> Result<EthernetRepr, DropReason> {
        Ethernet::new(bytes).map(EthernetRepr::parse)
    }

    fn emit(value: &EthernetRepr, bytes: &mut [u8]) {
        bytes.copy_from_slice(&value.emit());
    }

    proptest! {
        #[test]
        fn quartet(bytes: [u8; Ethernet::LEN], ethertype: u16) {
            bytes_survive(&bytes, emit, parse);
            let value = parse(&bytes).unwrap();
            value_survives(&value, Ethernet::LEN, emit, parse);
            write_stays_inside(&bytes, 12..14, |bytes| emit(&EthernetRepr { ethertype, ..value }, bytes));
        }
    }

    #[test]
    fn group_addresses_are_told_by_their_first_bit() {
        assert!(Mac([0xff; 6]).is_group());
        assert!(Mac([0x33, 0x33, 0, 0, 0, 1]).is_group());
        assert!(!Mac([0x02, 0xff, 0xff, 0xff, 0xff, 0xff]).is_group());
    }
}
