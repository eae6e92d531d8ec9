//! What a file may say and hardly can mean: tunnels and routes that lead to nobody, routes that never win, limits that
//! do not fit.

use super::Places;
use super::document::{Findings, Source};
use super::network::{Attached, Prefixes, connected};
use super::tunnel::named;
use forwarder::table::{ClampOn, InterfaceId, Mss, Remote, RouteTarget, Spec, Tables};
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

/// Bytes of IP and TCP headers without options: what an MSS leaves of an MTU (RFC 6691 §2).
const HEADERS: [(&str, u16); 2] = [("IPv4", 40), ("IPv6", 60)];

/// Adds the warnings about names and routes.
pub(super) fn add(spec: &Spec, places: &Places, source: &Source, findings: &mut Findings) {
    let connected = connected(spec);
    let mut routes: Prefixes<usize> = Prefixes::default();
    for (index, route) in spec.routes.iter().enumerate() {
        routes.add(route.prefix, index);
    }
    hidden_routes(spec, places, &connected, &routes, source, findings);
    let known: HashSet<(InterfaceId, IpAddr)> =
        spec.neighbors.iter().map(|neighbor| (neighbor.interface, neighbor.address)).collect();
    // One warning for each neighbour, however many routes it stands in.
    let mut missed: HashSet<(InterfaceId, IpAddr)> = HashSet::new();
    for (route, place) in spec.routes.iter().zip(&places.routes) {
        if let RouteTarget::Gateway { address, interface } = route.target
            && !known.contains(&(interface, address))
            && missed.insert((interface, address))
        {
            no_neighbor(spec, interface, address, place.of("gateway"), findings);
        }
    }
    for (tunnel, place) in spec.tunnels.iter().zip(&places.tunnels) {
        let Remote::One(remote) = tunnel.remote else { continue };
        let attached = connected.holding(remote);
        if attached.is_empty() && routes.holding(remote).is_empty() {
            let message = format!(
                "{} has no route to its `remote` (expected a route or connected network that holds {remote}): it cannot \
                 send",
                named(tunnel)
            );
            findings.warning(place.of("remote"), message);
        }
        // A route may be longer than the connected network and lead elsewhere.
        let is_routed = routes.holding(remote).iter().any(|index| {
            let len = spec.routes.get(*index).map_or(0, |route| route.prefix.prefix_len());
            len > longest(spec, attached, remote)
        });
        if let [Attached::Interface(interface)] = attached
            && !is_routed
            && !known.contains(&(*interface, remote))
            && missed.insert((*interface, remote))
        {
            no_neighbor(spec, *interface, remote, place.of("remote"), findings);
        }
    }
}

/// The length of the connected network on which `address` is.
fn longest(spec: &Spec, attached: &[Attached], address: IpAddr) -> u8 {
    let nets = attached.iter().filter_map(|attached| match attached {
        Attached::Interface(id) => spec.interfaces.get(usize::from(id.0)).map(|spec| &spec.addresses),
        Attached::Tunnel(id) => spec.tunnels.get(id.0 as usize).map(|spec| &spec.addresses),
    });
    nets.flatten().filter(|net| net.contains(&address)).map(|net| net.prefix_len()).max().unwrap_or(0)
}

fn no_neighbor(spec: &Spec, interface: InterfaceId, address: IpAddr, at: usize, findings: &mut Findings) {
    let name = spec.interfaces.get(usize::from(interface.0)).map_or("", |interface| &interface.name);
    let message = format!(
        "the next hop {address} has no [[neighbor]] on \"{name}\" (expected one, as this version does not learn \
         neighbors): packets to it are dropped"
    );
    let help = format!("add [[neighbor]] with interface = \"{name}\", address = \"{address}\" and its mac");
    findings.warning(at, message).help(help);
}

fn hidden_routes(
    spec: &Spec,
    places: &Places,
    connected: &Prefixes<Attached>,
    routes: &Prefixes<usize>,
    source: &Source,
    findings: &mut Findings,
) {
    let line = |index: usize| places.routes.get(index).map_or(0, |place| source.line(place.header()));
    let mut seen: HashMap<(ipnet::IpNet, u32, String), usize> = HashMap::new();
    for (index, (route, place)) in spec.routes.iter().zip(&places.routes).enumerate() {
        let rivals = routes.at(route.prefix);
        let best = rivals.iter().filter_map(|rival| Some((spec.routes.get(*rival)?.priority, *rival))).min();
        if !connected.at(route.prefix).is_empty() {
            let message =
                format!("{} is a connected network, which always wins over this route", route.prefix);
            findings.warning(place.of("prefix"), message);
        } else if let Some((priority, winner)) = best.filter(|(priority, _)| *priority < route.priority) {
            let message = format!(
                "the route is hidden by the one in line {} (priority {priority} wins over {} as long as that is up)",
                line(winner),
                route.priority
            );
            findings.warning(place.of("priority"), message);
        } else if rivals.len() > 1 {
            let identity = (route.prefix, route.priority, format!("{:?}", route.target));
            if let Some(first) = seen.insert(identity, index) {
                let message = format!(
                    "the same route as in line {} (expected another target, or one route with the sum of both weights)",
                    line(first)
                );
                findings.warning(place.header(), message);
            }
        }
    }
}

/// MSS limits that leave no room for the headers in what their tunnel carries.
pub(super) fn limits(spec: &Spec, places: &Places, tables: &Tables) -> Findings {
    let mut findings = Findings::default();
    let mtus: Vec<u16> = tables.summaries().iter().map(|summary| summary.mtu).collect();
    let mut check = |limits: [Option<u16>; 2], tunnel: usize, at: usize| {
        let (Some(mtu), Some(tunnel)) = (mtus.get(tunnel).copied(), spec.tunnels.get(tunnel)) else { return };
        for (limit, (family, headers)) in limits.into_iter().zip(HEADERS) {
            let room = mtu.saturating_sub(headers);
            if let Some(limit) = limit.filter(|limit| *limit > room) {
                let message = format!(
                    "the {family} MSS is more than {} carries (expected at most {room}, which is its mtu {mtu} less \
                     {headers} bytes of headers; found {limit})",
                    named(tunnel)
                );
                findings.warning(at, message);
            }
        }
    };
    for (index, (tunnel, place)) in spec.tunnels.iter().zip(&places.tunnels).enumerate() {
        if let Mss::Fixed { ipv4, ipv6 } = tunnel.mss {
            check([ipv4, ipv6], index, place.of("mss"));
        }
    }
    for (clamp, place) in spec.clamps.iter().zip(&places.clamps) {
        if let ClampOn::Tunnel(id) = clamp.on {
            // Keys are told apart, so that each family's finding stands at its own.
            check([clamp.ipv4, None], id.0 as usize, place.of("ipv4"));
            check([None, clamp.ipv6], id.0 as usize, place.of("ipv6"));
        }
    }
    findings
}
