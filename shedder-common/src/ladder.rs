//! The verdict: in which order a packet meets what may stop it. The first that decides, ends.

use crate::abi::{
    Control, Event, Kills, Limits, MAX_INTERFACES, MAX_SERVICES, Policy, PortEntry, Prefix4, Prefix6,
};
use crate::abi::{PrefixPolicy, Shared};
use crate::bucket::{self, Admission, Look, Place, Rate, Set};
use crate::class::{COHORTS, Cutoff, priority};
use crate::flows::{Segment, sample};
use crate::hash::{mix, mix_in};
use crate::hint::{cold, unlikely};
use crate::memory::{self, Key, Remembered};
use crate::reason::Reason;
use crate::room::Room;
use crate::walk::{Address, Cursor, Protocol, Transport, Walked, claimed_by_ipv4, walk_into};
use crate::words::{KillWord, OverrideWord, ReflexWord};

/// A table of buckets, one of the three limits of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// Packets a second.
    Packets,
    /// Bytes a second.
    Bytes,
    /// New flows a second.
    NewFlows,
}

/// What a verdict asks of where it runs: maps and a clock in the kernel, memory and a number on the host.
///
/// Tables are as large as the policy says, so that every place in them that a verdict asks for is there.
pub trait Env {
    /// Which flags of a policy it is for. What the others stand for is left out when it is compiled, and a policy that has one
    /// of them is not to be judged by it.
    const FLAGS: u32;
    /// What was decided when the program was loaded.
    fn policy(&self) -> &Policy;
    /// Nanoseconds of CLOCK_MONOTONIC, of the clock that the policy chose.
    fn now(&self) -> u64;
    /// Nanoseconds of CLOCK_MONOTONIC, to the kernel's tick: what deadlines are held against. Asked where there is one.
    fn deadline_clock(&self) -> u64;
    /// The switch.
    fn kills(&self) -> &Kills;
    /// What the loop and a person say.
    fn control(&self) -> &Control;
    /// A set of one table of buckets.
    fn buckets(&self, table: Table, set: u32) -> &Set;
    /// The buckets that stand alone.
    fn shared(&self) -> &Shared;
    /// A set of proven sources.
    fn proven(&self, set: u32) -> &Set;
    /// A set of known UDP flows.
    fn udp_flows(&self, set: u32) -> &Set;
    /// Where what holds for a prefix is found.
    type Entry<'e>: Copy
    where
        Self: 'e;
    /// The entry of exactly this prefix.
    fn prefix4(&self, prefix: &Prefix4) -> Option<Self::Entry<'_>>;
    /// The entry of exactly this prefix.
    fn prefix6(&self, prefix: &Prefix6) -> Option<Self::Entry<'_>>;
    /// What holds for the prefix with this entry. For a source that is in none it is what the policy says, or an entry of
    /// its own that says the same: then there is one way on from here, which the verifier follows once. None: there is no such
    /// entry, which whoever fills the tables rules out; the verdict stays on the side of stopping.
    fn rule<'e>(&'e self, entry: Option<Self::Entry<'e>>) -> Option<Rule<'e>>;
    /// The service on a local TCP port.
    fn tcp_service(&self, port: u16) -> PortEntry;
    /// The service on a local UDP port.
    fn udp_service(&self, port: u16) -> PortEntry;
    /// Counts work that was offered, in a slot of the distribution.
    fn count_offered(&self, slot: u32, priority: u32);
    /// Counts an event.
    fn count_event(&self, event: Event);
    /// The same room, of which the compiler and the verifier forget what they know: what comes next is there once, and not once
    /// for each way that leads there.
    fn settled<'r>(&self, room: &'r mut Room) -> &'r mut Room;
}

/// Whether the policy has this flag.
#[inline(always)]
fn has<E: Env>(env: &E, flag: u32) -> bool {
    E::FLAGS & flag != 0 && env.policy().flags & flag != 0
}

/// What holds for a prefix; none: nothing but the policy.
pub type Rule<'e> = Option<&'e PrefixPolicy>;

/// Which way a frame goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// It arrives.
    Ingress,
    /// It leaves.
    Egress,
}

/// How far a kill goes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum Killing {
    /// None holds.
    No,
    /// Lifelines pass, and what is not IP.
    AllButLifelines,
    /// Nothing passes.
    All,
}

impl Killing {
    #[inline(always)]
    fn by<E: Env>(env: &E, word: KillWord) -> Killing {
        if !word.is_set() || !(word.is_endless() || word.holds(env.now())) {
            Killing::No
        } else {
            Killing::of(word)
        }
    }

