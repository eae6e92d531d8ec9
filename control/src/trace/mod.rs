//! `culvert trace`: why a packet went where it went, or died, step by step with the lines of the file that decided.
//!
//! Packets come from capture files, without a daemon, or from a running one by [`live`]. Either way they go once more
//! through the forwarding code, alone and with somebody listening, so the steps are those that were taken; [`narrate`] puts
//! them into words, and [`why`] says of a dropped one what would have to be different.

mod filter;
mod narrate;
mod why;
#[cfg(feature = "dpdk")]
mod live;

pub(crate) use filter::{Filter, Question};
#[cfg(feature = "dpdk")]
pub(crate) use live::Live;

use crate::client::ask;
use crate::config;
use crate::protocol::Request;
use crate::replay::{self, ReplayError};
use crate::report::{print, print_on, say};
use forwarder::forward::{Engine, Host};
use forwarder::frame::{Frame, HEADROOM};
use forwarder::stats::TunnelStats;
use forwarder::table::{PortId, Spec};
use narrate::Narrator;
use serde_json::Value;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Between two questions to the daemon.
const PAUSE: Duration = Duration::from_millis(100);

/// How it is shown, and how much of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    /// Packets after which it ends.
    pub(crate) count: usize,
    /// Time after which it ends.
    pub(crate) within: Duration,
    /// One JSON object a line.
    pub(crate) as_json: bool,
}

/// Explains the packets of `captures` (port name and file) that `question` asks for, by the file at `path`.
pub(crate) fn captures(
    path: &Path,
    captures: &[(String, PathBuf)],
    question: &Question,
    extent: Extent,
) -> ExitCode {
    let Some((config, spec, tables)) = config::compiled(path) else { return ExitCode::FAILURE };
    let filter = match Filter::new(question, &config, &spec) {
        Ok(filter) => filter,
        Err(message) => return wrong_usage(&message),
    };
    let mut engine = Engine::new(Host::Attached, 0, 1);
    let (stats, narrator) = (counters_for(&spec), Narrator::new(&config, &spec, &tables));
    let mut number = 0;
    let mut out = String::new();
    let mut shown = 0;
    let result = replay::each_packet(&config.port_names(), captures, |port, stamp, bytes| {
        number += 1;
        let now = u64::try_from(stamp.as_nanos()).unwrap_or(u64::MAX);
        let Some(told) = narrator.tell(&mut engine, &stats, (port, now), bytes) else { return true };
        if shown < extent.count && filter.fits(&told) {
            shown += 1;
            out.push_str(&show(&told.json(number, stamp), extent.as_json));
        }
        shown < extent.count
    });
    match result {
        Ok(()) if shown == 0 => {
            say(&format_args!("culvert: none of the {number} packets is asked for"));
            ExitCode::SUCCESS
        }
        Ok(()) => print(&out),
        Err(error @ (ReplayError::UnknownPort { .. } | ReplayError::PortTwice { .. })) => {
            wrong_usage(&error.to_string())
        }
        Err(error) => {
            say(&format_args!("culvert: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Explains the next packets of the daemon behind `socket` that `question` asks for.
pub(crate) fn follow(socket: &Path, question: Question, extent: Extent) -> ExitCode {
    let id = match ask::<Value>(socket, &Request::TraceStart { question }) {
        Ok(answer) => answer.get("id").and_then(Value::as_u64).unwrap_or_default(),
        Err(error) => {
            say(&format_args!("culvert: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let until = Instant::now() + extent.within;
    let mut shown = 0;
    let mut result = Ok(());
    while result.is_ok() && shown < extent.count && Instant::now() < until {
        let answer = match ask::<Value>(socket, &Request::TraceNext { id }) {
            Ok(answer) => answer,
            Err(error) => {
                say(&format_args!("culvert: {error}"));
                return ExitCode::FAILURE;
            }
        };
        let mut packets = answer.as_array().into_iter().flatten().take(extent.count - shown);
        result = packets.try_for_each(|packet| {
            shown += 1;
            print_on(&show(packet, extent.as_json))
        });
        if result.is_ok() && shown < extent.count {
            std::thread::sleep(PAUSE);
        }
    }
    // A daemon that is gone by now needs no telling.
    let _ = ask::<Value>(socket, &Request::TraceStop { id });
    if shown == 0 {
        let seconds = extent.within.as_secs_f64();
        say(&format_args!("culvert: no such packet within {seconds} s (--within waits longer)"));
    }
    result.err().unwrap_or(ExitCode::SUCCESS)
}

fn wrong_usage(message: &str) -> ExitCode {
    say(&format_args!("culvert: {message}"));
    ExitCode::from(2)
}

/// A frame in a buffer of its own, with room in front, and behind it for the packet that a fragment completes.
fn with_headroom(bytes: &[u8], buffer: &mut Vec<u8>) {
    buffer.clear();
    buffer.resize(HEADROOM, 0);
    buffer.extend_from_slice(bytes);
    buffer.resize(HEADROOM + replay::room(bytes.len()), 0);
}

fn frame<'a>(buffer: &'a mut [u8], bytes: &[u8]) -> Frame<'a> {
    Frame::new(buffer, HEADROOM, bytes.len())
}

/// Counters that nobody reads: the packet was counted when it was forwarded.
fn counters_for(spec: &Spec) -> TunnelStats {
    let mut stats = TunnelStats::default();
    stats.grow(spec.tunnels.iter().map(|tunnel| tunnel.slot as usize + 1).max().unwrap_or(0));
    stats
}

/// One packet's story as it is printed.
fn show(packet: &Value, as_json: bool) -> String {
    if as_json {
        return format!("{packet}\n");
    }
    let text = |value: &Value, key: &str| match value.get(key) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    };
    let mut out = format!(
        "packet {}: {} bytes by port \"{}\"\n",
        text(packet, "packet"),
        text(packet, "bytes"),
        text(packet, "port")
    );
    for step in packet.get("steps").and_then(Value::as_array).into_iter().flatten() {
        let place = match step.get("line").and_then(Value::as_u64) {
            Some(line) => format!("  ({}:{line})", text(packet, "file")),
            None => String::new(),
        };
        // Writing to a string cannot fail.
        let _ = writeln!(out, "  {}{place}", text(step, "text"));
    }
    out.push('\n');
    out
}

/// Where a packet came in.
type Arrival = (PortId, u64);
