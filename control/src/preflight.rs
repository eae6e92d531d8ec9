//! What the machine says before the workers start: all that is known to cost packets or to spoil figures, from `/sys` and
//! `/proc`.
//!
//! Nothing here keeps culvert from running, and what cannot be read is no finding: a virtual machine has no frequency
//! governor, a container may hide the rest. Every path is below one root, so that tests bring a machine of their own.
//! What the configuration alone shows, such as a worker on the control thread's core, is found when that is read.

use crate::config::{Config, Hugepages, Idle, core_list};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// Where Linux describes its cores.
const CPU: &str = "sys/devices/system/cpu";

/// Where Linux says how many hugepages of each size there are.
const HUGEPAGES: &str = "sys/kernel/mm/hugepages";

/// Where Linux says which clock it trusts.
const CLOCK: &str = "sys/devices/system/clocksource/clocksource0/current_clocksource";

/// Clocks of hypervisors: Linux takes these before the time-stamp counter, however good that is.
const GUEST_CLOCKS: [&str; 3] = ["kvm-clock", "hyperv_clocksource_tsc_page", "xen"];

/// What x86-64-v3 has beyond x86-64-v2, in the words of `/proc/cpuinfo`.
const V3: [&str; 8] = ["abm", "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe"];

/// Something about the machine that an operator will want to change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Warning {
    /// What is so.
    what: String,
    /// What would be well.
    expected: String,
    /// What there is.
    found: String,
    /// What to do about it.
    remedy: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Warning { what, expected, found, remedy } = self;
        write!(f, "warning: {what} (expected {expected}, found {found}): {remedy}")
    }
}

/// What culvert would use of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Needs {
    /// Bytes of free hugepages.
    pub(crate) hugepages: u64,
    /// Whether the compiler was allowed the instructions of x86-64-v3.
    pub(crate) v3: bool,
}

/// All warnings about the machine whose `/sys` and `/proc` are below `root`.
pub(crate) fn warnings(root: &Path, config: &Config, needs: Needs) -> Vec<Warning> {
    let machine = Machine { root, workers: &config.system.worker_cores };
    let mut warnings = machine.far_devices(config);
    warnings.extend(machine.first_core());
    // A worker that yields its core is meant to share it.
    if config.system.idle == Idle::Poll {
        warnings.extend(machine.not_isolated());
        warnings.extend(machine.ticking());
    }
    warnings.extend(machine.siblings());
    warnings.extend(machine.governors());
    if config.system.hugepages == Hugepages::Auto {
        warnings.extend(machine.few_hugepages(needs.hugepages));
    }
    warnings.extend(machine.no_transparent_hugepages());
    warnings.extend(machine.other_clock());
    let flags = machine.flags();
    warnings.extend(flags.as_deref().and_then(changing_counter));
    if !needs.v3 {
        warnings.extend(flags.as_deref().and_then(unused_instructions));
    }
    warnings
}

/// What is looked at.
#[derive(Clone, Copy, Debug)]
struct Machine<'a> {
    root: &'a Path,
    workers: &'a [usize],
}

