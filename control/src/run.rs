//! `culvert run`: the appliance, from its start to its end.
//!
//! The main thread is the control thread. It sets everything up, in the order in which things can fail without having
//! touched a device, then waits in one place for signals, clients of the control socket, and the next second.

use crate::config::{self, Config, Hugepages, Idle, Queues, Rss, Slots};
use crate::crew::{Crew, CrewError};
use crate::daemon::Daemon;
use crate::diagnostic::Diagnostic;
use crate::preflight::{self, Needs};
use crate::report::inventory::mac;
use crate::report::latency::Latency;
use crate::report::say;
use crate::signals::Signals;
use crate::socket::{Socket, SocketError};
use crate::trace::Live;
use forwarder::dpdk::{self, DpdkError, Eal, EalOptions, Port, PortOptions, RxQueues};
use forwarder::publish::Publisher;
use forwarder::stats::{TunnelStats, latency_exchange};
use forwarder::table::{Generation, Mac};
use forwarder::tap::tap;
use forwarder::worker;
use sd_notify::NotifyState;
use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Between two collections of histograms and load figures.
const INTERVAL: Duration = Duration::from_secs(1);

/// How long the workers may take until they forward.
const START_WITHIN: Duration = Duration::from_secs(30);

/// Why the appliance did not start, or ended.
#[derive(Debug, thiserror::Error)]
enum RunError {
    /// Findings in the configuration.
    #[error("the configuration has errors")]
    Config(Vec<Diagnostic>),
    /// The path of the configuration leads nowhere.
    #[error("{0}: {1}")]
    File(String, io::Error),
    /// The control socket.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The environment or a device.
    #[error(transparent)]
    Dpdk(#[from] DpdkError),
    /// A worker.
    #[error(transparent)]
    Crew(#[from] CrewError),
    /// Signals.
    #[error("cannot take signals: {0}")]
    Signals(io::Error),
    /// The wait for clients and signals.
    #[error("cannot wait for clients and signals: {0}")]
    Wait(io::Error),
    /// A worker that never began.
    #[error("the workers did not begin to forward within {} s", START_WITHIN.as_secs())]
    Slow,
}

/// Runs the appliance until it is told to stop.
pub(crate) fn command(file: &Path) -> ExitCode {
    let error = match run(file) {
        Ok(()) => return ExitCode::SUCCESS,
        Err(error) => error,
    };
    if let RunError::Config(findings) = &error {
        findings.iter().for_each(|finding| say(finding));
    }
    log(format_args!("{error}"));
    ExitCode::FAILURE
}

/// Writes a line about what the daemon does.
pub(crate) fn log(line: std::fmt::Arguments<'_>) {
    say(&format_args!("culvert: {line}"));
}

/// Tells the service manager, where there is one.
pub(crate) fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        log(format_args!("cannot notify the service manager: {error}"));
    }
}

fn run(file: &Path) -> Result<(), RunError> {
    let signals = Signals::register().map_err(RunError::Signals)?;
    // Reloads read the file again, wherever the process is by then.
    let file =
        std::path::absolute(file).map_err(|error| RunError::File(file.display().to_string(), error))?;
    let mut config = config::load_to_run(&file).map_err(RunError::Config)?;
    config.warnings.iter().for_each(|finding| say(finding));
    // Before a device is touched; the tables that are used are compiled once the devices' addresses are known.
    config.compile(&config.stand_in_macs(), &mut Slots::default()).map_err(RunError::Config)?;
    log(format_args!("version {}, configuration {}", env!("CARGO_PKG_VERSION"), file.display()));
    let hugepages = eal_options(&config).hugepages_needed(&port_options(&config));
    let needs = Needs { hugepages, v3: cfg!(target_feature = "avx2") };
    let findings = preflight::warnings(Path::new("/"), &config, needs);
    findings.iter().for_each(|finding| log(format_args!("{finding}")));
    let mut socket = Socket::bind(&config.control.socket)?;
    let Some(mut daemon) = start(config, &signals)? else {
        log(format_args!("told to stop before it began"));
        return Ok(());
    };
    log(format_args!("control socket {}", socket.path().display()));
    notify(&[NotifyState::Ready]);
    log(format_args!("forwarding"));
    let ended = serve(&mut daemon, &mut socket, &signals);
    notify(&[NotifyState::Stopping]);
    // No client is to find a daemon that is about to end.
    drop(socket);
    let stopped = daemon.stop();
    ended.and(stopped.map_err(RunError::from))
}

