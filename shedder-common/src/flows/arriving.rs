//! What arrives: requests begin, and peers give up.

use super::place::{self, NEW, NOWHERE};
use super::settle::Ending;
use super::words::{Answered, Arrived, Batch, Hole};
use super::{Meter, Segment, http};
use crate::abi::{Exchange, FLOW_BATCHES, FlowSet};
use crate::bucket::WAYS;
use crate::walk::Tcp;

/// A sequence number that is further from the expected one is another connection's, or of a flow of which much was not
/// seen. Windows are larger nowhere but on the fastest long paths.
const FAR: u32 = 1 << 26;

/// How long a UDP request waits, in nanoseconds (4.3 s), before the next datagram says that its answer was lost.
const LOST: u64 = 1 << 32;

/// Takes note of a segment or datagram that arrives and is let through.
#[inline(always)]
pub fn arrived<M: Meter>(meter: &M, segment: &Segment<'_>) {
    let set = meter.flows(super::set_of(segment.flow));
    // What only ends a flow begins none.
    let begins = if segment.has(Tcp::SYN | Tcp::RST) { segment.opens() } else { has_data(segment) };
    let place = meter.place(segment.flow, segment.now(), begins);
    if place & NOWHERE != 0 {
        if begins {
            meter.count(segment.service().slot(), Exchange::NoPlace, 1);
        }
        return;
    }
    let is_new = place & NEW != 0;
    let way = place as usize & (WAYS - 1);
    if is_new {
        set.answered.0[way].store(0);
        set.arrived.0[way].store(Arrived(0).with_next(segment.sequence()).0);
        set.holes.0[way].store(0);
        set.singles.0[way].store(0);
    }
    let flow = Flow { meter, set, way, segment };
    if !segment.is_tcp() {
        flow.datagram();
    } else if segment.opens() {
        flow.syn(is_new);
    } else if segment.has(Tcp::RST) {
        flow.reset();
    } else if !segment.has(Tcp::SYN) {
        flow.data(is_new);
    }
}

#[inline(always)]
fn has_data(segment: &Segment<'_>) -> bool {
    !segment.is_tcp() || segment.payload() > 0
}

/// A flow that has a place, and what arrives of it.
struct Flow<'a, M> {
    meter: &'a M,
    set: &'a FlowSet,
    way: usize,
    segment: &'a Segment<'a>,
}

