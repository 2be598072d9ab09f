//! Makes load: writes a frame's headers with the next source, and sends it or hands it to the next program.

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::btf_maps::ProgramArray;
use aya_ebpf::helpers::generated::{bpf_get_smp_processor_id, bpf_ktime_get_ns, bpf_redirect};
use aya_ebpf::macros::{btf_map, map, xdp};
use aya_ebpf::maps::{Array, PerCpuArray};
use aya_ebpf::programs::XdpContext;

use crate::plan::{HEADER, Plan, Tally};

#[map]
static PLAN: Array<Plan> = Array::with_max_entries(1, 0);
#[map]
static TALLY: PerCpuArray<Tally> = PerCpuArray::with_max_entries(1, 0);
/// The programs that frames are handed to: those of regular sources to the second, all others to the first.
#[btf_map]
static NEXT: ProgramArray<2> = ProgramArray::new();

/// How often the time is looked at.
const TIMED: u64 = 64;

/// Makes one frame.
#[xdp(frags)]
pub fn generate(ctx: XdpContext) -> u32 {
    let (Some(plan), Some(tally)) = (PLAN.get(0), TALLY.get_ptr_mut(0)) else {
        return xdp_action::XDP_ABORTED;
    };
    // SAFETY: the pointer is this CPU's own value, and this program does not interrupt itself.
    let tally = unsafe { &mut *tally };
    let (bits, next) = source(plan, tally);
    let written = match plan.layout {
        Plan::V4 => write::<26, 24>(&ctx, plan, bits),
        Plan::V6 => write::<26, 60>(&ctx, plan, bits),
        Plan::TAGGED => write::<30, 28>(&ctx, plan, bits),
        _ => false,
    };
    if !written {
        return xdp_action::XDP_ABORTED;
    }
    if plan.interface != 0 {
        // SAFETY: a helper that takes no pointers.
        return unsafe { bpf_redirect(plan.interface, 0) as u32 };
    }
    // SAFETY: nothing here is to be dropped.
    unsafe { NEXT.tail_call(&ctx, next) };
    xdp_action::XDP_ABORTED
}

/// The varied bits of the next source, and whom its frame is for.
#[inline(always)]
fn source(plan: &Plan, tally: &mut Tally) -> (u32, u32) {
    if plan.regular_period != 0 {
        // SAFETY: a helper without arguments.
        let now = unsafe { bpf_ktime_get_ns() };
        if tally.regular_due == 0 {
            tally.regular_due = now;
        }
        if now >= tally.regular_due {
            tally.regular_due += plan.regular_period;
            let number = tally.regular.checked_rem(plan.regular_sources as u64).unwrap_or(0) as u32;
            tally.regular += 1;
            return (plan.regular_first + number, 1);
        }
    }
    let made = tally.frames;
    if made.is_multiple_of(TIMED) {
        // SAFETY: a helper without arguments.
        let now = unsafe { bpf_ktime_get_ns() };
        if made == 0 {
            tally.first = now;
        }
        tally.last = now;
        tally.at_last = made + tally.regular;
    }
    tally.frames = made + 1;
    // SAFETY: a helper without arguments.
    let cpu = unsafe { bpf_get_smp_processor_id() } as u64;
    let number = ((random(made ^ (cpu << 48), plan.seed) >> 32) * plan.sources as u64) >> 32;
    (plan.first + number as u32, 0)
}

/// Spreads numbers over all 64 bits (two rounds of SplitMix64's finaliser).
#[inline(always)]
fn random(number: u64, seed: u64) -> u64 {
    let x = (number + seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x ^ (x >> 27)
}

/// Writes the header with the source's bits at `SOURCE` and the checksum at `CHECK`. False: the frame is too short.
#[inline(always)]
fn write<const SOURCE: usize, const CHECK: usize>(ctx: &XdpContext, plan: &Plan, bits: u32) -> bool {
    let data = ctx.data();
    if data + HEADER > ctx.data_end() {
        return false;
    }
    let mut sum = plan.sum + (bits >> 16) as u64 + (bits & 0xffff) as u64;
    sum = (sum >> 16) + (sum & 0xffff);
    sum = (sum >> 16) + (sum & 0xffff);
    let check = match !(sum as u16) {
        // A UDP checksum of zero would say that there is none; in an IPv4 header both forms are right.
        0 => 0xffff,
        check => check,
    };
    // SAFETY: all of it lies before the frame's end, by the comparison above; none of it need be aligned here.
    unsafe {
        let mut word = 0;
        while word < HEADER / 8 {
            ((data + 8 * word) as *mut u64).write_unaligned(plan.header[word]);
            word += 1;
        }
        ((data + SOURCE) as *mut u32).write_unaligned(bits.to_be());
        ((data + CHECK) as *mut u16).write_unaligned(check.to_be());
    }
    true
}
