//! `shedder status`: what the kernel holds, read from the pins alone.

use super::{Exit, print, print_json};
use crate::datapath::{Attachment, Pins, Scope, State, monotonic};
use anyhow::Result;
use serde_json::{Value, json};
use shedder_common::abi::{Cell, InterfaceCounters};
use shedder_common::class::{Class, SHED_NOTHING};
use shedder_common::reason::Reason;
use shedder_common::words::{KillWord, OverrideWord};
use std::fmt::Write as _;
use std::time::Duration;

/// Shows what is in force.
pub(super) fn status(pins: &Pins, json: bool) -> Result<Exit> {
    let state = State::open(pins)?;
    let status = gather(&state)?;
    if json {
        print_json(&status);
    } else {
        print(&render(&status));
    }
    Ok(Exit::Done)
}

fn gather(state: &State) -> Result<Value> {
    let now = monotonic();
    let mut interfaces = Vec::new();
    for interface in state.interfaces() {
        let counters = state.counters(interface.slot)?;
        interfaces.push(json!({
            "name": interface.name,
            "mode": interface.mode.name(),
            "dry_run": interface.dry_run,
            "attached": interface.attachment == Attachment::Whole,
            "fault": match &interface.attachment { Attachment::Whole => None, Attachment::Broken(why) => Some(why) },
            "kill": kill(state.kill(Scope::Interface(interface.slot)), now),
            "ingress": cells(&counters.ingress, &counters.ingress_dry, true),
            "egress": cells(&counters.egress, &counters.egress_dry, false),
            "events": events(&counters),
        }));
    }
    let services = state.services().into_iter().map(|service| {
        let entry = service.entry;
        json!({
            "name": service.name,
            "protocol": if entry.protocol == 17 { "udp" } else { "tcp" },
            "port": entry.port,
            "class": Class::ALL[(entry.class as usize).min(5)].name(),
            "sheds": if entry.every_packet != 0 { "packets" } else { "new-flows" },
            "target_seconds": entry.target as f64 / 1e9,
            "observed_seconds": (entry.observed != 0).then(|| entry.observed as f64 / 1e9),
            "observed_seconds_ago": (entry.observed_at != 0).then(|| now.saturating_sub(entry.observed_at) as f64 / 1e9),
            "loop": { "shed_ratio": entry.permille as f64 / 1e3, "cutoff": state.cutoff(service.slot) },
            "override": override_(state.override_of(Some(service.slot)), now),
            "kill": kill(state.kill(Scope::Service(service.slot)), now),
        })
    });
    let services: Vec<Value> = services.collect();
    let lease = state.lease();
    Ok(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "pins": state.pins().root(),
        "daemon": {
            "alive": lease > now,
            "lease_remaining_seconds": lease.saturating_sub(now) as f64 / 1e9,
            "ever": lease != 0,
        },
        "kill": kill(state.kill(Scope::Host), now),
        "override": override_(state.override_of(None), now),
        "interfaces": interfaces,
        "services": services,
    }))
}

fn remaining(deadline: Option<u64>, now: u64) -> Option<f64> {
    deadline.map(|deadline| deadline.saturating_sub(now) as f64 / 1e9)
}

fn kill(word: KillWord, now: u64) -> Value {
    if !word.is_set() || !word.holds(now) {
        return json!({ "active": false });
    }
    json!({ "active": true, "total": word.is_total(), "ends_in_seconds": remaining(word.deadline(), now) })
}

fn override_(word: OverrideWord, now: u64) -> Value {
    if !word.holds(now) {
        return json!({ "active": false });
    }
    json!({
        "active": true, "shed_ratio": word.permille() as f64 / 1e3, "cutoff": word.cutoff(),
        "ends_in_seconds": remaining(word.deadline(), now),
    })
}

/// Packets and bytes by reason: what was done, and what a dry run would have dropped.
fn cells(live: &[Cell], dry: &[Cell], is_ingress: bool) -> Value {
    let mut sums = [Cell::default(); 3];
    let mut reasons = serde_json::Map::new();
    for reason in Reason::ALL {
        let (live, dry) = (live[reason as usize], dry[reason as usize]);
        let add = |sum: &mut Cell, cell: Cell| {
            sum.packets += cell.packets;
            sum.bytes += cell.bytes;
        };
        if reason.passes() {
            add(&mut sums[0], live);
            add(&mut sums[0], dry);
        } else {
            add(&mut sums[1], live);
            add(&mut sums[2], dry);
        }
        let packets = live.packets + dry.packets;
        if packets > 0 || is_ingress {
            reasons
                .insert(reason.name().into(), json!({ "packets": packets, "bytes": live.bytes + dry.bytes }));
        }
    }
    let sum = |cell: Cell| json!({ "packets": cell.packets, "bytes": cell.bytes });
    json!({ "passed": sum(sums[0]), "dropped": sum(sums[1]), "would_drop": sum(sums[2]), "reasons": reasons })
}

