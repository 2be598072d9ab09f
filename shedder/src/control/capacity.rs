//! What a service can do, and how long a request that arrives now will therefore take.
//!
//! By Little's law (J. D. C. Little, "A proof for the queuing formula L = lambda W", 1961) a request that joins `n` in
//! flight behind servers that answer `mu` a second is answered after `n / mu`: what stands before it is `n` answers.
//! Unlike the latency of an answer, which tells of the queue as that request found it, this has no dead time.
//!
//! What the law leaves out (that the quantile is not the mean; that not everybody waits in one queue) shows as a
//! difference between the quantile and what was predicted when those requests arrived, and is added slowly: the
//! structure of O. J. M. Smith's predictor ("Closer control of loops with dead time", 1957).

use super::stall::Stall;
use std::collections::VecDeque;
use std::time::Duration;

/// A median of this part of the target, and above what even slow requests take without a queue, means that all requests
/// wait: that the servers have enough to do, and answer as fast as they can.
const BUSY: f64 = 0.4;

/// As many answers tell a rate to about a fifth.
pub(super) const TELLING: f64 = 30.0;

/// Predictions that are kept for comparison with what came true.
const PAST: usize = 256;

/// Something that was counted over the last moments.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Rate {
    /// As it was counted.
    pub(super) count: f64,
    /// What that stands for, where not everything is measured.
    pub(super) total: f64,
    /// Seconds.
    pub(super) span: f64,
}

impl Rate {
    pub(super) fn per_second(self) -> f64 {
        if self.span > 0.0 { self.total / self.span } else { 0.0 }
    }
}

/// What was counted until a turn.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    /// Requests that arrived.
    pub(super) arrivals: Rate,
    /// Requests that were answered.
    pub(super) answers: Rate,
    /// Of the latency, what waits included.
    pub(super) median: Duration,
    /// How long the last few answers took, or the oldest request in flight has waited where that is longer; none: too few
    /// were answered.
    pub(super) newest: Option<Duration>,
    /// Whether requests wait and none was answered since the turn before.
    pub(super) is_silent: bool,
    /// The latency without a queue; none: not known.
    pub(super) baseline: Option<Duration>,
}

/// Learns the capacity, and predicts.
#[derive(Clone, Debug)]
pub(super) struct Capacity {
    /// Seconds.
    target: f64,
    /// Answers a second; the most that was seen, until the servers had enough to do.
    known: Option<f64>,
    /// Whether they ever had.
    is_proven: bool,
    stall: Stall,
    /// The logarithm of the factor by which it is more than a turn ago because a stall ended.
    regained: f64,
    /// Requests a second that arrive.
    arrivals: f64,
    /// What the quantile is longer than the prediction was, in seconds.
    bias: f64,
    /// When, and what was predicted at most until the next, in seconds.
    past: VecDeque<(Duration, f64)>,
    spacing: Duration,
}

impl Capacity {
    pub(super) fn new(target: Duration, window: Duration) -> Capacity {
        Capacity {
            target: target.as_secs_f64(),
            known: None,
            is_proven: false,
            stall: Stall::default(),
            regained: 0.0,
            arrivals: 0.0,
            bias: 0.0,
            past: VecDeque::new(),
            spacing: (target * 8 + window) / PAST as u32,
        }
    }

    /// Answers a second; none: too few were seen yet. Until the servers once had enough to do they are taken to be able to
    /// do all that arrives: a service that did little so far is no slow one.
    pub(super) fn per_second(&self) -> Option<f64> {
        self.known.map(|known| if self.is_proven { known } else { known.max(self.arrivals) })
    }

    /// The logarithm of the factor by which it became more in the last turn because a stall ended; 0: none did.
    pub(super) fn regained(&self) -> f64 {
        self.regained
    }

    /// Learns from what was counted, `dt` seconds after the turn before.
    pub(super) fn learn(&mut self, dt: f64, seen: &Seen) {
        let Seen { arrivals, answers, median, baseline, .. } = *seen;
        self.arrivals = arrivals.per_second();
        self.regained = 0.0;
        let rate = answers.per_second();
        let Some(known) = &mut self.known else {
            self.known = Some(rate).filter(|_| answers.count >= TELLING);
            return;
        };
        let stalled = self.stall.turn(dt, *known, seen.is_silent, seen.newest, baseline);
        let without_queue = baseline.map_or(0.0, |baseline| baseline.as_secs_f64());
        let is_busy = median.as_secs_f64() >= (BUSY * self.target).max(without_queue);
        self.is_proven |= is_busy;
        if rate > *known || is_busy {
            *known += (rate - *known) * (dt / answers.span.max(dt));
            *known = known.max(1e-3);
        }
        if let Some(before) = stalled {
            self.regained = (before / *known).ln();
            *known = before;
            // It was learned from a queue that nobody served.
            self.bias = 0.0;
        }
    }

