//! Fragments put together again (RFC 791 §3.2, RFC 8200 §4.5), for tunnels that ask for it.
//!
//! A sender whose tunnel does not heed the path's MTU has its outer packets cut on the way, and nothing can be taken off
//! such a packet before it is whole. What is kept meanwhile is bounded in every direction, because anybody may send a
//! first fragment and nothing behind it: in time, in datagrams, in bytes, in fragments of one datagram. Where a bound is
//! met the datagram that was begun first goes, as it is the least likely to become whole.
//!
//! Fragments that overlap never make a datagram (RFC 5722 §3): what a filter saw in one of them could be replaced by
//! another. The same holds for IPv4, where RFC 791 would let the later one win. What is wrong with one fragment ends the
//! whole datagram, those that are still to come included: its key is remembered, without its bytes, until its time is up.
//!
//! DPDK's own library, `rte_ip_frag`, works on mbufs alone and chains them. This is plain code over slices instead: it runs
//! in `replay` and in tests as it does in a worker, and a packet stays in one segment. Bytes are copied out of a fragment's
//! buffer, which goes back to its pool at once, and memory is allocated; only fragments come here, so no other packet pays.

mod fragment;
mod datagram;
#[cfg(test)]
mod tests;

pub use datagram::Whole;
pub use fragment::Fragment;

use crate::stats::{TunnelStats, WorkerCounters};
use crate::verdict::DropReason;
use crate::wire::ip::Version;
use datagram::{Datagram, Fit};
use fragment::Key;
use std::collections::{HashMap, VecDeque};

/// Nanoseconds from a datagram's first fragment until it is given up. RFC 791 §3.2 begins with 15 s and RFC 8200 §4.5 asks
/// for 60 s; at today's rates 16 bits of identification come again within a second or two, and then fragments of different
/// packets are joined (RFC 4963 §3).
pub const TIMEOUT_NS: u64 = 2_000_000_000;

/// Datagrams that a worker waits for at a time.
pub const MAX_DATAGRAMS: usize = 256;

/// Bytes of headers and payload that a worker keeps. The table beside them has [`MAX_DATAGRAMS`] entries of less than
/// half a KiB.
pub const MAX_MEMORY: usize = 1 << 20;

/// Fragments of one datagram.
pub const MAX_FRAGMENTS: usize = 64;

/// Fragments that were kept and are kept no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Released {
    /// How many.
    pub count: u64,
    /// Why they were dropped; `None`: they went on as part of the packet that the last one completed, so they are consumed.
    pub dropped: Option<DropReason>,
}

impl Released {
    /// Counts them.
    pub fn account(self, counters: &WorkerCounters) {
        match self.dropped {
            None => counters.consumed.add(self.count),
            Some(reason) => counters.dropped.of(reason).add(self.count),
        }
    }
}

/// A datagram in the order in which they were begun.
#[derive(Clone, Copy, Debug)]
struct Begun {
    serial: u64,
    deadline: u64,
    key: Key,
}

/// The fragments that one worker keeps.
#[derive(Debug, Default)]
pub struct Reassembly {
    waiting: HashMap<Key, Datagram>,
    order: VecDeque<Begun>,
    next_serial: u64,
    memory: usize,
    released: Vec<Released>,
}

