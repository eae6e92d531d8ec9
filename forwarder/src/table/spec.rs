//! What an operator asked for, as checked values: the input of [`Tables::compile`](super::Tables::compile).
//!
//! Names are for reports only; items refer to each other by their position. Values that have rules of their own (an
//! address family that must fit, a number with a range) were checked where they were read; what needs several items at
//! once (two tunnels alike, a loop, an MTU above its path) is checked by the compiler.

use crate::icmp_error::IcmpRates;
use ipnet::IpNet;
use std::net::IpAddr;

/// A port, by its position in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortId(pub u16);

/// An interface (a port's untagged side, or one of its VLANs), by its position in [`Spec::interfaces`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InterfaceId(pub u16);

/// A tunnel, by its position in [`Spec::tunnels`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TunnelId(pub u32);

/// An Ethernet address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mac(pub [u8; 6]);

/// Everything that the tables are made from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Spec {
    /// Ports' untagged sides and VLANs.
    pub interfaces: Vec<InterfaceSpec>,
    /// Static neighbours.
    pub neighbors: Vec<NeighborSpec>,
    /// Tunnels.
    pub tunnels: Vec<TunnelSpec>,
    /// Routes.
    pub routes: Vec<RouteSpec>,
    /// MSS clamps beside the tunnels' own.
    pub clamps: Vec<ClampSpec>,
    /// ICMP errors a second.
    pub icmp: IcmpRates,
}

/// A port's untagged side or one VLAN on it.
#[derive(Clone, Debug, PartialEq)]
pub struct InterfaceSpec {
    /// The port's or VLAN's name.
    pub name: String,
    /// The port it is on.
    pub port: PortId,
    /// The VLAN identifier, 1 to 4094; `None` for untagged frames.
    pub vlan: Option<u16>,
    /// The port's own Ethernet address.
    pub mac: Mac,
    /// Largest IP packet in bytes, without Ethernet header and tags.
    pub mtu: u16,
    /// The box's addresses here; each makes a connected route of its prefix.
    pub addresses: Vec<IpNet>,
}

/// A static neighbour.
#[derive(Clone, Debug, PartialEq)]
pub struct NeighborSpec {
    /// Where it is.
    pub interface: InterfaceId,
    /// Its address.
    pub address: IpAddr,
    /// Its Ethernet address.
    pub mac: Mac,
}

/// A tunnel. There are many, so its lists have no room to grow.
#[derive(Clone, Debug, PartialEq)]
pub struct TunnelSpec {
    /// Its name.
    pub name: String,
    /// Where its counters are kept; stays the same over reloads as long as the name does.
    pub slot: u32,
    /// What rides directly on the inner packet.
    pub encap: Encap,
    /// Outer source when sending, outer destination when receiving.
    pub local: IpAddr,
    /// The other end.
    pub remote: Remote,
    /// The box's own addresses inside the tunnel.
    pub addresses: Box<[IpNet]>,
    /// GRE key; `None` is no key, which is not key 0 (RFC 2890 §2.1).
    pub key: Option<u32>,
    /// GRE checksum sent.
    pub checksum: bool,
    /// GRE sequence number sent.
    pub sequence: bool,
    /// GRE keepalives are answered.
    pub keepalive: bool,
    /// Outer TTL or hop limit.
    pub ttl: Ttl,
    /// Outer DSCP.
    pub dscp: Dscp,
    /// Outer ECN.
    pub ecn: Ecn,
    /// Outer don't-fragment bit (IPv4 only).
    pub df: Df,
    /// Inner bytes; `None`: what the way out allows.
    pub mtu: Option<u16>,
    /// The tunnel's own MSS clamp, both directions.
    pub mss: Mss,
    /// What may come out; empty: anything.
    pub inner_source: Box<[IpNet]>,
    /// Whether outer packets that come in fragments are put together.
    pub reassembly: bool,
    /// Whether latency histograms are kept.
    pub latency: bool,
    /// UDP around the encapsulation; `None`: directly on IP.
    pub udp: Option<UdpSpec>,
}

/// What rides directly on the inner packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encap {
    /// Generic Routing Encapsulation (RFC 2784, RFC 2890).
    Gre,
    /// IPv4 or IPv6 directly inside (RFC 2003, RFC 4213, RFC 2473).
    Ip,
}

/// A tunnel's other end.
#[derive(Clone, Debug, PartialEq)]
pub enum Remote {
    /// One address: sent to, and accepted from.
    One(IpAddr),
    /// Accepted senders of a tunnel that only receives; "any" is the prefix of length 0 of the local address's family.
    Senders(Box<[IpNet]>),
}

