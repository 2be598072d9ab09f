//! The layout of the maps: what a program and a daemon of different builds must agree on.

use crate::bucket::{Rate, Set, WAYS};
use crate::class::{Cutoff, PRIORITIES};
use crate::hash::HashKey;
use crate::histogram::BUCKETS;
use crate::prefix::PrefixHash;
use crate::reason::REASONS;
use crate::word::Word;
use bytemuck::{Pod, Zeroable};

/// Changes whenever anything in this file, or the meaning of a word in a map, does.
pub const ABI_VERSION: u32 = 9;

/// First word of [`Meta`], so that a foreign map is told from ours.
pub const MAGIC: u32 = 0x5348_4544;

/// Interfaces that one set of maps serves.
pub const MAX_INTERFACES: usize = 64;

/// Services that one set of maps serves.
pub const MAX_SERVICES: usize = 256;

/// Distinct prefix lengths that rules and lifelines may use, in each family.
pub const MAX_PREFIX_LENGTHS: usize = 33;

/// Ports that the lifelines of one peer may name together.
pub const MAX_LIFELINE_PORTS: usize = 16;

/// Bytes of a name in a map, the closing zero included.
pub const NAME_LEN: usize = 32;

/// Names of the pinned maps, which are also the names of their pins.
pub mod maps {
    /// [`Meta`](super::Meta).
    pub const META: &str = "META";
    /// [`Kills`](super::Kills).
    pub const KILLS: &str = "KILLS";
    /// [`Control`](super::Control).
    pub const CONTROL: &str = "CONTROL";
    /// [`OfInterface`](super::OfInterface), by interface and CPU.
    pub const COUNTERS: &str = "COUNTERS";
    /// Buckets of packets per source.
    pub const PACKETS: &str = "PACKETS";
    /// Buckets of bytes per source.
    pub const BYTES: &str = "BYTES";
    /// Buckets of new flows per source.
    pub const NEW_FLOWS: &str = "NEW_FLOWS";
    /// [`Shared`](super::Shared) buckets.
    pub const SHARED: &str = "SHARED";
    /// Proven sources.
    pub const PROVEN: &str = "PROVEN";
    /// Known UDP flows.
    pub const UDP_FLOWS: &str = "UDP_FLOWS";
    /// [`Interface`](super::Interface)s.
    pub const INTERFACES: &str = "INTERFACES";
    /// [`Service`](super::Service)s.
    pub const SERVICES: &str = "SERVICES";

    /// Which flows have their requests measured, [`FLOW_SETS`](super::FLOW_SETS) sets of them, and when they were last heard
    /// of. By themselves, because the daemon looks through all of them at every turn, and most are empty.
    pub const FLOW_KEYS: &str = "FLOW_KEYS";
    /// [`FlowSet`](super::FlowSet)s: what is known of those flows.
    pub const FLOWS: &str = "FLOWS";

    /// State: lives as long as the pins, whatever program or daemon comes and goes.
    pub const STATE: [&str; 14] = [
        META, KILLS, CONTROL, COUNTERS, PACKETS, BYTES, NEW_FLOWS, SHARED, PROVEN, UDP_FLOWS, INTERFACES,
        SERVICES, FLOW_KEYS, FLOWS,
    ];

    /// [`PrefixSet`](crate::prefix::PrefixSet)s of [`Prefix4`](super::Prefix4).
    pub const PREFIXES4: &str = "PREFIXES4";
    /// [`PrefixSet`](crate::prefix::PrefixSet)s of [`Prefix6`](super::Prefix6).
    pub const PREFIXES6: &str = "PREFIXES6";
    /// [`PrefixPolicy`](super::PrefixPolicy), by the entry of a prefix; first, of the sources that are in none.
    pub const RULES: &str = "RULES";
    /// [`Ports`](super::Ports).
    pub const PORTS: &str = "PORTS";
    /// [`Offered`](super::Offered), by service and CPU.
    pub const OFFERED: &str = "OFFERED";

    /// [`Measured`](super::Measured), by service and CPU.
    pub const MEASURED: &str = "MEASURED";

    /// Policy: made anew with each configuration, and replaced together with the programs that read it.
    pub const POLICY: [&str; 6] = [PREFIXES4, PREFIXES6, RULES, PORTS, OFFERED, MEASURED];

