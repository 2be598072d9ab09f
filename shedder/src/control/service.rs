//! One service's loop: reading, state, ratio, cutoff.

use super::baseline::Baseline;
use super::distribution::Distribution;
use super::essential::Essential;
use super::pid::{Input, Pid, Terms, Tuning};
use super::relay::Swing;
use super::signal::{Queue, Reading};
use super::verify::{Objective, Verifier};
use super::why::Why;
use crate::config::{Control, Posture};
use shedder_common::class::{COHORTS, Class, Cutoff};
use shedder_common::words::ReflexWord;
use std::time::Duration;

/// What the controller aims at, as a fraction of the target, so that its ripple stays about the target.
const AIM: f64 = 0.85;

/// The highest error that counts: a worse latency says nothing new.
const MOST_ERROR: f64 = 5.0;

/// A reflex takes so many times the late answers that the quantile allows in a turn, and at least so many.
const REFLEX_CHANCE: f64 = 4.0;
const REFLEX_LEAST: f64 = 3.0;

/// Time constant of the derivative's filter, in dead times: of samples, and of a passive signal, whose dead time is short
/// and in which every request is seen to come and go.
const FILTER: f64 = 0.15;
const PASSIVE_FILTER: f64 = 0.5;

/// How fast the integral is let go where the queue is empty: a fraction in a dead time.
const RELEASE: f64 = 0.2;

/// Of the target, what a passive signal's dead time is besides some turns: a queue is seen at once, but fills and drains
/// in about its own length.
const PASSIVE_TARGETS: f64 = 0.3;

/// Turns until what a passive signal shows of a decision is the half of it: the turn itself, and the rates' averages.
const PASSIVE_TURNS: u32 = 3;

/// Delays above the target that count, in dead times.
const WORST: f64 = 3.0;

/// How fast the integral comes to what the capacity asks for, in dead times.
const ANCHOR: f64 = 4.0;

/// Where nothing of so many admitted flows was measured, the signal is dead.
const UNMEASURED: f64 = 30.0;

/// How far back it counts how many requests come of a flow: a time constant. Long against the way from a decision to the
/// requests of the flows that it let in, which would otherwise be taken for a change of what is offered.
const PER_FLOW: Duration = Duration::from_secs(1);

/// Flows that tell how many requests come of one.
const TELLING_FLOWS: f64 = 10.0;

/// Where so many answers are overdue at the rate at which they came, none come any more.
const UNANSWERED_MOST: f64 = 10.0;

/// How a latency is observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sensor {
    /// From answers to probes or from what an application tells: as late as the answers, and then averaged.
    Sampled,
    /// From what is in flight: at once.
    Passive,
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
    /// Where shedding begins.
    pub cutoff: Cutoff,
    /// What the loop is doing.
    pub state: State,
    /// The parts of the controller's last output.
    pub terms: Terms,
    /// The latency that was observed; none: there is no signal, or nothing to observe.
    pub observed: Option<Duration>,
    /// What the loop went by where that is not `observed`: what a request that arrives now will take.
    pub predicted: Option<Duration>,
    /// The latency without a queue; none: not known.
    pub baseline: Option<Duration>,
    /// Rises of the ratio that were undone because they did harm, since the loop began.
    pub undone: u64,
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
    aim: Duration,
    floor: f64,
    baseline: Baseline,
    verifier: Verifier,
    essential: Essential,
    /// What is admitted since the last turn.
    admitted: f64,
    /// The last turn's.
    cutoff: Cutoff,
    /// Requests that arrived, and flows that were admitted, over about [`PER_FLOW`].
    per_flow: (f64, f64),
    /// Flows that were admitted since anything was measured.
    unmeasured: f64,
    last: Option<Duration>,
}

