//! A tap on a worker: copies of packets that somebody wants to see, taken before they are rewritten.
//!
//! The control thread says what it looks for, the worker copies what may be that and says what became of it. The channel
//! between them is bounded and nobody waits: while it is full packets pass unseen, and are not copied. A tap that is not set
//! costs the worker one comparison a burst. One that is set makes it copy every packet that the port and the address do not
//! rule out, as the verdict is known only when the original is gone.

use crate::forward::{BURST, Outcome, Outcomes};
use crate::frame::Frame;
use crate::table::PortId;
use crate::verdict::{DropReason, Verdict};
use arrayvec::ArrayVec;
use crossbeam::channel::{Receiver, Sender, bounded};
use ipnet::IpNet;
use std::net::IpAddr;

/// Packets under way to the control thread at a time.
const IN_FLIGHT: usize = 64;

/// Bytes from the start of a frame in which an address is looked for: all headers of the deepest stack.
const LOOKED_THROUGH: usize = 256;

/// What is looked for; what is not said does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Received by this port.
    pub port: Option<PortId>,
    /// Came out of or went into the tunnel of this slot, or was dropped.
    pub slot: Option<u32>,
    /// Dropped.
    pub dropped: bool,
    /// Dropped for this reason.
    pub reason: Option<DropReason>,
    /// Has these bits where an address may stand.
    pub address: Option<IpNet>,
}

/// A packet as it was received, and what became of it.
#[derive(Clone, Debug)]
pub struct Tapped {
    /// The port that received it.
    pub port: PortId,
    /// When, in nanoseconds of the worker's clock.
    pub at: u64,
    /// The tables that decided.
    pub generation: u64,
    /// Its fate, before the device had a say.
    pub verdict: Verdict,
    /// The frame.
    pub bytes: Vec<u8>,
}

/// The worker's end.
#[derive(Debug)]
pub struct Tap {
    wanted: Option<Wanted>,
    orders: Receiver<Option<Wanted>>,
    seen: Sender<Tapped>,
    copies: ArrayVec<Option<Vec<u8>>, BURST>,
}

/// The control thread's end.
#[derive(Debug)]
pub struct TapControl {
    orders: Sender<Option<Wanted>>,
    seen: Receiver<Tapped>,
}

/// A pair of ends, not set.
pub fn tap() -> (Tap, TapControl) {
    let (orders, orders_in) = bounded(4);
    let (seen_out, seen) = bounded(IN_FLIGHT);
    (
        Tap { wanted: None, orders: orders_in, seen: seen_out, copies: ArrayVec::new() },
        TapControl { orders, seen },
    )
}

impl TapControl {
    /// Sets the tap, or takes it off. `false` where the worker has not taken the orders before.
    pub fn set(&self, wanted: Option<Wanted>) -> bool {
        self.orders.try_send(wanted).is_ok()
    }

    /// What was seen since the last call. It ends although the worker goes on: that is faster than any reader.
    pub fn seen(&self) -> impl Iterator<Item = Tapped> + '_ {
        self.seen.try_iter().take(IN_FLIGHT)
    }
}

impl Tap {
    /// Takes new orders; call it now and then between bursts.
    pub fn refresh(&mut self) {
        for wanted in self.orders.try_iter() {
            self.wanted = wanted;
        }
    }

    /// Copies those of the frames just received by `port` that may be wanted.
    #[inline]
    pub fn before(&mut self, port: PortId, frames: &[Frame<'_>]) {
        if let Some(wanted) = &self.wanted
            && !self.seen.is_full()
        {
            self.copies = frames.iter().map(|frame| wanted.may_be(port, frame.bytes())).collect();
        }
    }

    /// Passes on those that were wanted. `at` and `generation` are those of the burst.
    #[inline]
    pub fn after(&mut self, port: PortId, at: u64, generation: u64, outcomes: &Outcomes) {
        if !self.copies.is_empty() {
            self.pass_on(port, at, generation, outcomes);
        }
    }

    #[cold]
    fn pass_on(&mut self, port: PortId, at: u64, generation: u64, outcomes: &Outcomes) {
        for (copy, outcome) in self.copies.drain(..).zip(outcomes.iter()) {
            if let (Some(bytes), Some(wanted)) = (copy, &self.wanted)
                && wanted.is(&outcome)
            {
                // Where there is no room nobody will miss it: as many have been seen as can be read.
                let _ = self.seen.try_send(Tapped { port, at, generation, verdict: outcome.verdict, bytes });
            }
        }
        self.copies.clear();
    }
}

impl Wanted {
    #[cold]
    fn may_be(&self, port: PortId, bytes: &[u8]) -> Option<Vec<u8>> {
        let is_received = self.port.is_none_or(|wanted| wanted == port);
        let has_address = || self.address.is_none_or(|net| holds(bytes, net));
        (is_received && has_address()).then(|| bytes.to_vec())
    }

