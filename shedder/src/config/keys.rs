//! Every key of the file: its name, what it accepts, what its absence means, where it goes and what it is for.
//! Reading, printing and the reference all work from these tables.

use super::address::{InterfaceName, Listen, Prefix, ProbeUrl, ServiceName, SocketPath};
use super::duration::Span;
use super::kind::List;
use super::model::*;
use super::scalar::{Flag, Integer, PowerOfTwo, Real, Word};
use super::section::{Absent, Entry, Key, Section};
use shedder_common::abi::{MAX_INTERFACES, MAX_LIFELINE_PORTS, MAX_PREFIX_LENGTHS, MAX_SERVICES};
use shedder_common::class::Class;
use std::ops::Bound::{Excluded, Included};
use std::time::Duration;

const MODES: Word<Mode> = Word {
    words: &[("auto", Mode::Auto), ("native", Mode::Native), ("generic", Mode::Generic)],
    foreign: &[],
};

const POSTURES: Word<Posture> = Word {
    words: &[("open", Posture::Open), ("hold", Posture::Hold), ("closed", Posture::Closed)],
    foreign: &[],
};

const CLASSES: Word<Class> = Word {
    words: &[
        (Class::Critical.name(), Class::Critical),
        (Class::High.name(), Class::High),
        (Class::Normal.name(), Class::Normal),
        (Class::Low.name(), Class::Low),
        (Class::Background.name(), Class::Background),
        (Class::Sheddable.name(), Class::Sheddable),
    ],
    foreign: &[],
};

const PROTOCOLS: Word<Protocol> =
    Word { words: &[("tcp", Protocol::Tcp), ("udp", Protocol::Udp)], foreign: &[] };

const SHEDS: Word<Shed> =
    Word { words: &[("new-flows", Shed::NewFlows), ("packets", Shed::Packets)], foreign: &[] };

const SIGNALS: Word<SignalKind> = Word {
    words: &[
        ("passive", SignalKind::Passive),
        ("probe", SignalKind::Probe),
        ("push", SignalKind::Push),
        ("none", SignalKind::None),
    ],
    foreign: &["prometheus"],
};

const SINCE: Word<Since> =
    Word { words: &[("first-byte", Since::FirstByte), ("last-byte", Since::LastByte)], foreign: &[] };

const PER_SECOND: Integer<u64> = Integer { min: 1, max: 1_000_000_000, zero: Some("no limit") };

/// A frame of the usual size must fit into a second of the rate.
const BYTES_PER_SECOND: Integer<u64> = Integer { min: 1_500, max: 1_000_000_000_000, zero: Some("no limit") };

const PORT: Integer<u16> = Integer { min: 1, max: u16::MAX, zero: None };

const PREFIXES: List<Prefix> = List { of: Prefix, things: "prefixes", max: usize::MAX, may_be_empty: false };

const GAIN: Real = Real { min: Included(0.0), max: Included(1e6) };

const SLEW: Real = Real { min: Excluded(0.0), max: Included(1e6) };

const fn milliseconds(min: u64, max: u64) -> Span {
    Span { min: Duration::from_millis(min), max: Duration::from_millis(max) }
}

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const DAY: u64 = 24 * 60 * MINUTE;

// The prose below names these numbers.
const _: () = assert!(MAX_SERVICES == 256 && MAX_PREFIX_LENGTHS == 33 && MAX_LIFELINE_PORTS == 16);

/// Each section's header and the names that it knows.
pub(super) fn catalogue() -> Vec<(&'static str, Vec<&'static str>)> {
    fn names<S: Section>() -> (&'static str, Vec<&'static str>) {
        (S::HEADER, S::KEYS.iter().map(|entry| entry.name()).chain(S::TABLES.iter().copied()).collect())
    }
    vec![
        names::<Config>(),
        names::<Source>(),
        names::<Newcomers>(),
        names::<Lifeline>(),
        names::<Rule>(),
        names::<Service>(),
        names::<SignalKeys>(),
        names::<Control>(),
        names::<Endpoint>(),
    ]
}

