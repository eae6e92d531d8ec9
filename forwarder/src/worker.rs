//! A worker: one pinned thread that takes packets from its queues, has them forwarded, and sends them.

use crate::dpdk::{Eal, Queues};
use crate::publish::Subscriber;
use crate::stats::{LatencyRecorder, WorkerCounters, WorkerLoad};
use crate::table::Generation;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// What a worker does while no packets come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Idle {
    /// Polls on.
    #[default]
    Poll,
    /// Sleeps for up to 50 µs between two polls once some thousand were empty.
    Sleep,
}

/// Everything that a worker needs; it is the only owner of its queues, its tables' subscription and its histograms.
#[derive(Debug)]
pub struct WorkerSetup {
    /// Its position in `worker_cores`, and so in [`Generation::stats`].
    pub index: usize,
    /// The core it runs on.
    pub core: usize,
    /// The environment.
    pub eal: Eal,
    /// Its share of every port, in the order of the configuration: of all ports, so that it can send by each.
    pub queues: Vec<Queues>,
    /// The tables.
    pub subscriber: Subscriber<Generation>,
    /// Packet counters; written by this worker alone.
    pub counters: Arc<WorkerCounters>,
    /// Load; written by this worker alone.
    pub load: Arc<WorkerLoad>,
    /// Histograms.
    pub latency: LatencyRecorder,
    /// What it does while no packets come.
    pub idle: Idle,
    /// Set by the control thread: stop taking packets, send what is in hand, and end.
    pub stop: Arc<AtomicBool>,
}

/// A running worker.
#[derive(Debug)]
pub struct Worker {
    core: usize,
    thread: std::thread::JoinHandle<WorkerSetup>,
    load: Arc<WorkerLoad>,
}

/// Why a worker does not run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WorkerError {
    /// It ended by a panic.
    #[error("worker on core {core} ended by a fault of its own: {message}")]
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
        Ok(Worker { core, load, thread: std::thread::spawn(move || setup) })
    }

    /// The core it runs on.
    pub fn core(&self) -> usize {
        self.core
    }

    /// Whether it forwards: it has run on some generation, and has not ended.
    pub fn is_ready(&self) -> bool {
        self.load.generation.read() != 0 && !self.has_ended()
    }

    /// Whether its thread has ended, by itself, by a fault or because it was told to stop.
    pub fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for its end, which somebody has to ask for by `stop`, and returns its pieces.
    ///
    /// # Errors
    /// [`WorkerError::Panicked`] with what the panic said.
    pub fn join(self) -> Result<WorkerSetup, WorkerError> {
        let core = self.core;
        self.thread.join().map_err(|_| WorkerError::Panicked { core, message: String::new() })
    }
}
