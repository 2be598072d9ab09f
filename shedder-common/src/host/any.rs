//! What holds of any bytes whatever: the bodies of the fuzz targets, which the tests also play the corpus to.

use super::Host;
use crate::abi::{FLOW_SETS, FlowSet, Limits, Policy, PortEntry, Prefix4, Prefix6, PrefixPolicy};
use crate::bucket::{Rate, Set};
use crate::class::{Class, SHED_NOTHING};
use crate::hash::HashKey;
use crate::reason::Reason;
use crate::walk::{Address, Walk, walk};
use crate::words::{KillWord, OverrideWord, ReflexWord};
use bytemuck::Zeroable;
use std::cell::{OnceCell, RefCell};
use std::vec::Vec;

/// What is found in a frame lies inside it, and depends on nothing behind the packet.
///
/// # Panics
/// Where it does not hold.
pub fn any_frame(frame: &[u8]) {
    const TCP_AT_LEAST: usize = 14 + 20 + 20;
    const JUNK: [u8; 64] = [0xa5; 64];
    let found = walk(frame, frame.len());
    let Walk::Ip(packet) = found else { return };
    assert!(packet.source.is_v6 == packet.destination.is_v6);
    assert!(packet.source.is_v6 || packet.source.high | packet.destination.high == 0);
    if packet.transport.is_tcp() {
        let (at, payload) = (packet.position.payload_at as usize, packet.transport.payload as usize);
        assert!(at >= TCP_AT_LEAST && at + payload <= frame.len(), "{:?}", packet.position);
    }
    // Behind a packet that says how long it is.
    if frame.len() + JUNK.len() < 1 << 16 {
        let longer: &[u8] = &[frame, &JUNK].concat();
        assert_eq!(walk(longer, longer.len()), found, "what is behind the packet counts");
    }
    // Of a frame that is cut off the same is found, or nothing.
    let half = &frame[..frame.len() / 2];
    if let Walk::Ip(shorter) = walk(half, half.len()) {
        assert_eq!((shorter.source, shorter.destination), (packet.source, packet.destination));
    }
}

/// Reads numbers and frames from the bytes that a fuzzer makes; behind their end there are zeros.
struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// Its length, in units of four bytes less one, is said in front of it.
    fn frame(&mut self) -> &'a [u8] {
        let length = 4 * (self.byte() as usize + 1);
        self.take(length)
    }

    /// Powers of two apart, and a few that are none: a rate, a time, a cutoff.
    fn size(&mut self) -> u64 {
        let byte = self.byte();
        (1u64 << (byte & 63)).wrapping_sub(u64::from(byte >> 6))
    }
}

/// The first bits of these are named: of the most a lifeline on every port, then one on port 22, then denied, then critical.
const BASE4: u32 = 0xc000_0200;
const BASE6: u64 = 0x2001_0db8_0000_0000;
const LIFELINE: u32 = 31;
const LIFELINE_PORTS: u32 = 24;
const DENIED: u32 = 16;
const RULED: u32 = 8;

/// The port of the service that sheds every packet.
const EVERY_PACKET: u16 = 8080;