impl<M: Meter> Flow<'_, M> {
    #[inline(always)]
    fn words(&self) -> (Arrived, Answered) {
        (Arrived(self.set.arrived.0[self.way].load()), Answered(self.set.answered.0[self.way].load()))
    }

    #[inline(always)]
    fn store(&self, arrived: Arrived) {
        self.set.arrived.0[self.way].store(arrived.0);
    }

    #[inline(always)]
    fn count(&self, exchange: Exchange, times: u32) {
        self.meter.count(self.segment.service().slot(), exchange, times);
    }

    #[inline(always)]
    fn set_batch(&self, number: u8, batch: Batch) {
        self.set.flows[self.way].set_batch(number, batch);
    }

    /// Counts what waits as given up.
    #[inline(always)]
    fn abandon(&self, (arrived, answered): (Arrived, Answered)) -> Answered {
        if arrived.waiting(answered) == 0 {
            return answered;
        }
        let service = self.segment.service().slot();
        let ending = Ending { answered: answered.0, service, count: u16::MAX, is_answered: false };
        Answered(self.meter.settle(self.segment.flow, self.way as u32, ending))
    }

    /// A connection is asked for.
    #[inline(always)]
    fn syn(&self, is_new: bool) {
        let (arrived, answered) = self.words();
        let next = self.segment.sequence().wrapping_add(1);
        if !is_new && arrived.is(Arrived::SYN) && arrived.next() == next && arrived.requests() == 0 {
            if arrived.is_connecting(answered) {
                self.count(Exchange::SynRepeated, 1);
            }
            return;
        }
        // Another connection of the same addresses and ports: the one before is gone.
        self.abandon((arrived, answered));
        // The coarse clock, since SYNs come in floods.
        self.set_batch(0, Batch::new(self.segment.now(), 0, self.segment.service().slot()));
        self.set.answered.0[self.way].store(0);
        self.set.holes.0[self.way].store(0);
        self.set.singles.0[self.way].store(0);
        self.store(Arrived(Arrived::SYN).with_next(next));
        self.count(Exchange::Syn, 1);
    }

    /// The peer resets the connection.
    #[inline(always)]
    fn reset(&self) {
        let words = self.words();
        let (arrived, answered) = words;
        // Anybody can send one; what is not near the expected number the stack does not believe either.
        if self.segment.sequence().wrapping_sub(arrived.next()).wrapping_add(1) > FAR {
            return;
        }
        self.abandon(words);
        if !arrived.is_connecting(answered) {
            self.count(Exchange::ResetByPeer, 1);
        }
        place::release(self.meter, self.segment.flow, self.way);
    }

    /// Data, or the peer's last segment.
    #[inline(always)]
    fn data(&self, is_new: bool) {
        let (mut arrived, mut answered) = self.words();
        let segment = self.segment;
        // The peer has what egress did not see, such as an answer while the flow was not measured.
        let unseen = segment.acknowledgement().wrapping_sub(answered.next()) as i32;
        if segment.has(Tcp::ACK) && !(answered.is(Answered::KNOWN) && unseen <= 0) {
            if !arrived.is(Arrived::SYN) || answered.is(Answered::KNOWN) {
                answered = answered
                    .with_next(segment.acknowledgement())
                    .with_requests(arrived.requests(), arrived.tail())
                    .with_carry(0);
            } else {
                // It was agreed to where egress did not see it.
                answered = answered.with_next(segment.acknowledgement());
            }
            self.set.answered.0[self.way].store(answered.0);
        }
        let seen = if is_new { Some(0) } else { self.seen(&mut arrived) };
        if let Some(seen) = seen
            && seen < segment.payload()
        {
            arrived = self.requests(arrived, answered, seen);
        }
        let is_last = segment.has(Tcp::FIN);
        let arrived = arrived.with(Arrived::FIN, is_last || arrived.is(Arrived::FIN));
        self.store(arrived);
        if is_last && arrived.waiting(answered) == 0 {
            place::release(self.meter, self.segment.flow, self.way);
        }
    }

    /// How many of the segment's first bytes had arrived before; none where all had.
    #[inline(always)]
    fn seen(&self, arrived: &mut Arrived) -> Option<u32> {
        let (sequence, payload) = (self.segment.sequence(), self.segment.payload());
        let end = sequence.wrapping_add(payload);
        let next = arrived.next();
        let before = next.wrapping_sub(sequence);
        let after = sequence.wrapping_sub(next);
        if before == 0 {
            *arrived = arrived.with_next(end);
            return Some(0);
        }
        if after < FAR {
            // What is missing will arrive, and then lie behind. One hole at a time: in a second one no request is found
            // that begins there.
            let hole = &self.set.holes.0[self.way];
            if hole.load() == 0 {
                hole.store(Hole::new(next, sequence).0);
            }
            *arrived = arrived.with_next(end).with_carry(0);
            return Some(0);
        }
        if before < FAR {
            if before < payload {
                *arrived = arrived.with_next(end);
                return Some(before);
            }
            let hole = &self.set.holes.0[self.way];
            let held = Hole(hole.load());
            if payload > 0 && held.contains(sequence) {
                hole.store(held.behind(end).0);
                *arrived = arrived.with_carry(0);
                return Some(0);
            }
            return None;
        }
        *arrived = arrived.with_next(end).with_carry(0);
        Some(0)
    }

    /// The requests that begin in the bytes of the segment behind the first `seen`.
    #[inline(always)]
    fn requests(&self, arrived: Arrived, answered: Answered, seen: u32) -> Arrived {
        let (at, length) = (self.segment.payload_at() + seen, self.segment.payload() - seen);
        let waiting = arrived.waiting(answered);
        if arrived.is(Arrived::HTTP) && !answered.is(Answered::OPAQUE) {
            return self.http(arrived, answered, at, length);
        }
        if waiting > 0 {
            return self.prolong(arrived, answered);
        }
        let head = self.meter.read(at, length);
        if !answered.is(Answered::OPAQUE) && http::begins_request(head, length, false) {
            return self.http(arrived.with(Arrived::HTTP | Arrived::SEARCH, true), answered, at, length);
        }
        if is_tls_closing(head, length) { arrived } else { self.begin(arrived, answered, 1) }
    }

    /// The requests of HTTP/1 that begin in `length` bytes.
    #[inline(always)]
    fn http(&self, arrived: Arrived, answered: Answered, at: u32, length: u32) -> Arrived {
        let waiting = arrived.waiting(answered);
        let head = self.meter.read(at, length);
        let begins = http::begins_request(head, length, waiting == 0);
        let single = &self.set.singles.0[self.way];
        let follows = begins && waiting > 0;
        let was_open = arrived.is(Arrived::OPEN_LINE);
        // Most often there is one request in a segment, and it is no longer than the one before.
        let searches = arrived.is(Arrived::SEARCH)
            || was_open
            || follows
            || answered.is(Answered::UNMATCHED)
            || (begins && length as u64 > single.load());
        let mut arrived = arrived;
        let mut count = begins as u32;
        if searches {
            let mut lines = self.meter.scan(at, length, 0).count();
            if http::continues_mark(head, length, arrived.carry()) {
                lines += 1;
            }
            let is_open = lines == 0 && (was_open || begins);
            // The line that ends first is of the request that was counted when it began.
            count = if was_open { lines.saturating_sub(1) } else { lines + is_open as u32 };
            let of = if length < 8 { length } else { 8 };
            let tail = self.meter.read(at + length - of, of);
            let carry = http::part_of_mark(head, tail, length, arrived.carry());
            arrived = arrived.with(Arrived::OPEN_LINE, is_open).with_carry(carry);
        }
        if count == 1 {
            single.store(length as u64);
        }
        // From the first that was not alone in its segment until the peer waits for an answer again, and sends one.
        let is_alone = begins && waiting == 0 && count == 1;
        let is_not = follows || count > begins as u32;
        let arrived = arrived.with(Arrived::SEARCH, !is_alone && (is_not || arrived.is(Arrived::SEARCH)));
        if count > 0 { self.begin(arrived, answered, count as u16) } else { self.prolong(arrived, answered) }
    }

    /// As many requests begin.
    #[inline(always)]
    fn begin(&self, arrived: Arrived, answered: Answered, count: u16) -> Arrived {
        let requests = arrived.requests().wrapping_add(count);
        let service = self.segment.service().slot();
        self.count(Exchange::Request, count as u32);
        let tail = arrived.tail();
        if arrived.batches_behind(answered.head()) >= FLOW_BATCHES as u32 {
            // Taken to have come with those before.
            let last = tail.wrapping_sub(1);
            let batch = self.set.flows[self.way].batch(last);
            self.set_batch(last, batch.with_after(requests));
            return arrived.with_requests(requests, tail);
        }
        self.set_batch(tail, Batch::new(self.meter.clock(), requests, service));
        arrived.with_requests(requests, tail.wrapping_add(1))
    }

    /// More of a request arrives.
    #[inline(always)]
    fn prolong(&self, arrived: Arrived, answered: Answered) -> Arrived {
        if self.segment.service().is_since_last_byte() && arrived.waiting(answered) > 0 {
            let batch = Batch::new(self.meter.clock(), arrived.requests(), self.segment.service().slot());
            self.set_batch(arrived.tail().wrapping_sub(1), batch);
        }
        arrived
    }

    /// A datagram.
    #[inline(always)]
    fn datagram(&self) {
        let words = self.words();
        let (arrived, answered) = words;
        if arrived.waiting(answered) == 0 {
            return self.store(self.begin(arrived, answered, 1));
        }
        let batch = self.set.flows[self.way].batch(answered.head());
        if batch.age(self.segment.now()) <= LOST {
            self.prolong(arrived, answered);
            return;
        }
        let answered = self.abandon(words);
        self.set.answered.0[self.way].store(answered.0);
        self.store(self.begin(arrived, answered, 1));
    }
}

/// Whether `length` bytes that begin with `head` only close TLS: an alert, in the clear (RFC 8446, 6) or, as its length
/// gives away, not; or they only change its keys.
#[inline(always)]
fn is_tls_closing(head: u64, length: u32) -> bool {
    const RECORD: u64 = 0xff_ff;
    const CHANGE: u64 = u64::from_le_bytes([0x14, 3, 0, 0, 0, 0, 0, 0]);
    const ALERT: u64 = u64::from_le_bytes([0x15, 3, 0, 0, 0, 0, 0, 0]);
    const SEALED: u64 = u64::from_le_bytes([0x17, 3, 3, 0, 19, 0, 0, 0]);
    length >= 6
        && (head & RECORD == CHANGE
            || head & RECORD == ALERT
            || (length == 24 && head & 0xff_ffff_ffff == SEALED))
}
