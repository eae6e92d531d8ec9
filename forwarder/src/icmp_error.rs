//! ICMP errors to the senders of packets that cannot go on (RFC 792, RFC 1812 §4.3.2, RFC 4443 §3).
//!
//! Whether one is due, what it says, and how many a second: nobody may be made to send more of them than the limits
//! allow, and an error never answers an error.

use crate::scope::{is_martian_source, is_unicast};
use crate::tunnel::flow::mix;
use crate::wire::checksum::Sum;
use crate::wire::icmp::{self, IcmpRepr};
use crate::wire::ip::{Ip, Version};
use crate::wire::ipv4::Ipv4Repr;
use crate::wire::ipv6::Ipv6Repr;
use crate::wire::{head, protocol, tail};
use std::net::IpAddr;

/// DSCP CS6 of the errors: internetwork control (RFC 1812 §4.3.2.5).
const TRAFFIC_CLASS: u8 = 0xc0;

/// TTL and hop limit of the errors.
const TTL: u8 = 64;

/// The smallest MTU that IPv6 knows, and the longest ICMPv6 error (RFC 8200 §5, RFC 4443 §2.4(c)).
pub const IPV6_MIN_MTU: usize = 1280;

/// The longest ICMPv4 error (RFC 1812 §4.3.2.3).
const IPV4_MAX_ERROR: usize = 576;

/// What a sender is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IcmpError {
    /// The packet is larger than these bytes and may not be fragmented.
    TooBig(usize),
    /// TTL or hop limit ran out.
    TimeExceeded,
    /// No route.
    NoRoute,
    /// The other end of a tunnel on the way is not reached.
    Unreachable,
}

impl IcmpError {
    /// Type, code, and the word behind the checksum, for each family.
    fn fields(self, version: Version) -> (u8, u8, u32) {
        match (self, version) {
            (IcmpError::TooBig(mtu), Version::V4) => (3, 4, mtu.min(0xffff) as u32),
            // Less than this is never said: the packet that it is about would not have been refused (RFC 7676 §3.1).
            (IcmpError::TooBig(mtu), Version::V6) => (2, 0, mtu.max(IPV6_MIN_MTU) as u32),
            (IcmpError::TimeExceeded, Version::V4) => (11, 0, 0),
            (IcmpError::TimeExceeded, Version::V6) => (3, 0, 0),
            (IcmpError::NoRoute, Version::V4) => (3, 0, 0),
            (IcmpError::NoRoute, Version::V6) => (1, 0, 0),
            (IcmpError::Unreachable, Version::V4) => (3, 1, 0),
            (IcmpError::Unreachable, Version::V6) => (1, 3, 0),
        }
    }

    /// Appends the error about `packet`, whose header is `ip`, to `to`: an IP packet from `source`, which is of the same
    /// family. The packet is quoted as far as the error may be long.
    pub fn write(self, ip: Ip<'_>, packet: &[u8], source: IpAddr, identification: u16, to: &mut Vec<u8>) {
        let version = ip.version();
        let longest = if version == Version::V4 { IPV4_MAX_ERROR } else { IPV6_MIN_MTU };
        let room = longest - version.header_len() - icmp::Icmp::LEN;
        let quote = packet.get(..room).unwrap_or(packet);
        let (kind, code, word) = self.fields(version);
        let (identifier, sequence) = ((word >> 16) as u16, word as u16);
        let unsummed = IcmpRepr { kind, code, checksum: [0, 0], identifier, sequence };
        let len = icmp::Icmp::LEN + quote.len();
        let mut sum = Sum::of(&unsummed.emit()) + Sum::of(quote);
        match (source, ip.source()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let header = Ipv4Repr {
                    traffic_class: TRAFFIC_CLASS,
                    total_len: (version.header_len() + len) as u16,
                    identification,
                    fragment: 0,
                    ttl: TTL,
                    protocol: protocol::ICMP,
                    source,
                    destination,
                };
                to.extend(header.emit());
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let header = Ipv6Repr {
                    traffic_class: TRAFFIC_CLASS,
                    flow_label: 0,
                    payload_len: len as u16,
                    next_header: protocol::ICMPV6,
                    hop_limit: TTL,
                    source,
                    destination,
                };
                let bytes = header.emit();
                sum = sum + Sum::pseudo_header(tail(&bytes, 8), protocol::ICMPV6, len);
                to.extend(bytes);
            }
            _ => return,
        }
        to.extend(IcmpRepr { checksum: sum.checksum(), ..unsummed }.emit());
        to.extend(quote);
    }
}

/// Whether a sender may be told anything about `packet`, which begins with a checked header: not about ICMP errors, later
/// fragments, packets to or from more than one host (RFC 1812 §4.3.2.7, RFC 4443 §2.4(e)), nor about one that came with
/// its TTL used up, which its last router should have told of.
pub fn is_due(ip: Ip<'_>, packet: &[u8]) -> bool {
    let Ok(upper) = ip.upper_layer(packet) else { return false };
    let kind = head::<1>(tail(packet, upper.offset)).ok().map(|[kind]| *kind);
    let is_error = match (upper.protocol, kind) {
        (protocol::ICMP, Some(kind)) => matches!(kind, 3 | 4 | 5 | 11 | 12),
        (protocol::ICMPV6, Some(kind)) => kind < 128 || kind == 137,
        (protocol::ICMP | protocol::ICMPV6, None) => true,
        _ => false,
    };
    ip.ttl() != 0
        && !is_error
        && !upper.is_later_fragment
        && !is_martian_source(ip.source())
        && is_unicast(ip.destination())
}

