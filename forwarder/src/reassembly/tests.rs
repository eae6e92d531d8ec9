use super::*;
use crate::wire::checksum::Sum;
use crate::wire::ip::Ip;
use crate::wire::ipv4::Ipv4Repr;
use crate::wire::ipv6::Ipv6Repr;
use crate::wire::ipv6_fragment::Ipv6FragmentRepr;
use proptest::prelude::*;
use std::net::{Ipv4Addr, Ipv6Addr};

const ROOM: usize = 9_000;
const SENDER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const BOX: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

/// What the tests change about a fragment.
#[derive(Clone, Debug)]
struct Piece {
    version: Version,
    identification: u16,
    class: u8,
    start: usize,
    more: bool,
    data: Vec<u8>,
}

impl Piece {
    fn new(start: usize, more: bool, data: &[u8]) -> Self {
        Piece { version: Version::V4, identification: 7, class: 0xb8, start, more, data: data.to_vec() }
    }

    /// The packet, of GRE: offsets beyond what the header can say are cut, as a sender's would be.
    fn packet(&self) -> Vec<u8> {
        match self.version {
            Version::V4 => {
                let more = if self.more { 0x2000 } else { 0 };
                let header = Ipv4Repr {
                    traffic_class: self.class,
                    total_len: (20 + self.data.len()) as u16,
                    identification: self.identification,
                    fragment: more | (self.start / 8) as u16,
                    ttl: 60,
                    protocol: 47,
                    source: SENDER,
                    destination: BOX,
                };
                [header.emit().as_slice(), &self.data].concat()
            }
            Version::V6 => {
                let header = Ipv6Repr {
                    traffic_class: self.class,
                    flow_label: 5,
                    payload_len: (8 + self.data.len()) as u16,
                    next_header: 44,
                    hop_limit: 60,
                    source: Ipv6Addr::LOCALHOST,
                    destination: Ipv6Addr::LOCALHOST,
                };
                let fragment = Ipv6FragmentRepr {
                    next_header: 47,
                    offset: self.start as u16,
                    more: self.more,
                    identification: self.identification.into(),
                };
                [header.emit().as_slice(), &fragment.emit(), &self.data].concat()
            }
        }
    }
}

/// The packet that was cut: its header says what the first piece's does, but for length and fragment.
fn whole(first: &Piece, data: &[u8]) -> Vec<u8> {
    let packet = Piece { more: false, start: 0, data: data.to_vec(), ..first.clone() }.packet();
    match first.version {
        Version::V4 => packet,
        Version::V6 => {
            let mut packet = packet;
            packet.drain(40..48);
            packet[6] = 47;
            packet[4..6].copy_from_slice(&(data.len() as u16).to_be_bytes());
            packet
        }
    }
}

/// GRE without options around zeros, so that a first piece of eight bytes holds its header.
fn payload(len: usize) -> Vec<u8> {
    let mut data: Vec<u8> = (0..len).map(|byte| (byte * 7 + byte / 251) as u8).collect();
    for (to, from) in data.iter_mut().zip([0, 0, 8, 0]) {
        *to = from;
    }
    data
}

fn add(reassembly: &mut Reassembly, piece: &Piece, now: u64) -> Result<Option<Vec<u8>>, DropReason> {
    add_packet(reassembly, &piece.packet(), piece.version, (ROOM, now))
}

fn add_packet(
    reassembly: &mut Reassembly,
    packet: &[u8],
    version: Version,
    (room, now): (usize, u64),
) -> Result<Option<Vec<u8>>, DropReason> {
    let ip = Ip::check(packet, version).unwrap();
    let fragment = Fragment::new(ip, ip.upper_layer(packet).unwrap(), packet).unwrap();
    let whole = reassembly.add(&fragment, room, now, None, &TunnelStats::default())?;
    let bytes = |whole: Whole| {
        let mut bytes = vec![0; whole.size()];
        whole.write(&mut bytes);
        bytes
    };
    assert!(reassembly.memory <= MAX_MEMORY);
    assert!(reassembly.waiting.len() <= MAX_DATAGRAMS && reassembly.waiting.len() == reassembly.order.len());
    Ok(whole.map(bytes))
}

