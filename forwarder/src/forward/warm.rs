//! Tables that are larger than the caches: what will be looked up for the packets of a burst is asked for before.
//!
//! The first pass asks for what a packet's addresses lead to. That has come by the time of the second, which asks for the
//! counters that it names. Nothing is checked on the way: what is asked for in vain is only not needed.

use super::BURST;
use super::front::Front;
use super::plain::{Wrapped, outermost};
use crate::frame::Frame;
use crate::stats::TunnelStats;
use crate::table::{Hit, Home, ImageId, Port, Tables, Taker};
use crate::wire::{ethernet, ip, part};
use arrayvec::ArrayVec;
use std::net::IpAddr;

/// For each packet who takes it out of the last tunnel of its front, should it have that.
pub(super) type Takers<'a> = ArrayVec<Option<&'a Taker>, BURST>;

/// Bytes of a frame that are read of one without front: a tagged link's headers, and those of IPv6.
const FIRST: usize = 58;

/// Asks for what will be looked up for these frames, whose front is `front`.
#[inline(never)]
pub(super) fn warm<'a>(
    tables: &'a Tables,
    stats: &TunnelStats,
    from: &Port,
    frames: &[Frame<'_>],
    front: Option<&Front>,
) -> Takers<'a> {
    if tables.has_many_routes() {
        walk(tables, frames, front);
    }
    let asked: ArrayVec<Asked, BURST> =
        frames.iter().map(|frame| ask(tables, from, frame, front).unwrap_or(Asked::Nothing)).collect();
    let answer = |(asked, frame): (&Asked, &Frame<'_>)| {
        let taker = match asked {
            Asked::Nothing => return None,
            Asked::Image(id) => {
                stats.prefetch(tables.image(*id)?.slot()?);
                return None;
            }
            Asked::Taker(home) => front?.sibling_at(tables, frame, *home)?,
        };
        stats.prefetch(taker.slot);
        Some(taker)
    };
    asked.iter().zip(frames).map(answer).collect()
}

/// What was asked for.
enum Asked {
    Nothing,
    /// An image, before which there may be counters.
    Image(ImageId),
    /// The line in which a packet with the front finds its tunnel.
    Taker(Home),
}

#[inline(always)]
fn ask(tables: &Tables, from: &Port, frame: &Frame<'_>, front: Option<&Front>) -> Option<Asked> {
    if let Some(front) = front.filter(|front| front.may_be_in_front_of(frame)) {
        let home = front.sibling_home(tables, frame)?;
        tables.prefetch_taker(home);
        if tables.has_many_routes()
            && let Some(Hit::Image(id)) = tables.hit_for(front.destination_behind(frame)?)
        {
            tables.image(id)?.prefetch();
        }
        return Some(Asked::Taker(home));
    }
    match tables.hit_for(destination(frame)?)? {
        Hit::Image(id) => {
            tables.image(id)?.prefetch();
            Some(Asked::Image(id))
        }
        Hit::Local(_) => {
            let (layer, _) = outermost(tables, from, frame)?;
            let Hit::Local(number) = layer.hit else { return None };
            let (_, wrapped) = Wrapped::read(tables, frame, &layer, number)?;
            tables.prefetch_taker(wrapped.home);
            None
        }
        Hit::Ways(_) => None,
    }
}

/// Goes through the routes for all packets at once, step by step: each step of one waits for memory that the step before
/// named, while those of all packets can be on their way together.
fn walk(tables: &Tables, frames: &[Frame<'_>], front: Option<&Front>) {
    let of_frame = |frame: &Frame<'_>| match front.filter(|front| front.may_be_in_front_of(frame)) {
        Some(front) => front.destination_behind(frame),
        None => destination(frame),
    };
    let destinations: ArrayVec<IpAddr, BURST> = frames.iter().filter_map(of_frame).collect();
    let is_more =
        |step| destinations.iter().fold(false, |more, address| tables.prefetch_hit(*address, step) | more);
    let mut step = 0;
    while is_more(step) {
        step += 1;
    }
}

/// The destination of the IP packet in `frame`.
#[inline(always)]
fn destination(frame: &Frame<'_>) -> Option<IpAddr> {
    let first: &[u8; FIRST] = frame.window(0)?;
    let (at, version) = ethernet::carried(first.first_chunk()?)?;
    Some(ip::destination(part(first, at)?, version))
}
