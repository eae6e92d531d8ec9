//! The short way does with every packet what the journey does: the same bytes, the same fate, the same counters.
//!
//! The journey alone is what [`Engine::trace`] takes. Packets are of every kind that the short way may take, and many are
//! damaged in one place, so that each of its checks is met by packets that just miss it. Before them come two bursts of one
//! packet, whose front is then known, and to which many of them are alike.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // A test may fail.

mod common;

use common::*;
use forwarder::forward::{BURST, Engine, Host, Outcome, Outcomes};
use forwarder::frame::{Frame, HEADROOM};
use forwarder::stats::{Trail, TunnelStats};
use forwarder::table::*;
use forwarder::verdict::Verdict;
use proptest::prelude::*;

const TUNNELS: usize = 10;

/// A box with tunnels of every sort between the same ends, some of them in others, and routes and clamps over them.
fn gateway(choices: [u8; 8], key: u32) -> Spec {
    let [ttl, dscp, df, ecn, checksum, source_port, clamps, mtu] = choices;
    let pick = |choice: u8, of: usize| usize::from(choice) % of;
    let udp = |kind, port| {
        Some(UdpSpec {
            kind,
            port,
            source_port: [SourcePort::Flow, SourcePort::Fixed(40_000)][pick(source_port, 2)],
            checksum: [UdpChecksum::Full, UdpChecksum::Zero][pick(checksum, 2)],
        })
    };
    let change = |spec: TunnelSpec| TunnelSpec {
        ttl: [Ttl::Fixed(64), Ttl::Inherit][pick(ttl, 2)],
        dscp: [Dscp::Inherit, Dscp::Uniform, Dscp::Fixed(46)][pick(dscp, 3)],
        df: [Df::Set, Df::Inherit, Df::Clear][pick(df, 3)],
        ecn: [Ecn::Rfc6040, Ecn::Off][pick(ecn, 2)],
        mss: [Mss::Auto, Mss::Off, Mss::Fixed { ipv4: Some(1000), ipv6: Some(900) }][pick(clamps, 3)],
        mtu: [None, Some(1250)][pick(mtu, 2)].filter(|_| spec.slot != 3),
        ..spec
    };
    let (ends4, ends6) = (("192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8::2"));
    let gre = |name, slot, (local, remote)| tunnel(name, slot, Encap::Gre, local, remote);
    let ip = |name, slot, (local, remote)| tunnel(name, slot, Encap::Ip, local, remote);
    let tunnels = vec![
        gre("gre4", 0, ends4),
        TunnelSpec { key: Some(key), ..gre("gre6", 1, ends6) },
        ip("ip4", 2, ends4),
        TunnelSpec { udp: udp(UdpKind::Fou, 6666), ..ip("fou6", 3, ends6) },
        TunnelSpec { udp: udp(UdpKind::Gue, 7777), key: Some(0), ..gre("gue4", 4, ends4) },
        TunnelSpec { udp: udp(UdpKind::Gue1, 8888), ..ip("gue1", 5, ends6) },
        // Rides in the FOU tunnel.
        TunnelSpec { sequence: checksum & 4 != 0, ..gre("stacked", 6, ("203.0.113.1", "198.51.100.7")) },
        // Like others but for who sends.
        gre("gre4-sibling", 7, ("192.0.2.1", "192.0.2.3")),
        TunnelSpec { key: Some(key), ..gre("gre6-sibling", 8, ("2001:db8::1", "2001:db8::3")) },
        gre("stacked-sibling", 9, ("203.0.113.1", "198.51.100.8")),
    ];
    assert_eq!(tunnels.len(), TUNNELS);
    let into = |tunnel| RouteTarget::Tunnel(TunnelId(tunnel));
    let mut routes = vec![route("198.51.100.7/32", into(3)), route("198.51.100.8/32", into(3))];
    for tunnel in 0..TUNNELS as u32 {
        routes.push(route(&format!("10.{}.0.0/16", 1 + tunnel), into(tunnel)));
        routes.push(route(&format!("fd{:02x}::/16", 1 + tunnel), into(tunnel)));
    }
    // Two ways, chosen by the flow.
    routes.push(route("10.99.0.0/16", into(0)));
    routes.push(route("10.99.0.0/16", into(6)));
    let mut spec = Spec { tunnels: tunnels.into_iter().map(change).collect(), routes, ..two_ports() };
    spec.tunnels[2].inner_source = ["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()].into();
    if mtu & 4 != 0 {
        spec.tunnels[7].inner_source = ["10.8.0.0/24".parse().unwrap(), "fd00::/8".parse().unwrap()].into();
    }
    for address in ["192.0.2.3", "2001:db8::3"] {
        let neighbor = NeighborSpec { address: common::address(address), ..spec.neighbors[2].clone() };
        spec.neighbors.push(neighbor);
    }
    spec.interfaces.push(InterfaceSpec {
        name: "v".into(),
        vlan: Some(7),
        addresses: vec!["198.18.0.1/24".parse().unwrap()],
        ..spec.interfaces[1].clone()
    });
    if clamps & 8 != 0 {
        spec.clamps.push(ClampSpec {
            on: ClampOn::Interface(InterfaceId(0)),
            input: true,
            output: true,
            prefix: (clamps & 16 != 0).then(|| "10.0.0.0/24".parse().unwrap()),
            ipv4: Some(950),
            ipv6: Some(940),
        });
    }
    spec
}

/// The same seen from the other end, so that what it sends is for this one.
fn peer(spec: &Spec) -> Spec {
    let swap = |tunnel: &TunnelSpec| {
        let Remote::One(remote) = tunnel.remote else { panic!("only receives") };
        TunnelSpec {
            local: remote,
            remote: Remote::One(tunnel.local),
            inner_source: [].into(),
            ..tunnel.clone()
        }
    };
    let mut peer = spec.clone();
    peer.tunnels = spec.tunnels.iter().map(swap).collect();
    peer.interfaces[1].addresses = vec!["192.0.2.2/24".parse().unwrap(), "2001:db8::2/64".parse().unwrap()];
    peer.interfaces[1].mac = PEER_MAC;
    peer.neighbors.truncate(4);
    for (neighbor, address) in peer.neighbors[2..].iter_mut().zip(["192.0.2.1", "2001:db8::1"]) {
        (neighbor.address, neighbor.mac) = (common::address(address), WAN_MAC);
    }
    peer.routes[0] = route("203.0.113.1/32", RouteTarget::Tunnel(TunnelId(3)));
    peer.clamps.clear();
    peer
}

/// A TCP segment in an IP packet: a SYN with an MSS option, or data.
fn tcp(source: &str, destination: &str, syn: bool, mss: u16, class: u8, ttl: u8, data: &[u8]) -> Vec<u8> {
    let (source, destination) = (address(source), address(destination));
    let flags = if syn { 2 } else { 16 };
    let mut segment = vec![0x30, 0x39, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x60, flags, 0xff, 0xff, 0, 0, 0, 0];
    segment.extend([2, 4]);
    segment.extend(mss.to_be_bytes());
    segment.extend(data);
    let sum = checksum(&[&pseudo_header(source, destination, 6, segment.len()), &segment]).to_be_bytes();
    segment[16..18].copy_from_slice(&sum);
    ip(source, destination, 6, class, ttl, &segment)
}

#[derive(Clone, Debug)]
struct Draw {
    is_ipv6: bool,
    kind: u8,
    behind: u8,
    ports: (u16, u16),
    class: u8,
    ttl: u8,
    data: Vec<u8>,
    is_from_tunnel: bool,
    damage: Vec<(prop::sample::Index, u8)>,
    is_repaired: bool,
    is_unsummed: bool,
    cut: Option<prop::sample::Index>,
    padding: u8,
    tag: u8,
    is_alike: bool,
    slack: Option<bool>,
}

impl Draw {
    /// The same by the way that `first` takes.
    fn by_the_way_of(self, first: &Draw) -> Draw {
        Draw {
            is_ipv6: first.is_ipv6,
            // Or of a tunnel like that, or that rides in the one of the first packet, where it is of that one anyway.
            behind: match (first.behind, self.behind) {
                (0, 7) | (7, 0) | (1, 8) | (8, 1) | (6, 9) | (9, 6) | (3, 6 | 9) => self.behind,
                (behind, _) => behind,
            },
            is_from_tunnel: first.is_from_tunnel,
            tag: first.tag,
            ..self
        }
    }

    /// The same as it was sent.
    fn undamaged(self) -> Draw {
        Draw { damage: Vec::new(), is_unsummed: false, cut: None, padding: 0, slack: None, ..self }
    }
}

fn draw() -> impl Strategy<Value = Draw> {
    let ttl = prop_oneof![8 => 2u8.., 1 => 0u8..3];
    let class = prop_oneof![4 => Just(0u8), 2 => any::<u8>()];
    // Bytes that mean something in one header or another.
    let byte = prop_oneof![1 => any::<u8>(), 2 => prop::sample::select(vec![0u8, 1, 2, 3, 4, 8, 0x20, 0x40, 0x45, 0x46, 0x80])];
    let damage = prop_oneof![
        2 => Just(Vec::new()),
        2 => prop::collection::vec((any::<prop::sample::Index>(), byte), 1..3),
    ];
    let cut = prop::option::weighted(0.1, any::<prop::sample::Index>());
    let data = prop_oneof![1 => Just(vec![0; 4]), 6 => prop::collection::vec(any::<u8>(), 0..80), 1 => prop::collection::vec(any::<u8>(), 1200..1500)];
    (
        (any::<bool>(), 0u8..4, prop_oneof![9 => 0u8..TUNNELS as u8, 1 => Just(98)], any::<(u16, u16)>()),
        (class, ttl, data, any::<bool>()),
        (damage, any::<bool>(), prop::bool::weighted(0.1)),
        (
            cut,
            prop_oneof![5 => Just(0u8), 1 => 0u8..9],
            prop_oneof![6 => Just(0u8), 1 => 0u8..9],
            any::<bool>(),
            prop::option::weighted(0.1, any::<bool>()),
        ),
    )
        .prop_map(
            |(
                (is_ipv6, kind, behind, ports),
                (class, ttl, data, is_from_tunnel),
                (damage, is_repaired, is_unsummed),
                (cut, padding, tag, is_alike, slack),
            )| {
                Draw {
                    is_ipv6,
                    kind,
                    behind,
                    ports,
                    class,
                    ttl,
                    data,
                    is_from_tunnel,
                    damage,
                    is_repaired,
                    is_unsummed,
                    cut,
                    padding,
                    tag,
                    is_alike,
                    slack,
                }
            },
        )
}

/// The packet as a frame that the box receives, with the port that receives it.
fn frame(draw: &Draw, far: &mut Gateway) -> (PortId, Vec<u8>) {
    let (near, away) = match draw.is_ipv6 {
        true => ("fd00::2".to_owned(), format!("fd{:02x}::2", 1 + draw.behind)),
        false => ("10.0.0.2".to_owned(), format!("10.{}.0.2", 1 + draw.behind)),
    };
    let packet = match draw.kind {
        0 => udp(address(&near), address(&away), draw.ports, draw.class, draw.ttl, &draw.data),
        1 => tcp(&near, &away, true, draw.ports.0, draw.class, draw.ttl, &draw.data),
        2 => tcp(&near, &away, false, 0, draw.class, draw.ttl, &draw.data),
        // GRE inside, a keepalive where the data begin so.
        _ => ip(address(&near), address(&away), 47, draw.class, draw.ttl, &draw.data),
    };
    let (port, mut bytes) = match draw.is_from_tunnel {
        false => (LAN, ethernet(LAN_MAC, &packet)),
        true => {
            // What the other end sends for it is what this one receives.
            let (_, sent) = far.run(LAN, &ethernet(LAN_MAC, &packet));
            (WAN, sent)
        }
    };
    if draw.tag > 0 && bytes.len() > 14 {
        bytes.splice(12..12, [0x81, 0, 0, draw.tag]);
    }
    if draw.is_unsummed {
        unsum(&mut bytes);
    }
    if let Some(innermost) = draw.slack {
        loosen(&mut bytes, innermost);
    }
    for (at, value) in &draw.damage {
        let at = at.index(bytes.len().min(110));
        bytes[at] = *value;
    }
    if draw.is_repaired {
        repair(&mut bytes);
    }
    if let Some(at) = draw.cut {
        bytes.truncate(at.index(bytes.len()));
    }
    bytes.extend(vec![0x55; usize::from(draw.padding)]);
    (port, bytes)
}

/// Makes the innermost IPv4 packet two bytes shorter than what carries it has room for, or the one around it. What covers
/// all of such a header is right still: it sums to nothing before and after.
fn loosen(bytes: &mut [u8], innermost: bool) {
    let begins =
        |at: &usize| bytes.get(*at..*at + 20).is_some_and(|head| head[0] == 0x45 && checksum(&[head]) == 0);
    let headers: Vec<usize> = (14..bytes.len()).filter(begins).collect();
    let at = if innermost { headers.last() } else { headers.iter().rev().nth(1) };
    if let Some(header) = at.and_then(|at| bytes.get_mut(*at..*at + 20)) {
        let len = u16::from_be_bytes([header[2], header[3]]).saturating_sub(2);
        header[2..4].copy_from_slice(&len.to_be_bytes());
        header[10..12].fill(0);
        let sum = checksum(&[header]).to_be_bytes();
        header[10..12].copy_from_slice(&sum);
    }
}

/// Takes the checksum out of UDP behind the first IP header.
fn unsum(bytes: &mut [u8]) {
    let at = match bytes.get(14) {
        Some(0x45) if bytes.get(23) == Some(&17) => 14 + 20 + 6,
        Some(0x60..0x70) if bytes.get(20) == Some(&17) => 14 + 40 + 6,
        _ => return,
    };
    if let Some(checksum) = bytes.get_mut(at..at + 2) {
        checksum.fill(0);
    }
}

/// Makes the checksum of the first IPv4 header right, so that what was changed in it is met.
fn repair(bytes: &mut [u8]) {
    if let Some(header) = bytes.get_mut(14..34).filter(|header| header[0] == 0x45) {
        header[10..12].fill(0);
        let sum = checksum(&[header]).to_be_bytes();
        header[10..12].copy_from_slice(&sum);
    }
}

/// A tunnel's numbers, and its drops by reason.
type Counted = (Vec<u64>, Vec<(&'static str, u64)>);

fn counters(stats: &TunnelStats) -> Vec<Counted> {
    let of = |slot| {
        let tunnel = stats.slot(slot).unwrap();
        let numbers = [
            &tunnel.rx_packets,
            &tunnel.rx_bytes,
            &tunnel.tx_packets,
            &tunnel.tx_bytes,
            &tunnel.mss_clamped,
            &tunnel.sequence,
        ];
        let dropped = tunnel.dropped.non_zero().map(|(reason, count)| (reason.name(), count));
        (numbers.map(|counter| counter.read()).to_vec(), dropped.collect())
    };
    (0..TUNNELS as u32).map(of).collect()
}

/// An engine with its tables and counters.
struct Gate<'a> {
    tables: &'a Tables,
    engine: Engine,
    stats: TunnelStats,
}

/// What became of each packet, with its bytes, and what was made on top of that.
type Fates = (Vec<(Outcome, Vec<u8>)>, Vec<(Verdict, Trail, Vec<u8>)>);

impl<'a> Gate<'a> {
    fn new(tables: &'a Tables) -> Self {
        let mut stats = TunnelStats::default();
        stats.grow(TUNNELS);
        Gate { tables, engine: Engine::new(Host::Attached, 0, 1), stats }
    }

    /// The burst at once, by the short way where that goes.
    fn forward(&mut self, port: PortId, packets: &[Vec<u8>]) -> Fates {
        let mut buffers: Vec<_> = packets.iter().map(|bytes| buffer(bytes)).collect();
        let mut burst: Vec<_> = buffers
            .iter_mut()
            .zip(packets)
            .map(|(buffer, bytes)| Frame::new(buffer, HEADROOM, bytes.len()))
            .collect();
        let mut outcomes = Outcomes::new();
        self.engine.forward_burst(self.tables, &self.stats, (port, 1), &mut burst, &mut outcomes);
        let sent = outcomes.iter().zip(&burst).map(|(outcome, frame)| (outcome, frame.bytes().to_vec()));
        (sent.collect(), self.made())
    }

    /// Packet by packet on the journey.
    fn trace(&mut self, port: PortId, packets: &[Vec<u8>]) -> Fates {
        let (mut sent, mut made) = (Vec::new(), Vec::new());
        for bytes in packets {
            let mut buffer = buffer(bytes);
            let mut frame = Frame::new(&mut buffer, HEADROOM, bytes.len());
            let outcome = self.engine.trace(self.tables, &self.stats, (port, 1), &mut frame);
            sent.push((outcome.unwrap().0, frame.bytes().to_vec()));
            made.extend(self.made());
        }
        (sent, made)
    }

    fn made(&self) -> Vec<(Verdict, Trail, Vec<u8>)> {
        let made = self.engine.originated().iter();
        made.map(|made| (made.verdict, *made.trail, made.bytes.to_vec())).collect()
    }
}

/// Sends packets both ways through a box of `spec`, which is `gateway`'s with more or without.
fn both_ways(spec: &Spec, gateway: &Spec, draws: Vec<Draw>) -> Result<(), TestCaseError> {
    let mut far = Gateway::new(&peer(gateway));
    let tables = Tables::compile(spec).unwrap();
    let first = draws[0].clone().undamaged();
    let (first_port, first_bytes) = frame(&first, &mut far);
    let draws = draws.into_iter().map(|draw| if draw.is_alike { draw.by_the_way_of(&first) } else { draw });
    let frames: Vec<_> = draws.map(|draw| frame(&draw, &mut far)).collect();
    for port in [LAN, WAN] {
        let of_port: Vec<_> =
            frames.iter().filter(|frame| frame.0 == port).map(|frame| frame.1.clone()).collect();
        let (mut short, mut long) = (Gate::new(&tables), Gate::new(&tables));
        let twice = [first_bytes.clone(), first_bytes.clone()];
        let before = if port == first_port { &twice[..] } else { &[] };
        for burst in [before, before, &of_port] {
            prop_assert_eq!(short.forward(port, burst), long.trace(port, burst));
        }
        prop_assert_eq!(counters(&short.stats), counters(&long.stats));
    }
    Ok(())
}

proptest! {
    #[test]
    fn both_ways_do_the_same(
        choices: [u8; 8], key: u32, draws in prop::collection::vec(draw(), 1..=BURST),
    ) {
        let spec = gateway(choices, key);
        both_ways(&spec, &spec, draws)?;
    }
}

proptest! {
    // Each case compiles thousands of tunnels.
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Where what packets need is asked for ahead of them.
    #[test]
    fn both_ways_do_the_same_with_tables_larger_than_the_caches(
        choices: [u8; 8], key: u32, draws in prop::collection::vec(draw(), 1..=BURST),
    ) {
        let gateway = gateway(choices, key);
        let mut spec = gateway.clone();
        spec.tunnels.extend((TUNNELS as u32..5_000).map(|slot| {
            let sender = format!("100.64.{}.{}", slot >> 8, slot & 0xff);
            tunnel(&format!("more{slot}"), slot, Encap::Gre, "192.0.2.1", &sender)
        }));
        if choices[0] & 4 != 0 {
            // Each in a node of its own.
            let prefix = |net: u32| format!("100.{}.{}.0/25", 65 + (net >> 8), net & 0xff);
            spec.routes.extend((0..2_200).map(|net| route(&prefix(net), RouteTarget::Tunnel(TunnelId(0)))));
        }
        both_ways(&spec, &gateway, draws)?;
    }
}

/// A known front may have a further tunnel of the box behind it, which it knows nothing of.
#[test]
fn a_further_tunnel_behind_a_known_front_is_looked_at_anew() {
    let mut spec = gateway([0; 8], 0);
    let mut far = Gateway::new(&peer(&spec));
    // Whoever sends: so that no sender tells the packets apart.
    spec.tunnels[6].remote = Remote::Senders(["0.0.0.0/0".parse().unwrap()].into());
    for route in spec.routes.iter_mut().filter(|route| route.target == RouteTarget::Tunnel(TunnelId(6))) {
        route.target = RouteTarget::Tunnel(TunnelId(0));
    }
    let tables = Tables::compile(&spec).unwrap();
    let mut out_of = |behind, len| {
        let draw = Draw {
            is_ipv6: false,
            kind: 0,
            behind,
            ports: (1, 2),
            class: 0,
            ttl: 64,
            data: vec![7; len],
            is_from_tunnel: true,
            damage: Vec::new(),
            is_repaired: false,
            is_unsummed: false,
            cut: None,
            padding: 0,
            tag: 0,
            is_alike: false,
            slack: None,
        };
        frame(&draw, &mut far).1
    };
    let (fou, stacked, longer) = (out_of(3, 8), out_of(6, 8), out_of(6, 80));
    let plain = ethernet(WAN_MAC, &udp(address("198.18.0.9"), address("10.0.0.2"), (1, 2), 0, 64, &[7; 8]));
    let (mut short, mut long) = (Gate::new(&tables), Gate::new(&tables));
    let learned = vec![plain, fou.clone(), fou];
    for burst in [vec![stacked], learned.clone(), learned, vec![longer]] {
        let fates = short.forward(WAN, &burst);
        assert!(fates.0.iter().all(|(outcome, _)| matches!(outcome.verdict, Verdict::Send(_))), "{fates:?}");
        assert_eq!(fates, long.trace(WAN, &burst));
    }
    assert_eq!(counters(&short.stats), counters(&long.stats));
}

/// Nothing may go back to who put it into GRE (RFC 2784 §3.1), nor GRE itself out of GRE: also where the front is known, and
/// where it is known from another sender.
#[test]
fn what_would_go_back_is_refused_behind_a_known_front() {
    let spec = gateway([0; 8], 0);
    let tables = Tables::compile(&spec).unwrap();
    let from = |outer: &str, protocol: u8, destination: &str| {
        let (outer, inner) = (address(outer), address(destination));
        let source = address(if inner.is_ipv4() { "10.1.0.9" } else { "fd01::9" });
        let own = address(if outer.is_ipv4() { "192.0.2.1" } else { "2001:db8::1" });
        let kind = if inner.is_ipv4() { [8, 0] } else { [0x86, 0xdd] };
        let key: &[u8] = if outer.is_ipv4() { &[0, 0] } else { &[0x20, 0] };
        let key_value: &[u8] = if outer.is_ipv4() { &[] } else { &[0; 4] };
        let packet = ip(source, inner, protocol, 0, 64, &[0; 24]);
        ethernet(WAN_MAC, &ip(outer, own, 47, 0, 64, &[key, &kind, key_value, &packet].concat()))
    };
    for (senders, hosts) in [
        (["192.0.2.2", "192.0.2.3"], ["192.0.2.2", "192.0.2.3", "10.0.0.2"]),
        (["2001:db8::2", "2001:db8::3"], ["2001:db8::2", "2001:db8::3", "fd00::2"]),
    ] {
        let known = vec![from(senders[0], 59, hosts[2]); 3];
        let then: Vec<_> = senders
            .into_iter()
            .flat_map(|sender| {
                hosts.into_iter().flat_map(move |host| [(sender, 59, host), (sender, 47, host)])
            })
            .map(|(sender, protocol, host)| from(sender, protocol, host))
            .collect();
        let (mut short, mut long) = (Gate::new(&tables), Gate::new(&tables));
        let mut sent = Vec::new();
        for burst in [&known, &known, &then] {
            let fates = short.forward(WAN, burst);
            assert_eq!(fates, long.trace(WAN, burst));
            sent = fates.0.iter().map(|(outcome, _)| matches!(outcome.verdict, Verdict::Send(_))).collect();
        }
        // By sender and host, and then of GRE. The other sender is a host like any other.
        let expected = [[false, false, true, false, true, false], [true, false, false, false, true, false]];
        assert_eq!(sent, expected.concat(), "{senders:?}");
        assert_eq!(counters(&short.stats), counters(&long.stats));
    }
}
