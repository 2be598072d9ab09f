//! A service under load, simulated: a FIFO queue in front of some servers, and a loop that watches it by probes or
//! as the kernel does.
//!
//! Arrivals are Poisson and open-loop: they do not wait for answers. Cheap enough for ordinary tests, since a request's
//! end is known as it arrives: nobody overtakes in a FIFO queue.

use super::distribution::{Counters, Distribution};
use super::in_flight::InFlight;
use super::passive::{Applied, PassiveWindow};
use super::service::{Decision, Sensor, ServiceLoop};
use super::signal::{Outcome, Window};
use super::survival::bucket_of;
use crate::config::{Control, Posture, Signal};
use bytemuck::Zeroable;
use shedder_common::abi::{Exchange, Measured};
use shedder_common::class::{COHORTS, Class, Cutoff, PRIORITIES, priority};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::ops::Range;
use std::time::Duration;

/// Seconds after which a client that was not let in asks again, each time.
const RETRIES: [f64; 2] = [1.0, 2.0];

/// A stream of random numbers: SplitMix64 (G. L. Steele, D. Lea and C. H. Flood, "Fast splittable pseudorandom number
/// generators", 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform, 0 included, 1 not.
    fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Exponential with mean 1.
    fn exponential(&mut self) -> f64 {
        -(1.0 - self.uniform()).ln()
    }
}

/// What is simulated. Times are in seconds.
#[derive(Clone, Debug)]
pub(super) struct Scenario {
    pub(super) control: Control,
    pub(super) posture: Posture,
    pub(super) sensor: Sensor,
    pub(super) target: Duration,
    pub(super) probe_every: f64,
    /// From a flow that is let in to its request.
    pub(super) round_trip: f64,
    pub(super) servers: usize,
    /// Mean time that one request takes a server.
    pub(super) service_time: f64,
    /// Whether that time is exponentially distributed, and not always the same.
    pub(super) varies: bool,
    /// Requests that may wait; what comes beyond is refused.
    pub(super) backlog: usize,
    /// Classes, with how many sources each has; every source offers the same.
    pub(super) sources: Vec<(Class, usize)>,
    /// Whether clients that were not let in, or lost patience, ask again.
    pub(super) retries: bool,
    /// After which a client gives up; the servers do its work all the same.
    pub(super) patience: f64,
    /// Offered load as a multiple of capacity, from each time on; the first from 0.
    pub(super) load: Vec<(f64, f64)>,
    /// When every request takes several times as long, and how many.
    pub(super) slow: (Range<f64>, f64),
    /// When no server does anything.
    pub(super) stalls: Range<f64>,
    /// When some servers are away, and how many.
    pub(super) lost: (Range<f64>, usize),
    /// When nothing is probed.
    pub(super) deaf: Range<f64>,
    /// When a person overrides, and the ratio.
    pub(super) person: (Range<f64>, f64),
    pub(super) ends: f64,
    pub(super) seed: u64,
}

impl Default for Scenario {
    /// Half the capacity.
    fn default() -> Self {
        Scenario {
            control: Control::default(),
            posture: Posture::Open,
            sensor: Sensor::Sampled,
            target: Duration::from_millis(50),
            probe_every: 0.02,
            round_trip: 0.0,
            servers: 16,
            service_time: 0.005,
            varies: false,
            backlog: 4096,
            sources: vec![(Class::Normal, 300)],
            retries: false,
            patience: f64::INFINITY,
            load: vec![(0.0, 0.5)],
            slow: (0.0..0.0, 1.0),
            stalls: 0.0..0.0,
            lost: (0.0..0.0, 0),
            deaf: 0.0..0.0,
            person: (0.0..0.0, 0.0),
            ends: 4.0,
            seed: 1,
        }
    }
}

/// One request that was let in, or one probe.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request {
    pub(super) at: f64,
    /// Infinite for a probe that was refused.
    pub(super) latency: f64,
    pub(super) class: u8,
}

/// One turn of the loop, and what it found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn {
    pub(super) at: f64,
    pub(super) decision: Decision,
    /// Since the turn before, by class.
    pub(super) admitted: [u32; Class::ALL.len()],
    /// Since the turn before, by class.
    pub(super) shed: [u32; Class::ALL.len()],
}

/// What happened.
#[derive(Clone, Debug, Default)]
pub(super) struct Trace {
    pub(super) requests: Vec<Request>,
    pub(super) probes: Vec<Request>,
    pub(super) turns: Vec<Turn>,
}

