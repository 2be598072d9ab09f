//! One service's loop: reading, state, ratio, cutoff.

use super::distribution::Distribution;
use super::pid::{Pid, Terms, Tuning, knob};
use super::signal::Reading;
use crate::config::{Control, Posture};
use std::fmt;
use std::time::Duration;

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
        /// Observations within the window.
        samples: usize,
        /// How many it takes.
        least: u32,
    },
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::Silent => f.write_str("no latency was ever observed"),
            Why::Stale { age } => write!(f, "no latency was observed for {:.3} s", age.as_secs_f64()),
            Why::TooFew { samples, least } => {
                write!(f, "{samples} latencies in the window, and it takes {least} (control.min_samples)")
            }
        }
    }
}

/// What a loop is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It controls.
    Running,
    /// There is no signal, and the last output stands.
    Holding {
        /// Since when.
        since: Duration,
        /// Why there is no signal.
        why: Why,
    },
    /// There was no signal for longer than it holds: the posture is due.
    Fallen {
        /// Why there is no signal.
        why: Why,
    },
    /// A person decides.
    Override,
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

impl ServiceLoop {
    /// A loop that aims at `target` and begins with nothing shed.
    pub fn new(control: &Control, target: Duration, posture: Posture) -> ServiceLoop {
        let t = target.as_secs_f64();
        let theta = t + knob(5, 0.100);
        let g = t / theta;
        let tuning = Tuning {
            kp: control.kp * g,
            ki: control.ki * g / theta,
            kd: control.kd * g * theta,
            filter: Duration::from_secs_f64(knob(4, 0.15) * theta),
            ceiling: 1.0 - control.admission_floor,
            slew_up: control.slew_up,
            slew_down: control.slew_down,
            dead_band: control.dead_band,
        };
        ServiceLoop {
            pid: Pid::new(tuning, target.mul_f64(knob(13, 0.9)), 0.0),
            target,
            posture,
            hold: control.hold,
            min_samples: control.min_samples,
            silent_since: None,
        }
    }

    /// Decides at `now`.
    pub fn turn(
        &mut self,
        now: Duration,
        reading: &Reading,
        offered: &Distribution,
        person: Option<f64>,
    ) -> Decision {
        let signal = self.signal(reading);
        let load = offered.load();
        let state = if let Some(ratio) = person {
            self.pid.track(ratio);
            self.silent_since = None;
            State::Override
        } else {
            match signal {
                Ok(latency) => {
                    self.silent_since = None;
                    self.pid.turn(now, latency, load);
                    State::Running
                }
                Err(why) => {
                    let since = *self.silent_since.get_or_insert(now);
                    let fallen = now.saturating_sub(since) > self.hold + self.target;
                    let before = self.pid.ratio();
                    if !fallen
                        && reading.in_flight > 0
                        && let Some(latency) = reading.latency
                    {
                        if self.pid.turn(now, latency, load) < before {
                            self.pid.track(before)
                        }
                    } else {
                        self.pid.track(if fallen && self.posture == Posture::Open {
                            0.0
                        } else {
                            self.pid.ratio()
                        });
                    }
                    if fallen { State::Fallen { why } } else { State::Holding { since, why } }
                }
            }
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
}
