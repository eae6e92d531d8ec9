//! Random and mutated packets through `culvert replay`: no panic, and the law of conservation.
//!
//! The packets of every golden row are changed by [`tests::mutate`] and replayed with the row's own configuration.
//! What is made follows from a seed, which is printed; `CULVERT_FUZZ_SEED` repeats a run, and `CULVERT_FUZZ_PACKETS`
//! says how many packets there are in all (`scripts/test fuzz`: ten million). What fails is kept in a folder that the
//! failure names, cut to the fewest packets from the beginning that still fail.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tests::capture::{self, Packet};
use tests::random::Random;
use tests::{binary, counters, mutate, rows};

/// Packets where nothing else is asked for.
const USUAL: usize = 200_000;

/// The seed where none is given: every run of the usual tests is the same.
const SEED: u64 = 1;

/// The most packets of one replay, which is what is kept of a failure.
const PER_RUN: usize = 20_000;

/// A golden row's configuration, and the packets that its ports receive.
struct Row {
    name: String,
    config: PathBuf,
    inputs: Vec<(String, Vec<Packet>)>,
    tunnel_ports: Vec<u16>,
}

#[test]
fn random_and_mutated_packets_do_no_harm() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect(name));
    let seed = number("CULVERT_FUZZ_SEED").unwrap_or(SEED);
    let packets = number("CULVERT_FUZZ_PACKETS").map_or(USUAL, |packets| usize::try_from(packets).unwrap());
    println!("seed {seed}, {packets} packets: CULVERT_FUZZ_SEED={seed} CULVERT_FUZZ_PACKETS={packets}");
    let rows: Vec<Row> = rows::rows().iter().map(|folder| Row::read(folder)).collect();
    let per_row = packets.div_ceil(rows.len());
    let runs: Vec<(usize, usize)> = (0..rows.len())
        .flat_map(|row| (0..per_row).step_by(PER_RUN).map(move |done| (row, PER_RUN.min(per_row - done))))
        .collect();
    let (next, failures, total) = (AtomicUsize::new(0), Mutex::new(Vec::new()), Mutex::new(Total::default()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some((run, (row, packets))) = {
                    let run = next.fetch_add(1, Ordering::Relaxed);
                    runs.get(run).map(|found| (run, *found))
                } {
                    // So that seed 2 has no runs in common with seed 1.
                    let mut random = Random::new(seed << 32 | run as u64);
                    match rows[row].run(&mut random, &rows, packets) {
                        Ok(summary) => total.lock().unwrap().add(&summary),
                        Err(failure) => failures.lock().unwrap().push(failure),
                    }
                }
            });
        }
    });
    let (failures, total) = (failures.into_inner().unwrap(), total.into_inner().unwrap());
    println!("{total:?}");
    assert!(failures.is_empty(), "seed {seed}: {}", failures.join("\n"));
    assert!(total.received >= packets as u64);
    // Else the mutations would end at the first check and prove little.
    assert!(total.transmitted * 5 > total.received, "too few packets get through");
    assert!(total.reasons.len() > 30, "too few reasons are met");
}

/// What all runs counted.
#[derive(Debug, Default)]
struct Total {
    received: u64,
    transmitted: u64,
    originated: u64,
    reasons: BTreeMap<String, u64>,
}

impl Total {
    fn add(&mut self, summary: &Value) {
        self.received += summary["received"].as_u64().unwrap();
        self.transmitted += summary["transmitted"].as_u64().unwrap();
        self.originated += summary["originated"].as_u64().unwrap();
        for (reason, count) in summary["dropped"].as_object().unwrap() {
            match count.as_u64().unwrap() {
                0 => {}
                count => *self.reasons.entry(reason.clone()).or_default() += count,
            }
        }
    }
}

