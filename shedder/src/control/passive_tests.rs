//! The loop on a passive signal, against the simulated queue.

use super::service::{Sensor, State};
use super::simulate::{Scenario, Trace, p99};
use shedder_common::class::Class;
use std::fmt;
use std::time::Duration;

/// When what is out of the ordinary begins and ends.
const BEGINS: f64 = 1.0;
const ENDS: f64 = 4.0;

/// 32 servers, 6,400 requests a second, at half the capacity.
fn large(interval: u64) -> Scenario {
    let mut scenario =
        Scenario { sensor: Sensor::Passive, servers: 32, ends: ENDS + 2.5, ..Scenario::default() };
    scenario.control.interval = Duration::from_millis(interval);
    scenario
}

/// Four servers that take 8 ms for a request: 500 a second.
fn small(interval: u64) -> Scenario {
    Scenario { servers: 4, service_time: 0.008, ..large(interval) }
}

/// At `times` the capacity from [`BEGINS`] to [`ENDS`].
fn overload(times: f64, seed: u64, scenario: Scenario) -> Scenario {
    Scenario { load: vec![(0.0, 0.5), (BEGINS, times), (ENDS, 0.5)], seed, ..scenario }
}

/// What a run came to.
struct Found {
    trace: Trace,
    /// Seconds until the 99th percentile is within 1.25 targets for good, in pieces of 50 ms.
    settled: f64,
    /// In targets, from 0.2 s and from 0.5 s on.
    p99: [f64; 2],
    /// In capacities, the onset included.
    goodput: f64,
    /// Of the ratio, from 1 s on.
    ripple: f64,
    /// Seconds until nothing is shed.
    recovery: f64,
    undone: u64,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Found { settled, p99: [early, late], goodput, ripple, recovery, undone, .. } = self;
        write!(
            f,
            "settled in {settled:.2} s, p99 {early:.2} and {late:.2}, goodput {goodput:.2}, ripple {ripple:.2}, recovery \
             in {recovery:.2} s, undone {undone}"
        )
    }
}

fn find(scenario: &Scenario) -> Found {
    let trace = scenario.run();
    let target = scenario.target.as_secs_f64();
    let found = Found {
        settled: trace.late_until(1.25 * target, BEGINS, ENDS),
        p99: [0.2, 0.5].map(|after| p99(&trace.requests, BEGINS + after..ENDS) / target),
        goodput: trace.goodput(BEGINS..ENDS) / scenario.capacity(),
        ripple: trace.ripple(BEGINS + 1.0..ENDS),
        recovery: trace.recovery(ENDS),
        undone: trace.turns.last().map_or(0, |turn| turn.decision.undone),
        trace,
    };
    // The first turns have seen too few answers.
    let without = found.trace.turns_in(0.2..scenario.ends).find(|turn| turn.decision.state != State::Running);
    assert!(without.is_none(), "{without:?}");
    found
}

#[test]
fn step_is_mastered_within_some_turns_and_let_go() {
    for (times, seed) in [(1.2, 1), (1.4, 2), (2.0, 3), (5.0, 4), (5.0, 5), (10.0, 6)] {
        for interval in [5, 20] {
            let found = find(&overload(times, seed, large(interval)));
            println!("{times} times at {interval} ms: {found}");
            // A backlog of ten times the capacity takes longer to drain.
            let soon = interval == 5 && times <= 5.0;
            assert!(found.settled <= if soon { 0.2 } else { 0.5 }, "{found}");
            assert!(found.p99[if soon { 0 } else { 1 }] <= 1.25, "{found}");
            assert!(found.goodput >= 0.9 * times.min(1.0) && found.recovery <= 2.0, "{found}");
            assert_eq!(found.undone, 0, "{found}");
        }
    }
}

#[test]
fn four_servers_are_protected_by_ten_answers_a_turn() {
    for (times, seed) in [(1.4, 1), (2.0, 2), (5.0, 3), (5.0, 4), (5.0, 5), (10.0, 6)] {
        for interval in [5, 20] {
            let found = find(&overload(times, seed, small(interval)));
            println!("{times} times at {interval} ms: {found}");
            assert!(found.p99[1] <= 1.25, "{found}");
            assert!(found.goodput >= 0.9 && found.recovery <= 2.0, "{found}");
            assert_eq!(found.undone, 0, "{found}");
        }
    }
}

#[test]
fn nothing_is_shed_at_a_load_that_is_borne() {
    for (varies, seed) in [(false, 1), (true, 2)] {
        for base in [large(20), small(20), large(5)] {
            let load = vec![(0.0, 0.2), (1.0, 0.7), (2.0, 0.1), (3.0, 0.7)];
            let target = Duration::from_millis(100);
            let trace = Scenario { load, varies, seed, target, ..base.clone() }.run();
            let shed = trace.turns.iter().filter(|turn| turn.decision.ratio > 0.0);
            let shed: Vec<_> = shed.map(|turn| (turn.at, turn.decision)).collect();
            assert!(shed.is_empty(), "{varies} {}: {shed:#?}", base.servers);
        }
    }
}

