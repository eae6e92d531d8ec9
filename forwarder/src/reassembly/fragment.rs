//! A fragment as its headers describe it, and what tells those of one datagram from others.

use crate::tunnel::ecn;
use crate::verdict::DropReason;
use crate::wire::gre::GreRepr;
use crate::wire::ip::Ip;
use crate::wire::ipv4::{self, Ipv4};
use crate::wire::ipv6::{self, Ipv6, UpperLayer};
use crate::wire::ipv6_fragment::{Ipv6Fragment, Ipv6FragmentRepr};
use crate::wire::udp::Udp;
use crate::wire::{protocol, tail};
use std::net::IpAddr;

/// What the fragments of one datagram have in common. IPv6 tells them by identification alone, so there the protocol is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    identification: u32,
}

/// A fragment as its headers describe it.
#[derive(Clone, Copy, Debug)]
pub struct Fragment<'a> {
    pub(super) key: Key,
    pub(super) ecn: u8,
    pub(super) header: &'a [u8], // all in front of the data but the IPv6 fragment header
    pub(super) announced: Option<(usize, u8)>, // where the header says what follows it, and what follows in the whole
    pub(super) data: &'a [u8],
    pub(super) start: usize,
    pub(super) more: bool,
    pub(super) lacks_headers: bool, // the first, and it ends within them
}

impl<'a> Fragment<'a> {
    /// Of a packet that is a fragment, cut to its length: its checked header, and what that leads to.
    ///
    /// # Errors
    /// [`DropReason::ReassemblyInvalid`] for one that has no fragment header after all.
    pub fn new(ip: Ip<'a>, upper: UpperLayer, packet: &'a [u8]) -> Result<Self, DropReason> {
        let lacks_headers =
            !upper.is_later_fragment && !holds_headers(upper.protocol, tail(packet, upper.offset));
        let fragment = match ip {
            Ip::V4(header) => {
                let (header_len, field) = (header.header_len(), header.fragment());
                Fragment {
                    key: Key {
                        source: ip.source(),
                        destination: ip.destination(),
                        protocol: header.protocol(),
                        identification: header.identification().into(),
                    },
                    ecn: ip.traffic_class() & ecn::MASK,
                    header: packet.get(..header_len).ok_or(DropReason::Truncated)?,
                    announced: None,
                    data: tail(packet, header_len),
                    start: usize::from(field & ipv4::OFFSET) * 8,
                    more: field & ipv4::MF != 0,
                    lacks_headers,
                }
            }
            Ip::V6(_) => {
                let place = ipv6::fragment_place(packet).ok_or(DropReason::ReassemblyInvalid)?;
                let field = Ipv6FragmentRepr::parse(Ipv6Fragment::new(tail(packet, place.offset))?);
                Fragment {
                    key: Key {
                        source: ip.source(),
                        destination: ip.destination(),
                        protocol: 0,
                        identification: field.identification,
                    },
                    ecn: ip.traffic_class() & ecn::MASK,
                    header: packet.get(..place.offset).ok_or(DropReason::Truncated)?,
                    announced: Some((place.announced_at, field.next_header)),
                    data: tail(packet, place.offset + Ipv6Fragment::LEN),
                    start: field.offset.into(),
                    more: field.more,
                    lacks_headers,
                }
            }
        };
        Ok(fragment)
    }

    pub(super) fn end(&self) -> usize {
        self.start + self.data.len()
    }

    /// The header that the whole datagram has, of its first fragment.
    pub(super) fn header(&self) -> Vec<u8> {
        let mut header = self.header.to_vec();
        if let Some((at, next_header)) = self.announced
            && let Some(byte) = header.get_mut(at)
        {
            *byte = next_header;
        }
        header
    }
}

/// Whether a first fragment holds all headers that its tunnel is recognised by. One that does not is refused: filters on the
/// way cannot have seen what it is either (RFC 1858 §3, RFC 7112 §5).
fn holds_headers(protocol: u8, payload: &[u8]) -> bool {
    match protocol {
        protocol::UDP => Udp::new(payload).is_ok(),
        protocol::GRE => GreRepr::parse(payload) != Err(DropReason::Truncated),
        protocol::IPV4 => Ipv4::new(payload).is_ok(),
        protocol::IPV6 => Ipv6::new(payload).is_ok(),
        _ => false,
    }
}
