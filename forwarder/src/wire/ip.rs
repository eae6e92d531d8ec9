//! IPv4 or IPv6: what forwarding asks of either.

use super::ipv4::{self, Ipv4};
use super::ipv6::{self, Ipv6, UpperLayer};
use super::protocol;
use crate::verdict::DropReason;
use std::net::IpAddr;

/// A checked IP header.
#[derive(Clone, Copy, Debug)]
pub enum Ip<'a> {
    /// IPv4.
    V4(Ipv4<'a>),
    /// IPv6.
    V6(Ipv6<'a>),
}

impl<'a> Ip<'a> {
    /// Checks the header at the front of `bytes`, which is to be of this version; `total_len` then lies within `bytes`.
    ///
    /// # Errors
    /// Those of [`ipv4::check`] and [`ipv6::check`].
    #[inline]
    pub fn check(bytes: &'a [u8], version: Version) -> Result<Self, DropReason> {
        match version {
            Version::V4 => Ok(Ip::V4(ipv4::check(bytes)?)),
            Version::V6 => Ok(Ip::V6(ipv6::check(bytes)?)),
        }
    }

    /// The header at the front of `bytes`, of which only that it is there is checked: for packets that were checked before,
    /// and for those of which the end was cut off.
    ///
    /// # Errors
    /// [`DropReason::Truncated`].
    #[inline]
    pub fn new(bytes: &'a [u8], version: Version) -> Result<Self, DropReason> {
        match version {
            Version::V4 => Ok(Ip::V4(Ipv4::new(bytes)?)),
            Version::V6 => Ok(Ip::V6(Ipv6::new(bytes)?)),
        }
    }

    /// Its version.
    #[inline]
    pub fn version(self) -> Version {
        match self {
            Ip::V4(_) => Version::V4,
            Ip::V6(_) => Version::V6,
        }
    }

    /// Length of header and payload in bytes.
    #[inline]
    pub fn total_len(self) -> usize {
        match self {
            Ip::V4(header) => header.total_len(),
            Ip::V6(header) => header.total_len(),
        }
    }

    /// Source address.
    #[inline]
    pub fn source(self) -> IpAddr {
        match self {
            Ip::V4(header) => IpAddr::V4(header.source()),
            Ip::V6(header) => IpAddr::V6(header.source()),
        }
    }

    /// Destination address.
    #[inline]
    pub fn destination(self) -> IpAddr {
        match self {
            Ip::V4(header) => IpAddr::V4(header.destination()),
            Ip::V6(header) => IpAddr::V6(header.destination()),
        }
    }

    /// Both addresses as on the wire, source first.
    #[inline]
    pub fn addresses(self) -> &'a [u8] {
        match self {
            Ip::V4(header) => header.addresses(),
            Ip::V6(header) => header.addresses(),
        }
    }

    /// The protocol that the fixed header announces: that of the payload, or of an IPv6 extension header.
    #[inline]
    pub fn protocol(self) -> u8 {
        match self {
            Ip::V4(header) => header.protocol(),
            Ip::V6(header) => header.next_header(),
        }
    }

    /// DSCP (upper six bits) and ECN (lower two).
    #[inline]
    pub fn traffic_class(self) -> u8 {
        match self {
            Ip::V4(header) => header.traffic_class(),
            Ip::V6(header) => header.traffic_class(),
        }
    }

    /// TTL or hop limit.
    #[inline]
    pub fn ttl(self) -> u8 {
        match self {
            Ip::V4(header) => header.ttl(),
            Ip::V6(header) => header.hop_limit(),
        }
    }

    /// The don't-fragment bit, which IPv6 has not.
    #[inline]
    pub fn dont_fragment(self) -> bool {
        match self {
            Ip::V4(header) => header.fragment() & ipv4::DF != 0,
            Ip::V6(_) => false,
        }
    }

    /// What the header, its options and extension headers lead to. `packet` is the whole packet.
    ///
    /// # Errors
    /// [`DropReason::Ipv6Extensions`].
    #[inline]
    pub fn upper_layer(self, packet: &[u8]) -> Result<UpperLayer, DropReason> {
        match self {
            Ip::V4(header) => Ok(UpperLayer {
                protocol: header.protocol(),
                offset: header.header_len(),
                is_fragment: header.fragment() & (ipv4::MF | ipv4::OFFSET) != 0,
                is_later_fragment: header.fragment() & ipv4::OFFSET != 0,
                is_source_routed: header.header_len() > Ipv4::LEN
                    && packet.get(..header.header_len()).is_some_and(ipv4::has_source_route),
            }),
            Ip::V6(_) => ipv6::upper_layer(packet),
        }
    }
}