/// What became of fragments that were kept: how many were consumed, and the drops.
type Fates = (u64, Vec<(DropReason, u64)>);

/// How many were consumed, and how many dropped for which reasons.
fn released(reassembly: &mut Reassembly) -> Fates {
    let consumed = reassembly.released().iter().filter(|released| released.dropped.is_none());
    let consumed = consumed.map(|released| released.count).sum();
    let dropped = reassembly
        .released()
        .iter()
        .filter_map(|released| Some((released.dropped?, released.count)))
        .collect();
    reassembly.forget_released();
    (consumed, dropped)
}

fn expire(reassembly: &mut Reassembly, now: u64) {
    reassembly.expire(now, &TunnelStats::default());
}

fn version() -> impl Strategy<Value = Version> {
    prop_oneof![Just(Version::V4), Just(Version::V6)]
}

/// A reassembler as simple as can be: every byte with its sender, and the rules one after the other.
#[derive(Default)]
struct Naive {
    seen: Vec<Piece>,
    dead: bool,
}

impl Naive {
    /// `Err` for a piece that is dropped, and all with it.
    fn add(&mut self, piece: &Piece) -> Result<Option<Vec<u8>>, ()> {
        let end = piece.start + piece.data.len();
        let last = |pieces: &[Piece]| {
            pieces.iter().find(|piece| !piece.more).map(|piece| piece.start + piece.data.len())
        };
        let same =
            |seen: &&Piece| seen.start == piece.start && seen.data == piece.data && seen.more == piece.more;
        let clashes = |seen: &Piece| seen.start < end && piece.start < seen.start + seen.data.len();
        let mut all = self.seen.clone();
        all.push(piece.clone());
        let beyond = last(&all).is_some_and(|total| {
            let ends = all.iter().map(|piece| (piece.start + piece.data.len(), piece.more));
            ends.clone().any(|(end, more)| end > total || (more && end == total) || (!more && end != total))
        });
        let ragged = piece.data.is_empty() || (piece.more && !piece.data.len().is_multiple_of(8));
        let header_len = if piece.version == Version::V4 { 20 } else { 40 };
        let long = all.iter().any(|piece| piece.start + piece.data.len() + header_len > ROOM);
        let ecn = |piece: &Piece| piece.class & 3;
        let is_duplicate = self.seen.iter().any(|seen| same(&seen));
        self.dead |= beyond || ragged || long;
        if !is_duplicate {
            self.dead |= self.seen.iter().any(clashes);
            self.dead |= all.iter().any(|one| ecn(one) == 0) && all.iter().any(|one| ecn(one) != 0);
            self.dead |= self.seen.len() == MAX_FRAGMENTS;
        }
        if self.dead {
            return Err(());
        }
        if is_duplicate {
            return Ok(None);
        }
        self.seen = all;
        let Some(total) = last(&self.seen) else { return Ok(None) };
        let mut bytes: Vec<Option<u8>> = vec![None; total];
        for piece in &self.seen {
            for (at, byte) in (piece.start..).zip(&piece.data) {
                bytes[at] = Some(*byte);
            }
        }
        Ok(bytes.into_iter().collect())
    }
}

/// A cut of a datagram of so many bytes, at multiples of eight.
fn cuts(len: usize, at: &[prop::sample::Index]) -> Vec<(usize, usize)> {
    let words = len.div_ceil(8);
    let mut ends: Vec<usize> = at.iter().map(|at| at.index(words) * 8).filter(|end| *end > 0).collect();
    ends.push(len);
    ends.sort_unstable();
    ends.dedup();
    let starts = [0].into_iter().chain(ends.clone());
    starts.zip(ends).collect()
}

