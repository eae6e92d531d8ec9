//! The configuration: a TOML file read into checked values, and these compiled into tables.
//!
//! Reading ends with either a [`Config`], in which every value is in range and every name leads somewhere, or with all
//! findings at once, each with its line and column. What only shows when several items are put together (two tunnels
//! alike, a loop) is found by [`Config::compile`], which gives the compiler's findings their places in the file.
//!
//! [`document`] knows TOML and nothing of tunnels; [`value`] knows addresses and numbers; each further module reads one
//! kind of table; [`names`] and [`network`] tie them together.

mod clamp;
mod source;
mod place;
mod document;
mod pieces;
mod plain;
mod effect;
mod limit;
mod mtu;
mod names;
mod neighbor;
mod network;
mod port;
mod profile;
mod read;
mod route;
mod side;
mod slots;
mod syntax;
mod system;
mod tunnel;
mod value;
mod warning;

#[cfg(test)]
mod tests;

pub(crate) use document::nearest;
pub(crate) use port::{Port, Queues, Rss};
pub(crate) use profile::{PROFILES, Profile};
pub(crate) use slots::Slots;
#[cfg(feature = "dpdk")]
pub(crate) use system::core_list;
pub(crate) use system::{ControlSocket, DEFAULT_SOCKET, Hugepages, Idle, System};

use crate::diagnostic::{Diagnostic, Severity};
use document::Findings;
use forwarder::table::{Item, Mac, Spec, SpecError, Tables};
use place::Place;
use side::Sides;
use source::Source;
use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

/// A configuration file, read and checked.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// The machine.
    pub(crate) system: System,
    /// The control socket.
    pub(crate) control: ControlSocket,
    /// The ports, in the order of the file, which is that of `PortId`.
    pub(crate) ports: Vec<Port>,
    /// What is odd but taken.
    pub(crate) warnings: Vec<Diagnostic>,
    /// Keys that this version does not act on: no file that has one is run.
    refusals: Vec<Diagnostic>,
    /// Everything that the tables are made from; MAC addresses and slots are those of the last compilation.
    spec: Arc<Spec>,
    source: Source,
    places: Places,
}

/// Where the items of the specification stand in the file.
#[derive(Clone, Debug, Default)]
struct Places {
    interfaces: Vec<Place>,
    neighbors: Vec<Place>,
    tunnels: Vec<Place>,
    routes: Vec<Place>,
    clamps: Vec<Place>,
}

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    /// The line of its key; that of the item, or of the table in it, where the value is a default.
    pub(crate) line: usize,
    /// The key that gives the value; `None`: it is a default.
    pub(crate) key: Option<&'static str>,
}

/// Reads and checks the file at `path`.
///
/// # Errors
/// Everything that is wrong with it; a file that cannot be read is one error in line 1.
pub(crate) fn load(path: &Path) -> Result<Config, Vec<Diagnostic>> {
    let file = path.display().to_string();
    let unreadable = |message: String| Diagnostic {
        file: file.clone(),
        line: 1,
        column: 1,
        severity: Severity::Error,
        message,
        help: None,
    };
    let bytes = std::fs::read(path).map_err(|error| vec![unreadable(format!("cannot be read: {error}"))])?;
    match String::from_utf8(bytes) {
        Ok(text) => parse(&file, text),
        Err(error) => {
            let valid = error.utf8_error().valid_up_to();
            let text =
                String::from_utf8_lossy(error.as_bytes().get(..valid).unwrap_or_default()).into_owned();
            let (line, column) = Source::new(&file, text).position(valid);
            let message = "not a text file (expected UTF-8, found a byte that is not)".to_owned();
            Err(vec![Diagnostic { line, column, ..unreadable(message) }])
        }
    }
}

/// Reads, checks and compiles the file at `path` where there are no devices; what is found wrong is printed.
pub(crate) fn compiled(path: &Path) -> Option<(Config, Arc<Spec>, Tables)> {
    let compiled = load(path).and_then(|mut config| {
        let (spec, tables) = config.compile(&config.stand_in_macs(), &mut Slots::default())?;
        Ok((config, spec, tables))
    });
    compiled.map_err(|findings| findings.iter().for_each(|finding| crate::report::say(finding))).ok()
}

/// Reads and checks the file at `path` for a daemon.
///
/// # Errors
/// Those of [`load`], and every key that this version does not act on: nothing is run that would not do all that its
/// configuration says.
#[cfg(feature = "dpdk")]
pub(crate) fn load_to_run(path: &Path) -> Result<Config, Vec<Diagnostic>> {
    // The control thread reads it, and again on every reload: a pipe would keep it waiting, a device would have no end.
    if std::fs::metadata(path).is_ok_and(|file| !file.is_file()) {
        return Err(vec![Diagnostic {
            file: path.display().to_string(),
            line: 1,
            column: 1,
            severity: Severity::Error,
            message:
                "is no regular file (expected one that can be read again, found a pipe, folder or device)"
                    .to_owned(),
            help: None,
        }]);
    }
    let config = load(path)?;
    if config.refusals.is_empty() { Ok(config) } else { Err(config.refusals) }
}