    /// How far a kill goes that holds.
    #[inline(always)]
    fn of(word: KillWord) -> Killing {
        if unlikely(word.is_total()) { Killing::All } else { Killing::AllButLifelines }
    }

    #[inline(always)]
    fn or(self, other: Killing) -> Killing {
        if other > self { other } else { self }
    }
}

/// The kill of the host and of the program's interface: the first thing that is asked of a frame.
#[inline(always)]
pub fn killing<E: Env>(env: &E) -> Killing {
    let kills = env.kills();
    let host = KillWord(kills.host.load());
    let interface = KillWord(kills.interfaces[env.policy().interface as usize & (MAX_INTERFACES - 1)].load());
    if host.0 | interface.0 == 0 {
        return Killing::No;
    }
    // The usual kill asks nothing of a clock.
    if unlikely(!host.is_endless() || interface.is_set()) {
        return Killing::by(env, host).or(Killing::by(env, interface));
    }
    Killing::of(host)
}

/// Whether that kill drops the frame whatever is in it, as it does every IPv4 packet where there are no lifelines: then the frame's
/// length, which `measure` tells. Under a kill a flood ends here.
#[inline(always)]
pub fn stopped<E: Env, C: Cursor>(
    env: &E,
    killing: Killing,
    frame: C,
    measure: impl Fn(usize) -> usize,
) -> Option<usize> {
    if killing == Killing::No || (killing != Killing::All && has(env, Policy::LIFELINES)) {
        return None;
    }
    let claimed = claimed_by_ipv4(frame);
    if unlikely(claimed.is_none()) && killing != Killing::All {
        return None;
    }
    Some(measure(claimed.unwrap_or(0)))
}

#[inline(always)]
fn kill_of_service<E: Env>(env: &E, service: PortEntry) -> Killing {
    if !service.is_service() {
        return Killing::No;
    }
    Killing::by(env, KillWord(env.kills().services[service.slot() & (MAX_SERVICES - 1)].load()))
}

/// The service that a transport's local end belongs to, which is on this port.
#[inline(always)]
fn service_of<E: Env>(env: &E, transport: &Transport, port: u16) -> PortEntry {
    match transport.protocol {
        Protocol::Tcp if has(env, Policy::SERVICES) => env.tcp_service(port),
        Protocol::Udp if has(env, Policy::SERVICES) => env.udp_service(port),
        _ => PortEntry(0),
    }
}

/// What holds for the longest prefix that the address is in.
#[inline(always)]
fn rule_of<'e, E: Env>(env: &'e E, address: &Address) -> Option<Rule<'e>> {
    if E::FLAGS & Policy::PREFIXES == 0 { Some(None) } else { env.rule(entry_of(env, address)) }
}

/// The entry of the longest prefix that the address is in.
#[inline(always)]
fn entry_of<'e, E: Env>(env: &'e E, address: &Address) -> Option<E::Entry<'e>> {
    let policy = env.policy();
    if address.is_v6 {
        let mut i = 0;
        while i < policy.length_count6 as usize && i < policy.lengths6.len() {
            let length = policy.lengths6[i];
            let prefix = Prefix6 {
                high: address.high & upper_bits(length),
                low: address.low & upper_bits(length.saturating_sub(64)),
                length: length as u64,
            };
            if let Some(found) = env.prefix6(&prefix) {
                return Some(found);
            }
            i += 1;
        }
    } else {
        let mut i = 0;
        while i < policy.length_count4 as usize && i < policy.lengths4.len() {
            let length = policy.lengths4[i];
            let prefix = Prefix4 { address: address.low as u32 & (upper_bits(length) >> 32) as u32, length };
            if let Some(found) = env.prefix4(&prefix) {
                return Some(found);
            }
            i += 1;
        }
    }
    None
}

/// A word whose upper `count` bits are set; all of them for 64 and more.
#[inline(always)]
pub const fn upper_bits(count: u32) -> u64 {
    if count == 0 {
        0
    } else if count >= 64 {
        u64::MAX
    } else {
        u64::MAX << (64 - count)
    }
}

/// Whether what holds for a peer makes a lifeline of this local port; 0: of what has none.
#[inline(always)]
fn is_lifeline(prefix: Rule<'_>, port: u16) -> bool {
    let Some(prefix) = prefix else { return false };
    if prefix.flags & PrefixPolicy::LIFELINE != 0 {
        return true;
    }
    if prefix.flags & PrefixPolicy::LIFELINE_PORTS == 0 || port == 0 {
        return false;
    }
    let mut i = 0;
    while i < prefix.ports.len() {
        if prefix.ports[i] == port && (i as u64) < prefix.port_count {
            return true;
        }
        i += 1;
    }
    false
}

