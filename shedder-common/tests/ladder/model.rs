//! The whole verdict against a plain model of it, and what holds of every packet.

use super::*;
use proptest::prelude::*;
use shedder_common::abi::Limits;
use shedder_common::bucket::take_shared;
use shedder_common::class::SHED_NOTHING;
use shedder_common::host::frames::{random_frame, random_well_formed};
use shedder_common::walk::{Packet, Protocol, Walk, walk};
use shedder_common::words::{FOREVER, KillWord, OverrideWord};

/// A kill word, by what it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kill {
    None,
    Passed,
    AllButLifelines,
    Total,
}

impl Kill {
    fn word(self, now: u64) -> u64 {
        match self {
            Kill::None => 0,
            Kill::Passed => KillWord::until(now, true).0,
            Kill::AllButLifelines => KillWord::until(now + SECOND, false).0,
            Kill::Total => KillWord::until(FOREVER, true).0,
        }
    }

    fn holds(self) -> bool {
        self >= Kill::AllButLifelines
    }
}

/// Everything that a verdict depends on, as plain facts. Cutoffs are classes.
#[derive(Clone, Debug)]
struct Scene {
    kills: [Kill; 3],
    /// Lifeline on every port, on some, or none.
    lifeline: (bool, bool),
    ports: Vec<u16>,
    rule: bool,
    deny: bool,
    class: Option<u32>,
    has_services: bool,
    /// On these ports.
    service: (Vec<u16>, Class, bool),
    /// Which of packets, bytes and new flows are spent.
    spent: [bool; 3],
    newcomers_spent: bool,
    is_proven: bool,
    is_known_flow: bool,
    posture: u32,
    /// None: never held; whether it lapsed.
    lease: Option<bool>,
    host_override: Option<(bool, u32)>,
    service_override: Option<(bool, u32)>,
    cutoff: u32,
}

fn scenes() -> impl Strategy<Value = Scene> {
    // What stops a packet early is rarer, so that the lower rungs are reached.
    let kill = || {
        prop_oneof![
            12 => Just(Kill::None), 2 => Just(Kill::Passed), 1 => Just(Kill::AllButLifelines), 1 => Just(Kill::Total)
        ]
    };
    let ports = || prop::sample::subsequence(vec![22u16, 53, 80, 443, 8080, 40_000], 0..5);
    let seldom = || prop::bool::weighted(0.12);
    let person = || prop::option::weighted(0.3, (prop::bool::weighted(0.6), 0u32..=6));
    (
        ([kill(), kill(), kill()], (seldom(), seldom()), ports(), any::<bool>(), seldom()),
        (prop::option::of(0u32..6), any::<bool>()),
        (ports(), prop::sample::select(&Class::ALL[..]), any::<bool>()),
        ([seldom(), seldom(), seldom()], any::<bool>(), any::<bool>(), any::<bool>()),
        (0u32..3, prop::option::weighted(0.8, prop::bool::weighted(0.4)), person(), person(), 0u32..=6),
    )
        .prop_map(
            |(
                (kills, lifeline, ports, rule, deny),
                (class, has_services),
                service,
                (spent, newcomers_spent, is_proven, is_known_flow),
                (posture, lease, host_override, service_override, cutoff),
            )| Scene {
                kills,
                lifeline,
                ports,
                rule,
                deny,
                class,
                has_services,
                service,
                spent,
                newcomers_spent,
                is_proven,
                is_known_flow,
                posture,
                lease,
                host_override,
                service_override,
                cutoff,
            },
        )
}

impl Scene {
    fn override_word(&self, person: Option<(bool, u32)>, now: u64) -> u64 {
        match person {
            None => 0,
            Some((true, class)) => OverrideWord::until(now + SECOND, 500, class * 128).0,
            Some((false, class)) => OverrideWord::until(now - SECOND, 500, class * 128).0,
        }
    }

