//! The coarse clock, told by the kernel's count of ticks.
//!
//! The kernel counts a tick each time that CLOCK_MONOTONIC has advanced by one, and moves its coarse clock in the same
//! step: the two differ by a constant, which is found when a program is loaded. The count is one load, where the helper
//! that reads the coarse clock is three calls.

use aya_ebpf::helpers::generated::{bpf_jiffies64, bpf_ktime_get_coarse_ns};

use crate::env::policy;

/// What the coarse clock showed at tick 0, wrapping. Of the programs of one load, and set by its handshake.
#[unsafe(no_mangle)]
static mut TICK_ZERO: u64 = 0;

#[inline(always)]
fn ticked() -> u64 {
    // SAFETY: a helper without arguments, in place of which the kernel puts a load.
    unsafe { bpf_jiffies64() }.wrapping_mul(policy().tick)
}

/// Nanoseconds of CLOCK_MONOTONIC, to a tick.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: a word that is aligned, and written before anything that reads it is attached.
    ticked().wrapping_add(unsafe { (&raw const TICK_ZERO).read_volatile() })
}

/// Sets the count of ticks by the clock.
#[inline(always)]
pub fn set() {
    // SAFETY: a helper without arguments.
    let clock = unsafe { bpf_ktime_get_coarse_ns() };
    // SAFETY: as in `now`.
    unsafe { (&raw mut TICK_ZERO).write_volatile(clock.wrapping_sub(ticked())) };
}
