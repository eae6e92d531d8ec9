//! Packets and specifications for the tests of the packet code, made without that code.

#![allow(dead_code)] // Each test binary uses its own part.

use forwarder::forward::{Engine, Host, Outcome, Outcomes};
use forwarder::frame::{Frame, HEADROOM};
use forwarder::stats::TunnelStats;
use forwarder::table::*;
use forwarder::verdict::Verdict;
use std::net::IpAddr;

pub const LAN: PortId = PortId(0);
pub const WAN: PortId = PortId(1);
pub const LAN_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
pub const WAN_MAC: Mac = Mac([2, 0, 0, 0, 0, 2]);
pub const PEER_MAC: Mac = Mac([2, 0, 0, 0, 0, 9]);

pub fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// The sum of RFC 1071, written as it is defined there.
pub fn checksum(parts: &[&[u8]]) -> u16 {
    let bytes = parts.concat();
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) * 256 + u32::from(*pair.get(1).unwrap_or(&0));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

pub fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// An IP packet of either version.
pub fn ip(source: IpAddr, destination: IpAddr, protocol: u8, class: u8, ttl: u8, payload: &[u8]) -> Vec<u8> {
    let (source_octets, destination_octets) = (octets(source), octets(destination));
    if source.is_ipv4() {
        let len = (20 + payload.len() as u16).to_be_bytes();
        let mut header = vec![0x45, class, len[0], len[1], 0, 7, 0x40, 0, ttl, protocol, 0, 0];
        header.extend([source_octets, destination_octets].concat());
        let sum = checksum(&[&header]).to_be_bytes();
        header[10..12].copy_from_slice(&sum);
        [header, payload.to_vec()].concat()
    } else {
        let len = (payload.len() as u16).to_be_bytes();
        let mut header = vec![0x60 | class >> 4, class << 4, 0, 0, len[0], len[1], protocol, ttl];
        header.extend([source_octets, destination_octets].concat());
        [header, payload.to_vec()].concat()
    }
}

pub fn pseudo_header(source: IpAddr, destination: IpAddr, protocol: u8, len: usize) -> Vec<u8> {
    let mut bytes = [octets(source), octets(destination)].concat();
    bytes.extend((len as u32).to_be_bytes());
    bytes.extend([0, 0, 0, protocol]);
    bytes
}

/// A UDP datagram in an IP packet, its checksum right.
pub fn udp(
    source: IpAddr,
    destination: IpAddr,
    ports: (u16, u16),
    class: u8,
    ttl: u8,
    data: &[u8],
) -> Vec<u8> {
    let len = 8 + data.len();
    let mut datagram =
        [ports.0.to_be_bytes(), ports.1.to_be_bytes(), (len as u16).to_be_bytes(), [0, 0]].concat();
    datagram.extend(data);
    let sum = checksum(&[&pseudo_header(source, destination, 17, len), &datagram]);
    datagram[6..8].copy_from_slice(&if sum == 0 { 0xffff } else { sum }.to_be_bytes());
    ip(source, destination, 17, class, ttl, &datagram)
}

/// A frame to a port of the box.
pub fn ethernet(to: Mac, packet: &[u8]) -> Vec<u8> {
    let ethertype: u16 = if packet[0] >> 4 == 4 { 0x0800 } else { 0x86dd };
    [to.0.as_slice(), &PEER_MAC.0, &ethertype.to_be_bytes(), packet].concat()
}

/// A box with two ports, `lan` and `wan`, and a neighbour on each.
pub fn two_ports() -> Spec {
    let interface = |name: &str, port, mac, addresses: &[&str]| InterfaceSpec {
        name: name.to_owned(),
        port,
        vlan: None,
        mac,
        mtu: 1500,
        addresses: addresses.iter().map(|net| net.parse().unwrap()).collect(),
    };
    let neighbor = |interface, text: &str| NeighborSpec { interface, address: address(text), mac: PEER_MAC };
    Spec {
        interfaces: vec![
            interface("lan", LAN, LAN_MAC, &["10.0.0.1/24", "fd00::1/64"]),
            interface("wan", WAN, WAN_MAC, &["192.0.2.1/24", "2001:db8::1/64"]),
        ],
        neighbors: vec![
            neighbor(InterfaceId(0), "10.0.0.2"),
            neighbor(InterfaceId(0), "fd00::2"),
            neighbor(InterfaceId(1), "192.0.2.2"),
            neighbor(InterfaceId(1), "2001:db8::2"),
        ],
        ..Spec::default()
    }
}

/// A tunnel with the defaults of the configuration.
pub fn tunnel(name: &str, slot: u32, encap: Encap, local: &str, remote: &str) -> TunnelSpec {
    TunnelSpec {
        name: name.to_owned(),
        slot,
        encap,
        local: address(local),
        remote: Remote::One(address(remote)),
        addresses: [].into(),
        key: None,
        checksum: false,
        sequence: false,
        keepalive: false,
        ttl: Ttl::Fixed(64),
        dscp: Dscp::Inherit,
        ecn: Ecn::Rfc6040,
        df: Df::Set,
        mtu: None,
        mss: Mss::Auto,
        inner_source: [].into(),
        reassembly: false,
        latency: true,
        udp: None,
    }
}

pub fn route(prefix: &str, target: RouteTarget) -> RouteSpec {
    RouteSpec { prefix: prefix.parse().unwrap(), target, weight: 1, priority: 100 }
}

/// A packet in a buffer with room on both sides, as a device's.
pub fn buffer(bytes: &[u8]) -> Vec<u8> {
    let mut buffer = vec![0xaa; HEADROOM + bytes.len() + 256];
    buffer[HEADROOM..HEADROOM + bytes.len()].copy_from_slice(bytes);
    buffer
}

/// Tables with the counters that belong to them.
pub struct Gateway {
    pub tables: Tables,
    pub stats: TunnelStats,
    engine: Engine,
}

impl Gateway {
    pub fn new(spec: &Spec) -> Self {
        let tables = Tables::compile(spec).unwrap_or_else(|errors| panic!("{errors:?}"));
        let mut stats = TunnelStats::default();
        stats.grow(spec.tunnels.len() + 1);
        Gateway { tables, stats, engine: Engine::new(Host::Attached, 0, 1) }
    }

    /// What becomes of one frame, and what the frame is afterwards.
    pub fn run(&mut self, port: PortId, bytes: &[u8]) -> (Outcome, Vec<u8>) {
        self.run_at(0, port, bytes)
    }

    /// The packets made here for the last frame, with their fates.
    pub fn made(&self) -> Vec<(Verdict, Vec<u8>)> {
        self.engine.originated().iter().map(|made| (made.verdict, made.bytes.to_vec())).collect()
    }

    /// [`run`](Self::run) at so many nanoseconds.
    pub fn run_at(&mut self, now: u64, port: PortId, bytes: &[u8]) -> (Outcome, Vec<u8>) {
        let mut buffer = buffer(bytes);
        let mut frames = [Frame::new(&mut buffer, HEADROOM, bytes.len())];
        let mut outcomes = Outcomes::new();
        self.engine.forward_burst(&self.tables, &self.stats, (port, now), &mut frames, &mut outcomes);
        assert_eq!(outcomes.len(), 1);
        (outcomes.iter().next().unwrap(), frames[0].bytes().to_vec())
    }
}