impl Section for Config {
    const HEADER: &'static str = "the top of the file";
    const ABOUT: &'static str = "What holds for the whole host. These keys stand before the first table.";
    const TABLES: &'static [&'static str] =
        &["source", "newcomers", "lifeline", "rule", "service", "control", "endpoint"];
    const KEYS: &'static [&'static dyn Entry<Config>] = &[
        &Key::<Self, _> {
            name: "interfaces",
            kind: List { of: InterfaceName, things: "interfaces", max: MAX_INTERFACES, may_be_empty: true },
            absent: Absent::Default,
            meaning: "The interfaces to attach to.",
            get: |config| Some(config.interfaces.clone()),
            set: |config, value| config.interfaces = value,
        },
        &Key::<Self, _> {
            name: "mode",
            kind: MODES,
            absent: Absent::Default,
            meaning: "How the XDP program is attached: `native` in the driver or not at all; `generic` after the \
                      kernel has made its buffer, which every driver can and which costs more; `auto` native where \
                      the driver can, else generic.",
            get: |config| Some(config.mode),
            set: |config, value| config.mode = value,
        },
        &Key::<Self, _> {
            name: "dry_run",
            kind: Flag,
            absent: Absent::Default,
            meaning: "Judge and count every packet, and drop none.",
            get: |config| Some(config.dry_run),
            set: |config, value| config.dry_run = value,
        },
        &Key::<Self, _> {
            name: "posture",
            kind: POSTURES,
            absent: Absent::Default,
            meaning: "What adaptive shedding does without a live daemon: `open` stops it (limits and kills hold), \
                      `hold` keeps the last cutoff, `closed` drops everything but lifelines.",
            get: |config| Some(config.posture),
            set: |config, value| config.posture = value,
        },
        &Key::<Self, _> {
            name: "lease",
            kind: milliseconds(100, MINUTE),
            absent: Absent::Default,
            meaning: "How long the daemon's heartbeat is good for; at least five times `control.interval`.",
            get: |config| Some(config.lease),
            set: |config, value| config.lease = value,
        },
        &Key::<Self, _> {
            name: "persist",
            kind: Flag,
            absent: Absent::Default,
            meaning: "Leave the programs attached when the daemon ends in good order. They stay in any case when \
                      it dies.",
            get: |config| Some(config.persist),
            set: |config, value| config.persist = value,
        },
        &Key::<Self, _> {
            name: "cohort_rotation",
            kind: milliseconds(MINUTE, DAY),
            absent: Absent::Default,
            meaning: "How long one key of the cohorts lasts: after it, other sources are the first to be shed.",
            get: |config| Some(config.rotation),
            set: |config, value| config.rotation = value,
        },
    ];

    fn blank() -> Config {
        Config::default()
    }
}

impl Section for Source {
    const HEADER: &'static str = "[source]";
    const ABOUT: &'static str = "The buckets that every source has for itself. A source is an IPv4 address or an \
                                 IPv6 prefix; a `[[rule]]` may give some sources other rates.";
    const KEYS: &'static [&'static dyn Entry<Source>] = &[
        &Key::<Self, _> {
            name: "packets_per_second",
            kind: PER_SECOND,
            absent: Absent::Default,
            meaning: "Packets that a source may send in a second.",
            get: |source| Some(source.rates.packets_per_second),
            set: |source, value| source.rates.packets_per_second = value,
        },
        &Key::<Self, _> {
            name: "bytes_per_second",
            kind: BYTES_PER_SECOND,
            absent: Absent::Default,
            meaning: "Bytes that a source may send in a second, from the Ethernet header on.",
            get: |source| Some(source.rates.bytes_per_second),
            set: |source, value| source.rates.bytes_per_second = value,
        },
        &Key::<Self, _> {
            name: "new_flows_per_second",
            kind: PER_SECOND,
            absent: Absent::Default,
            meaning: "Flows that a source may open in a second: TCP SYNs, first packets of UDP flows, QUIC Initials.",
            get: |source| Some(source.rates.new_flows_per_second),
            set: |source, value| source.rates.new_flows_per_second = value,
        },
        &Key::<Self, _> {
            name: "burst",
            kind: milliseconds(1, MINUTE),
            absent: Absent::Default,
            meaning: "How much of each rate may come at once, as the time that the rate takes to bring it; always \
                      at least one packet.",
            get: |source| Some(source.burst),
            set: |source, value| source.burst = value,
        },
        &Key::<Self, _> {
            name: "ipv6_prefix",
            kind: Integer { min: 16u8, max: 128, zero: None },
            absent: Absent::Default,
            meaning: "How many bits of an IPv6 address are the source. Networks commonly hand out whole /64s.",
            get: |source| Some(source.ipv6_prefix),
            set: |source, value| source.ipv6_prefix = value,
        },
        &Key::<Self, _> {
            name: "table",
            kind: PowerOfTwo { min: 1 << 10, max: 1 << 26 },
            absent: Absent::Default,
            meaning: "Sources that each of the three tables of buckets has room for, at eight bytes a source. \
                      Sources that find no place share one bucket.",
            get: |source| Some(source.table),
            set: |source, value| source.table = value,
        },
    ];

    fn blank() -> Source {
        Config::default().source
    }
}

