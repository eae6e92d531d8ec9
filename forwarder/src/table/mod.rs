//! The tables: what an operator asked for ([`Spec`]) compiled into what a worker looks up ([`Tables`]).
//!
//! A value of this kind never changes. A worker holds one for the length of a burst; a new one is compiled beside it and
//! published as a whole ([`crate::publish`]).

mod spec;
mod compile;
mod stack;
mod exact;
mod lpm;

pub use spec::*;

use crate::frame::HEADROOM;
use crate::icmp_error::IcmpRates;
use crate::stats::TunnelStats;
use crate::trace::Taken;
use crate::tunnel::decap::{Decap, Local, Selector};
use crate::tunnel::encap::Image;
use crate::tunnel::flow::{FlowHash, mix};
use crate::tunnel::mss::Clamps;
use crate::verdict::{DropReason, Ingress};
use crate::wire::ethernet::Ethernet;
use crate::wire::ip::Version;
use exact::{ExactMatch, Key};
use ipnet::IpNet;
use lpm::Lpm;
use std::net::IpAddr;

/// The longest image that fits in front of a packet whose own Ethernet header has been taken off.
pub const MAX_IMAGE: usize = HEADROOM + Ethernet::LEN;

/// Everything that a worker looks up.
#[derive(Debug)]
pub struct Tables {
    ports: Vec<Port>,
    interfaces: Vec<Interface>,
    tunnels: Vec<Tunnel>,
    addresses: ExactMatch<IpAddr>,
    locals: Vec<Local>,
    endpoints: ExactMatch<Endpoint>,
    reassembling: ExactMatch<Pair>,
    sender_lens: [Vec<u8>; 2], // for IPv4, IPv6; longest first
    routes: Routes,
    summaries: Vec<TunnelSummary>,
    speakers: Speakers,
    icmp: IcmpRates,
}

/// Whose address stands on ICMP errors: for IPv4, for IPv6.
type Speaker = [Option<IpAddr>; 2];

/// The addresses that ICMP errors come from.
#[derive(Clone, Debug)]
struct Speakers {
    interfaces: Vec<Speaker>,
    tunnels: Vec<Speaker>,
    any: Speaker,
}

/// One published state: tables, and where each worker counts.
#[derive(Debug)]
pub struct Generation {
    /// Counts up from 1 with every published state.
    pub number: u64,
    /// What is looked up.
    pub tables: Tables,
    /// Tunnel counters by worker, in the order of `worker_cores`.
    pub stats: Vec<TunnelStats>,
}

/// A port as seen by what arrives there.
#[derive(Clone, Debug)]
pub struct Port {
    /// Its own Ethernet address.
    pub mac: Mac,
    /// Its untagged side.
    pub untagged: Option<InterfaceId>,
    /// Its VLANs.
    pub vlans: Vec<(u16, InterfaceId)>,
}

/// A port's untagged side or a VLAN, as crossed by packets.
#[derive(Clone, Debug)]
pub struct Interface {
    /// Largest IP packet in bytes.
    pub mtu: usize,
    /// Clamps on what came in by it.
    pub clamps_in: Clamps,
    /// Clamps on what leaves by it.
    pub clamps_out: Clamps,
}

/// A tunnel as crossed by packets.
#[derive(Clone, Debug)]
pub struct Tunnel {
    /// Where it counts.
    pub slot: u32,
    /// Largest inner packet in bytes.
    pub mtu: usize,
    /// Outer packets that come in fragments are put together.
    pub reassembly: bool,
    /// What happens to packets that come out.
    pub decap: Decap,
    /// Clamps on what comes out.
    pub clamps_in: Clamps,
    /// Clamps on what goes in.
    pub clamps_out: Clamps,
    /// The ways to its remote end, whole stacks; `Err`: where such a way ends.
    pub exits: Choice<Result<Image, DropReason>>,
}

/// Where a route leads.
#[derive(Clone, Debug)]
pub enum Way {
    /// Out of an interface with this Ethernet header in front.
    Neighbor(InterfaceId, Image),
    /// Out of an interface, to a neighbour whose MAC address is not known.
    Unresolved(InterfaceId),
    /// Into a tunnel.
    Tunnel(TunnelId),
}

