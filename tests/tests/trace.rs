//! `culvert trace` tells of every golden packet what replay did with it, and of every dropped one a reason and a line.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // A test may fail.

use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tests::rows::{golden, name_of, rows};
use tests::{binary, counters};

/// The row's captures, each with its port's name.
fn inputs(folder: &Path) -> Vec<(String, PathBuf)> {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let port = |path: &Path| {
        let name = path.file_name()?.to_str()?;
        Some(name.strip_prefix("in-")?.strip_suffix(".pcap")?.to_owned())
    };
    let mut inputs: Vec<_> = files.filter_map(|path| Some((port(&path)?, path.clone()))).collect();
    inputs.sort();
    inputs
}

/// What `culvert trace` says of the packets of a row.
fn trace(folder: &Path, arguments: &[&str]) -> Vec<Value> {
    let mut command: Vec<String> = vec!["trace".into(), "--json".into(), "--config".into()];
    command.push(folder.join("config.toml").display().to_string());
    for (port, path) in inputs(folder) {
        command.extend(["--in".into(), format!("{port}={}", path.display())]);
    }
    command.extend(arguments.iter().map(|argument| (*argument).to_owned()));
    let output = binary::run(command);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn every_packet_is_told_to_end_as_it_did_and_every_drop_names_its_reason_and_a_line() {
    for folder in rows() {
        let name = name_of(&folder);
        let expected: Value =
            serde_json::from_slice(&std::fs::read(folder.join("counters.json")).unwrap()).unwrap();
        let lines = std::fs::read_to_string(folder.join("config.toml")).unwrap().lines().count() as u64;
        let mut fates: BTreeMap<String, u64> = BTreeMap::new();
        for packet in trace(&folder, &["--count", "1000000"]) {
            let steps = packet["steps"].as_array().unwrap();
            let end = steps.last().unwrap();
            *fates.entry(packet["verdict"].as_str().unwrap().to_owned()).or_default() += 1;
            if let Some(reason) = packet["reason"].as_str() {
                let text = end["text"].as_str().unwrap();
                assert!(text.starts_with(&format!("dropped as {reason}: ")), "{name}: {packet}");
                assert!((1..=lines).contains(&end["line"].as_u64().unwrap()), "{name}: {packet}");
            }
        }
        let fate = |key: &str| fates.get(key).copied().unwrap_or(0);
        assert_eq!(fates.values().sum::<u64>(), expected["received"], "{name}");
        assert_eq!(fate("kernel"), expected["kernel"], "{name}");
        let consumed = expected["consumed"].as_u64().unwrap();
        let sent_or_dropped = expected["transmitted"].as_u64().unwrap() + counters::dropped(&expected);
        // Fragments that are kept end later, consumed or dropped.
        match fate("held") {
            0 => assert_eq!(fate("consumed"), consumed, "{name}"),
            held => assert!(name.contains("reassembly") && held >= consumed - fate("consumed"), "{name}"),
        }
        // Those that culvert made itself are no packets of their own here.
        let made = expected["originated"].as_u64().unwrap();
        let told = fate("transmitted") + fate("dropped") + fate("consumed") + fate("held");
        assert_eq!(told + made, sent_or_dropped + consumed, "{name}");
    }
}

/// Texts of the last step of the packets that are asked for.
fn ends(row: &str, arguments: &[&str]) -> Vec<(String, u64)> {
    let packets = trace(&golden().join(row), arguments);
    let end = |packet: &Value| {
        let end = packet["steps"].as_array().unwrap().last().unwrap().clone();
        (end["text"].as_str().unwrap().to_owned(), end["line"].as_u64().unwrap_or_default())
    };
    packets.iter().map(end).collect()
}

/// The text of a line of the row's configuration.
fn line(row: &str, number: u64) -> String {
    let text = std::fs::read_to_string(golden().join(row).join("config.toml")).unwrap();
    text.lines().nth(number as usize - 1).unwrap().trim().to_owned()
}

#[test]
fn a_drop_is_explained_by_what_would_have_to_be_different() {
    let rows: &[(&str, &str, &str, &str)] = &[
        (
            "drop-no-tunnel",
            "no_tunnel",
            "takes what 192.0.2.1 sends (found 198.51.100.99)",
            "remote = \"192.0.2.1\"",
        ),
        ("drop-no-tunnel", "no_tunnel", "takes no key (found key 8)", "[[tunnel]]"),
        ("drop-vlan-unknown", "vlan_unknown", "The tag is 119; the port's VLANs: 120.", "[[port]]"),
        ("drop-ethernet-address", "ethernet_address", "the port has 02:00:00:00:00:02", "[[port]]"),
        ("drop-too-big", "too_big", "The tunnel's MTU is 1476.", "[[tunnel]]"),
        ("drop-udp-zero-checksum", "udp_zero_checksum", "It is of tunnel \"f6\".", "[tunnel.udp]"),
        ("drop-neighbor-unknown", "neighbor_unknown", "No [[neighbor]] on port \"lan\"", "[[port]]"),
        ("drop-no-route", "no_route", "that holds 203.0.113.9 is missing", "[[port]]"),
        ("reassembly-by-tunnel", "outer_fragment", "It is of tunnel \"no\".", "[[tunnel]]"),
        ("reassembly-by-tunnel", "outer_fragment", "Tunnel \"apart\" at 192.0.2.77 is one", "[[tunnel]]"),
        ("drop-gre-keepalive", "gre_keepalive", "It is of tunnel \"t\".", "[[tunnel]]"),
        ("inner-source", "inner_source", "lets out 10.7.0.0/16", "inner_source = [\"10.7.0.0/16\""),
    ];
    for (row, reason, words, place) in rows {
        let ends = ends(row, &["--reason", reason, "--count", "1000"]);
        let fits = |(text, at): &(String, u64)| text.contains(words) && line(row, *at).starts_with(place);
        assert!(ends.iter().any(fits), "{row}: {words} at {place}; found {ends:#?}");
    }
}

#[test]
fn packets_are_told_apart_by_interface_tunnel_address_and_reason() {
    let row = golden().join("drop-no-tunnel");
    let count = |arguments: &[&str]| trace(&row, &[arguments, &["--count", "1000"]].concat()).len();
    let all = count(&[]);
    let dropped = count(&["--dropped"]);
    assert_eq!(dropped, count(&["--reason", "no_tunnel"]));
    assert!(0 < dropped && dropped < all);
    assert_eq!(count(&["--tunnel", "t"]), all - dropped);
    assert_eq!(count(&["--interface", "wan"]), all);
    assert_eq!(count(&["--interface", "lan"]), 0);
    assert_eq!(count(&["--address", "10.2.0.9"]), all - dropped, "an address inside the tunnel");
    assert_eq!(count(&["--address", "203.0.113.0/24"]), 0);
    assert_eq!(trace(&row, &["--count", "2"]).len(), 2);
    // Refused before it was clear which interface of the port they were for: the port's, and no VLAN's.
    let early = |interface: &str, reason: &str| {
        let row = golden().join(format!("drop-{}", reason.replace('_', "-")));
        trace(&row, &["--interface", interface, "--reason", reason]).len()
    };
    assert_ne!(early("wan", "ethernet_address"), 0);
    assert_ne!(early("wan", "vlan_unknown"), 0);
    assert_eq!(early("cni", "vlan_unknown"), 0);
    let too_big = trace(&golden().join("drop-too-big"), &["--tunnel", "t", "--reason", "too_big"]);
    assert_eq!(too_big.len(), 2, "died in the tunnel, and their senders are told: {too_big:#?}");
}

#[test]
fn names_that_there_are_not_are_wrong_usage_and_the_nearest_is_named() {
    let config = golden().join("drop-no-tunnel/config.toml").display().to_string();
    let capture = format!("wan={}", golden().join("drop-no-tunnel/in-wan.pcap").display());
    let refuse = |arguments: &[&str], words: &str| {
        let base = ["trace", "--config", config.as_str(), "--in", capture.as_str()];
        let output = binary::run([&base, arguments].concat());
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains(words), "{text}");
    };
    refuse(&["--tunnel", "k1"], "the nearest is \"k\"");
    refuse(&["--interface", "wam"], "the nearest is \"wan\"");
    refuse(&["--reason", "no_tunel"], "the nearest is \"no_tunnel\"");
    refuse(&["--address", "10.2.0"], "expected an address or a prefix");
    refuse(&["--count", "0"], "expected a number from 1");
}
