//! Putting tunnel headers on: an image of the whole stack, made once, copied in front of the packet and patched.
//!
//! The control thread compiles for each tunnel, and for each way to its remote end, everything that stands in front of
//! an inner packet: Ethernet, and for each layer IP, UDP and GRE. A worker copies that in one piece and then fills in,
//! layer by layer from the inside out, the few fields that depend on the packet: lengths, checksums, what is inherited
//! from the layer inside, and what comes from the hash of the inner flow. A stack of tunnels costs one copy, like a
//! single one.

use super::flow::FlowHash;
use super::layer::{Inherited, Layer, PayloadType};
use crate::frame::Frame;
use crate::stats::{MAX_LAYERS, Trail, TunnelStats};
use crate::table::{Encap, PortId, SourcePort, TunnelSpec, UdpChecksum, UdpKind};
use crate::verdict::DropReason;
use crate::wire::checksum::Sum;
use crate::wire::ethernet::Ethernet;
use crate::wire::gre::GreRepr;
use crate::wire::gue::{Gue, GueRepr};
use crate::wire::ip::Version;
use crate::wire::ipv4::Ipv4Repr;
use crate::wire::ipv6::Ipv6Repr;
use crate::wire::udp::{Udp, UdpRepr};
use crate::wire::{at_mut, protocol};
use std::net::IpAddr;
use std::ops::Range;

/// Everything in front of an inner packet, from the Ethernet header to the innermost tunnel header.
#[derive(Clone, Debug)]
pub struct Image {
    bytes: Vec<u8>,
    link_len: usize,    // of which Ethernet header and tag
    layers: Vec<Layer>, // innermost first, at most MAX_LAYERS
    port: PortId,
    sums: bool, // some layer has a checksum over its payload
}

/// Where one header of an image stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Which header it is.
    pub kind: HeaderKind,
    /// Its bytes, counted from the image's first.
    pub range: Range<usize>,
    /// The slot of the tunnel that it belongs to; `None` for the link's headers.
    pub slot: Option<u32>,
}

/// The headers that an image may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderKind {
    /// Ethernet II.
    Ethernet,
    /// 802.1Q tag.
    Vlan,
    /// IPv4 without options.
    Ipv4,
    /// IPv6 without extension headers.
    Ipv6,
    /// UDP.
    Udp,
    /// GUE, variant 0.
    Gue,
    /// GRE with its optional fields.
    Gre,
}

/// Bytes that a tunnel's own headers take, without those of tunnels that carry it.
pub fn overhead(spec: &TunnelSpec) -> usize {
    let udp = spec.udp.map_or(0, |udp| Udp::LEN + gue_header(spec.encap, udp.kind).map_or(0, |_| Gue::LEN));
    let gre = gre_header(spec).map_or(0, |header| header.header_len());
    Version::of_address(spec.local).header_len() + udp + gre
}

fn gue_header(encap: Encap, kind: UdpKind) -> Option<GueRepr> {
    let protocol = if encap == Encap::Gre { protocol::GRE } else { 0 };
    (kind == UdpKind::Gue).then_some(GueRepr { header_len: Gue::LEN, protocol })
}

fn gre_header(spec: &TunnelSpec) -> Option<GreRepr> {
    (spec.encap == Encap::Gre).then_some(GreRepr {
        protocol_type: 0,
        has_checksum: spec.checksum,
        key: spec.key,
        sequence: spec.sequence.then_some(0),
    })
}

impl Image {
    /// The image of a path without tunnels: this Ethernet header, tag included, out of this port.
    pub fn new(ethernet: &[u8], port: PortId) -> Self {
        Image { bytes: ethernet.to_vec(), link_len: ethernet.len(), layers: Vec::new(), port, sums: false }
    }

    /// Bytes of Ethernet header and tag.
    pub fn link_len(&self) -> usize {
        self.link_len
    }

    /// Bytes of all tunnel headers.
    pub fn overhead(&self) -> usize {
        self.bytes.len() - self.link_len
    }

    /// Its bytes; what depends on a packet is not filled in.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The port that the image's packets leave by.
    pub fn port(&self) -> PortId {
        self.port
    }

    /// The slots of its tunnels, innermost first.
    pub fn slots(&self) -> impl Iterator<Item = u32> {
        self.layers.iter().map(|layer| layer.slot)
    }

