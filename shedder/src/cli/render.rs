//! `shedder status` as text.

use super::status::{Authority, Direction, Interface, Kill, Override, Passive, Service, Status};
use crate::daemon::Privileges;
use shedder_common::abi::Exchange;
use shedder_common::class::SHED_NOTHING;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

/// The whole status.
pub(super) fn status(status: &Status) -> String {
    let mut text = format!(
        "pins       {}\ndaemon     {}\nkill       {}\noverride   {}\n",
        status.pins.display(),
        daemon(status),
        kill(&status.kill),
        override_(&status.override_),
    );
    if let Some(privileges) = &status.daemon.privileges {
        describe_privileges(&mut text, privileges);
    }
    for interface in &status.interfaces {
        describe_interface(&mut text, interface);
    }
    for service in &status.services {
        describe_service(&mut text, service, status);
    }
    text
}

fn daemon(status: &Status) -> String {
    let daemon = &status.daemon;
    let posture = match status.posture {
        "hold" => "the last cutoffs stay in force",
        "closed" if daemon.ever => "EVERYTHING BUT LIFELINES IS DROPPED",
        _ => "nothing is shed adaptively",
    };
    match daemon.lapsed_seconds_ago {
        _ if daemon.alive => format!("alive, lease {}", time(daemon.lease_remaining_seconds)),
        Some(ago) => format!(
            "NOT ALIVE: its lease lapsed {} ago; limits and kills hold; posture {}: {posture}",
            time(ago),
            status.posture
        ),
        None => "none: attached without one; limits and kills hold, nothing adapts".into(),
    }
}

fn describe_privileges(text: &mut String, privileges: &Privileges) {
    let names = |set: &BTreeSet<String>| {
        if set.is_empty() { "none".to_owned() } else { set.iter().cloned().collect::<Vec<_>>().join(" ") }
    };
    let holds = |holds: bool, what: &'static str, lacks: &'static str| if holds { what } else { lacks };
    let _ = writeln!(
        text,
        "\nprocess    {}  {}, {}, {}\n  has      {}",
        privileges.pid,
        holds(privileges.no_new_privileges, "no new privileges", "CAN GAIN PRIVILEGES"),
        holds(privileges.system_calls_filtered, "system calls filtered", "ANY SYSTEM CALL"),
        holds(privileges.files_fenced, "files fenced", "ANY FILE"),
        names(&privileges.capabilities),
    );
    if privileges.bounding != privileges.capabilities {
        let _ = writeln!(text, "  bounds   {}", names(&privileges.bounding));
    }
}

fn describe_interface(text: &mut String, interface: &Interface) {
    let _ = write!(text, "\ninterface  {}  {}", interface.name, interface.mode);
    if interface.dry_run {
        text.push_str(", DRY RUN: nothing is dropped");
    }
    if let Some(why) = &interface.fault {
        let _ = write!(text, ", NOT HELD: {why}");
    }
    text.push('\n');
    if let Some(why) = &interface.preceded {
        let _ = writeln!(text, "  NOT FIRST  {why}");
    }
    if interface.kill.active {
        let _ = writeln!(text, "  kill     {}", kill(&interface.kill));
    }
    let _ = writeln!(text, "  ingress  {}", direction(&interface.ingress));
    let _ = writeln!(text, "  egress   {}", direction(&interface.egress));
}

fn describe_service(text: &mut String, service: &Service, status: &Status) {
    let latency = |seconds: f64| format!("{:.1?}", Duration::from_secs_f64(seconds));
    let _ = writeln!(
        text,
        "\nservice    {}  {}/{}  class {}  sheds {}",
        service.name, service.port, service.protocol, service.class, service.sheds
    );
    let observed = match service.observed_seconds {
        Some(seconds) => latency(seconds),
        None if service.loop_.live => "unknown: no signal".into(),
        None => "unknown: no live daemon observes it".into(),
    };
    let _ = writeln!(text, "  latency  {observed}; target {}", latency(service.target_seconds));
    if let Some(passive) = &service.passive {
        describe_passive(text, passive);
    }
    if service.kill.active {
        let _ = writeln!(text, "  kill     {}", kill(&service.kill));
    }
    if service.override_.active {
        let _ = writeln!(text, "  override {}", override_(&service.override_));
    }
    let said = format!("sheds {:.1} %, {}", service.loop_.shed_ratio * 100.0, cutoff(service.loop_.cutoff));
    match service.loop_.reported_seconds_ago {
        _ if service.loop_.live => {
            let _ = writeln!(text, "  loop     {said}");
        }
        Some(ago) => {
            let _ = writeln!(text, "  loop     stopped; {} ago it said: {said}", time(ago));
        }
        None => {}
    }
    let by = match service.in_force.by {
        Authority::HostOverride => "by the override of everything".into(),
        Authority::Override => "by the service's override".into(),
        Authority::Loop => "by the loop".into(),
        Authority::Reflex => "by the kernel's reflex, until the loop's next turn".into(),
        Authority::Posture => format!("no daemon is alive, posture {}", status.posture),
    };
    let _ = writeln!(text, "  in force {}; {by}", cutoff(service.in_force.cutoff));
}

