//! One capture file, read packet by packet: classic pcap of either resolution and byte order, or pcapng.

use super::ReplayError;
use forwarder::frame::{Frame, HEADROOM};
use pcap_file::pcap::PcapReader;
use pcap_file::pcapng::blocks::interface_description::InterfaceDescriptionOption;
use pcap_file::pcapng::{Block, PcapNgReader};
use pcap_file::{DataLink, PcapError, TsResolution};
use std::fs::File;
use std::io::{Chain, Cursor, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Free bytes behind a packet, as a device's buffer has them.
const TAILROOM: usize = 64;

/// Bytes that a buffer has for the packet from the beginning: a frame of the largest usual MTU. It grows where a
/// record is longer.
const ROOM: usize = 9_216;

/// The low bits of a link type; those above say how long a frame check sequence is.
const LINK_TYPE: u32 = 0xffff;

/// A packet in a buffer of its own, with room on both sides.
#[derive(Debug)]
pub(super) struct Packet {
    stamp: Duration,
    buffer: Vec<u8>,
    len: usize,
}

/// Bytes that a buffer has from the start of a packet of `len` bytes.
pub(crate) fn room(len: usize) -> usize {
    len.max(ROOM) + TAILROOM
}

impl Packet {
    pub(super) fn new() -> Self {
        Packet { stamp: Duration::ZERO, buffer: vec![0; HEADROOM + room(0)], len: 0 }
    }

    /// When it was captured, since 1970.
    pub(super) fn stamp(&self) -> Duration {
        self.stamp
    }

    pub(super) fn frame(&mut self) -> Frame<'_> {
        Frame::new(&mut self.buffer, HEADROOM, self.len)
    }

    pub(super) fn fill(&mut self, stamp: Duration, bytes: &[u8]) {
        let needed = HEADROOM + room(bytes.len());
        if self.buffer.len() < needed {
            self.buffer.resize(needed, 0);
        }
        if let Some(room) = self.buffer.get_mut(HEADROOM..HEADROOM + bytes.len()) {
            room.copy_from_slice(bytes);
        }
        self.stamp = stamp;
        self.len = bytes.len();
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.buffer.get(HEADROOM..HEADROOM + self.len).unwrap_or_default()
    }
}

/// A capture file that is being read.
pub(super) struct Capture {
    path: PathBuf,
    format: Format,
    /// Packets read so far.
    record: u64,
    nanoseconds: bool,
}

enum Format {
    Classic { reader: PcapReader<Bytes>, resolution: TsResolution },
    Next { reader: PcapNgReader<Bytes>, interfaces: Vec<Interface>, last: Duration },
}

/// The file again from its first byte, after its magic number was read.
type Bytes = Chain<Cursor<[u8; 4]>, File>;

/// What a pcapng file says about an interface.
#[derive(Clone, Copy)]
struct Interface {
    link: u32,
    snap: u32,
    ticks_per_second: u128,
    offset: Duration,
}

impl std::fmt::Debug for Capture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Capture")
            .field("path", &self.path)
            .field("record", &self.record)
            .finish_non_exhaustive()
    }
}

impl Capture {
    pub(super) fn open(path: &Path) -> Result<Self, ReplayError> {
        let read = |source| ReplayError::Read { path: path.to_owned(), source };
        let broken =
            |what: String| ReplayError::Capture { path: path.to_owned(), place: String::new(), what };
        let mut file = File::open(path).map_err(read)?;
        let mut magic = [0; 4];
        file.read_exact(&mut magic).map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => broken("shorter than the header of a pcap or pcapng file".to_owned()),
            _ => read(error),
        })?;
        let bytes = Cursor::new(magic).chain(file);
        let header = |error| broken(format!("no pcap or pcapng header: {}", reason(error)));
        let mut nanoseconds = false;
        // A pcapng file begins with a section header block, whose type reads the same in both byte orders.
        let format = if magic == [0x0a, 0x0d, 0x0d, 0x0a] {
            let reader = PcapNgReader::new(bytes).map_err(header)?;
            Format::Next { reader, interfaces: Vec::new(), last: Duration::ZERO }
        } else {
            let reader = PcapReader::new(bytes).map_err(header)?;
            let link = u32::from(reader.header().datalink) & LINK_TYPE;
            if link != u32::from(DataLink::ETHERNET) {
                return Err(broken(wrong_link(link)));
            }
            let resolution = reader.header().ts_resolution;
            nanoseconds = resolution == TsResolution::NanoSecond;
            Format::Classic { reader, resolution }
        };
        Ok(Capture { path: path.to_owned(), format, record: 0, nanoseconds })
    }

    /// Whether a time stamp finer than a microsecond was announced by what was read so far.
    pub(super) fn nanoseconds(&self) -> bool {
        self.nanoseconds
    }

    /// Reads the next packet; `false` at the end of the file. A packet that the capture has cut is taken as it is.
    pub(super) fn read(&mut self, packet: &mut Packet) -> Result<bool, ReplayError> {
        let found = match &mut self.format {
            Format::Classic { reader, resolution } => read_classic(reader, *resolution, packet),
            Format::Next { reader, interfaces, last } => {
                read_next(reader, interfaces, last, &mut self.nanoseconds, packet)
            }
        };
        self.record += 1;
        found.map_err(|what| ReplayError::Capture {
            path: self.path.clone(),
            place: format!("record {}: ", self.record),
            what,
        })
    }
}

