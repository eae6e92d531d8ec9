//! ICMP echo (RFC 792, RFC 4443 §4): all that is read of either family's ICMP here.

use super::head;
use crate::verdict::DropReason;

/// Echo request and reply of either family, fixed part: 8 bytes; the data follow.
///
/// ```text
///  0       8       16              32
/// +-------+-------+---------------+
/// | type  | code  | checksum      |
/// +-------+-------+---------------+
/// | identifier    | sequence      |
/// +---------------+---------------+
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Icmp<'a>(&'a [u8; Icmp::LEN]);

/// Type of an IPv4 echo reply.
pub const ECHO_REPLY: u8 = 0;
/// Type of an IPv4 echo request.
pub const ECHO_REQUEST: u8 = 8;
/// Type of an IPv6 echo request.
pub const ECHO_REQUEST_V6: u8 = 128;
/// Type of an IPv6 echo reply.
pub const ECHO_REPLY_V6: u8 = 129;

impl<'a> Icmp<'a> {
    /// Bytes.
    pub const LEN: usize = 8;

    /// The header at the front of `bytes`.
    ///
    /// # Errors
    /// [`DropReason::Truncated`].
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Result<Self, DropReason> {
        Ok(Icmp(head(bytes)?))
    }

    /// Type.
    pub fn kind(self) -> u8 {
        self.0[0]
    }

    /// Code.
    pub fn code(self) -> u8 {
        self.0[1]
    }

    /// Checksum as on the wire.
    pub fn checksum(self) -> [u8; 2] {
        [self.0[2], self.0[3]]
    }

    /// Identifier.
    pub fn identifier(self) -> u16 {
        u16::from_be_bytes([self.0[4], self.0[5]])
    }

    /// Sequence number.
    pub fn sequence(self) -> u16 {
        u16::from_be_bytes([self.0[6], self.0[7]])
    }
}

/// The header as a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IcmpRepr {
    /// Type.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// Checksum as on the wire.
    pub checksum: [u8; 2],
    /// Identifier.
    pub identifier: u16,
    /// Sequence number.
    pub sequence: u16,
}

impl IcmpRepr {
    /// The header's fields.
    pub fn parse(header: Icmp<'_>) -> Self {
        IcmpRepr {
            kind: header.kind(),
            code: header.code(),
            checksum: header.checksum(),
            identifier: header.identifier(),
            sequence: header.sequence(),
        }
    }

    /// The header's bytes.
    pub fn emit(&self) -> [u8; Icmp::LEN] {
        let [c0, c1] = self.checksum;
        let [i0, i1] = self.identifier.to_be_bytes();
        let [s0, s1] = self.sequence.to_be_bytes();
        [self.kind, self.code, c0, c1, i0, i1, s0, s1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::quartet::*;
    use proptest::prelude::*;

    fn parse(bytes: &[u8]) -> Result<IcmpRepr, DropReason> {
        Icmp::new(bytes).map(IcmpRepr::parse)
    }

    fn emit(value: &IcmpRepr, bytes: &mut [u8]) {
        bytes.copy_from_slice(&value.emit());
    }

    proptest! {
        #[test]
        fn quartet(bytes: [u8; Icmp::LEN], kind: u8) {
            bytes_survive(&bytes, emit, parse);
            let value = parse(&bytes).unwrap();
            value_survives(&value, Icmp::LEN, emit, parse);
            write_stays_inside(&bytes, 0..1, |bytes| emit(&IcmpRepr { kind, ..value }, bytes));
        }
    }
}
