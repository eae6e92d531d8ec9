//! From [`Spec`] to [`Tables`]: routes with their next hops, the box's addresses, tunnels by what arrives for them.
//!
//! Runs on the control thread. Every finding is collected, so that an operator sees all of them at once; tables are only
//! made where there is none. How tunnels lie in each other is worked out in [`super::stack`].

use super::stack::{self, Stacks};
use super::*;
use crate::tunnel::decap::Framing;
use crate::tunnel::mss::Limits;
use crate::wire::ethernet::{Ethernet, EthernetRepr};
use crate::wire::ethertype;
use crate::wire::vlan::VlanRepr;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};

/// What the next tables are told by: written and read by whoever compiles.
static SERIAL: AtomicU64 = AtomicU64::new(1);

/// Connected routes win over any that an operator gives for the same prefix.
const CONNECTED: i64 = -1;

/// Tunnels up to which what is looked up stays in the caches of a core.
const CACHED_TUNNELS: usize = 4_096;

/// The same for the bytes of one family's routes.
const CACHED_ROUTES: usize = 2 << 20;

/// A route's target before neighbours are looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Next {
    Gateway(InterfaceId, IpAddr),
    OnLink(InterfaceId),
    Tunnel(TunnelId),
}

pub(super) fn compile(spec: &Spec) -> Result<Tables, Vec<SpecError>> {
    let mut errors = Vec::new();
    let locals = local_addresses(spec, &mut errors);
    let numbers: Numbers = locals.keys().copied().zip(0..).collect();
    let endpoints = endpoints(spec, &numbers, &mut errors);
    let reassembling = reassembling(spec, &numbers);
    let clamps = ClampsOn::new(spec);
    let interfaces = interfaces(spec, &clamps);
    let mut links = Links::new(spec);
    let mut routes = routes(spec, &mut links);
    let stacks = Stacks { spec, routes: &routes, interfaces: &interfaces, clamps: &clamps };
    let (tunnels, summaries, images) = stack::tunnels(&stacks, links.images, &mut errors);
    if !errors.is_empty() {
        return Err(errors);
    }
    routes.shorten(|ways| match ways.only()? {
        Way::Neighbor(_, image) => Some(*image),
        Way::Tunnel(id) => tunnels.get(id.0 as usize)?.exits.only().copied()?.ok(),
        Way::Unresolved(_) => None,
    });
    routes.add_locals(locals.keys().copied());
    let has_many_routes = routes.ipv4.bytes().max(routes.ipv6.bytes()) > CACHED_ROUTES;
    Ok(Tables {
        serial: SERIAL.fetch_add(1, Ordering::Relaxed),
        ports: ports(spec),
        interfaces,
        tunnels,
        locals: locals.into_values().collect(),
        endpoints,
        reassembling,
        routes: routes.in_large_pages(),
        images,
        summaries,
        speakers: speakers(spec),
        icmp: spec.icmp,
        is_large: spec.tunnels.len() > CACHED_TUNNELS || has_many_routes,
        has_many_routes,
        is_for_one_worker: spec.tunnels.iter().any(|tunnel| tunnel.reassembly || tunnel.sequence),
    })
}

