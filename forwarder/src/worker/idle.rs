//! What a worker does while no packets come.
//!
//! With [`Idle::Poll`] it polls on. With [`Idle::Sleep`] it polls on for some thousand rounds, in which it yields its core to
//! others now and then, and then waits until
//!
//! - one of its receive queues has a packet, where the device has receive interrupts. They are armed first and the queues
//!   polled once more, so that no packet slips in between; while packets come they are off and cost nothing.
//! - another worker received a full burst from a queue that both share, and rings its [`Bell`]; hung up and the queue looked
//!   at once more in the same way.
//! - some time has passed. Tables, empty histograms, taps, the order to stop, and fragments whose time is over are seen
//!   with the next round, so that they wait for [`LONGEST_WAIT`] at the most, and nobody has to wake a worker for them.
//!
//! Devices without interrupts (files, memory, `net_pcap`, `net_null`, `net_ring`) have to be looked at, and a packet of theirs
//! waits until then. What a wake-up costs differs by a factor of ten between machines, above all where a hypervisor keeps
//! the timer. So it is measured, and the waits are as short as a small share of the core allows: [`Pace`].

use super::Idle;
use crate::bell::Bell;
use crate::dpdk::{Interrupts, Lane, RxQueue};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::thread::set_current_timer_slack;
use rustix::time::{ClockId, clock_gettime};
use std::io;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// Empty rounds before the first wait: a few hundred microseconds at the most, which is what a wake-up may cost.
const ROUNDS_BEFORE_SLEEP: u32 = 4_096;

/// Empty rounds, a few microseconds, until others may use the core for a moment: who waits for the packet that was sent last
/// may be among them.
const ROUNDS_PER_YIELD: u32 = 64;

/// Empty rounds after an interrupt that no packet follows, some hundred microseconds, each with the core offered to others:
/// `net_tap` lets a worker see a packet only once the control thread, which may be waiting for the same core, has had a
/// signal.
const ROUNDS_AFTER_WAKE: u32 = 1_024;

/// Short waits, as if no device had interrupts, where that was not enough.
const WAITS_AFTER_WAKE: u32 = 64;

/// The longest wait, a fifth of a percent of a core where a wake-up takes 20 µs.
const LONGEST_WAIT: Duration = Duration::from_millis(10);

/// How a worker rests.
#[derive(Debug)]
pub(super) struct Rest {
    sleeper: Option<Sleeper>,
    /// Empty rounds since the last packet; armed from [`ROUNDS_BEFORE_SLEEP`] on.
    rounds: u32,
    /// Nothing was found since an interrupt.
    is_woken: bool,
}

#[derive(Debug)]
struct Sleeper {
    interrupts: Interrupts,
    /// Every receive queue has interrupts: none has to be looked at.
    is_complete: bool,
    /// All that have are armed.
    is_armed: bool,
    pace: Pace,
}

impl Rest {
    /// For the calling thread, which polls these queues, and these lanes before any other worker does.
    ///
    /// # Errors
    /// The system's, where it has no file descriptor for a worker that may sleep.
    pub(super) fn new<'a>(
        idle: Idle,
        queues: impl Iterator<Item = &'a RxQueue>,
        lanes: impl Iterator<Item = &'a Arc<Lane>>,
    ) -> io::Result<Rest> {
        let sleeper = match idle {
            Idle::Poll => None,
            Idle::Sleep => {
                // Linux adds 50 µs to short waits otherwise. Waits are longer where it refuses.
                let _ = set_current_timer_slack(NonZeroU64::new(1));
                let mut interrupts = Interrupts::new()?;
                let mut is_complete = true;
                for queue in queues {
                    is_complete &= interrupts.add(queue);
                }
                for lane in lanes {
                    is_complete &= interrupts.add_lane(lane);
                }
                Some(Sleeper { interrupts, is_complete, is_armed: false, pace: Pace::default() })
            }
        };
        Ok(Rest { sleeper, rounds: 0, is_woken: false })
    }

    /// After a round of polls that found something.
    #[inline]
    pub(super) fn end(&mut self, bell: &Bell) {
        if self.rounds >= ROUNDS_BEFORE_SLEEP {
            self.wake(bell);
        }
        self.rounds = 0;
        self.is_woken = false;
    }

    /// After a round of polls that found nothing: polls on, or waits.
    pub(super) fn go_on(&mut self, bell: &Bell) {
        let Some(sleeper) = &mut self.sleeper else { return };
        self.rounds = self.rounds.saturating_add(1);
        if self.rounds < ROUNDS_BEFORE_SLEEP {
            if self.is_woken || self.rounds.is_multiple_of(ROUNDS_PER_YIELD) {
                thread::yield_now();
            }
        } else if self.rounds == ROUNDS_BEFORE_SLEEP {
            bell.hang();
            sleeper.is_armed = sleeper.interrupts.arm();
        } else if sleeper.wait(bell, self.is_woken && self.rounds <= ROUNDS_BEFORE_SLEEP + WAITS_AFTER_WAKE) {
            self.end(bell);
            self.rounds = ROUNDS_BEFORE_SLEEP - ROUNDS_AFTER_WAKE;
            self.is_woken = true;
        }
    }

    /// The worker stops, or has something to do.
    #[cold]
    fn wake(&mut self, bell: &Bell) {
        if let Some(sleeper) = &mut self.sleeper {
            sleeper.interrupts.disarm();
            bell.take_down();
            sleeper.pace.interrupt();
        }
    }
}

