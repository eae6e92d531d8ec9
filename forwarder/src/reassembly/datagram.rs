//! A datagram while its fragments come: where they belong, and the whole.

use super::MAX_FRAGMENTS;
use super::fragment::Fragment;
use crate::tunnel::ecn;
use crate::verdict::DropReason;
use crate::wire::at_mut;
use crate::wire::ip::Version;
use crate::wire::ipv4::{self, Ipv4};
use crate::wire::ipv6::{self, Ipv6};
use arrayvec::ArrayVec;
use std::ops::Range;

/// The largest length that an IP header can say.
const MAX_LENGTH: usize = 65_535;

/// A datagram of which all fragments are there.
#[derive(Debug)]
pub struct Whole {
    header: Vec<u8>,
    data: Vec<u8>,
}

impl Whole {
    /// Bytes of header and payload.
    pub fn size(&self) -> usize {
        self.header.len() + self.data.len()
    }

    /// Writes it to the front of `packet`, which has room for it.
    pub fn write(&self, packet: &mut [u8]) {
        for (to, from) in packet.iter_mut().zip(self.header.iter().chain(&self.data)) {
            *to = *from;
        }
    }
}

/// What a fragment is to those that are there.
pub(super) enum Fit {
    /// One of them, sent again or copied on its way.
    Duplicate,
    /// New, before the piece at this position.
    Before(usize),
}

/// A datagram that is waited for, or one that was given up and whose fragments may still come.
#[derive(Debug, Default)]
pub(super) struct Datagram {
    pub(super) serial: u64,
    pub(super) inside: Option<u32>, // slot of the tunnel that its first arrival came out of
    pub(super) held: u64,           // fragments, duplicates included
    header: Vec<u8>,                // empty until the first fragment is there
    data: Vec<u8>,                  // up to the end of what is there, with gaps
    pieces: ArrayVec<Range<u16>, MAX_FRAGMENTS>, // where data are there, in their order
    filled: usize,
    total: Option<usize>, // bytes of data, known from the last fragment
    ecn: u8,              // a bit for each codepoint seen
    pub(super) refused: Option<DropReason>,
}

impl Datagram {
    /// One of which nothing is there.
    pub(super) fn new(serial: u64, inside: Option<u32>) -> Self {
        Datagram { serial, inside, ..Datagram::default() }
    }

    /// Lets go of all that is there, which is returned, and refuses what may still come.
    pub(super) fn refuse(&mut self, reason: DropReason) -> Datagram {
        let rest = Datagram { refused: Some(reason), ..Datagram::new(self.serial, self.inside) };
        std::mem::replace(self, rest)
    }

    /// Bytes that it keeps.
    pub(super) fn memory(&self) -> usize {
        self.header.len() + self.data.len()
    }

    /// Bytes that are allocated for it.
    #[cfg(test)]
    pub(super) fn allocated(&self) -> usize {
        self.header.capacity() + self.data.capacity()
    }

    /// Bytes that it keeps more with `fragment`.
    pub(super) fn growth(&self, fragment: &Fragment<'_>) -> usize {
        let header = if fragment.start == 0 { fragment.header.len() } else { 0 };
        header + fragment.end().saturating_sub(self.data.len())
    }

