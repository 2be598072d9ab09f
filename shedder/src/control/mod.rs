//! Decisions: what the loop makes of what it observed. Pure: time and measurements come in, decisions go out.
pub mod distribution;
pub mod pid;
pub mod service;
pub mod signal;
pub mod simulate;
pub use distribution::{Counters, Distribution};
pub use pid::Terms;
pub use service::{Decision, ServiceLoop, State, Why};
pub use signal::{Outcome, Reading, Window};
