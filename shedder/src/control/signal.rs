//! What is known of a service's latency: samples over a sliding window, and one quantile of them.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

/// Samples that a window holds at most; the oldest go first.
pub const MAX_SAMPLES: usize = 4096;

/// A latency longer than this is no measurement.
pub const MAX_LATENCY: Duration = Duration::from_secs(3600);

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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
        Window { span, quantile, failure, samples: VecDeque::new(), newest: None, scratch: Vec::new() }
    }

    /// Notes what an observation that ended `at` came to.
    pub fn push(&mut self, at: Duration, outcome: Outcome) {
        if self.samples.len() == MAX_SAMPLES {
            self.samples.pop_front();
        }
        let (latency, failed) = match outcome {
            Outcome::Answered(latency) => (latency, false),
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
        }
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
