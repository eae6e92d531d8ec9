//! Putting tunnel headers on: an image of the whole stack, made once, copied in front of the packet and patched.
//!
//! The control thread compiles for each tunnel, and for each way to its remote end, everything that stands in front of
//! an inner packet: Ethernet, and for each layer IP, UDP and GRE. A worker copies that in one piece and then fills in,
//! layer by layer from the inside out, the few fields that depend on the packet: lengths, checksums, what is inherited
//! from the layer inside, and what comes from the hash of the inner flow. A stack of tunnels costs one copy, like a
//! single one.

use super::flow::FlowHash;
use super::identification::Identifications;
use super::layer::{Inherited, Layer, Places};
use super::payload;
use crate::frame::Frame;
use crate::hint::prefetch;
use crate::stats::{MAX_LAYERS, Trail, TunnelStats};
use crate::table::{Df, Encap, InterfaceId, MAX_IMAGE, PortId, SourcePort, TunnelId, TunnelSpec, UdpKind};
use crate::verdict::{DropReason, Ingress};
use crate::wire::checksum::Sum;
use crate::wire::ethernet::Ethernet;
use crate::wire::gre::GreRepr;
use crate::wire::gue::{Gue, GueRepr};
use crate::wire::ip::Version;
use crate::wire::ipv4::{self, Ipv4Repr};
use crate::wire::ipv6::Ipv6Repr;
use crate::wire::udp::{Udp, UdpRepr};
use crate::wire::vlan::Vlan;
use crate::wire::{at_mut, ethertype, protocol};
use arrayvec::ArrayVec;
use std::mem::offset_of;
use std::net::IpAddr;
use std::ops::Range;

/// Bytes that an image has room for: [`MAX_IMAGE`] fits. The last 64 of them, and what is asked of every packet up to the
/// innermost layer, are in two cache lines.
const ROOM: usize = 144;

/// The longest image that is copied in one piece of fixed length.
pub(crate) const SHORT: usize = 128;

/// Some layer has a checksum over its payload.
const SUMS: u8 = 1;
/// Something comes from the hash of the flow.
const FLOW: u8 = 2;

/// Everything in front of a packet, from the Ethernet header to the innermost tunnel header, and what is crossed by it.
///
/// The bytes end where the room does, so that a worker copies the last 16, 64 or 128 of them in one piece of fixed length,
/// whatever the image's own length is; what lies in front of them in a packet's buffer is headroom.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub struct Image {
    bytes: [u8; ROOM],
    len: u8,
    link_len: u8, // of which Ethernet header and tag
    marks: u8,    // of `SUMS` and `FLOW`
    port: PortId,
    short_limit: u16,
    layers: ArrayVec<Layer, MAX_LAYERS>, // innermost first
    // Asked of few packets.
    limit: u16,
    crossed: Ingress,
}

/// What is asked of every packet ends with the third line, of which [`Image::prefetch`] asks for two.
const _: () = assert!(offset_of!(Image, layers) + size_of::<ArrayVec<Layer, 1>>() <= 3 * 64);

/// Why one more tunnel does not fit on a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unstackable {
    /// There are [`MAX_LAYERS`] already.
    Layers,
    /// The headers would be of so many bytes, more than [`MAX_IMAGE`].
    Bytes(usize),
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
    let protocol = if encap == Encap::Gre { protocol::GRE } else { protocol::IPV4 };
    (kind == UdpKind::Gue).then_some(GueRepr { header_len: Gue::LEN, protocol })
}

fn gre_header(spec: &TunnelSpec) -> Option<GreRepr> {
    (spec.encap == Encap::Gre).then_some(GreRepr {
        protocol_type: ethertype::IPV4,
        has_checksum: spec.checksum,
        key: spec.key,
        sequence: spec.sequence.then_some(0),
    })
}

impl Image {
    /// The image of a path without tunnels: this Ethernet header, tag included, out of this port by this interface, which
    /// takes packets of up to `limit` bytes. A header of more than 18 bytes is cut.
    pub fn new(ethernet: &[u8], port: PortId, crossed: InterfaceId, limit: u16) -> Self {
        let mut image = Image {
            bytes: [0; ROOM],
            len: 0,
            link_len: 0,
            marks: 0,
            port,
            limit,
            short_limit: limit,
            crossed: Ingress::Interface(crossed),
            layers: ArrayVec::new(),
        };
        image.set_bytes(ethernet.get(..Ethernet::LEN + Vlan::LEN).unwrap_or(ethernet));
        image.link_len = image.len;
        image
    }

    /// Puts bytes at the end of the room; as many as there are at most.
    fn set_bytes(&mut self, bytes: &[u8]) {
        self.bytes = [0; ROOM];
        let start = ROOM.saturating_sub(bytes.len());
        for (to, from) in self.bytes.iter_mut().skip(start).zip(bytes) {
            *to = *from;
        }
        self.len = bytes.len().min(ROOM) as u8;
    }

