//! Finding a prefix: a table of small sets, so made that none overflows.

use crate::abi::{Prefix4, Prefix6};

/// Prefixes in a set.
pub const PREFIX_WAYS: usize = 4;

/// Prefixes that share a place in the table.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bytemuck::Zeroable)]
pub struct PrefixSet<P> {
    /// Which ones.
    pub prefixes: [P; PREFIX_WAYS],
    /// Where what holds for each is found, counted from 1; 0: the way is free.
    pub entries: [u32; PREFIX_WAYS],
}

// SAFETY: plain data in C's layout, of which the assertion shows that nothing is between its fields.
unsafe impl bytemuck::Pod for PrefixSet<Prefix4> {}
// SAFETY: as above.
unsafe impl bytemuck::Pod for PrefixSet<Prefix6> {}
const _: () = assert!(size_of::<PrefixSet<Prefix4>>() == PREFIX_WAYS * (size_of::<Prefix4>() + 4));
const _: () = assert!(size_of::<PrefixSet<Prefix6>>() == PREFIX_WAYS * (size_of::<Prefix6>() + 4));

/// Where in a table a prefix is looked for: chosen by whoever fills the table, so that every prefix has a place.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct PrefixHash {
    /// Odd.
    pub multiplier: u64,
    /// Sets in the table, minus one; a power of two minus one.
    pub mask: u64,
}

/// A prefix that can be looked for.
pub trait Prefix: bytemuck::Pod + Eq {
    /// All of it in one word, under a multiplier. It is no secret: the prefixes are the operator's, and an address that
    /// somebody chooses finds at the most a whole set.
    fn fold(&self, multiplier: u64) -> u64;
}

impl Prefix for Prefix4 {
    #[inline(always)]
    fn fold(&self, _: u64) -> u64 {
        (self.address as u64) << 32 | self.length as u64
    }
}

impl Prefix for Prefix6 {
    #[inline(always)]
    fn fold(&self, multiplier: u64) -> u64 {
        (self.high ^ self.length).wrapping_mul(multiplier).rotate_left(32) ^ self.low
    }
}

impl PrefixHash {
    /// The set that the prefix is in, if it is in the table.
    #[inline(always)]
    pub fn set_of<P: Prefix>(&self, prefix: &P) -> u32 {
        let folded = prefix.fold(self.multiplier);
        // A product's upper half depends on every bit, but for what is above it in the word: that is folded down first.
        ((folded ^ folded >> 32).wrapping_mul(self.multiplier) >> 32 & self.mask) as u32
    }
}

impl<P: Prefix> PrefixSet<P> {
    /// The prefix's entry, counted from 1; 0: it is not here.
    #[inline(always)]
    pub fn find(&self, prefix: &P) -> u32 {
        let mut i = 0;
        while i < PREFIX_WAYS {
            // A free way is told by its entry, which is 0.
            if self.prefixes[i] == *prefix {
                return self.entries[i];
            }
            i += 1;
        }
        0
    }
}