    /// A host in which the scene is true of the peer, and on which this frame has come before.
    fn host(&self, peer: Option<Address>, frame: &[u8]) -> Host {
        let mut host = host();
        let now = host.now.get();
        host.ports.tcp.fill(0);
        host.ports.udp.fill(0);
        for &port in &self.service.0 {
            let entry = PortEntry::new(SLOT, self.service.1 as u8, self.service.2).0;
            host.ports.tcp[port as usize] = entry;
            host.ports.udp[port as usize] = entry;
        }
        host.policy.flags = if self.has_services { Policy::SERVICES } else { 0 };
        host.policy.flags |= if self.lifeline.0 || self.lifeline.1 { Policy::LIFELINES } else { 0 };
        let [packets, bytes, new_flows] = self.spent;
        let limit = |spent, rate| if spent { rate } else { Rate::UNLIMITED };
        let limits = Limits {
            packets: limit(packets, one()),
            bytes: limit(bytes, one_byte()),
            new_flows: limit(new_flows, one()),
        };
        host.policy.limits = limits;
        comes(&host, frame);
        if !self.is_known_flow {
            host.udp_flows.iter().flat_map(|set| &set.0).for_each(|word| word.store(0));
        }
        if self.newcomers_spent {
            host.policy.newcomers = one();
            take_shared(&host.shared.newcomers.0, &one(), 1, now, 200 * SECOND);
        }
        if let Some(peer) = peer {
            if self.is_proven {
                assert_eq!(leaves(&host, &answer_to(&peer)), Reason::Admitted);
            }
            let mut prefix =
                PrefixPolicy { limits, port_count: self.ports.len() as u64, ..Default::default() };
            for (flag, is_set) in [
                (PrefixPolicy::RULE, self.rule),
                (PrefixPolicy::DENY, self.deny),
                (PrefixPolicy::CLASS, self.class.is_some()),
                (PrefixPolicy::LIFELINE, self.lifeline.0),
                (PrefixPolicy::LIFELINE_PORTS, self.lifeline.1),
            ] {
                prefix.flags |= if is_set { flag } else { 0 };
            }
            prefix.class = self.class.unwrap_or(5);
            prefix.ports[..self.ports.len()].copy_from_slice(&self.ports);
            name(&mut host, &peer, prefix);
        }
        host.policy.posture = self.posture;
        host.control.lease.store(match self.lease {
            None => 0,
            Some(true) => now,
            Some(false) => now + 1,
        });
        host.control.host_override.store(self.override_word(self.host_override, now));
        let service = &host.control.services[SLOT as usize];
        service.override_word.store(self.override_word(self.service_override, now));
        service.set_cutoff(self.cutoff * 128);
        host.kills.host.store(self.kills[0].word(now));
        host.kills.interfaces[2].store(self.kills[1].word(now));
        host.kills.services[SLOT as usize].store(self.kills[2].word(now));
        host.offered.borrow_mut().iter_mut().for_each(|offered| offered.by_priority.fill(0));
        host
    }

    fn kill(&self, is_service: bool) -> Kill {
        let [host, interface, service] = self.kills;
        host.max(interface).max(if is_service { service } else { Kill::None })
    }

    fn is_lifeline(&self, port: Option<u16>) -> bool {
        self.lifeline.0 || self.lifeline.1 && port.is_some_and(|port| self.ports.contains(&port))
    }

    fn is_service(&self, port: Option<u16>) -> bool {
        self.has_services && port.is_some_and(|port| self.service.0.contains(&port))
    }