    /// In which every CPU has entries of its own: those of one interface or service side by side, as many as
    /// [`Policy::cpu_mask`](super::Policy::cpu_mask) has place for.
    pub const BY_CPU: [&str; 3] = [COUNTERS, OFFERED, MEASURED];
}

/// What these maps are. Written last when they are made: maps without it are not finished.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub struct Meta {
    /// [`MAGIC`].
    pub magic: u32,
    /// [`ABI_VERSION`] of the build that made the maps.
    pub abi: u32,
    /// The key under which sources are hashed.
    pub key: HashKey,
    /// Counts policies: which directory under `policy/` is in force.
    pub generation: u64,
}

/// Every kill: the switch.
#[repr(C)]
#[derive(Debug)]
pub struct Kills {
    /// On every interface.
    pub host: Word,
    /// On one interface, by its slot.
    pub interfaces: [Word; MAX_INTERFACES],
    /// Of one service, by its slot.
    pub services: [Word; MAX_SERVICES],
}

/// What the loop and a person say to the adaptive part.
#[repr(C)]
#[derive(Debug)]
pub struct Control {
    /// When the daemon's lease lapses, in nanoseconds of CLOCK_MONOTONIC. 0: no daemon ever held one.
    pub lease: Word,
    /// [`OverrideWord`](crate::words::OverrideWord) for all services and the traffic of none.
    pub host_override: Word,
    /// By the service's slot.
    pub services: [ServiceControl; MAX_SERVICES],
}

/// What the loop and a person say of one service, on a line of its own.
#[repr(C, align(64))]
#[derive(Debug, Default)]
pub struct ServiceControl {
    /// Written by the loop: the cutoff, in a form in which a fresh map's zero sheds nothing. See
    /// [`ServiceControl::cutoff`].
    pub shed: Word,
    /// [`OverrideWord`](crate::words::OverrideWord) of this service.
    pub override_word: Word,
    /// [`ReflexWord`](crate::words::ReflexWord): written by the loop in each turn.
    pub reflex: Word,
    /// Answers since the loop's last turn that were later than the reflex allows. Counted on egress by any CPU, now and
    /// then one too few; set to 0 by the loop when it arms the reflex again.
    pub late: Word,
    /// Flows are measured whose hash, as 32 bits, is at least this; 0: all. Written by the loop.
    pub skip: Word,
    /// Keeps the line whole.
    pub spare: [Word; 3],
}

impl ServiceControl {
    /// The loop's cutoff.
    #[inline(always)]
    pub fn cutoff(&self) -> Cutoff {
        Cutoff::from_distance(self.shed.load())
    }

    /// Sets the loop's cutoff.
    pub fn set_cutoff(&self, cutoff: impl Into<Cutoff>) {
        self.shed.store(cutoff.into().distance().into());
    }
}

/// Packets and bytes that met one reason.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Cell {
    /// Packets.
    pub packets: u64,
    /// Bytes, from the Ethernet header on.
    pub bytes: u64,
}

impl Cell {
    /// Counts a packet of so many bytes.
    #[inline(always)]
    pub fn add(&mut self, length: usize) {
        self.packets += 1;
        self.bytes += length as u64;
    }
}

/// Things worth counting that are no verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Event {
    /// A source found no place in the table and was charged to the bucket that all such share.
    NoPlace = 0,
    /// A proven source was forgotten before its time, to make room.
    ProvenEvicted = 1,
    /// A UDP flow was forgotten before its time, to make room.
    UdpFlowEvicted = 2,
}

/// Room for [`Event`]s; a power of two.
pub const EVENTS: usize = 8;

/// The counters of one interface on one CPU. Where a program runs dry, what it would have dropped is counted apart
/// from what it drops.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub struct InterfaceCounters {
    /// What arrives, by [`Reason`](crate::reason::Reason).
    pub ingress: [Cell; REASONS],
    /// What arrives and is judged dry.
    pub ingress_dry: [Cell; REASONS],
    /// What leaves.
    pub egress: [Cell; REASONS],
    /// What leaves and is judged dry.
    pub egress_dry: [Cell; REASONS],
    /// By [`Event`].
    pub events: [u64; EVENTS],
}

