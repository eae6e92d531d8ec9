//! What the tests of the binary share: running it, and capture files made byte by byte.

#![allow(dead_code)] // Each test binary uses its own part.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The binary under test.
pub fn culvert() -> Command {
    Command::new(env!("CARGO_BIN_EXE_culvert"))
}

/// A finished run's text on stderr.
pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Writes a file into `folder` and returns its path.
pub fn write(folder: &Path, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, content).unwrap();
    path
}

/// The number system of a capture file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    pub big_endian: bool,
    pub nanoseconds: bool,
}

impl Style {
    /// What tcpdump writes on x86.
    pub const USUAL: Style = Style { big_endian: false, nanoseconds: false };

    fn u16(self, value: u16) -> [u8; 2] {
        if self.big_endian { value.to_be_bytes() } else { value.to_le_bytes() }
    }

    fn u32(self, value: u32) -> [u8; 4] {
        if self.big_endian { value.to_be_bytes() } else { value.to_le_bytes() }
    }
}

/// A packet and its time in nanoseconds since 1970.
pub type Stamped = (u64, Vec<u8>);

/// A classic capture file.
pub fn pcap(style: Style, link: u32, packets: &[Stamped]) -> Vec<u8> {
    let magic = if style.nanoseconds { 0xa1b2_3c4d } else { 0xa1b2_c3d4 };
    let mut file = Vec::new();
    file.extend(style.u32(magic));
    file.extend(style.u16(2));
    file.extend(style.u16(4));
    for field in [0, 0, 262_144, link] {
        file.extend(style.u32(field));
    }
    let unit = if style.nanoseconds { 1 } else { 1_000 };
    for (time, bytes) in packets {
        let len = bytes.len() as u32;
        for field in [(time / 1_000_000_000) as u32, (time % 1_000_000_000 / unit) as u32, len, len] {
            file.extend(style.u32(field));
        }
        file.extend(bytes);
    }
    file
}

/// A pcapng file with one interface.
pub fn pcapng(style: Style, link: u16, packets: &[Stamped]) -> Vec<u8> {
    let block = |kind: u32, body: &[u8]| {
        let len = body.len() as u32 + 12;
        [&style.u32(kind), &style.u32(len), body, &style.u32(len)].concat()
    };
    let mut section = style.u32(0x1a2b_3c4d).to_vec();
    section.extend([style.u16(1), style.u16(0)].concat());
    section.extend([0xff; 8]);
    let mut interface = [style.u16(link), style.u16(0)].concat();
    interface.extend(style.u32(0));
    // if_tsresol, then the end of the options.
    interface.extend([style.u16(9), style.u16(1)].concat());
    interface.extend([if style.nanoseconds { 9 } else { 6 }, 0, 0, 0]);
    interface.extend([0; 4]);
    let mut file = block(0x0a0d_0d0a, &section);
    file.extend(block(1, &interface));
    let unit = if style.nanoseconds { 1 } else { 1_000 };
    for (time, bytes) in packets {
        let ticks = time / unit;
        let len = bytes.len() as u32;
        let mut body = Vec::new();
        for field in [0, (ticks >> 32) as u32, ticks as u32, len, len] {
            body.extend(style.u32(field));
        }
        body.extend(bytes);
        body.resize(body.len().next_multiple_of(4), 0);
        file.extend(block(6, &body));
    }
    file
}

/// A classic capture file of this machine's byte order, read: link type, whether stamps are in nanoseconds, packets.
pub fn read_pcap(path: &Path) -> (u32, bool, Vec<Stamped>) {
    let file = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let field = |at: usize| u32::from_ne_bytes(file[at..at + 4].try_into().unwrap());
    let nanoseconds = match field(0) {
        0xa1b2_3c4d => true,
        0xa1b2_c3d4 => false,
        other => panic!("{}: magic {other:#x}", path.display()),
    };
    let unit = if nanoseconds { 1 } else { 1_000 };
    let (mut packets, mut at) = (Vec::new(), 24);
    while at < file.len() {
        let time = u64::from(field(at)) * 1_000_000_000 + u64::from(field(at + 4)) * unit;
        let len = field(at + 8) as usize;
        packets.push((time, file[at + 16..at + 16 + len].to_vec()));
        at += 16 + len;
    }
    (field(20), nanoseconds, packets)
}

/// A UDP packet over IPv4 in an Ethernet frame for the MAC address of port number `port`, counted from 1. The payload
/// begins with `mark`.
pub fn udp_frame(port: u8, source: [u8; 4], destination: [u8; 4], mark: u8) -> Vec<u8> {
    let mut ip = vec![0x45, 0, 0, 36, 0, mark, 0x40, 0, 64, 17, 0, 0];
    ip.extend(source);
    ip.extend(destination);
    let mut sum: u32 = ip.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    ip[10..12].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    // Port 4000 to 4001, length 16, no checksum.
    ip.extend([0x0f, 0xa0, 0x0f, 0xa1, 0, 16, 0, 0]);
    ip.extend([mark; 8]);
    let mut frame = vec![2, 0, 0, 0, 0, port, 2, 0, 0, 0, 0xee, port, 8, 0];
    frame.extend(ip);
    frame
}

/// An ARP request in a broadcast frame.
pub fn arp_frame() -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend([2, 0, 0, 0, 0xee, 1, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend([2, 0, 0, 0, 0xee, 1, 192, 0, 2, 2, 0, 0, 0, 0, 0, 0, 192, 0, 2, 1]);
    frame
}
