//! One service's passive signal in the control thread: from the maps to a reading, and to counters that do not wrap.

use super::report::{Histogram, PassiveReport, QUANTILES};
use crate::config::{Control, Service, Signal};
use crate::control::{Applied, InFlight, PassiveWindow, Queue, Reading, Sampling, quantile_of};
use shedder_common::abi::{EXCHANGES, FLOW_SETS, Measured};
use shedder_common::bucket::WAYS;
use shedder_common::flows::{Outstanding, Waiting};
use shedder_common::histogram::{BUCKETS, lower_bound};
use std::time::Duration;

/// What the kernel measures of one service.
pub(super) struct Passive {
    window: PassiveWindow,
    in_flight: InFlight,
    sampling: Sampling,
    /// What was counted when it was last read; none: counting begins.
    last: Option<Box<Measured>>,
    exchanges: [u64; EXCHANGES],
    abandoned: u64,
    reflex_trips: u64,
    /// Entries of the table of flows that wait for this service.
    entries: usize,
    queue: Option<Queue>,
    began: Option<Duration>,
    recent: Recent,
    connecting: u64,
    syns_unanswered: u64,
}

/// How long answers are gathered before their quantiles are told; those of twice as long are told together.
const GATHER: Duration = Duration::from_secs(10);

/// A connection that waits for as long is not answered any more: its SYN was repeated once by then.
const SYN_DEADLINE: Duration = Duration::from_secs(2);

/// The answers of the last moments.
struct Recent {
    /// What had been counted when gathering began, and a time before; none: not yet.
    marks: [Option<Box<[u32; BUCKETS]>>; 2],
    marked: Duration,
    quantiles: [Option<Duration>; QUANTILES.len()],
    told: Duration,
}

impl Recent {
    /// How often the quantiles are found anew.
    const TELL: Duration = Duration::from_secs(1);

    fn new() -> Recent {
        Recent {
            marks: [None, None],
            marked: Duration::ZERO,
            quantiles: [None; QUANTILES.len()],
            told: Duration::ZERO,
        }
    }

    /// Takes in what has been answered until `now`.
    fn turn(&mut self, now: Duration, answered: &[u32; BUCKETS]) {
        if self.marks[0].is_none() || now.saturating_sub(self.marked) >= GATHER {
            self.marks[1] = self.marks[0].replace(Box::new(*answered));
            self.marked = now;
        }
        if now.saturating_sub(self.told) < Self::TELL {
            return;
        }
        self.told = now;
        let [newer, older] = &self.marks;
        let Some(since) = older.as_ref().or(newer.as_ref()) else { return };
        let counts = std::array::from_fn(|bucket| answered[bucket].wrapping_sub(since[bucket]));
        self.quantiles = QUANTILES.map(|quantile| quantile_of(&counts, quantile));
    }
}

impl Passive {
    /// A signal that has seen nothing. `share` is the fraction of flows that is measured.
    pub(super) fn new(control: &Control, service: &Service, share: f64) -> Passive {
        let deadline = Signal::probe_timeout(service.target);
        let (quantile, target) = (service.quantile, service.target);
        Passive {
            window: PassiveWindow::new(control.window, quantile, target, deadline, control.min_samples),
            in_flight: InFlight::new(deadline, control.interval),
            sampling: Sampling::new(share),
            last: None,
            exchanges: [0; EXCHANGES],
            abandoned: 0,
            reflex_trips: 0,
            entries: 0,
            queue: None,
            began: None,
            recent: Recent::new(),
            connecting: 0,
            syns_unanswered: 0,
        }
    }

    /// The maps were replaced, and count from zero.
    pub(super) fn restart(&mut self) {
        self.window.restart();
        self.last = None;
        self.recent = Recent::new();
    }

    /// Forgets what was in flight: a turn begins at `now`.
    pub(super) fn begin(&mut self, now: Duration) {
        let step = self.began.map_or(Duration::ZERO, |began| now.saturating_sub(began));
        self.in_flight.begin(step);
        self.began = Some(now);
        self.entries = 0;
        self.connecting = 0;
    }

    /// Takes in what waits for this service at `now`. A connection that was not agreed to yet holds its place in the table,
    /// and is no request.
    pub(super) fn add(&mut self, now: Duration, waits: Outstanding) {
        self.entries += 1;
        let age = now.saturating_sub(Duration::from_nanos(waits.since));
        match waits.waiting {
            Waiting::Request => self.in_flight.add(age, waits.count),
            Waiting::Connection if age < SYN_DEADLINE => self.connecting += 1,
            // Counted once: in the turn in which it passed the deadline.
            Waiting::Connection => {
                self.syns_unanswered += u64::from(age < SYN_DEADLINE + self.in_flight.step())
            }
        }
    }

    /// Entries of the table of flows that wait for this service.
    pub(super) fn entries(&self) -> usize {
        self.entries
    }

    /// Takes in what the maps count at `now`; latencies are counted in `latency`, and failures in `failures`.
    pub(super) fn turn(
        &mut self,
        now: Duration,
        measured: Box<Measured>,
        applied: Applied,
        latency: &mut Histogram,
        failures: &mut u64,
    ) -> Reading {
        let reading = self.window.turn(now, &measured, &self.in_flight, applied);
        *failures += self.in_flight.late();
        self.queue = reading.queue;
        self.recent.turn(now, &measured.answered);
        if let Some(last) = self.last.take() {
            self.accumulate(&last, &measured, latency);
        }
        self.last = Some(measured);
        reading
    }