impl Machine<'_> {
    /// Devices whose memory node is not that of every worker: each of their packets crosses between processors.
    fn far_devices(self, config: &Config) -> Vec<Warning> {
        let far = |port: &crate::config::Port| {
            let device = port.identity();
            let node = self.read(format!("sys/bus/pci/devices/{device}/numa_node"))?;
            // -1 where the firmware does not say: there is no such node.
            let near = self.read(format!("sys/devices/system/node/node{node}/cpulist"))?;
            let others = self.workers_outside(&core_list(&near));
            (!others.is_empty()).then(|| Warning {
                what: format!("port {}: device {device} is on another NUMA node than its workers", port.name),
                expected: format!("worker cores of node {node}, which are {near}"),
                found: cores(&others),
                remedy: "name cores of that node in worker_cores, or put the card into a slot of the workers' node"
                    .to_owned(),
            })
        };
        config.ports.iter().filter_map(far).collect()
    }

    /// A worker on core 0, where Linux puts interrupts and time keeping that no isolation moves elsewhere.
    fn first_core(self) -> Option<Warning> {
        self.workers.contains(&0).then(|| Warning {
            what: "a worker is on core 0, which Linux itself needs for interrupts and time".to_owned(),
            expected: "another core".to_owned(),
            found: cores(self.workers),
            remedy: "write other worker_cores".to_owned(),
        })
    }

    /// Workers on cores where the scheduler puts other threads as well.
    fn not_isolated(self) -> Option<Warning> {
        let others = self.workers_outside(&self.isolated()?);
        let list = list(self.workers);
        (!others.is_empty()).then(|| Warning {
            what: "Linux runs other threads on cores of workers, which wait meanwhile".to_owned(),
            expected: "isolated cores".to_owned(),
            found: cores(&others),
            remedy: format!("boot with isolcpus={list} nohz_full={list} rcu_nocbs={list}"),
        })
    }

    /// Workers on isolated cores that the timer interrupts all the same.
    fn ticking(self) -> Option<Warning> {
        let quiet = core_list(&self.read(format!("{CPU}/nohz_full"))?);
        let isolated = self.isolated()?;
        let ticking = self.workers_outside(&quiet);
        let ticking: Vec<usize> = ticking.into_iter().filter(|core| isolated.contains(core)).collect();
        let list = list(self.workers);
        (!ticking.is_empty()).then(|| Warning {
            what: "the timer interrupts workers on isolated cores".to_owned(),
            expected: "cores of nohz_full".to_owned(),
            found: cores(&ticking),
            remedy: format!("boot with nohz_full={list} rcu_nocbs={list} as well"),
        })
    }

    /// Workers that share the units of one physical core.
    fn siblings(self) -> Vec<Warning> {
        let shared = |core: &usize| {
            let threads = core_list(&self.read(format!("{CPU}/cpu{core}/topology/thread_siblings_list"))?);
            let mut workers: Vec<usize> =
                self.workers.iter().copied().filter(|worker| threads.contains(worker)).collect();
            workers.sort_unstable();
            // Each group is told once, by its first.
            (workers.len() > 1 && workers.first() == Some(core)).then(|| Warning {
                what: "workers share one physical core (hyper-threading), each slows the other".to_owned(),
                expected: format!("one worker on the threads {}", list(&threads)),
                found: cores(&workers),
                remedy: "write one core of each group in worker_cores".to_owned(),
            })
        };
        self.workers.iter().filter_map(shared).collect()
    }

    /// Governors that lower the frequency of a worker's core.
    fn governors(self) -> Vec<Warning> {
        let mut found: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for core in self.workers {
            if let Some(governor) = self.read(format!("{CPU}/cpu{core}/cpufreq/scaling_governor"))
                && governor != "performance"
            {
                found.entry(governor).or_default().push(*core);
            }
        }
        let slow = found.into_iter().map(|(governor, slow)| Warning {
            what: "the frequency governor may slow cores of workers down".to_owned(),
            expected: "\"performance\"".to_owned(),
            found: format!("\"{governor}\" on {}", cores(&slow)),
            remedy: format!("run cpupower -c {} frequency-set -g performance", list(&slow)),
        });
        slow.collect()
    }

    /// A machine where packet memory does not fit into hugepages, of which `needed` bytes would have to be free.
    fn few_hugepages(self, needed: u64) -> Option<Warning> {
        let names = std::fs::read_dir(self.path(HUGEPAGES)).ok()?.flatten().map(|size| size.file_name());
        let free = names.filter_map(|name| {
            let name = name.to_str()?;
            let kib: u64 = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
            Some(kib * 1024 * self.number(format!("{HUGEPAGES}/{name}/free_hugepages"))?)
        });
        // Without any number there is nothing to say.
        let free = free.reduce(u64::saturating_add)?;
        let missing = needed.checked_sub(free).filter(|missing| *missing > 0)?;
        let reserved = self.number(format!("{HUGEPAGES}/hugepages-2048kB/nr_hugepages")).unwrap_or(0);
        let pages = reserved + missing.div_ceil(2 << 20);
        Some(Warning {
            what: "packets lie in pages of 4 KiB, which miss the TLB more often".to_owned(),
            expected: format!("{} MiB of free hugepages", needed.div_ceil(1 << 20)),
            found: format!("{} MiB", free >> 20),
            remedy: format!("run scripts/nic hugepages {pages}, or write hugepages = \"off\""),
        })
    }

    /// A kernel that keeps tables in small pages.
    fn no_transparent_hugepages(self) -> Option<Warning> {
        let path = "sys/kernel/mm/transparent_hugepage/enabled";
        self.read(path)?.contains("[never]").then(|| Warning {
            what: "the tunnel and route tables are in pages of 4 KiB; large ones miss the TLB more often"
                .to_owned(),
            expected: "transparent hugepages \"always\"".to_owned(),
            found: "\"never\"".to_owned(),
            remedy: format!("run echo always >/{path}"),
        })
    }

    /// A kernel that gave up the time-stamp counter as a clock, which workers measure with.
    fn other_clock(self) -> Option<Warning> {
        let clock = self.read(CLOCK)?;
        (clock != "tsc" && !GUEST_CLOCKS.contains(&clock.as_str())).then(|| Warning {
            what: "Linux does not keep time by the time-stamp counter, so latencies may be wrong".to_owned(),
            expected: "clock source \"tsc\"".to_owned(),
            found: format!("\"{clock}\""),
            remedy: format!(
                "see why in the kernel's log (dmesg | grep -i tsc); if the counter is sound, run echo tsc >/{CLOCK}"
            ),
        })
    }

    /// Cores that the scheduler leaves alone, by the kernel's command line or by a partition of control groups.
    fn isolated(self) -> Option<Vec<usize>> {
        let mut isolated = core_list(&self.read(format!("{CPU}/isolated"))?);
        let partitions = self.read("sys/fs/cgroup/cpuset.cpus.isolated").unwrap_or_default();
        isolated.extend(core_list(&partitions));
        Some(isolated)
    }

    /// What the first core can do.
    fn flags(self) -> Option<Vec<String>> {
        let text = self.read("proc/cpuinfo")?;
        let flags = text.lines().find_map(|line| line.strip_prefix("flags")?.split_once(':'))?.1;
        Some(flags.split_whitespace().map(str::to_owned).collect())
    }

    fn workers_outside(self, cores: &[usize]) -> Vec<usize> {
        self.workers.iter().copied().filter(|core| !cores.contains(core)).collect()
    }

    fn read(self, path: impl AsRef<str>) -> Option<String> {
        std::fs::read_to_string(self.path(path.as_ref())).ok().map(|text| text.trim().to_owned())
    }

    fn number(self, path: String) -> Option<u64> {
        self.read(path)?.parse().ok()
    }

    fn path(self, path: &str) -> PathBuf {
        self.root.join(path)
    }
}

