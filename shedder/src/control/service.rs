//! One service's loop: reading, state, ratio, cutoff.

use super::distribution::Distribution;
use super::pid::{Pid, Terms, Tuning};
use super::relay::Swing;
use super::signal::Reading;
use crate::config::{Control, Posture};
use std::fmt;
use std::time::Duration;

/// What the controller aims at, as a fraction of the target, so that its ripple stays about the target.
const AIM: f64 = 0.85;

/// Time constant of the derivative's filter, in dead times.
const FILTER: f64 = 0.15;

/// How fast the integral is let go where the queue is empty: a fraction in a dead time.
const RELEASE: f64 = 0.2;

/// Why there is no signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Nothing was ever observed.
    Silent,
    /// Nothing was observed within the window.
    Stale {
        /// Since an observation last ended.
        age: Duration,
    },
    /// Less was observed within the window than makes a quantile.
    TooFew {
        /// Observations that ended within the window.
        samples: usize,
        /// How many it takes.
        least: u32,
    },
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::Silent => f.write_str("no latency was ever observed: check the service's signal"),
            Why::Stale { age } => {
                write!(
                    f,
                    "no latency was observed for {:.3} s: check the service's signal",
                    age.as_secs_f64()
                )
            }
            Why::TooFew { samples, least } => write!(
                f,
                "{samples} latencies within control.window, and control.min_samples is {least}: observe more often, or \
                 lengthen the window"
            ),
        }
    }
}

/// What a loop is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It controls.
    Running,
    /// There is no signal: nothing is shed less than before.
    Holding {
        /// Since when.
        since: Duration,
        /// Why there is no signal.
        why: Why,
    },
    /// There was no signal for too long: the posture is due. Where that is `closed`, it is the caller's to carry out.
    Fallen {
        /// Why there is no signal.
        why: Why,
    },
    /// A person decides.
    Override,
}

impl State {
    /// The name that metrics and status use.
    pub fn name(&self) -> &'static str {
        match self {
            State::Running => "running",
            State::Holding { .. } => "holding",
            State::Fallen { .. } => "fallen",
            State::Override => "override",
        }
    }

    /// Why there is no signal, where that is what the loop goes by.
    pub fn why(&self) -> Option<Why> {
        match self {
            State::Holding { why, .. } | State::Fallen { why } => Some(*why),
            State::Running | State::Override => None,
        }
    }
}

/// What a turn came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Decision {
    /// The fraction of offered work that is to be shed, 0 to 1.
    pub ratio: f64,
    /// The first priority that is shed, 0 to 768.
    pub cutoff: u32,
    /// What the loop is doing.
    pub state: State,
    /// The parts of the controller's last output.
    pub terms: Terms,
    /// The latency that was observed; none: there is no signal.
    pub observed: Option<Duration>,
}

/// The loop of one service.
#[derive(Clone, Debug)]
pub struct ServiceLoop {
    pid: Pid,
    target: Duration,
    posture: Posture,
    hold: Duration,
    min_samples: u32,
    silent_since: Option<Duration>,
}

/// The gains of a configuration, for a target.
///
/// How fast a loop may be is set by its dead time: a decision shows in an answer only after that answer's own
/// latency, and then in the window. The gains are therefore those of a loop whose dead time is short against its
/// target, scaled as the rules for an integrating process with dead time have it (S. Skogestad, "Simple analytic
/// rules for model reduction and PID controller tuning", 2003): the gain falls with the dead time, the integral's time
/// and the derivative's rise with it.
fn tuning(control: &Control, target: Duration) -> Tuning {
    let dead_time = (target + control.window).as_secs_f64();
    let gain = target.as_secs_f64() / dead_time;
    Tuning {
        kp: control.kp * gain,
        ki: control.ki * gain / dead_time,
        kd: control.kd * gain * dead_time,
        filter: Duration::from_secs_f64(FILTER * dead_time),
        release: RELEASE / dead_time,
        ceiling: 1.0 - control.admission_floor,
        slew_up: control.slew_up,
        slew_down: control.slew_down,
        dead_band: control.dead_band,
    }
}