/// Of several addresses of a family the first in the file speaks; a tunnel without one lets its `local` speak.
fn speakers(spec: &Spec) -> Speakers {
    fn first(addresses: impl Iterator<Item = IpAddr>) -> Speaker {
        let mut speaker = [None, None];
        for address in addresses {
            let [ipv4, ipv6] = &mut speaker;
            if address.is_ipv4() { ipv4 } else { ipv6 }.get_or_insert(address);
        }
        speaker
    }
    let interface = |interface: &InterfaceSpec| first(interface.addresses.iter().map(IpNet::addr));
    fn addresses_of(tunnel: &TunnelSpec) -> impl Iterator<Item = IpAddr> + '_ {
        tunnel.addresses.iter().map(IpNet::addr).chain([tunnel.local])
    }
    // Most tunnels have the same local address and none inside, so they are few.
    let mut numbers: HashMap<Speaker, u32> = HashMap::new();
    let mut different = Vec::new();
    let tunnels = spec.tunnels.iter().map(|tunnel| {
        let speaker = first(addresses_of(tunnel));
        *numbers.entry(speaker).or_insert_with(|| {
            different.push(speaker);
            different.len() as u32 - 1
        })
    });
    let tunnels = tunnels.collect();
    let of_interfaces =
        spec.interfaces.iter().flat_map(|interface| interface.addresses.iter().map(IpNet::addr));
    Speakers {
        interfaces: spec.interfaces.iter().map(interface).collect(),
        tunnels,
        different,
        any: first(of_interfaces.chain(spec.tunnels.iter().flat_map(addresses_of))),
    }
}

fn ports(spec: &Spec) -> Vec<Port> {
    let mut ports: Vec<Port> = Vec::new();
    for (index, interface) in spec.interfaces.iter().enumerate() {
        let id = InterfaceId(index as u16);
        let number = usize::from(interface.port.0);
        while ports.len() <= number {
            ports.push(Port { mac: interface.mac, untagged: None, vlans: Vec::new() });
        }
        if let Some(port) = ports.get_mut(number) {
            port.mac = interface.mac;
            match interface.vlan {
                None => port.untagged = Some(id),
                Some(vlan) => port.vlans.push((vlan, id)),
            }
        }
    }
    ports
}

fn interfaces(spec: &Spec, clamps: &ClampsOn) -> Vec<Interface> {
    let interface = |(index, interface): (usize, &InterfaceSpec)| {
        let (clamps_in, clamps_out) = clamps.of(ClampOn::Interface(InterfaceId(index as u16)));
        Interface { mtu: usize::from(interface.mtu), clamps_in, clamps_out }
    };
    spec.interfaces.iter().enumerate().map(interface).collect()
}

/// The clamps on what comes in and on what goes out, by what they are on.
pub(super) struct ClampsOn(HashMap<ClampOn, (Clamps, Clamps)>);

impl ClampsOn {
    fn new(spec: &Spec) -> Self {
        let mut by_place: HashMap<ClampOn, (Clamps, Clamps)> = HashMap::new();
        for clamp in &spec.clamps {
            let (clamps_in, clamps_out) = by_place.entry(clamp.on).or_default();
            let limits = Limits { ipv4: clamp.ipv4, ipv6: clamp.ipv6 };
            if clamp.input {
                clamps_in.add(clamp.prefix, limits);
            }
            if clamp.output {
                clamps_out.add(clamp.prefix, limits);
            }
        }
        ClampsOn(by_place)
    }

    pub(super) fn of(&self, on: ClampOn) -> (Clamps, Clamps) {
        self.0.get(&on).cloned().unwrap_or_default()
    }
}