/// Reads and checks `text`; `file` is its name in findings.
///
/// # Errors
/// Everything that is wrong with it.
pub(crate) fn parse(file: &str, text: String) -> Result<Config, Vec<Diagnostic>> {
    read::read(Source::new(file, text))
}

impl Config {
    /// The file's name, as it was given.
    pub(crate) fn file(&self) -> &str {
        self.source.file()
    }

    /// The file's text.
    pub(crate) fn text(&self) -> Cow<'_, str> {
        self.source.text()
    }

    /// Makes it smaller, as it is kept while it runs: its text is asked for more rarely from then on.
    pub(crate) fn pack(&mut self) {
        self.source.pack();
    }

    /// The ports' names, in order.
    pub(crate) fn port_names(&self) -> Vec<&str> {
        self.ports.iter().map(|port| port.name.as_str()).collect()
    }

    /// How many tunnels and routes there are.
    pub(crate) fn sizes(&self) -> (usize, usize) {
        (self.spec.tunnels.len(), self.spec.routes.len())
    }

    /// Ethernet addresses of the ports where no device tells: `02:00:00:00:00:NN`, NN the port's number from 1.
    pub(crate) fn stand_in_macs(&self) -> Vec<Mac> {
        let mac = |number: u32| {
            let [a, b, c, d] = number.to_be_bytes();
            Mac([2, 0, a, b, c, d])
        };
        (1..).map(mac).take(self.ports.len()).collect()
    }

    /// What the tables are made from. `macs` are the ports' own addresses, in their order; a port's `mac` wins. Tunnels
    /// count where `slots` says. It is shared with this configuration, as it is the largest part of it.
    pub(crate) fn spec(&mut self, macs: &[Mac], slots: &mut Slots) -> Arc<Spec> {
        let spec = Arc::make_mut(&mut self.spec);
        for interface in &mut spec.interfaces {
            let port = usize::from(interface.port.0);
            let configured = self.ports.get(port).and_then(|port| port.mac);
            if let Some(mac) = configured.or(macs.get(port).copied()) {
                interface.mac = mac;
            }
        }
        slots.assign(spec);
        self.spec.clone()
    }

    /// [`spec`](Self::spec) and the tables made from it.
    ///
    /// # Errors
    /// What the compiler finds, at its places in the file.
    pub(crate) fn compile(
        &mut self,
        macs: &[Mac],
        slots: &mut Slots,
    ) -> Result<(Arc<Spec>, Tables), Vec<Diagnostic>> {
        let spec = self.spec(macs, slots);
        match Tables::compile(&spec) {
            Ok(tables) => Ok((spec, tables)),
            Err(errors) => {
                let mut findings: Vec<Diagnostic> =
                    errors.into_iter().map(|error| self.locate(error)).collect();
                findings.sort_by_key(|finding| (finding.line, finding.column));
                Err(findings)
            }
        }
    }

    /// What is odd about the limits that `tables` derived, and about the side that clamps are on.
    pub(crate) fn limit_warnings(&self, tables: &Tables) -> Vec<Diagnostic> {
        let mut findings = Findings::default();
        let sides = Sides::new(&self.spec);
        limit::add(&self.spec, &self.places, tables, &sides, &mut findings);
        sides.add(&self.places, &mut findings);
        mtu::add(&self.spec, &self.places, tables, &mut findings);
        findings.into_diagnostics(&self.source)
    }

    /// Where the value of an item's `key` comes from.
    pub(crate) fn origin(&self, item: Item, key: &str) -> Origin {
        let place = self.place(item);
        let line = self.source.line(place.map_or(0, |place| place.of(key)));
        Origin { line, key: place.and_then(|place| place.giver(key)) }
    }

    fn place(&self, item: Item) -> Option<&Place> {
        let places = &self.places;
        match item {
            Item::Interface(id) => places.interfaces.get(usize::from(id.0)),
            Item::Neighbor(index) => places.neighbors.get(index),
            Item::Tunnel(id) => places.tunnels.get(id.0 as usize),
            Item::Route(index) => places.routes.get(index),
            Item::Clamp(index) => places.clamps.get(index),
        }
    }

    fn locate(&self, error: SpecError) -> Diagnostic {
        let place = self.place(error.item);
        let (line, column) = self.source.position(place.map_or(0, |place| place.of(error.key)));
        let message = match error.item {
            Item::Tunnel(id) => match self.spec.tunnels.get(id.0 as usize) {
                Some(tunnel) => format!("tunnel \"{}\": {}", tunnel.name, error.message),
                None => error.message,
            },
            _ => error.message,
        };
        Diagnostic {
            file: self.file().to_owned(),
            line,
            column,
            severity: Severity::Error,
            message,
            help: None,
        }
    }
}
