//! The short way: packets to which nothing unusual happens, which are nearly all.
//!
//! A burst is gone through three times. [`look`] reads the outermost headers of each packet, says which memory will be needed
//! for it, and does not wait; where a packet came in the [front](super::front) that is known, all tunnel headers are read at
//! once. [`cross`] takes the tunnel headers off in thought, as many as there are, finds what is to be put in front, and only
//! then changes the packet, by steps that cannot fail. [`put_on`](super::put::put_on) puts the images in front. A packet
//! that is anything but plain has not been touched by then, and takes the [journey](super::journey), which knows every rule
//! and every reason. So there is one place that decides what is dropped and why, and this one is only faster. That both do
//! the same with all packets that this one takes is tested with random and damaged ones.

use super::Outcome;
use super::clamp::{self, Crossing};
use super::front::Front;
use super::shell::{self, Around, Shell, is_bounced, unshell};
use crate::frame::Frame;
use crate::stats::{MAX_LAYERS, Trail, TunnelStats};
use crate::table::{Hit, Home, ImageId, InterfaceId, Label, Port, Sender, Tables, Taker};
use crate::tunnel::encap::Image;
use crate::tunnel::flow::FlowHash;
use crate::verdict::Ingress;
use crate::wire::ip::{Ip, Plain, Version};
use crate::wire::{ethernet, ipv4, ipv6, part, protocol, tcp};
use std::net::IpAddr;

/// Bytes of a frame that the first look may read: the headers of the link, of IPv6, of UDP and of GRE with a key.
const FIRST: usize = 96;

/// Bytes from an IP header on that are read of the packet that goes on: IPv6, and TCP as far as its flags.
pub(super) const HEAD: usize = 64;

/// What the first look at a packet found. It is filled in where it lies, field by field: a value that is put together and
/// then copied as a whole costs more than the look itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sight {
    /// Whether nothing unusual was seen.
    pub(super) is_plain: bool,
    /// Whether it came in the [`Front`] that was known, which is all taken off then.
    is_known: bool,
    /// What the packet came by: the interface, or the last tunnel that it came out of.
    pub(super) ingress: Ingress,
    /// Where its IP header begins, and of which version it is.
    pub(super) at: usize,
    pub(super) version: Version,
    pub(super) hit: Hit,
    // Where it is for the box:
    pub(super) shell: Shell,
    pub(super) sender: Sender,
    home: Home,
    /// Bytes of the packets inside the tunnels, the outermost first.
    lens: [u64; MAX_LAYERS],
    // Where it goes on:
    pub(super) image: ImageId,
    pub(super) flow: FlowHash,
}

impl Sight {
    /// Whether the packet is to come out of a tunnel whose headers are not known.
    #[inline(always)]
    fn is_from_tunnel(&self) -> bool {
        self.is_plain && !self.is_known && matches!(self.hit, Hit::Local(_))
    }

    /// Whether packets of which this is true of both are of one tunnel.
    fn is_alike(&self, other: &Sight) -> bool {
        self.hit == other.hit && self.sender == other.sender && self.shell.label == other.shell.label
    }

    /// That of no packet.
    pub(super) const BLANK: Sight = Sight {
        is_plain: false,
        is_known: false,
        ingress: Ingress::Interface(InterfaceId(0)),
        at: 0,
        version: Version::V4,
        hit: Hit::Ways(0),
        shell: Shell { label: Label::IP, udp: 0, inner: 0, end: 0, version: Version::V4 },
        sender: Sender::NOBODY,
        home: Home::NOWHERE,
        lens: [0; MAX_LAYERS],
        image: ImageId::NONE,
        flow: FlowHash(0),
    };
}

/// How the packets of a burst came.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    /// Packets that came in the front that was known.
    pub(super) known: usize,
    /// Others that are to come out of a tunnel.
    pub(super) tunneled: usize,
}