/// The box's addresses with what each takes in; their order numbers them. One address and UDP port has one framing.
fn local_addresses(spec: &Spec, errors: &mut Vec<SpecError>) -> BTreeMap<IpAddr, Local> {
    let mut takes: BTreeMap<IpAddr, Local> = BTreeMap::new();
    let interface_nets = || spec.interfaces.iter().flat_map(|interface| &interface.addresses);
    for net in interface_nets() {
        // A subnet's broadcast address is the host's, not forwarded (RFC 1812 §5.3.5); /31 has none (RFC 3021).
        if let IpNet::V4(net) = net
            && net.prefix_len() < 31
        {
            takes.entry(IpAddr::V4(net.broadcast())).or_default().is_broadcast = true;
        }
    }
    for net in interface_nets() {
        takes.insert(net.addr(), Local::default());
    }
    let mut first_on_port: HashMap<(IpAddr, u16), (&str, Framing)> = HashMap::new();
    for (index, tunnel) in spec.tunnels.iter().enumerate() {
        for net in &tunnel.addresses {
            let local = takes.entry(net.addr()).or_default();
            local.is_broadcast = false;
            local.answers_echo = true;
        }
        let local = takes.entry(tunnel.local).or_default();
        local.is_broadcast = false;
        local.answers_echo = true;
        match (tunnel.udp, tunnel.encap) {
            (None, Encap::Gre) => local.gre = true,
            (None, Encap::Ip) => local.ip = true,
            (Some(udp), encap) => {
                let framing = Framing::of(udp.kind, encap);
                let first = *first_on_port.entry((tunnel.local, udp.port)).or_insert((&tunnel.name, framing));
                let present = local.udp.iter_mut().find(|(port, _)| *port == udp.port);
                match (present, first.1.beside(framing)) {
                    (None, _) => local.udp.push((udp.port, framing)),
                    (Some((_, present)), Some(_)) => *present = present.beside(framing).unwrap_or(*present),
                    (Some(_), None) => errors.push(SpecError {
                        item: Item::Tunnel(TunnelId(index as u32)),
                        key: "udp.port",
                        message: format!(
                            "UDP port {} of {} cannot carry {}: tunnel \"{}\" has {} there (expected one kind for an \
                             address and port, as nothing in the packet tells them apart)",
                            udp.port,
                            tunnel.local,
                            describe(framing),
                            first.0,
                            describe(first.1),
                        ),
                    }),
                }
            }
        }
    }
    takes
}

fn describe(framing: Framing) -> &'static str {
    match framing {
        Framing::Fou(Encap::Gre) => "GRE in FOU",
        Framing::Fou(Encap::Ip) => "IP in FOU",
        Framing::GreInUdp => "GRE-in-UDP",
        Framing::Gue { .. } => "GUE",
    }
}

/// The box's addresses with their numbers.
type Numbers = HashMap<IpAddr, u32>;

fn endpoints(spec: &Spec, numbers: &Numbers, errors: &mut Vec<SpecError>) -> Endpoints {
    let mut table = Endpoints::new(spec.tunnels.iter().flat_map(senders));
    for (index, tunnel) in spec.tunnels.iter().enumerate() {
        let id = TunnelId(index as u32);
        let udp = tunnel.udp.map(|udp| (udp.kind, udp.port));
        let selector = Selector { udp, encap: tunnel.encap, key: tunnel.key };
        let Some(local) = numbers.get(&tunnel.local) else { continue };
        for sender in senders(tunnel) {
            let first = table.insert(*local, sender, selector, taker(id, tunnel));
            let Some(first) = first.filter(|first| *first != id) else { continue };
            let first = spec.tunnels.get(first.0 as usize).map_or("", |tunnel| &tunnel.name);
            errors.push(SpecError {
                item: Item::Tunnel(id),
                key: "remote",
                message: format!(
                    "takes the same packets as tunnel \"{first}\" (expected a difference in local, encap, UDP port, \
                     key or sender; found {sender} to {} in both)",
                    tunnel.local
                ),
            });
        }
    }
    table
}

/// Which fragments are kept: those of a tunnel that says so, by what each of them shows.
fn reassembling(spec: &Spec, numbers: &Numbers) -> Endpoints {
    let tunnels = || (0..).map(TunnelId).zip(&spec.tunnels).filter(|(_, tunnel)| tunnel.reassembly);
    let ends =
        || tunnels().flat_map(|(id, tunnel)| senders(tunnel).into_iter().map(move |net| (id, tunnel, net)));
    let mut table = Endpoints::new(ends().map(|(.., sender)| sender));
    for (id, tunnel, sender) in ends() {
        if let Some(local) = numbers.get(&tunnel.local) {
            table.insert(*local, sender, Selector::NOTHING, taker(id, tunnel));
        }
    }
    table
}