/// The keyed hash of the source that an address belongs to.
#[inline(always)]
pub fn source_hash(policy: &Policy, address: &Address) -> u64 {
    if !address.is_v6 {
        // Complemented, so that no IPv6 prefix that somebody may write into a packet shares its place.
        return !mix(&policy.key, address.low);
    }
    let hash = mix(&policy.key, address.high & policy.source_mask6[0]);
    if policy.source_mask6[1] == 0 {
        hash
    } else {
        mix_in(&policy.key, hash, address.low & policy.source_mask6[1])
    }
}

/// The keyed hash of the flow between a peer, whose keyed hash as a source is `peer_hash`, and this host: the same for
/// what arrives and for what leaves.
#[inline(always)]
fn flow_hash(policy: &Policy, peer_hash: u64, peer: &Address, host: &Address, ports: (u16, u16)) -> u64 {
    let ports = (ports.0 as u64) << 16 | ports.1 as u64;
    if peer.is_v6 {
        let hash = mix_in(&policy.key, peer_hash, peer.low ^ host.low.rotate_left(32));
        mix_in(&policy.key, hash, ports ^ host.high.rotate_left(32))
    } else {
        mix_in(&policy.key, peer_hash, host.low << 32 | ports)
    }
}

/// Whether the service's requests and answers are measured.
#[inline(always)]
fn is_measured<E: Env>(env: &E, service: PortEntry) -> bool {
    has(env, Policy::MEASURED) && service.is_measured()
}

/// The service that a packet is to be measured for, if it passes: its own, where that is measured and the packet can begin or end
/// anything.
#[inline(always)]
fn measured_for<E: Env>(env: &E, transport: &Transport, service: PortEntry) -> PortEntry {
    let is_part = match transport.protocol {
        Protocol::Tcp => transport.acts(),
        Protocol::Udp => true,
        Protocol::Other => false,
    };
    if is_measured(env, service) && is_part { service } else { PortEntry(0) }
}

/// What is measured of a packet that passes, by what the verdict left in `room`, if that says that anything is; none where its flow
/// is not sampled. It goes to [`arrived`](crate::flows::arrived) or [`left`](crate::flows::left).
#[inline(always)]
pub fn measured<'r, E: Env>(env: &E, direction: Direction, room: &'r Room) -> Option<Segment<'r>> {
    let Room { packet, hash, measured: service, .. } = room;
    let (peer, host) = match direction {
        Direction::Ingress => (&packet.source, &packet.destination),
        Direction::Egress => (&packet.destination, &packet.source),
    };
    let transport = &packet.transport;
    let ports = match direction {
        Direction::Ingress => (transport.source_port, transport.destination_port),
        Direction::Egress => (transport.destination_port, transport.source_port),
    };
    let flow = flow_hash(env.policy(), *hash, peer, host, ports);
    // Complemented, so that a TCP flow does not share the place of a UDP flow.
    let flow = if transport.is_tcp() { !flow } else { flow };
    let skip = env.control().services[service.slot() & (MAX_SERVICES - 1)].skip.load();
    (sample(flow) as u64 >= skip).then_some(Segment { flow, room })
}

/// Remembers a UDP flow that passes.
#[inline(always)]
fn remember_udp_flow<E: Env>(env: &E, flow: u64, now: u64) {
    let key = Key::of(flow, env.policy().memory_mask);
    let remembered = memory::remember(env.udp_flows(key.set), key, now, env.policy().udp_flow_ttl);
    if remembered == Remembered::Displaced {
        env.count_event(Event::UdpFlowEvicted);
    }
}

/// A source at the moment of a packet, with what its buckets need.
struct Source<'e> {
    place: Place,
    limits: &'e Limits,
    now: u64,
}