#[test]
fn ramp_is_met_before_the_queue_is_full() {
    for base in [large(20), small(20)] {
        let ramp = (0..30).map(|step| (1.0 + 0.1 * f64::from(step), 0.5 + 0.15 * f64::from(step)));
        let load = [(0.0, 0.5)].into_iter().chain(ramp).chain([(ENDS, 0.5)]).collect();
        let found = find(&Scenario { load, ..base });
        println!("ramp: {found}");
        assert!(found.p99[0] <= 1.25 && found.recovery <= 2.0 && found.undone == 0, "{found}");
    }
}

#[test]
fn square_wave_is_followed() {
    for (base, period) in [(large(20), 0.2), (large(20), 1.0), (large(5), 0.2), (small(20), 1.0)] {
        let wave = (0..(3.0 / period) as u32).flat_map(|n| {
            [(0.0, 3.0), (0.5, 0.5)].map(|(phase, load)| (BEGINS + period * (f64::from(n) + phase), load))
        });
        let load = [(0.0, 0.5)].into_iter().chain(wave).chain([(ENDS, 0.5)]).collect();
        let found = find(&Scenario { load, ..base });
        println!("every {period} s: {found}");
        assert!(found.p99[0] <= 2.0 && found.recovery <= 2.0 && found.undone == 0, "{found}");
        assert!(found.goodput >= 0.65, "{found}");
    }
}

#[test]
fn clients_that_ask_again_do_not_shake_it() {
    for base in [large(20), small(20), large(5)] {
        let capacity = base.capacity();
        let target = base.target.as_secs_f64();
        // They give up after four targets, and the servers do the work all the same: left alone, none is served in time.
        let found =
            find(&Scenario { retries: true, patience: 4.0 * target, ends: 10.0, ..overload(3.0, 7, base) });
        println!("retries: {found}");
        assert!(found.p99[1] <= 1.4 && found.goodput >= 0.9, "{found}");
        assert_eq!(found.undone, 0, "{found}");
        assert!(found.trace.goodput(8.0..9.0) >= 0.45 * capacity, "it did not recover");
        assert!(found.trace.recovery(ENDS + 3.0) <= 2.0, "{found}");
    }
}

#[test]
fn server_that_slows_down_is_relieved() {
    for base in [large(20), small(20), large(5)] {
        let scenario = Scenario { load: vec![(0.0, 0.8)], slow: (BEGINS..ENDS, 2.0), ..base };
        let found = find(&scenario);
        println!("slow: {found}");
        assert!(found.p99[1] <= 1.4, "{found}");
        assert!(found.goodput >= 0.45, "{found}");
        assert_eq!(found.undone, 0, "{found}");
        assert!(found.trace.recovery(ENDS) <= 2.0, "{found}");
    }
}

#[test]
fn server_that_stalls_is_found_with_a_short_queue() {
    for base in [large(20), small(20), large(5)] {
        let scenario = Scenario { load: vec![(0.0, 0.5)], stalls: BEGINS..BEGINS + 2.0, ..base };
        let capacity = scenario.capacity();
        let found = find(&scenario);
        println!("stall: {found}");
        // What came before the stall was seen waits for it to end; what came after is served at once.
        let target = scenario.target.as_secs_f64();
        assert!(found.trace.late_until(1.25 * target, BEGINS + 2.0, ENDS) <= 0.5, "{found}");
        assert!(found.trace.goodput(BEGINS + 2.5..BEGINS + 4.0) >= 0.45 * capacity, "{found}");
        assert!(found.trace.recovery(BEGINS + 2.0) <= 2.0, "{found}");
        assert_eq!(found.undone, 0, "{found}");
    }
}

#[test]
fn round_trip_between_flow_and_request_is_borne() {
    for (base, round_trip) in [(large(20), 0.01), (large(20), 0.05), (small(20), 0.02), (large(5), 0.02)] {
        let found = find(&Scenario { round_trip, ..overload(5.0, 3, base) });
        println!("{round_trip} s: {found}");
        // What was admitted a round trip ago is not seen yet: a long one makes the queue swing.
        assert!(found.p99[1] <= if round_trip > 0.02 { 2.0 } else { 1.5 }, "{found}");
        assert!(found.goodput >= 0.9 && found.undone == 0, "{found}");
    }
}

#[test]
fn stall_does_not_outlast_itself() {
    for seed in 1..6 {
        let scenario = Scenario {
            load: vec![(0.0, 0.6)],
            stalls: BEGINS..BEGINS + 2.0,
            servers: 8,
            service_time: 0.008,
            patience: 0.25,
            sources: vec![(Class::Critical, 50), (Class::Normal, 150), (Class::Low, 100)],
            seed,
            ..large(20)
        };
        let found = find(&scenario);
        println!("stall: {found}");
        // A queue of 0.2 s of work drains first.
        assert!(found.trace.recovery(BEGINS + 2.0) <= 0.6, "{found}: {}", found.trace.recovery(BEGINS + 2.0));
    }
}

#[test]
fn most_servers_that_stay_away_are_no_stall() {
    // A request takes as long as ever, but a quarter of the servers is left.
    for seed in 1..4 {
        let found = find(&Scenario { lost: (BEGINS..ENDS, 24), load: vec![(0.0, 0.6)], seed, ..large(20) });
        println!("servers away: {found}");
        assert!(found.p99[1] <= 1.4 && found.recovery <= 1.0, "{found}");
        assert!(found.goodput >= 0.22, "{found}");
    }
}
