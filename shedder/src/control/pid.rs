//! The PID controller: from a latency and a target to a shed ratio.
//!
//! It works in *effort*, the negative logarithm of the admitted share: `ratio = 1 - exp(-effort)`. The queue behind
//! the latency grows by offered work times admitted share, so that one step of effort changes that growth by the
//! same fraction at twice the capacity as at twenty times. A gain on the ratio itself would be ten times too high
//! at a tenfold overload, or ten times too low at none. Below a ratio of some per cent the two are the same number.
//!
//! Sources: K. J. Åström and T. Hägglund, "PID Controllers: Theory, Design, and Tuning", 1995, for conditional
//! integration, the filtered derivative of the measurement, feed-forward and bumpless transfer.

use std::time::Duration;

/// Turns further apart than this count as this far apart, so that a late turn takes no leap on one old measurement.
const LONGEST_STEP: Duration = Duration::from_millis(100);

/// Errors are held to this range. Below is an answer in no time; above, a worse latency says nothing new.
const ERROR: (f64, f64) = (-1.0, 5.0);

/// Where the error is below this, the queue is as good as empty, and the integral is let go faster.
const SLACK: f64 = -0.5;

/// How fast an integral that a hand-back left below zero comes back to zero: a time constant.
const HAND_BACK: Duration = Duration::from_millis(250);

/// How fast the load that is known to be borne follows the load, while nothing is shed: a time constant.
const BORNE: Duration = Duration::from_secs(1);

/// A rise of load by this (a factor of two) is a rise; less is weighed less.
const RISE: f64 = std::f64::consts::LN_2;

/// What a controller is tuned by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tuning {
    /// Effort per unit of error.
    pub kp: f64,
    /// Effort per unit of error and second.
    pub ki: f64,
    /// Effort per unit of error and second of slope: seconds.
    pub kd: f64,
    /// Time constant of the low-pass filter in front of the derivative.
    pub filter: Duration,
    /// How fast the integral is let go where the queue is empty: a fraction a second.
    pub release: f64,
    /// The highest shed ratio, below 1.
    pub ceiling: f64,
    /// The most that the ratio rises in a second.
    pub slew_up: f64,
    /// The most that the ratio falls in a second.
    pub slew_down: f64,
    /// Changes of the ratio smaller than this are not made, but for those to 0 and to the ceiling.
    pub dead_band: f64,
}

/// The three parts of an output, as effort. Their sum is what the output would be without limits.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Terms {
    /// Of the error.
    pub proportional: f64,
    /// Of the error's past, and of the load's change since.
    pub integral: f64,
    /// Of the measurement's slope.
    pub derivative: f64,
}

impl Terms {
    /// The effort before limits.
    pub fn sum(&self) -> f64 {
        self.proportional + self.integral + self.derivative
    }
}

/// A PID controller for one service.
#[derive(Clone, Debug)]
pub struct Pid {
    tuning: Tuning,
    target: f64,
    ratio: f64,
    terms: Terms,
    /// None: the ratio was decided elsewhere, and the next turn starts from it.
    memory: Option<Memory>,
}

/// What one turn leaves to the next.
#[derive(Clone, Copy, Debug)]
struct Memory {
    at: Duration,
    /// The measurement behind the low-pass filter, as an error.
    filtered: f64,
    load: f64,
    /// The load that was borne while nothing was shed.
    borne: f64,
}

/// The effort that comes to a ratio.
fn effort(ratio: f64) -> f64 {
    -(-ratio).ln_1p()
}

/// The ratio that an effort comes to; 0 for one below 0.
fn ratio(effort: f64) -> f64 {
    -(-effort.max(0.0)).exp_m1()
}

impl Pid {
    /// A controller that aims at `target`, which is above 0, and starts from `ratio`.
    pub fn new(tuning: Tuning, target: Duration, ratio: f64) -> Pid {
        let mut pid =
            Pid { tuning, target: target.as_secs_f64(), ratio: 0.0, terms: Terms::default(), memory: None };
        pid.track(ratio);
        pid
    }

    /// The ratio in force, 0 to 1.
    pub fn ratio(&self) -> f64 {
        self.ratio
    }

    /// The parts of the last output.
    pub fn terms(&self) -> Terms {
        self.terms
    }

    /// Takes over a ratio that was decided elsewhere; the next turn starts from it. One that is no number is ignored.
    pub fn track(&mut self, ratio: f64) {
        if !ratio.is_nan() {
            self.ratio = ratio.clamp(0.0, 1.0);
        }
        self.memory = None;
    }

