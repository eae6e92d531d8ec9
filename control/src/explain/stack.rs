//! The headers that one way of a tunnel puts in front of a packet, and which of their fields depend on that packet.
//!
//! The forwarder's own code is asked, not told: the compiled image is put in front of a handful of packets that differ in
//! all that a header may take from what it carries. A field that comes out the same every time is the configuration's;
//! one that differs is filled in for each packet, by the rule that stands beside it.

use super::field::{self, Field};
use super::origin::Origins;
use crate::config::Origin;
use forwarder::frame::{Frame, HEADROOM};
use forwarder::stats::{Trail, TunnelStats};
use forwarder::table::Df;
use forwarder::tunnel::encap::{HeaderKind, Image, Part};
use forwarder::tunnel::flow::FlowHash;
use forwarder::tunnel::identification::Identifications;
use forwarder::tunnel::layer::Inherited;
use forwarder::verdict::DropReason;
use forwarder::wire::ip::{Ip, Version};
use forwarder::wire::ipv4::{self, Ipv4, Ipv4Repr};
use forwarder::wire::ipv6::Ipv6Repr;
use forwarder::wire::protocol;
use std::net::{Ipv4Addr, Ipv6Addr};

/// A header of a stack.
#[derive(Clone, Debug)]
pub(super) struct Header {
    /// Its name.
    pub(super) name: &'static str,
    /// The name of the tunnel that it belongs to; `None` for the link's.
    pub(super) tunnel: Option<String>,
    /// Bytes in front of it.
    pub(super) offset: usize,
    /// Its bytes, hexadecimal, a dot for each digit that depends on the packet or the device.
    pub(super) digits: String,
    /// Its fields, in order.
    pub(super) fields: Vec<Shown>,
}

/// A field as it is shown.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    /// Name, place and a value.
    pub(super) field: Field,
    /// Where the value comes from.
    pub(super) content: Content,
    /// The line that decides; `None`: no line does, the protocol or the packet does.
    pub(super) origin: Option<Origin>,
    /// Its digits; its bits where it does not begin and end with a digit.
    pub(super) dump: String,
}

