//! `[[neighbor]]`: static neighbours.

use super::document::{Findings, Table};
use super::names::Names;
use super::network::{check_station, is_on, network_of, on_link};
use super::place::Place;
use super::source::Source;
use forwarder::table::{InterfaceId, NeighborSpec, Spec};
use ipnet::IpNet;
use std::collections::HashMap;
use std::net::IpAddr;

/// What neighbours are checked against.
pub(super) struct Neighbors<'a> {
    spec: &'a Spec,
    names: &'a Names,
    source: &'a Source,
    /// Prefixes that routes put on an interface.
    on_link: HashMap<InterfaceId, Vec<IpNet>>,
    /// Whether all addresses could be read.
    knows_networks: bool,
    /// Where each neighbour is first.
    first: HashMap<(InterfaceId, IpAddr), usize>,
}

impl<'a> Neighbors<'a> {
    pub(super) fn new(spec: &'a Spec, names: &'a Names, source: &'a Source, knows_networks: bool) -> Self {
        Neighbors { spec, names, source, on_link: on_link(spec), knows_networks, first: HashMap::new() }
    }

    /// Reads one `[[neighbor]]`.
    pub(super) fn read(
        &mut self,
        mut table: Table<'_>,
        findings: &mut Findings,
    ) -> Option<(NeighborSpec, Place)> {
        let interface =
            table.require("interface", findings).and_then(|value| self.names.interface(value, findings));
        let value = table.require("address", findings);
        let address = value.and_then(|value| value.address(findings));
        let mac = table.require("mac", findings).and_then(|value| value.mac(findings));
        if let (Some(value), Some(interface), Some(address)) = (value, interface, address) {
            let interface_spec = self.spec.interfaces.get(usize::from(interface.0));
            let name = interface_spec.map_or("", |interface| &interface.name);
            let is_own =
                interface_spec.is_some_and(|spec| spec.addresses.iter().any(|net| net.addr() == address));
            let routed = self
                .on_link
                .get(&interface)
                .is_some_and(|nets| nets.iter().any(|net| net.contains(&address)));
            if is_own {
                let message =
                    format!("{address} is the box's own address on \"{name}\" (expected another station's)");
                findings.error(value.at(), message);
            } else if self.knows_networks && !routed && !is_on(self.spec, interface, address) {
                let message = format!(
                    "the neighbor is on no network of \"{name}\" (expected an address in one of {}, found {address})",
                    networks(interface_spec.map_or(&[], |interface| interface.addresses.as_slice()))
                );
                findings.error(value.at(), message).absence();
            }
            let network = interface_spec.and_then(|interface| network_of(&interface.addresses, address));
            check_station(network, address, "the neighbor", value.at(), findings);
            if let Some(line) =
                self.first.insert((interface, address), value.at()).map(|at| self.source.line(at))
            {
                let message = format!(
                    "the neighbor {address} on \"{name}\" is in line {line} already (expected each once)"
                );
                findings.error(value.at(), message);
            }
            let place = table.finish(findings);
            return mac.map(|mac| (NeighborSpec { interface, address, mac }, place));
        }
        table.finish(findings);
        None
    }
}

/// Networks in words.
pub(super) fn networks(nets: &[IpNet]) -> String {
    let nets: Vec<String> = nets.iter().map(|net| net.trunc().to_string()).collect();
    if nets.is_empty() { "its networks, of which it has none".to_owned() } else { nets.join(", ") }
}
