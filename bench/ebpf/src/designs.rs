//! The usual designs of a limit per source. They walk the headers by the code that shedder uses, and do nothing beside the
//! limit and a count: no kill, no rules, no services.

use aya_ebpf::bindings::{BPF_NOEXIST, bpf_spin_lock, xdp_action};
use aya_ebpf::btf_maps::{HashMap, LruHashMap};
use aya_ebpf::helpers::generated::{
    bpf_ktime_get_coarse_ns, bpf_ktime_get_ns, bpf_spin_lock, bpf_spin_unlock,
};
use aya_ebpf::macros::{btf_map, map, xdp};
use aya_ebpf::maps::PerCpuArray;
use aya_ebpf::programs::XdpContext;
use shedder_common::word::Word;

use crate::frame::source;
use crate::plan::{Counts, TABLE};

/// Nanoseconds that a packet takes. Set before the programs are loaded, as the next is.
#[unsafe(no_mangle)]
static COST: u64 = 0;
/// Nanoseconds' worth of packets that may come at once, the first not counted.
#[unsafe(no_mangle)]
static TOLERANCE: u64 = 0;

/// Theoretical arrival times.
#[btf_map]
static RECENT: LruHashMap<u64, Word, TABLE> = LruHashMap::new();
#[btf_map]
static BUCKETS: HashMap<u64, Bucket, TABLE> = HashMap::new();
#[map]
static COUNTS: PerCpuArray<Counts> = PerCpuArray::with_max_entries(1, 0);

/// A token bucket, in nanoseconds' worth of packets.
#[repr(C)]
pub struct Bucket {
    lock: bpf_spin_lock,
    reserved: u32,
    level: u64,
    filled_at: u64,
}

/// A least-recently-used hash of arrival times, exchanged by compare-and-swap, and the coarse clock.
#[xdp(frags)]
pub fn recent(ctx: XdpContext) -> u32 {
    // SAFETY: a helper without arguments.
    let now = unsafe { bpf_ktime_get_coarse_ns() };
    judge(&ctx, |source| {
        // SAFETY: an entry that is evicted and reused meanwhile is another source's arrival time: what this design risks.
        let Some(time) = (unsafe { RECENT.get(source) }) else {
            return RECENT.insert(source, Word::new(now + cost()), BPF_NOEXIST as u64).is_ok();
        };
        let mut tries = 0;
        while tries < 4 {
            let held = time.load();
            let from = if held > now { held } else { now };
            if from - now > tolerance() {
                return false;
            }
            if time.compare_exchange(held, from + cost()) == held {
                return true;
            }
            tries += 1;
        }
        false
    })
}

/// A hash of token buckets, each behind a spin lock, and the precise clock: the textbook. Whoever finds no place is refused.
#[xdp(frags)]
pub fn locked(ctx: XdpContext) -> u32 {
    // SAFETY: a helper without arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    judge(&ctx, |source| {
        let Some(bucket) = BUCKETS.get_ptr_mut(source) else {
            let bucket =
                Bucket { lock: bpf_spin_lock { val: 0 }, reserved: 0, level: tolerance(), filled_at: now };
            return BUCKETS.insert(source, bucket, BPF_NOEXIST as u64).is_ok();
        };
        let most = tolerance() + cost();
        // SAFETY: an entry of a map without evictions stays where it is; what is in it is touched under its lock.
        unsafe {
            bpf_spin_lock(&raw mut (*bucket).lock);
            let passed = now.saturating_sub((*bucket).filled_at);
            let level = (*bucket).level + passed;
            let level = if level > most { most } else { level };
            let is_enough = level >= cost();
            (*bucket).level = if is_enough { level - cost() } else { level };
            (*bucket).filled_at = now;
            bpf_spin_unlock(&raw mut (*bucket).lock);
            is_enough
        }
    })
}

/// Counts and obeys what `admit` says to a frame's source.
#[inline(always)]
fn judge(ctx: &XdpContext, admit: impl FnOnce(u64) -> bool) -> u32 {
    let passes = match source(ctx) {
        Some(source) => admit(source),
        None => true,
    };
    if let Some(counts) = COUNTS.get_ptr_mut(0) {
        // SAFETY: the pointer is this CPU's own value, and programs on one CPU do not interrupt each other here.
        let counts = unsafe { &mut *counts };
        if passes {
            counts.passed += 1;
        } else {
            counts.dropped += 1;
        }
    }
    if passes { xdp_action::XDP_PASS } else { xdp_action::XDP_DROP }
}

#[inline(always)]
fn cost() -> u64 {
    // SAFETY: a static; volatile, because the loader changes it.
    unsafe { core::ptr::read_volatile(&raw const COST) }
}

#[inline(always)]
fn tolerance() -> u64 {
    // SAFETY: as in `cost`.
    unsafe { core::ptr::read_volatile(&raw const TOLERANCE) }
}