/// What one CPU has of one interface. As long as a power of two, so that its place is found without a multiplication, and of whole
/// lines, so that no other CPU writes to a line of it, or beside one.
#[repr(C, align(2048))]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct OfInterface {
    /// [`Room`](crate::room::Room) of the packet that is judged: nobody else's business.
    pub room: [u64; ROOM],
    /// What it counted.
    pub counters: InterfaceCounters,
    /// The rest of it.
    pub spare: [u64; (2048 - size_of::<InterfaceCounters>()) / 8 - ROOM],
}

/// Words of a [`Room`](crate::room::Room).
pub const ROOM: usize = size_of::<crate::room::Room>() / 8;

/// Buckets that stand alone, each on a line of its own.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Shared {
    /// Packets of all newcomers.
    pub newcomers: Line,
    /// Packets of the sources that found no place.
    pub packets: Line,
    /// Bytes of the sources that found no place.
    pub bytes: Line,
    /// New flows of the sources that found no place.
    pub new_flows: Line,
}

/// A word alone on its cache line.
#[repr(C, align(64))]
#[derive(Debug, Default)]
pub struct Line(pub Word);

/// An interface that has a slot. The pins of its links carry the slot's number.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub struct Interface {
    /// The index that the interface had when it was attached; 0: the slot is free.
    pub index: u32,
    /// 0: not attached; 1: native; 2: generic.
    pub mode: u32,
    /// Its name when it was attached, closed by zeros.
    pub name: [u8; NAME_LEN],
    /// Whether its programs run dry.
    pub dry_run: u32,
    /// Ids of the programs that were attached: XDP, tcx.
    pub programs: [u32; 2],
    /// One of the `POSTURE_` constants of [`Policy`]: what its programs do without a live daemon.
    pub posture: u32,
}

/// A service that has a slot, and what the daemon last reported of it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub struct Service {
    /// Closed by zeros; empty: the slot is free.
    pub name: [u8; NAME_LEN],
    /// Local port.
    pub port: u16,
    /// 6: TCP, 17: UDP.
    pub protocol: u8,
    /// [`Class`](crate::class::Class) of a source that no rule names.
    pub class: u8,
    /// 1: every packet is shed, not new flows only.
    pub every_packet: u8,
    /// Where its latency is observed: one of the `SIGNAL_` constants.
    pub signal: u8,
    /// Keeps what follows aligned.
    pub reserved: [u8; 2],
    /// Latency that the loop aims at, in nanoseconds.
    pub target: u64,
    /// Latency that the loop last saw, in nanoseconds; 0: none yet.
    pub observed: u64,
    /// When it saw that, in nanoseconds of CLOCK_MONOTONIC.
    pub observed_at: u64,
    /// The loop's shed ratio in thousandths.
    pub permille: u64,
}

impl Service {
    /// No latency is observed.
    pub const SIGNAL_NONE: u8 = 0;
    /// The programs see it.
    pub const SIGNAL_PASSIVE: u8 = 1;
    /// The daemon asks.
    pub const SIGNAL_PROBE: u8 = 2;
    /// The application tells.
    pub const SIGNAL_PUSH: u8 = 3;
}

/// What one CPU was offered of a service, by priority: the work that a cutoff can shed. In whole lines, as all that a CPU has for
/// itself.
#[repr(C, align(128))]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Offered {
    /// Flows (packets, where the service sheds packets); wraps. The places past the last priority stay empty.
    pub by_priority: [u32; OFFERED_PLACES],
}

/// Places for priorities: the next power of two, so that the verifier sees an index inside the array.
pub const OFFERED_PLACES: usize = (PRIORITIES as usize).next_power_of_two();

/// What one CPU saw of one service's measured flows: the passive signal. Every count wraps. In whole lines.
#[repr(C, align(128))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Measured {
    /// Requests that were answered, by [`bucket`](crate::histogram::bucket) of the time from the request's first byte
    /// that arrived to the answer's first byte that left.
    pub answered: [u32; BUCKETS],
    /// Requests that ended without an answer, by the bucket of the time that they had waited by then: the peer gave
    /// up, or this host closed or reset the connection.
    pub abandoned: [u32; BUCKETS],
    /// By [`Exchange`].
    pub exchanges: [u32; EXCHANGES],
}

