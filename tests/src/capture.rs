//! Packets from capture files, classic pcap of either resolution, and into them.

use pcap_file::DataLink;
use pcap_file::pcap::{PcapHeader, PcapPacket, PcapReader, PcapWriter};
use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::path::Path;
use std::time::Duration;

/// What the bytes of a captured packet begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// An Ethernet header.
    Ethernet,
    /// An IP header.
    Raw,
}

/// A captured packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Since the epoch.
    pub time: Duration,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// A capture file's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capture {
    /// What every packet begins with.
    pub link: Link,
    /// In the order of the file.
    pub packets: Vec<Packet>,
}

/// Reads a whole file.
///
/// # Panics
/// Where it is missing, malformed, or of a link type that culvert does not write.
pub fn read(path: &Path) -> Capture {
    let file = File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut reader = PcapReader::new(BufReader::new(file))
        .unwrap_or_else(|error| panic!("{}: not a pcap file: {error}", path.display()));
    let link = match reader.header().datalink {
        DataLink::ETHERNET => Link::Ethernet,
        DataLink::RAW | DataLink::IPV4 | DataLink::IPV6 => Link::Raw,
        other => panic!("{}: link type Ethernet or raw IP expected, found {other:?}", path.display()),
    };
    let mut packets = Vec::new();
    while let Some(packet) = reader.next_packet() {
        let packet = packet
            .unwrap_or_else(|error| panic!("{}: packet {}: {error}", path.display(), packets.len() + 1));
        packets.push(Packet { time: packet.timestamp, bytes: packet.data.into_owned() });
    }
    Capture { link, packets }
}

/// Writes Ethernet frames.
///
/// # Panics
/// Where the file cannot be written.
pub fn write(path: &Path, packets: &[Packet]) {
    let header = PcapHeader { datalink: DataLink::ETHERNET, ..PcapHeader::default() };
    let file = BufWriter::new(File::create(path).unwrap());
    let mut writer = PcapWriter::with_header(file, header).unwrap();
    for packet in packets {
        let len = u32::try_from(packet.bytes.len()).unwrap();
        writer.write_packet(&PcapPacket::new(packet.time, len, &packet.bytes)).unwrap();
    }
    writer.into_writer().flush().unwrap();
}
