//! The short way: packets to which nothing unusual happens, which are nearly all.
//!
//! Each packet goes all of it at once. What it came in is taken off in thought: where it came in the [front](super::front)
//! that is known all at once, else one tunnel after the other. Then its way out is found and, where nothing is unusual up to
//! there, the packet becomes what goes on, by steps that cannot fail ([put](super::put)). A packet that is anything but plain
//! has not been touched by then, and takes the [journey](super::journey), which knows every rule and every reason. So there
//! is one place that decides what is dropped and why, and this one is only faster. That both do the same with all packets
//! that this one takes is tested with random and damaged ones.
//!
//! Where the tables are larger than the caches, the burst is gone through [before](super::warm), to ask for the memory that will
//! be needed.

use super::front::Front;
use super::shell::{self, Around, Barred, Rules, Shell, unshell};
use crate::frame::Frame;
use crate::stats::{MAX_LAYERS, Trail, TunnelStats};
use crate::table::{Hit, Home, Label, Port, Sender, Tables, Taker};
use crate::verdict::Ingress;
use crate::wire::ip::{Plain, Version};
use crate::wire::{ethernet, ipv4, ipv6, part};

/// Bytes of a frame that the first look may read: the headers of the link, of IPv6, of UDP and of GRE with a key.
const FIRST: usize = 96;

/// Bytes from an IP header on that are read of the packet that goes on: IPv6, and TCP as far as its flags.
pub(super) const HEAD: usize = 64;

/// A packet as it goes on, behind all headers that are taken off.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bare {
    /// Where its IP header begins in the frame.
    pub(super) at: usize,
    /// What that says.
    pub(super) ip: Plain,
    /// What there is for its destination; not one of the box's addresses.
    pub(super) hit: Hit,
    /// What it came by: the interface, or the last tunnel that it came out of.
    pub(super) ingress: Ingress,
    /// What it came in.
    pub(super) came: Came,
}

/// What a packet came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Came {
    /// No tunnel.
    Bare,
    /// The front that is known.
    InFront,
    /// The same but for the last tunnel, which is one like it: its slot.
    InSibling(u32),
    /// Tunnels whose headers were read one by one.
    InTunnels,
}

/// The tunnels that were taken off one packet, outermost first, and the bytes of the packets in them.
#[derive(Clone, Copy, Debug)]
pub(super) struct TakenOff {
    pub(super) trail: Trail,
    lens: [u64; MAX_LAYERS],
}

impl TakenOff {
    /// None.
    pub(super) const NOTHING: TakenOff = TakenOff { trail: Trail::NONE, lens: [0; MAX_LAYERS] };

    fn push(&mut self, slot: u32, len: usize) -> Option<()> {
        *self.lens.get_mut(self.trail.out_of().len())? = len as u64;
        self.trail.left(slot);
        Some(())
    }

    /// Counts the packet for these tunnels.
    pub(super) fn count(&self, stats: &TunnelStats) {
        for (slot, len) in self.trail.out_of().iter().zip(&self.lens) {
            if let Some(counters) = stats.slot(*slot) {
                counters.rx_packets.add(1);
                counters.rx_bytes.add(*len);
            }
        }
    }
}

/// An IP packet that has been read so far and no further.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layer {
    at: usize,
    ip: Plain,
    pub(super) hit: Hit,
    sender: Sender,
}

impl Layer {
    /// The packet as it goes on where it is not for the box.
    #[inline(always)]
    pub(super) fn bare(self, ingress: Ingress, came: Came) -> Bare {
        Bare { at: self.at, ip: self.ip, hit: self.hit, ingress, came }
    }
}

/// The outermost IP header, and the interface that it came by.
#[inline(always)]
pub(super) fn outermost(tables: &Tables, from: &Port, frame: &Frame<'_>) -> Option<(Layer, Ingress)> {
    let first: &[u8; FIRST] = frame.window(0)?;
    let link = ethernet::plain(first, from.mac)?;
    let (at, id) = match link.vlan {
        None => (ethernet::Ethernet::LEN, from.untagged?),
        Some(id) => (ethernet::TAGGED_LEN, from.vlans.iter().find(|(known, _)| *known == id)?.1),
    };
    let room = frame.len().checked_sub(at)?;
    let (ip, hit, sender) = glance(tables, part(first, at)?, link.version, room)?;
    Some((Layer { at, ip, hit, sender }, Ingress::Interface(id)))
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

/// What tells the tunnel that a packet for the box came in, and where to look for who takes it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wrapped {
    pub(super) home: Home,
    number: u32, // of the box's address
    sender: Sender,
    label: Label,
}