/// The configuration's `kp`, `ki` and `kd` that come to the gains of a swing: [`tuning`] backwards.
pub fn gains(control: &Control, target: Duration, swing: &Swing) -> [f64; 3] {
    let dead_time = (target + control.window).as_secs_f64();
    let gain = target.as_secs_f64() / dead_time;
    [swing.kp / gain, swing.ki * dead_time / gain, swing.kd / (gain * dead_time)]
}

impl ServiceLoop {
    /// A loop that aims at `target`, and starts from `ratio`: 0, or what an earlier daemon left in force.
    pub fn new(control: &Control, target: Duration, posture: Posture, ratio: f64) -> ServiceLoop {
        ServiceLoop {
            pid: Pid::new(tuning(control, target), target.mul_f64(AIM), ratio),
            target,
            posture,
            hold: control.hold,
            min_samples: control.min_samples,
            silent_since: None,
        }
    }

    /// Decides at `now`. `person` is the ratio of an override that holds.
    pub fn turn(
        &mut self,
        now: Duration,
        reading: &Reading,
        offered: &Distribution,
        person: Option<f64>,
    ) -> Decision {
        let signal = self.signal(reading);
        let state = match (person, signal) {
            (Some(ratio), _) => {
                self.silent_since = None;
                self.pid.track(ratio);
                State::Override
            }
            (None, Ok(latency)) => {
                self.silent_since = None;
                self.pid.turn(now, latency, offered.load());
                State::Running
            }
            (None, Err(why)) => self.endure(now, why, reading, offered),
        };
        let ratio = self.pid.ratio();
        Decision {
            ratio,
            cutoff: offered.cutoff_for(ratio),
            state,
            terms: self.pid.terms(),
            observed: signal.ok(),
        }
    }

    /// The latency to go by, or why there is none. Few observations are enough where they already show that the
    /// target is missed: those in flight are late whatever they will come to.
    fn signal(&self, reading: &Reading) -> Result<Duration, Why> {
        let least = self.min_samples as usize;
        match reading.latency {
            Some(latency) if reading.samples >= least => Ok(latency),
            Some(latency) if latency > self.target && reading.samples + reading.in_flight >= least => {
                Ok(latency)
            }
            _ if reading.samples > 0 => {
                Err(Why::TooFew { samples: reading.samples, least: self.min_samples })
            }
            _ => Err(reading.age.map_or(Why::Silent, |age| Why::Stale { age })),
        }
    }

