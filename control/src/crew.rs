//! The workers as the control thread sees them: started together, watched, stopped together.

use crate::report::load::{self, Load};
use forwarder::dpdk::{DpdkError, Eal, Part, Port};
use forwarder::publish::Publisher;
use forwarder::stats::{LatencyRecorder, WorkerCounters, WorkerLoad};
use forwarder::table::Generation;
use forwarder::tap::Tap;
use forwarder::worker::{Idle, Worker, WorkerError, WorkerSetup};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// All workers. Dropped, it stops them and waits for them.
#[derive(Debug)]
pub(crate) struct Crew {
    members: Vec<Member>,
    parts: VecDeque<Part>, // of the workers that are not started yet
    stop: Arc<AtomicBool>, // set by the control thread, read by the workers
}

/// One worker.
#[derive(Debug)]
pub(crate) struct Member {
    /// `None` once it was joined.
    worker: Option<Worker>,
    core: usize,
    counters: Arc<WorkerCounters>,
    load: Arc<WorkerLoad>,
    /// At the end of the last interval.
    seen: Load,
    /// Over the last interval.
    last: Load,
}

/// Why the workers did not start or do not go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CrewError {
    /// A worker's own error.
    #[error(transparent)]
    Worker(#[from] WorkerError),
    /// More workers than the ports were opened for.
    #[error("the ports have no queues for the worker on core {core}")]
    TooMany {
        /// Its core.
        core: usize,
    },
    /// A worker's thread is over, and nobody asked for it.
    #[error("worker on core {core} ended by itself")]
    Ended {
        /// Its core.
        core: usize,
    },
}

impl Crew {
    /// Nobody yet, and these ports' queues dealt out.
    pub(crate) fn new(ports: &mut [Port]) -> Result<Self, DpdkError> {
        Ok(Crew { members: Vec::new(), parts: Part::deal(ports)?.into(), stop: Arc::default() })
    }

    /// Adds the worker that comes next in `worker_cores` and returns once it polls.
    pub(crate) fn start(
        &mut self,
        core: usize,
        eal: &Eal,
        publisher: &mut Publisher<Generation>,
        (latency, tap): (LatencyRecorder, Tap),
        (workers, idle): (usize, Idle),
    ) -> Result<(), CrewError> {
        let index = self.members.len();
        let part = self.parts.pop_front().ok_or(CrewError::TooMany { core })?;
        let (counters, load) = (Arc::new(WorkerCounters::default()), Arc::new(WorkerLoad::default()));
        let worker = Worker::spawn(WorkerSetup {
            index,
            workers,
            core,
            eal: eal.clone(),
            part,
            subscriber: publisher.subscribe(),
            counters: counters.clone(),
            load: load.clone(),
            latency,
            tap,
            idle,
            stop: self.stop.clone(),
        })?;
        let (seen, last) = (Load::default(), Load::default());
        self.members.push(Member { worker: Some(worker), core, counters, load, seen, last });
        Ok(())
    }

    /// Whether every worker forwards.
    pub(crate) fn is_ready(&self) -> bool {
        self.members.iter().all(|member| member.worker.as_ref().is_some_and(Worker::is_ready))
    }

    /// The workers, in the order of `worker_cores`.
    pub(crate) fn members(&self) -> &[Member] {
        &self.members
    }

    /// `show workers`, in the order of `worker_cores`; `spreading` is what spreads each port's packets over them.
    pub(crate) fn json(&self, spreading: &serde_json::Value) -> serde_json::Value {
        self.members.iter().map(|member| member.json(spreading)).collect()
    }

    /// Every worker's packet counters.
    pub(crate) fn counters(&self) -> impl Iterator<Item = &WorkerCounters> {
        self.members.iter().map(|member| &*member.counters)
    }

    /// Ends an interval of the load figures.
    pub(crate) fn tick(&mut self) {
        for member in &mut self.members {
            let current = Load::of(&member.load);
            member.last = current.since(member.seen);
            member.seen = current;
        }
    }

    /// Finds a worker that has ended without having been asked to.
    pub(crate) fn check(&mut self) -> Result<(), CrewError> {
        for member in &mut self.members {
            if let Some(worker) = member.worker.take_if(|worker| worker.has_ended()) {
                worker.join()?;
                return Err(CrewError::Ended { core: member.core });
            }
        }
        Ok(())
    }

    /// Stops the workers and waits until each has sent what it had in hand; the first error of one that failed.
    pub(crate) fn stop(&mut self) -> Result<(), CrewError> {
        self.stop.store(true, Ordering::Release);
        let mut result = Ok(());
        for member in &mut self.members {
            if let Some(Err(error)) = member.worker.take().map(Worker::join) {
                result = result.and(Err(error.into()));
            }
        }
        result
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        // Whoever cares about the result has called it before.
        let _ = self.stop();
    }
}

impl Member {
    /// The core it runs on.
    pub(crate) fn core(&self) -> usize {
        self.core
    }

    /// Its entry of `show workers`; `spreading` is what spreads each port's packets.
    fn json(&self, spreading: &serde_json::Value) -> serde_json::Value {
        let mut entry = load::json(self.core, &self.load, self.last, &self.counters);
        if let Some(object) = entry.as_object_mut() {
            object.insert("spreading".into(), spreading.clone());
        }
        entry
    }
}