    fn accumulate(&mut self, last: &Measured, measured: &Measured, latency: &mut Histogram) {
        // A count that went backwards began anew.
        let since = |new: u32, old: u32| {
            let count = new.wrapping_sub(old);
            if count <= u32::MAX / 2 { u64::from(count) } else { 0 }
        };
        for (sum, (&new, &old)) in
            self.exchanges.iter_mut().zip(measured.exchanges.iter().zip(&last.exchanges))
        {
            *sum += since(new, old);
        }
        if measured.answered != last.answered {
            for bucket in 0..BUCKETS {
                let count = since(measured.answered[bucket], last.answered[bucket]);
                if count > 0 {
                    let middle = (lower_bound(bucket) + lower_bound(bucket + 1)) as f64 / 2e9;
                    latency.observe_many(middle, count);
                }
            }
        }
        if measured.abandoned != last.abandoned {
            let counts = measured.abandoned.iter().zip(&last.abandoned);
            self.abandoned += counts.map(|(&new, &old)| since(new, old)).sum::<u64>();
        }
    }

    /// The reflex was found tripped.
    pub(super) fn tripped(&mut self) {
        self.reflex_trips += 1;
    }

    /// The fraction of flows to measure from `now` on, where `entries` of the table of flows are taken by all services.
    pub(super) fn sample(&mut self, now: Duration, entries: usize) -> f64 {
        let full = entries as f64 / (FLOW_SETS * WAYS) as f64;
        let part = self.entries as f64 / entries.max(1) as f64;
        let requests = self.queue.map_or(0.0, |queue| queue.arrivals * self.sampling.share());
        self.sampling.turn(now, requests, full, part)
    }

    /// The fraction of flows that is measured.
    pub(super) fn share(&self) -> f64 {
        self.sampling.share()
    }

    pub(super) fn report(&self) -> PassiveReport {
        PassiveReport {
            queue: self.queue,
            share: self.sampling.share(),
            recent: self.recent.quantiles,
            connecting: self.connecting,
            syns_unanswered: self.syns_unanswered,
            exchanges: self.exchanges,
            abandoned: self.abandoned,
            reflex_trips: self.reflex_trips,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Protocol;
    use bytemuck::Zeroable;
    use shedder_common::abi::Exchange;
    use shedder_common::histogram::bucket;

    const ALL: Applied = Applied { share: 1.0, admitted: 1.0, baseline: None };

    #[test]
    fn counters_outlive_a_wrap_and_a_restart() {
        let service = Service::new("api", Protocol::Tcp, 80);
        let mut passive = Passive::new(&Control::default(), &service, 1.0);
        let (mut latency, mut failures) = (Histogram::new(Histogram::LATENCY), 0);
        let mut measured = Box::new(Measured::zeroed());
        let place = bucket(3_000_000);
        measured.answered[place] = u32::MAX - 1;
        measured.exchanges[Exchange::Request as usize] = u32::MAX;
        let mut turn = |passive: &mut Passive, milliseconds, measured: &Measured| {
            passive.begin(Duration::from_millis(milliseconds));
            let measured = Box::new(*measured);
            passive.turn(Duration::from_millis(milliseconds), measured, ALL, &mut latency, &mut failures);
            latency.count()
        };
        assert_eq!(turn(&mut passive, 20, &measured), 0);
        measured.answered[place] = 4;
        measured.exchanges[Exchange::Request as usize] = 9;
        assert_eq!(turn(&mut passive, 40, &measured), 6);
        passive.restart();
        assert_eq!(turn(&mut passive, 60, &Measured::zeroed()), 6);
        assert_eq!(passive.report().exchanges[Exchange::Request as usize], 10);
    }

    #[test]
    fn what_waits_is_counted_with_its_age() {
        let service = Service::new("api", Protocol::Tcp, 80);
        let mut passive = Passive::new(&Control::default(), &service, 1.0);
        let now = Duration::from_secs(10);
        passive.begin(now);
        let waits =
            |waiting, count| Outstanding { service: 0, waiting, since: 9_900_000_000, count, sample: 0 };
        passive.add(now, waits(Waiting::Request, 3));
        passive.add(now, waits(Waiting::Connection, 1));
        assert_eq!((passive.entries(), passive.in_flight.requests(), passive.connecting), (2, 3, 1));
    }

    #[test]
    fn a_connection_is_unanswered_once() {
        let service = Service::new("api", Protocol::Tcp, 80);
        let mut passive = Passive::new(&Control::default(), &service, 1.0);
        let asked = Outstanding {
            service: 0,
            waiting: Waiting::Connection,
            since: 1_000_000_000,
            count: 1,
            sample: 0,
        };
        let mut told = Vec::new();
        for turn in 0..200 {
            let now = Duration::from_millis(2_000 + 20 * turn);
            passive.begin(now);
            passive.add(now, asked);
            told.push(passive.syns_unanswered);
        }
        assert_eq!((told[0], told.last()), (0, Some(&1)));
    }

    #[test]
    fn recent_quantiles_forget() {
        let mut recent = Recent::new();
        let mut answered = [0; BUCKETS];
        let at = |latency| bucket(latency);
        recent.turn(Duration::from_secs(1), &answered);
        answered[at(1_000_000)] = 100;
        recent.turn(Duration::from_secs(3), &answered);
        let median = recent.quantiles[0].expect("there were answers").as_secs_f64();
        assert!((median / 0.001 - 1.0).abs() < 0.07, "{median}");
        for second in 4..40 {
            answered[at(8_000_000)] += 10;
            recent.turn(Duration::from_secs(second), &answered);
        }
        let median = recent.quantiles[0].expect("there were answers").as_secs_f64();
        assert!((median / 0.008 - 1.0).abs() < 0.07, "{median}");
    }
}
