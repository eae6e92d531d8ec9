//! Capture files written: one for each port, and one for each way by which packets for the host came.

use super::ReplayError;
use forwarder::table::{PortId, Spec};
use forwarder::verdict::Ingress;
use pcap_file::pcap::{PcapHeader, PcapWriter, RawPcapPacket};
use pcap_file::{DataLink, Endianness, PcapError, TsResolution};
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The longest packet that readers of captures take: libpcap's own limit.
const SNAP: u32 = 262_144;

/// All files of a replay.
#[derive(Debug)]
pub(super) struct Outputs {
    folder: PathBuf,
    resolution: TsResolution,
    /// Device and inode of what must not be overwritten.
    inputs: HashSet<(u64, u64)>,
    ports: Vec<Output>,
    kernel: HashMap<Ingress, Output>,
}

#[derive(Debug)]
struct Output {
    path: PathBuf,
    resolution: TsResolution,
    writer: PcapWriter<BufWriter<File>>,
}

impl Outputs {
    /// Makes `folder` where it is missing, and in it an empty file for each of `ports`. Files of the host's share that an
    /// earlier replay left are removed. None of `inputs` is overwritten.
    pub(super) fn create(
        folder: &Path,
        nanoseconds: bool,
        ports: &[&str],
        spec: &Spec,
        inputs: &[PathBuf],
    ) -> Result<Self, ReplayError> {
        std::fs::create_dir_all(folder).map_err(|source| ReplayError::write(folder, source))?;
        let resolution = if nanoseconds { TsResolution::NanoSecond } else { TsResolution::MicroSecond };
        let inputs = inputs.iter().filter_map(|path| identity(path)).collect();
        let mut outputs = Outputs {
            folder: folder.to_owned(),
            resolution,
            inputs,
            ports: Vec::new(),
            kernel: HashMap::new(),
        };
        outputs.remove_stale(spec)?;
        for name in ports {
            let output = outputs.file(&format!("{}.pcap", file_name(name)), DataLink::ETHERNET)?;
            outputs.ports.push(output);
        }
        Ok(outputs)
    }

    /// Writes a frame that left by `port`.
    pub(super) fn send(&mut self, port: PortId, stamp: Duration, bytes: &[u8]) -> Result<(), ReplayError> {
        match self.ports.get_mut(usize::from(port.0)) {
            Some(output) => output.write(stamp, bytes),
            None => Err(ReplayError::NoSuchPort(port)),
        }
    }

    /// Writes a packet for the host.
    pub(super) fn kernel(
        &mut self,
        spec: &Spec,
        ingress: Ingress,
        stamp: Duration,
        bytes: &[u8],
    ) -> Result<(), ReplayError> {
        if !self.kernel.contains_key(&ingress) {
            let (name, link) = match ingress {
                Ingress::Interface(id) => (
                    spec.interfaces.get(usize::from(id.0)).map(|interface| &interface.name),
                    DataLink::ETHERNET,
                ),
                Ingress::Tunnel(id) => {
                    (spec.tunnels.get(id.0 as usize).map(|tunnel| &tunnel.name), DataLink::RAW)
                }
            };
            let name = name.ok_or(ReplayError::NoSuchIngress(ingress))?;
            let output = self.file(&kernel_file(name), link)?;
            self.kernel.insert(ingress, output);
        }
        match self.kernel.get_mut(&ingress) {
            Some(output) => output.write(stamp, bytes),
            None => Err(ReplayError::NoSuchIngress(ingress)),
        }
    }

    /// Writes what is still in memory.
    pub(super) fn finish(self) -> Result<(), ReplayError> {
        for output in self.ports.into_iter().chain(self.kernel.into_values()) {
            let mut file = output.writer.into_writer();
            file.flush().map_err(|source| ReplayError::write(&output.path, source))?;
        }
        Ok(())
    }

