//! The tables: what an operator asked for ([`Spec`]) compiled into what a worker looks up ([`Tables`]).
//!
//! A value of this kind never changes. A worker holds one for the length of a burst; a new one is compiled beside it and
//! published as a whole ([`crate::publish`]).

mod spec;
mod compile;
mod stack;
mod endpoints;
mod lpm;

pub use spec::*;

use crate::frame::HEADROOM;
use crate::icmp_error::IcmpRates;
use crate::stats::TunnelStats;
use crate::trace::Taken;
use crate::tunnel::decap::{Decap, Local, Selector};
use crate::tunnel::encap::Image;
use crate::tunnel::flow::FlowHash;
use crate::tunnel::mss::Clamps;
use crate::verdict::{DropReason, Ingress};
use crate::wire::ethernet::Ethernet;
use crate::wire::ip::Version;
use endpoints::Endpoints;
pub(crate) use endpoints::{Home, Label, Sender, Taker};
use ipnet::IpNet;
use lpm::Lpm;
use std::net::IpAddr;
use std::sync::Arc;

/// The longest image that fits in front of a packet whose own Ethernet header has been taken off.
pub const MAX_IMAGE: usize = HEADROOM + Ethernet::LEN;

/// Everything that a worker looks up.
#[derive(Debug)]
pub struct Tables {
    serial: u64, // no two have the same
    ports: Vec<Port>,
    interfaces: Vec<Interface>,
    tunnels: Vec<Tunnel>,
    locals: Vec<Local>,
    endpoints: Endpoints,
    reassembling: Endpoints, // by what every fragment shows: with no selector
    routes: Routes,
    images: Vec<Image>,
    summaries: Vec<TunnelSummary>,
    speakers: Speakers,
    icmp: IcmpRates,
    is_large: bool,
    has_many_routes: bool,
    is_for_one_worker: bool,
}

/// Whose address stands on ICMP errors: for IPv4, for IPv6.
type Speaker = [Option<IpAddr>; 2];

/// The addresses that ICMP errors come from.
#[derive(Clone, Debug)]
struct Speakers {
    interfaces: Vec<Speaker>,
    tunnels: Vec<u32>, // in `different`
    different: Vec<Speaker>,
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
    pub mtu: u16,
    /// Outer packets that come in fragments are put together.
    pub reassembly: bool,
    /// What happens to packets that come out or go in; most tunnels are treated like another one and share it.
    pub treatment: Arc<Treatment>,
    /// The ways to its remote end, whole stacks; `Err`: where such a way ends.
    pub exits: Choice<Result<ImageId, DropReason>>,
}

/// What a tunnel does to packets, whoever is at its ends.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Treatment {
    /// What happens to packets that come out.
    pub decap: Decap,
    /// Clamps on what comes out.
    pub clamps_in: Clamps,
    /// Clamps on what goes in.
    pub clamps_out: Clamps,
}

/// An image, by its position in the tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ImageId(u32);

impl ImageId {
    /// That of no image.
    pub(crate) const NONE: ImageId = ImageId(u32::MAX);
}

/// Where a route leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Out of an interface with this Ethernet header in front.
    Neighbor(InterfaceId, ImageId),
    /// Out of an interface, to a neighbour whose MAC address is not known.
    Unresolved(InterfaceId),
    /// Into a tunnel.
    Tunnel(TunnelId),
}

/// Alternatives with shares; most often a single one.
#[derive(Clone, Debug)]
pub struct Choice<T>(Ways<T>);

#[derive(Clone, Debug)]
enum Ways<T> {
    One(u32, T),              // with its share
    Several(Box<[(u64, T)]>), // with the sum of the shares up to and including this one
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

/// What the tables have for a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hit {
    /// One way, which leads out of the box with this image in front.
    Image(ImageId),
    /// Ways that are chosen from, or one that leads nowhere: their number.
    Ways(u32),
    /// The box's own address of this number.
    Local(u32),
}

impl Hit {
    const KIND: u32 = 3 << 29;
    const WAYS: u32 = 1 << 29;
    const LOCAL: u32 = 2 << 29;

    /// As it stands in the table of routes: below 2³¹ − 1, as no number is near 2²⁹.
    fn value(self) -> u32 {
        match self {
            Hit::Image(ImageId(number)) => number,
            Hit::Ways(number) => number | Hit::WAYS,
            Hit::Local(number) => number | Hit::LOCAL,
        }
    }

