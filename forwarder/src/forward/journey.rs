//! One packet's way through the box: tunnels off, route, MSS, and the headers of the way out.

use super::Engine;
use super::arrive::arrive;
use super::clamp::{self, Crossing, Lowered};
use super::gather::Gathered;
use super::rare;
use crate::frame::Frame;
use crate::icmp_error::IcmpError;
use crate::scope::{Scope, is_martian_source, scope};
use crate::stats::{MAX_LAYERS, Trail, TunnelStats};
use crate::table::{Port, PortId, Tables, TunnelId, Way};
use crate::trace::{Step, Summary};
use crate::tunnel::decap::{self, Outer};
use crate::tunnel::encap::Image;
use crate::tunnel::flow::FlowHash;
use crate::tunnel::layer::Inherited;
use crate::tunnel::mss;
use crate::verdict::{DropReason, Ingress, Verdict};
use crate::wire::ip::{Ip, Version};
use crate::wire::{at_mut, ipv4, ipv6, tail};
use std::net::IpAddr;

/// One packet on its way: the tables that decide, and what has happened to it so far.
pub(super) struct Journey<'a> {
    pub(super) tables: &'a Tables,
    pub(super) stats: &'a TunnelStats,
    pub(super) engine: &'a mut Engine,
    pub(super) ingress: Ingress,
    pub(super) is_made: bool,       // by the box itself
    pub(super) inside: Option<u32>, // slot of the innermost tunnel that it is or was in
    pub(super) trail: Trail,
}

/// Why a packet goes no further, and what its sender is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stop {
    pub(super) reason: DropReason,
    pub(super) error: Option<IcmpError>,
}

impl Stop {
    const NO_ROUTE: Stop = Stop { reason: DropReason::NoRoute, error: Some(IcmpError::NoRoute) };
}

impl From<DropReason> for Stop {
    #[inline]
    fn from(reason: DropReason) -> Self {
        Stop { reason, error: None }
    }
}

/// The way out of the box that was chosen for a packet.
#[derive(Clone, Copy)]
pub(super) enum Exit<'a> {
    Link { image: &'a Image },
    Tunnel { image: &'a Image, flow: FlowHash },
}

impl<'a> Exit<'a> {
    /// The headers to put in front.
    pub(super) fn image(self) -> &'a Image {
        match self {
            Exit::Link { image, .. } | Exit::Tunnel { image, .. } => image,
        }
    }
}

/// An IP packet inside a frame: where it begins, and what it is.
#[derive(Clone, Copy)]
pub(super) struct Position {
    pub(super) offset: usize,
    pub(super) version: Version,
}

/// What is left of a packet when no tunnel of this box takes it.
enum Opened {
    Forward(Position),
    Host(Position),
    Held, // until its other fragments are there
}

impl<'a> Journey<'a> {
    #[inline]
    pub(super) fn run(&mut self, from: &Port, frame: &mut Frame<'_>) -> Result<Verdict, Stop> {
        let arrival = arrive(from, frame.bytes())?;
        self.ingress = Ingress::Interface(arrival.interface);
        self.tell(|| Step::Arrived(arrival.interface));
        let Some(position) = arrival.packet else { return Ok(self.to_host(frame, 0)?) };
        match self.open(frame, position, arrival.is_group)? {
            Opened::Forward(position) => self.forward(frame, position),
            Opened::Host(position) => self.for_the_box(frame, position),
            Opened::Held => Ok(Verdict::Held),
        }
    }

    /// Tells of a step where somebody listens.
    #[inline]
    pub(super) fn tell(&mut self, step: impl FnOnce() -> Step) {
        if let Some(steps) = &mut self.engine.steps {
            steps.push(step());
        }
    }

    /// The end of a packet that goes no further; where its sender is told, the frame begins with the packet.
    #[cold]
    pub(super) fn stop(&mut self, frame: &mut Frame<'_>, stop: Stop) -> Verdict {
        if let Some(error) = stop.error
            && let Ok(version) = Version::of_packet(frame.bytes())
            && let Ok(ip) = Ip::check(frame.bytes(), version)
        {
            self.complain(frame.bytes(), ip, self.ingress, error);
        }
        self.end(stop.reason)
    }

    /// Counts the packet's end for the tunnel that it was in.
    #[cold]
    pub(super) fn end(&self, reason: DropReason) -> Verdict {
        if let Some(counters) = self.inside.and_then(|slot| self.stats.slot(slot)) {
            counters.dropped.of(reason).add(1);
        }
        Verdict::Drop(reason)
    }

