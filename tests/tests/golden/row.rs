//! One golden row: reading it, running it, comparing.

use crate::mask::Masks;
use libtest_mimic::Failed;
use pcap_file::DataLink;
use pcap_file::pcap::{PcapHeader, PcapPacket, PcapWriter};
use serde_json::Value;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use tests::capture::{self, Capture, Link, Packet};
use tests::{binary, counters, headers, rows};

/// A row as its folder says.
#[derive(Debug)]
pub(crate) struct Row {
    folder: PathBuf,
    mask: Vec<String>,
    tunnel_ports: Vec<u16>,
    zero_udp: bool,
    distinct: usize,
    /// Some packet carries a wrong checksum on purpose, which must stay as it is.
    pub(crate) bad_checksums: bool,
}

impl Row {
    pub(crate) fn read(folder: &Path) -> Row {
        let text = std::fs::read_to_string(folder.join("row.toml")).unwrap_or_default();
        let table: toml::Table =
            text.parse().unwrap_or_else(|error| panic!("{}/row.toml: {error}", folder.display()));
        let known = ["mask", "tunnel_ports", "zero_udp", "distinct", "bad_checksums"];
        for key in table.keys() {
            assert!(known.contains(&key.as_str()), "{}/row.toml: unknown key {key}", folder.display());
        }
        let list = |key: &str| table.get(key).and_then(toml::Value::as_array).cloned();
        let flag = |key: &str| table.get(key).and_then(toml::Value::as_bool).unwrap_or(false);
        let strings = list("mask").unwrap_or_default();
        let ports = list("tunnel_ports")
            .unwrap_or_else(|| rows::TUNNEL_PORTS.iter().map(|port| i64::from(*port).into()).collect());
        Row {
            folder: folder.to_owned(),
            mask: strings.iter().map(|field| field.as_str().unwrap().to_owned()).collect(),
            tunnel_ports: ports
                .iter()
                .map(|port| u16::try_from(port.as_integer().unwrap()).unwrap())
                .collect(),
            zero_udp: flag("zero_udp"),
            distinct: table.get("distinct").and_then(toml::Value::as_integer).unwrap_or(0) as usize,
            bad_checksums: flag("bad_checksums"),
        }
    }

    fn files(&self, folder: &Path, prefix: &str) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(folder)
            .into_iter()
            .flatten()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .filter(|name| name.starts_with(prefix) && name.ends_with(".pcap"))
            .collect();
        names.sort();
        names
    }

    /// Replays and compares.
    pub(crate) fn check(&self) -> Result<(), Failed> {
        let out = tempfile::tempdir().unwrap();
        let mut command = Command::new(binary::culvert());
        command.arg("replay").arg("--config").arg(self.folder.join("config.toml"));
        for name in self.files(&self.folder, "in-") {
            let port = name.trim_start_matches("in-").trim_end_matches(".pcap");
            command.arg("--in").arg(format!("{port}={}", self.folder.join(&name).display()));
        }
        let output = command.arg("--out").arg(out.path()).output().unwrap();
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        if !output.status.success() {
            return Err(format!("culvert replay: {}\n{complaint}", output.status).into());
        }
        let found: Value = serde_json::from_slice(&output.stdout).map_err(|error| {
            format!("replay's counters are no JSON: {error}\n{}", String::from_utf8_lossy(&output.stdout))
        })?;
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            self.update(out.path(), &found);
            return Ok(());
        }
        let mut report = Vec::new();
        let expected: Value =
            serde_json::from_str(&std::fs::read_to_string(self.folder.join("counters.json")).unwrap())
                .unwrap();
        counters::compare("counters", &expected, &found, &mut report);
        report.extend(counters::conserved(&found).err());
        let mut masks = Masks::new(self.mask.clone());
        for (ours, theirs) in self.pairs(out.path()) {
            self.compare(&ours, &theirs, &mut masks, &mut report);
        }
        if masks.entropy() < self.distinct {
            report.push(format!(
                "{} different values of entropy, at least {} expected",
                masks.entropy(),
                self.distinct
            ));
        }
        if report.is_empty() { Ok(()) } else { Err(report.join("\n").into()) }
    }

    /// Every expected file with the one found, and every one found that none was expected for.
    fn pairs(&self, out: &Path) -> Vec<(PathBuf, PathBuf)> {
        let mut pairs: Vec<(PathBuf, PathBuf)> = Vec::new();
        for name in self.files(&self.folder, "out-") {
            pairs.push((self.folder.join(&name), out.join(name.trim_start_matches("out-"))));
        }
        for name in self.files(&self.folder, "kernel-") {
            pairs.push((self.folder.join(&name), out.join(&name)));
        }
        for name in self.files(out, "") {
            if !pairs.iter().any(|(_, found)| found.ends_with(&name)) {
                let ours = if name.starts_with("kernel-") { name.clone() } else { format!("out-{name}") };
                pairs.push((self.folder.join(ours), out.join(name)));
            }
        }
        pairs
    }

    fn compare(&self, expected: &Path, found: &Path, masks: &mut Masks, report: &mut Vec<String>) {
        let name = found.file_name().unwrap().to_string_lossy().into_owned();
        let kernel = name.starts_with("kernel-");
        if !found.is_file() && (kernel || !expected.is_file()) && read(expected).packets.is_empty() {
            return;
        }
        if !found.is_file() {
            return report.push(format!("{name}: not written"));
        }
        let (expected, found) = (read(expected), read(found));
        if expected.packets.len() != found.packets.len() {
            report.push(format!(
                "{name}: {} packets expected, {} found",
                expected.packets.len(),
                found.packets.len()
            ));
        }
        if !expected.packets.is_empty() && !found.packets.is_empty() && expected.link != found.link {
            return report
                .push(format!("{name}: link type {:?} expected, {:?} found", expected.link, found.link));
        }
        let mut shown = 0;
        for (index, packet) in found.packets.iter().enumerate() {
            let number = index + 1;
            let mut wrong = masks.check(number, found.link, &packet.bytes, &self.tunnel_ports);
            if !self.bad_checksums && !kernel {
                let (bytes, ports) = (&packet.bytes, &self.tunnel_ports);
                wrong.extend(headers::wrong_checksums(found.link, bytes, ports, self.zero_udp));
            }
            report.extend(wrong.iter().map(|what| format!("{name}: packet {number}: {what}")));
            let Some(wanted) = expected.packets.get(index) else { continue };
            if wanted.time != packet.time {
                report.push(format!(
                    "{name}: packet {number}: time stamp {:?} expected, {:?} found",
                    wanted.time, packet.time
                ));
            }
            let (mut left, mut right) = (wanted.bytes.clone(), packet.bytes.clone());
            masks.apply(found.link, &mut left, &self.tunnel_ports);
            masks.apply(found.link, &mut right, &self.tunnel_ports);
            if left != right {
                shown += 1;
                if shown <= 3 {
                    report
                        .push(format!("{name}: packet {number}: {}", difference(found.link, &left, &right)));
                }
            }
        }
        if shown > 3 {
            report.push(format!("{name}: {} more packets differ", shown - 3));
        }
    }

    fn update(&self, out: &Path, counters: &Value) {
        for (ours, theirs) in self.pairs(out) {
            match theirs.is_file() {
                true => std::fs::copy(&theirs, &ours).map(|_| ()).unwrap(),
                false => std::fs::remove_file(&ours).unwrap(),
            }
        }
        let text = serde_json::to_string_pretty(counters).unwrap() + "\n";
        std::fs::write(self.folder.join("counters.json"), text).unwrap();
    }
}

