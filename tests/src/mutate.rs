//! Packets that are nearly right: those of somebody else, changed a little and then made consistent again, so that
//! what is wrong with them is met deep in the code and not by the first length or checksum.

use crate::capture::Link;
use crate::headers::{Header, Kind, sum, walk};
use crate::random::Random;

/// Bytes that mean something somewhere: versions, protocol numbers, flags, corners.
const BYTES: [u8; 24] = [
    0, 1, 2, 4, 6, 8, 17, 41, 43, 44, 47, 50, 58, 59, 60, 0x40, 0x45, 0x46, 0x4f, 0x60, 0x7f, 0x80, 0xa0,
    0xff,
];

/// The same of two bytes: EtherTypes, fragment fields, lengths, tunnel ports.
const WORDS: [u16; 16] =
    [0, 1, 19, 20, 40, 0x0800, 0x1fff, 0x2000, 0x2001, 0x4000, 0x8100, 0x86dd, 0x6558, 5555, 6080, 0xffff];

/// The largest frame that is made: more than any port here takes.
const LONGEST: usize = 9_300;

/// Changes `frame`, an Ethernet frame, one to four times; `other` is a frame to take pieces of. Afterwards lengths and
/// checksums are mostly set right again.
pub fn mutate(random: &mut Random, frame: &mut Vec<u8>, other: &[u8], tunnel_ports: &[u16]) {
    for _ in 0..=random.below(4) {
        let mut headers = walk(Link::Ethernet, frame, tunnel_ports);
        // Earlier changes leave headers that say more than there is.
        headers.retain(|header| header.start < header.payload && header.payload <= frame.len());
        once(random, frame, other, &headers);
        frame.truncate(LONGEST);
    }
    if !random.one_in(8) {
        let padding = if random.one_in(8) { random.below(9) } else { 0 };
        let end = frame.len().saturating_sub(padding);
        repair(frame, end, tunnel_ports);
    }
    if random.one_in(16) {
        flip(random, frame, 0);
    }
}

/// A frame of any bytes, with the beginning of `like` most of the time, so that the port takes it.
pub fn invent(random: &mut Random, like: &[u8]) -> Vec<u8> {
    let mut frame: Vec<u8> = (0..random.below(200)).map(|_| random.byte()).collect();
    let same = like.len().min(*random.pick(&[0, 12, 14, 24, 34, 54]));
    frame.splice(..same.min(frame.len()), like[..same].iter().copied());
    frame
}

fn once(random: &mut Random, frame: &mut Vec<u8>, other: &[u8], headers: &[Header]) {
    let some_header = headers.get(random.below(headers.len()));
    match (random.below(14), some_header) {
        (0 | 1, _) => flip(random, frame, 12),
        (2 | 3, Some(header)) => flip_in(random, frame, header.start, header.payload),
        (4, Some(header)) => {
            let at = header.start + random.below(header.payload - header.start);
            frame[at] = *random.pick(&BYTES);
        }
        (5, Some(header)) => {
            let at = header.start + random.below(header.payload - header.start) / 2 * 2;
            if let Some(word) = frame.get_mut(at..at + 2) {
                word.copy_from_slice(&random.pick(&WORDS).to_be_bytes());
            }
        }
        (6, Some(header)) => field(random, frame, header),
        (7, Some(header)) => options(random, frame, header),
        // A header, or all from one to another, twice or not at all. What lies between two IP headers is whole tunnel
        // headers, so that stacks grow and shrink.
        (8 | 9, Some(header)) => {
            let end =
                headers.iter().rev().find(|other| other.kind == header.kind && other.start > header.start);
            let end = end.map_or(header.payload, |other| other.start);
            let piece = frame[header.start..end].to_vec();
            match random.one_in(3) {
                true => drop(frame.drain(header.start..end)),
                false => drop(frame.splice(header.start..header.start, piece)),
            }
        }
        (10, _) => frame.truncate(random.below(frame.len() + 1)),
        (11, _) => {
            let longest = *random.pick(&[4, 64, 600, 1_500, 9_000]);
            let len = random.below(longest);
            let byte = random.byte();
            frame.extend(std::iter::repeat_n(byte, len));
        }
        // The rest of another frame behind the beginning of this one.
        (12, Some(header)) => {
            frame.truncate(*random.pick(&[header.start, header.payload]));
            let theirs = walk(Link::Ethernet, other, &[]);
            let from = theirs.get(random.below(theirs.len())).map_or(0, |header| header.start);
            frame.extend(&other[from..]);
        }
        _ => {
            let from = random.below(other.len());
            let piece = &other[from..(from + random.below(40)).min(other.len())];
            let at = random.below(frame.len() + 1);
            let end = (at + piece.len()).min(frame.len());
            frame[at..end].copy_from_slice(&piece[..end - at]);
        }
    }
}

/// Flips a few bits from byte `from` on, most of them near the beginning.
fn flip(random: &mut Random, frame: &mut [u8], from: usize) {
    let end = if random.one_in(4) { frame.len() } else { frame.len().min(160) };
    flip_in(random, frame, from.min(end), end);
}

