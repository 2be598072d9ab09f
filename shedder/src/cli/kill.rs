//! `shedder kill` and `shedder resume`: the word is written first; then it is read back, and what the kernel did is
//! counted and told.

use super::scope::{Named, resolve};
use super::{Exit, args, print, print_json};
use crate::datapath::{Attachment, InterfaceState, Pins, Scope, State, monotonic};
use anyhow::Result;
use serde_json::json;
use shedder_common::abi::{Cell, InterfaceCounters};
use shedder_common::reason::Reason;
use shedder_common::words::{FOREVER, KillWord};
use std::fmt::Write as _;
use std::thread;
use std::time::Duration;

/// How long the kernel is watched after the word is written.
const WATCH: Duration = Duration::from_millis(100);

/// How long packets that were judged before the word may still be counted.
const IN_FLIGHT: Duration = Duration::from_millis(5);

/// Commands a kill.
pub(super) fn kill(
    pins: &Pins,
    scope: &args::Scope,
    lasting: Option<Duration>,
    total: bool,
    json: bool,
) -> Result<Exit> {
    let state = State::open(pins)?;
    let targets = resolve(&state, scope)?;
    let begin = monotonic();
    let deadline = lasting.map_or(FOREVER, |lasting| begin.saturating_add(lasting.as_nanos() as u64));
    let word = KillWord::until(deadline, total);
    for target in &targets {
        state.set_kill(target.scope, word);
    }
    let written = monotonic();

    let watched = Watched::watch(&state)?;
    let now = monotonic();
    let mut faults = unwritten(&state, &targets, word, now);
    for interface in watched.interfaces.iter().filter(|interface| concerns(&targets, &interface.state)) {
        faults.extend(disobedience(interface, &targets, total, word.holds(now)));
    }
    let verb = if total { "killed, lifelines as well" } else { "killed" };
    report(&targets, verb, lasting, written - begin, &watched, &faults, json);
    Ok(if faults.is_empty() { Exit::Done } else { Exit::NotObeyed })
}

/// Lifts kills.
pub(super) fn resume(pins: &Pins, scope: &args::Scope, json: bool) -> Result<Exit> {
    let state = State::open(pins)?;
    let mut targets = resolve(&state, scope)?;
    if targets.iter().all(|target| target.scope == Scope::Host) {
        // Whoever says no more than "resume" wants nothing left killed.
        targets.extend(state.interfaces().into_iter().map(|interface| Named {
            scope: Scope::Interface(interface.slot),
            name: format!("interface {}", interface.name),
        }));
        targets.extend(state.services().into_iter().map(|service| Named {
            scope: Scope::Service(service.slot),
            name: format!("service {}", service.name),
        }));
        targets.retain(|target| target.scope == Scope::Host || state.kill(target.scope).is_set());
    }
    let begin = monotonic();
    for target in &targets {
        state.set_kill(target.scope, KillWord::NONE);
    }
    let written = monotonic();

    let watched = Watched::watch(&state)?;
    let now = monotonic();
    let mut faults = unwritten(&state, &targets, KillWord::NONE, now);
    if state.kill(Scope::Host).holds_now(now) && targets.iter().all(|target| target.scope != Scope::Host) {
        faults.push("the host is still killed: `shedder resume` lifts that".into());
    }
    report(&targets, "resumed", None, written - begin, &watched, &faults, json);
    Ok(if faults.is_empty() { Exit::Done } else { Exit::NotObeyed })
}

/// Whether a set kill holds.
trait HoldsNow {
    fn holds_now(self, now: u64) -> bool;
}

impl HoldsNow for KillWord {
    fn holds_now(self, now: u64) -> bool {
        self.is_set() && self.holds(now)
    }
}

/// What was not there when it was read back. A kill whose own deadline has passed meanwhile was obeyed.
fn unwritten(state: &State, targets: &[Named], word: KillWord, now: u64) -> Vec<String> {
    let differs = |target: &&Named| state.kill(target.scope) != word && !(word.is_set() && !word.holds(now));
    let say = |target: &Named| {
        format!("{}: somebody else wrote another word meanwhile; see `shedder status`", target.name)
    };
    targets.iter().filter(differs).map(say).collect()
}

/// Whether a kill of these reaches an interface.
fn concerns(targets: &[Named], interface: &InterfaceState) -> bool {
    targets.iter().any(|target| match target.scope {
        Scope::Host | Scope::Service(_) => true,
        Scope::Interface(slot) => slot == interface.slot,
    })
}

/// What shows that an interface does not act on a kill, which may have ended by itself while it was watched.
fn disobedience(interface: &Seen, targets: &[Named], total: bool, still_holds: bool) -> Option<String> {
    let name = &interface.state.name;
    if let Attachment::Broken(why) = &interface.state.attachment {
        return Some(format!("{name}: {why}; `shedder attach` puts it right"));
    }
    if interface.state.dry_run {
        return Some(format!("{name}: runs dry and drops nothing; attach again without --dry-run"));
    }
    // A service is killed alone: the rest passes, as it should.
    let is_whole = targets.iter().all(|target| !matches!(target.scope, Scope::Service(_)));
    let passed = interface.late.passed(Reason::Admitted).packets
        + if total {
            interface.late.passed(Reason::NotIp).packets + interface.late.passed(Reason::Lifeline).packets
        } else {
            0
        };
    (is_whole && still_holds && passed > 0)
        .then(|| format!("{name}: {passed} packets passed after the kill was written"))
}

