//! The short way: packets to which nothing unusual happens, which are nearly all.
//!
//! A burst is gone through twice. [`look`] reads the outermost headers of each packet, says which memory will be needed for
//! it, and does not wait. [`pass`] takes the tunnel headers off in thought, as many as there are, finds the image to put in
//! front, and only then changes the packet, by steps that cannot fail. A packet that is anything but plain has not been
//! touched by then, and takes the [journey](super::journey), which knows every rule and every reason. So there is one place
//! that decides what is dropped and why, and this one is only faster. That both do the same with all packets that this one
//! takes is tested with random and damaged ones.

use super::clamp::{self, Crossing};
use super::{Engine, Outcome};
use crate::frame::Frame;
use crate::stats::{MAX_LAYERS, TunnelStats};
use crate::table::{Encap, Hit, Home, InterfaceId, Label, Port, Sender, Tables, Taker, UdpKind};
use crate::tunnel::decap::{Framing, Local, sums_up};
use crate::tunnel::ecn;
use crate::tunnel::encap::Image;
use crate::tunnel::flow::FlowHash;
use crate::tunnel::layer::Inherited;
use crate::tunnel::payload;
use crate::verdict::{Ingress, Verdict};
use crate::wire::ip::{Ip, Plain, Version};
use crate::wire::{ethernet, gre, gue, ipv4, ipv6, part, protocol, tail, tcp, udp};
use std::net::IpAddr;

/// Bytes of a frame that the first look may read: the headers of the link, of IPv6, of UDP and of GRE with a key.
const FIRST: usize = 96;

/// Bytes from an IP header on that are read of the packet that goes on: IPv6, and TCP as far as its flags.
const HEAD: usize = 64;

/// What the first look at a packet found. It is filled in where it lies, field by field: a value that is put together and
/// then copied as a whole costs more than the look itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sight {
    /// Whether nothing unusual was seen.
    pub(super) is_plain: bool,
    interface: InterfaceId,
    /// Where the IP header begins.
    at: usize,
    ip: Plain,
    hit: Hit,
    shell: Shell,
    sender: Sender,
    home: Home,
    /// Bytes of the packets inside the tunnels, the outermost first.
    lens: [u64; MAX_LAYERS],
}

impl Sight {
    /// That of no packet.
    pub(super) const BLANK: Sight = Sight {
        is_plain: false,
        interface: InterfaceId(0),
        at: 0,
        ip: Plain::BLANK,
        hit: Hit::Ways(0),
        shell: Shell { label: Label::IP, udp: 0, inner: 0, end: 0, version: Version::V4 },
        sender: Sender::NOBODY,
        home: Home::NOWHERE,
        lens: [0; MAX_LAYERS],
    };
}

/// Tunnel headers of a packet for one of the box's addresses; places are counted from the frame's start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shell {
    label: Label,
    udp: usize, // 0: none
    pub(crate) inner: usize,
    pub(crate) end: usize,
    pub(crate) version: Version,
}

