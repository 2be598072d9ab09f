//! The controllers that shedder is compared with: each sees what the same kernel measured, at the same interval, and acts
//! on the same programs.

pub(crate) mod aimd;
pub(crate) mod dagor;
pub(crate) mod eyes;
pub(crate) mod fixed;
pub(crate) mod gradient;
mod thread;

pub(crate) use thread::RivalThread;

use shedder::control::{Counters, Distribution};
use shedder_common::class::{PRIORITIES, SHED_NOTHING};
use shedder_common::histogram::{BUCKETS, lower_bound};
use std::time::Duration;

/// A way to shed.
pub(crate) trait Controller: Send {
    /// One turn: what to shed until the next.
    fn turn(&mut self, seen: &Seen<'_>) -> Act;
}

/// What a controller may do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Act {
    /// Admit so many requests a second, the most important first; infinite: all.
    Rate(f64),
    /// Shed this priority and all that are less important: 0 to 768.
    Cutoff(u32),
}

impl Act {
    /// The cutoff that it comes to, where `offered` requests arrive a second and are distributed so.
    pub(crate) fn cutoff(self, offered: f64, distribution: &Distribution) -> u32 {
        match self {
            Act::Cutoff(cutoff) => cutoff.min(SHED_NOTHING),
            Act::Rate(rate) if rate >= offered => SHED_NOTHING,
            Act::Rate(rate) => distribution.cutoff_for(1.0 - rate.max(0.0) / offered),
        }
    }
}

/// What a controller sees at a turn. Counts are those since its last turn.
#[derive(Debug)]
pub(crate) struct Seen<'a> {
    /// Since an epoch that stays the same.
    pub(crate) now: Duration,
    /// Requests that ended, answered or given up, by [`bucket`](shedder_common::histogram::bucket) of the time that they
    /// took.
    pub(crate) ended: &'a Ended,
    /// How much longer than the shortest request they took, on average: the time that they queued for.
    pub(crate) queueing: Option<Duration>,
    /// Requests that arrived and have not ended.
    pub(crate) in_flight: u64,
    /// Requests that were offered, by priority.
    pub(crate) offered: &'a Counters,
    /// Requests that are offered a second, averaged over about 100 ms.
    pub(crate) offered_rate: f64,
}

/// Requests that ended, by bucket of the time that they took.
#[derive(Clone, Debug)]
pub(crate) struct Ended(pub(crate) Box<[u32; BUCKETS]>);

impl Default for Ended {
    fn default() -> Self {
        Ended(Box::new([0; BUCKETS]))
    }
}

impl Ended {
    /// Takes in others.
    pub(crate) fn add(&mut self, others: &Ended) {
        for (sum, count) in self.0.iter_mut().zip(others.0.iter()) {
            *sum += count;
        }
    }

    /// How many.
    pub(crate) fn count(&self) -> u64 {
        self.0.iter().map(|&count| u64::from(count)).sum()
    }

    /// The middle of a bucket.
    fn middle(bucket: usize) -> Duration {
        Duration::from_nanos((lower_bound(bucket) + lower_bound(bucket + 1)) / 2)
    }

    /// The mean of the times, as near as the buckets tell; none of nothing.
    pub(crate) fn mean(&self) -> Option<Duration> {
        let count = self.count();
        let sum: f64 = self
            .0
            .iter()
            .enumerate()
            .map(|(bucket, &n)| f64::from(n) * Self::middle(bucket).as_secs_f64())
            .sum();
        (count > 0).then(|| Duration::from_secs_f64(sum / count as f64))
    }

    /// The `q`-quantile of the times, as near as the buckets tell; none of nothing.
    pub(crate) fn quantile(&self, q: f64) -> Option<Duration> {
        let rank = ((q * self.count() as f64).ceil() as u64).max(1);
        let mut seen = 0;
        for (bucket, &count) in self.0.iter().enumerate() {
            seen += u64::from(count);
            if seen >= rank {
                return Some(Self::middle(bucket));
            }
        }
        None
    }

    /// The shortest time; none of nothing.
    pub(crate) fn shortest(&self) -> Option<Duration> {
        self.0.iter().position(|&count| count > 0).map(Self::middle)
    }
}

/// What the kernel's counters do not keep by themselves, between two turns.
#[derive(Debug)]
pub(crate) struct Memory {
    distribution: Distribution,
    total: Box<Counters>,
    shortest: Option<Duration>,
    offered_rate: f64,
    last: Option<Duration>,
}

impl Memory {
    /// Time constant of [`Seen::offered_rate`].
    const RATE: Duration = Duration::from_millis(100);

    pub(crate) fn new() -> Memory {
        Memory {
            distribution: Distribution::new(),
            total: Box::new([0; PRIORITIES as usize]),
            shortest: None,
            offered_rate: 0.0,
            last: None,
        }
    }

    /// One turn of a controller: returns the cutoff.
    pub(crate) fn turn(
        &mut self,
        controller: &mut dyn Controller,
        now: Duration,
        (ended, in_flight): (&Ended, u64),
        offered: &Counters,
    ) -> u32 {
        for (sum, &count) in self.total.iter_mut().zip(offered) {
            *sum = sum.wrapping_add(count);
        }
        self.distribution.update(now, &self.total);
        let dt = self.last.map_or(Duration::ZERO, |last| now.saturating_sub(last)).as_secs_f64();
        self.last = Some(now);
        if dt > 0.0 {
            let rate = offered.iter().map(|&count| f64::from(count)).sum::<f64>() / dt;
            self.offered_rate += (rate - self.offered_rate) * (1.0 - (-dt / Self::RATE.as_secs_f64()).exp());
        }
        self.shortest = [self.shortest, ended.shortest()].into_iter().flatten().min();
        let shortest = self.shortest.unwrap_or_default();
        let queueing = ended.mean().map(|mean| mean.saturating_sub(shortest));
        let offered_rate = self.offered_rate;
        let seen = Seen { now, ended, queueing, in_flight, offered, offered_rate };
        controller.turn(&seen).cutoff(offered_rate, &self.distribution)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shedder_common::histogram::bucket;

    fn ended(times: &[u64]) -> Ended {
        let mut ended = Ended::default();
        for &ms in times {
            ended.0[bucket(ms * 1_000_000)] += 1;
        }
        ended
    }

    #[test]
    fn buckets_tell_times_to_a_sixteenth() {
        let times = ended(&[10, 10, 10, 80]);
        let near = |found: Option<Duration>, ms: f64| {
            let found = found.unwrap().as_secs_f64() * 1e3;
            assert!((found / ms - 1.0).abs() < 0.07, "{found} for {ms}");
        };
        near(times.quantile(0.5), 10.0);
        near(times.quantile(0.99), 80.0);
        near(times.shortest(), 10.0);
        near(times.mean(), 27.5);
        assert_eq!((ended(&[]).quantile(0.5), ended(&[]).mean()), (None, None));
    }

    #[test]
    fn rate_becomes_the_share_that_it_leaves() {
        let mut offered = [0; PRIORITIES as usize];
        offered[..100].fill(10);
        let distribution = Distribution::between(&[0; PRIORITIES as usize], &offered);
        assert_eq!(Act::Rate(250.0).cutoff(1000.0, &distribution), 25);
        assert_eq!(Act::Rate(1000.0).cutoff(1000.0, &distribution), SHED_NOTHING);
        assert_eq!(Act::Rate(f64::INFINITY).cutoff(0.0, &distribution), SHED_NOTHING);
        assert_eq!(Act::Cutoff(5).cutoff(1000.0, &distribution), 5);
    }
}
