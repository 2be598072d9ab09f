//! Open-loop load: requests leave on a schedule that does not wait for answers.
//!
//! Each request is a TCP connection of its own, from one of its stream's sources. Its latency counts from the moment
//! the schedule said, so that a generator or a server that falls behind shows in it (what closed-loop tools leave out).
//! Clients may try again: then each try is a request of the same user, and counts from its own time.

mod request;
mod schedule;

use crate::netns::Namespace;
use crate::random::Random;
use anyhow::{Context, Result, ensure};
pub use schedule::{Arrival, Schedule};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use tokio::task::LocalSet;

/// A whole load.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where requests go.
    pub target: SocketAddr,
    /// The schedule's zero.
    pub epoch: Instant,
    /// After which a request is given up, counted from its time in the schedule.
    pub timeout: Duration,
    /// Requests that may be under way at the same time, each an open file; what exceeds it is not sent.
    pub outstanding: usize,
    /// Of arrivals and of the choice of sources.
    pub seed: u64,
    /// What it is made of.
    pub streams: Vec<Stream>,
}

/// Requests of one kind.
#[derive(Clone, Debug)]
pub struct Stream {
    /// Where they come from: each request from one of these, chosen at random.
    pub sources: Vec<IpAddr>,
    /// How many a second, on average.
    pub rate: f64,
    /// How they are spaced.
    pub arrivals: Arrivals,
    /// When the first may leave, after the epoch.
    pub from: Duration,
    /// When no more leave, after the epoch.
    pub until: Duration,
}

/// How arrivals are spaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrivals {
    /// All the same.
    Even,
    /// Independently of each other.
    Poisson,
}

/// How a client tries again where a request was not answered in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retries {
    /// After how many tries in all it gives up: at least 1.
    pub tries: u32,
    /// The pause before the second try, doubled before each further one, times 0.5 to 1.5 at random; zero: it tries
    /// again at once.
    pub pause: Duration,
}

impl Retries {
    /// A client that asks once.
    pub const NONE: Retries = Retries { tries: 1, pause: Duration::ZERO };

    /// The pause after try `attempt`, counted from 0, where chance says `unit`, 0 to below 1.
    pub fn pause_after(&self, attempt: u32, unit: f64) -> Duration {
        self.pause.mul_f64(f64::from(1u32 << attempt.min(16)) * (0.5 + unit))
    }
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// The stream's place in the plan.
    pub stream: usize,
    /// Whose request it is: counts the arrivals of the schedule. Each try of one user has the same number.
    pub user: u64,
    /// The try, counted from 0.
    pub attempt: u32,
    /// Where it came from.
    pub source: IpAddr,
    /// When it was to leave, after the epoch: by the schedule, and a further try after the client's pause.
    pub due: Duration,
    /// When it did leave, after the epoch.
    pub sent: Duration,
    /// From then until its end.
    pub latency: Duration,
    /// How it ended.
    pub outcome: Outcome,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Status 200, whole.
    Answered,
    /// Another status, or what is no HTTP.
    BadAnswer,
    /// The connection was not answered in time.
    ConnectTimeout,
    /// The connection was refused or reset while it was made.
    Refused,
    /// The connection was there; the answer was not, in time.
    AnswerTimeout,
    /// The connection was reset or closed before the answer was whole.
    Reset,
    /// It never left: no descriptor, port or memory was free here, or its time had long passed. Not offered.
    NotSent,
}

impl Outcome {
    /// Whether the server side let it in: its connection was made.
    pub fn admitted(self) -> bool {
        matches!(self, Outcome::Answered | Outcome::BadAnswer | Outcome::AnswerTimeout | Outcome::Reset)
    }

    /// Whether it left at all.
    pub fn offered(self) -> bool {
        self != Outcome::NotSent
    }
}

/// A running load. Dropped, it ends at once.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Result<()>>>,
}

/// What the generator tells while it runs.
#[derive(Debug)]
struct Shared {
    ended: Mutex<Vec<Record>>,
    /// Of each stream.
    left: Vec<AtomicU64>,
    outstanding: AtomicUsize,
    /// Nanoseconds.
    latest: AtomicU64,
}

impl Shared {
    fn end(&self, record: Record) {
        self.ended.lock().expect("nothing panics holding it").push(record);
    }
}

impl Load {
    /// Starts the plan on a thread of its own inside `namespace`. Each request is tried once.
    pub fn start(namespace: &Namespace, plan: Plan) -> Result<Load> {
        Load::with_retries(namespace, plan, Retries::NONE)
    }

    /// Starts the plan, with clients that try again. None does so after the end of the plan's last stream.
    pub fn with_retries(namespace: &Namespace, plan: Plan, retries: Retries) -> Result<Load> {
        ensure!(plan.streams.iter().all(|stream| !stream.sources.is_empty()), "a stream has no sources");
        ensure!(plan.streams.iter().all(|stream| stream.rate > 0.0), "a stream has no rate");
        let shared = Arc::new(Shared {
            ended: Mutex::default(),
            left: plan.streams.iter().map(|_| AtomicU64::new(0)).collect(),
            outstanding: AtomicUsize::new(0),
            latest: AtomicU64::new(0),
        });
        let (stop, stopped) = oneshot::channel();
        let thread = namespace.thread("load", {
            let shared = shared.clone();
            move || {
                prefer_this_thread();
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                LocalSet::new().block_on(&runtime, async {
                    tokio::select! {
                        () = generate(plan, retries, shared) => {}
                        _ = stopped => {}
                    }
                });
                Ok(())
            }
        })?;
        Ok(Load { shared, stop: Some(stop), thread: Some(thread) })
    }

