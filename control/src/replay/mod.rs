//! `culvert replay`: capture files through the forwarding code, without devices, root or hugepages.
//!
//! One engine takes the packets of all ports in the order of their time stamps, in bursts as a worker does, and what it
//! decides is written to files and counted. Nothing here depends on a clock or on chance: the same files give the same
//! result.

mod capture;
mod input;
mod output;

pub(crate) use capture::room;

use crate::config;
use crate::report::{self, counters};
use capture::Packet;
use forwarder::forward::{BURST, Engine, Host, Outcomes};
use forwarder::stats::{TunnelStats, WorkerCounters};
use forwarder::table::{PortId, Spec, Tables};
use forwarder::verdict::{Ingress, Verdict};
use input::Inputs;
use output::Outputs;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// Why a replay ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReplayError {
    /// A port of `--in` that the configuration does not have.
    #[error("--in {port}: no such port (expected one of {})", known.join(", "))]
    UnknownPort {
        /// As given.
        port: String,
        /// Those that there are.
        known: Vec<String>,
    },
    /// A port that stands in `--in` twice.
    #[error("--in {port}: given twice; one file for each port (ports: {})", known.join(", "))]
    PortTwice {
        /// As given.
        port: String,
        /// Those that there are.
        known: Vec<String>,
    },
    /// An input file that cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// An input file that is no capture of Ethernet frames, or a broken one.
    #[error("{}: {place}{what}", path.display())]
    Capture {
        /// The file.
        path: PathBuf,
        /// Where in it, with a colon; empty: at its beginning.
        place: String,
        /// What is wrong.
        what: String,
    },
    /// An output file or folder that cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// An output that is an input, too.
    #[error("{} is read by this replay and would be overwritten; choose another folder for --out", .0.display())]
    OverwritesInput(PathBuf),
    /// Two outputs of one name.
    #[error("two outputs would be written to {}; rename the port or tunnel", .0.display())]
    SameOutput(PathBuf),
    /// A time that a pcap file has no number for.
    #[error("cannot write {}: its format ends in 2106, the packet is of second {} since 1970", path.display(), stamp.as_secs())]
    TimeStamp {
        /// The output file.
        path: PathBuf,
        /// The packet's time.
        stamp: Duration,
    },
    /// The engine named a port that there is not.
    #[error("the forwarding code sent a packet to port number {}, which the configuration does not have", .0.0)]
    NoSuchPort(PortId),
    /// The engine named an interface or tunnel that there is not.
    #[error("the forwarding code gave the host a packet from {0:?}, which the configuration does not have")]
    NoSuchIngress(Ingress),
}

impl ReplayError {
    fn write(path: &Path, source: std::io::Error) -> Self {
        ReplayError::Write { path: path.to_owned(), source }
    }
}

