//! Which tunnel a packet is of: an exact match on its two ends and what tells the tunnels between them apart.
//!
//! Open addressing at half load or less, with all that decapsulation asks of a tunnel in its entry. A cache line holds one
//! entry of an IPv6 sender or two of IPv4 senders, so nearly every look-up is one line of memory that can be asked for ahead of
//! time. The table is built once and never changes afterwards.

use super::{Encap, TunnelId, UdpKind};
use crate::hint::{large_room, prefetch};
use crate::tunnel::decap::Selector;
use crate::tunnel::flow::mix;
use crate::wire::{ipv4, ipv6};
use ipnet::IpNet;
use std::net::IpAddr;

/// A [`Selector`] as a number, of which bits 40 to 47 are left for a prefix length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Label(u64);

impl Label {
    /// IP in IP.
    pub(crate) const IP: Label = Label((Encap::Ip as u64) << 33);
    /// GRE without key.
    pub(crate) const GRE: Label = Label((Encap::Gre as u64) << 33);

    /// That of a selector.
    pub(crate) fn of(selector: Selector) -> Self {
        let encap = match (selector.encap, selector.key) {
            (Encap::Ip, _) => Label::IP,
            (Encap::Gre, key) => key.map_or(Label::GRE, Label::keyed),
        };
        selector.udp.map_or(encap, |(kind, port)| encap.in_udp(kind, port))
    }

    /// GRE with this key.
    #[inline(always)]
    pub(crate) fn keyed(key: u32) -> Self {
        Label(Label::GRE.0 | 1 << 32 | u64::from(key))
    }

    /// The same in UDP for this port.
    #[inline(always)]
    pub(crate) fn in_udp(self, kind: UdpKind, port: u16) -> Self {
        Label(self.0 | (1 + kind as u64) << 34 | u64::from(port) << 48)
    }

    /// The same for senders with a prefix of this length.
    #[inline(always)]
    fn of_len(self, len: Len) -> u64 {
        self.0 | u64::from(len.bits) << 40
    }

    /// Whether it is GRE.
    #[inline(always)]
    pub(crate) fn is_gre(self) -> bool {
        self.0 >> 33 & 1 == Encap::Gre as u64
    }
}

/// A sender as a number in two halves, IPv4 in the lowest 32 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sender {
    pub(crate) is_ipv4: bool,
    pub(crate) upper: u64,
    pub(crate) lower: u64,
}

impl Sender {
    /// The address.
    #[cold]
    pub(crate) fn address(self) -> IpAddr {
        if self.is_ipv4 { self.ipv4().into() } else { self.ipv6().into() }
    }

    /// The octets of an IPv4 address.
    #[inline(always)]
    pub(crate) fn ipv4(self) -> [u8; 4] {
        (self.lower as u32).to_be_bytes()
    }

    /// The octets of an IPv6 address.
    #[inline(always)]
    pub(crate) fn ipv6(self) -> [u8; 16] {
        (u128::from(self.upper) << 64 | u128::from(self.lower)).to_be_bytes()
    }
}

impl From<IpAddr> for Sender {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => ipv4::sender_of(address.octets()),
            IpAddr::V6(address) => ipv6::sender_of(address.octets()),
        }
    }
}

/// What decapsulation asks of a tunnel before it looks any closer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Taker {
    pub(crate) id: TunnelId,
    pub(crate) slot: u32,
    /// UDP over IPv6 without checksum is taken.
    pub(crate) takes_zero_checksum: bool,
    /// The outer DSCP replaces the inner one.
    pub(crate) is_uniform: bool,
    /// Not everything may come out.
    pub(crate) has_inner_source: bool,
}

/// Where a look-up begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Home {
    line: usize,
    is_ipv4: bool,
}

/// Endpoints with their tunnels.
#[derive(Clone, Debug)]
pub(super) struct Endpoints {
    ipv4: Set<Narrow, 2>,
    ipv6: Set<Wide, 1>,
}