    /// Bytes of Ethernet header and tag.
    pub fn link_len(&self) -> usize {
        usize::from(self.link_len)
    }

    /// Bytes of all tunnel headers.
    pub fn overhead(&self) -> usize {
        usize::from(self.len - self.link_len)
    }

    /// Its bytes; what depends on a packet is not filled in.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(ROOM - usize::from(self.len)..).unwrap_or_default()
    }

    /// The port that the image's packets leave by.
    #[inline]
    pub fn port(&self) -> PortId {
        self.port
    }

    /// What is crossed first: the tunnel that packets are put into, or the interface that they leave by.
    #[inline]
    pub fn crossed(&self) -> Ingress {
        self.crossed
    }

    /// The largest packet that the image may be put in front of, in bytes.
    #[inline]
    pub fn limit(&self) -> usize {
        usize::from(self.limit)
    }

    /// Says how large a packet may be that the image is put in front of.
    pub(crate) fn set_limit(&mut self, limit: u16) {
        let is_short = self.len() <= SHORT && !self.layers.iter().any(Layer::has_gre_fields);
        (self.limit, self.short_limit) = (limit, if is_short { limit } else { 0 });
    }

    /// Its length in bytes.
    #[inline(always)]
    pub fn len(&self) -> usize {
        usize::from(self.len)
    }

    /// Whether it has no bytes, which no path has.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether there are no tunnels in it.
    #[inline(always)]
    pub(crate) fn is_link(&self) -> bool {
        self.len == self.link_len
    }

    /// The slot of its innermost tunnel.
    #[inline(always)]
    pub(crate) fn slot(&self) -> Option<u32> {
        self.layers.first().map(|layer| layer.slot)
    }

    /// Asks for the memory that putting it in front will read.
    #[inline(always)]
    pub(crate) fn prefetch(&self) {
        // The room's last lines, and what follows them.
        if let Some(line) = self.bytes.last_chunk::<64>() {
            prefetch(line);
        }
        prefetch(&self.len);
    }

    /// Whether what is put in front depends on the hash of the flow.
    #[inline]
    pub fn wants_flow(&self) -> bool {
        self.marks & FLOW != 0
    }

    /// The slots of its tunnels, innermost first.
    pub fn slots(&self) -> impl Iterator<Item = u32> {
        self.layers.iter().map(|layer| layer.slot)
    }

    /// Where its headers stand, outermost first. For reports: it allocates.
    pub fn parts(&self) -> Vec<Part> {
        let link = self.link_len();
        let mut parts = vec![Part { kind: HeaderKind::Ethernet, range: 0..Ethernet::LEN, slot: None }];
        if link > Ethernet::LEN {
            parts.push(Part { kind: HeaderKind::Vlan, range: Ethernet::LEN..link, slot: None });
        }
        parts.extend(self.layers.iter().rev().flat_map(Layer::parts));
        parts
    }

    /// The image of the packets of tunnel `id`, which is `spec`'s, on this path, which leads to `remote`.
    ///
    /// # Errors
    /// [`Unstackable`] where there are [`MAX_LAYERS`] on it already, or more bytes than [`MAX_IMAGE`].
    pub fn stack(&self, id: TunnelId, spec: &TunnelSpec, remote: IpAddr) -> Result<Self, Unstackable> {
        let (mut image, mut bytes) = (self.clone(), self.bytes().to_vec());
        if let Some(carrier) = image.layers.first_mut().filter(|_| spec.local.is_ipv6()) {
            carrier.turn_to_ipv6(&mut bytes);
        }
        let ip = bytes.len();
        let (version, header) = ip_header(spec, remote);
        bytes.extend(header);
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
            let offset = bytes.len();
            bytes.extend(header.emit());
            offset
        });
        let gue = spec.udp.and_then(|udp| gue_header(spec.encap, udp.kind)).map(|header| {
            let offset = bytes.len();
            bytes.extend(header.emit());
            offset
        });
        let gre = gre_header(spec).map(|header| {
            let offset = bytes.len();
            bytes.resize(offset + header.header_len(), 0);
            header.emit(bytes.get_mut(offset..).unwrap_or_default());
            offset
        });
        if bytes.len() > MAX_IMAGE {
            return Err(Unstackable::Bytes(bytes.len()));
        }
        let layer = Layer::new(spec, Places { version, ip, udp, gue, gre, end: bytes.len() }, &bytes);
        image.set_bytes(&bytes);
        let marks = [(SUMS, layer.has_sums()), (FLOW, layer.wants_flow())];
        image.marks |= marks.iter().filter(|(_, has)| *has).fold(0, |marks, (mark, _)| marks | mark);
        image.crossed = Ingress::Tunnel(id);
        if image.layers.is_full() {
            return Err(Unstackable::Layers);
        }
        image.layers.iter_mut().for_each(|carrier| carrier.carry(&layer));
        image.layers.insert(0, layer);
        image.set_limit(image.limit);
        Ok(image)
    }

    /// Puts an image without tunnels in front of `frame`. Returns the port to send it by.
    ///
    /// # Errors
    /// [`DropReason::Headroom`] where the buffer has no room in front.
    pub fn put(&self, frame: &mut Frame<'_>) -> Result<PortId, DropReason> {
        let packet = frame.push_front(self.len()).ok_or(DropReason::Headroom)?;
        for (to, from) in packet.iter_mut().zip(self.bytes()) {
            *to = *from;
        }
        Ok(self.port)
    }

    /// The largest packet that it may be put in front of by [`put_within`](Self::put_within), in bytes: none where it is too
    /// long for that, or has a GRE checksum or sequence number.
    #[inline(always)]
    pub(crate) fn short_limit(&self) -> usize {
        usize::from(self.short_limit)
    }

    /// Copies it to the end of `room`; what else is changed there is headroom. Only for one with a
    /// [`short_limit`](Self::short_limit).
    #[inline(always)]
    pub(crate) fn put_within(&self, room: &mut [u8; SHORT]) {
        match self.len {
            ..=16 => self.copy::<16>(room),
            17..=64 => self.copy::<64>(room),
            _ => self.copy::<SHORT>(room),
        }
    }

    /// Copies the last `N` bytes of both.
    #[inline(always)]
    fn copy<const N: usize>(&self, room: &mut [u8; SHORT]) {
        if let (Some(to), Some(from)) = (room.last_chunk_mut::<N>(), self.bytes.last_chunk()) {
            *to = *from;
        }
    }

    /// Whether a checksum of its headers covers what is inside.
    #[inline(always)]
    pub(crate) fn has_sums(&self) -> bool {
        self.marks & SUMS != 0
    }

    /// Puts the image in front of `frame`, which begins with an inner IP packet of which `inherited` tells. Returns the
    /// port to send it by.
    ///
    /// # Errors
    /// [`DropReason::Headroom`] where the buffer has no room in front.
    pub fn apply(
        &self,
        frame: &mut Frame<'_>,
        inherited: Inherited,
        flow: FlowHash,
        identifications: &mut Identifications,
        stats: &TunnelStats,
        trail: &mut Trail,
    ) -> Result<PortId, DropReason> {
        let sum =
            if self.has_sums() { payload::sum(frame.bytes(), inherited.version) } else { Sum::default() };
        let inside = Inside { inherited, flow, sum };
        let len = frame.len();
        self.put(frame)?;
        self.number(frame.bytes_mut(), stats)?;
        let len_of_all = frame.len();
        self.fill_in(inside, (frame.bytes_mut(), len_of_all), identifications)?;
        self.enter(trail);
        self.count(stats, 1, len as u64);
        Ok(self.port)
    }

    /// Fills in the headers at the end of `room`, where [they were put](Self::put_within), for a packet of `len` bytes that
    /// follows them. The packet is [counted](Self::count) by the caller.
    ///
    /// # Errors
    /// None for an image with a [`short_limit`](Self::short_limit).
    #[inline(always)]
    pub(crate) fn fill_within(
        &self,
        room: &mut [u8; SHORT],
        len: usize,
        inside: Inside,
        identifications: &mut Identifications,
    ) -> Result<(), DropReason> {
        let start = SHORT.checked_sub(self.len()).ok_or(DropReason::Headroom)?;
        let headers = room.get_mut(start..).ok_or(DropReason::Headroom)?;
        self.fill_in(inside, (headers, self.len() + len), identifications)
    }

    /// Fills in the headers that `packet` begins with, which is that long.
    #[inline(always)]
    fn fill_in(
        &self,
        inside: Inside,
        packet: (&mut [u8], usize),
        identifications: &mut Identifications,
    ) -> Result<(), DropReason> {
        match self.has_sums() {
            true => self.fill::<true>(inside, packet, identifications),
            false => self.fill::<false>(inside, packet, identifications),
        }
    }

    /// Writes the sequence numbers of GRE.
    fn number(&self, packet: &mut [u8], stats: &TunnelStats) -> Result<(), DropReason> {
        for layer in &self.layers {
            if let (Some(offset), Some(counters)) = (layer.gre_sequence, stats.slot(layer.slot)) {
                *at_mut(packet, usize::from(offset))? = (counters.sequence.read() as u32).to_be_bytes();
                counters.sequence.add(1);
            }
        }
        Ok(())
    }

    /// Counts packets that it was put in front of, of so many bytes before, for their tunnels.
    #[inline(always)]
    pub(crate) fn count(&self, stats: &TunnelStats, packets: u64, bytes: u64) {
        for layer in &self.layers {
            if let Some(counters) = stats.slot(layer.slot) {
                counters.tx_packets.add(packets);
                counters.tx_bytes.add(bytes + packets * u64::from(self.len - layer.end));
            }
        }
    }

    /// Adds its tunnels to those that a packet crosses.
    #[inline(always)]
    pub(crate) fn enter(&self, trail: &mut Trail) {
        self.layers.iter().for_each(|layer| trail.entered(layer.slot));
    }

    /// The same with the sums of what is covered by checksums, if `SUMS`.
    #[inline(always)]
    fn fill<const SUMS: bool>(
        &self,
        inside: Inside,
        (packet, len): (&mut [u8], usize),
        identifications: &mut Identifications,
    ) -> Result<(), DropReason> {
        let Inside { inherited, flow, mut sum } = inside;
        let Some((innermost, carriers)) = self.layers.split_first() else { return Ok(()) };
        sum = innermost.fill_innermost::<SUMS>((&mut *packet, len), inherited, flow, identifications, sum)?;
        for layer in carriers {
            sum = layer.fill::<SUMS>((&mut *packet, len), inherited, flow, identifications, sum)?;
        }
        Ok(())
    }
}

