//! The daemon: joins observation, decision and the datapath.

pub mod http;
pub mod report;
