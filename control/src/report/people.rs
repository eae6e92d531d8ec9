//! The daemon's answers to `culvert show` as tables for people.

use super::table::{Align, Table, duration};
use crate::protocol::Topic;
use Align::{Left, Right};
use forwarder::verdict::DropReason;
use serde_json::Value;

/// `answer`, which the daemon gave about `topic`, as text. Of the drop reasons those that occurred, or `all`.
pub(crate) fn render(topic: Topic, answer: &Value, all: bool) -> String {
    match topic {
        Topic::Ports => ports(answer),
        Topic::Tunnels => tunnels(answer),
        Topic::Routes => routes(answer),
        Topic::Neighbors => neighbors(answer),
        Topic::Workers => workers(answer),
        Topic::Drops => drops(answer, all),
        Topic::Latency => latency(answer),
        Topic::Config => answer.get("text").and_then(Value::as_str).unwrap_or_default().to_owned(),
    }
}

fn ports(answer: &Value) -> String {
    let mut table = Table::new(&[
        ("PORT", Left),
        ("LINK", Left),
        ("MAC", Left),
        ("MTU", Right),
        ("QUEUES", Right),
        ("SPREADING", Left),
        ("RX PACKETS", Right),
        ("RX BYTES", Right),
        ("RX LOST", Right),
        ("TX PACKETS", Right),
        ("TX BYTES", Right),
        ("TX ERRORS", Right),
        ("DEVICE", Left),
    ]);
    for port in rows(answer) {
        let lost =
            ["rx_missed", "rx_errors", "rx_no_buffer"].map(|key| number(port, key)).iter().sum::<u64>();
        let link = match (text(port, "link"), port.get("mbps").and_then(Value::as_u64)) {
            (link, Some(mbps)) => format!("{link} {mbps} Mbit/s"),
            (link, None) => link,
        };
        table.row(vec![
            text(port, "name"),
            link,
            text(port, "mac"),
            text(port, "mtu"),
            text(port, "rx_queues"),
            text(port, "spreading"),
            text(port, "rx_packets"),
            text(port, "rx_bytes"),
            lost.to_string(),
            text(port, "tx_packets"),
            text(port, "tx_bytes"),
            text(port, "tx_errors"),
            text(port, "description"),
        ]);
    }
    table.render()
}

fn tunnels(answer: &Value) -> String {
    let mut table = Table::new(&[
        ("TUNNEL", Left),
        ("STATE", Left),
        ("MTU", Right),
        ("MSS IPV4", Right),
        ("MSS IPV6", Right),
        ("RX PACKETS", Right),
        ("RX BYTES", Right),
        ("TX PACKETS", Right),
        ("TX BYTES", Right),
        ("CLAMPED", Right),
        ("DROPPED", Left),
    ]);
    let keys = [
        "name",
        "state",
        "mtu",
        "mss_ipv4",
        "mss_ipv6",
        "rx_packets",
        "rx_bytes",
        "tx_packets",
        "tx_bytes",
        "mss_clamped",
    ];
    for tunnel in rows(answer) {
        let mut row = keys.map(|key| text(tunnel, key)).to_vec();
        let dropped: Vec<String> =
            counts(tunnel).map(|(reason, count)| format!("{reason} {count}")).collect();
        row.push(if dropped.is_empty() { "0".to_owned() } else { dropped.join(", ") });
        table.row(row);
    }
    table.render()
}

fn routes(answer: &Value) -> String {
    let mut table = Table::new(&[
        ("PREFIX", Left),
        ("TO", Left),
        ("PRIORITY", Right),
        ("WEIGHT", Right),
        ("ORIGIN", Left),
    ]);
    for route in rows(answer) {
        let to = match (route.get("tunnel"), route.get("gateway")) {
            (Some(_), _) => format!("tunnel {}", text(route, "tunnel")),
            (_, Some(_)) => format!("via {} on {}", text(route, "gateway"), text(route, "interface")),
            _ => format!("on {}", text(route, "interface")),
        };
        let [prefix, priority, weight, origin] =
            ["prefix", "priority", "weight", "origin"].map(|key| text(route, key));
        table.row(vec![prefix, to, priority, weight, origin]);
    }
    table.render()
}

