//! The daemon: joins observation, decision and the datapath.
//!
//! Three parties, so that none waits for another: the main thread attaches, reconciles and reloads; the control
//! thread turns on its own clock; a small runtime probes, listens and answers. They share [`Live`], which is replaced
//! whole, and what the control thread publishes after each turn.

mod control_loop;
mod fence;
pub mod http;
mod live;
mod passive;
mod privileges;
pub mod report;
mod reporter;
pub mod signal;
mod source;
mod supervisor;

pub use fence::begin as give_up_privileges;
pub use privileges::Privileges;
pub use source::ConfigSource;
pub use supervisor::run;
