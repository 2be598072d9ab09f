//! The least that programs can do which do what shedder does: what they cost, no switch and no limit per source can cost less.
//! They drop every frame.

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::macros::{map, xdp};
use aya_ebpf::maps::{Array, PerCpuArray};
use aya_ebpf::programs::XdpContext;
use shedder_common::bucket::Set;
use shedder_common::word::Word;

use crate::plan::TABLE;

/// Lines of such a table in shedder's layout.
const SETS: u32 = TABLE as u32 / 8;

#[map]
static SWITCH: Array<Word> = Array::with_max_entries(1, 0);
#[map]
static LINES: Array<Set> = Array::with_max_entries(SETS, 0);
#[map]
static MET: PerCpuArray<Met> = PerCpuArray::with_max_entries(1, 0);

/// What was met on one CPU.
#[repr(C)]
struct Met {
    packets: u64,
    bytes: u64,
}

/// Of a switch that leaves a host its neighbours (ARP): it looks at one word, which says that nothing passes as long as nobody has
/// written to it, and at the frame's type, and counts.
#[xdp(frags)]
pub fn switch(ctx: XdpContext) -> u32 {
    const TYPE: usize = 12;
    const IPV4: u16 = 0x0800;
    let at = ctx.data() + TYPE;
    // SAFETY: where it is read, it lies before the frame's end, by the comparison.
    let is_ipv4 = at + 2 <= ctx.data_end() && unsafe { (at as *const u16).read_unaligned() } == IPV4.to_be();
    let passes = !is_ipv4 || SWITCH.get(0).is_none_or(|word| word.load() != 0);
    decide(&ctx, passes)
}

/// Of a limit per source: it looks at the one line of memory that an IPv4 source has in a table as large as shedder's, where no
/// source has anything, and counts.
#[xdp(frags)]
pub fn line(ctx: XdpContext) -> u32 {
    const SOURCE: usize = 26;
    let at = ctx.data() + SOURCE;
    let passes = if at + 4 > ctx.data_end() {
        true
    } else {
        // SAFETY: it lies before the frame's end, by the comparison above.
        let source = unsafe { (at as *const u32).read_unaligned() } as u64;
        let hash = (source ^ source >> 16).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        LINES.get((hash >> 32) as u32 & (SETS - 1)).is_none_or(|line| line.0[0].load() != 0)
    };
    decide(&ctx, passes)
}

#[inline(always)]
fn decide(ctx: &XdpContext, passes: bool) -> u32 {
    if let Some(met) = MET.get_ptr_mut(0) {
        // SAFETY: the pointer is this CPU's own value, and programs on one CPU do not interrupt each other here.
        unsafe {
            (*met).packets += 1;
            (*met).bytes += (ctx.data_end() - ctx.data()) as u64;
        }
    }
    if passes { xdp_action::XDP_PASS } else { xdp_action::XDP_DROP }
}
