//! The poll loop: what a worker does on its own thread, burst after burst.

use super::account::{Lost, bits, count_lost, count_unsent, flush, stage_made};
use super::idle::Rest;
use super::{Idle, Stopped, WorkerError, WorkerSetup};
use crate::dpdk::{Burst, Eal, HandedOver, Handoff, Registration, RxQueue, TxBuffer};
use crate::forward::{BURST, Engine, Host, Outcomes};
use crate::frame::Frame;
use crate::hint::tsc;
use crate::publish::Subscriber;
use crate::spread::{self, Seen, Shares};
use crate::stats::{LatencyRecorder, TunnelStats, WorkerCounters, WorkerLoad};
use crate::table::{Generation, PortId};
use crate::tap::Tap;
use crate::verdict::{DropReason, Verdict};
use arrayvec::ArrayVec;
use std::hint;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;

/// Rounds of polls between two looks for an empty set of histograms, while packets come without pause.
const ROUNDS_PER_EXCHANGE: u32 = 256;

/// A receive queue, with what to do with its packets.
#[derive(Debug)]
pub(super) struct Received {
    port: PortId,
    queue: RxQueue,
    /// Whose they are, where the workers spread them.
    shares: Option<Arc<Shares>>,
}

/// The worker on its own thread.
pub(super) struct Poller {
    index: usize,
    core: usize,
    rx: Vec<Received>,
    tx: Vec<TxBuffer>,
    handoff: Handoff,
    burst: Burst,
    engine: Engine,
    outcomes: Outcomes,
    subscriber: Subscriber<Generation>,
    no_stats: TunnelStats,
    counters: Arc<WorkerCounters>,
    load: Arc<WorkerLoad>,
    latency: LatencyRecorder,
    tap: Tap,
    clock: Clock,
    idle: Idle,
    stop: Arc<AtomicBool>,
    eal: Eal,
}

impl Poller {
    /// A worker of these pieces, not on its core yet.
    pub(super) fn new(setup: WorkerSetup) -> Poller {
        let (mut rx, mut tx) = (Vec::new(), Vec::new());
        for queues in setup.queues {
            let (port, shares) = (queues.port, queues.shares);
            rx.extend(queues.rx.into_iter().map(|queue| Received { port, queue, shares: shares.clone() }));
            tx.push(queues.tx);
        }
        Poller {
            index: setup.index,
            core: setup.core,
            rx,
            tx,
            handoff: setup.handoff,
            burst: Burst::new(&setup.eal),
            engine: Engine::new(Host::Absent, setup.workers),
            outcomes: Outcomes::new(),
            subscriber: setup.subscriber,
            no_stats: TunnelStats::default(),
            counters: setup.counters,
            load: setup.load,
            latency: setup.latency,
            tap: setup.tap,
            clock: Clock::new(setup.eal.tsc_hz()),
            idle: setup.idle,
            stop: setup.stop,
            eal: setup.eal,
        }
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
        Stopped { subscriber: self.subscriber, latency: self.latency, _queues: (self.rx, self.tx) }
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
        let gets_packets = !self.rx.is_empty() || self.handoff.inlets() != 0;
        let idle = if gets_packets { self.idle } else { Idle::Sleep };
        let queues = self.rx.iter().map(|received| &received.queue);
        Rest::new(idle, queues)
            .map_err(|error| WorkerError::Rest { core: self.core, reason: error.to_string() })
    }

