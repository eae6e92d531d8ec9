//! What happened to one packet, step by step, for whoever asks why.
//!
//! The journey tells of each step where somebody listens, and nobody does but [`Engine::trace`]: the steps are told by the
//! very code that decides, so they cannot say anything else than what was done. They are values; which words and which
//! lines of the configuration belong to them is the reader's matter.

use crate::forward::{Engine, Outcome, Outcomes};
use crate::frame::Frame;
use crate::icmp_error::IcmpError;
use crate::stats::TunnelStats;
use crate::table::{InterfaceId, Mac, PortId, Tables, TunnelId};
use crate::tunnel::decap::Selector;
use crate::verdict::Ingress;
use crate::wire::ip::{Ip, Version};
use crate::wire::{head, protocol, tail};
use std::net::IpAddr;

/// One step of a packet's way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The frame belongs to this interface.
    Arrived(InterfaceId),
    /// An IP header was read and found good.
    Header(Summary),
    /// The destination is an address of the box.
    Own(IpAddr),
    /// A tunnel packet for `local`; which tunnel it is of is looked for by these.
    Recognised {
        /// One of the box's tunnel ends.
        local: IpAddr,
        /// Who sent it.
        sender: IpAddr,
        /// What else tells tunnels apart.
        selector: Selector,
    },
    /// A fragment that completed a packet, which goes on.
    Joined,
    /// Taken out of this tunnel.
    Decapsulated(TunnelId),
    /// The route of the destination, or that there is none.
    Routed {
        /// Where the packet is to go.
        destination: IpAddr,
        /// How it gets there.
        way: Option<Taken>,
    },
    /// One less than this from here on.
    TtlLowered(u8),
    /// The MSS option of a SYN was lowered.
    Clamped {
        /// What it said.
        from: u16,
        /// What it says.
        to: u16,
        /// Whose limit it was.
        by: Ingress,
        /// Whether the packet was leaving by it, rather than arriving.
        is_leaving: bool,
    },
    /// Larger than the way out takes.
    Oversize {
        /// Bytes of the packet.
        len: usize,
        /// Bytes that the way out takes.
        limit: usize,
        /// The way out.
        by: Ingress,
    },
    /// Sent in so many pieces.
    Cut {
        /// How many.
        pieces: usize,
        /// Each with tunnel headers of its own; otherwise the outermost packet was cut.
        is_inner: bool,
    },
    /// Put into the tunnel that counts in this slot.
    Encapsulated(u32),
    /// The sender is told why, or not.
    Told {
        /// The sender.
        to: IpAddr,
        /// What it would be told.
        error: IcmpError,
        /// Whether it is, and why not.
        what: Telling,
    },
    /// A packet of the box's own is made: an answer or an error. The steps that follow are its own, up to its end.
    Made(Summary),
}

/// The way that a route takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// To a neighbour.
    Neighbor(InterfaceId, Mac),
    /// To a neighbour whose MAC address is not known.
    Unresolved(InterfaceId),
    /// Into a tunnel.
    Tunnel(TunnelId),
}

/// Whether an ICMP error is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Telling {
    /// It is.
    Sent,
    /// It would be about a packet of the box's own.
    AboutOwn,
    /// The RFCs exclude it: [`crate::icmp_error::is_due`].
    NotDue,
    /// The box has no address of this family to speak from.
    NoSpeaker,
    /// There were too many already.
    Limited,
}

/// An IP header in short.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Version.
    pub version: Version,
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Protocol behind options and extension headers; `None` where these are malformed.
    pub protocol: Option<u8>,
    /// Source and destination port, of TCP and UDP that is no later fragment.
    pub ports: Option<(u16, u16)>,
    /// TTL or hop limit.
    pub ttl: u8,
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// Bytes, header included.
    pub len: usize,
    /// Whether it is a fragment.
    pub is_fragment: bool,
}

impl Summary {
    /// Of a packet with this header.
    #[cold]
    pub fn of(ip: Ip<'_>, packet: &[u8]) -> Self {
        let upper = ip.upper_layer(packet).ok();
        let with_ports = upper.filter(|upper| {
            matches!(upper.protocol, protocol::TCP | protocol::UDP) && !upper.is_later_fragment
        });
        let ports = with_ports.and_then(|upper| head::<4>(tail(packet, upper.offset)).ok());
        Summary {
            version: ip.version(),
            source: ip.source(),
            destination: ip.destination(),
            protocol: upper.map(|upper| upper.protocol),
            ports: ports.map(|[a, b, c, d]| (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]))),
            ttl: ip.ttl(),
            traffic_class: ip.traffic_class(),
            len: ip.total_len(),
            is_fragment: upper.is_some_and(|upper| upper.is_fragment),
        }
    }
}

impl Engine {
    /// Forwards one packet as [`forward_burst`](Self::forward_burst) does, always by the whole journey, and tells what
    /// happened on the way. `None` for a port that the tables do not have.
    pub fn trace(
        &mut self,
        tables: &Tables,
        stats: &TunnelStats,
        arrival: (PortId, u64),
        frame: &mut Frame<'_>,
    ) -> Option<(Outcome, Vec<Step>)> {
        let mut outcomes = Outcomes::new();
        self.listen();
        self.forward_burst(tables, stats, arrival, std::slice::from_mut(frame), &mut outcomes);
        let steps = self.heard();
        Some((outcomes.iter().next()?, steps))
    }
}
