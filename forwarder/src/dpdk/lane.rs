//! Receive queues that several workers share, where a device cannot spread the packets of one tunnel over queues.
//!
//! A queue and its packets' way out are a lane. Workers take turns at it: one receives a few bursts, and leaves the queue to
//! the next at once; each rewrites its bursts by itself; and each waits until all that was received before is sent, and sends
//! by the lane's own transmit queues. So packets leave in the order in which they came, whatever flows they are of, and no
//! packet moves from one core to another: only the right to the queue does, a few cache lines for all of a turn.
//!
//! Nobody waits to receive: whoever finds the queue in use does something else. To send, a worker waits for no longer than
//! the turn before takes, some microseconds, unless the system took the core away from the worker that has it.

use super::burst::Burst;
use super::queue::{RxQueue, TxBuffer};
use crate::bell::Bell;
use crate::forward::BURST;
use crate::hint::tsc;
use crate::table::PortId;
use crossbeam::utils::CachePadded;
use spin::mutex::SpinMutex;
use std::hint;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

/// Looks at whether it is its turn, some 20 µs, until a worker offers its core to others: it may be in the other's way.
const LOOKS_PER_YIELD: u32 = 1_024;

/// Bursts of a turn at the most. What a turn costs does not depend on them, and is much where the two cores have no cache in
/// common; but the longer turns are the longer a worker waits to send.
pub const TURN: usize = 4;

/// A receive queue that workers use in turn.
#[derive(Debug)]
pub struct Lane {
    port: PortId,
    home: usize,
    receiving: CachePadded<SpinMutex<Receiving>>,
    is_busy: CachePadded<AtomicBool>, // written by whoever receives, read by who may help
    sent: CachePadded<AtomicU64>,     // turns; written by whoever's turn it is to send, read by all
    bells: Vec<Arc<Bell>>,            // of all workers, which may sleep
}

#[derive(Debug)]
struct Receiving {
    queue: RxQueue,
    /// Turns.
    received: u64,
}

/// The place of a turn among those of its lane; dropped, it lets the next one be sent, once all before it are.
#[derive(Debug)]
pub struct Place<'a> {
    lane: &'a Lane,
    number: u64,
}

/// A worker's transmit queues, by port.
#[derive(Debug)]
pub enum Exits {
    /// It alone uses them.
    Own(Vec<TxBuffer>),
    /// Those of all workers, for whoever sends what the queues of that worker received.
    Shared(Arc<[Exit]>),
}

/// The transmit queues of one worker, by port, while no other one uses them.
type Exit = CachePadded<SpinMutex<Vec<TxBuffer>>>;

impl Lane {
    /// A lane of this receive queue, at home with the worker at this position of `worker_cores`: others help it.
    pub(super) fn new(port: PortId, home: usize, queue: RxQueue, bells: Vec<Arc<Bell>>) -> Lane {
        Lane {
            port,
            home,
            receiving: CachePadded::new(SpinMutex::new(Receiving { queue, received: 0 })),
            is_busy: CachePadded::new(AtomicBool::new(false)),
            sent: CachePadded::new(AtomicU64::new(0)),
            bells,
        }
    }

    /// The port of the receive queue.
    pub fn port(&self) -> PortId {
        self.port
    }

    /// The position in `worker_cores` of the worker that polls it whether or not it is [busy](Self::is_busy).
    pub fn home(&self) -> usize {
        self.home
    }

    /// Whether more packets wait than one worker took with its last turn.
    #[inline]
    pub fn is_busy(&self) -> bool {
        self.is_busy.load(Ordering::SeqCst)
    }

    /// [Receives](Burst::receive) bursts, if no other worker is about to and there are packets: as many as there is room for,
    /// until one is not full. Returns how many, and their place.
    #[inline]
    pub fn receive(&self, bursts: &mut [Burst; TURN]) -> Option<(usize, Place<'_>)> {
        // Looked at first: to try takes the lock's line away from the worker that has it.
        if self.receiving.is_locked() {
            return None;
        }
        let mut receiving = self.receiving.try_lock()?;
        let (mut received, mut is_busy) = (0, false);
        for burst in bursts {
            burst.receive(&mut receiving.queue);
            received += usize::from(!burst.is_empty());
            is_busy = burst.len() == BURST;
            if !is_busy {
                break;
            }
        }
        if is_busy != self.is_busy() {
            self.is_busy.store(is_busy, Ordering::SeqCst);
        }
        if received == 0 {
            return None;
        }
        let number = receiving.received;
        receiving.received += 1;
        drop(receiving);
        if is_busy {
            self.bells.iter().for_each(|bell| bell.ring());
        }
        Some((received, Place { lane: self, number }))
    }

    /// Does `work` with the receive queue while nobody receives.
    pub(crate) fn with_queue<T>(&self, work: impl FnOnce(&RxQueue) -> T) -> T {
        work(&self.receiving.lock().queue)
    }
}

impl Place<'_> {
    /// The position in `worker_cores` of the worker whose [`Exits`] the packets leave by.
    pub fn exit(&self) -> usize {
        self.lane.home
    }

    /// Waits until all turns before this one are sent. Returns the cycles that it took.
    #[inline]
    pub fn wait(&self) -> u64 {
        if self.is_next() { 0 } else { self.wait_long() }
    }

    /// Lets the next turn be sent: all of this one is.
    #[inline]
    pub fn pass_on(&self) {
        self.wait();
        // Only this turn's worker writes while it is this turn's.
        if self.lane.sent.load(Ordering::Relaxed) == self.number {
            self.lane.sent.store(self.number + 1, Ordering::Release);
        }
    }

    #[inline]
    fn is_next(&self) -> bool {
        self.lane.sent.load(Ordering::Acquire) >= self.number
    }

    #[inline(never)]
    fn wait_long(&self) -> u64 {
        let (begin, mut looks) = (tsc(), 0u32);
        while !self.is_next() {
            looks = looks.wrapping_add(1);
            if looks.is_multiple_of(LOOKS_PER_YIELD) {
                thread::yield_now();
            } else {
                hint::spin_loop();
            }
        }
        tsc().wrapping_sub(begin)
    }
}

impl Drop for Place<'_> {
    /// Also where its worker ends by a fault: the others go on.
    fn drop(&mut self) {
        self.pass_on();
    }
}
