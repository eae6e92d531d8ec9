//! A new configuration for a running daemon: checked, compiled, published, acknowledged by every worker.
//!
//! Until it is published nothing has changed, so every error up to there leaves the daemon as it was. It is published as
//! one value, so no packet sees half of it.

use crate::config;
use crate::daemon::Daemon;
use crate::diagnostic::Diagnostic;
use crate::plan::Plan;
use crate::protocol::{Answer, Changes, Stages};
use crate::report::say;
use crate::run::{log, notify};
use forwarder::publish::Stalled;
use forwarder::stats::TunnelCounters;
use forwarder::table::{Generation, Spec};
use sd_notify::NotifyState;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long the workers may take to acknowledge; one that is alive does within a burst.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(2);

/// Why a file was not published.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReloadError {
    /// Findings in the file.
    #[error("{} has errors; nothing was changed", .0.display())]
    Findings(PathBuf, Vec<Diagnostic>),
    /// What a running daemon cannot change.
    #[error("{} changes what only a restart can: {}; nothing was changed", .0.display(), .1.join(", "))]
    Restart(PathBuf, Vec<String>),
    /// Workers that do not take tables.
    #[error(transparent)]
    Stalled(#[from] Stalled),
    /// Workers that have not taken what was published before.
    #[error(
        "the workers on cores {0:?} have not taken the tables that were published before; nothing was changed"
    )]
    Behind(Vec<usize>),
    /// Published, and not taken.
    #[error("generation {number} is published, but the workers on cores {cores:?} have not taken it yet")]
    Unacknowledged {
        /// The new generation.
        number: u64,
        /// The workers' cores.
        cores: Vec<usize>,
    },
}

/// What became of a reload.
#[derive(Debug)]
struct Reloaded {
    number: u64,
    plan: Plan,
    warnings: Vec<Diagnostic>,
    stages: Stages,
}

impl Daemon {
    /// Answers `culvert reload`.
    pub(crate) fn answer_reload(&mut self, file: Option<PathBuf>) -> Answer<Changes> {
        match self.reload(file) {
            Ok(done) => Answer::Done(Changes {
                generation: Some(done.number),
                plan: done.plan,
                restart: None,
                warnings: findings(&done.warnings),
                seconds: Some(done.stages),
            }),
            Err(error) => refusal(&error),
        }
    }

    /// Answers `culvert plan`.
    pub(crate) fn answer_plan(&self, file: Option<PathBuf>) -> Answer<Changes> {
        let file = file.unwrap_or_else(|| PathBuf::from(self.config.file()));
        let mut next = match config::load_to_run(&file) {
            Ok(next) => next,
            Err(found) => return refusal(&ReloadError::Findings(file, found)),
        };
        let mut slots = self.slots.clone();
        match next.compile(&self.macs, &mut slots) {
            Ok((spec, _)) => {
                let plan = Plan::between(&self.config, &self.spec, &next, &spec);
                Answer::Done(Changes {
                    generation: None,
                    restart: Some(plan.restart()),
                    plan,
                    warnings: findings(&next.warnings),
                    seconds: None,
                })
            }
            Err(found) => refusal(&ReloadError::Findings(file, found)),
        }
    }

    /// Reads the running file again, because of SIGHUP; what comes of it is in the log.
    pub(crate) fn reload_by_signal(&mut self) {
        match self.reload(None) {
            Ok(done) => done.warnings.iter().for_each(|finding| say(finding)),
            Err(ReloadError::Findings(_, found)) => found.iter().for_each(|finding| say(finding)),
            Err(_) => {}
        }
    }

    fn reload(&mut self, file: Option<PathBuf>) -> Result<Reloaded, ReloadError> {
        let file = file.unwrap_or_else(|| PathBuf::from(self.config.file()));
        let mut state = vec![NotifyState::Reloading];
        state.extend(NotifyState::monotonic_usec_now());
        notify(&state);
        let result = self.publish(&file);
        match &result {
            Ok(done) => {
                let (number, summary, stages) = (done.number, done.plan.summary(), done.stages);
                log(format_args!("generation {number} of {}: {summary}; {stages}", file.display()))
            }
            Err(error) => log(format_args!("reload refused: {error}")),
        }
        notify(&[NotifyState::Ready]);
        result
    }

