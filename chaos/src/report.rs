//! What came of a run.

use crate::round::Round;
use std::collections::BTreeMap;
use std::fmt;

/// All rounds together.
pub(crate) struct Report {
    seed: u64,
    rounds: u64,
    killed: u64,
    counted: u64,
    packets: u64,
    faults: BTreeMap<&'static str, u64>,
    violations: Vec<String>,
}

impl Report {
    pub(crate) fn new(seed: u64) -> Report {
        Report {
            seed,
            rounds: 0,
            killed: 0,
            counted: 0,
            packets: 0,
            faults: BTreeMap::new(),
            violations: Vec::new(),
        }
    }

    pub(crate) fn take(&mut self, round: Round) {
        self.rounds += 1;
        self.killed += u64::from(round.killed);
        self.counted += u64::from(round.counted);
        self.packets += round.packets;
        *self.faults.entry(round.fault).or_default() += 1;
        self.violations.extend(round.violations);
    }

    /// What was still there after the end.
    pub(crate) fn leftovers(&mut self, left: Vec<String>) {
        self.violations.extend(left);
    }

    pub(crate) fn holds(&self) -> bool {
        self.violations.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nchaos: {} rounds, {} packets, seed {}", self.rounds, self.packets, self.seed)?;
        writeln!(
            f,
            "  {} rounds under a kill; in {} every packet was to be accounted for",
            self.killed, self.counted
        )?;
        for (fault, count) in &self.faults {
            writeln!(f, "  {count:4}  {fault}")?;
        }
        for violation in &self.violations {
            writeln!(f, "VIOLATED: {violation}")?;
        }
        match self.violations.is_empty() {
            true => write!(f, "every promise held"),
            false => write!(f, "`cargo xtask chaos --seed {}` plays the same faults again", self.seed),
        }
    }
}
