//! The golden rows: a configuration, packets in, packets out, counters.
//!
//! Every folder of `golden/` that holds a `config.toml` is a row: `culvert replay` is run on its `in-PORT.pcap` and what
//! it writes is compared with `out-PORT.pcap`, `kernel-NAME.pcap` and `counters.json`, byte for byte, time stamps
//! included. The expectation was made by `golden/generate.py` with a packet library of its own, not by culvert. A field
//! that culvert chooses freely is named in the row's `row.toml` and is checked by its rule here instead. Whatever the row,
//! all checksums of all packets are verified independently and the law of conservation is recomputed.
//!
//! `UPDATE_GOLDEN=1` writes what culvert did into the rows; that is for looking at a deliberate change with `git diff`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "golden/mask.rs"]
mod mask;
#[path = "golden/row.rs"]
mod row;

use libtest_mimic::{Arguments, Failed, Trial};
use row::Row;
use serde_json::Value;
use std::path::PathBuf;
use tests::rows::{name_of, rows};

fn main() {
    let arguments = Arguments::from_args();
    let mut trials: Vec<Trial> = rows()
        .into_iter()
        .map(|folder| Trial::test(name_of(&folder), move || Row::read(&folder).check()))
        .collect();
    trials.push(Trial::test("every_drop_reason_is_produced_by_some_row", every_drop_reason));
    trials.push(Trial::test("tshark_finds_no_bad_checksum_in_the_expectations", tshark_agrees));
    libtest_mimic::run(&arguments, trials).exit();
}

/// Reasons that no replay can produce, with the test that does.
const ELSEWHERE: &[(&str, &str)] = &[
    ("multi_segment", "forwarder/tests/devices.rs: a chained mbuf"),
    ("no_kernel", "functional.rs: in replay a kernel counts as attached"),
    ("tx_full", "functional.rs: a device that takes nothing"),
    ("headroom", "forwarder/src/tunnel/encap.rs: the compiler refuses tables that need more than there is"),
];

/// The names in forwarder's list of reasons; read from the source so that a reason cannot be added without a row.
fn reasons() -> Vec<String> {
    let source = std::fs::read_to_string(tests::binary::root().join("forwarder/src/verdict.rs")).unwrap();
    let list = source.split("drop_reasons! {").nth(1).unwrap();
    list.lines()
        .filter_map(|line| {
            line.trim().split_once(" = \"")?.1.split_once("\": \"").map(|(name, _)| name.into())
        })
        .collect()
}

fn every_drop_reason() -> Result<(), Failed> {
    let reasons = reasons();
    if reasons.len() < 30 {
        return Err(format!("the list of reasons is not where it is looked for: {reasons:?}").into());
    }
    let mut missing = Vec::new();
    for reason in &reasons {
        let produced = rows().iter().any(|folder| {
            let text = std::fs::read_to_string(folder.join("counters.json")).unwrap_or_default();
            let counters: Value = serde_json::from_str(&text).unwrap_or_default();
            counters["dropped"][reason.as_str()].as_u64().is_some_and(|count| count > 0)
        });
        if produced == ELSEWHERE.iter().any(|(name, _)| name == reason) {
            missing.push(format!("{reason} ({})", if produced { "also on the list" } else { "no row" }));
        }
    }
    missing.extend(
        ELSEWHERE
            .iter()
            .filter(|(name, _)| !reasons.iter().any(|reason| reason == name))
            .map(|(name, _)| format!("{name} (on the list, but no such reason)")),
    );
    if missing.is_empty() { Ok(()) } else { Err(missing.join(", ").into()) }
}

/// A second opinion on the expectations: `tshark` reads all of them in one go.
fn tshark_agrees() -> Result<(), Failed> {
    if !tests::binary::succeeds("tshark", ["--version"])
        || !tests::binary::succeeds("mergecap", ["--version"])
    {
        println!("skipped: tshark is not installed");
        return Ok(());
    }
    let folder = tempfile::tempdir().unwrap();
    let merged = folder.path().join("all.pcapng");
    let files: Vec<PathBuf> = rows()
        .iter()
        .filter(|row| !Row::read(row).bad_checksums)
        .flat_map(|row| {
            std::fs::read_dir(row).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>()
        })
        .filter(|path| {
            let name = path.file_name().unwrap().to_string_lossy();
            name.starts_with("out-") && name.ends_with(".pcap")
        })
        .collect();
    let status =
        std::process::Command::new("mergecap").arg("-a").arg("-w").arg(&merged).args(&files).status();
    if !status.is_ok_and(|status| status.success()) {
        return Err("mergecap cannot join the expectations".into());
    }
    let output = std::process::Command::new("tshark")
        .arg("-r")
        .arg(&merged)
        .args(["-d", "udp.port==5555,gre", "-d", "udp.port==5556,ip"])
        .args([
            "-o",
            "ip.check_checksum:TRUE",
            "-o",
            "tcp.check_checksum:TRUE",
            "-o",
            "udp.check_checksum:TRUE",
        ])
        .args(["-Y", "ip.checksum.status==0 || tcp.checksum.status==0 || udp.checksum.status==0"])
        .output()
        .unwrap();
    match (output.status.success(), output.stdout.is_empty()) {
        (true, true) => Ok(()),
        (true, false) => Err(String::from_utf8_lossy(&output.stdout).into_owned().into()),
        (false, _) => Err(String::from_utf8_lossy(&output.stderr).into_owned().into()),
    }
}