    /// A turn without a signal.
    fn endure(&mut self, now: Duration, why: Why, reading: &Reading, offered: &Distribution) -> State {
        let since = *self.silent_since.get_or_insert(now);
        // An observation that was begun in good time may take as long as the target before it is known to be late.
        if now.saturating_sub(since) > self.hold + self.target {
            self.pid.track(if self.posture == Posture::Open { 0.0 } else { self.pid.ratio() });
            return State::Fallen { why };
        }
        let before = self.pid.ratio();
        match reading.latency {
            // How long those in flight have taken is the least that the latency is: it may raise the ratio, which a
            // queue that grows needs before any of them ends, but not lower it.
            Some(least) if reading.in_flight > 0 => {
                if self.pid.turn(now, least, offered.load()) < before {
                    self.pid.track(before);
                }
            }
            _ => self.pid.track(before),
        }
        State::Holding { since, why }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: Duration = Duration::from_millis(50);

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    fn reading(latency: u64, samples: usize, in_flight: usize) -> Reading {
        Reading { latency: Some(ms(latency)), samples, failures: 0, in_flight, age: Some(ms(10)) }
    }

    /// A loop that sheds half.
    fn shedding(posture: Posture) -> ServiceLoop {
        let mut service = ServiceLoop::new(&Control::default(), TARGET, posture, 0.5);
        service.turn(Duration::ZERO, &reading(42, 5, 0), &Distribution::new(), None);
        service
    }

    #[test]
    fn few_answers_are_no_good_signal() {
        let mut service = shedding(Posture::Open);
        for turn in 1..40 {
            let decision = service.turn(ms(20 * turn), &reading(1, 2, 0), &Distribution::new(), None);
            assert_eq!((decision.ratio, decision.observed), (0.5, None));
            assert_eq!(decision.state.why(), Some(Why::TooFew { samples: 2, least: 3 }));
        }
    }

    #[test]
    fn what_is_in_flight_raises_and_never_lowers() {
        let mut service = shedding(Posture::Open);
        for turn in 1..20 {
            let decision = service.turn(ms(20 * turn), &reading(1, 0, 5), &Distribution::new(), None);
            assert_eq!(decision.ratio, 0.5);
        }
        let late =
            (20..24).map(|turn| service.turn(ms(20 * turn), &reading(200, 0, 5), &Distribution::new(), None));
        let Some(decision) = late.last() else { panic!("no turns") };
        assert_eq!(decision.state, State::Running);
        assert!(decision.ratio > 0.55, "{}", decision.ratio);
    }

    #[test]
    fn growing_queue_is_seen_before_the_target_is_missed() {
        let mut service = shedding(Posture::Open);
        let early =
            (1..10).map(|turn| service.turn(ms(20 * turn), &reading(48, 0, 5), &Distribution::new(), None));
        let Some(decision) = early.last() else { panic!("no turns") };
        assert!(matches!(decision.state, State::Holding { .. }), "{:?}", decision.state);
        assert!(decision.ratio > 0.51, "{}", decision.ratio);
    }

    #[test]
    fn service_that_was_never_observed_falls_after_the_hold() {
        let mut service = ServiceLoop::new(&Control::default(), TARGET, Posture::Closed, 0.0);
        let mut at = |now| service.turn(ms(now), &Reading::default(), &Distribution::new(), None).state;
        assert_eq!(at(0), State::Holding { since: Duration::ZERO, why: Why::Silent });
        assert_eq!(at(1000), State::Holding { since: Duration::ZERO, why: Why::Silent });
        assert_eq!(at(1060), State::Fallen { why: Why::Silent });
    }

    #[test]
    fn hold_begins_anew_after_each_signal() {
        let mut service = shedding(Posture::Open);
        let silent = Reading { age: Some(ms(300)), ..Reading::default() };
        for now in [900, 1800] {
            let decision = service.turn(ms(now), &silent, &Distribution::new(), None);
            assert_eq!(decision.state, State::Holding { since: ms(now), why: Why::Stale { age: ms(300) } });
            service.turn(ms(now + 20), &reading(42, 5, 0), &Distribution::new(), None);
        }
    }

    #[test]
    fn person_is_obeyed_without_a_signal() {
        let mut service = shedding(Posture::Open);
        let decision = service.turn(ms(5000), &Reading::default(), &Distribution::new(), Some(0.9));
        assert_eq!((decision.ratio, decision.state), (0.9, State::Override));
        assert_eq!(decision.cutoff, Distribution::new().cutoff_for(0.9));
    }

    #[test]
    fn gains_of_a_swing_are_those_that_the_loop_is_tuned_by() {
        let (period, amplitude) = (ms(200), 0.5);
        let swing = Swing { period, amplitude, kp: 0.4, ki: 1.5, kd: 0.02 };
        let [kp, ki, kd] = gains(&Control::default(), TARGET, &swing);
        let tuned = tuning(&Control { kp, ki, kd, ..Control::default() }, TARGET);
        for (found, wanted) in [(tuned.kp, swing.kp), (tuned.ki, swing.ki), (tuned.kd, swing.kd)] {
            assert!((found - wanted).abs() < 1e-9, "{found} for {wanted}");
        }
    }

    #[test]
    fn gains_shrink_where_the_dead_time_outweighs_the_target() {
        let control = Control::default();
        let (short, long) = (tuning(&control, ms(10)), tuning(&control, ms(1000)));
        assert!(short.kp < 0.1 && (0.7..0.8).contains(&long.kp));
        assert!(short.kd < long.kd && short.filter < long.filter && short.release > long.release);
    }

    #[test]
    fn reasons_are_sentences() {
        assert_eq!(
            Why::TooFew { samples: 1, least: 3 }.to_string(),
            "1 latencies within control.window, and control.min_samples is 3: observe more often, or lengthen the window"
        );
        assert_eq!(
            Why::Stale { age: ms(1500) }.to_string(),
            "no latency was observed for 1.500 s: check the service's signal"
        );
    }
}
