//! Packets on their way from the worker that received them to the one that forwards them.
//!
//! From each worker that receives for others a ring leads to each of these: one thread puts packets in, one takes them out.
//! What lies in a ring are parcels, the packets of one burst for one worker: so a ring is touched once a burst, with room
//! for a port and a time stamp beside the packets, and crossbeam's queue, which pays an atomic exchange for each entry, costs
//! a cycle or two a packet. `rte_ring` would take single packets for that, and need their port and time in each mbuf.
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
use super::port::Port;
use crate::bell::Bell;
use crate::forward::BURST;
use crate::frame::HEADROOM;
use crate::hint::prefetch;
use crate::table::PortId;
use arrayvec::ArrayVec;
use crossbeam::queue::ArrayQueue;
use dpdk_sys::CULVERT_MBUF_SIZE;
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

/// Packets of one burst that go to one worker.
#[derive(Debug)]
struct Parcel {
    port: PortId,
    received_at: u64,
    mbufs: ArrayVec<Mbuf, BURST>,
}

impl Drop for Parcel {
    fn drop(&mut self) {
        mbuf::free(&mut self.mbufs);
    }
}

#[derive(Debug)]
struct Ring {
    parcels: ArrayQueue<Parcel>,
    is_open: AtomicBool, // written by the worker that takes, read by the one that hands over
    is_gone: AtomicBool, // the same
    has_ended: AtomicBool, // written by the worker that hands over, read by the one that takes
    bell: Arc<Bell>,     // of the worker that takes, which may sleep
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
    /// What goes in next; port and time are those of its first packet.
    staged: ArrayVec<Mbuf, BURST>,
    port: PortId,
    received_at: u64,
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
    next: Option<Parcel>,
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
                let ring = Arc::new(Ring {
                    parcels: ArrayQueue::new(parcels(workers)),
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

    /// Hands over what waits for room, as far as there is.
    pub fn flush(&mut self) -> HandedOver {
        let again = |outlet: &mut Outlet| {
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
                mbuf::free(&mut outlet.staged);
            }
            if outlet.staged.is_empty() {
                *place = None;
            }
        }
        result
    }

    /// Hands those packets of a burst over that are others': `workers` says for each whose it is. What is this worker's own
    /// stays in the burst, and so does what a worker does not take yet: that it later goes to the other does not change the
    /// order of a flow, as everything kept is sent before the next burst is received.
    #[inline]
    pub fn hand_over(
        &mut self,
        burst: &mut Burst,
        workers: &ArrayVec<usize, BURST>,
        port: PortId,
        received_at: u64,
    ) -> HandedOver {
        let outlets = &mut self.outlets;
        for outlet in outlets.iter_mut().flatten() {
            outlet.is_full = false;
            outlet.is_open = outlet.is_open || outlet.ring.is_open.load(Ordering::Acquire);
        }
        let mut whose = workers.iter();
        let mut result = HandedOver::default();
        let mut refused: ArrayVec<Mbuf, BURST> = ArrayVec::new();
        burst.part(|mbuf| match whose.next().and_then(|worker| outlets.get_mut(*worker)) {
            Some(Some(outlet)) if outlet.is_open => {
                result.handed += outlet.make_room(port);
                if let Err(mbuf) = outlet.stage(mbuf, port, received_at) {
                    refused.push(mbuf);
                }
                None
            }
            _ => Some(mbuf),
        });
        result.refused = refused.len() as u64;
        mbuf::free(&mut refused);
        result.handed += outlets.iter_mut().flatten().map(Outlet::pass_on).sum::<u64>();
        result
    }

    /// Fills `burst`, which is empty or whose packets are freed, with the oldest parcel of the ring at this position. Returns
    /// the port that received it and when.
    #[inline]
    pub fn take(&mut self, inlet: usize, burst: &mut Burst) -> Option<(PortId, u64)> {
        let inlet = self.inlets.get_mut(inlet)?;
        let mut parcel = inlet.next.take().or_else(|| inlet.fetch())?;
        inlet.next = inlet.fetch();
        burst.refill(mem::take(&mut parcel.mbufs));
        Some((parcel.port, parcel.received_at))
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
        let staged = ArrayVec::new();
        Outlet { ring, is_open: false, credit: 0, is_full: false, staged, port: PortId(0), received_at: 0 }
    }

    /// Sees to it, where there is room in the ring, that a packet of `port` can be staged. Returns how many were put in.
    #[inline]
    fn make_room(&mut self, port: PortId) -> u64 {
        let has_room = self.staged.is_empty() || (self.port == port && !self.staged.is_full());
        if has_room || self.is_full { 0 } else { self.push() }
    }

    /// Stages a packet; gives it back where there is no room.
    #[inline]
    fn stage(&mut self, mbuf: Mbuf, port: PortId, received_at: u64) -> Result<(), Mbuf> {
        if self.staged.is_empty() {
            (self.port, self.received_at) = (port, received_at);
        } else if self.port != port {
            return Err(mbuf);
        }
        self.staged.try_push(mbuf).map_err(|full| full.element())
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
        let mbufs = mem::take(&mut self.staged);
        let parcel = Parcel { port: self.port, received_at: self.received_at, mbufs };
        self.credit = self.credit.saturating_sub(1);
        match self.ring.parcels.push(parcel) {
            Ok(()) => {
                self.ring.bell.ring();
                count
            }
            Err(mut parcel) => {
                self.staged = mem::take(&mut parcel.mbufs);
                self.is_full = true;
                0
            }
        }
    }
}

impl Inlet {
    /// The oldest parcel of the ring. All of it is in another core's cache: descriptors, and the first bytes of the packets,
    /// which lie behind those and the headroom, in one piece.
    #[inline]
    fn fetch(&self) -> Option<Parcel> {
        const LINE: usize = 64;
        let parcel = self.gauge.ring.parcels.pop()?;
        for mbuf in &parcel.mbufs {
            let descriptor = mbuf.address().cast::<u8>();
            for at in [0, LINE, CULVERT_MBUF_SIZE + HEADROOM, CULVERT_MBUF_SIZE + HEADROOM + LINE] {
                prefetch(descriptor.wrapping_add(at));
            }
        }
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
        mbuf::free(&mut self.staged);
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
