//! UDP (RFC 768).

use super::head;
use crate::verdict::DropReason;

/// Ports, length, checksum: 8 bytes.
///
/// ```text
///  0               16              32
/// +---------------+---------------+
/// | source port   | dest. port    |
/// +---------------+---------------+
/// | length        | checksum      |
/// +---------------+---------------+
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Udp<'a>(&'a [u8; Udp::LEN]);

impl<'a> Udp<'a> {
    /// Bytes.
    pub const LEN: usize = 8;

    /// The header at the front of `bytes`.
    ///
    /// # Errors
    /// [`DropReason::Truncated`].
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Result<Self, DropReason> {
        Ok(Udp(head(bytes)?))
    }

    /// Source port.
    #[inline]
    pub fn source_port(self) -> u16 {
        u16::from_be_bytes([self.0[0], self.0[1]])
    }

    /// Destination port.
    #[inline]
    pub fn destination_port(self) -> u16 {
        u16::from_be_bytes([self.0[2], self.0[3]])
    }

    /// Length of header and payload in bytes.
    #[inline]
    pub fn length(self) -> usize {
        usize::from(u16::from_be_bytes([self.0[4], self.0[5]]))
    }

    /// Checksum as on the wire; zero is none.
    #[inline]
    pub fn checksum(self) -> [u8; 2] {
        [self.0[6], self.0[7]]
    }
}

/// The header as a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UdpRepr {
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// Length of header and payload in bytes.
    pub len: u16,
    /// Checksum as on the wire.
    pub checksum: [u8; 2],
}

impl UdpRepr {
    /// The header's fields.
    pub fn parse(header: Udp<'_>) -> Self {
        UdpRepr {
            source_port: header.source_port(),
            destination_port: header.destination_port(),
            len: header.length() as u16,
            checksum: header.checksum(),
        }
    }

    /// The header's bytes.
    pub fn emit(&self) -> [u8; Udp::LEN] {
        let [s0, s1] = self.source_port.to_be_bytes();
        let [d0, d1] = self.destination_port.to_be_bytes();
        let [l0, l1] = self.len.to_be_bytes();
        let [c0, c1] = self.checksum;
        [s0, s1, d0, d1, l0, l1, c0, c1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::quartet::*;
    use proptest::prelude::*;

    fn parse(bytes: &[u8]) -> Result<UdpRepr, DropReason> {
        Udp::new(bytes).map(UdpRepr::parse)
    }

    fn emit(value: &UdpRepr, bytes: &mut [u8]) {
        bytes.copy_from_slice(&value.emit());
    }

    proptest! {
        #[test]
        fn quartet(bytes: [u8; Udp::LEN], source_port: u16) {
            bytes_survive(&bytes, emit, parse);
            let value = parse(&bytes).unwrap();
            value_survives(&value, Udp::LEN, emit, parse);
            write_stays_inside(&bytes, 0..2, |bytes| emit(&UdpRepr { source_port, ..value }, bytes));
        }
    }
}
