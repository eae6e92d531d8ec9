//! Longest-prefix match over addresses of either family: a trie that takes sixteen bits first and eight at a time then.
//!
//! Prefixes are expanded over the entries that they cover, so a look-up is one load for each step and no comparison. The
//! trie is built once, shorter prefixes first, and never changes once it is published.

use crate::hint::{in_large_pages, prefetch};
use ipnet::IpNet;
use std::net::IpAddr;

const ROOT_BITS: u8 = 16;
const STEP_BITS: u8 = 8;
const NONE: u32 = 0;
/// Set in an entry that leads to a node, whose number the other bits are; otherwise an entry is a value plus one, or
/// [`NONE`].
const NODE: u32 = 1 << 31;
/// Entries of a node.
const SPAN: usize = 1 << STEP_BITS;

/// Values by prefix, for one address family.
#[derive(Clone, Debug)]
pub(super) struct Lpm {
    root: Vec<u32>,
    nodes: Vec<u32>,
}

impl Lpm {
    /// A table of these prefixes, all of one family, each with a value below 2³¹ − 1. Of two alike the later holds.
    pub(super) fn new(prefixes: impl IntoIterator<Item = (IpNet, u32)>) -> Self {
        let mut sorted: Vec<_> = prefixes.into_iter().collect();
        // An empty table needs no room: every look-up misses the root.
        let mut table = Lpm { root: Vec::new(), nodes: Vec::new() };
        sorted.sort_by_key(|(prefix, _)| prefix.prefix_len());
        for (prefix, value) in sorted {
            table.insert(prefix, value);
        }
        table
    }

    /// The value of the longest prefix that holds the address of these octets, as on the wire.
    #[inline(always)]
    pub(super) fn find<const N: usize>(&self, octets: &[u8; N]) -> Option<u32> {
        let (first, rest) = octets.split_first_chunk::<2>()?;
        let mut entry = *self.root.get(usize::from(u16::from_be_bytes(*first)))?;
        for octet in rest {
            if entry & NODE == 0 {
                break;
            }
            entry = *self.nodes.get(place(entry, *octet))?;
        }
        entry.checked_sub(1)
    }

    /// Asks for the entry that [`find`](Self::find) reads in this step behind the root, where the entries before are in memory.
    /// Returns whether there is one.
    #[inline(always)]
    pub(super) fn prefetch<const N: usize>(&self, octets: &[u8; N], step: usize) -> bool {
        let entry = octets.split_first_chunk::<2>().and_then(|(first, rest)| {
            let mut entry = *self.root.get(usize::from(u16::from_be_bytes(*first)))?;
            let (last, before) = rest.get(..=step)?.split_last()?;
            for octet in before {
                entry = *self.below(entry, *octet)?;
            }
            self.below(entry, *last)
        });
        if let Some(entry) = entry {
            prefetch(entry);
        }
        entry.is_some()
    }

    /// The entry for this octet in the node that an entry leads to.
    #[inline(always)]
    fn below(&self, entry: u32, octet: u8) -> Option<&u32> {
        if entry & NODE == 0 {
            return None;
        }
        self.nodes.get(place(entry, octet))
    }

    /// Bytes that look-ups may read.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(self.root.as_slice()) + size_of_val(self.nodes.as_slice())
    }

    /// The same in memory for look-ups at random.
    pub(super) fn in_large_pages(self) -> Self {
        Lpm { root: self.root, nodes: in_large_pages(self.nodes) }
    }

    /// Replaces every value.
    pub(super) fn replace(&mut self, value: impl Fn(u32) -> u32) {
        for entry in self.root.iter_mut().chain(&mut self.nodes) {
            if *entry != NONE && *entry & NODE == 0 {
                *entry = value(*entry - 1) + 1;
            }
        }
    }

    /// Adds a prefix no shorter than any that is there; of two alike the later holds.
    pub(super) fn insert(&mut self, prefix: IpNet, value: u32) {
        match prefix.network() {
            IpAddr::V4(network) => self.insert_at(&network.octets(), prefix.prefix_len(), value),
            IpAddr::V6(network) => self.insert_at(&network.octets(), prefix.prefix_len(), value),
        }
    }

    fn insert_at(&mut self, octets: &[u8], len: u8, value: u32) {
        let Some((first, rest)) = octets.split_first_chunk::<2>() else { return };
        if self.root.is_empty() {
            self.root.resize(1 << ROOT_BITS, NONE);
        }
        let mut index = usize::from(u16::from_be_bytes(*first));
        let mut node = None;
        let mut covered = ROOT_BITS;
        let mut rest = rest.iter();
        while len > covered {
            node = Some(self.descend(node, index));
            index = rest.next().map_or(0, |octet| usize::from(*octet));
            covered += STEP_BITS;
        }
        let span = 1 << (covered - len);
        // Longer prefixes come later, so every entry in the span is a value or nothing.
        for entry in self.entries(node).iter_mut().skip(index).take(span) {
            *entry = value + 1;
        }
    }

    /// The node below an entry, made where there is none; it begins with what the entry said.
    fn descend(&mut self, node: Option<usize>, index: usize) -> usize {
        let below = self.nodes.len() / SPAN;
        let Some(entry) = self.entries(node).get_mut(index) else { return 0 };
        if *entry & NODE != 0 {
            return (*entry & !NODE) as usize;
        }
        let inherited = std::mem::replace(entry, NODE | below as u32);
        self.nodes.resize(self.nodes.len() + SPAN, inherited);
        below
    }

    fn entries(&mut self, node: Option<usize>) -> &mut [u32] {
        match node {
            None => &mut self.root,
            Some(node) => self.nodes.get_mut(node * SPAN..(node + 1) * SPAN).unwrap_or_default(),
        }
    }
}

