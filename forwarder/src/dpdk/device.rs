//! A device of DPDK's, found or plugged in, configured, started; stopped and closed when its last holder is gone.

use super::Eal;
use super::error::{DpdkError, reason};
use super::pool::Pool;
use super::port::{PortOptions, Rss, RxQueues, pci_address};
use super::spreading::Spreading;
use crate::table::Mac;
use dpdk_sys::{
    CULVERT_MQ_RX_NONE, CULVERT_MQ_RX_RSS, CULVERT_RSS_FLOWS, CULVERT_RSS_INNERMOST, CULVERT_RSS_LEVELS,
    rte_dev_probe, rte_dev_remove, rte_eth_conf, rte_eth_dev_adjust_nb_rx_tx_desc, rte_eth_dev_close,
    rte_eth_dev_configure, rte_eth_dev_default_mac_addr_set, rte_eth_dev_get_port_by_name, rte_eth_dev_info,
    rte_eth_dev_info_get, rte_eth_dev_rx_intr_ctl_q_get_fd, rte_eth_dev_set_mtu, rte_eth_dev_socket_id,
    rte_eth_dev_start, rte_eth_dev_stop, rte_eth_macaddr_get, rte_eth_promiscuous_disable,
    rte_eth_rx_queue_setup, rte_eth_tx_queue_setup, rte_ether_addr,
};
use std::ffi::{CStr, CString, c_int};
use std::ptr;
use std::time::Duration;

/// Descriptors of each queue, as far as the device takes so many.
pub(crate) const DESCRIPTORS: u16 = 1024;

/// How long a network card may take to send a full transmit ring: 1,024 frames of 9,000 bytes at 10 Gbit/s are 7.4 ms.
const LAST_PACKETS: Duration = Duration::from_millis(10);

/// Error numbers of Linux's that are told apart here.
const EFAULT: c_int = 14;
const EEXIST: c_int = 17;
const ENODEV: c_int = 19;
const ENOSYS: c_int = 38;
const ENOTSUP: c_int = 95;

/// An opened device.
#[derive(Debug)]
pub(crate) struct Device {
    id: u16,
    port: String,
    name: String,
    started: bool,
    physical: bool,
    /// Started with receive interrupts, which it need not have.
    interrupts: bool,
    // Last, so that the environment is there while the device is closed.
    eal: Eal,
}

/// How a device is set up: what was asked for, fitted to what it has.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Receive queues.
    pub(crate) rx_queues: u16,
    /// Transmit queues.
    pub(crate) tx_queues: u16,
    /// Descriptors of each receive queue.
    pub(crate) rx_descriptors: u16,
    /// Descriptors of each transmit queue.
    pub(crate) tx_descriptors: u16,
    /// What spreads packets over the workers.
    pub(crate) spreading: Spreading,
    /// Header fields to spread by; 0: none.
    rss: u64,
}

impl Plan {
    /// Descriptors of all its queues.
    pub(crate) fn descriptors(&self) -> u32 {
        let rx = u32::from(self.rx_queues) * u32::from(self.rx_descriptors);
        rx + u32::from(self.tx_queues) * u32::from(self.tx_descriptors)
    }
}

impl Device {
    /// Finds the device of `options`, or plugs it in.
    pub(crate) fn open(eal: &Eal, options: &PortOptions) -> Result<Device, DpdkError> {
        let nul = || DpdkError::Nul { what: "a device string", value: options.device.clone() };
        let pci = pci_address(&options.device);
        let arguments = pci.clone().unwrap_or_else(|| options.device.clone());
        let name = arguments.split(',').next().unwrap_or_default().to_owned();
        let c_name = CString::new(name).map_err(|_| nul())?;
        let c_arguments = CString::new(arguments).map_err(|_| nul())?;

        let id = match find(&c_name) {
            Some(id) => id,
            None => {
                refuse_existing_tap(options)?;
                // SAFETY: EAL runs; the text ends with a NUL and is copied.
                let code = unsafe { rte_dev_probe(c_arguments.as_ptr()) };
                let found = if code == 0 { find(&c_name) } else { None };
                found.ok_or_else(|| probe_error(options, if code == 0 { -ENODEV } else { code }))?
            }
        };
        Ok(Device {
            id,
            port: options.name.clone(),
            name: options.device.clone(),
            started: false,
            physical: pci.is_some(),
            interrupts: false,
            eal: eal.clone(),
        })
    }

