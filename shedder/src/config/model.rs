//! What a valid configuration says. Nothing here can hold a value that the rest could not act on.

use ipnet::IpNet;
use shedder_common::class::Class;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// A whole configuration. [`Config::default`] measures, counts, kills on demand, and limits nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Interfaces to attach to, by name; each once.
    pub interfaces: Vec<String>,
    /// How the XDP program is attached.
    pub mode: Mode,
    /// Judge and count, but drop nothing.
    pub dry_run: bool,
    /// What adaptive shedding does without a live daemon.
    pub posture: Posture,
    /// How long the daemon's heartbeat is good for: 100 ms to 60 s.
    pub lease: Duration,
    /// Whether the programs stay attached when the daemon ends in good order.
    pub persist: bool,
    /// How long one key of the cohorts lasts: 1 min to 1 day.
    pub rotation: Duration,
    /// Every source's buckets.
    pub source: Source,
    /// All sources that are not proven, together.
    pub newcomers: Newcomers,
    /// Peers that are never limited, shed or killed.
    pub lifelines: Vec<Lifeline>,
    /// What holds for some sources; the longest prefix wins.
    pub rules: Vec<Rule>,
    /// What is protected, each by a loop of its own.
    pub services: Vec<Service>,
    /// How the loops work.
    pub control: Control,
    /// Where metrics and health are served.
    pub endpoint: Endpoint,
}

/// How the XDP program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Native where the driver can, else generic.
    Auto,
    /// Native or not at all.
    Native,
    /// Generic.
    Generic,
}

/// What adaptive shedding does without a live daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Posture {
    /// It stops; limits and kills hold.
    Open,
    /// It keeps the last cutoff.
    Hold,
    /// Everything but lifelines is dropped.
    Closed,
}

/// Rates a second; 0 is no limit. At most 10^9 packets and flows, and 1,500 to 10^12 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// Packets.
    pub packets_per_second: u64,
    /// Bytes, from the Ethernet header on.
    pub bytes_per_second: u64,
    /// New flows: TCP SYN, the first packet of a UDP flow, a QUIC Initial.
    pub new_flows_per_second: u64,
}

/// Every source's buckets.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    /// Its rates.
    pub rates: Rates,
    /// How much of each rate may come at once: 1 ms to 60 s.
    pub burst: Duration,
    /// How many bits of an IPv6 address are the source: 16 to 128.
    pub ipv6_prefix: u8,
    /// Sources that each table of buckets has room for: a power of two, 1,024 to 2^26. Eight bytes each.
    pub table: u32,
}

/// All sources that are not proven, together.
#[derive(Clone, Debug, PartialEq)]
pub struct Newcomers {
    /// 0 is no limit.
    pub packets_per_second: u64,
    /// How long a source stays proven: 0 (nothing is learned) to 30 days.
    pub proven_for: Duration,
}

/// Peers that are never limited, shed or killed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lifeline {
    /// Who.
    pub peers: Vec<IpNet>,
    /// Local ports; empty: every port.
    pub ports: Vec<u16>,
}

/// What holds for some sources.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// Which.
    pub sources: Vec<IpNet>,
    /// Their class, in place of the service's.
    pub class: Option<Class>,
    /// Drop them.
    pub deny: bool,
    /// In place of `[source]`'s; `Some(0)` lifts the limit.
    pub packets_per_second: Option<u64>,
    /// In place of `[source]`'s.
    pub bytes_per_second: Option<u64>,
    /// In place of `[source]`'s.
    pub new_flows_per_second: Option<u64>,
}

/// What is protected.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// 1 to 31 bytes of a-z, A-Z, 0-9, `-`, `_`, `.`; each once.
    pub name: String,
    /// Its transport.
    pub protocol: Protocol,
    /// Its local port; (protocol, port) each once.
    pub port: u16,
    /// The class of a source that no rule names.
    pub class: Class,
    /// The latency that the loop aims at: 100 us to 60 s.
    pub target: Duration,
    /// Which quantile of the latency: above 0, below 1.
    pub quantile: f64,
    /// What is shed.
    pub shed: Shed,
    /// Where its latency is observed.
    pub signal: Signal,
}

impl Service {
    /// A service of which a file says no more than this.
    pub fn new(name: impl Into<String>, protocol: Protocol, port: u16) -> Service {
        Service {
            name: name.into(),
            protocol,
            port,
            class: Class::Normal,
            target: Duration::from_millis(50),
            quantile: 0.99,
            shed: Shed::NewFlows,
            signal: Signal::Passive { since: Since::default() },
        }
    }
}

/// A transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// What is shed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shed {
    /// New flows only.
    NewFlows,
    /// Every packet.
    Packets,
}

