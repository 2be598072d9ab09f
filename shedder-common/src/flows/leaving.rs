//! What leaves: requests are answered, refused, or cut off.

use super::http::{self, Found, Status};
use super::place::{self, NOWHERE};
use super::settle::Ending;
use super::words::{Answered, Arrived};
use super::{Meter, Segment};
use crate::abi::{Exchange, FlowSet};
use crate::bucket::WAYS;
use crate::walk::Tcp;

/// Takes note of a segment or datagram that leaves.
#[inline(always)]
pub fn left<M: Meter>(meter: &M, segment: &Segment<'_>) {
    let set = meter.flows(super::set_of(segment.flow));
    let place = meter.place(segment.flow, segment.now(), false);
    if place & NOWHERE != 0 {
        return;
    }
    let way = place as usize & (WAYS - 1);
    let words = (Arrived(set.arrived.0[way].load()), Answered(set.answered.0[way].load()));
    let (arrived, mut answered) = words;
    let flow = Flow { meter, set, way, segment };
    if !segment.is_tcp() {
        if arrived.waiting(answered) > 0 {
            answered = flow.settle(answered, u16::MAX, true);
        }
    } else if segment.has(Tcp::RST) {
        return flow.reset(words);
    } else if segment.agrees() {
        if arrived.is_connecting(answered) {
            flow.count(Exchange::SynAnswered, 1);
            answered = answered.with_next(segment.sequence().wrapping_add(1));
        }
    } else {
        if segment.payload() > 0 {
            answered = flow.data(arrived, answered);
        }
        if segment.has(Tcp::FIN) {
            return flow.end((arrived, answered));
        }
    }
    if answered != words.1 {
        set.answered.0[way].store(answered.0);
    }
}

/// A flow that has a place, and what leaves of it.
struct Flow<'a, M> {
    meter: &'a M,
    set: &'a FlowSet,
    way: usize,
    segment: &'a Segment<'a>,
}

impl<M: Meter> Flow<'_, M> {
    #[inline(always)]
    fn count(&self, exchange: Exchange, times: u32) {
        self.meter.count(self.segment.service().slot(), exchange, times);
    }

    #[inline(always)]
    fn settle(&self, answered: Answered, count: u16, is_answered: bool) -> Answered {
        let service = self.segment.service().slot();
        let ending = Ending { answered: answered.0, service, count, is_answered };
        Answered(self.meter.settle(self.segment.flow, self.way as u32, ending))
    }

    /// This host resets the connection, or refuses it.
    #[inline(always)]
    fn reset(&self, words: (Arrived, Answered)) {
        let (arrived, answered) = words;
        let is_refused = arrived.is_connecting(answered) && arrived.requests() == 0;
        self.count(if is_refused { Exchange::Refused } else { Exchange::ResetByHost }, 1);
        self.end(words);
    }

    /// This host has no more to say: what waits is not answered.
    #[inline(always)]
    fn end(&self, words: (Arrived, Answered)) {
        let waiting = words.0.waiting(words.1);
        if waiting > 0 {
            self.count(Exchange::ClosedUnanswered, waiting as u32);
            let answered = self.settle(words.1, u16::MAX, false);
            self.set.answered.0[self.way].store(answered.0);
        }
        place::release(self.meter, self.segment.flow, self.way);
    }

    /// Data leaves: what of it did not leave before may be an answer.
    #[inline(always)]
    fn data(&self, arrived: Arrived, answered: Answered) -> Answered {
        let (sequence, payload) = (self.segment.sequence(), self.segment.payload());
        let (mut answered, mut seen) = (answered, 0);
        if answered.is(Answered::KNOWN) {
            let before = answered.next().wrapping_sub(sequence);
            if before as i32 > 0 {
                if before >= payload {
                    return answered;
                }
                seen = before;
            } else if before != 0 {
                answered = answered.with_carry(0);
            }
        }
        answered = answered.with_next(sequence.wrapping_add(payload));
        let waiting = arrived.waiting(answered);
        if arrived.is(Arrived::HTTP) && !answered.is(Answered::OPAQUE) {
            self.http(arrived, answered, seen)
        } else if waiting > 0 {
            self.settle(answered, waiting, true)
        } else {
            answered
        }
    }

    /// The answers of HTTP/1 that begin in the bytes behind the first `seen`.
    #[inline(always)]
    fn http(&self, arrived: Arrived, answered: Answered, seen: u32) -> Answered {
        let (at, length) = (self.segment.payload_at() + seen, self.segment.payload() - seen);
        let waiting = arrived.waiting(answered);
        let head = self.meter.read(at, length);
        let begins = http::begins_answer(head, length);
        let carry = answered.carry();
        let continues = http::continues_mark(head, length, carry);
        let mut answered = answered.with_carry(0);
        let may_be = answered.is(Answered::HTTP) || carry != 0 || http::may_begin_answer(head, length);
        if waiting > 0 && !may_be {
            // The peer spoke something that looked like HTTP/1.
            return self.settle(answered.with(Answered::OPAQUE), waiting, true);
        }
        if waiting == 0 && !begins {
            // The rest of an answer's body, most often.
            return answered;
        }
        let status_at = if begins { 8 } else { 8 - carry };
        let status = if !begins && !continues {
            Status::None
        } else if length > status_at {
            http::status(self.meter.read(at + status_at, length - status_at))
        } else {
            Status::Final(0)
        };
        let mut found = Found::default();
        if waiting == 0 {
            found = found.and(status);
            if found.count() == 0 {
                return answered;
            }
            self.count(Exchange::Unmatched, found.count());
            answered = answered.with(Answered::UNMATCHED);
        } else if waiting == 1 && matches!(status, Status::Switching | Status::Final(_)) {
            found = found.and(status);
        } else {
            found = self.meter.scan(at, length, waiting as u32);
            if continues {
                found = found.and(status);
            }
            let of = if length < 8 { length } else { 8 };
            let tail = self.meter.read(at + length - of, of);
            answered = answered.with_carry(http::part_of_mark(head, tail, length, carry));
        }
        if waiting > 0 && found.count() > 0 {
            answered = self.settle(answered, found.count() as u16, true);
        }
        let classes = [Exchange::Status2xx, Exchange::Status3xx, Exchange::Status4xx, Exchange::Status5xx];
        let mut class = 0;
        while class < classes.len() {
            let count = found.of_class(class as u32 + 2);
            if count > 0 {
                self.count(classes[class], count);
            }
            class += 1;
        }
        if begins || found.count() > 0 {
            answered = answered.with(Answered::HTTP);
        }
        if found.switches() {
            // What follows is another protocol's, in which nothing waits.
            answered = answered.with(Answered::OPAQUE);
        }
        answered
    }
}
