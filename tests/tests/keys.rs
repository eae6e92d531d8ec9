//! Every configuration key that is accepted has an effect: no key may be taken and then do nothing.
//!
//! The list of keys is culvert's own, as `culvert check` gives it for an unknown key in each table, so a new key fails
//! here until it has a row. A row changes one key in the configuration of `keys/base.toml` and says what must then be
//! different in what `culvert replay` writes: a capture or a counter. Keys that act on devices and threads only have
//! the name of the test that shows their effect; keys that this version checks but refuses to run must say so.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "keys/traffic.rs"]
mod traffic;

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use tests::{binary, capture, counters, tree};

const BASE: &str = include_str!("keys/base.toml");

/// A key, its table in front; what stands in the base and what in its place; and what must differ: `NAME.pcap`, or a
/// counter by its path.
type Row = (&'static str, &'static str, &'static str, &'static str);

/// What `above` is in the base, and the same with a line behind it.
macro_rules! add {
    ($key:literal, $above:literal, $line:literal, $shows:literal) => {
        ($key, $above, concat!($above, "\n", $line), $shows)
    };
}

const ROWS: &[Row] = &[
    ("icmp.per_source", "per_source = 3", "per_source = 2", "lan.pcap"),
    ("icmp.total", "total = 1000", "total = 2", "lan.pcap"),
    ("port.name", "\"lan\"", "\"edge\"", "edge.pcap"),
    add!("port.mtu", "device = \"net_null1\"", "mtu = 9000", "lan.pcap"),
    add!("port.mac", "device = \"net_null1\"", "mac = \"02:aa:00:00:00:01\"", "wan.pcap"),
    ("port.addresses", "\"192.0.2.1/24\"", "\"192.0.2.9/24\"", "kernel-wan.pcap"),
    ("port.vlan.id", "id = 5", "id = 6", "dropped.vlan_unknown"),
    ("port.vlan.name", "\"v\"", "\"w\"", "kernel-w.pcap"),
    ("port.vlan.addresses", "198.18.0.1/24", "198.18.0.7/24", "kernel-v.pcap"),
    (
        "neighbor.interface",
        "interface = \"v\"\naddress = \"198.18.0.2\"",
        "interface = \"wan\"\naddress = \"192.0.2.77\"",
        "dropped.neighbor_unknown",
    ),
    ("neighbor.address", "address = \"198.18.0.2\"", "address = \"198.18.0.3\"", "dropped.neighbor_unknown"),
    ("neighbor.mac", "02:00:00:00:0b:02", "02:00:00:00:0b:22", "wan.pcap"),
    ("tunnel.name", "\"t\"", "\"renamed\"", "tunnels.renamed.tx_packets"),
    ("tunnel.encap", "encap = \"gre\"", "encap = \"ip\"", "wan.pcap"),
    ("tunnel.encap", "encap = \"gre\"", "encap = \"ip\"", "tunnels.t.rx_packets"),
    ("tunnel.local", "local = \"203.0.113.1\"", "local = \"203.0.113.9\"", "wan.pcap"),
    ("tunnel.local", "local = \"203.0.113.1\"", "local = \"203.0.113.9\"", "tunnels.t.rx_packets"),
    ("tunnel.remote", "remote = \"192.0.2.2\"", "remote = \"192.0.2.3\"", "wan.pcap"),
    ("tunnel.remote", "remote = \"192.0.2.2\"", "remote = \"192.0.2.3\"", "tunnels.t.rx_packets"),
    ("tunnel.remote", "remote = \"any\"", "remote = [\"198.51.100.0/24\"]", "tunnels.r.rx_packets"),
    add!("tunnel.addresses", "encap = \"gre\"", "addresses = [\"10.255.0.1/31\"]", "consumed"),
    add!("tunnel.key", "encap = \"gre\"", "key = 0", "wan.pcap"),
    add!("tunnel.key", "encap = \"gre\"", "key = 0", "dropped.no_tunnel"),
    add!("tunnel.checksum", "encap = \"gre\"", "checksum = true", "wan.pcap"),
    add!("tunnel.sequence", "encap = \"gre\"", "sequence = true", "wan.pcap"),
    add!("tunnel.keepalive", "encap = \"gre\"", "keepalive = true", "dropped.gre_keepalive"),
    add!("tunnel.ttl", "encap = \"gre\"", "ttl = 63", "wan.pcap"),
    add!("tunnel.ttl", "encap = \"gre\"", "ttl = \"inherit\"", "wan.pcap"),
    add!("tunnel.dscp", "encap = \"gre\"", "dscp = 1", "wan.pcap"),
    add!("tunnel.dscp", "encap = \"gre\"", "dscp = \"uniform\"", "lan.pcap"),
    add!("tunnel.ecn", "encap = \"gre\"", "ecn = \"off\"", "wan.pcap"),
    add!("tunnel.df", "encap = \"gre\"", "df = \"clear\"", "wan.pcap"),
    add!("tunnel.df", "encap = \"gre\"", "df = \"inherit\"", "wan.pcap"),
    add!("tunnel.mtu", "encap = \"gre\"", "mtu = 1400", "tunnels.t.mtu"),
    add!("tunnel.mtu", "encap = \"gre\"", "mtu = 1400", "lan.pcap"),
    add!("tunnel.mss.ipv4", "encap = \"gre\"", "mss = \"off\"", "wan.pcap"),
    add!("tunnel.mss.ipv4", "encap = \"gre\"", "mss = { ipv4 = 1000 }", "tunnels.t.mss_ipv4"),
    add!("tunnel.mss.ipv4", "encap = \"gre\"", "mss = { ipv4 = 1000 }", "lan.pcap"),
    add!("tunnel.mss.ipv6", "encap = \"gre\"", "mss = { ipv6 = 1000 }", "lan.pcap"),
    add!("tunnel.profile", "encap = \"gre\"", "profile = \"cni-legacy-fou\"", "tunnels.t.mss_ipv6"),
    add!("tunnel.profile", "encap = \"gre\"", "profile = \"cni-legacy-fou\"", "wan.pcap"),
    add!(
        "tunnel.inner_source",
        "encap = \"gre\"",
        "inner_source = [\"10.9.0.0/16\"]",
        "dropped.inner_source"
    ),
    add!("tunnel.reassembly", "name = \"u\"", "reassembly = true", "tunnels.u.rx_packets"),
    add!("tunnel.reassembly", "name = \"u\"", "reassembly = true", "lan.pcap"),
    ("tunnel.udp.kind", "kind = \"fou\"", "kind = \"gue\"", "wan.pcap"),
    ("tunnel.udp.kind", "kind = \"fou\"", "kind = \"gue\"", "tunnels.u.rx_packets"),
    ("tunnel.udp.kind", "kind = \"fou\"", "kind = \"gue1\"", "wan.pcap"),
    add!("tunnel.udp.port", "kind = \"fou\"", "port = 5556", "wan.pcap"),
    add!("tunnel.udp.port", "kind = \"fou\"", "port = 5556", "tunnels.u.rx_packets"),
    add!("tunnel.udp.source_port", "kind = \"fou\"", "source_port = 1234", "wan.pcap"),
    add!("tunnel.udp.checksum", "kind = \"fou\"", "checksum = \"zero\"", "wan.pcap"),
    add!("tunnel.udp.checksum", "kind = \"fou\"", "checksum = \"zero\"", "dropped.udp_zero_checksum"),
    ("route.prefix", "prefix = \"10.5.0.0/16\"", "prefix = \"10.5.0.0/24\"", "wan.pcap"),
    ("route.tunnel", "tunnel = \"t\"", "tunnel = \"u\"", "wan.pcap"),
    ("route.gateway", "gateway = \"192.0.2.3\"", "gateway = \"192.0.2.2\"", "wan.pcap"),
    (
        "route.interface",
        "interface = \"wan\"\n# on-link",
        "interface = \"v\"\n# on-link",
        "dropped.neighbor_unknown",
    ),
    ("route.weight", "weight = 1", "weight = 60000", "wan.pcap"),
    ("route.priority", "priority = 200", "priority = 99", "wan.pcap"),
    ("mss_clamp.on", "on = \"lan\"", "on = \"v\"", "lan.pcap"),
    ("mss_clamp.direction", "direction = \"out\"", "direction = \"in\"", "lan.pcap"),
    ("mss_clamp.direction", "direction = \"out\"", "direction = \"both\"", "wan.pcap"),
    ("mss_clamp.prefix", "prefix = \"0.0.0.0/0\" # clamped", "prefix = \"172.16.0.0/12\"", "lan.pcap"),
    ("mss_clamp.ipv4", "ipv4 = 1100", "ipv4 = 1101", "lan.pcap"),
    ("mss_clamp.ipv6", "ipv6 = 1080", "ipv6 = 1081", "lan.pcap"),
];