impl Section for Newcomers {
    const HEADER: &'static str = "[newcomers]";
    const ABOUT: &'static str = "All sources together that are not proven: that this host has not answered inside \
                                 an established TCP connection, and that no rule names. A spoofed flood ends here.";
    const KEYS: &'static [&'static dyn Entry<Newcomers>] = &[
        &Key::<Self, _> {
            name: "packets_per_second",
            kind: PER_SECOND,
            absent: Absent::Default,
            meaning: "Packets that they may send in a second, all of them together.",
            get: |newcomers| Some(newcomers.packets_per_second),
            set: |newcomers, value| newcomers.packets_per_second = value,
        },
        &Key::<Self, _> {
            name: "proven_for",
            kind: milliseconds(0, 30 * DAY),
            absent: Absent::Default,
            meaning: "How long a source stays proven after it was last answered; at `\"0s\"` nothing is learned.",
            get: |newcomers| Some(newcomers.proven_for),
            set: |newcomers, value| newcomers.proven_for = value,
        },
    ];

    fn blank() -> Newcomers {
        Config::default().newcomers
    }
}

impl Section for Lifeline {
    const HEADER: &'static str = "[[lifeline]]";
    const ABOUT: &'static str = "Peers that are never limited, shed or killed (but by `shedder kill --total`), such \
                                 as an operator's SSH; once for each group of peers. Lifelines that overlap add up. \
                                 They win over rules: a rule that denies nobody but the peers of a lifeline on every \
                                 port is a mistake. So is a lifeline for all addresses on every port, or on the port \
                                 of a service: nothing would be left that a kill could stop.";
    const KEYS: &'static [&'static dyn Entry<Lifeline>] = &[
        &Key::<Self, _> {
            name: "peers",
            kind: PREFIXES,
            absent: Absent::Mistake,
            meaning: "Who.",
            get: |lifeline| Some(lifeline.peers.clone()),
            set: |lifeline, value| lifeline.peers = value,
        },
        &Key::<Self, _> {
            name: "ports",
            kind: List { of: PORT, things: "ports", max: MAX_LIFELINE_PORTS, may_be_empty: false },
            absent: Absent::Means("every port"),
            meaning: "The local TCP and UDP ports; at most 16 for one peer where lifelines overlap.",
            get: |lifeline| (!lifeline.ports.is_empty()).then(|| lifeline.ports.clone()),
            set: |lifeline, value| lifeline.ports = value,
        },
    ];

    fn blank() -> Lifeline {
        Lifeline { peers: Vec::new(), ports: Vec::new() }
    }
}

impl Section for Rule {
    const HEADER: &'static str = "[[rule]]";
    const ABOUT: &'static str = "What holds for some sources, which are proven by being named here; once for each \
                                 group. Where prefixes of several rules contain a source, the longest wins whole: \
                                 what it leaves out is not taken from the others. Together, rules and lifelines may \
                                 use 33 different prefix lengths in each family. A rule needs one key besides \
                                 `sources`; `deny = false` is enough to have the sources proven.";
    const KEYS: &'static [&'static dyn Entry<Rule>] = &[
        &Key::<Self, _> {
            name: "sources",
            kind: PREFIXES,
            absent: Absent::Mistake,
            meaning: "Which sources; a prefix belongs to one rule only.",
            get: |rule| Some(rule.sources.clone()),
            set: |rule, value| rule.sources = value,
        },
        &Key::<Self, _> {
            name: "class",
            kind: CLASSES,
            absent: Absent::Means("the service's"),
            meaning: "How much their flows matter, from `critical` (shed last) to `sheddable` (shed first).",
            get: |rule| rule.class,
            set: |rule, value| rule.class = Some(value),
        },
        &Key::<Self, _> {
            name: "deny",
            kind: Flag,
            absent: Absent::Default,
            meaning: "Drop all they send. The rule's other keys then have no effect.",
            get: |rule| Some(rule.deny),
            set: |rule, value| rule.deny = value,
        },
        &Key::<Self, _> {
            name: "packets_per_second",
            kind: PER_SECOND,
            absent: Absent::Means("`[source]`'s"),
            meaning: "Packets that each of them may send in a second; 0 lifts the limit.",
            get: |rule| rule.packets_per_second,
            set: |rule, value| rule.packets_per_second = Some(value),
        },
        &Key::<Self, _> {
            name: "bytes_per_second",
            kind: BYTES_PER_SECOND,
            absent: Absent::Means("`[source]`'s"),
            meaning: "Bytes that each of them may send in a second; 0 lifts the limit.",
            get: |rule| rule.bytes_per_second,
            set: |rule, value| rule.bytes_per_second = Some(value),
        },
        &Key::<Self, _> {
            name: "new_flows_per_second",
            kind: PER_SECOND,
            absent: Absent::Means("`[source]`'s"),
            meaning: "Flows that each of them may open in a second; 0 lifts the limit.",
            get: |rule| rule.new_flows_per_second,
            set: |rule, value| rule.new_flows_per_second = Some(value),
        },
    ];

    fn blank() -> Rule {
        Rule::default()
    }
}

