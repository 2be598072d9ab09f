//! Reading a frame where it lies.

use aya_ebpf::helpers::generated::bpf_xdp_get_buff_len;
use aya_ebpf::programs::{TcContext, XdpContext};
use shedder_common::walk;

/// How much of a leaving frame is brought into the linear part where its headers are not all there.
const HEADERS: u32 = 256;

/// A place in a frame's linear part. The verifier follows the same two comparisons.
#[derive(Clone, Copy)]
pub struct Cursor {
    at: usize,
    end: usize,
}

impl Cursor {
    /// The frame from `data` to `end`, as a program's context gives them.
    #[inline(always)]
    pub fn new(data: usize, end: usize) -> Cursor {
        Cursor { at: data, end }
    }
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

/// Where a frame lies in several buffers, the first is filled to its end before the next is begun: none has one so short. But
/// some interfaces can be told to put the headers by themselves, which is told by the length that the header gives.
const SHORT: usize = 1024;

/// The length of an arriving frame, all its buffers together, which claims to have at least so many bytes; 0: it claims
/// nothing.
///
/// The helper that tells it is a call, which costs about a third of the rest of the walk: a short plain IPv4 frame that has
/// all that its header claims is known to be whole. (What is behind the packet in another buffer would not be counted. Nothing of the
/// kind passes a router.)
#[inline(always)]
pub fn xdp_length(ctx: &XdpContext, frame: Cursor, claimed: usize) -> usize {
    let linear = frame.end - frame.at;
    if linear < SHORT && claimed != 0 && claimed <= linear {
        return linear;
    }
    // SAFETY: the context is the one that the program was called with.
    unsafe { bpf_xdp_get_buff_len(ctx.ctx) as usize }
}

/// The linear part of a leaving frame, with its headers in it as far as it has them.
#[inline(always)]
pub fn linear_of_skb(ctx: &TcContext) -> Cursor {
    let length = ctx.len();
    let wanted = if length < HEADERS { length } else { HEADERS };
    if ((ctx.data_end() - ctx.data()) as u32) < wanted {
        // Where there is no memory for it the walk finds the frame cut off, which is judged as malformed.
        let _ = ctx.pull_data(wanted);
    }
    Cursor::new(ctx.data(), ctx.data_end())
}
