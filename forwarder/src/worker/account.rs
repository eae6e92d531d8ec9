//! What became of the packets of a burst, counted: those sent, those that no device took, and those made on the way.

use crate::dpdk::TxBuffer;
use crate::forward::{BURST, Outcome, Outcomes};
use crate::originate::OriginatedPacket;
use crate::stats::{TunnelStats, WorkerCounters};
use crate::verdict::{DropReason, Verdict};
use std::ops::Range;

/// The tag of a packet made here, where others have their position in the burst.
const MADE_HERE: u8 = u8::MAX;

/// The packets of a burst that no device took: those received, a bit for each by its position, and how many made here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lost {
    pub(super) packets: u64,
    made: u64,
}

const _: () = assert!(BURST <= u64::BITS as usize);

/// Hands what is staged to the device, and counts what it takes.
#[inline(always)]
pub(super) fn flush(tx: &mut TxBuffer, counters: &WorkerCounters, lost: &mut Lost) {
    let flushed = tx.flush(|tag| match tag {
        MADE_HERE => lost.made += 1,
        position => lost.packets |= 1 << position,
    });
    counters.transmitted.add(flushed.taken);
}

/// Stages packets made here, and leaves room for one more packet by each port. They are in no histogram: they were never
/// received.
#[cold]
pub(super) fn stage_made<'a>(
    made: impl Iterator<Item = OriginatedPacket<'a>>,
    tx: &mut [TxBuffer],
    counters: &WorkerCounters,
    lost: &mut Lost,
) {
    tx.iter_mut().filter(|tx| tx.is_full()).for_each(|tx| flush(tx, counters, lost));
    for made in made {
        counters.originated.add(1);
        match made.verdict {
            Verdict::Send(port) => {
                let mut tx = tx.get_mut(usize::from(port.0));
                if !tx.as_mut().is_some_and(|tx| tx.originate(made.bytes, MADE_HERE)) {
                    counters.dropped.of(DropReason::TxFull).add(1);
                }
                if let Some(tx) = tx.filter(|tx| tx.is_full()) {
                    flush(tx, counters, lost);
                }
            }
            Verdict::Drop(reason) => counters.dropped.of(reason).add(1),
            // Nothing made here is a fragment for one of its own tunnels: that leaves by a port.
            Verdict::Consumed | Verdict::Held => counters.consumed.add(1),
            Verdict::Kernel(_) => counters.dropped.of(DropReason::NoKernel).add(1),
        }
    }
}

/// The bits of packets at these positions in the burst.
#[inline(always)]
pub(super) fn bits(packets: Range<usize>) -> u64 {
    let below = |end: usize| ((1u128 << end) - 1) as u64;
    below(packets.end) & !below(packets.start)
}

/// Counts what became of the packets that were not to be sent.
#[cold]
pub(super) fn count_unsent(outcomes: &Outcomes, counters: &WorkerCounters, stats: &TunnelStats) {
    for outcome in outcomes.iter() {
        match outcome.verdict {
            // A fragment that is held counts when it is released.
            Verdict::Send(_) | Verdict::Held => {}
            Verdict::Consumed => counters.consumed.add(1),
            Verdict::Drop(reason) => counters.dropped.of(reason).add(1),
            // No kernel is attached to a worker.
            Verdict::Kernel(_) => {
                counters.dropped.of(DropReason::NoKernel).add(1);
                count_in_tunnel(&outcome, DropReason::NoKernel, stats);
            }
        }
    }
}

/// Counts the packets that were to be sent and that no device took.
#[cold]
pub(super) fn count_lost(lost: Lost, outcomes: &Outcomes, counters: &WorkerCounters, stats: &TunnelStats) {
    counters.dropped.of(DropReason::TxFull).add(u64::from(lost.packets.count_ones()) + lost.made);
    for (index, outcome) in outcomes.iter().enumerate() {
        if lost.packets >> index & 1 != 0 {
            count_in_tunnel(&outcome, DropReason::TxFull, stats);
        }
    }
}

/// A drop is also the tunnel's in which the packet was, innermost first.
fn count_in_tunnel(outcome: &Outcome, reason: DropReason, stats: &TunnelStats) {
    if let Some(tunnel) = outcome.trail.innermost().and_then(|slot| stats.slot(slot)) {
        tunnel.dropped.of(reason).add(1);
    }
}