/// Devices, tables and workers; `None` where a signal said to stop before all workers forwarded.
fn start(mut config: Config, signals: &Signals) -> Result<Option<Daemon>, RunError> {
    let system = config.system.clone();
    let options = port_options(&config);
    let eal = Eal::start(&eal_options(&config), &options)?;
    let pages = if eal.uses_hugepages() { "hugepages" } else { "ordinary pages" };
    log(format_args!("packet memory in {pages}"));
    let mut ports = Port::open_all(&eal, system.worker_cores.len(), &options)?;
    let macs: Vec<Mac> = ports.iter().map(Port::mac).collect();
    for (port, options) in ports.iter().zip(&options) {
        log(format_args!(
            "port {}: {}, MAC {}, MTU {}, receive queues {}, spreading {} ({})",
            options.name,
            port.description(),
            mac(port.mac()),
            options.mtu,
            port.rx_queues(),
            port.spreading().by,
            port.spreading().why,
        ));
        if options.interrupts && !port.has_interrupts() {
            log(format_args!(
                "port {}: its device has no receive interrupts, so sleeping workers look at it now and then",
                options.name,
            ));
        }
    }
    let mut slots = Slots::default();
    let (spec, tables) = config.compile(&macs, &mut slots).map_err(RunError::Config)?;
    slots.run(&spec);
    config.limit_warnings(&tables).iter().for_each(|finding| say(finding));
    config.pack();
    let (tunnels, routes, neighbors) = (spec.tunnels.len(), spec.routes.len(), spec.neighbors.len());
    log(format_args!("tunnels {tunnels}, routes {routes}, static neighbors {neighbors}"));
    let mut stats = vec![TunnelStats::default(); system.worker_cores.len()];
    stats.iter_mut().for_each(|stats| stats.grow(slots.count()));
    let mut latency = Latency::new(crate::reload::latency_slots(&spec));
    let mut publisher = Publisher::new(Generation { number: 1, tables, stats });
    let mut crew = Crew::new(&mut ports)?;
    let mut trace = Live::default();
    for core in &system.worker_cores {
        let (recorder, collector) = latency_exchange(latency.empty_set());
        latency.add(*core, collector);
        let (tap, control) = tap();
        trace.add(control);
        crew.start(
            *core,
            &eal,
            &mut publisher,
            (recorder, tap),
            (system.worker_cores.len(), idle(system.idle)),
        )?;
        log(format_args!("worker on core {core}"));
    }
    let until = Instant::now() + START_WITHIN;
    while !crew.is_ready() {
        crew.check()?;
        if signals.stop_asked() {
            crew.stop()?;
            return Ok(None);
        }
        if Instant::now() > until {
            return Err(RunError::Slow);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(Some(Daemon { crew, publisher, latency, trace, ports, _eal: eal, config, spec, slots, macs }))
}

fn serve(daemon: &mut Daemon, socket: &mut Socket, signals: &Signals) -> Result<(), RunError> {
    let mut next = Instant::now() + INTERVAL;
    loop {
        socket.turn(signals.wake(), next, |line| daemon.answer(line)).map_err(RunError::Wait)?;
        signals.clear();
        if signals.stop_asked() {
            return Ok(());
        }
        if signals.take_reload() {
            daemon.reload_by_signal();
        }
        if Instant::now() >= next {
            daemon.tick();
            next = Instant::now() + INTERVAL;
        }
        daemon.crew.check()?;
    }
}

fn eal_options(config: &Config) -> EalOptions {
    let system = &config.system;
    EalOptions {
        control_core: system.control_core,
        worker_cores: system.worker_cores.clone(),
        hugepages: match system.hugepages {
            Hugepages::Auto => dpdk::Hugepages::Auto,
            Hugepages::Required => dpdk::Hugepages::Required,
            Hugepages::Off => dpdk::Hugepages::Off,
        },
        extra_args: system.eal_args.clone(),
    }
}

fn port_options(config: &Config) -> Vec<PortOptions> {
    let options = |port: &config::Port| PortOptions {
        name: port.name.clone(),
        device: port.device.clone(),
        mtu: port.mtu,
        mac: port.mac,
        rx_queues: match port.rx_queues {
            Queues::Auto => RxQueues::Auto,
            Queues::Fixed(count) => RxQueues::Exactly(count),
        },
        rss: match port.rss {
            Rss::Auto => dpdk::Rss::Auto,
            Rss::Outer => dpdk::Rss::Outer,
            Rss::Inner => dpdk::Rss::Inner,
            Rss::Off => dpdk::Rss::Off,
        },
        interrupts: config.system.idle == Idle::Sleep,
    };
    config.ports.iter().map(options).collect()
}

fn idle(idle: Idle) -> worker::Idle {
    match idle {
        Idle::Poll => worker::Idle::Poll,
        Idle::Sleep => worker::Idle::Sleep,
    }
}
