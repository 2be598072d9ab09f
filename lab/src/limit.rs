//! The best static limit.

use crate::cohorts::Cohorts;
use crate::rival::fixed::Fixed;
use crate::scenario::{Scenario, capacity};
use crate::score::utility;
use crate::simulate;

/// Limits that are tried, in capacities.
const CANDIDATES: [f64; 9] = [0.3, 0.5, 0.7, 0.8, 0.85, 0.9, 0.95, 1.0, 1.1];

/// How much slower than it should be the server is in the simulations that a limit is judged by: on a real machine
/// something else always runs, and a limit of the very capacity is luck.
const SLOWNESS: [f64; 2] = [1.0, 1.05];

/// The limit on admitted requests, a second for each service, with which the simulated scenario has the highest utility, on
/// average over [`SLOWNESS`].
///
/// That is more than anybody knows who sets a limit: the very load that is to come, the server's capacity, and what
/// will happen to it. Unlike a token bucket it also admits the most important first, through the same distribution of
/// priorities as shedder's.
pub(crate) fn best(scenario: &Scenario, cohorts: &Cohorts, seed: u64) -> f64 {
    let judged = CANDIDATES.map(|candidate| {
        let limit = candidate * capacity();
        let of = |slowness| {
            let run = simulate::play(scenario, cohorts, seed, slowness, || Some(Box::new(Fixed(limit))));
            utility(scenario, &run)
        };
        (SLOWNESS.map(of).iter().sum::<f64>(), limit)
    });
    let best = judged.into_iter().max_by(|a, b| a.0.total_cmp(&b.0));
    best.map_or(f64::INFINITY, |(_, limit)| limit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::all;
    use shedder_common::hash::HashKey;

    #[test]
    fn follows_what_the_server_can_do() {
        let cohorts = Cohorts::new(HashKey::new([1, 2], [0x9e37_79b9_7f4a_7c15, 0xbf58_476d_1ce4_e5b9]));
        let best =
            |name: &str| best(all().iter().find(|scenario| scenario.name == name).unwrap(), &cohorts, 1);
        assert!((850.0..=1000.0).contains(&best("step")), "{}", best("step"));
        // A third of the capacity while it is slow, four fifths of it asked for before and after.
        assert!(best("slow-server") < best("step"), "{}", best("slow-server"));
    }
}