fn read_classic(
    reader: &mut PcapReader<Bytes>,
    resolution: TsResolution,
    packet: &mut Packet,
) -> Result<bool, String> {
    // Raw records, because the checks of the library's other call refuse captures that other tools read: lengths
    // above the header's snap length, say.
    let Some(record) = reader.next_raw_packet() else { return Ok(false) };
    let record = record.map_err(reason)?;
    let fraction = u64::from(record.ts_frac);
    let fraction = match resolution {
        TsResolution::MicroSecond => Duration::from_micros(fraction),
        TsResolution::NanoSecond => Duration::from_nanos(fraction),
    };
    packet.fill(Duration::from_secs(u64::from(record.ts_sec)) + fraction, &record.data);
    Ok(true)
}

fn read_next(
    reader: &mut PcapNgReader<Bytes>,
    interfaces: &mut Vec<Interface>,
    last: &mut Duration,
    nanoseconds: &mut bool,
    packet: &mut Packet,
) -> Result<bool, String> {
    let ethernet = |interface: &Interface| match interface.link {
        link if link == u32::from(DataLink::ETHERNET) => Ok(()),
        link => Err(wrong_link(link)),
    };
    while let Some(block) = reader.next_block() {
        match block.map_err(reason)? {
            Block::SectionHeader(_) => interfaces.clear(),
            Block::InterfaceDescription(block) => {
                let interface = Interface::new(u32::from(block.linktype), block.snaplen, &block.options);
                *nanoseconds |= interface.ticks_per_second > 1_000_000;
                interfaces.push(interface);
            }
            Block::EnhancedPacket(block) => {
                let interface = interfaces.get(block.interface_id as usize);
                let interface = interface.ok_or_else(|| no_interface(block.interface_id))?;
                ethernet(interface)?;
                // The library takes every unit for a nanosecond; the number is as it stands in the file.
                *last = interface.time(block.timestamp.as_nanos());
                packet.fill(*last, &block.data);
                return Ok(true);
            }
            Block::Packet(block) => {
                let id = u32::from(block.interface_id);
                let interface = interfaces.get(id as usize).ok_or_else(|| no_interface(id))?;
                ethernet(interface)?;
                *last = interface.time(u128::from(block.timestamp));
                packet.fill(*last, &block.data);
                return Ok(true);
            }
            // Has neither interface, time nor captured length (draft-ietf-opsawg-pcapng §4.4): it is the first
            // interface's, follows the packet before it, and ends where snap length or original length says.
            Block::SimplePacket(block) => {
                let interface = interfaces.first().ok_or_else(|| no_interface(0))?;
                ethernet(interface)?;
                let snap = if interface.snap == 0 { u32::MAX } else { interface.snap };
                let len = block.original_len.min(snap) as usize;
                packet.fill(*last, block.data.get(..len).unwrap_or(&block.data));
                return Ok(true);
            }
            _ => {}
        }
    }
    Ok(false)
}

impl Interface {
    fn new(link: u32, snap: u32, options: &[InterfaceDescriptionOption<'_>]) -> Self {
        let mut interface = Interface { link, snap, ticks_per_second: 1_000_000, offset: Duration::ZERO };
        for option in options {
            match option {
                // The top bit chooses between powers of two and of ten.
                InterfaceDescriptionOption::IfTsResol(exponent) => {
                    let base: u128 = if exponent & 0x80 == 0 { 10 } else { 2 };
                    interface.ticks_per_second = base.saturating_pow(u32::from(exponent & 0x7f));
                }
                InterfaceDescriptionOption::IfTsOffset(seconds) => {
                    interface.offset = Duration::from_secs(*seconds)
                }
                _ => {}
            }
        }
        interface
    }

    fn time(&self, ticks: u128) -> Duration {
        let seconds = u64::try_from(ticks / self.ticks_per_second).unwrap_or(u64::MAX);
        let rest = ticks % self.ticks_per_second;
        let nanoseconds = rest.saturating_mul(1_000_000_000) / self.ticks_per_second;
        let nanoseconds = u64::try_from(nanoseconds).unwrap_or(0);
        self.offset
            .saturating_add(Duration::from_secs(seconds))
            .saturating_add(Duration::from_nanos(nanoseconds))
    }
}

fn wrong_link(link: u32) -> String {
    format!("expected Ethernet (link type 1), found link type {link}")
}

fn no_interface(id: u32) -> String {
    format!("names interface {id}, which the file does not describe")
}

/// The library's error in words that fit a sentence about a record.
fn reason(error: PcapError) -> String {
    match error {
        PcapError::IoError(error) if error.kind() == ErrorKind::UnexpectedEof => {
            "cut off by the end of the file, or a length in it is wrong".to_owned()
        }
        PcapError::IoError(error) => error.to_string(),
        PcapError::InvalidField(what) => what.to_owned(),
        other => other.to_string(),
    }
}
