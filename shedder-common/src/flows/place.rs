//! Where a flow's state lies.

use super::words::{Answered, Arrived, Key};
use super::{Meter, set_of};
use crate::bucket::{Set, WAYS};

/// For how long a place is kept for a request that waits on a silent flow, in nanoseconds (137 s).
const KEPT: u64 = 1 << 37;

/// For how long a place is kept for a connection that was asked for, in nanoseconds (8.6 s): a peer that still wants it
/// asks again sooner.
const CONNECTION_KEPT: u64 = 1 << 33;

/// Whether something waits on the flow, and its place may not be given away.
#[inline(always)]
pub(super) fn is_kept(key: Key, arrived: Arrived, answered: Answered, now: u64) -> bool {
    if arrived.is_connecting(answered) {
        key.silence(now) < CONNECTION_KEPT
    } else {
        arrived.waiting(answered) != 0 && key.silence(now) < KEPT
    }
}

/// What [`place`] returns where there is no place.
pub(super) const NOWHERE: u32 = 16;

/// Set in what [`place`] returns where the flow had no place before.
pub(super) const NEW: u32 = 8;

/// The way of its set that is the flow's, which was heard of at `now`, in nanoseconds. Where there is none and `or_new`
/// says so, one is taken for it: one that is free, else the one that was silent the longest of those on which nothing
/// waits; then the way is given with the bit of 8. 16 where there is none.
#[inline(always)]
pub fn place<M: Meter>(meter: &M, flow: u64, now: u64, or_new: bool) -> u32 {
    let keys = meter.flow_keys(set_of(flow));
    let key = Key::new(super::sample(flow), now);
    let mut way = 0;
    while way < WAYS {
        let word = &keys.0[way];
        let held = word.load();
        if Key(held).tag() == key.tag() && !Key(held).is_empty() {
            if or_new && held != key.0 {
                // Where another CPU gives the place away at this moment, it does.
                word.compare_exchange(held, key.0);
            }
            return way as u32;
        }
        way += 1;
    }
    if or_new { claim(meter, flow, keys, key, now) } else { NOWHERE }
}

/// Takes a way for the flow with this key, of those that the `keys` of its set tell.
#[inline(always)]
fn claim<M: Meter>(meter: &M, flow: u64, keys: &Set, key: Key, now: u64) -> u32 {
    let set = meter.flows(set_of(flow));
    let mut chosen = WAYS;
    let mut longest = 0;
    let mut way = 0;
    while way < WAYS {
        let held = Key(keys.0[way].load());
        let arrived = Arrived(set.arrived.0[way].load());
        let answered = Answered(set.answered.0[way].load());
        let silence = if held.is_empty() {
            u64::MAX
        } else if is_kept(held, arrived, answered, now) {
            0
        } else {
            held.silence(now) + 1
        };
        if silence > longest {
            longest = silence;
            chosen = way;
        }
        way += 1;
    }
    if chosen >= WAYS {
        return NOWHERE;
    }
    let word = &keys.0[chosen];
    let held = word.load();
    // Where another CPU is first, this flow begins at its next request.
    if word.compare_exchange(held, key.0) == held { chosen as u32 | NEW } else { NOWHERE }
}

/// Gives the flow's way back.
#[inline(always)]
pub(super) fn release<M: Meter>(meter: &M, flow: u64, way: usize) {
    meter.flow_keys(set_of(flow)).0[way & (WAYS - 1)].store(0);
}
