//! What is in flight at one moment: how many requests, and how long they have waited.

use super::survival::bucket_of;
use shedder_common::histogram::{BUCKETS, lower_bound};
use std::time::Duration;

/// What waits for a service's answer, by the bucket of how long it has waited.
///
/// What has waited past the deadline is a failure that was counted when it passed it, and is then no longer in flight:
/// a request that is never answered, or a connection that waits for news on purpose, says nothing of the queue.
#[derive(Clone, Debug)]
pub struct InFlight {
    waiting: Box<[u32; BUCKETS]>,
    requests: u64,
    late: u64,
    deadline: Duration,
    step: Duration,
    end: usize,
}

impl InFlight {
    /// Nothing yet, at a turn that comes `step` after the one before. `deadline` makes a failure of what waits.
    pub fn new(deadline: Duration, step: Duration) -> InFlight {
        InFlight { waiting: Box::new([0; BUCKETS]), requests: 0, late: 0, deadline, step, end: 0 }
    }

    /// Empties it for a turn that comes `step` after the one before.
    pub fn begin(&mut self, step: Duration) {
        self.waiting[..self.end].fill(0);
        (self.requests, self.late, self.end, self.step) = (0, 0, 0, step);
    }

    /// Counts `count` requests that have waited for `age`.
    pub fn add(&mut self, age: Duration, count: u32) {
        if age >= self.deadline {
            if age - self.deadline < self.step {
                self.late += u64::from(count);
            }
            return;
        }
        let bucket = bucket_of(age);
        self.waiting[bucket] = self.waiting[bucket].saturating_add(count);
        self.requests += u64::from(count);
        self.end = self.end.max(bucket + 1);
    }

    /// Since the turn before.
    pub fn step(&self) -> Duration {
        self.step
    }

    /// Requests in flight, without those past the deadline.
    pub fn requests(&self) -> u64 {
        self.requests
    }

    /// Requests that passed the deadline since the turn before.
    pub fn late(&self) -> u64 {
        self.late
    }

    /// Buckets that are not empty, the lowest first.
    pub(super) fn buckets(&self) -> impl Iterator<Item = (usize, u32)> + '_ {
        self.waiting[..self.end].iter().copied().enumerate().filter(|&(_, count)| count > 0)
    }

    /// How long all but `but` of those have waited at least that have waited the longest: the least that their latency
    /// will be. Zero where there are no more than `but`.
    pub(super) fn longest_but(&self, but: u64) -> Duration {
        let mut left = but;
        for bucket in (0..self.end).rev() {
            match left.checked_sub(u64::from(self.waiting[bucket])) {
                Some(rest) => left = rest,
                None => return Duration::from_nanos(lower_bound(bucket)),
            }
        }
        Duration::ZERO
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn passing_the_deadline_counts_once() {
        let mut in_flight = InFlight::new(ms(250), ms(20));
        let mut late = 0;
        for turn in 0..50 {
            in_flight.begin(ms(20));
            in_flight.add(ms(7 + 20 * turn), 3);
            late += in_flight.late();
            assert_eq!(in_flight.requests(), if turn < 13 { 3 } else { 0 });
        }
        assert_eq!(late, 3);
    }

    #[test]
    fn longest_leaves_some_out() {
        let mut in_flight = InFlight::new(ms(250), ms(20));
        in_flight.add(ms(200), 2);
        in_flight.add(ms(100), 5);
        assert!(in_flight.longest_but(1) > ms(180));
        assert!((ms(90)..=ms(100)).contains(&in_flight.longest_but(2)));
        assert_eq!(in_flight.longest_but(7), Duration::ZERO);
    }
}
