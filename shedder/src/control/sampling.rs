//! Which share of a service's flows is measured: as many as tell enough, and no more than the programs' time and the table
//! of flows allow.

use std::time::Duration;

/// Requests and answers a second that a service may cost the programs' time for.
const BUDGET: f64 = 100_000.0;

/// The share is raised only where so many times more would still be within bounds.
const ROOM: f64 = 4.0;

/// The least share, and what it is changed by.
const LEAST: f64 = 1.0 / 65536.0;
const STEP: f64 = 2.0;

/// Between two changes: what is in flight at a change is measured by neither share.
const REST: Duration = Duration::from_millis(500);

/// Sets the share of one service.
#[derive(Clone, Debug)]
pub struct Sampling {
    share: f64,
    changed: Option<Duration>,
}

impl Sampling {
    /// Begins with a share, held to 1/65,536 to 1.
    pub fn new(share: f64) -> Sampling {
        Sampling { share: share.clamp(LEAST, 1.0), changed: None }
    }

    /// The share, 1/65,536 to 1.
    pub fn share(&self) -> f64 {
        self.share
    }

    /// Decides at `now`, where `requests` a second are measured, and the table of flows is filled to the fraction `full` by
    /// all services, to which this one contributes the fraction `part`.
    pub fn turn(&mut self, now: Duration, requests: f64, full: f64, part: f64) -> f64 {
        if self.changed.is_some_and(|at| now.saturating_sub(at) < REST) {
            return self.share;
        }
        // Whoever fills the table gives way, not whoever finds it full.
        let crowds = full > 0.5 && part >= 0.25;
        let wanted = if requests > BUDGET || crowds {
            self.share / STEP
        } else if requests * ROOM < BUDGET && full * ROOM < 0.5 {
            self.share * STEP
        } else {
            self.share
        };
        let wanted = wanted.clamp(LEAST, 1.0);
        if wanted != self.share {
            (self.share, self.changed) = (wanted, Some(now));
        }
        self.share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settle(sampling: &mut Sampling, from: u64, requests: f64, in_flight: f64) -> f64 {
        for second in from..from + 60 {
            let share = sampling.share();
            sampling.turn(Duration::from_secs(second), requests * share, in_flight * share / 16384.0, 1.0);
        }
        sampling.share()
    }

    #[test]
    fn budget_is_kept_and_given_back() {
        let mut sampling = Sampling::new(1.0);
        let flood = settle(&mut sampling, 0, 3e6, 100.0);
        assert!(3e6 * flood <= BUDGET && 3e6 * flood > BUDGET / 4.0, "{flood}");
        assert_eq!(settle(&mut sampling, 100, 1000.0, 100.0), 1.0);
    }

    #[test]
    fn table_stays_half_empty() {
        let mut sampling = Sampling::new(1.0);
        let share = settle(&mut sampling, 0, 50_000.0, 60_000.0);
        assert!(60_000.0 * share / 16384.0 <= 0.5, "{share}");
    }

    #[test]
    fn it_does_not_swing() {
        let mut sampling = Sampling::new(1.0);
        let share = settle(&mut sampling, 0, 3e5, 1000.0);
        assert_eq!(settle(&mut sampling, 60, 3e5, 1000.0), share);
        assert_eq!(settle(&mut sampling, 121, 3e5, 1000.0), share);
    }
}