proptest! {
    #[test]
    fn any_cut_in_any_order_with_duplicates_makes_the_same_bytes(
        version in version(),
        len in 9usize..8_000,
        at in prop::collection::vec(any::<prop::sample::Index>(), 1..40),
        order in any::<prop::sample::Index>(),
        copies in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        marked in any::<prop::sample::Index>(),
        seed: u64,
    ) {
        let data = payload(len);
        let pieces: Vec<Piece> = cuts(len, &at).into_iter().map(|(start, end)| Piece {
            version, class: 0xba, ..Piece::new(start, end < len, &data[start..end])
        }).collect();
        prop_assume!(pieces.len() > 1);
        let mut sent = pieces.clone();
        let marked = marked.index(sent.len() + 1);
        if let Some(piece) = sent.get_mut(marked) {
            piece.class |= 3;
        }
        // A shuffle by a small generator, so that the order is a value that shrinks with the rest.
        let mut state = seed | 1;
        for index in (1..sent.len()).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            sent.swap(index, (state >> 33) as usize % (index + 1));
        }
        sent.rotate_left(order.index(pieces.len()));
        // Copies come behind their originals, and before the last: then the datagram is gone.
        let last = sent.pop().unwrap();
        for copy in &copies {
            let copied = sent[copy.index(sent.len())].clone();
            sent.push(copied);
        }
        let mut reassembly = Reassembly::default();
        for piece in &sent {
            prop_assert_eq!(add(&mut reassembly, piece, 0), Ok(None));
        }
        let mut first = pieces[0].clone();
        if marked < pieces.len() {
            first.class |= 3;
        }
        let expected = whole(&first, &data);
        prop_assert_eq!(add(&mut reassembly, &last, 0), Ok(Some(expected.clone())));
        prop_assert_eq!(released(&mut reassembly), (sent.len() as u64, vec![]));
        prop_assert!(reassembly.is_idle() && reassembly.memory == 0);
        if version == Version::V4 {
            prop_assert!(Sum::of(&expected[..20]).is_intact());
        }
    }

    #[test]
    fn agrees_with_a_naive_reassembler_on_fragments_of_any_kind(
        version in version(),
        pieces in prop::collection::vec((0usize..8, 0usize..5, any::<bool>(), 0u8..40, 0u8..12, 0usize..60), 1..14),
    ) {
        let mut reassembly = Reassembly::default();
        let mut naive = Naive::default();
        let (mut held, mut consumed, mut dropped) = (0, 0, 0);
        for (start, words, more, ragged, spoilt, ecn) in pieces {
            let (start, mut len) = (start * 8, words * 8);
            if ragged == 0 || !more {
                len += usize::from(ragged) % 8;
            }
            let mut data: Vec<u8> = payload(2_000)[start..start + len].to_vec();
            if spoilt == 0 && let Some(byte) = data.last_mut() {
                *byte ^= 1;
            }
            let class = if ecn < 4 { ecn as u8 } else { 2 };
            let piece = Piece { version, class, ..Piece::new(start, more, &data) };
            // A whole packet is no fragment, and a first piece of less than GRE's header is another test's.
            if start == 0 && (!more || len < 8) {
                continue;
            }
            let expected = naive.add(&piece);
            let found = add(&mut reassembly, &piece, 0);
            match (&found, &expected) {
                (Ok(None), Ok(None)) => held += 1,
                (Ok(Some(packet)), Ok(Some(bytes))) => {
                    let header_len = if version == Version::V4 { 20 } else { 40 };
                    prop_assert_eq!(&packet[header_len..], bytes.as_slice());
                    consumed += held;
                    held = 0;
                    naive = Naive::default();
                }
                (Err(_), Err(())) => {
                    dropped += held;
                    held = 0;
                }
                _ => prop_assert!(false, "{piece:?}: {found:?}, and the naive one {expected:?}"),
            }
        }
        let (found, reasons) = released(&mut reassembly);
        prop_assert_eq!((found, reasons.iter().map(|reason| reason.1).sum::<u64>()), (consumed, dropped));
        expire(&mut reassembly, u64::MAX);
        let (_, reasons) = released(&mut reassembly);
        prop_assert_eq!(reasons.iter().map(|reason| reason.1).sum::<u64>(), held);
        prop_assert!(reassembly.is_idle() && reassembly.memory == 0);
    }
}

/// The fate of each piece of one datagram, sent one after the other, and of those that were kept.
fn fates(pieces: &[Piece]) -> (Vec<Result<bool, DropReason>>, Fates) {
    let mut reassembly = Reassembly::default();
    let fates =
        pieces.iter().map(|piece| add(&mut reassembly, piece, 0).map(|whole| whole.is_some())).collect();
    (fates, released(&mut reassembly))
}

