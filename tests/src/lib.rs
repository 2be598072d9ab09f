//! What the tests that cross a network or a kernel are made of: networks of namespaces, a server with a limited
//! capacity, load that does not wait for answers, floods, and the arithmetic on what they recorded.
//!
//! Everything here stays inside namespaces that it made itself, is bounded in time and number, and is removed when
//! its value is dropped; what a run that was killed left behind is removed by the next.

pub mod accuracy;
pub mod bpf;
pub mod dialogue;
pub mod endpoint;
pub mod flood;
pub mod frame;
pub mod interrupt;
pub mod kernel;
pub mod limits;
pub mod load;
pub mod machine;
pub mod measured;
pub mod netns;
pub mod privileged;
pub mod process;
pub mod programs;
pub mod random;
pub mod server;
pub mod shedder;
pub mod stats;
pub mod traffic;
pub mod wait;
