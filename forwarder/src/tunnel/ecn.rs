//! Explicit congestion notification through a tunnel (RFC 6040, RFC 9601).
//!
//! On the way in the outer field is a copy of the inner one, or not-ECT in compatibility mode. On the way out both are
//! combined, so that congestion inside the tunnel reaches the receiver.

use crate::verdict::DropReason;

/// Not capable of ECN.
pub const NOT_ECT: u8 = 0b00;
/// Capable, codepoint ECT(1).
pub const ECT_1: u8 = 0b01;
/// Capable, codepoint ECT(0).
pub const ECT_0: u8 = 0b10;
/// Congestion experienced.
pub const CE: u8 = 0b11;

/// The two ECN bits of a traffic class.
pub const MASK: u8 = 0b11;

/// The inner ECN field after decapsulation: the more severe of both, of CE, ECT(1), ECT(0), but an inner packet that is
/// not capable stays so (RFC 6040 §4.2, figure 4). Only the two lowest bits of each are looked at.
///
/// # Errors
/// [`DropReason::EcnIllegal`] where the outer says CE and the inner is not capable.
#[inline]
pub const fn combine(outer: u8, inner: u8) -> Result<u8, DropReason> {
    match (inner & MASK, outer & MASK) {
        (NOT_ECT, CE) => Err(DropReason::EcnIllegal),
        (NOT_ECT, _) => Ok(NOT_ECT),
        (CE, _) | (_, CE) => Ok(CE),
        (ECT_1, _) | (_, ECT_1) => Ok(ECT_1),
        _ => Ok(ECT_0),
    }
}

/// Whether [combining](combine) leaves the inner field as it is, and does not refuse it.
#[inline(always)]
pub(crate) fn leaves(outer: u8, inner: u8) -> bool {
    LEAVES >> ((outer & MASK) << 2 | inner & MASK) & 1 != 0
}

/// The same for all pairs, a bit for each.
const LEAVES: u16 = {
    let (mut leaves, mut pair) = (0, 0);
    while pair < 16 {
        let (outer, inner) = (pair >> 2, pair & MASK);
        if matches!(combine(outer, inner), Ok(kept) if kept == inner) {
            leaves |= 1 << pair;
        }
        pair += 1;
    }
    leaves
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_sixteen_pairs_are_those_of_rfc_6040_figure_4() {
        let drop = Err(DropReason::EcnIllegal);
        // Rows: inner; columns: outer not-ECT, ECT(0), ECT(1), CE.
        let table = [
            (NOT_ECT, [Ok(NOT_ECT), Ok(NOT_ECT), Ok(NOT_ECT), drop]),
            (ECT_0, [Ok(ECT_0), Ok(ECT_0), Ok(ECT_1), Ok(CE)]),
            (ECT_1, [Ok(ECT_1), Ok(ECT_1), Ok(ECT_1), Ok(CE)]),
            (CE, [Ok(CE), Ok(CE), Ok(CE), Ok(CE)]),
        ];
        for (inner, row) in table {
            for (outer, expected) in [NOT_ECT, ECT_0, ECT_1, CE].into_iter().zip(row) {
                assert_eq!(combine(outer, inner), expected, "inner {inner:02b} outer {outer:02b}");
                assert_eq!(
                    leaves(outer, inner) || (inner == NOT_ECT && outer != CE),
                    expected == Ok(inner),
                    "inner {inner:02b} outer {outer:02b}"
                );
                assert_eq!(combine(outer | 0xb8, inner | 0x40), expected, "DSCP must not matter");
            }
        }
    }
}
