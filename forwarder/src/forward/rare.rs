//! What happens seldom: packets for the box itself, packets that are too big, errors to their senders.

use super::Host;
use super::journey::{Exit, Journey, Position, Stop};
use crate::echo;
use crate::fragment::{self, Piece};
use crate::frame::Frame;
use crate::icmp_error::{self, IcmpError};
use crate::scope::{is_martian_source, is_unicast};
use crate::table::MAX_IMAGE;
use crate::trace::{Step, Summary, Telling};
use crate::tunnel::decap::Local;
use crate::tunnel::layer::Inherited;
use crate::verdict::{DropReason, Ingress, Verdict};
use crate::wire::ethernet::Ethernet;
use crate::wire::ip::{Ip, Version};
use crate::wire::vlan::Vlan;
use crate::wire::{at_mut, ethertype, tail};

/// How a packet that is larger than the way out takes is sent all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// In pieces of at most this size, each with headers of its own (RFC 7588 §3.1).
    Inner(usize),
    /// Whole, and the outermost packet in pieces of at most this size (RFC 7676 §3.1).
    Outer(usize),
}

impl Journey<'_> {
    /// A packet for one of the box's addresses that no tunnel takes: a ping is answered, the rest is the host's.
    #[cold]
    pub(super) fn for_the_box(&mut self, frame: &mut Frame<'_>, at: Position) -> Result<Verdict, Stop> {
        let ip = Ip::check(tail(frame.bytes(), at.offset), at.version)?;
        // Who is answered has to be one host, and one that a route leads to or that is in the tunnel (RFC 1122 §3.2.1.3).
        let can_be_told = match self.ingress {
            Ingress::Interface(_) => !is_martian_source(ip.source()),
            Ingress::Tunnel(_) => is_unicast(ip.source()),
        };
        let is_for_us = self.tables.local(ip.destination()).is_some_and(|local| {
            local.answers_echo || (self.engine.host == Host::Absent && !local.is_broadcast)
        });
        let answers = can_be_told && is_for_us;
        let mut answer = self.engine.blank();
        let is_echo = answers && echo::answer(tail(frame.bytes(), at.offset), at.version, &mut answer)?;
        if is_echo {
            self.originate(answer, at.version);
            return Ok(Verdict::Consumed);
        }
        self.engine.reuse(answer);
        let is_tunnel_end = self.tables.local(ip.destination()).is_some_and(Local::is_tunnel_end);
        if is_tunnel_end && self.relay(tail(frame.bytes(), at.offset), at)? {
            return Ok(Verdict::Consumed);
        }
        Ok(self.to_host(frame, at.offset)?)
    }

    /// Makes the frame what the host is given: an Ethernet frame without tag, or the packet that came out of a tunnel.
    #[cold]
    pub(super) fn to_host(&self, frame: &mut Frame<'_>, offset: usize) -> Result<Verdict, DropReason> {
        if self.engine.host == Host::Absent {
            return Err(DropReason::NoKernel);
        }
        match self.ingress {
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
        Ok(Verdict::Kernel(self.ingress))
    }

    /// Tells the sender of `packet`, which came by `ingress` and of which `ip` is the header, why it went no further,
    /// where it is to be told at all.
    #[cold]
    pub(super) fn complain(&mut self, packet: &[u8], ip: Ip<'_>, ingress: Ingress, error: IcmpError) {
        let (version, to) = (ip.version(), ip.source());
        let is_own = self.is_made || self.tables.local(to).is_some();
        let speaker = self.tables.speaker(ingress, version);
        let rates = self.engine.share(self.tables.icmp());
        let mut tell =
            |what| self.engine.steps.iter_mut().for_each(|steps| steps.push(Step::Told { to, error, what }));
        let source = match speaker {
            _ if is_own => return tell(Telling::AboutOwn),
            _ if !icmp_error::is_due(ip, packet) => return tell(Telling::NotDue),
            None => return tell(Telling::NoSpeaker),
            Some(source) => source,
        };
        let admits = self.engine.limiter.admits(to, rates, self.engine.now);
        self.tell(|| Step::Told { to, error, what: if admits { Telling::Sent } else { Telling::Limited } });
        if !admits {
            return;
        }
        let mut message = self.engine.blank();
        let identification = self.engine.identifications.for_ipv4();
        error.write(ip, packet, source, identification, &mut message);
        self.originate(message, version);
    }

    /// Sends a packet of the box's own, which stands in `buffer` behind [`MAX_IMAGE`] free bytes, by its route.
    fn originate(&mut self, mut buffer: Vec<u8>, version: Version) {
        let len = buffer.len().saturating_sub(MAX_IMAGE);
        let position = self.engine.originated.len();
        let mut frame = Frame::new(&mut buffer, MAX_IMAGE, len);
        let at = Position { offset: 0, version };
        if let Ok(ip) = Ip::new(frame.bytes(), version) {
            self.tell(|| Step::Made(Summary::of(ip, frame.bytes())));
        }
        let mut journey = self.for_a_made_packet();
        let verdict = match journey.forward(&mut frame, at) {
            Ok(verdict) => verdict,
            Err(stop) => journey.end(stop.reason),
        };
        let trail = journey.trail;
        self.engine.originated.insert(position, verdict, trail, frame.bytes());
        self.engine.reuse(buffer);
    }

    /// Sends the packet in `frame` in pieces: the first in the frame itself, the others as packets made here.
    #[cold]
    pub(super) fn send_cut(
        &mut self,
        frame: &mut Frame<'_>,
        exit: Exit<'_>,
        inherited: Inherited,
        cut: Cut,
    ) -> Result<Verdict, Stop> {
        let mut whole = std::mem::take(&mut self.engine.whole);
        whole.clear();
        let (front, sent_by) = match cut {
            Cut::Inner(_) => (0, None),
            Cut::Outer(_) => {
                let port = self.send(frame, exit, inherited)?;
                (exit.image().link_len(), Some(port))
            }
        };
        whole.extend_from_slice(frame.bytes());
        let (link, packet) = whole.split_at_checked(front).unwrap_or_default();
        let pieces = self.pieces(packet, cut);
        self.tell(|| Step::Cut { pieces: pieces.len(), is_inner: matches!(cut, Cut::Inner(_)) });
        let trail = self.trail;
        let mut verdict = Err(Stop::from(DropReason::TooBig));
        for (index, piece) in pieces.iter().enumerate() {
            let data = packet.get(piece.data.clone()).unwrap_or_default();
            if index == 0 {
                write(frame, [link, &piece.header, data]);
                verdict = match sent_by {
                    Some(port) => Ok(Verdict::Send(port)),
                    None => self.send(frame, exit, inherited).map(Verdict::Send),
                };
                continue;
            }
            let mut buffer = self.engine.blank();
            let len = link.len() + piece.header.len() + data.len();
            buffer.resize(MAX_IMAGE + len, 0);
            let mut later = Frame::new(&mut buffer, MAX_IMAGE, len);
            write(&mut later, [link, &piece.header, data]);
            let before = std::mem::replace(&mut self.trail, trail);
            let fate = match sent_by {
                Some(port) => Verdict::Send(port),
                None => match self.send(&mut later, exit, inherited) {
                    Ok(port) => Verdict::Send(port),
                    Err(stop) => self.end(stop.reason),
                },
            };
            let trail = std::mem::replace(&mut self.trail, before);
            let at = self.engine.originated.len();
            self.engine.originated.insert(at, fate, trail, later.bytes());
            self.engine.reuse(buffer);
        }
        self.engine.whole = whole;
        verdict
    }

    fn pieces(&mut self, packet: &[u8], cut: Cut) -> Vec<Piece> {
        match (Version::of_packet(packet), cut) {
            (Ok(Version::V4), Cut::Inner(limit)) => {
                // The packet's own identification: its receiver may have other fragments of it from elsewhere.
                let own = crate::wire::ipv4::Ipv4::new(packet).map_or(0, |header| header.identification());
                fragment::ipv4(packet, limit, own).collect()
            }
            (Ok(Version::V4), Cut::Outer(limit)) => {
                fragment::ipv4(packet, limit, self.engine.identifications.for_ipv4()).collect()
            }
            (Ok(Version::V6), Cut::Inner(limit) | Cut::Outer(limit)) => {
                fragment::ipv6(packet, limit, self.engine.identifications.for_ipv6()).collect()
            }
            (Err(_), _) => Vec::new(),
        }
    }
}

/// What becomes of a packet of `len` bytes where the way out takes `limit`.
///
/// # Errors
/// [`DropReason::TooBig`] where it may not be fragmented.
#[cold]
pub(super) fn cut(ip: Ip<'_>, exit: Exit<'_>, len: usize, limit: usize) -> Result<Cut, Stop> {
    match (ip, exit) {
        (Ip::V4(_), _) if !ip.dont_fragment() => Ok(Cut::Inner(limit)),
        // An IPv6 link has to take 1,280 bytes, so a tunnel that is smaller makes do by itself.
        (Ip::V6(_), Exit::Tunnel { image, .. }) if len <= icmp_error::IPV6_MIN_MTU => {
            Ok(Cut::Outer(limit + image.overhead()))
        }
        _ => Err(Stop { reason: DropReason::TooBig, error: Some(IcmpError::TooBig(limit)) }),
    }
}

/// Makes `parts` the frame's bytes, from its start on. They are never more than it has.
fn write(frame: &mut Frame<'_>, parts: [&[u8]; 3]) {
    frame.truncate(parts.iter().map(|part| part.len()).sum());
    for (to, from) in frame.bytes_mut().iter_mut().zip(parts.into_iter().flatten()) {
        *to = *from;
    }
}
