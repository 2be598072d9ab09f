//! The words of a flow's place.

use crate::abi::{FLOW_BATCHES, Flow};

/// Nanoseconds to the unit of a key's time, as a shift: 67 ms.
const SEEN_BITS: u32 = 26;

/// Nanoseconds to the unit of a batch's time, as a shift.
const START_BITS: u32 = 6;
const START_MASK: u64 = (1 << 40) - 1;

/// Whose a place is: from the top 32 bits of the flow's hash and 32 bits of the time at which it was last heard of, in
/// units of 2^26 ns. Zero is nobody's.
#[derive(Clone, Copy)]
pub(super) struct Key(pub(super) u64);

impl Key {
    #[inline(always)]
    pub(super) const fn new(tag: u32, now: u64) -> Key {
        // So that no key is zero.
        let seen = now >> SEEN_BITS & 0xffff_ffff | 1;
        Key((tag as u64) << 32 | seen)
    }

    #[inline(always)]
    pub(super) const fn is_empty(self) -> bool {
        self.0 == 0
    }

    #[inline(always)]
    pub(super) const fn tag(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// For how long the flow was silent at `now`, in nanoseconds, to 134 ms.
    #[inline(always)]
    pub(super) const fn silence(self, now: u64) -> u64 {
        let silence = ((now >> SEEN_BITS) as u32 | 1).wrapping_sub(self.0 as u32);
        // Another CPU's clock may have been ahead of this one's.
        if silence > u32::MAX / 2 { 0 } else { (silence as u64) << SEEN_BITS }
    }
}

/// What arrived of a flow, written by ingress alone. From the top: 32 bits of the sequence number that is expected next,
/// 16 of requests that arrived, 6 of batches, both of which wrap, 3 of how much of a mark ended what arrived, 7 of flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Arrived(pub(super) u64);

impl Arrived {
    /// The flow began with a SYN that was seen.
    pub(super) const SYN: u64 = 1;
    /// It is read as HTTP/1.
    pub(super) const HTTP: u64 = 2;
    /// The peer sends no more.
    pub(super) const FIN: u64 = 4;
    /// A request was counted whose line has not ended.
    pub(super) const OPEN_LINE: u64 = 8;
    /// Segments are searched for more requests than one.
    pub(super) const SEARCH: u64 = 16;

    #[inline(always)]
    pub(super) const fn next(self) -> u32 {
        (self.0 >> 32) as u32
    }

    #[inline(always)]
    pub(super) const fn with_next(self, next: u32) -> Arrived {
        Arrived(self.0 & 0xffff_ffff | (next as u64) << 32)
    }

    #[inline(always)]
    pub(super) const fn requests(self) -> u16 {
        (self.0 >> 16) as u16
    }

    /// The number of the batch that will be the next.
    #[inline(always)]
    pub(super) const fn tail(self) -> u8 {
        (self.0 >> 10) as u8 & 0x3f
    }

    #[inline(always)]
    pub(super) const fn with_requests(self, requests: u16, tail: u8) -> Arrived {
        Arrived(self.0 & !0xffff_fc00 | (requests as u64) << 16 | (tail as u64 & 0x3f) << 10)
    }

    /// Batches from number `head` on.
    #[inline(always)]
    pub(super) const fn batches_behind(self, head: u8) -> u32 {
        (self.tail().wrapping_sub(head) & 0x3f) as u32
    }

    #[inline(always)]
    pub(super) const fn carry(self) -> u32 {
        (self.0 >> 7) as u32 & 7
    }

    #[inline(always)]
    pub(super) const fn with_carry(self, carry: u32) -> Arrived {
        Arrived(self.0 & !0x380 | (carry as u64 & 7) << 7)
    }

    #[inline(always)]
    pub(super) const fn is(self, flag: u64) -> bool {
        self.0 & flag != 0
    }

    #[inline(always)]
    pub(super) const fn with(self, flag: u64, is_set: bool) -> Arrived {
        Arrived(if is_set { self.0 | flag } else { self.0 & !flag })
    }

    /// How many requests are not answered.
    #[inline(always)]
    pub(super) const fn waiting(self, answered: Answered) -> u16 {
        self.requests().wrapping_sub(answered.requests())
    }

    /// Whether a connection was asked for and neither agreed to nor used.
    #[inline(always)]
    pub(super) const fn is_connecting(self, answered: Answered) -> bool {
        self.is(Self::SYN) && !answered.is(Answered::KNOWN)
    }
}

/// What left of a flow, written by egress, and by ingress where it finds that egress missed something. From the top: 32
/// bits of the sequence number behind what left, 16 of requests that were answered, 6 of the batch that is answered next,
/// 3 of how much of a mark ended what left, 7 of flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answered(pub(super) u64);

impl Answered {
    /// The sequence number is known.
    pub(super) const KNOWN: u64 = 1;
    /// An answer of HTTP/1 left.
    pub(super) const HTTP: u64 = 2;
    /// It is no HTTP/1, whatever arrives.
    pub(super) const OPAQUE: u64 = 4;
    /// An answer left for which no request was counted: there are more in a segment than are looked for.
    pub(super) const UNMATCHED: u64 = 8;