/// Keys whose effect replay cannot show, with the file and the name of the test that does.
const ELSEWHERE: &[(&str, &str, &str)] = &[
    (
        "system.worker_cores",
        "control/tests/daemon.rs",
        "each_thread_runs_on_the_core_that_is_configured_for_it",
    ),
    (
        "system.control_core",
        "control/tests/daemon.rs",
        "each_thread_runs_on_the_core_that_is_configured_for_it",
    ),
    ("system.hugepages", "tests/tests/functional.rs", "what_cannot_start_says_why"),
    ("system.hugepages", "forwarder/src/dpdk/eal.rs", "auto_takes_hugepages_only_where_they_are_enough"),
    ("system.idle", "control/tests/daemon.rs", "a_worker_without_packets_sleeps_only_where_it_may"),
    (
        "system.idle",
        "control/tests/daemon.rs",
        "a_sleeping_worker_takes_a_small_part_of_what_a_polling_one_takes",
    ),
    ("system.eal_args", "control/tests/daemon.rs", "eal_args_are_handed_to_dpdk"),
    ("control.socket", "control/tests/daemon.rs", "the_socket_and_its_folder_are_the_owners_alone"),
    ("port.device", "control/tests/daemon.rs", "counters_and_latency_stay_with_their_tunnel_over_reloads"),
    ("port.rx_queues", "control/tests/daemon.rs", "receive_queues_and_their_spreading_are_those_configured"),
    ("port.rss", "control/tests/daemon.rs", "receive_queues_and_their_spreading_are_those_configured"),
    ("port.rss", "control/tests/daemon.rs", "workers_share_one_receive_queue_and_say_why"),
    ("tunnel.latency", "control/tests/daemon.rs", "a_tunnel_has_a_histogram_only_where_it_is_asked_for"),
];

