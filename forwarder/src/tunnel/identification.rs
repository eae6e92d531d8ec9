//! What tells fragments of one packet from those of another.

/// Identifications, of which no two workers give the same to packets under way at one time (RFC 6864 §4.3): those with the
/// worker's number in their lowest bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identifications {
    last: u32,
    step: u32,
}

impl Identifications {
    /// For the worker at this position of so many.
    pub fn new(worker: usize, workers: usize) -> Self {
        // A power of two, so that they stay apart when they begin again, which those of 16 bits do as well.
        Identifications { last: worker as u32, step: workers.next_power_of_two() as u32 }
    }

    /// The next one, of IPv6.
    #[inline(always)]
    pub fn for_ipv6(&mut self) -> u32 {
        self.last = self.last.wrapping_add(self.step);
        self.last
    }

    /// The next one, of IPv4.
    #[inline(always)]
    pub fn for_ipv4(&mut self) -> u16 {
        self.for_ipv6() as u16
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn workers_share_all_there_are_and_never_meet() {
        for workers in [1, 2, 4, 64] {
            let mut seen = BTreeSet::new();
            for worker in 0..workers {
                let mut own = Identifications::new(worker, workers);
                // Twice round, and the second time the same.
                let ids: Vec<u16> = (0..2 * 65_536 / workers).map(|_| own.for_ipv4()).collect();
                let (first, second) = ids.split_at(ids.len() / 2);
                assert_eq!(first, second);
                assert!(first.iter().all(|id| seen.insert(*id)), "{worker} of {workers}");
            }
            assert_eq!(seen.len(), 65_536);
        }
        let of = |worker| {
            let mut own = Identifications::new(worker, 3);
            (0..100_000).map(|_| own.for_ipv4()).collect::<BTreeSet<u16>>()
        };
        assert!(of(0).is_disjoint(&of(1)) && of(1).is_disjoint(&of(2)) && of(2).is_disjoint(&of(0)));
    }
}
