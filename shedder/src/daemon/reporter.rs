//! Gathers what the endpoint tells.

use super::live::{Live, Published, Turned, lock};
use super::report::{InterfaceReport, Report, Reporter, ServiceReport};
use crate::config;
use crate::control::State as LoopState;
use crate::datapath::{Attachment, Scope, monotonic};
use arc_swap::ArcSwap;
use shedder_common::class::{COHORTS, SHED_NOTHING};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Sources are counted no more often: it reads some megabytes.
const COUNT_SOURCES_EVERY: Duration = Duration::from_secs(5);

/// Reads the pinned state and what the control thread published.
pub(super) struct LiveReporter {
    live: Arc<ArcSwap<Live>>,
    published: Arc<Mutex<Published>>,
    sources: Mutex<Option<(Instant, (u64, u64))>>,
}

impl LiveReporter {
    pub(super) fn new(live: Arc<ArcSwap<Live>>, published: Arc<Mutex<Published>>) -> LiveReporter {
        LiveReporter { live, published, sources: Mutex::new(None) }
    }

    fn sources(&self, live: &Live) -> (u64, u64) {
        let mut cached = lock(&self.sources);
        match *cached {
            Some((at, counts)) if at.elapsed() < COUNT_SOURCES_EVERY => counts,
            _ => {
                let counts = live.state.count_sources(monotonic()).unwrap_or_default();
                *cached = Some((Instant::now(), counts));
                counts
            }
        }
    }
}

impl Reporter for LiveReporter {
    fn report(&self) -> Report {
        let live = self.live.load_full();
        let now = monotonic();
        let state = &live.state;
        let (sources_tracked, sources_proven) = self.sources(&live);
        let host = state.override_of(None);
        let host_override = host.holds(now).then(|| host.permille() as f64 / 1e3);
        let kill_active = |scope| state.kill(scope).is_set() && state.kill(scope).holds(now);
        let held = state.interfaces();
        let interfaces = live.config.interfaces.iter().map(|name| {
            let held = held.iter().find(|interface| &interface.name == name);
            let whole = held.filter(|interface| interface.attachment == Attachment::Whole);
            InterfaceReport {
                name: name.clone(),
                mode: whole.map_or("detached", |interface| interface.mode.name()),
                kill_active: held.is_some_and(|interface| kill_active(Scope::Interface(interface.slot))),
                counters: held.map(|interface| state.counters(interface.slot)).unwrap_or_default(),
            }
        });
        let interfaces = interfaces.collect();
        let offered = state.offered().ok();

        let published = lock(&self.published);
        let mut not_ready = [published.drift.as_slice(), &published.preceded].concat();
        let mut services = Vec::new();
        for service in &live.config.services {
            let Some(slot) = live.slot(&service.name) else { continue };
            let turned = published.services.get(&service.name);
            let by_priority = offered.as_ref().map(|offered| offered.of(Some(slot)));
            let mut by_class = [0; 6];
            for (priority, count) in by_priority.iter().flatten().enumerate() {
                by_class[priority / COHORTS as usize] += *count as u64;
            }
            let own = state.override_of(Some(slot));
            let cutoff = [host, own].into_iter().find(|word| word.holds(now)).map(|word| word.cutoff());
            not_ready.extend(turned.and_then(|turned| unreadiness(service, turned)));
            services.push(ServiceReport {
                name: service.name.clone(),
                quantile: service.quantile,
                target: service.target,
                observed: turned.and_then(|turned| turned.decision.observed),
                signal_age: turned.and_then(|turned| turned.signal_age),
                state: turned.map_or("none", |turned| state_name(service, turned)),
                shed_ratio: turned.map_or(host_override.unwrap_or(0.0), |turned| turned.decision.ratio),
                cutoff: cutoff.unwrap_or_else(|| state.cutoff(slot).first()).min(SHED_NOTHING),
                override_active: own.holds(now),
                kill_active: kill_active(Scope::Service(slot)),
                terms: turned.map_or([0.0; 3], |turned| {
                    let terms = turned.decision.terms;
                    [terms.proportional, terms.integral, terms.derivative]
                }),
                latency: turned.map(|turned| turned.latency.clone()).unwrap_or_default(),
                failures: turned.map_or(0, |turned| turned.failures),
                offered: by_class,
                why: turned
                    .filter(|_| service.signal != config::Signal::None)
                    .and_then(|turned| turned.decision.state.why().map(|why| why.name())),
                predicted: turned.and_then(|turned| turned.decision.predicted),
                baseline: turned.and_then(|turned| turned.decision.baseline),
                rollbacks: turned.map_or(0, |turned| turned.decision.undone),
                passive: turned.and_then(|turned| turned.passive.clone()),
            });
        }
        let patience = (live.config.control.interval * 10).max(Duration::from_secs(1));
        let alive = now.saturating_sub(published.last_turn) < patience.as_nanos() as u64;
        if !alive {
            not_ready.push(format!("the control loop has not turned for {} ms", patience.as_millis()));
        }
        Report {
            interfaces,
            services,
            kill_active: kill_active(Scope::Host),
            host_override,
            dry_run: live.config.dry_run,
            lease_remaining: Duration::from_nanos(state.lease().saturating_sub(now)),
            sources_tracked,
            sources_proven,
            counters: published.counters.clone(),
            loop_lag: published.lag.clone(),
            loop_duration: published.duration.clone(),
            not_ready,
            alive,
        }
    }
}

fn state_name(service: &config::Service, turned: &Turned) -> &'static str {
    match turned.decision.state {
        LoopState::Override => LoopState::Override.name(),
        _ if service.signal == config::Signal::None => "none",
        state => state.name(),
    }
}

/// Why a service is not under control, where a signal should control it.
fn unreadiness(service: &config::Service, turned: &Turned) -> Option<String> {
    let name = &service.name;
    match turned.decision.state {
        _ if service.signal == config::Signal::None => None,
        LoopState::Running | LoopState::Override => None,
        LoopState::Holding { why, .. } => {
            Some(format!("service {name}: no signal, the last output is held: {why}"))
        }
        LoopState::Fallen { why } => Some(format!("service {name}: no signal, fallen to the posture: {why}")),
    }
}
