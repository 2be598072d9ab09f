//! What the compiler cannot know: which ways most packets go. It lets those run straight on, and moves the others aside.

/// Few packets come here.
#[inline(always)]
pub fn cold() {
    #[cfg(target_arch = "bpf")]
    core::intrinsics::cold_path();
}

/// The condition, which hardly ever holds.
#[inline(always)]
pub fn unlikely(condition: bool) -> bool {
    if condition {
        cold();
    }
    condition
}