impl Wrapped {
    /// A packet of this sender for the box's address of this number.
    #[inline(always)]
    fn new(tables: &Tables, number: u32, sender: Sender, label: Label) -> Self {
        Wrapped { home: tables.taker_home(number, sender, label), number, sender, label }
    }

    /// That behind the IP header of `layer`, which is for the box's address of this number, with its headers.
    #[inline(always)]
    pub(super) fn read(
        tables: &Tables,
        frame: &Frame<'_>,
        layer: &Layer,
        number: u32,
    ) -> Option<(Shell, Self)> {
        let upper = frame.window(layer.at + layer.ip.header_len)?;
        let shell = unshell(tables.local_at(number)?, upper, layer.at, layer.ip)?;
        Some((shell, Wrapped::new(tables, number, layer.sender, shell.label)))
    }

    /// The tunnel that takes it.
    #[inline(always)]
    fn taker<'a>(&self, tables: &'a Tables) -> Option<&'a Taker> {
        tables.taker(self.home, self.number, self.sender, self.label)
    }
}

/// Takes the tunnels' headers off in thought, one after the other, beginning with those of a packet for the box's address of
/// this number.
#[inline(always)]
pub(super) fn come_out(
    tables: &Tables,
    frame: &Frame<'_>,
    (mut layer, mut number): (Layer, u32),
    off: &mut TakenOff,
) -> Option<Bare> {
    *off = TakenOff::NOTHING;
    loop {
        let (shell, wrapped) = Wrapped::read(tables, frame, &layer, number)?;
        let taker = wrapped.taker(tables)?;
        layer = open(tables, frame, layer, (shell, taker))?;
        off.push(taker.slot, layer.ip.total_len)?;
        match layer.hit {
            Hit::Local(next) => number = next,
            _ => return Some(layer.bare(Ingress::Tunnel(taker.id), Came::InTunnels)),
        }
    }
}

/// The packet inside a tunnel: the checks of [`Decap::unwrap`](crate::tunnel::decap::Decap::unwrap), as far as they let
/// everything be.
#[inline(always)]
fn open(tables: &Tables, frame: &Frame<'_>, layer: Layer, (shell, taker): (Shell, &Taker)) -> Option<Layer> {
    let Layer { at, ip: outer, sender, .. } = layer;
    let rules = Rules::new(sender, taker);
    if shell.udp != 0 {
        shell::check_udp(frame, (at, outer.version), shell.end, rules.takes_zero_checksum)?;
    }
    let head: &[u8; HEAD] = frame.window(shell.inner)?;
    let room = shell.end.checked_sub(shell.inner)?;
    let (ip, hit, inner_sender) = glance(tables, head.first_chunk()?, shell.version, room)?;
    let around = Around::new(outer.traffic_class, rules.is_uniform);
    if !around.lets_be(ip.traffic_class) || Barred::new(shell.label, sender).bars(head, ip) {
        return None;
    }
    if taker.has_inner_source && !tables.tunnel(taker.id)?.treatment.decap.lets_out(inner_sender.address()) {
        return None;
    }
    Some(Layer { at: shell.inner, ip, hit, sender: inner_sender })
}

/// The front of the packets of a burst, where the first and the last that come out of a tunnel came in the same one. It is to
/// take the place of `known`, which is no worse where they have that and come from different senders.
#[cold]
#[inline(never)]
pub(super) fn learn(tables: &Tables, from: &Port, frames: &[Frame<'_>], known: &Front) -> Option<Front> {
    if known.holds(tables) && known.has_two_senders(frames.first()?, frames.last()?) {
        return None;
    }
    let mut tunneled = frames.iter().filter_map(|frame| {
        let (layer, _) = outermost(tables, from, frame)?;
        matches!(layer.hit, Hit::Local(_)).then_some((frame, layer))
    });
    let ((first, one), (last, other)) = (tunneled.next()?, tunneled.next_back()?);
    if one.hit != other.hit {
        return None;
    }
    learn_from(tables, other, last).filter(|front| front.is_in_front_of(first))
}

/// The front of a packet whose outermost IP header is read, and for the box.
fn learn_from(tables: &Tables, mut layer: Layer, frame: &Frame<'_>) -> Option<Front> {
    let mut front = Front::new(tables, layer.at);
    while let Hit::Local(number) = layer.hit {
        let (shell, wrapped) = Wrapped::read(tables, frame, &layer, number)?;
        let taker = wrapped.taker(tables)?;
        let inside = open(tables, frame, layer, (shell, taker))?;
        front.add((layer.at, layer.ip.version), (number, layer.sender), shell, taker)?;
        layer = inside;
    }
    front.end(frame)
}
