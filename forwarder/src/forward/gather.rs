//! What is for one of the box's addresses and is no whole tunnel packet: a fragment may be a tunnel's, the rest is not.

use super::journey::{Journey, Position};
use crate::frame::Frame;
use crate::reassembly::Fragment;
use crate::trace::Step;
use crate::tunnel::decap::{self, Capsule};
use crate::verdict::DropReason;
use crate::wire::ip::Ip;
use crate::wire::tail;

/// What was made of it.
pub(super) enum Gathered {
    /// Nothing: it is the host's.
    Host,
    /// It is kept.
    Held,
    /// It was the last one missing, and the frame holds the whole packet in its place.
    Whole,
}

impl Journey<'_> {
    /// Keeps the packet at `at` where it is a fragment that a tunnel puts together, and makes it the whole packet where it
    /// completes one. `found` is what it is taken for by itself.
    ///
    /// # Errors
    /// That of `found`, those of [`Reassembly::add`](crate::reassembly::Reassembly::add), and
    /// [`DropReason::OuterFragment`] for a whole packet whose own tunnel does not put fragments together.
    #[cold]
    pub(super) fn gather(
        &mut self,
        frame: &mut Frame<'_>,
        at: Position,
        found: Result<(), DropReason>,
    ) -> Result<Gathered, DropReason> {
        let room = frame.room().saturating_sub(at.offset);
        let packet = tail(frame.bytes(), at.offset);
        let ip = Ip::new(packet, at.version)?;
        let packet = packet.get(..ip.total_len()).ok_or(DropReason::Truncated)?;
        let (Ok(upper), Some(local)) = (ip.upper_layer(packet), self.tables.local(ip.destination())) else {
            return found.map(|()| Gathered::Host);
        };
        let is_wanted = upper.is_fragment
            && !upper.is_source_routed
            && local.may_take(upper)
            && self.tables.reassembles(ip.destination(), ip.source());
        if !is_wanted {
            return found.map(|()| Gathered::Host);
        }
        let fragment = Fragment::new(ip, upper, packet)?;
        let engine = &mut self.engine;
        let whole = engine.reassembly.add(&fragment, room, engine.now, self.inside, self.stats)?;
        let Some(whole) = whole else { return Ok(Gathered::Held) };
        frame.resize(at.offset + whole.size()).ok_or(DropReason::ReassemblyTooBig)?;
        let packet = frame.bytes_mut().get_mut(at.offset..).ok_or(DropReason::Truncated)?;
        whole.write(packet);
        self.tell(|| Step::Joined);
        // The others went by addresses alone; the packet goes on only by a tunnel that asked for it.
        let ip = Ip::check(packet, at.version)?;
        let (own, sender) = (ip.destination(), ip.source());
        let Some(Capsule { selector, .. }) = decap::recognise(local, ip, packet)? else {
            return Ok(Gathered::Whole);
        };
        let tunnel = self.tables.endpoint(own, sender, selector).and_then(|id| self.tables.tunnel(id));
        if let Some(tunnel) = tunnel.filter(|tunnel| !tunnel.reassembly) {
            self.tell(|| Step::Recognised { local: own, sender, selector });
            self.inside = Some(tunnel.slot);
            return Err(DropReason::OuterFragment);
        }
        Ok(Gathered::Whole)
    }
}