/// The gains of a configuration, for a target.
///
/// How fast a loop may be is set by its dead time: a decision shows in an answer only after that answer's own
/// latency, and then in the window. The gains are therefore those of a loop whose dead time is short against its
/// target, scaled as the rules for an integrating process with dead time have it (S. Skogestad, "Simple analytic
/// rules for model reduction and PID controller tuning", 2003): the gain falls with the dead time, the integral's time
/// and the derivative's rise with it.
fn tuning(control: &Control, target: Duration, sensor: Sensor) -> Tuning {
    let dead_time = dead_time(control, target, sensor).as_secs_f64();
    let target = target.as_secs_f64();
    let gain = target / dead_time;
    let (most_error, filter) = match sensor {
        Sensor::Sampled => (MOST_ERROR, FILTER),
        // A queue of many targets that built up between two turns is drained in some turns, whatever the target.
        Sensor::Passive => ((WORST / gain).max(MOST_ERROR), PASSIVE_FILTER),
    };
    Tuning {
        kp: control.kp * gain,
        ki: control.ki * gain / dead_time,
        kd: control.kd * target,
        filter: Duration::from_secs_f64(filter * dead_time),
        release: RELEASE / dead_time,
        ceiling: 1.0 - control.admission_floor,
        slew_up: control.slew_up,
        slew_down: control.slew_down,
        dead_band: control.dead_band,
        most_error,
        anchor: ANCHOR * dead_time,
    }
}

/// Until a decision shows in what is observed.
fn dead_time(control: &Control, target: Duration, sensor: Sensor) -> Duration {
    match sensor {
        Sensor::Sampled => target + control.window,
        Sensor::Passive => target.mul_f64(PASSIVE_TARGETS) + control.interval * PASSIVE_TURNS,
    }
}

/// The configuration's `kp`, `ki` and `kd` that come to the gains of a swing: [`tuning`] backwards.
pub fn gains(control: &Control, target: Duration, sensor: Sensor, swing: &Swing) -> [f64; 3] {
    let dead_time = dead_time(control, target, sensor).as_secs_f64();
    let target = target.as_secs_f64();
    let gain = target / dead_time;
    [swing.kp / gain, swing.ki * dead_time / gain, swing.kd / target]
}

impl ServiceLoop {
    /// A loop that aims at `target`, and starts from `ratio`: 0, or what an earlier daemon left in force.
    pub fn new(
        control: &Control,
        target: Duration,
        sensor: Sensor,
        posture: Posture,
        ratio: f64,
    ) -> ServiceLoop {
        let aim = target.mul_f64(AIM);
        ServiceLoop {
            pid: Pid::new(tuning(control, target, sensor), aim, ratio),
            target,
            posture,
            hold: control.hold,
            min_samples: control.min_samples,
            silent_since: None,
            aim,
            floor: control.admission_floor,
            baseline: Baseline::new(),
            verifier: Verifier::new(target, dead_time(control, target, sensor)),
            essential: Essential::new(target),
            admitted: 1.0 - ratio,
            cutoff: Cutoff::NOTHING,
            per_flow: (0.0, 0.0),
            unmeasured: 0.0,
            last: None,
        }
    }

    /// The fraction of what is offered that was admitted since the last turn, as far as the loop decided it.
    pub fn admitted(&self) -> f64 {
        self.admitted
    }

    /// The latency without a queue; none: not known.
    pub fn baseline(&self) -> Option<Duration> {
        self.baseline.get()
    }

    /// The kernel's reflex cut at `cutoff` since the last turn: the loop goes on from there.
    pub fn tripped(&mut self, cutoff: u32, offered: &Distribution) {
        let share = offered.share_at(cutoff);
        self.admitted = self.admitted.min(1.0 - share);
        self.pid.raise_to(share);
    }

    /// The reflex to arm until the next turn: far beyond the target is `factor` targets (0: none), and `answers` leave in a
    /// turn of which more than 1 - `quantile` are to be later than the target. None while the loop sees answers that late
    /// itself: what is in the queue already would trip it again and again.
    pub fn reflex(
        &self,
        factor: f64,
        quantile: f64,
        answers: f64,
        reading: &Reading,
        offered: &Distribution,
    ) -> ReflexWord {
        let delay = self.target.mul_f64(factor);
        let is_seen = |latency: Option<Duration>| latency.is_some_and(|latency| latency >= delay);
        let seen = is_seen(reading.latency) || is_seen(reading.queue.and_then(|queue| queue.predicted));
        let cutoff = offered.reflex_cutoff(self.cutoff.first(), self.floor);
        if factor <= 0.0 || seen || reading.queue.is_none() || Cutoff::at(cutoff) >= self.cutoff {
            return ReflexWord::NONE;
        }
        let by_chance = (1.0 - quantile) * answers;
        let answers = (REFLEX_CHANCE * by_chance).ceil().max(REFLEX_LEAST) as u32;
        ReflexWord::new(delay.as_nanos() as u64, answers, cutoff)
    }

