//! The kill switch: what stops, what goes on, for how long, and what is said where it does not work.

mod commands;
mod deadline;
mod kept;
mod lifeline;
mod obedience;
mod scope;
mod switch;

use nix::sys::signal::Signal;
use serde_json::Value;
use shedder_tests::process::Process;
use shedder_tests::shedder::Shedder;

/// Nothing but the interface.
const BARE: &str = "interfaces = [\"$IF\"]\n";

/// Ends a daemon as a crash does, and waits until it is gone.
fn crash(mut daemon: Process) {
    daemon.signal(Signal::SIGKILL).unwrap();
    daemon.wait(std::time::Duration::from_secs(30)).unwrap().expect("what is killed ends");
}

/// What `status` shows.
fn status(shedder: &Shedder<'_>) -> Value {
    serde_json::from_str(&shedder.status().expect("it is attached")).unwrap()
}
