//! What the kernel does in the moments after a word was written.

use crate::datapath::{Attachment, InterfaceState, State};
use serde_json::json;
use shedder_common::abi::{Cell, InterfaceCounters};
use shedder_common::reason::Reason;
use std::fmt::Write as _;
use std::thread;
use std::time::Duration;

/// How long the kernel is watched.
pub(super) const WATCH: Duration = Duration::from_millis(100);

/// How long packets that were judged before the word may still be counted.
const IN_FLIGHT: Duration = Duration::from_millis(5);

/// What an interface did while it was watched.
pub(super) struct Seen {
    pub(super) state: InterfaceState,
    /// From the moment that the word was written.
    pub(super) all: Delta,
    /// From the moment that nothing from before could be in flight.
    pub(super) late: Delta,
}

/// What two readings of the counters differ by, both directions together.
pub(super) struct Delta {
    before: InterfaceCounters,
    after: InterfaceCounters,
}

impl Delta {
    fn packets(&self, of: fn(&InterfaceCounters) -> &[Cell; 16], reason: Reason) -> u64 {
        let of = |counters| of(counters)[reason as usize].packets;
        of(&self.after).saturating_sub(of(&self.before))
    }

    /// Packets that met this reason, and were treated so.
    pub(super) fn met(&self, reason: Reason) -> u64 {
        self.packets(|counters| &counters.ingress, reason) + self.packets(|counters| &counters.egress, reason)
    }

    fn dry(&self, reason: Reason) -> u64 {
        self.packets(|counters| &counters.ingress_dry, reason)
            + self.packets(|counters| &counters.egress_dry, reason)
    }

    /// Packets that passed: also what is judged dry, whatever the verdict.
    fn passed(&self) -> u64 {
        let passing = |reason: &Reason| reason.passes();
        Reason::ALL.into_iter().filter(passing).map(|reason| self.met(reason)).sum::<u64>()
            + Reason::ALL.into_iter().map(|reason| self.dry(reason)).sum::<u64>()
    }

    fn dropped(&self) -> u64 {
        Reason::ALL.into_iter().filter(|reason| !reason.passes()).map(|reason| self.met(reason)).sum()
    }
}

/// Reads the counters at once, when nothing can be in flight any more, and after [`WATCH`].
pub(super) fn watch(state: &State) -> Vec<Seen> {
    let counters = |interfaces: &[InterfaceState]| -> Vec<InterfaceCounters> {
        interfaces.iter().map(|interface| state.counters(interface.slot)).collect()
    };
    let interfaces = state.interfaces();
    let first = counters(&interfaces);
    thread::sleep(IN_FLIGHT);
    let second = counters(&interfaces);
    thread::sleep(WATCH - IN_FLIGHT);
    let last = counters(&interfaces);
    // Read again: a program may have been exchanged meanwhile, or an interface let go.
    let now = state.interfaces();
    let readings = interfaces.iter().zip(first.into_iter().zip(second).zip(last));
    let seen = readings.filter_map(|(interface, ((first, second), last))| {
        let state = now.iter().find(|now| now.slot == interface.slot)?.clone();
        let all = Delta { before: first, after: last };
        Some(Seen { state, all, late: Delta { before: second, after: last } })
    });
    seen.collect()
}

/// The interfaces as JSON.
pub(super) fn to_json(seen: &[Seen]) -> serde_json::Value {
    let entry = |seen: &Seen| {
        json!({
            "name": seen.state.name,
            "mode": seen.state.mode.name(),
            "dry_run": seen.state.dry_run,
            "attached": seen.state.attachment == Attachment::Whole,
            "passed": seen.all.passed(),
            "dropped": seen.all.dropped(),
            "admitted": seen.all.met(Reason::Admitted),
            "lifeline": seen.all.met(Reason::Lifeline),
            "not_ip": seen.all.met(Reason::NotIp),
            "killed": seen.all.met(Reason::Kill),
            "admitted_after_5ms": seen.late.met(Reason::Admitted),
        })
    };
    seen.iter().map(entry).collect()
}

/// The interfaces as text, a line each.
pub(super) fn to_text(seen: &[Seen]) -> String {
    let mut text = format!("in the {} ms after:\n", WATCH.as_millis());
    for seen in seen {
        let _ = write!(
            text,
            "  {:<15} {:<8} passed {} (admitted {}, lifeline {}, not IP {}), dropped {} (killed {})",
            seen.state.name,
            seen.state.mode.name(),
            seen.all.passed(),
            seen.all.met(Reason::Admitted),
            seen.all.met(Reason::Lifeline),
            seen.all.met(Reason::NotIp),
            seen.all.dropped(),
            seen.all.met(Reason::Kill),
        );
        if seen.state.dry_run {
            text.push_str(", DRY RUN");
        }
        if let Attachment::Broken(why) = &seen.state.attachment {
            let _ = write!(text, ", NOT HELD: {why}");
        }
        text.push('\n');
    }
    text
}
