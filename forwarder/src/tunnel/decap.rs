//! Taking tunnel headers off: what a packet for one of the box's addresses carries, and what the tunnel makes of it.

use super::ecn;
use super::keepalive::{Keepalive, is_keepalive};
use crate::table::{Encap, UdpKind};
use crate::verdict::DropReason;
use crate::wire::checksum::Sum;
use crate::wire::gre::{self, GreRepr};
use crate::wire::gue::{Gue, GueRepr};
use crate::wire::ip::{Ip, Version};
use crate::wire::ipv6::{UpperLayer, is_extension};
use crate::wire::udp::Udp;
use crate::wire::{at_mut, ipv4, ipv6, protocol, tail};
use ipnet::IpNet;
use std::net::IpAddr;

/// What one of the box's addresses takes in; nothing of it for an address that is no tunnel's `local`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Local {
    /// The broadcast address of a connected network, and nothing else.
    pub is_broadcast: bool,
    /// Pings are answered here even where a host is attached: the address is a tunnel's.
    pub answers_echo: bool,
    /// Some tunnel takes GRE directly on IP.
    pub gre: bool,
    /// Some tunnel takes IP directly on IP.
    pub ip: bool,
    /// UDP ports with what stands behind the UDP header; few, so they are searched in turn.
    pub udp: Vec<(u16, Framing)>,
}

/// What stands behind the UDP header on a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// FOU: this, and nothing in the packet says so.
    Fou(Encap),
    /// GRE (RFC 8086).
    GreInUdp,
    /// GUE, of the variants that some tunnel takes.
    Gue {
        /// Variant 0: a header that says what follows.
        variant_0: bool,
        /// Variant 1: IP.
        variant_1: bool,
    },
}

impl Framing {
    /// What a tunnel of this kind needs on its port.
    pub fn of(kind: UdpKind, encap: Encap) -> Self {
        match kind {
            UdpKind::Fou => Framing::Fou(encap),
            UdpKind::GreInUdp => Framing::GreInUdp,
            UdpKind::Gue => Framing::Gue { variant_0: true, variant_1: false },
            UdpKind::Gue1 => Framing::Gue { variant_0: false, variant_1: true },
        }
    }

    /// What both need, where the packets of one are told from those of the other.
    pub fn beside(self, other: Framing) -> Option<Framing> {
        match (self, other) {
            (Framing::Gue { variant_0: a, variant_1: b }, Framing::Gue { variant_0: c, variant_1: d }) => {
                Some(Framing::Gue { variant_0: a | c, variant_1: b | d })
            }
            (one, other) => (one == other).then_some(one),
        }
    }
}

/// What tells the tunnels of one address apart, the sender aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Selector {
    /// What stands around the encapsulation, with its port; `None` for nothing.
    pub udp: Option<(UdpKind, u16)>,
    /// What rides on the inner packet.
    pub encap: Encap,
    /// GRE key; `None` is no key, which is not key 0.
    pub key: Option<u32>,
}

impl Selector {
    /// What every packet of a tunnel shows: nothing but its ends.
    pub(crate) const NOTHING: Selector = Selector { udp: None, encap: Encap::Ip, key: None };
}

/// A tunnel packet, recognised but not yet matched with a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capsule {
    /// What tells its tunnel apart.
    pub selector: Selector,
    /// Where the inner packet begins, in bytes from the start of the outer one.
    pub inner: usize,
    /// Where what is encapsulated ends, likewise.
    pub end: usize,
    /// The inner packet's version as announced by the headers.
    pub version: Version,
    udp: Option<usize>,        // where the UDP header begins, if there is one
    summed_gre: Option<usize>, // where a GRE header that carries a checksum begins
}

/// What a tunnel does to the packets that come out of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Decap {
    /// UDP over IPv6 without checksum is taken (RFC 6936 §4).
    pub takes_zero_checksum: bool,
    /// The outer DSCP replaces the inner one (RFC 2983 §3.1).
    pub is_uniform: bool,
    /// What may come out; empty: anything.
    pub inner_source: Vec<IpNet>,
    /// How keepalives are answered; `None`: they are not.
    pub keepalive: Option<Keepalive>,
}