impl<'e> Source<'e> {
    #[inline(always)]
    fn of(policy: &Policy, limits: &'e Limits, room: &Room) -> Source<'e> {
        Source { place: Place::of(room.hash, policy.set_mask), limits, now: room.now }
    }

    #[inline(always)]
    fn limit<E: Env>(&self, env: &E, table: Table) -> (&Rate, u64) {
        let horizons = &env.policy().horizons;
        match table {
            Table::Packets => (&self.limits.packets, horizons[0]),
            Table::Bytes => (&self.limits.bytes, horizons[1]),
            Table::NewFlows => (&self.limits.new_flows, horizons[2]),
        }
    }

    /// Takes the units that were looked for; where the source has no place in the table, from the bucket that all such
    /// sources share. Returns whether there were as many.
    #[inline(always)]
    fn take<E: Env>(&self, env: &E, table: Table, amount: u64, look: &Look) -> bool {
        let (rate, horizon) = self.limit(env, table);
        if horizon == 0 {
            return true;
        }
        let set = env.buckets(table, self.place.set);
        match bucket::charge(set, look, self.place, rate, amount, self.now, horizon) {
            Admission::Admitted => true,
            Admission::Refused => false,
            Admission::NoPlace => {
                env.count_event(Event::NoPlace);
                let shared = env.shared();
                let bucket = match table {
                    Table::Packets => &shared.packets,
                    Table::Bytes => &shared.bytes,
                    Table::NewFlows => &shared.new_flows,
                };
                bucket::take_shared(&bucket.0, rate, amount, self.now, horizon)
            }
        }
    }

    /// Charges a packet to every bucket that is limited, of which none was empty. Where the source has no place in a table, the
    /// bucket that such sources share is judged only here, by when others may have been charged.
    #[inline(always)]
    fn charge<E: Env>(&self, env: &E, [packets, bytes, flows]: &[Look; 3], length: u64) -> bool {
        self.take(env, Table::NewFlows, 1, flows)
            && self.take(env, Table::Bytes, length, bytes)
            && self.take(env, Table::Packets, 1, packets)
    }
}

/// What the packet's source has in this table, if anything can be taken of it, goes into the room. False: its bucket is empty.
#[inline(always)]
fn look<E: Env>(env: &E, limits: &Limits, table: Table, amount: u64, room: &mut Room) -> bool {
    let source = Source::of(env.policy(), limits, room);
    let (rate, horizon) = source.limit(env, table);
    // A horizon of zero is known when the program is loaded: no source is limited in this way, and the verifier
    // takes out what would ask each rule.
    if horizon == 0 || rate.is_unlimited() {
        room.looks[table as usize] = Look::UNLIMITED;
        return true;
    }
    let set = env.buckets(table, source.place.set);
    // In the way that is looked at first, where most have theirs.
    let first = bucket::look_at(source.place.first, set, source.place, rate, amount, source.now, horizon);
    if let Some(found) = first {
        return found.is_some_and(|look| {
            room.looks[table as usize] = look;
            true
        });
    }
    cold();
    // From memory again: what the way of most packets has in registers is not kept for this one.
    let room = env.settled(room);
    let source = Source::of(env.policy(), limits, room);
    let set = env.buckets(table, source.place.set);
    let look = &mut room.looks[table as usize];
    bucket::look_into(set, source.place, rate, amount, source.now, horizon, look)
}

/// The cutoff in force for the traffic of a service, or of none.
#[inline(always)]
fn cutoff<E: Env>(env: &E, service: PortEntry) -> Cutoff {
    let control = env.control();
    let host = OverrideWord(control.host_override.load());
    if host.is_set() && host.holds(env.deadline_clock()) {
        return Cutoff::at(host.cutoff());
    }
    if !service.is_service() {
        return Cutoff::NOTHING;
    }
    let of_service = &control.services[service.slot() & (MAX_SERVICES - 1)];
    let person = OverrideWord(of_service.override_word.load());
    if person.is_set() && person.holds(env.deadline_clock()) {
        return Cutoff::at(person.cutoff());
    }
    let mut cutoff = of_service.cutoff();
    if is_measured(env, service) {
        let reflex = ReflexWord(of_service.reflex.load());
        // Between two turns of a loop that is alive; it is no loop's last word, which a posture may hold.
        let at = Cutoff::at(reflex.cutoff());
        if reflex.is_tripped_by(of_service.late.load()) && at < cutoff && !lapsed(env, control) {
            cutoff = at;
        }
    }
    if cutoff >= Cutoff::NOTHING || (env.policy().posture != Policy::POSTURE_HOLD && lapsed(env, control)) {
        return Cutoff::NOTHING;
    }
    cutoff
}

/// Whether no daemon holds the lease.
#[inline(always)]
fn lapsed<E: Env>(env: &E, control: &Control) -> bool {
    env.deadline_clock() >= control.lease.load()
}

/// Whether the posture `closed` is in force: a daemon held the lease and let it lapse, and no person says otherwise.
#[inline(always)]
fn is_closed<E: Env>(env: &E, service: PortEntry) -> bool {
    if env.policy().posture != Policy::POSTURE_CLOSED {
        return false;
    }
    let control = env.control();
    let now = env.deadline_clock();
    let lease = control.lease.load();
    if lease == 0 || now < lease || OverrideWord(control.host_override.load()).holds(now) {
        return false;
    }
    let of_service = &control.services[service.slot() & (MAX_SERVICES - 1)];
    !(service.is_service() && OverrideWord(of_service.override_word.load()).holds(now))
}

/// The rung that both directions begin with, for a frame that the kill of its interface has not [`stopped`]: the packet, unless it
/// decides. `malformed` is what a frame meets that cannot be walked.
#[inline(always)]
fn enter<E: Env, C: Cursor>(
    env: &E,
    killing: Killing,
    (frame, measure): (C, impl Fn(usize) -> usize),
    room: &mut Room,
    malformed: Reason,
) -> Result<(), Reason> {
    if has(env, Policy::MEASURED) {
        room.measured = PortEntry(0);
    }
    match walk_into(frame, measure, room, E::FLAGS & Policy::MEASURED != 0) {
        Walked::Ip => Ok(()),
        Walked::NotIp => Err(Reason::NotIp),
        Walked::Malformed if killing != Killing::No => Err(Reason::Kill),
        Walked::Malformed => Err(malformed),
    }
}

/// The verdict on a frame that arrives and was not [`stopped`], whose length `measure` tells: see [`walk_into`]. What was found is
/// left in `room`: the frame's length, and where it passes, what is to be [`measured`].
#[inline(always)]
pub fn ingress<E: Env, C: Cursor>(
    env: &E,
    killing: Killing,
    frame: C,
    measure: impl Fn(usize) -> usize,
    room: &mut Room,
) -> Reason {
    let policy = env.policy();
    if let Err(decided) = enter(env, killing, (frame, measure), room, Reason::Malformed) {
        return decided;
    }
    let room = env.settled(room);
    let packet = &room.packet;
    let port = packet.transport.destination_port;
    let service = service_of(env, &packet.transport, port);
    let killing = killing.or(kill_of_service(env, service));
    let Some(prefix) = rule_of(env, &packet.source) else { return Reason::Denied };
    let is_lifeline = killing != Killing::All && is_lifeline(prefix, port);
    let rule = match prefix {
        Some(prefix) => prefix.flags,
        None => 0,
    };
    if !is_lifeline {
        if killing != Killing::No {
            return Reason::Kill;
        }
        if is_closed(env, service) {
            return Reason::Posture;
        }
        if rule & PrefixPolicy::DENY != 0 {
            return Reason::Denied;
        }
    }

    let now = env.now();
    let hash = source_hash(policy, &packet.source);
    (room.hash, room.now) = (hash, now);
    if has(env, Policy::MEASURED) {
        room.measured = measured_for(env, &room.packet.transport, service);
    }
    if is_lifeline {
        return Reason::Lifeline;
    }

    let limits = match prefix {
        Some(prefix) => &prefix.limits,
        None => &policy.limits,
    };
    // Before anything is asked of the flow: most of a flood ends here, and flows are in memory of their own.
    if !look(env, limits, Table::Packets, 1, room) {
        return Reason::SourceRate;
    }
    let room = env.settled(room);
    let (hash, now, packet) = (room.hash, room.now, &room.packet);
    let transport = &packet.transport;
    let opens = match transport.protocol {
        Protocol::Tcp => transport.opens(),
        Protocol::Udp => {
            let ports = (transport.source_port, transport.destination_port);
            room.flow = flow_hash(policy, hash, &packet.source, &packet.destination, ports);
            let flow = Key::of(room.flow, policy.memory_mask);
            transport.quic_initial || !memory::recall(env.udp_flows(flow.set), flow, now)
        }
        Protocol::Other => false,
    };
    if !look(env, limits, Table::Bytes, room.length as u64, room) {
        return Reason::SourceRate;
    }
    let room = env.settled(room);
    room.looks[2] = Look::UNLIMITED;
    if opens && !look(env, limits, Table::NewFlows, 1, room) {
        return Reason::SourceRate;
    }
    // Before anything is charged: else a flood of sources that do not exist would fill the tables that proven sources need a
    // place in.
    if rule & PrefixPolicy::RULE == 0 && is_newcomer_refused(env, room.hash, room.now) {
        return Reason::Newcomer;
    }
    let room = env.settled(room);
    if !Source::of(policy, limits, room).charge(env, &room.looks, room.length as u64) {
        return Reason::SourceRate;
    }
    let (hash, now) = (room.hash, room.now);
    let transport = &room.packet.transport;
    if opens || service.every_packet() {
        let class = match prefix {
            Some(prefix) if rule & PrefixPolicy::CLASS != 0 => prefix.class as u8,
            _ if service.is_service() => service.class(),
            _ => policy.default_class as u8,
        };
        let priority = priority(class, cohort(policy, hash, now));
        let slot = if service.is_service() { service.slot() as u32 } else { policy.offered_none as u32 };
        env.count_offered(slot, priority);
        if cutoff(env, service).sheds(priority, || part(policy, hash, transport)) {
            return Reason::Shed;
        }
    }
    if matches!(transport.protocol, Protocol::Udp) {
        remember_udp_flow(env, room.flow, now);
    }
    Reason::Admitted
}

/// The part of an arriving flow among those of its source, whose hash is `hash`: the same for all its packets, and none that it is
/// placed or sampled by, so that the measurement of what is left stays what it was.
#[inline(always)]
fn part(policy: &Policy, hash: u64, transport: &Transport) -> u16 {
    (mix_in(&policy.key, hash, transport.source_port as u64) >> 48) as u16
}

/// The cohort of a source under the key of the moment: 0 to 127.
#[inline(always)]
pub fn cohort(policy: &Policy, hash: u64, now: u64) -> u32 {
    let turn = now.checked_div(policy.rotation).unwrap_or(0);
    (mix_in(&policy.key, hash, turn) >> 57) as u32 & (COHORTS - 1)
}

/// Whether the source is not proven and the bucket of all newcomers is empty.
#[inline(always)]
fn is_newcomer_refused<E: Env>(env: &E, hash: u64, now: u64) -> bool {
    let policy = env.policy();
    if policy.newcomers.is_unlimited() {
        return false;
    }
    let key = Key::of(hash, policy.memory_mask);
    if memory::recall(env.proven(key.set), key, now) {
        return false;
    }
    let horizon = policy.newcomers.horizon(1);
    !bucket::take_shared(&env.shared().newcomers.0, &policy.newcomers, 1, now, horizon)
}

/// The verdict on a frame that leaves, as [`ingress`] is on one that arrives. Learns which sources this host answers, and which UDP
/// flows it has.
#[inline(always)]
pub fn egress<E: Env, C: Cursor>(
    env: &E,
    killing: Killing,
    frame: C,
    measure: impl Fn(usize) -> usize,
    room: &mut Room,
) -> Reason {
    let policy = env.policy();
    // What this host sends is not judged by its form.
    if let Err(decided) = enter(env, killing, (frame, measure), room, Reason::Admitted) {
        return decided;
    }
    let room = env.settled(room);
    let packet = &room.packet;
    let port = packet.transport.source_port;
    let service = service_of(env, &packet.transport, port);
    let killing = killing.or(kill_of_service(env, service));
    if killing != Killing::No {
        let rule = rule_of(env, &packet.destination).flatten();
        let is_lifeline = killing != Killing::All && is_lifeline(rule, port);
        return if is_lifeline { Reason::Lifeline } else { Reason::Kill };
    }
    let peer = &packet.destination;
    let transport = &packet.transport;
    let measured = measured_for(env, transport, service);
    let proves = policy.proven_ttl != 0 && transport.is_tcp() && transport.answers();
    let is_udp = matches!(transport.protocol, Protocol::Udp);
    if !proves && !is_udp && !measured.is_service() {
        return Reason::Admitted;
    }
    let (hash, now) = (source_hash(policy, peer), env.now());
    match transport.protocol {
        Protocol::Tcp => {
            if proves {
                let key = Key::of(hash, policy.memory_mask);
                let remembered = memory::remember(env.proven(key.set), key, now, policy.proven_ttl);
                if remembered == Remembered::Displaced {
                    env.count_event(Event::ProvenEvicted);
                }
            }
        }
        // What this host asks for is no new flow when it is answered.
        Protocol::Udp => {
            let ports = (transport.destination_port, transport.source_port);
            remember_udp_flow(env, flow_hash(policy, hash, peer, &packet.source, ports), now);
        }
        Protocol::Other => {}
    }
    if has(env, Policy::MEASURED) {
        (room.measured, room.hash, room.now) = (measured, hash, now);
    }
    Reason::Admitted
}
