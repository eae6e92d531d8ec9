//! Packets that cannot go on as they are: cut into fragments, or their senders told.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // A test may fail.

mod common;

use common::*;
use forwarder::icmp_error::IcmpRates;
use forwarder::table::*;
use forwarder::verdict::{DropReason, Ingress, Verdict};

/// Routes for both families into a GRE tunnel, which takes 1,476 bytes.
fn into_a_tunnel(change: impl Fn(&mut TunnelSpec)) -> Spec {
    let mut spec = tunnel("t", 0, Encap::Gre, "192.0.2.1", "192.0.2.2");
    change(&mut spec);
    let into = || RouteTarget::Tunnel(TunnelId(0));
    Spec {
        tunnels: vec![spec],
        routes: vec![route("10.1.0.0/24", into()), route("fd01::/64", into())],
        ..two_ports()
    }
}

/// A UDP packet of so many bytes in all.
fn packet(source: &str, destination: &str, len: usize, ttl: u8) -> Vec<u8> {
    let (source, destination) = (address(source), address(destination));
    let headers = if source.is_ipv4() { 28 } else { 48 };
    let data: Vec<u8> = (0..len - headers).map(|byte| byte as u8).collect();
    udp(source, destination, (1000, 53), 0, ttl, &data)
}

fn may_fragment(mut packet: Vec<u8>) -> Vec<u8> {
    packet[6] &= !0x40;
    packet[10..12].copy_from_slice(&[0, 0]);
    let sum = checksum(&[&packet[..20]]).to_be_bytes();
    packet[10..12].copy_from_slice(&sum);
    packet
}

/// Checks an ICMP error to the host behind `lan` about `cause` and returns type, code and the 32-bit word behind them.
fn error_about(made: &[(Verdict, Vec<u8>)], source: &str, cause: &[u8]) -> (u8, u8, u32) {
    let [(Verdict::Send(LAN), frame)] = made else { panic!("{made:?}") };
    let error = &frame[14..];
    let (header, quote_len) = if error[0] >> 4 == 4 {
        assert_eq!(checksum(&[&error[..20]]), 0);
        assert_eq!((error[8], error[9]), (64, 1));
        assert_eq!((&error[12..16], &error[16..20]), (octets(address(source)).as_slice(), &cause[12..16]));
        assert_eq!(checksum(&[&error[20..]]), 0);
        (20, 576 - 28)
    } else {
        assert_eq!((error[6], error[7]), (58, 64));
        assert_eq!((&error[8..24], &error[24..40]), (octets(address(source)).as_slice(), &cause[8..24]));
        let pseudo = [&error[8..40], &((error.len() - 40) as u32).to_be_bytes(), &[0, 0, 0, 58]].concat();
        assert_eq!(checksum(&[&pseudo, &error[40..]]), 0);
        (40, 1280 - 48)
    };
    let message = &error[header..];
    assert_eq!(&message[8..], &cause[..cause.len().min(quote_len)], "the packet as it came");
    (message[0], message[1], u32::from_be_bytes(message[4..8].try_into().unwrap()))
}

#[test]
fn too_big_carries_the_tunnels_mtu() {
    let mut gateway = Gateway::new(&into_a_tunnel(|_| {}));
    for (source, destination, speaker, expected) in
        [("10.0.0.2", "10.1.0.2", "10.0.0.1", (3, 4, 1476)), ("fd00::2", "fd01::2", "fd00::1", (2, 0, 1476))]
    {
        let fits = packet(source, destination, 1476, 64);
        assert_eq!(gateway.run(LAN, &ethernet(LAN_MAC, &fits)).0.verdict, Verdict::Send(WAN));
        assert_eq!(gateway.made(), []);
        let large = packet(source, destination, 1477, 64);
        assert_eq!(gateway.run(LAN, &ethernet(LAN_MAC, &large)).0.verdict, Verdict::Drop(DropReason::TooBig));
        assert_eq!(error_about(&gateway.made(), speaker, &large), expected);
    }
}