/// Servers behind a FIFO queue.
struct Queue {
    /// When each server is free, as bits: those of positive floats are in the order of the floats.
    free: BinaryHeap<Reverse<u64>>,
    /// When each request that waits will start.
    waiting: VecDeque<f64>,
    backlog: usize,
    stalls: Range<f64>,
    lost: (Range<f64>, usize),
}

impl Queue {
    /// How long a request that arrives at `now` and takes a server `work` is under way; none: it is refused.
    fn enter(&mut self, now: f64, work: f64) -> Option<f64> {
        while self.waiting.front().is_some_and(|&start| start <= now) {
            self.waiting.pop_front();
        }
        if self.waiting.len() >= self.backlog {
            return None;
        }
        while self.lost.1 > 0 && now >= self.lost.0.start {
            // It has done what it was given before it goes.
            self.lost.1 -= 1;
            self.free.pop();
            self.free.push(Reverse(self.lost.0.end.to_bits()));
        }
        let Reverse(free) = self.free.pop()?;
        let start = f64::from_bits(free).max(now);
        let start = if self.stalls.contains(&start) { self.stalls.end } else { start };
        let is_caught = (start..start + work).contains(&self.stalls.start);
        let end = start + work + if is_caught { self.stalls.end - self.stalls.start } else { 0.0 };
        self.free.push(Reverse(end.to_bits()));
        if start > now {
            self.waiting.push_back(start);
        }
        Some(end - now)
    }
}

/// A probe on its way.
struct Probe {
    began: f64,
    ends: f64,
    outcome: Outcome,
}

/// A simulation under way.
struct World<'a> {
    scenario: &'a Scenario,
    random: Random,
    queue: Queue,
    /// Of each source.
    priorities: Vec<u32>,
    counters: Counters,
    cutoff: Cutoff,
    probes: Vec<Probe>,
    /// Requests of flows that were let in, on their way: when they arrive, and of which source, which asked how often.
    arriving: VecDeque<(f64, usize, usize)>,
    /// Requests that arrived and have not ended: when they will, when they began, and whether with an answer.
    outstanding: BinaryHeap<Reverse<(u64, u64, bool)>>,
    measured: Measured,
    /// When, which source, and how many times it asked already.
    retries: BinaryHeap<Reverse<(u64, usize, usize)>>,
    admitted: [u32; Class::ALL.len()],
    shed: [u32; Class::ALL.len()],
    trace: Trace,
}

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

impl Scenario {
    /// Requests a second that the servers can do.
    pub(super) fn capacity(&self) -> f64 {
        self.servers as f64 / self.service_time
    }

    /// After which a probe is a failure.
    fn timeout(&self) -> Duration {
        (self.target * 5).max(Duration::from_secs(1))
    }

    pub(super) fn run(&self) -> Trace {
        let mut world = World::new(self);
        let mut service = ServiceLoop::new(&self.control, self.target, self.sensor, self.posture, 0.0);
        let deadline = Signal::probe_timeout(self.target);
        let mut passive =
            PassiveWindow::new(self.control.window, 0.99, self.target, deadline, self.control.min_samples);
        let mut in_flight = InFlight::new(deadline, self.control.interval);
        let mut window = Window::new(self.control.window, 0.99, self.timeout());
        let mut offered = Distribution::new();
        offered.update(Duration::ZERO, &world.counters);
        let interval = self.control.interval.as_secs_f64();
        let mut next_probe = self.probe_every * world.random.uniform();
        for turn in 0..(self.ends / interval) as usize {
            let (from, to) = (turn as f64 * interval, (turn + 1) as f64 * interval);
            world.advance(from, to, &mut next_probe);
            world.probes.sort_by(|a, b| a.ends.total_cmp(&b.ends));
            let ended = world.probes.partition_point(|probe| probe.ends <= to);
            for probe in world.probes.drain(..ended) {
                window.push(seconds(probe.ends), probe.outcome);
            }
            let reading = match self.sensor {
                Sensor::Sampled => {
                    let began: Vec<Duration> =
                        world.probes.iter().map(|probe| seconds(probe.began)).collect();
                    window.reading(seconds(to), &began)
                }
                Sensor::Passive => {
                    world.measure(to, &mut in_flight);
                    let applied =
                        Applied { share: 1.0, admitted: service.admitted(), baseline: service.baseline() };
                    passive.turn(seconds(to), &world.measured, &in_flight, applied)
                }
            };
            offered.update(seconds(to), &world.counters);
            let (when, ratio) = &self.person;
            let person = when.contains(&to).then_some(*ratio);
            let decision = service.turn(seconds(to), &reading, &offered, person);
            world.cutoff = decision.cutoff;
            let (admitted, shed) = (std::mem::take(&mut world.admitted), std::mem::take(&mut world.shed));
            world.trace.turns.push(Turn { at: to, decision, admitted, shed });
        }
        world.trace
    }
}

