//! One layer of an image: the headers of one tunnel, and how they are filled in for a packet.
//!
//! What is the same in every packet was summed up when the image was compiled, and the fields that differ are summed as
//! they are written. Nothing is read back from memory that was just written, which would cost more than all the rest. Nor
//! does a layer wait for the one inside: what it inherits through others is a mask over what the innermost packet says.

use super::ecn;
use super::encap::{HeaderKind, Part};
use super::flow::FlowHash;
use super::identification::Identifications;
use crate::table::{Df, Dscp, Ecn, SourcePort, TunnelSpec, UdpChecksum};
use crate::verdict::DropReason;
use crate::wire::checksum::Sum;
use crate::wire::gue::Gue;
use crate::wire::ip::{Ip, Plain, Version};
use crate::wire::ipv4::{self, Ipv4};
use crate::wire::ipv6::Ipv6;
use crate::wire::udp::Udp;
use crate::wire::{at_mut, protocol};

/// One layer of an image: where its headers begin, counted from the image's first byte, and how they are filled in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layer {
    pub(super) slot: u32,
    pub(super) version: Version,
    pub(super) ip: u8,
    pub(super) udp: Option<u8>,
    pub(super) shim: Option<u8>, // GUE, or GRE where there is none
    pub(super) end: u8,
    payload_type: PayloadType,
    class: Inherit, // DSCP and ECN
    ttl: Inherit,
    df: Inherit,      // of [`DF`]; nothing over IPv6
    varies: bool,     // TTL and DF are not the same in every packet, or packets need an identification
    source_port: u16, // 0: from the flow
    has_udp_checksum: bool,
    gre_checksum: Option<u8>,
    pub(super) gre_sequence: Option<u8>,
    // Sums of what is the same in every packet.
    addresses: [u8; 2],
    ip_rest: [u8; 2],   // of the IP header, addresses included
    udp_port: [u8; 2],  // the destination
    shim_rest: [u8; 2], // of what stands between UDP or IP and the payload
}

/// Don't fragment, in the byte of an IPv4 header that holds it.
const DF: u8 = (ipv4::DF >> 8) as u8;

/// How a field of one byte comes from the same field of the innermost packet.
#[derive(Clone, Copy, Debug)]
struct Inherit {
    fixed: u8,
    mask: u8, // the bits that are inherited
}

impl Inherit {
    /// The field for a packet that has `inner` there.
    #[inline(always)]
    fn of(self, inner: u8) -> u8 {
        self.fixed | inner & self.mask
    }

    /// The same by way of a layer inside, which comes between the packet and this one.
    fn by_way_of(self, inside: Inherit) -> Self {
        Inherit { fixed: self.fixed | inside.fixed & self.mask, mask: self.mask & inside.mask }
    }
}

/// Where a layer says what it carries.
#[derive(Clone, Copy, Debug)]
enum PayloadType {
    /// GRE.
    Ethertype(u8),
    /// GUE.
    Gue(u8),
    /// IP itself.
    Ip(u8),
    /// The version of the inner packet says it.
    Unsaid,
}

/// Where the headers of a layer begin in an image, as that is being made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Places {
    pub(super) version: Version,
    pub(super) ip: usize,
    pub(super) udp: Option<usize>,
    pub(super) gue: Option<usize>,
    pub(super) gre: Option<usize>,
    pub(super) end: usize,
}

/// What the headers in front inherit from a packet.
#[derive(Clone, Copy, Debug)]
pub struct Inherited {
    pub(super) version: Version,
    class: u8,
    ttl: u8,
    df: u8,
}

impl Inherited {
    /// From a checked header.
    #[inline]
    pub fn new(ip: Ip<'_>) -> Self {
        let df = if ip.dont_fragment() { DF } else { 0 };
        Inherited { version: ip.version(), class: ip.traffic_class(), ttl: ip.ttl(), df }
    }

    /// From a header that was read at a glance.
    #[inline(always)]
    pub(crate) fn plain(ip: Plain) -> Self {
        let df = if ip.dont_fragment { DF } else { 0 };
        Inherited { version: ip.version, class: ip.traffic_class, ttl: ip.ttl, df }
    }

    /// The same for a packet whose TTL is being lowered.
    #[inline]
    pub fn one_hop_later(self) -> Self {
        Inherited { ttl: self.ttl.saturating_sub(1), ..self }
    }
}

/// What is to be added to the sums of a layer that carries IPv6 in place of IPv4.
#[derive(Clone, Copy, Debug, Default)]
struct Turned {
    shim: Sum,
    ip: Sum,
}

