//! The passive signal: what the kernel counted, made into what a loop goes by.

use super::capacity::{Capacity, Rate, Seen, TELLING};
use super::in_flight::InFlight;
use super::signal::{Queue, Reading};
use super::survival::{Survival, bucket_of};
use super::why::Why;
use shedder_common::abi::{Exchange, Measured};
use shedder_common::histogram::lower_bound;
use std::collections::VecDeque;
use std::time::Duration;

/// As many requests tell the rate at which they arrive.
const TELLING_ARRIVALS: f64 = 20.0;

/// A span in which so many answers could leave tells whether they do.
const FEW_ANSWERS: f64 = 10.0;

/// So many of the last answers tell how fast the service is now.
const NEWEST: u64 = 5;

/// Turns that are kept.
const MOST_TURNS: usize = 4096;

/// Answers that are kept, however long ago they left.
const KEPT: u64 = 64;

/// Counts that are compared at once: most are as they were.
const CHUNK: usize = 32;

/// A service that answered before, and stops, is taken to be overloaded or hung for so many deadlines.
const PATIENCE: u32 = 10;

/// What one turn found, or some in which nothing happened.
#[derive(Clone, Debug, Default)]
struct Turn {
    at: Duration,
    /// Seconds.
    length: f64,
    /// How many requests each stands for that was measured.
    weight: f64,
    /// Seconds, weighted by the share that was admitted.
    admitted: f64,
    /// By bucket.
    answered: Vec<(u16, u32)>,
    /// By bucket.
    abandoned: Vec<(u16, u32)>,
    answers: u64,
    /// Requests that passed the deadline.
    late: u64,
    arrivals: u64,
}

impl Turn {
    fn is_empty(&self) -> bool {
        self.arrivals == 0 && self.late == 0 && self.answered.is_empty() && self.abandoned.is_empty()
    }

    fn ended(&self) -> u64 {
        self.answers + self.late
    }
}

/// What has been in force since the turn before, and what is known.
#[derive(Clone, Copy, Debug)]
pub struct Applied {
    /// The fraction of all flows that is measured, above 0 to 1.
    pub share: f64,
    /// The fraction of what was offered that was let in.
    pub admitted: f64,
    /// The latency without a queue.
    pub baseline: Option<Duration>,
}

/// What the kernel counted of one service over the last moments.
#[derive(Clone, Debug)]
pub struct PassiveWindow {
    quantile: f64,
    /// How far back is looked at most, where there is enough.
    window: Duration,
    /// How far back is looked where there is little.
    longest: Duration,
    target: Duration,
    deadline: Duration,
    min_samples: u64,
    last: Option<(Duration, Box<Measured>)>,
    turns: VecDeque<Turn>,
    kept: u64,
    survival: Survival,
    capacity: Capacity,
    newest: Option<Duration>,
    observed: Option<Duration>,
    /// Since when requests arrive and none is answered, and how many did.
    unanswered: (Duration, u64),
    answered_once: bool,
    newest_exchange: Option<Duration>,
    /// The last one.
    reading: Reading,
}

impl PassiveWindow {
    /// An empty window that looks `window` back at most, unless fewer than `min_samples` are found there, and reads
    /// `quantile` (above 0, below 1). What waits for `deadline` is a failure.
    pub fn new(
        window: Duration,
        quantile: f64,
        target: Duration,
        deadline: Duration,
        min_samples: u32,
    ) -> PassiveWindow {
        PassiveWindow {
            quantile,
            window,
            longest: window.max(target * 8).max(Duration::from_secs(1)),
            target,
            deadline,
            min_samples: u64::from(min_samples),
            last: None,
            turns: VecDeque::new(),
            kept: 0,
            survival: Survival::new(),
            capacity: Capacity::new(target, window),
            newest: None,
            observed: None,
            unanswered: (Duration::ZERO, 0),
            answered_once: false,
            newest_exchange: None,
            reading: Reading::default(),
        }
    }