impl Reassembly {
    /// Keeps a fragment at `now` nanoseconds, or joins it with those that are there: `None` for one that is kept. `room` is
    /// what its buffer has for the whole datagram. `inside` is the slot of the tunnel that it came out of; drops of those
    /// that were kept count there.
    ///
    /// # Errors
    /// [`DropReason::ReassemblyInvalid`], [`DropReason::ReassemblyOverlap`], [`DropReason::ReassemblyTooBig`] and
    /// [`DropReason::ReassemblyFull`]; what was kept of the same datagram is then given up for the same reason.
    pub fn add(
        &mut self,
        fragment: &Fragment<'_>,
        room: usize,
        now: u64,
        inside: Option<u32>,
        stats: &TunnelStats,
    ) -> Result<Option<Whole>, DropReason> {
        let key = fragment.key;
        if !self.waiting.contains_key(&key) {
            while self.waiting.len() >= MAX_DATAGRAMS {
                self.give_up_first(DropReason::ReassemblyFull, stats);
            }
            self.begin(key, now, inside);
        }
        let Some(datagram) = self.waiting.get_mut(&key) else { return Err(DropReason::ReassemblyFull) };
        if let Some(reason) = datagram.refused {
            return Err(reason);
        }
        let position = match datagram.fit(fragment, room) {
            Ok(Fit::Before(position)) => position,
            Ok(Fit::Duplicate) => {
                datagram.held += 1;
                return Ok(None);
            }
            Err(reason) => {
                self.refuse(key, reason, stats);
                return Err(reason);
            }
        };
        let growth = datagram.growth(fragment);
        while self.memory + growth > MAX_MEMORY && self.waiting.contains_key(&key) {
            self.give_up_first(DropReason::ReassemblyFull, stats);
        }
        let Some(datagram) = self.waiting.get_mut(&key) else { return Err(DropReason::ReassemblyFull) };
        datagram.insert(position, fragment);
        self.memory += growth;
        if !datagram.is_whole() {
            datagram.held += 1;
            return Ok(None);
        }
        Ok(self.take(key).map(|datagram| {
            self.release(None, &datagram, stats);
            datagram.join(Version::of_address(key.source))
        }))
    }

    /// Whether nothing is waited for and nothing was released.
    #[inline]
    pub fn is_idle(&self) -> bool {
        self.order.is_empty() && self.released.is_empty()
    }

    /// When the datagram that was begun first is to be given up; `None` where nothing is waited for.
    #[inline]
    pub fn deadline(&self) -> Option<u64> {
        self.order.front().map(|begun| begun.deadline)
    }

    /// Gives up what was not whole by `now` nanoseconds.
    pub fn expire(&mut self, now: u64, stats: &TunnelStats) {
        while self.deadline().is_some_and(|deadline| deadline <= now) {
            self.give_up_first(DropReason::ReassemblyTimeout, stats);
        }
    }

    /// What became of fragments that had been kept, since [`forget_released`](Self::forget_released).
    #[inline]
    pub fn released(&self) -> &[Released] {
        &self.released
    }

    /// Empties [`released`](Self::released), once it was counted.
    #[inline]
    pub fn forget_released(&mut self) {
        self.released.clear();
    }

    fn begin(&mut self, key: Key, now: u64, inside: Option<u32>) {
        let serial = self.next_serial;
        self.next_serial += 1;
        self.order.push_back(Begun { serial, deadline: now.saturating_add(TIMEOUT_NS), key });
        self.waiting.insert(key, Datagram::new(serial, inside));
    }

    /// Takes a datagram out.
    fn take(&mut self, key: Key) -> Option<Datagram> {
        let datagram = self.waiting.remove(&key)?;
        self.memory -= datagram.memory();
        // Serial numbers only grow, so they are in order.
        if let Ok(at) = self.order.binary_search_by_key(&datagram.serial, |begun| begun.serial) {
            self.order.remove(at);
        }
        Some(datagram)
    }

    /// Gives up the datagram that was begun first.
    fn give_up_first(&mut self, reason: DropReason, stats: &TunnelStats) {
        let first = self.order.front().map(|begun| begun.key);
        if let Some(datagram) = first.and_then(|key| self.take(key)) {
            self.release(Some(reason), &datagram, stats);
        }
    }

    /// Gives up a datagram, and refuses what may still come of it.
    fn refuse(&mut self, key: Key, reason: DropReason, stats: &TunnelStats) {
        let Some(datagram) = self.waiting.get_mut(&key) else { return };
        let given_up = datagram.refuse(reason);
        self.memory -= given_up.memory();
        self.release(Some(reason), &given_up, stats);
    }

    fn release(&mut self, dropped: Option<DropReason>, datagram: &Datagram, stats: &TunnelStats) {
        if datagram.held == 0 {
            return;
        }
        self.released.push(Released { count: datagram.held, dropped });
        if let Some(reason) = dropped
            && let Some(counters) = datagram.inside.and_then(|slot| stats.slot(slot))
        {
            counters.dropped.of(reason).add(datagram.held);
        }
    }
}
