//! The packets in a worker's hand: received together, decided on together, and gone together.
//!
//! A [`Burst`] is the only owner of its packets between the receive call and [`settle`](Burst::settle); what was not
//! settled goes back to the pool when it is dropped.

use super::Eal;
use super::mbuf::{self, Mbuf};
use super::queue::{Flushed, RxQueue, TxBuffer};
use crate::forward::BURST;
use crate::frame::Frame;
use crate::hint::prefetch;
use crate::table::PortId;
use arrayvec::ArrayVec;

/// Up to [`BURST`] packets.
#[derive(Debug)]
pub struct Burst {
    mbufs: ArrayVec<Mbuf, BURST>,
    // The buffers' pools live as long as this.
    _eal: Eal,
}

impl Burst {
    /// An empty one.
    pub fn new(eal: &Eal) -> Burst {
        Burst { mbufs: ArrayVec::new(), _eal: eal.clone() }
    }

    /// Packets in it.
    pub fn len(&self) -> usize {
        self.mbufs.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.mbufs.is_empty()
    }

    /// Takes what `rx` has, up to [`BURST`] packets; any that were left from before are freed. Returns how many packets
    /// came in several buffers: these are freed, and not among those that [`rewrite`](Self::rewrite) shows.
    #[inline]
    pub fn receive(&mut self, rx: &mut RxQueue) -> u64 {
        mbuf::free(&mut self.mbufs);
        rx.receive(&mut self.mbufs);
        // The driver has just written the descriptors.
        let mut chained = false;
        for mbuf in &self.mbufs {
            prefetch(mbuf.start());
            chained |= mbuf.segments() != 1;
        }
        if chained { self.refuse_chained() } else { 0 }
    }

    /// Has `work` change the packets, each of which is shown over its whole buffer, and makes each what its frame became.
    /// Returns, a bit for each by its position, those of which that is not within the buffer, and which stay as they were.
    #[inline(always)]
    pub fn rewrite(&mut self, work: impl FnOnce(&mut [Frame<'_>])) -> u32 {
        let mut frames: ArrayVec<Frame<'_>, BURST> = ArrayVec::new();
        for mbuf in &mut self.mbufs {
            // SAFETY: nothing but the frame sees the buffer before the frames are gone, which is before this returns.
            frames.push(unsafe { mbuf.frame_apart() });
        }
        work(&mut frames);
        let mut outside = 0;
        for (index, (mbuf, frame)) in self.mbufs.iter_mut().zip(&frames).enumerate() {
            let (start, len) = frame.extent();
            outside |= u32::from(mbuf.resize(start as usize, len as usize).is_none()) << index;
        }
        outside
    }

    /// Empties the burst: hands all packets to the device of `tx`, in front of what is staged there; names the position of
    /// each packet that it refuses, and frees these.
    #[inline(always)]
    pub fn send(&mut self, tx: &mut TxBuffer, refused: impl FnMut(u8)) -> Flushed {
        tx.send(&mut self.mbufs, refused)
    }

    /// Empties the burst: stages each packet where `destination` names a port that `tx` has, at that port's position, with its
    /// own position as tag, and frees it otherwise. After each packet `behind` may stage more. Returns, a bit for each by its
    /// position, those that had a destination and were freed all the same.
    #[inline(always)]
    pub fn settle(
        &mut self,
        mut destination: impl FnMut(usize) -> Option<PortId>,
        tx: &mut [TxBuffer],
        mut behind: impl FnMut(usize, &mut [TxBuffer]),
    ) -> u32 {
        let mut freed: ArrayVec<Mbuf, BURST> = ArrayVec::new();
        let mut lost = 0;
        for (index, mbuf) in self.mbufs.drain(..).enumerate() {
            match destination(index) {
                None => freed.push(mbuf),
                Some(port) => {
                    let staged = match tx.get_mut(usize::from(port.0)) {
                        Some(tx) => tx.stage(mbuf, index as u8),
                        None => Err(mbuf),
                    };
                    if let Err(mbuf) = staged {
                        freed.push(mbuf);
                        lost |= 1 << index;
                    }
                }
            }
            behind(index, tx);
        }
        mbuf::free(&mut freed);
        lost
    }

    #[cold]
    fn refuse_chained(&mut self) -> u64 {
        let (whole, mut chained): (ArrayVec<Mbuf, BURST>, ArrayVec<Mbuf, BURST>) =
            self.mbufs.drain(..).partition(|mbuf| mbuf.segments() == 1);
        self.mbufs = whole;
        let count = chained.len() as u64;
        mbuf::free(&mut chained);
        count
    }
}

impl Drop for Burst {
    fn drop(&mut self) {
        mbuf::free(&mut self.mbufs);
    }
}