impl Section for Service {
    const HEADER: &'static str = "[[service]]";
    const ABOUT: &'static str = "What is protected: a local port, with a loop and a cutoff of its own; once for each \
                                 of at most 256 services. Each name and each pair of protocol and port may stand \
                                 once. `signal`, a table described below, says where its latency is observed.";
    const TABLES: &'static [&'static str] = &["signal"];
    const KEYS: &'static [&'static dyn Entry<Service>] = &[
        &Key::<Self, _> {
            name: "name",
            kind: ServiceName,
            absent: Absent::Mistake,
            meaning: "What commands and metrics call it.",
            get: |service| Some(service.name.clone()),
            set: |service, value| service.name = value,
        },
        &Key::<Self, _> {
            name: "protocol",
            kind: PROTOCOLS,
            absent: Absent::Mistake,
            meaning: "Its transport.",
            get: |service| Some(service.protocol),
            set: |service, value| service.protocol = value,
        },
        &Key::<Self, _> {
            name: "port",
            kind: PORT,
            absent: Absent::Mistake,
            meaning: "Its local port.",
            get: |service| Some(service.port),
            set: |service, value| service.port = value,
        },
        &Key::<Self, _> {
            name: "class",
            kind: CLASSES,
            absent: Absent::Default,
            meaning: "The class of flows from sources to which no rule gives one.",
            get: |service| Some(service.class),
            set: |service, value| service.class = value,
        },
        &Key::<Self, _> {
            name: "target",
            kind: Span { min: Duration::from_micros(100), max: Duration::from_secs(60) },
            absent: Absent::Default,
            meaning: "The latency that the loop aims at.",
            get: |service| Some(service.target),
            set: |service, value| service.target = value,
        },
        &Key::<Self, _> {
            name: "quantile",
            kind: Real { min: Excluded(0.0), max: Excluded(1.0) },
            absent: Absent::Default,
            meaning: "Which quantile of the latency is held against the target.",
            get: |service| Some(service.quantile),
            set: |service, value| service.quantile = value,
        },
        &Key::<Self, _> {
            name: "shed",
            kind: SHEDS,
            absent: Absent::Default,
            meaning: "What is shed: `new-flows` only, or all `packets`, those of open connections included.",
            get: |service| Some(service.shed),
            set: |service, value| service.shed = value,
        },
    ];

    fn blank() -> Service {
        Service::new("", Protocol::Tcp, 0)
    }
}

/// The word for a [`Signal`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SignalKind {
    Passive,
    Probe,
    Push,
    None,
}

/// A [`Signal`] as the file says it: not every key goes with every kind.
pub(super) struct SignalKeys {
    pub(super) kind: Option<SignalKind>,
    pub(super) since: Option<Since>,
    pub(super) url: Option<ProbeTarget>,
    pub(super) every: Option<Duration>,
    pub(super) timeout: Option<Duration>,
}

impl SignalKeys {
    /// The keys that only one kind has, and its name.
    pub(super) const OWN: [(&'static str, SignalKind, &'static str); 4] = [
        ("since", SignalKind::Passive, "passive"),
        ("url", SignalKind::Probe, "probe"),
        ("every", SignalKind::Probe, "probe"),
        ("timeout", SignalKind::Probe, "probe"),
    ];
}