/// What a packet is recognised by, as words: the sender, cut to a prefix because a tunnel may take many, which of the box's
/// addresses it is for, and the [`Label`] with the prefix's length.
trait Key: Copy + PartialEq {
    /// One that is no packet's.
    const NONE: Self;

    fn new(local: u32, sender: Sender, len: Len, label: Label) -> Self;

    /// Whether both are the same. Word by word: as one comparison of all bytes, which a derived one becomes, it would have to
    /// wait for words that were just put together.
    fn is(self, other: Self) -> bool;

    /// A hash of which every bit depends on every bit of the key.
    fn hash(self) -> usize;
}

/// That of an IPv4 sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Narrow([u64; 2]);

/// That of an IPv6 sender: upper half, lower half, label, address of the box.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Wide([u64; 4]);

impl Key for Narrow {
    const NONE: Self = Narrow([0; 2]);

    #[inline(always)]
    fn new(local: u32, sender: Sender, len: Len, label: Label) -> Self {
        Narrow([sender.lower & len.lower | u64::from(local) << 32, label.of_len(len)])
    }

    #[inline(always)]
    fn is(self, other: Self) -> bool {
        let ([a, b], [c, d]) = (self.0, other.0);
        (a ^ c) | (b ^ d) == 0
    }

    #[inline(always)]
    fn hash(self) -> usize {
        let [ends, label] = self.0;
        mix(mix(ends, 0x9e37_79b9_7f4a_7c15) ^ label, 0xd6e8_feb8_6659_fd93) as usize
    }
}

impl Key for Wide {
    const NONE: Self = Wide([0; 4]);

    #[inline(always)]
    fn new(local: u32, sender: Sender, len: Len, label: Label) -> Self {
        Wide([sender.upper & len.upper, sender.lower & len.lower, label.of_len(len), u64::from(local)])
    }

    #[inline(always)]
    fn is(self, other: Self) -> bool {
        let ([a, b, c, d], [e, f, g, h]) = (self.0, other.0);
        (a ^ e) | (b ^ f) | (c ^ g) | (d ^ h) == 0
    }

    #[inline(always)]
    fn hash(self) -> usize {
        let [a, b, c, d] = self.0;
        let first = mix(a ^ b.rotate_left(32) ^ d, 0x9e37_79b9_7f4a_7c15);
        mix(first ^ c ^ b, 0xd6e8_feb8_6659_fd93) as usize
    }
}

/// An endpoint, or an empty place.
#[derive(Clone, Copy, Debug)]
struct Entry<K> {
    key: K,
    taker: Option<Taker>,
}

/// One cache line of entries, of which the empty ones are behind the others.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Line<K, const ENTRIES: usize>([Entry<K>; ENTRIES]);

/// The endpoints of one family of senders.
#[derive(Clone, Debug)]
struct Set<K, const ENTRIES: usize> {
    lines: Vec<Line<K, ENTRIES>>,
    used: usize,
    lens: Vec<Len>, // of senders; longest first
}

/// A length of senders' prefixes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Len {
    bits: u8,
    upper: u64, // masks of the two halves of a sender
    lower: u64,
}

impl Len {
    fn new(bits: u8, of: u8) -> Self {
        let low = |count: u8| if count >= 128 { u128::MAX } else { (1 << count) - 1 };
        let mask = low(of) & !low(of - bits);
        Len { bits, upper: (mask >> 64) as u64, lower: mask as u64 }
    }
}

impl Endpoints {
    /// None yet, with room for those of these senders.
    pub(super) fn new(senders: impl Iterator<Item = IpNet>) -> Self {
        let (ipv4, ipv6): (Vec<IpNet>, Vec<IpNet>) = senders.partition(|sender| sender.addr().is_ipv4());
        Endpoints { ipv4: Set::new(&ipv4), ipv6: Set::new(&ipv6) }
    }

