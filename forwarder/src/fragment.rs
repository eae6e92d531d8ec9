//! Fragments of IP packets (RFC 791 §3.2, RFC 8200 §4.5): where a packet is cut, and the header of each piece.

use crate::wire::ipv4::{self, Ipv4};
use crate::wire::ipv6::Ipv6;
use crate::wire::ipv6_fragment::{Ipv6Fragment, Ipv6FragmentRepr};
use crate::wire::protocol;
use arrayvec::ArrayVec;
use std::ops::Range;

/// The longest header of a piece: IPv4 with options; IPv6 with its fragment header has 48 bytes.
const MAX_HEADER: usize = 60;

/// A piece: its header, and where its data are in the whole packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The header, complete.
    pub header: ArrayVec<u8, MAX_HEADER>,
    /// The data behind it.
    pub data: Range<usize>,
}

/// The pieces of an IPv4 packet, first to last, of at most `limit` bytes each. Its don't-fragment bit is not looked at;
/// all pieces have it clear. Options that are to be copied stand in every piece, the others in the first only. Nothing
/// where `limit` leaves no room for data.
pub fn ipv4(packet: &[u8], limit: usize, identification: u16) -> impl Iterator<Item = Piece> + '_ {
    let header = Ipv4::new(packet).ok();
    let header_len = header.map_or(0, Ipv4::header_len);
    let field = header.map_or(0, Ipv4::fragment);
    let first = packet.get(..header_len).unwrap_or_default();
    let (base, more_behind) = (field & ipv4::OFFSET, field & ipv4::MF != 0);
    let later = copied_options(first);
    let mut next = header_len;
    std::iter::from_fn(move || {
        if next >= packet.len() {
            return None;
        }
        let own: &[u8] = if next == header_len { first } else { &later };
        let data = next..next + piece_len(packet.len() - next, limit, own.len())?;
        next = data.end;
        let more = if more_behind || next < packet.len() { ipv4::MF } else { 0 };
        let offset = base + ((data.start - header_len) / 8) as u16;
        let mut header: ArrayVec<u8, MAX_HEADER> = own.iter().copied().take(MAX_HEADER).collect();
        ipv4::set_fragment(&mut header, data.len(), identification, more | offset & ipv4::OFFSET);
        Some(Piece { header, data })
    })
}

/// The header of later fragments: that of the first without the options that are not copied (RFC 791 §3.1).
fn copied_options(first: &[u8]) -> ArrayVec<u8, MAX_HEADER> {
    const COPIED: u8 = 0x80;
    let mut header: ArrayVec<u8, MAX_HEADER> = first.iter().copied().take(Ipv4::LEN).collect();
    let mut options = first.get(Ipv4::LEN..).unwrap_or_default();
    loop {
        let len = match options {
            [] | [0, ..] => break,
            [1, ..] => 1,
            [_, len, ..] if *len >= 2 => usize::from(*len),
            _ => break,
        };
        let Some((option, rest)) = options.split_at_checked(len) else { break };
        if option.first().is_some_and(|kind| kind & COPIED != 0) {
            header.extend(option.iter().copied());
        }
        options = rest;
    }
    while header.len() % 4 != 0 {
        header.push(0);
    }
    header
}

/// The pieces of an IPv6 packet without extension headers in front of its payload, first to last, of at most `limit`
/// bytes each: the fixed header and a fragment header in each. Nothing where `limit` leaves no room for data.
pub fn ipv6(packet: &[u8], limit: usize, identification: u32) -> impl Iterator<Item = Piece> + '_ {
    let mut next = Ipv6::LEN;
    std::iter::from_fn(move || {
        let fixed: &[u8; Ipv6::LEN] = packet.first_chunk()?;
        if next >= packet.len() {
            return None;
        }
        let len = piece_len(packet.len() - next, limit, Ipv6::LEN + Ipv6Fragment::LEN)?;
        let data = next..next + len;
        next = data.end;
        let more = next < packet.len();
        let offset = (data.start - Ipv6::LEN) as u16;
        let mut header: ArrayVec<u8, MAX_HEADER> = fixed.iter().copied().collect();
        let next_header = std::mem::replace(header.get_mut(6)?, protocol::FRAGMENT);
        let payload_len = (Ipv6Fragment::LEN + len) as u16;
        for (to, from) in header.iter_mut().skip(4).zip(payload_len.to_be_bytes()) {
            *to = from;
        }
        header.extend(Ipv6FragmentRepr { next_header, offset, more, identification }.emit());
        Some(Piece { header, data })
    })
}

