//! Indices that every verifier can follow.

/// `index` modulo `N`, a power of two.
///
/// Where the compiler knows that `index` is below `N`, as of every reason and priority, it takes a mask away; the
/// verifier of Linux 6.1 knows less, follows ways that the code never goes, and finds an index without bounds there.
/// So it is read where the compiler cannot know it.
#[inline(always)]
pub fn below<const N: usize>(index: usize) -> usize {
    const { assert!(N.is_power_of_two()) };
    // SAFETY: a local variable, which is set.
    let index = unsafe { (&raw const index).read_volatile() };
    index & (N - 1)
}
