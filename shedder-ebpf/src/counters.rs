//! What this CPU has of the interface: the room for a packet, and counts of what was met, on lines of its own.

use aya_ebpf::helpers::generated::bpf_map_lookup_elem;
use shedder_common::abi::{Cell, EVENTS, Event, OfInterface, Policy, ROOM};
use shedder_common::ladder::Direction;
use shedder_common::reason::{REASONS, Reason};
use shedder_common::room::Room;

use crate::env::policy;
use crate::index::opaque;
use crate::maps::COUNTERS;

/// What becomes of a frame.
pub struct Met {
    /// It passes: because of its reason, or because the program runs dry.
    pub goes_on: bool,
    /// It passes because of its reason, and is measured.
    pub is_measured: bool,
}

/// Of this CPU alone: programs that share it do not interrupt each other.
#[derive(Clone, Copy)]
pub struct Mine(*mut OfInterface);

impl Mine {
    /// What this CPU has. None: the map has no such interface, which loading rules out.
    #[inline(always)]
    pub fn get() -> Option<Mine> {
        let (map, key) = (&raw const COUNTERS, &raw const policy().interface);
        // SAFETY: the map, and a key of its kind. The key is read where it lies in the policy: a copy of it on the stack would have
        // to be waited for, by every packet.
        let found = unsafe { bpf_map_lookup_elem(map.cast_mut().cast(), key.cast()) };
        if found.is_null() { None } else { Some(Mine(found.cast())) }
    }

    /// The room for the packet that is judged.
    #[inline(always)]
    pub fn room<'r>(self) -> &'r mut Room {
        const { assert!(size_of::<Room>() == 8 * ROOM && align_of::<Room>() <= 8) };
        // SAFETY: this CPU's own, which only the program that is running uses; whatever was left there, and the zeros of a new
        // map, are a room. Nobody holds the one that was lent before when it is lent again.
        unsafe { &mut *(&raw mut (*self.0).room).cast() }
    }

    /// Counts the frame that was judged under its reason.
    #[inline(always)]
    pub fn count(self, direction: Direction, reason: Reason) -> Met {
        let dry = policy().flags & Policy::DRY_RUN != 0;
        let room = self.room();
        let reason = opaque(reason as usize);
        // SAFETY: the pointer is this CPU's own value; the two directions use cells of their own, and within one
        // direction a CPU runs one program at a time. The index is below the array's length.
        unsafe {
            let counters = &raw mut (*self.0).counters;
            let cells: *mut [Cell; REASONS] = match (direction, dry) {
                (Direction::Ingress, false) => &raw mut (*counters).ingress,
                (Direction::Ingress, true) => &raw mut (*counters).ingress_dry,
                (Direction::Egress, false) => &raw mut (*counters).egress,
                (Direction::Egress, true) => &raw mut (*counters).egress_dry,
            };
            let cell = &mut (*cells)[reason & (REASONS - 1)];
            cell.packets += 1;
            cell.bytes += room.length as u64;
        }
        let passes = reason < Reason::PASSING as usize;
        Met { goes_on: dry || passes, is_measured: passes && room.measured.is_service() }
    }

    /// Counts an event.
    #[inline(always)]
    pub fn count_event(self, event: Event) {
        // SAFETY: as in `count`; the index is masked.
        unsafe { (*self.0).counters.events[event as usize & (EVENTS - 1)] += 1 };
    }
}