    /// DPDK's number of it.
    #[inline(always)]
    pub(crate) fn id(&self) -> u16 {
        self.id
    }

    /// The environment it lives in.
    pub(crate) fn eal(&self) -> &Eal {
        &self.eal
    }

    /// The memory node it is at; -1 where it has none.
    pub(crate) fn socket(&self) -> c_int {
        // SAFETY: takes any number.
        unsafe { rte_eth_dev_socket_id(self.id) }
    }

    /// What it can do.
    pub(crate) fn abilities(&self) -> Result<rte_eth_dev_info, DpdkError> {
        let mut abilities = rte_eth_dev_info::default();
        // SAFETY: the device is open, and the structure is ours to be written.
        let code = unsafe { rte_eth_dev_info_get(self.id, &mut abilities) };
        self.check("read what it can do", code).map(|()| abilities)
    }

    /// The name of its driver.
    pub(crate) fn driver(&self) -> String {
        let name = self.abilities().map(|abilities| abilities.driver_name).unwrap_or(ptr::null());
        if name.is_null() {
            return String::new();
        }
        // SAFETY: a constant of the driver that ends with a NUL; drivers stay loaded.
        let name = unsafe { CStr::from_ptr(name) };
        name.to_string_lossy().into_owned()
    }

    /// Fits what was asked for to what the device has.
    pub(crate) fn plan(&self, options: &PortOptions, workers: usize) -> Result<Plan, DpdkError> {
        let abilities = self.abilities()?;
        let (port, device) = (self.port.clone(), self.name.clone());
        let tx_queues = match u16::try_from(workers) {
            Ok(count) if count <= abilities.max_tx_queues => count,
            _ => {
                let queues = usize::from(abilities.max_tx_queues);
                return Err(DpdkError::TxQueues { port, device, queues, workers });
            }
        };
        let rx_queues = match options.rx_queues {
            RxQueues::Auto => tx_queues.min(abilities.max_rx_queues).max(1),
            RxQueues::Exactly(asked) if asked == 0 || asked > abilities.max_rx_queues => {
                return Err(DpdkError::RxQueues { port, device, asked, queues: abilities.max_rx_queues });
            }
            RxQueues::Exactly(asked) => asked,
        };
        let (min, max) = (abilities.min_mtu, abilities.max_mtu);
        if options.mtu < min || options.mtu > max {
            return Err(DpdkError::Mtu { port, device, mtu: options.mtu, min, max });
        }
        let rss = self.choose_rss(options.rss, rx_queues, abilities.flow_type_rss_offloads)?;
        let hashes_inner = rss & CULVERT_RSS_INNERMOST == CULVERT_RSS_INNERMOST;
        let spreading = Spreading::choose(options.rss, tx_queues, rx_queues, hashes_inner);
        let (mut rx_descriptors, mut tx_descriptors) = (DESCRIPTORS, DESCRIPTORS);
        // SAFETY: the device is open, and the numbers are ours to be written.
        let code =
            unsafe { rte_eth_dev_adjust_nb_rx_tx_desc(self.id, &mut rx_descriptors, &mut tx_descriptors) };
        self.check("fit the number of descriptors", code)?;
        Ok(Plan { rx_queues, tx_queues, rx_descriptors, tx_descriptors, spreading, rss })
    }

    fn choose_rss(&self, asked: Rss, queues: u16, offered: u64) -> Result<u64, DpdkError> {
        let flows = CULVERT_RSS_FLOWS & offered;
        let inner =
            if offered & CULVERT_RSS_LEVELS == CULVERT_RSS_LEVELS { CULVERT_RSS_INNERMOST } else { 0 };
        let refuse = |fields, instead| {
            Err(DpdkError::Rss { port: self.port.clone(), device: self.name.clone(), fields, instead })
        };
        match asked {
            _ if queues == 1 => Ok(0),
            Rss::Off => Ok(0),
            Rss::Auto if flows == 0 => Ok(0),
            Rss::Auto => Ok(flows | inner),
            Rss::Outer if flows == 0 => refuse("outer", "\"auto\""),
            Rss::Outer => Ok(flows),
            Rss::Inner if flows == 0 || inner == 0 => refuse("inner", "\"auto\" or \"outer\""),
            Rss::Inner => Ok(flows | inner),
        }
    }