#[test]
fn overlaps_end_the_datagram_and_what_still_comes_of_it() {
    let data = payload(48);
    let piece = |start: usize, end: usize| Piece::new(start, end < 48, &data[start..end]);
    for overlapping in [piece(8, 24), piece(0, 24), piece(8, 16), piece(0, 8)] {
        let pieces = [piece(0, 16), overlapping, piece(24, 48), piece(16, 24)];
        let overlap = Err(DropReason::ReassemblyOverlap);
        let expected = vec![Ok(false), overlap, overlap, overlap];
        assert_eq!(fates(&pieces), (expected, (0, vec![(DropReason::ReassemblyOverlap, 1)])));
    }
    // The same place with other bytes is no duplicate.
    let mut forged = piece(0, 16);
    forged.data[15] ^= 1;
    assert_eq!(fates(&[piece(0, 16), forged]).0[1], Err(DropReason::ReassemblyOverlap));
}

#[test]
fn fragments_that_cannot_be_true_end_the_datagram() {
    let data = payload(64);
    let piece = |start: usize, end: usize, more| Piece::new(start, more, &data[start..end]);
    for (what, pieces) in [
        ("a length that is no multiple of 8", vec![piece(0, 16, true), piece(16, 27, true)]),
        ("no data", vec![piece(0, 16, true), piece(16, 16, false)]),
        ("two ends", vec![piece(24, 32, false), piece(40, 48, false)]),
        ("data behind the end", vec![piece(24, 32, false), piece(40, 48, true)]),
        ("an end before data", vec![piece(40, 48, true), piece(24, 32, false)]),
        ("more behind the end", vec![piece(24, 32, false), piece(16, 32, true)]),
        ("an end where more was said", vec![piece(24, 32, true), piece(24, 32, false)]),
        ("beyond 65535", vec![piece(0, 16, true), Piece::new(65_528, false, &data[..16])]),
        (
            "ECN of which one is not capable",
            vec![piece(0, 16, true), Piece { class: 0xbb, ..piece(16, 24, true) }],
        ),
        (
            "a first one within GRE's header",
            vec![piece(8, 16, false), Piece { data: vec![0xb0, 0, 8, 0, 0, 0, 0, 0], ..piece(0, 8, true) }],
        ),
    ] {
        let invalid = DropReason::ReassemblyInvalid;
        assert_eq!(fates(&pieces), (vec![Ok(false), Err(invalid)], (0, vec![(invalid, 1)])), "{what}");
    }
}

#[test]
fn what_is_not_whole_in_time_is_given_up() {
    let data = payload(32);
    let mut reassembly = Reassembly::default();
    assert_eq!(add(&mut reassembly, &Piece::new(0, true, &data[..16]), 5), Ok(None));
    assert_eq!(reassembly.deadline(), Some(5 + TIMEOUT_NS));
    // A later fragment does not give it more time.
    assert_eq!(add(&mut reassembly, &Piece::new(16, true, &data[16..24]), TIMEOUT_NS), Ok(None));
    expire(&mut reassembly, 4 + TIMEOUT_NS);
    assert_eq!(released(&mut reassembly), (0, vec![]));
    expire(&mut reassembly, 5 + TIMEOUT_NS);
    assert_eq!(released(&mut reassembly), (0, vec![(DropReason::ReassemblyTimeout, 2)]));
    assert!(reassembly.is_idle());
    // The last one comes too late, and begins anew.
    assert_eq!(add(&mut reassembly, &Piece::new(24, false, &data[24..]), 5 + TIMEOUT_NS), Ok(None));
    assert_eq!(reassembly.deadline(), Some(5 + 2 * TIMEOUT_NS));
}

#[test]
fn the_datagram_begun_first_goes_where_there_are_too_many() {
    let mut reassembly = Reassembly::default();
    let first = |identification| Piece { identification, ..Piece::new(0, true, &payload(8)) };
    for identification in 0..MAX_DATAGRAMS as u16 {
        assert_eq!(add(&mut reassembly, &first(identification), 0), Ok(None));
    }
    // It was touched last, and goes all the same.
    assert_eq!(add(&mut reassembly, &first(0), 0), Ok(None));
    assert_eq!(released(&mut reassembly), (0, vec![]));
    assert_eq!(add(&mut reassembly, &first(1_000), 0), Ok(None));
    assert_eq!(released(&mut reassembly), (0, vec![(DropReason::ReassemblyFull, 2)]));
    let rest = |identification| Piece { identification, ..Piece::new(8, false, &payload(8)) };
    assert!(add(&mut reassembly, &rest(1), 0).unwrap().is_some());
    assert_eq!(add(&mut reassembly, &rest(0), 0), Ok(None));
}

