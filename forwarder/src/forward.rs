//! The heart: packets and tables in, verdicts out.
//!
//! A packet is looked at where it lies. From the outside in: its frame, its IP header, and while it is for a tunnel of
//! this box, the headers that the tunnel takes off. What is left is the host's, or is forwarded: a route, a TTL less, the
//! MSS clamps of what is crossed, and either a neighbour's Ethernet header or a tunnel's image in front. Whatever stops
//! it on the way ends it with a reason.

use crate::echo;
use crate::frame::Frame;
use crate::scope::{Scope, is_martian_source, scope};
use crate::stats::{MAX_LAYERS, Trail, TunnelStats};
use crate::table::{InterfaceId, Port, PortId, Tables, TunnelId, Way};
use crate::tunnel::decap::{self, Outer};
use crate::tunnel::flow::FlowHash;
use crate::tunnel::layer::Inherited;
use crate::tunnel::mss;
use crate::verdict::{DropReason, Ingress, Verdict};
use crate::wire::ethernet::Ethernet;
use crate::wire::ip::{Ip, Version};
use crate::wire::vlan::Vlan;
use crate::wire::{at_mut, ethertype, ipv4, ipv6, tail};
use arrayvec::ArrayVec;
use std::net::IpAddr;

/// Packets taken from a device at a time.
pub const BURST: usize = 32;

/// The outcomes of one burst.
pub type Outcomes = ArrayVec<Outcome, BURST>;

/// What became of a received packet, and of the packet that may have been made in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The fate of the packet that the frame holds.
    pub verdict: Verdict,
    /// Set where the frame holds a packet made here (an answer, an error): what became of the received one.
    pub replaced: Option<Replaced>,
    /// The tunnels crossed.
    pub trail: Trail,
}

/// What became of a received packet whose buffer holds an originated one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replaced {
    /// Answered.
    Consumed,
    /// Dropped for this reason, with an ICMP error in its place.
    Dropped(DropReason),
}

/// What one worker remembers from packet to packet; nothing about any flow.
#[derive(Debug)]
pub struct Engine {
    host: Host,
    identification: u16,
}

/// Who is behind the box's own addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host {
    /// A kernel takes what is for the box.
    Attached,
    /// Nobody: pings are answered here, the rest is dropped.
    Absent,
}

/// One packet on its way: the tables that decide, and what has happened to it so far.
struct Journey<'a> {
    tables: &'a Tables,
    stats: &'a TunnelStats,
    identification: &'a mut u16,
    host: Host,
    trail: Trail,
    inside: Option<u32>, // slot of the innermost tunnel that it is or was in
    replaced: Option<Replaced>,
}

/// An IP packet inside a frame: where it begins, and how it came there.
#[derive(Clone, Copy)]
struct Position {
    offset: usize,
    version: Version,
    ingress: Ingress,
}

/// What the Ethernet header of a frame says.
enum Arrival {
    /// An IP packet.
    Ip { position: Position, is_group: bool },
    /// Address resolution: the host's.
    Host(InterfaceId),
}

impl Engine {
    /// An engine for a box with or without a host behind it.
    pub fn new(host: Host) -> Self {
        Engine { host, identification: 0 }
    }

    /// Decides on each frame of a burst that came in by `port`, rewrites it in place, and counts for its tunnels. One
    /// outcome a frame is appended to `outcomes`, in order.
    pub fn forward_burst(
        &mut self,
        tables: &Tables,
        stats: &TunnelStats,
        port: PortId,
        frames: &mut [Frame<'_>],
        outcomes: &mut Outcomes,
    ) {
        let Some(from) = tables.port(port) else { return };
        for frame in frames {
            let mut journey = Journey {
                tables,
                stats,
                identification: &mut self.identification,
                host: self.host,
                trail: Trail::default(),
                inside: None,
                replaced: None,
            };
            let verdict = journey.run(from, frame).unwrap_or_else(|reason| journey.end(reason));
            outcomes.push(Outcome { verdict, replaced: journey.replaced, trail: journey.trail });
        }
    }
}

impl Journey<'_> {
    fn run(&mut self, from: &Port, frame: &mut Frame<'_>) -> Result<Verdict, DropReason> {
        let (position, is_group) = match arrive(from, frame.bytes())? {
            Arrival::Ip { position, is_group } => (position, is_group),
            Arrival::Host(interface) => return self.to_host(frame, Ingress::Interface(interface), 0),
        };
        match self.open(frame, position, is_group)? {
            Opened::Forward(position) => self.forward(frame, position),
            Opened::Host(position) => self.for_the_box(frame, position),
        }
    }

