//! `culvert replay` from outside: files in, files out, counters, and what it says about bad input.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // A test may fail.

mod common;

use common::{Stamped, Style, arp_frame, culvert, pcap, pcapng, read_pcap, stderr, udp_frame, write};
use serde_json::Value;
use std::path::Path;
use std::process::Output;

/// Two ways in, one way out, a VLAN and no tunnel. Ports get the addresses 02:00:00:00:00:01 to :03.
const CONFIG: &str = r#"
[[port]]
name = "left"
device = "net_null0"
addresses = ["192.0.2.1/24"]

[[port]]
name = "right"
device = "net_null1"
addresses = ["198.51.100.1/24"]

[[port]]
name = "out"
device = "net_null2"
addresses = ["203.0.113.1/24"]

[[neighbor]]
interface = "out"
address = "203.0.113.2"
mac = "02:00:00:00:ff:02"
"#;

const SECOND: u64 = 1_000_000_000;
const START: u64 = 1_700_000_000 * SECOND;

struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "culvert.toml", CONFIG);
        Bench { folder }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn out(&self) -> std::path::PathBuf {
        self.path().join("out")
    }

    /// Replays `inputs`, each `PORT=FILE` with a file of this bench.
    fn replay(&self, inputs: &[&str]) -> Output {
        let mut command = culvert();
        command.args(["replay", "--config", "culvert.toml", "--out", "out"]).current_dir(self.path());
        for input in inputs {
            command.args(["--in", input]);
        }
        command.output().unwrap()
    }

    /// The same, and the counters that it prints.
    fn counters(&self, inputs: &[&str]) -> Value {
        let output = self.replay(inputs);
        assert!(output.status.success(), "{}", stderr(&output));
        let counters: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_law(&counters);
        counters
    }

    fn refusal(&self, inputs: &[&str]) -> String {
        let output = self.replay(inputs);
        assert!(!output.status.success());
        assert!(output.stdout.is_empty());
        stderr(&output)
    }
}

/// The law from the printed numbers, not from what the program says about it.
fn assert_law(counters: &Value) {
    let number = |key: &str| counters[key].as_u64().unwrap_or_else(|| panic!("{key} in {counters}"));
    let dropped: u64 =
        counters["dropped"].as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum();
    let went = number("transmitted") + number("kernel") + number("consumed") + dropped;
    assert_eq!(number("received") + number("originated"), went, "{counters}");
    assert_eq!(counters["unaccounted"], 0);
}

/// A packet from the left or right that goes out.
fn through(port: u8, mark: u8) -> Vec<u8> {
    udp_frame(port, [192, 0, 2, 9], [203, 0, 113, 2], mark)
}

/// The marks of packets that `through` made, as they were written to a file.
fn marks(path: &Path) -> Vec<u8> {
    read_pcap(path).2.iter().map(|(_, bytes)| *bytes.last().unwrap()).collect()
}

#[test]
fn packets_leave_by_their_port_with_the_time_at_which_they_came() {
    let bench = Bench::new();
    let packets = [(START, through(1, 1)), (START + 1_000, arp_frame()), (START + 2_000, through(1, 2))];
    write(bench.path(), "in.pcap", pcap(Style::USUAL, 1, &packets));
    let counters = bench.counters(&["left=in.pcap"]);
    assert_eq!(counters["received"], 3);
    assert_eq!(counters["transmitted"], 2);
    assert_eq!(counters["kernel"], 1);
    let (link, nanoseconds, sent) = read_pcap(&bench.out().join("out.pcap"));
    assert_eq!((link, nanoseconds), (1, false));
    let times: Vec<u64> = sent.iter().map(|(time, _)| *time).collect();
    assert_eq!(times, [START, START + 2_000]);
    assert_eq!(sent[0].1[..6], [2, 0, 0, 0, 0xff, 2]);
    assert_eq!(read_pcap(&bench.out().join("kernel-left.pcap")), (1, false, vec![packets[1].clone()]));
}