fn flip_in(random: &mut Random, frame: &mut [u8], start: usize, end: usize) {
    for _ in 0..=random.below(3) {
        let at = start + random.below(end - start);
        if let Some(byte) = frame.get_mut(at) {
            *byte ^= 1 << random.below(8);
        }
    }
}

/// Gives a field a value that decides something.
fn field(random: &mut Random, frame: &mut [u8], header: &Header) {
    let at = header.start;
    let mut put = |offset: usize, bytes: &[u8]| {
        if let Some(field) = frame.get_mut(at + offset..at + offset + bytes.len()) {
            field.copy_from_slice(bytes);
        }
    };
    let byte = *random.pick(&BYTES);
    let word = random.pick(&WORDS).to_be_bytes();
    match (header.kind, random.below(4)) {
        (Kind::Ipv4, 0) => put(8, &[random.byte() & 3]),
        (Kind::Ipv4, 1) => put(6, &word),
        (Kind::Ipv4, 2) => put(9, &[byte]),
        (Kind::Ipv4, _) => put(1, &[random.byte()]),
        (Kind::Ipv6, 0) => put(7, &[random.byte() & 3]),
        (Kind::Ipv6, 1 | 2) => put(6, &[byte]),
        (Kind::Ipv6, _) => put(0, &[0x60 | random.byte() & 15, random.byte()]),
        (Kind::Gre, 0) => put(0, &[1 << random.below(8), 0]),
        (Kind::Gre, 1) => put(2, &word),
        (Kind::Gre, _) => put(4, &[byte]),
        (Kind::Udp, 0) => put(6, &[0, 0]),
        (Kind::Udp, 1) => put(2, &word),
        (Kind::Udp, _) => put(8, &[random.byte(), byte]),
        (Kind::Tcp, 0) => put(13, &[2]),
        (Kind::Tcp, 1) => put(12, &[byte]),
        (Kind::Tcp, _) => put(20, &[byte, random.byte() & 7]),
        (Kind::Icmp, _) => put(0, &[*random.pick(&[0, 3, 5, 8, 11, 12, 1, 2, 128, 129]), byte & 7]),
    }
}

/// Puts options into a header that may have them: IPv4 and TCP options of any bytes, or an IPv6 extension header.
fn options(random: &mut Random, frame: &mut Vec<u8>, header: &Header) {
    let at = header.start;
    let words = 1 + random.below(4);
    let any: Vec<u8> = (0..words * 4)
        .map(|_| {
            if random.one_in(3) {
                random.byte()
            } else {
                *random.pick(&[0, 1, 2, 3, 4, 7, 68, 130, 131, 148])
            }
        })
        .collect();
    let grown = |first: u8, shift: u32| match (usize::from(first >> shift) & 15) + words {
        length @ ..=15 => first & !(15 << shift) | u8::try_from(length).unwrap() << shift,
        _ => first,
    };
    match header.kind {
        Kind::Ipv4 => {
            frame[at] = grown(frame[at], 0);
            frame.splice(at + 20..at + 20, any);
        }
        Kind::Tcp if frame.len() >= at + 20 => {
            frame[at + 12] = grown(frame[at + 12], 4);
            frame.splice(at + 20..at + 20, any);
        }
        Kind::Ipv6 => {
            let kind = *random.pick(&[0, 43, 44, 60, 51]);
            let mut extension = vec![frame[at + 6], u8::try_from(words / 2).unwrap()];
            extension.extend(any);
            extension.resize((words / 2 + 1) * 8, 0);
            if kind == 44 {
                // A fragment header (RFC 8200 §4.5): mostly of the first or only fragment.
                extension.truncate(8);
                let field = random.pick(&[0u16, 0, 1, 8, 9, 0xfff8]).to_be_bytes();
                extension[2..4].copy_from_slice(&field);
            }
            frame[at + 6] = kind;
            frame.splice(at + 40..at + 40, extension);
        }
        _ => {}
    }
}

/// Sets the lengths and checksums of a frame right whose IP packet ends at `end`, as far as its headers can be told
/// apart.
pub fn repair(frame: &mut [u8], end: usize, tunnel_ports: &[u16]) {
    let mut at = 12;
    while matches!(frame.get(at..at + 2), Some([0x81, 0] | [0x88, 0xa8])) {
        at += 4;
    }
    repair_ip(frame, at + 2, end.min(frame.len()), tunnel_ports);
}