    /// Counts the packet's end for the tunnel that it was in.
    #[cold]
    fn end(&self, reason: DropReason) -> Verdict {
        if let Some(counters) = self.inside.and_then(|slot| self.stats.slot(slot)) {
            counters.dropped.of(reason).add(1);
        }
        Verdict::Drop(reason)
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
        for layer in 0.. {
            let packet = tail(frame.bytes(), at.offset);
            let ip = Ip::check(packet, at.version)?;
            let packet = packet.get(..ip.total_len()).ok_or(DropReason::Truncated)?;
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
            let Some(capsule) = decap::recognise(local, ip, packet)? else { return Ok(Opened::Host(at)) };
            if layer == MAX_LAYERS {
                return Err(DropReason::TooManyLayers);
            }
            let id = self.tables.endpoint(destination, ip.source(), capsule.selector);
            let id = id.ok_or(DropReason::NoTunnel)?;
            let tunnel = self.tables.tunnel(id).ok_or(DropReason::NoTunnel)?;
            self.inside = Some(tunnel.slot);
            let outer = Outer::new(ip);
            frame.truncate(end);
            let packet = frame.bytes_mut().get_mut(at.offset..).ok_or(DropReason::Truncated)?;
            let len = tunnel.decap.unwrap(&capsule, outer, packet)?;
            if let Some(counters) = self.stats.slot(tunnel.slot) {
                counters.rx_packets.add(1);
                counters.rx_bytes.add(len as u64);
            }
            self.trail.left(tunnel.slot);
            at = Position {
                offset: at.offset + capsule.inner,
                version: capsule.version,
                ingress: Ingress::Tunnel(id),
            };
        }
        Err(DropReason::TooManyLayers)
    }

    /// Routes the packet at `position`, which is not for this box.
    #[inline]
    fn forward(&mut self, frame: &mut Frame<'_>, at: Position) -> Result<Verdict, DropReason> {
        frame.pop_front(at.offset).ok_or(DropReason::Truncated)?;
        let packet = frame.bytes();
        let ip = match at.version {
            Version::V4 => Ip::V4(ipv4::Ipv4::new(packet)?),
            Version::V6 => Ip::V6(ipv6::Ipv6::new(packet)?),
        };
        let (source, destination, len) = (ip.source(), ip.destination(), ip.total_len());
        if is_martian_source(source) {
            return Err(DropReason::MartianSource);
        }
        let is_ours = self.replaced.is_some();
        if scope(destination) == Scope::Never {
            return Err(DropReason::MartianDestination);
        }
        if let Ip::V4(header) = ip
            && header.header_len() > ipv4::Ipv4::LEN
            && ip.upper_layer(packet)?.is_source_routed
        {
            return Err(DropReason::SourceRoute);
        }
        if ip.ttl() <= 1 && !is_ours {
            return Err(DropReason::Ttl);
        }
        let flow = || FlowHash::of(ip, packet);
        let ways = self.tables.route(destination).ok_or(DropReason::NoRoute)?;
        let way = ways.pick(flow).ok_or(DropReason::NoRoute)?;
        match way {
            Way::Unresolved(_) => Err(DropReason::NeighborUnknown),
            Way::Neighbor(interface, image) => {
                let interface = self.tables.interface(*interface).ok_or(DropReason::NoRoute)?;
                if len > interface.mtu {
                    return Err(DropReason::TooBig);
                }
                let syn = mss::syn_offset(ip, packet);
                if !is_ours {
                    lower_ttl(frame, at.version)?;
                }
                if let Some(syn) = syn {
                    let leaving = (interface.clamps_out.limit(source, destination), None);
                    self.clamp(frame, syn, at.ingress, (source, destination), leaving);
                }
                image.put(frame)
            }
            Way::Tunnel(id) => {
                let tunnel = self.tables.tunnel(*id).ok_or(DropReason::NoRoute)?;
                self.inside = Some(tunnel.slot);
                if len > tunnel.mtu {
                    return Err(DropReason::TooBig);
                }
                let flow = flow();
                let exit = tunnel.exits.pick(|| flow).ok_or(DropReason::NoRoute)?;
                let image = exit.as_ref().map_err(|reason| *reason)?;
                let syn = mss::syn_offset(ip, packet);
                let mut inherited = Inherited::new(ip);
                if !is_ours {
                    inherited = inherited.one_hop_later();
                    lower_ttl(frame, at.version)?;
                }
                if let Some(syn) = syn {
                    let leaving = (tunnel.clamps_out.limit(source, destination), Some(*id));
                    self.clamp(frame, syn, at.ingress, (source, destination), leaving);
                }
                image.apply(frame, inherited, flow, self.identification, self.stats, &mut self.trail)
            }
        }
        .map(Verdict::Send)
    }

    /// A packet for one of the box's addresses that no tunnel takes: a ping is answered, the rest is the host's.
    #[cold]
    fn for_the_box(&mut self, frame: &mut Frame<'_>, at: Position) -> Result<Verdict, DropReason> {
        let destination = Ip::check(tail(frame.bytes(), at.offset), at.version)?.destination();
        let local = self.tables.local(destination);
        let answers = local
            .is_some_and(|local| local.answers_echo || (self.host == Host::Absent && !local.is_broadcast));
        if !answers || !echo::answer(frame, at.offset, at.version)? {
            return self.to_host(frame, at.ingress, at.offset);
        }
        self.replaced = Some(Replaced::Consumed);
        self.inside = None;
        self.forward(frame, Position { offset: 0, ..at })
    }

