//! `shedder shed` and `shedder auto`: a person's word in place of the loop's.

use super::{Exit, print, print_json, scope};
use crate::control::{Counters, Distribution};
use crate::datapath::{Attachment, OfferedWork, Pins, State, Turn, monotonic};
use anyhow::Result;
use serde_json::json;
use shedder_common::class::{PRIORITIES, SHED_NOTHING};
use shedder_common::words::{FOREVER, OverrideWord};
use std::thread;
use std::time::Duration;

/// How long work is counted before the cutoff is set to what is offered now.
const COUNT: Duration = Duration::from_millis(200);

/// Fewer new flows than this say nothing of how they are distributed.
const ENOUGH: u64 = 50;

const HOST_COMES_FIRST: &str =
    "an override of everything holds, and comes first: `shedder auto` ends it, and every other";

/// Sheds a percentage until told otherwise.
pub(super) fn shed(
    pins: &Pins,
    percent: f64,
    lasting: Option<Duration>,
    service: Option<&str>,
    json: bool,
) -> Result<Exit> {
    let state = State::open(pins)?;
    let slot = service.map(|name| scope::service(&state, name)).transpose()?;
    let ratio = percent / 100.0;
    let deadline = lasting.map_or(FOREVER, |lasting| monotonic().saturating_add(lasting.as_nanos() as u64));
    let offered = state.offered()?;

    // In force at once, by what was offered since the programs were loaded; then by what is offered now.
    let before = read(&offered, slot);
    let word = OverrideWord::until(
        deadline,
        (ratio * 1000.0).round() as u32,
        Distribution::between(&[0; PRIORITIES as usize], &before).cutoff_for(ratio),
    );
    Turn::take(&state)?.set_override(slot, word)?;
    thread::sleep(COUNT);
    let after = read(&offered, slot);
    let recent = Distribution::between(&before, &after);
    let counted = count(&before, &after);
    if counted >= ENOUGH {
        state.refresh_override(slot, word, word.with_cutoff(recent.cutoff_for(ratio)));
    }

    let seen = state.override_of(slot);
    let mut faults = Vec::new();
    if seen.with_cutoff(0) != word.with_cutoff(0) {
        faults.push(scope::OVERTAKEN.to_owned());
    }
    if slot.is_some() && state.override_of(None).holds(monotonic()) {
        faults.push(HOST_COMES_FIRST.into());
    }
    let interfaces = state.interfaces();
    for interface in &interfaces {
        if let Attachment::Broken(why) = &interface.attachment {
            faults.push(format!("{}: {why}; `shedder attach` puts it right", interface.name));
        }
    }
    let dry_run = interfaces.iter().any(|interface| interface.dry_run);
    let share = (counted >= ENOUGH).then(|| recent.share_at(seen.cutoff()));
    let name = service.map_or("everything".to_owned(), |name| format!("service {name}"));
    if json {
        print_json(&json!({
            "action": "shed", "scope": name, "ratio": ratio, "cutoff": seen.cutoff(), "share_of_recent": share,
            "counted": counted, "for_seconds": lasting.map(|l| l.as_secs_f64()), "dry_run": dry_run,
            "obeyed": faults.is_empty(), "faults": faults,
        }));
    } else {
        let end = lasting.map_or("until `shedder auto`".into(), |lasting| {
            format!("for {}", humantime::format_duration(lasting))
        });
        let window = COUNT.as_millis();
        let share = match share {
            Some(share) => {
                format!("{:.1} % of the {counted} flows offered in the last {window} ms", share * 100.0)
            }
            None => {
                format!("too little was offered to say how much that is now ({counted} flows in {window} ms)")
            }
        };
        let cutoff = seen.cutoff();
        let mut text =
            format!("shedding {percent} % of {name}, {end}\ncutoff {cutoff} of {SHED_NOTHING}: {share}\n");
        if dry_run {
            text.push_str("DRY RUN: this is counted, and nothing is dropped\n");
        }
        text.push_str(&scope::verdict(&faults));
        print(&text);
    }
    Ok(if faults.is_empty() { Exit::Done } else { Exit::NotObeyed })
}

/// Hands back to the loop.
pub(super) fn auto(pins: &Pins, service: Option<&str>, json: bool) -> Result<Exit> {
    let state = State::open(pins)?;
    let mut scopes: Vec<(Option<usize>, String)> = Vec::new();
    match service {
        Some(name) => scopes.push((Some(scope::service(&state, name)?), format!("service {name}"))),
        None => {
            scopes.push((None, "everything".into()));
            scopes
                .extend(state.services().into_iter().map(|s| (Some(s.slot), format!("service {}", s.name))));
        }
    }
    let turn = Turn::take(&state)?;
    let now = monotonic();
    let held = |(slot, _): &&(Option<usize>, String)| state.override_of(*slot).holds(now);
    let ended: Vec<String> = scopes.iter().filter(held).map(|(_, name)| name.clone()).collect();
    for (slot, _) in &scopes {
        turn.set_override(*slot, OverrideWord::NONE)?;
    }
    drop(turn);
    let mut faults = Vec::new();
    if scopes.iter().any(|(slot, _)| state.override_of(*slot).is_set()) {
        faults.push(scope::OVERTAKEN.to_owned());
    }
    let now = monotonic();
    if service.is_some() && state.override_of(None).holds(now) {
        faults.push(HOST_COMES_FIRST.into());
    }
    let is_daemon_alive = state.lease() > now;
    if json {
        print_json(&json!({
            "action": "auto", "ended": ended, "daemon_alive": is_daemon_alive, "obeyed": faults.is_empty(),
            "faults": faults,
        }));
    } else {
        let mut text = match ended.as_slice() {
            [] => "no override was in force: there was nothing to end\n".into(),
            names => format!("override ended: {}\n", names.join(", ")),
        };
        if !is_daemon_alive {
            text.push_str("no daemon is alive: the posture decides, and nothing adapts until one runs\n");
        }
        text.push_str(&scope::verdict(&faults));
        print(&text);
    }
    Ok(if faults.is_empty() { Exit::Done } else { Exit::NotObeyed })
}

fn read(offered: &OfferedWork, slot: Option<usize>) -> Counters {
    match slot {
        Some(slot) => offered.of(Some(slot)),
        None => offered.of_all(),
    }
}

fn count(before: &Counters, after: &Counters) -> u64 {
    before.iter().zip(after).map(|(before, after)| after.wrapping_sub(*before) as u64).sum()
}
