//! The main thread: brings the daemon up, keeps what is in force as it is desired, reloads, and ends.

use super::control_loop::ControlThread;
use super::fence::Fence;
use super::http;
use super::live::{Live, Published, count, lock};
use super::reporter::LiveReporter;
use super::signal::{self, Signals};
use super::source::ConfigSource;
use crate::config::{self, Config};
use crate::datapath::{Datapath, InterfaceState, Pins, Scope, State, monotonic};
use anyhow::{Context, Result, bail};
use arc_swap::ArcSwap;
use nix::sys::signal::{SigSet, Signal};
use sd_notify::NotifyState;
use std::future::pending;
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal as unix_signal};

/// How often desired and actual are compared. An interface that comes back is held within this, and the load.
const RECONCILE: Duration = Duration::from_millis(200);

/// What the main thread waits for.
enum Event {
    Reload,
    End(&'static str),
}

/// Runs the daemon until it is told to end.
///
/// # Errors
/// A sentence: what could not be had. Nothing is left attached then that was not before.
pub fn run(pins: Pins, config: Config, source: ConfigSource) -> Result<()> {
    // An overloaded host must not starve what relieves it. Without the privilege it runs as it is.
    set_priority(-10);
    let datapath = Datapath::claim(&pins)?;
    // Behind the claim: of two daemons on the same pins, the second is told that there is a first.
    let listener = config.endpoint.listen.map(listen).transpose()?;
    if is_pushed(&config) {
        signal::make_directory(&config.endpoint.push)?;
    }
    let fence = Fence::complete(&pins, &config.endpoint.push)?;
    // Every thread is started behind the fence. Those that answer others have no more priority than others.
    let mut runtime = Builder::new_multi_thread();
    runtime.worker_threads(2).thread_name("runtime").on_thread_start(|| set_priority(0)).enable_all();
    let runtime = runtime.build().context("cannot start the runtime")?;
    let events = listen_for_events(&runtime)?;
    // For the runtime's threads alone: the verifier gives up where a signal comes to the thread that loads.
    [Signal::SIGHUP, Signal::SIGTERM, Signal::SIGINT]
        .into_iter()
        .collect::<SigSet>()
        .thread_block()
        .context("cannot block signals")?;
    if is_pushed(&config) {
        datapath.note_socket(&config.endpoint.push)?;
    }
    let mut signals = Signals::start(&config, runtime.handle())?;
    let state = datapath.install(&config)?;
    for interface in state.interfaces() {
        tracing::info!(
            interface = interface.name,
            mode = interface.mode.name(),
            dry_run = interface.dry_run,
            "attached"
        );
    }

    let live = Arc::new(ArcSwap::from_pointee(make_live(config, state, &signals)));
    let published = Arc::new(Mutex::new(Published::new()));
    let control = ControlThread::start(live.load_full(), Arc::clone(&published))?;
    if let Some(listener) = listener {
        tracing::info!("metrics and health at http://{}/", listener.local_addr()?);
        let listener = {
            let _guard = runtime.enter();
            TcpListener::from_std(listener)?
        };
        let reporter = Arc::new(LiveReporter::new(Arc::clone(&live), Arc::clone(&published)));
        runtime.spawn(http::serve(listener, reporter, pending()));
    }
    let _ = sd_notify::notify(false, &[NotifyState::Ready]);

    let mut supervisor = Supervisor { datapath, live, published, control, source, fence };
    let why = supervisor.supervise(&events, &mut signals)?;
    // With its socket, before that is forgotten.
    drop(signals);
    supervisor.end(why)
}

/// Sets the priority of the calling thread, and of those that it starts.
fn set_priority(nice: i32) {
    // SAFETY: no memory is involved.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) };
}

/// Opens the endpoint's socket, on a runtime that lives no longer: the threads of the lasting one come later.
fn listen(address: SocketAddr) -> Result<std::net::TcpListener> {
    let runtime = Builder::new_current_thread().enable_io().build().context("cannot start the runtime")?;
    Ok(runtime.block_on(http::bind(address))?.into_std()?)
}

fn is_pushed(config: &Config) -> bool {
    config.services.iter().any(|service| service.signal == config::Signal::Push)
}

fn listen_for_events(runtime: &Runtime) -> Result<Receiver<Event>> {
    let (sender, events) = channel();
    let _guard = runtime.enter();
    let listen = |kind| unix_signal(kind).context("cannot listen for signals");
    let mut hangup = listen(SignalKind::hangup())?;
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    runtime.spawn(async move {
        loop {
            let event = tokio::select! {
                _ = hangup.recv() => Event::Reload,
                _ = terminate.recv() => Event::End("SIGTERM"),
                _ = interrupt.recv() => Event::End("SIGINT"),
            };
            if sender.send(event).is_err() {
                return;
            }
        }
    });
    Ok(events)
}

fn make_live(config: Config, state: State, signals: &Signals) -> Live {
    let inbox = |name: &String| signals.inbox(name).map(|inbox| (name.clone(), Arc::clone(inbox)));
    Live {
        inboxes: config.services.iter().filter_map(|service| inbox(&service.name)).collect(),
        config,
        state,
    }
}

struct Supervisor {
    datapath: Datapath,
    live: Arc<ArcSwap<Live>>,
    published: Arc<Mutex<Published>>,
    control: ControlThread,
    source: ConfigSource,
    fence: Fence,
}

impl Supervisor {
    /// Keeps going until told to end. Returns what told it.
    fn supervise(&mut self, events: &Receiver<Event>, signals: &mut Signals) -> Result<&'static str> {
        loop {
            match events.recv_timeout(RECONCILE) {
                Ok(Event::End(why)) => return Ok(why),
                Ok(Event::Reload) => self.reload(signals),
                Err(RecvTimeoutError::Timeout) => self.reconcile(signals),
                Err(RecvTimeoutError::Disconnected) => {
                    bail!("the runtime has ended: what is in force stays in force")
                }
            }
            if !self.control.is_alive() {
                bail!(
                    "the control thread has ended: limits and kills stay in force, and the posture decides the rest"
                );
            }
        }
    }

