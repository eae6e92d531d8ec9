//! What `explain` prints for people.

use super::Explanation;
use super::limits::{Limits, said};
use super::stack::{Content, Header, Shown};
use crate::config::Profile;
use crate::report::table::{Align, Table};
use Align::{Left, Right};
use forwarder::table::Mss;
use std::fmt::Write;

/// All about one tunnel; lines are those of `file`.
pub(super) fn tunnel(tunnel: &Explanation, file: &str) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(text, "tunnel {} ({file}:{})", tunnel.name, tunnel.line);
    if let Some(accepts) = &tunnel.accepts {
        let _ = writeln!(text, "\nIt only receives, so it has no stack of its own. It takes {accepts}.");
    }
    for (number, headers) in (1..).zip(&tunnel.ways) {
        let _ = match tunnel.ways.len() {
            1 => writeln!(text, "\nIt sends, outermost first; dots depend on the packet:\n"),
            many => writeln!(
                text,
                "\nWay {number} of {many}; it sends, outermost first; dots depend on the packet:\n"
            ),
        };
        text.push_str(&stack(headers, file));
    }
    for reason in &tunnel.cannot_send {
        let _ = match tunnel.ways.is_empty() {
            true => writeln!(text, "\nIt cannot send: {reason}."),
            false => writeln!(text, "\nOne of its ways cannot send: {reason}."),
        };
    }
    limits(&mut text, tunnel);
    text
}

fn stack(headers: &[Header], file: &str) -> String {
    let mut table = Table::new(&[
        ("HEADER", Left),
        ("OFFSET", Right),
        ("BYTES", Left),
        ("FIELD", Left),
        ("VALUE", Left),
        ("FROM", Left),
    ]);
    for header in headers {
        let mut title = match &header.tunnel {
            Some(tunnel) => format!("{} of {tunnel}", header.name),
            None => header.name.to_owned(),
        };
        for shown in &header.fields {
            table.row(vec![
                std::mem::take(&mut title),
                (header.offset + shown.field.bits.start / 8).to_string(),
                shown.dump.clone(),
                shown.field.name.to_owned(),
                value(shown),
                shown
                    .origin
                    .map(|origin| said(file, origin, key_of(header.name, shown.field.name)))
                    .unwrap_or_default(),
            ]);
        }
    }
    table.render()
}

/// The name of the key of which a field's value is the default.
fn key_of(header: &str, field: &'static str) -> &'static str {
    match (header, field) {
        ("udp", "source_port") => "udp.source_port",
        ("udp", "destination_port") => "udp.port",
        ("udp", "checksum") => "udp.checksum",
        ("ethernet", "source") => "mac",
        (_, "dont_fragment" | "identification") => "df",
        (_, "hop_limit") => "ttl",
        (_, "checksum_present") => "checksum",
        (_, "key_present") => "key",
        (_, "sequence_present") => "sequence",
        (_, other) => other,
    }
}

fn value(shown: &Shown) -> String {
    let number = match &shown.field.value {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    match (shown.content, &shown.field.words) {
        (Content::Packet(rule) | Content::Device(rule), _) => rule.to_owned(),
        (Content::Fixed, None) => number,
        // The words of a payload type begin with its number as it is usually written.
        (Content::Fixed, Some(words)) if words.starts_with("0x") => words.clone(),
        (Content::Fixed, Some(words)) => format!("{number} ({words})"),
    }
}

fn limits(text: &mut String, tunnel: &Explanation) {
    let Limits { mtu, mss_ipv4, mss_ipv6, mtu_steps, mss_reasons } = &tunnel.limits;
    let _ = writeln!(text, "\noverhead {}: the bytes of all headers but Ethernet's", tunnel.overhead);
    let _ = writeln!(text, "mtu {mtu}, the largest inner packet:");
    for step in mtu_steps {
        let _ = writeln!(text, "  {:>6}  {}", step.bytes, step.words);
    }
    let _ = writeln!(text, "  {mtu:>6}  is the tunnel's");
    let number = |limit: &Option<u16>| limit.map_or("off".to_owned(), |limit| limit.to_string());
    let mut reasons = mss_reasons.iter();
    for (family, limit) in [("IPv4", mss_ipv4), ("IPv6", mss_ipv6)] {
        if let Some(reason) = reasons.next() {
            let _ = writeln!(text, "mss for {family} {}: {reason}", number(limit));
        }
    }
    for clamp in reasons {
        let _ = writeln!(text, "also {clamp}");
    }
}

/// The named profiles.
pub(super) fn profiles(profiles: &[(&str, Profile)]) -> String {
    let mut table = Table::new(&[
        ("PROFILE", Left),
        ("MTU", Right),
        ("MSS IPV4", Right),
        ("MSS IPV6", Right),
        ("FOR", Left),
    ]);
    for (name, profile) in profiles {
        let number = |limit: Option<u16>| limit.map_or("off".to_owned(), |limit| limit.to_string());
        let (ipv4, ipv6) = match profile.mss {
            Mss::Fixed { ipv4, ipv6 } => (number(ipv4), number(ipv6)),
            Mss::Off | Mss::Auto => (number(None), number(None)),
        };
        table.row(vec![(*name).to_owned(), profile.mtu.to_string(), ipv4, ipv6, profile.purpose.to_owned()]);
    }
    table.render()
}
