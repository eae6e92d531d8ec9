//! The scripts that an operator starts by hand: what they say to wrong words, before they touch anything, and that the
//! bench measures.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // A test may fail.

use serde_json::Value;
use std::io::Write;
use std::process::Command;
use tests::binary;

/// Runs a script and returns its exit code, what it printed and what it complained of.
fn script(name: &str, args: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(binary::root().join("scripts").join(name));
    let output = command.args(args).env("CULVERT_BIN", binary::culvert()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

fn nic(args: &[&str]) -> (i32, String, String) {
    script("nic", args)
}

/// Says why a test does not run, past the runner, which keeps to itself what a passing test prints.
fn skip(what: &str, reason: &str) {
    std::io::stdout().write_all(format!("skipped: {what}: {reason}\n").as_bytes()).unwrap();
}

#[test]
fn nic_without_words_or_with_wrong_ones_shows_its_usage() {
    for args in [&[][..], &["remove"], &["bind"], &["unbind"], &["hugepages", "many"]] {
        let (code, _, complaint) = nic(args);
        assert_eq!(code, 2, "{args:?}: {complaint}");
        assert!(complaint.contains("scripts/nic bind"), "{complaint}");
    }
}

#[test]
fn nic_names_what_is_no_device() {
    for (address, words) in
        [("3b:00.0", "expected a PCI address"), ("ffff:ff:1f.7", "no PCI device ffff:ff:1f.7")]
    {
        for command in ["bind", "unbind"] {
            let (code, _, complaint) = nic(&[command, address]);
            assert_eq!(code, 1, "{complaint}");
            let is_told = complaint.contains(words) || complaint.contains("needs root");
            assert!(is_told, "{complaint}");
        }
    }
}

#[test]
fn nic_lists_every_network_device_with_its_driver() {
    let (code, list, complaint) = nic(&["list"]);
    assert_eq!(code, 0, "{complaint}");
    let is_network = |folder: &std::fs::DirEntry| {
        let class = std::fs::read_to_string(folder.path().join("class")).unwrap_or_default();
        class.starts_with("0x02")
    };
    let Ok(devices) = std::fs::read_dir("/sys/bus/pci/devices") else { return };
    for device in devices.flatten().filter(is_network) {
        let address = device.file_name().into_string().unwrap();
        assert!(list.lines().any(|line| line.starts_with(&address)), "{address} is not in\n{list}");
    }
    assert!(list.starts_with("PCI "), "{list}");
}

#[test]
fn bench_lists_its_rows_and_names_a_wrong_one() {
    if !binary::succeeds("python3", ["--version"]) {
        return skip("bench_lists_its_rows_and_names_a_wrong_one", "python3 is not installed");
    }
    let (code, list, complaint) = script("bench", &["--list"]);
    assert_eq!(code, 0, "{complaint}");
    for row in ["plain-ip4", "gre4-decap", "stack-encap", "transit", "tunnels-100k", "workers-2"] {
        assert!(list.lines().any(|line| line.starts_with(row)), "{row} is not in\n{list}");
    }
    let (code, _, complaint) = script("bench", &["gre4-decapp"]);
    assert_eq!(code, 2, "{complaint}");
    assert!(complaint.contains("no such row: gre4-decapp"), "{complaint}");
}

#[test]
fn bench_names_what_is_wrong_about_a_peer() {
    if !binary::succeeds("python3", ["--version"]) {
        return skip("bench_names_what_is_wrong_about_a_peer", "python3 is not installed");
    }
    let (code, list, complaint) = script("bench", &["--peer", "testpmd", "--list"]);
    assert_eq!(code, 0, "{complaint}");
    assert!(list.lines().any(|line| line.starts_with("stack-encap ")), "{list}");
    assert!(!list.contains("tunnels-100k"), "{list}");
    for (args, words) in [
        (&["--peer", "iperf"][..], "no such peer: iperf (expected testpmd or pktgen)"),
        (&["--peer", "testpmd", "gre4-decapp"], "no such row: gre4-decapp"),
        (&["--peer", "testpmd", "tunnels-1m"], "more of them are needed by tunnels-1m"),
        (&["--peer", "testpmd", "--burst", "64"], "--burst: at most 32 expected, found 64"),
    ] {
        let (code, _, complaint) = script("bench", args);
        assert_eq!(code, 2, "{args:?}: {complaint}");
        assert!(complaint.contains(words), "{args:?}: {complaint}");
    }
}

#[test]
fn bench_counts_every_packet_of_a_peer_and_leaves_nothing_behind() {
    let name = "bench_counts_every_packet_of_a_peer_and_leaves_nothing_behind";
    for (tool, word) in [("dpdk-testpmd", "--help"), ("python3", "--version")] {
        if Command::new(tool).arg(word).output().is_err() {
            return skip(name, &format!("{tool} is not installed"));
        }
    }
    let mut command = Command::new("python3");
    command.args(["-B", "-W", "ignore", "tests/bench/live_peer.py"]).current_dir(binary::root());
    let output = command.env("CULVERT_BIN", binary::culvert()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    if let Some((_, reason)) = said.split_once("skipped ") {
        skip(name, reason.lines().next().unwrap_or_default());
    }
}

#[test]
fn bench_measures_a_row_against_testpmd() {
    let name = "bench_measures_a_row_against_testpmd";
    for (tool, word) in [("dpdk-testpmd", "--help"), ("python3", "--version"), ("jq", "--version")] {
        if Command::new(tool).arg(word).output().is_err() {
            return skip(name, &format!("{tool} is not installed"));
        }
    }
    if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
        return skip(name, "needs two cores");
    }
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().to_str().unwrap();
    let (code, json, complaint) =
        script("bench", &["stack-decap", "--runs", "1", "--seconds", "0.2", "--json", "--out", out]);
    assert_eq!(code, 0, "{complaint}");
    let results: Value = serde_json::from_str(&json).unwrap();
    let rows = results["rows"].as_array().unwrap();
    // The row that the target is measured by comes along.
    let names: Vec<&Value> = rows.iter().map(|row| &row["name"]).collect();
    assert_eq!(names, ["gre4-decap", "stack-decap"], "{json}");
    for row in rows {
        let cycles = |program: &str| row[program]["cycles_per_packet"]["median"].as_f64().unwrap();
        let cost = row["cost"].as_f64().unwrap();
        assert!(cycles("testpmd") > 1.0, "{json}");
        assert!((cycles("culvert") - cycles("testpmd") - cost).abs() < 0.02, "{json}");
        assert_eq!(row["met"], cost <= row["limit"].as_f64().unwrap(), "{json}");
    }
    let kept = |file: &str| std::fs::read_to_string(folder.path().join(file)).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&kept("results.json")).unwrap(), results);
    assert!(kept("table.txt").lines().any(|line| line.starts_with("stack-decap ")), "{}", kept("table.txt"));
    assert!(kept("plot.svg").contains(">stack-decap</text>"), "{}", kept("plot.svg"));
}
