//! The headers of one tunnel, read without copying them: which tunnel they ask for, where the packet inside begins and ends,
//! and what lets it out as it is.

use super::plain::HEAD;
use crate::frame::Frame;
use crate::table::{Encap, Label, Sender, Taker, UdpKind};
use crate::tunnel::decap::{Framing, Local};
use crate::tunnel::ecn;
use crate::wire::checksum::Sum;
use crate::wire::ip::{Plain, Version};
use crate::wire::{gre, gue, ipv4, ipv6, protocol, tail, udp};

/// Tunnel headers of a packet for one of the box's addresses; places are counted from the frame's start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shell {
    pub(super) label: Label,
    pub(super) udp: usize, // 0: none
    pub(crate) inner: usize,
    pub(crate) end: usize,
    pub(crate) version: Version,
}

/// The tunnel headers that `upper` begins with, behind the IP header at `at`, which is for `local`.
#[inline(always)]
pub(super) fn unshell(local: &Local, upper: &[u8; 24], at: usize, ip: Plain) -> Option<Shell> {
    let (inner, end) = (at + ip.header_len, at + ip.total_len);
    let bare = |version| Shell { label: Label::IP, udp: 0, inner, end, version };
    match ip.protocol {
        protocol::GRE if local.gre => from_gre(upper.first_chunk()?, inner, end),
        protocol::IPV4 if local.ip => Some(bare(Version::V4)),
        protocol::IPV6 if local.ip => Some(bare(Version::V6)),
        protocol::UDP => from_udp(local, upper, inner, end),
        _ => None,
    }
}

#[inline(always)]
fn from_gre(header: &[u8; 8], at: usize, end: usize) -> Option<Shell> {
    let header = gre::plain(header)?;
    let label = header.key.map_or(Label::GRE, Label::keyed);
    Some(Shell { label, udp: 0, inner: at + header.len, end, version: header.version })
}

#[inline(always)]
fn from_udp(local: &Local, upper: &[u8; 24], at: usize, end: usize) -> Option<Shell> {
    let (header, behind) = upper.split_at_checked(udp::Udp::LEN)?;
    let header = udp::Udp::new(header).ok()?;
    let port = header.destination_port();
    let (inner, own_end) = (at + udp::Udp::LEN, at + header.length());
    if own_end > end || inner >= own_end {
        return None;
    }
    let bare = |inner, version| Shell { label: Label::IP, udp: 0, inner, end: own_end, version };
    let of_ip = || Some(bare(inner, Version::of_packet(behind).ok()?));
    let of_gre = || from_gre(behind.first_chunk()?, inner, own_end);
    let (kind, found) = match local.framing(port)? {
        Framing::Fou(Encap::Ip) => (UdpKind::Fou, of_ip()?),
        Framing::Fou(Encap::Gre) => (UdpKind::Fou, of_gre()?),
        Framing::GreInUdp => (UdpKind::GreInUdp, of_gre()?),
        Framing::Gue { variant_0, variant_1 } => match gue::plain(behind.first_chunk()?)? {
            gue::Plain::Variant1 if variant_1 => (UdpKind::Gue1, of_ip()?),
            gue::Plain::Variant0(protocol) if variant_0 => {
                let (at, behind) = (inner + gue::Gue::LEN, tail(behind, gue::Gue::LEN));
                let found = match protocol {
                    protocol::IPV4 => bare(at, Version::V4),
                    protocol::IPV6 => bare(at, Version::V6),
                    protocol::GRE => from_gre(behind.first_chunk()?, at, own_end)?,
                    _ => return None,
                };
                (UdpKind::Gue, found)
            }
            _ => return None,
        },
    };
    Some(Shell { label: found.label.in_udp(kind, port), udp: at, ..found })
}

