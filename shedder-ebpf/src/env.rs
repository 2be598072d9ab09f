//! What the verdict asks for, answered from maps.

use core::cell::Cell;

use aya_ebpf::helpers::generated::{bpf_ktime_get_coarse_ns, bpf_ktime_get_ns};
use shedder_common::abi::{
    Control, Event, Kills, OFFERED_PLACES, Policy, PortEntry, Prefix4, Prefix6, Shared,
};
use shedder_common::bucket::Set;
use shedder_common::flows::Segment;
use shedder_common::ladder::{Direction, Env, Rule, Table};
use shedder_common::walk::Cursor;

use crate::counters::count_event;
use crate::index::below;
use crate::maps;
use crate::measure::Kept;
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
#[derive(Default)]
pub struct Maps<const FLAGS: u32> {
    /// Where what is measured of the frame is kept, where anything is.
    kept: Cell<Option<*mut Kept>>,
    /// Whether what was kept of the frame is to be measured, since it passes.
    pub measures: Cell<bool>,
}

impl<const FLAGS: u32> Env for Maps<FLAGS> {
    const FLAGS: u32 = FLAGS;

    #[inline(always)]
    fn policy(&self) -> &Policy {
        policy()
    }

    #[inline(always)]
    fn now(&self) -> u64 {
        if policy().flags & Policy::PRECISE_CLOCK != 0 {
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
    fn kills(&self) -> Option<&Kills> {
        maps::KILLS.get(0)
    }

    #[inline(always)]
    fn control(&self) -> Option<&Control> {
        maps::CONTROL.get(0)
    }

    #[inline(always)]
    fn buckets(&self, table: Table, set: u32) -> Option<&Set> {
        match table {
            Table::Packets => maps::PACKETS.get(set),
            Table::Bytes => maps::BYTES.get(set),
            Table::NewFlows => maps::NEW_FLOWS.get(set),
        }
    }

    #[inline(always)]
    fn shared(&self) -> Option<&Shared> {
        maps::SHARED.get(0)
    }

    #[inline(always)]
    fn proven(&self, set: u32) -> Option<&Set> {
        maps::PROVEN.get(set)
    }

    #[inline(always)]
    fn udp_flows(&self, set: u32) -> Option<&Set> {
        maps::UDP_FLOWS.get(set)
    }

    type Entry<'e> = u32;

    #[inline(always)]
    fn prefix4(&self, prefix: &Prefix4) -> Option<u32> {
        found(maps::PREFIXES4.get(policy().prefix_hash4.set_of(prefix))?.find(prefix))
    }

    #[inline(always)]
    fn prefix6(&self, prefix: &Prefix6) -> Option<u32> {
        found(maps::PREFIXES6.get(policy().prefix_hash6.set_of(prefix))?.find(prefix))
    }

    #[inline(always)]
    fn rule(&self, entry: Option<u32>) -> Option<Rule<'_>> {
        maps::RULES.get(entry.unwrap_or(0)).map(Some)
    }

    #[inline(always)]
    fn tcp_service(&self, port: u16) -> Option<PortEntry> {
        maps::PORTS.get(0).map(|ports| PortEntry(ports.tcp[below::<PORTS>(port as usize)]))
    }

    #[inline(always)]
    fn udp_service(&self, port: u16) -> Option<PortEntry> {
        maps::PORTS.get(0).map(|ports| PortEntry(ports.udp[below::<PORTS>(port as usize)]))
    }

    #[inline(always)]
    fn count_offered(&self, slot: u32, priority: u32) {
        if let Some(offered) = maps::OFFERED.get_ptr_mut(slot) {
            // SAFETY: the pointer is this CPU's own value, the index is below the array's length, and programs on one CPU do not
            // interrupt each other in this direction.
            unsafe { (*offered).by_priority[below::<OFFERED_PLACES>(priority as usize)] += 1 };
        }
    }

    #[inline(always)]
    fn count_event(&self, event: Event) {
        count_event(event);
    }

    #[inline(always)]
    fn forget(&self) -> bool {
        let Some(kept) = maps::KEPT.get_ptr_mut(0) else { return false };
        self.kept.set(Some(kept));
        // SAFETY: the pointer is this CPU's own value, and programs on one CPU do not interrupt each other.
        unsafe { (*kept).is_any = 0 };
        true
    }

    #[inline(always)]
    fn keep(&self, segment: &Segment) {
        if let Some(kept) = self.kept.get() {
            // SAFETY: as above.
            unsafe {
                (*kept).is_any = 1;
                (*kept).segment = *segment;
            }
        }
    }

    #[inline(always)]
    fn measure<C: Cursor>(&self, _: Direction, _: C) {
        // SAFETY: as above.
        self.measures.set(self.kept.get().is_some_and(|kept| unsafe { (*kept).is_any } != 0));
    }
}

/// How many ports there are.
const PORTS: usize = 1 << 16;

/// An entry, where it is one.
#[inline(always)]
fn found(entry: u32) -> Option<u32> {
    if entry == 0 { None } else { Some(entry) }
}
