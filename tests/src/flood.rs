//! Floods: frames sent at a rate, and a receiver that counts what arrived and when.
//!
//! Times are of the wall clock ([`now`]), the kernel's own stamp on what is received: it must not be stepped meanwhile.

mod receiver;
mod sender;

pub use receiver::{Arrivals, Receiver};
pub use sender::{Plan, Sender, Sent};

use nix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// The wall clock, since the Unix epoch, in the precision that the kernel stamps packets with.
pub fn now() -> Duration {
    clock_gettime(ClockId::CLOCK_REALTIME).expect("every Linux has a wall clock").into()
}
