//! `shedder tune`: the loop's gains from a bounded experiment on live traffic.

use super::args::Tune;
use super::{Exit, Misuse, print, print_json, scope};
use crate::config::{self, Config};
use crate::control::{self, Bounds, Distribution, Failure, Relay, Sensor, Step, Swing};
use crate::datapath::{OfferedWork, Pins, Scope, State, monotonic};
use anyhow::{Context, Result, bail};
use serde_json::json;
use shedder_common::abi::Service;
use shedder_common::words::OverrideWord;
use std::path::Path;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// Between two looks at what the daemon observed.
const TURN: Duration = Duration::from_millis(10);

/// How far ahead the override's own deadline is: where this command dies, its override ends by itself.
const AHEAD: Duration = Duration::from_secs(5);

/// An observation older than this is none.
const FRESH: Duration = Duration::from_millis(500);

/// The latency that ends the experiment unless another is given, in targets and in what it was before.
const WORST: u32 = 4;

/// Runs an experiment, and prints what it found as a fragment of a configuration.
pub(super) fn tune(pins: &Pins, arguments: &Tune, json: bool) -> Result<Exit> {
    let config = match &arguments.config {
        Some(file) => config::load(file)?,
        None => Config::default(),
    };
    let state = State::open(pins)?;
    let mut experiment = Experiment::new(&state, arguments)?;
    let (low, high) = arguments.range;
    if !json {
        print(&format!(
            "service {}: shedding {low} % to {high} % in turns for at most {}; it ends at once where the latency \
             passes {:.1?}, where somebody writes another override, and at Ctrl-C\n",
            arguments.service,
            humantime::format_duration(arguments.longest),
            experiment.worst,
        ));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("cannot start the runtime")?;
    let outcome = runtime.block_on(experiment.run());
    // Whatever happened, the loop has its service back.
    experiment.end();
    let swing = outcome?;
    let [kp, ki, kd] = control::gains(&config.control, experiment.target, experiment.sensor, &swing);
    let fragment = format!(
        "# Found by `shedder tune --service {} --range {low}-{high}`: the latency swung every {:.0?} by {:.2} targets \
         either way.\n[control]\nkp = {kp:.3}\nki = {ki:.3}\nkd = {kd:.3}\n",
        arguments.service, swing.period, swing.amplitude
    );
    if let Some(file) = &arguments.output {
        write(file, &fragment)?;
    }
    if json {
        print_json(&json!({
            "action": "tune", "service": arguments.service, "period_seconds": swing.period.as_secs_f64(),
            "amplitude": swing.amplitude, "kp": kp, "ki": ki, "kd": kd,
            "output": arguments.output,
        }));
    } else {
        let written = arguments
            .output
            .as_ref()
            .map_or(String::new(), |file| format!("written to {}\n", file.display()));
        print(&format!("{fragment}{written}the experiment has ended: the loop decides again\n"));
    }
    Ok(Exit::Done)
}

/// Writes a new file; one that is there is somebody's configuration.
fn write(file: &Path, fragment: &str) -> Result<()> {
    use std::io::Write;
    let created = std::fs::File::create_new(file).and_then(|mut file| file.write_all(fragment.as_bytes()));
    created.with_context(|| format!("the result could not be written to {}:\n{fragment}", file.display()))
}

/// An experiment on one service.
struct Experiment<'a> {
    state: &'a State,
    slot: usize,
    offered: OfferedWork,
    distribution: Distribution,
    relay: Relay,
    target: Duration,
    sensor: Sensor,
    worst: Duration,
    /// The override that is in force for it.
    word: OverrideWord,
}