impl Sleeper {
    /// Waits for a packet, at the most as long as it may; `was_told` that there is one. Returns whether it was told; what is
    /// armed stays armed.
    fn wait(&mut self, bell: &Bell, was_told: bool) -> bool {
        let is_told = self.is_complete && self.is_armed && !was_told;
        let limit = if is_told { LONGEST_WAIT } else { self.pace.wait(thread_time) };
        let limit = Timespec { tv_sec: 0, tv_nsec: limit.subsec_nanos().into() };
        let mut events = [PollFd::new(&self.interrupts, PollFlags::IN), PollFd::new(bell, PollFlags::IN)];
        // What ends it otherwise, a signal above all, is a reason to look as well.
        let came = poll(&mut events, Some(&limit)) != Ok(0);
        if came {
            self.interrupts.take();
        }
        came
    }
}

/// How long a worker waits between two looks at devices that cannot say that a packet has come.
#[derive(Debug)]
struct Pace {
    wait: Duration,
    /// Waits since [`since`](Self::since) of the thread's time.
    waits: u32,
    since: Duration,
}

impl Pace {
    /// Half of what a packet may wait at the most, which leaves the other half to the machine.
    const SHORTEST: Duration = Duration::from_micros(50);
    /// Nothing that a worker waits for needs longer.
    const LONGEST: Duration = Duration::from_millis(1);
    /// A wake-up with its round of polls may take a 25th of the core.
    const TIMES_THE_COST: u32 = 24;
    /// Waits that are measured together.
    const WAITS: u32 = 64;

    /// How long to wait; `time` tells the time that the thread has had, and is asked now and then.
    fn wait(&mut self, time: impl FnOnce() -> Duration) -> Duration {
        if self.waits.is_multiple_of(Self::WAITS) {
            let time = time();
            if self.waits != 0 {
                let cost = time.saturating_sub(self.since) / Self::WAITS;
                self.wait = (cost * Self::TIMES_THE_COST).clamp(Self::SHORTEST, Self::LONGEST);
                self.waits = 0;
            }
            self.since = time;
        }
        self.waits += 1;
        self.wait
    }

    /// The thread had something else to do.
    fn interrupt(&mut self) {
        self.waits = 0;
    }
}

impl Default for Pace {
    fn default() -> Self {
        Pace { wait: Self::SHORTEST, waits: 0, since: Duration::ZERO }
    }
}

/// The time that a core has spent on the calling thread.
fn thread_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The wait after a long silence in which each wake-up costs so many microseconds.
    fn settled(cost: u64, pace: &mut Pace) -> Duration {
        let mut micros = 0;
        for _ in 0..3 * Pace::WAITS {
            pace.wait(|| Duration::from_micros(micros));
            micros += cost;
        }
        pace.wait
    }

    #[test]
    fn waits_are_as_short_as_a_25th_of_the_core_allows() {
        for (cost, wait) in [(0, 50), (2, 50), (3, 72), (20, 480), (50, 1_000)] {
            assert_eq!(
                settled(cost, &mut Pace::default()),
                Duration::from_micros(wait),
                "{cost} µs a wake-up"
            );
        }
    }

    #[test]
    fn what_a_worker_did_for_packets_does_not_make_its_waits_longer() {
        let mut pace = Pace::default();
        let wait = settled(10, &mut pace);
        for _ in 0..10 {
            pace.interrupt();
            let mut calls = 0;
            pace.wait(|| {
                calls += 1;
                Duration::from_secs(calls)
            });
            assert_eq!(pace.wait, wait);
        }
    }
}
