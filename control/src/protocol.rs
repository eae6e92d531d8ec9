//! What the commands ask the daemon over its socket: one line of JSON asked, one answered, connection closed.

use crate::trace::Question;
use serde::{Deserialize, Serialize};
#[cfg(feature = "dpdk")]
use serde_json::{Value, json};
use std::path::PathBuf;

/// The longest request in bytes; each is a command and a path.
#[cfg(feature = "dpdk")]
pub(crate) const MAX_REQUEST: usize = 1 << 20;

/// A request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Request {
    /// A table of `culvert show`.
    Show {
        /// Which.
        what: Topic,
    },
    /// Each latency histogram as HdrHistogram's percentile text.
    Hgrm {},
    /// What a file would change; nothing: the file that the daemon runs with.
    Plan {
        /// An absolute path.
        file: Option<PathBuf>,
    },
    /// Publish a file; nothing: the file that the daemon runs with.
    Reload {
        /// An absolute path.
        file: Option<PathBuf>,
    },
    /// Begin to trace packets.
    TraceStart {
        /// Which.
        question: Question,
    },
    /// The packets of a trace that came since the last time.
    TraceNext {
        /// Which trace.
        id: u64,
    },
    /// End a trace.
    TraceStop {
        /// Which trace.
        id: u64,
    },
}

/// What `culvert show` shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Topic {
    /// Devices: address, queues, link, packets, losses.
    Ports,
    /// Tunnels: MTU, MSS, packets both ways, drops.
    Tunnels,
    /// Routes, connected ones included.
    Routes,
    /// Static neighbours.
    Neighbors,
    /// Workers: core, generation, load.
    Workers,
    /// All packet counters, each drop reason with its meaning.
    Drops,
    /// Latency from the receive to the transmit call, by worker and tunnel.
    Latency,
    /// The configuration that runs.
    Config,
}

/// The answer that carries `value`.
#[cfg(feature = "dpdk")]
pub(crate) fn success(value: Value) -> Value {
    json!({ "ok": value })
}

/// The answer that carries an error: a sentence, and the findings in a file where there are any.
#[cfg(feature = "dpdk")]
pub(crate) fn failure(message: &str, diagnostics: Value) -> Value {
    json!({ "error": { "message": message, "diagnostics": diagnostics } })
}