    /// Decides at `now`, where the latency is `observed` and the logarithm of what is offered is `load`. The answer is
    /// the ratio in force from now on. A turn at or before the time of the last one changes nothing.
    pub fn turn(&mut self, now: Duration, observed: Duration, load: f64) -> f64 {
        let error = (observed.as_secs_f64() / self.target - 1.0).clamp(ERROR.0, ERROR.1);
        let Some(memory) = self.memory else {
            self.take_over(now, error, load);
            return self.ratio;
        };
        let dt = now.saturating_sub(memory.at).min(LONGEST_STEP).as_secs_f64();
        if dt == 0.0 {
            return self.ratio;
        }
        self.terms.proportional = self.tuning.kp * error;
        let filtered = self.differentiate(error, load, memory, dt);
        let borne = self.feed_forward(load, memory, dt);
        self.integrate(error, dt);
        self.memory = Some(Memory { at: now, filtered, load, borne });
        self.put_out(dt);
        self.ratio
    }

    /// Sets the integral to what makes the ratio in force the output.
    fn take_over(&mut self, now: Duration, error: f64, load: f64) {
        let proportional = self.tuning.kp * error;
        let mut integral = effort(self.ratio.min(self.tuning.ceiling)) - proportional;
        if self.ratio == 0.0 {
            // What holds the output at 0 is the limit, and not an integral.
            integral = integral.min(0.0);
        }
        self.terms = Terms { proportional, integral, derivative: 0.0 };
        self.memory = Some(Memory { at: now, filtered: error, load, borne: load });
    }

    /// The derivative, on the measurement. Answers with the measurement behind the filter.
    fn differentiate(&mut self, error: f64, load: f64, memory: Memory, dt: f64) -> f64 {
        let blend = dt / (self.tuning.filter.as_secs_f64() + dt);
        let change = blend * (error - memory.filtered);
        // A FIFO queue that nothing joins drains by one second a second, and the age of what waits in it grows by as
        // much. A steeper slope is a sample that entered or left the window.
        let steepest = 1.0 / self.target;
        let slope = (change / dt).clamp(-steepest, steepest);
        // While nothing is shed, a latency that rises without the load is noise, and what the proportional part is for.
        let trust = if self.ratio > 0.0 { 1.0 } else { ((load - memory.borne) / RISE).clamp(0.0, 1.0) };
        self.terms.derivative = trust * self.tuning.kd * slope;
        memory.filtered + change
    }

    /// Keeps what is admitted the same where what is offered changes: a measured disturbance need not first become a
    /// latency. Shedding that begins starts from the load that was last borne. Answers with that load.
    fn feed_forward(&mut self, load: f64, memory: Memory, dt: f64) -> f64 {
        let most = effort(self.tuning.ceiling);
        let integral = self.terms.integral;
        if self.ratio > 0.0 {
            self.terms.integral = (integral + load - memory.load).max(integral.min(0.0)).min(most.max(integral));
        } else if self.terms.sum() > 0.0 {
            self.terms.integral = integral + (load - memory.borne).clamp(0.0, most);
            return load;
        } else {
            return memory.borne + (load - memory.borne) * (dt / BORNE.as_secs_f64()).min(1.0);
        }
        memory.borne.min(load)
    }

    /// The integral, not wound up: it does not grow while the output is at its ceiling, nor fall below zero.
    fn integrate(&mut self, error: f64, dt: f64) {
        if self.terms.integral < 0.0 {
            self.terms.integral *= 1.0 - (dt / HAND_BACK.as_secs_f64()).min(1.0);
        }
        if error > 0.0 && self.terms.sum() >= effort(self.tuning.ceiling) {
            return;
        }
        let integral = self.terms.integral;
        let empty = ((SLACK - error) / (1.0 + SLACK)).max(0.0);
        let step = self.tuning.ki * error - self.tuning.release * empty * integral.max(0.0);
        self.terms.integral = (integral + step * dt).max(integral.min(0.0));
    }

    /// Limits the sum of the terms to what may be put in force.
    fn put_out(&mut self, dt: f64) {
        let Tuning { ceiling, slew_up, slew_down, dead_band, .. } = self.tuning;
        let wanted = ratio(self.terms.sum()).min(ceiling);
        let next = wanted.clamp(self.ratio - slew_down * dt, self.ratio + slew_up * dt);
        if (next - self.ratio).abs() >= dead_band || next == 0.0 || next == ceiling {
            self.ratio = next;
        }
    }
}
