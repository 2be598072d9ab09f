//! What is known of a service's latency: samples over a sliding window, and one quantile of them.

use super::why::Why;
use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

/// Samples that a window holds at most; the oldest go first.
pub(super) const MAX_SAMPLES: usize = 4096;

/// Samples of the very same latency for this long, and so many, come from a sensor that has died. Two measurements of one
/// service do not agree to the nanosecond.
const FROZEN: Duration = Duration::from_secs(5);
const FROZEN_SAMPLES: u32 = 50;

/// Latencies that are multiples of this were rounded, and may be the same for longer.
const ROUNDED: Duration = Duration::from_micros(100);
const FROZEN_ROUNDED: Duration = Duration::from_secs(60);

/// A latency longer than this is no measurement.
pub(super) const MAX_LATENCY: Duration = Duration::from_secs(3600);

/// What one observation of a service came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It answered after this long.
    Answered(Duration),
    /// It did not answer as it should, which was known after this long.
    Failed(Duration),
}

impl Outcome {
    /// An answer after `seconds`, as an application tells it.
    ///
    /// # Errors
    /// Where that is not a number, is negative, or is more than an hour.
    pub fn from_seconds(seconds: f64) -> Result<Outcome, BadLatency> {
        if !seconds.is_finite() {
            return Err(BadLatency::NotFinite);
        }
        if seconds < 0.0 {
            return Err(BadLatency::Negative(seconds));
        }
        match Duration::try_from_secs_f64(seconds) {
            Ok(latency) if latency <= MAX_LATENCY => Ok(Outcome::Answered(latency)),
            _ => Err(BadLatency::TooLong(seconds)),
        }
    }
}

/// Why a number that an application told is no latency.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum BadLatency {
    /// NaN or infinite.
    NotFinite,
    /// Below zero, in seconds.
    Negative(f64),
    /// Above [`MAX_LATENCY`], in seconds.
    TooLong(f64),
}

impl fmt::Display for BadLatency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadLatency::NotFinite => {
                f.write_str("the latency is not a finite number: send seconds, such as 0.025")
            }
            BadLatency::Negative(seconds) => {
                write!(f, "the latency of {seconds} s is negative: measure with a monotonic clock")
            }
            BadLatency::TooLong(seconds) => write!(
                f,
                "the latency of {seconds} s is longer than {} s: send seconds, not milliseconds or nanoseconds",
                MAX_LATENCY.as_secs()
            ),
        }
    }
}

impl std::error::Error for BadLatency {}

/// What a window says at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Reading {
    /// The quantile; none where nothing at all is known. It is exact where enough observations have ended, and
    /// else the least that it can be, given how long those in flight have been out already.
    pub latency: Option<Duration>,
    /// Observations that ended within the window.
    pub samples: usize,
    /// How many of `samples` were failures.
    pub failures: usize,
    /// Observations that have begun and not ended.
    pub in_flight: usize,
    /// Since an observation last ended; none: none ever did.
    pub age: Option<Duration>,
    /// What the kernel sees besides; none: the signal is not a passive one, or has just begun.
    pub queue: Option<Queue>,
    /// Why this is no signal, whatever it says.
    pub fault: Option<Why>,
}

/// What a passive signal tells besides latencies. Rates are requests a second; where not all flows are measured, they and
/// what is in flight are scaled up to all.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Queue {
    /// Requests in flight, without those that have waited past the deadline.
    pub in_flight: f64,
    /// Requests that arrive at the service.
    pub arrivals: f64,
    /// Answers that leave.
    pub answers: f64,
    /// What would arrive if nothing were shed.
    pub offered: f64,
    /// Answers that leave while the service has enough to do; none: not known yet.
    pub capacity: Option<f64>,
    /// The logarithm of the factor by which `capacity` became more at once, after a collapse; 0: it did not.
    pub regained: f64,
    /// What a request that arrives now will take, at the configured quantile; none: not known yet.
    pub predicted: Option<Duration>,
    /// Whether too little arrives for a queue.
    pub is_idle: bool,
    /// Since anything was measured; none: nothing was.
    pub exchange_age: Option<Duration>,
}