/// Reads the outermost headers of all frames, and asks for what will be looked up for them.
#[inline(never)]
pub(super) fn look(tables: &Tables, from: &Port, frames: &[Frame<'_>], sights: &mut [Sight]) {
    for (frame, sight) in frames.iter().zip(sights) {
        sight.is_plain = see(tables, from, frame, sight).is_some();
    }
}

#[inline(always)]
fn see(tables: &Tables, from: &Port, frame: &Frame<'_>, sight: &mut Sight) -> Option<()> {
    let first: &[u8; FIRST] = frame.window(0)?;
    let link = ethernet::plain(first, from.mac)?;
    match link.vlan {
        None => {
            sight.interface = from.untagged?;
            see_at::<{ ethernet::Ethernet::LEN }>(tables, frame, first, link.version, sight)
        }
        Some(id) => {
            sight.interface = from.vlans.iter().find(|(known, _)| *known == id)?.1;
            see_at::<{ ethernet::TAGGED_LEN }>(tables, frame, first, link.version, sight)
        }
    }
}

/// The IP header at `AT`, and the tunnel's headers if it is for the box. The place is a constant here, and all bytes are in
/// `first`, so that nothing is compared with lengths but what the headers themselves say.
#[inline(always)]
fn see_at<const AT: usize>(
    tables: &Tables,
    frame: &Frame<'_>,
    first: &[u8; FIRST],
    version: Version,
    sight: &mut Sight,
) -> Option<()> {
    let room = frame.len().checked_sub(AT)?;
    let (ip, hit, sender) = glance(tables, part(first, AT)?, version, room)?;
    (sight.at, sight.ip, sight.hit) = (AT, ip, hit);
    match hit {
        Hit::Local(number) => {
            let upper = part(first, AT + ip.header_len())?;
            sight.shell = unshell(tables.local_at(number)?, upper, AT, ip)?;
            sight.sender = sender;
            sight.home = tables.taker_home(number, sender, sight.shell.label);
            tables.prefetch_taker(sight.home);
        }
        Hit::Image(id) => tables.image(id)?.prefetch(),
        Hit::Ways(_) => {}
    }
    Some(())
}

/// The IP header that `head` begins with, of a packet that may have `room` bytes; what there is for its destination; and its
/// sender.
#[inline(always)]
fn glance(tables: &Tables, head: &[u8; 40], version: Version, room: usize) -> Option<(Plain, Hit, Sender)> {
    match version {
        Version::V4 => {
            let header = head.first_chunk()?;
            let plain = ipv4::plain(header, room)?;
            Some((plain, tables.hit(&ipv4::destination(header))?, ipv4::sender(header)))
        }
        Version::V6 => {
            let plain = ipv6::plain(head, room)?;
            Some((plain, tables.hit(&ipv6::destination(head))?, ipv6::sender(head)))
        }
    }
}

/// The tunnel headers that `upper` begins with, behind the IP header at `at`, which is for `local`.
#[inline(always)]
pub(crate) fn unshell(local: &Local, upper: &[u8; 24], at: usize, ip: Plain) -> Option<Shell> {
    let (inner, end) = (at + ip.header_len(), at + ip.total_len);
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

/// Asks for the counters of the tunnels that the packets enter or leave first, whose names are in memory by now. For tables
/// that no cache holds; with others this is only work.
#[inline(never)]
pub(super) fn warm(tables: &Tables, stats: &TunnelStats, sights: &[Sight]) {
    for sight in sights.iter().filter(|sight| sight.is_plain) {
        let slot = match sight.hit {
            Hit::Image(id) => tables.image(id).and_then(Image::slot),
            Hit::Local(number) => {
                tables.taker(sight.home, number, sight.sender, sight.shell.label).map(|taker| taker.slot)
            }
            Hit::Ways(_) => None,
        };
        if let Some(slot) = slot {
            stats.prefetch(slot);
        }
    }
}

/// Finds the way of a packet through the box, and sends it on that way: fills in `outcome`. `false`, and no packet changed,
/// where there is anything unusual about it.
#[inline(always)]
pub(super) fn pass(
    engine: &mut Engine,
    tables: &Tables,
    stats: &TunnelStats,
    frame: &mut Frame<'_>,
    sight: &mut Sight,
    outcome: &mut Outcome,
) -> bool {
    cross(engine, tables, stats, frame, sight, outcome).is_some()
}

#[inline(always)]
fn cross(
    engine: &mut Engine,
    tables: &Tables,
    stats: &TunnelStats,
    frame: &mut Frame<'_>,
    sight: &mut Sight,
    outcome: &mut Outcome,
) -> Option<()> {
    let mut here = Here {
        at: sight.at,
        ip: sight.ip,
        hit: sight.hit,
        sender: sight.sender,
        ingress: Ingress::Interface(sight.interface),
    };
    let (mut shell, mut home) = (sight.shell, sight.home);
    while let Hit::Local(number) = here.hit {
        let taker = tables.taker(home, number, here.sender, shell.label)?;
        here = take_out(tables, frame, taker, here, shell, &mut sight.lens, outcome)?;
        if let Hit::Local(number) = here.hit {
            let upper = frame.window(here.at + here.ip.header_len())?;
            shell = unshell(tables.local_at(number)?, upper, here.at, here.ip)?;
            home = tables.taker_home(number, here.sender, shell.label);
        }
    }
    let Here { at, ip, hit, ingress, .. } = here;
    let head: &[u8; HEAD] = frame.window(at)?;
    let mut hash = FlowHash(0);
    let image = match hit {
        Hit::Image(id) => tables.image(id)?,
        Hit::Ways(number) => {
            hash = FlowHash::plain(head, ip);
            tables.image(tables.choose(number, hash)?)?
        }
        Hit::Local(_) => return None,
    };
    if ip.ttl <= 1 || ip.total_len > image.limit() || frame.headroom() + at < image.len() {
        return None;
    }
    let syn = ip.protocol == protocol::TCP && is_syn(head, ip)?;
    if image.wants_flow() {
        hash = FlowHash::plain(head, ip);
    }
    // From here on nothing is unusual any more.
    for (slot, len) in outcome.trail.out_of().iter().zip(&sight.lens) {
        if let Some(counters) = stats.slot(*slot) {
            counters.rx_packets.add(1);
            counters.rx_bytes.add(*len);
        }
    }
    frame.truncate(at + ip.total_len);
    frame.pop_front(at)?;
    match ip.version {
        Version::V4 => frame.window_mut(0).map(ipv4::lower_ttl),
        Version::V6 => frame.window_mut(0).map(ipv6::lower_hop_limit),
    };
    if syn {
        let crossing = Crossing { tables, stats, from: ingress, to: image.crossed() };
        clamp::lower(crossing, frame, ip.header_len(), ends(frame, ip.version)?);
    }
    // There was room when the way was found.
    outcome.verdict = Verdict::Send(image.port());
    if image.is_link() {
        return image.put(frame).ok().map(drop);
    }
    let sum = match image.has_sums() {
        // The TTL and the MSS have been lowered.
        true => Some(payload::plain(frame.window::<HEAD>(0)?, ip, frame.bytes())),
        false => None,
    };
    let inherited = Inherited::plain(ip).one_hop_later();
    let (identification, trail) = (&mut engine.identification, &mut outcome.trail);
    image.apply_over(sum, frame, inherited, hash, identification, stats, trail).ok().map(drop)
}

/// Where in a packet one is, tunnel by tunnel.
#[derive(Clone, Copy)]
struct Here {
    at: usize,
    ip: Plain,
    hit: Hit,
    sender: Sender,
    ingress: Ingress,
}

/// One tunnel off, in thought: the checks of [`Decap::unwrap`](crate::tunnel::decap::Decap::unwrap), as far as they let
/// everything be.
#[inline(always)]
fn take_out(
    tables: &Tables,
    frame: &Frame<'_>,
    taker: &Taker,
    here: Here,
    shell: Shell,
    lens: &mut [u64; MAX_LAYERS],
    outcome: &mut Outcome,
) -> Option<Here> {
    let Here { at, ip: outer, sender, .. } = here;
    if shell.udp != 0 {
        let header = udp::Udp::new(frame.window::<{ udp::Udp::LEN }>(shell.udp)?).ok()?;
        let is_good = match header.checksum() {
            [0, 0] => sender.is_ipv4 || taker.takes_zero_checksum,
            _ => sums_up(frame.bytes().get(shell.udp..shell.end)?, addresses(frame, at, outer.version)?),
        };
        if !is_good {
            return None;
        }
    }
    let head: &[u8; HEAD] = frame.window(shell.inner)?;
    let room = shell.end.checked_sub(shell.inner)?;
    let (ip, hit, inner_sender) = glance(tables, head.first_chunk()?, shell.version, room)?;
    let is_same_class = !taker.is_uniform || (outer.traffic_class ^ ip.traffic_class) & !ecn::MASK == 0;
    if !is_same_class || !ecn::leaves(outer.traffic_class, ip.traffic_class) {
        return None;
    }
    // Keepalives, and what the encapsulator sent itself: see `Decap::admit`.
    if shell.label.is_gre() && (ip.protocol == protocol::GRE || is_for(head, ip.version, sender)) {
        return None;
    }
    if taker.has_inner_source && !tables.tunnel(taker.id)?.decap.lets_out(inner_sender.address()) {
        return None;
    }
    let place = lens.get_mut(outcome.trail.out_of().len())?;
    *place = ip.total_len as u64;
    outcome.trail.left(taker.slot);
    Some(Here { at: shell.inner, ip, hit, sender: inner_sender, ingress: Ingress::Tunnel(taker.id) })
}

/// Both addresses of the header at `at`, as on the wire.
#[inline(always)]
fn addresses<'a>(frame: &'a Frame<'_>, at: usize, version: Version) -> Option<&'a [u8]> {
    match version {
        Version::V4 => frame.window::<8>(at + ipv4::SOURCE).map(<[u8; 8]>::as_slice),
        Version::V6 => frame.window::<32>(at + ipv6::SOURCE).map(<[u8; 32]>::as_slice),
    }
}

/// Source and destination of the packet in `frame`.
#[cold]
fn ends(frame: &Frame<'_>, version: Version) -> Option<(IpAddr, IpAddr)> {
    let ip = Ip::new(frame.bytes(), version).ok()?;
    Some((ip.source(), ip.destination()))
}

/// Whether the packet that `head` begins is for this sender.
#[inline(always)]
fn is_for(head: &[u8; HEAD], version: Version, sender: Sender) -> bool {
    match (version, head.first_chunk()) {
        (Version::V4, Some(header)) => ipv4::sender_of(ipv4::destination(header)) == sender,
        (Version::V6, Some(_)) => {
            head.first_chunk().is_some_and(|header| ipv6::sender_of(ipv6::destination(header)) == sender)
        }
        (_, None) => false,
    }
}

/// Whether the TCP packet that `head` begins is a SYN.
#[inline(always)]
fn is_syn(head: &[u8; HEAD], ip: Plain) -> Option<bool> {
    let segment: &[u8; tcp::Tcp::LEN] = part(head, ip.header_len())?;
    Some(
        ip.total_len >= ip.header_len() + tcp::Tcp::LEN
            && tcp::Tcp::new(segment).ok()?.flags() & tcp::SYN != 0,
    )
}
