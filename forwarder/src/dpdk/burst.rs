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

/// What became of the packets of a burst by [`rewrite`](Burst::rewrite).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rewritten {
    /// Packets that came in several buffers; they are freed.
    pub chained: u64,
    /// A bit for each packet, by its position, of which the frame is not within its buffer, and which stays as it was.
    pub outside: u64,
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

    /// Takes what `rx` has, up to [`BURST`] packets; any that were left from before are freed.
    #[inline]
    pub fn receive(&mut self, rx: &mut RxQueue) {
        mbuf::free(&mut self.mbufs);
        rx.receive(&mut self.mbufs);
    }

    /// Has `work` change the packets, each of which is shown over its whole buffer, and makes each what its frame became.
    /// Those that came in several buffers are not shown, but freed before.
    #[inline(always)]
    pub fn rewrite(&mut self, work: impl FnOnce(&mut [Frame<'_>])) -> Rewritten {
        let (mut frames, mut rewritten) = (ArrayVec::new(), Rewritten::default());
        if self.show(&mut frames) {
            frames.clear();
            rewritten.chained = self.refuse_chained();
            self.show(&mut frames);
        }
        work(&mut frames);
        let mut is_outside = false;
        for (mbuf, frame) in self.mbufs.iter_mut().zip(&frames) {
            let (start, len) = frame.extent();
            is_outside |= mbuf.resize(start as usize, len as usize).is_none();
        }
        if is_outside {
            rewritten.outside = self.outside(&frames);
        }
        rewritten
    }

    /// Adds the packets to `frames`, which is empty. Returns whether any is in several buffers.
    #[inline(always)]
    fn show(&mut self, frames: &mut ArrayVec<Frame<'_>, BURST>) -> bool {
        let mut is_chained = false;
        for mbuf in &mut self.mbufs {
            // The driver has just written the descriptor.
            prefetch(mbuf.start());
            is_chained |= mbuf.segments() != 1;
            // SAFETY: nothing but the frame sees the buffer before the frames are gone, which is before `rewrite` returns.
            frames.push(unsafe { mbuf.frame_apart() });
        }
        is_chained
    }

    /// The packets whose frames are not within their buffers, a bit for each by its position.
    #[cold]
    fn outside(&mut self, frames: &[Frame<'_>]) -> u64 {
        let mut outside = 0;
        for (index, (mbuf, frame)) in self.mbufs.iter_mut().zip(frames).enumerate() {
            let (start, len) = frame.extent();
            outside |= u64::from(mbuf.resize(start as usize, len as usize).is_none()) << index;
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
    ) -> u64 {
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