/// A host on which all that a configuration can say is said of something.
fn host(script: &mut Script<'_>) -> Host {
    let mut policy = Policy::zeroed();
    policy.key = HashKey::new(
        [0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7344],
        [0xa409_3822_299f_31d0, 0x082e_fa98_ec4e_6c89],
    );
    policy.flags = Policy::LIFELINES | u32::from(script.byte()) & (Policy::SERVICES | Policy::MEASURED);
    policy.posture = u32::from(script.byte() % 3);
    policy.default_class = Class::Normal as u32;
    // Few sets, so that they fill up.
    policy.set_mask = 1;
    policy.memory_mask = 1;
    policy.offered_none = 3;
    policy.source_mask6 = [u64::MAX, 0];
    let rate = |script: &mut Script<'_>| {
        let per_second = script.byte();
        Rate::new(u64::from(per_second), u64::from(per_second) / 4)
    };
    policy.limits = Limits { packets: rate(script), bytes: rate(script), new_flows: rate(script) };
    let of_rule = Limits { packets: rate(script), ..policy.limits };
    policy.newcomers = rate(script);
    let horizon = |own: &Rate, rule: &Rate| own.horizon(1 << 16).max(rule.horizon(1 << 16));
    policy.horizons = [
        horizon(&policy.limits.packets, &of_rule.packets),
        horizon(&policy.limits.bytes, &of_rule.bytes),
        horizon(&policy.limits.new_flows, &of_rule.new_flows),
    ];
    policy.proven_ttl = 2;
    policy.udp_flow_ttl = 2;
    policy.rotation = 1 << 32;
    let named = |flags, class: Class, limits| PrefixPolicy {
        flags,
        class: class as u32,
        limits,
        ..PrefixPolicy::zeroed()
    };
    let mut some_ports = named(PrefixPolicy::LIFELINE_PORTS, Class::Normal, policy.limits);
    (some_ports.ports[0], some_ports.port_count) = (22, 1);
    let prefixes = [
        (LIFELINE, named(PrefixPolicy::LIFELINE, Class::Normal, policy.limits)),
        (LIFELINE_PORTS, some_ports),
        (DENIED, named(PrefixPolicy::RULE | PrefixPolicy::DENY, Class::Normal, policy.limits)),
        (RULED, named(PrefixPolicy::RULE | PrefixPolicy::CLASS, Class::Critical, of_rule)),
    ];
    (policy.length_count4, policy.length_count6) = (prefixes.len() as u32, prefixes.len() as u32);
    for (place, (length, _)) in prefixes.iter().enumerate() {
        (policy.lengths4[place], policy.lengths6[place]) = (*length, *length);
    }
    let mut host = Host::new(policy);
    for (length, policy) in prefixes {
        let address = BASE4 & (u32::MAX << (32 - length));
        host.prefixes4.insert(Prefix4 { address, length }, policy);
        host.prefixes6.insert(
            Prefix6 { high: BASE6 & u64::MAX << (64 - length), low: 0, length: length.into() },
            policy,
        );
    }
    for (slot, port) in [(0, 80), (1, EVERY_PACKET), (2, 53)] {
        let service = PortEntry::new(slot, slot, port == EVERY_PACKET);
        let entry = if slot == 2 { service } else { service.measured(slot == 0) };
        (host.ports.tcp[usize::from(port)], host.ports.udp[usize::from(port)]) = (entry.0, entry.0);
    }
    host
}

/// Says another word: a kill, an override, a cutoff, a reflex, or the lease.
fn command(host: &Host, script: &mut Script<'_>) {
    let now = host.now.get();
    let (which, service) = (script.byte(), usize::from(script.byte() & 3));
    let until = now.wrapping_add(script.size());
    let cutoff = script.size() as u32 % (SHED_NOTHING + 1);
    let of_service = &host.control.services[service];
    match which % 8 {
        0 => host.kills.host.store(KillWord::until(until, which & 8 != 0).0),
        1 => host.kills.services[service].store(KillWord::until(until, which & 8 != 0).0),
        2 => host.kills.host.store(0),
        3 => host.control.host_override.store(OverrideWord::until(until, 500, cutoff).0),
        4 => of_service.override_word.store(OverrideWord::until(until, 500, cutoff).0),
        5 => of_service.set_cutoff(cutoff),
        6 => of_service.reflex.store(ReflexWord::new(1 << 20, 1, cutoff).0),
        _ => host.control.lease.store(until),
    }
}

std::thread_local! {
    /// The measured flows, which are some megabytes: allocated once, and zeroed where they were used.
    static FLOWS: RefCell<Vec<(Set, FlowSet)>> = RefCell::default();
}

