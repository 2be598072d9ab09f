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

/// The lowest error: an answer in no time.
const LEAST_ERROR: f64 = -1.0;

/// The highest error that is integrated: a worse latency says nothing new.
const MOST_INTEGRATED: f64 = 5.0;

/// Where what is left of the delay, of what the target leaves for it, is below this part, the queue is as good as empty,
/// and the integral is let go faster.
const SLACK: f64 = 0.5;

/// How much of the queue that the target leaves room for must be there before arrivals that exceed the capacity count.
const STANDING: (f64, f64) = (0.2, 0.5);

/// The steepest that arrivals which exceed the capacity are taken to make the queue grow, in seconds a second.
const STEEPEST_ARRIVALS: f64 = 3.0;

/// How fast an integral that a hand-back left below zero comes back to zero: a time constant.
const HAND_BACK: Duration = Duration::from_millis(250);

/// How fast the load that is known to be borne follows the load, while nothing is shed: a time constant.
const BORNE: Duration = Duration::from_secs(1);

/// A rise of load by this (a factor of two) is a rise; less is weighed less.
const RISE: f64 = std::f64::consts::LN_2;

/// What a controller is tuned by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Tuning {
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
    /// The highest error that counts.
    pub most_error: f64,
    /// How fast the integral comes to what the capacity asks for, where that is known: a time constant in seconds.
    pub anchor: f64,
}

/// What a turn goes by.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Input {
    /// The latency.
    pub observed: Duration,
    /// The part of it that is there without a queue; zero: not known.
    pub baseline: Duration,
    /// The logarithm of what is offered.
    pub load: f64,
    /// The logarithm of what is offered in capacities; none: not known.
    pub demand: Option<f64>,
    /// The logarithm of what arrives at the service in capacities; none: not known.
    pub arrivals: Option<f64>,
    /// The logarithm of the factor by which the capacity became more at once; 0: it did not.
    pub regained: f64,
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
pub(super) struct Pid {
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
pub(super) fn effort(ratio: f64) -> f64 {
    -(-ratio).ln_1p()
}

/// The ratio that an effort comes to; 0 for one below 0.
fn ratio(effort: f64) -> f64 {
    -(-effort.max(0.0)).exp_m1()
}

impl Pid {
    /// A controller that aims at `target`, which is above 0, and starts from `ratio`.
    pub(super) fn new(tuning: Tuning, target: Duration, ratio: f64) -> Pid {
        let mut pid =
            Pid { tuning, target: target.as_secs_f64(), ratio: 0.0, terms: Terms::default(), memory: None };
        pid.track(ratio);
        pid
    }

    /// The ratio in force, 0 to 1.
    pub(super) fn ratio(&self) -> f64 {
        self.ratio
    }

    /// The parts of the last output.
    pub(super) fn terms(&self) -> Terms {
        self.terms
    }

    /// Takes over a ratio that was decided elsewhere; the next turn starts from it. One that is no number is ignored.
    pub(super) fn track(&mut self, ratio: f64) {
        if !ratio.is_nan() {
            self.ratio = ratio.clamp(0.0, 1.0);
        }
        self.memory = None;
    }

    /// Decides at `now`. The answer is the ratio in force from now on. A turn at or before the time of the last one
    /// changes nothing.
    pub(super) fn turn(&mut self, now: Duration, input: &Input) -> f64 {
        let load = input.load;
        let error = self.error(input.observed).min(self.tuning.most_error);
        let Some(memory) = self.memory else {
            self.take_over(now, error, load);
            return self.ratio;
        };
        let dt = now.saturating_sub(memory.at).min(LONGEST_STEP).as_secs_f64();
        if dt == 0.0 {
            return self.ratio;
        }
        let filled = self.filled(input);
        self.terms.proportional = self.tuning.kp * error;
        let filtered = self.differentiate(error, filled, input, memory, dt);
        let borne = self.feed_forward(input, memory, dt);
        self.integrate(error.min(MOST_INTEGRATED), filled, dt);
        self.memory = Some(Memory { at: now, filtered, load, borne });
        self.put_out(dt);
        self.ratio
    }

