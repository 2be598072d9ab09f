//! A service under load, simulated: a FIFO queue in front of some servers, and a loop that watches it.

use super::distribution::{Counters, Distribution};
use super::service::{Decision, ServiceLoop};
use super::signal::{Outcome, Window};
use crate::config::{Control, Posture};
use shedder_common::class::{COHORTS, Class, PRIORITIES, SHED_NOTHING, priority};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

/// A stream of random numbers: SplitMix64 (Steele, Lea and Flood, 2014).
#[derive(Clone, Debug)]
pub(crate) struct Random(pub u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform, 0 included, 1 not.
    pub(crate) fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Exponential with mean 1.
    pub(crate) fn exponential(&mut self) -> f64 {
        -(1.0 - self.uniform()).ln()
    }
}

/// How long one request takes a server.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Service {
    /// All the same.
    Fixed,
    /// Exponentially distributed.
    Exponential,
}

/// What is simulated.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub control: Control,
    pub posture: Posture,
    pub target: Duration,
    pub quantile: f64,
    /// Seconds between two probes.
    pub probe_every: f64,
    pub probe_timeout: Duration,
    pub servers: usize,
    /// Mean seconds of one request.
    pub service_time: f64,
    pub service: Service,
    /// Requests that may wait; what comes beyond is refused.
    pub backlog: usize,
    /// Classes, with how many sources each has; every source offers the same.
    pub sources: Vec<(Class, usize)>,
    /// Whether a refused client asks again 1 s and 3 s later.
    pub retries: bool,
    /// Offered load as a multiple of capacity, from each second on.
    pub load: Vec<(f64, f64)>,
    /// Seconds of silence of the probes: from, to.
    pub deaf: Option<(f64, f64)>,
    /// A person's override: from, to, ratio.
    pub person: Option<(f64, f64, f64)>,
    pub seconds: f64,
    pub seed: u64,
}

impl Default for Scenario {
    fn default() -> Self {
        Scenario {
            control: Control::default(),
            posture: Posture::Open,
            target: Duration::from_millis(50),
            quantile: 0.99,
            probe_every: 0.02,
            probe_timeout: Duration::from_secs(1),
            servers: 8,
            service_time: 0.005,
            service: Service::Fixed,
            backlog: 4096,
            sources: vec![(Class::Normal, 300)],
            retries: false,
            load: vec![(0.0, 0.5)],
            deaf: None,
            person: None,
            seconds: 5.0,
            seed: 1,
        }
    }
}

/// One admitted request, or one probe.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    pub at: f64,
    pub latency: f64,
    pub class: u8,
}

/// One turn of the loop.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turn {
    pub at: f64,
    pub decision: Decision,
}

/// What happened.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trace {
    pub requests: Vec<Request>,
    pub probes: Vec<Request>,
    pub turns: Vec<Turn>,
    /// By class.
    pub shed: Vec<(f64, u8)>,
    pub refused: usize,
}

/// Servers behind a FIFO queue. A request's start is known as it arrives, since nobody overtakes.
struct Queue {
    free: BinaryHeap<Reverse<u64>>,
    waiting: VecDeque<f64>,
    backlog: usize,
}

impl Queue {
    /// When a request that arrives at `now` and takes `length` is done; none: refused.
    fn enter(&mut self, now: f64, length: f64) -> Option<f64> {
        while self.waiting.front().is_some_and(|&start| start <= now) {
            self.waiting.pop_front();
        }
        if self.waiting.len() >= self.backlog {
            return None;
        }
        // Bits of positive floats are ordered as the floats are.
        let Reverse(free) = self.free.pop()?;
        let start = f64::from_bits(free).max(now);
        let done = start + length;
        self.free.push(Reverse(done.to_bits()));
        if start > now {
            self.waiting.push_back(start);
        }
        Some(done)
    }
}

impl Scenario {
    /// Requests a second that the servers can do.
    pub(crate) fn capacity(&self) -> f64 {
        self.servers as f64 / self.service_time
    }

    fn load_at(&self, now: f64) -> f64 {
        self.load.iter().rev().find(|&&(from, _)| from <= now).map_or(0.0, |&(_, load)| load)
    }