    #[inline(always)]
    pub(super) const fn next(self) -> u32 {
        (self.0 >> 32) as u32
    }

    #[inline(always)]
    pub(super) const fn with_next(self, next: u32) -> Answered {
        Answered(self.0 & 0xffff_ffff | (next as u64) << 32).with(Self::KNOWN)
    }

    #[inline(always)]
    pub(super) const fn requests(self) -> u16 {
        (self.0 >> 16) as u16
    }

    #[inline(always)]
    pub(super) const fn head(self) -> u8 {
        (self.0 >> 10) as u8 & 0x3f
    }

    #[inline(always)]
    pub(super) const fn with_requests(self, requests: u16, head: u8) -> Answered {
        Answered(self.0 & !0xffff_fc00 | (requests as u64) << 16 | (head as u64 & 0x3f) << 10)
    }

    #[inline(always)]
    pub(super) const fn carry(self) -> u32 {
        (self.0 >> 7) as u32 & 7
    }

    #[inline(always)]
    pub(super) const fn with_carry(self, carry: u32) -> Answered {
        Answered(self.0 & !0x380 | (carry as u64 & 7) << 7)
    }

    #[inline(always)]
    pub(super) const fn is(self, flag: u64) -> bool {
        self.0 & flag != 0
    }

    #[inline(always)]
    pub(super) const fn with(self, flag: u64) -> Answered {
        Answered(self.0 | flag)
    }
}

/// Requests that arrived together. From the top: 40 bits of the time at which they did, in units of 64 ns (19.5 hours), 16
/// of how many requests had arrived after them, 8 of the service's slot.
#[derive(Clone, Copy, Debug)]
pub(super) struct Batch(u64);

impl Batch {
    #[inline(always)]
    pub(super) const fn new(start: u64, after: u16, service: usize) -> Batch {
        Batch((start >> START_BITS & START_MASK) << 24 | (after as u64) << 8 | service as u64 & 0xff)
    }

    /// For how long they had waited at `now`, in nanoseconds.
    #[inline(always)]
    pub(super) const fn age(self, now: u64) -> u64 {
        let age = (now >> START_BITS).wrapping_sub(self.0 >> 24) & START_MASK;
        // Another CPU's clock may have been ahead of this one's.
        if age > START_MASK / 2 { 0 } else { age << START_BITS }
    }

    #[inline(always)]
    pub(super) const fn after(self) -> u16 {
        (self.0 >> 8) as u16
    }

    #[inline(always)]
    pub(super) const fn with_after(self, after: u16) -> Batch {
        Batch(self.0 & !0xff_ff00 | (after as u64) << 8)
    }

    #[inline(always)]
    pub(super) const fn service(self) -> usize {
        (self.0 & 0xff) as usize
    }
}

impl Flow {
    /// The batch of this number.
    #[inline(always)]
    pub(super) fn batch(&self, number: u8) -> Batch {
        Batch(self.batches[number as usize & (FLOW_BATCHES - 1)].load())
    }

    /// Writes the batch of this number.
    #[inline(always)]
    pub(super) fn set_batch(&self, number: u8, batch: Batch) {
        self.batches[number as usize & (FLOW_BATCHES - 1)].store(batch.0);
    }
}

/// Bytes that were jumped over because what follows them arrived first: from, to. Zero is none.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hole(pub(super) u64);

impl Hole {
    #[inline(always)]
    pub(super) const fn new(from: u32, to: u32) -> Hole {
        if from == to { Hole(0) } else { Hole((from as u64) << 32 | to as u64) }
    }

    /// Whether a segment from `from` to `to`, of which all has been jumped over or arrived, begins in it.
    #[inline(always)]
    pub(super) const fn contains(self, from: u32) -> bool {
        let (begin, end) = ((self.0 >> 32) as u32, self.0 as u32);
        self.0 != 0 && from.wrapping_sub(begin) < end.wrapping_sub(begin)
    }

    /// What is left of it behind a segment that ends at `to`.
    #[inline(always)]
    pub(super) const fn behind(self, to: u32) -> Hole {
        let end = self.0 as u32;
        if (end.wrapping_sub(to) as i32) <= 0 { Hole(0) } else { Hole::new(to, end) }
    }
}
