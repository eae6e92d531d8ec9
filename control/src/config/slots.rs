//! Where tunnels count: a number for each name, which stays the same over reloads.

use forwarder::table::Spec;
use std::collections::HashMap;
use std::sync::Arc;

/// Slots of the tunnels that run, and those that are free. A removed tunnel keeps its slot until [`retire`](Self::retire)
/// frees it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Slots {
    running: Arc<Spec>,
    free: Vec<u32>,
    count: u32,
}

impl Slots {
    /// Gives each tunnel its slot: that of the running tunnel of its name, where there is one.
    pub(crate) fn assign(&mut self, spec: &mut Spec) {
        let running = self.running.tunnels.iter().map(|tunnel| (tunnel.name.as_str(), tunnel.slot));
        let running: HashMap<&str, u32> = running.collect();
        for tunnel in &mut spec.tunnels {
            tunnel.slot = running.get(tunnel.name.as_str()).copied().unwrap_or_else(|| {
                self.free.pop().unwrap_or_else(|| {
                    self.count += 1;
                    self.count - 1
                })
            });
        }
    }

    /// From here on `spec`, to whose tunnels slots were given, is what runs.
    pub(crate) fn run(&mut self, spec: &Arc<Spec>) {
        self.running = spec.clone();
    }

    /// Frees the slots that no running tunnel has and returns them. To be called when every worker runs on the running
    /// tunnels: an earlier generation still counts in them.
    pub(crate) fn retire(&mut self) -> Vec<u32> {
        let mut is_used = vec![false; self.count()];
        let slots = self.running.tunnels.iter().map(|tunnel| tunnel.slot);
        for slot in slots.chain(self.free.iter().copied()) {
            if let Some(is_used) = is_used.get_mut(slot as usize) {
                *is_used = true;
            }
        }
        let mut freed: Vec<u32> =
            (0..).zip(is_used).filter(|(_, is_used)| !is_used).map(|(slot, _)| slot).collect();
        freed.reverse();
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
    use crate::config::parse;

    const PORT: &str = "[[port]]\nname = \"p\"\ndevice = \"net_null0\"\n";

    /// The slots of tunnels of these names once they run.
    fn run(slots: &mut Slots, names: &[&str]) -> Vec<u32> {
        let tunnels: String = (1..)
            .zip(names)
            .map(|(number, name)| {
                let ends = format!("local = \"192.0.2.1\"\nremote = \"192.0.2.{}\"", number + 1);
                format!("[[tunnel]]\nname = \"{name}\"\nencap = \"gre\"\n{ends}\n")
            })
            .collect();
        let spec = parse("f", format!("{PORT}{tunnels}")).unwrap().spec(&[], slots);
        slots.run(&spec);
        spec.tunnels.iter().map(|tunnel| tunnel.slot).collect()
    }

    #[test]
    fn a_slot_is_used_again_only_after_its_tunnel_was_retired() {
        let mut slots = Slots::default();
        assert_eq!(run(&mut slots, &["a", "b"]), [0, 1]);
        assert_eq!(run(&mut slots, &["c", "b"]), [2, 1]);
        assert_eq!(slots.retire(), [0]);
        assert_eq!(slots.retire(), [0; 0]);
        assert_eq!(run(&mut slots, &["b", "d", "c", "e"]), [1, 0, 2, 3]);
        assert_eq!(run(&mut slots, &[]), [0; 0]);
        assert_eq!(slots.retire(), [3, 2, 1, 0]);
        assert_eq!(run(&mut slots, &["f"]), [0]);
        assert_eq!(slots.count(), 4);
    }
}
