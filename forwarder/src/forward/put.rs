//! The short way's other half: what becomes of a packet that was found to be plain.

use super::clamp::{self, Crossing};
use super::front::Front;
use super::outcomes::Outcomes;
use super::plain::{self, Bare, Came, HEAD, Layer, TakenOff};
use super::tail_mut;
use crate::frame::Frame;
use crate::stats::TunnelStats;
use crate::table::{Hit, ImageId, Port, Tables, Taker};
use crate::tunnel::encap::{Image, Inside, SHORT};
use crate::tunnel::flow::FlowHash;
use crate::tunnel::identification::Identifications;
use crate::tunnel::layer::Inherited;
use crate::tunnel::payload;
use crate::verdict::{Ingress, Verdict};
use crate::wire::checksum::Sum;
use crate::wire::ip::{Ip, Plain, Version};
use crate::wire::{ipv4, ipv6, part, protocol, tcp};

/// The packets of one burst on the short way.
pub(super) struct Short<'a> {
    tables: &'a Tables,
    stats: &'a TunnelStats,
    from: &'a Port,
    front: &'a mut Front,
    has_front: bool,  // it is known, and holds with these tables
    strangers: usize, // packets that came in tunnels, but not in the front
    takers: &'a [Option<&'a Taker>],
    off: TakenOff,
    run: Run,
}

/// What packets leave behind.
pub(super) struct Out<'a> {
    /// Those of outer packets.
    pub(super) identifications: &'a mut Identifications,
    pub(super) outcomes: &'a mut Outcomes,
}

/// Packets that follow each other out of the same tunnels and into the same, which are counted together.
struct Run {
    came: Came,
    image: ImageId,
    packets: u32, // none: it has not begun
    bytes: u64,
}

impl Run {
    const NONE: Run = Run { came: Came::Bare, image: ImageId::NONE, packets: 0, bytes: 0 };
}