    /// The maps were replaced: what they count next begins at zero.
    pub fn restart(&mut self) {
        self.last = None;
    }

    /// Takes in what stands in the maps at `now`, while `in_flight` waits, under what is `applied`.
    ///
    /// The first turn only sets where counting starts, and so does one in which a count went backwards: what was read
    /// before still holds then.
    pub fn turn(
        &mut self,
        now: Duration,
        measured: &Measured,
        in_flight: &InFlight,
        applied: Applied,
    ) -> Reading {
        let weight = 1.0 / applied.share;
        let length = match self.take_in(now, measured, in_flight, weight, applied.admitted) {
            Some(length) => length,
            None => return self.reading,
        };
        let (samples, failures, span) = self.fill(now);
        for (bucket, count) in in_flight.buckets() {
            self.survival.censor(bucket, count);
        }
        let latency = self.survival.quantile(self.quantile);
        let is_quantile = samples >= self.min_samples;
        self.observed = latency.filter(|_| is_quantile);

        let least_span = self.observed.unwrap_or_default().min(self.target * 2).as_secs_f64();
        let answers = self.rate(|turn| turn.answers, TELLING, 2, least_span).0;
        let (arrivals, admitted) = self.rate(|turn| turn.arrivals, TELLING_ARRIVALS, 1, 0.0);
        let requests = in_flight.requests() as f64 * weight;
        let seen = Seen {
            arrivals,
            answers,
            median: self.survival.quantile(0.5).unwrap_or_default(),
            newest: self.newest_median().map(|median| median.max(in_flight.longest_but(0))),
            is_silent: requests > 0.0 && self.turns.back().is_none_or(|turn| turn.answers == 0),
            baseline: applied.baseline,
        };
        self.capacity.learn(length, &seen);
        let predicted = self.capacity.predict(now, length, requests, self.observed, span);
        // So many may be late by chance.
        let chance = ((1.0 - self.quantile) * (in_flight.requests() + samples) as f64).max(2.0) as u64;
        // Where answers come as fast as they can, what has waited long is the end of a queue that drains. Where they do
        // not, it is what the next one waits at least.
        let missing = self.capacity.per_second().map_or(1.0, |capacity| {
            let lately = self.rate(|turn| turn.answers, 0.0, 2, FEW_ANSWERS / capacity).0;
            (1.0 - lately.per_second() / capacity).clamp(0.0, 1.0)
        });
        let waited = in_flight.longest_but(chance).mul_f64(missing);
        let predicted = predicted.map(|seconds| Duration::from_secs_f64(seconds.min(3600.0)).max(waited));
        let idle = self.is_idle(now, in_flight);
        self.reading = Reading {
            latency,
            samples: samples as usize,
            failures: failures as usize,
            in_flight: in_flight.requests() as usize,
            age: self.newest.map(|newest| now.saturating_sub(newest)),
            queue: Some(Queue {
                in_flight: requests,
                arrivals: arrivals.per_second(),
                answers: answers.per_second(),
                offered: arrivals.per_second() / admitted.max(1e-3),
                capacity: self.capacity.per_second(),
                regained: self.capacity.regained(),
                predicted: if idle { Some(Duration::ZERO) } else { predicted },
                is_idle: idle,
                exchange_age: self.newest_exchange.map(|at| now.saturating_sub(at)),
            }),
            fault: self.fault(now),
        };
        self.reading
    }

