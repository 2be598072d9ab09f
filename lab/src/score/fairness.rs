//! How evenly the sources of one class are served.

use crate::cohorts::{Cohorts, ROTATION};
use crate::run::{CLASSES, Run};
use shedder_common::class::COHORTS;
use std::collections::HashMap;
use std::net::IpAddr;
use std::ops::Range;
use std::time::Duration;

/// Jain's index of shares: 1 where all are the same, 1/n where one has everything; 1 of nothing.
///
/// R. Jain, D. Chiu and W. Hawe, "A Quantitative Measure of Fairness and Discrimination for Resource Allocation in Shared
/// Computer Systems", 1984.
pub(crate) fn jain(shares: &[f64]) -> f64 {
    let sum: f64 = shares.iter().sum();
    let squares: f64 = shares.iter().map(|share| share * share).sum();
    if squares == 0.0 { 1.0 } else { sum * sum / (shares.len() as f64 * squares) }
}

/// Of the first service's class of which the most was refused, though some was let in: the share that was let in, of all
/// and of each source. None where no class was shed in part.
pub(super) fn shares(run: &Run, when: &Range<Duration>) -> Option<(f64, Vec<f64>)> {
    let mut best: Option<(u32, f64, Vec<f64>)> = None;
    for class in CLASSES {
        let mut sources = HashMap::<IpAddr, (u32, u32)>::new();
        for request in run.of(0).filter(|request| request.class == class && when.contains(&request.due)) {
            let (all, admitted) = sources.entry(request.source).or_default();
            *all += 1;
            *admitted += u32::from(request.outcome.admitted());
        }
        let (all, admitted) = sources.values().fold((0, 0), |sum, of| (sum.0 + of.0, sum.1 + of.1));
        let refused = all - admitted;
        if admitted == 0 || refused * 50 < all || best.as_ref().is_some_and(|(most, ..)| refused <= *most) {
            continue;
        }
        let of_each =
            sources.values().map(|(all, admitted)| f64::from(*admitted) / f64::from(*all)).collect();
        best = Some((refused, f64::from(admitted) / f64::from(all), of_each));
    }
    best.map(|(_, admitted, of_each)| (admitted, of_each))
}

/// Jain's index over `sources`, where the cohorts below a fixed one are let in, as many as `admitted` says, and the key of
/// the cohorts rotates so many times. Computed, with the hash that the programs use: a rotation takes a minute at least.
pub(crate) fn over_rotations(cohorts: &Cohorts, sources: &[IpAddr], admitted: f64, rotations: u32) -> f64 {
    let first_shed = (admitted * f64::from(COHORTS)).round() as u32;
    let share = |source: &IpAddr| {
        let let_in = |rotation: &u32| {
            let now = (ROTATION * *rotation).as_nanos() as u64;
            cohorts.of(*source, now) < first_shed
        };
        (0..rotations).filter(let_in).count() as f64 / f64::from(rotations)
    };
    jain(&sources.iter().map(share).collect::<Vec<f64>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use shedder_common::hash::HashKey;

    #[test]
    fn jains_index_of_known_shares() {
        assert!((jain(&[0.3, 0.3, 0.3]) - 1.0).abs() < 1e-12);
        assert!((jain(&[1.0, 0.0, 0.0, 0.0]) - 0.25).abs() < 1e-12);
        assert!((jain(&[1.0, 0.5]) - 0.9).abs() < 1e-12);
        assert_eq!(jain(&[]), 1.0);
    }

    #[test]
    fn rotations_even_out_who_is_shed() {
        let key = HashKey::new([0x1234_5678_9abc_def0, 77], [0x9e37_79b9_7f4a_7c15, 0xbf58_476d_1ce4_e5b9]);
        let cohorts = Cohorts::new(key);
        let sources: Vec<IpAddr> =
            (0..1000u32).map(|host| IpAddr::from((0x0a4d_c000 + host).to_be_bytes())).collect();
        let [one, two, day] = [1, 2, 24].map(|rotations| over_rotations(&cohorts, &sources, 0.5, rotations));
        // Of one rotation: the share that is let in. Of two with shares of 0, 1/2 and 1 at odds of 1:2:1: 2/3.
        assert!((one - 0.5).abs() < 0.05, "{one}");
        assert!((two - 2.0 / 3.0).abs() < 0.05, "{two}");
        assert!(day > 0.9, "{day}");
    }
}
