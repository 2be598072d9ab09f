//! Where samples wait, from the runtime that takes them to the thread that decides on them.

use crate::control::Outcome;
use nix::time::{ClockId, clock_gettime};
use std::collections::VecDeque;
use std::iter::repeat_n;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Samples that an inbox holds; the next one takes the place of the oldest.
pub const CAPACITY: usize = 4096;

/// Probes of one service that may be outstanding; while they are, no other is started.
pub const MAX_IN_FLIGHT: usize = 16;

/// One observation of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// When it was complete: the end of the probe, or the arrival of the datagram. On the clock of [`monotonic`].
    pub at: Duration,
    /// What was observed.
    pub outcome: Outcome,
}

/// CLOCK_MONOTONIC, the clock of the deadlines in the maps: since boot, without the time spent suspended.
pub fn monotonic() -> Duration {
    // It fails for a clock that does not exist and for a bad address; neither can be.
    clock_gettime(ClockId::CLOCK_MONOTONIC).expect("CLOCK_MONOTONIC is there").into()
}

/// One service's samples on their way from the runtime to the control thread.
///
/// What the two share is locked for a few instructions at a time: never across a system call, and never while
/// samples are copied out. The control thread may call [`drain`](Inbox::drain) and
/// [`in_flight`](Inbox::in_flight) in every turn.
#[derive(Debug, Default)]
pub struct Inbox {
    state: Mutex<State>,
    /// The buffer that the last drain emptied, for the next one to swap in.
    spare: Mutex<VecDeque<Sample>>,
    last_error: Mutex<Option<String>>,
}

#[derive(Debug, Default)]
struct State {
    samples: VecDeque<Sample>,
    dropped: u64,
    refused: u64,
    in_flight: [Option<Duration>; MAX_IN_FLIGHT],
}

impl State {
    fn record(&mut self, sample: Sample, count: usize) {
        let excess = (self.samples.len() + count).saturating_sub(CAPACITY);
        self.dropped += excess as u64;
        self.samples.drain(..excess.min(self.samples.len()));
        self.samples.extend(repeat_n(sample, count.min(CAPACITY)));
    }
}

impl Inbox {
    /// Appends every waiting sample to `into`, in the order in which they were recorded, and forgets them.
    pub fn drain(&self, into: &mut Vec<Sample>) {
        let mut taken = lock(&self.spare);
        std::mem::swap(&mut *taken, &mut lock(&self.state).samples);
        into.extend(taken.drain(..));
    }

    /// Appends the start of every probe that is still outstanding to `into`, in no order, on the clock of
    /// [`monotonic`]. At most [`MAX_IN_FLIGHT`].
    pub fn in_flight(&self, into: &mut Vec<Duration>) {
        let in_flight = lock(&self.state).in_flight;
        into.extend(in_flight.into_iter().flatten());
    }

    /// Samples that were lost because nobody drained them in time.
    pub fn dropped(&self) -> u64 {
        lock(&self.state).dropped
    }

    /// Latencies that were told since the last call and cannot be true.
    pub fn take_refused(&self) -> u64 {
        std::mem::take(&mut lock(&self.state).refused)
    }

    /// Notes that a latency was told that cannot be true.
    pub(super) fn refuse(&self) {
        lock(&self.state).refused += 1;
    }

    /// Why the probe that ended last failed, as a sentence; none where it was answered, and for pushed signals.
    pub fn last_error(&self) -> Option<String> {
        lock(&self.last_error).clone()
    }

    pub(super) fn set_last_error(&self, error: Option<String>) {
        *lock(&self.last_error) = error;
    }

    /// Records `sample` `count` times.
    pub(super) fn record(&self, sample: Sample, count: usize) {
        lock(&self.state).record(sample, count);
    }