impl Row {
    fn read(folder: &Path) -> Row {
        let config = folder.join("config.toml");
        let text = std::fs::read_to_string(&config).unwrap();
        let table: toml::Table = text.parse().unwrap();
        let tunnels = table.get("tunnel").and_then(toml::Value::as_array).into_iter().flatten();
        let ports = tunnels.filter_map(|tunnel| tunnel.get("udp")?.get("port")?.as_integer());
        let tunnel_ports: BTreeSet<u16> =
            ports.map(|port| u16::try_from(port).unwrap()).chain(rows::TUNNEL_PORTS).collect();
        let mut inputs: Vec<(String, Vec<Packet>)> = std::fs::read_dir(folder)
            .unwrap()
            .filter_map(|entry| {
                let path = entry.unwrap().path();
                let name = path.file_name()?.to_str()?.strip_prefix("in-")?.strip_suffix(".pcap")?.to_owned();
                Some((name, capture::read(&path).packets))
            })
            .filter(|(_, packets)| !packets.is_empty())
            .collect();
        inputs.sort_by(|left, right| left.0.cmp(&right.0));
        let name = rows::name_of(folder);
        assert!(!inputs.is_empty(), "{name} has no packets");
        Row { name, config, inputs, tunnel_ports: tunnel_ports.into_iter().collect() }
    }

    /// Replays `packets` new packets. `Err` says what broke and where it is kept.
    fn run(&self, random: &mut Random, rows: &[Row], packets: usize) -> Result<Value, String> {
        let share = packets.div_ceil(self.inputs.len());
        let made: Vec<Vec<Packet>> =
            self.inputs.iter().map(|(_, originals)| self.made(random, rows, originals, share)).collect();
        let first = match self.replay(&made, share) {
            Ok(summary) => return Ok(summary),
            Err(failure) => failure,
        };
        let (mut good, mut bad) = (0, share);
        while bad - good > 1 {
            let middle = usize::midpoint(good, bad);
            match self.replay(&made, middle) {
                Ok(_) => good = middle,
                Err(_) => bad = middle,
            }
        }
        let folder = tempfile::Builder::new().prefix("culvert-fuzz-").tempdir().unwrap().keep();
        let mut text = format!("row {}: {first}\n    kept in {}:", self.name, folder.display());
        write!(text, " culvert replay --config {} --out /tmp/out", self.config.display()).unwrap();
        for (name, path) in self.write(&folder, &made, bad) {
            write!(text, " --in {name}={}", path.display()).unwrap();
        }
        Err(text)
    }

    fn made(&self, random: &mut Random, rows: &[Row], originals: &[Packet], count: usize) -> Vec<Packet> {
        let mut time = Duration::from_secs(1_000_000_000);
        (0..count)
            .map(|_| {
                // Now and then long enough for another ICMP error.
                time += Duration::from_micros(if random.one_in(4) { 100_000 } else { 1 });
                let original = &random.pick(originals).bytes;
                let row = random.pick(rows);
                let (_, theirs) = random.pick(&row.inputs);
                let other = &random.pick(theirs).bytes;
                let mut bytes = original.clone();
                match random.below(16) {
                    0 => bytes = mutate::invent(random, original),
                    // Somebody else's packet to this port's address.
                    1 if original.len() > 12 && other.len() > 12 => {
                        bytes = [&original[..12], &other[12..]].concat();
                        mutate::mutate(random, &mut bytes, original, &self.tunnel_ports);
                    }
                    _ => mutate::mutate(random, &mut bytes, other, &self.tunnel_ports),
                }
                Packet { time, bytes }
            })
            .collect()
    }

    fn write(&self, folder: &Path, made: &[Vec<Packet>], count: usize) -> Vec<(String, PathBuf)> {
        let write = |((name, _), packets): (&(String, _), &Vec<Packet>)| {
            let path = folder.join(format!("in-{name}.pcap"));
            capture::write(&path, &packets[..count.min(packets.len())]);
            (name.clone(), path)
        };
        self.inputs.iter().zip(made).map(write).collect()
    }

    /// Replays the first `count` packets of each port.
    fn replay(&self, made: &[Vec<Packet>], count: usize) -> Result<Value, String> {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(binary::culvert());
        command.arg("replay").arg("--config").arg(&self.config).arg("--out").arg(folder.path().join("out"));
        for (name, path) in self.write(folder.path(), made, count) {
            command.arg("--in").arg(format!("{name}={}", path.display()));
        }
        let output = command.output().unwrap();
        let complaint = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() || complaint.contains("panicked") {
            return Err(format!("{}: {complaint}", output.status));
        }
        let summary: Value = serde_json::from_slice(&output.stdout).map_err(|error| error.to_string())?;
        counters::conserved(&summary)?;
        let sent: usize = made.iter().map(|packets| packets.len().min(count)).sum();
        match summary["received"].as_u64() {
            Some(received) if received == sent as u64 => Ok(summary),
            received => Err(format!("{sent} packets were replayed, {received:?} received")),
        }
    }
}
