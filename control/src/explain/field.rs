//! The fields of one header: where each stands, what it is called in its RFC, and its value.
//!
//! Values are read through the forwarder's own views of headers; the bits beside them only say which digits of a dump
//! belong to a field.

use crate::plan::mac;
use forwarder::tunnel::encap::HeaderKind;
use forwarder::verdict::DropReason;
use forwarder::wire::ethernet::Ethernet;
use forwarder::wire::gre::{self, Gre, GreRepr};
use forwarder::wire::gue::Gue;
use forwarder::wire::ipv4::{self, Ipv4};
use forwarder::wire::ipv6::Ipv6;
use forwarder::wire::udp::Udp;
use forwarder::wire::vlan::Vlan;
use forwarder::wire::{ethertype, protocol};
use serde_json::{Value, json};
use std::ops::Range;

/// A field and its value.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Field {
    /// Its name.
    pub(super) name: &'static str,
    /// Its bits, counted from the header's first.
    pub(super) bits: Range<usize>,
    /// Its value: a number, or the usual text of an address.
    pub(super) value: Value,
    /// The value in words, where the number alone says little.
    pub(super) words: Option<String>,
}

impl Field {
    fn new(name: &'static str, bits: Range<usize>, value: impl Into<Value>) -> Self {
        Field { name, bits, value: value.into(), words: None }
    }

    fn with_words(self, words: impl Into<String>) -> Self {
        Field { words: Some(words.into()), ..self }
    }

    /// Its bits in `header`.
    pub(super) fn of(&self, header: &[u8]) -> Vec<bool> {
        let bit = |at: usize| header.get(at / 8).is_some_and(|byte| byte >> (7 - at % 8) & 1 == 1);
        self.bits.clone().map(bit).collect()
    }
}

/// A header's name.
pub(super) fn name(kind: HeaderKind) -> &'static str {
    match kind {
        HeaderKind::Ethernet => "ethernet",
        HeaderKind::Vlan => "vlan",
        HeaderKind::Ipv4 => "ipv4",
        HeaderKind::Ipv6 => "ipv6",
        HeaderKind::Udp => "udp",
        HeaderKind::Gue => "gue",
        HeaderKind::Gre => "gre",
    }
}

/// Every field of the header in `bytes`, in order and without gaps.
///
/// # Errors
/// Those of the header's view: `bytes` that are no such header.
pub(super) fn fields(kind: HeaderKind, bytes: &[u8]) -> Result<Vec<Field>, DropReason> {
    Ok(match kind {
        HeaderKind::Ethernet => ethernet(Ethernet::new(bytes)?),
        HeaderKind::Vlan => vlan(Vlan::new(bytes)?),
        HeaderKind::Ipv4 => ipv4(Ipv4::new(bytes)?),
        HeaderKind::Ipv6 => ipv6(Ipv6::new(bytes)?),
        HeaderKind::Udp => udp(Udp::new(bytes)?),
        HeaderKind::Gue => gue(Gue::new(bytes)?),
        HeaderKind::Gre => gre(bytes)?,
    })
}

fn ethernet(header: Ethernet<'_>) -> Vec<Field> {
    vec![
        Field::new("destination", 0..48, mac(header.destination())),
        Field::new("source", 48..96, mac(header.source())),
        payload_type("type", 96, header.ethertype()),
    ]
}

fn vlan(tag: Vlan<'_>) -> Vec<Field> {
    vec![
        Field::new("priority", 0..4, tag.priority()),
        Field::new("id", 4..16, tag.id()),
        payload_type("type", 16, tag.ethertype()),
    ]
}

fn ipv4(header: Ipv4<'_>) -> Vec<Field> {
    let fragment = header.fragment();
    let flag = |mask: u16| u8::from(fragment & mask != 0);
    vec![
        Field::new("version", 0..4, header.version()),
        Field::new("header_length", 4..8, header.header_len()).with_words("bytes, as 5 words of 4"),
        Field::new("dscp", 8..14, header.traffic_class() >> 2),
        ecn(14, header.traffic_class()),
        Field::new("total_length", 16..32, header.total_len()),
        Field::new("identification", 32..48, header.identification()),
        Field::new("reserved", 48..49, flag(!(ipv4::DF | ipv4::MF | ipv4::OFFSET))),
        Field::new("dont_fragment", 49..50, flag(ipv4::DF)),
        Field::new("more_fragments", 50..51, flag(ipv4::MF)),
        Field::new("fragment_offset", 51..64, fragment & ipv4::OFFSET),
        Field::new("ttl", 64..72, header.ttl()),
        payload_protocol("protocol", 72, header.protocol()),
        Field::new("header_checksum", 80..96, u16::from_be_bytes(header.checksum())),
        Field::new("source", 96..128, header.source().to_string()),
        Field::new("destination", 128..160, header.destination().to_string()),
    ]
}

fn ipv6(header: Ipv6<'_>) -> Vec<Field> {
    vec![
        Field::new("version", 0..4, header.version()),
        Field::new("dscp", 4..10, header.traffic_class() >> 2),
        ecn(10, header.traffic_class()),
        Field::new("flow_label", 12..32, header.flow_label()),
        Field::new("payload_length", 32..48, header.payload_len()),
        payload_protocol("next_header", 48, header.next_header()),
        Field::new("hop_limit", 56..64, header.hop_limit()),
        Field::new("source", 64..192, header.source().to_string()),
        Field::new("destination", 192..320, header.destination().to_string()),
    ]
}

