//! The headers that a packet came in, known again on the packets that follow it.
//!
//! Packets of one tunnel differ, up to the packet inside, in a few fields only. So a worker remembers the bytes of one such
//! front, a mask of those that decide what becomes of it, and what became of it: a packet that is alike under the mask takes
//! the same way to the same place, and only what is not under the mask is looked at: lengths, checksums and traffic
//! classes. Of the last tunnel the sender is not under it either: where that is another, the tunnel is looked up, and all the
//! rest is the same. Whatever is not alike is looked at as if there were no front.

use super::plain::{Bare, Came, HEAD, glance};
use super::shell::{Around, Barred, Rules, Shell, check_udp};
use crate::frame::Frame;
use crate::stats::{MAX_LAYERS, Trail, TunnelStats};
use crate::table::{Home, InterfaceId, Label, Sender, Tables, Taker};
use crate::verdict::Ingress;
use crate::wire::ip::{Plain, Version};
use crate::wire::udp::Udp;
use crate::wire::{ethernet, ip, ipv4, ipv6, part};
use arrayvec::ArrayVec;
use std::net::IpAddr;

/// Bytes that a front may have; longer ones are not remembered.
const LEN: usize = 128;

/// Bytes from a frame's start on that are read of it: a front, and the header behind it.
const READ: usize = LEN + HEAD;

/// One front.
#[derive(Clone, Debug)]
pub(super) struct Front {
    tables: u64, // with which it holds; 0: it is none
    // What a packet that has it begins with.
    bytes: [u8; LEN],
    mask: [u8; LEN],
    /// Its tunnels, outermost first.
    shells: ArrayVec<Headers, MAX_LAYERS>,
    /// The last of them, by which it was learned.
    last: Last,
    // What others like it are looked up by: the number of the box's address, and the label.
    number: u32,
    label: Label,
    // Where its sender's address begins.
    sender_at: u8,
    is_from_ipv4: bool,
    // What is behind it.
    at: u8,
    version: Version,
    /// All its tunnels, and those that carry the last.
    trail: Trail,
    carriers: Trail,
    // Packets since the burst began, and their bytes behind it: out of the last tunnel, out of others like it.
    own: Count,
    siblings: Count,
    runs_of_siblings: usize,
    // Another would do more: see [`settle`](Self::settle).
    is_wanted: bool,
}

/// Packets and bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    packets: u64,
    bytes: u64,
}

/// The last tunnel of a front.
#[derive(Clone, Copy, Debug)]
struct Last {
    ingress: Ingress,
    rules: Rules,
    barred: Barred,
}

impl Last {
    const NONE: Last =
        Last { ingress: Ingress::Interface(InterfaceId(0)), rules: Rules::NONE, barred: Barred::NOTHING };

    fn new(sender: Sender, label: Label, taker: &Taker) -> Self {
        Last {
            ingress: Ingress::Tunnel(taker.id),
            rules: Rules::new(sender, taker),
            barred: Barred::new(label, sender),
        }
    }
}

/// The headers of one tunnel; places are counted from the frame's start.
#[derive(Clone, Copy, Debug)]
struct Headers {
    version: Version,
    ip: u8,
    udp: u8, // 0: none
    inner: u8,
    carrier: Rules, // of the tunnel around it
}

impl Headers {
    /// Where the sender's address begins, and its length.
    fn sender(&self) -> (usize, usize) {
        let len = if self.version == Version::V4 { 4 } else { 16 };
        (usize::from(self.ip) + self.version.source_at(), len)
    }

    /// Whether the UDP datagram of `frame` ends here, and its checksum is right.
    #[inline(never)]
    fn is_udp_intact(&self, frame: &Frame<'_>, end: usize, rules: Rules) -> bool {
        check_udp(frame, (self.ip.into(), self.version), end, rules.takes_zero_checksum).is_some()
    }
}

