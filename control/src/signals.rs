//! Signals as flags that the control loop looks at, and a descriptor that wakes it.
//!
//! They are taken from the first moment of `culvert run`, so one that comes during start-up or in the middle of a reload
//! waits for its turn. The second request to stop ends the process at once.

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::{flag, low_level};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The exit code of a process that was told twice to stop.
const IMPATIENT: i32 = 1;

/// The signals that culvert answers.
#[derive(Debug)]
pub(crate) struct Signals {
    reload: Arc<AtomicBool>, // set by the signal handler, cleared by the control thread
    stop: Arc<AtomicBool>,   // set by the signal handler, read by the control thread
    wake: UnixStream,
}

impl Signals {
    /// Takes SIGHUP, SIGTERM and SIGINT from here on.
    pub(crate) fn register() -> io::Result<Self> {
        let (reload, stop) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (wake, waker) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        for signal in [SIGTERM, SIGINT] {
            // In this order: the first signal finds the flag clear and sets it, the second one finds it set.
            flag::register_conditional_shutdown(signal, IMPATIENT, stop.clone())?;
            flag::register(signal, stop.clone())?;
            low_level::pipe::register(signal, waker.try_clone()?)?;
        }
        flag::register(SIGHUP, reload.clone())?;
        low_level::pipe::register(SIGHUP, waker)?;
        Ok(Signals { reload, stop, wake })
    }

    /// Readable once a signal came, until [`clear`](Self::clear).
    pub(crate) fn wake(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    /// Makes [`wake`](Self::wake) silent; call it before looking at the flags, so that none is missed.
    pub(crate) fn clear(&self) {
        let mut bytes = [0; 64];
        while matches!((&self.wake).read(&mut bytes), Ok(count) if count > 0) {}
    }

    /// Whether the process was told to stop.
    pub(crate) fn stop_asked(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// Whether a reload was asked for since the last call.
    pub(crate) fn take_reload(&self) -> bool {
        self.reload.swap(false, Ordering::AcqRel)
    }
}
