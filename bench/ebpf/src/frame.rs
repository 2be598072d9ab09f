//! Reading a frame where it lies.

use aya_ebpf::helpers::generated::bpf_xdp_get_buff_len;
use aya_ebpf::programs::XdpContext;
use shedder_common::walk::{self, Walk};

/// A place in a frame's linear part. The verifier follows the same two comparisons.
#[derive(Clone, Copy)]
struct Cursor {
    at: usize,
    end: usize,
}

impl walk::Cursor for Cursor {
    #[inline(always)]
    fn read<const N: usize>(self, at: usize) -> Option<[u8; N]> {
        let from = self.at + at;
        if from + N > self.end {
            return None;
        }
        // SAFETY: `from .. from + N` lies before the end of the frame's linear part, by the comparison above, and
        // the verifier refuses a program where it does not. Bytes have no alignment.
        Some(unsafe { *(from as *const [u8; N]) })
    }

    #[inline(always)]
    fn skip(self, bytes: usize) -> Cursor {
        Cursor { at: self.at + bytes, ..self }
    }
}

/// The source of a frame, as shedder tells sources unless configured: an IPv4 address, or an IPv6 /64. None: it is not IP.
#[inline(always)]
pub fn source(ctx: &XdpContext) -> Option<u64> {
    // SAFETY: the context is the one that the program was called with.
    let length = unsafe { bpf_xdp_get_buff_len(ctx.ctx) as usize };
    match walk::walk(Cursor { at: ctx.data(), end: ctx.data_end() }, length) {
        Walk::Ip(packet) if packet.source.is_v6 => Some(packet.source.high),
        Walk::Ip(packet) => Some(packet.source.low),
        _ => None,
    }
}