    /// Notes that a probe starts now; none where [`MAX_IN_FLIGHT`] are outstanding.
    pub(super) fn begin(self: &Arc<Self>) -> Option<InFlight> {
        let started = monotonic();
        let mut state = lock(&self.state);
        let slot = state.in_flight.iter().position(Option::is_none)?;
        state.in_flight[slot] = Some(started);
        drop(state);
        Some(InFlight { inbox: Arc::clone(self), slot, started, sample: None })
    }
}

/// A probe that is outstanding. Dropping it before its [`end`](InFlight::end) withdraws it without a sample.
pub(super) struct InFlight {
    inbox: Arc<Inbox>,
    slot: usize,
    started: Duration,
    sample: Option<Sample>,
}

impl InFlight {
    pub(super) fn inbox(&self) -> &Inbox {
        &self.inbox
    }

    pub(super) fn started(&self) -> Duration {
        self.started
    }

    /// Replaces the probe by its sample in one step, so that no turn of the control loop sees both or neither.
    pub(super) fn end(mut self, sample: Sample) {
        self.sample = Some(sample);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut state = lock(&self.inbox.state);
        state.in_flight[self.slot] = None;
        if let Some(sample) = self.sample {
            state.record(sample, 1);
        }
    }
}

/// Nothing that holds one of these locks can panic half-way through a change, so a poisoned one is whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample(millis: u64) -> Sample {
        Sample { at: Duration::from_millis(millis), outcome: Outcome::Answered(Duration::from_millis(1)) }
    }

    fn drained(inbox: &Inbox) -> Vec<Sample> {
        let mut samples = Vec::new();
        inbox.drain(&mut samples);
        samples
    }

    #[test]
    fn drain_appends_in_order_and_empties() {
        let inbox = Inbox::default();
        let mut samples = vec![sample(0)];
        inbox.record(sample(1), 1);
        inbox.record(sample(2), 2);
        inbox.drain(&mut samples);
        assert_eq!(samples, [sample(0), sample(1), sample(2), sample(2)]);
        assert_eq!(drained(&inbox), []);
        inbox.record(sample(3), 1);
        assert_eq!(drained(&inbox), [sample(3)]);
    }

    proptest! {
        #[test]
        fn the_newest_stay_and_the_rest_is_counted(runs in prop::collection::vec(0..3 * CAPACITY, 0..6)) {
            let inbox = Inbox::default();
            let mut all = Vec::new();
            for (index, &count) in runs.iter().enumerate() {
                inbox.record(sample(index as u64), count);
                all.extend(repeat_n(sample(index as u64), count));
            }
            let kept = &all[all.len().saturating_sub(CAPACITY)..];
            prop_assert_eq!(&drained(&inbox)[..], kept);
            prop_assert_eq!(inbox.dropped(), (all.len() - kept.len()) as u64);
        }
    }

    #[test]
    fn a_probe_is_outstanding_until_it_ends_or_is_dropped() {
        let inbox = Arc::new(Inbox::default());
        let starts = || {
            let mut starts = Vec::new();
            inbox.in_flight(&mut starts);
            starts
        };
        let before = monotonic();
        let mut flights: Vec<_> = (0..MAX_IN_FLIGHT).map(|_| inbox.begin().expect("a free slot")).collect();
        assert_eq!(starts().len(), MAX_IN_FLIGHT);
        assert!(starts().iter().all(|&start| before <= start && start <= monotonic()));
        assert!(inbox.begin().is_none(), "one more than may be outstanding");

        flights.remove(3).end(sample(7));
        assert_eq!(drained(&inbox), [sample(7)]);
        assert_eq!(starts().len(), MAX_IN_FLIGHT - 1);
        flights.push(inbox.begin().expect("the slot is free again"));

        flights.clear();
        assert_eq!(drained(&inbox), [], "a withdrawn probe leaves no sample");
        assert_eq!(starts(), []);
    }

    #[test]
    fn the_clock_is_that_of_instant() {
        let (first, start) = (monotonic(), std::time::Instant::now());
        let (elapsed, second) = (start.elapsed(), monotonic());
        assert!(second - first >= elapsed);
    }
}
