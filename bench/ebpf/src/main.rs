//! The benchmark's programs: a generator of frames, the least that a program can do, alone, as a switch and as a limit, and
//! the usual designs of a limit per source.
#![no_std]
#![no_main]
#![feature(core_intrinsics)]
#![allow(internal_features)]

mod designs;
mod frame;
mod generate;
mod least;
mod plan;

use aya_ebpf::bindings::{TC_ACT_SHOT, xdp_action};
use aya_ebpf::macros::{classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};

/// Drops every frame.
#[xdp(frags)]
pub fn bare(_: XdpContext) -> u32 {
    xdp_action::XDP_DROP
}

/// Drops every packet, after the kernel has made its buffer.
#[classifier]
pub fn shot(_: TcContext) -> i32 {
    TC_ACT_SHOT
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