    /// Decides at `now`. `person` is the ratio of an override that holds.
    pub fn turn(
        &mut self,
        now: Duration,
        reading: &Reading,
        offered: &Distribution,
        person: Option<f64>,
    ) -> Decision {
        let dt = self.last.map_or(0.0, |last| now.saturating_sub(last).as_secs_f64());
        self.last = Some(now);
        self.count_unmeasured(dt, reading, offered);
        self.count_requests(dt, reading, offered);
        let signal = self.signal(reading);
        let state = match (person, signal) {
            (Some(ratio), _) => {
                self.silent_since = None;
                self.pid.track(ratio);
                self.verifier.suspend(ratio);
                State::Override
            }
            (None, Ok(latency)) => {
                self.silent_since = None;
                self.control(now, latency, reading, offered);
                State::Running
            }
            (None, Err(why)) => {
                self.verifier.suspend(self.pid.ratio());
                self.endure(now, why, reading, offered)
            }
        };
        let mut ratio = self.pid.ratio();
        self.cutoff = offered.exact_cutoff_for(ratio);
        if state == State::Running
            && let Some(queue) = reading.queue
            && self.spares_critical(dt, &queue, signal.ok(), offered)
        {
            self.cutoff = Cutoff::at(COHORTS);
            ratio = offered.share_at(COHORTS);
        }
        self.admitted = 1.0 - offered.share_at(self.cutoff);
        let is_measured = reading.samples >= self.min_samples as usize || reading.queue.is_none();
        Decision {
            ratio,
            cutoff: self.cutoff,
            state,
            terms: self.pid.terms(),
            observed: signal.ok().and_then(|latency| {
                if is_measured { reading.latency } else { Some(latency).filter(|latency| !latency.is_zero()) }
            }),
            predicted: reading.queue.and_then(|queue| queue.predicted),
            baseline: self.baseline.get(),
            undone: self.verifier.undone(),
        }
    }

    /// A turn with a signal.
    fn control(&mut self, now: Duration, observed: Duration, reading: &Reading, offered: &Distribution) {
        let in_capacities = |rate: f64, capacity: f64| (rate / capacity).max(1e-3).ln();
        let queue = reading.queue;
        let capacity = queue.and_then(|queue| queue.capacity);
        let utilization = queue.and_then(|queue| queue.capacity.map(|capacity| queue.answers / capacity));
        let is_quantile = reading.samples >= self.min_samples as usize;
        if let Some(latency) = reading.latency.filter(|_| is_quantile) {
            // The capacity of a service that was never busy is what it does: that tells nothing.
            let utilization = utilization.filter(|_| self.pid.ratio() > 0.0);
            self.baseline.observe(now, latency, self.pid.ratio(), utilization);
        }
        let demanded = queue.map(|queue| self.demanded(&queue, offered));
        let input = Input {
            observed,
            baseline: self.baseline.below(self.aim).unwrap_or_default(),
            load: offered.load(),
            demand: demanded.zip(capacity).map(|(rate, capacity)| in_capacities(rate, capacity)),
            arrivals: queue.zip(capacity).map(|(queue, capacity)| in_capacities(queue.arrivals, capacity)),
            regained: queue.map_or(0.0, |queue| queue.regained),
        };
        self.pid.turn(now, &input);
        if let Some(queue) = queue.filter(|queue| !queue.is_idle) {
            let objective = Objective {
                latency: observed.as_secs_f64(),
                goodput: queue.answers,
                offered: self.demanded(&queue, offered),
                is_answering: reading
                    .age
                    .is_some_and(|age| age.as_secs_f64() * queue.answers < UNANSWERED_MOST),
            };
            if let Some(ratio) = self.verifier.turn(now, self.pid.ratio(), objective) {
                self.pid.track(ratio);
            }
            let most = self.verifier.most(now);
            if self.pid.ratio() > most {
                self.pid.track(most);
            }
        }
    }

