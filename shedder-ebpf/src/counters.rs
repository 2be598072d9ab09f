//! What this CPU has of the interface: the room for a packet, and counts of what was met, on lines of its own.

use shedder_common::abi::{EVENTS, Event, OfInterface, Policy, ROOM};
use shedder_common::hint::cold;
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
    /// What this CPU has.
    #[inline(always)]
    pub fn get() -> Mine {
        Mine(COUNTERS.mine())
    }

    /// The room for the packet that is judged.
    #[inline(always)]
    pub fn room<'r>(self) -> &'r mut Room {
        const { assert!(size_of::<Room>() == 8 * ROOM && align_of::<Room>() <= 8) };
        // SAFETY: this CPU's own, which only the program that is running uses; whatever was left there, and the zeros of a new
        // map, are a room. Nobody holds the one that was lent before when it is lent again.
        unsafe { &mut *(&raw mut (*self.0).room).cast() }
    }

    /// Counts the frame that was judged, by a program for policies of these flags, under its reason, with the length that the verdict
    /// left in the room.
    #[inline(always)]
    pub fn count<const FLAGS: u32>(self, direction: Direction, reason: Reason) -> Met {
        let room = self.room();
        // What most packets meet, each by itself and before anything else: there the place of the count is a constant.
        match reason {
            Reason::Admitted => {
                self.count_at::<FLAGS>(direction, Reason::Admitted as usize, room.length);
                Met { goes_on: true, is_measured: room.measured.is_service() }
            }
            Reason::SourceRate => {
                let dry = self.count_at::<FLAGS>(direction, Reason::SourceRate as usize, room.length);
                Met { goes_on: dry, is_measured: false }
            }
            _ => {
                cold();
                let reason = opaque(reason as usize);
                let dry = self.count_at::<FLAGS>(direction, reason & (REASONS - 1), room.length);
                let passes = reason < Reason::PASSING as usize;
                Met { goes_on: dry || passes, is_measured: passes && room.measured.is_service() }
            }
        }
    }

    /// Counts a frame of this length that a kill has stopped.
    #[inline(always)]
    pub fn count_stopped<const FLAGS: u32>(self, direction: Direction, length: usize) -> Met {
        Met { goes_on: self.count_at::<FLAGS>(direction, Reason::Kill as usize, length), is_measured: false }
    }

    /// Counts under the reason of this number. Whether the program runs dry.
    #[inline(always)]
    fn count_at<const FLAGS: u32>(self, direction: Direction, reason: usize, length: usize) -> bool {
        let dry = FLAGS & policy().flags & Policy::DRY_RUN != 0;
        // SAFETY: this CPU's own, of which programs that share it use one thing after the other.
        let counters = unsafe { &mut (*self.0).counters };
        let cells = match (direction, dry) {
            (Direction::Ingress, false) => &mut counters.ingress,
            (Direction::Ingress, true) => &mut counters.ingress_dry,
            (Direction::Egress, false) => &mut counters.egress,
            (Direction::Egress, true) => &mut counters.egress_dry,
        };
        cells[reason].add(length);
        dry
    }

    /// Counts an event.
    #[inline(always)]
    pub fn count_event(self, event: Event) {
        // SAFETY: as in `count`; the index is masked.
        unsafe { (*self.0).counters.events[event as usize & (EVENTS - 1)] += 1 };
    }
}
