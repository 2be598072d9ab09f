//! shedder: an eBPF/XDP load shedder and kill switch. The library behind the command line.
//!
//! Dependencies point one way: `cli -> daemon -> {control, datapath, config} -> shedder-common`.

pub mod cli;
pub mod config;
pub mod control;
pub mod daemon;
pub mod datapath;
