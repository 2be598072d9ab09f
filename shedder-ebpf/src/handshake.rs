//! What a load sees of itself: run once, before anything is attached, and never on a packet's way.

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use shedder_common::abi::{ABI_VERSION, MAGIC};

use crate::env::policy;
use crate::maps::META;
use crate::ticks;

/// Sets the clock of the programs that it was loaded with. Passes where they, the policy that was frozen into them and the maps
/// that they were given are of one ABI.
#[xdp]
#[inline(always)]
pub fn shedder_handshake(_: XdpContext) -> u32 {
    ticks::set();
    let meta = META.at(0);
    let is_ours = meta.magic == MAGIC && meta.abi == ABI_VERSION && policy().abi == ABI_VERSION;
    if is_ours { xdp_action::XDP_PASS } else { xdp_action::XDP_DROP }
}