fn udp(header: Udp<'_>) -> Vec<Field> {
    let checksum = u16::from_be_bytes(header.checksum());
    let field = Field::new("checksum", 48..64, checksum);
    vec![
        Field::new("source_port", 0..16, header.source_port()),
        Field::new("destination_port", 16..32, header.destination_port()),
        Field::new("length", 32..48, header.length()),
        if checksum == 0 { field.with_words("none") } else { field },
    ]
}

fn gue(header: Gue<'_>) -> Vec<Field> {
    vec![
        Field::new("variant", 0..2, header.variant()),
        Field::new("control", 2..3, u8::from(header.is_control())),
        Field::new("header_length", 3..8, header.header_len())
            .with_words("bytes, 0 words of 4 behind the first"),
        payload_protocol("protocol", 8, header.protocol()),
        Field::new("flags", 16..32, header.flags()),
    ]
}

fn gre(bytes: &[u8]) -> Result<Vec<Field>, DropReason> {
    let repr = GreRepr::parse(bytes)?;
    let flags = Gre::new(bytes)?.flags();
    let flag = |mask: u16| u8::from(flags & mask != 0);
    let mut fields = vec![
        Field::new("checksum_present", 0..1, flag(gre::CHECKSUM)),
        Field::new("routing_present", 1..2, flag(gre::ROUTING)),
        Field::new("key_present", 2..3, flag(gre::KEY)),
        Field::new("sequence_present", 3..4, flag(gre::SEQUENCE)),
        Field::new("reserved", 4..13, flags >> 3 & 0x01ff),
        Field::new("version", 13..16, flags & gre::VERSION),
        payload_type("protocol_type", 16, repr.protocol_type),
    ];
    let mut at = 32;
    if repr.has_checksum {
        let word = bytes.get(4..8).and_then(|word| word.first_chunk::<4>()).copied().unwrap_or_default();
        let [c0, c1, r0, r1] = word;
        fields.push(Field::new("checksum", at..at + 16, u16::from_be_bytes([c0, c1])));
        fields.push(Field::new("reserved1", at + 16..at + 32, u16::from_be_bytes([r0, r1])));
        at += 32;
    }
    for (name, value) in [("key", repr.key), ("sequence", repr.sequence)] {
        if let Some(value) = value {
            fields.push(Field::new(name, at..at + 32, value));
            at += 32;
        }
    }
    Ok(fields)
}

fn ecn(at: usize, traffic_class: u8) -> Field {
    let value = traffic_class & 3;
    let words = ["not-ECT", "ECT(1)", "ECT(0)", "CE"].get(usize::from(value)).copied().unwrap_or_default();
    Field::new("ecn", at..at + 2, value).with_words(words)
}

fn payload_protocol(name: &'static str, at: usize, number: u8) -> Field {
    let field = Field::new(name, at..at + 8, number);
    match number {
        protocol::IPV4 => field.with_words("IPv4"),
        protocol::IPV6 => field.with_words("IPv6"),
        protocol::UDP => field.with_words("UDP"),
        protocol::GRE => field.with_words("GRE"),
        _ => field,
    }
}

fn payload_type(name: &'static str, at: usize, number: u16) -> Field {
    let words = match number {
        ethertype::IPV4 => "0x0800, IPv4".to_owned(),
        ethertype::IPV6 => "0x86dd, IPv6".to_owned(),
        ethertype::VLAN => "0x8100, 802.1Q tag".to_owned(),
        other => format!("{other:#06x}"),
    };
    Field { words: Some(words), ..Field::new(name, at..at + 16, json!(number)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use HeaderKind::*;

    #[test]
    fn fields_cover_their_header_without_gap_or_overlap() {
        for (kind, bytes) in [
            (Ethernet, vec![0; 14]),
            (Vlan, vec![0; 4]),
            (Ipv4, vec![0x45; 20]),
            (Ipv6, vec![0x60; 40]),
            (Udp, vec![0; 8]),
            (Gue, vec![0; 4]),
            (Gre, vec![0; 4]),
            (Gre, [[0xb0, 0, 8, 0].as_slice(), &[0; 12]].concat()),
            (Gre, [[0x30, 0, 8, 0].as_slice(), &[0; 8]].concat()),
        ] {
            let mut end = 0;
            for field in fields(kind, &bytes).unwrap() {
                assert_eq!(field.bits.start, end, "{kind:?} {}", field.name);
                end = field.bits.end;
            }
            assert_eq!(end, bytes.len() * 8, "{kind:?}");
        }
    }

    #[test]
    fn a_value_is_what_its_bits_say() {
        // No byte like its neighbour, so that a field that is one bit off shows.
        let bytes: Vec<u8> = (0..40).map(|at| 0x5b_u8.wrapping_mul(at + 3)).collect();
        for kind in [Vlan, Ipv4, Ipv6, Udp] {
            for field in fields(kind, &bytes).unwrap() {
                let bits = field.of(&bytes).iter().fold(0_u128, |sum, bit| sum << 1 | u128::from(*bit));
                match field.name {
                    "header_length" => assert_eq!(field.value, json!(bits * 4)),
                    "source" | "destination" => {}
                    name => assert_eq!(field.value, json!(bits), "{kind:?} {name}"),
                }
            }
        }
    }
}