/// Keys that are checked, and that `run` and `reload` refuse because this version does not act on them.
const REFUSED: &[(&str, &str, &str)] = &[
    ("control.metrics", "", "[control]\nmetrics = \"127.0.0.1:9472\"\n"),
    ("kernel.enabled", "", "[kernel]\nenabled = true\n"),
    ("tunnel.health.target", "encap = \"gre\"", "health = { target = \"192.0.2.2\" }"),
    ("tunnel.health.interval", "encap = \"gre\"", "health = { interval = \"2s\" }"),
    ("tunnel.health.down_after", "encap = \"gre\"", "health = { down_after = 2 }"),
    ("tunnel.health.up_after", "encap = \"gre\"", "health = { up_after = 2 }"),
];

#[test]
fn every_accepted_key_has_a_row() {
    let accepted = accepted_keys();
    assert!(accepted.len() > 45, "{accepted:?}");
    let rows = ROWS.iter().map(|row| row.0);
    let others = ELSEWHERE.iter().chain(REFUSED).map(|row| row.0);
    let covered: BTreeSet<String> = rows.chain(others).map(str::to_owned).collect();
    let missing: Vec<&String> = accepted.difference(&covered).collect();
    let stale: Vec<&String> = covered.difference(&accepted).collect();
    assert!(missing.is_empty() && stale.is_empty(), "without a row: {missing:?}; no such key: {stale:?}");
}

#[test]
fn every_accepted_key_is_documented() {
    let text = std::fs::read_to_string(binary::root().join("docs/configuration.md")).unwrap();
    let mut undocumented = accepted_keys();
    let sections: Vec<&str> = text.split("\n## ").collect();
    undocumented.retain(|key| {
        let (table, name) = key.rsplit_once('.').unwrap();
        // A table inside another is explained in the section of the outer one.
        let outer = table.split('.').next().unwrap();
        let heading = |section: &&&str| {
            section.starts_with(&format!("[{outer}]")) || section.starts_with(&format!("[[{outer}]]"))
        };
        let named = |section: &&str| {
            section.contains(&format!("`{name}`")) || section.contains(&format!("{name} = "))
        };
        let refused = REFUSED.iter().any(|row| row.0 == key);
        !refused && !sections.iter().find(heading).is_some_and(named)
    });
    assert!(undocumented.is_empty(), "not in docs/configuration.md: {undocumented:?}");
}

#[test]
fn every_row_changes_what_replay_writes() {
    let base = replay(BASE).unwrap();
    assert!(base == replay(BASE).unwrap(), "replay is not deterministic");
    let mut idle = Vec::new();
    for (key, from, to, shows) in ROWS {
        assert!(BASE.contains(from), "{key}: the base has no {from:?}");
        match replay(&BASE.replace(from, to)) {
            Ok(changed) if changed.get(*shows) == base.get(*shows) => {
                let other: Vec<&String> =
                    changed.keys().filter(|what| changed.get(*what) != base.get(*what)).collect();
                idle.push(format!("{key}: {to:?} leaves {shows} as it was, and changes {other:?}"));
            }
            Ok(_) => {}
            Err(complaint) => idle.push(format!("{key}: {to:?} is refused: {complaint}")),
        }
    }
    assert!(idle.is_empty(), "{}", idle.join("\n"));
}

