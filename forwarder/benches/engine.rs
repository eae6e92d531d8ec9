//! What the engine costs by itself, without any device: `scripts/bench engine`.
//!
//! Bursts of equal size are written into buffers and forwarded, over and over; a figure is cycles of the time-stamp counter
//! a packet. The same loop without the engine is measured in turn with it and taken off. Of all bursts of a pass the
//! quarter of the fastest is passed by, what lies there is the figure of the pass, and the least of all passes is
//! printed: whatever else the machine does makes bursts slower, never faster.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // A wrong figure may not pass.

#[path = "../tests/common/mod.rs"]
mod common;

use common::*;
use forwarder::forward::{BURST, Engine, Host, Outcomes};
use forwarder::frame::{Frame, HEADROOM};
use forwarder::hint::tsc;
use forwarder::stats::TunnelStats;
use forwarder::table::*;
use forwarder::verdict::Verdict;
use std::hint::black_box;

const PASSES: usize = 5;
const BURSTS: usize = 20_000;

/// Frames of the traffic that hits tables at random: so many that no cache close to the core remembers the last round.
const RANDOM_FRAMES: usize = 1 << 16;

const BUFFER: usize = 2048;

struct Case {
    name: String,
    spec: Spec,
    port: PortId,
    frames: Vec<Vec<u8>>,
}

fn main() {
    println!("{:22}  {:>13}", "CASE", "CYCLES/PACKET");
    let cases: [fn() -> Vec<Case>; 4] =
        [one_tunnel, with_fou, || many_tunnels(100_000), || many_routes(1_000_000)];
    // Words are the names of the cases to be measured; cargo adds a flag of its own.
    let wanted: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let mut names = Vec::new();
    for case in cases.into_iter().flat_map(|make| make()) {
        if wanted.is_empty() || wanted.contains(&case.name) {
            println!("{:22}  {:13.1}", case.name, cycles(&case));
        }
        names.push(case.name);
    }
    if let Some(unknown) = wanted.iter().find(|word| !names.contains(word)) {
        eprintln!("error: no case is named '{unknown}'; there are {}", names.join(", "));
        std::process::exit(2);
    }
}

