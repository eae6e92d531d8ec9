//! A port: one device, set up, started, and handed to the workers queue by queue.

use super::{DpdkError, Eal};
use crate::table::{Mac, PortId};

/// What the configuration says about a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortOptions {
    /// Its name in the configuration, for errors.
    pub name: String,
    /// A PCI address, or a virtual device with its arguments such as `net_tap0,iface=bh0`.
    pub device: String,
    /// IP bytes, without Ethernet header and tags.
    pub mtu: u16,
    /// Its Ethernet address; `None`: the device's own.
    pub mac: Option<Mac>,
    /// Receive queues.
    pub rx_queues: RxQueues,
    /// How received packets are spread over receive queues.
    pub rss: Rss,
}

/// How many receive queues a port has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RxQueues {
    /// One a worker, as far as the device has them.
    #[default]
    Auto,
    /// So many.
    Exactly(u16),
}

/// Receive-side scaling: how a device spreads packets over its receive queues.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rss {
    /// By inner headers where the device can, else by outer ones.
    #[default]
    Auto,
    /// By outer headers.
    Outer,
    /// By inner headers.
    Inner,
    /// Not at all.
    Off,
}

/// An opened and started device; stopped and closed when it and its queues are dropped.
#[derive(Debug)]
pub struct Port {
    id: PortId,
    mac: Mac,
}

/// One worker's share of a port.
#[derive(Debug)]
pub struct Queues {
    /// The port's position in the configuration.
    pub port: PortId,
}

/// What a device counted since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortStats {
    /// Packets received.
    pub rx_packets: u64,
    /// Their bytes.
    pub rx_bytes: u64,
    /// Packets that the device dropped because its queue was full.
    pub rx_missed: u64,
    /// Packets that came in damaged.
    pub rx_errors: u64,
    /// Packets lost for want of a buffer.
    pub rx_no_buffer: u64,
    /// Packets transmitted.
    pub tx_packets: u64,
    /// Their bytes.
    pub tx_bytes: u64,
    /// Packets that could not be transmitted.
    pub tx_errors: u64,
}

/// The state of a device's link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Whether there is one.
    pub up: bool,
    /// Speed in Mbit/s; `None` where the device does not say.
    pub mbps: Option<u32>,
    /// Whether both sides may send at once.
    pub full_duplex: bool,
}

impl Port {
    /// Opens and starts every port, with one transmit queue for each of `workers` workers; a port's [`PortId`] is its
    /// position in `ports`.
    ///
    /// # Errors
    /// [`DpdkError`] with the first port that cannot be set up as asked; the others are closed again.
    pub fn open_all(eal: &Eal, workers: usize, ports: &[PortOptions]) -> Result<Vec<Port>, DpdkError> {
        let _ = (eal, workers, ports);
        Ok(Vec::new())
    }

    /// Its position in the configuration.
    pub fn id(&self) -> PortId {
        self.id
    }

    /// The Ethernet address it has.
    pub fn mac(&self) -> Mac {
        self.mac
    }

    /// What it is, for people: the driver's name and the device string.
    pub fn description(&self) -> String {
        String::new()
    }

    /// The number of receive queues.
    pub fn rx_queues(&self) -> usize {
        0
    }

    /// What the device counted.
    pub fn stats(&self) -> PortStats {
        PortStats::default()
    }

    /// The link's state, without waiting for it.
    pub fn link(&self) -> Link {
        Link::default()
    }

    /// The queues of the worker at this position of `worker_cores`; `None` where they are taken or there is no such
    /// worker.
    pub fn take_queues(&mut self, worker: usize) -> Option<Queues> {
        let _ = worker;
        None
    }
}
