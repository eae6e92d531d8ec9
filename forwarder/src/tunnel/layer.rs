//! One layer of an image: the headers of one tunnel, and how they are filled in for a packet.

use super::ecn;
use super::encap::{HeaderKind, Part};
use super::flow::FlowHash;
use crate::table::{Df, Dscp, Ecn, SourcePort, Ttl, UdpChecksum};
use crate::verdict::DropReason;
use crate::wire::checksum::Sum;
use crate::wire::gue::Gue;
use crate::wire::ip::{Ip, Version};
use crate::wire::ipv4::{self, Ipv4};
use crate::wire::ipv6::Ipv6;
use crate::wire::udp::Udp;
use crate::wire::{at_mut, protocol};

/// One layer of an image: where its headers begin, and how they are filled in.
#[derive(Clone, Debug)]
pub(super) struct Layer {
    pub(super) slot: u32,
    pub(super) version: Version,
    pub(super) ip: usize,
    pub(super) udp: Option<usize>,
    pub(super) shim: Option<usize>, // GUE, or GRE where there is none
    pub(super) end: usize,
    pub(super) payload_type: PayloadType,
    pub(super) ttl: Ttl,
    pub(super) dscp: Dscp,
    pub(super) ecn: Ecn,
    pub(super) df: Df,
    pub(super) source_port: Option<SourcePort>,
    pub(super) udp_checksum: UdpChecksum,
    pub(super) gre_checksum: Option<usize>,
    pub(super) gre_sequence: Option<usize>,
}

/// Where a layer says what it carries.
#[derive(Clone, Copy, Debug)]
pub(super) enum PayloadType {
    Ethertype(usize),
    Protocol(usize),
    Unsaid, // the version of the inner packet says it
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

    /// The same for a packet whose TTL is being lowered.
    #[inline]
    pub fn one_hop_later(self) -> Self {
        Inherited { ttl: self.ttl.saturating_sub(1), ..self }
    }
}

impl Layer {
    /// Where its headers stand, outermost first.
    pub(super) fn parts(&self) -> impl Iterator<Item = Part> {
        let gre = match self.payload_type {
            PayloadType::Ethertype(offset) => Some(offset - 2),
            PayloadType::Protocol(_) | PayloadType::Unsaid => None,
        };
        let gue = self.shim.filter(|shim| gre != Some(*shim));
        let ip = match self.version {
            Version::V4 => HeaderKind::Ipv4,
            Version::V6 => HeaderKind::Ipv6,
        };
        let headers = [
            Some((ip, self.ip, self.ip + self.version.header_len())),
            self.udp.map(|offset| (HeaderKind::Udp, offset, offset + Udp::LEN)),
            gue.map(|offset| (HeaderKind::Gue, offset, offset + Gue::LEN)),
            gre.map(|offset| (HeaderKind::Gre, offset, self.end)),
        ];
        let slot = Some(self.slot);
        headers.into_iter().flatten().map(move |(kind, start, end)| Part { kind, range: start..end, slot })
    }

    /// Whether some checksum of this layer covers its payload.
    pub(super) fn has_sums(&self) -> bool {
        self.gre_checksum.is_some() || (self.udp.is_some() && self.udp_checksum == UdpChecksum::Full)
    }

    /// Writes what kind of packet this layer carries.
    #[inline]
    pub(super) fn fill_payload_type(&self, packet: &mut [u8], inner: Version) -> Result<(), DropReason> {
        match self.payload_type {
            PayloadType::Ethertype(offset) => *at_mut(packet, offset)? = inner.ethertype().to_be_bytes(),
            PayloadType::Protocol(offset) => *at_mut(packet, offset)? = [inner.protocol()],
            PayloadType::Unsaid => {}
        }
        Ok(())
    }

