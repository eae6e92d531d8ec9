//! Spreading in software: which worker forwards a packet, where the device cannot tell by inner headers.
//!
//! A tunnel has one pair of outer addresses, so a device that hashes these gives all of it to one worker. That worker reads
//! the headers of each packet, changes nothing, and by the hash of the innermost flow gives it to the worker that the flow
//! belongs to. A flow always goes to the same worker, which sends by a queue of its own, so that its packets stay in order.

use crate::forward::unshell;
use crate::frame::Frame;
use crate::stats::MAX_LAYERS;
use crate::table::{Hit, Tables};
use crate::tunnel::decap::recognise;
use crate::tunnel::flow::FlowHash;
use crate::wire::ethernet::{self, Ethernet};
use crate::wire::ip::{Ip, Version};
use crate::wire::{ethertype, ipv4, ipv6, part, protocol, tail};

/// Bytes from an IP header on that are read of a plain packet: IPv6, and what stands behind UDP.
const HEAD: usize = 64;

/// The GRE header that has no fields and IPv4 behind it (RFC 2784 §2).
const GRE_OF_IPV4: [u8; 4] = [0, 0, 0x08, 0x00];

/// Shares are whole numbers of this many parts.
const PARTS: usize = 1024;

/// Workers that a port can be spread over, by the size of a part's entry.
const MOST_WORKERS: usize = 1 << u8::BITS;

/// What it costs to receive, to look at and to hand over a packet, in tenths of what it costs to forward and send it.
const RECEIVING: usize = 7;
const FORWARDING: usize = 10;

/// What the packets of a burst had in common so far, which saves looking it up again. For one burst on one generation.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// An address of this box that has GRE tunnels.
    gre: Option<[u8; 4]>,
}

/// Which worker forwards which flows of a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shares([u8; PARTS]);

impl Shares {
    /// For workers of which each polls so many of the port's receive queues. All are to have the same work, so those that
    /// receive get fewer flows: a worker that receives all packets for more than two others keeps none.
    pub fn new(queues: &[usize]) -> Shares {
        let queues = queues.get(..MOST_WORKERS).unwrap_or(queues);
        let all: usize = queues.iter().sum();
        // What is left of each worker's equal part of all the work once it has received its part of the packets.
        let whole = (FORWARDING + RECEIVING) * all;
        let weight = |own: &usize| whole.saturating_sub(RECEIVING * queues.len() * own);
        let total = queues.iter().map(weight).sum::<usize>().max(1);
        let mut parts = [0; PARTS];
        let (mut begin, mut sum) = (0, 0);
        for (worker, own) in queues.iter().enumerate() {
            sum += weight(own);
            let end = sum * PARTS / total;
            parts.get_mut(begin..end).unwrap_or_default().fill(worker as u8);
            begin = end;
        }
        Shares(parts)
    }

    /// The worker of a flow, by its position in `worker_cores`.
    #[inline]
    pub fn worker(&self, flow: FlowHash) -> usize {
        let part = flow.part(PARTS as u64) as usize;
        self.0.get(part).copied().unwrap_or_default().into()
    }
}

/// The hash of the flow that a frame belongs to: of the packet inside all tunnel headers that are for this box. Fragments
/// go by their addresses alone, so that all of a packet meet at one worker, whichever they are. `None` for what is no IP
/// packet, and so of no flow.
#[inline]
pub fn flow(tables: &Tables, frame: &Frame<'_>, seen: &mut Seen) -> Option<FlowHash> {
    if let Some(flow) = glance(tables, frame, seen) {
        return Some(flow);
    }
    let (at, version) = ethernet::carried(frame.bytes().first_chunk()?)?;
    plain(tables, frame, at, version).or_else(|| any(tables, tail(frame.bytes(), at), version))
}