/// Checks the UDP datagram that follows the plain IP header at this place and of this version, and ends at `end`: its length and
/// checksum. `None` where one is wrong, or there is no checksum and `takes_zero` does not let that pass.
#[inline(always)]
pub(super) fn check_udp(
    frame: &Frame<'_>,
    (ip, version): (usize, Version),
    end: usize,
    takes_zero: bool,
) -> Option<()> {
    // The addresses end where UDP begins, so both are summed as one.
    let from_addresses = frame.bytes().get(ip + version.source_at()..end)?;
    let datagram = from_addresses.get(version.header_len() - version.source_at()..)?;
    let header = udp::Udp::new(datagram).ok()?;
    let is_good = match header.checksum() {
        [0, 0] => takes_zero,
        _ => {
            let rest = Sum::pseudo_header(&[], protocol::UDP, datagram.len());
            (Sum::of(from_addresses) + rest).is_intact()
        }
    };
    (header.length() == datagram.len() && is_good).then_some(())
}

/// What decides about packets of one tunnel beside its headers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// UDP without checksum is taken.
    pub(super) takes_zero_checksum: bool,
    /// The outer DSCP replaces the inner one.
    pub(super) is_uniform: bool,
}

impl Rules {
    /// Those of no tunnel.
    pub(super) const NONE: Rules = Rules { takes_zero_checksum: false, is_uniform: false };

    /// For packets of this sender that `taker` takes.
    #[inline(always)]
    pub(super) fn new(sender: Sender, taker: &Taker) -> Self {
        Rules {
            takes_zero_checksum: sender.is_ipv4 || taker.takes_zero_checksum,
            is_uniform: taker.is_uniform,
        }
    }
}

/// What a packet inside a tunnel finds around it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Around {
    /// DSCP and ECN of the outer header.
    class: u8,
    /// The bits in which the inner one has to be alike: of the DSCP, where the tunnel has the outer one replace it.
    alike: u8,
}

impl Around {
    /// Around a packet that comes out of a tunnel with this outer class.
    #[inline(always)]
    pub(super) fn new(class: u8, is_uniform: bool) -> Self {
        Around { class, alike: if is_uniform { !ecn::MASK } else { 0 } }
    }

    /// Whether the traffic class of what comes out stays as it is.
    #[inline(always)]
    pub(super) fn lets_be(self, class: u8) -> bool {
        // Where both are the same there is nothing to do, whatever the rules.
        self.class == class || ecn::leaves(self.class, class) && (self.class ^ class) & self.alike == 0
    }
}

/// The packets that are not let out of a GRE tunnel: keepalives, and what the encapsulator sent itself. See `Decap::admit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Barred {
    // GRE, where the tunnel is GRE; else the reserved number, which is no reason to drop a packet but to look again.
    protocol: u8,
    // The encapsulator; the unspecified address, for which no packet is, where it is not asked or of the other family.
    ipv4: [u8; 4],
    ipv6: [u8; 16],
}

impl Barred {
    /// None.
    pub(super) const NOTHING: Barred = Barred { protocol: 0xff, ipv4: [0; 4], ipv6: [0; 16] };

    /// Those of a tunnel with this label, whose packets came from this sender.
    #[inline(always)]
    pub(super) fn new(label: Label, sender: Sender) -> Self {
        if !label.is_gre() {
            return Barred::NOTHING;
        }
        let barred = Barred { protocol: protocol::GRE, ..Barred::NOTHING };
        match sender.is_ipv4 {
            true => Barred { ipv4: sender.ipv4(), ..barred },
            false => Barred { ipv6: sender.ipv6(), ..barred },
        }
    }

    /// Whether the packet that `head` begins is one of them.
    #[inline(always)]
    pub(super) fn bars(&self, head: &[u8; HEAD], ip: Plain) -> bool {
        let is_back = match ip.version {
            Version::V4 => head.first_chunk().map(ipv4::destination) == Some(self.ipv4),
            Version::V6 => head.first_chunk().map(ipv6::destination) == Some(self.ipv6),
        };
        is_back || ip.protocol == self.protocol
    }
}
