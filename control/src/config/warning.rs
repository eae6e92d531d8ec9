//! What a file may say and hardly can mean: tunnels and routes that lead to nobody, routes that never win, tunnels that
//! take each other's packets. Keys without effect are in [`super::effect`], numbers in [`super::limit`].

use super::Places;
use super::document::Findings;
use super::effect;
use super::network::{Attached, Prefixes, check_station, connected};
use super::source::Source;
use super::tunnel::named;
use forwarder::scope::{Scope, holds_unicast, scope};
use forwarder::table::{Encap, InterfaceId, Remote, RouteTarget, Spec};
use ipnet::IpNet;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

/// Adds the warnings about names and routes.
pub(super) fn add(spec: &Spec, places: &Places, source: &Source, workers: usize, findings: &mut Findings) {
    effect::add(spec, places, findings);
    shared_networks(spec, places, source, findings);
    sequences(spec, places, workers, findings);
    let own: HashSet<IpAddr> = own_addresses(spec).collect();
    let connected = connected(spec);
    let routes: Prefixes<usize> =
        spec.routes.iter().enumerate().map(|(index, route)| (route.prefix, index)).collect();
    hidden_routes(spec, places, &connected, &routes, source, findings);
    unused_routes(spec, places, &own, findings);
    overlapping_senders(spec, places, source, findings);
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
        let (local, at) = (tunnel.local, place.of("local"));
        check_station(connected.network(local), local, "the tunnel's `local`", at, findings);
        let Remote::One(remote) = tunnel.remote else { continue };
        if own.contains(&remote) {
            let message = format!(
                "the `remote` of {} is an address of this box (expected the other end's, found {remote})",
                named(tunnel)
            );
            findings.warning(place.of("remote"), message).help("write the other end's address");
            continue;
        }
        let (network, attached) = connected.longest(remote).unzip();
        let attached = attached.unwrap_or_default();
        let at = place.of("remote");
        if check_station(network, remote, "the remote end", at, findings) {
            continue;
        }
        let route = routes.network(remote);
        if attached.is_empty() && route.is_none() {
            let message = format!(
                "{} has no route to its `remote` (expected a route or connected network that holds {remote}): it cannot \
                 send",
                named(tunnel)
            );
            let help = format!(
                "add [[route]] with prefix = \"{}\" and its gateway or interface",
                IpNet::from(remote)
            );
            findings.warning(place.of("remote"), message).help(help);
        }
        // A route may be longer than the connected network and lead elsewhere.
        let len = |network: Option<IpNet>| network.map_or(0, |network| network.prefix_len());
        let is_routed = len(route) > len(network);
        if let [Attached::Interface(interface)] = attached
            && !is_routed
            && !known.contains(&(*interface, remote))
            && missed.insert((*interface, remote))
        {
            no_neighbor(spec, *interface, remote, place.of("remote"), findings);
        }
    }
}

fn own_addresses(spec: &Spec) -> impl Iterator<Item = IpAddr> + '_ {
    let of_interfaces = spec.interfaces.iter().flat_map(|interface| &interface.addresses);
    let of_tunnels = spec.tunnels.iter().flat_map(|tunnel| &tunnel.addresses);
    let locals = spec.tunnels.iter().map(|tunnel| tunnel.local);
    of_interfaces.chain(of_tunnels).map(IpNet::addr).chain(locals)
}

/// One network on several interfaces or tunnels: flows to it are shared between them, and its hosts are on one.
fn shared_networks(spec: &Spec, places: &Places, source: &Source, findings: &mut Findings) {
    let interfaces = spec.interfaces.iter().map(|spec| &spec.addresses[..]).zip(&places.interfaces);
    let tunnels = spec.tunnels.iter().map(|spec| &spec.addresses[..]).zip(&places.tunnels);
    let mut first: HashMap<IpNet, (usize, usize)> = HashMap::new();
    let mut addresses: HashMap<IpAddr, (usize, usize, IpNet)> = HashMap::new();
    for (index, (nets, place)) in interfaces.chain(tunnels).enumerate() {
        // One address of several interfaces is well where it has no network of its own: a tunnel borrows an interface's.
        for net in nets.iter().filter(|net| net.prefix_len() < net.max_prefix_len()) {
            let (other, at, same) =
                *addresses.entry(net.addr()).or_insert((index, place.of("addresses"), *net));
            let is_link_local = scope(net.addr()) == Scope::LinkUnicast;
            if other != index && same.trunc() != net.trunc() && !is_link_local {
                let message = format!(
                    "the address {} is that of line {}, too, in a network of another length (expected each address in one \
                     place)",
                    net.addr(),
                    source.line(at)
                );
                let help =
                    format!("write \"{}\" where it has no network of its own", IpNet::from(net.addr()));
                findings.warning(place.of("addresses"), message).help(help);
            }
        }
        for net in nets.iter().map(IpNet::trunc) {
            let is_link_local = matches!(net, IpNet::V6(net) if net.addr().is_unicast_link_local());
            let (other, at) = *first.entry(net).or_insert((index, place.of("addresses")));
            if other != index && !is_link_local {
                let message = format!(
                    "the network {net} is that of line {}, too (expected each network in one place): packets to its hosts \
                     are shared between both",
                    source.line(at)
                );
                findings.warning(place.of("addresses"), message).help("give one of them another network");
            }
        }
    }
}

