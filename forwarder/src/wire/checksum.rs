//! The Internet checksum (RFC 1071), and how it changes when a field does (RFC 1624).
//!
//! One's-complement addition commutes with swapping the bytes of every word. So words are added as the machine loads
//! them, without a swap, and the folded result is written back as the machine stores it: the bytes in memory are the
//! right ones on either kind of machine. [`Sum`] keeps such a number and never shows it; what goes in and out is bytes.

use std::ops::Add;

/// A one's-complement sum that has not been folded yet.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum(u64);

impl Sum {
    /// The sum of `bytes`, padded with a zero byte where their number is odd. They have to begin at an even distance
    /// from the start of what is summed.
    #[inline(always)]
    pub fn of(bytes: &[u8]) -> Self {
        let (words, rest) = bytes.as_chunks::<8>();
        let (fours, few) = words.as_chunks::<4>();
        // A carry out of 64 bits counts one, as one out of 16 does: 2⁶⁴ leaves 1 when divided by 0xffff, as 2¹⁶ does.
        let (mut sum, mut carries) = (0, 0u64);
        for four in fours {
            let mut carry = false;
            for word in four {
                (sum, carry) = add(sum, *word, carry);
            }
            carries += u64::from(carry);
        }
        let mut carry = false;
        for word in few {
            (sum, carry) = add(sum, *word, carry);
        }
        (sum, carry) = add(sum, last_word(bytes, rest).to_ne_bytes(), carry);
        Sum((sum >> 32) + (sum & 0xffff_ffff) + carries + u64::from(carry))
    }

    /// The same in a function of its own, for where it is rarely asked for.
    #[cold]
    #[inline(never)]
    pub(crate) fn apart(bytes: &[u8]) -> Self {
        Sum::of(bytes)
    }

    /// The sum of the five 32-bit words of a header without options, without a loop. Only for [`is_intact`](Self::is_intact):
    /// it may be too large to be added to.
    #[inline(always)]
    pub(crate) fn of_header(header: &[u8; 20]) -> Self {
        let ([a, b], rest) = (header.as_chunks::<8>().0, header.last_chunk()) else {
            return Sum::default();
        };
        let rest = rest.map_or(0, |rest| u64::from(u32::from_ne_bytes(*rest)));
        // A carry out of 64 bits counts one, as one out of 16 does.
        let (sum, carry) = u64::from_ne_bytes(*a).overflowing_add(u64::from_ne_bytes(*b));
        let (sum, again) = sum.overflowing_add(rest + u64::from(carry));
        Sum(sum + u64::from(again))
    }

    /// The sum of one word, given as the bytes on the wire.
    #[inline]
    pub fn word(bytes: [u8; 2]) -> Self {
        Sum(u64::from(u16::from_ne_bytes(bytes)))
    }

    /// The sum of two words that follow each other.
    #[inline(always)]
    pub(crate) fn pair(bytes: [u8; 4]) -> Self {
        Sum(u64::from(u32::from_ne_bytes(bytes)))
    }

    /// The pseudo-header of an upper layer (RFC 9293 §3.1, RFC 8200 §8.1): addresses as on the wire, protocol, length.
    #[inline]
    pub fn pseudo_header(addresses: &[u8], protocol: u8, len: usize) -> Self {
        // A length above 65,535 is impossible here, and for smaller ones both families sum to the same.
        Sum::of(addresses) + Sum::word([0, protocol]) + Sum::word((len as u16).to_be_bytes())
    }

    /// What has to be added to make nothing of it.
    #[inline]
    pub fn opposite(self) -> Self {
        // A multiple of 0xffff, and no less than what is to be made nothing of.
        const NOTHING: u64 = (1 << 48) - 1;
        Sum(NOTHING.wrapping_sub(self.0))
    }

    /// The sum as one word, to be kept and added again by [`word`](Self::word).
    #[inline]
    pub fn to_word(self) -> [u8; 2] {
        self.fold().to_ne_bytes()
    }

    /// Whether what was summed, its checksum field included, is intact.
    #[inline]
    pub fn is_intact(self) -> bool {
        // The words fold to 0xffff, which all sums do that are multiples of it, nothing aside. Multiples of an odd number are
        // what its inverse modulo 2⁶⁴ takes to a quotient (Warren, Hacker's Delight, §10-17); this is the inverse of 0xffff.
        const INVERSE: u64 = 0xfffe_fffe_fffe_ffff;
        self.0.wrapping_mul(INVERSE).wrapping_sub(1) < u64::MAX / 0xffff
    }

    /// The checksum of what was summed, as bytes on the wire.
    #[inline]
    pub fn checksum(self) -> [u8; 2] {
        (!self.fold()).to_ne_bytes()
    }

    /// The same for UDP, where zero would say that there is none (RFC 768).
    #[inline]
    pub fn udp_checksum(self) -> [u8; 2] {
        match !self.fold() {
            0 => u16::MAX,
            sum => sum,
        }
        .to_ne_bytes()
    }

    /// The words added up with their carries: 0 for nothing at all only.
    #[inline]
    fn fold(self) -> u16 {
        // The upper half of a number and itself with the halves swapped is their sum, the carry out of it included.
        let pair = (self.0.wrapping_add(self.0.rotate_left(32)) >> 32) as u32;
        (pair.wrapping_add(pair.rotate_left(16)) >> 16) as u16
    }
}

impl Add for Sum {
    type Output = Sum;

    #[inline]
    fn add(self, other: Sum) -> Sum {
        // Each side is below 2⁴⁸ for anything that fits a packet.
        Sum(self.0 + other.0)
    }
}