/// What the headers in front of a packet are filled in from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Inside {
    /// What its own header says.
    pub(crate) inherited: Inherited,
    /// The hash of its flow.
    pub(crate) flow: FlowHash,
    /// The sum of all of it, where a [checksum](Image::has_sums) covers it.
    pub(crate) sum: Sum,
}

fn ip_header(spec: &TunnelSpec, remote: IpAddr) -> (Version, Vec<u8>) {
    let protocol = match (spec.udp, spec.encap) {
        (Some(_), _) => protocol::UDP,
        (None, Encap::Gre) => protocol::GRE,
        (None, Encap::Ip) => protocol::IPV4,
    };
    // Where one of both differs from packet to packet, both are filled in for each.
    let is_fixed = spec.ttl.fixed().is_some() && (spec.df == Df::Set || spec.local.is_ipv6());
    let (ttl, df) = if is_fixed { (spec.ttl.fixed().unwrap_or(0), ipv4::DF) } else { (0, 0) };
    match (spec.local, remote) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let header = Ipv4Repr {
                traffic_class: 0,
                total_len: 0,
                identification: 0,
                fragment: df,
                ttl,
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
                hop_limit: ttl,
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
    use crate::table::{Df, Dscp, Ecn, Mss, Remote, Ttl, UdpChecksum, UdpSpec};

    #[test]
    fn what_every_packet_needs_is_in_two_cache_lines() {
        let image = Image::new(&[0; Ethernet::LEN], PortId(0), InterfaceId(0), 1500);
        let start = (&raw const image).addr();
        let last = image.bytes.last_chunk::<64>().unwrap().as_ptr().addr() - start;
        let layer = image.layers.as_ptr().addr() - start + size_of::<Layer>();
        assert_eq!((last / 64, (layer - 1) / 64), (1, 2));
        assert_eq!(size_of::<Image>(), 5 * 64);
    }

    #[test]
    fn parts_follow_each_other_from_the_first_byte_to_the_last() {
        let tunnel = |slot, encap, local: &str, kind: Option<UdpKind>| TunnelSpec {
            name: String::new(),
            slot,
            encap,
            local: local.parse().unwrap(),
            remote: Remote::One(local.parse().unwrap()),
            addresses: [].into(),
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
            inner_source: [].into(),
            reassembly: false,
            latency: false,
            udp: kind.map(|kind| UdpSpec {
                kind,
                port: 1,
                source_port: SourcePort::Flow,
                checksum: UdpChecksum::Full,
            }),
        };
        let mut image = Image::new(&[0; 18], PortId(1), InterfaceId(0), 1500);
        for spec in [
            tunnel(7, Encap::Gre, "2001:db8::1", Some(UdpKind::Gue)),
            tunnel(8, Encap::Ip, "192.0.2.1", Some(UdpKind::Fou)),
            tunnel(9, Encap::Gre, "192.0.2.2", None),
        ] {
            image = image.stack(TunnelId(spec.slot), &spec, spec.local).unwrap();
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
        let image = Image::new(&[0; 14], PortId(3), InterfaceId(0), 1500);
        let mut buffer = [0; 64];
        assert_eq!(image.put(&mut Frame::new(&mut buffer, 13, 20)), Err(DropReason::Headroom));
        assert_eq!(image.put(&mut Frame::new(&mut buffer, 14, 20)), Ok(PortId(3)));
    }
}