    /// Puts another configuration, or another set of maps, in force everywhere.
    fn follow(&self, config: Config, state: State, signals: &Signals) {
        // Where the pins were removed, the note was too.
        if is_pushed(&config)
            && let Err(error) = self.datapath.note_socket(&config.endpoint.push)
        {
            tracing::warn!("{error:#}: `shedder detach` will not find it, should this daemon be killed");
        }
        let live = Arc::new(make_live(config, state, signals));
        self.live.store(Arc::clone(&live));
        self.control.follow(live);
    }

    /// Reads the configuration again. Where anything about it is wrong, the old one stays in force.
    fn reload(&mut self, signals: &mut Signals) {
        if let Ok(now) = NotifyState::monotonic_usec_now() {
            let _ = sd_notify::notify(false, &[NotifyState::Reloading, now]);
        }
        let old = self.live.load_full();
        let reloaded = (|| {
            let config = self.source.load()?;
            if config.endpoint.listen != old.config.endpoint.listen {
                bail!("endpoint.listen cannot change at a reload: restart the daemon for that");
            }
            if is_pushed(&config) && !self.fence.admits(&config.endpoint.push) {
                bail!(
                    "endpoint.push lies where this daemon may write nothing since its start: restart it for that"
                );
            }
            if is_pushed(&config) {
                self.datapath.note_socket(&config.endpoint.push)?;
            }
            signals.reconfigure(&config)?;
            let state = self.datapath.reinstall(&config, &old.state)?;
            anyhow::Ok((config, state))
        })();
        match reloaded {
            Ok((config, state)) => {
                self.follow(config, state, signals);
                lock(&self.published).counters.config_reloads += 1;
                tracing::info!("the new configuration is in force");
            }
            Err(error) => {
                self.go_back(&old, signals);
                lock(&self.published).counters.config_reload_failures += 1;
                tracing::error!("the new configuration is refused, the old one stays in force: {error:#}");
            }
        }
        let _ = sd_notify::notify(false, &[NotifyState::Ready]);
    }

