//! Ending what waits: answered, or abandoned.

use super::Meter;
use super::words::{Answered, Arrived};
use crate::abi::{FLOW_BATCHES, MAX_SERVICES};
use crate::bucket::WAYS;
use crate::histogram::bucket;
use crate::words::ReflexWord;

/// What ends requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending {
    /// The flow's word of what left, as it is by now.
    pub answered: u64,
    /// The service's slot.
    pub service: usize,
    /// How many requests end, if as many wait.
    pub count: u16,
    /// Whether they are answered; else they are abandoned.
    pub is_answered: bool,
}

impl Ending {
    /// All but the flow's word in another.
    #[inline(always)]
    pub const fn pack(&self) -> u64 {
        (self.count as u64) << 16 | (self.is_answered as u64) << 8 | self.service as u64 & 0xff
    }

    /// What [`Ending::pack`] made a word of.
    #[inline(always)]
    pub const fn unpack(answered: u64, rest: u64) -> Ending {
        Ending {
            answered,
            service: rest as usize & 0xff,
            count: (rest >> 16) as u16,
            is_answered: rest & 0x100 != 0,
        }
    }
}

/// Ends requests of the flow in this way of its set, the oldest first, and counts the time that they waited. Returns the
/// word of what left without them.
#[inline(always)]
pub fn settle<M: Meter>(meter: &M, flow: u64, way: u32, ending: Ending) -> u64 {
    let answered = Answered(ending.answered);
    let set = meter.flows(super::set_of(flow));
    let way = way as usize & (WAYS - 1);
    let waiting = Arrived(set.arrived.0[way].load()).waiting(answered);
    let mut left = if ending.count < waiting { ending.count } else { waiting };
    if left == 0 {
        return answered.0;
    }
    let Ending { service, is_answered, .. } = ending;
    let now = meter.clock();
    let delay = if is_answered { reflex(meter, service) } else { u64::MAX };
    let (mut requests, mut head) = (answered.requests(), answered.head());
    let mut late = 0;
    let mut batches = 0;
    while batches < FLOW_BATCHES && left > 0 {
        let batch = set.flows[way].batch(head);
        let of_batch = batch.after().wrapping_sub(requests);
        let ended = if of_batch < left { of_batch } else { left };
        let age = batch.age(now);
        meter.count_waits(service, is_answered, bucket(age), ended as u32);
        if age > delay {
            late += ended as u64;
        }
        requests = requests.wrapping_add(ended);
        left -= ended;
        if ended == of_batch {
            head = head.wrapping_add(1);
        }
        batches += 1;
    }
    if late > 0 {
        let word = &meter.control().services[service & (MAX_SERVICES - 1)].late;
        word.store(word.load().wrapping_add(late));
    }
    answered.with_requests(requests, head).0
}

/// After which delay an answer is late, in nanoseconds; none is where no reflex is armed.
#[inline(always)]
fn reflex<M: Meter>(meter: &M, service: usize) -> u64 {
    let word = ReflexWord(meter.control().services[service & (MAX_SERVICES - 1)].reflex.load());
    if word.is_armed() { word.delay() } else { u64::MAX }
}
