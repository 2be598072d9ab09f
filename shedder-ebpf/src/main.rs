//! shedder's programs: what runs on every packet. They fetch state from maps, ask `shedder-common` for the verdict,
//! and turn it into an action. What fails open and what fails closed is decided in `shedder_common::ladder`.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod counters;
mod env;
mod frame;
mod handshake;
mod index;
mod maps;
mod measure;
mod ticks;

use aya_ebpf::bindings::tcx_action_base::{TCX_DROP, TCX_NEXT};
use aya_ebpf::bindings::{__sk_buff, xdp_action, xdp_md};
use aya_ebpf::macros::{classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};
use shedder_common::abi::Policy;
use shedder_common::ladder::{self, Direction};

use crate::counters::count;
use crate::env::Maps;
use crate::frame::{linear_of_skb, xdp_length};

// Each of the two programs is there in three forms. Which flags of a policy a form is for is known when it is compiled, so that
// it has nothing of the rest; the loader takes the least that a policy needs.

/// Judges what arrives.
#[xdp(frags)]
#[inline(always)]
pub fn shedder_ingress(ctx: XdpContext) -> u32 {
    // What is measured is judged in a function of its own, so that the stack of the one is free when the other needs it. It is
    // called and nowhere inlined as well: kernels before 6.8 add up the stacks of both copies, and refuse the program.
    let judged = Judged(shedder_judge_arriving(ctx.ctx));
    if judged.is_measured() {
        measure::shedder_arrived(ctx.ctx);
    }
    judged.action()
}

/// Judges what arrives where no service is measured.
#[xdp(frags)]
#[inline(always)]
pub fn shedder_ingress_unmeasured(ctx: XdpContext) -> u32 {
    judge_arriving::<{ Policy::UNMEASURED }>(ctx.ctx).action()
}

/// Judges what arrives where nothing but sources is told apart.
#[xdp(frags)]
#[inline(always)]
pub fn shedder_ingress_plain(ctx: XdpContext) -> u32 {
    judge_arriving::<{ Policy::PLAIN }>(ctx.ctx).action()
}

/// Judges what leaves, and learns whom this host answers.
#[classifier]
#[inline(always)]
pub fn shedder_egress(ctx: TcContext) -> i32 {
    let judged = Judged(shedder_judge_leaving(ctx.skb.skb));
    if judged.is_measured() {
        measure::shedder_left(ctx.skb.skb);
    }
    judged.action() as i32
}

/// Judges what leaves where no service is measured.
#[classifier]
#[inline(always)]
pub fn shedder_egress_unmeasured(ctx: TcContext) -> i32 {
    judge_leaving::<{ Policy::UNMEASURED }>(ctx.skb.skb).action() as i32
}

/// Judges what leaves where nothing but sources is told apart.
#[classifier]
#[inline(always)]
pub fn shedder_egress_plain(ctx: TcContext) -> i32 {
    judge_leaving::<{ Policy::PLAIN }>(ctx.skb.skb).action() as i32
}

/// An action, and above its 32 bits whether the frame is measured.
struct Judged(u64);

impl Judged {
    #[inline(always)]
    fn new<const FLAGS: u32>(action: u32, maps: &Maps<FLAGS>) -> Judged {
        Judged(action as u64 | (maps.measures.get() as u64) << 32)
    }

    #[inline(always)]
    fn action(&self) -> u32 {
        self.0 as u32
    }

    #[inline(always)]
    fn is_measured(&self) -> bool {
        self.0 >> 32 != 0
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn shedder_judge_arriving(ctx: *mut xdp_md) -> u64 {
    judge_arriving::<{ Policy::ANY }>(ctx).0
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn shedder_judge_leaving(ctx: *mut __sk_buff) -> u64 {
    judge_leaving::<{ Policy::ANY }>(ctx).0
}

#[inline(always)]
fn judge_arriving<const FLAGS: u32>(ctx: *mut xdp_md) -> Judged {
    let ctx = XdpContext::new(ctx);
    let (maps, length) = (Maps::<FLAGS>::default(), xdp_length(&ctx));
    let reason = ladder::ingress(&maps, frame::Cursor::new(ctx.data(), ctx.data_end()), length);
    let passes = count(Direction::Ingress, reason, length);
    Judged::new(if passes { xdp_action::XDP_PASS } else { xdp_action::XDP_DROP }, &maps)
}

#[inline(always)]
fn judge_leaving<const FLAGS: u32>(ctx: *mut __sk_buff) -> Judged {
    let ctx = TcContext::new(ctx);
    let (maps, length) = (Maps::<FLAGS>::default(), ctx.len() as usize);
    let reason = ladder::egress(&maps, linear_of_skb(&ctx), length);
    let passes = count(Direction::Egress, reason, length);
    Judged::new(if passes { TCX_NEXT } else { TCX_DROP } as u32, &maps)
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    // Never linked: a program that could panic fails to load.
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
