//! A port: one device, set up, started, and handed to the workers queue by queue.

use super::Eal;
use super::device::{DESCRIPTORS, Device, Plan};
use super::error::DpdkError;
use super::lane::{Exits, Lane};
use super::pool::PoolSize;
use super::queue::{RxQueue, TxBuffer};
use super::spreading::{Spread, Spreading};
use crate::bell::Bell;
use crate::table::{Mac, PortId};
use crossbeam::utils::CachePadded;
use dpdk_sys::{CULVERT_SPEED_UNKNOWN, culvert_link, rte_eth_stats, rte_eth_stats_get};
use spin::mutex::SpinMutex;
use std::sync::Arc;

/// What the configuration says about a port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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
    /// Whether a worker may wait for receive interrupts of it, if the device has them.
    pub interrupts: bool,
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
    /// By inner headers where the device can and has a queue for each worker; else by the workers.
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
    plan: Plan,
    queues: Vec<Option<Queues>>,
    description: String,
    has_interrupts: bool,
    device: Arc<Device>,
}

/// One worker's share of a port.
#[derive(Debug)]
pub struct Queues {
    /// The port's position in the configuration.
    pub port: PortId,
    /// Receive queues to poll: queue q is worker q's, of further ones every worker takes its share in turn. None where
    /// the port has fewer receive queues than there are workers.
    pub rx: Vec<RxQueue>,
    /// The transmit queue.
    pub tx: TxBuffer,
}

/// One worker's part of all ports.
#[derive(Debug)]
pub struct Part {
    /// Receive queues that it alone polls, with their ports.
    pub rx: Vec<(PortId, RxQueue)>,
    /// Receive queues that all workers share.
    pub lanes: Vec<Arc<Lane>>,
    /// Transmit queues.
    pub tx: Exits,
    /// Rung while it may sleep and a lane needs help.
    pub(crate) bell: Arc<Bell>,
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
        refuse_doubles(ports)?;
        let mut planned = Vec::with_capacity(ports.len());
        for options in ports {
            let device = Device::open(eal, options)?;
            let plan = device.plan(options, workers)?;
            planned.push((options, device, plan));
        }
        let descriptors: u32 = planned.iter().map(|(_, _, plan)| plan.descriptors()).sum();
        let size = PoolSize::new(largest_mtu(ports), descriptors, workers);
        let opened = planned.into_iter().enumerate();
        opened
            .map(|(index, (options, device, plan))| Port::start(index, options, device, plan, size))
            .collect()
    }

    fn start(
        index: usize,
        options: &PortOptions,
        mut device: Device,
        plan: Plan,
        size: PoolSize,
    ) -> Result<Port, DpdkError> {
        let pool = device.eal().pool(device.socket(), size)?;
        let mac = device.start(options, &plan, &pool)?;
        let description = format!("{} ({})", device.driver(), options.device);
        let id = PortId(index as u16);
        let device = Arc::new(device);
        let queues_of = |worker: u16| (worker..plan.rx_queues).step_by(usize::from(plan.tx_queues));
        let share = |worker: u16| {
            let own = queues_of(worker);
            Queues {
                port: id,
                rx: own.map(|queue| RxQueue::new(device.clone(), queue)).collect(),
                tx: TxBuffer::new(device.clone(), worker, pool.clone()),
            }
        };
        let queues: Vec<Queues> = (0..plan.tx_queues).map(share).collect();
        let has_interrupts = queues.iter().flat_map(|queues| &queues.rx).all(RxQueue::has_interrupts);
        let queues = queues.into_iter().map(Some).collect();
        Ok(Port { id, mac, plan, queues, description, has_interrupts, device })
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
    pub fn description(&self) -> &str {
        &self.description
    }

    /// The number of receive queues.
    pub fn rx_queues(&self) -> usize {
        usize::from(self.plan.rx_queues)
    }

    /// What spreads its packets over the workers.
    pub fn spreading(&self) -> &Spreading {
        &self.plan.spreading
    }

    /// Whether workers can wait for its packets: it was opened with leave to, and its device has receive interrupts.
    pub fn has_interrupts(&self) -> bool {
        self.has_interrupts
    }

    /// Whether workers share its receive queues.
    fn is_shared(&self) -> bool {
        self.plan.spreading.by == Spread::Software
    }

    /// What the device counted; zeros where it does not count.
    pub fn stats(&self) -> PortStats {
        let mut raw = rte_eth_stats::default();
        // SAFETY: the device is open, and the structure is ours to be written.
        let code = unsafe { rte_eth_stats_get(self.device.id(), &mut raw) };
        if code != 0 {
            return PortStats::default();
        }
        PortStats {
            rx_packets: raw.ipackets,
            rx_bytes: raw.ibytes,
            rx_missed: raw.imissed,
            rx_errors: raw.ierrors,
            rx_no_buffer: raw.rx_nombuf,
            tx_packets: raw.opackets,
            tx_bytes: raw.obytes,
            tx_errors: raw.oerrors,
        }
    }

    /// The link's state, without waiting for it; down where the device does not say.
    pub fn link(&self) -> Link {
        let (mut up, mut mbps, mut full_duplex) = (false, 0, false);
        // SAFETY: the device is open, and the three values are ours to be written.
        let known = unsafe { culvert_link(self.device.id(), &mut up, &mut mbps, &mut full_duplex) };
        if !known {
            return Link::default();
        }
        Link { up, mbps: Some(mbps).filter(|mbps| ![0, CULVERT_SPEED_UNKNOWN].contains(mbps)), full_duplex }
    }

    /// The queues of the worker at this position of `worker_cores`; `None` where they are taken or there is no such
    /// worker.
    pub fn take_queues(&mut self, worker: usize) -> Option<Queues> {
        self.queues.get_mut(worker)?.take()
    }
}