/// Where a service's latency is observed.
#[derive(Clone, Debug, PartialEq)]
pub enum Signal {
    /// Seen by the programs in the kernel: `{ kind = "passive" }`.
    Passive {
        /// From when a request's time counts.
        since: Since,
    },
    /// Asked for by the daemon: `{ kind = "probe", url = "http://127.0.0.1:8080/" }` or `url = "tcp://127.0.0.1:5432"`.
    Probe {
        /// What is asked.
        target: ProbeTarget,
        /// How often: 5 ms to 10 s.
        every: Duration,
        /// After which a probe is a failure: 10 ms to 60 s.
        timeout: Duration,
    },
    /// Told by the application: datagrams to the daemon's socket, `{ kind = "push" }`.
    Push,
    /// No latency is observed: the service is known for its class, a person's override and its kill only:
    /// `{ kind = "none" }`.
    None,
}

/// From when a request's time counts in a passive signal, which ends with the answer's first byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Since {
    /// From its first byte: how long the client waits, its own slowness included.
    #[default]
    FirstByte,
    /// From its last byte before the answer: what the service takes, however slowly a client sends.
    LastByte,
}

impl Signal {
    /// Whether the programs see it.
    pub fn is_passive(&self) -> bool {
        matches!(self, Signal::Passive { .. })
    }

    /// How often a probe is made unless configured.
    pub const PROBE_EVERY: Duration = Duration::from_millis(20);

    /// After which a probe is a failure unless configured: ten times the service's `target`, but at least a second,
    /// so that an overloaded service is still seen to answer, and at most a minute.
    pub fn probe_timeout(target: Duration) -> Duration {
        (target * 10).clamp(Duration::from_secs(1), Duration::from_secs(60))
    }
}

/// What a probe asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeTarget {
    /// A GET over plain HTTP/1.1; any status below 500 is an answer.
    Http {
        /// Where it connects.
        address: SocketAddr,
        /// The `Host` header.
        host: String,
        /// Path and query.
        path: String,
    },
    /// A TCP connection that opens.
    Tcp {
        /// Where it connects.
        address: SocketAddr,
    },
}

/// How the loops work.
#[derive(Clone, Debug, PartialEq)]
pub struct Control {
    /// Between two turns: 5 ms to 1 s.
    pub interval: Duration,
    /// Gain on the error, for a loop with no dead time beside the target: shed ratio (more exactly, effort: see
    /// `control::pid`) per unit of (observed - target) / target; 0 to 10^6.
    pub kp: f64,
    /// Gain on the error's integral, for such a loop: per dead time; 0 to 10^6.
    pub ki: f64,
    /// Gain on the filtered measurement's slope, for such a loop: dead times; 0 to 10^6.
    pub kd: f64,
    /// The least fraction that is always admitted: 0.001 to 1.
    pub admission_floor: f64,
    /// The most that the shed ratio rises in a second: above 0, at most 10^6.
    pub slew_up: f64,
    /// The most that the shed ratio falls in a second: above 0, at most 10^6.
    pub slew_down: f64,
    /// Changes of the shed ratio smaller than this are not made: 0 to 0.1.
    pub dead_band: f64,
    /// How long a missing signal is answered by holding still: 0 to 60 s.
    pub hold: Duration,
    /// Fewer samples than this in the window are no signal: 1 to 10,000.
    pub min_samples: u32,
    /// How far back samples count: 20 ms to 60 s.
    pub window: Duration,
    /// With a passive signal: from how many targets on an answer is so late that the kernel sheds by itself when some
    /// are, without waiting for the next turn: 0 (never) to 1,000.
    pub reflex: f64,
}

/// Where metrics and health are served, and where latencies are pushed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// None: no endpoint.
    pub listen: Option<SocketAddr>,
    /// The socket of `push` signals.
    pub push: PathBuf,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            interfaces: Vec::new(),
            mode: Mode::Auto,
            dry_run: false,
            posture: Posture::Open,
            lease: Duration::from_secs(2),
            persist: false,
            rotation: Duration::from_secs(3600),
            source: Source {
                rates: Rates::default(),
                burst: Duration::from_millis(100),
                ipv6_prefix: 64,
                table: 1 << 20,
            },
            newcomers: Newcomers { packets_per_second: 0, proven_for: Duration::from_secs(3600) },
            lifelines: Vec::new(),
            rules: Vec::new(),
            services: Vec::new(),
            control: Control::default(),
            endpoint: Endpoint {
                listen: Some(SocketAddr::from(([127, 0, 0, 1], 9477))),
                push: PathBuf::from("/run/shedder/push.sock"),
            },
        }
    }
}

impl Control {
    /// The longest `window`.
    pub const LONGEST_WINDOW: Duration = Duration::from_secs(60);
}

impl Default for Control {
    fn default() -> Self {
        Control {
            interval: Duration::from_millis(20),
            kp: 0.8,
            ki: 0.3,
            kd: 0.35,
            admission_floor: 0.02,
            slew_up: 50.0,
            slew_down: 5.0,
            dead_band: 0.002,
            hold: Duration::from_secs(1),
            min_samples: 3,
            window: Duration::from_millis(100),
            reflex: 4.0,
        }
    }
}
