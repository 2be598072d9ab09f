//! Values of several rounds, as their median and their extremes.

use serde::Serialize;
use shedder_tests::stats::quantile;

/// What the rounds of one measurement came to.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// None of no rounds.
    pub(crate) fn of(rounds: &[f64]) -> Option<Spread> {
        let mut sorted = rounds.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        // Of an even number the mean of the two in the middle.
        let upper = sorted[sorted.len() / 2];
        let lower = sorted[(sorted.len() - 1) / 2];
        Some(Spread { median: (lower + upper) / 2.0, min, max })
    }

    /// Round by round the ratio of one to another, which were measured next to each other.
    pub(crate) fn of_ratios(of: &[f64], to: &[f64]) -> Option<Spread> {
        let ratios: Vec<f64> = of.iter().zip(to).map(|(of, to)| of / to).collect();
        Spread::of(&ratios)
    }
}

/// The `q`-quantile of values in any order.
pub(crate) fn at(values: &[f64], q: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    quantile(&sorted, q)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(Spread::of(&[3.0, 1.0, 2.0]), Some(Spread { median: 2.0, min: 1.0, max: 3.0 }));
        assert_eq!(Spread::of(&[4.0, 1.0]), Some(Spread { median: 2.5, min: 1.0, max: 4.0 }));
        assert_eq!(Spread::of(&[]), None);
    }

    #[test]
    fn ratios_are_taken_round_by_round() {
        let ratios = Spread::of_ratios(&[2.0, 6.0, 20.0], &[1.0, 2.0, 10.0]).unwrap();
        assert_eq!(ratios, Spread { median: 2.0, min: 2.0, max: 3.0 });
    }
}