    /// Fills in everything that depends on the packet. `sum` is that of what follows the layer's headers, if `sums`, and
    /// is left as that of the whole layer. Returns what the next layer out inherits.
    #[inline]
    pub(super) fn fill(
        &self,
        packet: &mut [u8],
        inner: Inherited,
        flow: FlowHash,
        identification: &mut u16,
        sum: &mut Sum,
        sums: bool,
    ) -> Result<Inherited, DropReason> {
        if sums && let Some(shim) = self.shim {
            self.fill_gre_checksum(packet, shim, sum)?;
        }
        let total_len = packet.len() - self.ip;
        if let Some(udp) = self.udp {
            self.fill_udp(packet, udp, flow, sum, sums)?;
        }
        let dscp = match self.dscp {
            Dscp::Inherit | Dscp::Uniform => inner.traffic_class & !ecn::MASK,
            Dscp::Fixed(dscp) => dscp << 2,
        };
        let ecn = match self.ecn {
            Ecn::Rfc6040 => inner.traffic_class & ecn::MASK,
            Ecn::Off => ecn::NOT_ECT,
        };
        let ttl = match self.ttl {
            Ttl::Fixed(ttl) => ttl,
            Ttl::Inherit => inner.ttl,
        };
        let dont_fragment = match self.df {
            Df::Set => true,
            Df::Inherit => inner.dont_fragment,
            Df::Clear => false,
        };
        let outer = Inherited {
            version: self.version,
            traffic_class: dscp | ecn,
            ttl,
            dont_fragment: dont_fragment && self.version == Version::V4,
        };
        match self.version {
            Version::V4 => {
                let header: &mut [u8; Ipv4::LEN] = at_mut(packet, self.ip)?;
                header[1] = outer.traffic_class;
                [header[2], header[3]] = (total_len as u16).to_be_bytes();
                // An atomic datagram needs no identification (RFC 6864 §4.1); others must not repeat one soon.
                if !dont_fragment {
                    *identification = identification.wrapping_add(1);
                    [header[4], header[5]] = identification.to_be_bytes();
                }
                [header[6], header[7]] = if dont_fragment { ipv4::DF } else { 0 }.to_be_bytes();
                header[8] = ttl;
                ipv4::fill_checksum(header);
                if sums {
                    *sum = *sum + Sum::of(header);
                }
            }
            Version::V6 => {
                let header: &mut [u8; Ipv6::LEN] = at_mut(packet, self.ip)?;
                let word = 6 << 28 | u32::from(outer.traffic_class) << 20 | flow.label();
                [header[0], header[1], header[2], header[3]] = word.to_be_bytes();
                [header[4], header[5]] = ((total_len - Ipv6::LEN) as u16).to_be_bytes();
                header[7] = ttl;
                if sums {
                    *sum = *sum + Sum::of(header);
                }
            }
        }
        Ok(outer)
    }

    /// Adds the headers between UDP and the inner packet to `sum`, and writes the GRE checksum where there is one.
    #[inline]
    fn fill_gre_checksum(&self, packet: &mut [u8], shim: usize, sum: &mut Sum) -> Result<(), DropReason> {
        let Some(offset) = self.gre_checksum else {
            *sum = *sum + Sum::of(packet.get(shim..self.end).unwrap_or_default());
            return Ok(());
        };
        let gre = offset - 4;
        let checksum = (*sum + Sum::of(packet.get(gre..self.end).unwrap_or_default())).checksum();
        *at_mut(packet, offset)? = checksum;
        // With its checksum in place GRE and its payload sum to nothing; what is left is a GUE header, if any.
        *sum = Sum::of(packet.get(shim..gre).unwrap_or_default());
        Ok(())
    }

    #[inline]
    fn fill_udp(
        &self,
        packet: &mut [u8],
        offset: usize,
        flow: FlowHash,
        sum: &mut Sum,
        sums: bool,
    ) -> Result<(), DropReason> {
        let len = packet.len() - offset;
        let header: &mut [u8; Udp::LEN] = at_mut(packet, offset)?;
        if self.source_port == Some(SourcePort::Flow) {
            [header[0], header[1]] = flow.source_port().to_be_bytes();
        }
        [header[4], header[5]] = (len as u16).to_be_bytes();
        if !sums {
            return Ok(());
        }
        *sum = *sum + Sum::of(header);
        if self.udp_checksum == UdpChecksum::Full {
            let addresses = match self.version {
                Version::V4 => packet.get(self.ip + 12..self.ip + 20),
                Version::V6 => packet.get(self.ip + 8..self.ip + 40),
            };
            let pseudo = Sum::pseudo_header(addresses.unwrap_or_default(), protocol::UDP, len);
            // Zero would say that there is none (RFC 768).
            let checksum = match (*sum + pseudo).checksum() {
                [0, 0] => [0xff, 0xff],
                checksum => checksum,
            };
            *at_mut(packet, offset + 6)? = checksum;
            *sum = *sum + Sum::word(checksum);
        }
        Ok(())
    }
}