/// What happens between a service and its peers, counted for the flows that are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exchange {
    /// A request arrived.
    Request = 0,
    /// A connection was asked for: the first SYN of a flow.
    Syn = 1,
    /// A connection was asked for again, which was not answered yet.
    SynRepeated = 2,
    /// A connection was agreed to: SYN and ACK left.
    SynAnswered = 3,
    /// A connection was refused: RST left where a SYN had come.
    Refused = 4,
    /// An established connection was reset by this host.
    ResetByHost = 5,
    /// An established connection was reset by the peer.
    ResetByPeer = 6,
    /// A request ended without an answer because this host closed or reset the connection.
    ClosedUnanswered = 7,
    /// An answer left whose request had been lost from the measurement.
    Unmatched = 8,
    /// A flow was not measured, because every way of its set was taken by requests in flight.
    NoPlace = 9,
    /// A plaintext HTTP/1 answer of status 200 to 299 left.
    Status2xx = 10,
    /// One of status 300 to 399.
    Status3xx = 11,
    /// One of status 400 to 499.
    Status4xx = 12,
    /// One of status 500 to 599.
    Status5xx = 13,
}

impl Exchange {
    /// All of them, in order.
    pub const ALL: [Exchange; 14] = [
        Exchange::Request,
        Exchange::Syn,
        Exchange::SynRepeated,
        Exchange::SynAnswered,
        Exchange::Refused,
        Exchange::ResetByHost,
        Exchange::ResetByPeer,
        Exchange::ClosedUnanswered,
        Exchange::Unmatched,
        Exchange::NoPlace,
        Exchange::Status2xx,
        Exchange::Status3xx,
        Exchange::Status4xx,
        Exchange::Status5xx,
    ];

    /// The name that metrics, status and documents use.
    pub const fn name(self) -> &'static str {
        match self {
            Exchange::Request => "request",
            Exchange::Syn => "syn",
            Exchange::SynRepeated => "syn-repeated",
            Exchange::SynAnswered => "syn-answered",
            Exchange::Refused => "refused",
            Exchange::ResetByHost => "reset-by-host",
            Exchange::ResetByPeer => "reset-by-peer",
            Exchange::ClosedUnanswered => "closed-unanswered",
            Exchange::Unmatched => "unmatched",
            Exchange::NoPlace => "no-place",
            Exchange::Status2xx => "2xx",
            Exchange::Status3xx => "3xx",
            Exchange::Status4xx => "4xx",
            Exchange::Status5xx => "5xx",
        }
    }

    /// Whether it is the status of an HTTP answer.
    pub const fn is_status(self) -> bool {
        matches!(self, Exchange::Status2xx | Exchange::Status3xx | Exchange::Status4xx | Exchange::Status5xx)
    }
}

/// Room for [`Exchange`]s; a power of two.
pub const EXCHANGES: usize = 32;

/// Sets in the table of measured flows, a power of two: room for 16,384 of them.
pub const FLOW_SETS: usize = 2048;

/// What is known of the flows that share a set, word by word: what is read of every flow lies together. Which they are has a map of
/// its own. See [`flows`](crate::flows).
#[repr(C, align(64))]
#[derive(Debug, Default)]
pub struct FlowSet {
    /// What arrived, written by ingress alone.
    pub arrived: Set,
    /// What left, written by egress, and by ingress where egress missed something.
    pub answered: Set,
    /// What was jumped over, written by ingress alone.
    pub holes: Set,
    /// Bytes of the last segment in which an HTTP/1 request was found to be alone, written by ingress alone.
    pub singles: Set,
    /// Way by way.
    pub flows: [Flow; WAYS],
}

/// What is in flight on one flow, written by ingress alone.
#[repr(C, align(64))]
#[derive(Debug, Default)]
pub struct Flow {
    /// Requests that arrived together, a ring.
    pub batches: [Word; FLOW_BATCHES],
}

/// Batches of requests that a flow may have in flight; a power of two, at most 32.
pub const FLOW_BATCHES: usize = 32;

/// Which service a local port belongs to, for TCP and UDP.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Ports {
    /// [`PortEntry`] by TCP port.
    pub tcp: [u16; 65536],
    /// [`PortEntry`] by UDP port.
    pub udp: [u16; 65536],
}

/// A service's slot, class and manner of shedding, in the table of ports: zero is no service.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortEntry(pub u16);

impl PortEntry {
    const PRESENT: u16 = 1 << 15;
    const EVERY_PACKET: u16 = 1 << 14;
    const MEASURED: u16 = 1 << 13;
    const SINCE_LAST_BYTE: u16 = 1 << 12;

