//! TCP (RFC 9293), as much of it as the MSS clamp and the flow hash read.

use super::head;
use crate::verdict::DropReason;

/// The fixed 20 bytes; options, if any, follow.
///
/// ```text
///  0       4       8               16                              32
/// +-------------------------------+-------------------------------+
/// | source port                   | destination port              |
/// +-------------------------------+-------------------------------+
/// | sequence number                                               |
/// +---------------------------------------------------------------+
/// | acknowledgment number                                         |
/// +-------+-------+---------------+-------------------------------+
/// |offset |       | C E U A P R S F | window                      |
/// +-------+-------+---------------+-------------------------------+
/// | checksum                      | urgent pointer                |
/// +-------------------------------+-------------------------------+
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Tcp<'a>(&'a [u8; Tcp::LEN]);

/// The SYN flag.
pub const SYN: u8 = 0x02;

/// Where the checksum stands, in bytes from the start of the header.
pub const CHECKSUM: usize = 16;

impl<'a> Tcp<'a> {
    /// Bytes without options.
    pub const LEN: usize = 20;

    /// The header at the front of `bytes`.
    ///
    /// # Errors
    /// [`DropReason::Truncated`].
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Result<Self, DropReason> {
        Ok(Tcp(head(bytes)?))
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

    /// Header length in bytes, options included.
    #[inline]
    pub fn header_len(self) -> usize {
        usize::from(self.0[12] >> 4) * 4
    }

    /// Flags, [`SYN`] among them.
    #[inline]
    pub fn flags(self) -> u8 {
        self.0[13]
    }

    /// Checksum as on the wire.
    #[inline]
    pub fn checksum(self) -> [u8; 2] {
        [self.0[16], self.0[17]]
    }
}

/// The fields above as a value; what is not read is zero when written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpRepr {
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// Header length in bytes, a multiple of four up to 60.
    pub header_len: usize,
    /// Flags.
    pub flags: u8,
    /// Checksum as on the wire.
    pub checksum: [u8; 2],
}

impl TcpRepr {
    /// The header's fields.
    pub fn parse(header: Tcp<'_>) -> Self {
        TcpRepr {
            source_port: header.source_port(),
            destination_port: header.destination_port(),
            header_len: header.header_len(),
            flags: header.flags(),
            checksum: header.checksum(),
        }
    }

    /// Writes the fields over those of a header and leaves the others.
    pub fn emit(&self, header: &mut [u8; Tcp::LEN]) {
        [header[0], header[1]] = self.source_port.to_be_bytes();
        [header[2], header[3]] = self.destination_port.to_be_bytes();
        header[12] = (self.header_len as u8 / 4) << 4 | header[12] & 0x0f;
        header[13] = self.flags;
        [header[16], header[17]] = self.checksum;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::quartet::*;
    use proptest::prelude::*;

    fn parse(bytes: &[u8]) -> Result<TcpRepr, DropReason> {
        Tcp::new(bytes).map(TcpRepr::parse)
    }

    fn emit(value: &TcpRepr, bytes: &mut [u8]) {
        value.emit(bytes.first_chunk_mut().unwrap());
    }

    proptest! {
        #[test]
        fn quartet(bytes: [u8; Tcp::LEN], flags: u8) {
            let value = parse(&bytes).unwrap();
            value_survives(&value, Tcp::LEN, emit, parse);
            let mut again = bytes;
            value.emit(&mut again);
            prop_assert_eq!(again, bytes);
            write_stays_inside(&bytes, 13..14, |bytes| emit(&TcpRepr { flags, ..value }, bytes));
        }
    }
}