/// Bytes of data in a piece: all that is left where that fits, else a multiple of eight. `None` where there is no room.
fn piece_len(left: usize, limit: usize, header_len: usize) -> Option<usize> {
    let room = limit.checked_sub(header_len)?;
    let len = if left <= room { left } else { room & !7 };
    (len > 0).then_some(len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::checksum::Sum;
    use crate::wire::ipv4::Ipv4Repr;
    use crate::wire::ipv6::Ipv6Repr;
    use proptest::prelude::*;
    use std::net::Ipv6Addr;

    fn ipv4_packet(options: &[u8], fragment: u16, data: &[u8]) -> Vec<u8> {
        let mut header = Ipv4Repr {
            traffic_class: 0,
            total_len: (20 + options.len() + data.len()) as u16,
            identification: 7,
            fragment,
            ttl: 64,
            protocol: 17,
            source: [192, 0, 2, 1].into(),
            destination: [192, 0, 2, 2].into(),
        }
        .emit()
        .to_vec();
        header.extend(options);
        header[0] = 0x40 | (header.len() / 4) as u8;
        [header, data.to_vec()].concat()
    }

    proptest! {
        #[test]
        fn ipv4_pieces_make_the_whole(data in prop::collection::vec(any::<u8>(), 1..3000), limit in 28usize..1600, base in 0u16..2000, more: bool) {
            let packet = ipv4_packet(&[], base | if more { ipv4::MF } else { 0 }, &data);
            let mut whole: Vec<u8> = Vec::new();
            let pieces: Vec<_> = ipv4(&packet, limit, 9).collect();
            for (index, piece) in pieces.iter().enumerate() {
                let bytes = [piece.header.as_slice(), &packet[piece.data.clone()]].concat();
                let header = ipv4::check(&bytes).unwrap();
                prop_assert!(bytes.len() <= limit && header.total_len() == bytes.len());
                prop_assert_eq!(usize::from(header.fragment() & ipv4::OFFSET), usize::from(base) + whole.len() / 8);
                prop_assert_eq!(header.fragment() & ipv4::MF != 0, more || index + 1 < pieces.len());
                prop_assert_eq!(header.identification(), 9);
                whole.extend(&bytes[20..]);
            }
            prop_assert_eq!(whole, data);
        }

        #[test]
        fn ipv6_pieces_make_the_whole(data in prop::collection::vec(any::<u8>(), 1..3000), limit in 56usize..1600) {
            let header = Ipv6Repr {
                traffic_class: 0xb8, flow_label: 5, payload_len: data.len() as u16, next_header: 47, hop_limit: 3,
                source: Ipv6Addr::LOCALHOST, destination: Ipv6Addr::LOCALHOST,
            };
            let packet = [header.emit().as_slice(), &data].concat();
            let mut whole: Vec<u8> = Vec::new();
            let pieces: Vec<_> = ipv6(&packet, limit, 0xdead_beef).collect();
            for (index, piece) in pieces.iter().enumerate() {
                let bytes = [piece.header.as_slice(), &packet[piece.data.clone()]].concat();
                prop_assert!(bytes.len() <= limit);
                prop_assert_eq!(crate::wire::ipv6::check(&bytes).unwrap().total_len(), bytes.len());
                prop_assert_eq!((bytes[6], bytes[40], bytes[41]), (44, 47, 0));
                let word = u16::from_be_bytes([bytes[42], bytes[43]]);
                prop_assert_eq!(usize::from(word & 0xfff8), whole.len());
                prop_assert_eq!(word & 1 == 1, index + 1 < pieces.len());
                prop_assert_eq!(&bytes[44..48], &[0xde, 0xad, 0xbe, 0xef]);
                whole.extend(&bytes[48..]);
            }
            prop_assert_eq!(whole, data);
        }
    }

    #[test]
    fn only_copied_options_stand_in_later_pieces() {
        // No operation, record route (not copied), router alert (copied), end.
        let options = [1, 7, 7, 4, 0, 0, 0, 0, 148, 4, 0, 0];
        let packet = ipv4_packet(&options, 0, &[1; 64]);
        let pieces: Vec<_> = ipv4(&packet, 68, 1).collect();
        assert_eq!(pieces[0].header.len(), 32);
        assert_eq!(pieces[1].header.len(), 24);
        assert_eq!(&pieces[1].header[20..], &[148, 4, 0, 0]);
        assert_eq!(pieces[1].header[0], 0x46);
        assert!(pieces.iter().all(|piece| Sum::of(&piece.header).is_intact()));
    }

    #[test]
    fn no_room_makes_no_pieces() {
        assert_eq!(ipv4(&ipv4_packet(&[], 0, &[1; 64]), 27, 1).count(), 0);
        assert_eq!(ipv6(&[0x60; 100], 55, 1).count(), 0);
    }
}