impl<'a> World<'a> {
    fn new(scenario: &'a Scenario) -> World<'a> {
        let mut random = Random(scenario.seed);
        let classes = scenario.sources.iter().flat_map(|&(class, count)| std::iter::repeat_n(class, count));
        World {
            scenario,
            priorities: classes.map(|class| priority(class as u8, random.next() as u32 % COHORTS)).collect(),
            random,
            queue: Queue {
                free: std::iter::repeat_n(Reverse(0), scenario.servers).collect(),
                waiting: VecDeque::new(),
                backlog: scenario.backlog,
                stalls: scenario.stalls.clone(),
                lost: scenario.lost.clone(),
            },
            // They are about to wrap, as they may be whenever a daemon starts.
            counters: [u32::MAX - 50; PRIORITIES as usize],
            cutoff: Cutoff::NOTHING,
            probes: Vec::new(),
            arriving: VecDeque::new(),
            outstanding: BinaryHeap::new(),
            measured: Measured::zeroed(),
            retries: BinaryHeap::new(),
            admitted: Default::default(),
            shed: Default::default(),
            trace: Trace::default(),
        }
    }

    /// Lets everything arrive that arrives from `from` to `to`, under one cutoff.
    fn advance(&mut self, from: f64, to: f64, next_probe: &mut f64) {
        let load =
            self.scenario.load.iter().rev().find(|&&(since, _)| since <= from).map_or(0.0, |&(_, load)| load);
        let gap = 1.0 / (load * self.scenario.capacity());
        let mut arrival = from + gap * self.random.exponential();
        loop {
            let retry = self.retries.peek().map_or(f64::INFINITY, |Reverse((at, ..))| f64::from_bits(*at));
            let request = self.arriving.front().map_or(f64::INFINITY, |&(at, ..)| at);
            let now = arrival.min(*next_probe).min(retry).min(request);
            if now >= to {
                return;
            }
            if now == request {
                if let Some((_, source, asked)) = self.arriving.pop_front() {
                    self.arrive(now, source, asked);
                }
            } else if now == *next_probe {
                *next_probe += self.scenario.probe_every;
                self.probe(now);
            } else if now == retry {
                if let Some(Reverse((_, source, asked))) = self.retries.pop() {
                    self.ask(now, source, asked);
                }
            } else {
                arrival += gap * self.random.exponential();
                let source = self.random.next() as usize % self.priorities.len();
                self.ask(now, source, 0);
            }
        }
    }

    /// How long a request that arrives at `now` takes a server.
    fn work(&mut self, now: f64) -> f64 {
        let (when, factor) = &self.scenario.slow;
        let mean = self.scenario.service_time * if when.contains(&now) { *factor } else { 1.0 };
        if self.scenario.varies { mean * self.random.exponential() } else { mean }
    }

    fn probe(&mut self, now: f64) {
        if self.scenario.deaf.contains(&now) || self.scenario.sensor == Sensor::Passive {
            return;
        }
        let work = self.work(now);
        let latency = self.queue.enter(now, work).unwrap_or(f64::INFINITY);
        let timeout = self.scenario.timeout();
        let (waited, outcome) = if latency < timeout.as_secs_f64() {
            (latency, Outcome::Answered(seconds(latency)))
        } else {
            (timeout.as_secs_f64(), Outcome::Failed(timeout))
        };
        self.probes.push(Probe { began: now, ends: now + waited, outcome });
        self.trace.probes.push(Request { at: now, latency, class: 0 });
    }

    fn ask(&mut self, now: f64, source: usize, asked: usize) {
        let priority = self.priorities[source];
        let class = priority / COHORTS;
        let count = &mut self.counters[priority as usize];
        *count = count.wrapping_add(1);
        let part = self.random.next() as u16;
        if self.cutoff.sheds(priority, || part) {
            self.shed[class as usize] += 1;
            self.ask_again(now, source, asked);
        } else {
            self.admitted[class as usize] += 1;
            if self.scenario.round_trip > 0.0 {
                self.arriving.push_back((now + self.scenario.round_trip, source, asked));
            } else {
                self.arrive(now, source, asked);
            }
        }
    }

    fn ask_again(&mut self, now: f64, source: usize, asked: usize) {
        if self.scenario.retries
            && let Some(pause) = RETRIES.get(asked)
        {
            self.retries.push(Reverse(((now + pause).to_bits(), source, asked + 1)));
        }
    }

    /// A request arrives at the servers.
    fn arrive(&mut self, now: f64, source: usize, asked: usize) {
        let work = self.work(now);
        let Some(latency) = self.queue.enter(now, work) else { return self.ask_again(now, source, asked) };
        let class = self.priorities[source] / COHORTS;
        self.trace.requests.push(Request { at: now, latency, class: class as u8 });
        let waits = latency.min(self.scenario.patience);
        let requests = &mut self.measured.exchanges[Exchange::Request as usize];
        *requests = requests.wrapping_add(1);
        self.outstanding.push(Reverse(((now + waits).to_bits(), now.to_bits(), waits == latency)));
        if waits < latency {
            self.ask_again(now + waits, source, asked);
        }
    }

    /// What the kernel knows at `now`.
    fn measure(&mut self, now: f64, in_flight: &mut InFlight) {
        while let Some(&Reverse((ends, began, is_answered))) = self.outstanding.peek()
            && f64::from_bits(ends) <= now
        {
            self.outstanding.pop();
            let bucket = bucket_of(seconds(f64::from_bits(ends) - f64::from_bits(began)));
            let counts = if is_answered { &mut self.measured.answered } else { &mut self.measured.abandoned };
            counts[bucket] = counts[bucket].wrapping_add(1);
        }
        in_flight.begin(self.scenario.control.interval);
        for Reverse((_, began, _)) in &self.outstanding {
            in_flight.add(seconds(now - f64::from_bits(*began)), 1);
        }
    }
}

/// The 99th percentile of the latencies of what began within `when`; nothing did: 0.
pub(super) fn p99(requests: &[Request], when: Range<f64>) -> f64 {
    let mut latencies: Vec<f64> =
        requests.iter().filter(|request| when.contains(&request.at)).map(|request| request.latency).collect();
    if latencies.is_empty() {
        return 0.0;
    }
    let rank = (latencies.len() as f64 * 0.99).ceil() as usize - 1;
    *latencies.select_nth_unstable_by(rank, f64::total_cmp).1
}

impl Trace {
    /// Requests a second that were done within `when`, whatever their latency.
    pub(super) fn goodput(&self, when: Range<f64>) -> f64 {
        let done = self.requests.iter().filter(|request| when.contains(&(request.at + request.latency)));
        done.count() as f64 / (when.end - when.start)
    }

