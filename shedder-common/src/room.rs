//! Where a verdict keeps what it found, while it judges a packet.

use crate::abi::PortEntry;
use crate::bucket::Look;
use crate::walk::Packet;
use core::cell::Cell;

/// What is known of one packet.
///
/// In the kernel it lies in a map, of whose memory the verifier knows nothing: behind [`Env::settled`](crate::ladder::Env::settled)
/// every way that led there looks the same to it, and is followed on once. So it does to the compiler, which would otherwise keep
/// all of this in registers and move it about wherever two ways meet.
#[repr(C)]
#[derive(Clone, Debug, Default)]
pub struct Room {
    /// The frame's length.
    pub length: usize,
    /// What was walked.
    pub packet: Packet,
    /// Keyed hash of the peer.
    pub hash: u64,
    /// Nanoseconds of CLOCK_MONOTONIC, of the clock that the policy chose.
    pub now: u64,
    /// Keyed hash of a UDP datagram's flow.
    pub flow: u64,
    /// What the source's buckets say: packets, bytes, new flows.
    pub looks: [Look; 3],
    /// The service whose request or answer the packet may be part of; zero: of none that is measured.
    pub measured: PortEntry,
    /// Of the measurement: where the state of the packet's flow lies.
    pub place: Cell<u32>,
}