fn neighbors(answer: &Value) -> String {
    let mut table = Table::new(&[("INTERFACE", Left), ("ADDRESS", Left), ("MAC", Left), ("STATE", Left)]);
    for neighbor in rows(answer) {
        table.row(["interface", "address", "mac", "state"].map(|key| text(neighbor, key)).to_vec());
    }
    table.render()
}

fn workers(answer: &Value) -> String {
    let mut table = Table::new(&[
        ("CORE", Right),
        ("GENERATION", Right),
        ("BUSY %", Right),
        ("WAITED %", Right),
        ("PACKETS", Right),
        ("DROPS", Right),
        ("CYCLES/PACKET", Right),
        ("PACKETS/BURST", Right),
    ]);
    for worker in rows(answer) {
        let interval = worker.get("interval").unwrap_or(&Value::Null);
        table.row(vec![
            text(worker, "core"),
            text(worker, "generation"),
            text(interval, "busy_percent"),
            text(interval, "waited_percent"),
            text(worker, "packets"),
            text(worker, "drops"),
            text(worker, "cycles_per_packet"),
            text(worker, "packets_per_burst"),
        ]);
    }
    let mut rest =
        "Busy, and waited for the turn to send: over the last second; the other figures: since the start.\n"
            .to_owned();
    // The same for all of them.
    let ports = rows(answer).next().and_then(|worker| worker.get("spreading")?.as_object());
    for (port, spreading) in ports.into_iter().flatten() {
        rest += &format!("Port {port}: spreading {}, {}.\n", text(spreading, "by"), text(spreading, "why"));
    }
    table.render() + &rest
}

fn drops(answer: &Value, all: bool) -> String {
    let mut totals = Table::new(&[("PACKETS", Left), ("COUNT", Right)]);
    for key in ["received", "originated", "transmitted", "kernel", "consumed", "unaccounted"] {
        totals.row(vec![key.to_owned(), text(answer, key)]);
    }
    let mut reasons = Table::new(&[("DROPPED", Left), ("COUNT", Right), ("MEANING", Left)]);
    let mut shown = 0;
    let dropped = answer.get("dropped").unwrap_or(&Value::Null);
    for reason in DropReason::ALL {
        let count = number(dropped, reason.name());
        if count != 0 || all {
            reasons.row(vec![reason.name().to_owned(), count.to_string(), reason.help().to_owned()]);
            shown += 1;
        }
    }
    let rest = match shown {
        0 => "No packet was dropped; --all lists the reasons for which one can be.\n".to_owned(),
        _ => reasons.render(),
    };
    format!("{}\n{rest}", totals.render())
}

fn latency(answer: &Value) -> String {
    let mut table = Table::new(&[
        ("FROM RECEIVE TO TRANSMIT", Left),
        ("PACKETS", Right),
        ("MIN", Right),
        ("50 %", Right),
        ("90 %", Right),
        ("99 %", Right),
        ("99.9 %", Right),
        ("99.99 %", Right),
        ("MAX", Right),
    ]);
    let keys = ["min_ns", "p50_ns", "p90_ns", "p99_ns", "p999_ns", "p9999_ns", "max_ns"];
    for entry in rows(answer) {
        let mut row = vec![text(entry, "scope"), text(entry, "count")];
        row.extend(keys.map(|key| entry.get(key).and_then(Value::as_u64).map_or("-".to_owned(), duration)));
        table.row(row);
    }
    table.render()
}

fn rows(answer: &Value) -> impl Iterator<Item = &Value> {
    answer.as_array().into_iter().flatten()
}

fn counts(object: &Value) -> impl Iterator<Item = (&str, u64)> {
    let dropped = object.get("dropped").and_then(Value::as_object).into_iter().flatten();
    dropped.map(|(reason, count)| (reason.as_str(), count.as_u64().unwrap_or(0)))
}

fn number(object: &Value, key: &str) -> u64 {
    object.get(key).and_then(Value::as_u64).unwrap_or(0)
}

/// A field as a cell; what is not there is a dash.
fn text(object: &Value, key: &str) -> String {
    match object.get(key) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}
