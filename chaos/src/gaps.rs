//! When no program was on the interface, because it had just been made.

use shedder_tests::flood::Arrivals;
use std::time::Duration;

/// From and until, after the Unix epoch.
#[derive(Debug, Default)]
pub(crate) struct Gaps(Vec<(Duration, Duration)>);

impl Gaps {
    pub(crate) fn note(&mut self, from: Duration, until: Duration) {
        self.0.push((from, until));
    }

    /// How many arrived from `from` on and before `until`, and in no gap.
    pub(crate) fn arrived_outside(&self, arrivals: &Arrivals, from: Duration, until: Duration) -> usize {
        let inside = |&(start, end): &(Duration, Duration)| arrivals.between(from.max(start), until.min(end));
        arrivals.between(from, until) - self.0.iter().map(inside).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_arrives_in_a_gap_is_left_out() {
        let at = Duration::from_secs;
        let arrivals = Arrivals { times: (0..10).map(at).collect(), ..Arrivals::default() };
        let mut gaps = Gaps::default();
        gaps.note(at(2), at(4));
        gaps.note(at(7), at(8));
        assert_eq!(gaps.arrived_outside(&arrivals, at(0), Duration::MAX), 7);
        assert_eq!(gaps.arrived_outside(&arrivals, at(3), at(8)), 3);
        assert_eq!(gaps.arrived_outside(&arrivals, at(2), at(4)), 0);
    }
}
