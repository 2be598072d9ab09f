//! What a load sees of itself: run once, before anything is attached, and never on a packet's way.

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use aya_log_ebpf::{debug, error};
use shedder_common::abi::{ABI_VERSION, MAGIC};

use crate::env::policy;
use crate::maps::META;
use crate::ticks;

/// Sets the clock of the programs that it was loaded with. Passes where they, the policy that was frozen into them and the maps that they were given are of one ABI.
#[xdp]
#[inline(always)]
pub fn shedder_handshake(ctx: XdpContext) -> u32 {
    ticks::set();
    let policy = policy();
    let (magic, abi) = META.get(0).map_or((0, 0), |meta| (meta.magic, meta.abi));
    if magic != MAGIC || abi != ABI_VERSION || policy.abi != ABI_VERSION {
        error!(&ctx, "programs of ABI {}, policy of {}, maps of {}", ABI_VERSION, policy.abi, abi);
        return xdp_action::XDP_DROP;
    }
    debug!(&ctx, "loaded for slot {}: ABI {}, flags {:x}", policy.interface, abi, policy.flags);
    xdp_action::XDP_PASS
}
