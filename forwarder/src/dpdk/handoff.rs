//! Packets on their way from the worker that received them to the one that forwards them.
//!
//! From each worker that receives for others a ring leads to each of these: one thread puts packets in, one takes them out.
//! What lies in a ring are parcels, up to a burst of packets for one worker: so a ring is touched once a burst, with room
//! for a port and a time stamp beside the packets, and crossbeam's queue, which pays an atomic exchange for each entry, costs
//! a cycle or two a packet. `rte_ring` would take single packets for that, and need their port and time in each mbuf. Parcels
//! go round, filled ones there and emptied ones back, so that none is allocated for a packet.
//!
//! Parcels of few packets must not fill a ring, or a worker that is away for a moment would cost packets at any rate: while
//! a ring is half full packets gather in front of it until a parcel is full.
//!
//! A ring takes nothing before its other end polls, and says when nothing more will come, so that workers may begin and end
//! in any order and no packet is left behind.

use super::Eal;
use super::burst::Burst;
use super::error::DpdkError;
use super::mbuf::{self, Mbuf};
use super::parcel::Parcel;
use super::port::Port;
use super::queue::TxBuffer;
use crate::bell::Bell;
use crate::forward::BURST;
use crate::frame::Frame;
use crate::table::PortId;
use arrayvec::ArrayVec;
use crossbeam::queue::ArrayQueue;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Parcels that lie before one worker at the most, those of all rings to it together; shared by the rings, as the parcels
/// of a burst are the smaller the more workers there are.
const PARCELS: usize = 64;

/// Parcels that one ring has room for at the least.
const FEWEST_PARCELS: usize = 8;

/// Parcels that a ring between two of so many workers has room for.
fn parcels(workers: usize) -> usize {
    (PARCELS / workers.saturating_sub(1).max(1)).max(FEWEST_PARCELS)
}

/// Buffers that lie in full rings from so many of the workers to all the others, and in front of and behind these.
pub(crate) fn buffers(receivers: usize, workers: usize) -> usize {
    receivers * workers.saturating_sub(1) * (parcels(workers) + 2) * BURST
}

#[derive(Debug)]
struct Ring {
    parcels: ArrayQueue<Box<Parcel>>,
    emptied: ArrayQueue<Box<Parcel>>, // on their way back
    is_open: AtomicBool,              // written by the worker that takes, read by the one that hands over
    is_gone: AtomicBool,              // the same
    has_ended: AtomicBool,            // written by the worker that hands over, read by the one that takes
    bell: Arc<Bell>,                  // of the worker that takes, which may sleep
    // The buffers' pools live as long as this.
    _eal: Eal,
}

/// The end that packets are put into; dropped, it says that no more will come.
#[derive(Debug)]
struct Outlet {
    ring: Arc<Ring>,
    is_open: bool,
    /// Parcels that may be put in, of any size, before it matters how full the ring is.
    credit: usize,
    /// The ring was full when it was last tried during this burst: not tried again for each packet.
    is_full: bool,
    /// What goes in next.
    staged: Box<Parcel>,
}

/// How full the ring from another worker is.
#[derive(Clone, Debug)]
pub struct RingGauge {
    from: usize,
    ring: Arc<Ring>,
}

/// One worker's ends of the rings to and from the others.
#[derive(Debug)]
pub struct Handoff {
    outlets: Vec<Option<Outlet>>, // by worker; none to itself
    inlets: Vec<Inlet>,
    bell: Arc<Bell>,
}

/// The end that packets are taken out of.
#[derive(Debug)]
struct Inlet {
    gauge: RingGauge,
    /// Taken out, and on its way into this core's cache while the parcel before is forwarded.
    next: Option<Box<Parcel>>,
}

/// A parcel that was taken out of a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The port that received it.
    pub port: PortId,
    /// When, by the time-stamp counter.
    pub received_at: u64,
    /// Packets for which no buffer was free.
    pub lost: u64,
}

/// What became of the packets of a burst that are others'.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HandedOver {
    /// Packets handed over.
    pub handed: u64,
    /// Packets for which there was no room; they are freed.
    pub refused: u64,
}