fn events(counters: &InterfaceCounters) -> Value {
    let [no_place, proven_evicted, udp_flow_evicted, ..] = counters.events;
    json!({ "no_place": no_place, "proven_evicted": proven_evicted, "udp_flow_evicted": udp_flow_evicted })
}

fn render(status: &Value) -> String {
    let mut text = String::new();
    let daemon = &status["daemon"];
    let alive = match (daemon["alive"].as_bool(), daemon["ever"].as_bool()) {
        (Some(true), _) => {
            format!("alive, lease {:.1} s", daemon["lease_remaining_seconds"].as_f64().unwrap_or(0.0))
        }
        (_, Some(true)) => "NOT ALIVE: the posture is in force".into(),
        _ => "none: attached without one".into(),
    };
    let _ = writeln!(text, "pins      {}", status["pins"].as_str().unwrap_or(""));
    let _ = writeln!(text, "daemon    {alive}");
    let _ = writeln!(text, "kill      {}", render_kill(&status["kill"]));
    let _ = writeln!(text, "override  {}", render_override(&status["override"]));
    for interface in items(&status["interfaces"]) {
        let _ = writeln!(
            text,
            "\ninterface {}  {}{}{}",
            interface["name"].as_str().unwrap_or(""),
            interface["mode"].as_str().unwrap_or(""),
            if interface["dry_run"] == true { ", DRY RUN" } else { "" },
            match interface["fault"].as_str() {
                Some(why) => format!(", NOT HELD: {why}"),
                None => String::new(),
            },
        );
        if interface["kill"]["active"] == true {
            let _ = writeln!(text, "  kill     {}", render_kill(&interface["kill"]));
        }
        for direction in ["ingress", "egress"] {
            let _ = writeln!(text, "  {direction:<8} {}", render_cells(&interface[direction]));
        }
    }
    for service in items(&status["services"]) {
        let number = |value: &Value| value.as_f64().unwrap_or(0.0);
        let latency = |value: &Value| {
            value
                .as_f64()
                .map_or("unknown".into(), |s| format!("{:.1?}", Duration::from_secs_f64(s.max(0.0))))
        };
        let _ = writeln!(
            text,
            "\nservice {}  {}/{}  class {}  sheds {}\n  latency  {} against {}\n  loop     sheds {:.1} %, cutoff {} of {}",
            service["name"].as_str().unwrap_or(""),
            service["port"],
            service["protocol"].as_str().unwrap_or(""),
            service["class"].as_str().unwrap_or(""),
            service["sheds"].as_str().unwrap_or(""),
            latency(&service["observed_seconds"]),
            latency(&service["target_seconds"]),
            number(&service["loop"]["shed_ratio"]) * 100.0,
            service["loop"]["cutoff"],
            SHED_NOTHING,
        );
        if service["override"]["active"] == true {
            let _ = writeln!(text, "  override {}", render_override(&service["override"]));
        }
        if service["kill"]["active"] == true {
            let _ = writeln!(text, "  kill     {}", render_kill(&service["kill"]));
        }
    }
    text
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn render_end(value: &Value) -> String {
    match value["ends_in_seconds"].as_f64() {
        Some(seconds) => format!("ends by itself in {seconds:.1} s"),
        None => "until it is ended by hand".into(),
    }
}

fn render_kill(kill: &Value) -> String {
    match kill["active"] == true {
        false => "none".into(),
        true if kill["total"] == true => format!("IN FORCE, TOTAL: lifelines as well; {}", render_end(kill)),
        true => format!("IN FORCE: all but lifelines; {}", render_end(kill)),
    }
}

fn render_override(word: &Value) -> String {
    match word["active"] == true {
        false => "none".into(),
        true => {
            let percent = word["shed_ratio"].as_f64().unwrap_or(0.0) * 100.0;
            format!("SHEDDING {percent:.1} %, cutoff {}; {}", word["cutoff"], render_end(word))
        }
    }
}

fn render_cells(direction: &Value) -> String {
    let count = |what: &str| direction[what]["packets"].as_u64().unwrap_or(0);
    let mut text = format!("passed {}, dropped {}", count("passed"), count("dropped"));
    if count("would_drop") > 0 {
        let _ = write!(text, ", would drop {}", count("would_drop"));
    }
    let reasons = direction["reasons"].as_object().into_iter().flatten();
    let met: Vec<String> = reasons
        .filter(|(_, cell)| cell["packets"] != 0)
        .map(|(reason, cell)| format!("{reason} {}", cell["packets"]))
        .collect();
    if !met.is_empty() {
        let _ = write!(text, "  ({})", met.join(", "));
    }
    text
}
