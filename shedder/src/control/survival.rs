//! The quantile of latencies of which some are not over yet, from histograms.
//!
//! What waits, and what was given up, is right-censored: all that is known of it is that it takes longer than it has
//! taken. The estimate is the product-limit (E. L. Kaplan and P. Meier, "Nonparametric estimation from incomplete
//! observations", 1958), taken bucket by bucket: within one, what ended comes before what is censored. Its cost does
//! not grow with the number of samples.

use shedder_common::histogram::{BUCKETS, bucket, lower_bound};
use std::time::Duration;

/// Latencies by bucket: those that ended, and those of which only the least is known.
#[derive(Clone, Debug)]
pub(super) struct Survival {
    ended: [u32; BUCKETS],
    censored: [u32; BUCKETS],
    /// Of those that ended.
    count: u64,
    /// Of those that did not.
    censored_count: u64,
    /// The highest bucket with anything in it, and one more.
    end: usize,
}

impl Survival {
    pub(super) fn new() -> Survival {
        Survival { ended: [0; BUCKETS], censored: [0; BUCKETS], count: 0, censored_count: 0, end: 0 }
    }

    pub(super) fn clear(&mut self) {
        self.ended[..self.end].fill(0);
        self.censored[..self.end].fill(0);
        (self.count, self.censored_count, self.end) = (0, 0, 0);
    }

    /// Counts latencies of one bucket.
    pub(super) fn end(&mut self, bucket: usize, count: u32) {
        self.ended[bucket] = self.ended[bucket].saturating_add(count);
        self.count += u64::from(count);
        self.end = self.end.max(bucket + 1);
    }

    /// Counts latencies that are at least in one bucket.
    pub(super) fn censor(&mut self, bucket: usize, count: u32) {
        self.censored[bucket] = self.censored[bucket].saturating_add(count);
        self.censored_count += u64::from(count);
        self.end = self.end.max(bucket + 1);
    }

    /// The quantile, interpolated within its bucket; the least that the longest can be where it is beyond them all; none
    /// where there is nothing.
    pub(super) fn quantile(&self, quantile: f64) -> Option<Duration> {
        let beyond = self.end.checked_sub(1)?;
        let mut at_risk = (self.count + self.censored_count) as f64;
        let mut surviving = 1.0;
        // The tolerance is for the rounding of some hundred factors.
        let wanted = 1.0 - quantile + 1e-9;
        for bucket in 0..self.end {
            let (ended, censored) = (f64::from(self.ended[bucket]), f64::from(self.censored[bucket]));
            if ended > 0.0 {
                let before = surviving;
                surviving *= 1.0 - ended / at_risk;
                if surviving <= wanted {
                    let part = (before - wanted) / (before - surviving);
                    let (from, to) = (lower_bound(bucket), lower_bound(bucket + 1));
                    return Some(Duration::from_nanos(from + ((to - from) as f64 * part.max(0.0)) as u64));
                }
            }
            at_risk -= ended + censored;
        }
        // What ended in this bucket may have been the longest in it.
        let at_least = if self.ended[beyond] > 0 { beyond + 1 } else { beyond };
        Some(Duration::from_nanos(lower_bound(at_least)))
    }
}

/// The quantile of answers counted by bucket, interpolated within its bucket; none where nothing was answered.
pub fn quantile_of(answered: &[u32; BUCKETS], quantile: f64) -> Option<Duration> {
    let mut survival = Survival::new();
    for (bucket, &count) in answered.iter().enumerate().filter(|(_, count)| **count > 0) {
        survival.end(bucket, count);
    }
    survival.quantile(quantile)
}

/// The bucket of a latency.
pub(super) fn bucket_of(latency: Duration) -> usize {
    bucket(latency.as_nanos().min(u128::from(u64::MAX)) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::signal::{Outcome, Window};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn agrees_with_the_exact_one_to_a_bucket(
            ended in proptest::collection::vec(1..5000u64, 1..300),
            waiting in proptest::collection::vec(1..5000u64, 0..50),
            percent in 1..100u32,
        ) {
            let quantile = f64::from(percent) / 100.0;
            let now = Duration::from_secs(100);
            let mut window = Window::new(Duration::from_secs(100), quantile, Duration::from_secs(99));
            let mut survival = Survival::new();
            for &latency in &ended {
                window.push(now, Outcome::Answered(Duration::from_millis(latency)));
                survival.end(bucket_of(Duration::from_millis(latency)), 1);
            }
            let mut began = Vec::new();
            for &age in &waiting {
                began.push(now - Duration::from_millis(age));
                survival.censor(bucket_of(Duration::from_millis(age)), 1);
            }
            let exact = window.reading(now, &began).latency.unwrap().as_secs_f64();
            let found = survival.quantile(quantile).unwrap().as_secs_f64();
            // What shares a bucket has lost its order.
            let near = waiting.is_empty() || waiting.iter().all(|age| {
                ended.iter().all(|ended| bucket_of(Duration::from_millis(*age)) != bucket_of(Duration::from_millis(*ended)))
            });
            if near {
                prop_assert!((found / exact - 1.0).abs() <= 0.0701, "{} for {}", found, exact);
            }
        }

        #[test]
        fn more_that_waits_never_looks_better(
            ended in proptest::collection::vec(0..400usize, 0..40),
            waiting in proptest::collection::vec(0..400usize, 0..40),
            longer in 1..50usize,
        ) {
            let estimate = |longer: usize| {
                let mut survival = Survival::new();
                ended.iter().for_each(|&bucket| survival.end(bucket, 3));
                waiting.iter().for_each(|&bucket| survival.censor(bucket + longer, 2));
                survival.quantile(0.9)
            };
            prop_assert!(estimate(longer) >= estimate(0));
        }
    }

    #[test]
    fn quantile_lies_within_its_bucket() {
        let mut survival = Survival::new();
        let bucket = bucket_of(Duration::from_millis(10));
        survival.end(bucket, 1000);
        let (low, high) = (survival.quantile(0.01), survival.quantile(0.99));
        assert!(low < high);
        assert!(low >= Some(Duration::from_nanos(lower_bound(bucket))));
        assert!(high <= Some(Duration::from_nanos(lower_bound(bucket + 1))));
        survival.clear();
        assert_eq!(survival.quantile(0.5), None);
    }
}
