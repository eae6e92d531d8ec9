//! What the commands ask the daemon over its socket: one line of JSON asked, one answered, connection closed.

use crate::plan::Plan;
use crate::trace::Question;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt::{self, Display, Formatter};
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

/// An answer. It is written and read as it stands here, because one of a large file is many megabytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Answer<T> {
    /// What was asked for.
    #[serde(rename = "ok")]
    Done(T),
    /// Why there is nothing.
    #[serde(rename = "error")]
    Refused {
        /// A sentence.
        message: String,
        /// The findings in a file, where there are any, as `check --json` has them.
        diagnostics: Vec<Value>,
    },
}

impl Answer<()> {
    /// An error without findings.
    #[cfg(feature = "dpdk")]
    pub(crate) fn refused(message: String) -> Self {
        Answer::Refused { message, diagnostics: Vec::new() }
    }
}

impl<T: Serialize> Answer<T> {
    /// The answer's line, without its end.
    #[cfg(feature = "dpdk")]
    pub(crate) fn line(&self) -> Vec<u8> {
        // Only maps with keys that are no texts cannot be written, and there are none.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// What a file changes, or would change.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Changes {
    /// The generation that it was published as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) generation: Option<u64>,
    /// Item by item.
    pub(crate) plan: Plan,
    /// What only a restart can change of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) restart: Option<Vec<String>>,
    /// What is odd about the file.
    pub(crate) warnings: Vec<Value>,
    /// How long publishing it took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) seconds: Option<Stages>,
}

/// How long each part of a reload took, in seconds. While the control thread is at it, the workers forward.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Stages {
    /// From the file to checked values.
    pub(crate) read: f64,
    /// From these to tables.
    pub(crate) compile: f64,
    /// What changes, and whether it may.
    pub(crate) compare: f64,
    /// Until every worker had taken the tables.
    pub(crate) publish: f64,
}

impl Display for Stages {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let [read, compile, compare, publish] =
            [self.read, self.compile, self.compare, self.publish].map(|seconds| seconds * 1e3);
        write!(
            f,
            "read in {read:.1} ms, compiled in {compile:.1}, compared in {compare:.1}, published in {publish:.1}"
        )
    }
}