/// Errors a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IcmpRates {
    /// To one address.
    pub per_source: u32,
    /// To all.
    pub total: u32,
}

impl Default for IcmpRates {
    fn default() -> Self {
        IcmpRates { per_source: 10, total: 1000 }
    }
}

const SETS: usize = 512;
const WAYS: usize = 4;
const SECOND: u64 = 1_000_000_000;

/// Keeps to [`IcmpRates`]; bursts may be as large as a second's worth. It remembers a bounded number of addresses: of
/// more than that at a time some are forgotten early, and the rate in total still holds.
#[derive(Debug)]
pub struct Limiter {
    total: Bucket,
    sources: Vec<[(Option<IpAddr>, Bucket); WAYS]>,
}

/// The time at which a bucket would be full again, in nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    full_at: u64,
}

impl Default for Limiter {
    fn default() -> Self {
        Limiter { total: Bucket::default(), sources: vec![[(None, Bucket::default()); WAYS]; SETS] }
    }
}

impl Limiter {
    /// Whether one more error may go to `to` at `now` nanoseconds; it is counted if so.
    pub fn admits(&mut self, to: IpAddr, rates: IcmpRates, now: u64) -> bool {
        let set = match to {
            IpAddr::V4(address) => mix(u64::from(address.to_bits()), 0x9e37_79b9_7f4a_7c15),
            IpAddr::V6(address) => {
                let bits = address.to_bits();
                mix((bits >> 64) as u64 ^ mix(bits as u64, 0x9e37_79b9_7f4a_7c15), 0xd6e8_feb8_6659_fd93)
            }
        };
        let Some(ways) = self.sources.get_mut(set as usize % SETS) else { return false };
        let known = ways.iter().position(|(address, _)| *address == Some(to));
        let oldest = || (0..WAYS).min_by_key(|way| ways.get(*way).map_or(0, |(_, bucket)| bucket.full_at));
        let Some(way) = known.or_else(oldest) else { return false };
        let Some(entry) = ways.get_mut(way) else { return false };
        if known.is_none() {
            *entry = (Some(to), Bucket::default());
        }
        let Some(of_source) = entry.1.take(rates.per_source, now) else { return false };
        let Some(of_all) = self.total.take(rates.total, now) else { return false };
        (entry.1, self.total) = (of_source, of_all);
        true
    }
}

impl Bucket {
    /// The bucket with one token less; `None` where it is empty.
    fn take(self, rate: u32, now: u64) -> Option<Bucket> {
        let each = SECOND.checked_div(u64::from(rate))?;
        let full_at = self.full_at.max(now) + each;
        (full_at <= now + each * u64::from(rate)).then_some(Bucket { full_at })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(limiter: &mut Limiter, to: &str, count: usize, rates: IcmpRates, now: u64) -> usize {
        (0..count).filter(|_| limiter.admits(to.parse().unwrap(), rates, now)).count()
    }

    #[test]
    fn a_source_gets_its_rate_and_a_burst_as_large() {
        let (mut limiter, rates) = (Limiter::default(), IcmpRates { per_source: 10, total: 1000 });
        assert_eq!(admitted(&mut limiter, "192.0.2.1", 50, rates, 5 * SECOND), 10);
        assert_eq!(admitted(&mut limiter, "192.0.2.2", 50, rates, 5 * SECOND), 10);
        assert_eq!(admitted(&mut limiter, "192.0.2.1", 50, rates, 5 * SECOND + SECOND / 10), 1);
        assert_eq!(admitted(&mut limiter, "192.0.2.1", 50, rates, 5 * SECOND + SECOND / 2), 4);
        assert_eq!(admitted(&mut limiter, "192.0.2.1", 50, rates, 60 * SECOND), 10);
    }

    #[test]
    fn the_total_holds_over_all_sources() {
        let (mut limiter, rates) = (Limiter::default(), IcmpRates { per_source: 10, total: 100 });
        let sources = (0..50).map(|host| format!("2001:db8::{host:x}"));
        let sent: usize = sources.map(|to| admitted(&mut limiter, &to, 7, rates, SECOND)).sum();
        assert_eq!(sent, 100);
        // What was refused in total has not been taken from the source.
        assert_eq!(admitted(&mut limiter, "2001:db8::31", 50, rates, 2 * SECOND), 10);
    }

    #[test]
    fn a_rate_of_none_admits_none() {
        let mut limiter = Limiter::default();
        assert_eq!(admitted(&mut limiter, "192.0.2.1", 5, IcmpRates { per_source: 0, total: 9 }, SECOND), 0);
    }
}