/// What a packet for one of the box's addresses carries: `None` for the host's own traffic.
///
/// # Errors
/// For packets that a tunnel of this address should have taken but that are malformed, in fragments, or of a kind that
/// is refused.
#[inline]
pub fn recognise(local: &Local, ip: Ip<'_>, packet: &[u8]) -> Result<Option<Capsule>, DropReason> {
    let upper = ip.upper_layer(packet)?;
    if upper.is_source_routed {
        return Err(DropReason::SourceRoute);
    }
    if !local.takes(upper.protocol) {
        // GRE and IP-in-IP for a tunnel's address that has no tunnel of that kind are refused, not answered.
        let is_stray = matches!(upper.protocol, protocol::GRE | protocol::IPV4 | protocol::IPV6);
        return if is_stray && local.is_tunnel_end() { Err(DropReason::NoTunnel) } else { Ok(None) };
    }
    if upper.is_fragment {
        // Only the first fragment says its port; a later one may well be the tunnel's.
        let is_hosts = upper.protocol == protocol::UDP
            && !upper.is_later_fragment
            && local.framing(Udp::new(tail(packet, upper.offset))?.destination_port()).is_none();
        return if is_hosts { Ok(None) } else { Err(DropReason::OuterFragment) };
    }
    match upper.protocol {
        protocol::UDP => from_udp(local, packet, upper.offset),
        protocol::GRE => from_gre(packet, upper.offset, Around::NOTHING).map(Some),
        protocol::IPV4 => Ok(Some(from_ip(packet, upper.offset, Version::V4, Around::NOTHING))),
        _ => Ok(Some(from_ip(packet, upper.offset, Version::V6, Around::NOTHING))),
    }
}

impl Local {
    /// Whether this address is some tunnel's `local`.
    pub fn is_tunnel_end(&self) -> bool {
        self.gre || self.ip || !self.udp.is_empty()
    }

    /// Whether a fragment may be a tunnel's. What stands in front of the upper layer can be cut off with the first fragment
    /// (RFC 8200 §4.5), and a first one for another UDP port may be followed by ones that do not say so.
    pub fn may_take(&self, upper: UpperLayer) -> bool {
        let is_unsaid = upper.is_later_fragment && is_extension(upper.protocol);
        self.takes(upper.protocol) || (is_unsaid && self.is_tunnel_end())
    }

    #[inline]
    fn takes(&self, protocol: u8) -> bool {
        match protocol {
            protocol::GRE => self.gre,
            protocol::IPV4 | protocol::IPV6 => self.ip,
            protocol::UDP => !self.udp.is_empty(),
            _ => false,
        }
    }

    /// What stands behind UDP on a port.
    #[inline(always)]
    pub(crate) fn framing(&self, port: u16) -> Option<Framing> {
        self.udp.iter().find(|(known, _)| *known == port).map(|(_, framing)| *framing)
    }
}

/// The UDP header around an encapsulation, where there is one.
#[derive(Clone, Copy)]
struct Around {
    udp: Option<(UdpKind, u16)>,
    offset: Option<usize>,
}

impl Around {
    const NOTHING: Around = Around { udp: None, offset: None };
}

#[inline]
fn from_udp(local: &Local, packet: &[u8], offset: usize) -> Result<Option<Capsule>, DropReason> {
    let header = Udp::new(tail(packet, offset))?;
    let port = header.destination_port();
    let Some(framing) = local.framing(port) else { return Ok(None) };
    // Bytes behind the datagram are padding; they are no part of what is inside.
    let end = offset + header.length();
    if header.length() < Udp::LEN || end > packet.len() {
        return Err(DropReason::UdpLength);
    }
    let packet = packet.get(..end).unwrap_or_default();
    let inner = offset + Udp::LEN;
    let around = |kind| Around { udp: Some((kind, port)), offset: Some(offset) };
    let version = || Version::of_packet(tail(packet, inner));
    match framing {
        Framing::Fou(Encap::Gre) => from_gre(packet, inner, around(UdpKind::Fou)),
        Framing::Fou(Encap::Ip) => Ok(from_ip(packet, inner, version()?, around(UdpKind::Fou))),
        Framing::GreInUdp => from_gre(packet, inner, around(UdpKind::GreInUdp)),
        Framing::Gue { variant_0, variant_1 } => match Gue::new(tail(packet, inner))?.variant() {
            0 if variant_0 => from_gue(packet, inner, around(UdpKind::Gue)),
            1 if variant_1 => Ok(from_ip(packet, inner, version()?, around(UdpKind::Gue1))),
            _ => Err(DropReason::GueVersion),
        },
    }
    .map(Some)
}

#[inline]
fn from_gue(packet: &[u8], offset: usize, around: Around) -> Result<Capsule, DropReason> {
    let header = GueRepr::parse(tail(packet, offset))?;
    let inner = offset + header.header_len;
    match header.protocol {
        protocol::IPV4 => Ok(from_ip(packet, inner, Version::V4, around)),
        protocol::IPV6 => Ok(from_ip(packet, inner, Version::V6, around)),
        protocol::GRE => from_gre(packet, inner, around),
        _ => Err(DropReason::GueProtocol),
    }
}

#[inline]
fn from_ip(packet: &[u8], inner: usize, version: Version, around: Around) -> Capsule {
    let selector = Selector { udp: around.udp, encap: Encap::Ip, key: None };
    Capsule { selector, inner, end: packet.len(), version, udp: around.offset, summed_gre: None }
}

