//! The poll loop: what a worker does on its own thread, burst after burst.

use super::hand::Hand;
use super::idle::Rest;
use super::{Idle, Stopped, WorkerError, WorkerSetup};
use crate::bell::Bell;
use crate::dpdk::{Burst, Eal, Lane, Registration, RxQueue, TURN};
use crate::forward::{Engine, Host, Outcomes};
use crate::hint::tsc;
use crate::stats::TunnelStats;
use crate::table::PortId;
use std::hint;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;

/// Rounds of polls between two looks for an empty set of histograms, while packets come without pause.
const ROUNDS_PER_EXCHANGE: u32 = 256;

/// The worker on its own thread.
pub(super) struct Poller {
    core: usize,
    rx: Vec<(PortId, RxQueue)>,
    lanes: Vec<Arc<Lane>>,
    hand: Hand,
    bell: Arc<Bell>,
    idle: Idle,
    stop: Arc<AtomicBool>,
    eal: Eal,
}

impl Poller {
    /// A worker of these pieces, not on its core yet.
    pub(super) fn new(setup: WorkerSetup) -> Poller {
        let part = setup.part;
        let hand = Hand {
            index: setup.index,
            bursts: [(); TURN].map(|()| Burst::new(&setup.eal)),
            engine: Engine::new(Host::Absent, setup.index, setup.workers),
            outcomes: Outcomes::new(),
            exits: part.tx,
            subscriber: setup.subscriber,
            no_stats: TunnelStats::default(),
            counters: setup.counters,
            load: setup.load,
            latency: setup.latency,
            tap: setup.tap,
            clock: Clock::new(setup.eal.tsc_hz()),
        };
        let (core, idle, stop, eal) = (setup.core, setup.idle, setup.stop, setup.eal);
        // Its own first, in the order in which they are polled.
        let (own, others): (Vec<_>, Vec<_>) =
            part.lanes.into_iter().partition(|lane| lane.home() == setup.index);
        let lanes = own.into_iter().chain(others).collect();
        Poller { core, rx: part.rx, lanes, hand, bell: part.bell, idle, stop, eal }
    }

    /// Takes the core, says so or why not by `report`, and polls until it is told to stop.
    pub(super) fn run(mut self, report: &SyncSender<Result<(), WorkerError>>) -> Stopped {
        match self.take_core().and_then(|registration| Ok((registration, self.rest()?))) {
            Ok((_registration, rest)) => {
                // The control thread waits for it; where it is gone the program is ending.
                let _ = report.send(Ok(()));
                self.poll_until_stopped(rest);
            }
            Err(error) => {
                let _ = report.send(Err(error));
            }
        }
        let Hand { subscriber, latency, exits, .. } = self.hand;
        Stopped { subscriber, latency, _queues: (self.rx, self.lanes, exits) }
    }

    fn take_core(&self) -> Result<Registration, WorkerError> {
        let core = self.core;
        if !core_affinity::set_for_current(core_affinity::CoreId { id: core }) {
            return Err(WorkerError::Pin { core });
        }
        Registration::of_this_thread(&self.eal).map_err(|reason| WorkerError::Register { core, reason })
    }

    /// How this worker rests. One that never gets a packet need not poll whatever the configuration says.
    fn rest(&self) -> Result<Rest, WorkerError> {
        let gets_packets = !self.rx.is_empty() || !self.lanes.is_empty();
        let idle = if gets_packets { self.idle } else { Idle::Sleep };
        let queues = self.rx.iter().map(|(_, queue)| queue);
        let own = self.lanes.iter().filter(|lane| lane.home() == self.hand.index);
        Rest::new(idle, queues, own)
            .map_err(|error| WorkerError::Rest { core: self.core, reason: error.to_string() })
    }

