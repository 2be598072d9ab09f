//! When requests leave, and where they come from.

use super::{Arrivals, Stream};
use crate::random::Random;
use std::net::IpAddr;
use std::time::Duration;

/// One request to be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Arrival {
    /// The stream's place in the plan.
    pub stream: usize,
    /// Where it comes from.
    pub source: IpAddr,
    /// When it leaves, after the epoch.
    pub due: Duration,
}

/// The arrivals of all streams, in the order of their times.
#[derive(Clone, Debug)]
pub struct Schedule {
    random: Random,
    streams: Vec<Stream>,
    /// Each stream's next arrival; none: it has no more.
    next: Vec<Option<Duration>>,
}

impl Schedule {
    /// The same seed gives the same arrivals.
    pub fn new(seed: u64, streams: Vec<Stream>) -> Schedule {
        let mut schedule = Schedule { random: Random::new(seed), next: vec![None; streams.len()], streams };
        for index in 0..schedule.streams.len() {
            schedule.advance(index, schedule.streams[index].from);
        }
        schedule
    }

    /// Draws the arrival of a stream that follows `last`.
    fn advance(&mut self, index: usize, last: Duration) {
        let stream = &self.streams[index];
        let gap = match stream.arrivals {
            Arrivals::Even => 1.0,
            Arrivals::Poisson => self.random.exponential(),
        };
        let due = last + Duration::from_secs_f64(gap / stream.rate);
        self.next[index] = (due < stream.until).then_some(due);
    }
}

impl Iterator for Schedule {
    type Item = Arrival;

    fn next(&mut self) -> Option<Arrival> {
        let next = self.next.iter().enumerate().filter_map(|(index, due)| Some((due.as_ref()?, index)));
        let (&due, index) = next.min()?;
        let sources = &self.streams[index].sources;
        let source = sources[self.random.below(sources.len())];
        self.advance(index, due);
        Some(Arrival { stream: index, source, due })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(rate: f64, arrivals: Arrivals, from: u64, until: u64) -> Stream {
        let sources = (1..=4).map(|host| IpAddr::from([10, 0, 0, host])).collect();
        let (from, until) = (Duration::from_secs(from), Duration::from_secs(until));
        Stream { sources, rate, arrivals, from, until }
    }

    #[test]
    fn keeps_rates_bounds_and_order() {
        let streams = vec![stream(100.0, Arrivals::Even, 1, 3), stream(2_000.0, Arrivals::Poisson, 0, 10)];
        let arrivals: Vec<Arrival> = Schedule::new(1, streams.clone()).collect();
        assert!(arrivals.is_sorted_by_key(|arrival| arrival.due));
        for (index, stream) in streams.iter().enumerate() {
            let of: Vec<&Arrival> = arrivals.iter().filter(|arrival| arrival.stream == index).collect();
            assert!(of.iter().all(|arrival| (stream.from..stream.until).contains(&arrival.due)));
            let expected = stream.rate * (stream.until - stream.from).as_secs_f64();
            assert!((of.len() as f64 / expected - 1.0).abs() < 0.02, "{} of {expected}", of.len());
            for source in &stream.sources {
                assert!(of.iter().any(|arrival| arrival.source == *source));
            }
        }
    }

    #[test]
    fn same_seed_same_schedule() {
        let draw =
            |seed| Schedule::new(seed, vec![stream(50.0, Arrivals::Poisson, 0, 2)]).collect::<Vec<_>>();
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }
}
