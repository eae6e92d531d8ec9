//! Packet memory: how much of it, and the pool that it is taken from.
//!
//! A packet is one buffer: room for the largest frame of any port behind the headroom. Scatter and large receive offload
//! stay off, so nothing longer comes. Pools belong to the [`Eal`](super::Eal) and live as long as it does: whoever holds
//! a packet holds the `Eal`.

use super::error::{DpdkError, last_code, reason};
use super::lane::TURN;
use crate::forward::BURST;
use crate::frame::HEADROOM;
use dpdk_sys::{
    CULVERT_SOCKET_ANY, rte_mempool, rte_mempool_free, rte_mempool_in_use_count, rte_pktmbuf_pool_create,
};
use std::ffi::{CString, c_int};
use std::ptr::NonNull;

/// Bytes of a frame beside its IP packet: Ethernet header, two VLAN tags, checksum.
const FRAME_OVERHEAD: usize = 14 + 2 * 4 + 4;

/// Devices state buffer sizes in steps of 1 KiB or less, and some round down: a multiple of it is used whole.
const ROOM_STEP: usize = 1024;

/// The least room for a frame; the vector receive functions of several drivers want it.
const MIN_ROOM: usize = 2048;

/// Packets that each worker keeps at hand, outside the shared ring; DPDK holds back up to half as many again.
const CACHE: u32 = 256;

/// Bytes of a buffer beside its room: the mbuf, the pool's own header, alignment.
const BUFFER_OVERHEAD: u64 = 320;

/// Bytes of the pool's ring for each buffer: a pointer, and the ring's length is a power of two.
const RING_SLOT: u64 = 16;

/// Bytes of the pages that DPDK lays buffers out in without hugepages.
pub(crate) const PAGE: u64 = 4 << 10;

/// Bytes of the smallest hugepages; larger ones leave less unused.
pub(crate) const HUGEPAGE: u64 = 2 << 20;

/// How many buffers, and how large.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PoolSize {
    /// Buffers.
    pub(crate) packets: u32,
    /// Bytes of one: headroom and frame.
    pub(crate) bytes: u16,
}

impl PoolSize {
    /// Enough for `descriptors` of all device queues to be full while `workers` hold the bursts of a turn, and one to be
    /// sent, and their caches are full; frames of up to `mtu` bytes of IP.
    pub(crate) fn new(mtu: u16, descriptors: u32, workers: usize) -> PoolSize {
        let room = (usize::from(mtu) + FRAME_OVERHEAD).next_multiple_of(ROOM_STEP).max(MIN_ROOM);
        let bytes = u16::try_from(room + HEADROOM).unwrap_or(u16::MAX);
        let in_hand = CACHE + CACHE / 2 + ((TURN + 1) * BURST) as u32;
        // The control thread has a cache as well.
        let caches = (workers as u32).saturating_add(1).saturating_mul(in_hand);
        PoolSize { packets: descriptors.saturating_add(caches), bytes }
    }

    /// Bytes of memory that such a pool takes in pages of `page` bytes. DPDK lets no buffer cross from one page into the
    /// next, since these need not be neighbours in the device's eyes; one that is longer than a page begins a page.
    pub(crate) fn memory(self, page: u64) -> u64 {
        let (packets, buffer) = (u64::from(self.packets), u64::from(self.bytes) + BUFFER_OVERHEAD);
        let pages = match page / buffer {
            0 => packets * buffer.div_ceil(page),
            in_each => packets.div_ceil(in_each),
        };
        pages * page + packets * RING_SLOT
    }
}

/// A pool of packet buffers.
#[derive(Debug)]
pub(crate) struct Pool {
    raw: NonNull<rte_mempool>,
    /// The memory node that it was asked for.
    pub(crate) socket: c_int,
    /// What it holds.
    pub(crate) size: PoolSize,
}

// SAFETY: DPDK's pools may be used and freed from any thread.
unsafe impl Send for Pool {}
// SAFETY: as above; taking and giving back are synchronised by the pool's ring.
unsafe impl Sync for Pool {}

impl Pool {
    /// A pool on memory node `socket`, or on any where that one has no memory left.
    pub(crate) fn create(number: usize, socket: c_int, size: PoolSize) -> Result<Pool, DpdkError> {
        let name = CString::new(format!("culvert-{number}")).unwrap_or_default();
        for node in [socket, CULVERT_SOCKET_ANY] {
            // SAFETY: EAL runs, as an `Eal` is at hand wherever this is called; the name is copied.
            let raw =
                unsafe { rte_pktmbuf_pool_create(name.as_ptr(), size.packets, CACHE, 0, size.bytes, node) };
            if let Some(raw) = NonNull::new(raw) {
                return Ok(Pool { raw, socket, size });
            }
        }
        Err(DpdkError::Pool { packets: size.packets, bytes: size.bytes, reason: reason(last_code()) })
    }

    /// The pool itself, for calls into DPDK; valid while this value is.
    pub(crate) fn raw(&self) -> NonNull<rte_mempool> {
        self.raw
    }

    /// Packets taken and not given back.
    pub(crate) fn in_use(&self) -> usize {
        // SAFETY: the pool exists until `self` is dropped.
        let count = unsafe { rte_mempool_in_use_count(self.raw.as_ptr()) };
        count as usize
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // SAFETY: created here, freed once; the `Eal` drops it when no device, queue or burst is left.
        unsafe { rte_mempool_free(self.raw.as_ptr()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_buffer_holds_the_largest_frame_behind_the_headroom() {
        for mtu in [68, 1280, 1500, 2022, 2023, 9000, 9216] {
            let size = PoolSize::new(mtu, 2048, 1);
            assert!(usize::from(size.bytes) >= HEADROOM + usize::from(mtu) + FRAME_OVERHEAD, "{mtu}");
            assert_eq!((usize::from(size.bytes) - HEADROOM) % ROOM_STEP, 0, "{mtu}");
        }
    }

    #[test]
    fn full_queues_leave_buffers_for_every_worker() {
        let size = PoolSize::new(1500, 4096, 3);
        assert!(size.packets >= 4096 + 3 * (CACHE + BURST as u32));
    }

    #[test]
    fn no_buffer_is_counted_across_the_end_of_a_page() {
        let count = |bytes, page| PoolSize { packets: 1000, bytes }.memory(page) - 1000 * RING_SLOT;
        // 2,496 bytes of which one fits, 9,664 that take three pages.
        assert_eq!(count(2_176, PAGE), 1000 * PAGE);
        assert_eq!(count(9_344, PAGE), 1000 * 3 * PAGE);
        // 840 of the smaller, 217 of the larger.
        assert_eq!(count(2_176, HUGEPAGE), 2 * HUGEPAGE);
        assert_eq!(count(9_344, HUGEPAGE), 5 * HUGEPAGE);
    }
}