    fn remove_stale(&self, spec: &Spec) -> Result<(), ReplayError> {
        let interfaces = spec.interfaces.iter().map(|interface| &interface.name);
        let tunnels = spec.tunnels.iter().map(|tunnel| &tunnel.name);
        let names: HashSet<String> = interfaces.chain(tunnels).map(|name| kernel_file(name)).collect();
        let entries =
            std::fs::read_dir(&self.folder).map_err(|source| ReplayError::write(&self.folder, source))?;
        for entry in entries.flatten() {
            if entry.file_name().to_str().is_some_and(|name| names.contains(name)) {
                let path = entry.path();
                self.spare_inputs(&path)?;
                std::fs::remove_file(&path).map_err(|source| ReplayError::write(&path, source))?;
            }
        }
        Ok(())
    }

    fn file(&self, name: &str, datalink: DataLink) -> Result<Output, ReplayError> {
        let path = self.folder.join(name);
        let taken = self.ports.iter().chain(self.kernel.values()).any(|other| other.path == path);
        if taken {
            return Err(ReplayError::SameOutput(path));
        }
        self.spare_inputs(&path)?;
        let file = File::create(&path).map_err(|source| ReplayError::write(&path, source))?;
        let header = PcapHeader {
            snaplen: SNAP,
            datalink,
            ts_resolution: self.resolution,
            endianness: Endianness::native(),
            ..PcapHeader::default()
        };
        let writer = PcapWriter::with_header(BufWriter::with_capacity(1 << 16, file), header);
        let writer = writer.map_err(|error| ReplayError::write(&path, io_error(error)))?;
        Ok(Output { path, resolution: self.resolution, writer })
    }

    fn spare_inputs(&self, path: &Path) -> Result<(), ReplayError> {
        match identity(path).is_some_and(|file| self.inputs.contains(&file)) {
            true => Err(ReplayError::OverwritesInput(path.to_owned())),
            false => Ok(()),
        }
    }
}

impl Output {
    fn write(&mut self, stamp: Duration, bytes: &[u8]) -> Result<(), ReplayError> {
        let ts_frac = match self.resolution {
            TsResolution::MicroSecond => stamp.subsec_micros(),
            TsResolution::NanoSecond => stamp.subsec_nanos(),
        };
        let (Ok(ts_sec), Ok(len)) = (u32::try_from(stamp.as_secs()), u32::try_from(bytes.len())) else {
            return Err(ReplayError::TimeStamp { path: self.path.clone(), stamp });
        };
        let record =
            RawPcapPacket { ts_sec, ts_frac, incl_len: len, orig_len: len, data: Cow::Borrowed(bytes) };
        match self.writer.write_raw_packet(&record) {
            Ok(_) => Ok(()),
            Err(error) => Err(ReplayError::write(&self.path, io_error(error))),
        }
    }
}

/// A name as part of a file's: what is not a letter, digit, `-`, `_` or inner `.` is written as `%` and its code, so that
/// no name leaves the folder and no two share a file.
fn file_name(name: &str) -> String {
    let mut safe = String::with_capacity(name.len());
    for (at, byte) in name.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => safe.push(char::from(byte)),
            b'.' if at > 0 => safe.push('.'),
            _ => safe.push_str(&format!("%{byte:02X}")),
        }
    }
    safe
}

fn kernel_file(name: &str) -> String {
    format!("kernel-{}.pcap", file_name(name))
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    std::fs::metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

fn io_error(error: PcapError) -> std::io::Error {
    match error {
        PcapError::IoError(error) => error,
        other => std::io::Error::other(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_stay_in_their_folder_and_apart() {
        assert_eq!(file_name("net-a_1.2"), "net-a_1.2");
        assert_eq!(file_name("../up"), "%2E.%2Fup");
        assert_eq!(file_name("a/b"), "a%2Fb");
        assert_ne!(file_name("a/b"), file_name("a%2Fb"));
    }
}