    /// The entry of a service.
    pub const fn new(slot: u8, class: u8, every_packet: bool) -> PortEntry {
        let flags = Self::PRESENT | if every_packet { Self::EVERY_PACKET } else { 0 };
        PortEntry(flags | (class as u16 & 7) << 8 | slot as u16)
    }

    /// The same entry, of a service whose requests and answers are measured: from a request's first byte, or from its
    /// last.
    pub const fn measured(self, since_last_byte: bool) -> PortEntry {
        let since = if since_last_byte { Self::SINCE_LAST_BYTE } else { 0 };
        PortEntry(self.0 | Self::MEASURED | since)
    }

    /// Whether a request's time counts from its last byte that arrived before the answer, not from its first.
    #[inline(always)]
    pub const fn is_since_last_byte(self) -> bool {
        self.0 & Self::SINCE_LAST_BYTE != 0
    }

    /// Whether the service's requests and answers are measured.
    #[inline(always)]
    pub const fn is_measured(self) -> bool {
        self.0 & Self::MEASURED != 0
    }

    /// Whether the port belongs to a service.
    #[inline(always)]
    pub const fn is_service(self) -> bool {
        self.0 != 0
    }

    /// The service's slot.
    #[inline(always)]
    pub const fn slot(self) -> usize {
        self.0 as usize & 0xff
    }

    /// The class of a source that no rule names.
    #[inline(always)]
    pub const fn class(self) -> u8 {
        (self.0 >> 8) as u8 & 7
    }

    /// Whether every packet is shed, not new flows only.
    #[inline(always)]
    pub const fn every_packet(self) -> bool {
        self.0 & Self::EVERY_PACKET != 0
    }
}

/// Limits of one source.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Limits {
    /// Packets.
    pub packets: Rate,
    /// Bytes.
    pub bytes: Rate,
    /// New flows.
    pub new_flows: Rate,
}

/// An IPv4 prefix: the address in host order, masked.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct Prefix4 {
    /// Masked to `length` bits.
    pub address: u32,
    /// 0 to 32.
    pub length: u32,
}

/// An IPv6 prefix: the address as two words in host order, masked.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct Prefix6 {
    /// The upper 64 bits, masked.
    pub high: u64,
    /// The lower 64 bits, masked.
    pub low: u64,
    /// 0 to 128.
    pub length: u64,
}

/// What holds for the sources of one prefix. Whoever fills the map has resolved what overlaps: the longest match
/// carries the rule and every lifeline that covers it, so that one match is enough.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct PrefixPolicy {
    /// [`PrefixPolicy::RULE`] and its neighbours.
    pub flags: u32,
    /// The class, where [`PrefixPolicy::CLASS`] is set.
    pub class: u32,
    /// The local ports of the lifeline, `port_count` of them.
    pub ports: [u16; MAX_LIFELINE_PORTS],
    /// How many of `ports` count.
    pub port_count: u64,
    /// The limits, inherited ones included.
    pub limits: Limits,
}

impl PrefixPolicy {
    /// A rule names these sources: they are proven.
    pub const RULE: u32 = 1;
    /// The rule says drop.
    pub const DENY: u32 = 2;
    /// The rule gives a class.
    pub const CLASS: u32 = 4;
    /// A lifeline on every port.
    pub const LIFELINE: u32 = 8;
    /// A lifeline on some ports.
    pub const LIFELINE_PORTS: u32 = 16;
}

