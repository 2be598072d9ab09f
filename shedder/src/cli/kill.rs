//! `shedder kill`: the word is written first; then it is read back, and what the kernel did is counted and told.

use super::scope::{Named, resolve};
use super::watch::{self, Seen};
use super::{Exit, args, print, print_json, scope};
use crate::datapath::{Attachment, InterfaceState, Pins, Scope, State, insist, monotonic};
use anyhow::Result;
use serde_json::json;
use shedder_common::reason::Reason;
use shedder_common::words::{FOREVER, KillWord};
use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

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
    let scopes: Vec<Scope> = targets.iter().map(|target| target.scope).collect();
    scopes.iter().for_each(|scope| state.set_kill(*scope, word));
    let took = Duration::from_nanos(monotonic() - begin);
    let written_at = humantime::format_rfc3339_micros(SystemTime::now());
    let unlocked = insist(&state, &scopes, word);

    let seen = watch::watch(&state);
    let now = monotonic();
    let mut faults = scope::unwritten(&state, &targets, word, now);
    if seen.is_empty() {
        faults.push("no interface is attached any more: nothing can be dropped".into());
    }
    for interface in seen.iter().filter(|interface| concerns(&targets, &interface.state)) {
        faults.extend(disobedience(interface, &targets, total, word.holds(now)));
    }

    let names: Vec<&str> = targets.iter().map(|target| target.name.as_str()).collect();
    if json {
        print_json(&json!({
            "action": "kill",
            "scope": names,
            "total": total,
            "for_seconds": lasting.map(|lasting| lasting.as_secs_f64()),
            "written_at": written_at.to_string(),
            "written_in_nanoseconds": took.as_nanos() as u64,
            "unlocked": unlocked,
            "watched_seconds": watch::WATCH.as_secs_f64(),
            "interfaces": watch::to_json(&seen),
            "obeyed": faults.is_empty(),
            "faults": faults,
        }));
    } else {
        let what = if total { "everything, lifelines as well" } else { "everything but lifelines" };
        let end = lasting.map_or("until `shedder resume`".into(), |lasting| {
            format!("for {}", humantime::format_duration(lasting))
        });
        let mut text = format!("killed: {}: {what}, {end}\n", names.join(", "));
        let micros = took.as_nanos() as f64 / 1e3;
        let _ = write!(text, "word written at {written_at}, in {micros:.1} us; {}", watch::to_text(&seen));
        if let Some(why) = &unlocked {
            let _ = writeln!(text, "NOT WAITED FOR: {why}");
        }
        text.push_str(&scope::verdict(&faults));
        print(&text);
    }
    Ok(if faults.is_empty() { Exit::Done } else { Exit::NotObeyed })
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
        return Some(format!("{name}: runs dry and drops nothing; attach again without dry run"));
    }
    if let Some(why) = interface.state.preceded() {
        return Some(why);
    }
    // A service is killed alone: the rest passes, as it should.
    let is_whole = targets.iter().all(|target| !matches!(target.scope, Scope::Service(_)));
    let late = |reason| interface.late.met(reason);
    let mut passed = late(Reason::Admitted);
    if total {
        passed += late(Reason::NotIp) + late(Reason::Lifeline);
    }
    (is_whole && still_holds && passed > 0)
        .then(|| format!("{name}: {passed} packets passed after the kill was written"))
}
