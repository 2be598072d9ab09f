//! `shedder resume`: lifts kills, and tells which there were, what still holds, and what passes.

use super::render::time;
use super::scope::{Named, every_scope, resolve};
use super::watch;
use super::{Exit, args, print, print_json, scope};
use crate::datapath::{Pins, Scope, State, Turn, monotonic};
use anyhow::Result;
use serde_json::json;
use shedder_common::reason::Reason;
use shedder_common::words::KillWord;
use std::fmt::Write as _;

/// Lifts kills.
pub(super) fn resume(pins: &Pins, scope: &args::Scope, json: bool) -> Result<Exit> {
    let state = State::open(pins)?;
    let mut targets = resolve(&state, scope)?;
    if targets.iter().all(|target| target.scope == Scope::Host) {
        // Whoever says no more than "resume" wants nothing left killed.
        targets = every_scope(&state);
    }
    let turn = Turn::take(&state)?;
    let now = monotonic();
    let holding = |target: &&Named| holds(state.kill(target.scope), now);
    let lifted: Vec<(String, KillWord)> =
        targets.iter().filter(holding).map(|t| (t.name.clone(), state.kill(t.scope))).collect();
    for target in &targets {
        turn.set_kill(target.scope, KillWord::NONE)?;
    }
    drop(turn);

    let seen = watch::watch(&state);
    let now = monotonic();
    let mut faults = scope::unwritten(&state, &targets, KillWord::NONE, now);
    // A kill of the host covers whatever was named; one of another interface or service does not.
    let still: Vec<Named> =
        every_scope(&state).into_iter().filter(|other| holds(state.kill(other.scope), now)).collect();
    if still.iter().any(|other| other.scope == Scope::Host) {
        faults.push("the host is still killed: `shedder resume` lifts that".into());
    }
    if still.is_empty() {
        for interface in &seen {
            let killed = interface.late.met(Reason::Kill);
            if killed > 0 {
                let name = &interface.state.name;
                faults.push(format!(
                    "{name}: {killed} packets were dropped as killed after the kill was lifted"
                ));
            }
        }
    }

    let still: Vec<String> = still.into_iter().map(|other| other.name).collect();
    if json {
        let lifted: Vec<_> = lifted
            .iter()
            .map(|(name, word)| {
                let left = word.deadline().map(|deadline| deadline.saturating_sub(now) as f64 / 1e9);
                json!({ "scope": name, "total": word.is_total(), "ends_in_seconds": left })
            })
            .collect();
        print_json(&json!({
            "action": "resume",
            "lifted": lifted,
            "still_killed": still,
            "watched_seconds": watch::WATCH.as_secs_f64(),
            "interfaces": watch::to_json(&seen),
            "obeyed": faults.is_empty(),
            "faults": faults,
        }));
    } else {
        let mut text = String::new();
        for (name, word) in &lifted {
            let total = if word.is_total() { ", lifelines as well" } else { "" };
            let end = match word.deadline() {
                Some(deadline) => format!("; {} were left", time(deadline.saturating_sub(now) as f64 / 1e9)),
                None => String::new(),
            };
            let _ = writeln!(text, "resumed: {name}: was killed{total}{end}");
        }
        if lifted.is_empty() {
            let named: Vec<&str> = targets.iter().map(|target| target.name.as_str()).collect();
            let what = if scope.names_nothing() {
                "nothing".into()
            } else {
                format!("none of {}", named.join(", "))
            };
            let _ = writeln!(text, "{what} was killed: there was nothing to lift");
        }
        if !still.is_empty() {
            let _ = writeln!(text, "STILL KILLED: {}; `shedder resume` lifts every kill", still.join(", "));
        }
        text.push_str(&watch::to_text(&seen));
        text.push_str(&scope::verdict(&faults));
        print(&text);
    }
    Ok(if faults.is_empty() { Exit::Done } else { Exit::NotObeyed })
}

fn holds(word: KillWord, now: u64) -> bool {
    word.is_set() && word.holds(now)
}
