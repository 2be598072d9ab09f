//! One round.

use std::fmt;

/// What was done in a round, and what of it was against a promise.
pub(crate) struct Round {
    /// What was done to shedder, or around it.
    pub(crate) fault: &'static str,
    /// Whether a kill held meanwhile.
    pub(crate) killed: bool,
    /// Whether every packet was to be accounted for.
    pub(crate) counted: bool,
    /// Packets that were sent.
    pub(crate) packets: u64,
    pub(crate) violations: Vec<String>,
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let killed = if self.killed { ", killed" } else { "" };
        write!(f, "chaos: {:6} packets{killed}: {}", self.packets, self.fault)?;
        self.violations.iter().try_for_each(|violation| write!(f, "\n  VIOLATED: {violation}"))
    }
}
