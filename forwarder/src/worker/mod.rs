//! A worker: one pinned thread that takes packets from its queues, has them forwarded, and sends them.
//!
//! It owns all that it touches but the counters, which it alone writes, and queues that workers share. It never allocates while
//! packets come; tables and empty histograms reach it between two bursts. Whatever it received it has sent, counted and let
//! go of before it looks at the next queue, so that it holds no packet when it is told to stop; of fragments that are to be put
//! together it has copies, and gives those up. It waits for another worker, and locks, only where both receive from one
//! queue: to send after it what was received after it.

mod poller;
mod account;
mod hand;
mod idle;

use crate::dpdk::{Eal, Exits, Lane, Part, RxQueue};
use crate::publish::Subscriber;
use crate::stats::{LatencyRecorder, WorkerCounters, WorkerLoad};
use crate::table::{Generation, PortId};
use crate::tap::Tap;
use poller::Poller;
use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::sync_channel;
use std::thread::{self, JoinHandle};

/// What a worker does while no packets come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Idle {
    /// Polls on.
    #[default]
    Poll,
    /// Sleeps once some thousand rounds of polls were empty, until a packet comes where devices can say so.
    Sleep,
}

/// Everything that a worker needs; it is the only owner of its queues, its tables' subscription and its histograms.
#[derive(Debug)]
pub struct WorkerSetup {
    /// Its position in `worker_cores`, and so in [`Generation::stats`].
    pub index: usize,
    /// How many there are in all.
    pub workers: usize,
    /// The core it runs on.
    pub core: usize,
    /// The environment.
    pub eal: Eal,
    /// Its part of the ports.
    pub part: Part,
    /// The tables.
    pub subscriber: Subscriber<Generation>,
    /// Packet counters; written by this worker alone.
    pub counters: Arc<WorkerCounters>,
    /// Load; written by this worker alone.
    pub load: Arc<WorkerLoad>,
    /// Histograms.
    pub latency: LatencyRecorder,
    /// Copies of packets for who wants to see them.
    pub tap: Tap,
    /// What it does while no packets come.
    pub idle: Idle,
    /// Set by the control thread: stop taking packets, send what is in hand, and end.
    pub stop: Arc<AtomicBool>,
}

/// A running worker.
#[derive(Debug)]
pub struct Worker {
    core: usize,
    thread: JoinHandle<Stopped>,
    load: Arc<WorkerLoad>,
}

/// What a worker leaves behind; dropping it gives its queues back to their ports.
#[derive(Debug)]
pub struct Stopped {
    /// The tables' subscription.
    pub subscriber: Subscriber<Generation>,
    /// What was recorded and not fetched: [`LatencyRecorder::set`].
    pub latency: LatencyRecorder,
    _queues: (Vec<(PortId, RxQueue)>, Vec<Arc<Lane>>, Exits),
}

/// Why a worker does not run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WorkerError {
    /// The system makes no thread.
    #[error("no thread for the worker on core {core}: {reason}")]
    Thread {
        /// Its core.
        core: usize,
        /// The system's reason.
        reason: String,
    },
    /// The thread cannot be put on its core.
    #[error(
        "the worker of core {core} cannot be pinned to it; may this process run there (taskset, cgroup cpuset)?"
    )]
    Pin {
        /// Its core.
        core: usize,
    },
    /// DPDK does not take the thread.
    #[error("DPDK does not register the worker on core {core}: {reason}")]
    Register {
        /// Its core.
        core: usize,
        /// DPDK's reason.
        reason: String,
    },
    /// The system has nothing left to wake it by.
    #[error("the worker on core {core} cannot sleep as idle = \"sleep\" asks for: {reason}")]
    Rest {
        /// Its core.
        core: usize,
        /// The system's reason.
        reason: String,
    },
    /// It ended by a panic.
    #[error("the worker on core {core} ended by a fault of its own: {message}")]
    Panicked {
        /// Its core.
        core: usize,
        /// What the panic said.
        message: String,
    },
}

impl Worker {
    /// Starts a worker and returns once it polls or could not be set up.
    ///
    /// # Errors
    /// [`WorkerError`] where the thread cannot be made, pinned to its core or registered with DPDK.
    pub fn spawn(setup: WorkerSetup) -> Result<Worker, WorkerError> {
        let (core, load) = (setup.core, setup.load.clone());
        let (report, reported) = sync_channel(1);
        let thread = thread::Builder::new()
            .name(format!("worker-{core}"))
            .spawn(move || Poller::new(setup).run(&report))
            .map_err(|error| WorkerError::Thread { core, reason: error.to_string() })?;
        match reported.recv() {
            Ok(Ok(())) => Ok(Worker { core, thread, load }),
            Ok(Err(error)) => {
                // It ends by itself, with nothing received.
                let _ = thread.join();
                Err(error)
            }
            Err(_) => Err(Worker { core, thread, load }.join().err().unwrap_or(WorkerError::Pin { core })),
        }
    }

    /// The core it runs on.
    pub fn core(&self) -> usize {
        self.core
    }

    /// Whether it forwards: it has run on some generation, and has not ended.
    pub fn is_ready(&self) -> bool {
        self.load.generation.read() != 0 && !self.has_ended()
    }

    /// Whether its thread has ended, by a fault or because it was told to stop.
    pub fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for its end, which somebody has to ask for by `stop`, and returns its pieces.
    ///
    /// # Errors
    /// [`WorkerError::Panicked`] with what the panic said.
    pub fn join(self) -> Result<Stopped, WorkerError> {
        let core = self.core;
        self.thread.join().map_err(|panic| WorkerError::Panicked { core, message: panic_message(&*panic) })
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "it gave no reason".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panics_words_are_kept() {
        assert_eq!(panic_message(&"literal"), "literal");
        assert_eq!(panic_message(&"formatted".to_owned()), "formatted");
        assert_eq!(panic_message(&7), "it gave no reason");
    }
}
