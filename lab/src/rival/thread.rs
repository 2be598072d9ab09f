//! The loop that turns rivals, as the daemon's turns shedder.

use super::eyes::Eyes;
use super::{Controller, Memory};
use anyhow::{Context, Result};
use shedder::datapath::{State, monotonic};
use shedder_common::class::SHED_NOTHING;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

/// How long what a loop wrote holds without it.
const LEASE: Duration = Duration::from_secs(2);

/// Writes a cutoff, and renews the lease without which the programs do not obey it.
fn write(state: &State, service: usize, cutoff: u32) {
    state.set_cutoff(service, cutoff);
    state.set_lease(monotonic().saturating_add(LEASE.as_nanos() as u64));
}

/// Controllers at work, one for each service. Dropped, they end, and nothing is shed.
pub(crate) struct RivalThread {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl RivalThread {
    /// Starts turning, every `interval`, the controllers of the services in these slots.
    pub(crate) fn start(
        state: Arc<State>,
        controllers: Vec<(usize, Box<dyn Controller>)>,
        interval: Duration,
    ) -> Result<RivalThread> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut driven = Vec::new();
        for (slot, controller) in controllers {
            driven.push((slot, Eyes::open(&state, slot)?, Memory::new(), controller));
        }
        let thread = Builder::new().name("rival".into()).spawn({
            let stop = stop.clone();
            move || {
                let start = Instant::now();
                let mut due = start;
                while !stop.load(Ordering::Relaxed) {
                    for (slot, eyes, memory, controller) in &mut driven {
                        let (ended, offered) = eyes.look();
                        let in_flight = eyes.in_flight(monotonic());
                        let seen = (&ended, in_flight);
                        let cutoff = memory.turn(controller.as_mut(), start.elapsed(), seen, &offered);
                        write(&state, *slot, cutoff);
                    }
                    // As in the daemon: a turn that came late is not caught up with.
                    due = (due + interval).max(Instant::now());
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                }
                for (slot, ..) in &driven {
                    state.set_cutoff(*slot, SHED_NOTHING);
                }
                state.set_lease(0);
            }
        });
        Ok(RivalThread { stop, thread: Some(thread.context("starting the thread of a rival")?) })
    }

    /// Ends it.
    pub(crate) fn stop(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join) {
            std::panic::resume_unwind(panic);
        }
    }
}

impl Drop for RivalThread {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