    /// Where its headers stand, outermost first. For reports: it allocates.
    pub fn parts(&self) -> Vec<Part> {
        let link = self.link_len;
        let mut parts = vec![Part { kind: HeaderKind::Ethernet, range: 0..Ethernet::LEN, slot: None }];
        if link > Ethernet::LEN {
            parts.push(Part { kind: HeaderKind::Vlan, range: Ethernet::LEN..link, slot: None });
        }
        parts.extend(self.layers.iter().rev().flat_map(Layer::parts));
        parts
    }

    /// The image of `spec`'s packets on this path, which leads to `remote`. `None` where there are [`MAX_LAYERS`] on it
    /// already.
    pub fn stack(&self, spec: &TunnelSpec, remote: IpAddr) -> Option<Self> {
        let mut image = self.clone();
        if let Some(carrier) = image.layers.first() {
            // The carrier's payload type is known now: a packet of this tunnel.
            let version = Version::of_address(spec.local);
            carrier.clone().fill_payload_type(&mut image.bytes, version).ok()?;
        }
        let ip = image.bytes.len();
        let (version, header) = ip_header(spec, remote);
        image.bytes.extend(header);
        let udp = spec.udp.map(|udp| {
            let header = UdpRepr {
                source_port: match udp.source_port {
                    SourcePort::Flow => 0,
                    SourcePort::Fixed(port) => port,
                },
                destination_port: udp.port,
                len: 0,
                checksum: [0, 0],
            };
            let offset = image.bytes.len();
            image.bytes.extend(header.emit());
            offset
        });
        let gue = spec.udp.and_then(|udp| gue_header(spec.encap, udp.kind)).map(|header| {
            let offset = image.bytes.len();
            image.bytes.extend(header.emit());
            offset
        });
        let gre = gre_header(spec).map(|header| {
            let offset = image.bytes.len();
            image.bytes.resize(offset + header.header_len(), 0);
            header.emit(image.bytes.get_mut(offset..).unwrap_or_default());
            offset
        });
        let checksum_at = gre.filter(|_| spec.checksum).map(|gre| gre + 4);
        let payload_type = match (spec.encap, gre, udp, gue) {
            (Encap::Gre, Some(gre), ..) => PayloadType::Ethertype(gre + 2),
            (_, _, None, _) => PayloadType::Protocol(ip + if version == Version::V4 { 9 } else { 6 }),
            (_, _, Some(_), Some(gue)) => PayloadType::Protocol(gue + 1),
            _ => PayloadType::Unsaid,
        };
        let layer = Layer {
            slot: spec.slot,
            version,
            ip,
            udp,
            shim: gue.or(gre),
            end: image.bytes.len(),
            payload_type,
            ttl: spec.ttl,
            dscp: spec.dscp,
            ecn: spec.ecn,
            df: spec.df,
            source_port: spec.udp.map(|udp| udp.source_port),
            udp_checksum: spec.udp.map_or(UdpChecksum::Zero, |udp| udp.checksum),
            gre_checksum: checksum_at,
            gre_sequence: gre.filter(|_| spec.sequence).map(|_| image.bytes.len() - 4),
        };
        image.sums |= layer.has_sums();
        image.layers.insert(0, layer);
        (image.layers.len() <= MAX_LAYERS).then_some(image)
    }

    /// Puts an image without tunnels in front of `frame`. Returns the port to send it by.
    ///
    /// # Errors
    /// [`DropReason::Headroom`] where the buffer has no room in front.
    #[inline]
    pub fn put(&self, frame: &mut Frame<'_>) -> Result<PortId, DropReason> {
        let packet = frame.push_front(self.bytes.len()).ok_or(DropReason::Headroom)?;
        if let Some((front, _)) = packet.split_at_mut_checked(self.bytes.len()) {
            front.copy_from_slice(&self.bytes);
        }
        Ok(self.port)
    }

    /// Puts the image in front of `frame`, which begins with an inner IP packet of which `inherited` tells. Returns the
    /// port to send it by.
    ///
    /// # Errors
    /// [`DropReason::Headroom`] where the buffer has no room in front.
    #[inline]
    pub fn apply(
        &self,
        frame: &mut Frame<'_>,
        inherited: Inherited,
        flow: FlowHash,
        identification: &mut u16,
        stats: &TunnelStats,
        trail: &mut Trail,
    ) -> Result<PortId, DropReason> {
        // Summed before the headers stand in front of it; each layer adds its own.
        let mut sum = if self.sums { Sum::of(frame.bytes()) } else { Sum::default() };
        self.put(frame)?;
        let packet = frame.bytes_mut();
        let mut inherited = inherited;
        let mut is_innermost = true;
        for layer in &self.layers {
            if is_innermost {
                layer.fill_payload_type(packet, inherited.version)?;
                is_innermost = false;
            }
            if let Some(counters) = stats.slot(layer.slot) {
                counters.tx_packets.add(1);
                counters.tx_bytes.add((packet.len() - layer.end) as u64);
                if let Some(offset) = layer.gre_sequence {
                    *at_mut(packet, offset)? = (counters.sequence.read() as u32).to_be_bytes();
                    counters.sequence.add(1);
                }
            }
            trail.entered(layer.slot);
            inherited = layer.fill(packet, inherited, flow, identification, &mut sum, self.sums)?;
        }
        Ok(self.port)
    }
}

