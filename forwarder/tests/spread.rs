//! Which worker a packet goes to where workers spread them: by the innermost flow, whatever stands around it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // A test may fail.

mod common;

use common::*;
use forwarder::frame::{Frame, HEADROOM};
use forwarder::spread::{Seen, Shares, flow};
use forwarder::table::*;
use forwarder::tunnel::flow::FlowHash;
use proptest::prelude::*;

const BOX4: &str = "203.0.113.1";
const BOX6: &str = "2001:db8:f::1";
const PEER4: &str = "198.51.100.7";
const PEER6: &str = "2001:db8:1::7";

/// Tunnels of every kind between the same ends.
fn tables() -> Tables {
    let mut spec = two_ports();
    let kinds = [
        (Encap::Gre, None),
        (Encap::Ip, None),
        (Encap::Gre, Some((UdpKind::Fou, 5555))),
        (Encap::Ip, Some((UdpKind::Fou, 5556))),
        (Encap::Gre, Some((UdpKind::Gue, 6080))),
        (Encap::Ip, Some((UdpKind::Gue, 6080))),
        (Encap::Ip, Some((UdpKind::Gue1, 6080))),
        (Encap::Gre, Some((UdpKind::GreInUdp, 4754))),
    ];
    for (local, remote) in [(BOX4, PEER4), (BOX6, PEER6)] {
        for (encap, udp) in kinds {
            let number = spec.tunnels.len() as u32;
            spec.tunnels.push(TunnelSpec {
                udp: udp.map(|(kind, port)| UdpSpec {
                    kind,
                    port,
                    source_port: SourcePort::Flow,
                    checksum: UdpChecksum::Full,
                }),
                ..tunnel(&format!("t{number}"), number, encap, local, remote)
            });
        }
    }
    for (prefix, gateway) in [("198.51.100.0/24", "192.0.2.2"), ("2001:db8:1::/64", "2001:db8::2")] {
        let target = RouteTarget::Gateway { address: address(gateway), interface: InterfaceId(1) };
        spec.routes.push(route(prefix, target));
    }
    Tables::compile(&spec).unwrap()
}

fn hash(tables: &Tables, bytes: &[u8]) -> Option<FlowHash> {
    let mut buffer = buffer(bytes);
    flow(tables, &Frame::new(&mut buffer, HEADROOM, bytes.len()), &mut Seen::default())
}

fn inner(ipv4: bool, port: u16) -> Vec<u8> {
    let (source, destination) = if ipv4 { ("10.7.1.2", "10.0.0.2") } else { ("fd00:7::2", "fd00::2") };
    udp(address(source), address(destination), (port, 443), 0, 64, b"payload")
}

fn ends(ipv4: bool) -> [std::net::IpAddr; 2] {
    if ipv4 { [address(PEER4), address(BOX4)] } else { [address(PEER6), address(BOX6)] }
}

/// The packet inside each kind of tunnel there is, by name.
fn wrapped(outer_ipv4: bool, packet: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let [peer, own] = ends(outer_ipv4);
    let is_ipv4 = packet[0] >> 4 == 4;
    let (kind, protocol): ([u8; 2], u8) = if is_ipv4 { ([8, 0], 4) } else { ([0x86, 0xdd], 41) };
    let gre = |flags: u8, fields: &[u8]| [&[flags, 0], &kind[..], fields, packet].concat();
    let around = |port: u16, payload: &[u8]| udp(peer, own, (50_000, port), 0, 64, payload);
    let on_ip = |protocol: u8, payload: &[u8]| ip(peer, own, protocol, 0, 64, payload);
    let gue = |len: u8, protocol: u8, rest: &[u8]| [&[len, protocol, 0, 0], rest].concat();
    vec![
        ("gre", on_ip(47, &gre(0, &[]))),
        ("gre with a key", on_ip(47, &gre(0x20, &[0, 0, 0, 9]))),
        ("gre with a checksum and a sequence number", on_ip(47, &gre(0x90, &[0; 8]))),
        ("ip in ip", on_ip(protocol, packet)),
        ("fou with gre", around(5555, &gre(0, &[]))),
        ("fou with ip", around(5556, packet)),
        ("gue with gre", around(6080, &gue(0, 47, &gre(0, &[])))),
        ("gue with ip", around(6080, &gue(0, protocol, packet))),
        ("gue with private data", around(6080, &gue(1, protocol, &[&[0; 4], packet].concat()))),
        ("gue, variant 1", around(6080, packet)),
        ("gre in udp", around(4754, &gre(0, &[]))),
    ]
}

