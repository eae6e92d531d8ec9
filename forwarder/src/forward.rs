//! The heart: packets and tables in, verdicts out.

use crate::frame::Frame;
use crate::stats::{Trail, TunnelStats};
use crate::table::{PortId, Tables};
use crate::verdict::{DropReason, Verdict};

/// What one worker remembers from packet to packet; nothing about any flow.
#[derive(Debug, Default)]
pub struct Engine {
    identification: u16,
}

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

impl Engine {
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
        let _ = (tables, stats, port, &self.identification);
        for _ in frames {
            let _ = outcomes.try_push(Outcome {
                verdict: Verdict::Drop(DropReason::NoRoute),
                replaced: None,
                trail: Trail::default(),
            });
        }
    }
}

/// Packets taken from a device at a time.
pub const BURST: usize = 32;

/// The outcomes of one burst.
pub type Outcomes = arrayvec::ArrayVec<Outcome, BURST>;