    fn poll_until_stopped(&mut self, mut rest: Rest) {
        let mut rounds = 0u32;
        let mut before = tsc();
        self.load.generation.set(self.subscriber.current().number);
        self.handoff.open();
        while !self.stop.load(Ordering::Relaxed) {
            let changed = self.subscriber.refresh();
            if changed {
                self.load.generation.set(self.subscriber.current().number);
            }
            let (mut found, round) = (0, before);
            for queue in 0..self.rx.len() {
                let packets = self.poll(queue);
                before = self.count_poll(packets, before);
                found += packets;
            }
            found += self.poll_rings(&mut before);
            if self.handoff.is_holding() {
                let result = self.handoff.flush(round);
                self.count_handed(result);
            }
            rounds = rounds.wrapping_add(1);
            if changed || found == 0 || rounds.is_multiple_of(ROUNDS_PER_EXCHANGE) {
                self.latency.exchange();
                self.tap.refresh();
            }
            if self.engine.deadline().is_some_and(|deadline| deadline <= self.clock.nanoseconds(before)) {
                self.expire(self.clock.nanoseconds(before));
            }
            // What waits for room in a ring has to be tried again.
            if found != 0 || self.handoff.is_holding() {
                rest.end(self.handoff.bell());
            } else {
                rest.go_on(self.handoff.bell());
            }
            if found == 0 {
                if self.rx.is_empty() {
                    // Each look at an empty ring takes a cache line from the worker that fills it.
                    hint::spin_loop();
                }
                // Neither a rest nor what else is done between two rounds belongs to the next poll.
                let after = tsc();
                self.load.total_cycles.add(after.wrapping_sub(before));
                before = after;
            }
        }
        rest.end(self.handoff.bell());
        drop(rest);
        // Whoever hands to this worker ends as well, and what was on its way is this one's to send.
        loop {
            let rest = self.handoff.end();
            self.count_handed(rest);
            if self.handoff.is_over() {
                break;
            }
            self.subscriber.refresh();
            if self.poll_rings(&mut before) == 0 {
                hint::spin_loop();
            }
        }
        // What is not whole by now is nobody's any more, and every packet has to be counted.
        self.expire(u64::MAX);
    }

    /// Gives up and counts the fragments that are not whole by `now`.
    #[cold]
    fn expire(&mut self, now: u64) {
        let generation = self.subscriber.current();
        let stats = generation.stats.get(self.index).unwrap_or(&self.no_stats);
        self.engine.expire(stats, now);
        self.engine.released().iter().for_each(|fragments| fragments.account(&self.counters));
    }