#[test]
fn the_innermost_flow_decides_whatever_stands_around_it() {
    let tables = tables();
    for inner_ipv4 in [true, false] {
        let packet = inner(inner_ipv4, 1000);
        let bare = hash(&tables, &ethernet(WAN_MAC, &packet)).unwrap();
        assert_ne!(bare, hash(&tables, &ethernet(WAN_MAC, &inner(inner_ipv4, 1001))).unwrap());
        for outer_ipv4 in [true, false] {
            for (name, outer) in wrapped(outer_ipv4, &packet) {
                assert_eq!(hash(&tables, &ethernet(WAN_MAC, &outer)), Some(bare), "{name}");
                // A stack: the same inside another tunnel.
                for (around, outermost) in wrapped(!outer_ipv4, &outer) {
                    let found = hash(&tables, &ethernet(WAN_MAC, &outermost));
                    assert_eq!(found, Some(bare), "{name} in {around}");
                }
            }
        }
        // Padding, a tag, and IPv4 options change nothing.
        let mut tagged = ethernet(WAN_MAC, &packet);
        tagged.splice(12..12, [0x81, 0, 0, 5]);
        assert_eq!(hash(&tables, &tagged), Some(bare));
        assert_eq!(hash(&tables, &[ethernet(WAN_MAC, &packet), vec![0; 9]].concat()), Some(bare));
    }
    let plain = inner(true, 1000);
    let mut options = [&plain[..20], &[1; 4], &plain[20..]].concat();
    options[0] = 0x46;
    options[3] += 4;
    options[10..12].fill(0);
    let sum = checksum(&[&options[..24]]);
    options[10..12].copy_from_slice(&sum.to_be_bytes());
    assert_eq!(hash(&tables, &ethernet(WAN_MAC, &options)), hash(&tables, &ethernet(WAN_MAC, &plain)));
}

#[test]
fn what_is_for_no_tunnel_goes_by_its_own_addresses() {
    let tables = tables();
    let gre = |to: &str, port: u16| {
        let payload = [&[0, 0, 8, 0], &inner(true, port)[..]].concat();
        hash(&tables, &ethernet(WAN_MAC, &ip(address(PEER4), address(to), 47, 0, 64, &payload))).unwrap()
    };
    // Somebody else's tunnel stays in order as a whole.
    assert_eq!(gre("10.0.0.2", 1), gre("10.0.0.2", 2));
    assert_ne!(gre(BOX4, 1), gre(BOX4, 2));
    // So does one whose inside is not IP, and UDP for a port that no tunnel has.
    let teb = |last: u8| ip(address(PEER4), address(BOX4), 47, 0, 64, &[0, 0, 0x65, 0x58, 1, 2, 3, last]);
    assert_eq!(
        hash(&tables, &ethernet(WAN_MAC, &teb(1))).unwrap(),
        hash(&tables, &ethernet(WAN_MAC, &teb(2))).unwrap()
    );
    let other = |data: &[u8]| udp(address(PEER4), address(BOX4), (1, 2), 0, 64, data);
    assert_eq!(
        hash(&tables, &ethernet(WAN_MAC, &other(b"one"))).unwrap(),
        hash(&tables, &ethernet(WAN_MAC, &other(b"two"))).unwrap()
    );
    // What is no IP packet is of no flow.
    let mut arp = ethernet(WAN_MAC, &inner(true, 1));
    arp[12..14].copy_from_slice(&[8, 6]);
    assert_eq!(hash(&tables, &arp), None);
    assert_eq!(hash(&tables, &arp[..10]), None);
}

