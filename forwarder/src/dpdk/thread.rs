//! A thread that DPDK did not make, made known to it: without this it would have no cache of packet buffers of its own.

use super::Eal;
use super::error::{last_code, reason};
use dpdk_sys::{rte_thread_register, rte_thread_unregister};
use std::marker::PhantomData;

/// The calling thread is known to DPDK while this lives; it stays on that thread.
#[derive(Debug)]
pub struct Registration {
    _eal: Eal,
    one_thread: PhantomData<*const ()>,
}

impl Registration {
    /// Registers the calling thread.
    ///
    /// # Errors
    /// DPDK's reason: mostly that there are as many threads as it was built for.
    pub fn of_this_thread(eal: &Eal) -> Result<Registration, String> {
        // SAFETY: EAL runs, as `eal` is at hand.
        let code = unsafe { rte_thread_register() };
        if code != 0 {
            return Err(reason(last_code()));
        }
        Ok(Registration { _eal: eal.clone(), one_thread: PhantomData })
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        // SAFETY: this thread is registered, as the value never left it.
        unsafe { rte_thread_unregister() }
    }
}
