//! Additive increase, multiplicative decrease of the admitted rate by the error of the p99: SEDA's controller.
//!
//! M. Welsh and D. Culler, "Adaptive Overload Control for Busy Internet Servers", USITS 2003, section 4: a sample is the
//! quantile of 100 answers, or of a second; it is smoothed; above the target the rate is divided by 1.2, and well below it
//! grows by an amount that the error says. Their numbers are used, with two differences: the quantile is the service's
//! (theirs is 0.9), and the first decrease begins at what is offered instead of 5,000 a second.

use super::{Act, Controller, Ended, Seen};
use crate::scenario::TARGET;
use std::time::Duration;

const SAMPLE: u64 = 100;
const TIMEOUT: Duration = Duration::from_secs(1);
const SMOOTHING: f64 = 0.7;
const DECREASE: f64 = 1.2;
const INCREASE_BELOW: f64 = -0.5;
const INCREASE: f64 = 2.0;
const INCREASE_WEIGHT: f64 = -0.1;
const LEAST: f64 = 0.05;
const MOST: f64 = 5000.0;

/// The controller, and its sample.
#[derive(Debug)]
pub(crate) struct Aimd {
    rate: f64,
    since: Option<Duration>,
    ended: Ended,
    /// Seconds.
    smoothed: Option<f64>,
}

impl Aimd {
    pub(crate) fn new() -> Aimd {
        Aimd { rate: MOST, since: None, ended: Ended::default(), smoothed: None }
    }
}

impl Controller for Aimd {
    fn turn(&mut self, seen: &Seen<'_>) -> Act {
        self.ended.add(seen.ended);
        let since = *self.since.get_or_insert(seen.now);
        let elapsed = seen.now.saturating_sub(since);
        if self.ended.count() >= SAMPLE || elapsed >= TIMEOUT {
            // Where nothing ended though something waits, it waits at least for as long.
            let waiting = (seen.in_flight > 0).then_some(elapsed);
            if let Some(sample) = self.ended.quantile(0.99).or(waiting).map(|sample| sample.as_secs_f64()) {
                let smoothed =
                    self.smoothed.map_or(sample, |before| SMOOTHING * before + (1.0 - SMOOTHING) * sample);
                self.smoothed = Some(smoothed);
                let error = (smoothed - TARGET.as_secs_f64()) / TARGET.as_secs_f64();
                if error > 0.0 {
                    self.rate = (self.rate.min(seen.offered_rate) / DECREASE).max(LEAST);
                } else if error < INCREASE_BELOW {
                    self.rate = (self.rate - (error - INCREASE_WEIGHT) * INCREASE).min(MOST);
                }
            }
            self.since = Some(seen.now);
            self.ended = Ended::default();
        }
        Act::Rate(if self.rate >= MOST { f64::INFINITY } else { self.rate })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shedder::control::Counters;
    use shedder_common::class::PRIORITIES;
    use shedder_common::histogram::bucket;

    const OFFERED: Counters = [0; PRIORITIES as usize];

    fn turn(aimd: &mut Aimd, now: u64, latency_ms: u64) -> Act {
        let mut ended = Ended::default();
        ended.0[bucket(latency_ms * 1_000_000)] = 100;
        let now = Duration::from_millis(now);
        aimd.turn(&Seen {
            now,
            ended: &ended,
            queueing: None,
            in_flight: 0,
            offered: &OFFERED,
            offered_rate: 1200.0,
        })
    }

    #[test]
    fn divides_above_the_target_and_adds_well_below_it() {
        let mut aimd = Aimd::new();
        assert_eq!(turn(&mut aimd, 0, 40), Act::Rate(f64::INFINITY));
        let Act::Rate(rate) = turn(&mut aimd, 20, 400) else { panic!() };
        assert!((rate - 1000.0).abs() < 1e-6, "{rate}");
        aimd.smoothed = None;
        let Act::Rate(more) = turn(&mut aimd, 40, 10) else { panic!() };
        assert!((1.3..1.5).contains(&(more - rate)), "{rate} {more}");
    }

    #[test]
    fn silence_with_requests_in_flight_is_overload() {
        let mut aimd = Aimd::new();
        let ended = Ended::default();
        for now in [0, 1000] {
            let now = Duration::from_millis(now);
            let act = aimd.turn(&Seen {
                now,
                ended: &ended,
                queueing: None,
                in_flight: 9,
                offered: &OFFERED,
                offered_rate: 600.0,
            });
            let expected = if now.is_zero() { f64::INFINITY } else { 500.0 };
            assert_eq!(act, Act::Rate(expected));
        }
    }
}