    /// Whether the cutoff is kept out of the critical class.
    fn spares_critical(
        &mut self,
        dt: f64,
        queue: &Queue,
        observed: Option<Duration>,
        offered: &Distribution,
    ) -> bool {
        let would_shed = self.cutoff < Cutoff::at(COHORTS) && !offered.is_empty();
        let per_flow = self.requests_per_flow().unwrap_or(1.0);
        let demanded =
            offered.class_per_second(Class::Critical).map_or(f64::INFINITY, |flows| flows * per_flow);
        // What it does while it is not known to be busy is the least that it can do.
        let done = queue.capacity.unwrap_or(queue.answers);
        let is_late = observed.is_some_and(|latency| latency > self.target);
        self.essential.spares(Duration::from_secs_f64(dt), demanded, done, would_shed, is_late)
    }

    /// Counts how many requests come of the flows that are admitted.
    fn count_requests(&mut self, dt: f64, reading: &Reading, offered: &Distribution) {
        let Some((queue, flows)) = reading.queue.zip(offered.per_second()) else { return };
        let kept = (-dt / PER_FLOW.as_secs_f64()).exp();
        let (requests, admitted) = self.per_flow;
        self.per_flow = (requests * kept + queue.arrivals * dt, admitted * kept + flows * self.admitted * dt);
    }

    /// Requests a second that would arrive if nothing were shed.
    fn demanded(&self, queue: &Queue, offered: &Distribution) -> f64 {
        let flows = offered.per_second().zip(self.requests_per_flow());
        flows.map_or(queue.offered, |(per_second, requests)| per_second * requests)
    }

    /// Requests that come of one flow that is admitted; none: too few were to tell.
    fn requests_per_flow(&self) -> Option<f64> {
        let (requests, flows) = self.per_flow;
        (flows >= TELLING_FLOWS).then(|| requests / flows)
    }

    /// Counts what is admitted while nothing is measured.
    fn count_unmeasured(&mut self, dt: f64, reading: &Reading, offered: &Distribution) {
        let Some(queue) = reading.queue else { return };
        let is_silent = queue.exchange_age.is_none_or(|age| age > self.hold.max(self.target));
        if is_silent && queue.in_flight == 0.0 {
            self.unmeasured += offered.per_second().unwrap_or(0.0) * self.admitted * dt;
        } else {
            self.unmeasured = 0.0;
        }
    }

