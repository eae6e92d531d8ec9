//! How busy the workers are, since the start and over the last interval: `show workers`.

use forwarder::stats::{WorkerCounters, WorkerLoad};
use serde_json::{Map, Value};

/// A worker's load counters at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Load {
    packets: u64,
    bursts: u64,
    busy_cycles: u64,
    waited_cycles: u64,
    total_cycles: u64,
}

impl Load {
    /// The counters as they are.
    pub(crate) fn of(load: &WorkerLoad) -> Self {
        Load {
            packets: load.packets.read(),
            bursts: load.bursts.read(),
            busy_cycles: load.busy_cycles.read(),
            waited_cycles: load.waited_cycles.read(),
            total_cycles: load.total_cycles.read(),
        }
    }

    /// What was counted since `earlier`.
    pub(crate) fn since(self, earlier: Load) -> Load {
        Load {
            packets: self.packets.wrapping_sub(earlier.packets),
            bursts: self.bursts.wrapping_sub(earlier.bursts),
            busy_cycles: self.busy_cycles.wrapping_sub(earlier.busy_cycles),
            waited_cycles: self.waited_cycles.wrapping_sub(earlier.waited_cycles),
            total_cycles: self.total_cycles.wrapping_sub(earlier.total_cycles),
        }
    }

    fn write(self, object: &mut Map<String, Value>) {
        let share = |part: u64, whole: u64| (whole != 0).then(|| part as f64 / whole as f64);
        let rounded = |value: f64| (value * 100.0).round() / 100.0;
        object.insert("packets".into(), self.packets.into());
        object.insert("cycles_per_packet".into(), share(self.busy_cycles, self.packets).map(rounded).into());
        let percent =
            |part: u64| share(part, self.total_cycles).map(|share| rounded(share * 100.0).min(100.0));
        object.insert("busy_percent".into(), percent(self.busy_cycles).into());
        object.insert("waited_percent".into(), percent(self.waited_cycles).into());
        object.insert("packets_per_burst".into(), share(self.packets, self.bursts).map(rounded).into());
    }
}

/// One worker's entry of `show workers --json`; `last` is its load over the last interval.
pub(crate) fn json(core: usize, load: &WorkerLoad, last: Load, counters: &WorkerCounters) -> Value {
    let mut object = Map::new();
    object.insert("core".into(), core.into());
    object.insert("generation".into(), load.generation.read().into());
    Load::of(load).write(&mut object);
    object.insert("drops".into(), counters.dropped.total().into());
    let mut interval = Map::new();
    last.write(&mut interval);
    object.insert("interval".into(), interval.into());
    object.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_of_busy_polls_and_null_without_packets() {
        let (load, counters) = (WorkerLoad::default(), WorkerCounters::default());
        let start = Load::of(&load);
        load.packets.add(64);
        load.bursts.add(4);
        load.busy_cycles.add(6_400);
        load.waited_cycles.add(640);
        load.total_cycles.add(64_000);
        let entry = json(2, &load, Load::of(&load).since(start), &counters);
        assert_eq!(entry["cycles_per_packet"], 100.0);
        assert_eq!(entry["busy_percent"], 10.0);
        assert_eq!(entry["waited_percent"], 1.0);
        assert_eq!(entry["interval"]["packets_per_burst"], 16.0);
        let entry = json(2, &load, Load::default(), &counters);
        assert_eq!(entry["interval"]["cycles_per_packet"], Value::Null);
    }
}