    /// The records of requests that ended since this was last called, in the order they ended.
    pub fn take(&self) -> Vec<Record> {
        std::mem::take(&mut self.shared.ended.lock().expect("nothing panics holding it"))
    }

    /// How many requests of each stream have left.
    pub fn left(&self) -> Vec<u64> {
        self.shared.left.iter().map(|count| count.load(Ordering::Relaxed)).collect()
    }

    /// Requests that have left and not ended.
    pub fn outstanding(&self) -> usize {
        self.shared.outstanding.load(Ordering::Relaxed)
    }

    /// By how much the most belated request left after its time. Well above a millisecond or two, the load was more
    /// than this machine could make, and its latencies tell more about the generator than about the server.
    pub fn lateness(&self) -> Duration {
        Duration::from_nanos(self.shared.latest.load(Ordering::Relaxed))
    }

    /// Whether all requests have left and ended.
    pub fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits until all requests have left and ended, and returns the records not yet taken.
    pub fn finish(mut self) -> Result<Vec<Record>> {
        self.join()?;
        Ok(self.take())
    }

    fn join(&mut self) -> Result<()> {
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result.context("generating load"),
            Some(Err(panic)) => std::panic::resume_unwind(panic),
            None => Ok(()),
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Real clients are not on the server's machine: whatever keeps this one busy shall not hold them up.
fn prefer_this_thread() {
    const NICE: libc::c_int = -10;
    // Refused, requests leave later on a busy machine, and [`Load::lateness`] tells.
    // SAFETY: takes no pointers. On Linux, 0 is the calling thread.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) };
}

/// Lets every request of the plan leave in its time, and waits for their ends.
async fn generate(plan: Plan, retries: Retries, shared: Arc<Shared>) {
    let Plan { target, epoch, timeout, outstanding, seed, .. } = plan;
    let last = plan.streams.iter().map(|stream| stream.until).max().unwrap_or_default();
    let clients = Clients { target, epoch, timeout, retries, seed, last };
    let mut requests = tokio::task::JoinSet::new();
    for (user, arrival) in (0..).zip(Schedule::new(seed, plan.streams)) {
        let due = epoch + arrival.due;
        if due > Instant::now() {
            tokio::time::sleep_until(due.into()).await;
        }
        while requests.try_join_next().is_some() {}
        let late = due.elapsed();
        shared.latest.fetch_max(late.as_nanos() as u64, Ordering::Relaxed);
        if late >= timeout || requests.len() >= outstanding {
            shared.end(clients.record(user, &arrival, 0, arrival.due, Outcome::NotSent));
            continue;
        }
        shared.outstanding.store(requests.len() + 1, Ordering::Relaxed);
        requests.spawn_local(clients.ask(user, arrival, shared.clone()));
    }
    while requests.join_next().await.is_some() {
        shared.outstanding.store(requests.len(), Ordering::Relaxed);
    }
}

/// What all clients have in common.
#[derive(Clone, Copy)]
struct Clients {
    target: SocketAddr,
    epoch: Instant,
    timeout: Duration,
    retries: Retries,
    seed: u64,
    /// After the epoch: nobody tries again from then on.
    last: Duration,
}

impl Clients {
    /// Asks until there is an answer or the client gives up.
    async fn ask(self, user: u64, arrival: Arrival, shared: Arc<Shared>) {
        let mut chance = Random::new(self.seed ^ user.rotate_left(32));
        let mut due = arrival.due;
        for attempt in 0.. {
            shared.left[arrival.stream].fetch_add(1, Ordering::Relaxed);
            let mut record = self.record(user, &arrival, attempt, due, Outcome::NotSent);
            let outcome = request::send(arrival.source, self.target, self.epoch + due + self.timeout).await;
            record.outcome = outcome;
            record.latency = (self.epoch + due).elapsed();
            shared.end(record);
            due = self.epoch.elapsed() + self.retries.pause_after(attempt, chance.unit());
            if outcome == Outcome::Answered || attempt + 1 >= self.retries.tries || due >= self.last {
                return;
            }
            tokio::time::sleep_until((self.epoch + due).into()).await;
        }
    }

    /// A request that leaves now and was due at `due`, after the epoch.
    fn record(&self, user: u64, arrival: &Arrival, attempt: u32, due: Duration, outcome: Outcome) -> Record {
        let sent = self.epoch.elapsed();
        let Arrival { stream, source, .. } = *arrival;
        Record { stream, user, attempt, source, due, sent, latency: sent.saturating_sub(due), outcome }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_and_vary_about_themselves() {
        let retries = Retries { tries: 4, pause: Duration::from_millis(100) };
        assert_eq!(retries.pause_after(0, 0.5), Duration::from_millis(100));
        assert_eq!(retries.pause_after(2, 0.5), Duration::from_millis(400));
        assert_eq!(retries.pause_after(0, 0.0), Duration::from_millis(50));
        assert_eq!(Retries::NONE.pause_after(3, 0.9), Duration::ZERO);
    }
}
