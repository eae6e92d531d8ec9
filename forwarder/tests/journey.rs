//! What one gateway puts into a tunnel, another takes out unchanged; and no bytes whatsoever upset either.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // A test may fail.

mod common;

use common::*;
use forwarder::table::*;
use forwarder::verdict::{DropReason, Ingress, Verdict};
use proptest::prelude::*;
use std::net::IpAddr;

/// Verifies every checksum and length of an IP packet, down through the headers that tunnels add. A reader of its own:
/// it shares no code with what it checks.
fn verify(packet: &[u8]) {
    let (protocol, header, source, destination): (u8, usize, IpAddr, IpAddr) = match packet[0] >> 4 {
        4 => {
            assert_eq!(checksum(&[&packet[..20]]), 0, "IPv4 header checksum");
            assert_eq!(usize::from(u16::from_be_bytes([packet[2], packet[3]])), packet.len());
            let [source, destination] = [12, 16].map(|at| <[u8; 4]>::try_from(&packet[at..at + 4]).unwrap());
            (packet[9], 20, source.into(), destination.into())
        }
        6 => {
            assert_eq!(usize::from(u16::from_be_bytes([packet[4], packet[5]])) + 40, packet.len());
            let [source, destination] = [8, 24].map(|at| <[u8; 16]>::try_from(&packet[at..at + 16]).unwrap());
            (packet[6], 40, source.into(), destination.into())
        }
        version => panic!("IP version {version}"),
    };
    let payload = &packet[header..];
    match protocol {
        4 | 41 => verify(payload),
        47 => verify_gre(payload),
        17 => {
            assert_eq!(usize::from(u16::from_be_bytes([payload[4], payload[5]])), payload.len());
            if payload[6..8] != [0, 0] {
                let pseudo = pseudo_header(source, destination, 17, payload.len());
                assert_eq!(checksum(&[&pseudo, payload]), 0, "UDP checksum");
            }
            match u16::from_be_bytes([payload[2], payload[3]]) {
                5555 => verify_gre(&payload[8..]),
                6666 => verify(&payload[8..]),
                7777 if payload[9] == 47 => verify_gre(&payload[12..]),
                7777 => verify(&payload[12..]),
                _ => {}
            }
        }
        _ => {}
    }
}

fn verify_gre(packet: &[u8]) {
    let mut len = 4;
    for bit in [0x80, 0x20, 0x10] {
        if packet[0] & bit != 0 {
            len += 4;
        }
    }
    if packet[0] & 0x80 != 0 {
        assert_eq!(checksum(&[packet]), 0, "GRE checksum");
    }
    verify(&packet[len..]);
}

/// Everything that changes a tunnel's headers.
fn any_tunnel(name: &'static str, slot: u32) -> impl Strategy<Value = TunnelSpec> {
    let udp = (any::<bool>(), any::<Option<u16>>(), 0usize..4).prop_map(|(full, port, kind)| {
        let checksum = if full { UdpChecksum::Full } else { UdpChecksum::Zero };
        (checksum, port.map_or(SourcePort::Flow, SourcePort::Fixed), kind)
    });
    (any::<[bool; 4]>(), any::<Option<u32>>(), any::<[u8; 4]>(), udp).prop_map(
        move |(
            [is_gre, is_ipv6, checksum, sequence],
            key,
            [ttl, dscp, df, ecn],
            (udp_checksum, source_port, kind),
        )| {
            let (local, remote) =
                if is_ipv6 { ("2001:db8::1", "2001:db8::2") } else { ("192.0.2.1", "192.0.2.2") };
            let encap = if is_gre { Encap::Gre } else { Encap::Ip };
            TunnelSpec {
                key: key.filter(|_| is_gre),
                checksum: checksum && is_gre,
                sequence: sequence && is_gre,
                ttl: if ttl == 0 { Ttl::Inherit } else { Ttl::Fixed(ttl) },
                dscp: [Dscp::Inherit, Dscp::Uniform, Dscp::Fixed(dscp & 63)][usize::from(dscp) % 3],
                df: [Df::Set, Df::Inherit, Df::Clear][usize::from(df) % 3],
                ecn: [Ecn::Rfc6040, Ecn::Off][usize::from(ecn) % 2],
                udp: match (kind, is_gre) {
                    (0, _) => None,
                    (1, true) => Some((UdpKind::Fou, 5555)),
                    (1, false) => Some((UdpKind::Fou, 6666)),
                    (2, true) => Some((UdpKind::GreInUdp, 5555)),
                    (2, false) => Some((UdpKind::Gue1, 6666)),
                    _ => Some((UdpKind::Gue, 7777)),
                }
                .map(|(kind, port)| UdpSpec {
                    kind,
                    port,
                    source_port,
                    checksum: udp_checksum,
                }),
                ..tunnel(name, slot, encap, local, remote)
            }
        },
    )
}

