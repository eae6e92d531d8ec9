//! Latency histograms of all workers, collected once a second and kept since the start and over the last interval.
//!
//! A worker records into one set while the control thread offers it an empty one; what comes back is added up here and
//! offered again. Histograms that nobody recorded into take no memory.

use forwarder::stats::{LatencyCollector, LatencySet, MAX_LATENCY_NS, new_histogram};
use forwarder::table::Spec;
use hdrhistogram::{Counter, Histogram};
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::fmt::Write;
use std::time::{Duration, Instant};

/// How long a report waits for the workers to hand over what they recorded last.
const FRESH_WITHIN: Duration = Duration::from_millis(20);

/// Steps per halving of the distance to 100 % in the percentile text, as HdrHistogram's own tools have it.
const TICKS: u32 = 5;

/// What one histogram is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Scope {
    /// All packets of the worker on this core.
    Worker(usize),
    /// Packets that crossed no tunnel.
    Transit,
    /// Packets that entered the tunnel of this slot.
    Encap(u32),
    /// Packets that came out of it.
    Decap(u32),
}

/// One scope's histograms.
#[derive(Debug)]
struct Kept {
    since_start: Histogram<u64>,
    last: Histogram<u32>,
    /// The interval that is under way.
    current: Histogram<u32>,
}

/// All workers' histograms.
#[derive(Debug, Default)]
pub(crate) struct Latency {
    links: Vec<Link>,
    kept: HashMap<Scope, Kept>,
    /// By slot, whether the tunnel there keeps histograms.
    tunnels: Vec<bool>,
}

#[derive(Debug)]
struct Link {
    core: usize,
    collector: LatencyCollector,
    /// A set to offer next.
    spare: Option<LatencySet>,
    /// Sets that came back so far.
    returned: u64,
}

impl Latency {
    /// No worker yet; `tunnels` says for each slot whether histograms are kept.
    pub(crate) fn new(tunnels: Vec<bool>) -> Self {
        Latency { tunnels: up_to_last(tunnels), ..Latency::default() }
    }

    /// An empty set for a worker to begin with.
    pub(crate) fn empty_set(&self) -> LatencySet {
        LatencySet::new(&self.tunnels)
    }

    /// Adds the worker on `core`.
    pub(crate) fn add(&mut self, core: usize, collector: LatencyCollector) {
        self.links.push(Link { core, collector, spare: None, returned: 0 });
    }

    /// Ends an interval: takes what the workers recorded and offers them empty sets.
    pub(crate) fn tick(&mut self) {
        self.collect();
        for kept in self.kept.values_mut() {
            std::mem::swap(&mut kept.last, &mut kept.current);
            kept.current.reset();
        }
        self.offer();
    }

    /// Takes what the workers recorded up to now; gives up on a worker that does not come by within a moment.
    pub(crate) fn refresh(&mut self) {
        self.collect();
        let before: Vec<u64> = self.links.iter().map(|link| link.returned).collect();
        self.offer();
        let until = Instant::now() + FRESH_WITHIN;
        while self.links.iter().zip(&before).any(|(link, before)| link.returned == *before)
            && Instant::now() < until
        {
            std::thread::sleep(Duration::from_micros(200));
            self.collect();
        }
    }

    /// Says for each slot whether the next sets keep histograms there.
    pub(crate) fn set_tunnels(&mut self, tunnels: Vec<bool>) {
        let tunnels = up_to_last(tunnels);
        if self.tunnels != tunnels {
            self.tunnels = tunnels;
            self.links.iter_mut().for_each(|link| link.spare = None);
        }
    }

    /// Drops what was recorded for the tunnels of these slots.
    pub(crate) fn forget(&mut self, slots: &[u32]) {
        for slot in slots {
            self.kept.remove(&Scope::Encap(*slot));
            self.kept.remove(&Scope::Decap(*slot));
        }
    }

    /// Every histogram of `spec`'s tunnels, of the workers and of transit: `show latency --json`.
    pub(crate) fn json(&self, spec: &Spec) -> Value {
        let entry = |(name, scope): (String, Scope)| {
            let kept = self.kept.get(&scope);
            let mut entry = Map::new();
            entry.insert("scope".into(), name.into());
            summarize(&mut entry, kept.map(|kept| &kept.since_start));
            let mut interval = Map::new();
            summarize(&mut interval, kept.map(|kept| &kept.last));
            entry.insert("interval".into(), interval.into());
            Value::from(entry)
        };
        self.scopes(spec).into_iter().map(entry).collect()
    }

