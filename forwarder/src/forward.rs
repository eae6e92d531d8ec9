//! The heart: packets and tables in, verdicts out.
//!
//! A packet is looked at where it lies. From the outside in: its frame, its IP header, and while it is for a tunnel of
//! this box, the headers that the tunnel takes off. What is left is the host's, or is forwarded: a route, a TTL less, the
//! MSS clamps of what is crossed, and either a neighbour's Ethernet header or a tunnel's image in front. Whatever stops
//! it on the way ends it with a reason.

mod outcomes;
mod put;
mod plain;
mod front;
mod shell;
mod warm;
mod journey;
mod arrive;
mod clamp;
mod rare;
mod relay;
mod gather;

use crate::frame::Frame;
use crate::icmp_error::{IcmpRates, Limiter};
use crate::originate::Originated;
use crate::reassembly::{Reassembly, Released};
use crate::stats::{Trail, TunnelStats};
use crate::table::{InterfaceId, MAX_IMAGE, Port, PortId, Tables};
use crate::trace::Step;
use crate::tunnel::identification::Identifications;
use crate::verdict::Ingress;
use front::Front;
use journey::Journey;
pub use outcomes::{Outcome, Outcomes};
use put::{Out, Short};
use warm::{Takers, warm};

/// Packets taken from a device at a time.
pub const BURST: usize = 64;

/// What one worker remembers from packet to packet: nothing about any flow, and fragments until they are whole.
#[derive(Debug)]
pub struct Engine {
    host: Host,
    workers: u32,
    now: u64,
    identifications: Identifications,
    limiter: Limiter,
    reassembly: Reassembly,
    originated: Originated,
    fronts: Vec<Front>,       // those of packets before, by port
    spare: Vec<Vec<u8>>,      // buffers for packets made here, used again
    whole: Vec<u8>,           // a packet that is being cut
    steps: Option<Vec<Step>>, // where somebody listens
}

/// Who is behind the box's own addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host {
    /// A kernel takes what is for the box.
    Attached,
    /// Nobody: pings are answered here, the rest is dropped.
    Absent,
}

impl Engine {
    /// An engine for a box with or without a host behind it, for the worker at this position of so many.
    pub fn new(host: Host, worker: usize, workers: usize) -> Self {
        Engine {
            host,
            workers: workers.clamp(1, 1 << 16) as u32,
            now: 0,
            identifications: Identifications::new(worker, workers),
            limiter: Limiter::default(),
            reassembly: Reassembly::default(),
            originated: Originated::default(),
            fronts: Vec::new(),
            spare: Vec::new(),
            whole: Vec::new(),
            steps: None,
        }
    }

    /// Decides on each frame of a burst that came in by `port` at `now` nanoseconds, rewrites it in place, and counts for
    /// its tunnels. One outcome a frame is appended to `outcomes`, in order; what was made on top of that is then in
    /// [`originated`](Self::originated), and what became of fragments from bursts before in [`released`](Self::released).
    #[inline(never)] // A function of its own, by whose name instructions are counted.
    pub fn forward_burst(
        &mut self,
        tables: &Tables,
        stats: &TunnelStats,
        arrival: (PortId, u64),
        frames: &mut [Frame<'_>],
        outcomes: &mut Outcomes,
    ) {
        let (port, now) = arrival;
        self.now = now;
        if !self.originated.is_empty() {
            self.originated.clear();
        }
        if !self.reassembly.is_idle() {
            self.expire(stats, now);
        }
        let Some(from) = tables.port(port) else { return };
        // Whoever listens wants to hear of every step, so then all packets take the journey.
        let is_short = self.steps.is_none();
        let mut fronts = std::mem::take(&mut self.fronts);
        let place = usize::from(port.0);
        if fronts.len() <= place {
            fronts.resize(place + 1, Front::NONE);
        }
        let Some(front) = fronts.get_mut(place) else { return };
        if is_short
            && front.is_wanted()
            && let Some(learned) = plain::learn(tables, from, frames, front)
        {
            *front = learned;
        }
        let mut takers = Takers::new();
        if is_short && tables.is_large() {
            let known = Some(&*front).filter(|front| front.holds(tables));
            takers = warm(tables, stats, from, frames, known);
        }
        let mut short = Short::new(tables, stats, from, front, &takers);
        let mut done = 0;
        while done < frames.len() {
            if is_short {
                let mut out = Out { identifications: &mut self.identifications, outcomes };
                done += short.take(tail_mut(frames, done), done, &mut out);
            }
            // The first that did not.
            if let Some(frame) = frames.get_mut(done) {
                self.originated.caused_by(done);
                outcomes.push(self.journey(tables, stats, from, frame));
                done += 1;
            }
        }
        short.end();
        self.fronts = fronts;
    }

    /// The long way of a packet.
    #[cold]
    #[inline(never)]
    fn journey(
        &mut self,
        tables: &Tables,
        stats: &TunnelStats,
        from: &Port,
        frame: &mut Frame<'_>,
    ) -> Outcome {
        let mut journey = Journey {
            tables,
            stats,
            engine: self,
            ingress: Ingress::Interface(InterfaceId(0)),
            is_made: false,
            inside: None,
            trail: Trail::default(),
        };
        let verdict = match journey.run(from, frame) {
            Ok(verdict) => verdict,
            Err(stop) => journey.stop(frame, stop),
        };
        Outcome { verdict, trail: journey.trail }
    }

    /// The packets made here during the last burst.
    #[inline]
    pub fn originated(&self) -> &Originated {
        &self.originated
    }

    /// What became of fragments that were [`Held`](crate::verdict::Verdict::Held) before, during the last burst or the last
    /// call of [`expire`](Self::expire). To be counted after each of both.
    #[inline]
    pub fn released(&self) -> &[Released] {
        self.reassembly.released()
    }

    /// When fragments are to be given up, in nanoseconds; `None` while none are held.
    #[inline]
    pub fn deadline(&self) -> Option<u64> {
        self.reassembly.deadline()
    }

    /// Gives up the fragments that are not whole by `now` nanoseconds, all of them for [`u64::MAX`].
    #[cold]
    pub fn expire(&mut self, stats: &TunnelStats, now: u64) {
        self.reassembly.forget_released();
        self.reassembly.expire(now, stats);
    }

    /// A buffer with [`MAX_IMAGE`] free bytes in front, for a packet made here.
    fn blank(&mut self) -> Vec<u8> {
        let mut buffer = self.spare.pop().unwrap_or_default();
        buffer.clear();
        buffer.resize(MAX_IMAGE, 0);
        buffer
    }

    fn reuse(&mut self, buffer: Vec<u8>) {
        self.spare.push(buffer);
    }

    /// Has the packets that come tell their steps.
    pub(crate) fn listen(&mut self) {
        self.steps = Some(Vec::new());
    }

    /// The steps told since [`listen`](Self::listen).
    pub(crate) fn heard(&mut self) -> Vec<Step> {
        self.steps.take().unwrap_or_default()
    }

    /// This worker's part of what the whole box may send; one address is nearly always served by one worker.
    fn share(&self, rates: IcmpRates) -> IcmpRates {
        IcmpRates { total: rates.total.div_ceil(self.workers), ..rates }
    }
}

/// What follows the first `count`.
#[inline(always)]
fn tail_mut<T>(all: &mut [T], count: usize) -> &mut [T] {
    all.get_mut(count..).unwrap_or_default()
}
