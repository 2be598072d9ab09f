//! Arithmetic on records.

use std::time::Duration;

/// The `q`-quantile, 0 to 1, of ascending `values`: the least value that at least that share does not exceed. None of
/// nothing.
pub fn quantile<T: Copy>(values: &[T], q: f64) -> Option<T> {
    let rank = (q * values.len() as f64).ceil() as usize;
    values.get(rank.max(1) - 1).or(values.last()).copied()
}

/// The window of `width` that `at` is in, counted from 0.
pub fn window(at: Duration, width: Duration) -> usize {
    (at.as_nanos() / width.as_nanos().max(1)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn quantiles_are_nearest_ranks() {
        let values: Vec<u32> = (1..=100).collect();
        assert_eq!(quantile(&values, 0.0), Some(1));
        assert_eq!(quantile(&values, 0.5), Some(50));
        assert_eq!(quantile(&values, 0.99), Some(99));
        assert_eq!(quantile(&values, 1.0), Some(100));
        assert_eq!(quantile(&[7], 0.99), Some(7));
        assert_eq!(quantile::<u32>(&[], 0.5), None);
    }

    proptest! {
        #[test]
        fn at_least_its_share_does_not_exceed_a_quantile(mut values in prop::collection::vec(0u32..50, 1..40), q in 0.0..=1.0) {
            values.sort_unstable();
            let at = quantile(&values, q).unwrap();
            let share = |count: usize| count as f64 / values.len() as f64;
            prop_assert!(share(values.iter().filter(|&&value| value <= at).count()) >= q);
            prop_assert!(share(values.iter().filter(|&&value| value < at).count()) <= q);
        }
    }

    #[test]
    fn windows_begin_where_the_last_ended() {
        let width = Duration::from_millis(250);
        assert_eq!(window(Duration::ZERO, width), 0);
        assert_eq!(window(Duration::from_nanos(249_999_999), width), 0);
        assert_eq!(window(width, width), 1);
    }
}