impl Handoff {
    /// The ends of every worker, in their order: with rings from those that receive for others at one of `ports`.
    ///
    /// # Errors
    /// [`DpdkError::Bell`] where the process has no file descriptors left.
    pub fn between(eal: &Eal, workers: usize, ports: &[Port]) -> Result<Vec<Handoff>, DpdkError> {
        let none = |_| {
            let bell = Bell::new().map_err(|error| DpdkError::Bell { reason: error.to_string() })?;
            let outlets = (0..workers).map(|_| None).collect();
            Ok(Handoff { outlets, inlets: Vec::new(), bell: Arc::new(bell) })
        };
        let mut ends: Vec<Handoff> = (0..workers).map(none).collect::<Result<_, _>>()?;
        for from in (0..workers).filter(|worker| ports.iter().any(|port| port.is_spread_by(*worker))) {
            for to in (0..workers).filter(|to| *to != from) {
                let Some(bell) = ends.get(to).map(|end| end.bell.clone()) else { continue };
                // One is filled and two are emptied while the ring is full.
                let emptied = ArrayQueue::new(parcels(workers) + 3);
                while emptied.push(Parcel::new()).is_ok() {}
                let ring = Arc::new(Ring {
                    parcels: ArrayQueue::new(parcels(workers)),
                    emptied,
                    is_open: AtomicBool::new(false),
                    is_gone: AtomicBool::new(false),
                    has_ended: AtomicBool::new(false),
                    bell,
                    _eal: eal.clone(),
                });
                let outlet = Outlet::new(ring.clone());
                if let Some(place) = ends.get_mut(from).and_then(|end| end.outlets.get_mut(to)) {
                    *place = Some(outlet);
                }
                if let Some(end) = ends.get_mut(to) {
                    end.inlets.push(Inlet { gauge: RingGauge { from, ring }, next: None });
                }
            }
        }
        Ok(ends)
    }

    /// Gauges of the rings to this worker.
    pub fn gauges(&self) -> Vec<RingGauge> {
        self.inlets.iter().map(|inlet| inlet.gauge.clone()).collect()
    }

    /// How many rings lead to this worker.
    #[inline]
    pub fn inlets(&self) -> usize {
        self.inlets.len()
    }

    /// What the others ring when they hand something over and this worker sleeps.
    pub(crate) fn bell(&self) -> &Bell {
        &self.bell
    }

    /// Says that this worker takes what comes; until then the others keep its packets.
    pub fn open(&self) {
        self.inlets.iter().for_each(|inlet| inlet.gauge.ring.is_open.store(true, Ordering::Release));
    }

    /// Whether packets wait for room in a ring.
    #[inline]
    pub fn is_holding(&self) -> bool {
        self.outlets.iter().flatten().any(|outlet| !outlet.staged.is_empty())
    }

    /// Hands over what waits for room, or for more of a parcel, since before `since`, as far as there is room.
    pub fn flush(&mut self, since: u64) -> HandedOver {
        let again = |outlet: &mut Outlet| {
            if outlet.staged.received_at() >= since {
                return 0;
            }
            outlet.is_full = false;
            outlet.pass_on()
        };
        HandedOver { handed: self.outlets.iter_mut().flatten().map(again).sum(), refused: 0 }
    }

    /// Says that this worker hands over nothing more once the rest is handed over: to be called until
    /// [`is_over`](Self::is_over), with what comes taken in between. The rest for a worker that is gone is freed.
    pub fn end(&mut self) -> HandedOver {
        let mut result = HandedOver::default();
        for place in &mut self.outlets {
            let Some(outlet) = place else { continue };
            result.handed += outlet.push();
            if outlet.ring.is_gone.load(Ordering::Acquire) {
                result.refused += outlet.staged.len() as u64;
                outlet.staged.clear();
            }
            if outlet.staged.is_empty() {
                *place = None;
            }
        }
        result
    }

