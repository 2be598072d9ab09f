//! Looks at the kernel's words and counters while a run lasts.

use crate::run::Sample;
use anyhow::{Context, Result};
use shedder::datapath::State;
use shedder_common::reason::Reason;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

/// Between two looks.
const EVERY: Duration = Duration::from_millis(20);

/// Somebody who looks. Dropped, it ends.
pub(crate) struct Sampler {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Vec<Sample>>>,
}

impl Sampler {
    /// Starts looking at the services in these slots, from `epoch` on.
    pub(crate) fn start(state: Arc<State>, slots: Vec<usize>, epoch: Instant) -> Result<Sampler> {
        let stop = Arc::new(AtomicBool::new(false));
        let interface = state.interfaces().first().context("no interface is held")?.slot;
        let before = state.counters(interface).ingress[Reason::Shed as usize].packets;
        let thread = Builder::new().name("sampler".into()).spawn({
            let stop = stop.clone();
            move || {
                let mut samples = Vec::new();
                std::thread::sleep(epoch.saturating_duration_since(Instant::now()));
                while !stop.load(Ordering::Relaxed) {
                    let shed = state.counters(interface).ingress[Reason::Shed as usize].packets;
                    samples.push(Sample {
                        at: epoch.elapsed().as_secs_f64(),
                        cutoffs: slots.iter().map(|&slot| state.cutoff(slot).first()).collect(),
                        shed: shed - before,
                    });
                    std::thread::sleep(EVERY);
                }
                samples
            }
        });
        Ok(Sampler { stop, thread: Some(thread.context("starting the sampler")?) })
    }

    /// Ends it, and returns what it saw.
    pub(crate) fn stop(mut self) -> Vec<Sample> {
        self.stop.store(true, Ordering::Relaxed);
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(samples)) => samples,
            Some(Err(panic)) => std::panic::resume_unwind(panic),
            None => Vec::new(),
        }
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