    fn poll_until_stopped(&mut self, mut rest: Rest) {
        let mut rounds = 0u32;
        let mut before = tsc();
        self.hand.load.generation.set(self.hand.subscriber.current().number);
        while !self.stop.load(Ordering::Relaxed) {
            let changed = self.hand.subscriber.refresh();
            if changed {
                self.hand.load.generation.set(self.hand.subscriber.current().number);
            }
            let mut found = 0;
            for queue in 0..self.rx.len() {
                let packets = self.poll(queue);
                before = self.hand.count_poll(packets, before);
                found += packets;
            }
            if !self.lanes.is_empty() {
                found += self.poll_lanes(&mut before);
            }
            rounds = rounds.wrapping_add(1);
            if changed || found == 0 || rounds.is_multiple_of(ROUNDS_PER_EXCHANGE) {
                self.hand.latency.exchange();
                self.hand.tap.refresh();
            }
            if self
                .hand
                .engine
                .deadline()
                .is_some_and(|deadline| deadline <= self.hand.clock.nanoseconds(before))
            {
                self.hand.expire(self.hand.clock.nanoseconds(before));
            }
            if found != 0 {
                rest.end(&self.bell);
            } else {
                rest.go_on(&self.bell);
                if self.rx.is_empty() {
                    // Each look at a queue that others use takes a cache line from them.
                    hint::spin_loop();
                }
                // Neither a rest nor what else is done between two rounds belongs to the next poll.
                let after = tsc();
                self.hand.load.total_cycles.add(after.wrapping_sub(before));
                before = after;
            }
        }
        rest.end(&self.bell);
        drop(rest);
        // What is not whole by now is nobody's any more, and every packet has to be counted.
        self.hand.expire(u64::MAX);
    }

    /// One burst from one receive queue, from the receive call to the transmit calls. Returns the packets received.
    #[inline]
    fn poll(&mut self, queue: usize) -> u64 {
        let Some((port, queue)) = self.rx.get_mut(queue) else { return 0 };
        let Some(burst) = self.hand.bursts.first_mut() else { return 0 };
        burst.receive(queue);
        let found = burst.len() as u64;
        if found != 0 {
            self.hand.forward(0, (*port, tsc()), None);
        }
        found
    }

    /// One turn at each of this worker's lanes; where none of these is busy, at each of the others' that are.
    /// Returns the packets received.
    fn poll_lanes(&mut self, before: &mut u64) -> u64 {
        let (mut sum, mut has_time) = (0, true);
        for lane in &self.lanes {
            let is_own = lane.home() == self.hand.index;
            if !(is_own || has_time && lane.is_busy() && self.hand.may_help()) {
                continue;
            }
            let mut found = 0;
            if let Some((bursts, place)) = lane.receive(&mut self.hand.bursts) {
                let received_at = tsc();
                for index in 0..bursts {
                    found = self.hand.bursts.get(index).map_or(0, Burst::len) as u64;
                    self.hand.forward(index, (lane.port(), received_at), Some((&place, index + 1 == bursts)));
                    sum += found;
                    if index + 1 < bursts {
                        *before = self.hand.count_poll(found, *before);
                    }
                }
            }
            *before = self.hand.count_poll(found, *before);
            has_time &= !is_own || !lane.is_busy();
        }
        sum
    }
}

/// Turns cycles into nanoseconds by one multiplication.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    // Nanoseconds a cycle, as a fraction of 2^32.
    scale: u64,
}

impl Clock {
    pub(super) fn new(hz: u64) -> Clock {
        Clock { scale: (1_000_000_000u64 << 32) / hz.max(1) }
    }

    #[inline]
    pub(super) fn nanoseconds(self, cycles: u64) -> u64 {
        ((u128::from(cycles) * u128::from(self.scale)) >> 32) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cycles_become_nanoseconds_within_a_thousandth() {
        for hz in [1_000_000_000u64, 2_100_000_000, 2_600_000_000, 5_000_000_000] {
            let clock = Clock::new(hz);
            for seconds in [1u64, 3_600] {
                let wanted = seconds * 1_000_000_000;
                let found = clock.nanoseconds(hz * seconds);
                assert!(found.abs_diff(wanted) <= wanted / 1_000, "{hz} Hz, {seconds} s: {found}");
            }
        }
    }
}