    /// The same since the start as HdrHistogram's percentile text: an array of scope and text, without empty ones.
    pub(crate) fn hgrm(&self, spec: &Spec) -> Value {
        let entry = |(name, scope): (String, Scope)| {
            let kept = self.kept.get(&scope)?;
            let text = percentile_text(&kept.since_start);
            Some(serde_json::json!({ "scope": name, "text": text }))
        };
        self.scopes(spec).into_iter().filter_map(entry).collect()
    }

    fn scopes(&self, spec: &Spec) -> Vec<(String, Scope)> {
        let workers =
            self.links.iter().map(|link| (format!("worker:{}", link.core), Scope::Worker(link.core)));
        let transit = std::iter::once(("transit".to_owned(), Scope::Transit));
        let tunnels = spec.tunnels.iter().filter(|tunnel| tunnel.latency).flat_map(|tunnel| {
            let (name, slot) = (&tunnel.name, tunnel.slot);
            [
                (format!("tunnel:{name}:encap"), Scope::Encap(slot)),
                (format!("tunnel:{name}:decap"), Scope::Decap(slot)),
            ]
        });
        workers.chain(transit).chain(tunnels).collect()
    }

    fn collect(&mut self) {
        let Latency { links, kept, tunnels } = self;
        for link in links {
            let sets: Vec<Box<LatencySet>> = link.collector.collect().collect();
            for mut set in sets {
                link.returned += 1;
                add(kept, Scope::Worker(link.core), &mut set.worker);
                add(kept, Scope::Transit, &mut set.transit);
                for (slot, tunnel) in (0..).zip(&mut set.tunnels) {
                    if let Some(tunnel) = tunnel {
                        add(kept, Scope::Encap(slot), &mut tunnel.encap);
                        add(kept, Scope::Decap(slot), &mut tunnel.decap);
                    }
                }
                let fits = set.tunnels.iter().map(Option::is_some).eq(tunnels.iter().copied());
                link.spare = fits.then_some(*set);
            }
        }
    }

    fn offer(&mut self) {
        for link in &mut self.links {
            let set = link.spare.take().unwrap_or_else(|| LatencySet::new(&self.tunnels));
            link.collector.offer(set);
        }
    }
}

/// The same slots up to the last that keeps histograms.
fn up_to_last(mut kept: Vec<bool>) -> Vec<bool> {
    kept.truncate(kept.iter().rposition(|kept| *kept).map_or(0, |last| last + 1));
    kept
}

/// Adds what was recorded to what is kept, and empties it.
fn add(kept: &mut HashMap<Scope, Kept>, scope: Scope, recorded: &mut Histogram<u32>) {
    if recorded.is_empty() {
        return;
    }
    let kept = kept.entry(scope).or_insert_with(|| Kept {
        since_start: since_start(),
        last: new_histogram(),
        current: new_histogram(),
    });
    for step in recorded.iter_recorded() {
        kept.since_start.saturating_record_n(step.value_iterated_to(), u64::from(step.count_at_value()));
        kept.current.saturating_record_n(step.value_iterated_to(), step.count_at_value());
    }
    recorded.reset();
}

fn since_start() -> Histogram<u64> {
    match Histogram::new_with_bounds(1, MAX_LATENCY_NS, 2) {
        Ok(histogram) => histogram,
        Err(_) => unreachable!("the bounds are constants that the library takes"),
    }
}

fn summarize<T: Counter>(entry: &mut Map<String, Value>, histogram: Option<&Histogram<T>>) {
    let histogram = histogram.filter(|histogram| !histogram.is_empty());
    entry.insert("count".into(), histogram.map_or(0, Histogram::len).into());
    entry.insert("min_ns".into(), histogram.map(Histogram::min).into());
    let quantiles =
        [("p50_ns", 0.5), ("p90_ns", 0.9), ("p99_ns", 0.99), ("p999_ns", 0.999), ("p9999_ns", 0.9999)];
    for (name, quantile) in quantiles {
        entry.insert(name.into(), histogram.map(|histogram| histogram.value_at_quantile(quantile)).into());
    }
    entry.insert("max_ns".into(), histogram.map(Histogram::max).into());
}

