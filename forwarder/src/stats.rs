//! Counters and latency: written by one worker each, read by the control thread while the worker goes on.
//!
//! A counter has one writer, so adding is a load and a store, never a locked instruction. Tunnel counters live in
//! memory that generations share: a tunnel keeps its slot, and so its numbers, over reloads. Histograms are exchanged
//! whole: the control thread sends an empty set, the worker swaps it in between two bursts and sends the full one back.

use crate::hint::{large_room, prefetch};
use crate::verdict::DropReason;
use crossbeam::channel::{Receiver, Sender, bounded};
use hdrhistogram::Histogram;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// A number that one thread adds to and any thread reads.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `count`; for the one thread that writes this counter.
    #[inline]
    pub fn add(&self, count: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
    }

    /// Replaces the number; for the one thread that writes this counter.
    #[inline]
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The number, from any thread.
    #[inline]
    pub fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A counter for each drop reason.
#[derive(Debug)]
pub struct Drops([Counter; DropReason::COUNT]);

impl Default for Drops {
    fn default() -> Self {
        Drops([const { Counter(AtomicU64::new(0)) }; DropReason::COUNT])
    }
}

impl Drops {
    /// The counter of one reason.
    #[inline]
    pub fn of(&self, reason: DropReason) -> &Counter {
        // COUNT entries, and a reason is its own index.
        #[allow(clippy::indexing_slicing)]
        &self.0[reason as usize]
    }

    /// Reasons that occurred, with their counts.
    pub fn non_zero(&self) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        DropReason::ALL
            .iter()
            .map(|reason| (*reason, self.of(*reason).read()))
            .filter(|(_, count)| *count != 0)
    }

    /// The sum over all reasons.
    pub fn total(&self) -> u64 {
        self.0.iter().map(Counter::read).sum()
    }
}

/// The same for a tunnel, in most of which nothing is ever dropped: in memory from the first drop on.
#[derive(Debug, Default)]
pub struct TunnelDrops(OnceLock<Box<Drops>>);

impl TunnelDrops {
    /// The counter of one reason; for the one thread that writes it.
    #[cold]
    pub fn of(&self, reason: DropReason) -> &Counter {
        self.0.get_or_init(Box::default).of(reason)
    }

    /// Reasons that occurred, with their counts.
    pub fn non_zero(&self) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        self.0.get().into_iter().flat_map(|drops| drops.non_zero())
    }

    /// The sum over all reasons.
    pub fn total(&self) -> u64 {
        self.0.get().map_or(0, |drops| drops.total())
    }

    /// Makes all of them zero; while nobody counts.
    pub fn clear(&self) {
        self.0.get().into_iter().flat_map(|drops| &drops.0).for_each(|counter| counter.set(0));
    }
}

/// One worker's packet counters; the law: `received + originated = transmitted + kernel + consumed + Σ dropped`.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct WorkerCounters {
    /// Packets taken from devices.
    pub received: Counter,
    /// Packets made here: answers, errors, fragments beyond the first.
    pub originated: Counter,
    /// Packets that devices took.
    pub transmitted: Counter,
    /// Packets handed to the host.
    pub kernel: Counter,
    /// Packets answered here.
    pub consumed: Counter,
    /// Packets not sent.
    pub dropped: Drops,
}

/// One worker's load: how busy it is, and on which generation.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct WorkerLoad {
    /// The generation that it runs on; 0 until it polls.
    pub generation: Counter,
    /// Packets taken from devices.
    pub packets: Counter,
    /// Polls that found packets, each of one receive queue.
    pub bursts: Counter,
    /// Polls of one receive queue, empty ones included.
    pub polls: Counter,
    /// TSC cycles of polls that found packets, from before the receive call to after the transmit calls.
    pub busy_cycles: Counter,
    /// Of these, cycles in which a burst waited for the one received before it by another worker to be sent.
    pub waited_cycles: Counter,
    /// TSC cycles since it began, sleep included.
    pub total_cycles: Counter,
}

/// One tunnel's counters on one worker, in one cache line. Bytes are those of the inner IP packet.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct TunnelCounters {
    /// Packets decapsulated, later drops included.
    pub rx_packets: Counter,
    /// Their inner bytes.
    pub rx_bytes: Counter,
    /// Packets encapsulated.
    pub tx_packets: Counter,
    /// Their inner bytes.
    pub tx_bytes: Counter,
    /// Packets whose MSS was lowered to this tunnel's limit.
    pub mss_clamped: Counter,
    /// Next GRE sequence number of this worker.
    pub sequence: Counter,
    /// Packets that died in this tunnel.
    pub dropped: TunnelDrops,
}

