//! What the daemon's threads share.

use super::report::{DaemonCounters, Histogram, PassiveReport};
use super::signal::Inbox;
use crate::config::Config;
use crate::control::Decision;
use crate::datapath::State;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What is in force: replaced whole, at a reload and when what was pinned had to be made anew.
pub(super) struct Live {
    pub(super) config: Config,
    pub(super) state: State,
    /// By name of the service.
    pub(super) inboxes: BTreeMap<String, Arc<Inbox>>,
}

impl Live {
    /// The slot of a service of the configuration.
    pub(super) fn slot(&self, service: &str) -> Option<usize> {
        self.state.services().into_iter().find(|known| known.name == service).map(|known| known.slot)
    }
}

/// What the control thread and the main thread tell the reporter.
pub(super) struct Published {
    /// By name of the service.
    pub(super) services: BTreeMap<String, Turned>,
    /// When the last turn ended, in nanoseconds of CLOCK_MONOTONIC.
    pub(super) last_turn: u64,
    pub(super) lag: Histogram,
    pub(super) duration: Histogram,
    pub(super) counters: DaemonCounters,
    /// What the last reconciliation found wanting.
    pub(super) drift: Vec<String>,
    /// Where somebody else's program is before ours on the way out.
    pub(super) preceded: Vec<String>,
}

/// What the last turn made of a service.
#[derive(Clone)]
pub(super) struct Turned {
    pub(super) decision: Decision,
    pub(super) signal_age: Option<Duration>,
    pub(super) latency: Histogram,
    pub(super) failures: u64,
    /// None: the signal is no passive one.
    pub(super) passive: Option<PassiveReport>,
}

impl Published {
    pub(super) fn new() -> Published {
        Published {
            services: BTreeMap::new(),
            last_turn: 0,
            lag: Histogram::new(Histogram::LOOP),
            duration: Histogram::new(Histogram::LOOP),
            counters: DaemonCounters {
                human_interventions: ["kill", "resume", "shed", "auto"].map(|action| (action, 0)).to_vec(),
                reconcile_repairs: ["attach", "map"].map(|kind| (kind, 0)).to_vec(),
                ..DaemonCounters::default()
            },
            drift: Vec::new(),
            preceded: Vec::new(),
        }
    }
}

/// Adds one to the counter of this name.
pub(super) fn count(counters: &mut [(&'static str, u64)], name: &str) {
    if let Some((_, count)) = counters.iter_mut().find(|(known, _)| *known == name) {
        *count += 1;
    }
}

/// Locks; what is behind a lock here is whole between any two statements, also after a panic.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