    /// Takes in the counts. Answers with the seconds since the turn before; none: counting starts here.
    fn take_in(
        &mut self,
        now: Duration,
        measured: &Measured,
        in_flight: &InFlight,
        weight: f64,
        admitted: f64,
    ) -> Option<f64> {
        let Some((before, last)) = &mut self.last else {
            self.last = Some((now, Box::new(*measured)));
            return None;
        };
        let length = now.saturating_sub(*before).as_secs_f64();
        if length == 0.0 {
            return None;
        }
        *before = now;
        let mut turn = Turn { at: now, length, weight, admitted: admitted * length, ..Turn::default() };
        let whole = since(&last.answered, &measured.answered, &mut turn.answered)
            && since(&last.abandoned, &measured.abandoned, &mut turn.abandoned);
        let request = Exchange::Request as usize;
        let arrivals = measured.exchanges[request].wrapping_sub(last.exchanges[request]);
        if last.exchanges != measured.exchanges {
            self.newest_exchange = Some(now);
        }
        **last = *measured;
        if !whole || arrivals > u32::MAX / 2 {
            return None;
        }
        turn.answers = turn.answered.iter().map(|&(_, count)| u64::from(count)).sum();
        turn.late = in_flight.late();
        turn.arrivals = u64::from(arrivals);

        if turn.answers > 0 {
            self.newest = Some(now);
            self.answered_once = true;
        }
        if turn.answers > 0 || self.unanswered.1 == 0 {
            self.unanswered = (now, 0);
        }
        self.unanswered.1 += turn.arrivals;
        self.kept += turn.ended();
        match self.turns.back_mut() {
            Some(last) if last.is_empty() && turn.is_empty() => {
                (last.at, last.length, last.admitted) =
                    (now, last.length + turn.length, last.admitted + turn.admitted);
            }
            _ => self.turns.push_back(turn),
        }
        while let Some(oldest) = self.turns.front() {
            let age = now.saturating_sub(oldest.at);
            let enough = self.kept - oldest.ended() >= KEPT.max(self.min_samples);
            let is_past = age > self.longest || (enough && age > self.window.max(self.target));
            if !is_past && self.turns.len() <= MOST_TURNS {
                break;
            }
            self.kept -= oldest.ended();
            self.turns.pop_front();
        }
        Some(length)
    }

    /// Fills the histogram with the shortest recent span that has enough samples. Answers with how many there are, how
    /// many of them are failures, and the span in seconds.
    fn fill(&mut self, now: Duration) -> (u64, u64, f64) {
        let enough = ((3.0 / (1.0 - self.quantile)) as u64).clamp(30, 10_000);
        self.survival.clear();
        let (mut samples, mut failures, mut span) = (0, 0, 0.0);
        for turn in self.turns.iter().rev() {
            let is_old = now.saturating_sub(turn.at) >= self.window;
            if samples >= enough || (is_old && samples >= self.min_samples) {
                break;
            }
            for &(bucket, count) in &turn.answered {
                self.survival.end(bucket.into(), count);
            }
            for &(bucket, count) in &turn.abandoned {
                self.survival.censor(bucket.into(), count);
            }
            if turn.late > 0 {
                self.survival.end(bucket_of(self.deadline), turn.late.min(u64::from(u32::MAX)) as u32);
            }
            samples += turn.ended();
            failures += turn.late;
            span += turn.length;
        }
        (samples, failures, span)
    }

    /// How often something happened over the shortest recent span that tells, of at least `least` turns and `seconds`;
    /// and the share that was admitted meanwhile.
    fn rate(&self, of: impl Fn(&Turn) -> u64, telling: f64, least: usize, seconds: f64) -> (Rate, f64) {
        let mut rate = Rate::default();
        let mut admitted = 0.0;
        for (index, turn) in self.turns.iter().rev().enumerate() {
            if index >= least && rate.count >= telling && rate.span >= seconds {
                break;
            }
            rate.count += of(turn) as f64;
            rate.total += of(turn) as f64 * turn.weight;
            rate.span += turn.length;
            admitted += turn.admitted;
        }
        (rate, if rate.span > 0.0 { admitted / rate.span } else { 1.0 })
    }