    /// What a request that arrives at `now` will take at the configured quantile, in seconds, while `in_flight` are;
    /// `observed` is the quantile over the last `span` seconds, where it is one. None: nothing is known yet.
    pub(super) fn predict(
        &mut self,
        now: Duration,
        dt: f64,
        in_flight: f64,
        observed: Option<Duration>,
        span: f64,
    ) -> Option<f64> {
        let predicted = in_flight / self.per_second()?;
        match self.past.back_mut() {
            Some((at, most)) if now.saturating_sub(*at) < self.spacing => *most = most.max(predicted),
            _ => {
                if self.past.len() == PAST {
                    self.past.pop_front();
                }
                self.past.push_back((now, predicted));
            }
        }
        if let Some(observed) = observed.map(|latency| latency.as_secs_f64()) {
            let then = self.at_most(now, span + observed, observed);
            let wrong = (observed - then).clamp(-self.target, self.target);
            let pace = dt / (2.0 * (self.target + span) + dt);
            self.bias += (wrong - self.bias) * pace;
        }
        Some((predicted + self.bias).max(0.0))
    }

    /// The highest prediction from `first` to `last` seconds ago.
    fn at_most(&self, now: Duration, first: f64, last: f64) -> f64 {
        let ago = |at: Duration| now.saturating_sub(at).as_secs_f64();
        let spacing = self.spacing.as_secs_f64();
        let meant = self.past.iter().filter(|(at, _)| (last - spacing..=first + spacing).contains(&ago(*at)));
        meant
            .map(|&(_, most)| most)
            .reduce(f64::max)
            .unwrap_or_else(|| self.past.front().map_or(0.0, |past| past.1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: Duration = Duration::from_millis(50);

    fn rate(per_second: f64) -> Rate {
        Rate { count: per_second * 0.1, total: per_second * 0.1, span: 0.1 }
    }

    /// A turn in which so many requests a second arrive and are answered, half of them within so many milliseconds.
    fn turn(capacity: &mut Capacity, arrivals: f64, answers: f64, median: u64) {
        let median = Duration::from_millis(median);
        let seen = Seen { arrivals: rate(arrivals), answers: rate(answers), median, ..Seen::default() };
        capacity.learn(0.02, &seen);
    }

    fn learned(per_second: f64) -> Capacity {
        let mut capacity = Capacity::new(TARGET, Duration::from_millis(100));
        (0..50).for_each(|_| turn(&mut capacity, per_second, per_second, 40));
        capacity
    }

    #[test]
    fn queue_is_as_long_as_its_answers_take() {
        let predicted = learned(1000.0).predict(Duration::ZERO, 0.02, 70.0, None, 0.1).unwrap();
        assert!((predicted - 0.07).abs() < 1e-9);
    }

    #[test]
    fn light_load_does_not_make_a_small_capacity() {
        let mut capacity = learned(1000.0);
        (0..50).for_each(|_| turn(&mut capacity, 100.0, 100.0, 5));
        assert!(capacity.per_second() > Some(999.0));

        let mut capacity = Capacity::new(TARGET, Duration::from_millis(100));
        (0..50).for_each(|_| turn(&mut capacity, 400.0, 400.0, 5));
        turn(&mut capacity, 900.0, 400.0, 5);
        assert!(capacity.per_second() > Some(899.0), "what begins is not known to be too much");
    }

    #[test]
    fn slower_servers_are_known_by_their_queue() {
        let mut capacity = learned(1000.0);
        (0..30).for_each(|_| turn(&mut capacity, 2000.0, 500.0, 60));
        assert!(capacity.per_second() < Some(510.0));
    }

    #[test]
    fn stall_that_ended_is_forgotten() {
        let mut capacity = learned(1000.0);
        let late = Duration::from_millis(200);
        let silent = Seen { arrivals: rate(20.0), median: late, is_silent: true, ..Seen::default() };
        (0..100).for_each(|_| capacity.learn(0.02, &silent));
        assert!(capacity.per_second() < Some(1.0));
        let usual = Duration::from_millis(8);
        let (newest, baseline) = (Some(usual), Some(usual));
        let few = Seen { answers: rate(20.0), median: usual, newest, baseline, ..Seen::default() };
        capacity.learn(0.02, &few);
        assert!(capacity.per_second() > Some(999.0) && capacity.regained() > 4.0);
        capacity.learn(0.02, &few);
        assert!(capacity.per_second() > Some(999.0) && capacity.regained() == 0.0);
    }

    #[test]
    fn what_the_law_leaves_out_is_added() {
        let mut capacity = learned(1000.0);
        let quantile = Some(Duration::from_millis(30));
        let predicted = (1..500)
            .map(|turn| capacity.predict(Duration::from_millis(20 * turn), 0.02, 10.0, quantile, 0.1));
        let last = predicted.last().flatten().unwrap();
        assert!((last - 0.03).abs() < 0.001, "{last}");
    }
}
