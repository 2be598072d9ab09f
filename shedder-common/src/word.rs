//! One 64-bit word that several CPUs read and write.

use core::cell::UnsafeCell;

/// A word in memory that others change meanwhile: a bucket, a remembered key, a kill.
///
/// The BPF target knows no `AtomicU64` that the backend can load relaxed or compare, so that there a load is
/// volatile and a compare-and-swap is the intrinsic; on the host both are `AtomicU64`.
#[repr(transparent)]
#[derive(Debug, Default)]
pub struct Word(UnsafeCell<u64>);

// SAFETY: every access goes through `load`, `store` and `compare_exchange`, which are atomic: on the host by
// `AtomicU64`, in the kernel because an aligned 64-bit access is one instruction and the exchange is locked.
unsafe impl Sync for Word {}

impl Word {
    /// A word that holds `value`.
    pub const fn new(value: u64) -> Word {
        Word(UnsafeCell::new(value))
    }

    /// What the word holds now.
    #[inline(always)]
    pub fn load(&self) -> u64 {
        #[cfg(target_arch = "bpf")]
        // SAFETY: the pointer comes from a live `&self`; volatile, because other CPUs write.
        return unsafe { core::ptr::read_volatile(self.0.get()) };
        #[cfg(not(target_arch = "bpf"))]
        return self.atomic().load(core::sync::atomic::Ordering::Relaxed);
    }

    /// Puts `value` into the word.
    #[inline(always)]
    pub fn store(&self, value: u64) {
        #[cfg(target_arch = "bpf")]
        // SAFETY: as in `load`.
        unsafe {
            core::ptr::write_volatile(self.0.get(), value)
        };
        #[cfg(not(target_arch = "bpf"))]
        self.atomic().store(value, core::sync::atomic::Ordering::Relaxed);
    }

    /// Puts `new` into the word if it holds `old`. Returns what it held: `old` where the exchange was made.
    #[inline(always)]
    pub fn compare_exchange(&self, old: u64, new: u64) -> u64 {
        #[cfg(target_arch = "bpf")]
        // SAFETY: the pointer comes from a live `&self` and is aligned.
        return unsafe {
            use core::intrinsics::{AtomicOrdering, atomic_cxchg};
            atomic_cxchg::<u64, { AtomicOrdering::SeqCst }, { AtomicOrdering::SeqCst }>(
                self.0.get(),
                old,
                new,
            )
            .0
        };
        #[cfg(not(target_arch = "bpf"))]
        {
            use core::sync::atomic::Ordering::SeqCst;
            match self.atomic().compare_exchange(old, new, SeqCst, SeqCst) {
                Ok(held) | Err(held) => held,
            }
        }
    }

    #[cfg(not(target_arch = "bpf"))]
    fn atomic(&self) -> &core::sync::atomic::AtomicU64 {
        // SAFETY: `AtomicU64` has the layout of `UnsafeCell<u64>` where u64 is aligned to 8, as on every 64-bit
        // host, and no other kind of access to the cell exists.
        unsafe { core::sync::atomic::AtomicU64::from_ptr(self.0.get()) }
    }
}
