//! Traces of a running daemon: one at a time, of all workers, which ends when nobody asks for it any more.

use super::counters_for;
use super::filter::{Filter, Question};
use super::narrate::Narrator;
use crate::config::Config;
use forwarder::forward::{Engine, Host};
use forwarder::stats::TunnelStats;
use forwarder::table::{Generation, Spec};
use forwarder::tap::TapControl;
use forwarder::verdict::DropReason;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// A trace that nobody asked for in this time has been left alone.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(5);

/// The trace that runs, and the taps of all workers.
#[derive(Debug, Default)]
pub(crate) struct Live {
    taps: Vec<TapControl>,
    running: Option<Running>,
    last_id: u64,
    /// Ended by a reload before its client knew.
    outdated: Option<u64>,
}

#[derive(Debug)]
struct Running {
    id: u64,
    filter: Filter,
    engine: Engine,
    stats: TunnelStats,
    number: u64,
    until: Instant,
}

impl Live {
    /// Adds the tap of one more worker.
    pub(crate) fn add(&mut self, tap: TapControl) {
        self.taps.push(tap);
    }

    /// Sets the taps. `Err`: why not.
    pub(crate) fn start(
        &mut self,
        question: &Question,
        config: &Config,
        spec: &Spec,
    ) -> Result<Value, String> {
        self.tick();
        if self.running.is_some() {
            return Err(format!(
                "another trace runs (expected one at a time): wait until it has ended; one whose client has gone ends within {} s",
                FORGOTTEN_AFTER.as_secs()
            ));
        }
        let filter = Filter::new(question, config, spec)?;
        if let Some(why) = filter.wanted().reason.and_then(unseen) {
            return Err(why.to_owned());
        }
        // What an earlier trace left.
        self.taps.iter().for_each(|tap| tap.seen().for_each(drop));
        if !self.taps.iter().all(|tap| tap.set(Some(filter.wanted()))) {
            self.stop();
            return Err(
                "a worker does not take the order to trace: is it stalled? (see `culvert show workers`)"
                    .to_owned(),
            );
        }
        self.last_id += 1;
        self.running = Some(Running {
            id: self.last_id,
            filter,
            // No kernel is attached to a worker.
            engine: Engine::new(Host::Absent, 0, 1),
            stats: counters_for(spec),
            number: 0,
            until: Instant::now() + FORGOTTEN_AFTER,
        });
        Ok(json!({ "id": self.last_id }))
    }

    /// The packets that were seen since the last call, explained. `Err`: no such trace.
    pub(crate) fn next(
        &mut self,
        id: u64,
        config: &Config,
        spec: &Spec,
        generation: &Generation,
    ) -> Result<Value, String> {
        if self.outdated == Some(id) {
            return Err(
                "the trace has ended, as a reload gave the daemon other tables: begin another".to_owned()
            );
        }
        let Some(running) = self.running.as_mut().filter(|running| running.id == id) else {
            return Err(format!(
                "no trace {id} runs: one that is not asked for within {} s ends",
                FORGOTTEN_AFTER.as_secs()
            ));
        };
        running.until = Instant::now() + FORGOTTEN_AFTER;
        let narrator = Narrator::new(config, spec, &generation.tables).of_copies();
        let mut packets = Vec::new();
        for tapped in self.taps.iter().flat_map(TapControl::seen) {
            // Other tables decided, of which nothing is left to explain it by.
            if tapped.generation != generation.number {
                continue;
            }
            let arrival = (tapped.port, tapped.at);
            let told = narrator.tell(&mut running.engine, &running.stats, arrival, &tapped.bytes);
            let told = told.map(|told| told.ended_as(tapped.verdict));
            if let Some(told) = told.filter(|told| running.filter.fits(told)) {
                running.number += 1;
                packets.push(told.json(running.number, Duration::from_nanos(tapped.at)));
            }
        }
        Ok(Value::Array(packets))
    }

    /// Ends a trace, if it still runs.
    pub(crate) fn end(&mut self, id: u64) {
        if self.running.as_ref().is_some_and(|running| running.id == id) {
            self.stop();
        }
    }

    /// After a reload: what was asked for by name has other numbers, or is gone.
    pub(crate) fn tables_changed(&mut self) {
        self.outdated = self.running.as_ref().map(|running| running.id).or(self.outdated);
        self.stop();
    }

