//! `shedder status`: what the kernel holds, read from the pins alone.

use super::{Exit, print, print_json, render};
use crate::config::Posture;
use crate::control::quantile_of;
use crate::daemon::Privileges;
use crate::datapath::{
    self, Attachment, InterfaceState, Measurements, Pins, Scope, ServiceState, State, monotonic,
};
use anyhow::Result;
use serde::Serialize;
use shedder_common::abi::{self, Cell, Event, Exchange, InterfaceCounters, MAX_SERVICES};
use shedder_common::class::{Class, Cutoff, SHED_NOTHING};
use shedder_common::flows::Waiting;
use shedder_common::reason::Reason;
use shedder_common::words::{KillWord, OverrideWord, ReflexWord};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Shows what is in force.
pub(super) fn status(pins: &Pins, json: bool) -> Result<Exit> {
    let status = Status::gather(&State::open(pins)?)?;
    if json {
        print_json(&status);
    } else {
        print(&render::status(&status));
    }
    Ok(Exit::Done)
}

/// All of it. `docs/command-line.md` describes each field.
#[derive(Debug, Serialize)]
pub(super) struct Status {
    pub(super) version: &'static str,
    pub(super) pins: PathBuf,
    pub(super) daemon: Daemon,
    pub(super) posture: &'static str,
    pub(super) kill: Kill,
    #[serde(rename = "override")]
    pub(super) override_: Override,
    pub(super) interfaces: Vec<Interface>,
    pub(super) services: Vec<Service>,
}

/// The daemon, as its lease and its process show it.
#[derive(Debug, Serialize)]
pub(super) struct Daemon {
    pub(super) alive: bool,
    pub(super) lease_remaining_seconds: f64,
    pub(super) lapsed_seconds_ago: Option<f64>,
    pub(super) ever: bool,
    pub(super) privileges: Option<Privileges>,
}

/// A kill that holds, or none.
#[derive(Debug, Serialize)]
pub(super) struct Kill {
    pub(super) active: bool,
    pub(super) total: bool,
    pub(super) ends_in_seconds: Option<f64>,
}

/// An override that holds, or none.
#[derive(Debug, Serialize)]
pub(super) struct Override {
    pub(super) active: bool,
    pub(super) shed_ratio: Option<f64>,
    pub(super) cutoff: Option<u32>,
    pub(super) ends_in_seconds: Option<f64>,
}

/// One interface.
#[derive(Debug, Serialize)]
pub(super) struct Interface {
    pub(super) name: String,
    pub(super) mode: &'static str,
    pub(super) dry_run: bool,
    pub(super) attached: bool,
    pub(super) fault: Option<String>,
    pub(super) before: Option<Vec<Foreign>>,
    #[serde(skip)]
    pub(super) preceded: Option<String>,
    pub(super) kill: Kill,
    pub(super) ingress: Direction,
    pub(super) egress: Direction,
    pub(super) events: Events,
}

/// Somebody else's program that judges what leaves before shedder's does.
#[derive(Debug, Serialize)]
pub(super) struct Foreign {
    pub(super) id: u32,
    pub(super) name: Option<String>,
}

/// Packets of one direction.
#[derive(Debug, Serialize)]
pub(super) struct Direction {
    pub(super) passed: Count,
    pub(super) dropped: Count,
    pub(super) would_drop: Count,
    pub(super) reasons: BTreeMap<&'static str, Count>,
}

/// Packets, and their bytes from the Ethernet header on.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Count {
    pub(super) packets: u64,
    pub(super) bytes: u64,
}

/// Things counted that are no verdict.
#[derive(Debug, Serialize)]
pub(super) struct Events {
    no_place: u64,
    proven_evicted: u64,
    udp_flow_evicted: u64,
}

/// One service.
#[derive(Debug, Serialize)]
pub(super) struct Service {
    pub(super) name: String,
    pub(super) protocol: &'static str,
    pub(super) port: u16,
    pub(super) class: &'static str,
    pub(super) sheds: &'static str,
    pub(super) target_seconds: f64,
    pub(super) observed_seconds: Option<f64>,
    pub(super) signal: &'static str,
    pub(super) passive: Option<Passive>,
    #[serde(rename = "loop")]
    pub(super) loop_: Loop,
    #[serde(rename = "override")]
    pub(super) override_: Override,
    pub(super) kill: Kill,
    pub(super) in_force: InForce,
}