#[test]
fn tests_named_for_other_keys_exist() {
    for (key, file, test) in ELSEWHERE {
        assert!(tree::has_test(file, test), "{key}: no test {test} in {file}");
    }
}

#[test]
fn keys_that_this_version_does_not_act_on_are_refused() {
    for (key, above, line) in REFUSED {
        let text = match *above {
            "" => format!("{line}{BASE}"),
            _ => BASE.replacen(above, &format!("{above}\n{line}"), 1),
        };
        let found = check(&text);
        let refusal = "not supported by this version";
        assert!(found.iter().any(|finding| finding.1.contains(refusal)), "{key}: {found:?}");
    }
}

/// Line, message and help of what `culvert check` finds.
fn check(text: &str) -> Vec<(u64, String, String)> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    std::fs::write(&path, text).unwrap();
    let output = Command::new(binary::culvert()).args(["check", "--json"]).arg(&path).output().unwrap();
    let found: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let word = |finding: &Value, key: &str| finding[key].as_str().unwrap_or_default().to_owned();
    let line = |finding: &Value| finding["line"].as_u64().unwrap();
    found.iter().map(|finding| (line(finding), word(finding, "message"), word(finding, "help"))).collect()
}

/// Every key that culvert knows, its table in front, found by asking for one that it does not know: first at the top,
/// then in each table that this gives, until no table is new.
fn accepted_keys() -> BTreeSet<String> {
    let mut tables = vec![String::new()];
    let (mut keys, mut at) = (BTreeSet::new(), 0);
    while let Some(table) = tables.get(at).cloned() {
        at += 1;
        for name in known_keys(&table).expect("a table lists its keys") {
            let key = if table.is_empty() { name } else { format!("{table}.{name}") };
            // What takes a table or a list of tables is a table, and no key of its own.
            match known_keys(&key) {
                Some(_) => tables.push(key),
                None => drop(keys.insert(key)),
            }
        }
    }
    keys
}

/// The keys of a table, by its path; `None` where the path is no table's.
fn known_keys(table: &str) -> Option<Vec<String>> {
    let mut parts = table.split('.').filter(|part| !part.is_empty());
    let headers = match (parts.next(), parts.next(), parts.next()) {
        (None, ..) => vec![String::new()],
        (Some(outer), None, _) => vec![format!("[{outer}]"), format!("[[{outer}]]")],
        (Some(outer), Some(inner), None) => vec![
            format!("[{outer}.{inner}]"),
            format!("[[{outer}]]\n[{outer}.{inner}]"),
            format!("[[{outer}]]\n[[{outer}.{inner}]]"),
        ],
        _ => vec![],
    };
    headers.iter().find_map(|header| {
        let text = format!("{header}\nunheard_of = 1\n");
        let line = text.lines().count() as u64;
        let asked = |finding: &&(u64, String, String)| {
            finding.0 == line && finding.1.contains("unknown key `unheard_of`")
        };
        let help = check(&text).iter().find(asked)?.2.clone();
        Some(help.strip_prefix("the keys are ")?.split(", ").map(str::to_owned).collect())
    })
}

/// Replays the traffic with a configuration; what was written by file name and what was counted by path. `Err` says why
/// the configuration is refused.
fn replay(config: &str) -> Result<BTreeMap<String, String>, String> {
    let folder = tempfile::tempdir().unwrap();
    let (path, out) = (folder.path().join("config.toml"), folder.path().join("out"));
    std::fs::write(&path, config).unwrap();
    let table: toml::Table = config.parse().unwrap();
    let ports = table["port"].as_array().unwrap().iter().map(|port| port["name"].as_str().unwrap());
    let mut command = Command::new(binary::culvert());
    command.arg("replay").arg("--config").arg(&path).arg("--out").arg(&out);
    for (number, (port, packets)) in ports.zip([traffic::from_lan(), traffic::from_wan()]).enumerate() {
        let input = folder.path().join(format!("{number}.pcap"));
        capture::write(&input, &packets);
        command.arg("--in").arg(format!("{port}={}", input.display()));
    }
    let output = command.output().unwrap();
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    counters::conserved(&summary)?;
    let mut seen = BTreeMap::new();
    flatten("", &summary, &mut seen);
    for entry in std::fs::read_dir(&out).unwrap() {
        let path = entry.unwrap().path();
        seen.insert(file_name(&path), format!("{:02x?}", std::fs::read(&path).unwrap()));
    }
    Ok(seen)
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

fn flatten(path: &str, value: &Value, seen: &mut BTreeMap<String, String>) {
    match value.as_object() {
        Some(object) => {
            for (key, value) in object {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                flatten(&path, value, seen);
            }
        }
        None => drop(seen.insert(path.to_owned(), value.to_string())),
    }
}
