//! One packet buffer of DPDK's: the few fields in use, by their positions in the installed release.
//!
//! An [`Mbuf`] is owned by whoever holds the value: it is not copied, and gives nothing back by itself, since buffers go
//! back many at a time ([`free`]).

use crate::frame::Frame;
use dpdk_sys::{
    CULVERT_MBUF_BUF_ADDR, CULVERT_MBUF_BUF_LEN, CULVERT_MBUF_DATA_LEN, CULVERT_MBUF_DATA_OFF,
    CULVERT_MBUF_NB_SEGS, CULVERT_MBUF_PKT_LEN, rte_mbuf, rte_pktmbuf_free_bulk,
};
use std::ptr::NonNull;

/// A packet buffer, owned.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct Mbuf(NonNull<rte_mbuf>);

// SAFETY: a buffer is plain memory with one owner; pools take it back from any thread.
unsafe impl Send for Mbuf {}

impl Mbuf {
    /// A field's place. Within the buffer's descriptor, as the offsets are the compiler's own.
    #[inline(always)]
    fn field<T>(&self, offset: usize) -> *mut T {
        self.0.as_ptr().cast::<u8>().wrapping_add(offset).cast()
    }

    /// Buffers chained together for this packet.
    #[inline(always)]
    pub(crate) fn segments(&self) -> u16 {
        // SAFETY: the descriptor is owned by `self`, and the offset is this field's.
        unsafe { self.field::<u16>(CULVERT_MBUF_NB_SEGS).read() }
    }

    /// Bytes of the whole buffer, headroom and tailroom included.
    #[inline(always)]
    pub(crate) fn capacity(&self) -> usize {
        // SAFETY: the descriptor is owned by `self`, and the offset is this field's.
        usize::from(unsafe { self.field::<u16>(CULVERT_MBUF_BUF_LEN).read() })
    }

    /// The packet's first byte, as a hint only.
    #[inline(always)]
    pub(crate) fn start(&self) -> *const u8 {
        self.buffer().wrapping_add(self.data_offset().into())
    }

    /// The packet, in its whole buffer.
    #[inline(always)]
    pub(crate) fn frame(&mut self) -> Frame<'_> {
        // SAFETY: `self` is borrowed for as long as the frame.
        unsafe { self.frame_apart() }
    }

    /// The same for as long as the caller likes.
    ///
    /// # Safety
    /// The buffer is not freed, nor seen otherwise, while the frame is in use. What the other functions here read and write is
    /// the descriptor, which is not part of it.
    #[inline(always)]
    pub(super) unsafe fn frame_apart<'a>(&mut self) -> Frame<'a> {
        // SAFETY: the descriptor is owned by `self`, and the offset is this field's.
        let len = unsafe { self.field::<u16>(CULVERT_MBUF_DATA_LEN).read() };
        let start = self.data_offset();
        // SAFETY: the pool made the buffer with this address and length, in memory that was zeroed before its first use;
        // it belongs to this mbuf alone, as culvert never shares one, and the caller sees to the rest.
        let buffer = unsafe { std::slice::from_raw_parts_mut(self.buffer(), self.capacity()) };
        Frame::within(buffer, start, len)
    }

    /// Says where the packet begins in its buffer and how long it is. `None`, and nothing changed, outside the buffer.
    #[inline(always)]
    pub(crate) fn resize(&mut self, start: usize, len: usize) -> Option<()> {
        if len > self.capacity().checked_sub(start)? {
            return None;
        }
        // A buffer is shorter than 64 KiB.
        let (start, short) = (start as u16, len as u16);
        // SAFETY: the descriptor is owned by `self`, and the offset is this field's.
        unsafe { self.field::<u16>(CULVERT_MBUF_DATA_OFF).write(start) };
        // SAFETY: as above.
        unsafe { self.field::<u16>(CULVERT_MBUF_DATA_LEN).write(short) };
        // SAFETY: as above.
        unsafe { self.field::<u32>(CULVERT_MBUF_PKT_LEN).write(u32::from(short)) };
        Some(())
    }

    #[inline(always)]
    fn buffer(&self) -> *mut u8 {
        // SAFETY: the descriptor is owned by `self`, and the offset is this field's.
        unsafe { self.field::<*mut u8>(CULVERT_MBUF_BUF_ADDR).read() }
    }

    #[inline(always)]
    fn data_offset(&self) -> u16 {
        // SAFETY: the descriptor is owned by `self`, and the offset is this field's.
        unsafe { self.field::<u16>(CULVERT_MBUF_DATA_OFF).read() }
    }
}

/// Gives all buffers of `mbufs` back to their pools, chained ones whole, and leaves it empty.
#[inline]
pub(crate) fn free<const N: usize>(mbufs: &mut arrayvec::ArrayVec<Mbuf, N>) {
    if mbufs.is_empty() {
        return;
    }
    let count = mbufs.len() as u32;
    // SAFETY: each is owned by the vector and forgotten below; an `Mbuf` has the layout of the pointer in it.
    unsafe { rte_pktmbuf_free_bulk(mbufs.as_mut_ptr().cast(), count) };
    mbufs.clear();
}
