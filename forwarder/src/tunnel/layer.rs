//! One layer of an image: the headers of one tunnel, and how they are filled in for a packet.
//!
//! What is the same in every packet was summed up when the image was compiled, and the fields that differ are summed as
//! they are written. Nothing is read back from memory that was just written, which would cost more than all the rest.

use super::ecn;
use super::encap::{HeaderKind, Part};
use super::flow::FlowHash;
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
    ttl: u8,      // 0: the inner packet's
    class: u8,    // what is fixed of DSCP and ECN
    inherits: u8, // the bits of DSCP and ECN that are the inner packet's
    df: Df,
    source_port: u16, // 0: from the flow
    has_udp_checksum: bool,
    gre_checksum: Option<u8>,
    pub(super) gre_sequence: Option<u8>,
    // Sums of what is the same in every packet.
    addresses: [u8; 2],
    ip_rest: [u8; 2],   // of the IP header's other fixed words, its payload's type left out
    udp_port: [u8; 2],  // the destination
    shim_rest: [u8; 2], // of what stands between UDP or IP and the payload, but for its type
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
    traffic_class: u8,
    ttl: u8,
    dont_fragment: bool,
}

impl Inherited {
    /// From a checked header.
    #[inline]
    pub fn new(ip: Ip<'_>) -> Self {
        Inherited {
            version: ip.version(),
            traffic_class: ip.traffic_class(),
            ttl: ip.ttl(),
            dont_fragment: ip.dont_fragment(),
        }
    }

    /// From a header that was read at a glance.
    #[inline(always)]
    pub(crate) fn plain(ip: Plain) -> Self {
        Inherited {
            version: ip.version,
            traffic_class: ip.traffic_class,
            ttl: ip.ttl,
            dont_fragment: ip.dont_fragment,
        }
    }

