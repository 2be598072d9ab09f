//! The daemon: joins observation, decision and the datapath.

pub mod report;
pub mod signal;
