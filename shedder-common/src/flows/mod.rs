//! Which flows are measured, and what is in flight on each: from a request's first byte that arrives to its answer's
//! first byte that leaves.
//!
//! What arrives begins requests, in batches of those that came together; what leaves answers them in order. Each
//! direction has words of its own in the flow's place, and writes only those; see [`words`].
//!
//! What a request is depends on what can be seen. A flow whose first bytes name a method of HTTP/1 is read as HTTP/1:
//! every request line begins a request and every status line but an interim one answers it, also where several share a
//! segment. In every other TCP flow, and in UDP, data that arrives while nothing waits begins a request, and the first
//! data that leaves ends it; see [`arriving`] and [`leaving`].

mod arriving;
mod http;
mod leaving;
mod place;
mod settle;
mod words;

pub use arriving::arrived;
pub use http::{CHUNK, Found, Scan, WINDOW};
pub use leaving::left;
pub use place::place;
pub use settle::{Ending, settle};

use crate::abi::{Control, Exchange, FLOW_SETS, FlowSet, PortEntry};
use crate::bucket::{Set, WAYS};
use crate::room::Room;
use crate::walk::Tcp;
use words::{Answered, Arrived, Batch, Key};

/// What the measurement asks of where it runs.
///
/// [`Meter::place`], [`Meter::scan`] and [`Meter::settle`] are [`place`], [`Scan`] and [`settle`], each so that where programs are
/// verified what comes next is verified once and not once for every way that leads there: the last two in calls of their own.
pub trait Meter {
    /// Which flows are in a set of the table of flows, and when they were last heard of.
    fn flow_keys(&self, set: u32) -> &Set;
    /// What is known of the flows in a set.
    fn flows(&self, set: u32) -> &FlowSet;
    /// What the loop says.
    fn control(&self) -> &Control;
    /// Nanoseconds of CLOCK_MONOTONIC, of the precise clock.
    fn clock(&self) -> u64;
    /// The eight bytes that begin `at` bytes into the frame, the first of them the lowest; zeros for those from the
    /// `length`-th on, and in place of what cannot be read.
    fn read(&self, at: u32, length: u32) -> u64;
    /// Counts requests of a service, all answered or abandoned, in the bucket of the time that they had waited.
    fn count_waits(&self, service: usize, answered: bool, bucket: usize, requests: u32);
    /// Counts what happened between a service and a peer.
    fn count(&self, service: usize, exchange: Exchange, times: u32);
    /// [`place()`] of a flow.
    fn place(&self, flow: u64, now: u64, or_new: bool) -> u32;
    /// What [`Scan::new`] finds in the `length` bytes that begin `at` bytes into the frame, given to [`Scan::chunk`]
    /// [`CHUNK`] bytes at a time.
    fn scan(&self, at: u32, length: u32, answers: u32) -> Found;
    /// [`settle()`] of a flow.
    fn settle(&self, flow: u64, way: u32, ending: Ending) -> u64;
}

/// A segment or a datagram of a service that is measured.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'r> {
    /// Keyed hash of the flow.
    pub flow: u64,
    /// What else is known of it.
    pub room: &'r Room,
}