    /// The journey of a packet that is made on this one's way.
    pub(super) fn for_a_made_packet(&mut self) -> Journey<'_> {
        Journey {
            tables: self.tables,
            stats: self.stats,
            engine: self.engine,
            ingress: self.ingress,
            is_made: true,
            inside: None,
            trail: Trail::default(),
        }
    }

    /// Takes off tunnel after tunnel while the packet is for one of this box. Says where what is left begins, and cuts
    /// the frame behind it if that is to be forwarded.
    #[inline]
    fn open(
        &mut self,
        frame: &mut Frame<'_>,
        mut at: Position,
        is_group: bool,
    ) -> Result<Opened, DropReason> {
        let mut layer = 0;
        loop {
            let packet = tail(frame.bytes(), at.offset);
            let ip = Ip::check(packet, at.version)?;
            let packet = packet.get(..ip.total_len()).ok_or(DropReason::Truncated)?;
            self.tell(|| Step::Header(Summary::of(ip, packet)));
            let destination = ip.destination();
            let end = at.offset + packet.len();
            let scope = scope(destination);
            if scope == Scope::LinkGroup {
                return Ok(Opened::Host(at));
            }
            let local = self.tables.local(destination);
            let is_unicast = matches!(scope, Scope::Global | Scope::LinkUnicast);
            if is_group && layer == 0 && is_unicast && !local.is_some_and(|local| local.is_broadcast) {
                return Err(DropReason::LinkBroadcast);
            }
            let Some(local) = local else {
                // Link-local unicast that is not in the tables is the host's if it is anyone's.
                if scope == Scope::LinkUnicast {
                    return Ok(Opened::Host(at));
                }
                frame.truncate(end);
                return Ok(Opened::Forward(at));
            };
            self.tell(|| Step::Own(destination));
            let capsule = match decap::recognise(local, ip, packet) {
                Ok(Some(capsule)) => capsule,
                found => match self.gather(frame, at, found.map(drop))? {
                    Gathered::Whole => continue,
                    Gathered::Held => return Ok(Opened::Held),
                    Gathered::Host => {
                        if layer > 0 {
                            frame.truncate(end);
                        }
                        return Ok(Opened::Host(at));
                    }
                },
            };
            if layer == MAX_LAYERS {
                return Err(DropReason::TooManyLayers);
            }
            self.tell(|| Step::Recognised {
                local: destination,
                sender: ip.source(),
                selector: capsule.selector,
            });
            let id = self.tables.endpoint(destination, ip.source(), capsule.selector);
            let id = id.ok_or(DropReason::NoTunnel)?;
            let tunnel = self.tables.tunnel(id).ok_or(DropReason::NoTunnel)?;
            self.inside = Some(tunnel.slot);
            let (outer, sender) = (Outer::new(ip), ip.source());
            frame.truncate(end);
            let packet = frame.bytes_mut().get_mut(at.offset..).ok_or(DropReason::Truncated)?;
            let len = tunnel.treatment.decap.unwrap(&capsule, outer, packet)?;
            if let Some(counters) = self.stats.slot(tunnel.slot) {
                counters.rx_packets.add(1);
                counters.rx_bytes.add(len as u64);
            }
            self.trail.left(tunnel.slot);
            self.tell(|| Step::Decapsulated(id));
            at = Position { offset: at.offset + capsule.inner, version: capsule.version };
            self.ingress = Ingress::Tunnel(id);
            let inner = frame.bytes_mut().get_mut(at.offset..).ok_or(DropReason::Truncated)?;
            tunnel.treatment.decap.admit(&capsule, sender, inner)?;
            layer += 1;
        }
    }

    /// Routes the packet at `at`, which is not for this box.
    #[inline]
    pub(super) fn forward(&mut self, frame: &mut Frame<'_>, at: Position) -> Result<Verdict, Stop> {
        frame.pop_front(at.offset).ok_or(DropReason::Truncated)?;
        let packet = frame.bytes();
        let ip = Ip::new(packet, at.version)?;
        let (source, destination, len) = (ip.source(), ip.destination(), ip.total_len());
        if is_martian_source(source) && !self.is_made {
            return Err(DropReason::MartianSource.into());
        }
        if scope(destination) == Scope::Never {
            return Err(DropReason::MartianDestination.into());
        }
        if let Ip::V4(header) = ip
            && header.header_len() > ipv4::Ipv4::LEN
            && ip.upper_layer(packet)?.is_source_routed
        {
            return Err(DropReason::SourceRoute.into());
        }
        if ip.ttl() <= 1 && !self.is_made {
            return Err(Stop { reason: DropReason::Ttl, error: Some(IcmpError::TimeExceeded) });
        }
        let exit = self.exit(destination, || FlowHash::of(ip, packet))?;
        let ttl = ip.ttl();
        let (limit, crossed) = (exit.image().limit(), exit.image().crossed());
        let cut = match len > limit {
            true => {
                self.tell(|| Step::Oversize { len, limit, by: crossed });
                Some(rare::cut(ip, exit, len, limit)?)
            }
            false => None,
        };
        let syn = mss::syn_offset(ip, packet);
        let mut inherited = Inherited::new(ip);
        if !self.is_made {
            inherited = inherited.one_hop_later();
            lower_ttl(frame, at.version)?;
            self.tell(|| Step::TtlLowered(ttl));
        }
        if let Some(syn) = syn {
            let crossing =
                Crossing { tables: self.tables, stats: self.stats, from: self.ingress, to: crossed };
            if let Some(Lowered { from, to, by, is_leaving }) =
                clamp::lower(crossing, frame, syn, (source, destination))
            {
                self.tell(|| Step::Clamped { from, to, by, is_leaving });
            }
        }
        match cut {
            None => Ok(Verdict::Send(self.send(frame, exit, inherited)?)),
            Some(cut) => self.send_cut(frame, exit, inherited, cut),
        }
    }

    /// The way out for a destination: its route, and the stack of headers where that leads into a tunnel. `flow` is asked
    /// for where it matters.
    #[inline]
    fn exit(&mut self, destination: IpAddr, flow: impl Fn() -> FlowHash) -> Result<Exit<'a>, Stop> {
        let tables = self.tables;
        // A neighbour inside a tunnel answered by its link-local address, which routes could not tell from another's.
        if self.is_made
            && scope(destination) == Scope::LinkUnicast
            && let Ingress::Tunnel(id) = self.ingress
        {
            return self.tunnel_exit(id, flow());
        }
        let way = tables.route(destination).and_then(|route| route.pick(&flow));
        self.tell(|| Step::Routed { destination, way: way.map(|way| tables.taken(way)) });
        match way.ok_or(Stop::NO_ROUTE)? {
            Way::Unresolved(_) => Err(DropReason::NeighborUnknown.into()),
            Way::Neighbor(_, image) => {
                let image = tables.image(image).ok_or(Stop::NO_ROUTE)?;
                Ok(Exit::Link { image })
            }
            Way::Tunnel(id) => self.tunnel_exit(id, flow()),
        }
    }

    #[inline]
    fn tunnel_exit(&mut self, id: TunnelId, flow: FlowHash) -> Result<Exit<'a>, Stop> {
        let tunnel = self.tables.tunnel(id).ok_or(Stop::NO_ROUTE)?;
        self.inside = Some(tunnel.slot);
        // By other bits than the route: else the ways of one tunnel would never all be used.
        match tunnel.exits.pick(|| flow.again()).ok_or(Stop::NO_ROUTE)? {
            Ok(image) => {
                let image = self.tables.image(*image).ok_or(Stop::NO_ROUTE)?;
                Ok(Exit::Tunnel { image, flow })
            }
            Err(DropReason::NoRoute) => Err(Stop::NO_ROUTE),
            Err(reason) => Err((*reason).into()),
        }
    }

    /// Puts the headers of the way out in front. Returns the port to send by.
    #[inline]
    pub(super) fn send(
        &mut self,
        frame: &mut Frame<'_>,
        exit: Exit<'_>,
        inherited: Inherited,
    ) -> Result<PortId, Stop> {
        Ok(match exit {
            Exit::Link { image, .. } => image.put(frame)?,
            Exit::Tunnel { image, flow, .. } => {
                if let Some(steps) = &mut self.engine.steps {
                    steps.extend(image.slots().map(Step::Encapsulated));
                }
                let identifications = &mut self.engine.identifications;
                image.apply(frame, inherited, flow, identifications, self.stats, &mut self.trail)?
            }
        })
    }
}

#[inline]
fn lower_ttl(frame: &mut Frame<'_>, version: Version) -> Result<(), DropReason> {
    match version {
        Version::V4 => ipv4::lower_ttl(at_mut(frame.bytes_mut(), 0)?),
        Version::V6 => ipv6::lower_hop_limit(at_mut(frame.bytes_mut(), 0)?),
    }
    Ok(())
}