    /// One burst from one receive queue, from the receive call to the transmit calls. Returns the packets received.
    #[inline]
    fn poll(&mut self, queue: usize) -> u64 {
        let Some(Received { port, queue, shares }) = self.rx.get_mut(queue) else { return 0 };
        let chained = self.burst.receive(queue);
        let found = self.burst.len() as u64 + chained;
        if found == 0 {
            return 0;
        }
        let (port, received_at) = (*port, tsc());
        if let Some(shares) = shares {
            let tables = &self.subscriber.current().tables;
            let mut seen = Seen::default();
            let worker = |frame: &Frame<'_>| {
                spread::flow(tables, frame, &mut seen).map_or(self.index, |flow| shares.worker(flow))
            };
            let result = self.handoff.hand_over(&mut self.burst, worker, port, received_at);
            self.count_handed(result);
        }
        self.forward(port, received_at, received_at, chained);
        found
    }

    /// One parcel from each ring. Returns the packets taken.
    #[inline]
    fn poll_rings(&mut self, before: &mut u64) -> u64 {
        let mut found = 0;
        for inlet in 0..self.handoff.inlets() {
            let mut packets = 0;
            if let Some(taken) = self.handoff.take(inlet, &mut self.burst, &self.tx) {
                packets = self.burst.len() as u64 + taken.lost;
                self.load.taken.add(packets);
                if taken.lost != 0 {
                    self.count_received(taken.lost);
                    self.counters.dropped.of(DropReason::HandoffNoBuffer).add(taken.lost);
                }
                self.forward(taken.port, taken.received_at, tsc(), 0);
            }
            *before = self.count_poll(packets, *before);
            found += packets;
        }
        found
    }

    #[inline]
    fn count_handed(&self, result: HandedOver) {
        self.load.handed.add(result.handed);
        if result.refused != 0 {
            self.count_received(result.refused);
            self.counters.dropped.of(DropReason::HandoffFull).add(result.refused);
        }
    }

    #[inline]
    fn count_received(&self, packets: u64) {
        self.counters.received.add(packets);
        self.load.packets.add(packets);
    }

    /// Forwards the packets in hand, up to the transmit calls. They came by `port` at `received_at`; it is `now`. With them
    /// came some in several buffers.
    #[inline]
    fn forward(&mut self, port: PortId, received_at: u64, now: u64, chained: u64) {
        let whole = self.burst.len() as u64;
        self.count_received(whole + chained);
        self.counters.dropped.of(DropReason::MultiSegment).add(chained);
        if whole == 0 {
            return;
        }
        let generation = self.subscriber.current();
        let stats = generation.stats.get(self.index).unwrap_or(&self.no_stats);
        self.outcomes.clear();
        let arrival = (port, self.clock.nanoseconds(now));
        let outside = self.burst.rewrite(|frames| {
            self.tap.before(port, frames);
            self.engine.forward_burst(&generation.tables, stats, arrival, frames, &mut self.outcomes);
        });
        self.tap.after(port, arrival.1, generation.number, &self.outcomes);

        let counters = &*self.counters;
        for fragments in self.engine.released() {
            fragments.account(counters);
        }
        // A port of which the tables know neither the untagged side nor a VLAN: nothing was decided.
        let undecided = whole.saturating_sub(self.outcomes.len() as u64);
        counters.dropped.of(DropReason::VlanUnknown).add(undecided);

        let outcomes = &self.outcomes;
        let (mut unsent, mut lost) = (0u32, Lost::default());
        let made = self.engine.originated();
        // Nearly always all packets leave by one port: then they are its burst as they are.
        let only = outcomes
            .only_port()
            .map(|port| usize::from(port.0))
            .filter(|port| made.is_empty() && undecided == 0 && outside == 0 && *port < self.tx.len());
        if only.is_none() {
            let verdicts: ArrayVec<Verdict, BURST> = outcomes.iter().map(|outcome| outcome.verdict).collect();
            let destination = |index: usize| match verdicts.get(index) {
                Some(Verdict::Send(port)) => (outside >> index & 1 == 0).then_some(*port),
                _ => {
                    unsent |= 1 << index;
                    None
                }
            };
            let unstaged = if made.is_empty() {
                self.burst.settle(destination, &mut self.tx, |_, _| {})
            } else {
                self.burst.settle(destination, &mut self.tx, |position, tx| {
                    stage_made(made.behind(position), tx, counters, &mut lost);
                })
            };
            lost.packets |= unstaged | outside & !unsent;
        }
        // Another core's counter may be a little ahead.
        let nanoseconds = self.clock.nanoseconds(tsc().saturating_sub(received_at));
        match only.and_then(|port| self.tx.get_mut(port)) {
            Some(tx) => {
                let flushed = self.burst.send(tx, |position| lost.packets |= 1 << position);
                counters.transmitted.add(flushed.taken);
            }
            None => self.tx.iter_mut().for_each(|tx| flush(tx, counters, &mut lost)),
        }
        if lost != Lost::default() {
            count_lost(lost, outcomes, counters, stats);
        }
        if unsent != 0 {
            count_unsent(outcomes, counters, stats);
        }
        let gone = unsent | lost.packets;
        let sent = |packets: Range<usize>| packets.len() as u32 - (gone & bits(packets)).count_ones();
        self.latency
            .set()
            .record(nanoseconds, outcomes.runs().map(|(packets, outcome)| (sent(packets), &outcome.trail)));
    }

    /// Counts a poll that began at `before` and found so many packets. Returns when it ended.
    #[inline]
    fn count_poll(&self, packets: u64, before: u64) -> u64 {
        let (load, after) = (&*self.load, tsc());
        let cycles = after.wrapping_sub(before);
        load.polls.add(1);
        load.total_cycles.add(cycles);
        if packets != 0 {
            load.bursts.add(1);
            load.busy_cycles.add(cycles);
        }
        after
    }
}

/// Turns cycles into nanoseconds by one multiplication.
#[derive(Clone, Copy, Debug)]
struct Clock {
    // Nanoseconds a cycle, as a fraction of 2^32.
    scale: u64,
}

impl Clock {
    fn new(hz: u64) -> Clock {
        Clock { scale: (1_000_000_000u64 << 32) / hz.max(1) }
    }

    #[inline]
    fn nanoseconds(self, cycles: u64) -> u64 {
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