/// What the programs saw of a service since they were loaded, and what is in flight now; of the flows that are measured.
#[derive(Debug, Serialize)]
pub(super) struct Passive {
    pub(super) measured_share: f64,
    pub(super) in_flight: u64,
    pub(super) connections_pending: u64,
    pub(super) answered: u64,
    pub(super) abandoned: u64,
    pub(super) p50_seconds: Option<f64>,
    pub(super) p90_seconds: Option<f64>,
    pub(super) p99_seconds: Option<f64>,
    pub(super) events: BTreeMap<&'static str, u64>,
}

/// What a service's loop said last. Where it is not live, that is history.
#[derive(Debug, Serialize)]
pub(super) struct Loop {
    pub(super) live: bool,
    pub(super) reported_seconds_ago: Option<f64>,
    pub(super) shed_ratio: f64,
    pub(super) cutoff: u32,
}

/// The cutoff that the kernel applies to a service's traffic at this moment.
#[derive(Debug, Serialize)]
pub(super) struct InForce {
    pub(super) by: Authority,
    pub(super) cutoff: u32,
}

/// Whose cutoff is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Authority {
    /// A person's override of everything.
    HostOverride,
    /// A person's override of the service.
    Override,
    /// The loop of a daemon that is alive.
    Loop,
    /// The programs by themselves, between two turns of a loop that is alive.
    Reflex,
    /// Nobody: no daemon is alive.
    Posture,
}

impl Status {
    fn gather(state: &State) -> Result<Status> {
        let now = monotonic();
        let held = state.interfaces();
        let posture = held.first().map_or(Posture::Open, |interface| interface.posture);
        let interfaces = held.into_iter().map(|interface| Interface::gather(state, interface, now));
        Ok(Status {
            version: env!("CARGO_PKG_VERSION"),
            pins: state.pins().root().to_owned(),
            daemon: Daemon {
                privileges: state.pins().holder().and_then(Privileges::of),
                ..Daemon::of(state.lease(), now)
            },
            posture: match posture {
                Posture::Open => "open",
                Posture::Hold => "hold",
                Posture::Closed => "closed",
            },
            kill: Kill::of(state.kill(Scope::Host), now),
            override_: Override::of(state.override_of(None), now),
            interfaces: interfaces.collect(),
            services: Service::gather_all(state, posture, now)?,
        })
    }
}

impl Daemon {
    fn of(lease: u64, now: u64) -> Daemon {
        let (alive, ever) = (lease > now, lease != 0);
        Daemon {
            alive,
            lease_remaining_seconds: seconds(lease.saturating_sub(now)),
            lapsed_seconds_ago: (ever && !alive).then(|| seconds(now - lease)),
            ever,
            privileges: None,
        }
    }
}

impl Kill {
    fn of(word: KillWord, now: u64) -> Kill {
        let active = word.is_set() && word.holds(now);
        let deadline = word.deadline().filter(|_| active);
        Kill {
            active,
            total: active && word.is_total(),
            ends_in_seconds: deadline.map(|deadline| seconds(deadline - now)),
        }
    }
}

impl Override {
    fn of(word: OverrideWord, now: u64) -> Override {
        let active = word.holds(now);
        let deadline = word.deadline().filter(|_| active);
        Override {
            active,
            shed_ratio: active.then(|| f64::from(word.permille()) / 1e3),
            cutoff: active.then(|| word.cutoff()),
            ends_in_seconds: deadline.map(|deadline| seconds(deadline - now)),
        }
    }
}

impl Interface {
    fn gather(state: &State, interface: InterfaceState, now: u64) -> Interface {
        let counters = state.counters(interface.slot);
        Interface {
            preceded: interface.preceded(),
            mode: interface.mode.name(),
            dry_run: interface.dry_run,
            attached: interface.attachment == Attachment::Whole,
            fault: match interface.attachment {
                Attachment::Whole => None,
                Attachment::Broken(why) => Some(why),
            },
            before: interface.before.map(|before| {
                before.into_iter().map(|datapath::Foreign { id, name }| Foreign { id, name }).collect()
            }),
            kill: Kill::of(state.kill(Scope::Interface(interface.slot)), now),
            ingress: Direction::of(&counters.ingress, &counters.ingress_dry),
            egress: Direction::of(&counters.egress, &counters.egress_dry),
            events: Events::of(&counters),
            name: interface.name,
        }
    }
}

