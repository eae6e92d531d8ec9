//! The headers that a packet came in, known again on the packets that follow it.
//!
//! Packets of one tunnel differ, up to the packet inside, in a few fields only. So a worker remembers the bytes of one such
//! front, a mask of those that decide what becomes of it, and what became of it: a packet that is alike under the mask takes
//! the same way to the same place, and only what is not under the mask is looked at: lengths, checksums and traffic
//! classes. Whatever is not alike is looked at as if there were no front.

use super::plain::{HEAD, Sight, glance};
use super::shell::{Around, check_udp, is_bounced};
use crate::frame::Frame;
use crate::stats::{MAX_LAYERS, Trail, TunnelStats};
use crate::table::{Hit, InterfaceId, Sender, Tables, Taker};
use crate::verdict::Ingress;
use crate::wire::ip::{Plain, Version};
use crate::wire::udp::Udp;
use crate::wire::{ethernet, ipv4, ipv6, part};
use arrayvec::ArrayVec;

/// Bytes that a front may have; longer ones are not remembered.
const LEN: usize = 128;

/// One front.
#[derive(Clone, Debug)]
pub(super) struct Front {
    tables: u64, // with which it holds; 0: it is none
    // What a packet that has it begins with.
    bytes: [u8; LEN],
    mask: [u8; LEN],
    /// Its tunnels, outermost first.
    shells: ArrayVec<Headers, MAX_LAYERS>,
    gre: Option<Sender>, // of the last one, where it is GRE, to which nothing inside may go back
    // What is behind it.
    at: usize,
    version: Version,
    ingress: Ingress,
    trail: Trail,
    // Packets that had it since they were last counted, and their bytes behind it.
    packets: u64,
    len: u64,
}

/// The headers of one tunnel; places are counted from the frame's start.
#[derive(Clone, Copy, Debug)]
struct Headers {
    version: Version,
    ip: usize,
    udp: usize, // 0: none
    inner: usize,
    takes_zero_checksum: bool,
    is_uniform: bool,
}

impl Front {
    /// None.
    pub(super) const NONE: Front = Front {
        tables: 0,
        bytes: [0; LEN],
        mask: [0; LEN],
        shells: ArrayVec::new_const(),
        gre: None,
        at: 0,
        version: Version::V4,
        ingress: Ingress::Interface(InterfaceId(0)),
        trail: Trail::NONE,
        packets: 0,
        len: 0,
    };

    /// That of no packet yet, on a link whose headers are `link` bytes long.
    pub(super) fn new(tables: &Tables, link: usize) -> Self {
        let mut front = Front { tables: tables.serial(), ..Front::NONE };
        front.look_at(0..6, 0xff);
        front.look_at(12..link, 0xff);
        if link == ethernet::TAGGED_LEN {
            // Priority may differ.
            front.look_at(14..15, 0x0f);
        }
        front
    }

    fn look_at(&mut self, range: std::ops::Range<usize>, mask: u8) {
        self.mask.get_mut(range).unwrap_or_default().fill(mask);
    }

    /// Adds the headers of a tunnel, from the IP header at `sight.at` on, as `sight` has them before the packet comes out.
    /// `None` where they are too many, or look at more of a packet than is looked at here.
    pub(super) fn add(&mut self, sight: &Sight, taker: &Taker) -> Option<()> {
        let (ip, inner, udp) = (sight.at, sight.shell.inner, sight.shell.udp);
        if inner > LEN || taker.has_inner_source {
            return None;
        }
        let upper = ip + sight.version.header_len();
        match sight.version {
            Version::V4 => {
                self.look_at(ip..ip + 1, 0xff);
                self.look_at(ip + 6..ip + 7, ((ipv4::MF | ipv4::OFFSET) >> 8) as u8);
                self.look_at(ip + 7..ip + 8, 0xff);
                self.look_at(ip + 9..ip + 10, 0xff);
                self.look_at(ip + ipv4::SOURCE..upper, 0xff);
            }
            Version::V6 => {
                self.look_at(ip..ip + 1, 0xf0);
                self.look_at(ip + 6..ip + 7, 0xff);
                self.look_at(ip + ipv6::SOURCE..upper, 0xff);
            }
        }
        if udp == 0 {
            self.look_at(upper..inner, 0xff);
        } else {
            self.look_at(udp + 2..udp + 4, 0xff);
            self.look_at(udp + Udp::LEN..inner, 0xff);
        }
        self.shells
            .try_push(Headers {
                version: sight.version,
                ip,
                udp,
                inner,
                takes_zero_checksum: sight.sender.is_ipv4 || taker.takes_zero_checksum,
                is_uniform: taker.is_uniform,
            })
            .ok()?;
        self.gre = sight.shell.label.is_gre().then_some(sight.sender);
        Some(())
    }

