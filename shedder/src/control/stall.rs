//! A service that stopped answering, and then answers as fast as ever: it can do what it could before.
//!
//! Otherwise a stall would outlast itself: what little was let in while it lasted is all that can be answered when it ends,
//! which is no proof that more can be.

use std::time::Duration;

/// So many answers in a row that did not come, at the rate at which they could have, are no chance.
const MISSED: f64 = 10.0;

/// Answers take at most so many times the baseline where the service is as fast as ever: one bucket, and some chance.
const AS_EVER: f64 = 1.25;

/// Watches for stalls.
#[derive(Clone, Debug, Default)]
pub(super) struct Stall {
    /// Answers that did not come since the last that did.
    missed: f64,
    /// The capacity when they stopped.
    could: f64,
    /// The capacity before a stall that is not over; none: there is none.
    before: Option<f64>,
}

impl Stall {
    /// Takes in a turn of `dt` seconds at a capacity of `known`, in which requests waited, of which none was answered where
    /// `is_silent`. `newest` is how long the last few answers took, or the oldest request in flight has waited where that
    /// is longer. Answers with the capacity to go back to, once.
    pub(super) fn turn(
        &mut self,
        dt: f64,
        known: f64,
        is_silent: bool,
        newest: Option<Duration>,
        baseline: Option<Duration>,
    ) -> Option<f64> {
        if is_silent {
            if self.missed == 0.0 {
                self.could = known;
            }
            self.missed += self.could * dt;
            if self.missed >= MISSED {
                self.before = Some(self.before.map_or(self.could, |before| before.max(self.could)));
            }
            return None;
        }
        self.missed = 0.0;
        let is_back = newest.zip(baseline).is_some_and(|(newest, usual)| newest <= usual.mul_f64(AS_EVER));
        self.before.take_if(|before| is_back || known >= *before).filter(|before| *before > known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAST: Option<Duration> = Some(Duration::from_millis(8));
    const SLOW: Option<Duration> = Some(Duration::from_millis(80));

    /// After a stall of a second, in which the capacity was lost sight of.
    fn stalled() -> Stall {
        let mut stall = Stall::default();
        (0..50).for_each(|turn| {
            assert_eq!(stall.turn(0.02, 1000.0 / f64::from(1 + turn), true, SLOW, FAST), None);
        });
        stall
    }

    #[test]
    fn as_fast_as_ever_is_back_once() {
        let mut stall = stalled();
        assert_eq!(stall.turn(0.02, 20.0, false, SLOW, FAST), None, "the queue drains");
        assert_eq!(stall.turn(0.02, 30.0, false, FAST, FAST), Some(1000.0));
        assert_eq!(stall.turn(0.02, 250.0, false, FAST, FAST), None);
    }

    #[test]
    fn what_grew_back_by_itself_is_no_leap() {
        let mut stall = stalled();
        assert_eq!(stall.turn(0.02, 1100.0, false, FAST, FAST), None);
        assert_eq!(stall.turn(0.02, 500.0, false, FAST, FAST), None);
    }

    #[test]
    fn slow_answers_and_single_silent_turns_are_no_stall() {
        let mut stall = Stall::default();
        for turn in 0..500 {
            let is_silent = turn % 2 == 0;
            assert_eq!(stall.turn(0.02, 100.0, is_silent, FAST, FAST), None);
        }
    }
}