fn ip_header(spec: &TunnelSpec, remote: IpAddr) -> (Version, Vec<u8>) {
    let protocol = match (spec.udp, spec.encap) {
        (Some(_), _) => protocol::UDP,
        (None, Encap::Gre) => protocol::GRE,
        (None, Encap::Ip) => 0,
    };
    match (spec.local, remote) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let header = Ipv4Repr {
                traffic_class: 0,
                total_len: 0,
                identification: 0,
                fragment: 0,
                ttl: 0,
                protocol,
                source,
                destination,
            };
            (Version::V4, header.emit().to_vec())
        }
        (source, destination) => {
            let bits = |address| match address {
                IpAddr::V4(address) => address.to_ipv6_mapped(),
                IpAddr::V6(address) => address,
            };
            let header = Ipv6Repr {
                traffic_class: 0,
                flow_label: 0,
                payload_len: 0,
                next_header: protocol,
                hop_limit: 0,
                source: bits(source),
                destination: bits(destination),
            };
            (Version::V6, header.emit().to_vec())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{Df, Dscp, Ecn, Mss, Remote, Ttl, UdpSpec};

    #[test]
    fn parts_follow_each_other_from_the_first_byte_to_the_last() {
        let tunnel = |slot, encap, local: &str, kind: Option<UdpKind>| TunnelSpec {
            name: String::new(),
            slot,
            encap,
            local: local.parse().unwrap(),
            remote: Remote::One(local.parse().unwrap()),
            addresses: Vec::new(),
            key: (encap == Encap::Gre).then_some(1),
            checksum: false,
            sequence: encap == Encap::Gre,
            keepalive: false,
            ttl: Ttl::Fixed(64),
            dscp: Dscp::Inherit,
            ecn: Ecn::Rfc6040,
            df: Df::Set,
            mtu: None,
            mss: Mss::Auto,
            inner_source: Vec::new(),
            reassembly: false,
            latency: false,
            udp: kind.map(|kind| UdpSpec {
                kind,
                port: 1,
                source_port: SourcePort::Flow,
                checksum: UdpChecksum::Full,
            }),
        };
        let mut image = Image::new(&[0; 18], PortId(1));
        for spec in [
            tunnel(7, Encap::Gre, "2001:db8::1", Some(UdpKind::Gue)),
            tunnel(8, Encap::Ip, "192.0.2.1", Some(UdpKind::Fou)),
            tunnel(9, Encap::Gre, "192.0.2.2", None),
        ] {
            image = image.stack(&spec, spec.local).unwrap();
        }
        let parts = image.parts();
        let mut end = 0;
        for part in &parts {
            assert_eq!(part.range.start, end, "{parts:?}");
            end = part.range.end;
        }
        assert_eq!(end, image.link_len() + image.overhead());
        use HeaderKind::*;
        let kinds: Vec<_> = parts.iter().map(|part| (part.kind, part.range.len(), part.slot)).collect();
        assert_eq!(
            kinds,
            [
                (Ethernet, 14, None),
                (Vlan, 4, None),
                (Ipv6, 40, Some(7)),
                (Udp, 8, Some(7)),
                (Gue, 4, Some(7)),
                (Gre, 12, Some(7)),
                (Ipv4, 20, Some(8)),
                (Udp, 8, Some(8)),
                (Ipv4, 20, Some(9)),
                (Gre, 12, Some(9)),
            ]
        );
    }

    #[test]
    fn a_buffer_without_room_in_front_is_refused() {
        let image = Image::new(&[0; 14], PortId(3));
        let mut buffer = [0; 64];
        assert_eq!(image.put(&mut Frame::new(&mut buffer, 13, 20)), Err(DropReason::Headroom));
        assert_eq!(image.put(&mut Frame::new(&mut buffer, 14, 20)), Ok(PortId(3)));
    }
}
