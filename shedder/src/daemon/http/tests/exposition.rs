//! What a report looks like as text.

use super::super::exposition::encode;
use super::super::metrics::{ACTIONS, EGRESS, METRICS, REPAIRS, STATES};
use super::openmetrics::{Exposition, parse};
use super::{healthy, interface, service};
use crate::daemon::report::{Histogram, Report};
use bytemuck::Zeroable;
use proptest::prelude::*;
use shedder_common::abi::{Cell, Event, InterfaceCounters};
use shedder_common::reason::Reason;
use std::sync::Arc;
use std::time::Duration;

fn exposition(report: Report) -> Exposition {
    let text = encode(&Arc::new(report)).unwrap();
    parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

#[test]
fn every_metric_of_the_table_is_exposed_as_it_says() {
    let mut report = healthy();
    report.host_override = Some(0.5);
    let exposition = exposition(report);
    for metric in METRICS {
        let stem = match metric.kind().as_str() {
            "counter" => metric.name.strip_suffix("_total").unwrap(),
            "info" => metric.name.strip_suffix("_info").unwrap(),
            _ => metric.name,
        };
        let family = &exposition.families[stem];
        assert_eq!(family.kind, metric.kind().as_str(), "{stem}");
        assert_eq!(family.help, metric.help, "{stem}");
        assert_eq!(family.unit.as_deref(), metric.unit.as_ref().map(|unit| unit.as_str()), "{stem}");
        assert!(!family.samples.is_empty(), "{stem}");
        for sample in &family.samples {
            let mut labels: Vec<_> = metric.labels.to_vec();
            labels.sort_unstable();
            assert!(sample.labels.keys().eq(labels), "{sample:?}");
        }
    }
    assert_eq!(exposition.families.len(), METRICS.len());
}

#[test]
fn names_units_labels_and_help_keep_the_rules() {
    // None of these is an address.
    let labels = [
        "abi",
        "action",
        "arch",
        "class",
        "direction",
        "event",
        "interface",
        "kind",
        "mode",
        "name",
        "quantile",
        "reason",
        "scope",
        "service",
        "state",
        "status",
        "term",
        "verdict",
        "version",
        "why",
    ];
    for metric in METRICS {
        assert!(metric.name.starts_with("shedder_"), "{}", metric.name);
        for (unit, word) in [(Some("seconds"), "seconds"), (Some("bytes"), "bytes")] {
            let named = metric.name.trim_end_matches("_total").ends_with(word);
            assert_eq!(named, metric.unit.as_ref().map(|unit| unit.as_str()) == unit, "{}", metric.name);
        }
        for label in metric.labels {
            assert!(labels.contains(label), "{} has the label {label}", metric.name);
        }
        assert!(metric.help.ends_with('.'), "{}", metric.name);
        assert!(!metric.help.contains(['\n', '\\', '"', '|']), "{}", metric.name);
    }
}

#[test]
fn a_report_of_nothing_is_still_an_exposition() {
    let exposition = exposition(Report::default());
    assert_eq!(exposition.value("shedder_control_loop_lag_seconds_bucket", &[]), 0.0);
    assert_eq!(exposition.value("shedder_control_loop_lag_seconds_count", &[]), 0.0);
    assert!(exposition.find("shedder_host_override_shed_ratio", &[]).is_empty());
    assert_eq!(exposition.value("shedder_host_override_active", &[]), 0.0);
    for action in ACTIONS {
        assert_eq!(exposition.value("shedder_human_interventions_total", &[("action", action)]), 0.0);
    }
    for kind in REPAIRS {
        assert_eq!(exposition.value("shedder_reconcile_repairs_total", &[("kind", kind)]), 0.0);
    }
}

#[test]
fn dry_and_live_cells_become_verdicts() {
    let mut report = healthy();
    let counters = &mut report.interfaces[0].counters;
    counters.ingress[Reason::Admitted as usize] = Cell { packets: 7, bytes: 700 };
    counters.ingress_dry[Reason::Admitted as usize] = Cell { packets: 1, bytes: 100 };
    counters.ingress[Reason::Shed as usize] = Cell { packets: 5, bytes: 500 };
    counters.ingress_dry[Reason::Shed as usize] = Cell { packets: 3, bytes: 300 };
    counters.egress[Reason::Kill as usize] = Cell { packets: 2, bytes: 120 };
    let exposition = exposition(report);
    let value = |name, direction, verdict, reason| {
        let labels =
            [("interface", "eth0"), ("direction", direction), ("verdict", verdict), ("reason", reason)];
        exposition.value(name, &labels)
    };
    assert_eq!(value("shedder_packets_total", "ingress", "pass", "admitted"), 8.0);
    assert_eq!(value("shedder_bytes_total", "ingress", "pass", "admitted"), 800.0);
    assert_eq!(value("shedder_packets_total", "ingress", "drop", "shed"), 5.0);
    assert_eq!(value("shedder_packets_total", "ingress", "would_drop", "shed"), 3.0);
    assert_eq!(value("shedder_bytes_total", "ingress", "would_drop", "shed"), 300.0);
    assert_eq!(value("shedder_packets_total", "egress", "drop", "kill"), 2.0);
    assert_eq!(value("shedder_packets_total", "egress", "would_drop", "kill"), 0.0);
}

#[test]
fn reasons_are_there_before_they_are_met() {
    let exposition = exposition(healthy());
    for (direction, reasons) in [("ingress", &Reason::ALL[..]), ("egress", &EGRESS[..])] {
        let found = exposition.find("shedder_packets_total", &[("direction", direction)]);
        let dropping = reasons.iter().filter(|reason| !reason.passes()).count();
        assert_eq!(found.len(), reasons.len() + dropping, "{direction}");
        for reason in reasons {
            assert!(
                found.iter().any(|sample| sample.labels["reason"] == reason.name()),
                "{direction} {reason:?}"
            );
        }
    }
}

#[test]
fn scopes_of_a_kill_are_apart() {
    let mut report = healthy();
    report.services.push(service("web"));
    report.services[1].kill_active = true;
    let exposition = exposition(report);
    let active = |scope, name| exposition.value("shedder_kill_active", &[("scope", scope), ("name", name)]);
    assert_eq!(active("host", ""), 0.0);
    assert_eq!(active("interface", "eth0"), 0.0);
    assert_eq!(active("service", "api"), 0.0);
    assert_eq!(active("service", "web"), 1.0);
}

#[test]
fn what_a_service_says_is_exposed() {
    let mut report = healthy();
    let api = &mut report.services[0];
    for seconds in [0.00005, 0.05, 0.051, 90.0] {
        api.latency.observe(seconds);
    }
    let exposition = exposition(report);
    let value = |name, labels: &[(&str, &str)]| exposition.value(name, labels);
    assert_eq!(value("shedder_shed_ratio", &[("service", "api")]), 0.25);
    assert_eq!(value("shedder_cutoff", &[("service", "api")]), 700.0);
    assert_eq!(value("shedder_target_latency_seconds", &[("service", "api")]), 0.05);
    assert_eq!(value("shedder_observed_latency_seconds", &[("service", "api"), ("quantile", "0.99")]), 0.04);
    assert_eq!(value("shedder_signal_age_seconds", &[("service", "api")]), 0.02);
    assert_eq!(value("shedder_signal_failures_total", &[("service", "api")]), 3.0);
    assert_eq!(value("shedder_pid_term", &[("service", "api"), ("term", "derivative")]), -0.5);
    assert_eq!(value("shedder_offered_total", &[("service", "api"), ("class", "sheddable")]), 6.0);
    for state in STATES {
        let expected = if state == "running" { 1.0 } else { 0.0 };
        assert_eq!(
            value("shedder_service_state", &[("service", "api"), ("state", state)]),
            expected,
            "{state}"
        );
    }
    let below = |bound: f64| {
        let buckets = exposition.find("shedder_latency_seconds_bucket", &[("service", "api")]);
        buckets.iter().find(|sample| sample.le == Some(bound)).unwrap().value
    };
    assert_eq!(
        [below(0.0001), below(0.025), below(0.05), below(0.1), below(60.0), below(f64::INFINITY)],
        [1.0, 1.0, 2.0, 3.0, 3.0, 4.0]
    );
}

#[test]
fn an_unheard_signal_is_absent_and_never_a_number() {
    let mut report = healthy();
    let api = &mut report.services[0];
    (api.observed, api.signal_age, api.state) = (None, None, "fallen");
    (api.shed_ratio, api.terms) = (f64::NAN, [f64::INFINITY, f64::NEG_INFINITY, 0.5]);
    let exposition = exposition(report);
    for name in ["shedder_observed_latency_seconds", "shedder_signal_age_seconds", "shedder_shed_ratio"] {
        assert!(exposition.find(name, &[]).is_empty(), "{name}");
    }
    assert_eq!(exposition.find("shedder_pid_term", &[]).len(), 1);
}

#[test]
fn a_state_or_action_that_is_new_is_exposed_too() {
    let mut report = healthy();
    report.services[0].state = "dreaming";
    report.counters.human_interventions = vec![("kill", 1), ("pause", 2), ("kill", 3)];
    let exposition = exposition(report);
    assert_eq!(exposition.value("shedder_service_state", &[("state", "dreaming")]), 1.0);
    assert_eq!(exposition.value("shedder_human_interventions_total", &[("action", "kill")]), 4.0);
    assert_eq!(exposition.value("shedder_human_interventions_total", &[("action", "pause")]), 2.0);
}

#[test]
fn a_loop_that_stands_still_is_not_ready() {
    let mut report = healthy();
    assert_eq!(exposition(report.clone()).value("shedder_ready", &[]), 1.0);
    report.alive = false;
    assert_eq!(exposition(report.clone()).value("shedder_ready", &[]), 0.0);
    assert_eq!(exposition(report).value("shedder_alive", &[]), 0.0);
}

/// Any name that the kernel lets an interface have, and worse.
fn names() -> impl Strategy<Value = Vec<String>> {
    prop::collection::hash_set("[ -~\\n\u{e9}]{1,15}", 0..4).prop_map(|names| names.into_iter().collect())
}

fn counters() -> impl Strategy<Value = InterfaceCounters> {
    let cells = || prop::collection::vec((any::<u32>(), any::<u32>()), Reason::ALL.len());
    (cells(), cells(), cells(), cells(), any::<[u64; 3]>()).prop_map(|(a, b, c, d, events)| {
        let mut counters = InterfaceCounters::zeroed();
        let tables = [
            &mut counters.ingress,
            &mut counters.ingress_dry,
            &mut counters.egress,
            &mut counters.egress_dry,
        ];
        for (table, cells) in tables.into_iter().zip([a, b, c, d]) {
            for (cell, (packets, bytes)) in table.iter_mut().zip(cells) {
                *cell = Cell { packets: packets.into(), bytes: bytes.into() };
            }
        }
        counters.events[..3].copy_from_slice(&events);
        counters
    })
}

fn histogram(bounds: &'static [f64]) -> impl Strategy<Value = Histogram> {
    prop::collection::vec(0.0..100.0f64, 0..20).prop_map(move |observations| {
        let mut histogram = Histogram::new(bounds);
        observations.into_iter().for_each(|seconds| histogram.observe(seconds));
        histogram
    })
}

prop_compose! {
    fn reports()(
        interfaces in names(),
        counters in prop::collection::vec(counters(), 4),
        services in names(),
        numbers in any::<[f64; 5]>(),
        nanoseconds in any::<[u64; 3]>(),
        offered in any::<[u64; 6]>(),
        latency in histogram(Histogram::LATENCY),
        loop_lag in histogram(Histogram::LOOP),
        host_override in any::<Option<f64>>(),
        alive in any::<bool>(),
    ) -> Report {
        let interfaces = interfaces.iter().zip(counters).map(|(name, counters)| {
            let mut report = interface(name);
            report.counters = counters;
            report
        });
        let services = services.iter().map(|name| {
            let mut report = service(name);
            report.target = Duration::from_nanos(nanoseconds[0]);
            report.observed = Some(Duration::from_nanos(nanoseconds[1]));
            (report.quantile, report.shed_ratio) = (numbers[0], numbers[1]);
            report.terms.copy_from_slice(&numbers[2..]);
            report.latency = latency.clone();
            report.offered = offered;
            report
        });
        Report {
            interfaces: interfaces.collect(),
            services: services.collect(),
            host_override,
            lease_remaining: Duration::from_nanos(nanoseconds[2]),
            loop_lag,
            alive,
            ..Report::default()
        }
    }
}

proptest! {
    #[test]
    fn any_report_reads_back_and_adds_up(report in reports()) {
        let text = encode(&Arc::new(report.clone())).unwrap();
        let exposition = parse(&text).map_err(TestCaseError::fail)?;
        for interface in &report.interfaces {
            let name = interface.name.as_str();
            let counters = &interface.counters;
            let directions = [
                ("ingress", counters.ingress, counters.ingress_dry),
                ("egress", counters.egress, counters.egress_dry),
            ];
            for (direction, live, dry) in directions {
                let labels = [("interface", name), ("direction", direction)];
                let arrived = live.iter().chain(&dry);
                let sum = |metric| exposition.find(metric, &labels).iter().map(|sample| sample.value).sum::<f64>();
                prop_assert_eq!(
                    sum("shedder_packets_total"),
                    arrived.clone().map(|cell| cell.packets).sum::<u64>() as f64
                );
                prop_assert_eq!(
                    sum("shedder_bytes_total"),
                    arrived.map(|cell| cell.bytes).sum::<u64>() as f64
                );
            }
            let evicted = exposition.find("shedder_sources_evicted_total", &[("interface", name)]);
            prop_assert_eq!(&evicted[0].raw, &counters.events[Event::ProvenEvicted as usize].to_string());
            let without = exposition.find("shedder_sources_without_place_total", &[("interface", name)]);
            prop_assert_eq!(&without[0].raw, &counters.events[Event::NoPlace as usize].to_string());
        }
        for service in &report.services {
            let labels = [("service", service.name.as_str())];
            let count = exposition.value("shedder_latency_seconds_count", &labels);
            prop_assert_eq!(count, service.latency.count() as f64);
        }
    }
}

#[test]
fn a_passive_signal_is_told_where_there_is_one() {
    let mut report = healthy();
    let mut probed = report.services[0].clone();
    probed.name = "probed".to_owned();
    probed.passive = None;
    probed.why = Some("stale");
    report.services.push(probed);
    let exposition = exposition(report);
    let api = |name, label| exposition.value(name, &[("service", "api"), label]);
    assert_eq!(api("shedder_exchanges_total", ("event", "refused")), 4.0);
    assert_eq!(api("shedder_exchanges_total", ("event", "abandoned")), 5.0);
    assert_eq!(api("shedder_http_answers_total", ("status", "5xx")), 13.0);
    assert_eq!(api("shedder_recent_latency_seconds", ("quantile", "0.99")), 0.04);
    assert!(exposition.find("shedder_recent_latency_seconds", &[("quantile", "0.9")]).is_empty());
    assert!(exposition.find("shedder_requests_in_flight", &[("service", "probed")]).is_empty());
    let why = |service, why| exposition.value("shedder_signal_fault", &[("service", service), ("why", why)]);
    assert_eq!((why("probed", "stale"), why("probed", "silent"), why("api", "stale")), (1.0, 0.0, 0.0));
}
