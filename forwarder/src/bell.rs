//! What wakes a worker that sleeps when another one has more packets than it can do.
//!
//! Who rings pays one load while the other is awake, and a system call for the first time after its silence. Nothing is
//! lost between the last look of the one and the first sleep of the other: the sleeper says that it is about to sleep and
//! looks once more, the other says that there is something and then looks whether somebody sleeps. All of it is in one total
//! order (`SeqCst`), so one of the two sees what the other did.

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::{read, write};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// A bell beside one worker's bed.
#[derive(Debug)]
pub(crate) struct Bell {
    sleeps: AtomicBool, // set by the worker that sleeps, taken back by it and by who wakes it
    event: OwnedFd,
}

impl Bell {
    /// One that wakes nobody yet.
    ///
    /// # Errors
    /// The system's, where there are no file descriptors left.
    pub(crate) fn new() -> io::Result<Bell> {
        let event = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        Ok(Bell { sleeps: AtomicBool::new(false), event })
    }

    /// Wakes the worker if it sleeps or is about to: call it once there is something for it.
    #[inline]
    pub(crate) fn ring(&self) {
        if self.sleeps.load(Ordering::SeqCst) {
            self.wake();
        }
    }

    #[cold]
    fn wake(&self) {
        if self.sleeps.swap(false, Ordering::SeqCst) {
            // It fails only where nobody has read for 2^64 times.
            let _ = write(&self.event, &1u64.to_ne_bytes());
        }
    }

    /// Says that its worker is about to sleep, and will once it has looked again and found nothing.
    pub(crate) fn hang(&self) {
        self.sleeps.store(true, Ordering::SeqCst);
    }

    /// Says that its worker looks for itself again, and forgets that it rang. A ring that is under way wakes the worker from
    /// its next sleep, for nothing.
    pub(crate) fn take_down(&self) {
        self.sleeps.store(false, Ordering::SeqCst);
        // Nothing to read is an error as well, and well.
        let _ = read(&self.event, &mut [0; 8]);
    }
}

impl AsFd for Bell {
    /// Readable once it rang.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    fn rings(bell: &Bell) -> bool {
        poll(&mut [PollFd::new(bell, PollFlags::IN)], Some(&Timespec::default())).unwrap() == 1
    }

    #[test]
    fn it_rings_only_for_who_sleeps_and_only_once() {
        let bell = Bell::new().unwrap();
        bell.ring();
        assert!(!rings(&bell));
        bell.hang();
        assert!(!rings(&bell));
        bell.ring();
        bell.ring();
        assert!(rings(&bell));
        bell.take_down();
        bell.ring();
        assert!(!rings(&bell));
    }

    #[test]
    fn nobody_sleeps_through_what_there_is_for_it() {
        use crossbeam::queue::ArrayQueue;
        const ROUNDS: u32 = 20_000;
        let (bell, queue) = (Bell::new().unwrap(), ArrayQueue::new(1));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for mut round in 0..ROUNDS {
                    while let Err(again) = queue.push(round) {
                        round = again;
                        std::thread::yield_now();
                    }
                    bell.ring();
                }
            });
            let mut next = 0;
            while next < ROUNDS {
                bell.hang();
                let mut found = queue.pop();
                if found.is_none() {
                    let forever = None;
                    poll(&mut [PollFd::new(&bell, PollFlags::IN)], forever).unwrap();
                    bell.take_down();
                    found = queue.pop();
                }
                if let Some(found) = found {
                    assert_eq!(found, next);
                    next += 1;
                }
            }
        });
    }
}
