//! Receive interrupts, by which a worker that polls no more learns that a packet has come.
//!
//! DPDK hands them on as file descriptors, which differ by driver: an event counter, a completion channel, the packets
//! themselves. It knows which of them to read and which to leave alone, so that it is asked to take what came. It tells
//! of what comes, not of what is there: of what came since it told last.

use super::device::Device;
use super::lane::Lane;
use super::queue::RxQueue;
use dpdk_sys::{
    CULVERT_INTERRUPT_ADD, CULVERT_INTERRUPT_REMOVE, rte_epoll_event, rte_epoll_wait,
    rte_eth_dev_rx_intr_ctl_q, rte_eth_dev_rx_intr_disable, rte_eth_dev_rx_intr_enable,
};
use rustix::event::epoll;
use std::ffi::c_int;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr;
use std::sync::Arc;

/// What a driver says that has nothing to switch on and off: its interrupts are always on.
const ENOTSUP: c_int = 95;

/// Events taken with one call; more come with the next.
const EVENTS: usize = 8;

/// Where the interrupts of one worker's receive queues come in.
#[derive(Debug)]
pub struct Interrupts {
    epoll: OwnedFd,
    queues: Vec<Armed>,
}

/// A queue that has been added.
#[derive(Debug)]
struct Armed {
    device: Arc<Device>,
    queue: u16,
    /// Where others use it as well.
    lane: Option<Arc<Lane>>,
}

impl Interrupts {
    /// Without a queue.
    ///
    /// # Errors
    /// The system's, where there are no file descriptors left.
    pub fn new() -> io::Result<Interrupts> {
        Ok(Interrupts { epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?, queues: Vec::new() })
    }

    /// Adds a queue of the calling worker's. `false` where it has no interrupts, or none of its own.
    pub fn add(&mut self, queue: &RxQueue) -> bool {
        self.add_shared(queue, None)
    }

    /// The same with the queue of a lane, at which no other worker waits for interrupts.
    pub fn add_lane(&mut self, lane: &Arc<Lane>) -> bool {
        lane.with_queue(|queue| self.add_shared(queue, Some(lane.clone())))
    }

    fn add_shared(&mut self, queue: &RxQueue, lane: Option<Arc<Lane>>) -> bool {
        let (device, queue, has_interrupts) = queue.parts();
        let is_added = has_interrupts && self.control(device, queue, CULVERT_INTERRUPT_ADD);
        if is_added {
            self.queues.push(Armed { device: device.clone(), queue, lane });
        }
        is_added
    }

    /// Asks for an interrupt once a packet comes, until [`disarm`](Self::disarm): poll once more for those that came before.
    /// `false` where a queue cannot.
    pub fn arm(&self) -> bool {
        let mut all = true;
        for armed in &self.queues {
            let code = armed.alone(|device, queue| {
                // SAFETY: the device is started with this queue, which the caller alone uses meanwhile.
                unsafe { rte_eth_dev_rx_intr_enable(device.id(), queue) }
            });
            all &= code == 0 || code == -ENOTSUP;
        }
        all
    }

    /// Takes [`arm`](Self::arm) back.
    pub fn disarm(&self) {
        for armed in &self.queues {
            armed.alone(|device, queue| {
                // SAFETY: the device is started with this queue, which the caller alone uses meanwhile. One that cannot be
                // switched off wakes the worker from its next sleep, for nothing.
                let _ = unsafe { rte_eth_dev_rx_intr_disable(device.id(), queue) };
            });
        }
    }

    /// Takes what came, so that it does not come in again.
    pub fn take(&self) {
        let mut events = [rte_epoll_event::default(); EVENTS];
        // SAFETY: there is room for so many events, and it does not wait.
        let _ = unsafe { rte_epoll_wait(self.epoll.as_raw_fd(), events.as_mut_ptr(), EVENTS as c_int, 0) };
    }

    fn control(&self, device: &Device, queue: u16, operation: c_int) -> bool {
        let (device, epoll) = (device.id(), self.epoll.as_raw_fd());
        // SAFETY: the device is started with this queue and the descriptor is open. DPDK keeps its own memory for the event
        // until it is removed, which happens before either is let go.
        unsafe { rte_eth_dev_rx_intr_ctl_q(device, queue, epoll, operation, ptr::null_mut()) == 0 }
    }
}

impl AsFd for Interrupts {
    /// Readable once an interrupt came.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

impl Drop for Interrupts {
    fn drop(&mut self) {
        for Armed { device, queue, .. } in &self.queues {
            self.control(device, *queue, CULVERT_INTERRUPT_REMOVE);
        }
    }
}

impl Armed {
    /// Does `work` while no other worker uses the queue.
    fn alone<T>(&self, work: impl FnOnce(&Device, u16) -> T) -> T {
        match &self.lane {
            Some(lane) => lane.with_queue(|_| work(&self.device, self.queue)),
            None => work(&self.device, self.queue),
        }
    }
}
