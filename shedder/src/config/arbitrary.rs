//! Valid configurations for property tests.

use super::model::*;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proptest::collection::{btree_set, hash_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use shedder_common::class::Class;
use std::collections::HashSet;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

/// Any valid configuration: small, but with every key at any value.
pub(crate) fn config() -> impl Strategy<Value = Config> {
    let top = (
        hash_set("[a-z][a-z0-9.-]{0,14}", 0..4),
        select(vec![Mode::Auto, Mode::Native, Mode::Generic]),
        any::<bool>(),
        select(vec![Posture::Open, Posture::Hold, Posture::Closed]),
        any::<bool>(),
        nanoseconds(60_000_000_000, 86_400_000_000_000),
    );
    let tables = (vec(lifeline(), 0..4), rules(), control(), source(), newcomers(), endpoint());
    (top, tables).prop_flat_map(|(top, (lifelines, rules, control, source, newcomers, endpoint))| {
        let lease = nanoseconds(100_000_000.max(control.interval.as_nanos() as u64 * 5), 60_000_000_000);
        let services = vec(service(control.clone()), 0..5);
        (lease, services).prop_map(move |(lease, services)| {
            let (interfaces, mode, dry_run, posture, persist, rotation) = top.clone();
            let mut config = Config {
                interfaces: interfaces.into_iter().collect(),
                mode,
                dry_run,
                posture,
                lease,
                persist,
                rotation,
                source: source.clone(),
                newcomers: newcomers.clone(),
                lifelines: lifelines.clone(),
                rules: rules.clone(),
                services,
                control: control.clone(),
                endpoint: endpoint.clone(),
            };
            settle(&mut config);
            config
        })
    })
}

/// Takes back what contradicts something else.
fn settle(config: &mut Config) {
    let mut names = HashSet::new();
    let mut ports = HashSet::new();
    config.services.retain(|service| {
        names.insert(service.name.clone()) && ports.insert((service.protocol, service.port))
    });
    let mut prefixes = HashSet::new();
    for rule in &mut config.rules {
        rule.sources.retain(|&source| prefixes.insert(source));
        let is_lifeline = |source: &IpNet| {
            config.lifelines.iter().any(|lifeline| {
                lifeline.ports.is_empty() && lifeline.peers.iter().any(|peer| peer.contains(source))
            })
        };
        rule.deny &= !rule.sources.iter().any(is_lifeline);
    }
    config.rules.retain(|rule| !rule.sources.is_empty());
}

/// A duration of `min` to `max` nanoseconds, round ones included.
fn nanoseconds(min: u64, max: u64) -> impl Strategy<Value = Duration> {
    (min..=max, select(vec![1, 1_000, 1_000_000, 1_000_000_000])).prop_map(move |(nanoseconds, unit)| {
        Duration::from_nanos((nanoseconds / unit * unit).clamp(min, max))
    })
}

fn rate(min: u64, max: u64) -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), Just(min), Just(max), min..=max]
}

fn source() -> impl Strategy<Value = Source> {
    (rates(), nanoseconds(1_000_000, 60_000_000_000), 16..=128u8, 10..=26u32).prop_map(
        |(rates, burst, ipv6_prefix, table)| Source { rates, burst, ipv6_prefix, table: 1 << table },
    )
}

fn rates() -> impl Strategy<Value = Rates> {
    (rate(1, 1_000_000_000), rate(1_500, 1_000_000_000_000), rate(1, 1_000_000_000)).prop_map(
        |(packets_per_second, bytes_per_second, new_flows_per_second)| Rates {
            packets_per_second,
            bytes_per_second,
            new_flows_per_second,
        },
    )
}

fn newcomers() -> impl Strategy<Value = Newcomers> {
    (rate(1, 1_000_000_000), nanoseconds(0, 30 * 86_400_000_000_000))
        .prop_map(|(packets_per_second, proven_for)| Newcomers { packets_per_second, proven_for })
}

/// A prefix of at least `min` bits. Its other bits are zero, but for those of the last byte, so that prefixes meet.
fn prefix(min: u8) -> impl Strategy<Value = IpNet> {
    let v4 = (any::<[bool; 2]>(), any::<u8>(), min..=32u8).prop_map(|([one, two], last, length)| {
        let address = Ipv4Addr::from([if one { 10 } else { 192 }, u8::from(two), 0, last]);
        IpNet::V4(Ipv4Net::new(address, length).expect("at most 32").trunc())
    });
    let v6 = (any::<bool>(), any::<u16>(), min..=128u8).prop_map(|(one, last, length)| {
        let address = Ipv6Addr::new(0x2001, 0xdb8, u16::from(one), 0, 0, 0, 0, last);
        IpNet::V6(Ipv6Net::new(address, length).expect("at most 128").trunc())
    });
    prop_oneof![v4, v6]
}

/// Four ports in each of three lifelines are within the 16 of one peer.
fn lifeline() -> impl Strategy<Value = Lifeline> {
    (hash_set(prefix(1), 1..4), btree_set(1..=u16::MAX, 0..5))
        .prop_map(|(peers, ports)| Lifeline { peers: distinct(peers), ports: ports.into_iter().collect() })
}

