//! The headers of a packet, from the outside to the innermost, and an independent check of every checksum.
//!
//! Written for clearness: it walks what culvert wrote and shares no line with the code that wrote it.

use crate::capture::Link;

/// What a header is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// RFC 791.
    Ipv4,
    /// RFC 8200, extension headers included.
    Ipv6,
    /// RFC 2784 with RFC 2890.
    Gre,
    /// RFC 768.
    Udp,
    /// RFC 9293.
    Tcp,
    /// RFC 792 and RFC 4443.
    Icmp,
}

/// A header and what belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What it is.
    pub kind: Kind,
    /// Where it begins in the packet.
    pub start: usize,
    /// Where what it carries begins.
    pub payload: usize,
    /// Where what it carries ends.
    pub end: usize,
}

/// Takes a packet apart. What UDP to one of `tunnel_ports` carries is told by its first bytes, as far as culvert sends
/// it: IP begins with 4 or 6; of a GUE header the second byte is a protocol number, of a GRE header it is 0. Ends at the
/// first header that is not whole, and at fragments.
pub fn walk(link: Link, bytes: &[u8], tunnel_ports: &[u16]) -> Vec<Header> {
    let mut headers = Vec::new();
    let mut at = 0;
    if link == Link::Ethernet {
        at = 12;
        while matches!(word(bytes, at), Some(0x8100 | 0x88a8)) {
            at += 4;
        }
        if !matches!(word(bytes, at), Some(0x0800 | 0x86dd)) {
            return headers;
        }
        at += 2;
    }
    ip(bytes, at, bytes.len(), tunnel_ports, &mut headers);
    headers
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn ip(bytes: &[u8], at: usize, limit: usize, ports: &[u16], headers: &mut Vec<Header>) {
    let Some(first) = bytes.get(at).filter(|_| at < limit) else { return };
    let (payload, end, protocol) = match first >> 4 {
        4 => {
            let (Some(total), Some(fragment), Some(&protocol)) =
                (word(bytes, at + 2), word(bytes, at + 6), bytes.get(at + 9))
            else {
                return;
            };
            let (payload, end) = (at + usize::from(first & 15) * 4, at + usize::from(total));
            if end > limit || payload > end || payload < at + 20 {
                return;
            }
            headers.push(Header { kind: Kind::Ipv4, start: at, payload, end });
            if fragment & 0x3fff != 0 {
                return;
            }
            (payload, end, protocol)
        }
        6 => {
            let (Some(len), Some(&next)) = (word(bytes, at + 4), bytes.get(at + 6)) else { return };
            let end = at + 40 + usize::from(len);
            if end > limit {
                return;
            }
            let (mut payload, mut next) = (at + 40, next);
            while matches!(next, 0 | 43 | 60) {
                let (Some(&after), Some(&len)) = (bytes.get(payload), bytes.get(payload + 1)) else { return };
                next = after;
                payload += 8 + usize::from(len) * 8;
            }
            headers.push(Header { kind: Kind::Ipv6, start: at, payload, end });
            (payload, end, next)
        }
        _ => return,
    };
    match protocol {
        4 | 41 => ip(bytes, payload, end, ports, headers),
        47 => gre(bytes, payload, end, ports, headers),
        17 if payload + 8 <= end => {
            headers.push(Header { kind: Kind::Udp, start: payload, payload: payload + 8, end });
            let port = word(bytes, payload + 2).filter(|port| ports.contains(port));
            match (port, bytes.get(payload + 8), bytes.get(payload + 9)) {
                (None, ..) | (_, None, _) | (.., None) => {}
                (_, Some(0x40..0x80), _) => ip(bytes, payload + 8, end, ports, headers),
                (_, _, Some(0)) => gre(bytes, payload + 8, end, ports, headers),
                (_, Some(first), Some(protocol)) => {
                    let inside = payload + 12 + usize::from(first & 31) * 4;
                    match protocol {
                        47 => gre(bytes, inside, end, ports, headers),
                        _ => ip(bytes, inside, end, ports, headers),
                    }
                }
            }
        }
        6 if payload + 20 <= end => {
            let len = usize::from(bytes[payload + 12] >> 4) * 4;
            headers.push(Header { kind: Kind::Tcp, start: payload, payload: payload + len, end });
        }
        1 | 58 if payload + 4 <= end => {
            headers.push(Header { kind: Kind::Icmp, start: payload, payload: payload + 4, end });
        }
        _ => {}
    }
}

fn gre(bytes: &[u8], at: usize, end: usize, ports: &[u16], headers: &mut Vec<Header>) {
    let (Some(flags), Some(protocol)) = (word(bytes, at), word(bytes, at + 2)) else { return };
    let words = [0x8000, 0x2000, 0x1000].iter().filter(|bit| flags & **bit != 0).count();
    let payload = at + 4 + words * 4;
    if payload > end {
        return;
    }
    headers.push(Header { kind: Kind::Gre, start: at, payload, end });
    if matches!(protocol, 0x0800 | 0x86dd) {
        ip(bytes, payload, end, ports, headers);
    }
}

/// The one's-complement sum of RFC 1071 over `parts`, each of which but the last is of even length; 0xffff where a
/// checksum inside is right.
pub(crate) fn sum(parts: &[&[u8]]) -> u16 {
    let mut total = 0u64;
    for part in parts {
        for pair in part.chunks(2) {
            total += u64::from(pair[0]) << 8 | u64::from(*pair.get(1).unwrap_or(&0));
        }
    }
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    u16::try_from(total).unwrap()
}

/// Checks the checksum of every header, outer and inner. Returns what is wrong, in words. Zero in UDP over IPv6 is wrong
/// unless `zero_udp` says that a tunnel here sends it (RFC 6935).
pub fn wrong_checksums(link: Link, bytes: &[u8], tunnel_ports: &[u16], zero_udp: bool) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut addresses: &[u8] = &[];
    for header in walk(link, bytes, tunnel_ports) {
        let whole = &bytes[header.start..header.end];
        let len = u32::try_from(whole.len()).unwrap().to_be_bytes();
        let mut check = |name: &str, sum: u16| {
            if sum != 0xffff {
                wrong.push(format!("{name} checksum of the header at byte {} is wrong", header.start));
            }
        };
        match header.kind {
            Kind::Ipv4 => {
                addresses = &bytes[header.start + 12..header.start + 20];
                check("IPv4", sum(&[&bytes[header.start..header.payload]]));
            }
            Kind::Ipv6 => addresses = &bytes[header.start + 8..header.start + 40],
            Kind::Gre if bytes[header.start] & 0x80 != 0 => check("GRE", sum(&[whole])),
            Kind::Gre => {}
            Kind::Udp if word(bytes, header.start + 6) == Some(0) => {
                if addresses.len() == 32 && !zero_udp {
                    check("zero UDP", 0);
                }
            }
            Kind::Udp => check("UDP", sum(&[addresses, &len, &[0, 17], whole])),
            Kind::Tcp => check("TCP", sum(&[addresses, &len, &[0, 6], whole])),
            Kind::Icmp if addresses.len() == 8 => check("ICMP", sum(&[whole])),
            Kind::Icmp => check("ICMPv6", sum(&[addresses, &len, &[0, 58], whole])),
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The worked example of RFC 1071 §3: the sum of these words is 0xddf2.
    #[test]
    fn sum_is_that_of_the_rfc() {
        assert_eq!(sum(&[&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]]), 0xddf2);
    }

    #[test]
    fn odd_last_byte_is_the_high_half_of_a_word() {
        assert_eq!(sum(&[&[0x12, 0x34, 0x56]]), sum(&[&[0x12, 0x34, 0x56, 0x00]]));
    }

    #[test]
    fn flipped_bit_is_found_in_header_and_payload() {
        let good: [u8; 30] = [
            0x45, 0, 0, 30, 0, 0, 0, 0, 64, 17, 0xf5, 0x70, 10, 0, 0, 1, 10, 0, 0, 2, // IPv4
            0x03, 0xe8, 0x07, 0xd0, 0, 10, 0x9c, 0xc5, 0x44, 0x55, // UDP
        ];
        let mut packet = good;
        let ip = !sum(&[&{
            let mut header = good;
            header[10..12].fill(0);
            header
        }[..20]]);
        packet[10..12].copy_from_slice(&ip.to_be_bytes());
        packet[26..28].fill(0);
        let udp = !sum(&[&packet[12..20], &[0, 0, 0, 10, 0, 17], &packet[20..]]);
        packet[26..28].copy_from_slice(&udp.to_be_bytes());
        assert_eq!(wrong_checksums(Link::Raw, &packet, &[], false), Vec::<String>::new());
        for byte in [8, 29] {
            packet[byte] ^= 1;
            assert_eq!(wrong_checksums(Link::Raw, &packet, &[], false).len(), 1);
            packet[byte] ^= 1;
        }
    }
}