impl Front {
    /// None.
    pub(super) const NONE: Front = Front {
        tables: 0,
        bytes: [0; LEN],
        mask: [0; LEN],
        shells: ArrayVec::new_const(),
        last: Last::NONE,
        number: 0,
        label: Label::IP,
        sender_at: 0,
        is_from_ipv4: true,
        at: 0,
        version: Version::V4,
        trail: Trail::NONE,
        carriers: Trail::NONE,
        own: Count { packets: 0, bytes: 0 },
        siblings: Count { packets: 0, bytes: 0 },
        runs_of_siblings: 0,
        is_wanted: false,
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

    /// Adds the headers of a tunnel, from the IP header at this place on, which is for the box's address of this number, and
    /// what is inside. `None` where they are too many, or look at more of a packet than is looked at here.
    pub(super) fn add(
        &mut self,
        (ip, version): (usize, Version),
        (number, sender): (u32, Sender),
        shell: Shell,
        taker: &Taker,
    ) -> Option<()> {
        let (inner, udp) = (shell.inner, shell.udp);
        if inner > LEN || taker.has_inner_source {
            return None;
        }
        let upper = ip + version.header_len();
        match version {
            Version::V4 => {
                self.look_at(ip..ip + 1, 0xff);
                self.look_at(ip + 6..ip + 7, ((ipv4::MF | ipv4::OFFSET) >> 8) as u8);
                self.look_at(ip + 7..ip + 8, 0xff);
                self.look_at(ip + 9..ip + 10, 0xff);
            }
            Version::V6 => {
                self.look_at(ip..ip + 1, 0xf0);
                self.look_at(ip + 6..ip + 7, 0xff);
            }
        }
        self.look_at(ip + version.source_at()..upper, 0xff);
        if udp == 0 {
            self.look_at(upper..inner, 0xff);
        } else {
            self.look_at(udp + 2..udp + 4, 0xff);
            self.look_at(udp + Udp::LEN..inner, 0xff);
        }
        // LEN is less than 256.
        let headers =
            Headers { version, ip: ip as u8, udp: udp as u8, inner: inner as u8, carrier: self.last.rules };
        self.shells.try_push(headers).ok()?;
        (self.at, self.version) = (inner as u8, shell.version);
        (self.number, self.label) = (number, shell.label);
        self.last = Last::new(sender, shell.label, taker);
        self.carriers = self.trail;
        self.trail.left(taker.slot);
        Some(())
    }

    /// Ends with the headers that `frame` begins with.
    pub(super) fn end(mut self, frame: &Frame<'_>) -> Option<Self> {
        self.bytes = *frame.window(0)?;
        let last = self.shells.last()?;
        let (start, len) = last.sender();
        (self.sender_at, self.is_from_ipv4) = (start as u8, last.version == Version::V4);
        self.look_at(start..start + len, 0);
        Some(self)
    }

    /// Whether it says anything about packets with these tables.
    #[inline(always)]
    pub(super) fn holds(&self, tables: &Tables) -> bool {
        self.tables == tables.serial()
    }

    /// Whether the frame begins with this front, and then, whether its last tunnel is the one by which the front was learned.
    #[inline(always)]
    pub(super) fn is_of_last(&self, frame: &Frame<'_>) -> Option<bool> {
        let read: &[u8; READ] = frame.window(0)?;
        if !self.is_on(read.first_chunk()?) {
            return None;
        }
        let at = usize::from(self.sender_at);
        Some(match self.is_from_ipv4 {
            true => part::<4>(read, at)? == part::<4>(&self.bytes, at)?,
            false => part::<16>(read, at)? == part::<16>(&self.bytes, at)?,
        })
    }

    /// The packet behind this front, out of the tunnel by which it was learned. `None` where there is anything unusual about
    /// it.
    #[inline(always)]
    pub(super) fn see(&self, tables: &Tables, frame: &Frame<'_>) -> Option<Bare> {
        self.behind(tables, frame, &self.last, Came::InFront)
    }

    /// The same out of another tunnel, which is looked up where it is not `known`.
    #[inline(always)]
    pub(super) fn see_sibling(
        &self,
        tables: &Tables,
        frame: &Frame<'_>,
        known: Option<&Taker>,
    ) -> Option<Bare> {
        let sender = self.sender(frame)?;
        let taker = match known {
            Some(taker) => taker,
            None => self.sibling_at(tables, frame, self.sibling_home(tables, frame)?)?,
        };
        if taker.has_inner_source {
            return None;
        }
        let last = Last::new(sender, self.label, taker);
        self.behind(tables, frame, &last, Came::InSibling(taker.slot))
    }

    #[inline(always)]
    fn behind(&self, tables: &Tables, frame: &Frame<'_>, last: &Last, came: Came) -> Option<Bare> {
        let read: &[u8; READ] = frame.window(0)?;
        let at = usize::from(self.at);
        let head: &[u8; HEAD] = part(read, at)?;
        let room = frame.len().checked_sub(at)?;
        let (ip, hit, _) = glance(tables, head.first_chunk()?, self.version, room)?;
        if last.barred.bars(head, ip) {
            return None;
        }
        // All headers end where the packet inside does, but for the link's padding.
        let end = at + ip.total_len;
        let mut class = ip.traffic_class;
        let mut rules = last.rules;
        for shell in self.shells.iter().rev() {
            let at = usize::from(shell.ip);
            let outer = match shell.version {
                Version::V4 => ipv4::intact(part(read, at)?)?,
                Version::V6 => Plain::again(part(read, at)?, Version::V6),
            };
            let around = Around::new(outer.traffic_class, rules.is_uniform);
            if at + outer.total_len != end || !around.lets_be(class) {
                return None;
            }
            if shell.udp != 0 && !shell.is_udp_intact(frame, end, rules) {
                return None;
            }
            class = outer.traffic_class;
            rules = shell.carrier;
        }
        Some(Bare { at, ip, hit, ingress: last.ingress, came })
    }

    /// Where the look-up of the last tunnel of a packet that has this front begins.
    #[inline(always)]
    pub(super) fn sibling_home(&self, tables: &Tables, frame: &Frame<'_>) -> Option<Home> {
        Some(tables.taker_home(self.number, self.sender(frame)?, self.label))
    }

    /// That tunnel.
    #[inline(always)]
    pub(super) fn sibling_at<'a>(
        &self,
        tables: &'a Tables,
        frame: &Frame<'_>,
        home: Home,
    ) -> Option<&'a Taker> {
        tables.taker(home, self.number, self.sender(frame)?, self.label)
    }

    /// Who sent a packet that has this front.
    #[inline(always)]
    fn sender(&self, frame: &Frame<'_>) -> Option<Sender> {
        let at = usize::from(self.sender_at);
        Some(match self.is_from_ipv4 {
            true => ipv4::sender_of(*frame.window(at)?),
            false => ipv6::sender_of(*frame.window(at)?),
        })
    }

    /// Whether the frame begins with this front.
    pub(super) fn is_in_front_of(&self, frame: &Frame<'_>) -> bool {
        frame.window(0).is_some_and(|first| self.is_on(first))
    }

    /// The destination of the packet behind this front.
    #[inline(always)]
    pub(super) fn destination_behind(&self, frame: &Frame<'_>) -> Option<IpAddr> {
        frame.window(self.at.into()).map(|head| ip::destination(head, self.version))
    }

    /// Whether the frame may well begin with this front, by what follows the last sender: for asking only.
    #[inline(always)]
    pub(super) fn may_be_in_front_of(&self, frame: &Frame<'_>) -> bool {
        let at = usize::from(self.sender_at) + if self.is_from_ipv4 { 4 } else { 16 };
        let word = |bytes: Option<&[u8; 8]>| bytes.map_or(0, |bytes| u64::from_ne_bytes(*bytes));
        let (found, expected) = (word(frame.window(at)), word(part(&self.bytes, at)));
        (found ^ expected) & word(part(&self.mask, at)) == 0
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

    /// Whether both frames have this front, and what they came out of last was sent by different ones.
    pub(super) fn has_two_senders(&self, one: &Frame<'_>, other: &Frame<'_>) -> bool {
        let sender = |frame: &Frame<'_>| {
            let sender = self.sender(frame)?;
            self.is_in_front_of(frame).then_some(sender)
        };
        matches!((sender(one), sender(other)), (Some(one), Some(other)) if one != other)
    }

    /// Counts packets out of its last tunnel that go on, for [`settle`](Self::settle), and their bytes behind it.
    #[inline(always)]
    pub(super) fn count(&mut self, packets: u64, bytes: u64) {
        self.own.packets += packets;
        self.own.bytes += bytes;
    }

    /// The same out of the tunnel of this slot, which is like the last one.
    #[inline(always)]
    pub(super) fn count_sibling(&mut self, stats: &TunnelStats, slot: u32, packets: u64, bytes: u64) {
        self.siblings.packets += packets;
        self.siblings.bytes += bytes;
        self.runs_of_siblings += 1;
        if let Some(counters) = stats.slot(slot) {
            counters.rx_packets.add(packets);
            counters.rx_bytes.add(bytes);
        }
    }

    /// The tunnels that packets with this front came out of.
    pub(super) fn trail(&self) -> Trail {
        self.trail
    }

    /// The same without the last one, of which others have their own.
    pub(super) fn carriers(&self) -> Trail {
        self.carriers
    }

    /// Ends a burst, in which so many packets came out of tunnels without this front: adds what was counted to the tunnels'
    /// counters. Another front is wanted where none had this one and some might have had another, or all had it but for the
    /// last tunnel, which was the same for all.
    pub(super) fn settle(&mut self, stats: &TunnelStats, strangers: usize) {
        let Front { own, siblings, runs_of_siblings, .. } = *self;
        let is_for_others = siblings.packets == 0 && strangers > 1;
        let is_for_another = runs_of_siblings == 1 && siblings.packets > 1;
        self.is_wanted = own.packets == 0 && (is_for_others || is_for_another);
        if own.packets + siblings.packets == 0 {
            return;
        }
        for (number, (slot, shell)) in self.trail.out_of().iter().zip(&self.shells).enumerate() {
            let is_carrier = number < self.carriers.out_of().len();
            let also = if is_carrier { siblings } else { Count::default() };
            let (packets, bytes) = (own.packets + also.packets, own.bytes + also.bytes);
            if let Some(counters) = stats.slot(*slot) {
                counters.rx_packets.add(packets);
                counters.rx_bytes.add(bytes + packets * u64::from(self.at - shell.inner));
            }
        }
        (self.own, self.siblings, self.runs_of_siblings) = (Count::default(), Count::default(), 0);
    }

    /// Whether another is to be learned in its place.
    #[inline(always)]
    pub(super) fn is_wanted(&self) -> bool {
        self.is_wanted
    }
}