/// Outer TTL or hop limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ttl {
    /// This value, 1 to 255.
    Fixed(u8),
    /// The inner packet's, after it was lowered.
    Inherit,
}

impl Ttl {
    /// The value, where it is fixed.
    pub fn fixed(self) -> Option<u8> {
        match self {
            Ttl::Fixed(ttl) => Some(ttl),
            Ttl::Inherit => None,
        }
    }
}

/// Outer DSCP (RFC 2983).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dscp {
    /// The inner packet's on the way in, inner left alone on the way out.
    Inherit,
    /// Copied both ways.
    Uniform,
    /// This value, 0 to 63.
    Fixed(u8),
}

/// Outer ECN on the way in (RFC 6040 §4.1); on the way out both are combined alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ecn {
    /// Normal mode: the inner packet's.
    Rfc6040,
    /// Compatibility mode: not-ECT.
    Off,
}

/// Outer don't-fragment bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Df {
    /// Always set.
    Set,
    /// The inner IPv4 packet's; clear for IPv6, which has no such bit.
    Inherit,
    /// Never set.
    Clear,
}

/// A tunnel's own MSS clamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mss {
    /// What the tunnel's MTU allows: less 40 for IPv4, less 60 for IPv6.
    Auto,
    /// None.
    Off,
    /// These limits in bytes; `None` leaves that family alone.
    Fixed {
        /// For IPv4.
        ipv4: Option<u16>,
        /// For IPv6.
        ipv6: Option<u16>,
    },
}

/// UDP around a tunnel's encapsulation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UdpSpec {
    /// What stands between UDP and the encapsulation.
    pub kind: UdpKind,
    /// Destination port sent, and listened on.
    pub port: u16,
    /// Source port sent.
    pub source_port: SourcePort,
    /// UDP checksum sent; whether zero is taken over IPv6.
    pub checksum: UdpChecksum,
}

/// What stands between UDP and the encapsulation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UdpKind {
    /// Foo-over-UDP: nothing.
    Fou,
    /// Generic UDP Encapsulation, variant 0: its four-byte header.
    Gue,
    /// Generic UDP Encapsulation, variant 1: nothing, IP by its version bits.
    Gue1,
    /// GRE-in-UDP (RFC 8086).
    GreInUdp,
}

/// UDP source port sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourcePort {
    /// From the inner flow's hash, 49152 to 65535 (RFC 8086 §3.1).
    Flow,
    /// This one.
    Fixed(u16),
}

/// UDP checksum sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UdpChecksum {
    /// Over the whole packet.
    Full,
    /// Zero.
    Zero,
}

/// A route.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteSpec {
    /// Destinations.
    pub prefix: IpNet,
    /// Where they go.
    pub target: RouteTarget,
    /// Share among routes of the same prefix and priority, 1 to 65535.
    pub weight: u16,
    /// The lowest wins.
    pub priority: u32,
}

/// Where a route leads.
#[derive(Clone, Debug, PartialEq)]
pub enum RouteTarget {
    /// To the neighbour that has this address.
    Gateway {
        /// The neighbour.
        address: IpAddr,
        /// Where it is.
        interface: InterfaceId,
    },
    /// Out of this interface; each destination is its own next hop.
    Interface(InterfaceId),
    /// Into this tunnel.
    Tunnel(TunnelId),
}

/// A MSS clamp on what crosses an interface or tunnel.
#[derive(Clone, Debug, PartialEq)]
pub struct ClampSpec {
    /// What is crossed.
    pub on: ClampOn,
    /// Packets that came in by it or out of the tunnel.
    pub input: bool,
    /// Packets that leave by it or enter the tunnel.
    pub output: bool,
    /// Only flows with an address of this prefix on either side.
    pub prefix: Option<IpNet>,
    /// Limit for IPv4 in bytes.
    pub ipv4: Option<u16>,
    /// Limit for IPv6 in bytes.
    pub ipv6: Option<u16>,
}

/// What a clamp is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClampOn {
    /// A port's untagged side or a VLAN.
    Interface(InterfaceId),
    /// A tunnel.
    Tunnel(TunnelId),
}

/// Which item a finding of the compiler is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item {
    /// An interface.
    Interface(InterfaceId),
    /// A neighbour, by its position.
    Neighbor(usize),
    /// A tunnel.
    Tunnel(TunnelId),
    /// A route, by its position.
    Route(usize),
    /// A clamp, by its position.
    Clamp(usize),
}

/// What the compiler found wrong.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct SpecError {
    /// The item it is about; of a clash the later one.
    pub item: Item,
    /// The configuration key of that item it is about; empty: the item as a whole.
    pub key: &'static str,
    /// What was expected and what was found.
    pub message: String,
}
