//! What the verdict asks for, answered from maps.

use aya_ebpf::helpers::generated::{bpf_ktime_get_coarse_ns, bpf_ktime_get_ns};
use shedder_common::abi::{
    Control, Event, Kills, OFFERED_PLACES, Policy, PortEntry, Prefix4, Prefix6, Shared,
};
use shedder_common::bucket::Set;
use shedder_common::ladder::{Env, Rule, Table};
use shedder_common::room::Room;

use crate::counters::Mine;
use crate::index::below;
use crate::maps;
use crate::ticks;

/// Filled in by the loader before the verifier reads it, and frozen. In a map of its own, of just its size. Mutable, so that the
/// compiler does not take the zeros for its value.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".rodata.policy")]
static mut POLICY: Policy = {
    // SAFETY: `Policy` is plain data, for which all zeros are valid.
    unsafe { core::mem::zeroed() }
};

/// The policy.
#[inline(always)]
pub fn policy() -> &'static Policy {
    let policy = &raw const POLICY;
    // SAFETY: nothing writes to it from when the programs are loaded.
    unsafe { &*policy }
}

/// The maps of this object, for a program that is compiled for a policy of these flags.
pub struct Maps<const FLAGS: u32> {
    mine: Mine,
}

impl<const FLAGS: u32> Maps<FLAGS> {
    /// The maps, and what this CPU has of the program's interface.
    #[inline(always)]
    pub fn new(mine: Mine) -> Self {
        Maps { mine }
    }
}

impl<const FLAGS: u32> Env for Maps<FLAGS> {
    const FLAGS: u32 = FLAGS;

    #[inline(always)]
    fn policy(&self) -> &Policy {
        policy()
    }

    #[inline(always)]
    fn now(&self) -> u64 {
        if FLAGS & policy().flags & Policy::PRECISE_CLOCK != 0 {
            // SAFETY: a helper without arguments.
            unsafe { bpf_ktime_get_ns() }
        } else {
            ticks::now()
        }
    }

    #[inline(always)]
    fn deadline_clock(&self) -> u64 {
        // SAFETY: a helper without arguments.
        unsafe { bpf_ktime_get_coarse_ns() }
    }

    #[inline(always)]
    fn kills(&self) -> &Kills {
        maps::KILLS.at(0)
    }

    #[inline(always)]
    fn control(&self) -> &Control {
        maps::CONTROL.at(0)
    }

    #[inline(always)]
    fn buckets(&self, table: Table, set: u32) -> &Set {
        match table {
            Table::Packets => maps::PACKETS.at(set),
            Table::Bytes => maps::BYTES.at(set),
            Table::NewFlows => maps::NEW_FLOWS.at(set),
        }
    }

    #[inline(always)]
    fn shared(&self) -> &Shared {
        maps::SHARED.at(0)
    }

    #[inline(always)]
    fn proven(&self, set: u32) -> &Set {
        maps::PROVEN.at(set)
    }

    #[inline(always)]
    fn udp_flows(&self, set: u32) -> &Set {
        maps::UDP_FLOWS.at(set)
    }

    type Entry<'e> = u32;

    #[inline(always)]
    fn prefix4(&self, prefix: &Prefix4) -> Option<u32> {
        found(maps::PREFIXES4.at(policy().prefix_hash4.set_of(prefix)).find(prefix))
    }

    #[inline(always)]
    fn prefix6(&self, prefix: &Prefix6) -> Option<u32> {
        found(maps::PREFIXES6.at(policy().prefix_hash6.set_of(prefix)).find(prefix))
    }

    #[inline(always)]
    fn rule(&self, entry: Option<u32>) -> Option<Rule<'_>> {
        let entry = entry.unwrap_or(0);
        if u64::from(entry) < policy().rules { Some(Some(maps::RULES.at(entry))) } else { None }
    }

    #[inline(always)]
    fn tcp_service(&self, port: u16) -> PortEntry {
        PortEntry(maps::PORTS.at(0).tcp[below::<PORTS>(port as usize)])
    }

    #[inline(always)]
    fn udp_service(&self, port: u16) -> PortEntry {
        PortEntry(maps::PORTS.at(0).udp[below::<PORTS>(port as usize)])
    }

    #[inline(always)]
    fn count_offered(&self, slot: u32, priority: u32) {
        if let Some(offered) = maps::OFFERED.mine_of(slot as usize) {
            // SAFETY: this CPU's own, the index is below the array's length, and programs on one CPU do not interrupt each other
            // in this direction.
            unsafe { (*offered).by_priority[below::<OFFERED_PLACES>(priority as usize)] += 1 };
        }
    }

    #[inline(always)]
    fn count_event(&self, event: Event) {
        self.mine.count_event(event);
    }

    #[inline(always)]
    fn settled<'r>(&self, room: &'r mut Room) -> &'r mut Room {
        let mut room: *mut Room = room;
        // SAFETY: adds nothing. The compiler has to write all of it by now, and to read it from here on.
        unsafe { core::arch::asm!("/* {0} */", inout(reg) room, options(nostack, preserves_flags)) };
        // SAFETY: the reference that was given.
        unsafe { &mut *room }
    }
}

/// How many ports there are.
const PORTS: usize = 1 << 16;

/// An entry, where it is one.
#[inline(always)]
fn found(entry: u32) -> Option<u32> {
    if entry == 0 { None } else { Some(entry) }
}