/// A time-stamp counter whose pace changes with the core's frequency.
fn changing_counter(flags: &[String]) -> Option<Warning> {
    (!has(flags, "constant_tsc")).then(|| Warning {
        what: "the time-stamp counter does not run at one pace, so latencies and load may be wrong"
            .to_owned(),
        expected: "constant_tsc in /proc/cpuinfo".to_owned(),
        found: "none".to_owned(),
        remedy: "let the hypervisor show it (CPU model \"host\"), or take no figure of this machine for true"
            .to_owned(),
    })
}

/// Instructions that this CPU has and that the compiler was not allowed to use.
fn unused_instructions(flags: &[String]) -> Option<Warning> {
    V3.iter().all(|flag| has(flags, flag)).then(|| Warning {
        what: "this build leaves out instructions that the CPU has (AVX2, BMI2 and others)".to_owned(),
        expected: "a build for x86-64-v3".to_owned(),
        found: "one that runs on any x86-64-v2".to_owned(),
        remedy: "build with RUSTFLAGS=\"-C target-cpu=x86-64-v3\" if no older machine has to run it"
            .to_owned(),
    })
}

fn has(flags: &[String], flag: &str) -> bool {
    flags.iter().any(|other| other == flag)
}

/// Cores for people: `core 2`, `cores 2,3`.
fn cores(cores: &[usize]) -> String {
    format!("{} {}", if cores.len() == 1 { "core" } else { "cores" }, list(cores))
}