/// Bytes of a tunnel's headers, by the RFCs' lengths.
fn headers(spec: &TunnelSpec) -> usize {
    let ip = if spec.local.is_ipv4() { 20 } else { 40 };
    let udp = spec.udp.map_or(0, |udp| if udp.kind == UdpKind::Gue { 12 } else { 8 });
    let fields =
        [spec.checksum, spec.key.is_some(), spec.sequence].into_iter().filter(|field| *field).count();
    let gre = if spec.encap == Encap::Gre { 4 + 4 * fields } else { 0 };
    ip + udp + gre
}

/// The other end's view of a tunnel.
fn mirrored(spec: &TunnelSpec) -> TunnelSpec {
    let Remote::One(remote) = spec.remote else { panic!("only receives") };
    TunnelSpec { local: remote, remote: Remote::One(spec.local), ..spec.clone() }
}

fn any_inner() -> impl Strategy<Value = Vec<u8>> {
    (
        any::<bool>(),
        (any::<u16>(), 0..5000u16),
        any::<u8>(),
        3u8..,
        prop::collection::vec(any::<u8>(), 0..600),
    )
        .prop_map(|(is_ipv6, ports, class, ttl, data)| {
            let (source, destination) =
                if is_ipv6 { ("fd00::2", "fd01::2") } else { ("10.0.0.2", "10.1.0.2") };
            udp(address(source), address(destination), ports, class, ttl, &data)
        })
}

/// A gateway whose routes to the far network lead into the first of these tunnels.
fn near(tunnels: Vec<TunnelSpec>) -> Spec {
    let into = || RouteTarget::Tunnel(TunnelId(0));
    Spec { tunnels, routes: vec![route("10.1.0.0/24", into()), route("fd01::/64", into())], ..two_ports() }
}

/// The gateway at the other end: the addresses of both ports swapped, the far network behind `lan`.
fn far(tunnels: Vec<TunnelSpec>) -> Spec {
    let mut spec = two_ports();
    spec.interfaces[0].addresses = vec!["10.1.0.1/24".parse().unwrap(), "fd01::1/64".parse().unwrap()];
    spec.interfaces[1].addresses = vec!["192.0.2.2/24".parse().unwrap(), "2001:db8::2/64".parse().unwrap()];
    for (neighbor, text) in spec.neighbors.iter_mut().zip(["10.1.0.2", "fd01::2", "192.0.2.1", "2001:db8::1"])
    {
        neighbor.address = address(text);
    }
    Spec { tunnels, ..spec }
}

/// The inner packet after two gateways have lowered its TTL, its DSCP perhaps replaced where that is uniform.
fn two_hops_later(packet: &[u8], class: u8) -> Vec<u8> {
    let mut packet = packet.to_vec();
    if packet[0] >> 4 == 4 {
        packet[8] -= 2;
        packet[1] = class;
        packet[10..12].copy_from_slice(&[0, 0]);
        let sum = checksum(&[&packet[..20]]).to_be_bytes();
        packet[10..12].copy_from_slice(&sum);
    } else {
        packet[7] -= 2;
        packet[0] = 0x60 | class >> 4;
        packet[1] = class << 4 | packet[1] & 0x0f;
    }
    packet
}

fn class_of(packet: &[u8]) -> u8 {
    if packet[0] >> 4 == 4 { packet[1] } else { packet[0] << 4 | packet[1] >> 4 }
}