    /// Ends a trace that was left alone.
    pub(crate) fn tick(&mut self) {
        if self.running.as_ref().is_some_and(|running| Instant::now() > running.until) {
            self.stop();
        }
    }

    fn stop(&mut self) {
        self.running = None;
        for tap in &self.taps {
            // A worker that does not take it is stalled, and ends with the process.
            tap.set(None);
        }
    }
}

/// Why a worker's tap never shows a packet dropped for this reason: it is told as what it was before.
fn unseen(reason: DropReason) -> Option<&'static str> {
    match reason {
        DropReason::TxFull => Some(
            "no trace shows packets dropped as tx_full: the device refuses them later, and they are told as transmitted",
        ),
        DropReason::MultiSegment => Some(
            "no trace shows packets dropped as multi_segment: they are refused before they are looked at",
        ),
        DropReason::ReassemblyTimeout => Some(
            "no trace shows packets dropped as reassembly_timeout: fragments are told as held, and given up later",
        ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{frame, with_headroom};
    use super::*;
    use crate::config::{Slots, parse};
    use forwarder::forward::Outcomes;
    use forwarder::table::PortId;
    use forwarder::tap::{self, Tap};
    use forwarder::wire::ipv4::{self, Ipv4Repr};
    use forwarder::wire::protocol;

    const CONFIG: &str = r#"
        [[port]]
        name = "wan"
        device = "net_null0"
        addresses = ["192.0.2.1/24"]
        [[neighbor]]
        interface = "wan"
        address = "192.0.2.2"
        mac = "02:00:00:00:00:02"
        [[tunnel]]
        name = "t"
        encap = "gre"
        local = "192.0.2.1"
        remote = "192.0.2.2"
        reassembly = true
    "#;

    fn ipv4(destination: [u8; 4], protocol: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
        let header = Ipv4Repr {
            traffic_class: 0,
            total_len: 20 + payload.len() as u16,
            identification: 7,
            fragment,
            ttl: 64,
            protocol,
            source: [192, 0, 2, 2].into(),
            destination: destination.into(),
        };
        [header.emit().as_slice(), payload].concat()
    }

    #[test]
    fn a_packet_ends_as_it_did_for_the_worker_that_had_more_of_it() {
        let mut config = parse("f", CONFIG.to_owned()).unwrap();
        let macs = config.stand_in_macs();
        let (spec, tables) = config.compile(&macs, &mut Slots::default()).unwrap();
        let generation = Generation { number: 1, tables, stats: Vec::new() };
        let inner = ipv4([192, 0, 2, 2], protocol::ICMP, 0, &[0; 20]);
        let carried = [[0, 0, 8, 0].as_slice(), &inner].concat();
        let pieces = [(ipv4::MF, &carried[..24]), (3, &carried[24..])].map(|(fragment, data)| {
            let link = [macs[0].0.as_slice(), &[2, 0, 0, 0, 0, 2, 8, 0]].concat();
            [link, ipv4([192, 0, 2, 1], protocol::GRE, fragment, data)].concat()
        });
        let (mut tap, control) = tap::tap();
        let mut live = Live::default();
        live.add(control);
        let (mut worker, stats) = (Engine::new(Host::Absent, 0, 1), counters_for(&spec));
        let mut receive = |tap: &mut Tap, piece: &[u8]| {
            let (mut buffer, mut outcomes) = (Vec::new(), Outcomes::new());
            with_headroom(piece, &mut buffer);
            let mut frames = [frame(&mut buffer, piece)];
            tap.before(PortId(0), &frames);
            worker.forward_burst(&generation.tables, &stats, (PortId(0), 1), &mut frames, &mut outcomes);
            tap.after(PortId(0), 1, 1, &outcomes);
        };
        receive(&mut tap, &pieces[0]);
        let id = live.start(&Question::default(), &config, &spec).unwrap()["id"].as_u64().unwrap();
        tap.refresh();
        receive(&mut tap, &pieces[1]);
        let packets = live.next(id, &config, &spec, &generation).unwrap();
        assert_eq!(packets[0]["verdict"], "transmitted", "{packets:#}");
        let end = packets[0]["steps"].as_array().unwrap().last().unwrap();
        assert!(end["text"].as_str().unwrap().contains("transmitted"), "{end}");
    }
}
