//! Reports for many clients at the price of one.

use super::exposition;
use crate::daemon::report::{Report, Reporter};
use hyper::body::Bytes;
use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;
use tokio::task::{JoinError, JoinHandle, spawn_blocking};

/// A report, and its exposition.
pub(super) struct Snapshot {
    pub(super) report: Arc<Report>,
    pub(super) metrics: Bytes,
}

/// A snapshot, or the sentence that says why there is none.
pub(super) type Outcome = Result<Arc<Snapshot>, Arc<str>>;

/// Asks the reporter, at most one call at a time, and keeps what it said for a while.
pub(super) struct Snapshots {
    reporter: Arc<dyn Reporter>,
    max_age: Duration,
    slot: Mutex<Slot>,
}

#[derive(Default)]
struct Slot {
    latest: Option<(Instant, Outcome)>,
    /// Outlives whoever began it: a client that gives up must not make the next one begin a second.
    running: Option<JoinHandle<(Instant, Outcome)>>,
}

impl Snapshots {
    /// Of `reporter`, each kept for `max_age`.
    pub(super) fn new(reporter: Arc<dyn Reporter>, max_age: Duration) -> Snapshots {
        Snapshots { reporter, max_age, slot: Mutex::default() }
    }

    /// A snapshot that is no older than the age given, or was completed while this was waiting for it. May be dropped
    /// at any point.
    pub(super) async fn get(&self) -> Outcome {
        let mut slot = self.slot.lock().await;
        let Slot { latest, running } = &mut *slot;
        // What an earlier caller left behind may have ended long ago: it is judged by its age.
        if let Some(call) = running
            && call.is_finished()
        {
            *latest = Some(end_of(call).await);
            *running = None;
        }
        if let Some((at, outcome)) = latest
            && at.elapsed() < self.max_age
        {
            return outcome.clone();
        }
        let call = running.get_or_insert_with(|| {
            let reporter = self.reporter.clone();
            spawn_blocking(move || {
                let outcome = take(&*reporter);
                (Instant::now(), outcome)
            })
        });
        let (at, outcome) = end_of(call).await;
        *running = None;
        *latest = Some((at, outcome.clone()));
        outcome
    }
}

async fn end_of(call: &mut JoinHandle<(Instant, Outcome)>) -> (Instant, Outcome) {
    call.await.unwrap_or_else(|error| (Instant::now(), Err(explain(error).into())))
}

fn take(reporter: &dyn Reporter) -> Outcome {
    let report = Arc::new(reporter.report());
    match exposition::encode(&report) {
        Ok(text) => Ok(Arc::new(Snapshot { report, metrics: text.into() })),
        Err(error) => Err(format!("The metrics could not be encoded: {error}.").into()),
    }
}

fn explain(error: JoinError) -> String {
    match error.try_into_panic() {
        Ok(panic) => format!(
            "The daemon's state could not be gathered: {}. The daemon's log has the place; please report it.",
            message_of(&*panic)
        ),
        Err(_) => "The daemon's state could not be gathered: the daemon is ending.".to_owned(),
    }
}

fn message_of(panic: &(dyn Any + Send)) -> &str {
    let literal = panic.downcast_ref::<&str>().copied();
    literal
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without a message")
}

#[cfg(test)]
mod tests {
    use super::super::tests::held;
    use super::*;
    use std::sync::atomic::Ordering;
    use tokio::task::yield_now;
    use tokio::time::timeout;

    /// Begins a call, gives up on it, and returns once it has ended all the same.
    async fn abandoned(max_age: Duration) -> (Snapshots, impl Fn() -> usize) {
        let (reporter, held) = held();
        let snapshots = Snapshots::new(reporter, max_age);
        assert!(timeout(Duration::from_millis(1), snapshots.get()).await.is_err());
        drop(held.release);
        while !snapshots.slot.lock().await.running.as_ref().unwrap().is_finished() {
            yield_now().await;
        }
        (snapshots, move || held.calls.load(Ordering::SeqCst))
    }

    #[tokio::test]
    async fn what_was_abandoned_is_not_served_stale() {
        let (snapshots, calls) = abandoned(Duration::ZERO).await;
        assert!(snapshots.get().await.is_ok());
        assert_eq!(calls(), 2);
    }

    #[tokio::test]
    async fn what_was_abandoned_is_served_while_it_is_fresh() {
        let (snapshots, calls) = abandoned(Duration::from_secs(3600)).await;
        assert!(snapshots.get().await.is_ok());
        assert_eq!(calls(), 1);
    }
}
