//! Headers as they stand on the wire, one file each, always in the same order: drawing, view, checks, value, tests.
//!
//! A view borrows an array of exactly the header's fixed length, so reading a field cannot fail and cannot panic; the
//! only check is the one that cuts the array out of a packet, and it answers [`DropReason::Truncated`]. The value (`…Repr`)
//! is the same header as plain comparable fields in host order, for code that makes headers and for tests. Byte order
//! ends here: nothing outside this module sees a number in network order, checksums aside.

pub mod ethernet;
pub mod vlan;
pub mod ip;
pub mod ipv4;
pub mod ipv6;
pub mod ipv6_fragment;
pub mod udp;
pub mod tcp;
pub mod icmp;
pub mod gre;
pub mod gue;
pub mod checksum;

use crate::verdict::DropReason;

/// IP protocol and next-header numbers (IANA).
pub mod protocol {
    /// IPv6 hop-by-hop options.
    pub const HOP_BY_HOP: u8 = 0;
    /// ICMP for IPv4.
    pub const ICMP: u8 = 1;
    /// IPv4 in IP.
    pub const IPV4: u8 = 4;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// IPv6 in IP.
    pub const IPV6: u8 = 41;
    /// IPv6 routing header.
    pub const ROUTING: u8 = 43;
    /// IPv6 fragment header.
    pub const FRAGMENT: u8 = 44;
    /// GRE.
    pub const GRE: u8 = 47;
    /// ICMP for IPv6.
    pub const ICMPV6: u8 = 58;
    /// IPv6 destination options.
    pub const DESTINATION_OPTIONS: u8 = 60;
}

/// Ethernet and GRE protocol types (IANA).
pub mod ethertype {
    /// IPv4.
    pub const IPV4: u16 = 0x0800;
    /// ARP.
    pub const ARP: u16 = 0x0806;
    /// 802.1Q tag.
    pub const VLAN: u16 = 0x8100;
    /// 802.1ad outer tag.
    pub const QINQ: u16 = 0x88a8;
    /// Transparent Ethernet bridging, in GRE.
    pub const ETHERNET: u16 = 0x6558;
    /// IPv6.
    pub const IPV6: u16 = 0x86dd;
}

/// The first `N` bytes of a packet.
///
/// # Errors
/// [`DropReason::Truncated`] where there are fewer.
#[inline]
pub(crate) fn head<const N: usize>(bytes: &[u8]) -> Result<&[u8; N], DropReason> {
    bytes.first_chunk().ok_or(DropReason::Truncated)
}

/// `N` bytes of a packet from `offset` on, to be changed.
///
/// # Errors
/// [`DropReason::Truncated`] where there are fewer.
#[inline]
pub(crate) fn at_mut<const N: usize>(bytes: &mut [u8], offset: usize) -> Result<&mut [u8; N], DropReason> {
    bytes.get_mut(..offset + N).and_then(|front| front.last_chunk_mut()).ok_or(DropReason::Truncated)
}

/// `N` bytes from `offset` on; `None` where there are fewer.
#[inline(always)]
pub(crate) fn part<const N: usize>(bytes: &[u8], offset: usize) -> Option<&[u8; N]> {
    bytes.get(offset..)?.first_chunk()
}

/// What follows the first `offset` bytes; nothing where there are fewer.
#[inline]
pub(crate) fn tail(bytes: &[u8], offset: usize) -> &[u8] {
    bytes.get(offset..).unwrap_or_default()
}

#[cfg(test)]
pub(crate) mod quartet {
    //! The four properties that every header file shows.

    use crate::verdict::DropReason;
    use std::fmt::Debug;

    /// Value to bytes to value, and every shorter buffer refused.
    pub(crate) fn value_survives<R: Debug + PartialEq>(
        value: &R,
        len: usize,
        emit: impl Fn(&R, &mut [u8]),
        parse: impl Fn(&[u8]) -> Result<R, DropReason>,
    ) {
        let mut bytes = vec![0; len];
        emit(value, &mut bytes);
        assert_eq!(parse(&bytes).as_ref(), Ok(value));
        for short in 0..len {
            assert_eq!(parse(&bytes[..short]), Err(DropReason::Truncated), "{short} of {len} bytes");
        }
    }

    /// Bytes to value to bytes, for headers of which every bit is in a field.
    pub(crate) fn bytes_survive<R>(
        bytes: &[u8],
        emit: impl Fn(&R, &mut [u8]),
        parse: impl Fn(&[u8]) -> Result<R, DropReason>,
    ) {
        let Ok(value) = parse(bytes) else { panic!("refused: {bytes:02x?}") };
        let mut copy = vec![0; bytes.len()];
        emit(&value, &mut copy);
        assert_eq!(copy, bytes);
    }

    /// A write changes the bytes of its own field and no others.
    pub(crate) fn write_stays_inside(bytes: &[u8], field: std::ops::Range<usize>, write: impl Fn(&mut [u8])) {
        let mut changed = bytes.to_vec();
        write(&mut changed);
        for (index, (before, after)) in bytes.iter().zip(&changed).enumerate() {
            assert!(field.contains(&index) || before == after, "byte {index} changed outside of {field:?}");
        }
    }
}