    /// The same for a packet whose TTL is being lowered.
    #[inline]
    pub fn one_hop_later(self) -> Self {
        Inherited { ttl: self.ttl.saturating_sub(1), ..self }
    }
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
            // Up to the checksum, which is that of the header as it was laid out.
            Version::V4 => sum(ip..ip + 10),
            // The next header: version, traffic class, flow label and length are summed as they are filled in.
            Version::V6 => sum(ip + 6..ip + 8),
        };
        let inherits_dscp = matches!(spec.dscp, Dscp::Inherit | Dscp::Uniform);
        let dscp = match spec.dscp {
            Dscp::Fixed(dscp) => dscp << 2,
            Dscp::Inherit | Dscp::Uniform => 0,
        };
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
            ttl: spec.ttl.fixed().unwrap_or(0),
            class: dscp,
            inherits: if inherits_dscp { !ecn::MASK } else { 0 }
                | if spec.ecn == Ecn::Rfc6040 { ecn::MASK } else { 0 },
            df: spec.df,
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

    /// Whether something in it comes from the hash of the inner flow.
    pub(super) fn wants_flow(&self) -> bool {
        self.version == Version::V6 || (self.udp.is_some() && self.source_port == 0)
    }

    /// Writes what kind of packet this layer carries.
    #[inline(always)]
    pub(super) fn fill_payload_type(&self, packet: &mut [u8], inner: Version) -> Result<(), DropReason> {
        match self.payload_type {
            PayloadType::Ethertype(offset) => {
                *at_mut(packet, usize::from(offset))? = inner.ethertype().to_be_bytes();
            }
            PayloadType::Gue(offset) | PayloadType::Ip(offset) => {
                *at_mut(packet, usize::from(offset))? = [inner.protocol()];
            }
            PayloadType::Unsaid => {}
        }
        Ok(())
    }

    /// Fills in everything that depends on the packet. `sum` is that of what follows the layer's headers, if `sums`, and
    /// is left as that of the whole layer. Returns what the next layer out inherits.
    #[inline(always)]
    pub(super) fn fill(
        &self,
        packet: &mut [u8],
        inner: Inherited,
        flow: FlowHash,
        identification: &mut u16,
        sum: Option<&mut Sum>,
    ) -> Result<Inherited, DropReason> {
        self.fill_payload_type(packet, inner.version)?;
        let mut below = Sum::default();
        if let Some(sum) = &sum {
            below = self.sum_shim(packet, inner.version, **sum)?;
        }
        let total_len = packet.len() - usize::from(self.ip);
        if let Some(udp) = self.udp {
            below = self.fill_udp(packet, usize::from(udp), flow, below, sum.is_some())?;
        }
        let class = self.class | inner.traffic_class & self.inherits;
        let ttl = if self.ttl == 0 { inner.ttl } else { self.ttl };
        let dont_fragment = match self.df {
            Df::Set => true,
            Df::Inherit => inner.dont_fragment,
            Df::Clear => false,
        };
        match self.version {
            Version::V4 => {
                let header: &mut [u8; Ipv4::LEN] = at_mut(packet, usize::from(self.ip))?;
                // An atomic datagram needs no identification (RFC 6864 §4.1); others must not repeat one soon.
                let (identification, fragment) = match dont_fragment {
                    true => ([0, 0], ipv4::DF.to_be_bytes()),
                    false => {
                        *identification = identification.wrapping_add(1);
                        (identification.to_be_bytes(), [0, 0])
                    }
                };
                let len = (total_len as u16).to_be_bytes();
                let protocol = match self.payload_type {
                    PayloadType::Ip(_) => inner.version.protocol(),
                    _ => 0,
                };
                let words = Sum::word(self.ip_rest)
                    + Sum::word(self.addresses)
                    + Sum::word([0, class])
                    + Sum::word(len)
                    + Sum::word(identification)
                    + Sum::word(fragment)
                    + Sum::word([ttl, protocol]);
                header[1] = class;
                [header[2], header[3]] = len;
                [header[4], header[5]] = identification;
                [header[6], header[7]] = fragment;
                header[8] = ttl;
                [header[10], header[11]] = words.checksum();
                // With its checksum in place the header sums to nothing.
            }
            Version::V6 => {
                let header: &mut [u8; Ipv6::LEN] = at_mut(packet, usize::from(self.ip))?;
                let word = (6 << 28 | u32::from(class) << 20 | flow.label()).to_be_bytes();
                let len = ((total_len - Ipv6::LEN) as u16).to_be_bytes();
                [header[0], header[1], header[2], header[3]] = word;
                [header[4], header[5]] = len;
                header[7] = ttl;
                if sum.is_some() {
                    let protocol = match self.payload_type {
                        PayloadType::Ip(_) => inner.version.protocol(),
                        _ => 0,
                    };
                    let [a, b, c, d] = word;
                    below = below
                        + Sum::word(self.ip_rest)
                        + Sum::word(self.addresses)
                        + Sum::word([a, b])
                        + Sum::word([c, d])
                        + Sum::word(len)
                        + Sum::word([protocol, ttl]);
                }
            }
        }
        if let Some(sum) = sum {
            *sum = below;
        }
        Ok(Inherited {
            version: self.version,
            traffic_class: class,
            ttl,
            dont_fragment: dont_fragment && self.version == Version::V4,
        })
    }

    /// Adds the headers between UDP or IP and the inner packet to `inside`, and writes the GRE checksum where there is one.
    #[inline(always)]
    fn sum_shim(&self, packet: &mut [u8], inner: Version, inside: Sum) -> Result<Sum, DropReason> {
        if self.gre_checksum.is_some() || self.gre_sequence.is_some() {
            return self.sum_gre_fields(packet, inside);
        }
        let said = match self.payload_type {
            PayloadType::Ethertype(_) => Sum::word(inner.ethertype().to_be_bytes()),
            PayloadType::Gue(_) => Sum::word([0, inner.protocol()]),
            PayloadType::Ip(_) | PayloadType::Unsaid => Sum::default(),
        };
        Ok(inside + Sum::word(self.shim_rest) + said)
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

    /// Fills in the UDP header and returns its sum with all behind it, if `sums`.
    #[inline(always)]
    fn fill_udp(
        &self,
        packet: &mut [u8],
        offset: usize,
        flow: FlowHash,
        inside: Sum,
        sums: bool,
    ) -> Result<Sum, DropReason> {
        let len = packet.len() - offset;
        let header: &mut [u8; Udp::LEN] = at_mut(packet, offset)?;
        let source = if self.source_port == 0 { flow.source_port() } else { self.source_port }.to_be_bytes();
        [header[0], header[1]] = source;
        let len_bytes = (len as u16).to_be_bytes();
        [header[4], header[5]] = len_bytes;
        if !sums {
            return Ok(inside);
        }
        let sum = inside + Sum::word(source) + Sum::word(self.udp_port) + Sum::word(len_bytes);
        if !self.has_udp_checksum {
            return Ok(sum);
        }
        let pseudo = Sum::word(self.addresses) + Sum::pseudo_header(&[], protocol::UDP, len);
        // Zero would say that there is none (RFC 768).
        let checksum = match (sum + pseudo).checksum() {
            [0, 0] => [0xff, 0xff],
            checksum => checksum,
        };
        [header[6], header[7]] = checksum;
        Ok(sum + Sum::word(checksum))
    }
}
