//! Where items and their keys stand in the file. There is one place for each item, kept as long as the configuration runs,
//! so it is small: items that have the same keys share the list of these.

use std::collections::HashSet;
use std::sync::Arc;

/// Where an item and its keys stand.
#[derive(Clone, Debug, Default)]
pub(super) struct Place {
    header: u32,
    keys: Keys,
    at: Box<[u32]>, // the values, in the order of `keys`
}

/// The keys of an item that are there, in the order in which they were asked for.
type Keys = Arc<[&'static str]>;

/// The lists of keys that items have, each once.
#[derive(Debug, Default)]
pub(super) struct KeyLists(HashSet<Keys>);

/// What a key falls back to where it is absent: a profile gives a tunnel its `mtu` and `mss`.
const GIVEN_BY: [(&str, &str); 2] = [("mtu", "profile"), ("mss", "profile")];

impl Place {
    /// An item that begins at `header` and whose values stand where `values` says; its keys are shared through `lists`.
    pub(super) fn new(header: usize, values: &[(&'static str, usize)], lists: &mut KeyLists) -> Self {
        let names: Vec<&'static str> = values.iter().map(|(key, _)| *key).collect();
        let at = values.iter().map(|(_, at)| short(*at)).collect();
        Place { header: short(header), keys: lists.share(&names), at }
    }

    /// Where the item begins.
    pub(super) fn header(&self) -> usize {
        self.header as usize
    }

    /// Where the value of `key` stands, `udp.port` being the key of a table inside; the nearest thing there is where it
    /// is absent.
    pub(super) fn of(&self, key: &str) -> usize {
        let find = |wanted: &str| self.keys().find(|(key, _)| *key == wanted).map(|(_, at)| at);
        let given = |key: &str| GIVEN_BY.iter().find(|(what, _)| *what == key).and_then(|(_, by)| find(by));
        let outer = || key.split_once('.').and_then(|(table, _)| find(table));
        find(key).or_else(|| given(key)).or_else(outer).unwrap_or(self.header())
    }

    /// The key that gives the value of `key`: itself, or what it falls back to; `None` where it is left to its default.
    pub(super) fn giver(&self, key: &str) -> Option<&'static str> {
        let known = |wanted: &str| self.keys().find(|(key, _)| *key == wanted).map(|(key, _)| key);
        known(key).or_else(|| GIVEN_BY.iter().find(|(what, _)| *what == key).and_then(|(_, by)| known(by)))
    }

    /// The same with the keys of a table inside.
    pub(super) fn join(self, inner: &Place, lists: &mut KeyLists) -> Self {
        let values: Vec<_> = self.keys().chain(inner.keys()).collect();
        Place::new(self.header(), &values, lists)
    }

    fn keys(&self) -> impl Iterator<Item = (&'static str, usize)> + '_ {
        self.keys.iter().copied().zip(self.at.iter().map(|at| *at as usize))
    }
}

impl KeyLists {
    fn share(&mut self, names: &[&'static str]) -> Keys {
        if let Some(keys) = self.0.get(names) {
            return keys.clone();
        }
        let keys: Keys = names.into();
        self.0.insert(keys.clone());
        keys
    }
}

/// An offset in half the room. Behind 4 GiB, where no configuration is, findings are about its end.
fn short(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_falls_back_to_what_gave_the_value() {
        let mut lists = KeyLists::default();
        let place = Place::new(5, &[("profile", 9), ("udp", 20)], &mut lists);
        let place = place.join(&Place::new(20, &[("udp.kind", 30)], &mut lists), &mut lists);
        assert_eq!(place.header(), 5);
        assert_eq!(place.of("mtu"), 9);
        assert_eq!(place.of("udp.kind"), 30);
        assert_eq!(place.of("udp.port"), 20);
        assert_eq!((place.of("local"), place.of("")), (5, 5));
        assert_eq!((place.giver("mtu"), place.giver("udp.kind")), (Some("profile"), Some("udp.kind")));
        assert_eq!((place.giver("udp.port"), place.giver("local")), (None, None));
    }

    #[test]
    fn items_with_the_same_keys_share_them() {
        let mut lists = KeyLists::default();
        let [one, other] = [3, 70].map(|at| Place::new(at, &[("name", at + 9)], &mut lists));
        assert!(Arc::ptr_eq(&one.keys, &other.keys));
        assert_eq!((one.of("name"), other.of("name")), (12, 79));
    }
}