    /// Sets queues, MTU and address as planned, and starts the device. Returns the Ethernet address that it has.
    pub(crate) fn start(
        &mut self,
        options: &PortOptions,
        plan: &Plan,
        pool: &Pool,
    ) -> Result<Mac, DpdkError> {
        self.interrupts = options.interrupts;
        let mut started = self.set_up(options, plan, pool);
        if started.is_err() && self.interrupts {
            // Some drivers refuse to start with interrupts that they do not have, others leave them away.
            self.interrupts = false;
            started = self.set_up(options, plan, pool);
        }
        started
    }

    /// Whether this receive queue can say that a packet has come; asked once it is started.
    pub(crate) fn has_interrupts(&self, queue: u16) -> bool {
        // SAFETY: the device is started with this queue; the descriptor stays the device's.
        self.interrupts && unsafe { rte_eth_dev_rx_intr_ctl_q_get_fd(self.id, queue) } >= 0
    }

    fn set_up(&mut self, options: &PortOptions, plan: &Plan, pool: &Pool) -> Result<Mac, DpdkError> {
        let mut conf = rte_eth_conf::default();
        conf.intr_conf.set_rxq(self.interrupts.into());
        conf.rxmode.mtu = options.mtu.into();
        conf.rxmode.mq_mode = if plan.rss == 0 { CULVERT_MQ_RX_NONE } else { CULVERT_MQ_RX_RSS };
        conf.rx_adv_conf.rss_conf.rss_hf = plan.rss;
        // SAFETY: the device is open and not started, and the configuration is copied.
        let code = unsafe { rte_eth_dev_configure(self.id, plan.rx_queues, plan.tx_queues, &conf) };
        self.check("configure its queues", code)?;

        // Some drivers take the MTU with the configuration and have no call of its own.
        // SAFETY: the device is open.
        let code = unsafe { rte_eth_dev_set_mtu(self.id, options.mtu) };
        self.check_optional("set its mtu", code)?;

        let socket = self.socket().cast_unsigned();
        for queue in 0..plan.rx_queues {
            let (descriptors, pool) = (plan.rx_descriptors, pool.raw().as_ptr());
            // SAFETY: the device is configured with this queue, the pool outlives it, null asks for the defaults.
            let code =
                unsafe { rte_eth_rx_queue_setup(self.id, queue, descriptors, socket, ptr::null(), pool) };
            self.check("set up a receive queue", code)?;
        }
        for queue in 0..plan.tx_queues {
            let descriptors = plan.tx_descriptors;
            // SAFETY: the device is configured with this queue, null asks for the defaults.
            let code = unsafe { rte_eth_tx_queue_setup(self.id, queue, descriptors, socket, ptr::null()) };
            self.check("set up a transmit queue", code)?;
        }
        let mac = self.address(options.mac)?;
        // SAFETY: the device is configured with all its queues.
        let code = unsafe { rte_eth_dev_start(self.id) };
        self.check("start it", code)?;
        self.started = true;
        // SAFETY: the device is open. Virtual ones without the call have nothing to switch off.
        let code = unsafe { rte_eth_promiscuous_disable(self.id) };
        self.check_optional("switch promiscuous mode off", code)?;
        Ok(mac)
    }

    /// Sets its address where one is asked for, and returns the one that it has.
    fn address(&self, asked: Option<Mac>) -> Result<Mac, DpdkError> {
        if let Some(Mac(bytes)) = asked {
            let mut address = rte_ether_addr { addr_bytes: bytes };
            // SAFETY: the device is open, and the address is copied.
            let code = unsafe { rte_eth_dev_default_mac_addr_set(self.id, &mut address) };
            // A virtual device that cannot be told its address does not look at addresses either: frames for this one
            // come in as all others do.
            if self.physical {
                self.check("set its address", code)?;
            } else {
                self.check_optional("set its address", code)?;
            }
            return Ok(Mac(bytes));
        }
        let mut address = rte_ether_addr::default();
        // SAFETY: the device is open, and the address is ours to be written.
        let code = unsafe { rte_eth_macaddr_get(self.id, &mut address) };
        self.check("read its address", code).map(|()| Mac(address.addr_bytes))
    }