fn repair_ip(frame: &mut [u8], at: usize, end: usize, ports: &[u16]) {
    let len = |len: usize| u16::try_from(len).unwrap_or(u16::MAX).to_be_bytes();
    match frame.get(at).filter(|_| at < end).map(|first| first >> 4) {
        Some(4) if at + 20 <= end => {
            let payload = at + usize::from(frame[at] & 15).max(5) * 4;
            frame[at + 2..at + 4].copy_from_slice(&len(end - at));
            if payload > end {
                return;
            }
            if frame[at + 6] & 0x1f == 0 && frame[at + 7] == 0 {
                repair_payload(frame, frame[at + 9], (payload, end), at + 12..at + 20, ports);
            }
            frame[at + 10..at + 12].fill(0);
            let sum = !sum(&[&frame[at..payload]]);
            frame[at + 10..at + 12].copy_from_slice(&sum.to_be_bytes());
        }
        Some(6) if at + 40 <= end => {
            frame[at + 4..at + 6].copy_from_slice(&len(end - at - 40));
            let (mut payload, mut next) = (at + 40, frame[at + 6]);
            while matches!(next, 0 | 43 | 44 | 60) && payload + 8 <= end {
                if next == 44 && (frame[payload + 2] != 0 || frame[payload + 3] & 0xf8 != 0) {
                    return;
                }
                let words = if next == 44 { 0 } else { usize::from(frame[payload + 1]) };
                next = frame[payload];
                payload += 8 + words * 8;
            }
            if payload <= end {
                repair_payload(frame, next, (payload, end), at + 8..at + 40, ports);
            }
        }
        _ => {}
    }
}

fn repair_payload(
    frame: &mut [u8],
    protocol: u8,
    (at, end): (usize, usize),
    addresses: std::ops::Range<usize>,
    ports: &[u16],
) {
    let checksum = match protocol {
        4 | 41 => return repair_ip(frame, at, end, ports),
        47 => return repair_gre(frame, at, end, ports),
        17 if at + 8 <= end => {
            let len = u16::try_from(end - at).unwrap_or(u16::MAX);
            frame[at + 4..at + 6].copy_from_slice(&len.to_be_bytes());
            let port = u16::from_be_bytes([frame[at + 2], frame[at + 3]]);
            if ports.contains(&port) && at + 10 <= end {
                match (frame[at + 8], frame[at + 9]) {
                    (0x40..0x80, _) => repair_ip(frame, at + 8, end, ports),
                    (_, 0) => repair_gre(frame, at + 8, end, ports),
                    (first, 47) => repair_gre(frame, at + 12 + usize::from(first & 31) * 4, end, ports),
                    (first, _) => repair_ip(frame, at + 12 + usize::from(first & 31) * 4, end, ports),
                }
            }
            match frame[at + 6..at + 8] {
                [0, 0] => return,
                _ => at + 6,
            }
        }
        6 if at + 20 <= end => at + 16,
        1 | 58 if at + 4 <= end => at + 2,
        _ => return,
    };
    frame[checksum..checksum + 2].fill(0);
    let len = u32::try_from(end - at).unwrap().to_be_bytes();
    let pseudo = [&frame[addresses], &len, &[0, protocol]].concat();
    let sum = match protocol {
        1 => sum(&[&frame[at..end]]),
        _ => sum(&[&pseudo, &frame[at..end]]),
    };
    // All ones where UDP's is zero, which would say that there is none (RFC 768).
    let sum = if protocol == 17 && sum == 0xffff { sum } else { !sum };
    frame[checksum..checksum + 2].copy_from_slice(&sum.to_be_bytes());
}

fn repair_gre(frame: &mut [u8], at: usize, end: usize, ports: &[u16]) {
    if at + 4 > end {
        return;
    }
    let words = (frame[at] & 0xb0).count_ones() as usize;
    repair_ip(frame, at + 4 + words * 4, end, ports);
    if frame[at] & 0x80 != 0 && at + 6 <= end {
        frame[at + 4..at + 6].fill(0);
        let sum = !sum(&[&frame[at..end]]);
        frame[at + 4..at + 6].copy_from_slice(&sum.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{capture, headers, rows};

    #[test]
    fn repair_sets_every_checksum_right() {
        let mut seen = 0;
        for row in ["gre4-checksum", "fou6-gre", "gue6-ip", "stack-gre4-fou6", "forward-ip6"] {
            for packet in std::fs::read_dir(rows::golden().join(row)).unwrap().flat_map(|entry| {
                let path = entry.unwrap().path();
                if path.extension().is_some_and(|end| end == "pcap") {
                    capture::read(&path).packets
                } else {
                    vec![]
                }
            }) {
                let mut frame = packet.bytes;
                let last = frame.len() - 1;
                frame[last] ^= 0x55;
                repair(&mut frame, last + 1, &rows::TUNNEL_PORTS);
                let wrong = headers::wrong_checksums(Link::Ethernet, &frame, &rows::TUNNEL_PORTS, false);
                assert_eq!(wrong, [""; 0], "{row}: {frame:02x?}");
                seen += 1;
            }
        }
        assert!(seen > 20);
    }

    #[test]
    fn a_seed_makes_the_same_frame_again() {
        let original: Vec<u8> = (0..120).collect();
        let made = |seed| {
            let mut frame = original.clone();
            mutate(&mut Random::new(seed), &mut frame, &original, &[]);
            frame
        };
        assert_eq!(made(1), made(1));
        assert!((0..20).any(|seed| made(seed) != original));
    }
}
