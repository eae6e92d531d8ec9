//! `[system]`, `[control]`, `[kernel]` and `[icmp]`: the machine, and what concerns the process as a whole.

use super::document::{Findings, Table};
use super::value::Value;
use forwarder::icmp_error::IcmpRates;
use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Where a daemon listens by default.
pub(crate) const DEFAULT_SOCKET: &str = "/run/culvert/control.sock";

/// Processor numbers that DPDK can name (RTE_MAX_LCORE may be smaller; the machine surely is).
const MAX_CORE: u64 = 1023;

/// The longest path of a socket in bytes (`sun_path` less its closing zero).
const MAX_SOCKET_PATH: usize = 107;

/// The machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct System {
    /// One poll-mode worker on each.
    pub(crate) worker_cores: Vec<usize>,
    /// Where everything else runs.
    pub(crate) control_core: usize,
    /// Whether hugepages are used.
    pub(crate) hugepages: Hugepages,
    /// What a worker does without packets.
    pub(crate) idle: Idle,
    /// Handed to DPDK as they are.
    pub(crate) eal_args: Vec<String>,
}

/// Whether hugepages are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hugepages {
    /// Those that are reserved; ordinary memory where there are none.
    Auto,
    /// A machine without them is an error.
    Required,
    /// Ordinary memory.
    Off,
}

/// What a worker does without packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Idle {
    /// Polls on.
    Poll,
    /// Yields the core.
    Sleep,
}

/// The control socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ControlSocket {
    /// Its path.
    pub(crate) socket: PathBuf,
}

pub(super) const HUGEPAGES: [(&str, Hugepages); 3] =
    [("auto", Hugepages::Auto), ("required", Hugepages::Required), ("off", Hugepages::Off)];
pub(super) const IDLE: [(&str, Idle); 2] = [("poll", Idle::Poll), ("sleep", Idle::Sleep)];

/// Reads `[system]`.
pub(super) fn read_system(root: &mut Table<'_>, findings: &mut Findings) -> System {
    let mut system = System {
        worker_cores: Vec::new(),
        control_core: 0,
        hugepages: Hugepages::Auto,
        idle: Idle::Poll,
        eal_args: Vec::new(),
    };
    let mut cores_at = None;
    if let Some(mut table) = root.table("system", "[system]", findings) {
        let cores = table.get("worker_cores");
        cores_at = Some(cores.map_or(table.header(), |cores| cores.at()));
        if let Some(cores) = cores {
            system.worker_cores = worker_cores(cores, findings);
        }
        if let Some(value) = table.get("control_core") {
            system.control_core = value.number("", 0..=MAX_CORE, findings).unwrap_or(0);
        }
        if let Some(value) = table.get("hugepages") {
            system.hugepages = value.choice(&HUGEPAGES, findings).unwrap_or(Hugepages::Auto);
        }
        if let Some(value) = table.get("idle") {
            system.idle = value.choice(&IDLE, findings).unwrap_or(Idle::Poll);
        }
        if let Some(value) = table.get("eal_args") {
            let items = value.list("strings", findings).unwrap_or_default();
            system.eal_args = items.iter().filter_map(|item| eal_arg(item, findings)).collect();
        }
        table.finish(findings);
    }
    if system.worker_cores.is_empty() {
        let isolated = std::fs::read_to_string("/sys/devices/system/cpu/isolated").unwrap_or_default();
        system.worker_cores = default_cores(&isolated, system.control_core);
    }
    if let Some(at) = cores_at.filter(|_| system.worker_cores.contains(&system.control_core)) {
        let message = format!(
            "a worker shares core {} with the control thread (expected different cores): each poll of the worker waits \
             while control works",
            system.control_core
        );
        findings.warning(at, message).help("write other worker_cores, or another control_core");
    }
    system
}

fn worker_cores(value: Value<'_>, findings: &mut Findings) -> Vec<usize> {
    let mut seen = HashSet::new();
    let mut cores = Vec::new();
    for item in value.full_list("core numbers", findings).unwrap_or_default() {
        let Some(core) = item.number::<usize>("", 0..=MAX_CORE, findings) else { continue };
        if seen.insert(core) {
            cores.push(core);
        } else {
            let message =
                format!("core {core} is named twice (expected one worker for each core, found {core} again)");
            findings.error(item.at(), message);
        }
    }
    cores
}

