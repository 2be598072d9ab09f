//! The control thread: observe, decide, act, read back, on its own clock.

use super::live::{Live, Published, Turned, count, lock};
use super::passive::Passive;
use super::report::Histogram;
use super::signal::{Inbox, Sample};
use crate::config::{self, Posture, Signal};
use crate::control::{
    Applied, Decision, Distribution, Outcome, Reading, Sensor, ServiceLoop, State as LoopState, Window,
};
use crate::datapath::{Measurements, OfferedWork, Scope, State, monotonic};
use anyhow::{Context, Result};
use shedder_common::abi::{MAX_INTERFACES, MAX_SERVICES};
use shedder_common::class::Cutoff;
use shedder_common::words::{KillWord, OverrideWord, ReflexWord};
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
    /// None: the signal is no passive one.
    passive: Option<Passive>,
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
    /// None: no service has a passive signal.
    measurements: Option<Measurements>,
    all_offered: Distribution,
    services: Vec<Controlled>,
    words: Words,
    samples: Vec<Sample>,
    in_flight: Vec<Duration>,
}

impl ControlLoop {
    fn new(live: Arc<Live>, published: Arc<Mutex<Published>>) -> Result<ControlLoop> {
        let services = controlled(&live, Vec::new());
        Ok(ControlLoop {
            offered: live.state.offered()?,
            measurements: measurements(&live)?,
            all_offered: Distribution::new(),
            words: Words::read(&live.state, &services),
            services,
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
            self.turn();
            watchdog.beat();
            {
                let mut published = lock(&self.published);
                published.lag.observe(begin.saturating_duration_since(due).as_secs_f64());
                published.duration.observe(begin.elapsed().as_secs_f64());
                published.last_turn = monotonic();
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
        self.note_interventions();
        match live.state.offered().and_then(|offered| Ok((offered, measurements(&live)?))) {
            Ok((offered, measurements)) => {
                (self.offered, self.measurements) = (offered, measurements);
                let unchanged = live.config.control == self.live.config.control
                    && live.config.posture == self.live.config.posture;
                let old = mem::take(&mut self.services);
                self.services = controlled(&live, if unchanged { old } else { Vec::new() });
                self.all_offered = Distribution::new();
                // Those of a service that is not there any more are no command of a person's.
                self.words = Words::read(&live.state, &self.services);
                self.live = live;
            }
            Err(error) => tracing::error!("cannot follow the new configuration: {error:#}"),
        }
    }

    /// One turn. The lease is renewed last, when all else is done.
    fn turn(&mut self) {
        let now = monotonic();
        let live = Arc::clone(&self.live);
        let state = &live.state;
        self.note_interventions();

        let host = state.override_of(None);
        let host = host.holds(now).then_some(host);
        if let Some(seen) = host {
            self.all_offered.update(Duration::from_nanos(now), &self.offered.of_all());
            refresh(state, None, seen, &self.all_offered);
        }
        let mut verified = true;
        let mut turned = Vec::with_capacity(self.services.len());
        let since_boot = Duration::from_nanos(now);
        let entries = self.find_in_flight(now);
        for service in &mut self.services {
            service.observe(since_boot, &mut self.samples);
            let own = state.override_of(Some(service.slot));
            let own = own.holds(now).then_some(own);
            if service.has_signal() || own.is_some() {
                service.offered.update(Duration::from_nanos(now), &self.offered.of(Some(service.slot)));
            }
            if let Some(seen) = own {
                refresh(state, Some(service.slot), seen, &service.offered);
            }
            let person = host.or(own).map(|word| word.permille() as f64 / 1e3);
            let reading = match &self.measurements {
                Some(measurements) if service.passive.is_some() => {
                    service.note_reflex(state);
                    service.measure(since_boot, measurements)
                }
                _ => service.read_window(since_boot, &mut self.in_flight),
            };
            let mut decision = service.control.turn(since_boot, &reading, &service.offered, person);
            if matches!(decision.state, LoopState::Fallen { .. }) && live.config.posture == Posture::Closed {
                // Of this service only: the host's posture is for a daemon that is gone.
                decision.cutoff = Cutoff::at(0);
            }
            if service.has_signal() {
                // While a person's word holds, the loop's own cutoff follows it, so that its end is no jump.
                state.set_cutoff(service.slot, decision.cutoff);
                verified &= state.cutoff(service.slot) == decision.cutoff;
            }
            service.arm(since_boot, state, &live.config.control, &reading, &decision, entries);
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
    }

    /// Finds what waits for each service with a passive signal, in one scan for all. Answers with how much of the table of
    /// flows is taken.
    fn find_in_flight(&mut self, now: u64) -> usize {
        let Some(measurements) = &self.measurements else { return 0 };
        let mut by_slot: [Option<&mut Passive>; MAX_SERVICES] = [const { None }; MAX_SERVICES];
        for service in &mut self.services {
            if let Some(passive) = &mut service.passive {
                passive.begin(Duration::from_nanos(now));
                by_slot[service.slot] = Some(passive);
            }
        }
        measurements.outstanding(now, |waits| {
            if let Some(Some(passive)) = by_slot.get_mut(waits.service) {
                passive.add(Duration::from_nanos(now), waits);
            }
        });
        by_slot.iter().flatten().map(|passive| passive.entries()).sum()
    }

    /// Counts what people changed since the last turn.
    fn note_interventions(&mut self) {
        let words = Words::read(&self.live.state, &self.services);
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

/// What the kernel measures, where anything is to be measured.
fn measurements(live: &Live) -> Result<Option<Measurements>> {
    let is_measured = live.config.services.iter().any(|service| service.signal.is_passive());
    is_measured.then(|| live.state.measurements()).transpose()
}

/// The services of a configuration, each with what it knew before where nothing of it has changed.
fn controlled(live: &Live, mut old: Vec<Controlled>) -> Vec<Controlled> {
    let control = &live.config.control;
    let under_control = live.config.services.iter().filter_map(|service| {
        let slot = live.slot(&service.name)?;
        let inbox = live.inboxes.get(&service.name).cloned();
        if let Some(at) = old.iter().position(|known| known.config == *service && known.slot == slot) {
            let mut known = old.swap_remove(at);
            if let Some(passive) = &mut known.passive {
                passive.restart();
            }
            return Some(Controlled { inbox, offered: Distribution::new(), ..known });
        }
        let is_passive = service.signal.is_passive();
        let failure = match service.signal {
            Signal::Probe { timeout, .. } => timeout.max(service.target * 5),
            Signal::Passive { .. } | Signal::Push | Signal::None => service.target * 5,
        };
        Some(Controlled {
            slot,
            inbox,
            passive: is_passive.then(|| Passive::new(control, service, live.state.measured_share(slot))),
            window: Window::new(control.window, service.quantile, failure),
            control: ServiceLoop::new(
                control,
                service.target,
                if is_passive { Sensor::Passive } else { Sensor::Sampled },
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
    /// Whether there is anything to control by.
    fn has_signal(&self) -> bool {
        self.inbox.is_some() || self.passive.is_some()
    }

    /// Takes in what the signal has delivered.
    fn observe(&mut self, now: Duration, samples: &mut Vec<Sample>) {
        let Some(inbox) = &self.inbox else { return };
        samples.clear();
        inbox.drain(samples);
        self.window.refuse(now, inbox.take_refused());
        for sample in samples.iter() {
            match sample.outcome {
                Outcome::Answered(latency) => self.latency.observe(latency.as_secs_f64()),
                Outcome::Failed(_) => self.failures += 1,
            }
            self.window.hear(now, sample.at, sample.outcome);
        }
    }

    /// What probes or the application say.
    fn read_window(&mut self, now: Duration, in_flight: &mut Vec<Duration>) -> Reading {
        in_flight.clear();
        if let Some(inbox) = &self.inbox {
            inbox.in_flight(in_flight);
        }
        self.window.reading(now, in_flight)
    }

    /// What the kernel measured.
    fn measure(&mut self, now: Duration, measurements: &Measurements) -> Reading {
        let Some(passive) = &mut self.passive else { return Reading::default() };
        let measured = measurements.of(self.slot);
        let applied = Applied {
            share: passive.share(),
            admitted: self.control.admitted(),
            baseline: self.control.baseline(),
        };
        passive.turn(now, measured, applied, &mut self.latency, &mut self.failures)
    }

    /// Goes on from where the kernel's reflex has gone since the last turn.
    fn note_reflex(&mut self, state: &State) {
        let (word, late) = state.reflex(self.slot);
        if let Some(passive) = &mut self.passive
            && word.is_tripped_by(late)
        {
            passive.tripped();
            self.control.tripped(word.cutoff(), &self.offered);
            tracing::warn!(service = self.config.name, late, "answers far too late: the reflex shed");
        }
    }

    /// Sets what the kernel goes by until the next turn: its reflex, and which flows it measures.
    fn arm(
        &mut self,
        now: Duration,
        state: &State,
        control: &config::Control,
        reading: &Reading,
        decision: &Decision,
        entries: usize,
    ) {
        let Some(passive) = &mut self.passive else { return };
        let word = if decision.state == LoopState::Running {
            let answers = reading.queue.map_or(0.0, |queue| queue.answers) * passive.share();
            let answers = answers * control.interval.as_secs_f64();
            self.control.reflex(control.reflex, self.config.quantile, answers, reading, &self.offered)
        } else {
            ReflexWord::NONE
        };
        state.set_reflex(self.slot, word);
        let before = passive.share();
        let share = passive.sample(now, entries);
        if share != before {
            tracing::info!(service = self.config.name, share, "another share of the flows is measured");
            state.set_measured_share(self.slot, share);
        }
    }

    /// Logs when the loop goes over to another state.
    fn tell(&mut self, decision: &Decision) {
        let was = self.last.replace(decision.state);
        if was.map(|state| mem::discriminant(&state)) == Some(mem::discriminant(&decision.state))
            || !self.has_signal()
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
        let passive = self.passive.as_ref().map(Passive::report);
        Turned { decision, signal_age, latency: self.latency.clone(), failures: self.failures, passive }
    }
}

/// Every word that people write, of what there is.
#[derive(PartialEq, Eq)]
struct Words {
    kills: Vec<(Scope, KillWord)>,
    overrides: Vec<(Option<usize>, u64)>,
}

impl Words {
    fn read(state: &State, services: &[Controlled]) -> Words {
        let slots = || services.iter().map(|service| service.slot);
        let scopes = (0..MAX_INTERFACES).map(Scope::Interface);
        let scopes = scopes.chain(slots().map(Scope::Service)).chain([Scope::Host]);
        let kills = scopes.map(|scope| (scope, state.kill(scope))).filter(|(_, word)| word.is_set());
        let overrides = slots().map(Some).chain([None]).map(|slot| (slot, state.override_of(slot)));
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
