//! What can go wrong with DPDK, said with the names of the configuration and DPDK's own reason.

use dpdk_sys::{culvert_errno, rte_strerror};
use std::ffi::{CStr, c_int};

/// Why the environment or a port could not be set up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DpdkError {
    /// A second start in one process.
    #[error("DPDK was started before: it can be started once in a process")]
    AlreadyStarted,

    /// A core that is not there.
    #[error("core {core} is not online: this machine has {online}")]
    NoSuchCore {
        /// The core asked for.
        core: usize,
        /// Those that there are, as Linux lists them: `0-3,8`.
        online: String,
    },

    /// Hugepages are required and too few are free.
    #[error(
        "hugepages = \"required\" needs {needed} MiB of free hugepages, found {free} MiB in /sys/kernel/mm/hugepages; \
         reserve more with scripts/nic or sysctl vm.nr_hugepages, or say hugepages = \"auto\""
    )]
    Hugepages {
        /// What the ports need, in MiB.
        needed: u64,
        /// What is free, in MiB.
        free: u64,
    },

    /// A text that C cannot take.
    #[error("{what} holds a NUL byte: {value:?}")]
    Nul {
        /// What it is.
        what: &'static str,
        /// The text.
        value: String,
    },

    /// EAL did not start.
    #[error("DPDK does not start with the arguments {arguments:?}: {reason}; its log, above, says more")]
    Start {
        /// What it was given.
        arguments: Vec<String>,
        /// DPDK's reason.
        reason: String,
    },

    /// Two ports on one device.
    #[error("port {port}: device {device:?} is port {other}'s already")]
    SameDevice {
        /// The later port.
        port: String,
        /// Its device.
        device: String,
        /// The earlier port.
        other: String,
    },

    /// A device that cannot be opened.
    #[error("port {port}: device {device:?} cannot be opened: {reason}{hint}")]
    Probe {
        /// The port.
        port: String,
        /// Its device.
        device: String,
        /// DPDK's reason.
        reason: String,
        /// What usually is the cause with this kind of device, with the punctuation before it.
        hint: &'static str,
    },

    /// A TAP port whose interface is there already, of another program or of another kind.
    #[error(
        "port {port}: device {device:?} cannot be opened: an interface {interface} exists already; \
         stop the program that made it, delete it, or name another one"
    )]
    InterfaceExists {
        /// The port.
        port: String,
        /// Its device.
        device: String,
        /// The interface.
        interface: String,
    },

    /// Fewer transmit queues than workers.
    #[error(
        "port {port}: device {device:?} has {queues} transmit queues, and {workers} workers need one each; \
         name no more than {queues} worker_cores"
    )]
    TxQueues {
        /// The port.
        port: String,
        /// Its device.
        device: String,
        /// Queues that the device has.
        queues: usize,
        /// Workers that there are.
        workers: usize,
    },

    /// Fewer receive queues than asked for.
    #[error("port {port}: rx_queues = {asked}, but device {device:?} has 1 to {queues}")]
    RxQueues {
        /// The port.
        port: String,
        /// Its device.
        device: String,
        /// What the configuration asks for.
        asked: u16,
        /// What the device has.
        queues: u16,
    },

    /// An MTU that the device does not take.
    #[error("port {port}: mtu = {mtu}, but device {device:?} takes {min} to {max}")]
    Mtu {
        /// The port.
        port: String,
        /// Its device.
        device: String,
        /// What the configuration asks for.
        mtu: u16,
        /// The least that the device takes.
        min: u16,
        /// The most.
        max: u16,
    },

    /// Receive-side scaling that the device cannot do.
    #[error("port {port}: device {device:?} cannot spread packets by {fields} headers; say rss = {instead}")]
    Rss {
        /// The port.
        port: String,
        /// Its device.
        device: String,
        /// The headers asked for.
        fields: &'static str,
        /// What to say in the configuration.
        instead: &'static str,
    },

    /// A step of setting the device up that it refused.
    #[error("port {port}: device {device:?}: cannot {step}: {reason}; DPDK's log, above, may say more")]
    Setup {
        /// The port.
        port: String,
        /// Its device.
        device: String,
        /// What was tried.
        step: &'static str,
        /// DPDK's reason.
        reason: String,
    },

    /// A worker that could not be woken.
    #[error("no eventfd by which workers wake each other: {reason}")]
    Bell {
        /// The system's reason.
        reason: String,
    },

    /// Packet memory that cannot be had.
    #[error("{packets} packet buffers of {bytes} bytes each cannot be allocated: {reason}")]
    Pool {
        /// How many.
        packets: u32,
        /// The size of one.
        bytes: u16,
        /// DPDK's reason.
        reason: String,
    },
}

/// DPDK's text for an error code, of either sign.
pub(crate) fn reason(code: c_int) -> String {
    // SAFETY: takes any number; the text is a constant or in a buffer of the calling thread.
    let text = unsafe { rte_strerror(code.saturating_abs()) };
    // SAFETY: never null, and ends with a NUL; copied before this thread can ask again.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_string_lossy().into_owned()
}

/// The code that the last failed call of this thread left behind.
pub(crate) fn last_code() -> c_int {
    // SAFETY: reads a thread-local number.
    unsafe { culvert_errno() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_the_same_for_both_signs() {
        assert_eq!(reason(-12), "Cannot allocate memory");
        assert_eq!(reason(12), "Cannot allocate memory");
    }
}