impl Direction {
    /// What was done, and what a dry run would have dropped.
    fn of(live: &[Cell], dry: &[Cell]) -> Direction {
        let [mut passed, mut dropped, mut would_drop] = [Count::default(); 3];
        let mut reasons = BTreeMap::new();
        for reason in Reason::ALL {
            let (live, dry) = (Count::from(live[reason as usize]), Count::from(dry[reason as usize]));
            if reason.passes() {
                passed = passed.plus(live).plus(dry);
            } else {
                dropped = dropped.plus(live);
                would_drop = would_drop.plus(dry);
            }
            reasons.insert(reason.name(), live.plus(dry));
        }
        Direction { passed, dropped, would_drop, reasons }
    }
}

impl Count {
    fn plus(self, other: Count) -> Count {
        Count { packets: self.packets + other.packets, bytes: self.bytes + other.bytes }
    }
}

impl From<Cell> for Count {
    fn from(cell: Cell) -> Count {
        Count { packets: cell.packets, bytes: cell.bytes }
    }
}

impl Events {
    fn of(counters: &InterfaceCounters) -> Events {
        let of = |event| counters.events[event as usize];
        Events {
            no_place: of(Event::NoPlace),
            proven_evicted: of(Event::ProvenEvicted),
            udp_flow_evicted: of(Event::UdpFlowEvicted),
        }
    }
}

impl Passive {
    /// `waiting` are the requests and the connections that wait.
    fn gather(state: &State, slot: usize, measurements: &Measurements, waiting: [u64; 2]) -> Passive {
        let measured = measurements.of(slot);
        let sum = |counts: &[u32]| counts.iter().map(|&count| u64::from(count)).sum();
        let quantile =
            |quantile| quantile_of(&measured.answered, quantile).map(|latency| latency.as_secs_f64());
        let count = |event: Exchange| (event.name(), u64::from(measured.exchanges[event as usize]));
        Passive {
            measured_share: state.measured_share(slot),
            in_flight: waiting[0],
            connections_pending: waiting[1],
            answered: sum(&measured.answered),
            abandoned: sum(&measured.abandoned),
            p50_seconds: quantile(0.5),
            p90_seconds: quantile(0.9),
            p99_seconds: quantile(0.99),
            events: Exchange::ALL.into_iter().map(count).collect(),
        }
    }
}

impl Service {
    fn gather_all(state: &State, posture: Posture, now: u64) -> Result<Vec<Service>> {
        let held = state.services();
        let is_passive = |service: &ServiceState| service.entry.signal == abi::Service::SIGNAL_PASSIVE;
        let measurements = if held.iter().any(is_passive) { Some(state.measurements()?) } else { None };
        let mut waiting = [[0; 2]; MAX_SERVICES];
        if let Some(measurements) = &measurements {
            measurements.outstanding(now, |waits| {
                if let Some(counts) = waiting.get_mut(waits.service) {
                    counts[usize::from(waits.waiting == Waiting::Connection)] += u64::from(waits.count);
                }
            });
        }
        let gather = |service: ServiceState| {
            let passive = measurements.as_ref().filter(|_| is_passive(&service)).map(|measurements| {
                Passive::gather(state, service.slot, measurements, waiting[service.slot])
            });
            Service::gather(state, service, passive, posture, now)
        };
        Ok(held.into_iter().map(gather).collect())
    }

    fn gather(
        state: &State,
        service: ServiceState,
        passive: Option<Passive>,
        posture: Posture,
        now: u64,
    ) -> Service {
        let entry = service.entry;
        let cutoff = state.cutoff(service.slot);
        let lease = state.lease();
        let reported = (entry.observed_at != 0).then(|| seconds(now.saturating_sub(entry.observed_at)));
        let live = lease > now && reported.is_some();
        let own = state.override_of(Some(service.slot));
        Service {
            protocol: if entry.protocol == 17 { "udp" } else { "tcp" },
            port: entry.port,
            class: Class::ALL[usize::from(entry.class).min(Class::ALL.len() - 1)].name(),
            sheds: if entry.every_packet != 0 { "packets" } else { "new-flows" },
            target_seconds: seconds(entry.target),
            observed_seconds: (live && entry.observed != 0).then(|| seconds(entry.observed)),
            signal: match entry.signal {
                abi::Service::SIGNAL_PASSIVE => "passive",
                abi::Service::SIGNAL_PROBE => "probe",
                abi::Service::SIGNAL_PUSH => "push",
                _ => "none",
            },
            passive,
            loop_: Loop {
                live,
                reported_seconds_ago: reported,
                shed_ratio: entry.permille as f64 / 1e3,
                cutoff: cutoff.first(),
            },
            override_: Override::of(own, now),
            kill: Kill::of(state.kill(Scope::Service(service.slot)), now),
            in_force: InForce::of(
                [state.override_of(None), own],
                (cutoff, state.reflex(service.slot)),
                lease,
                posture,
                now,
            ),
            name: service.name,
        }
    }
}