    fn publish(&mut self, file: &Path) -> Result<Reloaded, ReloadError> {
        let mut watch = Watch(Instant::now());
        let mut next =
            config::load_to_run(file).map_err(|found| ReloadError::Findings(file.to_owned(), found))?;
        if !self.publisher.settled() {
            return Err(ReloadError::Behind(self.behind()));
        }
        self.retire();
        let read = watch.lap();
        let mut slots = self.slots.clone();
        let compiled = next.compile(&self.macs, &mut slots);
        let (spec, tables) = compiled.map_err(|found| ReloadError::Findings(file.to_owned(), found))?;
        let mut warnings = next.warnings.clone();
        warnings.extend(next.limit_warnings(&tables));
        let compile = watch.lap();
        let plan = Plan::between(&self.config, &self.spec, &next, &spec);
        let restart = plan.restart();
        if !restart.is_empty() {
            return Err(ReloadError::Restart(file.to_owned(), restart));
        }
        let compare = watch.lap();
        let generation = self.publisher.current();
        let number = generation.number + 1;
        let mut stats = generation.stats.clone();
        stats.iter_mut().for_each(|stats| stats.grow(slots.count()));
        // The workers take sets with room for the new tunnels before these come.
        self.latency.set_tunnels(latency_slots(&spec));
        self.latency.refresh();
        self.publisher.publish(Generation { number, tables, stats })?;
        slots.run(&spec);
        next.pack();
        (self.config, self.spec, self.slots) = (next, spec, slots);
        self.trace.tables_changed();
        self.await_acknowledgement(number)?;
        let stages = Stages { read, compile, compare, publish: watch.lap() };
        Ok(Reloaded { number, plan, warnings, stages })
    }

    fn await_acknowledgement(&mut self, number: u64) -> Result<(), ReloadError> {
        let until = Instant::now() + ACKNOWLEDGED_WITHIN;
        while !self.publisher.settled() {
            if Instant::now() > until {
                return Err(ReloadError::Unacknowledged { number, cores: self.behind() });
            }
            std::thread::sleep(Duration::from_micros(100));
        }
        Ok(())
    }

    /// Frees the slots of tunnels that are gone. Every worker runs on the current generation, so nobody counts in them.
    fn retire(&mut self) {
        let freed = self.slots.retire();
        if freed.is_empty() {
            return;
        }
        // What was recorded for the old tunnels comes back before the slots' histograms are forgotten.
        self.latency.refresh();
        self.latency.forget(&freed);
        for stats in &self.publisher.current().stats {
            freed.iter().filter_map(|slot| stats.slot(*slot)).for_each(clear);
        }
    }

    fn behind(&self) -> Vec<usize> {
        let members = self.crew.members();
        self.publisher
            .behind()
            .into_iter()
            .filter_map(|at| members.get(at))
            .map(|member| member.core())
            .collect()
    }
}

/// When the stage that is under way began.
struct Watch(Instant);

impl Watch {
    /// How many seconds the stage took that ends here.
    fn lap(&mut self) -> f64 {
        let now = Instant::now();
        (now - std::mem::replace(&mut self.0, now)).as_secs_f64()
    }
}

/// For each slot whether the tunnel there keeps histograms, up to the last one that does.
pub(crate) fn latency_slots(spec: &Spec) -> Vec<bool> {
    let slots = || spec.tunnels.iter().filter(|tunnel| tunnel.latency).map(|tunnel| tunnel.slot as usize);
    let mut kept = vec![false; slots().max().map_or(0, |last| last + 1)];
    for slot in slots() {
        if let Some(kept) = kept.get_mut(slot) {
            *kept = true;
        }
    }
    kept
}

fn clear(counters: &TunnelCounters) {
    let TunnelCounters { rx_packets, rx_bytes, tx_packets, tx_bytes, mss_clamped, sequence, dropped } =
        counters;
    for counter in [rx_packets, rx_bytes, tx_packets, tx_bytes, mss_clamped, sequence] {
        counter.set(0);
    }
    dropped.clear();
}

fn refusal(error: &ReloadError) -> Answer<Changes> {
    let diagnostics = match error {
        ReloadError::Findings(_, found) => findings(found),
        _ => Vec::new(),
    };
    Answer::Refused { message: error.to_string(), diagnostics }
}

fn findings(found: &[Diagnostic]) -> Vec<Value> {
    found.iter().map(Diagnostic::json).collect()
}
