//! The loop against the simulated queue.

use super::service::State;
use super::simulate::{Request, Scenario, Trace, p99};
use super::why::Why;
use crate::config::Posture;
use shedder_common::class::Class;
use std::time::Duration;

/// When the overload of [`overload`] begins and ends.
const BEGINS: f64 = 1.0;
const ENDS: f64 = 4.0;

/// Half the capacity, then `times` the capacity for a while, then half of it again.
fn overload(times: f64, seed: u64) -> Scenario {
    Scenario {
        load: vec![(0.0, 0.5), (BEGINS, times), (ENDS, 0.5)],
        ends: ENDS + 2.5,
        seed,
        ..Scenario::default()
    }
}

fn of_class(trace: &Trace, class: Class) -> Vec<Request> {
    trace.requests.iter().filter(|request| request.class == class as u8).copied().collect()
}

#[test]
fn overload_is_mastered_and_let_go() {
    for (times, seed) in [(1.2, 1), (2.0, 2), (5.0, 3), (5.0, 4), (10.0, 5), (10.0, 6)] {
        let scenario = overload(times, seed);
        let trace = scenario.run();
        let limit = 1.25 * scenario.target.as_secs_f64();
        let settling = trace.settling(limit, BEGINS, BEGINS + 1.0);
        let after = BEGINS + 0.5..ENDS;
        let probes = p99(&trace.probes, after.clone()) / limit;
        let requests = p99(&trace.requests, after) / limit;
        let goodput = trace.goodput(BEGINS..ENDS) / scenario.capacity();
        let ripple = trace.ripple(BEGINS + 1.5..ENDS);
        let recovery = trace.recovery(ENDS);
        let found = format!(
            "{times} times, seed {seed}: settled in {settling:.2} s, then p99 of probes {probes:.2}, of requests \
             {requests:.2}, goodput {goodput:.2}, ripple {ripple:.2}, recovery in {recovery:.2} s"
        );
        println!("{found}");
        assert!(settling <= 0.5, "{found}");
        assert!(probes <= 1.0 && requests <= 1.0, "{found}");
        assert!(goodput >= 0.9, "{found}");
        assert!(times < 5.0 || ripple <= 0.1, "{found}");
        assert!(recovery <= 2.0, "{found}");
    }
}

#[test]
fn nothing_is_shed_at_a_load_that_is_borne() {
    for (varies, seed) in [(false, 1), (true, 2)] {
        let load = vec![(0.0, 0.2), (1.0, 0.7), (2.0, 0.1), (3.0, 0.7)];
        let trace =
            Scenario { load, varies, seed, target: Duration::from_millis(100), ..Scenario::default() }.run();
        assert_eq!(trace.turns.iter().map(|turn| turn.decision.ratio).fold(0.0, f64::max), 0.0);
    }
}

#[test]
fn slow_server_is_relieved_though_the_load_did_not_rise() {
    let scenario = Scenario { slow: (1.0..3.0, 4.0), ends: 6.0, ..Scenario::default() };
    let trace = scenario.run();
    let target = scenario.target.as_secs_f64();
    assert!(p99(&trace.requests, 2.0..3.0) < 2.0 * target);
    assert!(trace.goodput(1.5..3.0) > 0.8 * scenario.capacity() / 4.0);
    assert!(trace.recovery(3.0) < 2.0);
}

#[test]
fn clients_that_ask_again_do_not_shake_it() {
    let scenario = Scenario { retries: true, ..overload(5.0, 1) };
    let trace = scenario.run();
    assert!(p99(&trace.requests, 2.5..ENDS) < 2.0 * scenario.target.as_secs_f64());
    assert!(trace.goodput(BEGINS..ENDS) > 0.9 * scenario.capacity());
}

#[test]
fn no_class_is_shed_while_a_lesser_one_is_admitted() {
    let sources = vec![(Class::Critical, 30), (Class::Normal, 70), (Class::Sheddable, 200)];
    let trace = Scenario { sources, ..overload(6.0, 3) }.run();
    let mut shedding = 0;
    for turn in &trace.turns {
        let most_important_shed = turn.shed.iter().position(|&count| count > 0);
        let least_important_admitted = turn.admitted.iter().rposition(|&count| count > 0);
        if let (Some(shed), Some(admitted)) = (most_important_shed, least_important_admitted) {
            assert!(admitted <= shed, "at {} class {shed} was shed and class {admitted} was not", turn.at);
            shedding += 1;
        }
    }
    assert!(shedding > 100);
    let critical = |when: std::ops::Range<f64>| trace.turns_in(when).map(|turn| turn.shed[0]).sum::<u32>();
    assert_eq!(
        critical(BEGINS + 0.5..ENDS),
        0,
        "a tenth of what is offered is critical, and there is room for it"
    );
    assert!(p99(&of_class(&trace, Class::Critical), BEGINS + 0.5..ENDS) < 0.0625);
}

