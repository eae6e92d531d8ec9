//! What a worker does with the packets in its hand, from the receive call to the transmit calls.

use super::account::{Lost, bits, count_lost, count_unsent, flush, stage_made};
use super::poller::Clock;
use crate::dpdk::{Burst, Exits, Place, Rewritten, TURN, TxBuffer};
use crate::forward::{BURST, Engine, Outcomes};
use crate::hint::tsc;
use crate::publish::Subscriber;
use crate::stats::{LatencyRecorder, TunnelStats, WorkerCounters, WorkerLoad};
use crate::table::{Generation, PortId};
use crate::tap::Tap;
use crate::verdict::{DropReason, Verdict};
use arrayvec::ArrayVec;
use std::ops::Range;
use std::sync::Arc;

/// A worker's bursts, and what it takes to forward them.
pub(super) struct Hand {
    pub(super) index: usize,
    pub(super) bursts: [Burst; TURN],
    pub(super) engine: Engine,
    pub(super) outcomes: Outcomes,
    pub(super) exits: Exits,
    pub(super) subscriber: Subscriber<Generation>,
    pub(super) no_stats: TunnelStats,
    pub(super) counters: Arc<WorkerCounters>,
    pub(super) load: Arc<WorkerLoad>,
    pub(super) latency: LatencyRecorder,
    pub(super) tap: Tap,
    pub(super) clock: Clock,
}

impl Hand {
    /// Gives up and counts the fragments that are not whole by `now` nanoseconds.
    #[cold]
    pub(super) fn expire(&mut self, now: u64) {
        let generation = self.subscriber.current();
        let stats = generation.stats.get(self.index).unwrap_or(&self.no_stats);
        self.engine.expire(stats, now);
        self.engine.released().iter().for_each(|fragments| fragments.account(&self.counters));
    }

    /// Forwards the burst at this position, received by `port` at `received_at`, up to the transmit calls. Of a lane it has this
    /// place, and may be the last one there.
    #[inline(always)]
    pub(super) fn forward(
        &mut self,
        index: usize,
        (port, received_at): (PortId, u64),
        place: Option<(&Place<'_>, bool)>,
    ) {
        let Some(burst) = self.bursts.get_mut(index) else { return };
        let received = burst.len() as u64;
        self.counters.received.add(received);
        self.load.packets.add(received);
        let generation = self.subscriber.current();
        let stats = generation.stats.get(self.index).unwrap_or(&self.no_stats);
        self.outcomes.clear();
        let arrival = (port, self.clock.nanoseconds(received_at));
        let Rewritten { chained, outside } = burst.rewrite(|frames| {
            self.tap.before(port, frames);
            self.engine.forward_burst(&generation.tables, stats, arrival, frames, &mut self.outcomes);
        });
        self.tap.after(port, arrival.1, generation.number, &self.outcomes);

        let counters = &*self.counters;
        for fragments in self.engine.released() {
            fragments.account(counters);
        }
        counters.dropped.of(DropReason::MultiSegment).add(chained);
        // A port of which the tables know neither the untagged side nor a VLAN: nothing was decided.
        let undecided = (burst.len() as u64).saturating_sub(self.outcomes.len() as u64);
        counters.dropped.of(DropReason::VlanUnknown).add(undecided);

        let (own, mut shared) = match &mut self.exits {
            Exits::Own(tx) => (tx.as_mut_slice(), None),
            Exits::Shared(exits) => {
                let exit = place.map_or(self.index, |(place, _)| place.exit());
                self.load.waited_cycles.add(place.map_or(0, |(place, _)| place.wait()));
                (&mut [][..], exits.get(exit).map(|exit| exit.lock()))
            }
        };
        let tx: &mut [TxBuffer] = shared.as_mut().map_or(own, |tx| tx);
        let outcomes = &self.outcomes;
        let (mut unsent, mut lost) = (0u64, Lost::default());
        let made = self.engine.originated();
        // Nearly always all packets leave by one port: then they are its burst as they are.
        let only = outcomes
            .only_port()
            .map(|port| usize::from(port.0))
            .filter(|port| made.is_empty() && undecided == 0 && outside == 0 && *port < tx.len());
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
                burst.settle(destination, tx, |_, _| {})
            } else {
                burst.settle(destination, tx, |position, tx| {
                    stage_made(made.behind(position), tx, counters, &mut lost);
                })
            };
            lost.packets |= unstaged | outside & !unsent;
        }
        // Another core's counter may be a little ahead.
        let nanoseconds = self.clock.nanoseconds(tsc().saturating_sub(received_at));
        match only.and_then(|port| tx.get_mut(port)) {
            Some(tx) => {
                let flushed = burst.send(tx, |position| lost.packets |= 1 << position);
                counters.transmitted.add(flushed.taken);
            }
            None => tx.iter_mut().for_each(|tx| flush(tx, counters, &mut lost)),
        }
        // It is the next one's turn; what is left to do is this worker's alone.
        drop(shared);
        if let Some((place, true)) = place {
            place.pass_on();
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

    /// Whether this worker may forward packets of others' lanes: not where the tables have something that is counted or kept
    /// from packet to packet of a tunnel.
    #[inline]
    pub(super) fn may_help(&self) -> bool {
        !self.subscriber.current().tables.is_for_one_worker()
    }

    /// Counts a poll that began at `before` and found so many packets. Returns when it ended.
    #[inline]
    pub(super) fn count_poll(&self, packets: u64, before: u64) -> u64 {
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