/// The samples of one service over the last moments.
#[derive(Clone, Debug)]
pub struct Window {
    span: Duration,
    quantile: f64,
    failure: Duration,
    samples: VecDeque<Sample>,
    newest: Option<Duration>,
    scratch: Vec<(Duration, bool)>,
    /// When samples last came that were too old to count, how many in a row, and how old the last was.
    delayed: Option<(u32, Duration)>,
    /// When nothing but refused samples came last, and how many.
    refused: Option<(Duration, u64)>,
    frozen: Frozen,
}

/// The same value again and again.
#[derive(Clone, Copy, Debug, Default)]
struct Frozen {
    latency: Duration,
    since: Duration,
    samples: u32,
}

impl Frozen {
    fn push(&mut self, at: Duration, latency: Duration) {
        if self.samples == 0 || latency != self.latency {
            *self = Frozen { latency, since: at, samples: 0 };
        }
        self.samples = self.samples.saturating_add(1);
    }

    /// An application may round what it tells, and steady latencies then look the same for long.
    fn is_rounded(&self) -> bool {
        self.latency.as_nanos().is_multiple_of(ROUNDED.as_nanos())
    }

    fn fault(&self, now: Duration) -> Option<Why> {
        let since = now.saturating_sub(self.since);
        let patience = if self.is_rounded() { FROZEN_ROUNDED } else { FROZEN };
        let is_frozen = self.samples >= FROZEN_SAMPLES && since >= patience;
        is_frozen.then_some(Why::Frozen { latency: self.latency, samples: self.samples, since })
    }
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Duration,
    latency: Duration,
    failed: bool,
}

impl Window {
    /// An empty window that looks `span` back and reads `quantile` (above 0, below 1). A failure counts as a
    /// latency of at least `failure`: the probe's timeout, or several times the target, whichever is longer.
    pub fn new(span: Duration, quantile: f64, failure: Duration) -> Window {
        Window {
            span,
            quantile,
            failure,
            samples: VecDeque::new(),
            newest: None,
            scratch: Vec::new(),
            delayed: None,
            refused: None,
            frozen: Frozen::default(),
        }
    }

    /// Notes at `now` that `count` samples were refused because they cannot be true.
    pub fn refuse(&mut self, now: Duration, count: u64) {
        if count > 0 {
            let before = self.refused.map_or(0, |(_, before)| before);
            self.refused = Some((now, before.saturating_add(count)));
        }
    }

    /// Notes what an observation that ended `at` came to, of which this is heard at `now`.
    pub fn hear(&mut self, now: Duration, at: Duration, outcome: Outcome) {
        let age = now.saturating_sub(at);
        self.delayed = if age > self.span {
            Some((self.delayed.map_or(1, |(count, _)| count.saturating_add(1)), age))
        } else {
            None
        };
        self.push(at, outcome);
    }

    /// Notes what an observation that ended `at` came to.
    pub fn push(&mut self, at: Duration, outcome: Outcome) {
        if self.samples.len() == MAX_SAMPLES {
            self.samples.pop_front();
        }
        let (latency, failed) = match outcome {
            Outcome::Answered(latency) => {
                self.frozen.push(at, latency);
                (latency, false)
            }
            Outcome::Failed(waited) => (waited.max(self.failure), true),
        };
        self.newest = self.newest.max(Some(at));
        self.samples.push_back(Sample { at, latency, failed });
    }

    /// What is known at `now`, while the observations that began at the times `in_flight` have not ended.
    ///
    /// Those are right-censored: all that is known of each is that it takes longer than it has taken. Leaving them
    /// out would show an overloaded server only when its answers arrive, which is when it is too late. The quantile
    /// is therefore that of the product-limit estimate (Kaplan and Meier, "Nonparametric estimation from incomplete
    /// observations", 1958); with nothing in flight that is the nearest rank.
    pub fn reading(&mut self, now: Duration, in_flight: &[Duration]) -> Reading {
        let since = now.saturating_sub(self.span);
        // Threads may deliver a little out of order, so the front being recent does not make all of it so.
        while self.samples.front().is_some_and(|sample| sample.at < since) {
            self.samples.pop_front();
        }
        let recent = self.samples.iter().filter(|sample| sample.at >= since);
        self.scratch.clear();
        let mut failures = 0;
        for sample in recent {
            failures += usize::from(sample.failed);
            self.scratch.push((sample.latency, false));
        }
        let samples = self.scratch.len();
        self.scratch.extend(in_flight.iter().map(|&began| (now.saturating_sub(began), true)));
        Reading {
            latency: product_limit_quantile(&mut self.scratch, self.quantile),
            samples,
            failures,
            in_flight: in_flight.len(),
            age: self.newest.map(|newest| now.saturating_sub(newest)),
            queue: None,
            fault: self.fault(now, samples),
        }
    }