impl From<&Signal> for SignalKeys {
    fn from(signal: &Signal) -> Self {
        let bare = |kind| SignalKeys { kind: Some(kind), since: None, url: None, every: None, timeout: None };
        match signal {
            Signal::Passive { since } => SignalKeys { since: Some(*since), ..bare(SignalKind::Passive) },
            Signal::Probe { target, every, timeout } => SignalKeys {
                kind: Some(SignalKind::Probe),
                since: None,
                url: Some(target.clone()),
                every: Some(*every),
                timeout: Some(*timeout),
            },
            Signal::Push => bare(SignalKind::Push),
            Signal::None => bare(SignalKind::None),
        }
    }
}

impl Section for SignalKeys {
    const HEADER: &'static str = "a service's `signal`";
    const ABOUT: &'static str = "Where the service's latency is observed: `signal = { kind = \"probe\", url = \
                                 \"http://127.0.0.1:8080/\" }` or a table `[service.signal]` after the service's other \
                                 keys. Left out, it is `{ kind = \"passive\" }`: the programs see \
                                 each request arrive and its answer leave. A `probe` is asked for by the daemon: a \
                                 GET over plain HTTP, for which any status below 500 is an answer, or a TCP \
                                 connection that opens. With `push` the application sends its latencies to the \
                                 socket `endpoint.push`. With `none` there is no loop: the service has its class, \
                                 its kill and a person's override.";
    const KEYS: &'static [&'static dyn Entry<SignalKeys>] = &[
        &Key::<Self, _> {
            name: "kind",
            kind: SIGNALS,
            absent: Absent::Mistake,
            meaning: "Which signal.",
            get: |signal| signal.kind,
            set: |signal, value| signal.kind = Some(value),
        },
        &Key::<Self, _> {
            name: "since",
            kind: SINCE,
            absent: Absent::Default,
            meaning: "With `passive` only: from when a request's time counts, which ends with the answer's first byte: \
                      from its `first-byte`, or from its `last-byte` before the answer, so that clients that send \
                      slowly do not count.",
            get: |signal| signal.since,
            set: |signal, value| signal.since = Some(value),
        },
        &Key::<Self, _> {
            name: "url",
            kind: ProbeUrl,
            absent: Absent::Means("required for `probe`"),
            meaning: "With `probe` only: what is asked. The address is an IP address (IPv6 in brackets) or `localhost`, which is \
                      127.0.0.1: the loop must not wait for a resolver. `http` has the port 80 unless given.",
            get: |signal| signal.url.clone(),
            set: |signal, value| signal.url = Some(value),
        },
        &Key::<Self, _> {
            name: "every",
            kind: milliseconds(5, 10 * SECOND),
            absent: Absent::Default,
            meaning: "With `probe` only: from one to the next; `control.min_samples` of them must fit into `control.window` where that is given.",
            get: |signal| signal.every,
            set: |signal, value| signal.every = Some(value),
        },
        &Key::<Self, _> {
            name: "timeout",
            kind: milliseconds(10, MINUTE),
            absent: Absent::Means("ten times `target`, but at least `\"1s\"` and at most `\"1m\"`"),
            meaning: "With `probe` only: after which it is a failure; at least `target`.",
            get: |signal| signal.timeout,
            set: |signal, value| signal.timeout = Some(value),
        },
    ];

    fn blank() -> SignalKeys {
        SignalKeys {
            kind: None,
            since: Some(Since::default()),
            url: None,
            every: Some(Signal::PROBE_EVERY),
            timeout: None,
        }
    }
}