    /// Runs it.
    pub(crate) fn run(&self) -> Trace {
        let mut q = self.clone();
        q.probe_timeout = self.probe_timeout.max(self.target * 5);
        q.run2()
    }
    pub(crate) fn run2(&self) -> Trace {
        let mut random = Random(self.seed);
        let priorities: Vec<u32> = self
            .sources
            .iter()
            .flat_map(|&(class, count)| std::iter::repeat_n(class, count))
            .map(|class| priority(class as u8, random.next() as u32 % COHORTS))
            .collect();
        let mut queue = Queue {
            free: (0..self.servers).map(|_| Reverse(0)).collect(),
            waiting: VecDeque::new(),
            backlog: self.backlog,
        };
        let mut service = ServiceLoop::new(&self.control, self.target, self.posture);
        let failure = self.probe_timeout.max(self.target * 6);
        let mut window = Window::new(self.control.window, self.quantile, failure);
        let mut offered = Distribution::new();
        let mut counters: Counters = [u32::MAX - 50; PRIORITIES as usize];
        let mut cutoff = SHED_NOTHING;
        // (began, ends, outcome)
        let mut flying: Vec<(f64, f64, Outcome)> = Vec::new();
        let mut retries: BinaryHeap<Reverse<(u64, usize, u8)>> = BinaryHeap::new();
        let mut trace = Trace::default();
        let interval = self.control.interval.as_secs_f64();
        let mut next_probe = self.probe_every * random.uniform();
        let turns = (self.seconds / interval) as usize;
        offered.update(Duration::ZERO, &counters);
        for turn in 1..=turns {
            let (from, to) = ((turn - 1) as f64 * interval, turn as f64 * interval);
            let rate = self.load_at(from) * self.capacity();
            let mut arrival = if rate > 0.0 { from + random.exponential() / rate } else { f64::INFINITY };
            loop {
                let retry = retries.peek().map_or(f64::INFINITY, |Reverse((at, ..))| f64::from_bits(*at));
                let next = arrival.min(next_probe).min(retry);
                if next >= to {
                    break;
                }
                let length = match self.service {
                    Service::Fixed => self.service_time,
                    Service::Exponential => self.service_time * random.exponential(),
                };
                if next == next_probe {
                    next_probe += self.probe_every;
                    if self.deaf.is_some_and(|(from, to)| next >= from && next < to) {
                        continue;
                    }
                    let timeout = self.probe_timeout.as_secs_f64();
                    let latency = queue.enter(next, length).map_or(f64::INFINITY, |done| done - next);
                    let (waited, outcome) = if latency < timeout {
                        (latency, Outcome::Answered(Duration::from_secs_f64(latency)))
                    } else {
                        (timeout, Outcome::Failed(self.probe_timeout))
                    };
                    flying.push((next, next + waited, outcome));
                    trace.probes.push(Request { at: next, latency, class: 0 });
                    continue;
                }
                let (source, attempt) = if next == retry {
                    let Some(Reverse((_, source, attempt))) = retries.pop() else { break };
                    (source, attempt)
                } else {
                    arrival += random.exponential() / rate;
                    (random.next() as usize % priorities.len(), 0)
                };
                let priority = priorities[source];
                let class = (priority / COHORTS) as u8;
                counters[priority as usize] = counters[priority as usize].wrapping_add(1);
                let done = if priority >= cutoff {
                    trace.shed.push((next, class));
                    None
                } else {
                    let done = queue.enter(next, length);
                    trace.refused += usize::from(done.is_none());
                    done
                };
                match done {
                    Some(done) => trace.requests.push(Request { at: next, latency: done - next, class }),
                    None if self.retries && attempt < 2 => {
                        let again = next + [1.0, 2.0][attempt as usize];
                        retries.push(Reverse((again.to_bits(), source, attempt + 1)));
                    }
                    None => {}
                }
            }
            let now = Duration::from_secs_f64(to);
            flying.sort_by(|a, b| a.1.total_cmp(&b.1));
            let ended = flying.partition_point(|&(_, ends, _)| ends <= to);
            for (_, ends, outcome) in flying.drain(..ended) {
                window.push(Duration::from_secs_f64(ends), outcome);
            }
            let began: Vec<Duration> =
                flying.iter().map(|&(began, ..)| Duration::from_secs_f64(began)).collect();
            offered.update(now, &counters);
            let person =
                self.person.and_then(|(from, until, ratio)| (to >= from && to < until).then_some(ratio));
            let decision = service.turn(now, &window.reading(now, &began), &offered, person);
            cutoff = decision.cutoff;
            trace.turns.push(Turn { at: to, decision });
        }
        trace
    }
}

/// The quantile of the latencies of what came in from `from` to `to`; none came: 0.
pub(crate) fn quantile(requests: &[Request], quantile: f64, from: f64, to: f64) -> f64 {
    let mut latencies: Vec<f64> =
        requests.iter().filter(|r| r.at >= from && r.at < to).map(|r| r.latency).collect();
    if latencies.is_empty() {
        return 0.0;
    }
    let rank = (latencies.len() as f64 * quantile).ceil().max(1.0) as usize - 1;
    *latencies.select_nth_unstable_by(rank, f64::total_cmp).1
}

impl Trace {
    /// Requests a second done from `from` to `to`, whose latency was at most `limit` seconds.
    pub(crate) fn goodput(&self, limit: f64, from: f64, to: f64) -> f64 {
        let good = self.requests.iter().filter(|r| {
            let done = r.at + r.latency;
            done >= from && done < to && r.latency <= limit
        });
        good.count() as f64 / (to - from)
    }

    /// Lowest and highest ratio from `from` to `to`.
    pub(crate) fn range(&self, from: f64, to: f64) -> (f64, f64) {
        self.turns
            .iter()
            .filter(|turn| turn.at >= from && turn.at < to)
            .fold((1.0, 0.0), |(low, high), turn| {
                (f64::min(low, turn.decision.ratio), f64::max(high, turn.decision.ratio))
            })
    }

    /// Seconds after `from` until which the ratio was ever above 0.
    pub(crate) fn last_shed(&self, from: f64) -> f64 {
        let last = self.turns.iter().rev().find(|turn| turn.decision.ratio > 0.0);
        last.map_or(0.0, |turn| (turn.at - from).max(0.0))
    }

    /// The seconds from `from` on until every window of 100 ms of probes that follows keeps within `limit`.
    pub(crate) fn settled(&self, limit: f64, from: f64, to: f64) -> f64 {
        let late = |requests: &[Request]| {
            requests
                .iter()
                .filter(|r| r.at >= from && r.at < to && r.latency > limit)
                .map(|r| r.at)
                .fold(from, f64::max)
        };
        late(&self.probes) - from
    }
}