#[test]
fn what_was_seen_before_changes_nothing() {
    let (tables, mut seen) = (tables(), Seen::default());
    let gre = |to: &str, port: u16| {
        let payload = [&[0, 0, 8, 0], &inner(true, port)[..]].concat();
        ethernet(WAN_MAC, &ip(address(PEER4), address(to), 47, 0, 64, &payload))
    };
    let nested = wrapped(true, &wrapped(true, &inner(true, 5)).swap_remove(4).1).swap_remove(0).1;
    for bytes in
        [gre(BOX4, 1), gre("10.0.0.2", 2), gre(BOX4, 3), ethernet(WAN_MAC, &nested), gre("10.0.0.2", 4)]
    {
        let mut copy = buffer(&bytes);
        let found = flow(&tables, &Frame::new(&mut copy, HEADROOM, bytes.len()), &mut seen);
        assert_eq!(found, hash(&tables, &bytes));
    }
    assert_ne!(hash(&tables, &gre(BOX4, 1)), hash(&tables, &gre(BOX4, 3)));
    assert_eq!(hash(&tables, &gre("10.0.0.2", 2)), hash(&tables, &gre("10.0.0.2", 4)));
}

#[test]
fn all_fragments_of_a_packet_meet() {
    let tables = tables();
    let (peer, own) = (address(PEER4), address(BOX4));
    let fragment = |protocol: u8, field: u16, data: &[u8]| {
        let mut packet = ip(peer, own, protocol, 0, 64, data);
        packet[6..8].copy_from_slice(&field.to_be_bytes());
        packet[10..12].fill(0);
        let sum = checksum(&[&packet[..20]]);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        hash(&tables, &ethernet(WAN_MAC, &packet)).unwrap()
    };
    let gre = [&[0, 0, 8, 0], &inner(true, 1000)[..]].concat();
    let first = fragment(47, 0x2000, &gre);
    assert_eq!(first, fragment(47, 100, &[0x55; 40]));
    assert_eq!(first, fragment(47, 0x2000 | 7, &gre));

    // Over IPv6 the first one shows the protocol behind the options, a later one that of the options.
    let fragment = |offset: u16, more: u16, data: &[u8]| {
        let field = (offset << 3 | more).to_be_bytes();
        let payload = [&[60, 0, field[0], field[1], 0, 0, 0, 1], data].concat();
        let packet = ip(address(PEER6), address(BOX6), 44, 0, 64, &payload);
        hash(&tables, &ethernet(WAN_MAC, &packet)).unwrap()
    };
    let options = [47, 0, 1, 4, 0, 0, 0, 0];
    assert_eq!(fragment(0, 1, &[&options, &gre[..]].concat()), fragment(9, 0, &[0x55; 40]));

    // A fragment inside a tunnel goes by the inner addresses.
    let mut inside = inner(true, 1000);
    inside[6..8].copy_from_slice(&[0x20, 0]);
    inside[10..12].fill(0);
    let sum = checksum(&[&inside[..20]]);
    inside[10..12].copy_from_slice(&sum.to_be_bytes());
    let bare = hash(&tables, &ethernet(WAN_MAC, &inside));
    for (name, outer) in wrapped(true, &inside) {
        assert_eq!(hash(&tables, &ethernet(WAN_MAC, &outer)), bare, "{name}");
    }
}

#[test]
fn the_flows_of_one_tunnel_are_shared_as_the_work_is() {
    let (tables, shares) = (tables(), Shares::new(&[1, 0]));
    let mut counts = [0; 2];
    for port in 0..4000 {
        let (_, outer) = wrapped(true, &inner(true, port)).swap_remove(0);
        counts[shares.worker(hash(&tables, &ethernet(WAN_MAC, &outer)).unwrap())] += 1;
    }
    // 15 % stay with the worker that receives; by chance 600 of 4,000 are 23 more or fewer.
    assert!((500..700).contains(&counts[0]), "{counts:?}");
}

proptest! {
    #[test]
    fn nothing_that_comes_is_too_odd(bytes in prop::collection::vec(any::<u8>(), 0..200), kind in 0usize..11, at in 0usize..90, value: u8) {
        let tables = tables();
        hash(&tables, &bytes);
        let (_, outer) = wrapped(true, &inner(true, 1)).swap_remove(kind);
        let mut frame = ethernet(WAN_MAC, &outer);
        let last = frame.len() - 1;
        frame[at.min(last)] = value;
        let found = hash(&tables, &frame);
        // The same again: nothing is remembered.
        prop_assert_eq!(found, hash(&tables, &frame));
        frame.truncate(at);
        hash(&tables, &frame);
    }
}
