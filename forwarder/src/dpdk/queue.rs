//! One worker's ends of a device: a receive queue, and a transmit queue with the packets staged for it.
//!
//! Each has one owner, which is what DPDK asks of a queue: no two threads in it at a time.

use super::device::Device;
use super::mbuf::{self, Mbuf};
use super::pool::Pool;
use crate::forward::BURST;
use crate::frame::HEADROOM;
use arrayvec::ArrayVec;
use dpdk_sys::{culvert_mbuf_alloc_bulk, culvert_rx_burst, culvert_tx_burst};
use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::Arc;

/// A receive queue.
#[derive(Debug)]
pub struct RxQueue {
    device: Arc<Device>,
    queue: u16,
    has_interrupts: bool,
    one_thread: PhantomData<Cell<()>>,
}

/// A transmit queue and what is staged for it, at most one burst.
#[derive(Debug)]
pub struct TxBuffer {
    staged: ArrayVec<Mbuf, BURST>,
    tags: ArrayVec<u8, BURST>,
    queue: u16,
    // Before the device, and so let go before the environment, which holds the pool as well, may end.
    pool: Arc<Pool>,
    device: Arc<Device>,
}

/// What a device made of the packets that were staged for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flushed {
    /// Packets that it took.
    pub taken: u64,
    /// Packets that it refused; they are freed.
    pub refused: u64,
}

impl RxQueue {
    /// The queue of this number; the caller makes it once.
    pub(crate) fn new(device: Arc<Device>, queue: u16) -> Self {
        let has_interrupts = device.has_interrupts(queue);
        RxQueue { device, queue, has_interrupts, one_thread: PhantomData }
    }

    /// The device, the queue's number, and [whether it has interrupts](Self::has_interrupts).
    pub(crate) fn parts(&self) -> (&Arc<Device>, u16, bool) {
        (&self.device, self.queue, self.has_interrupts)
    }

    /// Whether the device can say that a packet has come.
    pub(crate) fn has_interrupts(&self) -> bool {
        self.has_interrupts
    }

    /// Fills `mbufs`, which is empty, with what the device has.
    #[inline]
    pub(crate) fn receive(&mut self, mbufs: &mut ArrayVec<Mbuf, BURST>) {
        let room = mbufs.as_mut_ptr();
        // SAFETY: the device is started and this is the queue's one user; there is room for BURST pointers.
        let count = unsafe { culvert_rx_burst(self.device.id(), self.queue, room.cast(), BURST as u16) };
        // SAFETY: the device wrote `count` pointers, none null, at most BURST, and gave their buffers away.
        unsafe { mbufs.set_len(usize::from(count)) };
    }
}

impl TxBuffer {
    /// The queue of this number, which takes packets made here from `pool`; the caller makes it once.
    pub(crate) fn new(device: Arc<Device>, queue: u16, pool: Arc<Pool>) -> Self {
        TxBuffer { staged: ArrayVec::new(), tags: ArrayVec::new(), device, pool, queue }
    }

    /// Stages a packet; `tag` comes back from [`flush`](Self::flush) where the device refuses it. Gives the packet back
    /// where a whole burst is staged already.
    #[inline(always)]
    pub(crate) fn stage(&mut self, mbuf: Mbuf, tag: u8) -> Result<(), Mbuf> {
        self.staged.try_push(mbuf).map_err(|full| full.element())?;
        // As many tags as packets, so there is room.
        let _ = self.tags.try_push(tag);
        Ok(())
    }

    /// Stages a packet made here, with `bytes` complete from the Ethernet header on. `false` where no buffer is free, a
    /// whole burst is staged already or the packet is longer than a buffer.
    pub fn originate(&mut self, bytes: &[u8], tag: u8) -> bool {
        let mut fresh: ArrayVec<Mbuf, 1> = ArrayVec::new();
        self.allocate(&mut fresh, 1);
        let fits = fresh.first_mut().is_some_and(|mbuf| fill(mbuf, bytes).is_some());
        if fits && let Some(mbuf) = fresh.pop() {
            match self.stage(mbuf, tag) {
                Ok(()) => return true,
                Err(mbuf) => fresh.push(mbuf),
            }
        }
        mbuf::free(&mut fresh);
        false
    }

    /// Fills `mbufs`, which is empty, with `count` fresh buffers; with none where there are not so many.
    #[inline]
    pub(crate) fn allocate<const N: usize>(&self, mbufs: &mut ArrayVec<Mbuf, N>, count: usize) {
        let count = count.min(N);
        if count == 0 {
            return;
        }
        let room = mbufs.as_mut_ptr().cast();
        // SAFETY: the pool lives as long as the device's `Eal`; there is room for N pointers.
        let code = unsafe { culvert_mbuf_alloc_bulk(self.pool.raw().as_ptr(), room, count as u32) };
        if code == 0 {
            // SAFETY: on success `count` pointers are written, and their buffers are ours.
            unsafe { mbufs.set_len(count) };
        }
    }

    /// Packets staged.
    pub fn len(&self) -> usize {
        self.staged.len()
    }

    /// Whether a whole burst is staged.
    pub fn is_full(&self) -> bool {
        self.staged.is_full()
    }

    /// Whether none is staged.
    pub fn is_empty(&self) -> bool {
        self.staged.is_empty()
    }

    /// Hands what is staged to the device, once; names the tag of each packet that it refuses, and frees these.
    #[inline]
    pub fn flush(&mut self, refused: impl FnMut(u8)) -> Flushed {
        if self.staged.is_empty() {
            return Flushed::default();
        }
        let flushed = transmit(&self.device, self.queue, &mut self.staged);
        if flushed.refused != 0 {
            self.tags.drain(..).skip(flushed.taken as usize).for_each(refused);
        }
        self.tags.clear();
        flushed
    }

    /// Does the same with packets that are not staged, whose tags are their positions. They overtake what is staged.
    #[inline]
    pub(crate) fn send(&mut self, mbufs: &mut ArrayVec<Mbuf, BURST>, refused: impl FnMut(u8)) -> Flushed {
        let flushed = transmit(&self.device, self.queue, mbufs);
        let Flushed { taken, refused: left } = flushed;
        (taken as u8..(taken + left) as u8).for_each(refused);
        flushed
    }
}

/// Hands packets to a queue that only the caller uses, and frees those that it refuses.
#[inline]
fn transmit(device: &Device, queue: u16, mbufs: &mut ArrayVec<Mbuf, BURST>) -> Flushed {
    let all = mbufs.len();
    let packets = mbufs.as_mut_ptr().cast();
    // SAFETY: the device is started, the caller is the queue's one user, and the vector holds `all` owned buffers.
    let count = unsafe { culvert_tx_burst(device.id(), queue, packets, all as u16) };
    let count = usize::from(count).min(all);
    // Those in front belong to the device from here on. An `Mbuf` gives nothing back when it is dropped.
    if count == all {
        mbufs.clear();
    } else {
        mbufs.drain(..count);
        mbuf::free(mbufs);
    }
    Flushed { taken: count as u64, refused: (all - count) as u64 }
}

impl Drop for TxBuffer {
    fn drop(&mut self) {
        mbuf::free(&mut self.staged);
    }
}

/// Makes `bytes` the packet in a fresh buffer.
fn fill(mbuf: &mut Mbuf, bytes: &[u8]) -> Option<()> {
    mbuf.resize(HEADROOM, bytes.len())?;
    mbuf.frame().bytes_mut().copy_from_slice(bytes);
    Some(())
}
