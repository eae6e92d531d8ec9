//! What `explain --json` prints.

use super::Explanation;
use super::stack::{Content, Header};
use crate::config::Profile;
use forwarder::table::Mss;
use serde_json::{Map, Value, json};

/// The object of one tunnel; lines are those of `file`.
pub(super) fn tunnel(tunnel: &Explanation, file: &str) -> Value {
    let stack = |headers: &Vec<Header>| headers.iter().map(header).collect::<Value>();
    let mut ways = tunnel.ways.iter();
    let limits = &tunnel.limits;
    let steps: Vec<String> =
        limits.mtu_steps.iter().map(|step| format!("{} {}", step.bytes, step.words)).collect();
    let mut object = json!({
        "tunnel": tunnel.name,
        "stack": ways.next().map_or(json!([]), stack),
        "overhead": tunnel.overhead,
        "mtu": limits.mtu,
        "mss_ipv4": limits.mss_ipv4,
        "mss_ipv6": limits.mss_ipv6,
        "alternatives": ways.map(stack).collect::<Value>(),
        "derivation": {"mtu": steps, "mss": limits.mss_reasons},
        "file": file,
        "line": tunnel.line,
    });
    if let Some(object) = object.as_object_mut() {
        if let Some(accepts) = &tunnel.accepts {
            object.insert("only_receives".to_owned(), json!(accepts));
        }
        if !tunnel.cannot_send.is_empty() {
            object.insert("cannot_send".to_owned(), json!(tunnel.cannot_send));
        }
    }
    object
}

/// A field that is the same in every packet is a plain value. One that is not is an object that says who fills it in.
fn header(header: &Header) -> Value {
    let mut fields = Map::new();
    let mut lines = Map::new();
    for shown in &header.fields {
        let value = match shown.content {
            Content::Fixed => shown.field.value.clone(),
            Content::Packet(rule) => json!({"per_packet": rule}),
            Content::Device(rule) => json!({"per_device": rule}),
        };
        fields.insert(shown.field.name.to_owned(), value);
        if let Some(origin) = shown.origin {
            lines.insert(shown.field.name.to_owned(), json!(origin.line));
        }
    }
    json!({
        "header": header.name,
        "bytes": header.digits.len() / 2,
        "fields": fields,
        "hex": header.digits,
        "offset": header.offset,
        "of": header.tunnel,
        "lines": lines,
    })
}

/// The array of `explain --profiles --json`.
pub(super) fn profiles(profiles: &[(&str, Profile)]) -> Value {
    let object = |(name, profile): &(&str, Profile)| {
        let (ipv4, ipv6) = match profile.mss {
            Mss::Fixed { ipv4, ipv6 } => (ipv4, ipv6),
            Mss::Off | Mss::Auto => (None, None),
        };
        json!({
            "profile": name,
            "mtu": profile.mtu,
            "mss_ipv4": ipv4,
            "mss_ipv6": ipv6,
            "purpose": profile.purpose,
        })
    };
    profiles.iter().map(object).collect()
}