/// Reads the outermost headers of all frames, and asks for what will be looked up for them.
#[inline(never)]
pub(super) fn look(
    tables: &Tables,
    from: &Port,
    frames: &[Frame<'_>],
    sights: &mut [Sight],
    front: Option<&Front>,
) -> Seen {
    let mut seen = Seen::default();
    for (frame, sight) in frames.iter().zip(sights) {
        sight.is_known = front.is_some_and(|front| front.see(tables, frame, sight).is_some());
        sight.is_plain = sight.is_known || see(tables, from, frame, sight).is_some();
        seen.known += usize::from(sight.is_known);
        seen.tunneled += usize::from(sight.is_from_tunnel());
    }
    seen
}

/// Learns the front of the packets of a burst, where the first and the last that come out of a tunnel came in the same one.
#[cold]
#[inline(never)]
pub(super) fn learn(tables: &Tables, from: &Port, frames: &[Frame<'_>], sights: &[Sight], front: &mut Front) {
    let mut tunneled = frames.iter().zip(sights).filter(|(_, sight)| sight.is_from_tunnel());
    if let (Some(first), Some(last)) = (tunneled.next(), tunneled.next_back())
        && first.1.is_alike(last.1)
        && let Some(learned) = learn_from(tables, from, last.0)
    {
        *front = learned;
    }
}

/// The same from a packet that has not been changed.
fn learn_from(tables: &Tables, from: &Port, frame: &Frame<'_>) -> Option<Front> {
    let (mut sight, mut trail) = (Sight::BLANK, Trail::NONE);
    see(tables, from, frame, &mut sight)?;
    let mut front = Front::new(tables, sight.at);
    while let Hit::Local(number) = sight.hit {
        front.add(&sight, taker(tables, &sight, number)?)?;
        take_out(tables, frame, &mut sight, number, &mut trail)?;
    }
    front.end(frame, &sight, trail)
}

#[inline(always)]
fn see(tables: &Tables, from: &Port, frame: &Frame<'_>, sight: &mut Sight) -> Option<()> {
    let first: &[u8; FIRST] = frame.window(0)?;
    let link = ethernet::plain(first, from.mac)?;
    match link.vlan {
        None => {
            sight.ingress = Ingress::Interface(from.untagged?);
            see_at::<{ ethernet::Ethernet::LEN }>(tables, frame, first, link.version, sight)
        }
        Some(id) => {
            sight.ingress = Ingress::Interface(from.vlans.iter().find(|(known, _)| *known == id)?.1);
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
    (sight.at, sight.version, sight.hit) = (AT, version, hit);
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
pub(super) fn glance(
    tables: &Tables,
    head: &[u8; 40],
    version: Version,
    room: usize,
) -> Option<(Plain, Hit, Sender)> {
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

/// Asks for the counters of the tunnels that the packets enter or leave first, whose names are in memory by now. For tables
/// that no cache holds; with others this is only work.
#[inline(never)]
pub(super) fn warm(tables: &Tables, stats: &TunnelStats, sights: &[Sight]) {
    for sight in sights.iter().filter(|sight| sight.is_plain) {
        let slot = match sight.hit {
            Hit::Image(id) => tables.image(id).and_then(Image::slot),
            Hit::Local(number) => taker(tables, sight, number).map(|taker| taker.slot),
            Hit::Ways(_) => None,
        };
        if let Some(slot) = slot {
            stats.prefetch(slot);
        }
    }
}

/// Finds the ways of packets through the box, and makes them what goes on by these ways, all but for what is put in front.
/// Ends at the first about which there is anything unusual, which is not changed. Returns how many go on.
#[inline(never)]
pub(super) fn cross(
    tables: &Tables,
    stats: &TunnelStats,
    frames: &mut [Frame<'_>],
    sights: &mut [Sight],
    front: &mut Front,
    outcomes: &mut [Outcome],
) -> usize {
    let mut crossed = 0;
    for ((frame, sight), outcome) in frames.iter_mut().zip(sights).zip(outcomes) {
        if !sight.is_plain || go_on(tables, stats, frame, sight, front, outcome).is_none() {
            break;
        }
        crossed += 1;
    }
    crossed
}

#[inline(always)]
fn go_on(
    tables: &Tables,
    stats: &TunnelStats,
    frame: &mut Frame<'_>,
    sight: &mut Sight,
    front: &mut Front,
    outcome: &mut Outcome,
) -> Option<()> {
    if let Hit::Local(_) = sight.hit {
        come_out(tables, frame, sight, &mut outcome.trail)?;
    }
    let (at, version) = (sight.at, sight.version);
    let head: &[u8; HEAD] = frame.window(at)?;
    let ip = Plain::again(head.first_chunk()?, version);
    let mut flow = FlowHash(0);
    let id = match sight.hit {
        Hit::Image(id) => id,
        Hit::Ways(number) => {
            flow = FlowHash::plain(head, ip);
            tables.choose(number, flow)?
        }
        Hit::Local(_) => return None,
    };
    let image = tables.image(id)?;
    if ip.ttl <= 1
        || ip.total_len > image.limit()
        || frame.headroom() + at < image.len()
        || image.has_gre_fields()
    {
        return None;
    }
    let syn = ip.protocol == protocol::TCP && is_syn(head, ip)?;
    if image.wants_flow() {
        flow = FlowHash::plain(head, ip);
    }
    // From here on nothing is unusual any more.
    (sight.image, sight.flow) = (id, flow);
    match sight.is_known {
        true => front.count(ip.total_len, &mut outcome.trail),
        false => count(stats, outcome.trail.out_of(), &sight.lens),
    }
    frame.truncate(at + ip.total_len);
    frame.pop_front(at)?;
    match version {
        Version::V4 => frame.window_mut(0).map(ipv4::lower_ttl),
        Version::V6 => frame.window_mut(0).map(ipv6::lower_hop_limit),
    };
    if syn {
        let crossing = Crossing { tables, stats, from: sight.ingress, to: image.crossed() };
        clamp::lower(crossing, frame, ip.header_len(), ends(frame, version)?);
    }
    Some(())
}

/// Counts a packet for the tunnels that it came out of.
#[inline(always)]
fn count(stats: &TunnelStats, slots: &[u32], lens: &[u64; MAX_LAYERS]) {
    for (slot, len) in slots.iter().zip(lens) {
        if let Some(counters) = stats.slot(*slot) {
            counters.rx_packets.add(1);
            counters.rx_bytes.add(*len);
        }
    }
}

/// Takes the tunnels' headers off in thought, one after the other.
#[inline(never)]
fn come_out(tables: &Tables, frame: &Frame<'_>, sight: &mut Sight, trail: &mut Trail) -> Option<()> {
    while let Hit::Local(number) = sight.hit {
        take_out(tables, frame, sight, number, trail)?;
    }
    Some(())
}

/// The tunnel that takes a packet for the box's address of this number.
#[inline(always)]
fn taker<'a>(tables: &'a Tables, sight: &Sight, number: u32) -> Option<&'a Taker> {
    tables.taker(sight.home, number, sight.sender, sight.shell.label)
}

/// One tunnel off, in thought: the checks of [`Decap::unwrap`](crate::tunnel::decap::Decap::unwrap), as far as they let
/// everything be.
#[inline(always)]
fn take_out(
    tables: &Tables,
    frame: &Frame<'_>,
    sight: &mut Sight,
    number: u32,
    trail: &mut Trail,
) -> Option<()> {
    let taker = taker(tables, sight, number)?;
    let Sight { at, version, sender, shell, .. } = *sight;
    let outer = Plain::again(frame.window(at)?, version);
    if shell.udp != 0 {
        let takes_zero = sender.is_ipv4 || taker.takes_zero_checksum;
        shell::check_udp(frame, shell.udp..shell.end, (at, version), takes_zero)?;
    }
    let head: &[u8; HEAD] = frame.window(shell.inner)?;
    let room = shell.end.checked_sub(shell.inner)?;
    let (ip, hit, inner_sender) = glance(tables, head.first_chunk()?, shell.version, room)?;
    let around = Around { class: outer.traffic_class, is_uniform: taker.is_uniform };
    let gre = shell.label.is_gre().then_some(sender);
    if !around.lets_be(ip.traffic_class) || is_bounced(head, ip, gre) {
        return None;
    }
    if taker.has_inner_source && !tables.tunnel(taker.id)?.treatment.decap.lets_out(inner_sender.address()) {
        return None;
    }
    let place = sight.lens.get_mut(trail.out_of().len())?;
    *place = ip.total_len as u64;
    trail.left(taker.slot);
    (sight.at, sight.version, sight.hit) = (shell.inner, ip.version, hit);
    (sight.sender, sight.ingress) = (inner_sender, Ingress::Tunnel(taker.id));
    if let Hit::Local(number) = hit {
        let upper = frame.window(sight.at + ip.header_len())?;
        sight.shell = unshell(tables.local_at(number)?, upper, sight.at, ip)?;
        sight.home = tables.taker_home(number, sight.sender, sight.shell.label);
    }
    Some(())
}

/// Source and destination of the packet in `frame`.
#[cold]
fn ends(frame: &Frame<'_>, version: Version) -> Option<(IpAddr, IpAddr)> {
    let ip = Ip::new(frame.bytes(), version).ok()?;
    Some((ip.source(), ip.destination()))
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