impl Layer {
    /// The layer of `spec`'s tunnel, whose headers stand at these places of `image`.
    pub(super) fn new(spec: &TunnelSpec, places: Places, image: &[u8]) -> Self {
        let Places { version, ip, udp, gue, gre, end } = places;
        // An image is shorter than 256 bytes: MAX_IMAGE.
        let at = |offset: usize| offset as u8;
        let shim = gue.or(gre);
        let addresses = match version {
            Version::V4 => ip + 12..ip + 20,
            Version::V6 => ip + 8..ip + 40,
        };
        let sum = |range: std::ops::Range<usize>| Sum::of(image.get(range).unwrap_or_default()).to_word();
        let ip_rest = match version {
            // All but the checksum, which is that of the header as it was laid out.
            Version::V4 => (Sum::word(sum(ip..ip + 10)) + Sum::word(sum(ip + 12..ip + 20))).to_word(),
            // Version, traffic class, flow label and length are summed as they are filled in.
            Version::V6 => sum(ip + 6..ip + 40),
        };
        let (dscp, dscp_mask) = match spec.dscp {
            Dscp::Fixed(dscp) => (dscp << 2, 0),
            Dscp::Inherit | Dscp::Uniform => (0, !ecn::MASK),
        };
        let ecn_mask = if spec.ecn == Ecn::Rfc6040 { ecn::MASK } else { 0 };
        Layer {
            slot: spec.slot,
            version,
            ip: at(ip),
            udp: udp.map(at),
            shim: shim.map(at),
            end: at(end),
            payload_type: match (gre, gue, udp) {
                (Some(gre), ..) => PayloadType::Ethertype(at(gre + 2)),
                (None, Some(gue), _) => PayloadType::Gue(at(gue + 1)),
                (None, None, None) => PayloadType::Ip(at(ip + if version == Version::V4 { 9 } else { 6 })),
                (None, None, Some(_)) => PayloadType::Unsaid,
            },
            varies: spec.ttl.fixed().is_none() || (version == Version::V4 && spec.df != Df::Set),
            class: Inherit { fixed: dscp, mask: dscp_mask | ecn_mask },
            ttl: spec
                .ttl
                .fixed()
                .map_or(Inherit { fixed: 0, mask: 0xff }, |ttl| Inherit { fixed: ttl, mask: 0 }),
            df: match (version, spec.df) {
                (Version::V4, Df::Set) => Inherit { fixed: DF, mask: 0 },
                (Version::V4, Df::Inherit) => Inherit { fixed: 0, mask: DF },
                (Version::V4, Df::Clear) | (Version::V6, _) => Inherit { fixed: 0, mask: 0 },
            },
            source_port: match spec.udp.map(|udp| udp.source_port) {
                Some(SourcePort::Fixed(port)) => port,
                Some(SourcePort::Flow) | None => 0,
            },
            has_udp_checksum: spec.udp.is_some_and(|udp| udp.checksum == UdpChecksum::Full),
            gre_checksum: gre.filter(|_| spec.checksum).map(|gre| at(gre + 4)),
            gre_sequence: gre.filter(|_| spec.sequence).map(|_| at(end - 4)),
            addresses: sum(addresses),
            ip_rest,
            udp_port: spec.udp.map_or([0; 2], |udp| udp.port.to_be_bytes()),
            shim_rest: shim.map_or([0; 2], |shim| sum(shim..end)),
        }
    }

    /// Where its headers stand, outermost first.
    pub(super) fn parts(&self) -> impl Iterator<Item = Part> {
        let gre = match self.payload_type {
            PayloadType::Ethertype(offset) => Some(offset - 2),
            _ => None,
        };
        let gue = self.shim.filter(|shim| gre != Some(*shim));
        let ip = match self.version {
            Version::V4 => HeaderKind::Ipv4,
            Version::V6 => HeaderKind::Ipv6,
        };
        let headers = [
            Some((ip, self.ip, self.ip + self.version.header_len() as u8)),
            self.udp.map(|offset| (HeaderKind::Udp, offset, offset + Udp::LEN as u8)),
            gue.map(|offset| (HeaderKind::Gue, offset, offset + Gue::LEN as u8)),
            gre.map(|offset| (HeaderKind::Gre, offset, self.end)),
        ];
        let slot = Some(self.slot);
        headers.into_iter().flatten().map(move |(kind, start, end)| Part {
            kind,
            range: usize::from(start)..usize::from(end),
            slot,
        })
    }

    /// Whether some checksum of this layer covers its payload.
    pub(super) fn has_sums(&self) -> bool {
        self.gre_checksum.is_some() || self.has_udp_checksum
    }