#[test]
fn too_big_never_says_less_than_1280_to_ipv6() {
    let mut gateway = Gateway::new(&into_a_tunnel(|spec| spec.mtu = Some(1000)));
    let large = packet("fd00::2", "fd01::2", 1281, 64);
    assert_eq!(gateway.run(LAN, &ethernet(LAN_MAC, &large)).0.verdict, Verdict::Drop(DropReason::TooBig));
    assert_eq!(error_about(&gateway.made(), "fd00::1", &large), (2, 0, 1280));
}

#[test]
fn used_up_ttl_and_missing_routes_are_told() {
    let mut gateway = Gateway::new(&into_a_tunnel(|_| {}));
    for (source, destination, ttl, speaker, reason, expected) in [
        ("10.0.0.2", "10.1.0.2", 1, "10.0.0.1", DropReason::Ttl, (11, 0, 0)),
        ("fd00::2", "fd01::2", 1, "fd00::1", DropReason::Ttl, (3, 0, 0)),
        ("10.0.0.2", "10.9.0.2", 9, "10.0.0.1", DropReason::NoRoute, (3, 0, 0)),
        ("fd00::2", "fd09::2", 9, "fd00::1", DropReason::NoRoute, (1, 0, 0)),
    ] {
        let cause = packet(source, destination, 100, ttl);
        assert_eq!(gateway.run(LAN, &ethernet(LAN_MAC, &cause)).0.verdict, Verdict::Drop(reason));
        assert_eq!(error_about(&gateway.made(), speaker, &cause), expected);
    }
}

#[test]
fn an_error_goes_back_into_the_tunnel_that_the_packet_came_out_of() {
    let mut spec = into_a_tunnel(|spec| spec.addresses = ["10.255.0.1/31".parse().unwrap()].into());
    spec.routes.push(route("10.2.0.0/16", RouteTarget::Tunnel(TunnelId(0))));
    let mut gateway = Gateway::new(&spec);
    let lost = packet("10.2.0.2", "10.3.0.2", 100, 9);
    let outer =
        ip(address("192.0.2.2"), address("192.0.2.1"), 47, 0, 64, &[&[0, 0, 8, 0], lost.as_slice()].concat());
    assert_eq!(gateway.run(WAN, &ethernet(WAN_MAC, &outer)).0.verdict, Verdict::Drop(DropReason::NoRoute));
    let made = gateway.made();
    let [(Verdict::Send(WAN), frame)] = &made[..] else { panic!("{made:?}") };
    // Ethernet, IPv4 and GRE, then the error from the box's own address in the tunnel.
    assert_eq!((frame[14 + 9], &frame[14 + 24 + 12..14 + 24 + 16]), (47, [10, 255, 0, 1].as_slice()));
    let counters = gateway.stats.slot(0).unwrap();
    assert_eq!((counters.rx_packets.read(), counters.tx_packets.read()), (1, 1));
}

#[test]
fn nobody_is_told_of_what_the_rfcs_exclude() {
    let mut gateway = Gateway::new(&into_a_tunnel(|_| {}));
    let (host, lost) = (address("10.0.0.2"), address("10.9.0.2"));
    let (host6, lost6) = (address("fd00::2"), address("fd09::2"));
    let mut fragment = may_fragment(packet("10.0.0.2", "10.9.0.2", 100, 9));
    fragment[7] = 1;
    fragment[10..12].copy_from_slice(&[0, 0]);
    let sum = checksum(&[&fragment[..20]]).to_be_bytes();
    fragment[10..12].copy_from_slice(&sum);
    let silent = [
        ("an ICMP error", ip(host, lost, 1, 0, 9, &[3, 1, 0, 0, 0, 0, 0, 0])),
        ("a redirect", ip(host, lost, 1, 0, 9, &[5, 1, 0, 0, 0, 0, 0, 0])),
        ("an ICMPv6 error", ip(host6, lost6, 58, 0, 9, &[1, 0, 0, 0, 0, 0, 0, 0])),
        ("an ICMP message without type", ip(host, lost, 1, 0, 9, &[])),
        ("a later fragment", fragment),
        ("TTL 0 on arrival", packet("10.0.0.2", "10.1.0.2", 100, 0)),
        ("the box's own address as source", packet("10.0.0.1", "10.9.0.2", 100, 9)),
    ];
    for (what, cause) in silent {
        let verdict = gateway.run(LAN, &ethernet(LAN_MAC, &cause)).0.verdict;
        assert!(
            matches!(verdict, Verdict::Drop(DropReason::NoRoute | DropReason::Ttl)),
            "{what}: {verdict:?}"
        );
        assert_eq!(gateway.made(), [], "{what}");
    }
    let echo = ip(host, lost, 1, 0, 9, &[8, 0, 0, 0, 0, 0, 0, 0]);
    gateway.run(LAN, &ethernet(LAN_MAC, &echo));
    assert_eq!(gateway.made().len(), 1, "an echo request is no error");
}