    /// The median of the last few answers; none: there were too few lately.
    fn newest_median(&self) -> Option<Duration> {
        let mut answers = Vec::new();
        let mut count = 0;
        for turn in self.turns.iter().rev() {
            answers.extend_from_slice(&turn.answered);
            count += turn.answers;
            if count >= NEWEST {
                break;
            }
        }
        if count < NEWEST {
            return None;
        }
        answers.sort_unstable();
        let mut below = 0;
        let median = answers.into_iter().find(|&(_, answers)| {
            below += u64::from(answers);
            below > count / 2
        });
        median.map(|(bucket, _)| Duration::from_nanos(lower_bound(bucket.into())))
    }

    /// Whether so little arrives that there is no queue to speak of.
    fn is_idle(&self, now: Duration, in_flight: &InFlight) -> bool {
        let recent = self.turns.iter().rev();
        let recent = recent.take_while(|turn| now.saturating_sub(turn.at) < self.window.max(self.target));
        let arrivals: u64 = recent.map(|turn| turn.arrivals).sum();
        arrivals < self.min_samples && in_flight.requests() < self.min_samples
    }

    /// Requests arrive, and none is answered.
    fn fault(&self, now: Duration) -> Option<Why> {
        let (since, requests) = self.unanswered;
        let silent = now.saturating_sub(since);
        let patience = self.deadline * if self.answered_once { PATIENCE } else { 1 };
        let is_enough = requests >= self.min_samples.max(10);
        (is_enough && silent > patience).then_some(Why::Unanswered { requests, since: silent })
    }
}