    /// Whether GRE has fields that differ from packet to packet.
    pub(super) fn has_gre_fields(&self) -> bool {
        self.gre_checksum.is_some() || self.gre_sequence.is_some()
    }

    /// Whether something in it comes from the hash of the inner flow.
    pub(super) fn wants_flow(&self) -> bool {
        self.version == Version::V6 || (self.udp.is_some() && self.source_port == 0)
    }

    /// Puts `inside` between this layer and the packets, in an image that both are part of.
    pub(super) fn carry(&mut self, inside: &Layer) {
        self.class = self.class.by_way_of(inside.class);
        self.ttl = self.ttl.by_way_of(inside.ttl);
        self.df = self.df.by_way_of(inside.df);
    }

    /// Says for good that what this layer carries, which stands right behind it in `image`, is IPv6.
    pub(super) fn turn_to_ipv6(&mut self, image: &mut [u8]) {
        // It stands where the image has bytes.
        let turned = self.say_ipv6(image).unwrap_or_default();
        self.shim_rest = (Sum::word(self.shim_rest) + turned.shim).to_word();
        self.ip_rest = (Sum::word(self.ip_rest) + turned.ip).to_word();
    }

    /// Says that this layer carries IPv6. An image says that it carries IPv4.
    #[cold]
    fn say_ipv6(&self, packet: &mut [u8]) -> Result<Turned, DropReason> {
        let turn = |from: [u8; 2], to: [u8; 2]| Sum::word(from).opposite() + Sum::word(to);
        let (ipv4, ipv6) = (Version::V4, Version::V6);
        Ok(match self.payload_type {
            PayloadType::Ethertype(offset) => {
                *at_mut(packet, usize::from(offset))? = ipv6.ethertype().to_be_bytes();
                let shim = turn(ipv4.ethertype().to_be_bytes(), ipv6.ethertype().to_be_bytes());
                Turned { shim, ip: Sum::default() }
            }
            PayloadType::Gue(offset) => {
                *at_mut(packet, usize::from(offset))? = [ipv6.protocol()];
                let shim = turn([0, ipv4.protocol()], [0, ipv6.protocol()]);
                Turned { shim, ip: Sum::default() }
            }
            PayloadType::Ip(offset) => {
                *at_mut(packet, usize::from(offset))? = [ipv6.protocol()];
                let word = |protocol| if self.version == Version::V4 { [0, protocol] } else { [protocol, 0] };
                Turned { shim: Sum::default(), ip: turn(word(ipv4.protocol()), word(ipv6.protocol())) }
            }
            PayloadType::Unsaid => Turned::default(),
        })
    }

    /// Fills in everything that depends on the packet, of the layer right in front of it. `packet` begins with the image's
    /// first byte and is `len` bytes long, with room behind. `sum` is that of what is inside, if `SUMS`. Returns that of the
    /// whole.
    #[inline(always)]
    pub(super) fn fill_innermost<const SUMS: bool>(
        &self,
        (packet, len): (&mut [u8], usize),
        inherited: Inherited,
        flow: FlowHash,
        identifications: &mut Identifications,
        sum: Sum,
    ) -> Result<Sum, DropReason> {
        let turned = match inherited.version {
            Version::V4 => Turned::default(),
            Version::V6 => self.say_ipv6(packet)?,
        };
        self.fill_around::<SUMS>((packet, len), inherited, flow, identifications, sum, turned)
    }

    /// The same of a layer further out. `sum` is that of what follows its headers.
    #[inline(always)]
    pub(super) fn fill<const SUMS: bool>(
        &self,
        packet: (&mut [u8], usize),
        inherited: Inherited,
        flow: FlowHash,
        identifications: &mut Identifications,
        sum: Sum,
    ) -> Result<Sum, DropReason> {
        self.fill_around::<SUMS>(packet, inherited, flow, identifications, sum, Turned::default())
    }