/// What a program knows from the moment it is loaded: its read-only data, frozen before the verifier sees it, so
/// that what is off costs nothing. What every packet asks for is in the first two cache lines.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Policy {
    /// [`ABI_VERSION`] of the daemon that filled this in.
    pub abi: u32,
    /// [`Policy::DRY_RUN`] and its neighbours.
    pub flags: u32,
    /// The slot of the interface that the program is attached to, below [`MAX_INTERFACES`].
    pub interface: u32,
    /// CPUs that have a place in each table of [`maps::BY_CPU`], minus one; a power of two minus one.
    pub cpu_mask: u32,
    /// One of the `POSTURE_` constants.
    pub posture: u32,
    /// Class of the traffic of no service, from sources that no rule names.
    pub default_class: u32,
    /// Sets in each table of buckets, minus one; a power of two minus one.
    pub set_mask: u32,
    /// Sets in the tables of proven sources and of UDP flows, minus one.
    pub memory_mask: u32,
    /// Under which sources are hashed.
    pub key: HashKey,
    /// Of a source that no rule gives others.
    pub limits: Limits,
    /// What the kernel counts as a tick, in nanoseconds.
    pub tick: u64,
    /// The furthest that an arrival time of any rate in force can be ahead: packets, bytes, new flows; 0: no rate is.
    pub horizons: [u64; 3],
    /// Which slot of [`Offered`] the traffic of no service is counted in: the last.
    pub offered_none: u64,
    /// Entries in the tables that have one for each service, or none, and CPU.
    pub service_entries: u64,
    /// Packets of all newcomers together.
    pub newcomers: Rate,
    /// How long a source stays proven, in units of 2^30 ns; 0: nothing is learned.
    pub proven_ttl: u64,
    /// How long a silent UDP flow is known, in units of 2^30 ns.
    pub udp_flow_ttl: u64,
    /// How long one key of the cohorts lasts, in nanoseconds.
    pub rotation: u64,
    /// What of an IPv6 address is the source: upper and lower 64 bits.
    pub source_mask6: [u64; 2],
    /// Entries in the table of rules.
    pub rules: u64,
    /// Where an IPv4 prefix is looked for.
    pub prefix_hash4: PrefixHash,
    /// Where an IPv6 prefix is looked for.
    pub prefix_hash6: PrefixHash,
    /// How many of `lengths4` count.
    pub length_count4: u32,
    /// How many of `lengths6` count.
    pub length_count6: u32,
    /// Prefix lengths in use, the longest first.
    pub lengths4: [u32; MAX_PREFIX_LENGTHS],
    /// Prefix lengths in use, the longest first.
    pub lengths6: [u32; MAX_PREFIX_LENGTHS],
}

impl Policy {
    /// Count every reason and drop nothing.
    pub const DRY_RUN: u32 = 1;
    /// Judge by the precise clock; else by the coarse one.
    pub const PRECISE_CLOCK: u32 = 2;
    /// There are services.
    pub const SERVICES: u32 = 4;
    /// There are lifelines.
    pub const LIFELINES: u32 = 8;
    /// There are services whose requests and answers are measured.
    pub const MEASURED: u32 = 16;
    /// There are rules or lifelines.
    pub const PREFIXES: u32 = 32;

    /// Every flag: what the programs that judge and measure everything are compiled for.
    pub const ANY: u32 = u32::MAX;
    /// What the programs are compiled for that measure nothing.
    pub const UNMEASURED: u32 = !Policy::MEASURED;
    /// What the programs are compiled for that tell nothing apart but sources, and do what they say.
    pub const PLAIN: u32 = Policy::PRECISE_CLOCK;

    /// Without a live daemon nothing is shed adaptively.
    pub const POSTURE_OPEN: u32 = 0;
    /// Without a live daemon the last cutoff holds.
    pub const POSTURE_HOLD: u32 = 1;
    /// Without a live daemon everything but lifelines is dropped.
    pub const POSTURE_CLOSED: u32 = 2;
}

macro_rules! assert_layout {
    ($($type:ty: $size:expr, $align:expr;)*) => {
        $(const _: () = assert!(size_of::<$type>() == $size && align_of::<$type>() == $align);)*
    };
}

assert_layout! {
    Meta: 48, 8;
    Kills: 8 * (1 + MAX_INTERFACES + MAX_SERVICES), 8;
    ServiceControl: 64, 64;
    Control: 64 + 64 * MAX_SERVICES, 64;
    Cell: 16, 8;
    InterfaceCounters: 4 * 16 * REASONS + 8 * EVENTS, 8;
    OfInterface: 2048, 2048;
    Shared: 256, 64;
    Set: 64, 64;
    Interface: 56, 4;
    Service: 72, 8;
    Offered: 4 * OFFERED_PLACES, 128;
    Measured: 4 * (2 * BUCKETS + EXCHANGES), 128;
    Flow: 8 * FLOW_BATCHES, 64;
    FlowSet: 4 * 64 + 8 * WAYS * FLOW_BATCHES, 64;
    Ports: 4 * 65536, 2;
    Rate: 16, 8;
    Limits: 48, 8;
    Prefix4: 8, 4;
    Prefix6: 24, 8;
    PrefixPolicy: 96, 8;
    HashKey: 32, 8;
}
