//! Receives the latencies that applications push, as datagrams of lines.

use super::Task;
use super::inbox::{Inbox, Sample, monotonic};
use super::line::{Line, Refusal, parse, service_of};
use super::socket::{BoundPath, claim};
use anyhow::Context;
use arc_swap::ArcSwap;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::net::UnixDatagram;
use tokio::runtime::Handle;
use tokio::task::yield_now;
use tokio::time::sleep;
use tracing::warn;

/// The longest datagram, in bytes.
const MAX_DATAGRAM: usize = 8 << 10;

/// Lines and samples that are worked off between two yields to the probes: some tens of microseconds.
const BUDGET: usize = 256;

/// Between two warnings about the same socket, and between two attempts at one that fails.
const PAUSE: Duration = Duration::from_secs(1);

/// The services that may be pushed to, by name.
pub(super) type Services = HashMap<String, Arc<Inbox>>;

/// What was refused since the start, by kind.
#[derive(Debug, Default)]
pub(super) struct Refusals([AtomicU64; Refusal::ALL.len()]);

impl Refusals {
    pub(super) fn count(&self, refusal: Refusal) -> u64 {
        self.0[refusal as usize].load(Ordering::Relaxed)
    }

    fn add(&self, refusal: Refusal) {
        self.0[refusal as usize].fetch_add(1, Ordering::Relaxed);
    }
}

/// An open push socket. Dropping it removes the path and closes the socket, in this order: while the socket is open
/// its inode cannot become another's, and the path be mistaken for ours.
#[derive(Debug)]
pub(super) struct Listener {
    bound: BoundPath,
    _task: Task,
}

impl Listener {
    /// # Errors
    /// Where the path cannot be had: see [`claim`].
    pub(super) fn open(
        path: &Path,
        services: Arc<ArcSwap<Services>>,
        refusals: Arc<Refusals>,
        handle: &Handle,
    ) -> anyhow::Result<Listener> {
        let (socket, bound) = claim(path)?;
        let _context = handle.enter();
        let socket = UnixDatagram::from_std(socket).context("the runtime cannot watch the push socket")?;
        let receiver = Receiver {
            socket,
            path: path.to_owned(),
            services,
            refusals,
            warnings: Warnings::default(),
            work: 0,
        };
        Ok(Listener { bound, _task: Task::spawn(receiver.run(), handle) })
    }

    pub(super) fn path(&self) -> &Path {
        self.bound.path()
    }
}

struct Receiver {
    socket: UnixDatagram,
    path: PathBuf,
    services: Arc<ArcSwap<Services>>,
    refusals: Arc<Refusals>,
    warnings: Warnings,
    /// Lines and samples since the last yield.
    work: usize,
}

impl Receiver {
    async fn run(mut self) {
        // One byte more than allowed tells what is too long from what just fits.
        let mut buffer = vec![0; MAX_DATAGRAM + 1];
        loop {
            match self.socket.recv(&mut buffer).await {
                Ok(length) if length > MAX_DATAGRAM => {
                    self.refuse(Refusal::Oversized);
                    self.worked(1).await;
                }
                Ok(length) => self.datagram(&buffer[..length]).await,
                Err(error) => {
                    warn!(path = %self.path.display(), %error, "cannot receive from the push socket");
                    sleep(PAUSE).await;
                }
            }
        }
    }

    async fn datagram(&mut self, bytes: &[u8]) {
        let at = monotonic();
        let services = self.services.load_full();
        for line in bytes.split(|&byte| byte == b'\n') {
            self.worked(1).await;
            match parse(line).and_then(|line| line.map(|line| known(line, &services)).transpose()) {
                Err(refusal) => {
                    if refusal == Refusal::OutOfRange
                        && let Some(inbox) = service_of(line).and_then(|name| services.get(name))
                    {
                        inbox.refuse();
                    }
                    self.refuse(refusal);
                }
                Ok(None) => {}
                Ok(Some((Line { outcome, mut count, .. }, inbox))) => {
                    while count > 0 {
                        let step = count.min(BUDGET);
                        inbox.record(Sample { at, outcome }, step);
                        self.worked(step).await;
                        count -= step;
                    }
                }
            }
        }
    }

    /// Lets the probes have their turn after [`BUDGET`]. A flood makes the runtime busy, never the probes wait long.
    async fn worked(&mut self, work: usize) {
        self.work += work;
        if self.work >= BUDGET {
            self.work = 0;
            yield_now().await;
        }
    }

    fn refuse(&mut self, refusal: Refusal) {
        self.refusals.add(refusal);
        if let Some(refused) = self.warnings.due(Instant::now()) {
            warn!(
                path = %self.path.display(), refused, last = refusal.name(),
                "pushed lines refused; a line is `<service> <latency> [count]` or `<service> fail [count]`"
            );
        }
    }
}

fn known<'a>(line: Line<'a>, services: &'a Services) -> Result<(Line<'a>, &'a Inbox), Refusal> {
    services.get(line.service).map(|inbox| (line, &**inbox)).ok_or(Refusal::UnknownService)
}

/// Lets one warning pass in each [`PAUSE`].
#[derive(Debug, Default)]
struct Warnings {
    last: Option<Instant>,
    unreported: u64,
}

impl Warnings {
    /// Counts one refusal. Some: it is time to warn, of so many since the last warning.
    fn due(&mut self, now: Instant) -> Option<u64> {
        self.unreported += 1;
        if self.last.is_some_and(|last| now.duration_since(last) < PAUSE) {
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.unreported))
    }
}

#[cfg(test)]
mod tests;
