//! Longest-prefix match over addresses of either family: a trie that takes sixteen bits first and eight at a time then.
//!
//! Prefixes are expanded over the entries that they cover, so a look-up is one load for each step and no comparison. The
//! trie is built once, shorter prefixes first, and never changes once it is published.

use ipnet::IpNet;
use std::net::IpAddr;

const ROOT_BITS: u8 = 16;
const STEP_BITS: u8 = 8;
const NONE: u32 = 0;
/// Set in an entry that leads to a node; otherwise an entry is a value plus one, or [`NONE`].
const NODE: u32 = 1 << 31;

/// Values by prefix, for one address family.
#[derive(Clone, Debug)]
pub(super) struct Lpm {
    root: Vec<u32>,
    nodes: Vec<[u32; 1 << STEP_BITS]>,
}

impl Lpm {
    /// A table of these prefixes, all of one family, each with a value below 2³¹ − 1. Of two alike the later holds.
    pub(super) fn new(prefixes: impl IntoIterator<Item = (IpNet, u32)>) -> Self {
        let mut sorted: Vec<_> = prefixes.into_iter().collect();
        // An empty table needs no room: every look-up misses the root.
        let mut table = Lpm { root: Vec::new(), nodes: Vec::new() };
        if !sorted.is_empty() {
            table.root.resize(1 << ROOT_BITS, NONE);
        }
        sorted.sort_by_key(|(prefix, _)| prefix.prefix_len());
        for (prefix, value) in sorted {
            table.insert(prefix, value);
        }
        table
    }

    /// The value of the longest prefix that holds `address`.
    #[inline]
    pub(super) fn find(&self, address: IpAddr) -> Option<u32> {
        match address {
            IpAddr::V4(address) => self.walk(&address.octets()),
            IpAddr::V6(address) => self.walk(&address.octets()),
        }
    }

    #[inline]
    fn walk(&self, octets: &[u8]) -> Option<u32> {
        let (first, rest) = octets.split_first_chunk::<2>()?;
        let mut entry = *self.root.get(usize::from(u16::from_be_bytes(*first)))?;
        let mut rest = rest.iter();
        while entry & NODE != 0 {
            entry = *self.nodes.get((entry & !NODE) as usize)?.get(usize::from(*rest.next()?))?;
        }
        entry.checked_sub(1)
    }

    /// Adds a prefix no shorter than any that is there; of two alike the later holds.
    pub(super) fn insert(&mut self, prefix: IpNet, value: u32) {
        let octets = match prefix.network() {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        let Some((first, rest)) = octets.split_first_chunk::<2>() else { return };
        let mut index = usize::from(u16::from_be_bytes(*first));
        let mut node = None;
        let mut covered = ROOT_BITS;
        let mut rest = rest.iter();
        while prefix.prefix_len() > covered {
            node = Some(self.descend(node, index));
            index = rest.next().map_or(0, |octet| usize::from(*octet));
            covered += STEP_BITS;
        }
        let span = 1 << (covered - prefix.prefix_len());
        // Longer prefixes come later, so every entry in the span is a value or nothing.
        for entry in self.entries(node).iter_mut().skip(index).take(span) {
            *entry = value + 1;
        }
    }

    /// The node below an entry, made where there is none; it begins with what the entry said.
    fn descend(&mut self, node: Option<usize>, index: usize) -> usize {
        let below = self.nodes.len();
        let Some(entry) = self.entries(node).get_mut(index) else { return 0 };
        if *entry & NODE != 0 {
            return (*entry & !NODE) as usize;
        }
        let inherited = std::mem::replace(entry, NODE | below as u32);
        self.nodes.push([inherited; 1 << STEP_BITS]);
        below
    }

    fn entries(&mut self, node: Option<usize>) -> &mut [u32] {
        match node {
            None => &mut self.root,
            Some(node) => self.nodes.get_mut(node).map_or(&mut [], |node| node),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn oracle(prefixes: &[(IpNet, u32)], address: IpAddr) -> Option<u32> {
        let holding = prefixes.iter().filter(|(prefix, _)| prefix.contains(&address));
        holding.max_by_key(|(prefix, _)| prefix.prefix_len()).map(|(_, value)| *value)
    }

    fn agree(prefixes: &[(IpNet, u32)], addresses: &[IpAddr]) {
        let table = Lpm::new(prefixes.iter().copied());
        let edges = prefixes.iter().flat_map(|(prefix, _)| [prefix.network(), prefix.broadcast()]);
        for address in edges.chain(addresses.iter().copied()) {
            assert_eq!(table.find(address), oracle(prefixes, address), "{address} in {prefixes:?}");
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
        assert_eq!(Lpm::new([]).find("192.0.2.1".parse().unwrap()), None);
    }

    #[test]
    fn default_route_holds_everything() {
        let table = Lpm::new([("::/0".parse().unwrap(), 7)]);
        assert_eq!(table.find("2001:db8::1".parse().unwrap()), Some(7));
    }
}
