//! One service's passive signal in the control thread: from the maps to a reading, and to counters that do not wrap.

use super::report::{Histogram, PassiveReport};
use crate::config::{Control, Service, Signal};
use crate::control::{Applied, InFlight, PassiveWindow, Queue, Reading, Sampling};
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
        }
    }

    /// The maps were replaced, and count from zero.
    pub(super) fn restart(&mut self) {
        self.window.restart();
        self.last = None;
    }

    /// Forgets what was in flight: a turn begins at `now`.
    pub(super) fn begin(&mut self, now: Duration) {
        let step = self.began.map_or(Duration::ZERO, |began| now.saturating_sub(began));
        self.in_flight.begin(step);
        self.began = Some(now);
        self.entries = 0;
    }

    /// Takes in what waits for this service at `now`. A connection that was not agreed to yet holds its place in the table,
    /// and is no request.
    pub(super) fn add(&mut self, now: Duration, waits: Outstanding) {
        self.entries += 1;
        if waits.waiting == Waiting::Request {
            self.in_flight.add(now.saturating_sub(Duration::from_nanos(waits.since)), waits.count);
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
        let waits = |waiting, count| Outstanding { service: 0, waiting, since: 9_900_000_000, count };
        passive.add(now, waits(Waiting::Request, 3));
        passive.add(now, waits(Waiting::Connection, 1));
        assert_eq!((passive.entries(), passive.in_flight.requests()), (2, 3));
    }
}
