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
mod table;
mod ticks;

use aya_ebpf::bindings::tcx_action_base::{TCX_DROP, TCX_NEXT};
use aya_ebpf::bindings::xdp_action;
use aya_ebpf::macros::{classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};
use shedder_common::abi::Policy;
use shedder_common::ladder::{self, Direction};

use crate::counters::Mine;
use crate::env::Maps;
use crate::frame::{linear_of_skb, xdp_length};

// Each of the two programs is there in three forms. Which flags of a policy a form is for is known when it is compiled, so that
// it has nothing of the rest; the loader takes the least that a policy needs.
//
// A program that measures needs all of its stack: 216 bytes of its own on ingress, 144 in what takes note of a frame, 104 in what
// settles a request, and 512 is what the kernel allows, which rounds each up (to 32 before Linux 6.8).

/// Judges what arrives.
#[xdp(frags)]
#[inline(always)]
pub fn shedder_ingress(ctx: XdpContext) -> u32 {
    let (action, is_measured) = judge_arriving::<{ Policy::ANY }>(&ctx);
    if is_measured {
        measure::shedder_arrived(ctx.ctx);
    }
    action
}

/// Judges what arrives where no service is measured.
#[xdp(frags)]
#[inline(always)]
pub fn shedder_ingress_unmeasured(ctx: XdpContext) -> u32 {
    judge_arriving::<{ Policy::UNMEASURED }>(&ctx).0
}

/// Judges what arrives where nothing but sources is told apart.
#[xdp(frags)]
#[inline(always)]
pub fn shedder_ingress_plain(ctx: XdpContext) -> u32 {
    judge_arriving::<{ Policy::PLAIN }>(&ctx).0
}

/// Judges what leaves, and learns whom this host answers.
#[classifier]
#[inline(always)]
pub fn shedder_egress(ctx: TcContext) -> i32 {
    let (action, is_measured) = judge_leaving::<{ Policy::ANY }>(&ctx);
    if is_measured {
        measure::shedder_left(ctx.skb.skb);
    }
    action
}

/// Judges what leaves where no service is measured.
#[classifier]
#[inline(always)]
pub fn shedder_egress_unmeasured(ctx: TcContext) -> i32 {
    judge_leaving::<{ Policy::UNMEASURED }>(&ctx).0
}

/// Judges what leaves where nothing but sources is told apart.
#[classifier]
#[inline(always)]
pub fn shedder_egress_plain(ctx: TcContext) -> i32 {
    judge_leaving::<{ Policy::PLAIN }>(&ctx).0
}

/// The action on an arriving frame, and whether the frame is measured.
#[inline(always)]
fn judge_arriving<const FLAGS: u32>(ctx: &XdpContext) -> (u32, bool) {
    let mine = Mine::get();
    let maps = Maps::<FLAGS>::new(mine);
    let frame = frame::Cursor::new(ctx.data(), ctx.data_end());
    let length = |claimed| xdp_length(ctx, frame, claimed);
    let killing = ladder::killing(&maps);
    let met = match ladder::stopped(&maps, killing, frame, length) {
        Some(length) => mine.count_stopped::<FLAGS>(Direction::Ingress, length),
        None => {
            let reason = ladder::ingress(&maps, killing, frame, length, mine.room());
            mine.count::<FLAGS>(Direction::Ingress, reason)
        }
    };
    (if met.goes_on { xdp_action::XDP_PASS } else { xdp_action::XDP_DROP }, met.is_measured)
}

/// The action on a leaving frame, and whether the frame is measured.
#[inline(always)]
fn judge_leaving<const FLAGS: u32>(ctx: &TcContext) -> (i32, bool) {
    let mine = Mine::get();
    let maps = Maps::<FLAGS>::new(mine);
    let length = |_| ctx.len() as usize;
    let frame = linear_of_skb(ctx);
    let killing = ladder::killing(&maps);
    let met = match ladder::stopped(&maps, killing, frame, length) {
        Some(length) => mine.count_stopped::<FLAGS>(Direction::Egress, length),
        None => {
            let reason = ladder::egress(&maps, killing, frame, length, mine.room());
            mine.count::<FLAGS>(Direction::Egress, reason)
        }
    };
    (if met.goes_on { TCX_NEXT } else { TCX_DROP }, met.is_measured)
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
