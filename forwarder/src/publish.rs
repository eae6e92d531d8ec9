//! Tables from the control thread to the workers: published whole, acknowledged by each, freed where they were made.
//!
//! A worker pays one atomic load per burst and never waits. The boundary between two bursts is the moment at which it
//! holds no reference into the old value, so that is where it takes the new one and says so. The publisher keeps a
//! reference of its own to every value until all workers have moved on: the last reference is dropped by the publisher,
//! hence no destructor ever runs on a packet core.

use crossbeam::channel::{Receiver, Sender, TrySendError, bounded};
use crossbeam::utils::CachePadded;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Values that may be under way to one worker at a time; a worker that is alive takes them within one burst.
const IN_FLIGHT: usize = 16;

/// The control thread's end.
#[derive(Debug)]
pub struct Publisher<T> {
    serial: u64,
    current: Arc<T>,
    retired: VecDeque<(u64, Arc<T>)>,
    links: Vec<Link<T>>,
}

#[derive(Debug)]
struct Link<T> {
    mail: Sender<Arc<T>>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    published: CachePadded<AtomicU64>, // written by the publisher, read by the worker once per burst
    acknowledged: CachePadded<AtomicU64>, // written by the worker, read by the publisher
}

/// A worker's end.
#[derive(Debug)]
pub struct Subscriber<T> {
    serial: u64,
    current: Arc<T>,
    mail: Receiver<Arc<T>>,
    shared: Arc<Shared>,
}

/// A worker has not taken the last values: it is stalled or gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("worker {worker} does not take new tables: {IN_FLIGHT} wait for it already")]
pub struct Stalled {
    /// Its position among the subscribers.
    pub worker: usize,
}

impl<T> Publisher<T> {
    /// A publisher of `first`, which every subscriber begins with.
    pub fn new(first: T) -> Self {
        Publisher { serial: 0, current: Arc::new(first), retired: VecDeque::new(), links: Vec::new() }
    }

    /// One more subscriber, which begins with the current value.
    pub fn subscribe(&mut self) -> Subscriber<T> {
        let (mail, inbox) = bounded(IN_FLIGHT);
        let shared = Arc::new(Shared {
            published: CachePadded::new(AtomicU64::new(self.serial)),
            acknowledged: CachePadded::new(AtomicU64::new(self.serial)),
        });
        self.links.push(Link { mail, shared: shared.clone() });
        Subscriber { serial: self.serial, current: self.current.clone(), mail: inbox, shared }
    }

    /// The value that was published last.
    pub fn current(&self) -> &T {
        &self.current
    }

    /// Hands `next` to every subscriber and returns at once; [`settled`](Self::settled) tells when all run on it.
    ///
    /// # Errors
    /// [`Stalled`] where a worker's mail is full; then no worker gets the value and the old one stays current.
    pub fn publish(&mut self, next: T) -> Result<(), Stalled> {
        if let Some(worker) = self.links.iter().position(|link| link.mail.is_full()) {
            return Err(Stalled { worker });
        }
        let next = Arc::new(next);
        self.serial += 1;
        self.retired.push_back((self.serial, std::mem::replace(&mut self.current, next)));
        for link in &self.links {
            // Only this thread fills the channel and there was room. A worker that has ended needs no tables.
            if let Err(TrySendError::Disconnected(_)) = link.mail.try_send(self.current.clone()) {
                link.shared.acknowledged.store(u64::MAX, Ordering::Release);
            }
            link.shared.published.store(self.serial, Ordering::Release);
        }
        Ok(())
    }

    /// Whether every subscriber runs on the current value. Values that none uses any more are freed here.
    pub fn settled(&mut self) -> bool {
        let oldest = self.links.iter().map(|link| link.shared.acknowledged.load(Ordering::Acquire)).min();
        let oldest = oldest.unwrap_or(u64::MAX);
        while self.retired.front().is_some_and(|(replaced_at, _)| *replaced_at <= oldest) {
            self.retired.pop_front();
        }
        self.retired.is_empty()
    }

    /// The subscribers that do not run on the current value yet, by position.
    pub fn behind(&self) -> Vec<usize> {
        let lags = |link: &Link<T>| link.shared.acknowledged.load(Ordering::Acquire) < self.serial;
        self.links.iter().enumerate().filter(|(_, link)| lags(link)).map(|(worker, _)| worker).collect()
    }
}