/// Where the value of a field comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// It is the same in every packet.
    Fixed,
    /// It depends on the packet, by this rule.
    Packet(&'static str),
    /// It is read from the device.
    Device(&'static str),
}

/// The headers of `image`, outermost first. `stats` has a slot for each tunnel: sequence numbers are counted there.
///
/// # Errors
/// What the forwarder says where it cannot put the image in front of a packet.
pub(super) fn headers(
    image: &Image,
    stats: &TunnelStats,
    origins: &Origins<'_>,
) -> Result<Vec<Header>, DropReason> {
    let samples = filled(image, stats)?;
    let parts = image.parts();
    parts.iter().enumerate().map(|(at, part)| header(at, part, &parts, image, &samples, origins)).collect()
}

fn header(
    at: usize,
    part: &Part,
    parts: &[Part],
    image: &Image,
    samples: &[Vec<u8>],
    origins: &Origins<'_>,
) -> Result<Header, DropReason> {
    let bytes = |sample: &'_ Vec<u8>| sample.get(part.range.clone()).unwrap_or_default().to_vec();
    let all: Vec<Vec<u8>> = samples.iter().map(bytes).collect();
    let first = all.first().cloned().unwrap_or_default();
    let mut fields = Vec::new();
    let mut digits = hex(&first);
    for field in field::fields(part.kind, &first)? {
        let bits = field.of(&first);
        let is_fixed = all.iter().all(|other| field.of(other) == bits);
        let content = match (part.kind, field.name) {
            _ if !is_fixed => Content::Packet(rule(part.kind, field.name, df(part, origins))),
            (HeaderKind::Ethernet, "source") if !origins.has_mac(image) => {
                Content::Device("the device's own")
            }
            _ => Content::Fixed,
        };
        if content != Content::Fixed {
            let touched = field.bits.start / 4..field.bits.end.div_ceil(4);
            digits =
                digits.chars().enumerate().map(|(at, digit)| blank(touched.contains(&at), digit)).collect();
        }
        let dump = dump(&field, &bits, content);
        let origin = origins.of(at, parts, &field, is_fixed, image);
        fields.push(Shown { field, content, origin, dump });
    }
    let tunnel = part.slot.and_then(|slot| origins.tunnel(slot)).map(|(_, tunnel)| tunnel.name.clone());
    Ok(Header { name: field::name(part.kind), tunnel, offset: part.range.start, digits, fields })
}

fn df(part: &Part, origins: &Origins<'_>) -> Df {
    part.slot.and_then(|slot| origins.tunnel(slot)).map_or(Df::Set, |(_, tunnel)| tunnel.df)
}

fn blank(hidden: bool, digit: char) -> char {
    if hidden { '.' } else { digit }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A field's digits in groups of two bytes, or its bits.
fn dump(field: &Field, bits: &[bool], content: Content) -> String {
    let hidden = content != Content::Fixed;
    if !field.bits.start.is_multiple_of(4) || !field.bits.len().is_multiple_of(4) {
        let text: String = bits.iter().map(|bit| blank(hidden, if *bit { '1' } else { '0' })).collect();
        return format!("bits {text}");
    }
    let mut text = String::new();
    for (at, digit) in bits.chunks(4).enumerate() {
        if at > 0 && at.is_multiple_of(4) {
            text.push(' ');
        }
        let value = digit.iter().fold(0, |sum, bit| sum << 1 | u32::from(*bit));
        text.push(blank(hidden, char::from_digit(value, 16).unwrap_or('?')));
    }
    text
}

/// How a field is filled in that depends on the packet.
fn rule(kind: HeaderKind, name: &str, df: Df) -> &'static str {
    match (kind, name) {
        (_, "dscp") => "the inner packet's",
        (_, "ecn") => "the inner packet's (RFC 6040)",
        (_, "ttl" | "hop_limit") => "the inner TTL after it was lowered",
        (_, "total_length") => "of this header and all behind it",
        (_, "payload_length") => "of all behind this header",
        (_, "length") => "from this header on",
        (_, "identification") if df == Df::Inherit => "0 with dont_fragment, else counted",
        (_, "identification") => "counted by each worker",
        (_, "dont_fragment") => "the inner IPv4 packet's; 0 for IPv6",
        (_, "header_checksum") => "over this header",
        (HeaderKind::Udp, "checksum") => "over addresses and all from here on",
        (_, "checksum") => "over all from here on",
        (_, "flow_label") => "from the inner flow, 1 to 0xfffff",
        (_, "source_port") => "from the inner flow, 49152 to 65535",
        (_, "sequence") => "counted by tunnel and worker",
        (_, "protocol_type") => "0x0800 for IPv4, 0x86dd for IPv6",
        (_, "protocol" | "next_header") => "4 for IPv4, 41 for IPv6",
        _ => "from the packet",
    }
}

/// `image` as it was put in front of packets that have nothing in common.
fn filled(image: &Image, stats: &TunnelStats) -> Result<Vec<Vec<u8>>, DropReason> {
    let len = image.link_len() + image.overhead();
    let mut identifications = Identifications::new(0, 1);
    let mut heads = Vec::new();
    for (number, packet) in (0_u16..).zip(packets()) {
        let version = if number % 2 == 0 { Version::V4 } else { Version::V6 };
        let ip = Ip::check(&packet, version)?;
        let flow = FlowHash(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(u64::from(number) + 1));
        let mut buffer = vec![0; HEADROOM + len + packet.len()];
        let start = buffer.len() - packet.len();
        if let Some(room) = buffer.get_mut(start..) {
            room.copy_from_slice(&packet);
        }
        let mut frame = Frame::new(&mut buffer, start, packet.len());
        let inherited = Inherited::new(ip);
        image.apply(&mut frame, inherited, flow, &mut identifications, stats, &mut Trail::default())?;
        heads.push(frame.bytes().get(..len).unwrap_or_default().to_vec());
    }
    Ok(heads)
}

/// Packets of both families in turn that differ in length, content, DSCP, ECN, TTL, flow and the don't-fragment bit.
fn packets() -> impl Iterator<Item = Vec<u8>> {
    (0_u8..8).map(|number| {
        let payload = vec![number.wrapping_mul(37); 8 + usize::from(number) * 3];
        let traffic_class = number.wrapping_mul(29);
        let ttl = 60 + number;
        let header = if number % 2 == 0 {
            let header = Ipv4Repr {
                traffic_class,
                total_len: (Ipv4::LEN + payload.len()) as u16,
                identification: 0,
                fragment: if number % 4 == 0 { ipv4::DF } else { 0 },
                ttl,
                protocol: protocol::UDP,
                source: Ipv4Addr::new(192, 0, 2, number),
                destination: Ipv4Addr::new(198, 51, 100, number),
            };
            header.emit().to_vec()
        } else {
            let header = Ipv6Repr {
                traffic_class,
                flow_label: 0,
                payload_len: payload.len() as u16,
                next_header: protocol::UDP,
                hop_limit: ttl,
                source: Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(number)),
                destination: Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, u16::from(number)),
            };
            header.emit().to_vec()
        };
        [header, payload].concat()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_packets_differ_in_everything_that_a_header_may_inherit() {
        let packets: Vec<Vec<u8>> = packets().collect();
        let ips: Vec<Ip<'_>> = (0..)
            .zip(&packets)
            .map(|(at, packet)| {
                Ip::check(packet, if at % 2 == 0 { Version::V4 } else { Version::V6 }).unwrap()
            })
            .collect();
        let ecns: std::collections::HashSet<u8> = ips.iter().map(|ip| ip.traffic_class() & 3).collect();
        assert_eq!(ecns.len(), 4);
        let dscps: std::collections::HashSet<u8> = ips.iter().map(|ip| ip.traffic_class() >> 2).collect();
        assert_eq!(dscps.len(), packets.len());
        assert!(ips.iter().any(|ip| ip.dont_fragment()) && ips.iter().any(|ip| !ip.dont_fragment()));
    }
}