fn rules() -> impl Strategy<Value = Vec<Rule>> {
    let rule = (
        hash_set(prefix(0), 1..4),
        option::of(select(Class::ALL.to_vec())),
        any::<bool>(),
        option::of(rates()),
        any::<[bool; 3]>(),
    );
    let rule = rule.prop_map(|(sources, class, deny, rates, [packets, bytes, new_flows])| Rule {
        sources: distinct(sources),
        class,
        deny,
        packets_per_second: rates.filter(|_| packets).map(|rates| rates.packets_per_second),
        bytes_per_second: rates.filter(|_| bytes).map(|rates| rates.bytes_per_second),
        new_flows_per_second: rates.filter(|_| new_flows).map(|rates| rates.new_flows_per_second),
    });
    vec(rule, 0..5)
}

fn distinct(prefixes: HashSet<IpNet>) -> Vec<IpNet> {
    prefixes.into_iter().collect()
}

fn service(control: Control) -> impl Strategy<Value = Service> {
    let plain = (
        "[a-zA-Z0-9_.-]{1,31}",
        select(vec![Protocol::Tcp, Protocol::Udp]),
        1..=u16::MAX,
        select(Class::ALL.to_vec()),
        nanoseconds(100_000, 60_000_000_000),
        (1..1_000_000u32).prop_map(|millionths| f64::from(millionths) / 1e6),
        select(vec![Shed::NewFlows, Shed::Packets]),
    );
    plain.prop_flat_map(move |(name, protocol, port, class, target, quantile, shed)| {
        signal(&control, target).prop_map(move |signal| Service {
            name: name.clone(),
            protocol,
            port,
            class,
            target,
            quantile,
            shed,
            signal,
        })
    })
}

fn signal(control: &Control, target: Duration) -> impl Strategy<Value = Signal> + use<> {
    let most_every = (control.window / control.min_samples).min(Duration::from_secs(10)).as_nanos() as u64;
    let least_timeout = 10_000_000.max(target.as_nanos() as u64);
    let probe = (probe(), nanoseconds(5_000_000, most_every), nanoseconds(least_timeout, 60_000_000_000))
        .prop_map(|(target, every, timeout)| Signal::Probe { target, every, timeout });
    let passive = prop_oneof![Just(Since::FirstByte), Just(Since::LastByte)]
        .prop_map(|since| Signal::Passive { since });
    prop_oneof![passive, Just(Signal::None), Just(Signal::Push), probe]
}

fn probe() -> impl Strategy<Value = ProbeTarget> {
    let http = (any::<bool>(), address(), any::<bool>(), "/[!-\"$-~]{0,20}").prop_map(
        |(is_local, mut address, has_port, path)| {
            let name = if is_local {
                address.set_ip(Ipv4Addr::LOCALHOST.into());
                "localhost".to_owned()
            } else if address.is_ipv6() {
                format!("[{}]", address.ip())
            } else {
                address.ip().to_string()
            };
            if !has_port {
                address.set_port(80);
            }
            let host = if has_port { format!("{name}:{}", address.port()) } else { name };
            ProbeTarget::Http { address, host, path }
        },
    );
    prop_oneof![http, address().prop_map(|address| ProbeTarget::Tcp { address })]
}

fn address() -> impl Strategy<Value = SocketAddr> {
    let ip = prop_oneof![
        any::<[u8; 4]>().prop_map(|bytes| Ipv4Addr::from(bytes).into()),
        any::<[u8; 16]>().prop_map(|bytes| Ipv6Addr::from(bytes).into()),
    ];
    (ip, 1..=u16::MAX).prop_map(|(ip, port)| SocketAddr::new(ip, port))
}

fn control() -> impl Strategy<Value = Control> {
    let times = (nanoseconds(5_000_000, 1_000_000_000), nanoseconds(0, 60_000_000_000));
    let gains =
        (0.0..=1e6, 0.0..=1e6, 0.0..=1e6, 0.001..=1.0, 1e-9..=1e6, 1e-9..=1e6, 0.0..=0.1, 0.0..=1000.0);
    (times, gains, 1..=10_000u32).prop_flat_map(|((interval, hold), gains, min_samples)| {
        // The most frequent probe is every 5 ms.
        let least_window = 20_000_000.max(interval.as_nanos() as u64).max(5_000_000 * u64::from(min_samples));
        nanoseconds(least_window, 60_000_000_000).prop_map(move |window| {
            let (kp, ki, kd, admission_floor, slew_up, slew_down, dead_band, reflex) = gains;
            Control {
                interval,
                kp,
                ki,
                kd,
                admission_floor,
                slew_up,
                slew_down,
                dead_band,
                hold,
                min_samples,
                window,
                reflex,
            }
        })
    })
}

fn endpoint() -> impl Strategy<Value = Endpoint> {
    (option::of(address()), "/[ -~é]{0,50}").prop_map(|(listen, push)| Endpoint { listen, push: push.into() })
}
