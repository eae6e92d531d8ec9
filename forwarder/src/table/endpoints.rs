//! Which tunnel a packet is of: an exact match on its two ends and what tells the tunnels between them apart.
//!
//! Open addressing at half load or less, one cache line for an entry with all that decapsulation asks of its tunnel, so
//! nearly every look-up is one line of memory that can be asked for ahead of time. The table is built once and never
//! changes afterwards.

use super::{Encap, TunnelId, UdpKind};
use crate::hint::{large_room, prefetch};
use crate::tunnel::decap::Selector;
use crate::tunnel::flow::mix;
use crate::wire::{ipv4, ipv6};
use ipnet::IpNet;
use std::net::IpAddr;

/// What a tunnel packet is recognised by: sender (upper half, lower half), [`Label`] with the sender's prefix length, and
/// which of the box's addresses it is for. The sender is cut to a prefix, because a tunnel may take many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Endpoint([u64; 4]);

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
pub(crate) struct Home(usize);

/// One line.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Line {
    endpoint: Endpoint,
    taker: Option<Taker>,
}

/// A set of endpoints with their tunnels.
#[derive(Clone, Debug)]
pub(super) struct Endpoints {
    lines: Vec<Line>,
    used: usize,
    lens: [Vec<Len>; 2], // of senders, for IPv4 and IPv6; longest first
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

impl Endpoint {
    #[inline(always)]
    fn new(local: u32, sender: Sender, len: Len, label: Label) -> Self {
        let label = label.0 | u64::from(len.bits) << 40;
        Endpoint([sender.upper & len.upper, sender.lower & len.lower, label, u64::from(local)])
    }

    /// Whether both are the same. Word by word: as one comparison of 32 bytes, which the derived one becomes, it would have
    /// to wait for words that were just put together.
    #[inline(always)]
    fn is(self, other: Endpoint) -> bool {
        let ([a, b, c, d], [e, f, g, h]) = (self.0, other.0);
        (a ^ e) | (b ^ f) | (c ^ g) | (d ^ h) == 0
    }

    /// A hash of which every bit depends on every bit of the endpoint.
    #[inline(always)]
    fn hash(self) -> usize {
        let [a, b, c, d] = self.0;
        let first = mix(a ^ b.rotate_left(32) ^ d, 0x9e37_79b9_7f4a_7c15);
        mix(first ^ c ^ b, 0xd6e8_feb8_6659_fd93) as usize
    }
}

impl Endpoints {
    /// An empty set for so many endpoints, whose senders have these prefix lengths.
    pub(super) fn new(count: usize, senders: impl Iterator<Item = IpNet>) -> Self {
        let mut lens = [Vec::new(), Vec::new()];
        for sender in senders {
            let [ipv4, ipv6] = &mut lens;
            let len = Len::new(sender.prefix_len(), sender.max_prefix_len());
            let lens = if sender.addr().is_ipv4() { ipv4 } else { ipv6 };
            if !lens.contains(&len) {
                lens.push(len);
            }
        }
        lens.iter_mut().for_each(|lens| lens.sort_by_key(|len| std::cmp::Reverse(len.bits)));
        let empty = Line { endpoint: Endpoint([0; 4]), taker: None };
        let count = (count * 2).next_power_of_two();
        let mut lines = large_room(count);
        lines.resize(count, empty);
        Endpoints { lines, used: 0, lens }
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
        let endpoint = Endpoint::new(local, sender.addr().into(), len, Label::of(selector));
        let last = self.lines.len() - 1;
        let mut index = endpoint.hash() & last;
        // At least half of the lines are empty, so this ends.
        while let Some(line) = self.lines.get_mut(index) {
            match line.taker {
                Some(present) if line.endpoint == endpoint => return Some(present.id),
                Some(_) => index = (index + 1) & last,
                None if self.used * 2 > last => return None,
                None => {
                    *line = Line { endpoint, taker: Some(taker) };
                    self.used += 1;
                    return None;
                }
            }
        }
        None
    }

    /// The line in which a look-up will begin.
    #[inline(always)]
    pub(super) fn home(&self, local: u32, sender: Sender, label: Label) -> Home {
        match self.lens(sender.is_ipv4).first() {
            Some(len) => Home(Endpoint::new(local, sender, *len, label).hash() & (self.lines.len() - 1)),
            None => Home(0),
        }
    }

    /// Asks for a line, and the one behind it: a third of the look-ups end there.
    #[inline(always)]
    pub(super) fn prefetch(&self, home: Home) {
        if let Some(line) = self.lines.get(home.0) {
            prefetch(line);
            prefetch((&raw const *line).wrapping_add(1));
        }
    }

    /// Who takes packets of `sender` at the box's address number `local`, where the look-up begins at `home`: of several who
    /// names the sender most closely.
    #[inline(always)]
    pub(super) fn find(&self, home: Home, local: u32, sender: Sender, label: Label) -> Option<&Taker> {
        let (first, rest) = self.lens(sender.is_ipv4).split_first()?;
        let endpoint = Endpoint::new(local, sender, *first, label);
        if let Some(taker) = self.find_from(home.0, endpoint) {
            return Some(taker);
        }
        for len in rest {
            let endpoint = Endpoint::new(local, sender, *len, label);
            if let Some(taker) = self.find_from(endpoint.hash() & (self.lines.len() - 1), endpoint) {
                return Some(taker);
            }
        }
        None
    }

    #[inline(always)]
    fn find_from(&self, mut index: usize, endpoint: Endpoint) -> Option<&Taker> {
        while let Some(Line { endpoint: present, taker: Some(taker) }) = self.lines.get(index) {
            if present.is(endpoint) {
                return Some(taker);
            }
            index = (index + 1) & (self.lines.len() - 1);
        }
        None
    }

    /// The lengths of senders' prefixes of this family, longest first.
    #[inline(always)]
    fn lens(&self, is_ipv4: bool) -> &[Len] {
        let [ipv4, ipv6] = &self.lens;
        if is_ipv4 { ipv4 } else { ipv6 }
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
            let mut table = Endpoints::new(keys.len(), keys.iter().map(|key| key.1));
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
        assert_eq!(size_of::<Line>(), 64);
    }
}