    /// The reason that a packet should meet as it comes, and whether it counts as offered.
    fn ingress(&self, walk: &Walk) -> (Reason, bool) {
        let kill = self.kill(false);
        let packet = match walk {
            _ if kill == Kill::Total => return (Reason::Kill, false),
            Walk::NotIp => return (Reason::NotIp, false),
            Walk::Malformed if kill.holds() => return (Reason::Kill, false),
            Walk::Malformed => return (Reason::Malformed, false),
            Walk::Ip(packet) => packet,
        };
        let port = packet.transport.ports().map(|(_, destination)| destination);
        let is_service = self.is_service(port);
        let kill = self.kill(is_service);
        let [host_override, service_override] =
            [self.host_override, self.service_override].map(|person| person.filter(|person| person.0));
        let is_open = match packet.transport.protocol {
            Protocol::Tcp => packet.transport.flags & 0x12 == 0x02,
            Protocol::Udp => packet.transport.quic_initial || !self.is_known_flow,
            Protocol::Other => false,
        };
        let is_offered = is_open || is_service && self.service.2;
        let class = match self.class {
            Some(class) => class,
            None if is_service => self.service.1 as u32,
            None => Class::Normal as u32,
        };
        let cutoff = match (host_override, service_override) {
            (Some((_, cutoff)), _) => cutoff,
            (None, _) if !is_service => 6,
            (None, Some((_, cutoff))) => cutoff,
            (None, None) if self.lease == Some(false) || self.posture == Policy::POSTURE_HOLD => self.cutoff,
            (None, None) => 6,
        };
        let is_closed = self.posture == Policy::POSTURE_CLOSED
            && self.lease == Some(true)
            && host_override.is_none()
            && !(is_service && service_override.is_some());
        let rungs = [
            (kill == Kill::Total, Reason::Kill),
            (self.is_lifeline(port), Reason::Lifeline),
            (kill.holds(), Reason::Kill),
            (is_closed, Reason::Posture),
            (self.deny, Reason::Denied),
            (self.spent[0] || self.spent[1] || self.spent[2] && is_open, Reason::SourceRate),
            (self.newcomers_spent && !self.is_proven && !self.rule, Reason::Newcomer),
        ];
        match rungs.into_iter().find(|(stops, _)| *stops) {
            Some((_, reason)) => (reason, false),
            None if is_offered && class >= cutoff => (Reason::Shed, true),
            None => (Reason::Admitted, is_offered),
        }
    }

    /// The reason that a packet should meet as it leaves.
    fn egress(&self, walk: &Walk) -> Reason {
        let kill = self.kill(false);
        let packet = match walk {
            _ if kill == Kill::Total => return Reason::Kill,
            Walk::NotIp => return Reason::NotIp,
            Walk::Malformed if kill.holds() => return Reason::Kill,
            Walk::Malformed => return Reason::Admitted,
            Walk::Ip(packet) => packet,
        };
        let port = packet.transport.ports().map(|(source, _)| source);
        match self.kill(self.is_service(port)) {
            Kill::AllButLifelines if self.is_lifeline(port) => Reason::Lifeline,
            kill if kill.holds() => Reason::Kill,
            _ => Reason::Admitted,
        }
    }
}

/// What this host answers to the peer inside a connection.
fn answer_to(peer: &Address) -> Vec<u8> {
    let network = if peer.is_v6 {
        let destination = (peer.high as u128) << 64 | peer.low as u128;
        Network::V6 { source: 2, destination, hop_limit: 64, extensions: vec![] }
    } else {
        v4(SERVER, peer.low as u32)
    };
    let segment = Segment::Tcp { source: 1, destination: 2, flags: Tcp::ACK, options: 0, data: vec![0] };
    Frame::new(network, segment).bytes()
}

fn packet(walk: &Walk) -> Option<&Packet> {
    match walk {
        Walk::Ip(packet) => Some(packet),
        _ => None,
    }
}

proptest! {
    #![proptest_config(cases(1_000))]

    #[test]
    fn what_comes_meets_what_the_model_says(scene in scenes(), seed: u64) {
        let frame = random_frame(seed);
        let walk = walk(&frame[..], frame.len());
        let host = scene.host(packet(&walk).map(|packet| packet.source), &frame);
        let (reason, is_offered) = scene.ingress(&walk);
        prop_assert_eq!(comes(&host, &frame), reason, "{:?}", walk);
        let total: u32 = (0..=NONE).map(|slot| offered(&host, slot)).sum();
        prop_assert_eq!(total, is_offered as u32);
    }

    #[test]
    fn what_leaves_meets_what_the_model_says(scene in scenes(), seed: u64) {
        let frame = random_frame(seed);
        let walk = walk(&frame[..], frame.len());
        let host = scene.host(packet(&walk).map(|packet| packet.destination), &frame);
        prop_assert_eq!(leaves(&host, &frame), scene.egress(&walk), "{:?}", walk);
    }
}