    /// The latency to go by, or why there is none. Few observations are enough where they already show that the
    /// target is missed: those in flight are late whatever they will come to.
    fn signal(&self, reading: &Reading) -> Result<Duration, Why> {
        let least = self.min_samples as usize;
        if let Some(why) = reading.fault {
            return Err(why);
        }
        if let Some(queue) = reading.queue {
            if self.unmeasured >= UNMEASURED {
                return Err(Why::Unmeasured { flows: self.unmeasured as u64 });
            }
            if let Some(predicted) = queue.predicted {
                return Ok(predicted);
            }
        }
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
            Some(least) if reading.in_flight > 0 && reading.fault.is_none() && reading.queue.is_none() => {
                let input = Input { observed: least, load: offered.load(), ..Input::default() };
                if self.pid.turn(now, &input) < before {
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
        Reading {
            latency: Some(ms(latency)),
            samples,
            failures: 0,
            in_flight,
            age: Some(ms(10)),
            ..Reading::default()
        }
    }

    /// A loop that sheds half.
    fn shedding(posture: Posture) -> ServiceLoop {
        let mut service = ServiceLoop::new(&Control::default(), TARGET, Sensor::Sampled, posture, 0.5);
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
        let mut service =
            ServiceLoop::new(&Control::default(), TARGET, Sensor::Sampled, Posture::Closed, 0.0);
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
        assert_eq!(decision.cutoff, Cutoff::at(Distribution::new().cutoff_for(0.9)));
    }

    #[test]
    fn gains_of_a_swing_are_those_that_the_loop_is_tuned_by() {
        let (period, amplitude) = (ms(200), 0.5);
        let swing = Swing { period, amplitude, kp: 0.4, ki: 1.5, kd: 0.02 };
        for sensor in [Sensor::Sampled, Sensor::Passive] {
            let [kp, ki, kd] = gains(&Control::default(), TARGET, sensor, &swing);
            let tuned = tuning(&Control { kp, ki, kd, ..Control::default() }, TARGET, sensor);
            for (found, wanted) in [(tuned.kp, swing.kp), (tuned.ki, swing.ki), (tuned.kd, swing.kd)] {
                assert!((found - wanted).abs() < 1e-9, "{sensor:?}: {found} for {wanted}");
            }
        }
    }

    #[test]
    fn gains_shrink_where_the_dead_time_outweighs_the_target() {
        let control = Control::default();
        let (short, long) =
            (tuning(&control, ms(10), Sensor::Sampled), tuning(&control, ms(1000), Sensor::Sampled));
        assert!(short.kp < 0.1 && (0.7..0.8).contains(&long.kp));
        assert!(short.kd < long.kd && short.filter < long.filter && short.release > long.release);
    }

    fn passive(posture: Posture) -> ServiceLoop {
        ServiceLoop::new(&Control::default(), TARGET, Sensor::Passive, posture, 0.0)
    }

    fn busy(predicted: u64) -> Reading {
        let queue = Queue {
            in_flight: 50.0,
            arrivals: 1000.0,
            answers: 1000.0,
            offered: 1000.0,
            capacity: Some(1000.0),
            regained: 0.0,
            predicted: Some(ms(predicted)),
            is_idle: false,
            exchange_age: Some(ms(0)),
        };
        Reading { queue: Some(queue), ..reading(predicted, 100, 50) }
    }

    /// A hundred flows a turn, every cohort of one class the same.
    fn offer(
        offered: &mut Distribution,
        turns: std::ops::Range<u64>,
        mut each: impl FnMut(u64, &Distribution),
    ) {
        for turn in turns {
            let mut counters = [0; shedder_common::class::PRIORITIES as usize];
            counters[256..384].fill(turn as u32 * 10);
            offered.update(ms(20 * turn), &counters);
            each(turn, offered);
        }
    }

    #[test]
    fn idle_service_is_running_and_sheds_less_and_less() {
        let mut service = ServiceLoop::new(&Control::default(), TARGET, Sensor::Passive, Posture::Open, 0.5);
        let queue = Queue { is_idle: true, predicted: Some(Duration::ZERO), ..Queue::default() };
        let idle = Reading { queue: Some(queue), ..Reading::default() };
        let mut turn = |turn: u64| service.turn(ms(20 * turn), &idle, &Distribution::new(), None);
        let decisions: Vec<_> = (0..150).map(&mut turn).collect();
        assert!(
            decisions.iter().all(|decision| decision.state == State::Running && decision.observed.is_none())
        );
        assert!(decisions[149].ratio < 0.01, "{}", decisions[149].ratio);
    }

    #[test]
    fn flows_of_which_nothing_is_measured_are_a_dead_signal() {
        let mut service = passive(Posture::Open);
        let queue = Queue { is_idle: true, predicted: Some(Duration::ZERO), ..Queue::default() };
        let unseen = Reading { queue: Some(queue), ..Reading::default() };
        let mut last = None;
        offer(&mut Distribution::new(), 0..100, |turn, offered| {
            last = service.turn(ms(20 * turn), &unseen, offered, None).state.why();
        });
        assert!(matches!(last, Some(Why::Unmeasured { .. })), "{last:?}");
    }

    #[test]
    fn reflex_is_armed_until_the_loop_sees_the_lateness_itself() {
        let mut service = passive(Posture::Open);
        let mut offered = Distribution::new();
        offer(&mut offered, 0..50, |turn, offered| {
            service.turn(ms(20 * turn), &busy(20), offered, None);
        });
        let arm = |service: &ServiceLoop, factor, reading: &Reading| {
            service.reflex(factor, 0.99, 1000.0, reading, &offered)
        };
        let word = arm(&service, 4.0, &busy(20));
        assert!(word.is_tripped_by(41) && !word.is_tripped_by(39), "four times what chance makes late");
        assert!((199_000_000..=200_000_000).contains(&word.delay()));
        assert!((320..=321).contains(&word.cutoff()), "half of the only class");
        assert_eq!(arm(&service, 0.0, &busy(20)), ReflexWord::NONE);
        assert_eq!(arm(&service, 4.0, &busy(210)), ReflexWord::NONE);

        service.tripped(word.cutoff(), &offered);
        let decision = service.turn(ms(1000), &busy(210), &offered, None);
        assert!(decision.ratio >= 0.5, "{}", decision.ratio);
    }
}