#[test]
fn errors_keep_to_their_rates() {
    let mut spec = into_a_tunnel(|_| {});
    spec.icmp = IcmpRates { per_source: 2, total: 3 };
    let mut gateway = Gateway::new(&spec);
    let mut sent = |now: u64, source: &str| {
        gateway.run_at(now, LAN, &ethernet(LAN_MAC, &packet(source, "10.9.0.2", 100, 9)));
        gateway.made().len()
    };
    assert_eq!([0; 4].map(|_| sent(1, "10.0.0.2")), [1, 1, 0, 0]);
    // Nobody of this address is known, so its error finds no way; it is counted all the same.
    assert_eq!([0; 3].map(|_| sent(1, "10.0.0.9")), [1, 0, 0]);
    assert_eq!([0; 3].map(|_| sent(1_000_000_001, "10.0.0.2")), [1, 1, 0]);
}

/// The inner fragments put together again, each checked.
fn reassembled(frames: &[&[u8]], outer: usize, limit: usize) -> (Vec<u8>, Vec<u16>) {
    let (mut data, mut identifications) = (Vec::new(), Vec::new());
    for (index, frame) in frames.iter().enumerate() {
        let piece = &frame[outer..];
        assert!(piece.len() <= limit, "{} bytes", piece.len());
        assert_eq!(checksum(&[&piece[..20]]), 0);
        let word = u16::from_be_bytes([piece[6], piece[7]]);
        assert_eq!(usize::from(word & 0x1fff) * 8, data.len());
        assert_eq!(word & 0x2000 != 0, index + 1 < frames.len());
        identifications.push(u16::from_be_bytes([piece[4], piece[5]]));
        data.extend(&piece[20..]);
    }
    identifications.dedup();
    (data, identifications)
}

#[test]
fn what_may_be_fragmented_is_cut_before_it_is_encapsulated() {
    let mut gateway = Gateway::new(&into_a_tunnel(|_| {}));
    let large = may_fragment(packet("10.0.0.2", "10.1.0.2", 4000, 64));
    let (outcome, first) = gateway.run(LAN, &ethernet(LAN_MAC, &large));
    assert_eq!(outcome.verdict, Verdict::Send(WAN));
    let made = gateway.made();
    assert!(made.iter().all(|(verdict, _)| *verdict == Verdict::Send(WAN)));
    let frames: Vec<&[u8]> =
        std::iter::once(first.as_slice()).chain(made.iter().map(|(_, frame)| &frame[..])).collect();
    assert_eq!(frames.len(), 3);
    for frame in &frames {
        assert_eq!(checksum(&[&frame[14..34]]), 0, "outer header");
        assert_eq!(u16::from_be_bytes([frame[16], frame[17]]) as usize, frame.len() - 14);
        assert_eq!(frame[14 + 24 + 8], 63, "TTL lowered once");
    }
    let (data, identifications) = reassembled(&frames, 14 + 24, 1476);
    assert_eq!((data.as_slice(), identifications), (&large[20..], vec![7]));
    assert_eq!(gateway.stats.slot(0).unwrap().tx_packets.read(), 3);
}

