//! How tunnels lie in each other: for each one the ways to its remote end, as whole images, and the MTU that they leave.
//!
//! The outer packets of a tunnel take the route to its remote end like any other packet would. Where that leads into
//! another tunnel, the stack of both is worked out here, once, so that a worker writes it in one piece.

use super::compile::ClampsOn;
use super::*;
use crate::hint::{in_large_pages, large_room};
use crate::stats::MAX_LAYERS;
use crate::tunnel::encap::{self, Unstackable};
use crate::tunnel::keepalive::Keepalive;
use crate::tunnel::mss::Limits;
use std::collections::HashSet;

/// Smallest MTU of an IPv4 link (RFC 791 §3.2).
const MIN_MTU: usize = 68;
/// Bytes of TCP and IP headers without options: what an MSS leaves of an MTU (RFC 6691 §2).
const TCP_IPV4: usize = 40;
const TCP_IPV6: usize = 60;
/// Ways from a tunnel to its remote end, those of the tunnels that carry it multiplied.
const MAX_EXITS: usize = 256;
/// Tunnels in a row that are followed to find a loop; more are refused without a further look.
const MAX_CHAIN: usize = 64;

/// What stacks are made from.
pub(super) struct Stacks<'a> {
    pub(super) spec: &'a Spec,
    pub(super) routes: &'a Routes,
    pub(super) interfaces: &'a [Interface],
    pub(super) clamps: &'a ClampsOn,
}

/// A tunnel's way out.
#[derive(Clone)]
struct Built {
    exits: Choice<Result<ImageId, DropReason>>,
    mtu: usize,
    overhead: usize,
    reachable: bool,
}

/// How far a tunnel is.
#[derive(Clone)]
enum Progress {
    Open,
    UnderWay,
    Done(Built),
}

/// What was worked out so far.
struct Work<'a> {
    done: Vec<Progress>, // by tunnel
    images: Vec<Image>,
    errors: &'a mut Vec<SpecError>,
}

impl Work<'_> {
    fn set(&mut self, at: usize, progress: Progress) {
        if let Some(place) = self.done.get_mut(at) {
            *place = progress;
        }
    }

    fn is_under_way(&self, id: TunnelId) -> bool {
        matches!(self.done.get(id.0 as usize), Some(Progress::UnderWay))
    }
}

/// Every tunnel with what was derived for it, in the order of the specification, and all images: `images` are those of the
/// links, to which those of the tunnels are added.
pub(super) fn tunnels(
    stacks: &Stacks<'_>,
    images: Vec<Image>,
    errors: &mut Vec<SpecError>,
) -> (Vec<Tunnel>, Vec<TunnelSummary>, Vec<Image>) {
    // Most tunnels have one way out. Where some have several, the images are moved once more.
    let mut room = large_room(images.len() + stacks.spec.tunnels.len());
    let is_enough = room.capacity();
    room.extend(images);
    let mut work = Work { done: vec![Progress::Open; stacks.spec.tunnels.len()], images: room, errors };
    let mut treatments: HashSet<Arc<Treatment>> = HashSet::new();
    let made = stacks.spec.tunnels.iter().enumerate().map(|(index, spec)| {
        let id = TunnelId(index as u32);
        let built = stacks.build(id, 1, &mut work);
        let own = own_limits(spec.mss, built.mtu);
        let (mut clamps_in, mut clamps_out) = stacks.clamps.of(ClampOn::Tunnel(id));
        clamps_in.add(None, own);
        clamps_out.add(None, own);
        let summary = TunnelSummary {
            mtu: built.mtu as u16,
            mss_ipv4: own.ipv4,
            mss_ipv6: own.ipv6,
            overhead: built.overhead as u16,
            reachable: built.reachable,
        };
        let treatment = Treatment {
            decap: Decap {
                takes_zero_checksum: spec.udp.is_some_and(|udp| udp.checksum == UdpChecksum::Zero),
                is_uniform: spec.dscp == Dscp::Uniform,
                inner_source: spec.inner_source.to_vec(),
                keepalive: spec.keepalive.then(|| Keepalive { inside: spec.addresses.to_vec() }),
            },
            clamps_in,
            clamps_out,
        };
        let treatment = match treatments.get(&treatment) {
            Some(known) => Arc::clone(known),
            None => {
                let treatment = Arc::new(treatment);
                treatments.insert(treatment.clone());
                treatment
            }
        };
        let (slot, mtu, reassembly) = (spec.slot, built.mtu as u16, spec.reassembly);
        let tunnel = Tunnel { slot, mtu, reassembly, treatment, exits: built.exits };
        (tunnel, summary)
    });
    let (tunnels, summaries) = made.unzip();
    let images = work.images;
    let images = if images.len() > is_enough { in_large_pages(images) } else { images };
    (tunnels, summaries, images)
}

