//! Counting what was met, on this CPU's own lines.

use shedder_common::abi::{Cell, EVENTS, Event, InterfaceCounters, Policy};
use shedder_common::ladder::Direction;
use shedder_common::reason::{REASONS, Reason};

use crate::env::policy;
use crate::index::below;
use crate::maps::COUNTERS;

#[inline(always)]
fn mine() -> Option<*mut InterfaceCounters> {
    COUNTERS.get_ptr_mut(policy().interface)
}

/// Counts a frame of `length` bytes under its reason. Returns whether it passes: because of its reason, or because the
/// program runs dry.
#[inline(always)]
pub fn count(direction: Direction, reason: Reason, length: usize) -> bool {
    let dry = policy().flags & Policy::DRY_RUN != 0;
    if let Some(counters) = mine() {
        // SAFETY: the pointer is this CPU's own value; the two directions use cells of their own, and within one
        // direction a CPU runs one program at a time. The index is below the array's length.
        unsafe {
            let cells: *mut [Cell; REASONS] = match (direction, dry) {
                (Direction::Ingress, false) => &raw mut (*counters).ingress,
                (Direction::Ingress, true) => &raw mut (*counters).ingress_dry,
                (Direction::Egress, false) => &raw mut (*counters).egress,
                (Direction::Egress, true) => &raw mut (*counters).egress_dry,
            };
            let cell = &mut (*cells)[below::<REASONS>(reason as usize)];
            cell.packets += 1;
            cell.bytes += length as u64;
        }
    }
    dry || reason.passes()
}

/// Counts an event.
#[inline(always)]
pub fn count_event(event: Event) {
    if let Some(counters) = mine() {
        // SAFETY: as in `count`; the index is masked.
        unsafe { (*counters).events[event as usize & (EVENTS - 1)] += 1 };
    }
}
