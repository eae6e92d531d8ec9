//! Packet counters of all workers added up, and the law that they obey.

use forwarder::stats::{TunnelCounters, TunnelStats, WorkerCounters};
use forwarder::table::{Spec, Tables, TunnelSpec, TunnelSummary};
use forwarder::verdict::DropReason;
use serde_json::{Map, Value, json};

/// The counters of one or more workers, added up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    received: u64,
    originated: u64,
    transmitted: u64,
    kernel: u64,
    consumed: u64,
    dropped: Vec<(DropReason, u64)>,
}

impl Totals {
    /// The sum over `workers`.
    pub(crate) fn of<'a>(workers: impl IntoIterator<Item = &'a WorkerCounters>) -> Self {
        let mut totals = Totals::default();
        for worker in workers {
            // What a packet causes is read before the packet itself: a worker that counts in between is seen to have
            // too little accounted for, never too much.
            add_dropped(&mut totals.dropped, worker.dropped.non_zero());
            totals.transmitted += worker.transmitted.read();
            totals.kernel += worker.kernel.read();
            totals.consumed += worker.consumed.read();
            totals.originated += worker.originated.read();
            totals.received += worker.received.read();
        }
        totals
    }

    /// Packets that came in or were made here and of which nothing else is known; 0 at rest.
    pub(crate) fn unaccounted(&self) -> i64 {
        let dropped: u64 = self.dropped.iter().map(|(_, count)| count).sum();
        let came = self.received.wrapping_add(self.originated);
        let went =
            self.transmitted.wrapping_add(self.kernel).wrapping_add(self.consumed).wrapping_add(dropped);
        came.wrapping_sub(went).cast_signed()
    }

    /// The counters by name; of the drop reasons those that occurred.
    pub(crate) fn json(&self) -> Map<String, Value> {
        let mut object = Map::new();
        object.insert("received".into(), self.received.into());
        object.insert("originated".into(), self.originated.into());
        object.insert("transmitted".into(), self.transmitted.into());
        object.insert("kernel".into(), self.kernel.into());
        object.insert("consumed".into(), self.consumed.into());
        object.insert("dropped".into(), dropped_json(&self.dropped));
        object.insert("unaccounted".into(), self.unaccounted().into());
        object
    }
}

/// The sums over all workers and, under `tunnels`, those of each tunnel by name: `show drops`, and what `replay` prints.
pub(crate) fn summary<'a>(
    workers: impl IntoIterator<Item = &'a WorkerCounters>,
    spec: &Spec,
    tables: &Tables,
    stats: &[TunnelStats],
) -> Value {
    let mut object = Totals::of(workers).json();
    let tunnels: Map<String, Value> = each_tunnel(spec, tables)
        .map(|(tunnel, made)| (tunnel.name.clone(), tunnel_json(tunnel, made, stats)))
        .collect();
    object.insert("tunnels".into(), tunnels.into());
    object.into()
}

/// Every tunnel with its counters, in the order of the configuration: `show tunnels`.
pub(crate) fn tunnels(spec: &Spec, tables: &Tables, stats: &[TunnelStats]) -> Value {
    each_tunnel(spec, tables).map(|(tunnel, made)| tunnel_json(tunnel, made, stats)).collect()
}

fn each_tunnel<'a>(
    spec: &'a Spec,
    tables: &'a Tables,
) -> impl Iterator<Item = (&'a TunnelSpec, Option<&'a TunnelSummary>)> {
    spec.tunnels.iter().enumerate().map(|(at, tunnel)| (tunnel, tables.summaries().get(at)))
}

fn tunnel_json(tunnel: &TunnelSpec, made: Option<&TunnelSummary>, stats: &[TunnelStats]) -> Value {
    let workers: Vec<&TunnelCounters> = stats.iter().filter_map(|stats| stats.slot(tunnel.slot)).collect();
    let sum = |count: fn(&TunnelCounters) -> u64| workers.iter().map(|worker| count(worker)).sum::<u64>();
    let mut dropped = Vec::new();
    for worker in &workers {
        add_dropped(&mut dropped, worker.dropped.non_zero());
    }
    json!({
        "name": tunnel.name,
        "state": if made.is_none_or(|made| made.reachable) { "up" } else { "down" },
        "mtu": made.map(|made| made.mtu),
        "mss_ipv4": made.and_then(|made| made.mss_ipv4),
        "mss_ipv6": made.and_then(|made| made.mss_ipv6),
        "rx_packets": sum(|tunnel| tunnel.rx_packets.read()),
        "rx_bytes": sum(|tunnel| tunnel.rx_bytes.read()),
        "tx_packets": sum(|tunnel| tunnel.tx_packets.read()),
        "tx_bytes": sum(|tunnel| tunnel.tx_bytes.read()),
        "dropped": dropped_json(&dropped),
        "mss_clamped": sum(|tunnel| tunnel.mss_clamped.read()),
    })
}

/// Adds counts to `sums`, which stays in the order of [`DropReason::ALL`].
fn add_dropped(sums: &mut Vec<(DropReason, u64)>, counts: impl Iterator<Item = (DropReason, u64)>) {
    for (reason, count) in counts {
        match sums.binary_search_by_key(&reason, |(reason, _)| *reason) {
            Ok(at) => sums.get_mut(at).into_iter().for_each(|(_, sum)| *sum += count),
            Err(at) => sums.insert(at, (reason, count)),
        }
    }
}

fn dropped_json(dropped: &[(DropReason, u64)]) -> Value {
    dropped
        .iter()
        .map(|(reason, count)| (reason.name().to_owned(), Value::from(*count)))
        .collect::<Map<_, _>>()
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_that_nobody_accounts_for_shows() {
        let (first, second) = (WorkerCounters::default(), WorkerCounters::default());
        first.received.add(10);
        first.transmitted.add(4);
        first.dropped.of(DropReason::Ttl).add(2);
        second.originated.add(3);
        second.kernel.add(1);
        second.consumed.add(1);
        second.dropped.of(DropReason::NoRoute).add(1);
        second.dropped.of(DropReason::Ttl).add(1);
        let totals = Totals::of([&first, &second]);
        assert_eq!(totals.unaccounted(), 3);
        first.transmitted.add(3);
        let totals = Totals::of([&first, &second]);
        assert_eq!(totals.unaccounted(), 0);
        assert_eq!(
            Value::from(totals.json()),
            json!({"received": 10, "originated": 3, "transmitted": 7, "kernel": 1, "consumed": 1,
                   "dropped": {"ttl": 3, "no_route": 1}, "unaccounted": 0})
        );
    }
}
