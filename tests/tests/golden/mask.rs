//! Fields that culvert chooses freely: set to one value on both sides before packets are compared, and held to their
//! own rules here.
//!
//! Such fields are those of the headers that encapsulation made: the ones outside the innermost IP header; with
//! `ipv4.own_identification` that one as well, where culvert made the packet or cut it. A checksum
//! that covers a masked field is masked with it where it is not zero; that it is right is verified for every packet
//! anyway.

use std::collections::HashMap;
use tests::capture::Link;
use tests::headers::{Header, Kind, walk};

/// The identification of the innermost header.
const OWN: &str = "ipv4.own_identification";

/// The fields that a row names, and what was seen of them.
#[derive(Debug, Default)]
pub(crate) struct Masks {
    fields: Vec<String>,
    by_flow: HashMap<(Vec<u8>, usize), u32>,
    identifications: HashMap<(Vec<u8>, u16), usize>,
}

impl Masks {
    pub(crate) fn new(fields: Vec<String>) -> Self {
        for field in &fields {
            let known = ["ipv4.identification", OWN, "udp.source_port", "ipv6.flow_label"];
            assert!(known.contains(&field.as_str()), "row.toml: mask {field:?} is none of {known:?}");
        }
        Masks { fields, ..Masks::default() }
    }

    /// How many different values of entropy were seen, source ports and flow labels together.
    pub(crate) fn entropy(&self) -> usize {
        self.by_flow.values().collect::<std::collections::HashSet<_>>().len()
    }

    fn has(&self, field: &str) -> bool {
        self.fields.iter().any(|other| other == field)
    }

    /// Sets the masked fields of `bytes` to a fixed value.
    pub(crate) fn apply(&self, link: Link, bytes: &mut [u8], ports: &[u16]) {
        if self.fields.is_empty() {
            return;
        }
        let mut is_covering = false;
        let headers = walk(link, bytes, ports);
        let innermost = headers.get(outer(&headers).len()).filter(|header| header.kind == Kind::Ipv4);
        if let Some(header) = innermost.filter(|_| self.has(OWN)) {
            bytes[header.start + 4..header.start + 6].fill(0);
            bytes[header.start + 10..header.start + 12].fill(0xff);
            is_covering = true;
        }
        for header in outer(&headers).iter().rev() {
            let at = header.start;
            match header.kind {
                Kind::Ipv4 if self.has("ipv4.identification") => {
                    bytes[at + 4..at + 6].fill(0);
                    bytes[at + 10..at + 12].fill(0xff);
                    is_covering = true;
                }
                Kind::Ipv6 if self.has("ipv6.flow_label") => {
                    bytes[at + 1] &= 0xf0;
                    bytes[at + 2..at + 4].fill(0);
                    is_covering = true;
                }
                Kind::Udp => {
                    if self.has("udp.source_port") {
                        bytes[at..at + 2].fill(0);
                        is_covering = true;
                    }
                    if is_covering && bytes[at + 6..at + 8] != [0, 0] {
                        bytes[at + 6..at + 8].fill(0xff);
                    }
                }
                Kind::Gre if is_covering && bytes[at] & 0x80 != 0 => bytes[at + 4..at + 6].fill(0xff),
                _ => {}
            }
        }
    }

    /// Holds the masked fields of a packet that culvert sent to their rules. Returns what is wrong.
    pub(crate) fn check(&mut self, number: usize, link: Link, bytes: &[u8], ports: &[u16]) -> Vec<String> {
        let mut wrong = Vec::new();
        let headers = walk(link, bytes, ports);
        let flow = flow(&headers, bytes);
        let word = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        for (index, header) in outer(&headers).iter().enumerate() {
            let at = header.start;
            let value = match header.kind {
                Kind::Udp if self.has("udp.source_port") => {
                    let port = word(at);
                    if port < 49152 {
                        wrong.push(format!("source port {port} is outside 49152..65535"));
                    }
                    u32::from(port)
                }
                Kind::Ipv6 if self.has("ipv6.flow_label") => {
                    let label = u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap()) & 0xf_ffff;
                    if label == 0 {
                        wrong.push("flow label is 0".to_owned());
                    }
                    label
                }
                Kind::Ipv4 if self.has("ipv4.identification") && bytes[at + 6] & 0x40 == 0 => {
                    let key = (bytes[at + 12..at + 20].to_vec(), word(at + 4));
                    match self.identifications.insert(key, number) {
                        Some(other) if other != number => wrong.push(format!(
                            "identification {} without DF is that of packet {other}, too",
                            word(at + 4)
                        )),
                        _ => {}
                    }
                    continue;
                }
                _ => continue,
            };
            if *self.by_flow.entry((flow.clone(), index)).or_insert(value) != value {
                wrong.push(format!("{value} differs from that of an earlier packet of the same flow"));
            }
        }
        wrong
    }
}

/// The headers outside the innermost IP header.
fn outer(headers: &[Header]) -> &[Header] {
    let inner =
        headers.iter().rposition(|header| matches!(header.kind, Kind::Ipv4 | Kind::Ipv6)).unwrap_or(0);
    &headers[..inner]
}

/// What makes the innermost packet's flow: addresses, protocol, ports.
fn flow(headers: &[Header], bytes: &[u8]) -> Vec<u8> {
    let Some(inner) = headers.iter().rposition(|header| matches!(header.kind, Kind::Ipv4 | Kind::Ipv6))
    else {
        return Vec::new();
    };
    let at = headers[inner].start;
    let mut flow = match headers[inner].kind {
        Kind::Ipv4 => [&bytes[at + 12..at + 20], &bytes[at + 9..at + 10]].concat(),
        _ => [&bytes[at + 8..at + 40], &bytes[at + 6..at + 7]].concat(),
    };
    if let Some(transport) =
        headers.get(inner + 1).filter(|header| matches!(header.kind, Kind::Tcp | Kind::Udp))
    {
        flow.extend(&bytes[transport.start..transport.start + 4]);
    }
    flow
}