    /// Makes the frame what the host is given: an Ethernet frame without tag, or the packet that came out of a tunnel.
    #[cold]
    fn to_host(&self, frame: &mut Frame<'_>, ingress: Ingress, offset: usize) -> Result<Verdict, DropReason> {
        if self.host == Host::Absent {
            return Err(DropReason::NoKernel);
        }
        match ingress {
            Ingress::Tunnel(_) => frame.pop_front(offset).ok_or(DropReason::Truncated)?,
            Ingress::Interface(_) => {
                let header = Ethernet::new(frame.bytes())?;
                if header.ethertype() == ethertype::VLAN
                    && let Some(addresses) = frame.bytes().first_chunk::<12>().copied()
                {
                    frame.pop_front(Vlan::LEN).ok_or(DropReason::Truncated)?;
                    *at_mut(frame.bytes_mut(), 0)? = addresses;
                }
            }
        }
        Ok(Verdict::Kernel(ingress))
    }

    /// Lowers the MSS of a SYN to the lowest limit on its way in and out. `leaving` is the limit on the way out, and the
    /// tunnel that it is of. It counts for the tunnel whose limit was the one applied.
    #[cold]
    fn clamp(
        &self,
        frame: &mut Frame<'_>,
        syn: usize,
        ingress: Ingress,
        (source, destination): (IpAddr, IpAddr),
        leaving: (Option<u16>, Option<TunnelId>),
    ) {
        let arriving = match ingress {
            Ingress::Interface(id) => {
                let clamps = self.tables.interface(id).map(|interface| &interface.clamps_in);
                (clamps.and_then(|clamps| clamps.limit(source, destination)), None)
            }
            Ingress::Tunnel(id) => {
                let clamps = self.tables.tunnel(id).map(|tunnel| &tunnel.clamps_in);
                (clamps.and_then(|clamps| clamps.limit(source, destination)), Some(id))
            }
        };
        let limits = [arriving, leaving].into_iter().filter_map(|(limit, of)| Some((limit?, of)));
        // Of equal ones the first, which is the one crossed first.
        let Some((limit, of)) = limits.min_by_key(|(limit, _)| *limit) else { return };
        if mss::clamp(frame.bytes_mut(), syn, limit)
            && let Some(tunnel) = of.and_then(|id| self.tables.tunnel(id))
            && let Some(counters) = self.stats.slot(tunnel.slot)
        {
            counters.mss_clamped.add(1);
        }
    }
}

/// What is left of a packet when no tunnel of this box takes it.
enum Opened {
    Forward(Position),
    Host(Position),
}

/// Reads Ethernet header and tag: which interface, which kind of packet.
#[inline]
fn arrive(port: &Port, frame: &[u8]) -> Result<Arrival, DropReason> {
    let header = Ethernet::new(frame)?;
    let destination = header.destination();
    let is_group = destination.is_group();
    if !is_group && destination != port.mac {
        return Err(DropReason::EthernetAddress);
    }
    let (vlan, ethertype, offset) = match header.ethertype() {
        ethertype::VLAN => {
            let tag = Vlan::new(tail(frame, Ethernet::LEN))?;
            (tag.id(), tag.ethertype(), Ethernet::LEN + Vlan::LEN)
        }
        ethertype::QINQ => return Err(DropReason::VlanUnknown),
        other => (0, other, Ethernet::LEN),
    };
    // Identifier 0 is a priority tag on the untagged side (IEEE 802.1Q §9.6).
    let interface = match vlan {
        0 => port.untagged,
        _ => port.vlans.iter().find(|(id, _)| *id == vlan).map(|(_, interface)| *interface),
    };
    let interface = interface.ok_or(DropReason::VlanUnknown)?;
    let version = match ethertype {
        ethertype::IPV4 => Version::V4,
        ethertype::IPV6 => Version::V6,
        ethertype::ARP => return Ok(Arrival::Host(interface)),
        ethertype::VLAN | ethertype::QINQ => return Err(DropReason::VlanUnknown),
        _ => return Err(DropReason::EthernetType),
    };
    let position = Position { offset, version, ingress: Ingress::Interface(interface) };
    Ok(Arrival::Ip { position, is_group })
}

#[inline]
fn lower_ttl(frame: &mut Frame<'_>, version: Version) -> Result<(), DropReason> {
    match version {
        Version::V4 => ipv4::lower_ttl(at_mut(frame.bytes_mut(), 0)?),
        Version::V6 => ipv6::lower_hop_limit(at_mut(frame.bytes_mut(), 0)?),
    }
    Ok(())
}
