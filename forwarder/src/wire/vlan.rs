//! 802.1Q tag.

use super::head;
use crate::verdict::DropReason;

/// What follows the type 0x8100: tag control and the type of the payload, 4 bytes.
///
/// ```text
///  0                             2        4
/// +-----+-----+-----------------+--------+
/// | PCP | DEI | VLAN identifier | type   |
/// +-----+-----+-----------------+--------+
///    3     1          12            16    bits
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Vlan<'a>(&'a [u8; Vlan::LEN]);

impl<'a> Vlan<'a> {
    /// Bytes.
    pub const LEN: usize = 4;

    /// The tag at the front of `bytes`.
    ///
    /// # Errors
    /// [`DropReason::Truncated`].
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Result<Self, DropReason> {
        Ok(Vlan(head(bytes)?))
    }

    /// Priority (PCP, upper three bits) and drop eligibility (DEI, lowest bit).
    #[inline]
    pub fn priority(self) -> u8 {
        self.0[0] >> 4
    }

    /// VLAN identifier; 0 is a priority tag without VLAN.
    #[inline]
    pub fn id(self) -> u16 {
        u16::from_be_bytes([self.0[0], self.0[1]]) & 0x0fff
    }

    /// Type of the payload.
    #[inline]
    pub fn ethertype(self) -> u16 {
        u16::from_be_bytes([self.0[2], self.0[3]])
    }
}

/// The tag as a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VlanRepr {
    /// PCP and DEI, four bits.
    pub priority: u8,
    /// VLAN identifier, twelve bits.
    pub id: u16,
    /// Type of the payload.
    pub ethertype: u16,
}

impl VlanRepr {
    /// The tag's fields.
    pub fn parse(tag: Vlan<'_>) -> Self {
        VlanRepr { priority: tag.priority(), id: tag.id(), ethertype: tag.ethertype() }
    }

    /// The tag's bytes.
    pub fn emit(&self) -> [u8; Vlan::LEN] {
        let [c0, c1] = (u16::from(self.priority) << 12 | self.id & 0x0fff).to_be_bytes();
        let [t0, t1] = self.ethertype.to_be_bytes();
        [c0, c1, t0, t1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::quartet::*;
    use proptest::prelude::*;

    fn parse(bytes: &[u8]) -> Result<VlanRepr, DropReason> {
        Vlan::new(bytes).map(VlanRepr::parse)
    }

    fn emit(value: &VlanRepr, bytes: &mut [u8]) {
        bytes.copy_from_slice(&value.emit());
    }

    proptest! {
        #[test]
        fn quartet(bytes: [u8; Vlan::LEN], ethertype: u16) {
            bytes_survive(&bytes, emit, parse);
            let value = parse(&bytes).unwrap();
            value_survives(&value, Vlan::LEN, emit, parse);
            write_stays_inside(&bytes, 2..4, |bytes| emit(&VlanRepr { ethertype, ..value }, bytes));
        }
    }
}