fn taker(id: TunnelId, tunnel: &TunnelSpec) -> Taker {
    Taker {
        id,
        slot: tunnel.slot,
        takes_zero_checksum: tunnel.udp.is_some_and(|udp| udp.checksum == UdpChecksum::Zero),
        is_uniform: tunnel.dscp == Dscp::Uniform,
        has_inner_source: !tunnel.inner_source.is_empty(),
    }
}

/// Whom a tunnel takes packets from.
fn senders(tunnel: &TunnelSpec) -> Vec<IpNet> {
    match &tunnel.remote {
        Remote::One(address) => vec![IpNet::from(*address)],
        Remote::Senders(senders) => senders.iter().map(IpNet::trunc).collect(),
    }
}

/// Routes of both families: connected ones, the operator's, and one to each neighbour on a connected network.
fn routes(spec: &Spec, links: &mut Links<'_>) -> Routes {
    let candidates = candidates(spec);
    let mut numbers: Vec<(IpNet, u32)> = Vec::new();
    let mut ways: Vec<Choice<Way>> = Vec::new();
    // Many routes have the same next hops, and most have one.
    let mut known: HashMap<Vec<(u64, Next)>, u32> = HashMap::new();
    let mut known_one: HashMap<(u64, Next), u32> = HashMap::new();
    let mut by_number: Vec<&[Candidate]> = Vec::new();
    let mut targets: Vec<(u64, Next)> = Vec::new();
    for of_prefix in candidates.chunk_by(|a, b| a.prefix == b.prefix) {
        let Some(best) = of_prefix.chunk_by(|a, b| a.priority == b.priority).next() else { continue };
        let Some(Candidate { prefix, .. }) = best.first() else { continue };
        targets.clear();
        targets.extend(best.iter().map(|candidate| (candidate.weight, candidate.next)));
        let there = match targets[..] {
            [only] => known_one.get(&only),
            _ => known.get(targets.as_slice()),
        };
        let number = match there {
            Some(number) => *number,
            None => {
                let number = ways.len() as u32;
                ways.push(Choice::new(
                    targets.iter().map(|(weight, next)| (*weight, links.way(*next, None))),
                ));
                by_number.push(best);
                match targets[..] {
                    [only] => known_one.insert(only, number),
                    _ => known.insert(targets.clone(), number),
                };
                number
            }
        };
        numbers.push((*prefix, number));
    }
    // A destination on a connected network is its own next hop: where the best route to a neighbour leads there directly,
    // it gets a route of its own that has the address filled in.
    let mut routes = Routes::new(&numbers, ways);
    let neighbors: BTreeSet<IpAddr> = spec.neighbors.iter().map(|neighbor| neighbor.address).collect();
    for address in neighbors {
        let Some(Hit::Ways(number)) = routes.hit(address) else { continue };
        let Some(targets) = by_number.get(number as usize) else { continue };
        let leads_there = |target: &Candidate| match target.next {
            Next::OnLink(interface) => links.hops.contains_key(&(interface, address)),
            _ => false,
        };
        if targets.iter().any(leads_there) {
            // The same network may be on other interfaces as well, where this neighbour is not.
            let hops = &links.hops;
            let elsewhere = |next: &Next| matches!(next, Next::OnLink(interface) if !hops.contains_key(&(*interface, address)));
            let targets: Vec<&Candidate> = targets.iter().filter(|target| !elsewhere(&target.next)).collect();
            let resolved =
                targets.into_iter().map(|target| (target.weight, links.way(target.next, Some(address))));
            routes.add_host(address, Choice::new(resolved));
        }
    }
    routes
}

/// One of the ways that a prefix may take.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    prefix: IpNet,
    priority: i64,
    weight: u64,
    next: Next,
}