    #[inline(always)]
    fn fill_around<const SUMS: bool>(
        &self,
        (packet, len): (&mut [u8], usize),
        inherited: Inherited,
        flow: FlowHash,
        identifications: &mut Identifications,
        inside: Sum,
        turned: Turned,
    ) -> Result<Sum, DropReason> {
        let mut sum = inside;
        if SUMS {
            sum = self.sum_shim(packet, inside, turned.shim)?;
        }
        let total_len = len - usize::from(self.ip);
        if let Some(udp) = self.udp {
            sum = self.fill_udp::<SUMS>((packet, len), usize::from(udp), flow, sum)?;
        }
        let class = self.class.of(inherited.class);
        match self.version {
            Version::V4 => {
                let header: &mut [u8; Ipv4::LEN] = at_mut(packet, usize::from(self.ip))?;
                let len = (total_len as u16).to_be_bytes();
                header[1] = class;
                [header[2], header[3]] = len;
                let mut words = Sum::word(self.ip_rest) + turned.ip + Sum::word([0, class]) + Sum::word(len);
                if self.varies {
                    words = words + self.fill_varying(header, inherited, identifications);
                }
                [header[10], header[11]] = words.checksum();
                // With its checksum in place the header sums to nothing.
            }
            Version::V6 => {
                let header: &mut [u8; Ipv6::LEN] = at_mut(packet, usize::from(self.ip))?;
                let word = (6 << 28 | u32::from(class) << 20 | flow.label()).to_be_bytes();
                let len = ((total_len - Ipv6::LEN) as u16).to_be_bytes();
                [header[0], header[1], header[2], header[3]] = word;
                [header[4], header[5]] = len;
                if SUMS {
                    sum = sum + Sum::word(self.ip_rest) + turned.ip + Sum::pair(word) + Sum::word(len);
                }
                if self.varies {
                    let ttl = self.ttl.of(inherited.ttl);
                    header[7] = ttl;
                    sum = sum + Sum::word([0, ttl]);
                }
            }
        }
        Ok(sum)
    }

    /// Fills in identification, DF and TTL, which are zero before. Returns their sum.
    #[inline(always)]
    fn fill_varying(
        &self,
        header: &mut [u8; Ipv4::LEN],
        inherited: Inherited,
        identifications: &mut Identifications,
    ) -> Sum {
        let (df, ttl) = (self.df.of(inherited.df), self.ttl.of(inherited.ttl));
        // An atomic datagram needs no identification (RFC 6864 §4.1); others must not repeat one soon.
        if df == 0 {
            [header[4], header[5]] = identifications.for_ipv4().to_be_bytes();
        }
        header[6] = df;
        header[8] = ttl;
        Sum::word([header[4], header[5]]) + Sum::word([df, 0]) + Sum::word([ttl, 0])
    }

    /// Adds the headers between UDP or IP and the inner packet to `inside`, and writes the GRE checksum where there is one.
    #[inline(always)]
    fn sum_shim(&self, packet: &mut [u8], inside: Sum, turned: Sum) -> Result<Sum, DropReason> {
        if self.has_gre_fields() {
            return self.sum_gre_fields(packet, inside);
        }
        Ok(inside + Sum::word(self.shim_rest) + turned)
    }

    /// The same where GRE has fields that differ from packet to packet.
    #[cold]
    fn sum_gre_fields(&self, packet: &mut [u8], inside: Sum) -> Result<Sum, DropReason> {
        let shim = self.shim.map_or(usize::from(self.end), usize::from);
        let Some(offset) = self.gre_checksum.map(usize::from) else {
            return Ok(inside + Sum::of(packet.get(shim..usize::from(self.end)).unwrap_or_default()));
        };
        let gre = offset - 4;
        let checksum =
            (inside + Sum::of(packet.get(gre..usize::from(self.end)).unwrap_or_default())).checksum();
        *at_mut(packet, offset)? = checksum;
        // With its checksum in place GRE and its payload sum to nothing; what is left is a GUE header, if any.
        Ok(Sum::of(packet.get(shim..gre).unwrap_or_default()))
    }

    /// Fills in the UDP header and returns its sum with all behind it, if `SUMS`.
    #[inline(always)]
    fn fill_udp<const SUMS: bool>(
        &self,
        (packet, len): (&mut [u8], usize),
        offset: usize,
        flow: FlowHash,
        inside: Sum,
    ) -> Result<Sum, DropReason> {
        let len = len - offset;
        let header: &mut [u8; Udp::LEN] = at_mut(packet, offset)?;
        let source = if self.source_port == 0 { flow.source_port() } else { self.source_port }.to_be_bytes();
        [header[0], header[1]] = source;
        let len_bytes = (len as u16).to_be_bytes();
        [header[4], header[5]] = len_bytes;
        if !SUMS {
            return Ok(inside);
        }
        let sum = inside + Sum::word(source) + Sum::word(self.udp_port) + Sum::word(len_bytes);
        if !self.has_udp_checksum {
            return Ok(sum);
        }
        let pseudo = Sum::word(self.addresses) + Sum::pseudo_header(&[], protocol::UDP, len);
        let checksum = (sum + pseudo).udp_checksum();
        [header[6], header[7]] = checksum;
        Ok(sum + Sum::word(checksum))
    }
}
