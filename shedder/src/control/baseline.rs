//! The latency of a service that has no queue.
//!
//! As in C. Jin, D. X. Wei and S. H. Low, "FAST TCP: motivation, architecture, algorithms, performance", 2004, what is
//! observed above it is queueing. Unlike there it is no minimum: the quantile is followed while nothing is shed and the
//! service has room, quickly down and slowly up, so that it drifts with the service.

use std::time::Duration;

/// Down to what is observed: a time constant.
const FALL: f64 = 1.0;

/// Up to what is observed: a time constant.
const RISE: f64 = 20.0;

/// Nothing must have been shed for this long, so that no queue is left.
const CALM: Duration = Duration::from_secs(1);

/// The service must do less than this part of what it can.
const ROOM: f64 = 0.8;

/// A baseline above this part of the aim leaves no queue to tell from it: the latency itself is controlled.
const MOST: f64 = 0.7;

/// Seconds of signal that it takes.
const SETTLED: f64 = 1.0;

/// Follows the latency of an unloaded service.
#[derive(Clone, Debug)]
pub(super) struct Baseline {
    /// Seconds.
    value: Option<f64>,
    shed_at: Option<Duration>,
    /// Seconds of signal.
    seen: f64,
    last: Option<Duration>,
}

impl Baseline {
    pub(super) fn new() -> Baseline {
        Baseline { value: None, shed_at: None, seen: 0.0, last: None }
    }

    /// Takes in what is `observed` while `ratio` is shed and the service does the fraction `utilization` of what it can.
    pub(super) fn observe(
        &mut self,
        now: Duration,
        observed: Duration,
        ratio: f64,
        utilization: Option<f64>,
    ) {
        let dt = self.last.map_or(0.0, |last| now.saturating_sub(last).as_secs_f64().min(1.0));
        self.last = Some(now);
        let observed = observed.as_secs_f64();
        let Some(value) = &mut self.value else {
            if ratio == 0.0 {
                self.value = Some(observed);
            }
            return;
        };
        self.seen += dt;
        if observed < *value {
            // A queue cannot make it shorter: what was taken for the baseline was none.
            *value += (observed - *value) * dt / (FALL + dt);
        } else if ratio > 0.0 {
            self.shed_at = Some(now);
        } else if self.shed_at.is_none_or(|at| now.saturating_sub(at) > CALM)
            && utilization.is_none_or(|utilization| utilization < ROOM)
        {
            *value += (observed - *value) * dt / (RISE + dt);
        }
    }

    /// The baseline, where it tells a queue from the service's own latency below `aim`.
    pub(super) fn below(&self, aim: Duration) -> Option<Duration> {
        let known = self.value.filter(|&value| self.seen >= SETTLED && value <= MOST * aim.as_secs_f64());
        known.map(Duration::from_secs_f64)
    }

    /// What is known of it.
    pub(super) fn get(&self) -> Option<Duration> {
        self.value.filter(|_| self.seen >= SETTLED).map(Duration::from_secs_f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AIM: Duration = Duration::from_millis(50);

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    fn follow(
        baseline: &mut Baseline,
        from: u64,
        seconds: u64,
        observed: u64,
        ratio: f64,
    ) -> Option<Duration> {
        (0..seconds * 50).for_each(|turn| {
            baseline.observe(ms(from * 1000 + 20 * turn), ms(observed), ratio, Some(0.5));
        });
        baseline.get()
    }

    #[test]
    fn queue_under_overload_is_no_baseline() {
        let mut baseline = Baseline::new();
        let unloaded = follow(&mut baseline, 0, 5, 8, 0.0);
        assert_eq!(follow(&mut baseline, 5, 60, 45, 0.5), unloaded);
        assert_eq!(baseline.below(AIM), unloaded);
    }

    #[test]
    fn it_drifts_with_the_service_and_is_forgotten_when_wrong() {
        let mut baseline = Baseline::new();
        follow(&mut baseline, 0, 5, 8, 0.0);
        assert!(follow(&mut baseline, 5, 100, 12, 0.0) > Some(ms(11)));
        assert!(follow(&mut baseline, 105, 5, 4, 0.0) < Some(ms(5)));
    }

    #[test]
    fn near_the_target_it_tells_nothing() {
        let mut baseline = Baseline::new();
        assert_eq!(baseline.below(AIM), None);
        follow(&mut baseline, 0, 5, 48, 0.0);
        assert_eq!((baseline.below(AIM), baseline.get()), (None, Some(ms(48))));
    }
}