#[test]
fn fragments_of_one_packet_share_source_port_and_flow_label() {
    let udp = UdpSpec {
        kind: UdpKind::Fou,
        port: 5555,
        source_port: SourcePort::Flow,
        checksum: UdpChecksum::Full,
    };
    let change = |spec: &mut TunnelSpec| {
        (spec.local, spec.remote) = (address("2001:db8::1"), Remote::One(address("2001:db8::2")));
        spec.udp = Some(udp);
    };
    let mut gateway = Gateway::new(&into_a_tunnel(change));
    let large = may_fragment(packet("10.0.0.2", "10.1.0.2", 3000, 64));
    let (_, first) = gateway.run(LAN, &ethernet(LAN_MAC, &large));
    let made = gateway.made();
    assert_eq!(made.len(), 2);
    for (_, later) in &made {
        assert_eq!((&later[14..18], &later[54..56]), (&first[14..18], &first[54..56]));
    }
}

#[test]
fn a_smaller_link_cuts_plain_packets_too() {
    let mut spec = two_ports();
    spec.interfaces[1].mtu = 1000;
    let mut gateway = Gateway::new(&spec);
    let large = may_fragment(packet("10.0.0.2", "192.0.2.2", 1500, 64));
    let (outcome, first) = gateway.run(LAN, &ethernet(LAN_MAC, &large));
    assert_eq!(outcome.verdict, Verdict::Send(WAN));
    let made = gateway.made();
    let (data, _) = reassembled(&[&first, &made[0].1], 14, 1000);
    assert_eq!(data, large[20..]);
}

#[test]
fn a_tunnel_below_1280_takes_ipv6_whole_and_cuts_the_outer_packet() {
    for (local, remote, header) in [("192.0.2.1", "192.0.2.2", 20), ("2001:db8::1", "2001:db8::2", 48)] {
        let change = |spec: &mut TunnelSpec| {
            (spec.local, spec.remote, spec.mtu) = (address(local), Remote::One(address(remote)), Some(1000));
        };
        let mut gateway = Gateway::new(&into_a_tunnel(change));
        let inner = packet("fd00::2", "fd01::2", 1280, 64);
        let (outcome, first) = gateway.run(LAN, &ethernet(LAN_MAC, &inner));
        assert_eq!(outcome.verdict, Verdict::Send(WAN));
        let made = gateway.made();
        assert_eq!(made.len(), 1);
        let limit = 1000 + if header == 20 { 24 } else { 44 };
        let mut data: Vec<u8> = Vec::new();
        for frame in [&first, &made[0].1] {
            assert_eq!(frame[..14], first[..14]);
            let piece = &frame[14..];
            assert!(piece.len() <= limit, "{} of {limit} bytes", piece.len());
            if header == 20 {
                assert_eq!(checksum(&[&piece[..20]]), 0);
                assert_eq!(piece[6] & 0x40, 0, "don't fragment");
                assert_ne!(piece[4..6], [0, 0], "identification");
                assert_eq!(piece[4..6], first[18..20]);
            } else {
                assert_eq!((piece[6], piece[40]), (44, 47));
                assert_eq!(piece[44..48], first[58..62]);
            }
            data.extend(&piece[header..]);
        }
        let mut lowered = inner.clone();
        lowered[7] -= 1;
        assert_eq!(data, [&[0, 0, 0x86, 0xdd], lowered.as_slice()].concat());
        assert_eq!(gateway.stats.slot(0).unwrap().tx_packets.read(), 1);
    }
}

#[test]
fn an_answer_to_a_ping_is_a_packet_of_its_own() {
    let mut gateway = Gateway::new(&into_a_tunnel(|_| {}));
    let mut message = vec![8, 0, 0, 0, 1, 2, 3, 4, 9];
    let sum = checksum(&[&message]).to_be_bytes();
    message[2..4].copy_from_slice(&sum);
    let ping = ip(address("10.0.0.2"), address("192.0.2.1"), 1, 0, 1, &message);
    assert_eq!(gateway.run(LAN, &ethernet(LAN_MAC, &ping)).0.verdict, Verdict::Consumed);
    let made = gateway.made();
    let [(Verdict::Send(LAN), frame)] = &made[..] else { panic!("{made:?}") };
    assert_eq!((frame[14 + 8], frame[14 + 20], checksum(&[&frame[34..]])), (64, 0, 0));
}

