//! The control thread: observe, decide, act, read back, on its own clock.

use super::live::{Live, Published, Turned, count, lock};
use super::report::Histogram;
use super::signal::{Inbox, Sample};
use crate::config::{self, Posture, Signal};
use crate::control::{Decision, Distribution, Outcome, Sensor, ServiceLoop, State as LoopState, Window};
use crate::datapath::{OfferedWork, Scope, State, monotonic};
use anyhow::{Context, Result};
use shedder_common::words::{KillWord, OverrideWord};
use std::mem;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// What the main thread tells the control thread.
enum Message {
    /// This is in force now.
    Follow(Arc<Live>),
    /// End.
    Stop,
}

/// The control thread, at work. It ends when this is dropped.
pub(super) struct ControlThread {
    messages: Sender<Message>,
    thread: Option<JoinHandle<()>>,
}

impl ControlThread {
    /// Starts turning.
    pub(super) fn start(live: Arc<Live>, published: Arc<Mutex<Published>>) -> Result<ControlThread> {
        let (messages, inbox) = channel();
        let mut control = ControlLoop::new(live, published)?;
        let thread =
            thread::Builder::new().name("control".into()).spawn(move || control.turn_until_stopped(&inbox));
        Ok(ControlThread { messages, thread: Some(thread.context("cannot start the control thread")?) })
    }

    /// Goes over to a new configuration, or to new maps, at the next turn.
    pub(super) fn follow(&self, live: Arc<Live>) {
        // A thread that has ended is found by `is_alive`.
        let _ = self.messages.send(Message::Follow(live));
    }

    /// Whether it still turns, or at least has not ended.
    pub(super) fn is_alive(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }
}

