//! Waiting for what must come to be.

use std::time::{Duration, Instant};

/// No test waits longer: what has not come by then does not come.
const PATIENCE: Duration = Duration::from_secs(120);

/// Waits until `is_so`.
///
/// # Panics
/// Where it is not after two minutes, naming `what` was waited for.
#[track_caller]
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