#[test]
fn only_single_hosts_that_can_be_reached_are_answered() {
    let mut spec = into_a_tunnel(|spec| spec.addresses = ["fe80::9/64".parse().unwrap()].into());
    spec.tunnels.push(TunnelSpec {
        addresses: ["fe80::8/64".parse().unwrap()].into(),
        ..tunnel("u", 1, Encap::Ip, "192.0.2.1", "192.0.2.3")
    });
    spec.routes.push(route(
        "0.0.0.0/0",
        RouteTarget::Gateway { address: address("192.0.2.2"), interface: InterfaceId(1) },
    ));
    let mut gateway = Gateway::new(&spec);
    for source in ["255.255.255.255", "224.0.0.5", "127.0.0.1", "0.0.0.0"] {
        let ping = ip(address(source), address("192.0.2.1"), 1, 0, 9, &[8, 0, 0xf7, 0xff, 0, 0, 0, 0]);
        gateway.run(LAN, &ethernet(LAN_MAC, &ping));
        assert_eq!(gateway.made(), [], "{source}");
    }
    // A neighbour inside a tunnel by its link-local address: answered into the same tunnel.
    let mut message = vec![128, 0, 0, 0, 0, 1, 0, 2];
    let pseudo = pseudo_header(address("fe80::1"), address("fe80::9"), 58, message.len());
    let sum = checksum(&[&pseudo, &message]).to_be_bytes();
    message[2..4].copy_from_slice(&sum);
    let ping = ip(address("fe80::1"), address("fe80::9"), 58, 0, 9, &message);
    let outer = ip(
        address("192.0.2.2"),
        address("192.0.2.1"),
        47,
        0,
        64,
        &[&[0, 0, 0x86, 0xdd], ping.as_slice()].concat(),
    );
    assert_eq!(gateway.run(WAN, &ethernet(WAN_MAC, &outer)).0.verdict, Verdict::Consumed);
    let made = gateway.made();
    let [(Verdict::Send(WAN), frame)] = &made[..] else { panic!("{made:?}") };
    assert_eq!((frame[14 + 9], frame[14 + 24 + 40]), (47, 129));
}

/// An ICMPv4 error from a router to 192.0.2.1 about `quote`.
fn router_says(kind: u8, code: u8, mtu: u16, quote: &[u8]) -> Vec<u8> {
    let mut message = [&[kind, code, 0, 0, 0, 0], mtu.to_be_bytes().as_slice(), quote].concat();
    let sum = checksum(&[&message]).to_be_bytes();
    message[2..4].copy_from_slice(&sum);
    ethernet(WAN_MAC, &ip(address("192.0.2.77"), address("192.0.2.1"), 1, 0, 60, &message))
}

/// What the gateway sends for this packet, without Ethernet.
fn outer_of(gateway: &mut Gateway, inner: &[u8]) -> Vec<u8> {
    let (outcome, frame) = gateway.run(LAN, &ethernet(LAN_MAC, inner));
    assert_eq!(outcome.verdict, Verdict::Send(WAN));
    frame[14..].to_vec()
}

#[test]
fn errors_about_outer_packets_reach_the_inner_sender() {
    let mut gateway = Gateway::new(&into_a_tunnel(|spec| spec.key = Some(5)));
    for (source, destination, too_big, unreachable) in
        [("10.0.0.2", "10.1.0.2", (3, 4, 1372), (3, 1, 0)), ("fd00::2", "fd01::2", (2, 0, 1372), (1, 3, 0))]
    {
        let inner = packet(source, destination, 1400, 64);
        let outer = outer_of(&mut gateway, &inner);
        // As it left: its TTL one less. Routers quote as much as fits; 600 bytes here.
        let sent = outer[28..].to_vec();
        // Both ends of the tunnel are IPv4, so an IPv6 sender is told from another of the box's addresses.
        let speaker = if source == "10.0.0.2" { "192.0.2.1" } else { "fd00::1" };
        for (kind, code, mtu, expected) in
            [(3, 4, 1400, too_big), (3, 1, 0, unreachable), (11, 0, 0, unreachable)]
        {
            let error = router_says(kind, code, mtu, &outer[..600]);
            assert_eq!(gateway.run(WAN, &error).0.verdict, Verdict::Consumed);
            assert_eq!(error_about(&gateway.made(), speaker, &sent[..600 - 28]), expected);
        }
    }
}