fn own_limits(mss: Mss, mtu: usize) -> Limits {
    match mss {
        Mss::Off => Limits::default(),
        Mss::Fixed { ipv4, ipv6 } => Limits { ipv4, ipv6 },
        Mss::Auto => Limits {
            ipv4: Some(mtu.saturating_sub(TCP_IPV4) as u16),
            ipv6: Some(mtu.saturating_sub(TCP_IPV6) as u16),
        },
    }
}

impl Stacks<'_> {
    /// Works out a tunnel, and those that carry it before. `depth` counts the tunnels on the way here.
    fn build(&self, id: TunnelId, depth: usize, work: &mut Work<'_>) -> Built {
        let at = id.0 as usize;
        if let Some(Progress::Done(built)) = work.done.get(at) {
            return built.clone();
        }
        let Some(tunnel) = self.spec.tunnels.get(at) else { return Built::dead(DropReason::NoRoute, 0) };
        work.set(at, Progress::UnderWay);
        let built = self.build_new(id, tunnel, depth, work);
        work.set(at, Progress::Done(built.clone()));
        built
    }

    fn build_new(&self, id: TunnelId, tunnel: &TunnelSpec, depth: usize, work: &mut Work<'_>) -> Built {
        let own = encap::overhead(tunnel);
        let mut built = match tunnel.remote {
            Remote::Senders(_) => Built { reachable: true, ..Built::dead(DropReason::NoRoute, own) },
            Remote::One(remote) => match self.routes.to(remote) {
                None => Built::dead(DropReason::NoRoute, own),
                Some(ways) => self.outward((id, tunnel), remote, ways, depth, work),
            },
        };
        let is_routed = built.mtu != usize::MAX;
        let path = if is_routed { built.mtu } else { self.nearest_mtu(tunnel.local) };
        let allowed = path.saturating_sub(own);
        let wanted = tunnel.mtu.map_or(allowed, usize::from);
        if wanted > allowed && is_routed {
            work.errors.push(SpecError {
                item: Item::Tunnel(id),
                key: "mtu",
                message: format!(
                    "mtu {wanted} does not fit (expected at most {allowed}: the way to the remote end takes {path} \
                     bytes, the tunnel's own headers are {own}; found {wanted})"
                ),
            });
        }
        if allowed < MIN_MTU {
            work.errors.push(SpecError {
                item: Item::Tunnel(id),
                key: "",
                message: format!(
                    "no room for packets: the way to the remote end takes {path} bytes, the tunnel's own headers are \
                     {own} (expected at least {MIN_MTU} left, found {allowed})"
                ),
            });
        }
        built.mtu = wanted;
        for id in built.exits.iter().flatten() {
            if let Some(image) = work.images.get_mut(id.0 as usize) {
                image.set_limit(wanted.min(usize::from(u16::MAX)) as u16);
            }
        }
        built
    }

    /// The ways to `remote` with the tunnel's own headers inside. The MTU returned is that of the way, own headers not
    /// yet taken off.
    fn outward(
        &self,
        (id, tunnel): (TunnelId, &TunnelSpec),
        remote: IpAddr,
        ways: &Choice<Way>,
        depth: usize,
        work: &mut Work<'_>,
    ) -> Built {
        let own = encap::overhead(tunnel);
        let mut exits: Vec<(u64, Result<ImageId, DropReason>)> = Vec::new();
        let mut all = Built { mtu: usize::MAX, overhead: own, ..Built::dead(DropReason::NoRoute, own) };
        let (mut fits, mut longest) = (true, 0);
        let mut add = |images: &mut Vec<Image>, share: u64, path: ImageId| {
            let path = images.get(path.0 as usize).map(|path| path.stack(id, tunnel, remote));
            match path {
                Some(Ok(image)) => {
                    exits.push((share, Ok(ImageId(images.len() as u32))));
                    images.push(image);
                }
                Some(Err(Unstackable::Bytes(bytes))) => longest = longest.max(bytes),
                Some(Err(Unstackable::Layers)) | None => fits = false,
            }
        };
        let mut dead = Vec::new();
        let mut is_endless = false;
        for (share, way) in ways.shares() {
            match way {
                Way::Neighbor(interface, path) => {
                    all.through(self.interface_mtu(*interface), own, true);
                    add(&mut work.images, share, *path);
                }
                Way::Unresolved(interface) => {
                    all.through(self.interface_mtu(*interface), own, true);
                    dead.push((share, Err(DropReason::NeighborUnknown)));
                }
                Way::Tunnel(carrier) if work.is_under_way(*carrier) => {
                    work.errors.push(self.loop_error(id, remote, *carrier));
                    dead.push((share, Err(DropReason::NoRoute)));
                }
                Way::Tunnel(_) if depth >= MAX_CHAIN => {
                    is_endless = true;
                    dead.push((share, Err(DropReason::NoRoute)));
                }
                Way::Tunnel(carrier) => {
                    let carrier = self.build(*carrier, depth + 1, work);
                    all.through(carrier.mtu, own + carrier.overhead, carrier.reachable);
                    for (part, exit) in carrier.exits.shares() {
                        match exit {
                            Ok(path) => add(&mut work.images, share * part, *path),
                            Err(reason) => dead.push((share * part, Err(*reason))),
                        }
                    }
                }
            }
        }
        if !fits || is_endless {
            work.errors.push(SpecError {
                item: Item::Tunnel(id),
                key: "remote",
                message: format!(
                    "the way to {remote} leads through {MAX_LAYERS} other tunnels or more (expected at most \
                     {MAX_LAYERS} layers in all)"
                ),
            });
        }
        if longest > 0 {
            work.errors.push(SpecError {
                item: Item::Tunnel(id),
                key: "remote",
                message: format!(
                    "the headers of the whole stack are {longest} bytes, Ethernet included (expected at most \
                     {MAX_IMAGE}, the room in front of a received packet)"
                ),
            });
        }
        exits.extend(dead);
        if exits.len() > MAX_EXITS {
            work.errors.push(SpecError {
                item: Item::Tunnel(id),
                key: "remote",
                message: format!(
                    "there are {} ways to {remote}, those of the tunnels that carry this one multiplied (expected at most \
                     {MAX_EXITS})",
                    exits.len()
                ),
            });
            exits.truncate(MAX_EXITS);
        }
        if !exits.is_empty() {
            all.exits = Choice::new(exits);
        }
        all
    }

    fn loop_error(&self, id: TunnelId, remote: IpAddr, carrier: TunnelId) -> SpecError {
        let name = self.spec.tunnels.get(carrier.0 as usize).map_or("", |tunnel| &tunnel.name);
        let through =
            if carrier == id { "itself".to_owned() } else { format!("tunnel \"{name}\", which it carries") };
        SpecError {
            item: Item::Tunnel(id),
            key: "remote",
            message: format!(
                "the route to {remote} leads into {through} (expected a way to the remote end outside of the tunnel)"
            ),
        }
    }

    fn interface_mtu(&self, interface: InterfaceId) -> usize {
        self.interfaces.get(usize::from(interface.0)).map_or(0, |interface| interface.mtu)
    }

    /// The MTU to reckon with where no route says: that of the interface that has this address, else the smallest.
    fn nearest_mtu(&self, local: IpAddr) -> usize {
        let has_it = |interface: &&InterfaceSpec| interface.addresses.iter().any(|net| net.addr() == local);
        let mtu = |interface: &InterfaceSpec| usize::from(interface.mtu);
        let own = self.spec.interfaces.iter().find(has_it).map(mtu);
        own.or_else(|| self.spec.interfaces.iter().map(mtu).min()).unwrap_or(usize::from(u16::MAX))
    }
}

impl Built {
    /// A tunnel that sends nothing, for this reason; its MTU is not known yet.
    fn dead(reason: DropReason, overhead: usize) -> Self {
        Built { exits: Choice::new([(1, Err(reason))]), mtu: usize::MAX, overhead, reachable: false }
    }

    /// Adds a way: the smallest MTU and the most headers count.
    fn through(&mut self, mtu: usize, overhead: usize, reachable: bool) {
        self.mtu = self.mtu.min(mtu);
        self.overhead = self.overhead.max(overhead);
        self.reachable |= reachable;
    }
}