impl Drop for ControlThread {
    fn drop(&mut self) {
        let _ = self.messages.send(Message::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A service under control.
struct Controlled {
    config: config::Service,
    slot: usize,
    inbox: Option<Arc<Inbox>>,
    window: Window,
    control: ServiceLoop,
    offered: Distribution,
    latency: Histogram,
    failures: u64,
    last: Option<LoopState>,
}

struct ControlLoop {
    live: Arc<Live>,
    published: Arc<Mutex<Published>>,
    offered: OfferedWork,
    all_offered: Distribution,
    services: Vec<Controlled>,
    words: Words,
    samples: Vec<Sample>,
    in_flight: Vec<Duration>,
}

impl ControlLoop {
    fn new(live: Arc<Live>, published: Arc<Mutex<Published>>) -> Result<ControlLoop> {
        Ok(ControlLoop {
            offered: live.state.offered()?,
            all_offered: Distribution::new(),
            services: controlled(&live, Vec::new()),
            words: Words::read(&live.state),
            live,
            published,
            samples: Vec::new(),
            in_flight: Vec::new(),
        })
    }

    fn turn_until_stopped(&mut self, messages: &Receiver<Message>) {
        let mut due = Instant::now();
        let watchdog = Watchdog::new();
        loop {
            let begin = Instant::now();
            let turned = self.turn();
            if let Err(error) = &turned {
                // The lease is not renewed: the data plane falls to its posture unless the next turns succeed.
                tracing::error!("a turn of the control loop failed: {error:#}");
            } else {
                watchdog.beat();
            }
            {
                let mut published = lock(&self.published);
                published.lag.observe(begin.saturating_duration_since(due).as_secs_f64());
                published.duration.observe(begin.elapsed().as_secs_f64());
                if turned.is_ok() {
                    published.last_turn = monotonic();
                }
            }
            // A turn that came late is not caught up with: the next is one interval from the schedule, or from now.
            due = (due + self.live.config.control.interval).max(begin);
            loop {
                match messages.recv_timeout(due.saturating_duration_since(Instant::now())) {
                    Err(RecvTimeoutError::Timeout) => break,
                    Ok(Message::Follow(live)) => self.follow(live),
                    Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        }
    }

    fn follow(&mut self, live: Arc<Live>) {
        match live.state.offered() {
            Ok(offered) => {
                self.offered = offered;
                let unchanged = live.config.control == self.live.config.control
                    && live.config.posture == self.live.config.posture;
                let old = mem::take(&mut self.services);
                self.services = controlled(&live, if unchanged { old } else { Vec::new() });
                self.all_offered = Distribution::new();
                self.live = live;
            }
            Err(error) => tracing::error!("cannot follow the new configuration: {error:#}"),
        }
    }

    /// One turn. The lease is renewed last, when all else is done.
    fn turn(&mut self) -> Result<()> {
        let now = monotonic();
        let live = Arc::clone(&self.live);
        let state = &live.state;
        self.note_interventions(state);

        let host = state.override_of(None);
        let host = host.holds(now).then_some(host);
        if let Some(seen) = host {
            self.all_offered.update(Duration::from_nanos(now), &self.offered.of_all()?);
            refresh(state, None, seen, &self.all_offered);
        }
        let mut verified = true;
        let mut turned = Vec::with_capacity(self.services.len());
        for service in &mut self.services {
            service.observe(&mut self.samples);
            let own = state.override_of(Some(service.slot));
            let own = own.holds(now).then_some(own);
            if service.inbox.is_some() || own.is_some() {
                service.offered.update(Duration::from_nanos(now), &self.offered.of(Some(service.slot))?);
            }
            if let Some(seen) = own {
                refresh(state, Some(service.slot), seen, &service.offered);
            }
            let person = host.or(own).map(|word| word.permille() as f64 / 1e3);
            self.in_flight.clear();
            if let Some(inbox) = &service.inbox {
                inbox.in_flight(&mut self.in_flight);
            }
            let reading = service.window.reading(Duration::from_nanos(now), &self.in_flight);
            let mut decision =
                service.control.turn(Duration::from_nanos(now), &reading, &service.offered, person);
            if matches!(decision.state, LoopState::Fallen { .. }) && live.config.posture == Posture::Closed {
                // Of this service only: the host's posture is for a daemon that is gone.
                decision.cutoff = 0;
            }
            if service.inbox.is_some() {
                // While a person's word holds, the loop's own cutoff follows it, so that its end is no jump.
                state.set_cutoff(service.slot, decision.cutoff);
                verified &= state.cutoff(service.slot) == decision.cutoff;
            }
            let observed = decision.observed.map_or(0, |latency| latency.as_nanos() as u64);
            state.report_service(service.slot, observed, now, (decision.ratio * 1e3).round() as u64);
            service.tell(&decision);
            turned.push((service.config.name.clone(), service.turned(decision, reading.age)));
        }
        let lease = now.saturating_add(live.config.lease.as_nanos() as u64);
        state.set_lease(lease);
        verified &= state.lease() == lease;

        let mut published = lock(&self.published);
        published.services = turned.into_iter().collect();
        if !verified {
            published.counters.verify_failures += 1;
        }
        Ok(())
    }

    /// Counts what people changed since the last turn.
    fn note_interventions(&mut self, state: &State) {
        let words = Words::read(state);
        if words == self.words {
            return;
        }
        let actions = words.since(&self.words);
        self.words = words;
        let mut published = lock(&self.published);
        for action in actions {
            count(&mut published.counters.human_interventions, action);
            tracing::warn!("a person's command took effect: {action}");
        }
    }
}

/// Sets an override's cutoff to what its ratio comes to now. A word that a person wrote meanwhile is left alone.
fn refresh(state: &State, service: Option<usize>, seen: OverrideWord, offered: &Distribution) {
    let new = seen.with_cutoff(offered.cutoff_for(seen.permille() as f64 / 1e3));
    if new != seen && !offered.is_empty() {
        state.refresh_override(service, seen, new);
    }
}

/// The services of a configuration, each with what it knew before where nothing of it has changed.
fn controlled(live: &Live, mut old: Vec<Controlled>) -> Vec<Controlled> {
    let control = &live.config.control;
    let under_control = live.config.services.iter().filter_map(|service| {
        let slot = live.slot(&service.name)?;
        let inbox = live.inboxes.get(&service.name).cloned();
        if let Some(at) = old.iter().position(|known| known.config == *service && known.slot == slot) {
            return Some(Controlled { inbox, offered: Distribution::new(), ..old.swap_remove(at) });
        }
        let failure = match service.signal {
            Signal::Probe { timeout, .. } => timeout.max(service.target * 5),
            Signal::Passive { .. } | Signal::Push | Signal::None => service.target * 5,
        };
        Some(Controlled {
            slot,
            inbox,
            window: Window::new(control.window, service.quantile, failure),
            control: ServiceLoop::new(
                control,
                service.target,
                Sensor::Sampled,
                live.config.posture,
                in_force(&live.state, slot),
            ),
            offered: Distribution::new(),
            latency: Histogram::new(Histogram::LATENCY),
            failures: 0,
            last: None,
            config: service.clone(),
        })
    });
    under_control.collect()
}

/// The shed ratio that an earlier daemon left in force: none once its lease has lapsed.
fn in_force(state: &State, slot: usize) -> f64 {
    let is_held = state.lease() > monotonic();
    let left = state.services().into_iter().find(|service| service.slot == slot && is_held);
    left.map_or(0.0, |service| service.entry.permille as f64 / 1e3)
}

impl Controlled {
    /// Takes in what the signal has delivered.
    fn observe(&mut self, samples: &mut Vec<Sample>) {
        let Some(inbox) = &self.inbox else { return };
        samples.clear();
        inbox.drain(samples);
        for sample in samples.iter() {
            match sample.outcome {
                Outcome::Answered(latency) => self.latency.observe(latency.as_secs_f64()),
                Outcome::Failed(_) => self.failures += 1,
            }
            self.window.push(sample.at, sample.outcome);
        }
    }

    /// Logs when the loop goes over to another state.
    fn tell(&mut self, decision: &Decision) {
        let was = self.last.replace(decision.state);
        if was.map(|state| mem::discriminant(&state)) == Some(mem::discriminant(&decision.state))
            || self.inbox.is_none()
        {
            return;
        }
        let service = &self.config.name;
        match decision.state {
            LoopState::Running => tracing::info!(service, "the loop controls"),
            LoopState::Override => {
                tracing::warn!(service, ratio = decision.ratio, "a person's override is in force")
            }
            LoopState::Holding { why, .. } => {
                tracing::warn!(service, "no signal, the last output is held: {why}")
            }
            LoopState::Fallen { why } => tracing::error!(service, "no signal, fallen to the posture: {why}"),
        }
    }

    fn turned(&self, decision: Decision, signal_age: Option<Duration>) -> Turned {
        Turned { decision, signal_age, latency: self.latency.clone(), failures: self.failures }
    }
}

/// Every word that people write.
#[derive(PartialEq, Eq)]
struct Words {
    kills: Vec<(Scope, KillWord)>,
    overrides: Vec<(Option<usize>, u64)>,
}

impl Words {
    fn read(state: &State) -> Words {
        let slots = || (0..shedder_common::abi::MAX_SERVICES).map(Some);
        let scopes = (0..shedder_common::abi::MAX_INTERFACES).map(Scope::Interface);
        let scopes =
            scopes.chain((0..shedder_common::abi::MAX_SERVICES).map(Scope::Service)).chain([Scope::Host]);
        let kills = scopes.map(|scope| (scope, state.kill(scope))).filter(|(_, word)| word.is_set());
        let overrides = slots().chain([None]).map(|slot| (slot, state.override_of(slot)));
        // The cutoff is kept up to date by this daemon; the rest of the word is the person's.
        let overrides =
            overrides.filter(|(_, word)| word.is_set()).map(|(slot, word)| (slot, word.with_cutoff(0).0));
        Words { kills: kills.collect(), overrides: overrides.collect() }
    }

    /// What was done to come here from `before`.
    fn since(&self, before: &Words) -> Vec<&'static str> {
        let mut actions = Vec::new();
        let mut compare = |new: bool, gone: bool, set: &'static str, unset: &'static str| {
            actions.extend(new.then_some(set));
            actions.extend(gone.then_some(unset));
        };
        compare(
            self.kills.iter().any(|kill| !before.kills.contains(kill)),
            before.kills.iter().any(|(scope, _)| self.kills.iter().all(|(held, _)| held != scope)),
            "kill",
            "resume",
        );
        compare(
            self.overrides.iter().any(|word| !before.overrides.contains(word)),
            before.overrides.iter().any(|(slot, _)| self.overrides.iter().all(|(held, _)| held != slot)),
            "shed",
            "auto",
        );
        actions
    }
}

/// Tells the service manager that the loop turns, where it asked to be told.
struct Watchdog {
    every: Option<Duration>,
    last: std::cell::Cell<Option<Instant>>,
}

impl Watchdog {
    fn new() -> Watchdog {
        let mut micros = 0;
        let is_wanted = sd_notify::watchdog_enabled(false, &mut micros);
        Watchdog {
            every: is_wanted.then(|| Duration::from_micros(micros) / 3),
            last: std::cell::Cell::new(None),
        }
    }

    fn beat(&self) {
        let Some(every) = self.every else { return };
        if self.last.get().is_none_or(|last| last.elapsed() >= every) {
            let _ = sd_notify::notify(false, &[sd_notify::NotifyState::Watchdog]);
            self.last.set(Some(Instant::now()));
        }
    }
}