/// Hosts with everything on at once and one cutoff for all, over which a mixture of traffic goes.
fn run(seeds: &[u64], cutoff: u32) -> (Host, Vec<Reason>) {
    let mut host = host();
    for (slot, port) in [22, 53, 80, 443].into_iter().enumerate() {
        let slot = slot + 10;
        host.ports.tcp[port] = PortEntry::new(slot as u8, (slot % 6) as u8, port == 53).0;
        host.ports.udp[port] = PortEntry::new(slot as u8, (slot % 6) as u8, port == 80).0;
        host.control.services[slot].set_cutoff(cutoff);
    }
    host.control.services[SLOT as usize].set_cutoff(cutoff);
    host.control.host_override.store(OverrideWord::until(FOREVER, 0, cutoff).0);
    let reasons = seeds.iter().map(|&seed| comes(&host, &random_well_formed(seed).bytes())).collect();
    (host, reasons)
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn a_lower_cutoff_never_admits_more(
        seeds in prop::collection::vec(0u64..2_000, 1..100), a in 0..=SHED_NOTHING, b in 0..=SHED_NOTHING,
    ) {
        let (lower, higher) = (run(&seeds, a.min(b)).1, run(&seeds, a.max(b)).1);
        for (i, (lower, higher)) in lower.into_iter().zip(higher).enumerate() {
            prop_assert!(!lower.passes() || higher.passes(), "packet {i}: {lower:?} {higher:?}");
        }
    }

    #[test]
    fn offered_is_what_can_be_shed_whether_it_is_or_not(
        seeds in prop::collection::vec(any::<u64>(), 1..100), cutoff in 0..=SHED_NOTHING,
    ) {
        // With everything shed, all that is offered is dropped; where less is, no less is counted as offered.
        let total = |host: &Host| (0..=NONE).map(|slot| offered(host, slot)).sum::<u32>();
        let (everything, reasons) = run(&seeds, 0);
        let shed = reasons.iter().filter(|&&reason| reason == Reason::Shed).count() as u32;
        prop_assert_eq!(total(&everything), shed);
        let (some, reasons) = run(&seeds, cutoff);
        let shed = reasons.iter().filter(|&&reason| reason == Reason::Shed).count() as u32;
        prop_assert!(shed <= total(&some) && total(&some) <= total(&everything));
        // What the distribution says lies past the cutoff is what was shed.
        let past: u32 =
            some.offered.borrow().iter().flat_map(|offered| &offered.by_priority[cutoff as usize..]).sum();
        prop_assert_eq!(past, shed);
    }

    #[test]
    fn a_proven_source_never_meets_newcomer_and_a_connection_is_never_shed(
        strangers in prop::collection::vec(any::<u32>(), 1..300), cutoff in 0..=SHED_NOTHING, newcomers in 1u64..100,
    ) {
        let mut host = host();
        host.policy.newcomers = Rate::new(newcomers, SECOND / 10);
        host.control.host_override.store(OverrideWord::until(FOREVER, 0, cutoff).0);
        leaves(&host, &answer());
        for stranger in strangers {
            host.now.set(host.now.get() + 1_000_000);
            comes(&host, &tcp_between((stranger, 1), (SERVER, PORT), Tcp::SYN, b""));
            prop_assert_ne!(comes(&host, &syn()), Reason::Newcomer);
            for flags in [Tcp::ACK, Tcp::ACK | Tcp::FIN, Tcp::ACK | 8, Tcp::RST, Tcp::RST | Tcp::ACK] {
                prop_assert_eq!(comes(&host, &tcp(flags, b"data")), Reason::Admitted);
            }
        }
    }

    #[test]
    fn a_lifeline_is_never_dropped_but_by_a_total_kill(scene in scenes(), seed: u64) {
        let mut scene = scene;
        scene.lifeline.0 = true;
        for kill in &mut scene.kills {
            *kill = (*kill).min(Kill::AllButLifelines);
        }
        let frame = random_well_formed(seed);
        if let Walk::Ip(packet) = frame.walk() {
            let bytes = frame.bytes();
            let host = scene.host(Some(packet.source), &bytes);
            for _ in 0..20 {
                prop_assert_eq!(comes(&host, &bytes), Reason::Lifeline);
            }
            let host = scene.host(Some(packet.destination), &bytes);
            prop_assert!(leaves(&host, &bytes).passes());
        }
    }
}