/// The same for what most packets of a fat tunnel are: IPv4 in GRE without fields over IPv4, untagged. Checksums and what the
/// addresses are good for are the business of who forwards: a packet that is refused there may go to any worker, and one that
/// is taken has the same hash here as by the longer ways.
#[inline(always)]
fn glance(tables: &Tables, frame: &Frame<'_>, seen: &mut Seen) -> Option<FlowHash> {
    const INNER: usize = Ethernet::LEN + ipv4::Ipv4::LEN + GRE_OF_IPV4.len();
    if frame.len() < INNER + ipv4::Ipv4::LEN {
        return None;
    }
    let outer: &[u8; INNER] = frame.window(0)?;
    let head: &[u8; HEAD] = frame.window(INNER)?;
    let (header, inner): (&[u8; 20], &[u8; 20]) = (part(outer, Ethernet::LEN)?, head.first_chunk()?);
    let is_whole = |header: &[u8; 20]| header[0] == 0x45 && header[6] & 0x3f | header[7] == 0;
    let is_gre = [outer[12], outer[13]] == ethertype::IPV4.to_be_bytes()
        && header[9] == protocol::GRE
        && outer.last_chunk() == Some(&GRE_OF_IPV4);
    if !(is_gre && is_whole(header) && is_whole(inner)) {
        return None;
    }
    let local = |destination: &[u8; 4]| match tables.hit(destination) {
        Some(Hit::Local(number)) => tables.local_at(number),
        _ => None,
    };
    let destination = ipv4::destination(header);
    if seen.gre != Some(destination) {
        if !local(&destination)?.gre {
            return None;
        }
        seen.gre = Some(destination);
    }
    let ip = ipv4::fields(inner);
    let may_be_tunnel =
        matches!(ip.protocol, protocol::GRE | protocol::IPV4 | protocol::IPV6 | protocol::UDP);
    if may_be_tunnel && local(&ipv4::destination(inner)).is_some() {
        return None;
    }
    Some(FlowHash::plain(head, ip))
}

/// The same for a packet whose headers all are plain, which nearly all are. `None` where one is not.
#[inline(always)]
fn plain(tables: &Tables, frame: &Frame<'_>, mut at: usize, mut version: Version) -> Option<FlowHash> {
    let mut end = frame.len();
    for _ in 0..=MAX_LAYERS {
        let head: &[u8; HEAD] = frame.window(at)?;
        let room = end.checked_sub(at)?;
        let ip = match version {
            Version::V4 => ipv4::plain(head.first_chunk()?, room)?,
            Version::V6 => ipv6::plain(head.first_chunk()?, room)?,
        };
        let hit = match (ip.protocol, version) {
            (protocol::GRE | protocol::IPV4 | protocol::IPV6 | protocol::UDP, Version::V4) => {
                tables.hit(&ipv4::destination(head.first_chunk()?))
            }
            (protocol::GRE | protocol::IPV4 | protocol::IPV6 | protocol::UDP, Version::V6) => {
                tables.hit(&ipv6::destination(head.first_chunk()?))
            }
            _ => None,
        };
        let Some(Hit::Local(number)) = hit else { return Some(FlowHash::plain(head, ip)) };
        let shell = unshell(tables.local_at(number)?, part(head, ip.header_len)?, at, ip)?;
        (at, end, version) = (shell.inner, shell.end, shell.version);
    }
    None
}

/// The same for any packet, with `packet` from its IP header on.
#[cold]
fn any(tables: &Tables, packet: &[u8], version: Version) -> Option<FlowHash> {
    let mut packet = packet;
    let mut ip = Ip::new(packet, version).ok()?;
    for _ in 0..MAX_LAYERS {
        let Some(local) = tables.local(ip.destination()) else { break };
        // What is refused is refused by whichever worker has it; here it only has to go one way.
        let Ok(Some(capsule)) = recognise(local, ip, packet) else { break };
        let Some(inner) = packet.get(capsule.inner..capsule.end) else { break };
        let Ok(inner_ip) = Ip::new(inner, capsule.version) else { break };
        (packet, ip) = (inner, inner_ip);
    }
    packet = packet.get(..ip.total_len()).unwrap_or(packet);
    Some(match ip.upper_layer(packet) {
        Ok(upper) if !upper.is_fragment => FlowHash::of(ip, packet),
        // Fragments of one packet may announce different protocols, where extension headers follow that of the fragment.
        _ => FlowHash::new(ip.addresses(), 0, [0; 4]),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(queues: &[usize]) -> Vec<usize> {
        let shares = Shares::new(queues);
        (0..queues.len())
            .map(|worker| shares.0.iter().filter(|part| usize::from(**part) == worker).count())
            .collect()
    }

    #[test]
    fn who_receives_for_others_forwards_less() {
        assert_eq!(counts(&[1, 0]), [153, 871]);
        // From three on there is enough to do with receiving.
        assert_eq!(counts(&[1, 0, 0]), [0, 512, 512]);
        assert_eq!(counts(&[1, 0, 0, 0, 0]), [0, 256, 256, 256, 256]);
    }

    #[test]
    fn equal_queues_make_equal_shares() {
        assert_eq!(counts(&[1; 4]), [256; 4]);
        assert_eq!(counts(&[3; 8]), [128; 8]);
        assert_eq!(counts(&[2]), [1024]);
    }

    #[test]
    fn no_queues_and_too_many_workers_leave_nobody_out_of_range() {
        assert_eq!(counts(&[]), [0; 0]);
        let shares = Shares::new(&[1; 1000]);
        assert!((0..10_000u64).all(|flow| shares.worker(FlowHash(flow << 40)) < MOST_WORKERS));
    }
}
