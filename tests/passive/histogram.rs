//! What was measured, as a test asks about it.

use shedder_common::abi::{Exchange, Measured};
use shedder_common::histogram::{bucket, lower_bound};
use shedder_tests::stats::quantile;
use std::fmt;
use std::time::Duration;

/// What was measured from one reading to a later one.
pub(crate) struct Seen(Box<Measured>);

impl Seen {
    pub(crate) fn between(before: &Measured, after: &Measured) -> Seen {
        let mut seen = Box::new(*after);
        let counts: &mut [u32] = bytemuck::cast_slice_mut(std::slice::from_mut(&mut *seen));
        let others: &[u32] = bytemuck::cast_slice(std::slice::from_ref(before));
        counts.iter_mut().zip(others).for_each(|(count, before)| *count = count.wrapping_sub(*before));
        Seen(seen)
    }

    /// How often this happened.
    pub(crate) fn count(&self, exchange: Exchange) -> u32 {
        self.0.exchanges[exchange as usize]
    }

    /// Requests that began.
    pub(crate) fn requests(&self) -> u32 {
        self.count(Exchange::Request)
    }

    /// Requests that were answered.
    pub(crate) fn answers(&self) -> u32 {
        self.0.answered.iter().sum()
    }

    /// Requests that were abandoned.
    pub(crate) fn abandoned(&self) -> u32 {
        self.0.abandoned.iter().sum()
    }

    /// The bucket of the `q`-quantile of the answers' times.
    pub(crate) fn answered_bucket(&self, q: f64) -> usize {
        bucket_of(&self.0.answered, q)
    }

    /// The bucket of the `q`-quantile of the times until requests were abandoned.
    pub(crate) fn abandoned_bucket(&self, q: f64) -> usize {
        bucket_of(&self.0.abandoned, q)
    }

    /// That exactly as many requests were measured as a server saw, and their quantiles lie within a bucket of its own
    /// times, which ascend.
    #[track_caller]
    pub(crate) fn agrees_with(&self, times: &[Duration]) {
        assert_eq!((self.requests(), self.answers()), (times.len() as u32, times.len() as u32), "{self:?}");
        for q in [0.5, 0.9, 0.99] {
            let (own, seen) = (quantile(times, q).unwrap(), self.answered_bucket(q));
            let own_bucket = bucket(own.as_nanos() as u64);
            assert!(seen.abs_diff(own_bucket) <= 1, "p{}: {own:?} at the server: {self:?}", 100.0 * q);
        }
    }
}

fn bucket_of(counts: &[u32], q: f64) -> usize {
    let all: Vec<usize> = counts
        .iter()
        .enumerate()
        .flat_map(|(bucket, &count)| std::iter::repeat_n(bucket, count as usize))
        .collect();
    quantile(&all, q).expect("something was measured")
}

impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, counts) in [("answered", &self.0.answered), ("abandoned", &self.0.abandoned)] {
            write!(f, "{name}:")?;
            for (bucket, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
                write!(f, " {count} from {:?},", Duration::from_nanos(lower_bound(bucket)))?;
            }
            write!(f, " ")?;
        }
        let met = self.0.exchanges.iter().enumerate().filter(|(_, count)| **count > 0);
        write!(f, "exchanges: {:?}", met.collect::<Vec<_>>())
    }
}