/// The text that HdrHistogram's plotters read: a line for each step towards 100 %, then mean and extremes.
fn percentile_text(histogram: &Histogram<u64>) -> String {
    let mut text =
        format!("{:>12} {:>14} {:>10} {:>14}\n\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)");
    let mut total = 0;
    // Writing to a string cannot fail.
    for step in histogram.iter_quantiles(TICKS) {
        total += step.count_since_last_iteration();
        let (value, quantile) = (step.value_iterated_to(), step.quantile_iterated_to());
        let _ = match quantile < 1.0 {
            true => {
                writeln!(text, "{value:12}.000 {quantile:2.12} {total:10} {:14.2}", 1.0 / (1.0 - quantile))
            }
            false => writeln!(text, "{value:12}.000 {quantile:2.12} {total:10}"),
        };
    }
    let buckets = usize::from(histogram.buckets());
    let sub_buckets = histogram.distinct_values() * 2 / (buckets + 1);
    let _ =
        writeln!(text, "#[Mean    = {:12.3}, StdDeviation   = {:12.3}]", histogram.mean(), histogram.stdev());
    let _ = writeln!(text, "#[Max     = {:8}.000, Total count    = {:12}]", histogram.max(), histogram.len());
    let _ = writeln!(text, "#[Buckets = {buckets:12}, SubBuckets     = {sub_buckets:12}]");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use forwarder::stats::{Trail, latency_exchange};

    #[test]
    fn intervals_end_and_the_start_stays() {
        let mut latency = Latency::new(vec![true]);
        let (mut recorder, collector) = latency_exchange(latency.empty_set());
        latency.add(3, collector);
        let mut trail = Trail::default();
        trail.entered(0);
        recorder.set().record(1_000, std::iter::once((2, &trail)));
        latency.tick();
        recorder.exchange();
        latency.tick();
        let spec = Spec::default();
        let entry = latency.json(&spec)[0].clone();
        assert_eq!(entry["scope"], "worker:3");
        assert_eq!((entry["count"].clone(), entry["interval"]["count"].clone()), (2.into(), 2.into()));
        assert_eq!(latency.kept[&Scope::Encap(0)].since_start.len(), 2);
        recorder.exchange();
        latency.tick();
        let entry = latency.json(&spec)[0].clone();
        assert_eq!((entry["count"].clone(), entry["interval"]["count"].clone()), (2.into(), 0.into()));
        assert_eq!(entry["interval"]["min_ns"], Value::Null);
    }

    #[test]
    fn a_slot_that_is_taken_again_begins_with_nothing() {
        let mut latency = Latency::new(vec![true]);
        let (mut recorder, collector) = latency_exchange(latency.empty_set());
        latency.add(1, collector);
        let mut trail = Trail::default();
        trail.left(0);
        recorder.set().record(50, std::iter::once((1, &trail)));
        latency.tick();
        recorder.exchange();
        latency.tick();
        latency.set_tunnels(vec![true, true]);
        latency.forget(&[0]);
        assert!(!latency.kept.contains_key(&Scope::Decap(0)));
        assert_eq!(latency.empty_set().tunnels.len(), 2);
        latency.set_tunnels(vec![true, false, false]);
        assert_eq!(latency.empty_set().tunnels.len(), 1);
    }

    #[test]
    fn percentile_text_has_the_columns_that_plotters_read() {
        let mut histogram = since_start();
        for value in 1..=100 {
            histogram.saturating_record(value);
        }
        let text = percentile_text(&histogram);
        let mut lines = text.lines();
        let header: Vec<&str> = lines.next().unwrap().split_whitespace().collect();
        assert_eq!(header, ["Value", "Percentile", "TotalCount", "1/(1-Percentile)"]);
        let rows: Vec<Vec<f64>> = lines
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .map(|line| line.split_whitespace().map(|number| number.parse().unwrap()).collect())
            .collect();
        assert_eq!(rows[0][2], 1.0);
        assert_eq!(rows.last().unwrap()[1..], [1.0, 100.0]);
        assert!(rows.windows(2).all(|pair| pair[0][0] <= pair[1][0] && pair[0][2] <= pair[1][2]));
        assert!(text.contains("#[Mean    =       50.500, StdDeviation"), "{text}");
    }
}