const _: () = assert!(size_of::<TunnelCounters>() == 64);

/// The fewest tunnels that room is made for at a time.
const FEWEST: usize = 64;

/// One worker's tunnel counters by slot; cloning shares them.
#[derive(Clone, Debug, Default)]
pub struct TunnelStats {
    // Each holds the slots behind those of the one before; nearly all are in the first.
    rooms: Vec<Arc<Vec<TunnelCounters>>>,
}

impl TunnelStats {
    /// Room for at least `slots` tunnels; those that there are keep their numbers.
    pub fn grow(&mut self, slots: usize) {
        let present: usize = self.rooms.iter().map(|room| room.len()).sum();
        if slots <= present {
            return;
        }
        // A part of what there is at the least, so that there are few rooms however often it grows.
        let missing = (slots - present).max(present / 4).next_multiple_of(FEWEST);
        let mut room = large_room(missing);
        room.resize_with(missing, TunnelCounters::default);
        self.rooms.push(Arc::new(room));
    }

    /// Asks for the memory of a tunnel's counters of packets and bytes.
    #[inline(always)]
    pub(crate) fn prefetch(&self, slot: u32) {
        if let Some(counters) = self.slot(slot) {
            prefetch(counters);
        }
    }

    /// A tunnel's counters.
    #[inline]
    pub fn slot(&self, slot: u32) -> Option<&TunnelCounters> {
        let mut slot = slot as usize;
        for room in &self.rooms {
            if let Some(counters) = room.get(slot) {
                return Some(counters);
            }
            slot -= room.len();
        }
        None
    }
}

/// Tunnels that one packet may leave, and as many that it may enter.
pub const MAX_LAYERS: usize = 4;

/// The tunnels that a packet crossed here, by slot: first those it came out of, then those it went into.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trail {
    out_of: [u32; MAX_LAYERS],
    into: [u32; MAX_LAYERS],
    left: u8,
    entered: u8,
}

impl Trail {
    /// That of a packet which crosses no tunnel.
    pub(crate) const NONE: Trail =
        Trail { out_of: [0; MAX_LAYERS], into: [0; MAX_LAYERS], left: 0, entered: 0 };

    /// Adds a tunnel that the packet came out of.
    #[inline(always)]
    pub fn left(&mut self, slot: u32) {
        // Layers are counted before they are stripped; one too many could only be lost from a histogram.
        if let Some(place) = self.out_of.get_mut(usize::from(self.left)) {
            *place = slot;
            self.left += 1;
        }
    }

    /// Adds a tunnel that the packet went into.
    #[inline(always)]
    pub fn entered(&mut self, slot: u32) {
        if let Some(place) = self.into.get_mut(usize::from(self.entered)) {
            *place = slot;
            self.entered += 1;
        }
    }

    /// The tunnels that the packet came out of, outermost first.
    #[inline]
    pub fn out_of(&self) -> &[u32] {
        self.out_of.get(..usize::from(self.left)).unwrap_or_default()
    }

    /// The tunnels that the packet went into, innermost first.
    #[inline]
    pub fn into(&self) -> &[u32] {
        self.into.get(..usize::from(self.entered)).unwrap_or_default()
    }

    /// The tunnel in which the packet is by now, innermost first: the first that it went into, else the last that it
    /// came out of.
    #[inline]
    pub fn innermost(&self) -> Option<u32> {
        self.into().first().or(self.out_of().last()).copied()
    }

    /// Every tunnel that the packet crossed.
    pub fn slots(&self) -> impl Iterator<Item = u32> + '_ {
        self.out_of().iter().chain(self.into()).copied()
    }

    /// Whether the packet crossed no tunnel.
    #[inline]
    pub fn is_transit(&self) -> bool {
        self.left + self.entered == 0
    }
}

/// The longest latency that is told apart, in nanoseconds; longer ones count as this.
pub const MAX_LATENCY_NS: u64 = 10_000_000_000;

/// An empty latency histogram: two significant digits (values within 1 %), 1 ns to [`MAX_LATENCY_NS`], about 14 KiB.
pub fn new_histogram() -> Histogram<u32> {
    match Histogram::new_with_bounds(1, MAX_LATENCY_NS, 2) {
        Ok(histogram) => histogram,
        Err(_) => unreachable!("the bounds are constants that the library takes"),
    }
}

