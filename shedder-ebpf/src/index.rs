//! Indices that every verifier can follow.

use core::arch::asm;

/// The same index, of which the compiler knows nothing.
///
/// Where the compiler knows that an index is below an array's length, as of every reason and priority, it takes a mask away; the
/// verifier of Linux 6.1 knows less, follows ways that the code never goes, and finds an index without bounds there.
#[inline(always)]
pub fn opaque(mut index: usize) -> usize {
    // SAFETY: adds nothing.
    unsafe { asm!("/* {0} */", inout(reg) index, options(pure, nomem, nostack, preserves_flags)) };
    index
}

/// `index` modulo `N`, a power of two.
#[inline(always)]
pub fn below<const N: usize>(index: usize) -> usize {
    const { assert!(N.is_power_of_two()) };
    opaque(index) & (N - 1)
}