/// What an interface did while it was watched.
struct Seen {
    state: InterfaceState,
    /// From the moment that the word was written.
    all: Delta,
    /// From the moment that nothing from before could be in flight.
    late: Delta,
}

/// What two readings of the counters differ by, both directions together.
struct Delta {
    before: InterfaceCounters,
    after: InterfaceCounters,
}

impl Delta {
    fn cell(&self, of: fn(&InterfaceCounters) -> &[Cell; 16], reason: Reason) -> Cell {
        let (before, after) = (of(&self.before)[reason as usize], of(&self.after)[reason as usize]);
        Cell {
            packets: after.packets.saturating_sub(before.packets),
            bytes: after.bytes.saturating_sub(before.bytes),
        }
    }

    fn passed(&self, reason: Reason) -> Cell {
        let (a, b) = (self.cell(|c| &c.ingress, reason), self.cell(|c| &c.egress, reason));
        Cell { packets: a.packets + b.packets, bytes: a.bytes + b.bytes }
    }

    fn sum(&self, passes: bool) -> u64 {
        Reason::ALL
            .into_iter()
            .filter(|reason| reason.passes() == passes)
            .map(|r| self.passed(r).packets)
            .sum()
    }
}

struct Watched {
    interfaces: Vec<Seen>,
}

impl Watched {
    /// Reads the counters at once, when nothing can be in flight any more, and after [`WATCH`].
    fn watch(state: &State) -> Result<Watched> {
        let counters = |interfaces: &[InterfaceState]| -> Result<Vec<InterfaceCounters>> {
            interfaces.iter().map(|interface| state.counters(interface.slot)).collect()
        };
        let interfaces = state.interfaces();
        let first = counters(&interfaces)?;
        thread::sleep(IN_FLIGHT);
        let second = counters(&interfaces)?;
        thread::sleep(WATCH - IN_FLIGHT);
        let last = counters(&interfaces)?;
        // Read again: a program may have been exchanged meanwhile.
        let interfaces = state.interfaces().into_iter().zip(first.into_iter().zip(second).zip(last));
        let interfaces = interfaces.map(|(state, ((first, second), last))| Seen {
            state,
            all: Delta { before: first, after: last },
            late: Delta { before: second, after: last },
        });
        Ok(Watched { interfaces: interfaces.collect() })
    }
}

fn report(
    targets: &[Named],
    verb: &str,
    lasting: Option<Duration>,
    took: u64,
    watched: &Watched,
    faults: &[String],
    json: bool,
) {
    let names: Vec<&str> = targets.iter().map(|target| target.name.as_str()).collect();
    if json {
        let interfaces: Vec<_> = watched
            .interfaces
            .iter()
            .map(|seen| {
                json!({
                    "name": seen.state.name,
                    "mode": seen.state.mode.name(),
                    "passed": seen.all.sum(true),
                    "dropped": seen.all.sum(false),
                    "admitted": seen.all.passed(Reason::Admitted).packets,
                    "lifeline": seen.all.passed(Reason::Lifeline).packets,
                    "not_ip": seen.all.passed(Reason::NotIp).packets,
                    "admitted_after_5ms": seen.late.passed(Reason::Admitted).packets,
                })
            })
            .collect();
        print_json(&json!({
            "action": verb,
            "scope": names,
            "for_seconds": lasting.map(|lasting| lasting.as_secs_f64()),
            "written_in_nanoseconds": took,
            "watched_seconds": WATCH.as_secs_f64(),
            "interfaces": interfaces,
            "obeyed": faults.is_empty(),
            "faults": faults,
        }));
        return;
    }
    let end =
        lasting.map_or(String::new(), |lasting| format!(" for {}", humantime::format_duration(lasting)));
    let mut text = format!("{verb}: {}{end}\n", names.join(", "));
    let _ =
        writeln!(text, "word written in {:.1} us; in the {} ms after:", took as f64 / 1e3, WATCH.as_millis());
    for seen in &watched.interfaces {
        let _ = writeln!(
            text,
            "  {:<15} {:<8} passed {} (admitted {}, lifeline {}, not IP {}), dropped {}",
            seen.state.name,
            seen.state.mode.name(),
            seen.all.sum(true),
            seen.all.passed(Reason::Admitted).packets,
            seen.all.passed(Reason::Lifeline).packets,
            seen.all.passed(Reason::NotIp).packets,
            seen.all.sum(false),
        );
    }
    text.push_str(if faults.is_empty() { "verified: read back from the kernel\n" } else { "NOT OBEYED:\n" });
    for fault in faults {
        let _ = writeln!(text, "  {fault}");
    }
    print(&text);
}