/// A header without anything unusual, read at a glance: no options, no extension headers, no fragment, lengths and checksum
/// right, and from one host to one host beyond the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plain {
    /// Version.
    pub(crate) version: Version,
    /// Protocol of the payload.
    pub(crate) protocol: u8,
    /// DSCP and ECN.
    pub(crate) traffic_class: u8,
    /// TTL or hop limit.
    pub(crate) ttl: u8,
    /// Don't fragment; `false` for IPv6.
    pub(crate) dont_fragment: bool,
    /// Bytes of header and payload.
    pub(crate) total_len: usize,
    /// Bytes of the header.
    pub(crate) header_len: usize,
}

impl Plain {
    /// That of no packet.
    #[cfg(test)]
    pub(crate) const BLANK: Plain = Plain {
        version: Version::V4,
        protocol: 0,
        traffic_class: 0,
        ttl: 0,
        dont_fragment: false,
        total_len: 0,
        header_len: Ipv4::LEN,
    };

    /// The same again, of a header that was found to be such a one.
    #[inline(always)]
    pub(crate) fn again(head: &[u8; Ipv6::LEN], version: Version) -> Plain {
        match (version, head.first_chunk()) {
            (Version::V4, Some(header)) => ipv4::fields(header),
            _ => ipv6::fields(head),
        }
    }
}

/// The destination in the header of this version that `head` begins with.
#[inline(always)]
pub(crate) fn destination(head: &[u8; Ipv6::LEN], version: Version) -> IpAddr {
    match (version, head.first_chunk()) {
        (Version::V4, Some(header)) => ipv4::destination(header).into(),
        _ => ipv6::destination(head).into(),
    }
}

/// An IP version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Version {
    /// The version that the first byte of `bytes` says.
    ///
    /// # Errors
    /// [`DropReason::Truncated`], [`DropReason::IpVersion`].
    #[inline]
    pub fn of_packet(bytes: &[u8]) -> Result<Self, DropReason> {
        match bytes.first().map(|byte| byte >> 4) {
            Some(4) => Ok(Version::V4),
            Some(6) => Ok(Version::V6),
            Some(_) => Err(DropReason::IpVersion),
            None => Err(DropReason::Truncated),
        }
    }

    /// That of an address.
    pub fn of_address(address: IpAddr) -> Self {
        if address.is_ipv4() { Version::V4 } else { Version::V6 }
    }

    /// Bytes of the fixed header.
    #[inline]
    pub fn header_len(self) -> usize {
        match self {
            Version::V4 => Ipv4::LEN,
            Version::V6 => Ipv6::LEN,
        }
    }

    /// Where the source address begins in the header. The destination follows, and ends the fixed header.
    #[inline]
    pub(crate) fn source_at(self) -> usize {
        match self {
            Version::V4 => ipv4::SOURCE,
            Version::V6 => ipv6::SOURCE,
        }
    }

    /// The protocol number of a packet of this version inside another IP packet.
    #[inline]
    pub fn protocol(self) -> u8 {
        match self {
            Version::V4 => protocol::IPV4,
            Version::V6 => protocol::IPV6,
        }
    }

    /// The Ethernet and GRE type of a packet of this version.
    #[inline]
    pub fn ethertype(self) -> u16 {
        match self {
            Version::V4 => super::ethertype::IPV4,
            Version::V6 => super::ethertype::IPV6,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_in_the_first_byte() {
        assert_eq!(Version::of_packet(&[0x45]), Ok(Version::V4));
        assert_eq!(Version::of_packet(&[0x6f]), Ok(Version::V6));
        assert_eq!(Version::of_packet(&[0x50]), Err(DropReason::IpVersion));
        assert_eq!(Version::of_packet(&[]), Err(DropReason::Truncated));
    }
}