/// What was counted since `last`, by bucket, into `into`; false where a count went backwards.
fn since(last: &[u32], now: &[u32], into: &mut Vec<(u16, u32)>) -> bool {
    let mut whole = true;
    for (chunk, (old, new)) in last.chunks(CHUNK).zip(now.chunks(CHUNK)).enumerate() {
        if old == new {
            continue;
        }
        for (index, (old, new)) in old.iter().zip(new).enumerate() {
            let count = new.wrapping_sub(*old);
            whole &= count <= u32::MAX / 2;
            if count > 0 {
                into.push(((chunk * CHUNK + index) as u16, count));
            }
        }
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytemuck::Zeroable;

    const TARGET: Duration = Duration::from_millis(50);
    const DEADLINE: Duration = Duration::from_secs(1);

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    const ALL: Applied = Applied { share: 1.0, admitted: 1.0, baseline: None };

    struct Rig {
        window: PassiveWindow,
        measured: Measured,
        in_flight: InFlight,
        turn: u64,
    }

    impl Rig {
        fn new() -> Rig {
            let mut rig = Rig {
                window: PassiveWindow::new(ms(100), 0.99, TARGET, DEADLINE, 3),
                measured: Measured {
                    answered: [u32::MAX - 5; _],
                    abandoned: [u32::MAX - 5; _],
                    exchanges: [u32::MAX - 5; _],
                },
                in_flight: InFlight::new(DEADLINE, ms(20)),
                turn: 0,
            };
            rig.turn(0, 0);
            rig
        }

        fn arrive(&mut self, count: u32) {
            let requests = &mut self.measured.exchanges[Exchange::Request as usize];
            *requests = requests.wrapping_add(count);
        }

        fn answer(&mut self, latency: Duration, count: u32) {
            let answered = &mut self.measured.answered[bucket_of(latency)];
            *answered = answered.wrapping_add(count);
        }

        /// A turn while `count` requests have waited `age` milliseconds.
        fn turn(&mut self, age: u64, count: u32) -> Reading {
            self.in_flight.begin(ms(20));
            if count > 0 {
                self.in_flight.add(ms(age), count);
            }
            self.turn += 1;
            self.window.turn(ms(20 * self.turn), &self.measured, &self.in_flight, ALL)
        }
    }

    #[test]
    fn counts_wrap_and_queue_is_predicted() {
        let mut rig = Rig::new();
        let mut reading = Reading::default();
        for _ in 0..50 {
            rig.arrive(100);
            rig.answer(ms(10), 100);
            reading = rig.turn(5, 50);
        }
        let queue = reading.queue.unwrap();
        assert_eq!((reading.samples, reading.failures, reading.in_flight), (300, 0, 50));
        assert!((4999.0..5001.0).contains(&queue.answers) && (4999.0..5001.0).contains(&queue.offered));
        assert!((ms(9)..ms(11)).contains(&reading.latency.unwrap()));
        assert!((ms(9)..ms(12)).contains(&queue.predicted.unwrap()), "{queue:?}");
        // Once it has been busy, a queue that grows is known before anybody is answered out of it.
        rig.turn(40, 100);
        rig.answer(ms(10), 200);
        let ahead = rig.turn(5, 400).queue.unwrap().predicted.unwrap();
        assert!(ahead > ms(75), "{ahead:?}");
    }

    #[test]
    fn restart_to_zero_is_no_burst() {
        let mut rig = Rig::new();
        rig.arrive(10);
        rig.answer(ms(10), 10);
        let before = rig.turn(0, 0);
        rig.measured = Measured::zeroed();
        assert_eq!(rig.turn(0, 0), before);
        rig.answer(ms(10), 10);
        assert_eq!(rig.turn(0, 0).samples, 20);

        // So much was counted that a zero looks like more.
        rig.measured.answered[bucket_of(ms(10))] = 3 << 30;
        rig.turn(0, 0);
        rig.measured = Measured::zeroed();
        rig.window.restart();
        rig.turn(0, 0);
        assert!(rig.turn(0, 0).samples <= 20);
    }

    #[test]
    fn few_answers_are_looked_for_further_back() {
        let mut rig = Rig::new();
        let mut reading = Reading::default();
        for turn in 0..100 {
            rig.arrive(1);
            if turn % 10 == 0 {
                rig.answer(ms(30), 1);
            }
            reading = rig.turn(30, 5);
        }
        assert_eq!(reading.samples, 3);
        assert!((ms(28)..ms(33)).contains(&reading.latency.unwrap()));
    }

    #[test]
    fn nothing_to_do_is_no_dead_signal() {
        let mut rig = Rig::new();
        for _ in 0..1000 {
            let reading = rig.turn(0, 0);
            assert!(reading.fault.is_none() && reading.queue.unwrap().is_idle);
        }
    }

    #[test]
    fn answers_that_leave_by_another_way_are_missed() {
        let mut rig = Rig::new();
        let fault = (0..100).find_map(|turn| {
            rig.arrive(10);
            rig.turn(20 * turn, 10).fault.map(|why| (turn, why))
        });
        let Some((turn, Why::Unanswered { .. })) = fault else { panic!("{fault:?}") };
        assert!((50..60).contains(&turn), "{turn}");
    }

    #[test]
    fn hung_service_is_late_and_no_dead_signal() {
        let mut rig = Rig::new();
        for _ in 0..20 {
            rig.arrive(10);
            rig.answer(ms(10), 10);
            rig.turn(5, 5);
        }
        for turn in 0..100 {
            rig.arrive(2);
            let reading = rig.turn(20 * turn, 20);
            assert_eq!(reading.fault, None);
            if turn > 5 && turn < 49 {
                assert!(reading.queue.unwrap().predicted > Some(TARGET), "{turn}: {reading:?}");
            }
        }
    }

    #[test]
    fn peers_that_give_up_are_no_answers() {
        let mut rig = Rig::new();
        for _ in 0..10 {
            rig.answer(ms(5), 20);
            let abandoned = &mut rig.measured.abandoned[bucket_of(ms(400))];
            *abandoned = abandoned.wrapping_add(5);
            rig.turn(0, 0);
        }
        let reading = rig.turn(0, 0);
        assert!(reading.latency > Some(ms(380)), "{reading:?}");
        assert_eq!(reading.failures, 0);
    }
}