impl<'a> Experiment<'a> {
    /// # Errors
    /// Where the service is not under a live loop's control, or a person's word holds.
    fn new(state: &'a State, arguments: &Tune) -> Result<Experiment<'a>> {
        let (low, high) = (arguments.range.0 / 100.0, arguments.range.1 / 100.0);
        let slot = scope::service(state, &arguments.service)?;
        let now = monotonic();
        if state.lease() <= now {
            bail!("no daemon is alive to observe the latency: start `shedder run` first");
        }
        for (slot, name) in [(None, "everything"), (Some(slot), arguments.service.as_str())] {
            if state.override_of(slot).holds(now) {
                bail!("a person's override of {name} holds: end it with `shedder auto` first");
            }
        }
        for (kill, name) in [(Scope::Host, "everything"), (Scope::Service(slot), arguments.service.as_str())]
        {
            if state.kill(kill).is_set() && state.kill(kill).holds(now) {
                bail!("a kill of {name} holds: there is nothing to observe until `shedder resume`");
            }
        }
        let Some(before) = observed(state, slot, now) else { bail!(Failure::NoSignal) };
        let service = state.services().into_iter().find(|service| service.slot == slot);
        let entry = service.context("the service has just gone: run `shedder status`")?.entry;
        let target = Duration::from_nanos(entry.target);
        let is_passive = entry.signal == Service::SIGNAL_PASSIVE;
        let worst = arguments.worst.unwrap_or((target * WORST).max(before * WORST));
        if worst <= target {
            return Err(Misuse(format!(
                "--worst is {worst:.1?}, and must be above the service's target, which is {target:.1?}"
            ))
            .into());
        }
        let bounds = Bounds { low, high, worst, longest: arguments.longest };
        Ok(Experiment {
            offered: state.offered()?,
            distribution: Distribution::new(),
            relay: Relay::new(target, bounds),
            target,
            sensor: if is_passive { Sensor::Passive } else { Sensor::Sampled },
            worst,
            word: OverrideWord::NONE,
            state,
            slot,
        })
    }

    /// Turns until there is a result, or a reason for none.
    async fn run(&mut self) -> Result<Swing> {
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for signals")?;
        let mut terminate = signal(SignalKind::terminate()).context("cannot listen for signals")?;
        let mut turns = tokio::time::interval(TURN);
        loop {
            tokio::select! {
                _ = turns.tick() => {}
                _ = interrupt.recv() => bail!("interrupted: the loop decides again"),
                _ = terminate.recv() => bail!("told to end: the loop decides again"),
            }
            let now = monotonic();
            if self.state.lease() <= now {
                bail!("the daemon's lease has lapsed: the experiment is over, and the posture decides");
            }
            self.distribution.update(Duration::from_nanos(now), &self.offered.of(Some(self.slot)));
            match self.relay.turn(Duration::from_nanos(now), observed(self.state, self.slot, now)) {
                Step::Shed(ratio) => self.shed(ratio, now)?,
                Step::Done(swing) => return Ok(swing),
                Step::Failed(failure) => bail!(failure),
            }
        }
    }

    /// Puts a ratio in force, where another or none is, or its deadline comes near.
    fn shed(&mut self, ratio: f64, now: u64) -> Result<()> {
        let held = self.state.override_of(Some(self.slot));
        // The daemon keeps the cutoff up to date; the rest of the word is ours.
        if held.with_cutoff(0) != self.word.with_cutoff(0) {
            self.word = OverrideWord::NONE;
            bail!("somebody wrote another override meanwhile: it stays, and the experiment is over");
        }
        let permille = (ratio * 1000.0).round() as u32;
        let ahead = AHEAD.as_nanos() as u64;
        let is_long = self.word.deadline().is_some_and(|deadline| deadline > now + ahead / 2);
        if is_long && self.word.permille() == permille {
            return Ok(());
        }
        let word = OverrideWord::until(now + ahead, permille, self.distribution.cutoff_for(ratio));
        if !self.state.refresh_override(Some(self.slot), held, word) {
            self.word = OverrideWord::NONE;
            bail!("somebody wrote another override meanwhile: it stays, and the experiment is over");
        }
        self.word = word;
        Ok(())
    }

    /// Takes back the override, unless it is somebody else's by now.
    fn end(&self) {
        let held = self.state.override_of(Some(self.slot));
        if self.word.is_set() && held.with_cutoff(0) == self.word.with_cutoff(0) {
            self.state.refresh_override(Some(self.slot), held, OverrideWord::NONE);
        }
    }
}

/// The latency that the daemon last observed, where that is fresh.
fn observed(state: &State, slot: usize, now: u64) -> Option<Duration> {
    let entry = state.services().into_iter().find(|service| service.slot == slot)?.entry;
    let is_fresh = now.saturating_sub(entry.observed_at) < FRESH.as_nanos() as u64;
    (is_fresh && entry.observed != 0).then(|| Duration::from_nanos(entry.observed))
}
