//! A concurrency limit that follows the gradient of the latency: Netflix' Gradient2.
//!
//! concurrency-limits, `Gradient2Limit`: the limit is multiplied by (1.5 times the long average of the latency) / (the
//! short one), held to 0.5 to 1, and has room for a queue of 4 added; smoothed by 0.2; it does not grow while less than half of
//! it is used. The long average is exponential over 600 samples, and falls by a twentieth where it is twice the short one.
//! Its numbers are used as they are; a sample is the mean of the requests that ended in a turn. What it decides is a limit
//! on requests in flight: Little's law makes an admitted rate of it.

use super::{Act, Controller, Seen};

const TOLERANCE: f64 = 1.5;
const QUEUE: f64 = 4.0;
const SMOOTHING: f64 = 0.2;
const LONG: f64 = 600.0;
/// Samples whose plain mean begins the long average.
const WARM_UP: u32 = 10;
const INITIAL: f64 = 20.0;
const LEAST: f64 = 20.0;
const MOST: f64 = 200.0;

/// The limit, and the averages.
#[derive(Debug)]
pub(crate) struct Gradient {
    limit: f64,
    /// Seconds.
    long: f64,
    short: f64,
    samples: u32,
}

impl Gradient {
    pub(crate) fn new() -> Gradient {
        Gradient { limit: INITIAL, long: 0.0, short: 0.0, samples: 0 }
    }

    fn sample(&mut self, latency: f64, in_flight: f64) {
        self.short = latency;
        self.samples = self.samples.saturating_add(1);
        let weight = if self.samples <= WARM_UP { 1.0 / f64::from(self.samples) } else { 2.0 / (LONG + 1.0) };
        self.long += (latency - self.long) * weight;
        if self.long / latency > 2.0 {
            self.long *= 0.95;
        }
        if in_flight < self.limit / 2.0 {
            return;
        }
        let gradient = (TOLERANCE * self.long / latency).clamp(0.5, 1.0);
        let new = self.limit * gradient + QUEUE;
        self.limit = (self.limit * (1.0 - SMOOTHING) + new * SMOOTHING).clamp(LEAST, MOST);
    }
}

impl Controller for Gradient {
    fn turn(&mut self, seen: &Seen<'_>) -> Act {
        if let Some(mean) = seen.ended.mean() {
            self.sample(mean.as_secs_f64().max(1e-6), seen.in_flight as f64);
        }
        if self.samples == 0 || (seen.in_flight as f64) < self.limit / 2.0 {
            return Act::Rate(f64::INFINITY);
        }
        Act::Rate(self.limit / self.short)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_falls_where_the_latency_rises_and_grows_where_it_does_not() {
        let mut gradient = Gradient::new();
        for _ in 0..20 {
            gradient.sample(0.010, 100.0);
        }
        let steady = gradient.limit;
        assert!(steady > INITIAL, "{steady}");
        for _ in 0..10 {
            gradient.sample(0.100, 100.0);
        }
        assert!(gradient.limit < steady, "{}", gradient.limit);
        assert!((0.010..0.020).contains(&gradient.long), "{}", gradient.long);
    }

    #[test]
    fn an_unused_limit_does_not_grow() {
        let mut gradient = Gradient::new();
        for _ in 0..100 {
            gradient.sample(0.010, 3.0);
        }
        assert_eq!(gradient.limit, INITIAL);
    }
}