/// Cycles a packet of the engine alone.
fn cycles(case: &Case) -> f64 {
    let tables = Tables::compile(&case.spec).unwrap_or_else(|errors| panic!("{}: {errors:?}", case.name));
    let mut stats = TunnelStats::default();
    stats.grow(case.spec.tunnels.len().max(1));
    let mut engine = Engine::new(Host::Absent, 0, 1);
    let mut outcomes = Outcomes::new();
    let mut forward = |frames: &mut [Frame<'_>]| {
        outcomes.clear();
        engine.forward_burst(&tables, &stats, (case.port, 1), frames, &mut outcomes);
    };
    let least = |work: &mut dyn FnMut(&mut [Frame<'_>])| {
        (0..PASSES).map(|_| a_pass(&case.frames, work)).fold(f64::MAX, f64::min)
    };
    let (with, without) = (least(&mut forward), least(&mut |frames| _ = black_box(frames)));
    assert!(
        outcomes.iter().all(|outcome| matches!(outcome.verdict, Verdict::Send(_))),
        "{}: {outcomes:?}",
        case.name
    );
    with - without
}

/// Cycles a packet of all that is done to a burst.
fn a_pass(frames: &[Vec<u8>], work: &mut dyn FnMut(&mut [Frame<'_>])) -> f64 {
    let mut buffers = vec![[0u8; BUFFER]; BURST];
    let mut measured = Vec::with_capacity(BURSTS);
    for number in 0..BURSTS {
        let burst = &frames[number * BURST % frames.len()..][..BURST];
        for (buffer, bytes) in buffers.iter_mut().zip(burst) {
            buffer[HEADROOM..][..bytes.len()].copy_from_slice(bytes);
        }
        let start = tsc();
        let mut views: Vec<Frame<'_>> = buffers
            .iter_mut()
            .zip(burst)
            .map(|(buffer, bytes)| Frame::new(buffer, HEADROOM, bytes.len()))
            .collect();
        work(&mut views);
        measured.push(tsc().wrapping_sub(start));
    }
    measured.sort_unstable();
    measured[BURSTS / 4] as f64 / BURST as f64
}

/// 46 bytes of UDP from the LAN to the far side, each of another flow.
fn outbound(destination: &str, flow: u16) -> Vec<u8> {
    udp(address("10.0.0.2"), address(destination), (1_000 + flow, 2_000), 0, 64, &[7; 18])
}

fn inbound(flow: u16) -> Vec<u8> {
    udp(address("10.1.0.1"), address("10.0.0.2"), (1_000 + flow, 2_000), 0, 64, &[7; 18])
}

/// `packet` in GRE over IPv4.
fn in_gre(source: &str, destination: &str, packet: &[u8]) -> Vec<u8> {
    ip(address(source), address(destination), 47, 0, 64, &[&[0, 0, 8, 0], packet].concat())
}

fn flows(frame: impl Fn(u16) -> Vec<u8>) -> Vec<Vec<u8>> {
    (0..BURST as u16).map(frame).collect()
}

fn to_gateway(prefix: &str, gateway: &str, interface: u16) -> RouteSpec {
    route(prefix, RouteTarget::Gateway { address: address(gateway), interface: InterfaceId(interface) })
}

fn into_tunnel(prefix: &str, tunnel: u32) -> RouteSpec {
    route(prefix, RouteTarget::Tunnel(TunnelId(tunnel)))
}

fn one_tunnel() -> Vec<Case> {
    let plain = Spec { routes: vec![to_gateway("10.1.0.0/16", "192.0.2.2", 1)], ..two_ports() };
    let gre = Spec {
        tunnels: vec![tunnel("gre", 0, Encap::Gre, "192.0.2.1", "192.0.2.2")],
        routes: vec![into_tunnel("10.1.0.0/16", 0)],
        ..two_ports()
    };
    let out = flows(|flow| ethernet(LAN_MAC, &outbound("10.1.0.1", flow)));
    let back = flows(|flow| ethernet(WAN_MAC, &in_gre("192.0.2.2", "192.0.2.1", &inbound(flow))));
    vec![
        Case { name: "plain".into(), spec: plain, port: LAN, frames: out.clone() },
        Case { name: "gre4-encap".into(), spec: gre.clone(), port: LAN, frames: out },
        Case { name: "gre4-decap".into(), spec: gre, port: WAN, frames: back },
    ]
}

/// GRE over IPv4 in FOU over IPv6: both put on, both taken off, and the outer one taken off in transit; the UDP checksum
/// zero, and written or verified.
fn with_fou() -> Vec<Case> {
    let fou = |name: &str, slot, checksum| TunnelSpec {
        udp: Some(UdpSpec { kind: UdpKind::Fou, port: 5555, source_port: SourcePort::Flow, checksum }),
        ..tunnel(name, slot, Encap::Ip, "2001:db8::1", "2001:db8::2")
    };
    let mut cases = Vec::new();
    for (checksum, named) in [(UdpChecksum::Zero, "zero"), (UdpChecksum::Full, "full")] {
        let stack = Spec {
            tunnels: vec![
                tunnel("gre", 0, Encap::Gre, "203.0.113.1", "198.51.100.7"),
                fou("fou", 1, checksum),
            ],
            routes: vec![into_tunnel("10.1.0.0/16", 0), into_tunnel("198.51.100.7/32", 1)],
            ..two_ports()
        };
        let colo = Spec {
            tunnels: vec![fou("fou", 0, checksum)],
            routes: vec![to_gateway("203.0.113.1/32", "10.0.0.2", 0)],
            ..two_ports()
        };
        let hauled = flows(|flow| {
            let gre = in_gre("198.51.100.7", "203.0.113.1", &inbound(flow));
            let ends = (address("2001:db8::2"), address("2001:db8::1"));
            let mut packet = udp(ends.0, ends.1, (50_000 + flow, 5_555), 0, 64, &gre);
            if checksum == UdpChecksum::Zero {
                packet[46..48].fill(0);
            }
            ethernet(WAN_MAC, &packet)
        });
        let out = flows(|flow| ethernet(LAN_MAC, &outbound("10.1.0.1", flow)));
        cases.extend([
            Case { name: format!("stack-encap-{named}"), spec: stack.clone(), port: LAN, frames: out },
            Case { name: format!("stack-decap-{named}"), spec: stack, port: WAN, frames: hauled.clone() },
            Case { name: format!("transit-{named}"), spec: colo, port: WAN, frames: hauled },
        ]);
    }
    cases
}

/// Numbers below `end`, as good as random and the same on every run (xorshift).
fn numbers(end: usize) -> impl FnMut() -> usize {
    let mut state = 0x2545_f491_4f6c_dd1du64;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 20) as usize % end
    }
}

/// The number's own address in a block of /24s that begins at `first`.0.0.0.
fn host(first: usize, number: usize, last: u8) -> String {
    format!("{}.{}.{}.{last}", first + (number >> 16), number >> 8 & 255, number & 255)
}

fn many_tunnels(count: usize) -> Vec<Case> {
    let spec = Spec {
        tunnels: (0..count)
            .map(|i| tunnel(&format!("gre{i}"), i as u32, Encap::Gre, "192.0.2.1", &host(20, i, 7)))
            .collect(),
        routes: (0..count)
            .map(|i| into_tunnel(&format!("{}/24", host(60, i, 0)), i as u32))
            .chain([to_gateway("0.0.0.0/0", "192.0.2.2", 1)])
            .collect(),
        ..two_ports()
    };
    let mut next = numbers(count);
    let out: Vec<Vec<u8>> =
        (0..RANDOM_FRAMES).map(|_| ethernet(LAN_MAC, &outbound(&host(60, next(), 9), 0))).collect();
    let back = (0..RANDOM_FRAMES)
        .map(|_| ethernet(WAN_MAC, &in_gre(&host(20, next(), 7), "192.0.2.1", &inbound(0))))
        .collect();
    vec![
        Case { name: format!("gre4-encap-{count}"), spec: spec.clone(), port: LAN, frames: out },
        Case { name: format!("gre4-decap-{count}"), spec, port: WAN, frames: back },
    ]
}

fn many_routes(count: usize) -> Vec<Case> {
    let routes = (0..count).map(|i| to_gateway(&format!("{}/24", host(20, i, 0)), "192.0.2.2", 1)).collect();
    let mut next = numbers(count);
    let frames = (0..RANDOM_FRAMES).map(|_| ethernet(LAN_MAC, &outbound(&host(20, next(), 9), 0))).collect();
    vec![Case {
        name: format!("plain-{count}-routes"),
        spec: Spec { routes, ..two_ports() },
        port: LAN,
        frames,
    }]
}
