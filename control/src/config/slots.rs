//! Where tunnels count: a number for each name, which stays the same over reloads.

use forwarder::table::Spec;
use std::collections::{HashMap, HashSet};

/// Slots by tunnel name. A removed tunnel keeps its slot until [`retire`](Self::retire) frees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Slots {
    by_name: HashMap<String, u32>,
    free: Vec<u32>,
    count: u32,
}

impl Slots {
    /// The slot of this tunnel, its old one where it has one.
    pub(crate) fn slot(&mut self, name: &str) -> u32 {
        if let Some(slot) = self.by_name.get(name) {
            return *slot;
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.count += 1;
            self.count - 1
        });
        self.by_name.insert(name.to_owned(), slot);
        slot
    }

    /// Frees the slots of all tunnels that `running` does not have and returns them. To be called when every worker runs
    /// on `running`: an earlier generation still counts in them.
    pub(crate) fn retire(&mut self, running: &Spec) -> Vec<u32> {
        let names: HashSet<&str> = running.tunnels.iter().map(|tunnel| tunnel.name.as_str()).collect();
        let mut freed = Vec::new();
        self.by_name.retain(|name, slot| {
            let stays = names.contains(name.as_str());
            if !stays {
                freed.push(*slot);
            }
            stays
        });
        freed.sort_unstable_by(|a, b| b.cmp(a));
        self.free.extend(&freed);
        freed
    }

    /// How many slots there are, free ones included: room for counters.
    pub(crate) fn count(&self) -> usize {
        self.count as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_used_again_only_after_its_tunnel_was_retired() {
        let mut slots = Slots::default();
        assert_eq!((slots.slot("a"), slots.slot("b"), slots.slot("a")), (0, 1, 0));
        assert_eq!(slots.slot("c"), 2);
        assert_eq!(slots.retire(&Spec::default()), [2, 1, 0]);
        assert_eq!(slots.slot("d"), 0);
        assert_eq!((slots.slot("e"), slots.slot("f"), slots.slot("g")), (1, 2, 3));
        assert_eq!(slots.count(), 4);
    }
}
