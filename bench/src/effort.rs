//! How much is measured.

use std::time::Duration;

/// Of each part.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    /// Rounds of the table of decisions, and runs of each line in each.
    pub(crate) costs: (usize, u32),
    /// Rounds of decisions by the number of sources, and frames of each.
    pub(crate) sources: (usize, u64),
    /// Rounds of floods, and how long each takes.
    pub(crate) floods: (usize, Duration),
    /// Rounds of floods that are held against the bare program, turns in each, and how long each takes.
    pub(crate) turns: (usize, usize, Duration),
    /// How many of the cases of floods.
    pub(crate) cases: usize,
    /// How often everything is stopped in each way.
    pub(crate) kills: usize,
    /// Intervals of the loop in milliseconds, and how long each is watched.
    pub(crate) intervals: (&'static [u64], Duration),
    /// How often the daemon is started, and scraped.
    pub(crate) starts: usize,
    /// Limits at which is counted what is admitted, and how long.
    pub(crate) rates: (&'static [u64], Duration),
    /// How often the lab plays an overload.
    pub(crate) overloads: usize,
    /// How long well-behaved sources are watched among others.
    pub(crate) bystanders: Duration,
}

impl Effort {
    /// What the documents are written by.
    pub(crate) const FULL: Effort = Effort {
        costs: (15, 1_000_000),
        sources: (5, 1 << 20),
        floods: (5, Duration::from_millis(150)),
        turns: (8, 12, Duration::from_millis(30)),
        cases: usize::MAX,
        kills: 50,
        intervals: (&[5, 20, 100], Duration::from_secs(2)),
        starts: 20,
        rates: (&[10, 1000, 100_000, 1_000_000], Duration::from_millis(2500)),
        overloads: 3,
        bystanders: Duration::from_secs(4),
    };

    /// Roughly how it stands.
    pub(crate) const QUICK: Effort = Effort {
        costs: (5, 200_000),
        sources: (1, 1 << 20),
        floods: (1, Duration::from_millis(100)),
        turns: (2, 6, Duration::from_millis(30)),
        cases: 2,
        kills: 5,
        intervals: (&[20], Duration::from_millis(500)),
        starts: 5,
        rates: (&[1000, 100_000], Duration::from_millis(300)),
        overloads: 1,
        bystanders: Duration::from_millis(500),
    };

    /// Whether it works at all.
    pub(crate) const GLANCE: Effort = Effort {
        costs: (1, 20_000),
        sources: (1, 20_000),
        floods: (1, Duration::from_millis(5)),
        turns: (1, 1, Duration::from_millis(5)),
        cases: 1,
        kills: 1,
        intervals: (&[100], Duration::from_millis(300)),
        starts: 1,
        rates: (&[1000], Duration::from_millis(50)),
        overloads: 1,
        bystanders: Duration::from_millis(20),
    };
}
