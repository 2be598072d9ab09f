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

use aya_ebpf::bindings::tcx_action_base::{TCX_DROP, TCX_NEXT};
use aya_ebpf::bindings::xdp_action;
use aya_ebpf::macros::{classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};
use shedder_common::ladder::{self, Direction};

use crate::counters::count;
use crate::env::Maps;
use crate::frame::{linear_of_skb, xdp_length};

/// Judges what arrives.
#[xdp(frags)]
#[inline(always)]
pub fn shedder_ingress(ctx: XdpContext) -> u32 {
    let length = xdp_length(&ctx);
    let reason = ladder::ingress(&Maps(ctx.ctx), frame::Cursor::new(ctx.data(), ctx.data_end()), length);
    if count(Direction::Ingress, reason, length) { xdp_action::XDP_PASS } else { xdp_action::XDP_DROP }
}

/// Judges what leaves, and learns whom this host answers.
#[classifier]
#[inline(always)]
pub fn shedder_egress(ctx: TcContext) -> i32 {
    let length = ctx.len() as usize;
    let reason = ladder::egress(&Maps(ctx.skb.skb), linear_of_skb(&ctx), length);
    if count(Direction::Egress, reason, length) { TCX_NEXT } else { TCX_DROP }
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
