//! ICMP errors about tunnels' outer packets, told on to the senders of what was inside (RFC 2473 §8, RFC 2003 §4).
//!
//! Anybody can send such an error, so it counts only where it quotes a packet that a tunnel of this box may have sent:
//! from its `local` to its remote end, with its encapsulation, port and key. It changes nothing here; a sender that is
//! told lowers its own path MTU.

use super::journey::{Journey, Position};
use crate::icmp_error::{IPV6_MIN_MTU, IcmpError};
use crate::stats::MAX_LAYERS;
use crate::tunnel::decap;
use crate::verdict::{DropReason, Ingress};
use crate::wire::checksum::Sum;
use crate::wire::icmp::{Icmp, IcmpRepr};
use crate::wire::ip::{Ip, Version};
use crate::wire::{at_mut, protocol, tail};

/// What an error about an outer packet means for the inner one.
#[derive(Clone, Copy)]
enum Meaning {
    /// The path takes outer packets of at most this size.
    Mtu(usize),
    /// The remote end is not reached.
    Unreachable,
}

impl Journey<'_> {
    /// Relays the ICMP error that begins at `at`, for a tunnel's `local`. `false` where it is not one about a packet of
    /// this box's tunnels: then it is the host's. One that is but that quotes too little of the inner packet ends here.
    ///
    /// # Errors
    /// [`DropReason::IcmpChecksum`].
    pub(super) fn relay(&mut self, packet: &[u8], at: Position) -> Result<bool, DropReason> {
        let ip = Ip::check(packet, at.version)?;
        let packet = packet.get(..ip.total_len()).ok_or(DropReason::Truncated)?;
        let upper = ip.upper_layer(packet)?;
        let is_icmp = matches!(upper.protocol, protocol::ICMP | protocol::ICMPV6) && !upper.is_fragment;
        let message = tail(packet, upper.offset);
        let Ok(header) = Icmp::new(message).map(IcmpRepr::parse) else { return Ok(false) };
        let word = u32::from(header.identifier) << 16 | u32::from(header.sequence);
        let meaning = match (at.version, header.kind, header.code) {
            _ if !is_icmp => return Ok(false),
            // The upper half of the word was unused before RFC 1191 §4, and so was all of it: 0 says nothing.
            (Version::V4, 3, 4) => Meaning::Mtu((word & 0xffff) as usize),
            (Version::V6, 2, _) => Meaning::Mtu(word as usize),
            (Version::V4, 3 | 11, _) | (Version::V6, 1 | 3, _) => Meaning::Unreachable,
            _ => return Ok(false),
        };
        let pseudo = match ip {
            Ip::V4(_) => Sum::default(),
            Ip::V6(header) => Sum::pseudo_header(header.addresses(), protocol::ICMPV6, message.len()),
        };
        if !(pseudo + Sum::of(message)).is_intact() {
            return Err(DropReason::IcmpChecksum);
        }
        let mut quote = std::mem::take(&mut self.engine.whole);
        quote.clear();
        quote.extend_from_slice(tail(message, Icmp::LEN));
        let is_ours = self.relay_quote(&mut quote, at.version, meaning);
        self.engine.whole = quote;
        Ok(is_ours)
    }

    /// The same for the outer packet, or as much of it as was quoted. Tunnels within tunnels are taken off in turn.
    fn relay_quote(&mut self, quote: &mut [u8], version: Version, mut meaning: Meaning) -> bool {
        let (mut offset, mut version, mut innermost) = (0, version, None);
        for _ in 0..MAX_LAYERS {
            let Some(outer) = quote.get_mut(offset..) else { break };
            let source = header(outer, version).map(Ip::source);
            // Only what this box sent is looked into, so only that is touched.
            let Some(local) = source.ok().and_then(|source| self.tables.local(source)) else { break };
            complete(outer, version);
            let Ok(ip) = header(outer, version) else { break };
            let Ok(Some(capsule)) = decap::recognise(local, ip, outer) else { break };
            let id = self.tables.endpoint(ip.source(), ip.destination(), capsule.selector);
            let Some((id, tunnel)) = id.and_then(|id| Some((id, self.tables.tunnel(id)?))) else { break };
            if let Meaning::Mtu(mtu) = &mut meaning {
                // What the tunnel sends is no larger than this, so a path that takes as much has no reason to complain.
                let is_believable = *mtu >= capsule.inner && *mtu < usize::from(tunnel.mtu) + capsule.inner;
                if !is_believable && innermost.is_none() {
                    return true;
                }
                *mtu = mtu.saturating_sub(capsule.inner);
            }
            offset += capsule.inner;
            version = capsule.version;
            innermost = Some(id);
        }
        let Some(id) = innermost else { return false };
        let inner = tail(quote, offset);
        if let Ok(ip) = header(inner, version)
            && let Some(error) = error_about(ip, meaning)
        {
            // The error comes from the tunnel's end here, like one about a packet that did not fit in.
            self.complain(inner, ip, Ingress::Tunnel(id), error);
        }
        true
    }
}

/// What the inner packet's sender is told; nothing where the packet could have gone on in pieces.
fn error_about(ip: Ip<'_>, meaning: Meaning) -> Option<IcmpError> {
    match (meaning, ip) {
        (Meaning::Unreachable, _) => Some(IcmpError::Unreachable),
        (Meaning::Mtu(mtu), Ip::V4(_)) => ip.dont_fragment().then_some(IcmpError::TooBig(mtu)),
        (Meaning::Mtu(mtu), Ip::V6(_)) => (ip.total_len() > IPV6_MIN_MTU).then_some(IcmpError::TooBig(mtu)),
    }
}

/// A header of which the packet may have been cut off.
fn header(packet: &[u8], version: Version) -> Result<Ip<'_>, DropReason> {
    if Version::of_packet(packet)? != version {
        return Err(DropReason::IpVersion);
    }
    Ip::new(packet, version)
}

/// Makes the UDP length of a quoted packet, if it has one, that of what was quoted: the rest is nobody's matter.
fn complete(packet: &mut [u8], version: Version) {
    let upper = header(packet, version).and_then(|ip| ip.upper_layer(packet));
    if let Ok(upper) = upper
        && upper.protocol == protocol::UDP
        && let Some(len) = packet.len().checked_sub(upper.offset)
        && let Ok(field) = at_mut(packet, upper.offset + 4)
    {
        *field = (len as u16).to_be_bytes();
    }
}
