//! What lies in the rings between workers: up to a burst of packets that one port received, for one worker.
//!
//! Short packets are copied into a parcel and out of it again, into a buffer of the other worker's. A buffer that moves costs
//! more than the copy: four cache lines there, and four back when it is received into again, which the driver waits for one by
//! one. It also keeps the buffers in use few, however full a ring is.

use super::mbuf::{self, Mbuf};
use super::queue::TxBuffer;
use crate::forward::BURST;
use crate::frame::HEADROOM;
use crate::hint::prefetch;
use crate::table::PortId;
use arrayvec::ArrayVec;
use dpdk_sys::CULVERT_MBUF_SIZE;

/// Bytes up to which a packet is copied. What moves from core to core is then these bytes alone, in one piece that the
/// processor foresees, and not the descriptor and the buffer, which have to come back as well.
const COPIED: usize = 128;

/// A packet in a parcel.
#[derive(Debug)]
enum Item {
    /// So many bytes at its position among the parcel's copies.
    Copied(u16),
    /// One that is longer, in its own buffer.
    Whole(Mbuf),
}

/// Packets for one worker, in order; 4.5 KiB whatever is in it.
#[derive(Debug)]
pub(super) struct Parcel {
    port: PortId,
    received_at: u64,
    items: ArrayVec<Item, BURST>,
    copies: [[u8; COPIED]; BURST],
}

impl Parcel {
    /// An empty one.
    pub(super) fn new() -> Box<Parcel> {
        Box::new(Parcel {
            port: PortId(0),
            received_at: 0,
            items: ArrayVec::new(),
            copies: [[0; COPIED]; BURST],
        })
    }

    /// Packets in it.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    #[inline]
    pub(super) fn is_full(&self) -> bool {
        self.items.is_full()
    }

    /// The port that received its packets.
    #[inline]
    pub(super) fn port(&self) -> PortId {
        self.port
    }

    /// When its first packet came, by the time-stamp counter.
    #[inline]
    pub(super) fn received_at(&self) -> u64 {
        self.received_at
    }

    /// Whether a packet of this port can be put in.
    #[inline]
    pub(super) fn has_room(&self, port: PortId) -> bool {
        self.items.is_empty() || (self.port == port && !self.items.is_full())
    }

    /// Puts a packet in, where [there is room](Self::has_room). Returns whether it did, and the buffer where that is not
    /// needed for it.
    #[inline]
    pub(super) fn put(&mut self, mut mbuf: Mbuf, port: PortId, received_at: u64) -> (bool, Option<Mbuf>) {
        if !self.has_room(port) {
            return (false, Some(mbuf));
        }
        if self.items.is_empty() {
            (self.port, self.received_at) = (port, received_at);
        }
        let frame = mbuf.frame();
        let (len, room) = (frame.len(), self.copies.get_mut(self.items.len()));
        match (frame.window::<COPIED>(0), room) {
            (Some(bytes), Some(room)) if len <= COPIED => {
                *room = *bytes;
                self.items.push(Item::Copied(len as u16));
                (true, Some(mbuf))
            }
            _ => {
                self.items.push(Item::Whole(mbuf));
                (true, None)
            }
        }
    }

    /// Empties it: its packets, copies in buffers that `tx` has for the port's packets, and how many copies are lost because
    /// so many buffers are not free.
    #[inline]
    pub(super) fn unpack(&mut self, tx: &[TxBuffer]) -> (ArrayVec<Mbuf, BURST>, u64) {
        let count = self.items.iter().filter(|item| matches!(item, Item::Copied(_))).count();
        let mut fresh: ArrayVec<Mbuf, BURST> = ArrayVec::new();
        if let Some(tx) = tx.get(usize::from(self.port.0)) {
            tx.allocate(&mut fresh, count);
        }
        let mut mbufs: ArrayVec<Mbuf, BURST> = ArrayVec::new();
        let mut lost = 0;
        for (item, copy) in self.items.drain(..).zip(self.copies.iter()) {
            match item {
                Item::Whole(mbuf) => mbufs.push(mbuf),
                Item::Copied(len) => match fresh.pop() {
                    Some(mut mbuf) => {
                        mbuf.resize(HEADROOM, len.into());
                        if let Some(room) = mbuf.frame().window_mut::<COPIED>(0) {
                            *room = *copy;
                        }
                        mbufs.push(mbuf);
                    }
                    None => lost += 1,
                },
            }
        }
        (mbufs, lost)
    }

    /// Asks for what is in it, all of which is in another core's cache: copies, or descriptors and the first bytes of the
    /// packets, which lie behind those and the headroom, in one piece.
    #[inline]
    pub(super) fn prefetch(&self) {
        const LINE: usize = 64;
        for (item, copy) in self.items.iter().zip(&self.copies) {
            let Item::Whole(mbuf) = item else {
                prefetch(copy);
                prefetch(copy.as_ptr().wrapping_add(LINE));
                continue;
            };
            let descriptor = mbuf.address().cast::<u8>();
            for at in [0, LINE, CULVERT_MBUF_SIZE + HEADROOM, CULVERT_MBUF_SIZE + HEADROOM + LINE] {
                prefetch(descriptor.wrapping_add(at));
            }
        }
    }

    /// Frees what is in it.
    pub(super) fn clear(&mut self) {
        let whole = |item| match item {
            Item::Copied(_) => None,
            Item::Whole(mbuf) => Some(mbuf),
        };
        let mut mbufs: ArrayVec<Mbuf, BURST> = self.items.drain(..).filter_map(whole).collect();
        mbuf::free(&mut mbufs);
    }
}

impl Drop for Parcel {
    fn drop(&mut self) {
        self.clear();
    }
}