/// Cores as the kernel's command line and other programs take them.
fn list(cores: &[usize]) -> String {
    cores.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A made-up machine with two nodes of four cores, on which nothing is to be said about workers on cores 2 and 3.
    struct Tree(tempfile::TempDir);

    const GOOD: [(&str, &str); 18] = [
        ("sys/bus/pci/devices/0000:3b:00.0/numa_node", "0"),
        ("sys/devices/system/node/node0/cpulist", "0-3"),
        ("sys/devices/system/node/node1/cpulist", "4-7"),
        ("sys/devices/system/cpu/isolated", "2-3,6"),
        ("sys/devices/system/cpu/nohz_full", "2-3,6"),
        ("sys/devices/system/cpu/cpu0/topology/thread_siblings_list", "0,4"),
        ("sys/devices/system/cpu/cpu2/topology/thread_siblings_list", "2,6"),
        ("sys/devices/system/cpu/cpu3/topology/thread_siblings_list", "3,7"),
        ("sys/devices/system/cpu/cpu6/topology/thread_siblings_list", "2,6"),
        ("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave"),
        ("sys/devices/system/cpu/cpu2/cpufreq/scaling_governor", "performance"),
        ("sys/devices/system/cpu/cpu3/cpufreq/scaling_governor", "performance"),
        ("sys/devices/system/cpu/cpu6/cpufreq/scaling_governor", "performance"),
        ("sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "50"),
        ("sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "60"),
        ("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never"),
        (CLOCK, "tsc"),
        (
            "proc/cpuinfo",
            "processor\t: 0\nflags\t\t: fpu tsc constant_tsc sse4_2\n\nprocessor\t: 1\nflags\t\t: fpu",
        ),
    ];

    const NEWER: &str = "flags\t\t: constant_tsc abm avx avx2 bmi1 bmi2 f16c fma movbe";

    impl Tree {
        fn new() -> Self {
            let tree = Tree(tempfile::tempdir().unwrap());
            for (path, text) in GOOD {
                tree.write(path, &format!("{text}\n"));
            }
            tree
        }

        /// The good machine but for one file.
        fn with(path: &str, text: &str) -> Self {
            let tree = Self::new();
            tree.write(path, &format!("{text}\n"));
            tree
        }

        /// The good machine without one file.
        fn without(path: &str) -> Self {
            let tree = Self::new();
            std::fs::remove_file(tree.0.path().join(path)).unwrap();
            tree
        }

        fn write(&self, path: &str, text: &str) {
            let path = self.0.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }

        fn warnings(&self, system: &str) -> Vec<String> {
            self.warnings_of(system, false)
        }

        fn warnings_of(&self, system: &str, v3: bool) -> Vec<String> {
            let text = format!(
                "[system]\n{system}\n[[port]]\nname = \"wan\"\ndevice = \"3B:00.0,queues=2\"\n\
                 [[port]]\nname = \"lan\"\ndevice = \"net_null0\"\n"
            );
            let config = crate::config::parse("test.toml", text).unwrap();
            let found = warnings(self.0.path(), &config, Needs { hugepages: 100 << 20, v3 });
            found.iter().map(Warning::to_string).collect()
        }

        /// One warning, with all of these words.
        fn warns(&self, system: &str, words: &[&str]) {
            let found = self.warnings(system);
            let [warning] = &found[..] else { panic!("one warning expected: {found:#?}") };
            for word in words.iter().chain(&["warning: ", " (expected ", ", found ", "): "]) {
                assert!(warning.contains(word), "{word:?} in {warning}");
            }
            assert!(!warning.contains('\n'), "{warning}");
        }

        fn is_silent(&self, system: &str) {
            assert_eq!(self.warnings(system), [""; 0]);
        }
    }

    const WORKERS: &str = "worker_cores = [2, 3]";

    #[test]
    fn nothing_is_said_about_a_good_machine() {
        Tree::new().is_silent(WORKERS);
    }

    #[test]
    fn what_cannot_be_read_is_no_finding() {
        for (path, _) in GOOD {
            Tree::without(path).is_silent(WORKERS);
        }
        Tree(tempfile::tempdir().unwrap()).is_silent(WORKERS);
    }

    #[test]
    fn a_device_on_another_node_than_a_worker() {
        let node = "sys/bus/pci/devices/0000:3b:00.0/numa_node";
        let words =
            ["port wan: device 0000:3b:00.0", "node 1, which are 4-7", "found cores 2,3", "worker_cores"];
        Tree::with(node, "1").warns(WORKERS, &words);
        Tree::with("sys/devices/system/node/node0/cpulist", "0-2,4")
            .warns(WORKERS, &["node 0", "found core 3)"]);
        Tree::with(node, "-1").is_silent(WORKERS);
    }

    #[test]
    fn a_worker_on_core_0() {
        let tree = Tree::new();
        for (path, text) in
            [("cpu0/cpufreq/scaling_governor", "performance"), ("isolated", "0-3"), ("nohz_full", "0-3")]
        {
            tree.write(&format!("{CPU}/{path}"), text);
        }
        tree.warns("worker_cores = [0, 2]\ncontrol_core = 1", &["core 0", "found cores 0,2", "worker_cores"]);
        tree.is_silent(WORKERS);
    }

    #[test]
    fn a_worker_on_a_core_that_is_not_isolated() {
        let isolated = format!("{CPU}/isolated");
        let words = ["isolated cores", "found core 2)", "isolcpus=2,3 nohz_full=2,3 rcu_nocbs=2,3"];
        Tree::with(&isolated, "3").warns(WORKERS, &words);
        Tree::with(&isolated, "").warns(WORKERS, &["found cores 2,3)"]);
        Tree::with(&isolated, "").is_silent(&format!("{WORKERS}\nidle = \"sleep\""));
        let by_control_groups = Tree::with(&isolated, "3");
        by_control_groups.write("sys/fs/cgroup/cpuset.cpus.isolated", "2\n");
        by_control_groups.is_silent(WORKERS);
    }

    #[test]
    fn a_timer_that_ticks_on_an_isolated_core() {
        let quiet = format!("{CPU}/nohz_full");
        let words = ["timer", "cores of nohz_full", "found core 3)", "nohz_full=2,3 rcu_nocbs=2,3 as well"];
        Tree::with(&quiet, "2").warns(WORKERS, &words);
        Tree::with(&quiet, "(null)").warns(WORKERS, &["found cores 2,3)"]);
        Tree::with(&quiet, "(null)").is_silent(&format!("{WORKERS}\nidle = \"sleep\""));
        // One line is enough for a core that is not isolated either.
        let neither = Tree::with(&quiet, "");
        neither.write(&format!("{CPU}/isolated"), "");
        neither.warns(WORKERS, &["isolcpus"]);
    }

    #[test]
    fn workers_on_two_threads_of_one_core() {
        let words = ["one worker on the threads 2,6", "found cores 2,6)", "worker_cores"];
        let tree = Tree::with("sys/devices/system/node/node0/cpulist", "0-7");
        tree.warns("worker_cores = [2, 3, 6]", &words);
        tree.warns("worker_cores = [6, 2]", &words);
        tree.is_silent(WORKERS);
    }

    #[test]
    fn a_governor_that_saves_power() {
        let governor = |core: u8| format!("{CPU}/cpu{core}/cpufreq/scaling_governor");
        let words =
            ["\"performance\"", "\"powersave\" on core 3)", "cpupower -c 3 frequency-set -g performance"];
        Tree::with(&governor(3), "powersave").warns(WORKERS, &words);
        let both = Tree::with(&governor(3), "schedutil");
        both.write(&governor(2), "schedutil\n");
        both.warns(WORKERS, &["\"schedutil\" on cores 2,3)", "-c 2,3 "]);
        Tree::with(&governor(1), "powersave").is_silent(WORKERS);
    }

    #[test]
    fn too_few_free_hugepages_where_they_would_be_used() {
        let pages =
            |size: &str, which: &str| format!("sys/kernel/mm/hugepages/hugepages-{size}/{which}_hugepages");
        let free = pages("2048kB", "free");
        // 10 of 60 are in use, so there have to be 61.
        let words = ["100 MiB of free hugepages", "found 98 MiB)", "scripts/nic hugepages 61,", "\"off\""];
        Tree::with(&free, "49").warns(WORKERS, &words);
        let none = Tree::with(&free, "0");
        none.write(&pages("2048kB", "nr"), "0\n");
        none.warns(WORKERS, &["found 0 MiB)", "scripts/nic hugepages 50,"]);
        for choice in ["off", "required"] {
            none.is_silent(&format!("{WORKERS}\nhugepages = \"{choice}\""));
        }
        none.write(&pages("1048576kB", "free"), "1\n");
        none.is_silent(WORKERS);
    }

    #[test]
    fn transparent_hugepages_that_are_off() {
        let path = "sys/kernel/mm/transparent_hugepage/enabled";
        let words = ["tables", "\"always\"", "found \"never\"", &format!("echo always >/{path}")];
        Tree::with(path, "always madvise [never]").warns(WORKERS, &words);
        Tree::with(path, "[always] madvise never").is_silent(WORKERS);
    }

    #[test]
    fn a_clock_that_is_not_the_time_stamp_counter() {
        let words = ["\"tsc\"", "found \"hpet\"", &format!("echo tsc >/{CLOCK}")];
        Tree::with(CLOCK, "hpet").warns(WORKERS, &words);
        for clock in GUEST_CLOCKS {
            Tree::with(CLOCK, clock).is_silent(WORKERS);
        }
    }

    #[test]
    fn a_time_stamp_counter_that_changes_its_pace() {
        Tree::with("proc/cpuinfo", "flags\t\t: fpu tsc").warns(WORKERS, &["constant_tsc", "hypervisor"]);
    }

    #[test]
    fn instructions_that_the_build_leaves_out() {
        let words = ["AVX2", "x86-64-v3", "x86-64-v2", "RUSTFLAGS=\"-C target-cpu=x86-64-v3\""];
        Tree::with("proc/cpuinfo", NEWER).warns(WORKERS, &words);
        assert_eq!(Tree::with("proc/cpuinfo", NEWER).warnings_of(WORKERS, true), [""; 0]);
        for flag in V3 {
            let lesser = NEWER.split(' ').filter(|other| *other != flag).collect::<Vec<_>>().join(" ");
            Tree::with("proc/cpuinfo", &lesser).is_silent(WORKERS);
        }
    }
}
