//! What can go wrong with DPDK, said with the names of the configuration.

/// Why the environment or a port could not be set up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DpdkError {
    /// A second start in one process.
    #[error("DPDK was started before: it can be started once in a process")]
    AlreadyStarted,
}