    /// Adds what `taker` takes from `sender` at the box's address number `local`. Where that is another's already nothing
    /// changes, and who it is is returned.
    pub(super) fn insert(
        &mut self,
        local: u32,
        sender: IpNet,
        selector: Selector,
        taker: Taker,
    ) -> Option<TunnelId> {
        let len = Len::new(sender.prefix_len(), sender.max_prefix_len());
        let (from, label) = (sender.addr().into(), Label::of(selector));
        match sender {
            IpNet::V4(_) => self.ipv4.insert(Key::new(local, from, len, label), taker),
            IpNet::V6(_) => self.ipv6.insert(Key::new(local, from, len, label), taker),
        }
    }

    /// Where a look-up will begin.
    #[inline(always)]
    pub(super) fn home(&self, local: u32, sender: Sender, label: Label) -> Home {
        let line = match sender.is_ipv4 {
            true => self.ipv4.home(local, sender, label),
            false => self.ipv6.home(local, sender, label),
        };
        Home { line, is_ipv4: sender.is_ipv4 }
    }

    /// Asks for the memory there.
    #[inline(always)]
    pub(super) fn prefetch(&self, home: Home) {
        match home.is_ipv4 {
            true => self.ipv4.prefetch(home.line),
            false => self.ipv6.prefetch(home.line),
        }
    }

    /// Who takes packets of `sender` at the box's address number `local`, where the look-up begins at `home`: of several who
    /// names the sender most closely.
    #[inline(always)]
    pub(super) fn find(&self, home: Home, local: u32, sender: Sender, label: Label) -> Option<&Taker> {
        match sender.is_ipv4 {
            true => self.ipv4.find(home.line, local, sender, label),
            false => self.ipv6.find(home.line, local, sender, label),
        }
    }
}

impl<K: Key, const ENTRIES: usize> Set<K, ENTRIES> {
    fn new(senders: &[IpNet]) -> Self {
        let mut lens = Vec::new();
        for sender in senders {
            let len = Len::new(sender.prefix_len(), sender.max_prefix_len());
            if !lens.contains(&len) {
                lens.push(len);
            }
        }
        lens.sort_by_key(|len| std::cmp::Reverse(len.bits));
        let count = (senders.len() * 2).div_ceil(ENTRIES).next_power_of_two();
        let mut lines = large_room(count);
        lines.resize(count, Line([Entry { key: K::NONE, taker: None }; ENTRIES]));
        Set { lines, used: 0, lens }
    }

    /// The line in which a look-up of this key begins.
    #[inline(always)]
    fn line(&self, key: K) -> usize {
        key.hash() & (self.lines.len() - 1)
    }

    fn insert(&mut self, key: K, taker: Taker) -> Option<TunnelId> {
        let last = self.lines.len() - 1;
        let mut index = self.line(key);
        // At least half of the entries are empty, so this ends.
        while let Some(Line(entries)) = self.lines.get_mut(index) {
            for entry in entries {
                match entry.taker {
                    Some(present) if entry.key == key => return Some(present.id),
                    Some(_) => {}
                    None if self.used * 2 > (last + 1) * ENTRIES => return None,
                    None => {
                        *entry = Entry { key, taker: Some(taker) };
                        self.used += 1;
                        return None;
                    }
                }
            }
            index = (index + 1) & last;
        }
        None
    }

    #[inline(always)]
    fn home(&self, local: u32, sender: Sender, label: Label) -> usize {
        self.lens.first().map_or(0, |len| self.line(K::new(local, sender, *len, label)))
    }

    #[inline(always)]
    fn prefetch(&self, line: usize) {
        if let Some(line) = self.lines.get(line) {
            prefetch(line);
            if ENTRIES == 1 {
                // A third of the look-ups end in the one behind it.
                prefetch((&raw const *line).wrapping_add(1));
            }
        }
    }