impl Part {
    /// Deals the queues of all ports out to the workers they were opened for, each worker's in the order of `worker_cores`.
    ///
    /// # Errors
    /// [`DpdkError::Bell`] where the process has no file descriptors left.
    pub fn deal(ports: &mut [Port]) -> Result<Vec<Part>, DpdkError> {
        let workers = ports.iter().map(|port| port.queues.len()).max().unwrap_or_default();
        let bell =
            |_| Bell::new().map(Arc::new).map_err(|error| DpdkError::Bell { reason: error.to_string() });
        let bells = (0..workers).map(bell).collect::<Result<Vec<Arc<Bell>>, DpdkError>>()?;
        let (mut own, mut exits): (Vec<_>, Vec<_>) = bells.iter().map(|_| (Vec::new(), Vec::new())).unzip();
        let mut lanes = Vec::new();
        for port in ports.iter_mut() {
            for (worker, (own, exit)) in own.iter_mut().zip(&mut exits).enumerate() {
                let Some(Queues { port: id, rx, tx }) = port.take_queues(worker) else { continue };
                exit.push(tx);
                if port.is_shared() {
                    lanes.extend(rx.into_iter().map(|queue| Lane::new(id, worker, queue, bells.clone())));
                } else {
                    own.extend(rx.into_iter().map(|queue| (id, queue)));
                }
            }
        }
        let lanes: Vec<Arc<Lane>> = lanes.into_iter().map(Arc::new).collect();
        let exits: Vec<Exits> = if lanes.is_empty() {
            exits.into_iter().map(Exits::Own).collect()
        } else {
            let shared: Arc<[_]> =
                exits.into_iter().map(|exit| CachePadded::new(SpinMutex::new(exit))).collect();
            bells.iter().map(|_| Exits::Shared(shared.clone())).collect()
        };
        let parts = own.into_iter().zip(exits).zip(bells);
        Ok(parts.map(|((rx, tx), bell)| Part { rx, lanes: lanes.clone(), tx, bell }).collect())
    }
}

/// The pool that `ports` will need where their devices have as many queues and descriptors as are asked for.
pub(crate) fn expected_pool(ports: &[PortOptions], workers: usize) -> PoolSize {
    let queues = ports.iter().map(|port| match port.rx_queues {
        RxQueues::Auto => workers * 2,
        RxQueues::Exactly(count) => usize::from(count) + workers,
    });
    let descriptors = queues.sum::<usize>().saturating_mul(usize::from(DESCRIPTORS));
    PoolSize::new(largest_mtu(ports), u32::try_from(descriptors).unwrap_or(u32::MAX), workers)
}

/// A device string's PCI address with its domain, `0000:3b:00.0`, and what follows it; `None` for other devices.
pub(crate) fn pci_address(device: &str) -> Option<String> {
    let (address, arguments) = match device.split_once(',') {
        Some((address, arguments)) => (address, format!(",{arguments}")),
        None => (device, String::new()),
    };
    let hex =
        |part: &str, digits: usize| part.len() == digits && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    let (bus, function) = address.rsplit_once('.')?;
    let parts: Vec<&str> = bus.split(':').collect();
    let domain = match parts.as_slice() {
        [domain, bus, slot] if hex(domain, 4) && hex(bus, 2) && hex(slot, 2) => "",
        [bus, slot] if hex(bus, 2) && hex(slot, 2) => "0000:",
        _ => return None,
    };
    hex(function, 1).then(|| format!("{domain}{address}{arguments}"))
}

fn largest_mtu(ports: &[PortOptions]) -> u16 {
    ports.iter().map(|port| port.mtu).max().unwrap_or_default()
}

/// DPDK would open one device for two ports, whose queues would then have two users each.
fn refuse_doubles(ports: &[PortOptions]) -> Result<(), DpdkError> {
    let name = |port: &PortOptions| {
        let device = pci_address(&port.device).unwrap_or_else(|| port.device.clone());
        device.split(',').next().unwrap_or_default().to_ascii_lowercase()
    };
    for (index, port) in ports.iter().enumerate() {
        if let Some(other) = ports.iter().take(index).find(|other| name(other) == name(port)) {
            let (port, device, other) = (port.name.clone(), port.device.clone(), other.name.clone());
            return Err(DpdkError::SameDevice { port, device, other });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pci_addresses_are_told_from_virtual_devices() {
        assert_eq!(pci_address("0000:3b:00.0").as_deref(), Some("0000:3b:00.0"));
        assert_eq!(pci_address("3b:00.1").as_deref(), Some("0000:3b:00.1"));
        assert_eq!(pci_address("3b:00.1,a=1").as_deref(), Some("0000:3b:00.1,a=1"));
        for other in ["net_tap0,iface=bh0", "net_pcap0,rx_pcap=a.b", "3b:00", "", "zz:00.0"] {
            assert_eq!(pci_address(other), None, "{other}");
        }
    }

    #[test]
    fn one_device_for_two_ports_is_refused_by_name() {
        let port = |name: &str, device: &str| PortOptions {
            name: name.to_owned(),
            device: device.to_owned(),
            ..PortOptions::default()
        };
        let error =
            refuse_doubles(&[port("a", "net_tap0,iface=x"), port("b", "net_tap0,iface=y")]).unwrap_err();
        assert_eq!(error.to_string(), "port b: device \"net_tap0,iface=y\" is port a's already");
        assert_eq!(refuse_doubles(&[port("a", "net_tap0"), port("b", "net_tap1")]), Ok(()));
    }
}