#[test]
fn memory_is_bounded_whatever_the_offsets() {
    let mut reassembly = Reassembly::default();
    let far = |identification| Piece { identification, ..Piece::new(8_184, true, &payload(8)) };
    let mut given_up = 0;
    for identification in 0..250 {
        assert_eq!(add(&mut reassembly, &far(identification), 0), Ok(None));
        let (_, dropped) = released(&mut reassembly);
        assert!(dropped.iter().all(|dropped| *dropped == (DropReason::ReassemblyFull, 1)));
        given_up += dropped.len();
    }
    assert_eq!((reassembly.memory, given_up), (MAX_MEMORY, 250 - MAX_MEMORY / 8_192));
    // One that would have to give up itself is given up itself.
    let more = Piece { identification: given_up as u16, ..Piece::new(8_192, true, &payload(8)) };
    assert_eq!(add(&mut reassembly, &more, 0), Err(DropReason::ReassemblyFull));
    assert_eq!(released(&mut reassembly), (0, vec![(DropReason::ReassemblyFull, 1)]));
}

#[test]
fn what_is_allocated_is_what_is_counted() {
    let mut reassembly = Reassembly::default();
    let data = payload(4_096);
    for start in (0..4_096).step_by(64) {
        let piece = Piece::new(start, true, &data[start..start + 64]);
        assert_eq!(add(&mut reassembly, &piece, 0), Ok(None));
    }
    let datagram = reassembly.waiting.values().next().unwrap();
    assert_eq!((reassembly.memory, datagram.allocated()), (4_096 + 20, 4_096 + 20));
    assert!(size_of::<(Key, Datagram)>() <= 512);
}

#[test]
fn a_datagram_of_too_many_pieces_is_given_up() {
    let data = payload(8 * (MAX_FRAGMENTS + 1));
    let piece = |index: usize| Piece::new(index * 8, index < MAX_FRAGMENTS, &data[index * 8..index * 8 + 8]);
    let mut pieces: Vec<Piece> = (0..=MAX_FRAGMENTS).map(piece).collect();
    // A duplicate takes no place.
    pieces.insert(3, piece(0));
    let (fates, released) = fates(&pieces);
    assert!(fates[..=MAX_FRAGMENTS].iter().all(|fate| *fate == Ok(false)));
    assert_eq!(fates[MAX_FRAGMENTS + 1], Err(DropReason::ReassemblyFull));
    assert_eq!(released, (0, vec![(DropReason::ReassemblyFull, MAX_FRAGMENTS as u64 + 1)]));
}

#[test]
fn a_whole_that_no_buffer_holds_is_given_up_at_once() {
    let mut reassembly = Reassembly::default();
    let data = payload(80);
    let first = Piece::new(0, true, &data[..40]).packet();
    let last = Piece::new(40, false, &data[40..]).packet();
    assert_eq!(add_packet(&mut reassembly, &first, Version::V4, (99, 0)), Ok(None));
    let too_big = DropReason::ReassemblyTooBig;
    assert_eq!(add_packet(&mut reassembly, &last, Version::V4, (99, 0)), Err(too_big));
    assert_eq!(released(&mut reassembly), (0, vec![(too_big, 1)]));
    let mut reassembly = Reassembly::default();
    // The buffer of the one that completes it counts, and the header of the first.
    assert_eq!(add_packet(&mut reassembly, &last, Version::V4, (100, 0)), Ok(None));
    assert_eq!(
        add_packet(&mut reassembly, &first, Version::V4, (100, 0)),
        Ok(Some(whole(&Piece::new(0, true, &[]), &data)))
    );
}

