//! Every metric: its name, type, unit, labels and help, and where its samples come from.
//!
//! One table, [`METRICS`]. The exposition and the reference in `docs/metrics.md` are both made from it.

use super::health;
use crate::control::Why;
use crate::daemon::report::{Histogram, InterfaceReport, PassiveReport, QUANTILES, Report, ServiceReport};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;
use shedder_common::abi::{ABI_VERSION, Cell, Event, Exchange};
use shedder_common::class::Class;
use shedder_common::reason::Reason;
use std::collections::BTreeMap;

/// Takes the samples of a metric one by one: the values of its labels in the order of [`Metric::labels`], and its own.
pub(super) type Sink<'a, V> = &'a mut dyn FnMut(&[&str], V);

/// A metric family.
pub(super) struct Metric {
    /// The whole name, as it is queried; a histogram's is without `_bucket`, `_sum` and `_count`.
    pub(super) name: &'static str,
    /// The base unit, which also ends the name (before `_total`).
    pub(super) unit: Option<Unit>,
    /// Names of the labels.
    pub(super) labels: &'static [&'static str],
    /// One line, a sentence.
    pub(super) help: &'static str,
    /// The type, and the samples.
    pub(super) samples: Samples,
}

/// A type of metric, and what draws its samples from a report.
pub(super) enum Samples {
    /// Only grows, and starts again at zero with what counts.
    Counter(fn(&Report, Sink<'_, u64>)),
    /// A value of the moment. One that is not finite is left out.
    Gauge(fn(&Report, Sink<'_, f64>)),
    /// How often values fell below each bound.
    Histogram(for<'r> fn(&'r Report, Sink<'_, &'r Histogram>)),
    /// Says something by its labels; the value is 1.
    Info(fn(&Report, Sink<'_, ()>)),
}

impl Metric {
    /// The OpenMetrics type.
    pub(super) fn kind(&self) -> MetricType {
        match self.samples {
            Samples::Counter(_) => MetricType::Counter,
            Samples::Gauge(_) => MetricType::Gauge,
            Samples::Histogram(_) => MetricType::Histogram,
            Samples::Info(_) => MetricType::Info,
        }
    }

    /// The name without what the encoder appends: the type's suffix and the unit.
    pub(super) fn stem(&self) -> &'static str {
        let suffix = match self.samples {
            Samples::Counter(_) => "_total",
            Samples::Info(_) => "_info",
            Samples::Gauge(_) | Samples::Histogram(_) => "",
        };
        let family = self.name.strip_suffix(suffix).unwrap_or(self.name);
        let Some(unit) = &self.unit else { return family };
        family.strip_suffix(unit.as_str()).and_then(|stem| stem.strip_suffix('_')).unwrap_or(family)
    }
}

/// States of a service, of which one is 1.
pub(super) const STATES: [&str; 5] = ["running", "holding", "fallen", "override", "none"];

/// What people can do.
pub(super) const ACTIONS: [&str; 4] = ["kill", "resume", "shed", "auto"];

/// What can drift.
pub(super) const REPAIRS: [&str; 3] = ["attach", "link", "map"];

/// Reasons that the egress program gives.
pub(super) const EGRESS: [Reason; 4] = [Reason::Admitted, Reason::NotIp, Reason::Lifeline, Reason::Kill];

/// All metrics, in the order in which they are exposed.
pub(super) static METRICS: &[Metric] = &[
    Metric {
        name: "shedder_packets_total",
        unit: None,
        labels: &["interface", "direction", "verdict", "reason"],
        help: "Packets by verdict and reason; would_drop passed because the programs run dry.",
        samples: Samples::Counter(|report, sink| {
            cells(report, &mut |labels, cell| sink(labels, cell.packets));
        }),
    },
    Metric {
        name: "shedder_bytes_total",
        unit: Some(Unit::Bytes),
        labels: &["interface", "direction", "verdict", "reason"],
        help: "Bytes, from the Ethernet header on, by verdict and reason; would_drop passed because the \
               programs run dry.",
        samples: Samples::Counter(|report, sink| {
            cells(report, &mut |labels, cell| sink(labels, cell.bytes));
        }),
    },
    Metric {
        name: "shedder_interface_mode_info",
        unit: None,
        labels: &["interface", "mode"],
        help: "How the XDP program is attached: native, generic or detached.",
        samples: Samples::Info(|report, sink| {
            for interface in &report.interfaces {
                sink(&[&interface.name, interface.mode], ());
            }
        }),
    },
    Metric {
        name: "shedder_dry_run",
        unit: None,
        labels: &[],
        help: "1 while the programs judge and count but drop nothing.",
        samples: Samples::Gauge(|report, sink| sink(&[], flag(report.dry_run))),
    },
    Metric {
        name: "shedder_kill_active",
        unit: None,
        labels: &["scope", "name"],
        help: "1 while a kill of this scope (host, interface or service) holds; the host has no name.",
        samples: Samples::Gauge(|report, sink| {
            sink(&["host", ""], flag(report.kill_active));
            for interface in &report.interfaces {
                sink(&["interface", &interface.name], flag(interface.kill_active));
            }
            for service in &report.services {
                sink(&["service", &service.name], flag(service.kill_active));
            }
        }),
    },
    Metric {
        name: "shedder_host_override_active",
        unit: None,
        labels: &[],
        help: "1 while a person's override of all traffic holds.",
        samples: Samples::Gauge(|report, sink| sink(&[], flag(report.host_override.is_some()))),
    },
    Metric {
        name: "shedder_host_override_shed_ratio",
        unit: None,
        labels: &[],
        help: "The fraction of offered work, 0 to 1, that a person's override of all traffic sheds; \
               absent without one.",
        samples: Samples::Gauge(|report, sink| {
            if let Some(ratio) = report.host_override {
                sink(&[], ratio);
            }
        }),
    },
    Metric {
        name: "shedder_override_active",
        unit: None,
        labels: &["service"],
        help: "1 while a person's override of this service holds.",
        samples: Samples::Gauge(|report, sink| {
            of_services(report, sink, |service| Some(flag(service.override_active)));
        }),
    },
    Metric {
        name: "shedder_shed_ratio",
        unit: None,
        labels: &["service"],
        help: "The fraction of offered work that is to be shed, 0 to 1: the loop's, or a person's where \
               an override holds.",
        samples: Samples::Gauge(|report, sink| of_services(report, sink, |service| Some(service.shed_ratio))),
    },
    Metric {
        name: "shedder_cutoff",
        unit: None,
        labels: &["service"],
        help: "The first priority that is shed, in part or whole, 0 to 768; 768 sheds nothing.",
        samples: Samples::Gauge(|report, sink| {
            of_services(report, sink, |service| Some(f64::from(service.cutoff)));
        }),
    },
    Metric {
        name: "shedder_target_latency_seconds",
        unit: Some(Unit::Seconds),
        labels: &["service"],
        help: "The latency that the loop aims at.",
        samples: Samples::Gauge(|report, sink| {
            of_services(report, sink, |service| Some(service.target.as_secs_f64()));
        }),
    },
    Metric {
        name: "shedder_observed_latency_seconds",
        unit: Some(Unit::Seconds),
        labels: &["service", "quantile"],
        help: "The latency, at the service's quantile, that the loop last saw; absent until it saw one.",
        samples: Samples::Gauge(|report, sink| {
            for service in &report.services {
                if let Some(observed) = service.observed {
                    sink(&[&service.name, &service.quantile.to_string()], observed.as_secs_f64());
                }
            }
        }),
    },
    Metric {
        name: "shedder_signal_age_seconds",
        unit: Some(Unit::Seconds),
        labels: &["service"],
        help: "Time since the service's signal was last heard of; absent until it is.",
        samples: Samples::Gauge(|report, sink| {
            of_services(report, sink, |service| service.signal_age.map(|age| age.as_secs_f64()));
        }),
    },
    Metric {
        name: "shedder_service_state",
        unit: None,
        labels: &["service", "state"],
        help: "1 for the state that the loop is in, 0 for the others: running, holding (the last \
               output, for want of a signal), fallen (to the posture), override, none (no signal \
               configured).",
        samples: Samples::Gauge(|report, sink| {
            for service in &report.services {
                for state in STATES {
                    sink(&[&service.name, state], flag(state == service.state));
                }
                if !STATES.contains(&service.state) {
                    sink(&[&service.name, service.state], 1.0);
                }
            }
        }),
    },
    Metric {
        name: "shedder_pid_term",
        unit: None,
        labels: &["service", "term"],
        help: "The proportional, integral and derivative term of the loop's last output, in shed ratio.",
        samples: Samples::Gauge(|report, sink| {
            for service in &report.services {
                for (term, value) in ["proportional", "integral", "derivative"].into_iter().zip(service.terms)
                {
                    sink(&[&service.name, term], value);
                }
            }
        }),
    },
    Metric {
        name: "shedder_latency_seconds",
        unit: Some(Unit::Seconds),
        labels: &["service"],
        help: "Every latency of the service that was observed.",
        samples: Samples::Histogram(|report, sink| {
            for service in &report.services {
                sink(&[&service.name], &service.latency);
            }
        }),
    },
    Metric {
        name: "shedder_signal_failures_total",
        unit: None,
        labels: &["service"],
        help: "Observations that were failures: no answer, or a status of 500 or above.",
        samples: Samples::Counter(|report, sink| {
            for service in &report.services {
                sink(&[&service.name], service.failures);
            }
        }),
    },
    Metric {
        name: "shedder_signal_fault",
        unit: None,
        labels: &["service", "why"],
        help: "1 for the reason why the loop goes by no signal, 0 for the others.",
        samples: Samples::Gauge(|report, sink| {
            for service in &report.services {
                for why in Why::NAMES {
                    sink(&[&service.name, why], flag(service.why == Some(why)));
                }
            }
        }),
    },
    Metric {
        name: "shedder_predicted_latency_seconds",
        unit: Some(Unit::Seconds),
        labels: &["service"],
        help: "What a request that arrives now will take, at the service's quantile: what the loop goes by with a \
               passive signal; absent while it is not known.",
        samples: Samples::Gauge(|report, sink| {
            of_services(report, sink, |service| service.predicted.map(|latency| latency.as_secs_f64()));
        }),
    },
    Metric {
        name: "shedder_baseline_latency_seconds",
        unit: Some(Unit::Seconds),
        labels: &["service"],
        help: "The latency without a queue, at the service's quantile; absent while it is not known.",
        samples: Samples::Gauge(|report, sink| {
            of_services(report, sink, |service| service.baseline.map(|latency| latency.as_secs_f64()));
        }),
    },
    Metric {
        name: "shedder_recent_latency_seconds",
        unit: Some(Unit::Seconds),
        labels: &["service", "quantile"],
        help: "Time to the first byte of the answers of the last 10 to 20 s, of a passive signal, to 6 %; absent \
               without answers.",
        samples: Samples::Gauge(|report, sink| {
            of_passive(report, &mut |service, passive| {
                for (quantile, latency) in QUANTILES.into_iter().zip(passive.recent) {
                    if let Some(latency) = latency {
                        sink(&[service, &quantile.to_string()], latency.as_secs_f64());
                    }
                }
            });
        }),
    },
    Metric {
        name: "shedder_requests_in_flight",
        unit: None,
        labels: &["service"],
        help: "Requests that arrived and were not answered yet, of a passive signal.",
        samples: Samples::Gauge(|report, sink| {
            of_passive(report, &mut |service, passive| {
                if let Some(queue) = passive.queue {
                    sink(&[service], queue.in_flight);
                }
            });
        }),
    },
    Metric {
        name: "shedder_capacity_requests_per_second",
        unit: None,
        labels: &["service"],
        help: "Answers a second while the service has enough to do, of a passive signal; absent while it is not known.",
        samples: Samples::Gauge(|report, sink| {
            of_passive(report, &mut |service, passive| {
                if let Some(capacity) = passive.queue.and_then(|queue| queue.capacity) {
                    sink(&[service], capacity);
                }
            });
        }),
    },
    Metric {
        name: "shedder_connections_pending",
        unit: None,
        labels: &["service"],
        help: "Connections that were asked for and not agreed to yet, of a passive signal.",
        samples: Samples::Gauge(|report, sink| {
            of_passive(report, &mut |service, passive| sink(&[service], passive.connecting as f64));
        }),
    },
    Metric {
        name: "shedder_connections_unanswered_total",
        unit: None,
        labels: &["service"],
        help: "Connections that were asked for and not agreed to within 2 s, of a passive signal.",
        samples: Samples::Counter(|report, sink| {
            of_passive(report, &mut |service, passive| sink(&[service], passive.syns_unanswered));
        }),
    },
    Metric {
        name: "shedder_exchanges_total",
        unit: None,
        labels: &["service", "event"],
        help: "What a passive signal saw between the service and its peers, of the flows that are measured.",
        samples: Samples::Counter(|report, sink| {
            of_passive(report, &mut |service, passive| {
                for event in Exchange::ALL.into_iter().filter(|event| !event.is_status()) {
                    sink(&[service, event.name()], passive.exchanges[event as usize]);
                }
                sink(&[service, "abandoned"], passive.abandoned);
            });
        }),
    },
    Metric {
        name: "shedder_http_answers_total",
        unit: None,
        labels: &["service", "status"],
        help: "Plaintext HTTP/1 answers by the class of their status, of the flows that a passive signal measures.",
        samples: Samples::Counter(|report, sink| {
            of_passive(report, &mut |service, passive| {
                for status in Exchange::ALL.into_iter().filter(|event| event.is_status()) {
                    sink(&[service, status.name()], passive.exchanges[status as usize]);
                }
            });
        }),
    },
    Metric {
        name: "shedder_measured_share",
        unit: None,
        labels: &["service"],
        help: "The fraction of flows that a passive signal measures, above 0 to 1.",
        samples: Samples::Gauge(|report, sink| {
            of_passive(report, &mut |service, passive| sink(&[service], passive.share));
        }),
    },
    Metric {
        name: "shedder_reflex_trips_total",
        unit: None,
        labels: &["service"],
        help: "Turns that found that the programs had shed by themselves since the one before, because answers were far \
               too late.",
        samples: Samples::Counter(|report, sink| {
            of_passive(report, &mut |service, passive| sink(&[service], passive.reflex_trips));
        }),
    },
    Metric {
        name: "shedder_rollbacks_total",
        unit: None,
        labels: &["service"],
        help: "Rises of the shed ratio that were undone because they did harm.",
        samples: Samples::Counter(|report, sink| {
            for service in &report.services {
                sink(&[&service.name], service.rollbacks);
            }
        }),
    },
    Metric {
        name: "shedder_offered_total",
        unit: None,
        labels: &["service", "class"],
        help: "Work offered to the shedding decision (new flows, or packets where the service sheds \
               packets), by class.",
        samples: Samples::Counter(|report, sink| {
            for service in &report.services {
                for (class, offered) in Class::ALL.into_iter().zip(service.offered) {
                    sink(&[&service.name, class.name()], offered);
                }
            }
        }),
    },
    Metric {
        name: "shedder_sources_tracked",
        unit: None,
        labels: &[],
        help: "Sources with live state in the tables of buckets.",
        samples: Samples::Gauge(|report, sink| sink(&[], report.sources_tracked as f64)),
    },
    Metric {
        name: "shedder_sources_proven",
        unit: None,
        labels: &[],
        help: "Proven sources that are remembered.",
        samples: Samples::Gauge(|report, sink| sink(&[], report.sources_proven as f64)),
    },
    Metric {
        name: "shedder_sources_evicted_total",
        unit: None,
        labels: &["interface"],
        help: "Proven sources that were forgotten before their time, to make room.",
        samples: Samples::Counter(|report, sink| events(report, sink, Event::ProvenEvicted)),
    },
    Metric {
        name: "shedder_sources_without_place_total",
        unit: None,
        labels: &["interface"],
        help: "Charges to the bucket that all sources share which found no place in the table.",
        samples: Samples::Counter(|report, sink| events(report, sink, Event::NoPlace)),
    },
    Metric {
        name: "shedder_udp_flows_evicted_total",
        unit: None,
        labels: &["interface"],
        help: "UDP flows that were forgotten before their time, to make room.",
        samples: Samples::Counter(|report, sink| events(report, sink, Event::UdpFlowEvicted)),
    },
    Metric {
        name: "shedder_control_loop_lag_seconds",
        unit: Some(Unit::Seconds),
        labels: &[],
        help: "How late each turn of the control loop began.",
        samples: Samples::Histogram(|report, sink| sink(&[], &report.loop_lag)),
    },
    Metric {
        name: "shedder_control_loop_duration_seconds",
        unit: Some(Unit::Seconds),
        labels: &[],
        help: "How long each turn of the control loop took.",
        samples: Samples::Histogram(|report, sink| sink(&[], &report.loop_duration)),
    },
    Metric {
        name: "shedder_lease_remaining_seconds",
        unit: Some(Unit::Seconds),
        labels: &[],
        help: "Time until the daemon's lease lapses and the data plane falls to its posture; 0 where it has.",
        samples: Samples::Gauge(|report, sink| sink(&[], report.lease_remaining.as_secs_f64())),
    },
    Metric {
        name: "shedder_human_interventions_total",
        unit: None,
        labels: &["action"],
        help: "Commands of people that the daemon saw take effect.",
        samples: Samples::Counter(|report, sink| {
            tally(&ACTIONS, &report.counters.human_interventions, sink);
        }),
    },
    Metric {
        name: "shedder_config_reloads_total",
        unit: None,
        labels: &[],
        help: "Reloads of the configuration that took effect.",
        samples: Samples::Counter(|report, sink| sink(&[], report.counters.config_reloads)),
    },
    Metric {
        name: "shedder_config_reload_failures_total",
        unit: None,
        labels: &[],
        help: "Reloads of the configuration that were refused; the old one stayed in force.",
        samples: Samples::Counter(|report, sink| sink(&[], report.counters.config_reload_failures)),
    },
    Metric {
        name: "shedder_reconcile_repairs_total",
        unit: None,
        labels: &["kind"],
        help: "Drift between what is wanted and what the kernel held that was mended.",
        samples: Samples::Counter(|report, sink| {
            tally(&REPAIRS, &report.counters.reconcile_repairs, sink);
        }),
    },
    Metric {
        name: "shedder_verify_failures_total",
        unit: None,
        labels: &[],
        help: "Read-backs that did not show what was written.",
        samples: Samples::Counter(|report, sink| sink(&[], report.counters.verify_failures)),
    },
    Metric {
        name: "shedder_alive",
        unit: None,
        labels: &[],
        help: "1 while the control loop turns; what /healthz says.",
        samples: Samples::Gauge(|report, sink| sink(&[], flag(report.alive))),
    },
    Metric {
        name: "shedder_ready",
        unit: None,
        labels: &[],
        help: "1 while the daemon is ready; /readyz gives the reasons where it is not.",
        samples: Samples::Gauge(|report, sink| sink(&[], flag(health::obstacles(report).is_empty()))),
    },
    Metric {
        name: "shedder_build_info",
        unit: None,
        labels: &["version", "abi", "arch"],
        help: "What was built: shedder's version, the version of the layout of its maps, and the \
               architecture.",
        samples: Samples::Info(|_, sink| {
            sink(&[env!("CARGO_PKG_VERSION"), &ABI_VERSION.to_string(), std::env::consts::ARCH], ());
        }),
    },
];

fn flag(holds: bool) -> f64 {
    if holds { 1.0 } else { 0.0 }
}

/// Every counter of every interface, each set of labels once. Reasons that a direction can give are there before
/// they were ever met, so that a rate over them is zero and not absent.
fn cells(report: &Report, sink: Sink<'_, Cell>) {
    for InterfaceReport { name, counters, .. } in &report.interfaces {
        let directions = [
            ("ingress", &counters.ingress, &counters.ingress_dry, &Reason::ALL[..]),
            ("egress", &counters.egress, &counters.egress_dry, &EGRESS[..]),
        ];
        for (direction, live, dry, expected) in directions {
            for reason in Reason::ALL {
                let (live, dry) = (live[reason as usize], dry[reason as usize]);
                if !expected.contains(&reason) && live == Cell::default() && dry == Cell::default() {
                    continue;
                }
                if reason.passes() {
                    let both = Cell {
                        packets: live.packets.saturating_add(dry.packets),
                        bytes: live.bytes.saturating_add(dry.bytes),
                    };
                    sink(&[name, direction, "pass", reason.name()], both);
                } else {
                    sink(&[name, direction, "drop", reason.name()], live);
                    sink(&[name, direction, "would_drop", reason.name()], dry);
                }
            }
        }
    }
}

fn events(report: &Report, sink: Sink<'_, u64>, event: Event) {
    for interface in &report.interfaces {
        sink(&[&interface.name], interface.counters.events[event as usize]);
    }
}

fn of_services(report: &Report, sink: Sink<'_, f64>, value: impl Fn(&ServiceReport) -> Option<f64>) {
    for service in &report.services {
        if let Some(value) = value(service) {
            sink(&[&service.name], value);
        }
    }
}

fn of_passive(report: &Report, each: &mut dyn FnMut(&str, &PassiveReport)) {
    for service in &report.services {
        if let Some(passive) = &service.passive {
            each(&service.name, passive);
        }
    }
}

/// Counts by name, the known names from zero on.
fn tally(known: &[&'static str], counted: &[(&'static str, u64)], sink: Sink<'_, u64>) {
    let mut sums: BTreeMap<&str, u64> = known.iter().map(|&name| (name, 0)).collect();
    for &(name, count) in counted {
        let sum = sums.entry(name).or_default();
        *sum = sum.saturating_add(count);
    }
    for (name, count) in sums {
        sink(&[name], count);
    }
}