impl InForce {
    /// As the programs decide it: [`shedder_common::ladder`].
    fn of(
        [host, own]: [OverrideWord; 2],
        (cutoff, (reflex, late)): (Cutoff, (ReflexWord, u64)),
        lease: u64,
        posture: Posture,
        now: u64,
    ) -> InForce {
        if host.holds(now) {
            return InForce { by: Authority::HostOverride, cutoff: host.cutoff() };
        }
        if own.holds(now) {
            return InForce { by: Authority::Override, cutoff: own.cutoff() };
        }
        if lease > now && reflex.is_tripped_by(late) && Cutoff::at(reflex.cutoff()) < cutoff {
            return InForce { by: Authority::Reflex, cutoff: reflex.cutoff() };
        }
        if lease > now {
            return InForce { by: Authority::Loop, cutoff: cutoff.first() };
        }
        let cutoff = match posture {
            Posture::Hold => cutoff.first(),
            Posture::Closed if lease != 0 => 0,
            Posture::Open | Posture::Closed => SHED_NOTHING,
        };
        InForce { by: Authority::Posture, cutoff }
    }
}

fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;
    use shedder_common::words::FOREVER;

    const NOW: u64 = 1_000_000_000_000;
    const CALM: (ReflexWord, u64) = (ReflexWord::NONE, 0);

    #[test]
    fn a_persons_word_comes_before_the_loop_and_everything_before_one_service() {
        let host = OverrideWord::until(FOREVER, 500, 300);
        let own = OverrideWord::until(FOREVER, 100, 700);
        let over = OverrideWord::until(NOW - (1 << 21), 100, 700);
        let none = OverrideWord::NONE;
        for (words, by, cutoff) in [
            ([host, own], Authority::HostOverride, 300),
            ([none, own], Authority::Override, 700),
            ([over, over], Authority::Loop, 600),
        ] {
            let found = InForce::of(words, (Cutoff::at(600), CALM), NOW + 1, Posture::Open, NOW);
            assert_eq!((found.by, found.cutoff), (by, cutoff));
        }
    }

    #[test]
    fn the_reflex_sheds_more_than_the_loop_and_never_less() {
        let none = [OverrideWord::NONE; 2];
        for (cutoff, late, by, in_force) in
            [(600, 3, Authority::Reflex, 500), (600, 2, Authority::Loop, 600), (400, 3, Authority::Loop, 400)]
        {
            let reflex = (ReflexWord::new(1_000_000, 3, 500), late);
            let found = InForce::of(none, (Cutoff::at(cutoff), reflex), NOW + 1, Posture::Open, NOW);
            assert_eq!((found.by, found.cutoff), (by, in_force));
        }
    }

    #[test]
    fn without_a_live_daemon_the_posture_decides() {
        let none = [OverrideWord::NONE; 2];
        for (posture, lease, cutoff) in [
            (Posture::Open, NOW - 1, SHED_NOTHING),
            (Posture::Hold, NOW - 1, 600),
            (Posture::Closed, NOW - 1, 0),
            // Attached without a daemon: none was ever lost.
            (Posture::Closed, 0, SHED_NOTHING),
        ] {
            let found = InForce::of(none, (Cutoff::at(600), CALM), lease, posture, NOW);
            assert_eq!((found.by, found.cutoff), (Authority::Posture, cutoff), "{posture:?}, lease {lease}");
        }
    }

    #[test]
    fn what_has_ended_is_not_active_and_has_no_end() {
        let kill = Kill::of(KillWord::until(NOW, true), NOW);
        assert!(!kill.active && !kill.total && kill.ends_in_seconds.is_none());
        let word = Override::of(OverrideWord::until(NOW - (1 << 21), 500, 300), NOW);
        assert!(!word.active && word.cutoff.is_none() && word.ends_in_seconds.is_none());
    }
}