    /// Observes again what it did before a reload that was refused: signals that had changed begin anew.
    fn go_back(&self, old: &Live, signals: &mut Signals) {
        let reopened = signals.reconfigure(&old.config).and_then(|()| State::open(old.state.pins()));
        match reopened {
            Ok(state) => self.follow(old.config.clone(), state, signals),
            Err(error) => tracing::error!("cannot go back to the old signals: {error:#}"),
        }
    }

    /// Compares what is desired with what the kernel holds, and mends.
    fn reconcile(&mut self, signals: &Signals) {
        let live = self.live.load_full();
        let is_pinned = self.datapath.holds(&live.state);
        let held = live.state.interfaces();
        let mut drift = self.datapath.drift(&held, &live.config);
        if !is_pinned {
            drift.push("the pinned maps were removed or exchanged".into());
        }
        let is_new = lock(&self.published).drift != drift;
        if !drift.is_empty() {
            if is_new {
                tracing::warn!("not as configured: {}", drift.join("; "));
            }
            match self.repair(&live, is_pinned, signals) {
                Ok(()) => {
                    tracing::warn!("put right: {}", drift.join("; "));
                    drift.clear();
                }
                Err(error) if is_new => tracing::error!("cannot be put right yet: {error:#}"),
                Err(_) => {}
            }
        }
        // Nothing is done about it but where a person attaches or reloads: two that each put theirs first would never end.
        let preceded = held.iter().filter_map(InterfaceState::preceded).collect::<Vec<_>>();
        let mut published = lock(&self.published);
        published.drift = drift;
        if published.preceded != preceded {
            preceded.iter().for_each(|why| tracing::warn!("{why}"));
            published.preceded = preceded;
        }
    }

    /// Puts in force again what is configured: with what is pinned where that is enough, else anew.
    fn repair(&mut self, live: &Live, is_pinned: bool, signals: &Signals) -> Result<()> {
        let published = Arc::clone(&self.published);
        let repaired = |kind| count(&mut lock(&published).counters.reconcile_repairs, kind);
        if is_pinned {
            let (held, all) = self.datapath.hold_again(&live.state, &live.config);
            if held > 0 {
                repaired("attach");
            }
            if all.is_ok() {
                return Ok(());
            }
        }
        let state = self.datapath.reinstall(&live.config, &live.state)?;
        repaired(if is_pinned { "attach" } else { "map" });
        self.follow(live.config.clone(), state, signals);
        Ok(())
    }

    /// Ends in good order: detaches, unless a kill holds or the configuration says that the programs stay.
    fn end(self, why: &str) -> Result<()> {
        let _ = sd_notify::notify(false, &[NotifyState::Stopping]);
        drop(self.control);
        let live = self.live.load_full();
        let is_killed = any_kill(&live.state);
        if is_killed || live.config.persist {
            // Shedding goes over to its posture at once.
            live.state.set_lease(monotonic());
            let because = if is_killed { "a kill is in force" } else { "`persist` is set" };
            tracing::warn!("{why}: ending, and everything stays attached, because {because}");
            return Ok(());
        }
        tracing::info!("{why}: detaching");
        self.datapath.detach(&[]).map(drop)
    }
}

fn any_kill(state: &State) -> bool {
    let now = monotonic();
    let interfaces = state.interfaces().into_iter().map(|interface| Scope::Interface(interface.slot));
    let services = state.services().into_iter().map(|service| Scope::Service(service.slot));
    let mut scopes = [Scope::Host].into_iter().chain(interfaces).chain(services);
    scopes.any(|scope| state.kill(scope).is_set() && state.kill(scope).holds(now))
}