#[inline]
fn from_gre(packet: &[u8], offset: usize, around: Around) -> Result<Capsule, DropReason> {
    let header = GreRepr::parse(tail(packet, offset))?;
    Ok(Capsule {
        selector: Selector { udp: around.udp, encap: Encap::Gre, key: header.key },
        inner: offset + header.header_len(),
        end: packet.len(),
        version: match header.protocol_type {
            gre::HUAWEI_KEEPALIVE
                if is_keepalive(tail(packet, offset + header.header_len()), Version::V4) =>
            {
                Version::V4
            }
            protocol_type => gre::ip_version(protocol_type)?,
        },
        udp: around.offset,
        summed_gre: header.has_checksum.then_some(offset),
    })
}

impl Decap {
    /// Verifies what the outer headers promise, checks the inner header, and carries congestion and DSCP over to it.
    /// `packet` is the outer packet; returns the inner one's length.
    ///
    /// # Errors
    /// Everything that RFC 2784, 2890, 6040, 6935 and the tunnel's own settings refuse.
    #[inline]
    pub fn unwrap(&self, capsule: &Capsule, outer: Outer, packet: &mut [u8]) -> Result<usize, DropReason> {
        let packet = packet.get_mut(..capsule.end).ok_or(DropReason::Truncated)?;
        if let Some(offset) = capsule.udp {
            self.verify_udp(outer, tail(packet, offset))?;
        }
        if let Some(offset) = capsule.summed_gre {
            gre::verify(tail(packet, offset))?;
        }
        let inner = Ip::check(tail(packet, capsule.inner), capsule.version)?;
        let (old, len, source) = (inner.traffic_class(), inner.total_len(), inner.source());
        let ecn = ecn::combine(outer.traffic_class, old)?;
        if !self.lets_out(source) {
            // A keepalive comes from the box's own address, and is asked for.
            let is_keepalive = || is_keepalive(tail(packet, capsule.inner), capsule.version);
            if self.keepalive.is_none() || !is_keepalive() {
                return Err(DropReason::InnerSource);
            }
        }
        let dscp = if self.is_uniform { outer.traffic_class } else { old };
        let class = dscp & !ecn::MASK | ecn;
        if class != old {
            match capsule.version {
                Version::V4 => ipv4::set_traffic_class(at_mut(packet, capsule.inner)?, class),
                Version::V6 => ipv6::set_traffic_class(at_mut(packet, capsule.inner)?, class),
            }
        }
        Ok(len)
    }

    /// Whether a packet from this source may come out.
    #[inline]
    pub(crate) fn lets_out(&self, source: IpAddr) -> bool {
        self.inner_source.is_empty() || self.inner_source.iter().any(|net| net.contains(&source))
    }

    /// Refuses what GRE may carry and yet nobody may forward: a payload for the router that encapsulated it (RFC 2784
    /// §3.1), unless it is ICMP, by which services probe their tunnels; and keepalives, unless this tunnel answers them.
    /// Those are made to go back. `packet` is the inner one, which came out of `capsule` from `sender`.
    ///
    /// # Errors
    /// [`DropReason::Looped`], [`DropReason::GreKeepalive`].
    #[inline]
    pub fn admit(&self, capsule: &Capsule, sender: IpAddr, packet: &mut [u8]) -> Result<(), DropReason> {
        if capsule.selector.encap != Encap::Gre {
            return Ok(());
        }
        let ip = Ip::new(packet, capsule.version)?;
        let (protocol, destination) = (ip.protocol(), ip.destination());
        if protocol == protocol::GRE && is_keepalive(packet, capsule.version) {
            let keepalive = self.keepalive.as_ref().ok_or(DropReason::GreKeepalive)?;
            return keepalive.turn(packet, capsule.version, sender);
        }
        let is_probe = matches!(protocol, protocol::ICMP | protocol::ICMPV6);
        if destination == sender && !is_probe { Err(DropReason::Looped) } else { Ok(()) }
    }

    #[inline]
    fn verify_udp(&self, outer: Outer, datagram: &[u8]) -> Result<(), DropReason> {
        if Udp::new(datagram)?.checksum() == [0, 0] {
            let is_taken = outer.version == Version::V4 || self.takes_zero_checksum;
            return if is_taken { Ok(()) } else { Err(DropReason::UdpZeroChecksum) };
        }
        let pseudo = outer.addresses + Sum::pseudo_header(&[], protocol::UDP, datagram.len());
        if (pseudo + Sum::of(datagram)).is_intact() { Ok(()) } else { Err(DropReason::UdpChecksum) }
    }
}

/// What decapsulation needs of the outer IP header.
#[derive(Clone, Copy, Debug)]
pub struct Outer {
    version: Version,
    traffic_class: u8,
    addresses: Sum,
}

impl Outer {
    /// From a checked header.
    #[inline]
    pub fn new(ip: Ip<'_>) -> Self {
        Outer { version: ip.version(), traffic_class: ip.traffic_class(), addresses: Sum::of(ip.addresses()) }
    }
}