    /// Ends with what is behind the last tunnel's headers of `frame`, as `sight` and `trail` have it.
    pub(super) fn end(mut self, frame: &Frame<'_>, sight: &Sight, trail: Trail) -> Option<Self> {
        self.bytes = *frame.window(0)?;
        (self.at, self.version, self.ingress, self.trail) = (sight.at, sight.version, sight.ingress, trail);
        Some(self)
    }

    /// Whether it says anything about packets with these tables.
    #[inline(always)]
    pub(super) fn holds(&self, tables: &Tables) -> bool {
        self.tables == tables.serial()
    }

    /// What to know of a packet that has this front. `None` where it has not, or there is anything unusual about it.
    #[inline(always)]
    pub(super) fn see(&self, tables: &Tables, frame: &Frame<'_>, sight: &mut Sight) -> Option<()> {
        let first: &[u8; LEN] = frame.window(0)?;
        if !self.is_on(first) {
            return None;
        }
        let mut end = frame.len();
        let mut around = Around { class: 0, is_uniform: false };
        for shell in &self.shells {
            let ip = match shell.version {
                Version::V4 => ipv4::intact(part(first, shell.ip)?)?,
                Version::V6 => Plain::again(part(first, shell.ip)?, Version::V6),
            };
            let own_end = shell.ip + ip.total_len;
            if own_end > end || !around.lets_be(ip.traffic_class) {
                return None;
            }
            end = own_end;
            if shell.udp != 0 {
                let header = Udp::new(part::<{ Udp::LEN }>(first, shell.udp)?).ok()?;
                if shell.udp + header.length() != end {
                    return None;
                }
                let ip = (shell.ip, shell.version);
                check_udp(frame, shell.udp..end, ip, shell.takes_zero_checksum)?;
            }
            around = Around { class: ip.traffic_class, is_uniform: shell.is_uniform };
        }
        let head: &[u8; HEAD] = frame.window(self.at)?;
        let room = end.checked_sub(self.at)?;
        let (ip, hit, _) = glance(tables, head.first_chunk()?, self.version, room)?;
        let is_further = matches!(hit, Hit::Local(_));
        if ip.total_len != room
            || !around.lets_be(ip.traffic_class)
            || is_bounced(head, ip, self.gre)
            || is_further
        {
            return None;
        }
        (sight.at, sight.version, sight.hit, sight.ingress) = (self.at, self.version, hit, self.ingress);
        Some(())
    }

    /// Whether a packet that begins so has this front.
    #[inline(always)]
    fn is_on(&self, first: &[u8; LEN]) -> bool {
        match self.at {
            ..=48 => self.is_alike::<48>(first),
            49..=96 => self.is_alike::<96>(first),
            _ => self.is_alike::<LEN>(first),
        }
    }

    /// The same of the first `N` bytes. How many they are is a constant, so that the compiler makes wide steps of it.
    #[inline(always)]
    fn is_alike<const N: usize>(&self, first: &[u8; LEN]) -> bool {
        let differ = |differ, ((one, other), mask): ((&u8, &u8), &u8)| differ | (one ^ other) & mask;
        let bytes = first.iter().zip(&self.bytes).zip(&self.mask);
        bytes.take(N).fold(0, differ) == 0
    }

    /// Counts a packet that had this front and goes on, for [`settle`](Self::settle), and says whence it came.
    #[inline(always)]
    pub(super) fn count(&mut self, len: usize, trail: &mut Trail) {
        self.packets += 1;
        self.len += len as u64;
        *trail = self.trail;
    }

    /// Adds what was counted to the tunnels' counters.
    pub(super) fn settle(&mut self, stats: &TunnelStats) {
        for (slot, shell) in self.trail.out_of().iter().zip(&self.shells) {
            if let Some(counters) = stats.slot(*slot) {
                counters.rx_packets.add(self.packets);
                counters.rx_bytes.add(self.len + self.packets * (self.at - shell.inner) as u64);
            }
        }
        (self.packets, self.len) = (0, 0);
    }
}