    /// Hands those packets of a burst over that are others': `worker_of` says for each whose it is. What is this worker's own
    /// stays in the burst, and so does what a worker does not take yet: that it later goes to the other does not change the
    /// order of a flow, as everything kept is sent before the next burst is received.
    ///
    /// Behind a full burst the next one is at hand, so the rest of it waits to become a whole parcel: the other worker's costs
    /// are by the parcel, too. It waits until the next [`flush`](Self::flush) at the most, unless the ring is half full.
    #[inline]
    pub fn hand_over(
        &mut self,
        burst: &mut Burst,
        mut worker_of: impl FnMut(&Frame<'_>) -> usize,
        port: PortId,
        received_at: u64,
    ) -> HandedOver {
        let outlets = &mut self.outlets;
        for outlet in outlets.iter_mut().flatten() {
            outlet.is_full = false;
            outlet.is_open = outlet.is_open || outlet.ring.is_open.load(Ordering::Acquire);
        }
        let is_open = |outlet: &Option<Outlet>| outlet.as_ref().is_some_and(|outlet| outlet.is_open);
        let more_follow = burst.len() == BURST;
        let mut result = HandedOver::default();
        let mut spent: ArrayVec<Mbuf, BURST> = ArrayVec::new();
        burst.part(|mut mbuf| {
            let worker = worker_of(&mbuf.frame());
            let Some(Some(outlet)) = outlets.get_mut(worker).filter(|outlet| is_open(outlet)) else {
                return Some(mbuf);
            };
            result.handed += outlet.make_room(port);
            let (is_staged, left) = outlet.staged.put(mbuf, port, received_at);
            result.refused += u64::from(!is_staged);
            spent.extend(left);
            None
        });
        mbuf::free(&mut spent);
        if !more_follow {
            result.handed += outlets.iter_mut().flatten().map(Outlet::pass_on).sum::<u64>();
        }
        result
    }

    /// Fills `burst`, which is empty or whose packets are freed, with the oldest parcel of the ring at this position. Copies
    /// go into buffers of `tx`, the worker's transmit queues by port.
    #[inline]
    pub fn take(&mut self, inlet: usize, burst: &mut Burst, tx: &[TxBuffer]) -> Option<Taken> {
        let inlet = self.inlets.get_mut(inlet)?;
        let mut parcel = inlet.next.take().or_else(|| inlet.fetch())?;
        inlet.next = inlet.fetch();
        let (mbufs, lost) = parcel.unpack(tx);
        burst.refill(mbufs);
        let taken = Taken { port: parcel.port(), received_at: parcel.received_at(), lost };
        // There is room for all that there are.
        let _ = inlet.gauge.ring.emptied.push(parcel);
        Some(taken)
    }

    /// Whether this worker has [ended](Self::end) and nothing more comes out of any ring.
    pub fn is_over(&self) -> bool {
        // In this order: what was put in before the end is seen with it.
        self.outlets.iter().all(Option::is_none)
            && self.inlets.iter().all(|inlet| {
                let ring = &inlet.gauge.ring;
                inlet.next.is_none() && ring.has_ended.load(Ordering::Acquire) && ring.parcels.is_empty()
            })
    }
}

impl Outlet {
    fn new(ring: Arc<Ring>) -> Self {
        Outlet { ring, is_open: false, credit: 0, is_full: false, staged: Parcel::new() }
    }

    /// Sees to it, where there is room in the ring, that a packet of `port` can be staged. Returns how many were put in.
    #[inline]
    fn make_room(&mut self, port: PortId) -> u64 {
        if self.staged.has_room(port) || self.is_full { 0 } else { self.push() }
    }

    /// Puts in what is staged, unless the ring is half full and it is not worth a place yet. Returns how many packets.
    #[inline]
    fn pass_on(&mut self) -> u64 {
        if self.staged.is_empty() {
            return 0;
        }
        if self.credit == 0 {
            // Looked at now and then only: it takes a cache line from the other worker.
            let parcels = &self.ring.parcels;
            self.credit = (parcels.capacity() / 2).saturating_sub(parcels.len());
        }
        let is_due = self.credit > 0 || self.staged.is_full();
        if is_due && !self.is_full { self.push() } else { 0 }
    }

    /// Puts in what is staged, if the ring is not full. Returns how many packets.
    #[inline]
    fn push(&mut self) -> u64 {
        let count = self.staged.len() as u64;
        if count == 0 {
            return 0;
        }
        self.credit = self.credit.saturating_sub(1);
        let Some(empty) = self.ring.emptied.pop() else {
            self.is_full = true;
            return 0;
        };
        match self.ring.parcels.push(mem::replace(&mut self.staged, empty)) {
            Ok(()) => {
                self.ring.bell.ring();
                count
            }
            Err(parcel) => {
                let _ = self.ring.emptied.push(mem::replace(&mut self.staged, parcel));
                self.is_full = true;
                0
            }
        }
    }
}

impl Inlet {
    /// The oldest parcel of the ring.
    #[inline]
    fn fetch(&self) -> Option<Box<Parcel>> {
        let parcel = self.gauge.ring.parcels.pop()?;
        parcel.prefetch();
        Some(parcel)
    }
}

impl RingGauge {
    /// The worker that it leads from, by its position in `worker_cores`.
    pub fn from(&self) -> usize {
        self.from
    }

    /// Bursts that wait in it, or what is in them for this worker.
    pub fn waiting(&self) -> usize {
        self.ring.parcels.len()
    }

    /// Bursts that it has room for.
    pub fn capacity(&self) -> usize {
        self.ring.parcels.capacity()
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        self.staged.clear();
        self.ring.has_ended.store(true, Ordering::Release);
    }
}

impl Drop for Inlet {
    fn drop(&mut self) {
        self.gauge.ring.is_gone.store(true, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_are_the_shorter_the_more_workers_share_a_burst() {
        assert_eq!([1, 2, 3, 5, 9, 64].map(parcels), [64, 64, 32, 16, 8, 8]);
    }

    #[test]
    fn one_worker_needs_no_buffers_for_rings() {
        assert_eq!(buffers(1, 1), 0);
        assert_eq!(buffers(1, 2), 66 * BURST);
        assert_eq!(buffers(2, 3), 2 * 2 * 34 * BURST);
    }
}