impl Segment<'_> {
    /// The service.
    #[inline(always)]
    const fn service(&self) -> PortEntry {
        self.room.measured
    }

    /// Nanoseconds of CLOCK_MONOTONIC, of the clock that the policy chose.
    #[inline(always)]
    const fn now(&self) -> u64 {
        self.room.now
    }

    /// TCP's number of its first byte.
    #[inline(always)]
    const fn sequence(&self) -> u32 {
        self.room.packet.position.sequence
    }

    /// TCP's number of the byte that is expected next from the other side.
    #[inline(always)]
    const fn acknowledgement(&self) -> u32 {
        self.room.packet.position.acknowledgement
    }

    /// Bytes that it carries.
    #[inline(always)]
    const fn payload(&self) -> u32 {
        self.room.packet.transport.payload
    }

    /// Where they begin in the frame.
    #[inline(always)]
    const fn payload_at(&self) -> u32 {
        self.room.packet.position.payload_at
    }

    /// Whether it is TCP; else it is UDP.
    #[inline(always)]
    const fn is_tcp(&self) -> bool {
        self.room.packet.transport.is_tcp()
    }

    #[inline(always)]
    const fn has(&self, flags: u8) -> bool {
        self.is_tcp() && self.room.packet.transport.flags & flags != 0
    }

    /// Whether it asks for a connection.
    #[inline(always)]
    const fn opens(&self) -> bool {
        self.is_tcp() && self.room.packet.transport.opens()
    }

    /// Whether it agrees to a connection.
    #[inline(always)]
    const fn agrees(&self) -> bool {
        self.is_tcp() && self.room.packet.transport.flags & (Tcp::SYN | Tcp::ACK) == Tcp::SYN | Tcp::ACK
    }
}

/// A flow's hash as 32 bits, by which flows are sampled: those below
/// [`ServiceControl::skip`](crate::abi::ServiceControl::skip) are not measured. Independent of the flow's set.
#[inline(always)]
pub const fn sample(flow: u64) -> u32 {
    (flow >> 32) as u32
}

/// A flow's set in the table.
#[inline(always)]
const fn set_of(flow: u64) -> u32 {
    flow as u32 & (FLOW_SETS as u32 - 1)
}

/// What a measured flow waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// A SYN that was not answered yet.
    Connection,
    /// A request that was not answered yet.
    Request,
}

/// Requests of one flow that arrived together and are not answered yet, or a connection that is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outstanding {
    /// The service's slot.
    pub service: usize,
    /// The flow's hash, as [`sample`] gives it: where the service skips it by now, nobody sees the answer.
    pub sample: u32,
    /// What for.
    pub waiting: Waiting,
    /// When they arrived, in nanoseconds of CLOCK_MONOTONIC, to 64 ns; a connection to the coarse clock's tick.
    pub since: u64,
    /// How many; 1 for a connection.
    pub count: u32,
}

/// Everything that is outstanding at `now`, in nanoseconds, in a set whose flows `keys` tells. A flow that was silent for as
/// long as a place is kept for it (137 s where a request waits, 8.6 s where a connection does) is left out.
pub fn outstanding(keys: &Set, set: &FlowSet, now: u64, mut each: impl FnMut(Outstanding)) {
    // Most sets are empty, and whoever asks, asks for all of them at every turn.
    if keys.0.iter().fold(0, |any, key| any | key.load()) == 0 {
        return;
    }
    for way in 0..WAYS {
        let key = Key(keys.0[way].load());
        if key.is_empty() {
            continue;
        }
        let arrived = Arrived(set.arrived.0[way].load());
        let answered = Answered(set.answered.0[way].load());
        if !place::is_kept(key, arrived, answered, now) {
            continue;
        }
        let flow = &set.flows[way];
        let mut tell = |batch: Batch, waiting, count: u16| {
            let (service, since) = (batch.service(), now - batch.age(now));
            each(Outstanding { service, sample: key.tag(), waiting, since, count: u32::from(count) });
        };
        if arrived.is_connecting(answered) {
            tell(flow.batch(0), Waiting::Connection, 1);
            continue;
        }
        // What is read here may change meanwhile: whatever it says, it is read no further than the ring is long.
        let mut before = answered.requests();
        let mut batch = answered.head();
        let mut left = arrived.requests().wrapping_sub(before);
        for _ in 0..arrived.batches_behind(batch).min(crate::abi::FLOW_BATCHES as u32) {
            let of_batch = flow.batch(batch);
            let count = of_batch.after().wrapping_sub(before).min(left);
            if count > 0 {
                tell(of_batch, Waiting::Request, count);
            }
            left -= count;
            before = before.wrapping_add(count);
            batch = batch.wrapping_add(1);
        }
    }
}
