//! Packets that meet every key: plain ones, SYNs, tunnel packets, ones that are too big or in need of an answer.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;
use tests::capture::Packet;
use tests::mutate::repair;

/// What stands in place of a checksum until it is worked out.
const WRONG: [u8; 2] = [0xff, 0xff];

fn udp(port: u16, payload: &[u8]) -> Vec<u8> {
    [&[0x0f, 0xa0], &port.to_be_bytes()[..], &[0, 0], &WRONG, payload].concat()
}

/// A SYN with an MSS of 1460.
fn syn() -> Vec<u8> {
    [&[0x0f, 0xa0, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x60, 2, 0xff, 0xff][..], &WRONG, &[0, 0, 2, 4, 5, 0xb4]]
        .concat()
}

/// Any DSCP and ECT(0): 0xb8 | 2.
const TOS: u8 = 0xba;

fn ip4(source: &str, destination: &str, protocol: u8, df: bool, payload: &[u8]) -> Vec<u8> {
    let flags = if df { 0x40 } else { 0 };
    let mut packet = vec![0x45, TOS, 0, 0, 0, 7, flags, 0, 33, protocol, 0, 0];
    for address in [source, destination] {
        packet.extend(address.parse::<Ipv4Addr>().unwrap().octets());
    }
    [&packet, payload].concat()
}

fn ip6(source: &str, destination: &str, next: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60 | TOS >> 4, TOS << 4, 0, 0, 0, 0, next, 33];
    for address in [source, destination] {
        packet.extend(address.parse::<Ipv6Addr>().unwrap().octets());
    }
    [&packet, payload].concat()
}

/// Ethernet frames for the port of this number, checksums and lengths worked out, a millisecond apart.
fn frames(port: u8, packets: Vec<(Option<u8>, Vec<u8>)>) -> Vec<Packet> {
    let framed = |(number, (vlan, packet)): (u32, (Option<u8>, Vec<u8>))| {
        let tag = vlan.map_or(vec![], |id| vec![0x81, 0, 0, id]);
        let kind = if packet[0] >> 4 == 4 { [8, 0] } else { [0x86, 0xdd] };
        let mut bytes = [&[2, 0, 0, 0, 0, port, 2, 0, 0, 0, 0xee, port], &tag[..], &kind, &packet].concat();
        let end = bytes.len();
        repair(&mut bytes, end, &[5555]);
        Packet { time: Duration::from_secs(1_000_000_000) + Duration::from_millis(1) * number, bytes }
    };
    (0..).zip(packets).map(framed).collect()
}

/// What the first port receives.
pub(crate) fn from_lan() -> Vec<Packet> {
    let small = udp(53, &[7; 40]);
    let mut packets = Vec::new();
    for destination in ["10.2.0.1", "10.3.0.1", "10.5.7.1", "198.18.0.2", "192.0.2.66", "192.0.2.2"] {
        packets.push(ip4("10.1.0.9", destination, 17, true, &small));
        packets.push(ip4("10.1.0.9", destination, 6, false, &syn()));
    }
    packets.push(ip6("2001:db8:1::9", "2001:db8:2::9", 6, &syn()));
    // Flows that share two equal routes.
    packets.extend((0..16).map(|flow| ip4("10.1.0.9", &format!("10.4.0.{flow}"), 17, true, &small)));
    // Larger than the tunnel takes: cut where that is allowed, else answered, at a rate for each sender and for all.
    let large = udp(53, &[7; 1440]);
    packets.push(ip4("10.1.0.9", "10.2.0.1", 17, false, &large));
    packets.extend((0..6).map(|_| ip4("10.1.0.9", "10.2.0.1", 17, true, &large)));
    packets.extend((0..3).map(|_| ip6("2001:db8:1::9", "2001:db8:2::9", 17, &large)));
    // Between 1400 and what fits by itself.
    packets.push(ip4("10.1.0.9", "10.2.0.2", 17, false, &udp(53, &[7; 1380])));
    frames(1, packets.into_iter().map(|packet| (None, packet)).collect())
}

/// What the second port receives.
pub(crate) fn from_wan() -> Vec<Packet> {
    let small = udp(53, &[7; 40]);
    let plain = |packet| (None, packet);
    let gre = |inner: &[u8]| {
        let kind = if inner[0] >> 4 == 4 { [8, 0] } else { [0x86, 0xdd] };
        ip4("192.0.2.2", "203.0.113.1", 47, true, &[&[0, 0], &kind[..], inner].concat())
    };
    let mut inner = ip4("10.2.0.1", "10.1.0.9", 17, true, &small);
    inner[1] = 2;
    let fou = |checksum: [u8; 2]| {
        let mut packet = udp(5555, &ip4("10.3.0.1", "10.1.0.9", 17, true, &udp(53, &[7; 40])));
        packet[6..8].copy_from_slice(&checksum);
        ip6("2001:db8::2", "2001:db8::1", 17, &packet)
    };
    let mut echo = vec![8, 0];
    echo.extend(WRONG);
    echo.extend([0, 1, 0, 1]);
    let mut packets = frames(
        2,
        vec![
            plain(gre(&inner)),
            plain(gre(&ip4("10.2.0.1", "10.1.0.9", 6, true, &syn()))),
            plain(gre(&ip6("2001:db8:2::9", "2001:db8:1::9", 6, &syn()))),
            plain(gre(&ip4("10.2.0.1", "10.255.0.1", 1, true, &echo))),
            plain(gre(&ip4("203.0.113.1", "192.0.2.2", 47, true, &[0; 4]))),
            plain(fou(WRONG)),
            plain(fou([0, 0])),
            plain(ip4("192.0.2.3", "203.0.113.2", 4, true, &inner)),
            plain(ip4("192.0.2.2", "10.1.0.9", 6, true, &syn())),
            plain(ip4("192.0.2.2", "192.0.2.1", 17, true, &small)),
            (Some(5), ip4("198.18.0.2", "10.1.0.9", 17, true, &small)),
            (Some(5), ip4("198.18.0.2", "198.18.0.1", 17, true, &small)),
        ],
    );
    let is_fou = |packet: &&Packet| packet.bytes[12..14] == [0x86, 0xdd] && packet.bytes[14 + 6] == 17;
    let fragments = fragments(&packets.iter().find(is_fou).unwrap().bytes);
    let last = packets[packets.len() - 1].time;
    packets.extend(fragments.map(|bytes| Packet { time: last, bytes }));
    packets
}

/// An IPv6 packet in two fragments; nothing in its header depends on the rest but the length.
fn fragments(frame: &[u8]) -> [Vec<u8>; 2] {
    let (header, payload) = frame.split_at(14 + 40);
    let (first, last) = payload.split_at(48);
    [(first, [0, 1]), (last, [0, 48])].map(|(data, field)| {
        let mut frame = [header, &[header[14 + 6], 0], &field, &[0, 0, 0, 7], data].concat();
        frame[14 + 5] = 8 + data.len() as u8;
        frame[14 + 6] = 44;
        frame
    })
}
