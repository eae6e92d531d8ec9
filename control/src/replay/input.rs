//! The packets of several capture files, merged by time stamp.
//!
//! A file is read through once before the first packet is forwarded, so a broken one is reported before anything is
//! written, and one whose packets are not in the order of their time stamps (several receive queues do that) is known.
//! Such a file, or one that can be read only once, is held in memory and sorted; all others are streamed.

use super::ReplayError;
use super::capture::{Capture, Packet};
use forwarder::table::PortId;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The packets of several files in time-stamp order; of equal stamps those of the file that was opened first come first.
#[derive(Debug, Default)]
pub(super) struct Inputs {
    inputs: Vec<Input>,
    nanoseconds: bool,
}

#[derive(Debug)]
struct Input {
    port: PortId,
    source: Source,
    head: Packet,
}

#[derive(Debug)]
enum Source {
    Stream(Box<Capture>),
    Sorted(Spool),
}

impl Inputs {
    /// The packets of `captures` (port name and file). `ports` are the configuration's, in its order.
    pub(super) fn of(ports: &[&str], captures: &[(String, PathBuf)]) -> Result<Self, ReplayError> {
        let mut inputs = Inputs::default();
        for (port, path) in super::by_port(ports, captures)? {
            inputs.open(port, path)?;
        }
        Ok(inputs)
    }

    /// Adds the packets of the file at `path`, as received by `port`.
    fn open(&mut self, port: PortId, path: &Path) -> Result<(), ReplayError> {
        let mut survey = Survey::new(path)?;
        let source = match survey.kept.take() {
            Some(spool) => Source::Sorted(spool.sorted()),
            None if survey.in_order => Source::Stream(Box::new(Capture::open(path)?)),
            None => Source::Sorted(Spool::read(path)?.sorted()),
        };
        self.nanoseconds |= survey.nanoseconds;
        let mut input = Input { port, source, head: Packet::new() };
        if input.advance()? {
            self.inputs.push(input);
        }
        Ok(())
    }

    /// Whether a file has time stamps finer than a microsecond.
    pub(super) fn nanoseconds(&self) -> bool {
        self.nanoseconds
    }

    /// The port of the next packet; `None` at the end.
    pub(super) fn next_port(&self) -> Option<PortId> {
        self.earliest().and_then(|at| self.inputs.get(at)).map(|input| input.port)
    }

    /// Swaps the next packet into `packet`; does nothing at the end.
    pub(super) fn take(&mut self, packet: &mut Packet) -> Result<(), ReplayError> {
        let Some(at) = self.earliest() else { return Ok(()) };
        let Some(input) = self.inputs.get_mut(at) else { return Ok(()) };
        std::mem::swap(&mut input.head, packet);
        if !input.advance()? {
            self.inputs.remove(at);
        }
        Ok(())
    }

    fn earliest(&self) -> Option<usize> {
        let inputs = self.inputs.iter().enumerate();
        inputs.min_by_key(|(_, input)| input.head.stamp()).map(|(at, _)| at)
    }
}

impl Input {
    /// Reads the next packet into `head`; `false` at the end.
    fn advance(&mut self) -> Result<bool, ReplayError> {
        match &mut self.source {
            Source::Stream(capture) => capture.read(&mut self.head),
            Source::Sorted(spool) => Ok(spool.next(&mut self.head)),
        }
    }
}

/// What one reading of a file tells, and its packets where there is no second one.
struct Survey {
    in_order: bool,
    nanoseconds: bool,
    kept: Option<Spool>,
}

impl Survey {
    fn new(path: &Path) -> Result<Self, ReplayError> {
        let read = |source| ReplayError::Read { path: path.to_owned(), source };
        let regular = std::fs::metadata(path).map_err(read)?.is_file();
        let mut capture = Capture::open(path)?;
        let mut kept = (!regular).then(Spool::default);
        let (mut in_order, mut last, mut packet) = (true, Duration::ZERO, Packet::new());
        while capture.read(&mut packet)? {
            in_order &= packet.stamp() >= last;
            last = packet.stamp();
            if let Some(spool) = &mut kept {
                spool.push(&packet);
            }
        }
        Ok(Survey { in_order, nanoseconds: capture.nanoseconds(), kept })
    }
}

/// The packets of a file in memory.
#[derive(Debug, Default)]
struct Spool {
    bytes: Vec<u8>,
    records: Vec<(Duration, std::ops::Range<usize>)>,
    next: usize,
}

impl Spool {
    fn read(path: &Path) -> Result<Self, ReplayError> {
        let (mut capture, mut spool, mut packet) = (Capture::open(path)?, Spool::default(), Packet::new());
        while capture.read(&mut packet)? {
            spool.push(&packet);
        }
        Ok(spool)
    }

    fn push(&mut self, packet: &Packet) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(packet.bytes());
        self.records.push((packet.stamp(), start..self.bytes.len()));
    }

    /// Packets of equal stamps stay in the order of the file.
    fn sorted(mut self) -> Self {
        self.records.sort_by_key(|(stamp, _)| *stamp);
        self
    }

    fn next(&mut self, packet: &mut Packet) -> bool {
        let Some((stamp, range)) = self.records.get(self.next) else { return false };
        packet.fill(*stamp, self.bytes.get(range.clone()).unwrap_or_default());
        self.next += 1;
        true
    }
}
