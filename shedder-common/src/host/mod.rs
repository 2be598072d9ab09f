//! An environment of plain memory: the verdict on the host, for tests, fuzzing and for asking what would happen.

pub mod any;
pub mod frames;

use crate::abi::{
    Control, EVENTS, Event, Exchange, FLOW_SETS, FlowSet, Kills, Measured, Offered, Policy, PortEntry, Ports,
    Prefix4, Prefix6, PrefixPolicy, Shared,
};
use crate::bucket::Set;
use crate::class::PRIORITIES;
use crate::flows::{self, CHUNK, Ending, Found, Meter, Scan, Segment, WINDOW};
use crate::ladder::{self, Direction, Env, Rule, Table};
use crate::reason::Reason;
use crate::room::Room;
use crate::walk::Cursor;
use bytemuck::Zeroable;
use std::boxed::Box;
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::vec::Vec;

/// The maps of one host, in memory. Every part may be set from outside.
pub struct Host {
    /// As a program would have it from its load.
    pub policy: Policy,
    /// What the clock says.
    pub now: Cell<u64>,
    /// The switch.
    pub kills: Box<Kills>,
    /// The loop's and the person's words.
    pub control: Box<Control>,
    /// Packets, bytes, new flows.
    pub buckets: [Vec<Set>; 3],
    /// Buckets that stand alone.
    pub shared: Shared,
    /// Proven sources.
    pub proven: Vec<Set>,
    /// Known UDP flows.
    pub udp_flows: Vec<Set>,
    /// By prefix.
    pub prefixes4: HashMap<Prefix4, PrefixPolicy>,
    /// By prefix.
    pub prefixes6: HashMap<Prefix6, PrefixPolicy>,
    /// By port.
    pub ports: Box<Ports>,
    /// By slot.
    pub offered: RefCell<Vec<Offered>>,
    /// By event.
    pub events: RefCell<[u64; EVENTS]>,
    /// Measured flows, made where one is measured.
    pub flows: OnceCell<Vec<(Set, FlowSet)>>,
    /// By slot.
    pub measured: RefCell<Vec<Measured>>,
    /// As in the kernel, what was found of the packet before is still there.
    room: RefCell<Room>,
}

impl Host {
    /// A host with empty tables of the sizes that the policy gives.
    pub fn new(policy: Policy) -> Host {
        let sets = |mask: u32| (0..=mask).map(|_| Set::default()).collect::<Vec<_>>();
        Host {
            now: Cell::new(1_000_000_000_000),
            kills: Box::new(Kills {
                host: Default::default(),
                interfaces: std::array::from_fn(|_| Default::default()),
                services: std::array::from_fn(|_| Default::default()),
            }),
            control: Box::new(Control {
                lease: Default::default(),
                host_override: Default::default(),
                services: std::array::from_fn(|_| crate::abi::ServiceControl::default()),
            }),
            buckets: std::array::from_fn(|_| sets(policy.set_mask)),
            shared: Shared::default(),
            proven: sets(policy.memory_mask),
            udp_flows: sets(policy.memory_mask),
            prefixes4: HashMap::new(),
            prefixes6: HashMap::new(),
            ports: Box::new(Ports::zeroed()),
            offered: RefCell::new(std::vec![Offered::zeroed(); policy.offered_none as usize + 1]),
            events: RefCell::default(),
            flows: OnceCell::new(),
            measured: RefCell::new(std::vec![Measured::zeroed(); policy.offered_none as usize + 1]),
            room: RefCell::default(),
            policy,
        }
    }

    /// The verdict on a frame that arrives, whose measurement is taken note of where it passes.
    pub fn ingress(&self, frame: &[u8]) -> Reason {
        self.judge(Direction::Ingress, frame)
    }

    /// The verdict on a frame that leaves, as on one that arrives.
    pub fn egress(&self, frame: &[u8]) -> Reason {
        self.judge(Direction::Egress, frame)
    }

    fn judge(&self, direction: Direction, frame: &[u8]) -> Reason {
        let room = &mut *self.room.borrow_mut();
        let length = |_| frame.len();
        let killing = ladder::killing(self);
        if ladder::stopped(self, killing, frame, length).is_some() {
            return Reason::Kill;
        }
        let reason = match direction {
            Direction::Ingress => ladder::ingress(self, killing, frame, length, room),
            Direction::Egress => ladder::egress(self, killing, frame, length, room),
        };
        if reason.passes()
            && room.measured.is_service()
            && let Some(segment) = ladder::measured(self, direction, room)
        {
            self.measure(direction, &segment, frame);
        }
        reason
    }