impl Way {
    /// The way in short.
    pub(crate) fn taken(&self) -> Taken {
        match self {
            Way::Neighbor(interface, image) => {
                let mac = image.bytes().first_chunk().copied().unwrap_or_default();
                Taken::Neighbor(*interface, Mac(mac))
            }
            Way::Unresolved(interface) => Taken::Unresolved(*interface),
            Way::Tunnel(id) => Taken::Tunnel(*id),
        }
    }
}

/// Alternatives with shares; most often a single one.
#[derive(Clone, Debug)]
pub struct Choice<T> {
    ways: Vec<(u64, T)>, // with the sum of the shares up to and including this one
}

/// What was derived for a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TunnelSummary {
    /// Largest inner IP packet in bytes.
    pub mtu: u16,
    /// The tunnel's own clamp for IPv4, where it has one.
    pub mss_ipv4: Option<u16>,
    /// The tunnel's own clamp for IPv6, where it has one.
    pub mss_ipv6: Option<u16>,
    /// Bytes put in front of an inner packet, all layers of the stack, without Ethernet; the most of several ways.
    pub overhead: u16,
    /// Whether some way leads to the remote end; `true` for a tunnel that only receives.
    pub reachable: bool,
}

/// What a packet for a tunnel is recognised by. Its sender is cut to a prefix length, because a tunnel may take many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Endpoint {
    local: IpAddr,
    sender: IpNet,
    selector: Selector,
}

impl Key for Endpoint {
    #[inline]
    fn hash(&self) -> u64 {
        let Selector { udp, encap, key } = self.selector;
        let key = key.map_or(0, |key| u64::from(key) << 1 | 1);
        let udp = udp.map_or(0, |(kind, port)| u64::from(port) << 8 | kind as u64);
        let rest = udp << 16 | u64::from(self.sender.prefix_len()) << 8 | encap as u64;
        let addresses = self.local.hash() ^ self.sender.addr().hash().rotate_left(32);
        mix(mix(addresses ^ rest, 0x9e37_79b9_7f4a_7c15) ^ key, 0xd6e8_feb8_6659_fd93)
    }
}

/// What a fragment for a tunnel can be recognised by: only the first one says more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pair {
    local: IpAddr,
    sender: IpNet,
}

impl Key for Pair {
    #[inline]
    fn hash(&self) -> u64 {
        let addresses = self.local.hash() ^ self.sender.addr().hash().rotate_left(32);
        mix(addresses ^ u64::from(self.sender.prefix_len()), 0x9e37_79b9_7f4a_7c15)
    }
}

impl Tables {
    /// Compiles `spec`.
    ///
    /// # Errors
    /// Everything that is wrong, not only the first finding.
    pub fn compile(spec: &Spec) -> Result<Tables, Vec<SpecError>> {
        compile::compile(spec)
    }

    /// What was derived for each tunnel, in the order of the specification.
    pub fn summaries(&self) -> &[TunnelSummary] {
        &self.summaries
    }

    /// A port.
    #[inline]
    pub fn port(&self, id: PortId) -> Option<&Port> {
        self.ports.get(usize::from(id.0))
    }

    /// An interface.
    #[inline]
    pub fn interface(&self, id: InterfaceId) -> Option<&Interface> {
        self.interfaces.get(usize::from(id.0))
    }

    /// A tunnel.
    #[inline]
    pub fn tunnel(&self, id: TunnelId) -> Option<&Tunnel> {
        self.tunnels.get(id.0 as usize)
    }

    /// What one of the box's addresses takes in; `None` for an address that is not the box's.
    #[inline]
    pub fn local(&self, address: IpAddr) -> Option<&Local> {
        self.locals.get(self.addresses.find(&address)? as usize)
    }

    /// The tunnel that takes packets of `sender` for `local`: of several the one that names the sender most closely.
    #[inline]
    pub fn endpoint(&self, local: IpAddr, sender: IpAddr, selector: Selector) -> Option<TunnelId> {
        self.sender_lens(sender).iter().find_map(|len| {
            let sender = IpNet::new(sender, *len).ok()?.trunc();
            self.endpoints.find(&Endpoint { local, sender, selector }).map(TunnelId)
        })
    }

    /// Whether some tunnel that takes packets of `sender` for `local` puts fragments together.
    #[cold]
    pub fn reassembles(&self, local: IpAddr, sender: IpAddr) -> bool {
        let prefix = |len: &u8| Some(IpNet::new(sender, *len).ok()?.trunc());
        let mut prefixes = self.sender_lens(sender).iter().filter_map(prefix);
        prefixes.any(|sender| self.reassembling.find(&Pair { local, sender }).is_some())
    }

