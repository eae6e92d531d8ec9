//! What the control thread holds while the workers forward, and its answers to the commands.

use crate::config::{Config, Slots};
use crate::crew::{Crew, CrewError};
use crate::protocol::{Answer, Request, Topic};
use crate::report::counters;
use crate::report::inventory;
use crate::report::latency::Latency;
use crate::run::log;
use crate::trace::Live;
use forwarder::dpdk::{Eal, Port};
use forwarder::publish::Publisher;
use forwarder::table::{Generation, Mac, Spec};
use serde_json::{Value, json};
use std::sync::Arc;

/// The running appliance. The order of the fields is that in which they end: workers, then devices, then DPDK.
#[derive(Debug)]
pub(crate) struct Daemon {
    pub(crate) crew: Crew,
    pub(crate) publisher: Publisher<Generation>,
    pub(crate) latency: Latency,
    pub(crate) trace: Live,
    pub(crate) ports: Vec<Port>,
    pub(crate) _eal: Eal,
    /// The configuration that runs.
    pub(crate) config: Config,
    /// What the running tables were made from.
    pub(crate) spec: Arc<Spec>,
    /// Where tunnels count.
    pub(crate) slots: Slots,
    /// The devices' own Ethernet addresses, by port.
    pub(crate) macs: Vec<Mac>,
}

impl Daemon {
    /// Answers a client's line.
    pub(crate) fn answer(&mut self, line: &[u8]) -> Vec<u8> {
        match serde_json::from_slice(line) {
            Ok(Request::Show { what }) => Answer::Done(self.show(what)).line(),
            Ok(Request::Hgrm {}) => {
                self.latency.refresh();
                Answer::Done(self.latency.hgrm(&self.spec)).line()
            }
            Ok(Request::Plan { file }) => self.answer_plan(file).line(),
            Ok(Request::Reload { file }) => self.answer_reload(file).line(),
            Ok(Request::TraceStart { question }) => {
                reply(self.trace.start(&question, &self.config, &self.spec))
            }
            Ok(Request::TraceNext { id }) => {
                reply(self.trace.next(id, &self.config, &self.spec, self.publisher.current()))
            }
            Ok(Request::TraceStop { id }) => {
                self.trace.end(id);
                Answer::Done(json!({})).line()
            }
            Err(error) => Answer::refused(format!("not a request that this culvert knows: {error}")).line(),
        }
    }

    /// Ends an interval.
    pub(crate) fn tick(&mut self) {
        self.latency.tick();
        self.crew.tick();
        self.trace.tick();
        // Frees tables that no worker uses any more.
        self.publisher.settled();
    }

    /// Stops the workers and says what was counted.
    pub(crate) fn stop(mut self) -> Result<(), CrewError> {
        let stopped = self.crew.stop();
        let totals = counters::Totals::of(self.crew.counters());
        log(format_args!("stopped: {}", Value::from(totals.json())));
        stopped
    }

    fn show(&mut self, what: Topic) -> Value {
        let generation = self.publisher.current();
        let (tables, stats) = (&generation.tables, &generation.stats);
        match what {
            Topic::Ports => inventory::ports(&self.config, &self.ports),
            Topic::Tunnels => counters::tunnels(&self.spec, tables, stats),
            Topic::Routes => inventory::routes(&self.spec),
            Topic::Neighbors => inventory::neighbors(&self.spec),
            Topic::Workers => self.crew.json(&inventory::spreading(&self.config, &self.ports)),
            Topic::Drops => counters::summary(self.crew.counters(), &self.spec, tables, stats),
            Topic::Latency => {
                self.latency.refresh();
                self.latency.json(&self.spec)
            }
            Topic::Config => {
                let text = self.config.text();
                json!({
                    "file": self.config.file(),
                    "generation": generation.number,
                    "text": text,
                    "config": toml::from_str::<Value>(&text).unwrap_or_default(),
                })
            }
        }
    }
}

fn reply(result: Result<Value, String>) -> Vec<u8> {
    match result {
        Ok(value) => Answer::Done(value).line(),
        Err(message) => Answer::refused(message).line(),
    }
}
