//! Where items and their keys stand in the file. There is one place for each item, kept as long as the configuration runs,
//! so it is small: items that have the same keys at the same distances share what is known of these. In a large file, which
//! a program wrote, there are few that differ.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hasher};
use std::sync::Arc;

/// Where an item and its keys stand.
#[derive(Clone, Debug, Default)]
pub(super) struct Place {
    header: u32,
    shape: Arc<Shape>,
}

/// The keys of an item that are there, in the order in which they were asked for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Shape {
    keys: Arc<[&'static str]>,
    distances: Box<[u32]>, // of the values from the item's beginning, in the order of `keys`
}

/// The shapes that items have, each once.
#[derive(Debug, Default)]
pub(super) struct Shapes {
    by_hash: HashMap<u64, Arc<Shape>>,
    keys: HashSet<Arc<[&'static str]>>,
}

/// What a key falls back to where it is absent: a profile gives a tunnel its `mtu` and `mss`.
const GIVEN_BY: [(&str, &str); 2] = [("mtu", "profile"), ("mss", "profile")];

impl Place {
    /// An item that begins at `header` and whose values stand where `values` says; its shape is shared through `shapes`.
    pub(super) fn new(header: usize, values: &[(&'static str, usize)], shapes: &mut Shapes) -> Self {
        Place { header: short(header), shape: shapes.share(short(header), values) }
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
    pub(super) fn join(self, inner: &Place, shapes: &mut Shapes) -> Self {
        let values: Vec<_> = self.keys().chain(inner.keys()).collect();
        Place::new(self.header(), &values, shapes)
    }

    fn keys(&self) -> impl Iterator<Item = (&'static str, usize)> + '_ {
        let values = self.shape.distances.iter().map(|distance| self.header.wrapping_add(*distance) as usize);
        self.shape.keys.iter().copied().zip(values)
    }
}

impl Shapes {
    fn share(&mut self, header: u32, values: &[(&'static str, usize)]) -> Arc<Shape> {
        // Only ever added to where the item begins, which undoes the difference whichever of both is larger.
        let distances = || values.iter().map(|(_, at)| short(*at).wrapping_sub(header));
        let mut hasher = DefaultHasher::new();
        for ((key, _), distance) in values.iter().zip(distances()) {
            hasher.write_usize(key.as_ptr().addr());
            hasher.write_u32(distance);
        }
        let keys = || values.iter().map(|(key, _)| *key);
        let hash = hasher.finish();
        match self.by_hash.get(&hash) {
            Some(shape)
                if shape.keys.iter().copied().eq(keys())
                    && shape.distances.iter().copied().eq(distances()) =>
            {
                shape.clone()
            }
            _ => {
                let shape = Arc::new(Shape {
                    keys: self.keys(&keys().collect::<Vec<_>>()),
                    distances: distances().collect(),
                });
                self.by_hash.insert(hash, shape.clone());
                shape
            }
        }
    }

    fn keys(&mut self, keys: &[&'static str]) -> Arc<[&'static str]> {
        if let Some(known) = self.keys.get(keys) {
            return known.clone();
        }
        let keys: Arc<[&'static str]> = keys.into();
        self.keys.insert(keys.clone());
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
        let mut shapes = Shapes::default();
        let place = Place::new(5, &[("profile", 9), ("udp", 20)], &mut shapes);
        let place = place.join(&Place::new(20, &[("udp.kind", 30)], &mut shapes), &mut shapes);
        assert_eq!(place.header(), 5);
        assert_eq!(place.of("mtu"), 9);
        assert_eq!(place.of("udp.kind"), 30);
        assert_eq!(place.of("udp.port"), 20);
        assert_eq!((place.of("local"), place.of("")), (5, 5));
        assert_eq!((place.giver("mtu"), place.giver("udp.kind")), (Some("profile"), Some("udp.kind")));
        assert_eq!((place.giver("udp.port"), place.giver("local")), (None, None));
    }

    #[test]
    fn items_of_the_same_shape_share_it() {
        let mut shapes = Shapes::default();
        let mut place = |header, at| Place::new(header, &[("name", at)], &mut shapes);
        let (one, other, longer) = (place(3, 12), place(70, 79), place(100, 110));
        assert!(Arc::ptr_eq(&one.shape, &other.shape));
        assert!(Arc::ptr_eq(&one.shape.keys, &longer.shape.keys));
        assert_eq!((one.of("name"), other.of("name"), longer.of("name")), (12, 79, 110));
        assert_eq!(place(50, 20).of("name"), 20);
    }
}
