//! Measuring what passes, out of line: in functions that the verifier follows once each, whatever came before.

use aya_ebpf::bindings::{__sk_buff, xdp_md};
use aya_ebpf::cty::{c_long, c_void};
use aya_ebpf::helpers::generated::{bpf_ktime_get_ns, bpf_loop, bpf_skb_load_bytes, bpf_xdp_load_bytes};
use shedder_common::abi::{Control, EXCHANGES, Exchange, FlowSet, Policy};
use shedder_common::bucket::Set;
use shedder_common::flows::{self, CHUNK, Ending, Found, Meter, Scan, Segment, WINDOW};
use shedder_common::histogram::BUCKETS;
use shedder_common::ladder::{self, Direction};

use crate::counters::Mine;
use crate::env::Maps;
use crate::maps;

/// A frame that a program was called for, which may lie in several pieces.
pub trait Frame: Copy {
    /// Copies `length` bytes that begin `at` bytes into the frame, where they are there.
    ///
    /// # Safety
    /// `to` is valid for writes of `length` bytes.
    unsafe fn load(self, at: u32, to: *mut c_void, length: u32);

    /// [`Meter::scan`].
    fn scan(self, at: u32, length: u32, answers: u32) -> Found;
}

impl Frame for *mut xdp_md {
    #[inline(always)]
    unsafe fn load(self, at: u32, to: *mut c_void, length: u32) {
        // SAFETY: the context is the one that the program was called with; the rest is the caller's promise.
        unsafe { bpf_xdp_load_bytes(self, at, to, length) };
    }

    #[inline(always)]
    fn scan(self, at: u32, length: u32, answers: u32) -> Found {
        Found(shedder_search_arriving(self, at, length, answers))
    }
}

impl Frame for *mut __sk_buff {
    #[inline(always)]
    unsafe fn load(self, at: u32, to: *mut c_void, length: u32) {
        // SAFETY: as above.
        unsafe { bpf_skb_load_bytes(self.cast(), at, to, length) };
    }

    #[inline(always)]
    fn scan(self, at: u32, length: u32, answers: u32) -> Found {
        Found(shedder_search_leaving(self, at, length, answers))
    }
}

/// Takes note of what arrives: [`flows::arrived`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn shedder_arrived(ctx: *mut xdp_md) -> u32 {
    InKernel::of_judged(ctx, Direction::Ingress, flows::arrived)
}

/// Takes note of what leaves: [`flows::left`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn shedder_left(ctx: *mut __sk_buff) -> u32 {
    InKernel::of_judged(ctx, Direction::Egress, flows::left)
}

/// [`flows::settle()`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn shedder_settle(flow: u64, way: u32, answered: u64, rest: u64) -> u64 {
    flows::settle(&InKernel { frame: (), place: None }, flow, way, Ending::unpack(answered, rest))
}

/// [`Meter::scan`] of what arrives.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn shedder_search_arriving(ctx: *mut xdp_md, at: u32, length: u32, answers: u32) -> u64 {
    search(ctx, search_arriving as *mut c_void, (at, length), answers)
}

/// [`Meter::scan`] of what leaves.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn shedder_search_leaving(ctx: *mut __sk_buff, at: u32, length: u32, answers: u32) -> u64 {
    search(ctx, search_leaving as *mut c_void, (at, length), answers)
}

/// What of a frame is searched.
#[repr(C)]
struct Range<F> {
    frame: F,
    at: u32,
    length: u32,
}

/// A search while it lasts. In a map, because of what lies there the verifier knows nothing, so that each turn of the loop
/// looks to it like the one before.
#[repr(C)]
pub struct Search {
    window: [u64; WINDOW],
    scan: Scan,
}

/// Searches a frame chunk by chunk.
#[inline(always)]
fn search<F: Frame>(frame: F, callback: *mut c_void, (at, length): (u32, u32), answers: u32) -> u64 {
    let Some(search) = maps::SEARCH.get_ptr_mut(0) else { return 0 };
    // SAFETY: the pointer is this CPU's own value, and programs on one CPU do not interrupt each other.
    unsafe { (*search).scan = Scan::new(answers) };
    let mut range = Range { frame, at, length };
    // SAFETY: both callers give the callback that takes a range with their frame, and it lives until the loop ends.
    unsafe { bpf_loop(length.div_ceil(CHUNK), callback, (&raw mut range).cast(), 0) };
    // SAFETY: as above.
    unsafe { (*search).scan.found.0 }
}

#[inline(never)]
unsafe extern "C" fn search_arriving(chunk: u32, range: *mut Range<*mut xdp_md>) -> c_long {
    // SAFETY: the range lives across the loop, and nobody writes to it.
    search_chunk(chunk, unsafe { &*range })
}

#[inline(never)]
unsafe extern "C" fn search_leaving(chunk: u32, range: *mut Range<*mut __sk_buff>) -> c_long {
    // SAFETY: as above.
    search_chunk(chunk, unsafe { &*range })
}