/// Where the entry for this octet stands in the node that an entry leads to.
#[inline(always)]
fn place(entry: u32, octet: u8) -> usize {
    (entry & !NODE) as usize * SPAN + usize::from(octet)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn oracle(prefixes: &[(IpNet, u32)], address: IpAddr) -> Option<u32> {
        let holding = prefixes.iter().filter(|(prefix, _)| prefix.contains(&address));
        holding.max_by_key(|(prefix, _)| prefix.prefix_len()).map(|(_, value)| *value)
    }

    fn find(table: &Lpm, address: IpAddr) -> Option<u32> {
        match address {
            IpAddr::V4(address) => table.find(&address.octets()),
            IpAddr::V6(address) => table.find(&address.octets()),
        }
    }

    fn agree(prefixes: &[(IpNet, u32)], addresses: &[IpAddr]) {
        let table = Lpm::new(prefixes.iter().copied());
        let edges = prefixes.iter().flat_map(|(prefix, _)| [prefix.network(), prefix.broadcast()]);
        for address in edges.chain(addresses.iter().copied()) {
            assert_eq!(find(&table, address), oracle(prefixes, address), "{address} in {prefixes:?}");
        }
    }

    proptest! {
        // Few distinct octets, so that prefixes nest.
        #[test]
        fn ipv4_agrees_with_a_linear_scan(
            prefixes in prop::collection::vec((prop::array::uniform4(0u8..3), 0u8..=32), 0..40),
            addresses in prop::collection::vec(prop::array::uniform4(0u8..4), 0..40),
        ) {
            let prefixes: Vec<_> = prefixes.into_iter().enumerate()
                .map(|(value, (octets, len))| (IpNet::new(octets.into(), len).unwrap().trunc(), value as u32))
                .collect();
            agree(&prefixes, &addresses.into_iter().map(IpAddr::from).collect::<Vec<_>>());
        }

        #[test]
        fn ipv6_agrees_with_a_linear_scan(
            prefixes in prop::collection::vec((prop::array::uniform16(0u8..2), 0u8..=128), 0..40),
            addresses in prop::collection::vec(prop::array::uniform16(0u8..3), 0..40),
        ) {
            let prefixes: Vec<_> = prefixes.into_iter().enumerate()
                .map(|(value, (octets, len))| (IpNet::new(octets.into(), len).unwrap().trunc(), value as u32))
                .collect();
            agree(&prefixes, &addresses.into_iter().map(IpAddr::from).collect::<Vec<_>>());
        }
    }

    #[test]
    fn empty_table_has_nothing() {
        assert_eq!(find(&Lpm::new([]), "192.0.2.1".parse().unwrap()), None);
    }

    #[test]
    fn default_route_holds_everything() {
        let table = Lpm::new([("::/0".parse().unwrap(), 7)]);
        assert_eq!(find(&table, "2001:db8::1".parse().unwrap()), Some(7));
    }

    #[test]
    fn a_look_up_has_as_many_steps_as_there_are_nodes_on_its_way() {
        let table = Lpm::new([("10.0.0.0/8".parse().unwrap(), 1), ("10.1.2.128/25".parse().unwrap(), 2)]);
        let steps = |octets: [u8; 4]| (0..4).map(|step| table.prefetch(&octets, step)).collect::<Vec<_>>();
        assert_eq!(steps([10, 9, 9, 9]), [false; 4]);
        assert_eq!(steps([10, 1, 9, 9]), [true, false, false, false]);
        assert_eq!(steps([10, 1, 2, 9]), [true, true, false, false]);
        assert_eq!(table.bytes(), (65_536 + 2 * 256) * 4);
        assert!(!Lpm::new([]).prefetch(&[10, 0, 0, 0], 0));
    }

    #[test]
    fn every_value_is_replaced_and_a_host_may_be_added_to_an_empty_table() {
        let mut table = Lpm::new([("10.0.0.0/8".parse().unwrap(), 1), ("10.1.2.3/32".parse().unwrap(), 2)]);
        table.replace(|value| value + 10);
        assert_eq!(find(&table, "10.9.9.9".parse().unwrap()), Some(11));
        assert_eq!(find(&table, "10.1.2.3".parse().unwrap()), Some(12));
        assert_eq!(find(&table, "11.0.0.0".parse().unwrap()), None);
        let mut empty = Lpm::new([]);
        empty.insert("2001:db8::1/128".parse().unwrap(), 5);
        assert_eq!(find(&empty, "2001:db8::1".parse().unwrap()), Some(5));
    }
}
