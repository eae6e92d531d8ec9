//! The short way's last pass: what goes in front of the packets, and their fate.

use super::Outcome;
use super::plain::{HEAD, Sight};
use crate::frame::Frame;
use crate::stats::TunnelStats;
use crate::table::{ImageId, Tables};
use crate::tunnel::encap::{Image, Inside};
use crate::tunnel::layer::Inherited;
use crate::tunnel::payload;
use crate::verdict::Verdict;
use crate::wire::checksum::Sum;
use crate::wire::ip::Plain;

/// Puts the images in front of packets that go on, and sends them.
#[inline(never)]
pub(super) fn put_on(
    tables: &Tables,
    stats: &TunnelStats,
    identification: &mut u16,
    frames: &mut [Frame<'_>],
    sights: &[Sight],
    outcomes: &mut [Outcome],
) {
    let mut run = Run { image: ImageId::NONE, packets: 0, bytes: 0 };
    for ((frame, sight), outcome) in frames.iter_mut().zip(sights).zip(outcomes) {
        // There was an image, and room for it, when the way was found.
        if let Some(image) = tables.image(sight.image) {
            outcome.verdict = Verdict::Send(image.port());
            if image.is_link() {
                let _ = image.put(frame);
            } else {
                if sight.image != run.image {
                    run.count(tables, stats);
                    run = Run { image: sight.image, packets: 0, bytes: 0 };
                }
                run.packets += 1;
                run.bytes += frame.len() as u64;
                let _ = apply(image, identification, frame, sight, outcome);
            }
        }
    }
    run.count(tables, stats);
}

/// Packets that follow each other into the same tunnels, which are counted together.
struct Run {
    image: ImageId,
    packets: u64,
    bytes: u64,
}

impl Run {
    #[inline(always)]
    fn count(&self, tables: &Tables, stats: &TunnelStats) {
        if let Some(image) = tables.image(self.image) {
            image.count(stats, self.packets, self.bytes);
        }
    }
}

/// Tunnels' headers in front of a packet, whose TTL and MSS have been lowered.
#[inline(always)]
fn apply(
    image: &Image,
    identification: &mut u16,
    frame: &mut Frame<'_>,
    sight: &Sight,
    outcome: &mut Outcome,
) -> Option<()> {
    let head: &[u8; HEAD] = frame.window(0)?;
    let ip = Plain::again(head.first_chunk()?, sight.version);
    let sum = if image.has_sums() { payload::plain(head, ip, frame.bytes()) } else { Sum::default() };
    let inside = Inside { inherited: Inherited::plain(ip), flow: sight.flow, sum };
    image.apply_over(inside, frame, identification, &mut outcome.trail).ok()
}
