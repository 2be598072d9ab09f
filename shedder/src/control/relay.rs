//! Finding gains by relay feedback: the service is shed at one ratio while its latency is above the target, and at another
//! while it is below, until it swings between the two. The swing's period and height are the loop's.
//!
//! Sources: K. J. Åström and T. Hägglund, "Automatic tuning of simple regulators with specifications on phase and
//! amplitude margins", 1984, for the experiment; B. D. Tyreus and W. L. Luyben, "Tuning PI controllers for
//! integrator/dead time processes", 1992, for the gains, which are those of a queue: it integrates.

use super::pid::effort;
use std::fmt;
use std::time::Duration;

/// How far past the target the latency must be before the relay switches, as a fraction of the target, so that noise
/// does not switch it.
const HYSTERESIS: f64 = 0.1;

/// Swings that are measured: each is two switches.
const SWINGS: usize = 4;

/// Measured periods may differ by this factor from their median; else there is no steady swing yet.
const STEADY: f64 = 1.6;

/// What an experiment may do, and when it must end.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Shed while the latency is below the target, 0 to 1.
    pub low: f64,
    /// Shed while it is above: more than `low`, below 1.
    pub high: f64,
    /// The latency that ends the experiment at once.
    pub worst: Duration,
    /// How long it may take.
    pub longest: Duration,
}

/// A swing that was measured, and the gains that come of it, as effort: see [`pid`](super::pid).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Swing {
    /// From one switch to the same switch again.
    pub period: Duration,
    /// Half of what the error spans, in targets.
    pub amplitude: f64,
    /// Effort per unit of error.
    pub kp: f64,
    /// Effort per unit of error and second.
    pub ki: f64,
    /// Effort per unit of error and second of slope: seconds.
    pub kd: f64,
}

/// Why an experiment ended without a result.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Failure {
    /// The latency was past the bound.
    Worse {
        /// What it was.
        latency: Duration,
        /// The bound.
        worst: Duration,
    },
    /// While the least was shed, the latency never came to the target.
    NeverAbove,
    /// While the most was shed, the latency never came below the target.
    NeverBelow,
    /// It swung, and never steadily.
    Unsteady,
    /// There was no signal.
    NoSignal,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Worse { latency, worst } => write!(
                f,
                "the latency came to {latency:.1?}, past the bound of {worst:.1?}: shed more at the upper end of the range"
            ),
            Failure::NeverAbove => f.write_str(
                "at the lower end of the range the latency never came to the target: there is nothing to control now; \
                 try under more load, or with a lower end",
            ),
            Failure::NeverBelow => f.write_str(
                "at the upper end of the range the latency never came below the target: shed more there, or raise the \
                 target",
            ),
            Failure::Unsteady => {
                f.write_str("the latency never swung steadily: try again, for longer, or with a wider range")
            }
            Failure::NoSignal => f.write_str("there is no signal: `shedder status` and /readyz say why"),
        }
    }
}

impl std::error::Error for Failure {}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Step {
    /// Shed this fraction until the next turn.
    Shed(f64),
    /// The result: stop shedding.
    Done(Swing),
    /// Stop shedding: there is no result.
    Failed(Failure),
}

/// An experiment under way.
#[derive(Clone, Debug)]
pub struct Relay {
    target: f64,
    bounds: Bounds,
    began: Option<Duration>,
    is_high: bool,
    /// When it went over to the higher ratio.
    rises: Vec<Duration>,
    /// The lowest and the highest error since the last rise.
    span: (f64, f64),
    /// Of each whole period.
    spans: Vec<(f64, f64)>,
    was_observed: bool,
}

impl Relay {
    /// An experiment about `target`. `bounds` must hold `0 <= low < high < 1`.
    pub fn new(target: Duration, bounds: Bounds) -> Relay {
        Relay {
            target: target.as_secs_f64(),
            bounds,
            began: None,
            is_high: false,
            rises: Vec::new(),
            span: (f64::INFINITY, f64::NEG_INFINITY),
            spans: Vec::new(),
            was_observed: false,
        }
    }

    /// Decides at `now` of a clock that does not go backwards, where the latency is `observed`.
    pub fn turn(&mut self, now: Duration, observed: Option<Duration>) -> Step {
        let began = *self.began.get_or_insert(now);
        if let Some(latency) = observed {
            self.was_observed = true;
            if latency > self.bounds.worst {
                return Step::Failed(Failure::Worse { latency, worst: self.bounds.worst });
            }
            self.switch(now, latency.as_secs_f64() / self.target - 1.0);
            if let Some(swing) = self.swing() {
                return Step::Done(swing);
            }
        }
        if now.saturating_sub(began) >= self.bounds.longest {
            return Step::Failed(self.failure());
        }
        Step::Shed(if self.is_high { self.bounds.high } else { self.bounds.low })
    }

    fn switch(&mut self, now: Duration, error: f64) {
        self.span = (self.span.0.min(error), self.span.1.max(error));
        if self.is_high && error < -HYSTERESIS {
            self.is_high = false;
        } else if !self.is_high && error > HYSTERESIS {
            self.is_high = true;
            self.rises.push(now);
            if self.rises.len() > 1 {
                self.spans.push(self.span);
            }
            self.span = (error, error);
        }
    }

