//! `[[neighbor]]`: static neighbours.

use super::document::{Findings, Place, Source, Table};
use super::names::Names;
use super::network::{check_station, is_on, network_of};
use forwarder::table::{InterfaceId, NeighborSpec, Spec};
use ipnet::IpNet;
use std::collections::HashMap;
use std::net::IpAddr;

/// Reads every `[[neighbor]]` and adds it to `spec`. `on_link` are the prefixes that routes put on an interface;
/// `knows_networks` tells whether all addresses could be read.
pub(super) fn read(
    tables: Vec<Table<'_>>,
    names: &Names,
    on_link: &HashMap<InterfaceId, Vec<IpNet>>,
    knows_networks: bool,
    spec: &mut Spec,
    source: &Source,
    findings: &mut Findings,
) -> Vec<Place> {
    let mut places = Vec::new();
    let mut first: HashMap<(InterfaceId, IpAddr), usize> = HashMap::new();
    for mut table in tables {
        let interface =
            table.require("interface", findings).and_then(|value| names.interface(value, findings));
        let value = table.require("address", findings);
        let address = value.and_then(|value| value.address(findings));
        let mac = table.require("mac", findings).and_then(|value| value.mac(findings));
        if let (Some(value), Some(interface), Some(address)) = (value, interface, address) {
            let interface_spec = spec.interfaces.get(usize::from(interface.0));
            let name = interface_spec.map_or("", |interface| &interface.name);
            let is_own =
                interface_spec.is_some_and(|spec| spec.addresses.iter().any(|net| net.addr() == address));
            let routed =
                on_link.get(&interface).is_some_and(|nets| nets.iter().any(|net| net.contains(&address)));
            if is_own {
                let message =
                    format!("{address} is the box's own address on \"{name}\" (expected another station's)");
                findings.error(value.at(), message);
            } else if knows_networks && !routed && !is_on(spec, interface, address) {
                let message = format!(
                    "the neighbor is on no network of \"{name}\" (expected an address in one of {}, found {address})",
                    networks(interface_spec.map_or(&[], |interface| interface.addresses.as_slice()))
                );
                findings.error(value.at(), message).absence();
            }
            let network = interface_spec.and_then(|interface| network_of(&interface.addresses, address));
            check_station(network, address, "the neighbor", value.at(), findings);
            if let Some(line) = first.insert((interface, address), value.at()).map(|at| source.line(at)) {
                let message = format!(
                    "the neighbor {address} on \"{name}\" is in line {line} already (expected each once)"
                );
                findings.error(value.at(), message);
            }
            if let Some(mac) = mac {
                spec.neighbors.push(NeighborSpec { interface, address, mac });
                places.push(table.finish(findings));
                continue;
            }
        }
        table.finish(findings);
    }
    places
}

/// Networks in words.
pub(super) fn networks(nets: &[IpNet]) -> String {
    let nets: Vec<String> = nets.iter().map(|net| net.trunc().to_string()).collect();
    if nets.is_empty() { "its networks, of which it has none".to_owned() } else { nets.join(", ") }
}