    /// Where `fragment` belongs. The whole datagram is to be written to a buffer of `room` bytes.
    pub(super) fn fit(&self, fragment: &Fragment<'_>, room: usize) -> Result<Fit, DropReason> {
        let (start, end, more) = (fragment.start, fragment.end(), fragment.more);
        let known = self.data.len();
        let is_first_known = start != 0 && !self.header.is_empty();
        let header_len = if is_first_known { self.header.len() } else { fragment.header.len() };
        let unsaid = if fragment.announced.is_some() { Ipv6::LEN } else { 0 };
        let is_too_long = header_len.saturating_sub(unsaid) + end.max(known) > MAX_LENGTH;
        let is_ragged = fragment.data.is_empty() || (more && !end.is_multiple_of(8));
        if is_ragged || is_too_long || fragment.lacks_headers {
            return Err(DropReason::ReassemblyInvalid);
        }
        let contradicts = match (self.total, more) {
            (Some(total), true) => end >= total,
            (Some(total), false) => end != total,
            // A fragment that is there ends here or behind, and said that it is not the last.
            (None, false) => known >= end,
            (None, true) => false,
        };
        if contradicts {
            return Err(DropReason::ReassemblyInvalid);
        }
        if header_len + end.max(known) > room {
            return Err(DropReason::ReassemblyTooBig);
        }
        let position = self.pieces.partition_point(|piece| usize::from(piece.start) < start);
        if let Some(next) = self.pieces.get(position).filter(|next| usize::from(next.start) < end) {
            let is_same = usize::from(next.start) == start
                && usize::from(next.end) == end
                && self.data.get(start..end) == Some(fragment.data);
            return if is_same { Ok(Fit::Duplicate) } else { Err(DropReason::ReassemblyOverlap) };
        }
        let before = position.checked_sub(1).and_then(|before| self.pieces.get(before));
        if before.is_some_and(|before| usize::from(before.end) > start) {
            return Err(DropReason::ReassemblyOverlap);
        }
        let codepoints = self.ecn | 1 << fragment.ecn;
        if codepoints & 1 << ecn::NOT_ECT != 0 && codepoints != 1 << ecn::NOT_ECT {
            return Err(DropReason::ReassemblyInvalid);
        }
        if self.pieces.is_full() { Err(DropReason::ReassemblyFull) } else { Ok(Fit::Before(position)) }
    }

    /// Adds a fragment that belongs before the piece at `position`.
    pub(super) fn insert(&mut self, position: usize, fragment: &Fragment<'_>) {
        let (start, end) = (fragment.start, fragment.end());
        if let Some(more) = end.checked_sub(self.data.len()) {
            // Exactly: what is kept is what is counted.
            self.data.reserve_exact(more);
            self.data.resize(end, 0);
        }
        if let Some(place) = self.data.get_mut(start..end) {
            place.copy_from_slice(fragment.data);
        }
        if start == 0 {
            self.header = fragment.header();
        }
        if !fragment.more {
            self.total = Some(end);
        }
        self.pieces.insert(position, start as u16..end as u16);
        self.filled += end - start;
        self.ecn |= 1 << fragment.ecn;
    }

    pub(super) fn is_whole(&self) -> bool {
        self.total == Some(self.filled)
    }

    /// The datagram with the header of its first fragment, which says the whole length and that this is none; congestion
    /// that one fragment met is the whole's (RFC 3168 §5.3).
    pub(super) fn join(self, version: Version) -> Whole {
        let Datagram { mut header, data, ecn: codepoints, .. } = self;
        let is_marked = codepoints & 1 << ecn::CE != 0;
        match version {
            Version::V4 => {
                if let Ok(fixed) = at_mut::<{ Ipv4::LEN }>(&mut header, 0)
                    && is_marked
                {
                    ipv4::set_traffic_class(fixed, fixed[1] | ecn::CE);
                }
                let fields = Ipv4::new(&header).map(|header| (header.identification(), header.fragment()));
                let (identification, field) = fields.unwrap_or_default();
                ipv4::set_fragment(&mut header, data.len(), identification, field & ipv4::DF);
            }
            Version::V6 => {
                let payload_len = header.len().saturating_sub(Ipv6::LEN) + data.len();
                if let Ok(fixed) = at_mut::<{ Ipv6::LEN }>(&mut header, 0) {
                    ipv6::set_payload_len(fixed, payload_len as u16);
                    if is_marked {
                        let class = fixed[0] << 4 | fixed[1] >> 4;
                        ipv6::set_traffic_class(fixed, class | ecn::CE);
                    }
                }
            }
        }
        Whole { header, data }
    }
}
