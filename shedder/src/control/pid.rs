//! The PID controller: from a latency and a target to a shed ratio.

use std::time::Duration;

/// Turns further apart than this count as this far apart, so that a late turn takes no leap on one old measurement.
const LONGEST_STEP: Duration = Duration::from_millis(100);

/// What a controller is tuned by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tuning {
    /// Effort per unit of error.
    pub kp: f64,
    /// Effort per unit of error and second.
    pub ki: f64,
    /// Effort per unit of the measurement's slope: seconds.
    pub kd: f64,
    /// Time constant of the low-pass filter in front of the derivative.
    pub filter: Duration,
    /// The highest shed ratio, below 1.
    pub ceiling: f64,
    /// The most that the ratio rises in a second.
    pub slew_up: f64,
    /// The most that the ratio falls in a second.
    pub slew_down: f64,
    /// Changes of the ratio smaller than this are not made, but for those to 0 and to the ceiling.
    pub dead_band: f64,
}

/// The three parts of an output, as effort; they add up to what it would be without limits.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Terms {
    /// Of the error.
    pub proportional: f64,
    /// Of the error's past.
    pub integral: f64,
    /// Of the measurement's slope.
    pub derivative: f64,
}

impl Terms {
    fn sum(&self) -> f64 {
        self.proportional + self.integral + self.derivative
    }
}

/// A PID controller for one service.
#[derive(Clone, Debug)]
pub struct Pid {
    tuning: Tuning,
    target: f64,
    terms: Terms,
    filtered: f64,
    at: Option<Duration>,
    balanced: bool,
    ratio: f64,
    load: f64,
    reference: f64,
}

pub(crate) static KNOBS: std::sync::Mutex<Vec<f64>> = std::sync::Mutex::new(Vec::new());
pub(crate) fn knob(i: usize, d: f64) -> f64 {
    KNOBS.lock().unwrap().get(i).copied().filter(|v| !v.is_nan()).unwrap_or(d)
}

/// The effort that comes to a ratio.
fn effort(ratio: f64) -> f64 {
    -(1.0 - ratio).ln()
}

/// The ratio that an effort comes to.
fn ratio(effort: f64) -> f64 {
    1.0 - (-effort.max(0.0)).exp()
}

impl Pid {
    /// A controller that holds `ratio` until its first turn.
    pub fn new(tuning: Tuning, target: Duration, ratio: f64) -> Pid {
        let mut pid = Pid {
            tuning,
            target: target.as_secs_f64(),
            terms: Terms::default(),
            filtered: 0.0,
            at: None,
            balanced: false,
            ratio: 0.0,
            load: f64::NAN,
            reference: f64::NAN,
        };
        pid.track(ratio);
        pid
    }

    /// The ratio that is in force.
    pub fn ratio(&self) -> f64 {
        self.ratio
    }

    /// The parts of the last output.
    pub fn terms(&self) -> Terms {
        self.terms
    }

    /// Takes over a ratio that was decided elsewhere. The next turn starts from it.
    pub fn track(&mut self, ratio: f64) {
        self.ratio = if ratio.is_finite() { ratio.clamp(0.0, 1.0) } else { self.ratio };
        self.balanced = false;
    }

    /// Decides at `now`, with `observed` latency.
    pub fn turn(&mut self, now: Duration, observed: Duration, load: f64) -> f64 {
        let floor_error = knob(0, 5.0);
        let error = (observed.as_secs_f64() / self.target - 1.0).clamp(-1.0, floor_error);
        let tuning = self.tuning;
        let gapup = knob(1, 0.0);
        self.terms.proportional = tuning.kp * error * (1.0 + gapup * error.max(0.0));
        let most = effort(tuning.ceiling);
        if !self.balanced {
            self.balanced = true;
            self.filtered = error;
            self.at = Some(now);
            self.terms.derivative = 0.0;
            self.terms.integral = effort(self.ratio.min(tuning.ceiling)) - self.terms.proportional;
            if self.ratio == 0.0 {
                self.terms.integral = self.terms.integral.min(0.0)
            }
            return self.ratio;
        }
        let last = self.at.unwrap_or(now);
        let dt = now.saturating_sub(last).min(LONGEST_STEP).as_secs_f64();
        if dt <= 0.0 {
            return self.ratio;
        }
        self.at = Some(now);

        let blend = dt / (tuning.filter.as_secs_f64() + dt);
        let lim = knob(14, 1.0) / self.target;
        let slope = ((error - self.filtered) * blend / dt).clamp(-lim, lim);
        self.filtered += blend * (error - self.filtered);
        let gate = if self.ratio > 0.0 {
            knob(10, 1.0)
        } else if self.load.is_nan() {
            0.0
        } else {
            ((load - self.reference) / knob(11, 0.7)).clamp(0.0, 1.0)
        };
        self.terms.derivative = gate * tuning.kd * slope;
        if slope < 0.0 {
            self.terms.derivative *= knob(12, 1.0)
        }

        let ff = knob(6, 1.0);
        if self.load.is_nan() {
            self.load = load;
            self.reference = load;
        }
        if self.ratio > 0.0 {
            self.terms.integral =
                (self.terms.integral + ff * (load - self.load)).max(self.terms.integral.min(0.0)).min(most);
        } else if self.terms.sum() > 0.0 {
            self.terms.integral += (ff * (load - self.reference)).max(0.0).min(most);
        } else {
            self.reference += (load - self.reference) * (dt / knob(8, 1.0)).min(1.0);
        }
        if std::env::var("DBG").is_ok() {
            eprintln!("load {load:.2} ref {:.2}", self.reference);
        }
        self.load = load;
        let wanted = self.terms.sum();
        let pinned = (wanted >= most && error > 0.0) || (wanted <= 0.0 && error < 0.0);
        if !pinned {
            let leak = knob(2, 0.3) / (self.target + 0.1);
            let le = knob(3, -0.5);
            let mut step = tuning.ki * error * dt;
            if error < le {
                step -= self.terms.integral.max(0.0) * leak * dt * ((le - error) / (1.0 + le))
            }
            self.terms.integral += step;
        }
        if self.terms.integral < 0.0 {
            self.terms.integral *= 1.0 - (dt / 0.25).min(1.0);
        }
        if wanted <= 0.0 && error < 0.0 {
            self.terms.integral = (self.terms.integral + tuning.ki * error * dt).max(0.0)
        }

        let wanted = ratio(self.terms.sum()).min(tuning.ceiling);
        let limited = wanted.clamp(self.ratio - tuning.slew_down * dt, self.ratio + tuning.slew_up * dt);
        if (limited - self.ratio).abs() >= tuning.dead_band || limited == 0.0 || limited == tuning.ceiling {
            self.ratio = limited;
        }
        self.ratio
    }
}