    fn is(&self, outcome: &Outcome) -> bool {
        // What the packet is that its fragments make shows only with all of them, so the reader has to see each.
        if outcome.verdict == Verdict::Held {
            return true;
        }
        let reason = match outcome.verdict {
            Verdict::Drop(reason) => Some(reason),
            _ => None,
        };
        let is_dropped = reason.is_some() || !(self.dropped || self.reason.is_some());
        let for_this = self.reason.is_none_or(|wanted| reason == Some(wanted));
        // A packet that died on its way in has not come out of its tunnel: the reader looks more closely.
        let crossed = |slot| reason.is_some() || outcome.trail.slots().any(|crossed| crossed == slot);
        is_dropped && for_this && self.slot.is_none_or(crossed)
    }
}

/// Whether an address of `net` stands anywhere in the headers. Headers lie at even places.
fn holds(bytes: &[u8], net: IpNet) -> bool {
    let bytes = bytes.get(..LOOKED_THROUGH).unwrap_or(bytes);
    let at = |start: usize| bytes.get(start..).unwrap_or_default();
    let address = |start: usize| match net {
        IpNet::V4(_) => at(start).first_chunk::<4>().map(|octets| IpAddr::from(*octets)),
        IpNet::V6(_) => at(start).first_chunk::<16>().map(|octets| IpAddr::from(*octets)),
    };
    (0..bytes.len()).step_by(2).filter_map(address).any(|address| net.contains(&address))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::Trail;

    fn outcome(verdict: Verdict, slots: &[u32]) -> Outcome {
        let mut trail = Trail::default();
        slots.iter().for_each(|slot| trail.left(*slot));
        Outcome { verdict, trail }
    }

    fn see(wanted: Wanted, port: PortId, packet: &[u8], outcome: Outcome) -> usize {
        let (mut tap, control) = tap();
        assert!(control.set(Some(wanted)));
        tap.refresh();
        let mut buffer = packet.to_vec();
        tap.before(port, &[Frame::new(&mut buffer, 0, packet.len())]);
        tap.after(port, 1, 7, &Outcomes::from_iter([outcome]));
        control
            .seen()
            .inspect(|tapped| assert_eq!((tapped.bytes.as_slice(), tapped.generation), (packet, 7)))
            .count()
    }

    #[test]
    fn a_tap_shows_what_is_wanted_and_nothing_else() {
        let sent = || outcome(Verdict::Send(PortId(1)), &[3]);
        let dropped = || outcome(Verdict::Drop(DropReason::Ttl), &[]);
        let all = Wanted::default();
        assert_eq!(see(all.clone(), PortId(0), &[1; 60], sent()), 1);
        let by_port = Wanted { port: Some(PortId(0)), ..all.clone() };
        assert_eq!(see(by_port.clone(), PortId(0), &[1; 60], sent()), 1);
        assert_eq!(see(by_port, PortId(1), &[1; 60], sent()), 0);
        let by_slot = |slot| Wanted { slot: Some(slot), ..all.clone() };
        assert_eq!(see(by_slot(3), PortId(0), &[1; 60], sent()), 1);
        assert_eq!(see(by_slot(4), PortId(0), &[1; 60], sent()), 0);
        let drops = Wanted { dropped: true, ..all.clone() };
        assert_eq!(see(drops.clone(), PortId(0), &[1; 60], sent()), 0);
        assert_eq!(see(drops, PortId(0), &[1; 60], dropped()), 1);
        let reason = |reason| Wanted { reason: Some(reason), ..all.clone() };
        assert_eq!(see(reason(DropReason::Ttl), PortId(0), &[1; 60], dropped()), 1);
        assert_eq!(see(reason(DropReason::NoRoute), PortId(0), &[1; 60], dropped()), 0);
        let held = || outcome(Verdict::Held, &[]);
        assert_eq!(see(by_slot(3), PortId(0), &[1; 60], held()), 1);
        assert_eq!(see(reason(DropReason::Ttl), PortId(0), &[1; 60], held()), 1);
    }

    #[test]
    fn an_address_is_found_wherever_a_header_may_stand() {
        let mut packet = vec![0; 120];
        packet[70..74].copy_from_slice(&[192, 0, 2, 9]);
        let by = |net: &str| Wanted { address: Some(net.parse().unwrap()), ..Wanted::default() };
        let sent = || outcome(Verdict::Consumed, &[]);
        assert_eq!(see(by("192.0.2.9/32"), PortId(0), &packet, sent()), 1);
        assert_eq!(see(by("192.0.2.0/28"), PortId(0), &packet, sent()), 1);
        assert_eq!(see(by("192.0.2.8/32"), PortId(0), &packet, sent()), 0);
        assert_eq!(see(by("2001:db8::/32"), PortId(0), &packet, sent()), 0);
    }

    #[test]
    fn more_than_can_be_read_passes_unseen_and_a_tap_can_be_taken_off() {
        let (mut tap, control) = tap();
        assert!(control.set(Some(Wanted::default())));
        tap.refresh();
        let show = |tap: &mut Tap| {
            let mut buffer = [0; 60];
            tap.before(PortId(0), &[Frame::new(&mut buffer, 0, 60)]);
            // What could not be passed on is not even copied.
            assert_eq!(tap.copies.is_empty(), tap.wanted.is_none() || tap.seen.is_full());
            tap.after(PortId(0), 1, 1, &Outcomes::from_iter([outcome(Verdict::Consumed, &[])]));
        };
        (0..100).for_each(|_| show(&mut tap));
        // A reader that is slower than the worker comes to an end all the same.
        assert_eq!(control.seen().inspect(|_| show(&mut tap)).take(1_000).count(), IN_FLIGHT);
        assert_eq!(control.seen().count(), IN_FLIGHT);
        assert!(control.set(None));
        tap.refresh();
        show(&mut tap);
        assert_eq!(control.seen().count(), 0);
    }
}