/// What the programs saw of a service.
fn describe_passive(text: &mut String, passive: &Passive) {
    let _ = write!(text, "  passive  {} answered, {} in flight", passive.answered, passive.in_flight);
    let quantiles =
        [("p50", passive.p50_seconds), ("p90", passive.p90_seconds), ("p99", passive.p99_seconds)];
    for (name, seconds) in quantiles {
        if let Some(seconds) = seconds {
            let _ = write!(text, ", {name} {:.1?}", Duration::from_secs_f64(seconds));
        }
    }
    text.push('\n');
    // What never happened is not worth a word.
    let abandoned = ("abandoned", passive.abandoned);
    let pending = ("pending", passive.connections_pending);
    let events = passive.events.iter().map(|(name, count)| (*name, *count)).chain([abandoned, pending]);
    let happened: Vec<String> = events
        .filter(|(name, count)| *count > 0 && *name != Exchange::Request.name())
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    if !happened.is_empty() {
        let _ = writeln!(text, "           {}", happened.join(", "));
    }
    if passive.measured_share < 1.0 {
        let _ = writeln!(text, "           of {:.2} % of the flows", passive.measured_share * 100.0);
    }
}

fn cutoff(cutoff: u32) -> String {
    match cutoff {
        SHED_NOTHING => format!("cutoff {SHED_NOTHING} (nothing is shed)"),
        0 => "cutoff 0 (everything is shed)".into(),
        some => format!("cutoff {some} of {SHED_NOTHING}"),
    }
}

fn end(ends_in_seconds: Option<f64>) -> String {
    match ends_in_seconds {
        Some(seconds) => format!("ends by itself in {}", time(seconds)),
        None => "until it is ended by hand".into(),
    }
}

fn kill(kill: &Kill) -> String {
    match (kill.active, kill.total) {
        (false, _) => "none".into(),
        (true, true) => {
            format!("IN FORCE, TOTAL: lifelines are dropped as well; {}", end(kill.ends_in_seconds))
        }
        (true, false) => format!("IN FORCE: all but lifelines is dropped; {}", end(kill.ends_in_seconds)),
    }
}

fn override_(word: &Override) -> String {
    match (word.shed_ratio, word.cutoff) {
        (Some(ratio), Some(at)) => {
            format!("SHEDDING {:.1} %, {}; {}", ratio * 100.0, cutoff(at), end(word.ends_in_seconds))
        }
        _ => "none".into(),
    }
}

fn direction(direction: &Direction) -> String {
    let mut text = format!("passed {}, dropped {}", direction.passed.packets, direction.dropped.packets);
    if direction.would_drop.packets > 0 {
        let _ = write!(text, ", would drop {}", direction.would_drop.packets);
    }
    let met = direction.reasons.iter().filter(|(_, count)| count.packets != 0);
    let met: Vec<String> = met.map(|(reason, count)| format!("{reason} {}", count.packets)).collect();
    if !met.is_empty() {
        let _ = write!(text, "  ({})", met.join(", "));
    }
    text
}

/// A length of time for people: tenths of a second where they matter.
pub(super) fn time(seconds: f64) -> String {
    if seconds < 10.0 {
        return format!("{seconds:.1} s");
    }
    humantime::format_duration(Duration::from_secs(seconds as u64)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_as_fine_as_they_matter() {
        let shown = [0.04, 1.25, 9.94, 10.7, 3_725.9].map(time);
        assert_eq!(shown, ["0.0 s", "1.2 s", "9.9 s", "10s", "1h 2m 5s"]);
    }
}
