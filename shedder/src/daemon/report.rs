//! What the daemon knows, gathered for whoever asks: metrics, health, status.

use crate::control::Queue;
use shedder_common::abi::{EXCHANGES, InterfaceCounters};
use std::time::Duration;

/// Gathers a report. May take some milliseconds, and is never called from the control loop.
pub trait Reporter: Send + Sync + 'static {
    /// What is known at this moment.
    fn report(&self) -> Report;
}

/// What the daemon knows at one moment.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Every interface of the configuration.
    pub interfaces: Vec<InterfaceReport>,
    /// Every service of the configuration.
    pub services: Vec<ServiceReport>,
    /// Whether a kill of the whole host holds.
    pub kill_active: bool,
    /// Whether a person's override of everything holds, and its shed ratio.
    pub host_override: Option<f64>,
    /// Whether the programs drop nothing.
    pub dry_run: bool,
    /// Until the lease lapses; zero where it has.
    pub lease_remaining: Duration,
    /// Sources with live state in the tables of buckets.
    pub sources_tracked: u64,
    /// Proven sources that are remembered.
    pub sources_proven: u64,
    /// Since the daemon's start.
    pub counters: DaemonCounters,
    /// How late each turn of the control loop began.
    pub loop_lag: Histogram,
    /// How long each turn of the control loop took.
    pub loop_duration: Histogram,
    /// Why the daemon is not ready; empty: it is. Each is a sentence.
    pub not_ready: Vec<String>,
    /// Whether the control loop turned within the last second or ten intervals, whichever is longer.
    pub alive: bool,
}

/// One interface.
#[derive(Clone, Debug)]
pub struct InterfaceReport {
    /// Its name.
    pub name: String,
    /// `native`, `generic` or `detached`.
    pub mode: &'static str,
    /// Whether a kill of this interface (not of the host) holds.
    pub kill_active: bool,
    /// Its counters, summed over the CPUs.
    pub counters: InterfaceCounters,
}

/// One service.
#[derive(Clone, Debug)]
pub struct ServiceReport {
    /// Its name.
    pub name: String,
    /// The quantile of `observed`.
    pub quantile: f64,
    /// The latency that the loop aims at.
    pub target: Duration,
    /// The latency that the loop last saw.
    pub observed: Option<Duration>,
    /// Since the signal was last heard of; none: never.
    pub signal_age: Option<Duration>,
    /// `running`, `holding`, `fallen` (to the posture), `override` or `none` (no signal configured).
    pub state: &'static str,
    /// The fraction of offered work that is to be shed, 0 to 1: the loop's, or a person's where an override holds.
    pub shed_ratio: f64,
    /// The first priority that is shed, 0 to 768.
    pub cutoff: u32,
    /// Whether a person's override of this service holds.
    pub override_active: bool,
    /// Whether a kill of this service holds.
    pub kill_active: bool,
    /// Terms of the last output: proportional, integral, derivative.
    pub terms: [f64; 3],
    /// Every latency that was observed.
    pub latency: Histogram,
    /// Observations that were failures: no answer, a status of 500 or above.
    pub failures: u64,
    /// Work offered since the programs were loaded, by class.
    pub offered: [u64; 6],
    /// Why the loop goes by no signal, by a name of [`Why::NAMES`](crate::control::Why::NAMES); none: it has one.
    pub why: Option<&'static str>,
    /// What a request that arrives now will take at `quantile`, which is what the loop goes by; none: not known.
    pub predicted: Option<Duration>,
    /// The latency without a queue, at `quantile`; none: not known.
    pub baseline: Option<Duration>,
    /// Rises of the shed ratio that were undone because they did harm, since the loop began.
    pub rollbacks: u64,
    /// What a passive signal tells besides; none: the signal is of another kind.
    pub passive: Option<PassiveReport>,
}

/// The quantiles of the answers' latencies that are told of a passive signal.
pub const QUANTILES: [f64; 3] = [0.5, 0.9, 0.99];

/// What the programs saw of one service. Rates and what is in flight are scaled up where not all flows are measured; the
/// exchanges are as they were counted.
#[derive(Clone, Debug)]
pub struct PassiveReport {
    /// The moment's; none: it has just begun.
    pub queue: Option<Queue>,
    /// The fraction of flows that is measured, above 0 to 1.
    pub share: f64,
    /// Latencies of the answers of the last 10 to 20 s, at the quantiles of [`QUANTILES`]; none: there were none.
    pub recent: [Option<Duration>; QUANTILES.len()],
    /// Connections that were asked for and not agreed to yet.
    pub connecting: u64,
    /// Connections that were asked for and not agreed to within the deadline, since the daemon's start.
    pub syns_unanswered: u64,
    /// By [`Exchange`](shedder_common::abi::Exchange), since the daemon's start.
    pub exchanges: [u64; EXCHANGES],
    /// Requests that ended without an answer, since the daemon's start.
    pub abandoned: u64,
    /// Turns that found the reflex tripped, since the daemon's start.
    pub reflex_trips: u64,
}

/// What the daemon did.
#[derive(Clone, Debug, Default)]
pub struct DaemonCounters {
    /// Commands of people that the daemon saw take effect, by action: `kill`, `resume`, `shed`, `auto`.
    pub human_interventions: Vec<(&'static str, u64)>,
    /// Reloads that were refused.
    pub config_reload_failures: u64,
    /// Reloads that took effect.
    pub config_reloads: u64,
    /// Drift that was mended, by kind: `attach`, `link`, `map`.
    pub reconcile_repairs: Vec<(&'static str, u64)>,
    /// Read-backs that did not show what was written.
    pub verify_failures: u64,
}

/// A cumulative histogram of seconds, with fixed bounds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histogram {
    bounds: &'static [f64],
    counts: Vec<u64>,
    sum: f64,
}

impl Histogram {
    /// Bounds for latencies of services: 100 us to 60 s.
    pub const LATENCY: &'static [f64] = &[
        0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
        10.0, 30.0, 60.0,
    ];
    /// Bounds for the loop's own time: 10 us to 1 s.
    pub const LOOP: &'static [f64] = &[
        0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1,
        1.0,
    ];

    /// An empty histogram with these upper bounds, in ascending order.
    pub fn new(bounds: &'static [f64]) -> Histogram {
        Histogram { bounds, counts: vec![0; bounds.len() + 1], sum: 0.0 }
    }

    /// Counts `seconds`, which must be finite.
    pub fn observe(&mut self, seconds: f64) {
        self.observe_many(seconds, 1);
    }

    /// Counts `seconds`, which must be finite, `count` times.
    pub fn observe_many(&mut self, seconds: f64, count: u64) {
        let bucket = self.bounds.partition_point(|&bound| bound < seconds);
        self.counts[bucket] += count;
        self.sum += seconds * count as f64;
    }

    /// Each bucket's upper bound (the last is infinite) and its own count, not cumulated.
    pub fn buckets(&self) -> impl Iterator<Item = (f64, u64)> + '_ {
        let bounds = self.bounds.iter().copied().chain([f64::INFINITY]);
        bounds.zip(self.counts.iter().copied())
    }

    /// The sum of all that was counted.
    pub fn sum(&self) -> f64 {
        self.sum
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}