impl<T> Subscriber<T> {
    /// The value to work with. The reference ends at the next [`refresh`](Self::refresh), which is the point of it.
    #[inline]
    pub fn current(&self) -> &T {
        &self.current
    }

    /// Takes a newer value where there is one and acknowledges it: call it between bursts. Costs one atomic load where
    /// there is none. Returns whether the value changed.
    #[inline]
    pub fn refresh(&mut self) -> bool {
        self.shared.published.load(Ordering::Acquire) != self.serial && self.take()
    }

    #[cold]
    fn take(&mut self) -> bool {
        let mut changed = false;
        while let Ok(next) = self.mail.try_recv() {
            // Never the last reference: the publisher holds one until this worker acknowledges.
            self.current = next;
            self.serial += 1;
            changed = true;
        }
        self.shared.acknowledged.store(self.serial, Ordering::Release);
        changed
    }
}

impl<T> Drop for Subscriber<T> {
    fn drop(&mut self) {
        // A worker that has ended holds nothing up.
        self.shared.acknowledged.store(u64::MAX, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;
    use std::thread::{self, ThreadId};

    struct Witness {
        number: u64,
        freed_on: Arc<std::sync::Mutex<Vec<ThreadId>>>,
    }

    impl Drop for Witness {
        fn drop(&mut self) {
            self.freed_on.lock().unwrap().push(thread::current().id());
        }
    }

    #[test]
    fn a_value_is_kept_until_the_last_worker_left_it() {
        let mut publisher = Publisher::new(1);
        let mut fast = publisher.subscribe();
        let mut slow = publisher.subscribe();
        publisher.publish(2).unwrap();
        assert!(fast.refresh());
        assert!(!publisher.settled());
        assert_eq!(publisher.behind(), [1]);
        assert_eq!((*fast.current(), *slow.current()), (2, 1));
        assert!(slow.refresh());
        assert!(publisher.settled());
        assert!(!slow.refresh());
    }

    #[test]
    fn several_values_at_once_end_in_the_last() {
        let mut publisher = Publisher::new(0);
        let mut worker = publisher.subscribe();
        for value in 1..=IN_FLIGHT {
            publisher.publish(value).unwrap();
        }
        assert_eq!(publisher.publish(99), Err(Stalled { worker: 0 }));
        assert!(worker.refresh());
        assert_eq!(*worker.current(), IN_FLIGHT);
        assert!(publisher.settled());
    }

    #[test]
    fn a_worker_that_ended_holds_nothing_up() {
        let mut publisher = Publisher::new(1);
        drop(publisher.subscribe());
        publisher.publish(2).unwrap();
        publisher.publish(3).unwrap();
        assert!(publisher.settled());
    }

    #[test]
    fn values_go_forward_only_and_are_freed_by_the_publisher() {
        let freed_on = Arc::new(std::sync::Mutex::new(Vec::new()));
        let made = std::cell::Cell::new(0);
        let witness = |number| {
            made.set(made.get() + 1);
            Witness { number, freed_on: freed_on.clone() }
        };
        let mut publisher = Publisher::new(witness(0));
        let done = Arc::new(AtomicUsize::new(0));
        let workers: Vec<_> = (0..2)
            .map(|_| {
                let mut worker = publisher.subscribe();
                let done = done.clone();
                thread::spawn(move || {
                    let mut seen = 0;
                    while seen < 200 {
                        worker.refresh();
                        assert!(worker.current().number >= seen);
                        seen = worker.current().number;
                    }
                    done.fetch_add(1, Ordering::SeqCst);
                    while done.load(Ordering::SeqCst) != 3 {
                        worker.refresh();
                        thread::yield_now();
                    }
                })
            })
            .collect();
        for number in 1..=200 {
            while publisher.publish(witness(number)).is_err() {
                thread::yield_now();
            }
            publisher.settled();
        }
        while !publisher.settled() {
            thread::yield_now();
        }
        done.fetch_add(1, Ordering::SeqCst);
        for worker in workers {
            worker.join().unwrap();
        }
        drop(publisher);
        let freed_on = freed_on.lock().unwrap();
        assert_eq!(freed_on.len(), made.get());
        assert!(freed_on.iter().all(|id| *id == thread::current().id()));
    }
}
