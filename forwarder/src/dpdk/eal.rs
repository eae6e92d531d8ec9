//! The environment abstraction layer: started once, from the control thread, before any port.
//!
//! Nothing is shared with other DPDK processes: no runtime files, no telemetry socket, so that several culverts run on
//! one machine. Virtual devices are plugged in when their port is opened, where a refusal can be told to its port.

use super::error::{DpdkError, last_code, reason};
use super::pool::{HUGEPAGE, PAGE, Pool, PoolSize};
use super::port::{self, PortOptions};
use dpdk_sys::{CULVERT_SOCKET_ANY, rte_eal_cleanup, rte_eal_init, rte_get_tsc_hz};
use std::ffi::{CString, c_char, c_int};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Where Linux says which hugepages are free.
const HUGEPAGES: &str = "/sys/kernel/mm/hugepages";

/// Where Linux says which cores there are.
const ONLINE_CORES: &str = "/sys/devices/system/cpu/online";

/// Bytes beside packet buffers: device rings and state, DPDK's own.
const BASE_MEMORY: u64 = 64 << 20;

/// DPDK can be started once in a process; written by [`Eal::start`] alone.
static STARTED: AtomicBool = AtomicBool::new(false);

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

impl EalOptions {
    /// Bytes of free hugepages that these options take with `ports`, where they may take any.
    pub fn hugepages_needed(&self, ports: &[PortOptions]) -> u64 {
        needed(self, ports, HUGEPAGE)
    }
}

/// Where packet memory comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hugepages {
    /// Hugepages where enough are free, ordinary pages otherwise.
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
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    hugepages: bool,
    pools: Mutex<Vec<Arc<Pool>>>,
    // DPDK keeps pointers into its arguments.
    _arguments: Vec<CString>,
}

impl Eal {
    /// Starts the environment with memory for `ports` and leave to use their PCI devices. The calling thread is pinned
    /// to the control core, and threads that it makes later begin there.
    ///
    /// # Errors
    /// [`DpdkError`] where it was started before, a core is missing, hugepages are required and too few, or DPDK refuses.
    pub fn start(options: &EalOptions, ports: &[PortOptions]) -> Result<Eal, DpdkError> {
        if STARTED.load(Ordering::SeqCst) {
            return Err(DpdkError::AlreadyStarted);
        }
        check_cores(options, &fs::read_to_string(ONLINE_CORES).unwrap_or_default())?;
        let free = free_hugepages(Path::new(HUGEPAGES));
        let hugepages = choose_memory(options.hugepages, options.hugepages_needed(ports), free)?;
        let texts = arguments(options, ports, hugepages, needed(options, ports, PAGE));
        let nul =
            |text: &String| DpdkError::Nul { what: "an argument for DPDK (eal_args)", value: text.clone() };
        let arguments = texts
            .iter()
            .map(|text| CString::new(text.as_str()).map_err(|_| nul(text)))
            .collect::<Result<Vec<_>, _>>()?;
        if STARTED.swap(true, Ordering::SeqCst) {
            return Err(DpdkError::AlreadyStarted);
        }

        let mut pointers: Vec<*mut c_char> = arguments.iter().map(|text| text.as_ptr().cast_mut()).collect();
        pointers.push(std::ptr::null_mut());
        // SAFETY: called once in this process; the array ends with null, DPDK reorders it but does not write into the
        // texts, and these are kept as long as the environment.
        let code = unsafe { rte_eal_init(arguments.len() as c_int, pointers.as_mut_ptr()) };
        if code < 0 {
            return Err(DpdkError::Start { arguments: texts, reason: reason(last_code()) });
        }
        Ok(Eal { inner: Arc::new(Inner { hugepages, pools: Mutex::default(), _arguments: arguments }) })
    }

    /// Whether packet memory is in hugepages.
    pub fn uses_hugepages(&self) -> bool {
        self.inner.hugepages
    }