fn read(path: &Path) -> Capture {
    if path.is_file() { capture::read(path) } else { Capture { link: Link::Ethernet, packets: Vec::new() } }
}

/// What is different between two packets: the first byte that is, then Wireshark's lines where tshark is installed, else
/// the bytes.
fn difference(link: Link, expected: &[u8], found: &[u8]) -> String {
    let at = expected.iter().zip(found).position(|(left, right)| left != right);
    let at = at.unwrap_or_else(|| expected.len().min(found.len()));
    let mut text =
        format!("differs from byte {at} ({} bytes expected, {} found)", expected.len(), found.len());
    match (dissected(link, expected), dissected(link, found)) {
        (Some(left), Some(right)) if left != right => {
            let only = |these: &[String], those: &[String], sign: char, text: &mut String| {
                for line in these.iter().filter(|line| !those.contains(line)) {
                    write!(text, "\n    {sign} {line}").unwrap();
                }
            };
            only(&left, &right, '-', &mut text);
            only(&right, &left, '+', &mut text);
        }
        _ => {
            for (sign, bytes) in [('-', expected), ('+', found)] {
                for (line, chunk) in bytes.chunks(16).enumerate() {
                    let hex: Vec<String> = chunk.iter().map(|byte| format!("{byte:02x}")).collect();
                    write!(text, "\n    {sign} {:04x}  {}", line * 16, hex.join(" ")).unwrap();
                }
            }
        }
    }
    text
}

fn dissected(link: Link, bytes: &[u8]) -> Option<Vec<String>> {
    let folder = tempfile::tempdir().ok()?;
    let path = folder.path().join("packet.pcap");
    let datalink = if link == Link::Ethernet { DataLink::ETHERNET } else { DataLink::RAW };
    let header = PcapHeader { datalink, ..PcapHeader::default() };
    let mut writer = PcapWriter::with_header(std::fs::File::create(&path).ok()?, header).ok()?;
    let packet = Packet { time: std::time::Duration::ZERO, bytes: bytes.to_vec() };
    let len = u32::try_from(packet.bytes.len()).ok()?;
    writer.write_packet(&PcapPacket::new(packet.time, len, &packet.bytes)).ok()?;
    drop(writer);
    let output = Command::new("tshark")
        .args(["-V", "-d", "udp.port==5555,gre", "-d", "udp.port==5556,ip", "-r"])
        .arg(&path)
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    output.status.success().then(|| text.lines().map(|line| line.trim_end().to_owned()).collect())
}
