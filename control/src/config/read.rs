//! A file's text into a [`Config`]: tables in the order in which they refer to each other, whatever their order in the
//! file.

use super::document::{Findings, Table};
use super::names::Names;
use super::neighbor::Neighbors;
use super::pieces::{Document, Pieces};
use super::plain::Entries;
use super::port::{Port, Ports};
use super::route::Routes;
use super::source::Source;
use super::{Config, ControlSocket, Places, Slots, System, clamp, syntax, system, tunnel, warning};
use crate::diagnostic::{Diagnostic, Severity};
use forwarder::table::{PortId, Spec, TunnelId};
use std::sync::Arc;

/// What a document says.
struct Read {
    system: System,
    control: ControlSocket,
    ports: Vec<Port>,
    spec: Spec,
    places: Places,
    findings: Findings,
}

/// Reads and checks everything.
pub(super) fn read(source: Source) -> Result<Config, Vec<Diagnostic>> {
    let text = source.text();
    let in_pieces =
        Pieces::cut(&text).and_then(|pieces| read_document(&Document::in_pieces(&pieces)?, &source));
    let read = in_pieces.or_else(|| read_document(&Document::whole(&text), &source));
    drop(text);
    // A whole document has no items that are parsed one by one, so none that are not what they promised.
    let Some(read) = read else { unreachable!("a whole document is regular") };
    let Read { system, control, ports, spec, places, mut findings } = read;
    let is_good = findings.errors() == 0;
    let is_whole = findings.gaps() == 0;
    if is_good {
        warning::add(&spec, &places, &source, system.worker_cores.len(), &mut findings);
    }
    let refusals = findings.refusals(&source);
    let mut found = findings.into_diagnostics(&source);
    let spec = Arc::new(spec);
    let mut config = Config { system, control, ports, warnings: Vec::new(), refusals, spec, source, places };
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

/// `None` where the document turns out not to be one that can be read item by item.
fn read_document(document: &Document<'_>, source: &Source) -> Option<Read> {
    let mut findings = Findings::default();
    let mut root = Table::new(Entries::Parsed(document.root()), "the file", 0, 0);
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

    let mut items = Items { document, root };
    let mut reader = Ports::new(source, &mut names, &mut spec, &mut places.interfaces);
    let mut ports = Vec::new();
    let mut ids = (0..u16::MAX).map(PortId);
    items.each("port", "[[port]]", &mut findings, |table, _, findings| {
        if let Some(id) = ids.next() {
            ports.push(reader.read(id, table, findings));
        }
    });
    if ports.is_empty() {
        findings.error(0, "no [[port]] (expected at least one, found none)").absence();
    }
    if spec.interfaces.len() > usize::from(u16::MAX) {
        let message = format!("{} ports and VLANs (expected at most {})", spec.interfaces.len(), u16::MAX);
        findings.error(0, message);
    }

    let mut ids = (0..u32::MAX).map(TunnelId);
    let (tunnels, routes) = (document.count("tunnel"), document.count("route"));
    names.reserve(tunnels);
    spec.tunnels.reserve_exact(tunnels);
    places.tunnels.reserve_exact(tunnels);
    places.routes.reserve_exact(routes);
    items.each("tunnel", "[[tunnel]]", &mut findings, |table, count, findings| {
        if let Some(id) = ids.next() {
            let (tunnel, place) = tunnel::read(id, count, table, &mut names, source, findings);
            spec.tunnels.push(tunnel);
            places.tunnels.push(place);
        }
    });
    // An address that could not be read leaves gateways on its network without one; saying so would mislead.
    let knows_networks = findings.gaps() == 0;

    let reader = Routes::new(&spec, &names, knows_networks);
    let mut routes = Vec::with_capacity(routes);
    items.each("route", "[[route]]", &mut findings, |table, _, findings| {
        if let Some((route, place)) = reader.read(table, findings) {
            routes.push(route);
            places.routes.push(place);
        }
    });
    spec.routes = routes;

    let mut reader = Neighbors::new(&spec, &names, source, knows_networks);
    let mut neighbors = Vec::new();
    findings.aside(|findings| {
        items.each("neighbor", "[[neighbor]]", findings, |table, _, findings| {
            if let Some((neighbor, place)) = reader.read(table, findings) {
                neighbors.push(neighbor);
                places.neighbors.push(place);
            }
        });
    });
    spec.neighbors = neighbors;

    items.each("mss_clamp", "[[mss_clamp]]", &mut findings, |table, _, findings| {
        if let Some((clamp, place)) = findings.aside(|findings| clamp::read(table, &names, findings)) {
            spec.clamps.push(clamp);
            places.clamps.push(place);
        }
    });

    items.root.finish(&mut findings);
    syntax::add(document.errors(), document.root(), source, &mut findings);
    (!document.is_irregular()).then_some(Read { system, control, ports, spec, places, findings })
}

/// The items of a document, in the one way of keeping them or the other.
struct Items<'a> {
    document: &'a Document<'a>,
    root: Table<'a>,
}

impl Items<'_> {
    /// Hands each item of a kind to `read`, with how many there are.
    fn each(
        &mut self,
        key: &'static str,
        name: &'static str,
        findings: &mut Findings,
        mut read: impl FnMut(Table<'_>, usize, &mut Findings),
    ) {
        let tables = self.root.tables(key, name, findings);
        let count = tables.len() + self.document.count(key);
        tables.into_iter().for_each(|table| read(table, count, findings));
        self.document.each(key, name, |table| read(table, count, findings));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const EXAMPLE: &str = include_str!("../../../docs/examples/ingest.toml");

    /// Everything that was read, in words.
    fn told(read: Read, source: &Source) -> String {
        let Read { system, control, ports, spec, places, findings } = read;
        let found = findings.into_diagnostics(source);
        format!("{system:#?}\n{control:#?}\n{ports:#?}\n{spec:#?}\n{places:#?}\n{found:#?}")
    }

    /// Whether `text` can be read item by item; then it has to say the same as the whole.
    fn is_read_in_pieces(text: &str) -> bool {
        let source = Source::new("f", text.to_owned());
        let pieces = Pieces::cut(text);
        let document = pieces.as_ref().and_then(Document::in_pieces);
        let Some(read) = document.and_then(|document| read_document(&document, &source)) else {
            return false;
        };
        let whole = Document::whole(text);
        assert!(whole.errors().is_empty(), "{:?} in\n{text}", whole.errors());
        let whole = read_document(&whole, &source).unwrap();
        assert_eq!(told(read, &source), told(whole, &source), "in\n{text}");
        true
    }

    #[test]
    fn a_good_file_is_read_item_by_item() {
        assert!(is_read_in_pieces(EXAMPLE));
    }

    proptest! {
        #[test]
        fn a_file_in_pieces_says_what_the_whole_says(
            edits in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0..3), 0..5),
        ) {
            let mut lines: Vec<&str> = EXAMPLE.lines().collect();
            for (at, other, edit) in edits {
                let (at, other) = (at.index(lines.len()), other.index(lines.len()));
                match edit {
                    0 => drop(lines.remove(at)),
                    1 => lines.insert(at, lines[other]),
                    _ => lines.swap(at, other),
                }
            }
            is_read_in_pieces(&(lines.join("\n") + "\n"));
        }
    }
}