#[test]
fn lost_signal_is_held_then_the_posture_is_due() {
    for posture in [Posture::Open, Posture::Hold, Posture::Closed] {
        let scenario = Scenario {
            posture,
            load: vec![(0.0, 0.5), (1.0, 5.0)],
            deaf: 2.0..5.0,
            ends: 7.0,
            ..Scenario::default()
        };
        let trace = scenario.run();
        let at = |when: f64| trace.turns.iter().rfind(|turn| turn.at <= when).map(|turn| turn.decision);
        let (Some(before), Some(held), Some(fallen)) = (at(2.02), at(2.9), at(4.5)) else {
            panic!("no turns")
        };
        assert_eq!(before.state, State::Running);
        assert!(matches!(held.state, State::Holding { why: Why::Stale { .. }, .. }), "{:?}", held.state);
        assert!(held.ratio > 0.7 && held.observed.is_none());
        assert!(matches!(fallen.state, State::Fallen { .. }), "{:?}", fallen.state);
        assert_eq!(fallen.ratio, if posture == Posture::Open { 0.0 } else { held.ratio });

        // What the signal comes back to, it starts from.
        let back = trace.turns.iter().position(|turn| turn.at > 5.0 && turn.decision.state == State::Running);
        let Some(back) = back else { panic!("it never came back") };
        let (last, first) = (trace.turns[back - 1].decision.ratio, trace.turns[back].decision.ratio);
        assert_eq!(first, last);
        if posture != Posture::Open {
            assert!(p99(&trace.requests, 5.5..7.0) < 0.1);
        }
    }
}

#[test]
fn override_is_obeyed_and_handed_back_without_a_bump() {
    for ratio in [0.0, 0.5, 0.8, 0.95, 1.0] {
        let scenario = Scenario {
            load: vec![(0.0, 0.5), (1.0, 5.0)],
            person: (2.0..3.0, ratio),
            ends: 5.0,
            backlog: 256,
            ..Scenario::default()
        };
        let trace = scenario.run();
        assert!(trace.turns_in(2.0..3.0).all(|turn| turn.decision.ratio == ratio));
        assert!(trace.turns_in(2.0..3.0).all(|turn| turn.decision.state == State::Override));
        let mut last = ratio;
        for turn in trace.turns_in(3.0..3.1) {
            let step = (turn.decision.ratio - last).abs();
            assert!(step <= 0.2, "a step of {step} after an override of {ratio}");
            last = turn.decision.ratio;
        }
        assert!(
            p99(&trace.requests, 4.5..5.0) <= 0.0625,
            "not under control again after an override of {ratio}"
        );
    }
}

/// The table of the module's documentation, and more. Run it with
/// `cargo test --release -p shedder control::tests::sweep -- --ignored --nocapture`.
#[test]
#[ignore = "takes a while; prints the figures that the defaults were chosen by"]
fn sweep() {
    println!("target service servers varies retries times | settled   p99 goodput ripple recovery");
    for (target, service_time, servers) in
        [(10, 1, 64), (50, 5, 4), (50, 5, 32), (200, 20, 32), (1000, 20, 32)]
    {
        for (varies, retries) in [(false, false), (true, false), (false, true)] {
            for times in [1.2, 2.0, 5.0, 10.0] {
                let mut worst = [0.0, 0.0, f64::INFINITY, 0.0, 0.0f64];
                let target = Duration::from_millis(target);
                for seed in 1..=3 {
                    let scenario = Scenario {
                        target,
                        service_time: f64::from(service_time) / 1000.0,
                        servers,
                        varies,
                        retries,
                        load: vec![(0.0, 0.5), (1.0, times), (9.0, 0.5)],
                        ends: 15.0,
                        seed,
                        ..Scenario::default()
                    };
                    let trace = scenario.run();
                    let limit = 1.25 * target.as_secs_f64();
                    worst[0] = trace.settling(limit, 1.0, 9.0).max(worst[0]);
                    worst[1] = (p99(&trace.requests, 3.0..9.0) / target.as_secs_f64()).max(worst[1]);
                    worst[2] = (trace.goodput(1.0..9.0) / scenario.capacity()).min(worst[2]);
                    worst[3] = trace.ripple(5.0..9.0).max(worst[3]);
                    worst[4] = trace.recovery(9.0).max(worst[4]);
                }
                let [settled, p99, goodput, ripple, recovery] = worst;
                println!(
                    "{target:>6?} {service_time:4} ms {servers:7} {varies:>6} {retries:>7} {times:5} | {settled:5.2} s \
                     {p99:5.2} {goodput:7.2} {ripple:6.2} {recovery:6.2} s"
                );
                assert!(recovery < 5.5, "shedding did not end");
            }
        }
    }
}