#[test]
fn there_is_a_file_for_every_port_and_for_the_host_only_where_it_got_packets() {
    let bench = Bench::new();
    write(bench.path(), "in.pcap", pcap(Style::USUAL, 1, &[]));
    let counters = bench.counters(&["left=in.pcap"]);
    let keys: Vec<&String> = counters.as_object().unwrap().keys().collect();
    let expected =
        ["received", "originated", "transmitted", "kernel", "consumed", "dropped", "unaccounted", "tunnels"];
    assert_eq!(keys, expected);
    let mut files: Vec<_> =
        std::fs::read_dir(bench.out()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    files.sort();
    assert_eq!(files, ["left.pcap", "out.pcap", "right.pcap"]);
    assert_eq!(read_pcap(&bench.out().join("left.pcap")).2, []);
}

#[test]
fn a_second_replay_leaves_nothing_of_the_first() {
    let bench = Bench::new();
    write(bench.path(), "in.pcap", pcap(Style::USUAL, 1, &[(START, arp_frame()), (START, through(1, 1))]));
    write(bench.path(), "none.pcap", pcap(Style::USUAL, 1, &[]));
    bench.counters(&["left=in.pcap"]);
    assert!(bench.out().join("kernel-left.pcap").exists());
    write(&bench.out(), "kernel-mine.pcap", "not culvert's");
    bench.counters(&["left=none.pcap"]);
    assert!(!bench.out().join("kernel-left.pcap").exists());
    assert!(bench.out().join("kernel-mine.pcap").exists());
    assert_eq!(read_pcap(&bench.out().join("out.pcap")).2, []);
}

#[test]
fn every_format_gives_the_same_packets() {
    let bench = Bench::new();
    let packets: Vec<Stamped> =
        (0..100).map(|mark| (START + u64::from(mark) * 1_000, through(1, mark))).collect();
    for big_endian in [false, true] {
        for nanoseconds in [false, true] {
            let style = Style { big_endian, nanoseconds };
            for (format, file) in [("pcap", pcap(style, 1, &packets)), ("pcapng", pcapng(style, 1, &packets))]
            {
                write(bench.path(), "in", file);
                bench.counters(&["left=in"]);
                let (_, fine, sent) = read_pcap(&bench.out().join("out.pcap"));
                assert_eq!(fine, nanoseconds, "{format} {style:?}");
                let times: Vec<u64> = sent.iter().map(|(time, _)| *time).collect();
                let expected: Vec<u64> = packets.iter().map(|(time, _)| *time).collect();
                assert_eq!(times, expected, "{format} {style:?}");
            }
        }
    }
}

#[test]
fn one_nanosecond_file_makes_all_stamps_nanoseconds() {
    let bench = Bench::new();
    let fine = Style { nanoseconds: true, ..Style::USUAL };
    write(bench.path(), "coarse", pcap(Style::USUAL, 1, &[(START + 5_000, through(1, 1))]));
    write(bench.path(), "fine", pcap(fine, 1, &[(START + 4_999, through(2, 2))]));
    bench.counters(&["left=coarse", "right=fine"]);
    let (_, nanoseconds, sent) = read_pcap(&bench.out().join("out.pcap"));
    assert!(nanoseconds);
    assert_eq!(sent.iter().map(|(time, _)| *time).collect::<Vec<_>>(), [START + 4_999, START + 5_000]);
}

#[test]
fn packets_of_all_ports_are_taken_in_time_order_and_ties_in_the_order_of_the_command() {
    let bench = Bench::new();
    let at = |micros: u64| START + micros * 1_000;
    write(
        bench.path(),
        "a",
        pcap(Style::USUAL, 1, &[(at(1), through(1, 1)), (at(3), through(1, 4)), (at(3), through(1, 5))]),
    );
    write(
        bench.path(),
        "b",
        pcap(Style::USUAL, 1, &[(at(2), through(2, 2)), (at(3), through(2, 3)), (at(4), through(2, 6))]),
    );
    bench.counters(&["right=b", "left=a"]);
    assert_eq!(marks(&bench.out().join("out.pcap")), [1, 2, 3, 4, 5, 6]);
    bench.counters(&["left=a", "right=b"]);
    assert_eq!(marks(&bench.out().join("out.pcap")), [1, 2, 4, 5, 3, 6]);
}

#[test]
fn a_file_that_is_out_of_order_is_sorted() {
    let bench = Bench::new();
    let packets: Vec<Stamped> =
        [5, 1, 4, 2, 3].iter().map(|mark| (START + u64::from(*mark) * 1_000, through(1, *mark))).collect();
    write(bench.path(), "in", pcap(Style::USUAL, 1, &packets));
    bench.counters(&["left=in"]);
    assert_eq!(marks(&bench.out().join("out.pcap")), [1, 2, 3, 4, 5]);
}

#[test]
fn the_same_files_give_the_same_bytes() {
    let bench = Bench::new();
    let packets: Vec<Stamped> = (0..=255).map(|mark| (START, through(1, mark))).collect();
    write(bench.path(), "in", pcap(Style::USUAL, 1, &packets));
    bench.counters(&["left=in", "right=in"]);
    let first = std::fs::read(bench.out().join("out.pcap")).unwrap();
    bench.counters(&["left=in", "right=in"]);
    assert_eq!(std::fs::read(bench.out().join("out.pcap")).unwrap(), first);
}

#[test]
fn malformed_and_outsized_packets_are_dropped_by_name() {
    let bench = Bench::new();
    let mut cut = pcap(Style::USUAL, 1, &[]);
    let bytes = through(1, 1);
    // The capture kept 20 of the packet's bytes.
    for field in [1, 0, 20, bytes.len() as u32] {
        cut.extend(u32::to_le_bytes(field));
    }
    cut.extend(&bytes[..20]);
    for size in [0, 1, 13, 14, 15, 33, 70_000, 200_000] {
        for field in [2, 0, size, size] {
            cut.extend(u32::to_le_bytes(field));
        }
        cut.extend(bytes.iter().chain(std::iter::repeat(&0)).take(size as usize));
    }
    write(bench.path(), "in", cut);
    let counters = bench.counters(&["left=in"]);
    assert_eq!(counters["received"], 9);
    assert_eq!(counters["transmitted"], 2, "{counters}");
    assert!(counters["dropped"]["truncated"].as_u64().unwrap() >= 5, "{counters}");
}

#[test]
fn a_broken_file_is_named_with_its_record_and_nothing_is_written() {
    let bench = Bench::new();
    let packets = [(START, through(1, 1)), (START, through(1, 2)), (START, through(1, 3))];
    for whole in [pcap(Style::USUAL, 1, &packets), pcapng(Style::USUAL, 1, &packets)] {
        write(bench.path(), "in", &whole[..whole.len() - 5]);
        let refusal = bench.refusal(&["left=in"]);
        assert!(refusal.contains("in: record 3: cut off"), "{refusal}");
        assert!(!bench.out().exists());
    }
}

#[test]
fn what_is_no_ethernet_capture_is_refused() {
    let bench = Bench::new();
    let packets = [(START, through(1, 1))];
    let cases = [
        (Vec::new(), "shorter than the header"),
        (b"\xd4\xc3\xb2\xa1\x02".to_vec(), "no pcap or pcapng header"),
        (b"[[port]]\nname = 'left'\ndevice='net_null0'".to_vec(), "no pcap or pcapng header"),
        (pcap(Style::USUAL, 101, &packets), "expected Ethernet (link type 1), found link type 101"),
        (
            pcapng(Style::USUAL, 113, &packets),
            "record 1: expected Ethernet (link type 1), found link type 113",
        ),
    ];
    for (file, expected) in cases {
        write(bench.path(), "in", file);
        let refusal = bench.refusal(&["left=in"]);
        assert!(refusal.contains("in: ") && refusal.contains(expected), "{refusal}");
    }
    let refusal = bench.refusal(&["left=missing"]);
    assert!(refusal.contains("missing: No such file"), "{refusal}");
}

#[test]
fn ports_of_in_must_be_known_and_differ() {
    let bench = Bench::new();
    write(bench.path(), "in", pcap(Style::USUAL, 1, &[]));
    let refusal = bench.refusal(&["lan=in"]);
    assert!(refusal.contains("lan") && refusal.contains("left, right, out"), "{refusal}");
    let refusal = bench.refusal(&["left=in", "left=in"]);
    assert!(refusal.contains("left") && refusal.contains("twice"), "{refusal}");
    assert_eq!(bench.replay(&[]).status.code(), Some(2));
    assert_eq!(bench.replay(&["left"]).status.code(), Some(2));
}

#[test]
fn an_input_is_never_overwritten() {
    let bench = Bench::new();
    std::fs::create_dir(bench.out()).unwrap();
    let file = pcap(Style::USUAL, 1, &[(START, through(1, 1))]);
    let path = write(&bench.out(), "out.pcap", &file);
    let refusal = bench.refusal(&["left=out/out.pcap"]);
    assert!(refusal.contains("would be overwritten"), "{refusal}");
    assert_eq!(std::fs::read(path).unwrap(), file);
}

#[test]
fn input_comes_from_a_pipe_as_well() {
    let bench = Bench::new();
    let packets = [(START + 1_000, through(1, 2)), (START, through(1, 1))];
    let mut child = culvert()
        .args(["replay", "--config", "culvert.toml", "--out", "out", "--in", "left=/dev/stdin"])
        .current_dir(bench.path())
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), &pcap(Style::USUAL, 1, &packets)).unwrap();
    assert!(child.wait_with_output().unwrap().status.success());
    assert_eq!(marks(&bench.out().join("out.pcap")), [1, 2]);
}

#[test]
fn a_bad_configuration_is_reported_with_its_line() {
    let bench = Bench::new();
    write(bench.path(), "in", pcap(Style::USUAL, 1, &[]));
    write(bench.path(), "culvert.toml", CONFIG.replace("addresses = [\"192.0.2.1/24\"]", "adresses = []"));
    let output = bench.replay(&["left=in"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("culvert.toml:5:"), "{}", stderr(&output));
}