/// Adds a word and the carry of the addition before; returns the sum and its carry.
#[inline(always)]
fn add(sum: u64, word: [u8; 8], carry: bool) -> (u64, bool) {
    let (sum, first) = sum.overflowing_add(u64::from_ne_bytes(word));
    let (sum, second) = sum.overflowing_add(u64::from(carry));
    (sum, first | second)
}

/// The `rest` of `bytes`, at most seven, as a word that is filled up with zeros.
#[inline(always)]
fn last_word(bytes: &[u8], rest: &[u8]) -> u64 {
    let word = match bytes.last_chunk() {
        // Together with bytes before it, which are shifted out: copied to a place of its own it would be waited for.
        Some(last) => {
            u64::from_le_bytes(*last).checked_shr(u64::BITS - 8 * rest.len() as u32).unwrap_or_default()
        }
        None => rest.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)),
    };
    u64::from_ne_bytes(word.to_le_bytes())
}

/// The checksum after a word that it covers, which was not smaller, has become less by `less`: that much more, with the
/// carry around the end and never minus zero (RFC 1624 §3). All as bytes on the wire.
#[inline(always)]
pub(crate) fn lessen(checksum: [u8; 2], less: [u8; 2]) -> [u8; 2] {
    let sum = u32::from(u16::from_ne_bytes(checksum)) + u32::from(u16::from_ne_bytes(less));
    ((sum + u32::from(sum >= 0xffff)) as u16).to_ne_bytes()
}

/// The checksum after one 16-bit word that it covers has changed (RFC 1624 §3, equation 3). All as bytes on the wire.
#[inline]
pub fn update(checksum: [u8; 2], old: [u8; 2], new: [u8; 2]) -> [u8; 2] {
    let not = |bytes: [u8; 2]| bytes.map(|byte| !byte);
    (Sum::word(not(checksum)) + Sum::word(not(old)) + Sum::word(new)).checksum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 1071's definition, word by word.
    fn naive(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    #[test]
    fn rfc_1071_example() {
        let sum = Sum::of(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
        assert_eq!(sum.checksum(), (!0xddf2u16).to_be_bytes());
    }

    #[test]
    fn rfc_1624_example_gives_zero_not_minus_zero() {
        assert_eq!(update([0xdd, 0x2f], [0x55, 0x55], [0x32, 0x85]), [0, 0]);
    }

    #[test]
    fn intact_are_the_multiples_of_0xffff_but_nothing_at_all() {
        const _: () = assert!(0xffffu64.wrapping_mul(0xfffe_fffe_fffe_ffff) == 1);
        for quotient in [1, 2, 0xffff, 0x1_0000_0000, u64::MAX / 0xffff - 1, u64::MAX / 0xffff] {
            let sum = quotient * 0xffff;
            assert!(Sum(sum).is_intact(), "{sum:#x}");
            assert!(!Sum(sum - 1).is_intact() && !Sum(sum.wrapping_add(1)).is_intact(), "beside {sum:#x}");
        }
        assert!(!Sum(0).is_intact());
    }

    #[test]
    fn a_udp_checksum_is_never_zero() {
        for bytes in [[0xff, 0xff, 0, 0], [0, 17, 0xff, 0xee]] {
            assert_eq!(Sum::of(&bytes).checksum(), [0, 0]);
            assert_eq!(Sum::of(&bytes).udp_checksum(), [0xff, 0xff]);
        }
        assert_eq!(Sum::of(&[0, 17]).udp_checksum(), Sum::of(&[0, 17]).checksum());
    }

    proptest! {
        #[test]
        fn agrees_with_the_definition(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(Sum::of(&bytes).checksum(), naive(&bytes).to_be_bytes());
        }

        #[test]
        fn parts_add_up(bytes in prop::collection::vec(any::<u8>(), 0..200), cut in 0usize..100) {
            let cut = (cut * 2).min(bytes.len());
            let sum = Sum::of(&bytes[..cut]) + Sum::of(&bytes[cut..]);
            prop_assert_eq!(sum.checksum(), naive(&bytes).to_be_bytes());
        }

        #[test]
        fn data_with_its_checksum_is_intact(mut bytes in prop::collection::vec(any::<u8>(), 2..200), flip in any::<prop::sample::Index>()) {
            bytes[0] = 0;
            bytes[1] = 0;
            let checksum = Sum::of(&bytes).checksum();
            bytes[..2].copy_from_slice(&checksum);
            prop_assert!(Sum::of(&bytes).is_intact());
            let flip = flip.index(bytes.len());
            bytes[flip] ^= 0x10;
            prop_assert!(!Sum::of(&bytes).is_intact());
        }

        #[test]
        fn lessen_equals_update(checksum: [u8; 2], word: u16, less: u16) {
            let new = word.saturating_sub(less);
            let less = (word - new).to_be_bytes();
            let updated = update(checksum, word.to_be_bytes(), new.to_be_bytes());
            // A word that stays what it is gives no cause to touch a checksum of minus zero.
            prop_assume!(less != [0, 0]);
            prop_assert_eq!(lessen(checksum, less), updated);
        }

        #[test]
        fn update_equals_computing_anew(mut bytes in prop::collection::vec(any::<u8>(), 4..100), at in any::<prop::sample::Index>(), new: [u8; 2]) {
            // All-zero data is the one case where the two representations of zero may differ; a header never is.
            bytes[0] |= 0x40;
            let at = 2 + (at.index(bytes.len() - 3) & !1);
            let before = Sum::of(&bytes).checksum();
            let old = [bytes[at], bytes[at + 1]];
            bytes[at..at + 2].copy_from_slice(&new);
            prop_assert_eq!(update(before, old, new), Sum::of(&bytes).checksum());
        }
    }
}