    #[inline(always)]
    fn find(&self, line: usize, local: u32, sender: Sender, label: Label) -> Option<&Taker> {
        let (first, rest) = self.lens.split_first()?;
        if let Some(taker) = self.find_from(line, K::new(local, sender, *first, label)) {
            return Some(taker);
        }
        for len in rest {
            let key = K::new(local, sender, *len, label);
            if let Some(taker) = self.find_from(self.line(key), key) {
                return Some(taker);
            }
        }
        None
    }

    #[inline(always)]
    fn find_from(&self, mut index: usize, key: K) -> Option<&Taker> {
        while let Some(Line(entries)) = self.lines.get(index) {
            // Which of two it is cannot be foretold, so it is computed, without a branch.
            let is_first = entries.first().is_some_and(|entry| entry.key.is(key));
            let at = usize::from(!is_first) & (ENTRIES - 1);
            if let Some(Entry { key: present, taker: Some(taker) }) = entries.get(at)
                && present.is(key)
            {
                return Some(taker);
            }
            if entries.last().is_some_and(|entry| entry.taker.is_none()) {
                return None;
            }
            index = (index + 1) & (self.lines.len() - 1);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn selector(number: u8) -> Selector {
        let kinds = [UdpKind::Fou, UdpKind::Gue, UdpKind::Gue1, UdpKind::GreInUdp];
        let encap = if number & 8 == 0 { Encap::Gre } else { Encap::Ip };
        Selector {
            udp: (number & 4 != 0).then(|| (kinds[usize::from(number) % 4], 5555 + u16::from(number & 1))),
            encap,
            // Only GRE has keys.
            key: (number & 16 != 0 && encap == Encap::Gre).then_some(u32::from(number & 1)),
        }
    }

    fn taker(id: u32) -> Taker {
        Taker {
            id: TunnelId(id),
            slot: id,
            takes_zero_checksum: false,
            is_uniform: false,
            has_inner_source: false,
        }
    }

    proptest! {
        #[test]
        fn agrees_with_a_linear_scan(
            keys in prop::collection::vec((0u32..3, 0u8..4, prop::sample::select(vec![32u8, 24, 0]), 0u8..32), 0..200),
        ) {
            let net = |host: u8, len| IpNet::new(IpAddr::from([192, 0, host & 1, host]), len).unwrap().trunc();
            let keys: Vec<_> = keys.into_iter().map(|(local, host, len, number)| (local, net(host, len), selector(number))).collect();
            let mut table = Endpoints::new(keys.iter().map(|key| key.1));
            let mut list: Vec<((u32, IpNet, Selector), u32)> = Vec::new();
            for (id, key) in keys.iter().enumerate() {
                let present = list.iter().find(|entry| entry.0 == *key).map(|entry| TunnelId(entry.1));
                prop_assert_eq!(table.insert(key.0, key.1, key.2, taker(id as u32)), present);
                if present.is_none() {
                    list.push((*key, id as u32));
                }
            }
            for local in 0..4 {
                for host in 0..5u8 {
                    let sender = IpAddr::from([192, 0, host & 1, host]);
                    for number in 0..32u8 {
                        let fits = |entry: &&((u32, IpNet, Selector), u32)| {
                            entry.0.0 == local && entry.0.1.contains(&sender) && entry.0.2 == selector(number)
                        };
                        let expected = list.iter().filter(fits).max_by_key(|entry| entry.0.1.prefix_len()).map(|entry| entry.1);
                        let (sender, label) = (Sender::from(sender), Label::of(selector(number)));
                        let found = table.find(table.home(local, sender, label), local, sender, label);
                        prop_assert_eq!(found.map(|taker| taker.id.0), expected);
                    }
                }
            }
        }
    }

    #[test]
    fn a_line_is_a_cache_line() {
        assert_eq!((size_of::<Line<Narrow, 2>>(), size_of::<Line<Wide, 1>>()), (64, 64));
    }
}
