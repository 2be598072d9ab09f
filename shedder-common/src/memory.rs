//! Remembering a key for a while: sources that are proven, UDP flows that are known.
//!
//! Kept in the same 8-way sets as buckets: a word is a 32-bit tag and a 32-bit time to forget, in units of 2^30 ns
//! (1.07 s). Where every way is live, the one that would be forgotten first makes room, and the caller counts it.

use crate::bucket::{Set, WAYS};
use crate::word::Word;

/// Nanoseconds of CLOCK_MONOTONIC to the unit of time kept here, as a shift.
pub const UNIT_BITS: u32 = 30;

/// What remembering did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remembered {
    /// It was known already.
    Known,
    /// It is known now.
    New,
    /// It is known now, and another that was known is forgotten before its time.
    Displaced,
}

/// Where a key is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// Which set.
    pub set: u32,
    tag: u64,
}

impl Key {
    /// The place of the key whose keyed hash is `hash`, in a table of `set_mask + 1` sets.
    #[inline(always)]
    pub const fn of(hash: u64, set_mask: u32) -> Key {
        // The bucket's place is taken from other bits, so that two tables do not fill in step.
        Key { set: (hash >> 13) as u32 & set_mask, tag: hash >> 32 }
    }
}

#[inline(always)]
const fn forget_at(word: u64) -> u64 {
    word & 0xffff_ffff
}

/// Whether the key is remembered at `now`, in nanoseconds.
#[inline(always)]
pub fn recall(set: &Set, key: Key, now: u64) -> bool {
    let now = now >> UNIT_BITS;
    let mut i = 0;
    while i < WAYS {
        let held = set.0[i].load();
        if held >> 32 == key.tag && forget_at(held) > now {
            return true;
        }
        i += 1;
    }
    false
}

/// Remembers the key for `ttl` units (1.07 s each) from `now`, in nanoseconds: it is forgotten after that time in
/// silence and at most a unit more. A key that is known is written once in a unit at the most, so that a busy key
/// costs reads.
#[inline(always)]
pub fn remember(set: &Set, key: Key, now: u64, ttl: u64) -> Remembered {
    let now = now >> UNIT_BITS;
    let until = now + ttl + 1;
    let mut target: Option<(&Word, u64)> = None;
    let mut soonest = u64::MAX;
    let mut i = 0;
    while i < WAYS {
        let way = &set.0[i];
        let held = way.load();
        if held >> 32 == key.tag && forget_at(held) > now {
            if forget_at(held) < until {
                way.compare_exchange(held, key.tag << 32 | until);
            }
            return Remembered::Known;
        }
        if forget_at(held) < soonest {
            soonest = forget_at(held);
            target = Some((way, held));
        }
        i += 1;
    }
    if let Some((way, held)) = target {
        // Where another CPU was first, this key is remembered at its next packet.
        way.compare_exchange(held, key.tag << 32 | until);
    }
    if soonest > now { Remembered::Displaced } else { Remembered::New }
}

/// How many keys of the set are remembered at `now`, in nanoseconds.
pub fn live(set: &Set, now: u64) -> usize {
    set.0.iter().filter(|way| forget_at(way.load()) > now >> UNIT_BITS).count()
}