    fn check(&self, step: &'static str, code: c_int) -> Result<(), DpdkError> {
        if code >= 0 {
            return Ok(());
        }
        Err(DpdkError::Setup {
            port: self.port.clone(),
            device: self.name.clone(),
            step,
            reason: reason(code),
        })
    }

    /// As [`check`](Self::check), for what drivers need not offer.
    fn check_optional(&self, step: &'static str, code: c_int) -> Result<(), DpdkError> {
        if code == -ENOTSUP || code == -ENOSYS { Ok(()) } else { self.check(step, code) }
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        if self.started {
            if self.physical {
                // Stopping throws away what is still in the transmit ring.
                std::thread::sleep(LAST_PACKETS);
            }
            // SAFETY: the device is started, and no queue of it is held any more. At the end there is nobody to tell.
            let _ = unsafe { rte_eth_dev_stop(self.id) };
        }
        let bus_device = self.abilities().map_or(ptr::null(), |abilities| abilities.device);
        // SAFETY: the device is open and stopped.
        let _ = unsafe { rte_eth_dev_close(self.id) };
        if !self.physical && !bus_device.is_null() {
            // What was plugged in is pulled out, so that its name is free again.
            // SAFETY: the device is on its bus until this call, and nothing of it is open.
            let _ = unsafe { rte_dev_remove(bus_device.cast_mut()) };
        }
    }
}

fn find(name: &CStr) -> Option<u16> {
    let mut id = 0;
    // SAFETY: the name ends with a NUL, and the number is ours to be written.
    let code = unsafe { rte_eth_dev_get_port_by_name(name.as_ptr(), &mut id) };
    (code == 0).then_some(id)
}

/// Linux lets two programs have queues of one TAP interface, and spreads its packets over both: never what is meant.
fn refuse_existing_tap(options: &PortOptions) -> Result<(), DpdkError> {
    let Some(interface) = tap_interface(&options.device) else { return Ok(()) };
    // Of this thread's network namespace, which /sys need not be.
    let interfaces = std::fs::read_to_string("/proc/thread-self/net/dev").unwrap_or_default();
    let mut names = interfaces.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name.trim());
    if names.any(|name| name == interface) {
        let (port, device) = (options.name.clone(), options.device.clone());
        return Err(DpdkError::InterfaceExists { port, device, interface: interface.to_owned() });
    }
    Ok(())
}

/// The interface that a `net_tap` device string names.
fn tap_interface(device: &str) -> Option<&str> {
    let (name, arguments) = device.split_once(',')?;
    let is_tap = name.starts_with("net_tap");
    arguments.split(',').find_map(|argument| argument.strip_prefix("iface=")).filter(|_| is_tap)
}

fn probe_error(options: &PortOptions, code: c_int) -> DpdkError {
    let device = &options.device;
    let hint = if pci_address(device).is_some() {
        "; is it there, and bound to vfio-pci (scripts/nic)?"
    } else if device.starts_with("net_tap") {
        "; it needs CAP_NET_ADMIN, /dev/net/tun, and an interface name that is free"
    } else if device.starts_with("net_pcap") || device.starts_with("net_af_packet") {
        "; are its files and interfaces there, and may this user open them?"
    } else {
        "; is the name a driver's with a number behind it, such as net_tap0, and are its arguments right?"
    };
    // Drivers often fail with a bare -1, which would read as a lack of permission.
    let reason = match -code {
        1 => "its driver refused, for the reason that DPDK's log gives above".to_owned(),
        // What EAL returns for a name that it cannot take apart.
        EFAULT => "no installed driver has this name".to_owned(),
        EEXIST => "it is in use already".to_owned(),
        _ => reason(code),
    };
    DpdkError::Probe { port: options.name.clone(), device: device.clone(), reason, hint }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tap_port_does_not_share_an_interface_that_exists() {
        let options = |device: &str| PortOptions {
            name: "lan".to_owned(),
            device: device.to_owned(),
            ..PortOptions::default()
        };
        let error = refuse_existing_tap(&options("net_tap0,mac=fixed,iface=lo")).unwrap_err().to_string();
        assert!(error.contains("port lan") && error.contains("interface lo exists"), "{error}");
        for free in ["net_tap0,iface=no-such-one", "net_tap0", "net_pcap0,iface=lo"] {
            assert_eq!(refuse_existing_tap(&options(free)), Ok(()), "{free}");
        }
    }
}