/// The ways of each prefix, those of its lowest priority number first, otherwise in the order of the file.
fn candidates(spec: &Spec) -> Vec<Candidate> {
    let connected =
        |net: &IpNet, next| Candidate { prefix: net.trunc(), priority: CONNECTED, weight: 1, next };
    let interfaces = (0..).map(InterfaceId).zip(&spec.interfaces);
    let on_interfaces = interfaces.flat_map(|(id, interface)| {
        interface.addresses.iter().map(move |net| connected(net, Next::OnLink(id)))
    });
    let tunnels = (0..).map(TunnelId).zip(&spec.tunnels);
    let on_tunnels = tunnels
        .filter(|(_, tunnel)| matches!(tunnel.remote, Remote::One(_)))
        .flat_map(|(id, tunnel)| tunnel.addresses.iter().map(move |net| connected(net, Next::Tunnel(id))));
    let configured = spec.routes.iter().map(|route| Candidate {
        prefix: route.prefix.trunc(),
        priority: i64::from(route.priority),
        weight: u64::from(route.weight),
        next: match route.target {
            RouteTarget::Gateway { address, interface } => Next::Gateway(interface, address),
            RouteTarget::Interface(interface) => Next::OnLink(interface),
            RouteTarget::Tunnel(tunnel) => Next::Tunnel(tunnel),
        },
    });
    let mut candidates: Vec<Candidate> = on_interfaces.chain(on_tunnels).chain(configured).collect();
    candidates.sort_by_key(|candidate| (candidate.prefix, candidate.priority));
    candidates
}

/// The ways to neighbours: each is an Ethernet header, of which there is one however many routes have it.
struct Links<'a> {
    spec: &'a Spec,
    hops: HashMap<(InterfaceId, IpAddr), Mac>,
    images: Vec<Image>,
    by_header: HashMap<(InterfaceId, Mac, bool), ImageId>,
}

impl<'a> Links<'a> {
    fn new(spec: &'a Spec) -> Self {
        let neighbors = spec.neighbors.iter();
        let hops = neighbors.map(|neighbor| ((neighbor.interface, neighbor.address), neighbor.mac)).collect();
        Links { spec, hops, images: Vec::new(), by_header: HashMap::new() }
    }

    /// A target with its neighbour filled in; `destination` is known for a route to a single address.
    fn way(&mut self, next: Next, destination: Option<IpAddr>) -> Way {
        let (interface, neighbor) = match next {
            Next::Tunnel(tunnel) => return Way::Tunnel(tunnel),
            Next::Gateway(interface, address) => (interface, Some(address)),
            Next::OnLink(interface) => (interface, destination),
        };
        let mac = neighbor.and_then(|address| Some((address, *self.hops.get(&(interface, address))?)));
        match (self.spec.interfaces.get(usize::from(interface.0)), mac) {
            (Some(spec), Some((address, mac))) => {
                let images = &mut self.images;
                let id = self.by_header.entry((interface, mac, address.is_ipv4())).or_insert_with(|| {
                    let header = ethernet_header(spec, mac, address);
                    images.push(Image::new(&header, spec.port, interface, spec.mtu));
                    ImageId(images.len() as u32 - 1)
                });
                Way::Neighbor(interface, *id)
            }
            _ => Way::Unresolved(interface),
        }
    }
}

/// The Ethernet header of IP packets to a neighbour, which are of the family of its address: routes are by family.
fn ethernet_header(interface: &InterfaceSpec, destination: Mac, address: IpAddr) -> Vec<u8> {
    let ip_type = if address.is_ipv4() { ethertype::IPV4 } else { ethertype::IPV6 };
    let header = |ethertype| EthernetRepr { destination, source: interface.mac, ethertype }.emit();
    let mut bytes = Vec::with_capacity(Ethernet::LEN + 4);
    match interface.vlan {
        None => bytes.extend(header(ip_type)),
        Some(id) => {
            bytes.extend(header(ethertype::VLAN));
            bytes.extend(VlanRepr { priority: 0, id, ethertype: ip_type }.emit());
        }
    }
    bytes
}
