//! What a run recorded.

use crate::cohorts::Cohorts;
use crate::scenario::{PATIENCE, Scenario};
use serde::Serialize;
use shedder_common::class::Class;
use shedder_tests::load::{Outcome, Record};
use shedder_tests::stats::quantile;
use std::net::IpAddr;
use std::ops::Range;
use std::time::Duration;

/// How long a window of time is.
pub(crate) const WINDOW: Duration = Duration::from_millis(100);

/// The classes that scenarios use, the most important first.
pub(crate) const CLASSES: [Class; 3] = [Class::Critical, Class::Normal, Class::Low];

/// One try of a user. Times count from the run's start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    pub(crate) service: usize,
    pub(crate) class: Class,
    /// Of this service; each try of one user has the same number.
    pub(crate) user: u64,
    pub(crate) attempt: u32,
    pub(crate) source: IpAddr,
    pub(crate) due: Duration,
    pub(crate) sent: Duration,
    /// From `due` on.
    pub(crate) latency: Duration,
    pub(crate) outcome: Outcome,
}

impl Request {
    pub(crate) fn of(service: usize, class: Class, record: &Record) -> Request {
        let Record { user, attempt, source, due, sent, latency, outcome, .. } = *record;
        Request { service, class, user, attempt, source, due, sent, latency, outcome }
    }
}

/// What the kernel said at one moment.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Sample {
    /// Seconds after the run's start.
    pub(crate) at: f64,
    /// Of each service.
    pub(crate) cutoffs: Vec<u32>,
    /// Packets that were shed so far, on the one interface.
    pub(crate) shed: u64,
}

/// A run.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) contender: String,
    pub(crate) requests: Vec<Request>,
    pub(crate) samples: Vec<Sample>,
    /// Of the sources.
    pub(crate) cohorts: Cohorts,
    /// CLOCK_MONOTONIC at the run's start, in nanoseconds.
    pub(crate) started: u64,
    /// Whether the load was what the scenario says: see [`fell_behind`].
    pub(crate) valid: bool,
}

/// How belated a request may leave.
const LATE: Duration = Duration::from_millis(20);

/// The share of requests that may be later than that.
const LATE_SHARE: f64 = 0.02;

/// The share of requests that left more than 20 ms after their time, or not at all.
pub(crate) fn late_share(requests: &[Request]) -> f64 {
    let late = |request: &&Request| {
        request.outcome == Outcome::NotSent || request.sent.saturating_sub(request.due) > LATE
    };
    requests.iter().filter(late).count() as f64 / requests.len().max(1) as f64
}

/// Whether this machine could not make the load: more than 2 % of the requests were late.
pub(crate) fn fell_behind(requests: &[Request]) -> bool {
    late_share(requests) > LATE_SHARE
}

/// Requests of one class that were due in a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Counts {
    /// Tries that left.
    pub(crate) offered: u64,
    /// Tries whose connection was made.
    pub(crate) admitted: u64,
    /// Tries that were answered in time.
    pub(crate) answered: u64,
    /// Tries that were not a user's first.
    pub(crate) retried: u64,
}

/// Requests to one service that were due in a window.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Window {
    /// When it begins, seconds after the run's start.
    pub(crate) at: f64,
    /// By [`CLASSES`].
    pub(crate) classes: [Counts; CLASSES.len()],
    /// Quantiles of the latency of what was admitted, milliseconds; an answer that never came counts as the clients'
    /// patience.
    pub(crate) p50: Option<f64>,
    pub(crate) p99: Option<f64>,
    /// The share of users whose first try was due in it that had an answer to any of their tries.
    pub(crate) success: Option<f64>,
}

impl Window {
    /// All classes together.
    pub(crate) fn total(&self) -> Counts {
        self.classes.iter().fold(Counts::default(), |sum, class| Counts {
            offered: sum.offered + class.offered,
            admitted: sum.admitted + class.admitted,
            answered: sum.answered + class.answered,
            retried: sum.retried + class.retried,
        })
    }
}

/// A user: all tries together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct User {
    pub(crate) class: Class,
    /// When the first try was due.
    pub(crate) due: Duration,
    /// How long the answer took, from the time of the try that was answered.
    pub(crate) answered: Option<Duration>,
}

impl Run {
    /// The users of a service, in no order.
    pub(crate) fn users(&self, service: usize) -> Vec<User> {
        let mut users = std::collections::HashMap::<u64, User>::new();
        for request in self.of(service) {
            let Request { class, due, .. } = *request;
            let user = users.entry(request.user).or_insert(User { class, due, answered: None });
            user.due = user.due.min(due);
            if request.outcome == Outcome::Answered {
                user.answered = Some(request.latency);
            }
        }
        users.into_values().collect()
    }

    /// The requests to a service that left.
    pub(crate) fn of(&self, service: usize) -> impl Iterator<Item = &Request> {
        self.requests.iter().filter(move |request| request.service == service && request.outcome.offered())
    }

    /// The requests to a service, in windows of [`WINDOW`].
    pub(crate) fn windows(&self, scenario: &Scenario, service: usize) -> Vec<Window> {
        let count = index(scenario.length());
        let at = |index: usize| (WINDOW * index as u32).as_secs_f64();
        let mut windows: Vec<Window> =
            (0..count).map(|index| Window { at: at(index), ..Window::default() }).collect();
        let mut latencies = vec![Vec::new(); count];
        for request in self.of(service) {
            let Some(window) = windows.get_mut(index(request.due)) else { continue };
            let class = CLASSES.iter().position(|class| *class == request.class).unwrap_or(CLASSES.len() - 1);
            let counts = &mut window.classes[class];
            counts.offered += 1;
            counts.admitted += u64::from(request.outcome.admitted());
            counts.answered += u64::from(request.outcome == Outcome::Answered);
            counts.retried += u64::from(request.attempt > 0);
            if request.outcome.admitted() {
                let latency = if request.outcome == Outcome::Answered { request.latency } else { PATIENCE };
                latencies[index(request.due)].push(latency.min(PATIENCE));
            }
        }
        let mut users = vec![(0u64, 0u64); count];
        for user in self.users(service) {
            if let Some((all, answered)) = users.get_mut(index(user.due)) {
                *all += 1;
                *answered += u64::from(user.answered.is_some());
            }
        }
        for ((window, latencies), (all, answered)) in windows.iter_mut().zip(&mut latencies).zip(users) {
            latencies.sort_unstable();
            let milliseconds = |latency: Duration| latency.as_secs_f64() * 1e3;
            window.p50 = quantile(latencies, 0.5).map(milliseconds);
            window.p99 = quantile(latencies, 0.99).map(milliseconds);
            window.success = (all > 0).then(|| answered as f64 / all as f64);
        }
        windows
    }
}

/// The window that a time is in.
pub(crate) fn index(at: Duration) -> usize {
    shedder_tests::stats::window(at, WINDOW)
}

/// The windows that lie in some time.
pub(crate) fn indices(when: &Range<Duration>) -> Range<usize> {
    index(when.start)..index(when.end)
}