#[test]
fn errors_through_a_stack_are_taken_off_layer_by_layer() {
    let udp = UdpSpec {
        kind: UdpKind::Fou,
        port: 5555,
        source_port: SourcePort::Flow,
        checksum: UdpChecksum::Full,
    };
    let mut spec = into_a_tunnel(|spec| {
        (spec.local, spec.remote) = (address("203.0.113.1"), Remote::One(address("198.51.100.7")));
    });
    spec.tunnels
        .push(TunnelSpec { udp: Some(udp), ..tunnel("around", 1, Encap::Ip, "192.0.2.1", "192.0.2.2") });
    spec.routes.push(route("198.51.100.7/32", RouteTarget::Tunnel(TunnelId(1))));
    let mut gateway = Gateway::new(&spec);
    let outer = outer_of(&mut gateway, &packet("10.0.0.2", "10.1.0.2", 1300, 64));
    assert_eq!(gateway.run(WAN, &router_says(3, 4, 1300, &outer[..200])).0.verdict, Verdict::Consumed);
    // 28 bytes of FOU/IPv4 and 24 of GRE/IPv4.
    assert_eq!(error_about(&gateway.made(), "203.0.113.1", &outer[52..200]), (3, 4, 1300 - 52));
}

#[test]
fn forged_and_useless_errors_tell_nobody() {
    let mut gateway = Gateway::new(&into_a_tunnel(|spec| spec.key = Some(5)));
    let outer = outer_of(&mut gateway, &packet("10.0.0.2", "10.1.0.2", 1400, 64));
    let changed = |at: usize, byte: u8| {
        let mut outer = outer[..200].to_vec();
        outer[at] = byte;
        outer
    };
    let host = Verdict::Kernel(Ingress::Interface(InterfaceId(1)));
    for (what, error, verdict) in [
        ("another remote end", router_says(3, 4, 1400, &changed(19, 9)), host),
        ("another source", router_says(3, 4, 1400, &changed(15, 9)), host),
        ("another key", router_says(3, 4, 1400, &changed(27, 9)), host),
        ("another protocol", router_says(3, 4, 1400, &changed(9, 6)), host),
        ("no tunnel header", router_says(3, 4, 1400, &outer[..22]), host),
        ("another kind of message", router_says(12, 0, 0, &outer[..200]), host),
        ("an MTU above what is sent", router_says(3, 4, 1500, &outer[..200]), Verdict::Consumed),
        ("an MTU below the headers", router_says(3, 4, 20, &outer[..200]), Verdict::Consumed),
        ("MTU 0, as old routers say", router_says(3, 4, 0, &outer[..200]), Verdict::Consumed),
        ("eight bytes quoted", router_says(3, 4, 1400, &outer[..28]), Verdict::Consumed),
        ("an inner header cut short", router_says(3, 4, 1400, &outer[..47]), Verdict::Consumed),
    ] {
        assert_eq!(gateway.run(WAN, &error).0.verdict, verdict, "{what}");
        assert_eq!(gateway.made(), [], "{what}");
    }
    let mut damaged = router_says(3, 4, 1400, &outer[..200]);
    damaged[60] ^= 1;
    assert_eq!(gateway.run(WAN, &damaged).0.verdict, Verdict::Drop(DropReason::IcmpChecksum));
    // A sender that lets its packets be fragmented has nothing to learn.
    let outer = outer_of(&mut gateway, &may_fragment(packet("10.0.0.2", "10.1.0.2", 1400, 64)));
    assert_eq!(gateway.run(WAN, &router_says(3, 4, 1400, &outer[..200])).0.verdict, Verdict::Consumed);
    assert_eq!(gateway.made(), []);
}