fn eal_arg(item: &Value<'_>, findings: &mut Findings) -> Option<String> {
    let text = item.string(findings)?;
    if text.is_empty() || text.contains('\0') {
        item.wrong("an argument that is not empty and has no zero byte", findings);
        return None;
    }
    Some(text.to_owned())
}

/// Cores that the kernel leaves alone (`isolated` as sysfs prints it), except control's own; else core 1.
fn default_cores(isolated: &str, control_core: usize) -> Vec<usize> {
    let mut cores = core_list(isolated);
    cores.retain(|core| *core != control_core);
    if cores.is_empty() {
        cores.push(1);
    }
    cores
}

/// The cores of a list as Linux prints it: `2-3,6`. What is no number, such as the `(null)` of some kernels, is left out.
pub(crate) fn core_list(text: &str) -> Vec<usize> {
    let mut cores = Vec::new();
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.parse::<usize>(), last.parse::<usize>()) {
            cores.extend((first..=last).take(MAX_CORE as usize + 1));
        }
    }
    cores
}

/// Reads `[control]`.
pub(super) fn read_control(root: &mut Table<'_>, findings: &mut Findings) -> ControlSocket {
    let mut socket = PathBuf::from(DEFAULT_SOCKET);
    if let Some(mut table) = root.table("control", "[control]", findings) {
        if let Some(value) = table.get("socket")
            && let Some(path) = value.string(findings)
        {
            if path.is_empty() || path.contains('\0') || path.len() > MAX_SOCKET_PATH {
                value.wrong(&format!("a path of 1 to {MAX_SOCKET_PATH} bytes"), findings);
            }
            socket = PathBuf::from(path);
        }
        if let Some(value) = table.get("metrics")
            && let Some(address) = value.string(findings)
        {
            match address.parse::<SocketAddr>() {
                Ok(_) => findings.not_yet(value.at(), "[control] metrics"),
                Err(_) => {
                    value.wrong("an address and port such as \"127.0.0.1:9472\" or \"[::1]:9472\"", findings)
                }
            }
        }
        table.finish(findings);
    }
    ControlSocket { socket }
}

/// Reads `[kernel]`.
pub(super) fn read_kernel(root: &mut Table<'_>, findings: &mut Findings) {
    if let Some(mut table) = root.table("kernel", "[kernel]", findings) {
        if let Some(value) = table.get("enabled")
            && value.boolean(findings) == Some(true)
        {
            findings.not_yet(value.at(), "[kernel] enabled = true");
        }
        table.finish(findings);
    }
}

/// Reads `[icmp]`.
pub(super) fn read_icmp(root: &mut Table<'_>, findings: &mut Findings) -> IcmpRates {
    let mut rates = IcmpRates::default();
    if let Some(mut table) = root.table("icmp", "[icmp]", findings) {
        for (key, rate) in [("per_source", &mut rates.per_source), ("total", &mut rates.total)] {
            if let Some(number) = table.get(key).and_then(|value| value.number("", 0..=1_000_000, findings)) {
                *rate = number;
            }
        }
        table.finish(findings);
    }
    rates
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORT: &str = "[[port]]\nname = \"a\"\ndevice = \"net_null0\"\n";

    #[test]
    fn workers_take_the_isolated_cores_by_default() {
        assert_eq!(default_cores("2-3,6\n", 0), [2, 3, 6]);
        assert_eq!(default_cores("0-2\n", 0), [1, 2]);
        assert_eq!(default_cores("\n", 0), [1]);
        assert_eq!(default_cores("0", 0), [1]);
    }

    #[test]
    fn a_file_without_worker_cores_takes_what_this_machine_isolates_else_core_1() {
        let isolated = std::fs::read_to_string("/sys/devices/system/cpu/isolated").unwrap_or_default();
        for (text, control_core) in [("", 0), ("[system]\ncontrol_core = 2\n", 2)] {
            let config = crate::config::parse("test.toml", text.to_owned() + PORT).unwrap();
            assert_eq!(config.system.worker_cores, default_cores(&isolated, control_core), "{text}");
        }
    }

    #[test]
    fn lists_of_cores_are_read_as_linux_prints_them() {
        assert_eq!(core_list("0\n"), [0]);
        assert_eq!(core_list("0-1,4,6-7\n"), [0, 1, 4, 6, 7]);
        for none in ["", "\n", " (null)\n", "2-", "-", ","] {
            assert_eq!(core_list(none), [0; 0], "{none:?}");
        }
        assert_eq!(core_list("0-18446744073709551615").len(), 1024);
    }
}