    /// Takes note of a segment of this frame.
    pub fn measure(&self, direction: Direction, segment: &Segment<'_>, frame: &[u8]) {
        let meter = Measuring { host: self, frame };
        match direction {
            Direction::Ingress => flows::arrived(&meter, segment),
            Direction::Egress => flows::left(&meter, segment),
        }
    }

    /// The set of measured flows of this number: which they are, and what is known of them.
    pub fn flow_set(&self, set: usize) -> &(Set, FlowSet) {
        &self.flows.get_or_init(|| (0..FLOW_SETS).map(|_| Default::default()).collect())[set]
    }
}

/// A host, and the frame that it measures.
struct Measuring<'a, C> {
    host: &'a Host,
    frame: C,
}

impl<C: Cursor> Meter for Measuring<'_, C> {
    fn flow_keys(&self, set: u32) -> &Set {
        &self.host.flow_set(set as usize).0
    }

    fn flows(&self, set: u32) -> &FlowSet {
        &self.host.flow_set(set as usize).1
    }

    fn control(&self) -> &Control {
        &self.host.control
    }

    fn clock(&self) -> u64 {
        self.host.now.get()
    }

    fn read(&self, at: u32, length: u32) -> u64 {
        let byte = |i: u32| self.frame.read::<1>((at + i) as usize).map_or(0, |[byte]| byte);
        (0..length.min(8)).fold(0, |word, i| word | u64::from(byte(i)) << (8 * i))
    }

    fn place(&self, flow: u64, now: u64, or_new: bool) -> u32 {
        flows::place(self, flow, now, or_new)
    }

    fn scan(&self, at: u32, length: u32, answers: u32) -> Found {
        let mut scan = Scan::new(answers);
        for from in (0..length).step_by(CHUNK as usize) {
            let word = |i| self.read(at + from + 8 * i, (length - from).saturating_sub(8 * i));
            if scan.chunk(&std::array::from_fn::<_, WINDOW, _>(|i| word(i as u32))) {
                break;
            }
        }
        scan.found
    }

    fn settle(&self, flow: u64, way: u32, ending: Ending) -> u64 {
        flows::settle(self, flow, way, ending)
    }

    fn count_waits(&self, service: usize, answered: bool, bucket: usize, requests: u32) {
        let measured = &mut self.host.measured.borrow_mut()[service];
        let counts = if answered { &mut measured.answered } else { &mut measured.abandoned };
        counts[bucket] = counts[bucket].wrapping_add(requests);
    }

    fn count(&self, service: usize, exchange: Exchange, times: u32) {
        let count = &mut self.host.measured.borrow_mut()[service].exchanges[exchange as usize];
        *count = count.wrapping_add(times);
    }
}

impl Env for Host {
    const FLAGS: u32 = Policy::ANY;

    fn policy(&self) -> &Policy {
        &self.policy
    }

    fn now(&self) -> u64 {
        self.now.get()
    }

    fn deadline_clock(&self) -> u64 {
        self.now.get()
    }

    fn kills(&self) -> &Kills {
        &self.kills
    }

    fn control(&self) -> &Control {
        &self.control
    }

    fn buckets(&self, table: Table, set: u32) -> &Set {
        &self.buckets[table as usize][set as usize]
    }

    fn shared(&self) -> &Shared {
        &self.shared
    }

    fn proven(&self, set: u32) -> &Set {
        &self.proven[set as usize]
    }

    fn udp_flows(&self, set: u32) -> &Set {
        &self.udp_flows[set as usize]
    }

    type Entry<'e> = &'e PrefixPolicy;

    fn prefix4(&self, prefix: &Prefix4) -> Option<&PrefixPolicy> {
        self.prefixes4.get(prefix)
    }

    fn prefix6(&self, prefix: &Prefix6) -> Option<&PrefixPolicy> {
        self.prefixes6.get(prefix)
    }

    fn rule<'e>(&'e self, entry: Option<&'e PrefixPolicy>) -> Option<Rule<'e>> {
        Some(entry)
    }

    fn tcp_service(&self, port: u16) -> PortEntry {
        PortEntry(self.ports.tcp[port as usize])
    }

    fn udp_service(&self, port: u16) -> PortEntry {
        PortEntry(self.ports.udp[port as usize])
    }

    fn count_offered(&self, slot: u32, priority: u32) {
        assert!(priority < PRIORITIES);
        let cell = &mut self.offered.borrow_mut()[slot as usize].by_priority[priority as usize];
        *cell = cell.wrapping_add(1);
    }

    fn count_event(&self, event: Event) {
        self.events.borrow_mut()[event as usize] += 1;
    }

    fn settled<'r>(&self, room: &'r mut Room) -> &'r mut Room {
        room
    }
}