    /// What the last swings come to, once they are steady. The first period still holds what was there before.
    fn swing(&self) -> Option<Swing> {
        let rises = self.rises.get(1..).filter(|rises| rises.len() > SWINGS)?;
        let rises = &rises[rises.len() - SWINGS - 1..];
        let mut periods: Vec<f64> = rises.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64()).collect();
        periods.sort_unstable_by(f64::total_cmp);
        let (shortest, median, longest) = (periods[0], periods[SWINGS / 2], periods[SWINGS - 1]);
        if shortest <= 0.0 || longest > median * STEADY || shortest < median / STEADY {
            return None;
        }
        let period = periods.iter().sum::<f64>() / SWINGS as f64;
        let spans = &self.spans[self.spans.len() - SWINGS..];
        let amplitude = spans.iter().map(|(low, high)| (high - low) / 2.0).sum::<f64>() / SWINGS as f64;
        let height = (effort(self.bounds.high) - effort(self.bounds.low)) / 2.0;
        // The describing function of a relay with hysteresis.
        let ultimate =
            4.0 * height / (std::f64::consts::PI * (amplitude.powi(2) - HYSTERESIS.powi(2)).max(1e-4).sqrt());
        let kp = ultimate / 2.2;
        Some(Swing {
            period: Duration::from_secs_f64(period),
            amplitude,
            kp,
            ki: kp / (2.2 * period),
            kd: kp * period / 6.3,
        })
    }

    fn failure(&self) -> Failure {
        match (self.was_observed, self.rises.len()) {
            (false, _) => Failure::NoSignal,
            (true, 0) => Failure::NeverAbove,
            (true, 1) if self.is_high => Failure::NeverBelow,
            (true, _) => Failure::Unsteady,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    const TARGET: Duration = Duration::from_millis(50);
    const BOUNDS: Bounds =
        Bounds { low: 0.5, high: 0.9, worst: Duration::from_secs(1), longest: Duration::from_secs(60) };
    const TURN: Duration = Duration::from_millis(20);

    /// Runs an experiment on a queue that `load` times the capacity is offered to, and that is seen `delay` turns late.
    fn experiment(bounds: Bounds, load: f64, delay: usize) -> Step {
        let mut relay = Relay::new(TARGET, bounds);
        let mut latency: f64 = 0.01;
        let mut seen: VecDeque<f64> = std::iter::repeat_n(latency, delay).collect();
        let mut now = Duration::ZERO;
        loop {
            seen.push_back(latency);
            let observed = seen.pop_front().map(Duration::from_secs_f64);
            match relay.turn(now, observed) {
                Step::Shed(ratio) => {
                    latency = (latency + (load * (1.0 - ratio) - 1.0) * TURN.as_secs_f64()).max(0.005);
                }
                end => return end,
            }
            now += TURN;
        }
    }

    #[test]
    fn swing_tells_the_dead_time_of_a_queue() {
        for delay in [2, 4, 8] {
            let Step::Done(swing) = experiment(BOUNDS, 4.0, delay) else { panic!("{delay}: no swing") };
            // An integrator's period is four dead times, and what the hysteresis adds.
            let dead_time = delay as f64 * TURN.as_secs_f64();
            let period = swing.period.as_secs_f64();
            assert!((3.5 * dead_time..10.0 * dead_time).contains(&period), "{delay}: {swing:?}");
        }
    }

    #[test]
    fn gains_fall_with_the_dead_time() {
        let kp = |delay| match experiment(BOUNDS, 4.0, delay) {
            Step::Done(swing) => swing.kp,
            other => panic!("{other:?}"),
        };
        assert!(kp(2) > 1.3 * kp(4) && kp(4) > 1.3 * kp(8));
    }

    #[test]
    fn gains_hold_the_queue_that_they_came_from() {
        let Step::Done(swing) = experiment(BOUNDS, 4.0, 3) else { panic!("no swing") };
        let (mut latency, mut integral) = (0.05, effort(0.75));
        let mut seen: VecDeque<f64> = std::iter::repeat_n(latency, 3).collect();
        let mut last = 0.0;
        let mut errors = Vec::new();
        for _ in 0..1500 {
            seen.push_back(latency);
            let error = seen.pop_front().unwrap_or(latency) / TARGET.as_secs_f64() - 1.0;
            let dt = TURN.as_secs_f64();
            integral += swing.ki * error * dt;
            let output: f64 = swing.kp * error + integral + swing.kd * (error - last) / dt;
            last = error;
            let admitted = 5.0 * (-output.max(0.0)).exp();
            latency = (latency + (admitted - 1.0) * dt).max(0.005);
            errors.push(error.abs());
        }
        let late = errors[1000..].iter().copied().fold(0.0, f64::max);
        assert!(late < 0.05, "{late} of a target, half a minute after the load rose by a quarter");
    }

    #[test]
    fn ends_at_once_where_latency_gets_worse() {
        let step = experiment(Bounds { worst: Duration::from_millis(80), low: 0.0, ..BOUNDS }, 8.0, 4);
        assert!(matches!(step, Step::Failed(Failure::Worse { .. })), "{step:?}");
    }

    #[test]
    fn says_what_the_range_lacks() {
        assert_eq!(experiment(BOUNDS, 1.0, 2), Step::Failed(Failure::NeverAbove));
        let narrow = Bounds { low: 0.5, high: 0.6, worst: Duration::from_secs(100), ..BOUNDS };
        assert_eq!(experiment(narrow, 4.0, 2), Step::Failed(Failure::NeverBelow));
        let mut deaf = Relay::new(TARGET, BOUNDS);
        deaf.turn(Duration::ZERO, None);
        assert_eq!(deaf.turn(Duration::from_secs(60), None), Step::Failed(Failure::NoSignal));
    }
}