    #[inline(always)]
    fn of(value: u32) -> Self {
        match value & Hit::KIND {
            0 => Hit::Image(ImageId(value)),
            Hit::WAYS => Hit::Ways(value & !Hit::KIND),
            _ => Hit::Local(value & !Hit::KIND),
        }
    }
}

/// The ways to a destination.
#[derive(Clone, Copy, Debug)]
pub enum Route<'a> {
    /// The only one.
    One(Way),
    /// Those that are chosen from by the flow.
    Several(&'a Choice<Way>),
}

impl Route<'_> {
    /// Every way.
    pub fn ways(&self) -> impl Iterator<Item = Way> {
        let (one, several) = match self {
            Route::One(way) => (Some(*way), None),
            Route::Several(ways) => (None, Some(ways)),
        };
        one.into_iter().chain(several.into_iter().flat_map(|ways| ways.iter().copied()))
    }

    /// The way of a flow, whose hash is asked for where there is a choice.
    #[inline]
    pub fn pick(&self, flow: impl FnOnce() -> FlowHash) -> Option<Way> {
        match self {
            Route::One(way) => Some(*way),
            Route::Several(ways) => ways.pick(flow).copied(),
        }
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

    /// What tells these tables from all others of this process.
    #[inline]
    pub(crate) fn serial(&self) -> u64 {
        self.serial
    }

    /// Whether there is more to look up than the caches of a core hold: some thousand tunnels, or as many routes.
    #[inline(always)]
    pub(crate) fn is_large(&self) -> bool {
        self.is_large
    }

    /// Whether there are more routes than the caches of a core hold: some thousand.
    #[inline(always)]
    pub(crate) fn has_many_routes(&self) -> bool {
        self.has_many_routes
    }

    /// Whether what one worker keeps from packet to packet has to be of all packets of a queue: fragments that are put
    /// together, GRE sequence numbers.
    #[inline]
    pub(crate) fn is_for_one_worker(&self) -> bool {
        self.is_for_one_worker
    }

    /// An image.
    #[inline(always)]
    pub fn image(&self, id: ImageId) -> Option<&Image> {
        self.images.get(id.0 as usize)
    }

    /// What one of the box's addresses takes in; `None` for an address that is not the box's.
    #[inline]
    pub fn local(&self, address: IpAddr) -> Option<&Local> {
        match self.routes.hit(address)? {
            Hit::Local(number) => self.local_at(number),
            _ => None,
        }
    }

    /// What the box's address of this number takes in.
    #[inline(always)]
    pub(crate) fn local_at(&self, number: u32) -> Option<&Local> {
        self.locals.get(number as usize)
    }

    /// What there is for an IPv4 destination, or an IPv6 one, of these octets.
    #[inline(always)]
    pub(crate) fn hit<const N: usize>(&self, destination: &[u8; N]) -> Option<Hit> {
        let table = if N == 4 { &self.routes.ipv4 } else { &self.routes.ipv6 };
        table.find(destination).map(Hit::of)
    }

    /// What there is for this destination.
    #[inline(always)]
    pub(crate) fn hit_for(&self, destination: IpAddr) -> Option<Hit> {
        self.routes.hit(destination)
    }

    /// Asks for what a look-up of this destination reads in its step of this number, where what it reads before is in memory.
    /// Returns whether it has one.
    #[inline(always)]
    pub(crate) fn prefetch_hit(&self, destination: IpAddr, step: usize) -> bool {
        match destination {
            IpAddr::V4(address) => self.routes.ipv4.prefetch(&address.octets(), step),
            IpAddr::V6(address) => self.routes.ipv6.prefetch(&address.octets(), step),
        }
    }

    /// The tunnel that takes packets of `sender` for `local`: of several the one that names the sender most closely.
    #[inline]
    pub fn endpoint(&self, local: IpAddr, sender: IpAddr, selector: Selector) -> Option<TunnelId> {
        let Some(Hit::Local(at)) = self.routes.hit(local) else { return None };
        let (sender, label) = (Sender::from(sender), Label::of(selector));
        self.taker(self.taker_home(at, sender, label), at, sender, label).map(|taker| taker.id)
    }

    /// The same by numbers: who takes packets of this sender for the box's address of this number. `home` is where
    /// [`taker_home`](Self::taker_home) says.
    #[inline(always)]
    pub(crate) fn taker(&self, home: Home, local: u32, sender: Sender, label: Label) -> Option<&Taker> {
        self.endpoints.find(home, local, sender, label)
    }

    /// Where [`taker`](Self::taker) will look first.
    #[inline(always)]
    pub(crate) fn taker_home(&self, local: u32, sender: Sender, label: Label) -> Home {
        self.endpoints.home(local, sender, label)
    }

    /// Asks for the memory there.
    #[inline(always)]
    pub(crate) fn prefetch_taker(&self, home: Home) {
        self.endpoints.prefetch(home);
    }

    /// The way that a flow takes of those with this number, all the way out of the box; `None` where it ends before.
    #[inline]
    pub(crate) fn choose(&self, ways: u32, flow: FlowHash) -> Option<ImageId> {
        match self.routes.ways.get(ways as usize)?.pick(|| flow)? {
            Way::Neighbor(_, image) => Some(*image),
            Way::Tunnel(id) => self.tunnel(*id)?.exits.pick(|| flow.again())?.ok(),
            Way::Unresolved(_) => None,
        }
    }

    /// Whether some tunnel that takes packets of `sender` for `local` puts fragments together.
    #[cold]
    pub fn reassembles(&self, local: IpAddr, sender: IpAddr) -> bool {
        let Some(Hit::Local(at)) = self.routes.hit(local) else { return false };
        let sender = Sender::from(sender);
        let home = self.reassembling.home(at, sender, Label::IP);
        self.reassembling.find(home, at, sender, Label::IP).is_some()
    }

    /// The address that errors about packets of this way in and version come from.
    pub fn speaker(&self, ingress: Ingress, version: Version) -> Option<IpAddr> {
        let own = match ingress {
            Ingress::Interface(id) => self.speakers.interfaces.get(usize::from(id.0)),
            Ingress::Tunnel(id) => {
                let number = self.speakers.tunnels.get(id.0 as usize);
                number.and_then(|number| self.speakers.different.get(*number as usize))
            }
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
    pub fn route(&self, destination: IpAddr) -> Option<Route<'_>> {
        let hit = match self.routes.hit(destination)? {
            Hit::Local(number) => (*self.routes.under.get(number as usize)?)?,
            hit => hit,
        };
        match hit {
            Hit::Image(id) => Some(Route::One(match self.image(id)?.crossed() {
                Ingress::Interface(interface) => Way::Neighbor(interface, id),
                Ingress::Tunnel(tunnel) => Way::Tunnel(tunnel),
            })),
            Hit::Ways(number) => self.routes.ways.get(number as usize).map(Route::Several),
            Hit::Local(_) => None,
        }
    }

    /// A way in short.
    pub(crate) fn taken(&self, way: Way) -> Taken {
        match way {
            Way::Neighbor(interface, image) => {
                let mac = self.image(image).and_then(|image| image.bytes().first_chunk().copied());
                Taken::Neighbor(interface, Mac(mac.unwrap_or_default()))
            }
            Way::Unresolved(interface) => Taken::Unresolved(interface),
            Way::Tunnel(id) => Taken::Tunnel(id),
        }
    }
}

/// The routes of both families, and the box's own addresses among them.
#[derive(Clone, Debug)]
struct Routes {
    ipv4: Lpm,
    ipv6: Lpm,
    ways: Vec<Choice<Way>>,
    under: Vec<Option<Hit>>, // the route that holds a local address, by its number
}

impl Routes {
    /// Prefixes with the positions of their ways.
    fn new(numbers: &[(IpNet, u32)], ways: Vec<Choice<Way>>) -> Self {
        let of = |ipv4: bool| {
            let prefixes = numbers.iter().copied();
            let prefixes = prefixes.filter(move |(prefix, _)| prefix.addr().is_ipv4() == ipv4);
            Lpm::new(prefixes.map(|(prefix, number)| (prefix, Hit::Ways(number).value())))
        };
        Routes { ipv4: of(true), ipv6: of(false), ways, under: Vec::new() }
    }

    /// Adds the ways to a single address, which win over those of every network that holds it.
    fn add_host(&mut self, address: IpAddr, ways: Choice<Way>) {
        let hit = Hit::Ways(self.ways.len() as u32);
        self.table_of(address).insert(IpNet::from(address), hit.value());
        self.ways.push(ways);
    }

    /// Makes each address the box's own of its position.
    fn add_locals(&mut self, addresses: impl Iterator<Item = IpAddr>) {
        for address in addresses {
            let hit = Hit::Local(self.under.len() as u32);
            self.under.push(self.hit(address));
            self.table_of(address).insert(IpNet::from(address), hit.value());
        }
    }

    /// Where there is a single way out, a look-up is to end there: `image` says whether there is for these ways, which are
    /// not kept then.
    fn shorten(&mut self, image: impl Fn(&Choice<Way>) -> Option<ImageId>) {
        let mut kept = Vec::new();
        let ways = std::mem::take(&mut self.ways).into_iter();
        let hits: Vec<Hit> = ways
            .map(|ways| match image(&ways) {
                Some(image) => Hit::Image(image),
                None => {
                    kept.push(ways);
                    Hit::Ways(kept.len() as u32 - 1)
                }
            })
            .collect();
        self.ways = kept;
        let shorten = |value: u32| match Hit::of(value) {
            Hit::Ways(number) => hits.get(number as usize).map_or(value, |hit| hit.value()),
            _ => value,
        };
        self.ipv4.replace(shorten);
        self.ipv6.replace(shorten);
    }

    /// The same in memory for look-ups at random.
    fn in_large_pages(self) -> Self {
        Routes { ipv4: self.ipv4.in_large_pages(), ipv6: self.ipv6.in_large_pages(), ..self }
    }

    fn table_of(&mut self, address: IpAddr) -> &mut Lpm {
        if address.is_ipv4() { &mut self.ipv4 } else { &mut self.ipv6 }
    }

    #[inline]
    fn hit(&self, address: IpAddr) -> Option<Hit> {
        let value = match address {
            IpAddr::V4(address) => self.ipv4.find(&address.octets()),
            IpAddr::V6(address) => self.ipv6.find(&address.octets()),
        };
        value.map(Hit::of)
    }

    /// The ways to `destination`, before they were [shortened](Self::shorten).
    fn to(&self, destination: IpAddr) -> Option<&Choice<Way>> {
        match self.hit(destination)? {
            Hit::Ways(number) => self.ways.get(number as usize),
            Hit::Image(_) | Hit::Local(_) => None,
        }
    }
}

impl<T> Choice<T> {
    /// Alternatives with their shares, each from 1 to 2³²; there has to be one. Large shares are scaled down, so that
    /// those of ways within ways may be multiplied.
    fn new(shares: impl IntoIterator<Item = (u64, T)>) -> Self {
        const LARGEST: u64 = 1 << 16;
        let mut shares = shares.into_iter();
        let (first, second) = (shares.next(), shares.next());
        let mut ways: Vec<(u64, T)> = match (first, second) {
            (Some((share, only)), None) => return Choice(Ways::One(share.min(LARGEST) as u32, only)),
            (first, second) => first.into_iter().chain(second).chain(shares).collect(),
        };
        let total: u64 = ways.iter().map(|(share, _)| share).sum();
        let mut sum = 0;
        for (share, _) in &mut ways {
            if total > LARGEST {
                *share = (*share * LARGEST / total).max(1);
            }
            sum += *share;
            *share = sum;
        }
        Choice(Ways::Several(ways.into()))
    }

    /// The alternative where there is only one.
    fn only(&self) -> Option<&T> {
        match &self.0 {
            Ways::One(_, only) => Some(only),
            Ways::Several(_) => None,
        }
    }

    /// Every alternative.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.shares().map(|(_, way)| way)
    }

    /// The alternatives with their shares.
    fn shares(&self) -> impl Iterator<Item = (u64, &T)> {
        let (one, several) = match &self.0 {
            Ways::One(share, only) => (Some((u64::from(*share), only)), &[][..]),
            Ways::Several(ways) => (None, &ways[..]),
        };
        let mut before = 0;
        let several = several.iter().map(move |(sum, way)| (sum - std::mem::replace(&mut before, *sum), way));
        one.into_iter().chain(several)
    }

    /// The alternative for a flow, whose hash is asked for where there is a choice.
    #[inline]
    pub fn pick(&self, flow: impl FnOnce() -> FlowHash) -> Option<&T> {
        match &self.0 {
            Ways::One(_, only) => Some(only),
            Ways::Several(ways) => {
                let choice = flow().choice(ways.last()?.0);
                ways.iter().find(|(sum, _)| choice < *sum).map(|(_, way)| way)
            }
        }
    }
}