#[test]
fn other_datagrams_fragments_are_kept_apart() {
    let data = payload(16);
    let first = Piece::new(0, true, &data[..8]).packet();
    let last = Piece::new(8, false, &data[8..]).packet();
    // Source, destination, protocol, identification.
    for at in [15, 19, 9, 5] {
        let mut other = last.clone();
        other[at] ^= 4;
        other[10..12].fill(0);
        let sum = Sum::of(&other[..20]).checksum();
        other[10..12].copy_from_slice(&sum);
        let mut reassembly = Reassembly::default();
        assert_eq!(add_packet(&mut reassembly, &first, Version::V4, (ROOM, 0)), Ok(None));
        assert_eq!(add_packet(&mut reassembly, &other, Version::V4, (ROOM, 0)), Ok(None));
        assert!(add_packet(&mut reassembly, &last, Version::V4, (ROOM, 0)).unwrap().is_some());
    }
}

#[test]
fn ipv6_fragments_with_other_next_headers_belong_together_and_the_firsts_counts() {
    let data = payload(16);
    let piece = |start: usize, more| Piece {
        version: Version::V6,
        ..Piece::new(start, more, &data[start..start + 8])
    };
    let mut last = piece(8, false).packet();
    last[40] = 60;
    let mut reassembly = Reassembly::default();
    assert_eq!(add_packet(&mut reassembly, &last, Version::V6, (ROOM, 0)), Ok(None));
    assert_eq!(add(&mut reassembly, &piece(0, true), 0), Ok(Some(whole(&piece(0, true), &data))));
}

#[test]
fn options_and_extensions_of_the_first_stay_in_front() {
    let data = payload(16);
    let mut first = Piece::new(0, true, &data[..8]).packet();
    first.splice(20..20, [1, 1, 1, 0]);
    (first[0], first[3], first[10], first[11]) = (0x46, 32, 0, 0);
    first[6] |= 0x40;
    let sum = Sum::of(&first[..24]).checksum();
    first[10..12].copy_from_slice(&sum);
    let mut reassembly = Reassembly::default();
    assert_eq!(add(&mut reassembly, &Piece::new(8, false, &data[8..]), 0), Ok(None));
    let packet = add_packet(&mut reassembly, &first, Version::V4, (ROOM, 0)).unwrap().unwrap();
    assert!(Sum::of(&packet[..24]).is_intact());
    assert_eq!(
        (packet[0], packet[3], &packet[6..8], &packet[20..24]),
        (0x46, 40, &[0x40, 0][..], &[1, 1, 1, 0][..])
    );
    assert_eq!(packet[24..], data);

    let piece = |start: usize, more| Piece {
        version: Version::V6,
        ..Piece::new(start, more, &data[start..start + 8])
    };
    let options = [44, 0, 1, 4, 0, 0, 0, 0];
    let [first, last] = [piece(0, true), piece(8, false)].map(|piece| {
        let mut packet = piece.packet();
        packet.splice(40..40, options);
        (packet[5], packet[6]) = (packet[5] + 8, 0);
        packet
    });
    assert_eq!(add_packet(&mut reassembly, &first, Version::V6, (ROOM, 0)), Ok(None));
    let packet = add_packet(&mut reassembly, &last, Version::V6, (ROOM, 0)).unwrap().unwrap();
    assert_eq!((&packet[4..7], &packet[40..48]), (&[0, 24, 0][..], &[47, 0, 1, 4, 0, 0, 0, 0][..]));
    assert_eq!(packet[48..], data);
}

#[test]
fn drops_count_for_the_tunnel_that_carried_the_fragments() {
    let mut stats = TunnelStats::default();
    stats.grow(4);
    let packet = Piece::new(0, true, &payload(8)).packet();
    let ip = Ip::check(&packet, Version::V4).unwrap();
    let fragment = Fragment::new(ip, ip.upper_layer(&packet).unwrap(), &packet).unwrap();
    let mut reassembly = Reassembly::default();
    for _ in 0..2 {
        assert!(reassembly.add(&fragment, ROOM, 0, Some(3), &stats).unwrap().is_none());
    }
    reassembly.expire(u64::MAX, &stats);
    let dropped = &stats.slot(3).unwrap().dropped;
    assert_eq!(dropped.non_zero().collect::<Vec<_>>(), [(DropReason::ReassemblyTimeout, 2)]);
}
