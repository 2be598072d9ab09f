//! Requests that were refused while less important ones were let in.

use crate::run::{Request, Run};
use crate::scenario::Scenario;
use std::time::Duration;

/// How many requests were refused though less important ones, by `importance` (lower is more important), were let in both
/// before and after, each within 0.4 control intervals.
///
/// Both sides, because a cutoff that moves refuses at one moment what it lets in at the next: that is no inversion. In
/// less than an interval it cannot move there and back. A request is refused where its connection was not answered: shed,
/// or lost in a server's full backlog. The time is when it left: its SYN crosses the programs before `connect` returns.
pub(super) fn count(scenario: &Scenario, run: &Run, importance: impl Fn(&Request) -> u32) -> usize {
    let reach = scenario.interval.mul_f64(0.4);
    (0..scenario.services)
        .map(|service| {
            let mut requests: Vec<(Duration, u32, bool)> = run
                .of(service)
                .map(|request| (request.sent, importance(request), request.outcome.admitted()))
                .collect();
            requests.sort_unstable();
            let is_inversion = |index: &usize| is_inversion(&requests, *index, reach);
            (0..requests.len()).filter(is_inversion).count()
        })
        .sum()
}

/// Whether the request of this index was passed over. Each is (when it left, its importance, whether it was let in).
fn is_inversion(requests: &[(Duration, u32, bool)], index: usize, reach: Duration) -> bool {
    let (at, importance, admitted) = requests[index];
    let passes = |&&(_, other, admitted): &&(Duration, u32, bool)| admitted && other > importance;
    let before = requests[..index].iter().rev().take_while(|(other, ..)| at - *other <= reach);
    let after = requests[index + 1..].iter().take_while(|(other, ..)| *other - at <= reach);
    !admitted
        && before.into_iter().any(|other| passes(&other))
        && after.into_iter().any(|other| passes(&other))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(requests: &[(u64, u32, bool)]) -> usize {
        let requests: Vec<_> = requests
            .iter()
            .map(|&(ms, priority, admitted)| (Duration::from_millis(ms), priority, admitted))
            .collect();
        let reach = Duration::from_millis(8);
        (0..requests.len()).filter(|&index| is_inversion(&requests, index, reach)).count()
    }

    #[test]
    fn passed_over_on_both_sides_is_an_inversion() {
        assert_eq!(count(&[(0, 3, true), (1, 0, false), (2, 3, true)]), 1);
        assert_eq!(count(&[(0, 0, true), (1, 3, false), (2, 0, true)]), 0);
    }

    #[test]
    fn a_cutoff_that_moves_is_none() {
        assert_eq!(count(&[(0, 3, true), (1, 0, false), (2, 3, false)]), 0);
        assert_eq!(count(&[(0, 3, false), (1, 0, false), (2, 3, true)]), 0);
    }

    #[test]
    fn what_is_far_apart_is_none() {
        assert_eq!(count(&[(0, 3, true), (9, 0, false), (10, 3, true)]), 0);
    }
}
