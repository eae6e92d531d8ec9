//! Exact match: a fixed set of keys, each with a number.
//!
//! Open addressing at half load, so nearly every look-up ends in the first line that it touches. The set is built once
//! and never changes afterwards.

use crate::tunnel::flow::mix;
use std::net::IpAddr;

/// Something to look up.
pub(super) trait Key: Copy + Eq {
    /// A hash of which every bit depends on every bit of the key.
    fn hash(&self) -> u64;
}

impl Key for IpAddr {
    #[inline]
    fn hash(&self) -> u64 {
        match self {
            IpAddr::V4(address) => mix(u64::from(address.to_bits()), 0x9e37_79b9_7f4a_7c15),
            IpAddr::V6(address) => {
                let bits = address.to_bits();
                mix(mix((bits >> 64) as u64, 0x9e37_79b9_7f4a_7c15) ^ bits as u64, 0xd6e8_feb8_6659_fd93)
            }
        }
    }
}

/// A table from keys to numbers.
#[derive(Clone, Debug)]
pub(super) struct ExactMatch<K> {
    slots: Vec<Option<(K, u32)>>,
    used: usize,
}

impl<K: Key> Default for ExactMatch<K> {
    fn default() -> Self {
        ExactMatch { slots: vec![None; 2], used: 0 }
    }
}

impl<K: Key> ExactMatch<K> {
    /// Adds a key. Where it is there already nothing changes, and its number is returned.
    pub(super) fn insert(&mut self, key: K, value: u32) -> Option<u32> {
        if let Some(present) = self.find(&key) {
            return Some(present);
        }
        if (self.used + 1) * 2 > self.slots.len() {
            let larger = vec![None; self.slots.len() * 2];
            for (key, value) in std::mem::replace(&mut self.slots, larger).into_iter().flatten() {
                self.place(key, value);
            }
        }
        self.place(key, value);
        self.used += 1;
        None
    }

    /// The key's number.
    #[inline]
    pub(super) fn find(&self, key: &K) -> Option<u32> {
        let mut index = self.home(key);
        // At least half of the slots are empty, so this ends.
        while let Some(Some((present, value))) = self.slots.get(index) {
            if present == key {
                return Some(*value);
            }
            index = (index + 1) & (self.slots.len() - 1);
        }
        None
    }

    fn place(&mut self, key: K, value: u32) {
        let mut index = self.home(&key);
        while let Some(Some(_)) = self.slots.get(index) {
            index = (index + 1) & (self.slots.len() - 1);
        }
        if let Some(slot) = self.slots.get_mut(index) {
            *slot = Some((key, value));
        }
    }

    #[inline]
    fn home(&self, key: &K) -> usize {
        key.hash() as usize & (self.slots.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn agrees_with_a_linear_scan(keys in prop::collection::vec(0u32..500, 0..300)) {
            let mut table = ExactMatch::default();
            let mut list: Vec<(IpAddr, u32)> = Vec::new();
            for (value, key) in keys.iter().enumerate() {
                let key = IpAddr::V4((*key).into());
                let present = list.iter().find(|entry| entry.0 == key).map(|entry| entry.1);
                prop_assert_eq!(table.insert(key, value as u32), present);
                if present.is_none() {
                    list.push((key, value as u32));
                }
            }
            for key in 0..600u32 {
                let key = IpAddr::V4(key.into());
                let expected = list.iter().find(|entry| entry.0 == key).map(|entry| entry.1);
                prop_assert_eq!(table.find(&key), expected);
            }
        }
    }
}
