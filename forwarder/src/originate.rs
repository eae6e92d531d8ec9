//! Packets made here during a burst: answers, errors, fragments beyond the first.
//!
//! They are rare, so they are not made in a device's buffers but in memory of the worker's own that is used again and
//! again, and copied when they are sent.

use crate::stats::Trail;
use crate::verdict::Verdict;
use std::ops::Range;

/// The packets made during one burst, in the order in which they are to be sent.
#[derive(Debug, Default)]
pub struct Originated {
    cause: usize,
    packets: Vec<Made>,
    bytes: Vec<u8>,
}

#[derive(Debug)]
struct Made {
    cause: usize,
    verdict: Verdict,
    trail: Trail,
    bytes: Range<usize>,
}

/// A packet made here.
#[derive(Clone, Copy, Debug)]
pub struct OriginatedPacket<'a> {
    /// Its fate: sent, or dropped because it found no way.
    pub verdict: Verdict,
    /// The tunnels that it crossed.
    pub trail: &'a Trail,
    /// The packet; complete with its Ethernet header where it is to be sent.
    pub bytes: &'a [u8],
}

impl Originated {
    /// Forgets all packets and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.packets.clear();
        self.bytes.clear();
    }

    /// Says which packet of the burst causes those that are added from here on: its position, which only grows.
    pub(crate) fn caused_by(&mut self, position: usize) {
        self.cause = position;
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.packets.len()
    }

    /// Whether there is none, as after nearly every burst.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// Adds a packet before those from position `at` on: its own fragments may have been added before itself.
    pub(crate) fn insert(&mut self, at: usize, verdict: Verdict, trail: Trail, bytes: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        let made = Made { cause: self.cause, verdict, trail, bytes: start..self.bytes.len() };
        self.packets.insert(at.min(self.packets.len()), made);
    }

    /// The packets, in the order in which they are to be sent.
    pub fn iter(&self) -> impl Iterator<Item = OriginatedPacket<'_>> {
        self.packets.iter().map(|made| self.show(made))
    }

    /// Those that the packet at `position` of the burst caused. They are to be sent right behind it: a receiver may insist
    /// on the order of GRE sequence numbers (RFC 2890 §2.2), in which its fragments come before the next packet.
    pub fn behind(&self, position: usize) -> impl Iterator<Item = OriginatedPacket<'_>> {
        self.packets.iter().filter(move |made| made.cause == position).map(|made| self.show(made))
    }

    fn show<'a>(&'a self, made: &'a Made) -> OriginatedPacket<'a> {
        OriginatedPacket {
            verdict: made.verdict,
            trail: &made.trail,
            bytes: self.bytes.get(made.bytes.clone()).unwrap_or_default(),
        }
    }
}
