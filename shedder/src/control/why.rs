//! Why a signal is none.

use std::fmt;
use std::time::Duration;

/// Why there is no signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Nothing was ever observed.
    Silent,
    /// Nothing was observed within the window.
    Stale {
        /// Since an observation last ended.
        age: Duration,
    },
    /// Less was observed within the window than makes a quantile.
    TooFew {
        /// Observations that ended within the window.
        samples: usize,
        /// How many it takes.
        least: u32,
    },
    /// The very same latency again and again.
    Frozen {
        /// Which.
        latency: Duration,
        /// How often.
        samples: u32,
        /// Since the first of them.
        since: Duration,
    },
    /// More of what was told cannot be true than can.
    Refused {
        /// How many latencies.
        count: u64,
    },
    /// What is told was observed too long ago.
    Delayed {
        /// How many, one after another.
        count: u32,
        /// How long ago the last was observed when it was told.
        age: Duration,
    },
    /// Requests arrive and no answer is seen.
    Unanswered {
        /// How many.
        requests: u64,
        /// Since the last answer, or since the first of them.
        since: Duration,
    },
    /// Flows are admitted and nothing of them is measured.
    Unmeasured {
        /// How many, about.
        flows: u64,
    },
}

impl Why {
    /// The names of all, in the order of their declaration.
    pub const NAMES: [&'static str; 8] =
        ["silent", "stale", "too_few", "frozen", "refused", "delayed", "unanswered", "unmeasured"];

    /// The name that metrics use.
    pub fn name(&self) -> &'static str {
        Why::NAMES[match self {
            Why::Silent => 0,
            Why::Stale { .. } => 1,
            Why::TooFew { .. } => 2,
            Why::Frozen { .. } => 3,
            Why::Refused { .. } => 4,
            Why::Delayed { .. } => 5,
            Why::Unanswered { .. } => 6,
            Why::Unmeasured { .. } => 7,
        }]
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::Silent => f.write_str("no latency was ever observed: check the service's signal"),
            Why::Stale { age } => {
                write!(
                    f,
                    "no latency was observed for {:.3} s: check the service's signal",
                    age.as_secs_f64()
                )
            }
            Why::TooFew { samples, least } => write!(
                f,
                "{samples} latencies within control.window, and control.min_samples is {least}: observe more often, or \
                 lengthen the window"
            ),
            Why::Frozen { latency, samples, since } => write!(
                f,
                "the last {samples} latencies, over {:.0} s, are all {latency:?}: what measures them has stopped",
                since.as_secs_f64()
            ),
            Why::Refused { count } => write!(
                f,
                "{count} latencies were refused, more than were taken: tell seconds from 0 to 3600, by a monotonic clock"
            ),
            Why::Delayed { count, age } => write!(
                f,
                "the last {count} latencies were {:.3} s old when they came, longer than control.window: tell them sooner",
                age.as_secs_f64()
            ),
            Why::Unanswered { requests, since } => write!(
                f,
                "{requests} requests arrived in {:.1} s and no answer was seen: do the answers leave by another \
                 interface?",
                since.as_secs_f64()
            ),
            Why::Unmeasured { flows } => write!(
                f,
                "some {flows} flows were admitted and nothing of them was measured: does the traffic pass the \
                 interfaces both ways?"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_sentences() {
        assert_eq!(
            Why::TooFew { samples: 1, least: 3 }.to_string(),
            "1 latencies within control.window, and control.min_samples is 3: observe more often, or lengthen the window"
        );
        assert_eq!(
            Why::Stale { age: Duration::from_millis(1500) }.to_string(),
            "no latency was observed for 1.500 s: check the service's signal"
        );
        assert_eq!(Why::Stale { age: Duration::ZERO }.name(), "stale");
        let frozen =
            Why::Frozen { latency: Duration::from_micros(5123), samples: 400, since: Duration::from_secs(8) };
        assert_eq!(
            frozen.to_string(),
            "the last 400 latencies, over 8 s, are all 5.123ms: what measures them has stopped"
        );
    }
}
