//! culvert beside scapy: random configurations and random packets, through `culvert replay` and through a model made of
//! scapy's own layers.
//!
//! The model is the Python program `tests/differential/run.py`, a second reading of the contract that knows none of
//! culvert's code. Each seed is one configuration with some dozens of packets both ways; what differs is printed with
//! seed, configuration, and both packets taken apart. `CULVERT_DIFFERENTIAL_SEED` replaces the seed that the clock gives,
//! `CULVERT_DIFFERENTIAL_COUNT` says how many configurations there are from each first seed on.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use libtest_mimic::{Arguments, Failed, Trial};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};
use tests::binary;

/// Debian's interpreter, for which its package of scapy is.
const PYTHON: &str = "/usr/bin/python3";

/// The first seed that every run has.
const SEED: u64 = 1;

/// Configurations for each first seed where nothing else is asked for.
const USUAL: u64 = 16;

/// Configurations in which something is spoiled.
const SPOILED: u64 = 8;

fn main() {
    let arguments = Arguments::from_args();
    let obstacle = obstacle();
    if let Some(reason) = obstacle {
        println!("skipped: differential tests: {reason}");
    }
    let trials = [
        Trial::test("scapy_agrees_from_the_usual_seed_on", scapy_agrees_from_the_usual_seed_on),
        Trial::test("scapy_agrees_from_another_seed_on", scapy_agrees_from_another_seed_on),
        Trial::test("spoiled_packets_and_counters_are_noticed", spoiled_packets_and_counters_are_noticed),
    ];
    let trials = trials.into_iter().map(|trial| trial.with_ignored_flag(obstacle.is_some())).collect();
    libtest_mimic::run(&arguments, trials).exit();
}

/// Why the model cannot run here; `None` where it can.
fn obstacle() -> Option<&'static str> {
    if !binary::succeeds(PYTHON, ["--version"]) {
        return Some("needs /usr/bin/python3");
    }
    let has_scapy = binary::succeeds(PYTHON, ["-c", "import scapy.layers.inet6, scapy.layers.l2"]);
    (!has_scapy).then_some("needs scapy (python3-scapy)")
}

fn scapy_agrees_from_the_usual_seed_on() -> Result<(), Failed> {
    compare(SEED, number("CULVERT_DIFFERENTIAL_COUNT").unwrap_or(USUAL), &[])
}

fn scapy_agrees_from_another_seed_on() -> Result<(), Failed> {
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let seed = number("CULVERT_DIFFERENTIAL_SEED").unwrap_or(clock);
    compare(seed, number("CULVERT_DIFFERENTIAL_COUNT").unwrap_or(USUAL), &[])
}

/// The comparison itself: a bit of a packet, a packet or a counter is changed behind culvert's back.
fn spoiled_packets_and_counters_are_noticed() -> Result<(), Failed> {
    compare(SEED, SPOILED, &["--prove"])
}

fn compare(seed: u64, count: u64, more: &[&str]) -> Result<(), Failed> {
    println!("seed {seed}: CULVERT_DIFFERENTIAL_SEED={seed} CULVERT_DIFFERENTIAL_COUNT={count}");
    let output = Command::new(PYTHON)
        .arg(binary::root().join("tests/differential/run.py"))
        .arg("--culvert")
        .arg(binary::culvert())
        .args(["--seed", &seed.to_string(), "--count", &count.to_string()])
        .args(more)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    if output.status.success() {
        print!("{said}");
        return Ok(());
    }
    Err(format!("{said}{}", String::from_utf8_lossy(&output.stderr)).into())
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect(name))
}