    /// Why these are no latencies to go by. What is refused outweighs what is not where there is more of it.
    fn fault(&mut self, now: Duration, samples: usize) -> Option<Why> {
        self.refused = self.refused.filter(|(at, _)| now.saturating_sub(*at) <= self.span);
        let refused = self.refused.map(|(_, count)| count).filter(|&count| count > samples as u64);
        let delayed = self.delayed.filter(|_| samples == 0);
        refused
            .map(|count| Why::Refused { count })
            .or(delayed.map(|(count, age)| Why::Delayed { count, age }))
            .or(self.frozen.fault(now))
    }
}

/// The quantile of durations of which those marked are censored, or the longest where it is beyond them all.
fn product_limit_quantile(durations: &mut [(Duration, bool)], quantile: f64) -> Option<Duration> {
    // Of equal ones, what ended comes before what is censored: the latter takes longer.
    durations.sort_unstable();
    let mut surviving = 1.0;
    for (index, &(duration, censored)) in durations.iter().enumerate() {
        if censored {
            continue;
        }
        let at_risk = (durations.len() - index) as f64;
        surviving *= 1.0 - 1.0 / at_risk;
        // The tolerance is for the rounding of some thousand factors.
        if surviving <= 1.0 - quantile + 1e-9 {
            return Some(duration);
        }
    }
    durations.last().map(|&(duration, _)| duration)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FAILURE: Duration = Duration::from_secs(1);

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    fn window(quantile: f64) -> Window {
        Window::new(ms(100), quantile, FAILURE)
    }

    proptest! {
        #[test]
        fn nothing_in_flight_is_the_nearest_rank(
            mut latencies in proptest::collection::vec(0..5000u64, 1..600),
            percent in 1..100usize,
        ) {
            let mut window = window(percent as f64 / 100.0);
            for &latency in &latencies {
                window.push(ms(50), Outcome::Answered(ms(latency)));
            }
            latencies.sort_unstable();
            let rank = (latencies.len() * percent).div_ceil(100);
            prop_assert_eq!(window.reading(ms(60), &[]).latency, Some(ms(latencies[rank - 1])));
        }

        #[test]
        fn waiting_longer_never_looks_better(
            latencies in proptest::collection::vec(0..200u64, 0..40),
            began in proptest::collection::vec(0..1000u64, 0..20),
            later in 0..90u64,
        ) {
            let mut window = window(0.9);
            for latency in latencies {
                window.push(ms(1000), Outcome::Answered(ms(latency)));
            }
            let began: Vec<Duration> = began.into_iter().map(ms).collect();
            let before = window.reading(ms(1000), &began).latency;
            prop_assert!(window.reading(ms(1000 + later), &began).latency >= before);
        }

        #[test]
        fn latency_that_is_told_is_taken_or_refused_whole(seconds in any::<f64>()) {
            match Outcome::from_seconds(seconds) {
                Ok(Outcome::Answered(latency)) => {
                    prop_assert!((latency.as_secs_f64() - seconds).abs() < 1e-8 && latency <= MAX_LATENCY);
                }
                Ok(outcome) => prop_assert!(false, "{:?}", outcome),
                Err(_) => prop_assert!(!(0.0..=3600.0).contains(&seconds)),
            }
        }
    }

    #[test]
    fn bad_latency_says_why() {
        assert_eq!(Outcome::from_seconds(f64::NAN), Err(BadLatency::NotFinite));
        assert_eq!(Outcome::from_seconds(f64::INFINITY), Err(BadLatency::NotFinite));
        assert_eq!(Outcome::from_seconds(-0.5), Err(BadLatency::Negative(-0.5)));
        assert_eq!(Outcome::from_seconds(1e300), Err(BadLatency::TooLong(1e300)));
        assert_eq!(
            BadLatency::TooLong(25000.0).to_string(),
            "the latency of 25000 s is longer than 3600 s: send seconds, not milliseconds or nanoseconds"
        );
    }

    #[test]
    fn what_is_late_counts_before_it_ends() {
        let mut window = window(0.99);
        for _ in 0..10 {
            window.push(ms(990), Outcome::Answered(ms(5)));
        }
        assert_eq!(window.reading(ms(1000), &[]).latency, Some(ms(5)));
        assert_eq!(
            window.reading(ms(1000), &[ms(999)]).latency,
            Some(ms(5)),
            "what has just begun tells nothing"
        );
        assert_eq!(window.reading(ms(1000), &[ms(960), ms(999)]).latency, Some(ms(40)));
    }

    #[test]
    fn one_that_is_late_does_not_move_the_median() {
        let mut window = window(0.5);
        for _ in 0..10 {
            window.push(ms(990), Outcome::Answered(ms(5)));
        }
        assert_eq!(window.reading(ms(1000), &[ms(0)]).latency, Some(ms(5)));
    }

    #[test]
    fn failure_counts_as_the_worst() {
        let mut window = window(0.99);
        window.push(ms(10), Outcome::Answered(ms(5)));
        window.push(ms(10), Outcome::Failed(ms(1)));
        let reading = window.reading(ms(20), &[]);
        assert_eq!((reading.latency, reading.samples, reading.failures), (Some(FAILURE), 2, 1));
        window.push(ms(10), Outcome::Failed(ms(1500)));
        assert_eq!(window.reading(ms(20), &[]).latency, Some(ms(1500)));
    }

    #[test]
    fn nothing_known_is_told_from_nothing_wrong() {
        let mut window = window(0.99);
        assert_eq!(window.reading(ms(500), &[]), Reading::default());
        window.push(ms(500), Outcome::Answered(ms(5)));
        let stale = window.reading(ms(700), &[]);
        assert_eq!((stale.latency, stale.samples, stale.age), (None, 0, Some(ms(200))));
    }

    #[test]
    fn memory_is_bounded() {
        let mut window = window(0.99);
        for latency in 0..3 * MAX_SAMPLES as u64 {
            window.push(ms(10), Outcome::Answered(Duration::from_micros(latency)));
        }
        let reading = window.reading(ms(10), &[]);
        assert_eq!(reading.samples, MAX_SAMPLES);
        assert!(reading.latency > Some(Duration::from_micros(2 * MAX_SAMPLES as u64)), "the oldest go first");
    }

    #[test]
    fn frozen_sensor_is_told_from_a_steady_service() {
        let fault = |nanoseconds: u64, seconds: u64| {
            let mut window = window(0.99);
            for turn in 0..seconds * 50 {
                window.push(ms(20 * turn), Outcome::Answered(Duration::from_nanos(nanoseconds)));
            }
            window.reading(ms(20 * seconds * 50), &[]).fault
        };
        assert!(matches!(fault(5_123_456, 6), Some(Why::Frozen { samples: 300, .. })));
        assert_eq!(fault(5_123_456, 4), None);
        assert_eq!(fault(5_000_000, 50), None, "an application that tells whole milliseconds");
        assert!(matches!(fault(5_000_000, 70), Some(Why::Frozen { .. })));
    }

    #[test]
    fn more_lies_than_truths_are_no_signal() {
        let mut window = window(0.99);
        window.push(ms(1000), Outcome::Answered(ms(5)));
        window.refuse(ms(1000), 1);
        assert_eq!(window.reading(ms(1010), &[]).fault, None);
        window.refuse(ms(1020), 1);
        assert_eq!(window.reading(ms(1030), &[]).fault, Some(Why::Refused { count: 2 }));
        assert_eq!(window.reading(ms(1200), &[]).fault, None, "they are over");
    }

    #[test]
    fn samples_that_come_too_late_are_no_signal() {
        let mut window = window(0.99);
        for turn in 50..60 {
            window.hear(ms(20 * turn), ms(20 * turn - 300), Outcome::Answered(ms(5)));
        }
        let fault = window.reading(ms(1200), &[]).fault;
        assert_eq!(fault, Some(Why::Delayed { count: 10, age: ms(300) }));
        window.hear(ms(1200), ms(1199), Outcome::Answered(ms(5)));
        assert_eq!(window.reading(ms(1200), &[]).fault, None);
    }
}