    /// Prefix lengths by which tunnels name senders of this one's family, longest first.
    #[inline]
    fn sender_lens(&self, sender: IpAddr) -> &[u8] {
        let [ipv4, ipv6] = &self.sender_lens;
        if sender.is_ipv4() { ipv4 } else { ipv6 }
    }

    /// The address that errors about packets of this way in and version come from.
    pub fn speaker(&self, ingress: Ingress, version: Version) -> Option<IpAddr> {
        let own = match ingress {
            Ingress::Interface(id) => self.speakers.interfaces.get(usize::from(id.0)),
            Ingress::Tunnel(id) => self.speakers.tunnels.get(id.0 as usize),
        };
        let of_family = |[ipv4, ipv6]: Speaker| if version == Version::V4 { ipv4 } else { ipv6 };
        own.copied().and_then(of_family).or(of_family(self.speakers.any))
    }

    /// How many ICMP errors the box may send.
    pub fn icmp(&self) -> IcmpRates {
        self.icmp
    }

    /// The ways to `destination`.
    #[inline]
    pub fn route(&self, destination: IpAddr) -> Option<&Choice<Way>> {
        self.routes.to(destination)
    }
}

/// The routes of both families.
#[derive(Clone, Debug)]
struct Routes {
    ipv4: Lpm,
    ipv6: Lpm,
    ways: Vec<Choice<Way>>,
}

impl Routes {
    /// Prefixes with the positions of their ways.
    fn new(numbers: &[(IpNet, u32)], ways: Vec<Choice<Way>>) -> Self {
        let of = |ipv4: bool| {
            Lpm::new(numbers.iter().copied().filter(move |(prefix, _)| prefix.addr().is_ipv4() == ipv4))
        };
        Routes { ipv4: of(true), ipv6: of(false), ways }
    }

    /// Adds the ways to a single address, which win over those of every network that holds it.
    fn add_host(&mut self, address: IpAddr, ways: Choice<Way>) {
        let table = if address.is_ipv4() { &mut self.ipv4 } else { &mut self.ipv6 };
        table.insert(IpNet::from(address), self.ways.len() as u32);
        self.ways.push(ways);
    }

    /// The position of the ways to `destination`.
    #[inline]
    fn find(&self, destination: IpAddr) -> Option<u32> {
        if destination.is_ipv4() { self.ipv4.find(destination) } else { self.ipv6.find(destination) }
    }

    /// The ways to `destination`.
    #[inline]
    fn to(&self, destination: IpAddr) -> Option<&Choice<Way>> {
        self.ways.get(self.find(destination)? as usize)
    }
}

impl<T> Choice<T> {
    /// Alternatives with their shares, each from 1 to 2³²; there has to be one. Large shares are scaled down, so that
    /// those of ways within ways may be multiplied.
    fn new(shares: impl IntoIterator<Item = (u64, T)>) -> Self {
        const LARGEST: u64 = 1 << 16;
        let mut ways: Vec<(u64, T)> = shares.into_iter().collect();
        let total: u64 = ways.iter().map(|(share, _)| share).sum();
        let mut sum = 0;
        for (share, _) in &mut ways {
            if total > LARGEST {
                *share = (*share * LARGEST / total).max(1);
            }
            sum += *share;
            *share = sum;
        }
        Choice { ways }
    }

    /// Every alternative.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.ways.iter().map(|(_, way)| way)
    }

    /// The alternatives with their shares.
    fn shares(&self) -> impl Iterator<Item = (u64, &T)> {
        let mut before = 0;
        self.ways.iter().map(move |(sum, way)| (sum - std::mem::replace(&mut before, *sum), way))
    }

    /// The alternative for a flow, whose hash is asked for where there is a choice.
    #[inline]
    pub fn pick(&self, flow: impl FnOnce() -> FlowHash) -> Option<&T> {
        match self.ways.as_slice() {
            [(_, only)] => Some(only),
            [.., (total, _)] => {
                let choice = flow().choice(*total);
                self.ways.iter().find(|(sum, _)| choice < *sum).map(|(_, way)| way)
            }
            [] => None,
        }
    }
}