    /// The turns within `when`.
    pub(super) fn turns_in(&self, when: Range<f64>) -> impl Iterator<Item = &Turn> {
        self.turns.iter().filter(move |turn| when.contains(&turn.at))
    }

    /// The highest ratio less the lowest within `when`.
    pub(super) fn ripple(&self, when: Range<f64>) -> f64 {
        let ratios = || self.turns_in(when.clone()).map(|turn| turn.decision.ratio);
        ratios().fold(0.0, f64::max) - ratios().fold(1.0, f64::min)
    }

    /// From `start` until the last probe sent before `end` that took longer than `limit`.
    pub(super) fn settling(&self, limit: f64, start: f64, end: f64) -> f64 {
        let late =
            self.probes.iter().filter(|probe| (start..end).contains(&probe.at) && probe.latency > limit);
        late.map(|probe| probe.at - start).fold(0.0, f64::max)
    }

    /// From `start` until the end of the last 50 ms before `end` of whose requests the 99th percentile was above `limit`.
    pub(super) fn late_until(&self, limit: f64, start: f64, end: f64) -> f64 {
        const STEP: f64 = 0.05;
        let of = |request: &Request| ((request.at - start) / STEP) as usize;
        let mut steps = vec![Vec::new(); ((end - start) / STEP).ceil() as usize];
        for request in self.requests.iter().filter(|request| (start..end).contains(&request.at)) {
            steps[of(request)].push(*request);
        }
        let last = steps.iter().rposition(|requests| p99(requests, start..end) > limit);
        last.map_or(0.0, |last| (last + 1) as f64 * STEP)
    }

    /// From `start` until the last turn that shed anything.
    pub(super) fn recovery(&self, start: f64) -> f64 {
        let shedding = self.turns.iter().filter(|turn| turn.decision.ratio > 0.0);
        shedding.map(|turn| turn.at - start).fold(0.0, f64::max)
    }
}
