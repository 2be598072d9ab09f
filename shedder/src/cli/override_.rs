//! `shedder shed` and `shedder auto`: a person's word in place of the loop's.

use super::{Exit, print, print_json, scope};
use crate::control::{Counters, Distribution};
use crate::datapath::{OfferedWork, Pins, State, monotonic};
use anyhow::Result;
use serde_json::json;
use shedder_common::class::PRIORITIES;
use shedder_common::words::{FOREVER, OverrideWord};
use std::thread;
use std::time::Duration;

/// How long work is counted before the cutoff is set to what is offered now.
const COUNT: Duration = Duration::from_millis(200);

/// Fewer new flows than this say nothing of how they are distributed.
const ENOUGH: u64 = 50;

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
    let before = read(&offered, slot)?;
    let word = OverrideWord::until(
        deadline,
        (ratio * 1000.0).round() as u32,
        Distribution::between(&[0; PRIORITIES as usize], &before).cutoff_for(ratio),
    );
    state.set_override(slot, word);
    thread::sleep(COUNT);
    let after = read(&offered, slot)?;
    let recent = Distribution::between(&before, &after);
    let counted = count(&before, &after);
    if counted >= ENOUGH {
        state.refresh_override(slot, word, word.with_cutoff(recent.cutoff_for(ratio)));
    }

    let seen = state.override_of(slot);
    let is_ours = seen.deadline() == word.deadline() && seen.permille() == word.permille();
    let fault =
        if is_ours { None } else { Some("somebody else wrote another word meanwhile; see `shedder status`") };
    let share = (counted >= ENOUGH).then(|| recent.share_at(seen.cutoff()));
    let name = service.map_or("everything".to_owned(), |name| format!("service {name}"));
    if json {
        print_json(&json!({
            "action": "shed", "scope": name, "ratio": ratio, "cutoff": seen.cutoff(), "share_of_recent": share,
            "counted": counted, "for_seconds": lasting.map(|l| l.as_secs_f64()), "obeyed": is_ours, "fault": fault,
        }));
    } else {
        let end =
            lasting.map_or(String::new(), |lasting| format!(" for {}", humantime::format_duration(lasting)));
        let share = match share {
            Some(share) => format!(
                "{:.1} % of the {counted} flows offered in the last {} ms",
                share * 100.0,
                COUNT.as_millis()
            ),
            None => format!(
                "too little was offered to say how much that is now ({counted} flows in {} ms)",
                COUNT.as_millis()
            ),
        };
        print(&format!("shedding {percent} % of {name}{end}: cutoff {} of 768, {share}\n", seen.cutoff()));
        if let Some(why) = fault {
            print(&format!("NOT OBEYED: {why}\n"));
        }
    }
    Ok(if is_ours { Exit::Done } else { Exit::NotObeyed })
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
    let ended: Vec<String> = scopes
        .iter()
        .filter(|(slot, _)| state.override_of(*slot).is_set())
        .map(|(_, name)| name.clone())
        .collect();
    for (slot, _) in &scopes {
        state.set_override(*slot, OverrideWord::NONE);
    }
    let obeyed = scopes.iter().all(|(slot, _)| !state.override_of(*slot).is_set());
    let is_daemon_alive = state.lease() > monotonic();
    let host_holds = service.is_some() && state.override_of(None).holds(monotonic());
    if json {
        print_json(&json!({
            "action": "auto", "ended": ended, "daemon_alive": is_daemon_alive, "host_override_holds": host_holds,
            "obeyed": obeyed,
        }));
    } else {
        match ended.as_slice() {
            [] => print("no override was in force\n"),
            names => print(&format!("override ended: {}\n", names.join(", "))),
        }
        if host_holds {
            print("an override of everything still holds: `shedder auto` ends that as well\n");
        }
        if !is_daemon_alive {
            print("no daemon is alive: the posture decides, and nothing adapts until one runs\n");
        }
        if !obeyed {
            print("NOT OBEYED: somebody else wrote another word meanwhile; see `shedder status`\n");
        }
    }
    Ok(if obeyed { Exit::Done } else { Exit::NotObeyed })
}

fn read(offered: &OfferedWork, slot: Option<usize>) -> Result<Counters> {
    match slot {
        Some(slot) => offered.of(Some(slot)),
        None => offered.of_all(),
    }
}

fn count(before: &Counters, after: &Counters) -> u64 {
    before.iter().zip(after).map(|(before, after)| after.wrapping_sub(*before) as u64).sum()
}