/// The histograms that one worker records into between two exchanges.
#[derive(Debug)]
pub struct LatencySet {
    /// Every packet sent.
    pub worker: Histogram<u32>,
    /// Packets that crossed no tunnel.
    pub transit: Histogram<u32>,
    /// By tunnel slot; `None` where a tunnel keeps none, and nothing behind the last that keeps any.
    pub tunnels: Vec<Option<Box<TunnelLatency>>>,
}

/// One tunnel's histograms.
#[derive(Debug)]
pub struct TunnelLatency {
    /// Packets that entered the tunnel.
    pub encap: Histogram<u32>,
    /// Packets that came out of it.
    pub decap: Histogram<u32>,
}

impl LatencySet {
    /// An empty set; `tunnels` says for each slot whether it keeps histograms. It should end with one that does: packets of
    /// others look for theirs in vain.
    pub fn new(tunnels: &[bool]) -> Self {
        let one = || Box::new(TunnelLatency { encap: new_histogram(), decap: new_histogram() });
        LatencySet {
            worker: new_histogram(),
            transit: new_histogram(),
            tunnels: tunnels.iter().map(|kept| kept.then(one)).collect(),
        }
    }

    /// Records a burst of sent packets that all took `ns` nanoseconds from the receive to the transmit call: so many that
    /// crossed these tunnels, and so on.
    #[inline]
    pub fn record<'a>(&mut self, ns: u64, sent: impl Iterator<Item = (u32, &'a Trail)>) {
        let (mut all, mut transit) = (0, 0);
        for (count, trail) in sent {
            all += count;
            if trail.is_transit() {
                transit += count;
            } else if !self.tunnels.is_empty() && count != 0 {
                self.record_crossed(ns, trail, count);
            }
        }
        if transit != 0 {
            self.transit.saturating_record_n(ns, transit);
        }
        if all != 0 {
            self.worker.saturating_record_n(ns, all);
        }
    }

    /// Records `count` packets that crossed the same tunnels in the same time.
    fn record_crossed(&mut self, ns: u64, trail: &Trail, count: u32) {
        for slot in trail.out_of() {
            if let Some(Some(tunnel)) = self.tunnels.get_mut(*slot as usize) {
                tunnel.decap.saturating_record_n(ns, count);
            }
        }
        for slot in trail.into() {
            if let Some(Some(tunnel)) = self.tunnels.get_mut(*slot as usize) {
                tunnel.encap.saturating_record_n(ns, count);
            }
        }
    }
}

/// The worker's end of the exchange.
#[derive(Debug)]
pub struct LatencyRecorder {
    set: Box<LatencySet>,
    empties: Receiver<Box<LatencySet>>,
    full: Sender<Box<LatencySet>>,
}

/// The control thread's end of the exchange.
#[derive(Debug)]
pub struct LatencyCollector {
    empties: Sender<Box<LatencySet>>,
    full: Receiver<Box<LatencySet>>,
}

/// A pair of ends; the worker begins with `first`.
pub fn latency_exchange(first: LatencySet) -> (LatencyRecorder, LatencyCollector) {
    let (empties, empties_in) = bounded(1);
    let (full_out, full) = bounded(2);
    (
        LatencyRecorder { set: Box::new(first), empties: empties_in, full: full_out },
        LatencyCollector { empties, full },
    )
}

impl LatencyRecorder {
    /// Where to record.
    #[inline]
    pub fn set(&mut self) -> &mut LatencySet {
        &mut self.set
    }

    /// Swaps in an empty set where one waits; call it now and then between bursts, it costs a few nanoseconds.
    pub fn exchange(&mut self) {
        if self.full.is_full() {
            return;
        }
        if let Ok(empty) = self.empties.try_recv() {
            let full = std::mem::replace(&mut self.set, empty);
            // There is room: this thread alone fills the channel. Where the other end is gone the program is ending.
            let _ = self.full.try_send(full);
        }
    }
}

impl LatencyCollector {
    /// Offers the worker an empty set; does nothing where it has not taken the last one.
    pub fn offer(&self, empty: LatencySet) {
        let _ = self.empties.try_send(Box::new(empty));
    }

    /// The sets that came back since the last call.
    pub fn collect(&self) -> impl Iterator<Item = Box<LatencySet>> + '_ {
        self.full.try_iter()
    }
}