    fn error(&self, observed: Duration) -> f64 {
        (observed.as_secs_f64() / self.target - 1.0).max(LEAST_ERROR)
    }

    /// How much of the queue that the target leaves room for there is: 0 is none, 1 is all.
    fn filled(&self, input: &Input) -> f64 {
        let baseline = input.baseline.as_secs_f64();
        ((input.observed.as_secs_f64() - baseline) / (self.target - baseline)).max(0.0)
    }

    /// Takes over a ratio above the one in force that the kernel came to by itself: the output falls from there as it
    /// does from one of its own.
    pub(super) fn raise_to(&mut self, raised: f64) {
        let raised = raised.min(self.tuning.ceiling);
        if raised > self.ratio {
            self.terms.integral += (effort(raised) - self.terms.sum()).max(0.0);
            self.ratio = raised;
        }
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
    fn differentiate(&mut self, error: f64, filled: f64, input: &Input, memory: Memory, dt: f64) -> f64 {
        let blend = dt / (self.tuning.filter.as_secs_f64() + dt);
        let change = blend * (error - memory.filtered);
        // A FIFO queue that nothing joins drains by one second a second, and the age of what waits in it grows by as
        // much. A steeper slope is a sample that entered or left the window.
        let steepest = 1.0 / self.target;
        let slope = (change / dt).clamp(-steepest, steepest);
        // While nothing is shed, a latency that rises without the load is noise, and what the proportional part is for.
        let trust = if self.ratio > 0.0 { 1.0 } else { ((input.load - memory.borne) / RISE).clamp(0.0, 1.0) };
        // Arrivals that exceed the capacity are a slope that has not shown yet. A queue must be there already, or a
        // capacity that was never reached would shed what it can do.
        let standing = ((filled - STANDING.0) / (STANDING.1 - STANDING.0)).clamp(0.0, 1.0);
        let excess = input.arrivals.map(|arrivals| arrivals.exp_m1().min(STEEPEST_ARRIVALS));
        let slope = match excess {
            Some(excess) => standing * excess / self.target + (1.0 - standing) * trust * slope,
            None => trust * slope,
        };
        self.terms.derivative = self.tuning.kd * slope;
        memory.filtered + change
    }

    /// Keeps what is admitted, in capacities, the same where what is offered changes or the capacity comes back: a measured
    /// disturbance need not first become a latency. Shedding that begins starts from the load that was last borne, or from the capacity where it is known.
    /// Answers with the load that was borne.
    fn feed_forward(&mut self, input: &Input, memory: Memory, dt: f64) -> f64 {
        let load = input.load;
        let most = effort(self.tuning.ceiling);
        let integral = self.terms.integral;
        if self.ratio > 0.0 {
            self.terms.integral = (integral + load - memory.load - input.regained)
                .max(integral.min(0.0))
                .min(most.max(integral));
            if let Some(demand) = input.demand {
                let pace = dt / (self.tuning.anchor + dt);
                self.terms.integral += (demand.clamp(0.0, most) - self.terms.integral) * pace;
            }
        } else if self.terms.sum() > 0.0 {
            let excess = input.demand.unwrap_or(load - memory.borne);
            self.terms.integral = integral + excess.clamp(0.0, most);
            return load;
        } else {
            return memory.borne + (load - memory.borne) * (dt / BORNE.as_secs_f64()).min(1.0);
        }
        memory.borne.min(load)
    }

    /// The integral, not wound up: it does not grow while the output is at its ceiling, nor fall below zero.
    fn integrate(&mut self, error: f64, filled: f64, dt: f64) {
        if self.terms.integral < 0.0 {
            self.terms.integral *= 1.0 - (dt / HAND_BACK.as_secs_f64()).min(1.0);
        }
        if error > 0.0 && self.terms.sum() >= effort(self.tuning.ceiling) {
            return;
        }
        let integral = self.terms.integral;
        let empty = ((SLACK - filled) / SLACK).max(0.0);
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TARGET: Duration = Duration::from_millis(50);
    const TUNING: Tuning = Tuning {
        kp: 0.3,
        ki: 0.6,
        kd: 0.02,
        filter: Duration::from_millis(20),
        release: 1.3,
        ceiling: 0.98,
        slew_up: 50.0,
        slew_down: 5.0,
        dead_band: 0.002,
        most_error: 5.0,
        anchor: 0.2,
    };

    fn seen(milliseconds: u64, load: f64) -> Input {
        Input { observed: ms(milliseconds), load, ..Input::default() }
    }

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    /// Turns at one latency and one load, 20 ms apart, from `from` on.
    fn turns(pid: &mut Pid, from: u64, count: u64, observed: u64, load: f64) -> f64 {
        (0..count)
            .map(|turn| pid.turn(ms(from + 20 * turn), &seen(observed, load)))
            .last()
            .unwrap_or(pid.ratio())
    }

    proptest! {
        #[test]
        fn output_keeps_its_limits(
            turns in proptest::collection::vec((0..3000u64, 0..100_000u64, -5.0..20.0f64), 1..100),
            start in 0.0..=1.0f64,
        ) {
            let mut pid = Pid::new(TUNING, TARGET, start);
            let mut latest = Duration::ZERO;
            for (at, observed, load) in turns {
                let (before, now) = (pid.ratio(), ms(at));
                let after = pid.turn(now, &seen(observed, load));
                let dt = now.saturating_sub(latest).min(LONGEST_STEP).as_secs_f64();
                latest = latest.max(now);
                prop_assert!((0.0..=TUNING.ceiling.max(before)).contains(&after));
                prop_assert!(after - before <= TUNING.slew_up * dt + 1e-9);
                prop_assert!(before - after <= TUNING.slew_down * dt + 1e-9);
                prop_assert!(pid.terms().sum().is_finite());
            }
        }

        #[test]
        fn time_that_stands_or_goes_back_changes_nothing(back in 0..1000u64, observed in 0..10_000u64) {
            let mut pid = Pid::new(TUNING, TARGET, 0.0);
            turns(&mut pid, 1000, 20, 80, 5.0);
            let (ratio, terms) = (pid.ratio(), pid.terms());
            pid.turn(ms(1380 - back), &seen(observed, 9.0));
            prop_assert_eq!((pid.ratio(), pid.terms()), (ratio, terms));
        }

        #[test]
        fn first_turn_after_a_person_starts_from_their_ratio(ratio in 0.0..=1.0f64, observed in 0..10_000u64) {
            let mut pid = Pid::new(TUNING, TARGET, 0.3);
            turns(&mut pid, 0, 20, 200, 5.0);
            pid.track(ratio);
            prop_assert_eq!(pid.turn(ms(5000), &seen(observed, 5.0)), ratio);
            let next = pid.turn(ms(5020), &seen(observed, 5.0));
            prop_assert!((next - ratio).abs() <= 0.2, "{} after {}", next, ratio);
        }

        #[test]
        fn effort_and_ratio_are_inverse(share in 0.0..0.999f64) {
            prop_assert!((ratio(effort(share)) - share).abs() < 1e-12);
        }
    }

    #[test]
    fn nothing_is_shed_below_the_target() {
        let mut pid = Pid::new(TUNING, TARGET, 0.0);
        assert_eq!(turns(&mut pid, 0, 500, 49, 5.0), 0.0);
    }

    #[test]
    fn integral_finds_what_the_target_takes() {
        let mut pid = Pid::new(TUNING, TARGET, 0.0);
        let early = turns(&mut pid, 0, 5, 60, 5.0);
        let late = turns(&mut pid, 100, 50, 60, 5.0);
        assert!(early > 0.0 && late > early + 0.05, "{early}, {late}");
    }

    #[test]
    fn integral_is_not_wound_up() {
        let mut pid = Pid::new(TUNING, TARGET, 0.0);
        assert_eq!(turns(&mut pid, 0, 5000, 10_000, 5.0), TUNING.ceiling);
        assert!(turns(&mut pid, 100_000, 200, 5, 5.0) < 0.01, "four seconds after an overload of a hundred");
    }

    #[test]
    fn load_that_grows_under_shedding_is_shed_at_once() {
        let mut pid = Pid::new(TUNING, TARGET, 0.5);
        turns(&mut pid, 0, 5, 50, 5.0);
        let admitted = 1.0 - pid.ratio();
        let after = 1.0 - turns(&mut pid, 100, 1, 50, 5.0 + 2f64.ln());
        assert!((after / admitted - 0.5).abs() < 0.02, "{after} of twice as much, after {admitted}");
    }

    #[test]
    fn load_alone_sheds_nothing() {
        let mut pid = Pid::new(TUNING, TARGET, 0.0);
        turns(&mut pid, 0, 50, 5, 5.0);
        assert_eq!(turns(&mut pid, 1000, 50, 5, 9.0), 0.0);
    }

    #[test]
    fn shedding_begins_from_the_load_that_was_borne() {
        let mut pid = Pid::new(TUNING, TARGET, 0.0);
        turns(&mut pid, 0, 50, 5, 5.0);
        let tenfold = turns(&mut pid, 1000, 1, 55, 5.0 + 10f64.ln());
        assert!((0.88..0.95).contains(&tenfold), "{tenfold}");
    }

    #[test]
    fn slow_answer_without_more_load_raises_no_alarm() {
        let mut pid = Pid::new(TUNING, TARGET, 0.0);
        turns(&mut pid, 0, 50, 5, 5.0);
        assert_eq!(turns(&mut pid, 1000, 1, 45, 5.0), 0.0);
    }

    #[test]
    fn what_the_kernel_shed_is_taken_over_without_a_jump_down() {
        let mut pid = Pid::new(TUNING, TARGET, 0.0);
        turns(&mut pid, 0, 20, 10, 5.0);
        pid.raise_to(0.5);
        assert_eq!(pid.ratio(), 0.5);
        let next = turns(&mut pid, 400, 1, 300, 5.0);
        assert!(next >= 0.5, "{next}");
        pid.raise_to(0.2);
        assert_eq!(pid.ratio(), next);
    }

    #[test]
    fn known_capacity_says_how_much_to_shed() {
        let mut pid = Pid::new(TUNING, TARGET, 0.0);
        turns(&mut pid, 0, 50, 5, 5.0);
        let known = Input { demand: Some(4f64.ln()), ..seen(51, 5.0) };
        let begun = pid.turn(ms(1000), &known);
        assert!((0.74..0.78).contains(&begun), "{begun}");
    }

    #[test]
    fn queue_that_arrivals_outgrow_is_met_before_the_target_is() {
        let input = |filled: f64| Input { arrivals: Some(3f64.ln()), ..seen((50.0 * filled) as u64, 5.0) };
        let tuning = Tuning { kd: 0.3 * 0.05, ..TUNING };
        let begins = |filled| {
            let mut pid = Pid::new(tuning, TARGET, 0.0);
            (0..5).map(|turn| pid.turn(ms(20 * turn), &input(filled))).last().unwrap_or(0.0) > 0.0
        };
        assert!(begins(0.6) && !begins(0.1));
    }

    #[test]
    fn number_that_is_none_is_not_tracked() {
        let mut pid = Pid::new(TUNING, TARGET, 0.3);
        pid.track(f64::NAN);
        assert_eq!(pid.ratio(), 0.3);
        pid.track(7.0);
        assert_eq!(pid.ratio(), 1.0);
    }
}