/// Searches a chunk. Returns 1 where that ends the search, as `bpf_loop` wants it.
#[inline(always)]
fn search_chunk<F: Frame>(chunk: u32, range: &Range<F>) -> c_long {
    let from = chunk * CHUNK;
    let Some(search) = maps::SEARCH.get_ptr_mut(0) else { return 1 };
    if from >= range.length {
        return 1;
    }
    // SAFETY: as in `search`.
    let search = unsafe { &mut *search };
    for word in &mut search.window {
        // SAFETY: a reference; volatile, because the compiler would make a call of it, which costs time and stack.
        unsafe { (&raw mut *word).write_volatile(0) };
    }
    load(range.frame, range.at + from, range.length - from, &mut search.window);
    search.scan.chunk(&search.window) as c_long
}

/// Copies as many of the `length` bytes, at least one, that begin `at` bytes into the frame as there is room for.
#[allow(
    asm_sub_register,
    reason = "it speaks of the registers of the host, for which nothing of this is compiled"
)]
#[inline(always)]
fn load<F: Frame, const WORDS: usize>(frame: F, at: u32, length: u32, to: &mut [u64; WORDS]) {
    let mut last = length - 1;
    // SAFETY: adds nothing. The compiler forgets what it knows of the number, and leaves the comparison that follows to
    // bound it, so that the verifier sees one bounded number from there on.
    unsafe {
        core::arch::asm!("{0} += 0", inout(reg) last, options(pure, nomem, nostack, preserves_flags));
    }
    let most = 8 * WORDS as u32 - 1;
    let last = if last < most { last } else { most };
    // SAFETY: the words have as many bytes, and every pattern of bits is valid in them.
    unsafe { frame.load(at, to.as_mut_ptr().cast(), last + 1) };
}

/// The maps of this object, and a frame.
struct InKernel<F> {
    frame: F,
    /// Memory of which the verifier knows nothing.
    place: Option<*mut u32>,
}

impl<F: Frame> InKernel<F> {
    /// Has a frame measured, as it was judged.
    #[inline(always)]
    fn of_judged(frame: F, direction: Direction, measure: impl FnOnce(&InKernel<F>, &Segment<'_>)) -> u32 {
        let mine = Mine::get();
        let room = mine.room();
        if let Some(segment) = ladder::measured(&Maps::<{ Policy::ANY }>::new(mine), direction, room) {
            measure(&InKernel { frame, place: Some(room.place.as_ptr()) }, &segment);
        }
        0
    }
}

impl Frame for () {
    #[inline(always)]
    unsafe fn load(self, _: u32, _: *mut c_void, _: u32) {}

    #[inline(always)]
    fn scan(self, _: u32, _: u32, _: u32) -> Found {
        Found::default()
    }
}

impl<F: Frame> Meter for InKernel<F> {
    #[inline(always)]
    fn flow_keys(&self, set: u32) -> &Set {
        maps::FLOW_KEYS.at(set)
    }

    #[inline(always)]
    fn flows(&self, set: u32) -> &FlowSet {
        maps::FLOWS.at(set)
    }

    #[inline(always)]
    fn control(&self) -> &Control {
        maps::CONTROL.at(0)
    }

    #[inline(always)]
    fn clock(&self) -> u64 {
        // SAFETY: a helper without arguments.
        unsafe { bpf_ktime_get_ns() }
    }

    #[inline(always)]
    fn read(&self, at: u32, length: u32) -> u64 {
        let mut word = [0];
        if length > 0 {
            load(self.frame, at, length, &mut word);
        }
        word[0]
    }

    #[inline(always)]
    fn place(&self, flow: u64, now: u64, or_new: bool) -> u32 {
        let place = flows::place(self, flow, now, or_new);
        // Through memory: what comes next the verifier follows once, and not once for each place.
        let Some(memory) = self.place else { return place };
        // SAFETY: a cell, of this CPU's own.
        unsafe { memory.write_volatile(place) };
        // SAFETY: as above.
        unsafe { memory.read_volatile() }
    }

    #[inline(always)]
    fn scan(&self, at: u32, length: u32, answers: u32) -> Found {
        self.frame.scan(at, length, answers)
    }

    #[inline(always)]
    fn settle(&self, flow: u64, way: u32, ending: Ending) -> u64 {
        shedder_settle(flow, way, ending.answered, ending.pack())
    }

    #[inline(always)]
    fn count_waits(&self, service: usize, answered: bool, bucket: usize, requests: u32) {
        if let Some(measured) = maps::MEASURED.mine_of(service) {
            // SAFETY: the pointer is this CPU's own value, the index is masked, and programs on one CPU do not
            // interrupt each other.
            unsafe {
                let counts = if answered { &mut (*measured).answered } else { &mut (*measured).abandoned };
                let count = &mut counts[bucket & (BUCKETS - 1)];
                *count = count.wrapping_add(requests);
            }
        }
    }

    #[inline(always)]
    fn count(&self, service: usize, exchange: Exchange, times: u32) {
        if let Some(measured) = maps::MEASURED.mine_of(service) {
            // SAFETY: as above.
            unsafe {
                let count = &mut (*measured).exchanges[exchange as usize & (EXCHANGES - 1)];
                *count = count.wrapping_add(times);
            }
        }
    }
}
