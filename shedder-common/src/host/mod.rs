//! An environment of plain memory: the verdict on the host, for tests, fuzzing and for asking what would happen.

pub mod frames;

use crate::abi::{
    Control, EVENTS, Event, Kills, Offered, Policy, PortEntry, Ports, Prefix4, Prefix6, PrefixPolicy, Shared,
};
use crate::bucket::Set;
use crate::class::PRIORITIES;
use crate::ladder::{Env, Table};
use bytemuck::Zeroable;
use std::boxed::Box;
use std::cell::{Cell, RefCell};
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
            policy,
        }
    }
}

impl Env for Host {
    fn policy(&self) -> &Policy {
        &self.policy
    }

    fn now(&self) -> u64 {
        self.now.get()
    }

    fn kills(&self) -> Option<&Kills> {
        Some(&self.kills)
    }

    fn control(&self) -> Option<&Control> {
        Some(&self.control)
    }

    fn buckets(&self, table: Table, set: u32) -> Option<&Set> {
        self.buckets[table as usize].get(set as usize)
    }

    fn shared(&self) -> Option<&Shared> {
        Some(&self.shared)
    }

    fn proven(&self, set: u32) -> Option<&Set> {
        self.proven.get(set as usize)
    }

    fn udp_flows(&self, set: u32) -> Option<&Set> {
        self.udp_flows.get(set as usize)
    }

    fn prefix4(&self, prefix: &Prefix4) -> Option<&PrefixPolicy> {
        self.prefixes4.get(prefix)
    }

    fn prefix6(&self, prefix: &Prefix6) -> Option<&PrefixPolicy> {
        self.prefixes6.get(prefix)
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
}
