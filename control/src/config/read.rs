//! A file's text into a [`Config`]: tables in the order in which they refer to each other, whatever their order in the
//! file.

use super::document::{Findings, Source, Table};
use super::names::Names;
use super::network::on_link;
use super::port::Ports;
use super::route::Routes;
use super::{Config, Places, Slots, clamp, neighbor, syntax, system, tunnel, warning};
use crate::diagnostic::{Diagnostic, Severity};
use forwarder::table::{PortId, Spec, TunnelId};
use toml::de::DeTable;

/// Reads and checks everything.
pub(super) fn read(source: Source) -> Result<Config, Vec<Diagnostic>> {
    let mut findings = Findings::default();
    let text = source.text().to_owned();
    let (document, syntax_errors) = DeTable::parse_recoverable(&text);
    let mut root = Table::new(document.get_ref(), "the file", 0);
    let mut spec = Spec::default();
    let mut places = Places::default();
    let mut names = Names::default();
    let (system, control) = findings.aside(|findings| {
        let system = system::read_system(&mut root, findings);
        let control = system::read_control(&mut root, findings);
        system::read_kernel(&mut root, findings);
        spec.icmp = system::read_icmp(&mut root, findings);
        (system, control)
    });

    let tables = root.tables("port", "[[port]]", &mut findings);
    let mut reader = Ports::new(&source, &mut names, &mut spec, &mut places.interfaces);
    let read_port = |(id, table)| reader.read(PortId(id), table, &mut findings);
    let ports: Vec<_> = (0..u16::MAX).zip(tables).map(read_port).collect();
    if ports.is_empty() {
        findings.error(0, "no [[port]] (expected at least one, found none)").absence();
    }
    if spec.interfaces.len() > usize::from(u16::MAX) {
        let message = format!("{} ports and VLANs (expected at most {})", spec.interfaces.len(), u16::MAX);
        findings.error(0, message);
    }

    let tables = root.tables("tunnel", "[[tunnel]]", &mut findings);
    let count = tables.len();
    for (id, table) in (0..u32::MAX).zip(tables) {
        let (tunnel, place) = tunnel::read(TunnelId(id), count, table, &mut names, &source, &mut findings);
        spec.tunnels.push(tunnel);
        places.tunnels.push(place);
    }
    // An address that could not be read leaves gateways on its network without one; saying so would mislead.
    let knows_networks = findings.gaps() == 0;

    let tables = root.tables("route", "[[route]]", &mut findings);
    let reader = Routes::new(&spec, &names, knows_networks);
    let routes: Vec<_> = tables.into_iter().filter_map(|table| reader.read(table, &mut findings)).collect();
    (spec.routes, places.routes) = routes.into_iter().unzip();

    let tables = root.tables("neighbor", "[[neighbor]]", &mut findings);
    let on_link = on_link(&spec);
    places.neighbors = findings.aside(|findings| {
        neighbor::read(tables, &names, &on_link, knows_networks, &mut spec, &source, findings)
    });

    let tables = root.tables("mss_clamp", "[[mss_clamp]]", &mut findings);
    let read_clamp = |table| findings.aside(|findings| clamp::read(table, &names, findings));
    let clamps: Vec<_> = tables.into_iter().filter_map(read_clamp).collect();
    (spec.clamps, places.clamps) = clamps.into_iter().unzip();

    root.finish(&mut findings);
    syntax::add(&syntax_errors, document.get_ref(), &source, &mut findings);
    let is_good = findings.errors() == 0;
    let is_whole = findings.gaps() == 0;
    if is_good {
        warning::add(&spec, &places, &source, system.worker_cores.len(), &mut findings);
    }
    let refusals = findings.refusals(&source);
    let mut found = findings.into_diagnostics(&source);
    let mut config =
        Config { system, control, ports, warnings: Vec::new(), refusals, draft: spec, source, places };
    if is_good {
        debug_assert!(found.iter().all(|finding| finding.severity == Severity::Warning));
        config.warnings = found;
        return Ok(config);
    }
    // What the tables are made from is there although something else is wrong: what is wrong with them is said, too.
    if is_whole && let Err(errors) = config.compile(&config.stand_in_macs(), &mut Slots::default()) {
        found.extend(errors);
        found.sort_by_key(|finding| (finding.line, finding.column));
    }
    Err(found)
}