proptest! {
    // A failing case is printed whole, so no file of seeds is kept.
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_one_end_sends_the_other_takes_out_unchanged(spec in any_tunnel("t", 0), inner in any_inner()) {
        let mut sender = Gateway::new(&near(vec![spec.clone()]));
        let mut receiver = Gateway::new(&far(vec![mirrored(&spec)]));
        let (outcome, frame) = sender.run(LAN, &ethernet(LAN_MAC, &inner));
        prop_assert_eq!(outcome.verdict, Verdict::Send(WAN));
        verify(&frame[14..]);
        let (outcome, frame) = receiver.run(WAN, &ethernet(WAN_MAC, &frame[14..]));
        prop_assert_eq!(outcome.verdict, Verdict::Send(LAN));
        // DSCP comes back out changed only where a fixed one is copied inwards, which no setting asks for.
        prop_assert_eq!(frame[14..].to_vec(), two_hops_later(&inner, class_of(&inner)));
        let (sent, taken) = (sender.stats.slot(0).unwrap(), receiver.stats.slot(0).unwrap());
        prop_assert_eq!((sent.tx_packets.read(), sent.tx_bytes.read()), (1, inner.len() as u64));
        prop_assert_eq!((taken.rx_packets.read(), taken.rx_bytes.read()), (1, inner.len() as u64));
    }

    #[test]
    fn a_stack_goes_on_and_comes_off_in_one_pass(
        inside in any_tunnel("inside", 0),
        around in any_tunnel("around", 1),
        inner in any_inner(),
    ) {
        // The inside tunnel's ends are elsewhere; the way to its remote leads into the other one.
        let (local, remote) = if inside.local.is_ipv4() {
            ("203.0.113.1", "198.51.100.7")
        } else {
            ("2001:db8:1::1", "2001:db8:2::7")
        };
        let inside = TunnelSpec { local: address(local), remote: Remote::One(address(remote)), ..inside };
        let mut spec = near(vec![inside.clone(), around.clone()]);
        spec.routes.push(route(&format!("{remote}/{}", if inside.local.is_ipv4() { 32 } else { 128 }),
            RouteTarget::Tunnel(TunnelId(1))));
        // The room in front of a received packet, its own Ethernet header taken off.
        prop_assume!(headers(&inside) + headers(&around) <= forwarder::frame::HEADROOM);
        let mut sender = Gateway::new(&spec);
        let mut receiver = Gateway::new(&far(vec![mirrored(&inside), mirrored(&around)]));
        let (outcome, frame) = sender.run(LAN, &ethernet(LAN_MAC, &inner));
        prop_assert_eq!(outcome.verdict, Verdict::Send(WAN));
        verify(&frame[14..]);
        let (outcome, back) = receiver.run(WAN, &ethernet(WAN_MAC, &frame[14..]));
        prop_assert_eq!(outcome.verdict, Verdict::Send(LAN));
        let uniform = [&inside, &around].map(|spec| spec.dscp == Dscp::Uniform);
        if uniform == [false, false] {
            prop_assert_eq!(back[14..].to_vec(), two_hops_later(&inner, class_of(&inner)));
        }
        for slot in 0..2 {
            prop_assert_eq!(sender.stats.slot(slot).unwrap().tx_packets.read(), 1);
            prop_assert_eq!(receiver.stats.slot(slot).unwrap().rx_packets.read(), 1);
        }
        let overhead = frame.len() - 14 - inner.len();
        prop_assert_eq!(usize::from(sender.tables.summaries()[0].overhead), overhead);
    }

    #[test]
    fn damaged_packets_leave_under_a_verdict(
        spec in any_tunnel("t", 0),
        inner in any_inner(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut sender = Gateway::new(&near(vec![spec.clone()]));
        let mut receiver = Gateway::new(&far(vec![mirrored(&spec)]));
        let (_, frame) = sender.run(LAN, &ethernet(LAN_MAC, &inner));
        let mut frame = ethernet(WAN_MAC, &frame[14..]);
        for (at, byte) in damage {
            let at = at.index(frame.len());
            frame[at] = byte;
        }
        frame.truncate(cut.index(frame.len()) + 1);
        let (outcome, left) = receiver.run(WAN, &frame);
        match outcome.verdict {
            // What the damage did to the payload is the receiver's matter; what is forwarded is an IP packet.
            Verdict::Send(_) => {
                let packet = &left[14..];
                let (len, sum) = match packet[0] >> 4 {
                    4 => (2, checksum(&[&packet[..usize::from(packet[0] & 15) * 4]])),
                    _ => (4, 0),
                };
                let header = if len == 4 { 40 } else { 0 };
                prop_assert_eq!(usize::from(u16::from_be_bytes([packet[len], packet[len + 1]])) + header, packet.len());
                prop_assert_eq!(sum, 0);
            }
            Verdict::Kernel(Ingress::Interface(_)) => prop_assert_eq!(left, frame),
            Verdict::Kernel(Ingress::Tunnel(_)) | Verdict::Consumed | Verdict::Drop(_) => {}
            Verdict::Held => prop_assert!(false, "no tunnel here keeps fragments"),
        }
    }

    #[test]
    fn any_bytes_leave_under_a_verdict(spec in any_tunnel("t", 0), bytes in prop::collection::vec(any::<u8>(), 0..200), ethertype in 0usize..4) {
        let mut gateway = Gateway::new(&far(vec![mirrored(&spec)]));
        let mut frame = [WAN_MAC.0.as_slice(), &PEER_MAC.0, &bytes].concat();
        if let Some(field) = frame.get_mut(12..14) {
            field.copy_from_slice([[0x08, 0], [0x86, 0xdd], [0x81, 0], [0x08, 0x06]][ethertype].as_slice());
        }
        gateway.run(WAN, &frame);
    }
}

/// Runs one packet through a gateway with one GRE tunnel and tells how it died.
fn death(change: impl Fn(&mut TunnelSpec), packet: &[u8]) -> (Verdict, Gateway) {
    let mut spec = tunnel("t", 0, Encap::Gre, "192.0.2.2", "192.0.2.1");
    change(&mut spec);
    let mut gateway = Gateway::new(&far(vec![spec]));
    let (outcome, _) = gateway.run(WAN, &ethernet(WAN_MAC, packet));
    (outcome.verdict, gateway)
}

fn gre(first: [u8; 4], payload: &[u8]) -> Vec<u8> {
    ip(address("192.0.2.1"), address("192.0.2.2"), 47, 0, 64, &[first.as_slice(), payload].concat())
}

#[test]
fn a_drop_counts_for_the_tunnel_that_the_packet_was_in() {
    let stray = udp(address("10.0.0.2"), address("10.9.9.9"), (1, 2), 0, 64, b"nowhere");
    let (verdict, gateway) = death(|_| {}, &gre([0, 0, 8, 0], &stray));
    assert_eq!(verdict, Verdict::Drop(DropReason::NoRoute));
    let counters = gateway.stats.slot(0).unwrap();
    assert_eq!((counters.rx_packets.read(), counters.dropped.of(DropReason::NoRoute).read()), (1, 1));
}

#[test]
fn a_packet_that_no_tunnel_takes_counts_for_none() {
    let (verdict, gateway) = death(|spec| spec.key = Some(0), &gre([0, 0, 8, 0], &[0x45; 40]));
    assert_eq!(verdict, Verdict::Drop(DropReason::NoTunnel));
    assert_eq!(gateway.stats.slot(0).unwrap().dropped.total(), 0);
}

#[test]
fn closest_sender_prefix_wins() {
    let receiver = |name: &str, slot, senders: &[&str]| TunnelSpec {
        remote: Remote::Senders(senders.iter().map(|net| net.parse().unwrap()).collect()),
        ..tunnel(name, slot, Encap::Gre, "192.0.2.2", "192.0.2.1")
    };
    let spec = far(vec![
        receiver("any", 0, &["0.0.0.0/0"]),
        receiver("net", 1, &["192.0.2.0/25", "198.51.100.0/24"]),
        tunnel("one", 2, Encap::Gre, "192.0.2.2", "192.0.2.1"),
    ]);
    let mut gateway = Gateway::new(&spec);
    let inner = udp(address("10.0.0.2"), address("10.1.0.2"), (1, 2), 0, 64, b"");
    for (sender, slot) in [("192.0.2.1", 2), ("192.0.2.9", 1), ("198.51.100.3", 1), ("192.0.2.200", 0)] {
        let packet = [&[0, 0, 8, 0], inner.as_slice()].concat();
        let packet = ip(address(sender), address("192.0.2.2"), 47, 0, 64, &packet);
        let before = gateway.stats.slot(slot).unwrap().rx_packets.read();
        gateway.run(WAN, &ethernet(WAN_MAC, &packet));
        assert_eq!(gateway.stats.slot(slot).unwrap().rx_packets.read(), before + 1, "{sender}");
    }
}

#[test]
fn shares_of_a_route_follow_the_weights_and_keep_a_flow_together() {
    let mut spec = near(vec![
        tunnel("a", 0, Encap::Gre, "192.0.2.1", "192.0.2.2"),
        tunnel("b", 1, Encap::Ip, "192.0.2.1", "192.0.2.2"),
    ]);
    let to = |tunnel, weight, priority| RouteSpec {
        weight,
        priority,
        ..route("10.1.0.0/24", RouteTarget::Tunnel(TunnelId(tunnel)))
    };
    spec.routes = vec![to(0, 1, 100), to(1, 3, 100), to(0, 1000, 200)];
    let mut gateway = Gateway::new(&spec);
    for flow in 0..4000u16 {
        let packet = udp(address("10.0.0.2"), address("10.1.0.2"), (1000 + flow, 53), 0, 64, b"");
        let first = gateway.run(LAN, &ethernet(LAN_MAC, &packet));
        let again = gateway.run(LAN, &ethernet(LAN_MAC, &packet));
        assert_eq!(first.0.trail, again.0.trail);
    }
    let sent = [0, 1].map(|slot| gateway.stats.slot(slot).unwrap().tx_packets.read());
    assert!((1800..2200).contains(&sent[0]), "{sent:?}");
}

#[test]
fn one_flow_has_one_source_port_and_label_and_other_flows_have_others() {
    let mut spec = tunnel("t", 0, Encap::Gre, "2001:db8::1", "2001:db8::2");
    spec.udp = Some(UdpSpec {
        kind: UdpKind::Fou,
        port: 5555,
        source_port: SourcePort::Flow,
        checksum: UdpChecksum::Full,
    });
    let mut gateway = Gateway::new(&near(vec![spec]));
    let mut seen = std::collections::HashSet::new();
    for flow in 0..200u16 {
        let entropy = |data: &[u8], gateway: &mut Gateway| {
            let packet = udp(address("10.0.0.2"), address("10.1.0.2"), (flow, 53), 0, 64, data);
            let (_, frame) = gateway.run(LAN, &ethernet(LAN_MAC, &packet));
            let label = u32::from_be_bytes([0, frame[15] & 0xf, frame[16], frame[17]]);
            (label, u16::from_be_bytes([frame[54], frame[55]]))
        };
        let first = entropy(b"one", &mut gateway);
        assert_eq!(first, entropy(b"another", &mut gateway));
        assert!(first.0 != 0 && first.1 >= 49152, "{first:?}");
        seen.insert(first);
    }
    assert!(seen.len() > 195, "{}", seen.len());
}

#[test]
fn a_subnets_broadcast_is_the_hosts_and_a_unicast_packet_in_a_broadcast_frame_nobodys() {
    let mut gateway = Gateway::new(&two_ports());
    let everyone = Mac([0xff; 6]);
    let mut verdict = |mac, destination: &str| {
        let packet = udp(address("10.0.0.2"), address(destination), (1, 2), 0, 64, b"");
        gateway.run(LAN, &ethernet(mac, &packet)).0.verdict
    };
    let host = Verdict::Kernel(Ingress::Interface(InterfaceId(0)));
    assert_eq!(verdict(everyone, "10.0.0.255"), host);
    assert_eq!(verdict(everyone, "255.255.255.255"), host);
    assert_eq!(verdict(LAN_MAC, "10.0.0.255"), host);
    assert_eq!(verdict(LAN_MAC, "10.0.0.1"), host);
    for unicast in ["10.0.0.1", "192.0.2.2", "198.51.100.1"] {
        assert_eq!(verdict(everyone, unicast), Verdict::Drop(DropReason::LinkBroadcast), "{unicast}");
    }
}

#[test]
fn ways_of_a_tunnel_are_chosen_apart_from_the_route_into_it() {
    let mut spec = near(vec![
        tunnel("a", 0, Encap::Gre, "192.0.2.1", "198.51.100.1"),
        tunnel("b", 1, Encap::Gre, "192.0.2.1", "198.51.100.2"),
    ]);
    let gateway = |text: &str| RouteTarget::Gateway { address: address(text), interface: InterfaceId(1) };
    let peer = |last: u8| Mac([2, 0, 0, 0, 0, last]);
    spec.neighbors.truncate(2);
    for last in [11, 12] {
        let text = format!("192.0.2.{last}");
        spec.neighbors.push(NeighborSpec {
            interface: InterfaceId(1),
            address: address(&text),
            mac: peer(last),
        });
        // Weights as large as they may be must not spoil the shares.
        spec.routes.push(RouteSpec { weight: 65535, ..route("198.51.100.0/24", gateway(&text)) });
    }
    spec.routes[0].weight = 65535;
    spec.routes.push(RouteSpec { weight: 65535, ..route("10.1.0.0/24", RouteTarget::Tunnel(TunnelId(1))) });
    let mut gateway = Gateway::new(&spec);
    let mut seen = std::collections::HashMap::new();
    for flow in 0..4000u16 {
        let packet = udp(address("10.0.0.2"), address("10.1.0.2"), (1000 + flow, 53), 0, 64, b"");
        let (_, frame) = gateway.run(LAN, &ethernet(LAN_MAC, &packet));
        *seen.entry((frame[5], frame[14 + 19])).or_insert(0) += 1;
    }
    assert_eq!(seen.len(), 4, "{seen:?}");
    assert!(seen.values().all(|count| (850..1150).contains(count)), "{seen:?}");
}

#[test]
fn padding_behind_an_inner_packet_and_behind_a_datagram_is_cut() {
    let inner = udp(address("10.0.0.2"), address("10.1.0.2"), (1, 2), 0, 64, b"data");
    let for_the_box = udp(address("10.0.0.2"), address("10.1.0.1"), (1, 2), 0, 64, b"data");
    let pad = |packet: &[u8]| [packet, &[0xee; 7]].concat();
    let (verdict, mut gateway) = death(|_| {}, &gre([0, 0, 8, 0], &pad(&inner)));
    assert_eq!(verdict, Verdict::Send(LAN));
    let (outcome, left) = gateway.run(WAN, &ethernet(WAN_MAC, &gre([0, 0, 8, 0], &pad(&for_the_box))));
    assert_eq!((outcome.verdict, left), (Verdict::Kernel(Ingress::Tunnel(TunnelId(0))), for_the_box));

    let in_fou = |spec: &mut TunnelSpec| {
        spec.udp = Some(UdpSpec {
            kind: UdpKind::Fou,
            port: 5555,
            source_port: SourcePort::Flow,
            checksum: UdpChecksum::Zero,
        });
    };
    let payload = [&[0, 0, 8, 0], inner.as_slice()].concat();
    let datagram = udp(address("192.0.2.1"), address("192.0.2.2"), (50000, 5555), 0, 64, &payload);
    let surplus = ip(address("192.0.2.1"), address("192.0.2.2"), 17, 0, 64, &pad(&datagram[20..]));
    assert_eq!(death(in_fou, &surplus).0, Verdict::Send(LAN));
    let mut short = datagram[20..].to_vec();
    short[5] = 7;
    let short = ip(address("192.0.2.1"), address("192.0.2.2"), 17, 0, 64, &short);
    assert_eq!(death(in_fou, &short).0, Verdict::Drop(DropReason::UdpLength));
}

/// A tunnel whose outer checksum covers what is inside.
fn summed() -> TunnelSpec {
    let udp = UdpSpec {
        kind: UdpKind::Fou,
        port: 6666,
        source_port: SourcePort::Flow,
        checksum: UdpChecksum::Full,
    };
    TunnelSpec { udp: Some(udp), ..tunnel("t", 0, Encap::Ip, "2001:db8::1", "2001:db8::2") }
}

/// Sends a packet with padding through that tunnel, whose other end takes it out.
fn goes_through(inner: &[u8], padding: &[u8]) {
    let mut sender = Gateway::new(&near(vec![summed()]));
    let mut receiver = Gateway::new(&far(vec![mirrored(&summed())]));
    let (outcome, frame) = sender.run(LAN, &[ethernet(LAN_MAC, inner).as_slice(), padding].concat());
    assert_eq!(outcome.verdict, Verdict::Send(WAN));
    let (outcome, _) = receiver.run(WAN, &ethernet(WAN_MAC, &frame[14..]));
    assert_eq!(outcome.verdict, Verdict::Send(LAN));
}

#[test]
fn padding_that_looks_like_the_rest_of_a_udp_header_promises_no_checksum() {
    let inner = ip(address("10.0.0.2"), address("10.1.0.2"), 17, 0, 64, &[0x30, 0x39, 0, 53]);
    goes_through(&inner, &[[0, 4, 1, 1].as_slice(), &[0; 18]].concat());
}

#[test]
fn a_checksum_over_other_addresses_than_those_in_front_promises_nothing() {
    // Segment routing (RFC 8754): the datagram's checksum is over the last destination, which is not there yet.
    let (source, last) = (address("fd00::2"), address("fd01::9"));
    let datagram = udp(source, last, (1, 2), 0, 64, b"data")[40..].to_vec();
    let routing = [[17, 2, 4, 1, 0, 0, 0, 0].as_slice(), &octets(last)].concat();
    let inner = ip(source, address("fd01::2"), 43, 0, 64, &[routing, datagram].concat());
    goes_through(&inner, &[]);
}
