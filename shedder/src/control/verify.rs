//! Whether shedding more has helped, and undoing it where it did harm.
//!
//! Shedding that relieves a service makes its latency better or leaves its goodput as it was. Where both got worse though no
//! more was offered, what was shed was not what made the queue: the rise is undone, and not tried again for a while.

use std::time::Duration;

/// A rise of the ratio by this much is an action.
const ACTION: f64 = 0.1;

/// The latency is worse from this factor on.
const WORSE_LATENCY: f64 = 1.3;

/// The goodput is worse below this factor.
const WORSE_GOODPUT: f64 = 0.75;

/// The load has risen from this factor on.
const RISEN: f64 = 1.1;

/// How long an action that was undone is not repeated, at first and at most.
const BACK_OFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// What a turn knows of the objective.
#[derive(Clone, Copy, Debug)]
pub(super) struct Objective {
    /// Seconds.
    pub latency: f64,
    /// Answers a second, over the last moments.
    pub goodput: f64,
    /// Requests a second that would arrive if nothing were shed.
    pub offered: f64,
    /// Whether answers come at all: a service that stalls was not stalled by shedding.
    pub is_answering: bool,
}

/// An action under trial.
#[derive(Clone, Copy, Debug)]
struct Trial {
    began: Duration,
    due: Duration,
    /// The ratio before it.
    ratio: f64,
    before: Objective,
    /// The highest load since.
    most_offered: f64,
    /// The lowest latency since: where it fell at all, the action has not made it worse.
    least_latency: f64,
}

/// Watches what the loop does.
#[derive(Clone, Debug)]
pub(super) struct Verifier {
    target: f64,
    /// An action shows within this, and the latency that was observed.
    dead_time: Duration,
    trial: Option<Trial>,
    /// The lowest ratio since the last action.
    lowest: f64,
    /// The lowest goodput lately: what was lost before an action was not lost by it.
    goodput: f64,
    barred: Option<(Duration, f64)>,
    back_off: Duration,
    undone: u64,
}

impl Verifier {
    pub(super) fn new(target: Duration, dead_time: Duration) -> Verifier {
        Verifier {
            target: target.as_secs_f64(),
            dead_time,
            trial: None,
            lowest: 0.0,
            goodput: f64::INFINITY,
            barred: None,
            back_off: BACK_OFF.0,
            undone: 0,
        }
    }

    /// Actions that were undone.
    pub(super) fn undone(&self) -> u64 {
        self.undone
    }

    /// The most that may be shed at `now`, while an action is not to be repeated.
    pub(super) fn most(&self, now: Duration) -> f64 {
        self.barred.filter(|&(until, _)| now < until).map_or(1.0, |(_, most)| most)
    }

    /// The loop does not decide: nothing is on trial.
    pub(super) fn suspend(&mut self, ratio: f64) {
        self.trial = None;
        self.lowest = ratio;
    }

    /// Judges at `now`, where `ratio` is in force from now on. Some: the last action did harm, and this is the ratio to go
    /// back to.
    pub(super) fn turn(&mut self, now: Duration, ratio: f64, objective: Objective) -> Option<f64> {
        // Recent losses fade, so that they excuse only the actions that answer them.
        self.goodput = objective.goodput.min(self.goodput * 1.1 + 1e-3);
        let Some(mut trial) = self.trial else {
            self.lowest = self.lowest.min(ratio);
            if ratio >= self.lowest + ACTION && objective.latency > self.target && now >= self.until() {
                let shows = Duration::from_secs_f64(objective.latency.min(10.0 * self.target));
                self.trial = Some(Trial {
                    began: now,
                    due: now + self.dead_time * 2 + shows * 2,
                    ratio: self.lowest,
                    before: Objective { goodput: self.goodput, ..objective },
                    most_offered: objective.offered,
                    least_latency: objective.latency,
                });
            }
            return None;
        };
        trial.most_offered = trial.most_offered.max(objective.offered);
        trial.least_latency = trial.least_latency.min(objective.latency);
        self.trial = Some(trial);
        if now < trial.due {
            return None;
        }
        self.trial = None;
        self.lowest = ratio;
        let before = trial.before;
        let did_harm = ratio > trial.ratio
            && objective.is_answering
            && trial.least_latency >= before.latency
            && objective.latency > WORSE_LATENCY * before.latency
            && objective.goodput < WORSE_GOODPUT * before.goodput
            && trial.most_offered < RISEN * before.offered;
        if !did_harm {
            if now.saturating_sub(trial.began) > Duration::ZERO && objective.latency < before.latency {
                self.back_off = BACK_OFF.0;
            }
            return None;
        }
        self.undone += 1;
        self.barred = Some((now + self.back_off, trial.ratio));
        self.back_off = (self.back_off * 2).min(BACK_OFF.1);
        self.lowest = trial.ratio;
        Some(trial.ratio)
    }

    fn until(&self) -> Duration {
        self.barred.map_or(Duration::ZERO, |(until, _)| until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    /// Turns every 20 ms; the ratio and the objective by the turn. Answers with when, and back to what.
    fn judged(of: impl Fn(u64) -> (f64, Objective)) -> (Vec<(u64, f64)>, Verifier) {
        let mut verifier = Verifier::new(ms(50), ms(60));
        let undone = (0..200).filter_map(|turn| {
            let (ratio, objective) = of(turn);
            Some((turn, verifier.turn(ms(20 * turn), ratio, objective)?))
        });
        (undone.collect(), verifier)
    }

    fn objective(latency: f64, goodput: f64, offered: f64) -> Objective {
        Objective { latency, goodput, offered, is_answering: true }
    }

    #[test]
    fn harm_is_undone_once_and_barred() {
        // Of every step more that is shed, the latency grows and the goodput shrinks, at the same load.
        let (undone, verifier) = judged(|turn| {
            let worse = turn.saturating_sub(50) as f64 / 20.0;
            let ratio = if turn < 50 { 0.1 } else { 0.5 };
            (ratio, objective(0.06 * (1.0 + worse), 1000.0 / (1.0 + worse), 1000.0))
        });
        assert!(!undone.is_empty() && undone.iter().all(|&(_, back)| back <= 0.1), "{undone:?}");
        assert!(undone.windows(2).all(|pair| pair[1].0 - pair[0].0 >= 50), "{undone:?}");
        assert_eq!(verifier.undone(), undone.len() as u64);
        assert!(verifier.most(ms(20 * undone[0].0 + 20)) <= 0.1);
    }

    #[test]
    fn growing_overload_is_no_harm() {
        let (undone, _) = judged(|turn| {
            let growth = 1.02f64.powi(turn as i32);
            (0.4 + turn as f64 / 400.0, objective(0.06 * growth, 1000.0 / growth, 1000.0 * growth))
        });
        assert_eq!(undone, []);
    }

    #[test]
    fn server_that_slows_down_before_the_action_is_no_harm() {
        let (undone, _) = judged(|turn| {
            let slow = turn >= 50;
            let late = turn.saturating_sub(50) as f64;
            let ratio = if turn >= 55 { 0.6 } else { 0.0 };
            let latency = if slow { 0.02 + 0.01 * late } else { 0.02 };
            (ratio, objective(latency, if slow { 500.0 } else { 1000.0 }, 1000.0))
        });
        assert_eq!(undone, []);
    }

    #[test]
    fn help_is_kept() {
        let (undone, _) = judged(|turn| {
            let ratio = if turn >= 50 { 0.8 } else { 0.0 };
            (ratio, objective(if turn >= 60 { 0.04 } else { 0.2 }, 1000.0, 5000.0))
        });
        assert_eq!(undone, []);
    }
}