impl Section for Control {
    const HEADER: &'static str = "[control]";
    const ABOUT: &'static str = "How the loops work. The output of each is a shed ratio: the fraction of offered \
                                 work to shed, 0 to 1. The error is `(observed - target) / target`.";
    const KEYS: &'static [&'static dyn Entry<Control>] = &[
        &Key::<Self, _> {
            name: "interval",
            kind: milliseconds(5, SECOND),
            absent: Absent::Default,
            meaning: "From one turn of the loops to the next.",
            get: |control| Some(control.interval),
            set: |control, value| control.interval = value,
        },
        &Key::<Self, _> {
            name: "kp",
            kind: GAIN,
            absent: Absent::Default,
            meaning: "Gain on the error: shed ratio per unit of error.",
            get: |control| Some(control.kp),
            set: |control, value| control.kp = value,
        },
        &Key::<Self, _> {
            name: "ki",
            kind: GAIN,
            absent: Absent::Default,
            meaning: "Gain on the error's integral, per second.",
            get: |control| Some(control.ki),
            set: |control, value| control.ki = value,
        },
        &Key::<Self, _> {
            name: "kd",
            kind: GAIN,
            absent: Absent::Default,
            meaning: "Gain on the slope of the filtered measurement, in seconds.",
            get: |control| Some(control.kd),
            set: |control, value| control.kd = value,
        },
        &Key::<Self, _> {
            name: "admission_floor",
            kind: Real { min: Included(0.001), max: Included(1.0) },
            absent: Absent::Default,
            meaning: "The least fraction that is always admitted, so that recovery stays observable.",
            get: |control| Some(control.admission_floor),
            set: |control, value| control.admission_floor = value,
        },
        &Key::<Self, _> {
            name: "slew_up",
            kind: SLEW,
            absent: Absent::Default,
            meaning: "The most that the shed ratio rises in a second.",
            get: |control| Some(control.slew_up),
            set: |control, value| control.slew_up = value,
        },
        &Key::<Self, _> {
            name: "slew_down",
            kind: SLEW,
            absent: Absent::Default,
            meaning: "The most that the shed ratio falls in a second.",
            get: |control| Some(control.slew_down),
            set: |control, value| control.slew_down = value,
        },
        &Key::<Self, _> {
            name: "dead_band",
            kind: Real { min: Included(0.0), max: Included(0.1) },
            absent: Absent::Default,
            meaning: "Smaller changes of the shed ratio are not made.",
            get: |control| Some(control.dead_band),
            set: |control, value| control.dead_band = value,
        },
        &Key::<Self, _> {
            name: "hold",
            kind: milliseconds(0, MINUTE),
            absent: Absent::Default,
            meaning: "How long a missing signal is answered by holding still, before the posture.",
            get: |control| Some(control.hold),
            set: |control, value| control.hold = value,
        },
        &Key::<Self, _> {
            name: "min_samples",
            kind: Integer { min: 1u32, max: 10_000, zero: None },
            absent: Absent::Default,
            meaning: "Fewer samples than this in the window are no signal.",
            get: |control| Some(control.min_samples),
            set: |control, value| control.min_samples = value,
        },
        &Key::<Self, _> {
            name: "window",
            kind: milliseconds(20, MINUTE),
            absent: Absent::Default,
            meaning: "How far back samples count; at least `interval`. A passive signal looks back further where fewer than `min_samples` are found. Where it is left out, it is longer than its default if `interval` or a probe's `every` needs that.",
            get: |control| Some(control.window),
            set: |control, value| control.window = value,
        },
        &Key::<Self, _> {
            name: "reflex",
            kind: Real { min: Included(0.0), max: Included(1000.0) },
            absent: Absent::Default,
            meaning: "With `passive` only: where answers leave that took longer than this many targets, and more of them \
                      than chance explains, the programs shed the least important class (or half of the only one) at \
                      once, and until the loop's next turn takes over. 0: never.",
            get: |control| Some(control.reflex),
            set: |control, value| control.reflex = value,
        },
    ];

    fn blank() -> Control {
        Control::default()
    }
}

impl Section for Endpoint {
    const HEADER: &'static str = "[endpoint]";
    const ABOUT: &'static str = "Where metrics and health are served, and where latencies are pushed to.";
    const KEYS: &'static [&'static dyn Entry<Endpoint>] = &[
        &Key::<Self, _> {
            name: "listen",
            kind: Listen,
            absent: Absent::Default,
            meaning: "Where `/metrics`, `/healthz` and `/readyz` are served over HTTP; `\"none\"`: nowhere.",
            get: |endpoint| Some(endpoint.listen),
            set: |endpoint, value| endpoint.listen = value,
        },
        &Key::<Self, _> {
            name: "push",
            kind: SocketPath,
            absent: Absent::Default,
            meaning: "The datagram socket of `push` signals.",
            get: |endpoint| Some(endpoint.push.clone()),
            set: |endpoint, value| endpoint.push = value,
        },
    ];

    fn blank() -> Endpoint {
        Config::default().endpoint
    }
}