    /// Cycles of the time-stamp counter in a second.
    pub fn tsc_hz(&self) -> u64 {
        // SAFETY: reads a number that EAL measured when it started.
        unsafe { rte_get_tsc_hz() }
    }

    /// Packet buffers that devices, workers and their caches do not hold free: taken and not given back. Buffers that
    /// wait in a receive ring for a packet are among them.
    pub fn buffers_in_use(&self) -> usize {
        self.pools().iter().map(|pool| pool.in_use()).sum()
    }

    /// The pool of this memory node with buffers of this size, made where there is none.
    pub(crate) fn pool(&self, socket: c_int, size: PoolSize) -> Result<Arc<Pool>, DpdkError> {
        // DPDK knows of no nodes without hugepages, and the memory that was asked for is enough for one pool.
        let socket = if self.inner.hugepages { socket } else { CULVERT_SOCKET_ANY };
        let mut pools = self.pools();
        if let Some(pool) = pools.iter().find(|pool| pool.socket == socket && pool.size == size) {
            return Ok(pool.clone());
        }
        let pool = Arc::new(Pool::create(pools.len(), socket, size)?);
        pools.push(pool.clone());
        Ok(pool)
    }

    fn pools(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Pool>>> {
        self.inner.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Pools first: they are memory of the environment. Devices are closed, since each holds the environment.
        self.pools.get_mut().unwrap_or_else(PoisonError::into_inner).clear();
        // SAFETY: EAL was started, and nothing that uses it is left. What it returns is of no use at the end.
        let _ = unsafe { rte_eal_cleanup() };
    }
}

/// Refuses cores that `online`, such as `0-3,8`, does not have. The cores that this process is allowed are not asked for:
/// isolated ones are not among them until a thread is put there.
fn check_cores(options: &EalOptions, online: &str) -> Result<(), DpdkError> {
    let online = online.trim();
    let has = |core: usize| {
        online.split(',').any(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            first.parse().is_ok_and(|first: usize| first <= core)
                && last.parse().is_ok_and(|last: usize| core <= last)
        })
    };
    match std::iter::once(&options.control_core).chain(&options.worker_cores).find(|core| !has(**core)) {
        // Where the cores cannot be read, pinning says what is wrong.
        Some(core) if !online.is_empty() => {
            Err(DpdkError::NoSuchCore { core: *core, online: online.to_owned() })
        }
        _ => Ok(()),
    }
}

/// Bytes of memory in all, in pages of `page` bytes.
fn needed(options: &EalOptions, ports: &[PortOptions], page: u64) -> u64 {
    BASE_MEMORY + port::expected_pool(ports, options.worker_cores.len()).memory(page)
}

/// Whether to use hugepages, `free` of whose bytes are free where `needed` are.
fn choose_memory(asked: Hugepages, needed: u64, free: u64) -> Result<bool, DpdkError> {
    match asked {
        Hugepages::Off => Ok(false),
        Hugepages::Auto => Ok(free >= needed),
        Hugepages::Required if free >= needed => Ok(true),
        Hugepages::Required => {
            Err(DpdkError::Hugepages { needed: needed.div_ceil(1 << 20), free: free >> 20 })
        }
    }
}

/// Bytes in free hugepages of every size: `hugepages-2048kB/free_hugepages` and the like.
fn free_hugepages(folder: &Path) -> u64 {
    let sizes = fs::read_dir(folder).into_iter().flatten().flatten();
    let bytes = sizes.filter_map(|size| {
        let name = size.file_name().into_string().ok()?;
        let kib: u64 = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
        let free: u64 = fs::read_to_string(size.path().join("free_hugepages")).ok()?.trim().parse().ok()?;
        Some(kib * 1024 * free)
    });
    bytes.sum()
}

