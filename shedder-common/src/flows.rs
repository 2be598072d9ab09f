//! Which flows are measured, and what is in flight on each: from a request's first byte to its answer's.

use crate::abi::FlowSet;

/// What a measured flow waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// A SYN that was not answered yet.
    Connection,
    /// A request that was not answered yet.
    Request,
}

/// Requests of one flow that arrived together and are not answered yet, or a connection that is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outstanding {
    /// The service's slot.
    pub service: usize,
    /// What for.
    pub waiting: Waiting,
    /// When they arrived, in nanoseconds of CLOCK_MONOTONIC, to 1.024 us.
    pub since: u64,
    /// How many; 1 for a connection.
    pub count: u32,
}

/// Everything that is outstanding in a set at `now`, in nanoseconds.
pub fn outstanding(_set: &FlowSet, _now: u64, _each: impl FnMut(Outstanding)) {}