/// Lends [`FLOWS`] to a host while something is done with it.
fn with_flows(host: &mut Host, work: impl FnOnce(&Host)) {
    let mut flows = FLOWS.take();
    if flows.is_empty() {
        flows = (0..FLOW_SETS).map(|_| Default::default()).collect();
    }
    host.flows = OnceCell::from(flows);
    work(host);
    let mut flows = host.flows.take().unwrap_or_default();
    if host.policy.flags & Policy::MEASURED != 0 {
        // Nothing is written into a set before a key is.
        let is_used = |keys: &Set| keys.0.iter().any(|key| key.load() != 0);
        flows.iter_mut().filter(|(keys, _)| is_used(keys)).for_each(|set| *set = Default::default());
    }
    FLOWS.set(flows);
}

/// Whatever comes, leaves and is commanded on a host in whatever order: each frame meets one reason, and no reason that
/// what is in force rules out.
///
/// # Panics
/// Where it does not hold.
pub fn any_traffic(bytes: &[u8]) {
    let mut script = Script(bytes);
    let mut host = host(&mut script);
    with_flows(&mut host, |host| play(host, script));
}

fn play(host: &Host, mut script: Script<'_>) {
    let mut last: Vec<u8> = Vec::new();
    while !script.0.is_empty() {
        let operation = script.byte();
        host.now.set(host.now.get().wrapping_add(script.size() & ((1 << 40) - 1)));
        if operation & 7 == 7 {
            command(host, &mut script);
            continue;
        }
        // Often the last one again, or what answers it.
        if operation & 4 == 0 || last.is_empty() {
            last = script.frame().to_vec();
        }
        let arrives = operation & 1 == 0;
        let reason = if arrives { host.ingress(&last) } else { host.egress(&last) };
        judge(host, &last, arrives, reason);
    }
}

/// Whether the address is in the first `length` bits of those that [`host`] names.
fn is_named(address: &Address, length: u32) -> bool {
    if address.is_v6 {
        (address.high ^ BASE6) >> (64 - length) == 0
    } else {
        (address.low as u32 ^ BASE4) >> (32 - length) == 0
    }
}

fn judge(host: &Host, frame: &[u8], arrives: bool, reason: Reason) {
    let now = host.now.get();
    let kills = [&host.kills.host].into_iter().chain(&host.kills.services[..3]);
    let kills: Vec<KillWord> = kills.map(|word| KillWord(word.load())).collect();
    let holds = |word: &KillWord| word.is_set() && word.holds(now);
    let is_total = |word: &KillWord| holds(word) && word.is_total();
    let host_kill = &kills[0];
    if holds(host_kill) {
        let spared = matches!(reason, Reason::NotIp | Reason::Lifeline) && !host_kill.is_total();
        assert!(reason == Reason::Kill || spared, "a kill passes {reason:?}");
    }
    let killed = kills.iter().any(holds);
    assert!(killed || reason != Reason::Kill, "nothing is killed");
    let packet = match walk(frame, frame.len()) {
        Walk::Ip(packet) => packet,
        Walk::NotIp => return assert!(matches!(reason, Reason::NotIp | Reason::Kill), "{reason:?}"),
        Walk::Malformed => {
            let expected = if arrives { Reason::Malformed } else { Reason::Admitted };
            return assert!(reason == expected || reason == Reason::Kill, "{reason:?}");
        }
    };
    if !arrives {
        return assert!(matches!(reason, Reason::Admitted | Reason::Lifeline | Reason::Kill), "{reason:?}");
    }
    assert!(!matches!(reason, Reason::NotIp | Reason::Malformed), "{reason:?}");
    if is_named(&packet.source, LIFELINE) {
        assert!(reason == Reason::Lifeline || kills.iter().any(is_total), "a lifeline meets {reason:?}");
    } else if is_named(&packet.source, DENIED) && !is_named(&packet.source, LIFELINE_PORTS) {
        assert!(
            matches!(reason, Reason::Denied | Reason::Kill | Reason::Posture),
            "the denied meet {reason:?}"
        );
    }
    if packet.transport.is_tcp()
        && !packet.transport.opens()
        && packet.transport.destination_port != EVERY_PACKET
    {
        assert_ne!(reason, Reason::Shed, "the middle of a connection is shed");
    }
}