/// What EAL is started with; `needed` is what packets take in ordinary pages.
fn arguments(options: &EalOptions, ports: &[PortOptions], hugepages: bool, needed: u64) -> Vec<String> {
    let mut arguments = vec!["culvert".to_owned()];
    let mut add = |parts: &[&str]| arguments.extend(parts.iter().map(|part| (*part).to_owned()));
    // One EAL thread, the control thread; workers register themselves. By this form a core's number may be large.
    add(&["--lcores", &format!("0@{}", options.control_core)]);
    add(&["--no-telemetry", "--log-level", "notice"]);
    if hugepages {
        // No files, neither for the configuration nor for pages: they go when the process goes, and need no mount.
        add(&["--in-memory"]);
    } else {
        // Takes all its memory at the start, but Linux gives pages only as they are used.
        add(&["--no-huge", "--no-shconf", "-m", &needed.div_ceil(1 << 20).to_string()]);
    }
    let addresses: Vec<String> = ports.iter().filter_map(|port| port::pci_address(&port.device)).collect();
    for address in &addresses {
        add(&["-a", address]);
    }
    if addresses.is_empty() {
        add(&["--no-pci"]);
    }
    arguments.extend(options.extra_args.iter().cloned());
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(device: &str) -> PortOptions {
        PortOptions { name: "p".to_owned(), device: device.to_owned(), ..PortOptions::default() }
    }

    #[test]
    fn auto_takes_hugepages_only_where_they_are_enough() {
        assert_eq!(choose_memory(Hugepages::Auto, 100, 100), Ok(true));
        assert_eq!(choose_memory(Hugepages::Auto, 100, 99), Ok(false));
        assert_eq!(choose_memory(Hugepages::Off, 100, 1000), Ok(false));
    }

    #[test]
    fn required_without_says_what_is_missing_and_how_to_get_it() {
        let error = choose_memory(Hugepages::Required, 96 << 20, 2 << 20).unwrap_err().to_string();
        for part in ["96 MiB", "2 MiB", "scripts/nic", "vm.nr_hugepages"] {
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn free_hugepages_of_all_sizes_are_added() {
        let folder = std::env::temp_dir().join(format!("culvert-hugepages-{}", std::process::id()));
        for (size, free) in [("hugepages-2048kB", "3\n"), ("hugepages-1048576kB", "1\n")] {
            fs::create_dir_all(folder.join(size)).unwrap();
            fs::write(folder.join(size).join("free_hugepages"), free).unwrap();
        }
        let free = free_hugepages(&folder);
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(free, 6 * 1024 * 1024 + 1024 * 1024 * 1024);
        assert_eq!(free_hugepages(&folder), 0);
    }

    #[test]
    fn pci_devices_are_allowed_by_name_and_the_bus_is_off_without_them() {
        let options = EalOptions::default();
        let with = arguments(&options, &[port("0000:3b:00.0"), port("net_null0")], true, 0);
        assert!(with.windows(2).any(|pair| pair == ["-a", "0000:3b:00.0"]));
        assert!(!with.contains(&"--no-pci".to_owned()));
        let without = arguments(&options, &[port("net_null0")], true, 0);
        assert!(without.contains(&"--no-pci".to_owned()));
    }

    #[test]
    fn the_operators_arguments_come_last() {
        let options =
            EalOptions { extra_args: vec!["--log-level=debug".to_owned()], ..EalOptions::default() };
        assert_eq!(arguments(&options, &[], false, 1).last().unwrap(), "--log-level=debug");
    }

    #[test]
    fn a_core_that_is_not_there_is_named() {
        let options = |cores: &[usize]| EalOptions { worker_cores: cores.to_vec(), ..EalOptions::default() };
        assert_eq!(check_cores(&options(&[1, 3, 8]), "0-3,8\n"), Ok(()));
        for core in [4, 7, 9] {
            let expected = DpdkError::NoSuchCore { core, online: "0-3,8".to_owned() };
            assert_eq!(check_cores(&options(&[1, core]), "0-3,8\n"), Err(expected));
        }
        assert_eq!(check_cores(&options(&[9]), ""), Ok(()));
    }
}