impl<'a> Short<'a> {
    /// Nothing yet. `takers` are those of the burst's packets that have the front, where these were asked for.
    pub(super) fn new(
        tables: &'a Tables,
        stats: &'a TunnelStats,
        from: &'a Port,
        front: &'a mut Front,
        takers: &'a [Option<&'a Taker>],
    ) -> Self {
        let has_front = front.holds(tables);
        let (off, run) = (TakenOff::NOTHING, Run::NONE);
        Short { tables, stats, from, front, has_front, strangers: 0, takers, off, run }
    }

    /// Takes packets all their way, which follow so many others of the burst. Ends at the first about which there is anything
    /// unusual, which is not changed. Returns how many packets come before.
    pub(super) fn take(&mut self, frames: &mut [Frame<'_>], before: usize, out: &mut Out<'_>) -> usize {
        let mut taken = 0;
        loop {
            if self.has_front {
                taken += self.take_in_front(tail_mut(frames, taken), before + taken, out);
            }
            let frames = tail_mut(frames, taken);
            let others = self.take_others(frames, out);
            taken += others;
            if others == 0 || others == frames.len() {
                break;
            }
        }
        self.end_run(out.outcomes);
        taken
    }

    /// The same as far as packets come in the front that is known.
    #[inline(never)]
    fn take_in_front(&mut self, frames: &mut [Frame<'_>], before: usize, out: &mut Out<'_>) -> usize {
        let mut taken = 0;
        for frame in frames {
            let done = match self.front.is_of_last(frame) {
                None => break,
                Some(true) => {
                    let bare = self.front.see(self.tables, frame);
                    bare.and_then(|bare| self.go_on(frame, bare, out))
                }
                Some(false) => {
                    let known = self.takers.get(before + taken).copied().flatten();
                    self.take_sibling(frame, known, out)
                }
            };
            if done.is_none() {
                break;
            }
            taken += 1;
        }
        taken
    }

    #[inline(never)]
    fn take_sibling(
        &mut self,
        frame: &mut Frame<'_>,
        known: Option<&Taker>,
        out: &mut Out<'_>,
    ) -> Option<()> {
        let bare = self.front.see_sibling(self.tables, frame, known)?;
        self.go_on(frame, bare, out)
    }

    /// The same with packets that do not; where there is a front, with one.
    #[inline(never)]
    fn take_others(&mut self, frames: &mut [Frame<'_>], out: &mut Out<'_>) -> usize {
        let mut taken = 0;
        for frame in frames {
            let Some((layer, ingress)) = plain::outermost(self.tables, self.from, frame) else { break };
            let done = match layer.hit {
                Hit::Local(number) => self.take_out((layer, number), frame, out),
                _ => self.go_on(frame, layer.bare(ingress, Came::Bare), out),
            };
            if done.is_none() {
                break;
            }
            taken += 1;
            if self.has_front {
                break;
            }
        }
        taken
    }

    #[inline(never)]
    fn take_out(&mut self, outermost: (Layer, u32), frame: &mut Frame<'_>, out: &mut Out<'_>) -> Option<()> {
        let bare = plain::come_out(self.tables, frame, outermost, &mut self.off)?;
        self.go_on(frame, bare, out)
    }

    /// The way out of a packet behind what it came in: compiled for each of the ways to come, as different things are known
    /// on each.
    #[inline(always)]
    fn go_on(&mut self, frame: &mut Frame<'_>, bare: Bare, out: &mut Out<'_>) -> Option<()> {
        let tables = self.tables;
        let Bare { at, ip, .. } = bare;
        let around = frame.around(at, SHORT)?;
        around.first_chunk::<{ SHORT + HEAD }>()?;
        let (room, packet) = around.split_first_chunk_mut::<SHORT>()?;
        let head: &mut [u8; HEAD] = packet.first_chunk_mut()?;
        let mut flow = FlowHash(0);
        let id = match bare.hit {
            Hit::Image(id) => id,
            Hit::Ways(number) => {
                flow = FlowHash::plain(head, ip);
                tables.choose(number, flow)?
            }
            Hit::Local(_) => return None,
        };
        let image = tables.image(id)?;
        let is_syn = ip.protocol == protocol::TCP && is_syn(head, ip)?;
        if ip.ttl <= 1 || ip.total_len > image.short_limit() {
            return None;
        }
        // From here on nothing is unusual any more.
        match ip.version {
            Version::V4 => head.first_chunk_mut().map(ipv4::lower_ttl),
            Version::V6 => head.first_chunk_mut().map(ipv6::lower_hop_limit),
        };
        image.put_within(room);
        if !image.is_link() {
            if image.wants_flow() {
                flow = FlowHash::plain(head, ip);
            }
            let sum = if image.has_sums() { payload::plain(packet, ip) } else { Sum::default() };
            let inside = Inside { inherited: Inherited::plain(ip).one_hop_later(), flow, sum };
            image.fill_within(room, ip.total_len, inside, out.identifications).ok()?;
        }
        frame.recut(at, ip.total_len, image.len())?;
        if is_syn {
            lower_mss(tables, self.stats, bare.ingress, ip.version, image, frame);
        }
        self.count(bare, id, image, out.outcomes);
        Some(())
    }

    /// Counts a packet, and says what became of it.
    #[inline(always)]
    fn count(&mut self, bare: Bare, id: ImageId, image: &Image, outcomes: &mut Outcomes) {
        // Tunnels whose headers were read one by one are the packet's own.
        if bare.came == Came::InTunnels || (self.run.came, self.run.image) != (bare.came, id) {
            self.end_run(outcomes);
            self.begin_run(bare, id, image, outcomes);
        } else {
            self.run.packets += 1;
            self.run.bytes += bare.ip.total_len as u64;
        }
    }

    #[inline(always)]
    fn begin_run(&mut self, bare: Bare, id: ImageId, image: &Image, outcomes: &mut Outcomes) {
        let came = bare.came;
        self.run = Run { came, image: id, packets: 1, bytes: bare.ip.total_len as u64 };
        // No burst has more packets than there is room for.
        let Some(trail) = outcomes.begin(Verdict::Send(image.port())) else { return };
        match came {
            Came::Bare => {}
            Came::InFront => *trail = self.front.trail(),
            Came::InSibling(slot) => {
                *trail = self.front.carriers();
                trail.left(slot);
            }
            Came::InTunnels => {
                *trail = self.off.trail;
                self.strangers += 1;
                self.off.count(self.stats);
            }
        }
        image.enter(trail);
    }

    /// Says how many packets a run had, and adds them to the counters of the tunnels that they came out of and went into.
    #[inline(never)]
    fn end_run(&mut self, outcomes: &mut Outcomes) {
        let Run { came, image, packets, bytes } = self.run;
        if packets == 0 {
            return;
        }
        outcomes.go_on(packets as usize);
        let packets = u64::from(packets);
        match came {
            Came::InFront => self.front.count(packets, bytes),
            Came::InSibling(slot) => self.front.count_sibling(self.stats, slot, packets, bytes),
            Came::Bare | Came::InTunnels => {}
        }
        if let Some(image) = self.tables.image(image) {
            image.count(self.stats, packets, bytes);
        }
        self.run = Run::NONE;
    }

    /// Ends the burst.
    #[inline]
    pub(super) fn end(self) {
        self.front.settle(self.stats, self.strangers);
    }
}

/// Lowers the MSS of the SYN behind the image in `frame`.
#[cold]
#[inline(never)]
fn lower_mss(
    tables: &Tables,
    stats: &TunnelStats,
    from: Ingress,
    version: Version,
    image: &Image,
    frame: &mut Frame<'_>,
) {
    let mut frame = frame.inner(image.len(), usize::MAX);
    let Ok(ends) = Ip::new(frame.bytes(), version).map(|ip| (ip.source(), ip.destination())) else {
        return;
    };
    let crossing = Crossing { tables, stats, from, to: image.crossed() };
    clamp::lower(crossing, &mut frame, version.header_len(), ends);
}

/// Whether the TCP packet that `head` begins is a SYN.
#[inline(always)]
fn is_syn(head: &[u8; HEAD], ip: Plain) -> Option<bool> {
    let segment: &[u8; tcp::Tcp::LEN] = part(head, ip.header_len)?;
    Some(
        ip.total_len >= ip.header_len + tcp::Tcp::LEN && tcp::Tcp::new(segment).ok()?.flags() & tcp::SYN != 0,
    )
}