/// Every worker counts by itself, so a receiver that wants the numbers in order sees them jump.
fn sequences(spec: &Spec, places: &Places, workers: usize, findings: &mut Findings) {
    for (tunnel, place) in spec.tunnels.iter().zip(&places.tunnels) {
        if tunnel.sequence && workers > 1 && matches!(tunnel.remote, Remote::One(_)) {
            let message = format!(
                "each of the {workers} workers counts the sequence numbers of {} by itself: a receiver that insists on their \
                 order (RFC 2890 §2.2) drops packets",
                named(tunnel)
            );
            findings.warning(place.of("sequence"), message).help("use one worker, or leave `sequence` away");
        }
    }
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
    let mut seen: HashMap<(IpNet, u32, String), usize> = HashMap::new();
    for (index, (route, place)) in spec.routes.iter().zip(&places.routes).enumerate() {
        let rivals = routes.at(route.prefix);
        let best = rivals.iter().filter_map(|rival| Some((spec.routes.get(*rival)?.priority, *rival))).min();
        if !connected.at(route.prefix).is_empty() {
            let message =
                format!("{} is a connected network, which always wins over this route", route.prefix);
            findings.warning(place.of("prefix"), message).help("leave the route away");
        } else if let Some((priority, winner)) = best.filter(|(priority, _)| *priority < route.priority) {
            let message = format!(
                "the route is hidden by the one in line {} (priority {priority} wins over {} as long as that is up)",
                line(winner),
                route.priority
            );
            let help = "leave it away, unless it is to stand by; write the same priority to share by weight";
            findings.warning(place.of("priority"), message).help(help);
        } else if rivals.len() > 1 {
            let identity = (route.prefix, route.priority, format!("{:?}", route.target));
            if let Some(first) = seen.insert(identity, index) {
                let message = format!(
                    "the same route as in line {} (expected another target, or one route with the sum of both weights)",
                    line(first)
                );
                findings.warning(place.header(), message).help("leave one away");
            }
        }
    }
}

/// Routes that no packet takes, because its destination is never forwarded or is the box's own.
fn unused_routes(spec: &Spec, places: &Places, own: &HashSet<IpAddr>, findings: &mut Findings) {
    let remotes: Vec<IpAddr> = spec
        .tunnels
        .iter()
        .filter_map(|tunnel| match tunnel.remote {
            Remote::One(remote) if scope(remote) == Scope::LinkUnicast => Some(remote),
            _ => None,
        })
        .collect();
    for (route, place) in spec.routes.iter().zip(&places.routes) {
        let prefix = route.prefix;
        let is_one = prefix.prefix_len() == prefix.max_prefix_len();
        let is_link_local = prefix.prefix_len() >= 10 && scope(prefix.network()) == Scope::LinkUnicast;
        let why = if !holds_unicast(prefix) {
            "loopback, multicast and reserved destinations are never forwarded"
        } else if is_link_local && !remotes.iter().any(|remote| prefix.contains(remote)) {
            "link-local destinations are never forwarded (RFC 4291 §2.5.6)"
        } else if is_one && own.contains(&prefix.addr()) {
            "it is an address of this box, whose packets are not forwarded"
        } else {
            continue;
        };
        let message = format!(
            "the route to {prefix} is never taken: {why} (expected a prefix of unicast destinations elsewhere, found {prefix})"
        );
        findings.warning(place.of("prefix"), message).help("leave the route away");
    }
}

/// Tunnels that are alike but for their senders, where those of one lie within those of another. "any" is meant to take
/// what is left and overlaps with nothing.
fn overlapping_senders(spec: &Spec, places: &Places, source: &Source, findings: &mut Findings) {
    let mut alike: HashMap<_, (HashMap<IpNet, usize>, BTreeSet<u8>)> = HashMap::new();
    let mut senders: Vec<(_, IpNet, usize)> = Vec::new();
    if spec.tunnels.iter().all(|tunnel| matches!(tunnel.remote, Remote::One(_))) {
        // Addresses of full length hold no others; two that are the same are the compiler's to find.
        return;
    }
    for (index, tunnel) in spec.tunnels.iter().enumerate() {
        let udp = tunnel.udp.map(|udp| (udp.kind, udp.port));
        let identity = (tunnel.local, tunnel.encap, tunnel.key, udp);
        let prefixes = match &tunnel.remote {
            Remote::One(remote) => vec![IpNet::from(*remote)],
            Remote::Senders(senders) => senders.to_vec(),
        };
        for prefix in prefixes {
            let (others, lens) = alike.entry(identity).or_default();
            others.insert(prefix, index);
            lens.insert(prefix.prefix_len());
            senders.push((identity, prefix, index));
        }
    }
    for (identity, sender, index) in senders {
        let Some((others, lens)) = alike.get(&identity) else { continue };
        let wider = lens.range(1..sender.prefix_len().max(1)).rev().find_map(|len| {
            let prefix = IpNet::new(sender.addr(), *len).ok()?.trunc();
            Some((prefix, *others.get(&prefix)?))
        });
        let (Some((prefix, other)), Some(place)) = (wider, places.tunnels.get(index)) else { continue };
        let (Some(tunnel), Some(rival)) = (spec.tunnels.get(index), spec.tunnels.get(other)) else {
            continue;
        };
        if index == other {
            let message = format!("the sender {sender} is within {prefix} of the same list: it adds nothing");
            findings.warning(place.of("remote"), message).help(format!("leave {sender} away"));
            continue;
        }
        let line = places.tunnels.get(other).map_or(0, |place| source.line(place.of("remote")));
        let message = format!(
            "the sender {sender} of {} is within {prefix} of {} in line {line}, which is alike otherwise: its packets come \
             out of the former only, and the latter's inner_source, mss and counters do not hold for them",
            named(tunnel),
            named(rival)
        );
        let help = match tunnel.encap {
            Encap::Gre => "give each its own `key`, or senders that do not overlap",
            Encap::Ip => "give each its own `local`, or senders that do not overlap",
        };
        findings.warning(place.of("remote"), message).help(help);
    }
}
