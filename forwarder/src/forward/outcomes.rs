//! What became of the packets of a burst.

use super::BURST;
use crate::stats::Trail;
use crate::table::PortId;
use crate::verdict::Verdict;
use arrayvec::ArrayVec;
use std::ops::Range;

/// What became of a received packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Its fate.
    pub verdict: Verdict,
    /// The tunnels that it crossed.
    pub trail: Trail,
}

/// The outcomes of one burst, in order. Packets that follow each other mostly come to the same, which is kept once for all of
/// them.
#[derive(Clone, Debug, Default)]
pub struct Outcomes {
    // With the position of the packet behind the last one.
    runs: ArrayVec<(Outcome, usize), BURST>,
}

impl Outcomes {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets all.
    #[inline]
    pub fn clear(&mut self) {
        self.runs.clear();
    }

    /// How many there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.runs.last().map_or(0, |(_, end)| *end)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Adds that of the next packet. One more than [`BURST`] is lost.
    #[inline]
    pub fn push(&mut self, outcome: Outcome) {
        if self.runs.last().is_none_or(|(last, _)| *last != outcome)
            && let Some(trail) = self.begin(outcome.verdict)
        {
            *trail = outcome.trail;
        }
        self.go_on(1);
    }

    /// Has the packets that [go on](Self::go_on) come to this, at least one. Returns their tunnels, to be written where they
    /// lie: a trail that was just put together is dear to copy. `None` where there are [`BURST`] packets.
    #[inline(always)]
    pub(super) fn begin(&mut self, verdict: Verdict) -> Option<&mut Trail> {
        let start = self.len();
        if start == BURST {
            return None;
        }
        self.runs.try_push((Outcome { verdict, trail: Trail::NONE }, start)).ok()?;
        self.runs.last_mut().map(|(outcome, _)| &mut outcome.trail)
    }

    /// Adds so many packets that came to the same as the one before, or to what has just begun.
    #[inline(always)]
    pub(super) fn go_on(&mut self, packets: usize) {
        if let Some((_, end)) = self.runs.last_mut() {
            *end = BURST.min(*end + packets);
        }
    }

    /// The positions of packets that follow each other and came to the same, with that.
    #[inline]
    pub fn runs(&self) -> impl Iterator<Item = (Range<usize>, &Outcome)> {
        let starts = [0].into_iter().chain(self.runs.iter().map(|(_, end)| *end));
        starts.zip(&self.runs).map(|(start, (outcome, end))| (start..*end, outcome))
    }

    /// That of each packet, in order.
    pub fn iter(&self) -> impl Iterator<Item = Outcome> + '_ {
        self.runs().flat_map(|(packets, outcome)| packets.map(|_| *outcome))
    }

    /// The port by which all packets are sent, where they are.
    #[inline]
    pub fn only_port(&self) -> Option<PortId> {
        let mut verdicts = self.runs.iter().map(|(outcome, _)| outcome.verdict);
        let first = verdicts.next()?;
        match first {
            Verdict::Send(port) if verdicts.all(|verdict| verdict == first) => Some(port),
            _ => None,
        }
    }
}

impl FromIterator<Outcome> for Outcomes {
    fn from_iter<I: IntoIterator<Item = Outcome>>(outcomes: I) -> Self {
        let mut all = Outcomes::new();
        outcomes.into_iter().for_each(|outcome| all.push(outcome));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::DropReason;

    #[test]
    fn outcomes_come_back_as_they_were_added_and_equal_ones_are_one_run() {
        let mut tunnel = Trail::NONE;
        tunnel.entered(3);
        let trails = [Trail::NONE, Trail::NONE, tunnel, tunnel, tunnel, Trail::NONE];
        let verdict = Verdict::Drop(DropReason::Ttl);
        let none = Outcomes::new();
        assert_eq!((none.iter().count(), none.runs().count()), (0, 0));
        let mut outcomes: Outcomes = trails.map(|trail| Outcome { verdict, trail }).into_iter().collect();
        assert_eq!(outcomes.iter().map(|outcome| outcome.trail).collect::<Vec<_>>(), trails);
        let ranges: Vec<_> = outcomes.runs().map(|(packets, _)| packets).collect();
        assert_eq!(ranges, [0..2, 2..5, 5..6]);
        assert_eq!(outcomes.only_port(), None);
        for _ in 0..2 * BURST {
            outcomes.push(Outcome { verdict, trail: tunnel });
        }
        assert_eq!((outcomes.len(), outcomes.iter().count()), (BURST, BURST));
    }

    #[test]
    fn one_port_is_named_where_all_packets_leave_by_it() {
        let ports = |ports: &[u16]| -> Outcomes {
            let sent = |port: &u16| Outcome { verdict: Verdict::Send(PortId(*port)), trail: Trail::NONE };
            ports.iter().map(sent).collect()
        };
        let dropped = Outcome { verdict: Verdict::Drop(DropReason::Ttl), trail: Trail::NONE };
        assert_eq!(ports(&[]).only_port(), None);
        assert_eq!(ports(&[3, 3, 3]).only_port(), Some(PortId(3)));
        assert_eq!(ports(&[3, 3, 1]).only_port(), None);
        let mut outcomes = ports(&[3, 3]);
        outcomes.push(dropped);
        assert_eq!(outcomes.only_port(), None);
        outcomes.clear();
        outcomes.push(dropped);
        assert_eq!(outcomes.only_port(), None);
    }
}