/// `culvert replay`: what is found in the configuration and what goes wrong on stderr, the counters on stdout.
pub(crate) fn command(file: &Path, captures: &[(String, PathBuf)], folder: &Path) -> ExitCode {
    let Some((config, spec, tables)) = config::compiled(file) else { return ExitCode::FAILURE };
    config.warnings.iter().for_each(|finding| report::say(finding));
    match replay(&spec, &tables, &config.port_names(), captures, folder) {
        Ok(counters) => report::print(&format!("{counters:#}\n")),
        Err(error) => {
            report::say(&format_args!("culvert: {error}"));
            match error {
                ReplayError::UnknownPort { .. } | ReplayError::PortTwice { .. } => ExitCode::from(2),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

/// Replays `captures` (port name and file) through `tables`, which were compiled from `spec`, writes what comes out to
/// `folder` and returns the counters. `ports` are the configuration's, in its order.
fn replay(
    spec: &Spec,
    tables: &Tables,
    ports: &[&str],
    captures: &[(String, PathBuf)],
    folder: &Path,
) -> Result<Value, ReplayError> {
    let mut inputs = Inputs::of(ports, captures)?;
    let paths: Vec<PathBuf> = captures.iter().map(|(_, path)| path.clone()).collect();
    let outputs = Outputs::create(folder, inputs.nanoseconds(), ports, spec, &paths)?;
    let mut stats = TunnelStats::default();
    let slots = spec.tunnels.iter().map(|tunnel| tunnel.slot as usize + 1).max().unwrap_or(0);
    stats.grow(slots);
    let fates = Fates { spec, counters: WorkerCounters::default(), outputs };
    let mut run = Run { tables, stats, engine: Engine::new(Host::Attached, 0, 1), fates };
    let mut burst: Vec<Packet> = (0..BURST).map(|_| Packet::new()).collect();
    while let Some(port) = inputs.next_port() {
        let mut count = 0;
        for packet in &mut burst {
            if inputs.next_port() != Some(port) {
                break;
            }
            inputs.take(packet)?;
            count += 1;
        }
        run.burst(port, burst.get_mut(..count).unwrap_or_default())?;
    }
    run.end();
    run.fates.outputs.finish()?;
    Ok(counters::summary([&run.fates.counters], spec, tables, std::slice::from_ref(&run.stats)))
}

/// Shows every packet of `captures` (port name and file), in the order of their time stamps, to `see`, until that says
/// `false`. `ports` are the configuration's, in its order.
pub(crate) fn each_packet(
    ports: &[&str],
    captures: &[(String, PathBuf)],
    mut see: impl FnMut(PortId, Duration, &[u8]) -> bool,
) -> Result<(), ReplayError> {
    let mut inputs = Inputs::of(ports, captures)?;
    let mut packet = Packet::new();
    while let Some(port) = inputs.next_port() {
        inputs.take(&mut packet)?;
        if !see(port, packet.stamp(), packet.bytes()) {
            break;
        }
    }
    Ok(())
}

/// The captures with their ports' positions, in the order given.
fn by_port<'a>(
    ports: &[&str],
    captures: &'a [(String, PathBuf)],
) -> Result<Vec<(PortId, &'a Path)>, ReplayError> {
    let known = || ports.iter().map(|name| (*name).to_owned()).collect();
    let mut found: Vec<(PortId, &Path)> = Vec::new();
    for (name, path) in captures {
        let at = ports.iter().position(|port| port == name).and_then(|at| u16::try_from(at).ok());
        let Some(port) = at.map(PortId) else {
            return Err(ReplayError::UnknownPort { port: name.clone(), known: known() });
        };
        if found.iter().any(|(taken, _)| *taken == port) {
            return Err(ReplayError::PortTwice { port: name.clone(), known: known() });
        }
        found.push((port, path));
    }
    Ok(found)
}

/// What a worker would hold.
struct Run<'a> {
    tables: &'a Tables,
    stats: TunnelStats,
    engine: Engine,
    fates: Fates<'a>,
}

/// Where packets go, and what is counted.
struct Fates<'a> {
    spec: &'a Spec,
    counters: WorkerCounters,
    outputs: Outputs,
}

impl Run<'_> {
    /// Each packet by itself, because each has a time of its own.
    fn burst(&mut self, port: PortId, packets: &mut [Packet]) -> Result<(), ReplayError> {
        self.fates.counters.received.add(packets.len() as u64);
        let mut outcomes = Outcomes::new();
        for packet in packets {
            let stamp = packet.stamp();
            let now = u64::try_from(stamp.as_nanos()).unwrap_or(u64::MAX);
            let mut frames = [packet.frame()];
            outcomes.clear();
            self.engine.forward_burst(self.tables, &self.stats, (port, now), &mut frames, &mut outcomes);
            self.account_released();
            for (outcome, frame) in outcomes.iter().zip(&frames) {
                self.fates.settle(outcome.verdict, frame.bytes(), stamp)?;
            }
            for made in self.engine.originated().iter() {
                self.fates.counters.originated.add(1);
                self.fates.settle(made.verdict, made.bytes, stamp)?;
            }
        }
        Ok(())
    }

    /// Gives up the fragments that were not made whole by the last packet: nobody waits for more.
    fn end(&mut self) {
        self.engine.expire(&self.stats, u64::MAX);
        self.account_released();
    }

    fn account_released(&self) {
        self.engine.released().iter().for_each(|fragments| fragments.account(&self.fates.counters));
    }
}

impl Fates<'_> {
    fn settle(&mut self, verdict: Verdict, bytes: &[u8], stamp: Duration) -> Result<(), ReplayError> {
        let counters = &self.counters;
        match verdict {
            Verdict::Send(port) => {
                counters.transmitted.add(1);
                self.outputs.send(port, stamp, bytes)
            }
            Verdict::Kernel(ingress) => {
                counters.kernel.add(1);
                self.outputs.kernel(self.spec, ingress, stamp, bytes)
            }
            Verdict::Consumed => {
                counters.consumed.add(1);
                Ok(())
            }
            Verdict::Drop(reason) => {
                counters.dropped.of(reason).add(1);
                Ok(())
            }
            // Counted when it is released.
            Verdict::Held => Ok(()),
        }
    }
}
