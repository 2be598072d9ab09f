//! Each rung by itself, and all of them in order.

use super::*;
use shedder_common::abi::{Event, Limits};
use shedder_common::bucket::take_shared;
use shedder_common::class::{Cutoff, SHED_NOTHING};
use shedder_common::words::{FOREVER, KillWord, OverrideWord};

// ---- The order ----

#[test]
fn a_packet_that_everything_objects_to_meets_the_rungs_in_order() {
    let mut host = host();
    let mut named = with_flags(PrefixPolicy::LIFELINE | PrefixPolicy::DENY);
    named.limits.packets = one();
    name(&mut host, &address4(CLIENT), named);
    host.policy.flags |= Policy::LIFELINES;
    host.policy.posture = Policy::POSTURE_CLOSED;
    host.policy.newcomers = one();
    host.policy.limits.packets = one();
    // The bucket of newcomers is empty, and a packet took what the source's had.
    assert!(take_shared(&host.shared.newcomers.0, &one(), 1, host.now.get(), 200 * SECOND));
    let only_limited = PrefixPolicy { flags: PrefixPolicy::RULE, ..named };
    name(&mut host, &address4(CLIENT), only_limited);
    assert_eq!(comes(&host, &syn()), Reason::Admitted);
    name(&mut host, &address4(CLIENT), named);
    host.control.services[SLOT as usize].set_cutoff(0);
    host.control.lease.store(1);
    host.kills.host.store(KillWord::until(FOREVER, true).0);

    assert_eq!(comes(&host, &syn()), Reason::Kill);
    host.kills.host.store(KillWord::until(FOREVER, false).0);
    assert_eq!(comes(&host, &syn()), Reason::Lifeline);
    named.flags &= !PrefixPolicy::LIFELINE;
    name(&mut host, &address4(CLIENT), named);
    assert_eq!(comes(&host, &syn()), Reason::Kill);
    host.kills.host.store(0);
    assert_eq!(comes(&host, &malformed()), Reason::Malformed);
    assert_eq!(comes(&host, &arp()), Reason::NotIp);
    assert_eq!(comes(&host, &syn()), Reason::Posture);
    host.control.lease.store(host.now.get() + SECOND);
    assert_eq!(comes(&host, &syn()), Reason::Denied);
    named.flags &= !PrefixPolicy::DENY;
    name(&mut host, &address4(CLIENT), named);
    assert_eq!(comes(&host, &syn()), Reason::SourceRate);
    named.limits.packets = Rate::UNLIMITED;
    name(&mut host, &address4(CLIENT), named);
    assert_eq!(comes(&host, &syn()), Reason::Newcomer);
    host.policy.newcomers = Rate::UNLIMITED;
    assert_eq!(comes(&host, &syn()), Reason::Shed);
    host.control.services[SLOT as usize].set_cutoff(SHED_NOTHING);
    assert_eq!(comes(&host, &syn()), Reason::Admitted);
}

// ---- Kill ----

/// What a kill in each place does to packets of its service, of another, that are not IP, and that are malformed.
#[test]
fn kills_reach_as_far_as_they_say() {
    let elsewhere = tcp_between((CLIENT, 40_000), (SERVER, 80), Tcp::SYN, b"");
    let answers_elsewhere = tcp_between((SERVER, 80), (CLIENT, 40_000), Tcp::ACK, b"");
    use Reason::{Admitted, Kill, Malformed, NotIp};
    #[rustfmt::skip]
    let table = [
        // Where, total; service, elsewhere, ARP, malformed.
        ("host", false, [Kill, Kill, NotIp, Kill]),
        ("host", true, [Kill, Kill, Kill, Kill]),
        ("interface", false, [Kill, Kill, NotIp, Kill]),
        ("interface", true, [Kill, Kill, Kill, Kill]),
        ("another interface", true, [Admitted, Admitted, NotIp, Malformed]),
        ("service", false, [Kill, Admitted, NotIp, Malformed]),
        ("service", true, [Kill, Admitted, NotIp, Malformed]),
        ("another service", true, [Admitted, Admitted, NotIp, Malformed]),
    ];
    for lifelines in [0, Policy::LIFELINES] {
        for (place, total, expected) in table {
            let mut host = host();
            host.policy.flags |= lifelines;
            let kill = match place {
                "host" => &host.kills.host,
                "interface" => &host.kills.interfaces[2],
                "another interface" => &host.kills.interfaces[1],
                "service" => &host.kills.services[SLOT as usize],
                _ => &host.kills.services[SLOT as usize + 1],
            };
            let now = host.now.get();
            for deadline in [FOREVER, now + 2] {
                kill.store(KillWord::until(deadline, total).0);
                let came = [syn(), elsewhere.clone(), arp(), malformed()].map(|frame| comes(&host, &frame));
                assert_eq!(came, expected, "{place}, total {total}");
                // What leaves is not judged by its form.
                let expected = expected.map(|reason| if reason == Malformed { Admitted } else { reason });
                let left = [answer(), answers_elsewhere.clone(), arp(), malformed()]
                    .map(|frame| leaves(&host, &frame));
                assert_eq!(left, expected, "{place}, total {total}");
                assert_eq!(comes(&host, &neighbour()), expected[2]);
            }
            // The deadline is the first moment at which it no longer holds.
            for deadline in [0, 2, now - 2, now, now + 1] {
                kill.store(KillWord::until(deadline, total).0);
                assert_eq!(comes(&host, &syn()), Admitted, "{place} {deadline}");
                assert_eq!(leaves(&host, &answer()), Admitted, "{place} {deadline}");
                assert_eq!(comes(&host, &malformed()), Malformed);
            }
        }
    }
}

#[test]
fn the_strongest_of_several_kills_counts() {
    let mut host = host();
    host.policy.flags |= Policy::LIFELINES;
    name(&mut host, &address4(CLIENT), with_flags(PrefixPolicy::LIFELINE));
    let now = host.now.get();
    host.kills.host.store(KillWord::until(FOREVER, false).0);
    assert_eq!(comes(&host, &syn()), Reason::Lifeline);
    for word in [&host.kills.interfaces[2], &host.kills.services[SLOT as usize]] {
        word.store(KillWord::until(now + SECOND, true).0);
        assert_eq!((comes(&host, &syn()), leaves(&host, &answer())), (Reason::Kill, Reason::Kill));
        word.store(KillWord::until(now, true).0);
        assert_eq!((comes(&host, &syn()), leaves(&host, &answer())), (Reason::Lifeline, Reason::Lifeline));
        word.store(0);
    }
}

#[test]
fn a_killed_service_has_no_ports_where_services_are_off() {
    let mut host = host();
    host.kills.services[SLOT as usize].store(KillWord::until(FOREVER, true).0);
    assert_eq!(comes(&host, &syn()), Reason::Kill);
    host.policy.flags = 0;
    assert_eq!(comes(&host, &syn()), Reason::Admitted);
}

// ---- Lifelines ----

#[test]
fn a_lifeline_passes_what_would_drop_it_otherwise() {
    for (flags, port_count, is_lifeline) in [
        (PrefixPolicy::LIFELINE, 0, true),
        (PrefixPolicy::LIFELINE_PORTS, 2, true),
        // The port is in the list, but past its end.
        (PrefixPolicy::LIFELINE_PORTS, 1, false),
        (PrefixPolicy::LIFELINE_PORTS, 0, false),
        (0, 2, false),
    ] {
        let mut host = host();
        host.policy.flags |= Policy::LIFELINES;
        let mut prefix = with_flags(flags | PrefixPolicy::DENY);
        prefix.limits = Limits { packets: one(), bytes: one_byte(), new_flows: one() };
        prefix.ports[..2].copy_from_slice(&[22, PORT]);
        prefix.port_count = port_count;
        name(&mut host, &address4(CLIENT), prefix);
        host.control.host_override.store(OverrideWord::until(FOREVER, 1000, 0).0);
        host.policy.newcomers = one();
        let otherwise = |dropped| if is_lifeline { Reason::Lifeline } else { dropped };
        for _ in 0..3 {
            assert_eq!(comes(&host, &syn()), otherwise(Reason::Denied));
        }
        host.kills.host.store(KillWord::until(FOREVER, false).0);
        host.kills.services[SLOT as usize].store(KillWord::until(FOREVER, false).0);
        assert_eq!(comes(&host, &syn()), otherwise(Reason::Kill));
        assert_eq!(leaves(&host, &answer()), otherwise(Reason::Kill));
        // A stranger's packet to the same port is none, nor one to the peer's port of that number.
        let stranger = tcp_between((OTHER, 40_000), (SERVER, PORT), Tcp::SYN, b"");
        assert_eq!(comes(&host, &stranger), Reason::Kill);
        let reversed = tcp_between((CLIENT, PORT), (SERVER, 40_000), Tcp::SYN, b"");
        let expected = if flags & PrefixPolicy::LIFELINE != 0 { Reason::Lifeline } else { Reason::Kill };
        assert_eq!(comes(&host, &reversed), expected);
        host.kills.host.store(KillWord::until(FOREVER, true).0);
        assert_eq!((comes(&host, &syn()), leaves(&host, &answer())), (Reason::Kill, Reason::Kill));
    }
}

#[test]
fn what_has_no_ports_is_a_lifeline_only_on_every_port() {
    for (flags, expected) in
        [(PrefixPolicy::LIFELINE, Reason::Lifeline), (PrefixPolicy::LIFELINE_PORTS, Reason::Kill)]
    {
        let mut host = host();
        host.policy.flags |= Policy::LIFELINES;
        name(&mut host, &address4(CLIENT), PrefixPolicy { port_count: 16, ..with_flags(flags) });
        host.kills.host.store(KillWord::until(FOREVER, false).0);
        let network = Network::V4 { source: CLIENT, destination: SERVER, options: 0, fragment: 100 };
        let fragment = Frame::new(network, Segment::Other(6, vec![0; 40])).bytes();
        let echo = Frame::new(v4(CLIENT, SERVER), Segment::Icmp(8, 0, vec![0; 8])).bytes();
        assert_eq!([comes(&host, &fragment), comes(&host, &echo)], [expected; 2]);
    }
}

#[test]
fn the_longest_prefix_counts() {
    let mut host = host();
    host.policy.lengths4[..4].copy_from_slice(&[32, 24, 8, 0]);
    host.policy.length_count4 = 4;
    let prefix = |address, length| Prefix4 { address, length };
    host.prefixes4.insert(prefix(0, 0), with_flags(PrefixPolicy::DENY));
    host.prefixes4.insert(prefix(CLIENT & 0xff00_0000, 8), with_flags(PrefixPolicy::RULE));
    host.prefixes4
        .insert(prefix(CLIENT & 0xffff_ff00, 24), with_flags(PrefixPolicy::RULE | PrefixPolicy::DENY));
    let from = |source| tcp_between((source, 1), (SERVER, PORT), Tcp::SYN, b"");
    assert_eq!(comes(&host, &from(CLIENT)), Reason::Denied);
    assert_eq!(comes(&host, &from(CLIENT ^ 0x0100)), Reason::Admitted);
    assert_eq!(comes(&host, &from(OTHER)), Reason::Denied);
    host.prefixes4.insert(prefix(CLIENT, 32), with_flags(PrefixPolicy::RULE));
    assert_eq!(comes(&host, &from(CLIENT)), Reason::Admitted);
    // A length that is not counted is not looked for.
    host.policy.length_count4 = 0;
    assert_eq!(comes(&host, &from(OTHER)), Reason::Admitted);

    let network = |source| Network::V6 { source, destination: 2, hop_limit: 64, extensions: vec![] };
    let from = |source| Frame::new(network(source), Segment::Icmp(128, 0, vec![0; 4])).bytes();
    let client = 0x2001_0db8_0000_0001_8000_0000_0000_0001_u128;
    host.policy.lengths6[..4].copy_from_slice(&[128, 65, 64, 0]);
    host.policy.length_count6 = 4;
    let prefix =
        |address: u128, length| Prefix6 { high: (address >> 64) as u64, low: address as u64, length };
    host.prefixes6.insert(prefix(0, 0), with_flags(PrefixPolicy::DENY));
    assert_eq!(comes(&host, &from(client)), Reason::Denied);
    host.prefixes6.insert(prefix(client >> 64 << 64, 64), with_flags(PrefixPolicy::RULE));
    assert_eq!(comes(&host, &from(client)), Reason::Admitted);
    host.prefixes6.insert(prefix(client >> 63 << 63, 65), with_flags(PrefixPolicy::DENY));
    assert_eq!(comes(&host, &from(client)), Reason::Denied);
    assert_eq!(comes(&host, &from(client ^ 1 << 63)), Reason::Admitted);
    host.prefixes6.insert(prefix(client, 128), with_flags(PrefixPolicy::RULE));
    assert_eq!(comes(&host, &from(client)), Reason::Admitted);
    assert_eq!(comes(&host, &from(client ^ 1)), Reason::Denied);
}

// ---- Buckets ----

#[test]
fn each_bucket_is_charged_for_what_it_limits() {
    let ack = tcp(Tcp::ACK, b"data");
    let limits = |packets, bytes, new_flows| Limits { packets, bytes, new_flows };
    let none = Rate::UNLIMITED;
    use Reason::{Admitted, SourceRate};
    for (limits, frames, expected) in [
        (limits(none, none, none), [syn(), syn(), ack.clone()], [Admitted, Admitted, Admitted]),
        (limits(one(), none, none), [ack.clone(), ack.clone(), syn()], [Admitted, SourceRate, SourceRate]),
        (
            limits(none, one_byte(), none),
            [ack.clone(), ack.clone(), syn()],
            [Admitted, SourceRate, SourceRate],
        ),
        (limits(none, none, one()), [ack.clone(), ack.clone(), syn()], [Admitted, Admitted, Admitted]),
        (limits(none, none, one()), [syn(), ack.clone(), syn()], [Admitted, Admitted, SourceRate]),
        (
            limits(none, none, one()),
            [udp(1, b""), udp(1, b""), udp(2, b"")],
            [Admitted, Admitted, SourceRate],
        ),
        (limits(one(), one_byte(), one()), [syn(), ack.clone(), syn()], [Admitted, SourceRate, SourceRate]),
    ] {
        let mut host = host();
        host.policy.limits = limits;
        let came = frames.map(|frame| comes(&host, &frame));
        assert_eq!(came, expected, "{limits:?}");
        // Another source has buckets of its own.
        assert_eq!(comes(&host, &tcp_between((OTHER, 1), (SERVER, PORT), Tcp::SYN, b"")), Admitted);
        // And a rule has limits of its own.
        name(&mut host, &address4(CLIENT), with_flags(PrefixPolicy::RULE));
        assert_eq!(comes(&host, &syn()), Admitted);
    }
}

#[test]
fn what_one_bucket_refuses_is_charged_to_none() {
    let words = |host: &Host| {
        host.buckets.each_ref().map(|table| {
            table.iter().flat_map(|set| set.0.iter().map(|word| word.load())).collect::<Vec<_>>()
        })
    };
    let plenty = Rate::new(1_000_000, SECOND);
    for (limits, first) in [
        (Limits { packets: one(), bytes: plenty, new_flows: plenty }, syn()),
        (Limits { packets: plenty, bytes: one_byte(), new_flows: plenty }, syn()),
        (Limits { packets: plenty, bytes: plenty, new_flows: one() }, syn()),
    ] {
        let mut host = host();
        host.policy.limits = limits;
        assert_eq!(comes(&host, &first), Reason::Admitted);
        let before = words(&host);
        assert_eq!(comes(&host, &syn()), Reason::SourceRate);
        assert_eq!(words(&host), before);
    }
}

#[test]
fn addresses_of_one_ipv6_prefix_share_their_buckets() {
    let network = |source| Network::V6 { source, destination: 2, hop_limit: 64, extensions: vec![] };
    let from = |source| Frame::new(network(source), Segment::Icmp(128, 0, vec![0; 4])).bytes();
    let client = 0x2001_0db8_0000_0001_0000_0000_0000_0001_u128;
    for (mask, shared) in [([u64::MAX, 0], 64), ([u64::MAX << 8, 0], 72), ([u64::MAX, u64::MAX << 32], 32)] {
        let mut host = host();
        host.policy.limits.packets = one();
        host.policy.source_mask6 = mask;
        assert_eq!(comes(&host, &from(client)), Reason::Admitted);
        assert_eq!(comes(&host, &from(client ^ 1 << (shared - 1))), Reason::SourceRate);
        assert_eq!(comes(&host, &from(client ^ 1 << shared)), Reason::Admitted);
    }
}

#[test]
fn no_ipv6_source_reaches_the_buckets_of_an_ipv4_source() {
    let client = CLIENT as u128;
    for source in
        [client, client << 64, 0xffff << 32 | client, (0xffff << 32 | client) << 64, (client << 64) << 32]
    {
        let mut host = host();
        host.policy.limits.packets = one();
        assert_eq!(comes(&host, &syn()), Reason::Admitted);
        assert_eq!(comes(&host, &syn()), Reason::SourceRate);
        let network = Network::V6 { source, destination: 2, hop_limit: 64, extensions: vec![] };
        let frame = Frame::new(network, Segment::Icmp(128, 0, vec![0; 4])).bytes();
        assert_eq!(comes(&host, &frame), Reason::Admitted, "{source:#x}");
    }
}

#[test]
fn sources_without_a_place_share_a_bounded_bucket_and_are_counted() {
    let mut host = host();
    // One set: eight sources have a place.
    host.policy.set_mask = 0;
    host.policy.limits.packets = Rate::new(10, SECOND);
    for source in 0..8 {
        assert_eq!(comes(&host, &tcp_between((source, 1), (SERVER, PORT), Tcp::ACK, b"")), Reason::Admitted);
    }
    let passed = (0..1000)
        .filter(|i| comes(&host, &tcp_between((100 + i % 50, 1), (SERVER, PORT), Tcp::ACK, b"")).passes())
        .count();
    assert_eq!(passed, 10);
    assert_eq!(host.events.borrow()[Event::NoPlace as usize], 1000);
}

#[test]
fn bytes_without_a_place_are_bounded_whatever_their_sizes() {
    let mut host = host();
    host.policy.set_mask = 0;
    host.policy.limits.bytes = Rate::new(10_000, SECOND);
    for source in 0..8 {
        assert_eq!(comes(&host, &tcp_between((source, 1), (SERVER, PORT), Tcp::ACK, b"")), Reason::Admitted);
    }
    let mut passed = 0;
    for i in 0..1000 {
        let data = vec![0; if i % 2 == 0 { 1460 } else { 0 }];
        let frame = tcp_between((100 + i % 50, 1), (SERVER, PORT), Tcp::ACK, &data);
        passed += if comes(&host, &frame).passes() { frame.len() } else { 0 };
    }
    assert!(passed <= 10_000 + 1514, "{passed}");
}

// ---- Newcomers ----

#[test]
fn newcomers_share_one_bucket_and_proven_sources_have_no_part_in_it() {
    let mut host = host();
    host.policy.newcomers = one();
    let from = |source| tcp_between((source, 1), (SERVER, PORT), Tcp::ACK, b"");
    assert_eq!(comes(&host, &from(OTHER)), Reason::Admitted);
    assert_eq!(comes(&host, &from(OTHER)), Reason::Newcomer);
    assert_eq!(comes(&host, &syn()), Reason::Newcomer);
    // What leaves proves a source only inside an established connection.
    let unproving = [
        tcp_between((SERVER, PORT), (CLIENT, 40_000), Tcp::SYN | Tcp::ACK, b""),
        tcp_between((SERVER, PORT), (CLIENT, 40_000), Tcp::ACK, b""),
        tcp_between((SERVER, PORT), (CLIENT, 40_000), Tcp::RST | Tcp::ACK, b"x"),
        tcp_between((SERVER, PORT), (CLIENT, 40_000), Tcp::SYN | Tcp::ACK, b"x"),
        tcp_between((SERVER, PORT), (CLIENT, 40_000), 0, b"x"),
        Frame::new(v4(SERVER, CLIENT), Segment::Udp { source: PORT, destination: 1, data: vec![1; 9] })
            .bytes(),
        Frame::new(v4(SERVER, CLIENT), Segment::Icmp(0, 0, vec![0; 60])).bytes(),
    ];
    for frame in unproving {
        assert_eq!(leaves(&host, &frame), Reason::Admitted);
        assert_eq!(comes(&host, &syn()), Reason::Newcomer);
    }
    assert_eq!(leaves(&host, &answer()), Reason::Admitted);
    for _ in 0..100 {
        assert_eq!(comes(&host, &syn()), Reason::Admitted);
    }
    assert_eq!(comes(&host, &from(OTHER)), Reason::Newcomer);
    // A rule proves as well, and a lifeline or a class without one does not.
    for (flags, expected) in [
        (PrefixPolicy::RULE, Reason::Admitted),
        (PrefixPolicy::RULE | PrefixPolicy::CLASS, Reason::Admitted),
        (PrefixPolicy::LIFELINE_PORTS, Reason::Newcomer),
    ] {
        name(&mut host, &address4(OTHER), with_flags(flags));
        assert_eq!(comes(&host, &from(OTHER)), expected);
    }
    // Forgotten after its time in silence.
    let now = host.now.get();
    host.now.set(now + (3600 << 30));
    assert_eq!(comes(&host, &syn()), Reason::Admitted);
    host.now.set(now + (3601 << 30));
    name(&mut host, &address4(OTHER), PrefixPolicy::default());
    assert_eq!(comes(&host, &from(OTHER)), Reason::Admitted);
    assert_eq!(comes(&host, &syn()), Reason::Newcomer);
}

#[test]
fn nothing_is_learned_where_nothing_is_to_be_remembered() {
    let mut host = host();
    host.policy.newcomers = one();
    host.policy.proven_ttl = 0;
    leaves(&host, &answer());
    assert_eq!(comes(&host, &syn()), Reason::Admitted);
    assert_eq!(comes(&host, &syn()), Reason::Newcomer);
}

#[test]
fn a_killed_answer_proves_nobody() {
    let mut host = host();
    host.policy.newcomers = one();
    host.kills.services[SLOT as usize].store(KillWord::until(FOREVER, false).0);
    assert_eq!(leaves(&host, &answer()), Reason::Kill);
    host.kills.services[SLOT as usize].store(0);
    assert_eq!(comes(&host, &syn()), Reason::Admitted);
    assert_eq!(comes(&host, &syn()), Reason::Newcomer);
}

#[test]
fn a_flood_of_newcomers_takes_nothing_from_a_proven_source_that_seldom_speaks() {
    let mut host = host();
    host.policy.newcomers = Rate::new(100, SECOND / 10);
    host.policy.limits.packets = Rate::new(100, SECOND / 10);
    leaves(&host, &answer());
    for minute in 0..30u32 {
        for i in 0..2_000 {
            host.now.set(host.now.get() + 30_000_000);
            comes(&host, &tcp_between((0x0a00_0000 + minute * 2_000 + i, 1), (SERVER, PORT), Tcp::SYN, b""));
        }
        assert_eq!(comes(&host, &syn()), Reason::Admitted, "minute {minute}");
    }
}

#[test]
fn a_flood_of_newcomers_fills_no_table_that_a_proven_source_needs_a_place_in() {
    let mut host = host();
    host.policy.newcomers = Rate::new(10, SECOND);
    let limit = Rate::new(1, SECOND);
    host.policy.limits = Limits { packets: limit, bytes: Rate::UNLIMITED, new_flows: limit };
    leaves(&host, &answer());
    for second in 0..20u32 {
        // Many times as many as there are places, each of which would be taken for a second.
        for i in 0..5_000 {
            host.now.set(host.now.get() + SECOND / 5_000);
            comes(&host, &tcp_between((0x0a00_0000 + second * 5_000 + i, 1), (SERVER, PORT), Tcp::SYN, b""));
        }
        assert_eq!(comes(&host, &syn()), Reason::Admitted, "second {second}");
    }
}

#[test]
fn a_newcomer_that_is_refused_is_charged_nothing() {
    let mut host = host();
    host.policy.newcomers = one();
    let limit = Rate::new(1, SECOND);
    host.policy.limits = Limits { packets: limit, bytes: limit, new_flows: limit };
    assert_eq!(comes(&host, &tcp_between((OTHER, 1), (SERVER, PORT), Tcp::SYN, b"")), Reason::Admitted);
    for _ in 0..10 {
        assert_eq!(comes(&host, &syn()), Reason::Newcomer);
    }
    leaves(&host, &answer());
    assert_eq!(comes(&host, &syn()), Reason::Admitted);
}

#[test]
fn a_source_that_is_past_its_own_limits_takes_nothing_of_what_newcomers_share() {
    let limit = Rate::new(1, SECOND);
    let unlimited = Limits { packets: Rate::UNLIMITED, bytes: Rate::UNLIMITED, new_flows: Rate::UNLIMITED };
    for limits in [
        Limits { packets: limit, ..unlimited },
        Limits { bytes: limit, ..unlimited },
        Limits { new_flows: limit, ..unlimited },
    ] {
        let mut host = host();
        host.policy.newcomers = Rate::new(2, SECOND);
        host.policy.limits = limits;
        assert_eq!(comes(&host, &syn()), Reason::Admitted);
        for _ in 0..10 {
            assert_eq!(comes(&host, &syn()), Reason::SourceRate, "{limits:?}");
        }
        let other = tcp_between((OTHER, 1), (SERVER, PORT), Tcp::SYN, b"");
        assert_eq!(comes(&host, &other), Reason::Admitted, "{limits:?}");
    }
}

// ---- Shedding ----

#[test]
fn shedding_goes_by_class_then_cohort() {
    for class in Class::ALL {
        let mut host = host();
        serve(&mut host, class, false);
        let control = &host.control.services[SLOT as usize];
        for cutoff in 0..=6 {
            control.set_cutoff(cutoff * 128);
            let expected = if class as u32 >= cutoff { Reason::Shed } else { Reason::Admitted };
            assert_eq!(comes(&host, &syn()), expected, "{class:?} {cutoff}");
        }
        // Between the classes' edges there is one cutoff from which on a source is served.
        let cutoffs: Vec<_> = (0..=SHED_NOTHING)
            .filter(|&cutoff| {
                control.set_cutoff(cutoff);
                comes(&host, &syn()) == Reason::Admitted
            })
            .collect();
        let first = cutoffs[0];
        assert!((class as u32 * 128 + 1..=class as u32 * 128 + 128).contains(&first));
        assert_eq!(cutoffs, (first..=SHED_NOTHING).collect::<Vec<_>>());
    }
}

#[test]
fn of_the_last_cohort_a_part_of_the_flows_is_shed_and_always_the_same_ones() {
    let host = host();
    let service = &host.control.services[SLOT as usize];
    let frame = |port| tcp_between((CLIENT, port), (SERVER, PORT), Tcp::SYN, b"");
    let first = (0..=SHED_NOTHING).find(|&cutoff| {
        service.set_cutoff(cutoff);
        comes(&host, &frame(1)) == Reason::Admitted
    });
    let own = first.expect("a cutoff that sheds nothing") - 1;
    let mut before = vec![];
    for quarters in 0..4u16 {
        service.set_cutoff(Cutoff::within(own, quarters << 14));
        let admitted: Vec<u16> =
            (1..4097).filter(|&port| comes(&host, &frame(port)) == Reason::Admitted).collect();
        let expected = f64::from(quarters) * 1024.0;
        assert!((admitted.len() as f64 - expected).abs() <= 120.0, "{} of {expected}", admitted.len());
        assert!(before.iter().all(|port| admitted.contains(port)), "what was admitted still is");
        before = admitted;
    }
    for cutoff in [Cutoff::within(own + 1, 0), Cutoff::within(own + 1, u16::MAX)] {
        service.set_cutoff(cutoff);
        assert!((1..65).all(|port| comes(&host, &frame(port)) == Reason::Admitted));
    }
}

#[test]
fn half_a_class_is_half_its_sources_and_the_same_ones_until_the_key_rotates() {
    let host = host();
    host.control.services[SLOT as usize].set_cutoff(Class::Normal as u32 * 128 + 64);
    let served = || -> Vec<u32> {
        host.control.lease.store(host.now.get() + 1);
        let frame = |source| tcp_between((source, 1), (SERVER, PORT), Tcp::SYN, b"");
        (0..4096).filter(|&source| comes(&host, &frame(0x0a00_0000 + source)) == Reason::Admitted).collect()
    };
    let turn = 3600 * SECOND;
    host.now.set(1000 * turn);
    let first = served();
    assert!((1800..2300).contains(&first.len()), "{}", first.len());
    host.now.set(1001 * turn - 1);
    assert_eq!(served(), first);
    host.now.set(1001 * turn);
    let second = served();
    let both = second.iter().filter(|source| first.contains(source)).count();
    assert!((850..1200).contains(&both), "{both}");
}

#[test]
fn a_class_comes_from_the_rule_then_the_service_then_the_default() {
    let mut host = host();
    serve(&mut host, Class::Low, false);
    let reason = |host: &Host, port, class: Class| {
        // Sheds what is of this class or below.
        host.control.host_override.store(OverrideWord::until(FOREVER, 0, class as u32 * 128).0);
        comes(host, &tcp_between((CLIENT, 1), (SERVER, port), Tcp::SYN, b""))
    };
    assert_eq!(reason(&host, PORT, Class::Low), Reason::Shed);
    assert_eq!(reason(&host, PORT, Class::Background), Reason::Admitted);
    assert_eq!(reason(&host, 80, Class::Normal), Reason::Shed);
    assert_eq!(reason(&host, 80, Class::Low), Reason::Admitted);
    let critical =
        PrefixPolicy { class: Class::High as u32, ..with_flags(PrefixPolicy::RULE | PrefixPolicy::CLASS) };
    name(&mut host, &address4(CLIENT), critical);
    for port in [PORT, 80] {
        assert_eq!(reason(&host, port, Class::High), Reason::Shed);
        assert_eq!(reason(&host, port, Class::Normal), Reason::Admitted);
    }
    // A rule without a class leaves it to the service.
    name(&mut host, &address4(CLIENT), PrefixPolicy { class: 0, ..with_flags(PrefixPolicy::RULE) });
    assert_eq!(reason(&host, PORT, Class::Low), Reason::Shed);
}

#[test]
fn only_new_flows_are_shed_unless_the_service_says_every_packet() {
    let quic = [&[0xc0, 0, 0, 0, 1][..], &[0; 40]].concat();
    let mut host = host();
    assert_eq!(comes(&host, &udp(7, b"known")), Reason::Admitted);
    host.control.services[SLOT as usize].set_cutoff(0);
    let fragment = {
        let network = Network::V4 { source: CLIENT, destination: SERVER, options: 0, fragment: 100 };
        Frame::new(network, Segment::Other(6, vec![0; 40])).bytes()
    };
    use Reason::{Admitted, Shed};
    #[rustfmt::skip]
    let table = [
        // New flows only, every packet.
        ("SYN", syn(), Shed, Shed),
        ("SYN with data", tcp(Tcp::SYN, b"fast open"), Shed, Shed),
        ("SYN and FIN", tcp(Tcp::SYN | Tcp::FIN, b""), Shed, Shed),
        ("SYN and ACK", tcp(Tcp::SYN | Tcp::ACK, b""), Admitted, Shed),
        ("data", tcp(Tcp::ACK, b"data"), Admitted, Shed),
        ("FIN", tcp(Tcp::ACK | Tcp::FIN, b""), Admitted, Shed),
        ("RST", tcp(Tcp::RST, b""), Admitted, Shed),
        ("a known UDP flow", udp(7, b"again"), Admitted, Shed),
        ("an unknown UDP flow", udp(8, b""), Shed, Shed),
        ("a QUIC Initial in a known flow", udp(7, &quic), Shed, Shed),
        ("a later fragment", fragment, Admitted, Admitted),
    ];
    for (what, frame, new_flows, every_packet) in table {
        serve(&mut host, Class::Normal, false);
        assert_eq!(comes(&host, &frame), new_flows, "{what}");
        serve(&mut host, Class::Normal, true);
        assert_eq!(comes(&host, &frame), every_packet, "{what}");
    }
    // What was shed is not known.
    serve(&mut host, Class::Normal, false);
    assert_eq!(comes(&host, &udp(8, b"")), Shed);
}

#[test]
fn the_answer_to_what_this_host_asked_is_no_new_flow() {
    let host = host();
    let v6 = |source, destination| Network::V6 { source, destination, hop_limit: 64, extensions: vec![] };
    let (client6, server6) = (0xfd00 << 112 | 1, 0xfd00 << 112 | 2);
    let question = Segment::Udp { source: PORT, destination: 7, data: b"where?".to_vec() };
    assert_eq!(leaves(&host, &Frame::new(v4(SERVER, CLIENT), question.clone()).bytes()), Reason::Admitted);
    assert_eq!(leaves(&host, &Frame::new(v6(server6, client6), question).bytes()), Reason::Admitted);
    host.control.services[SLOT as usize].set_cutoff(0);
    for (port, expected) in [(7, Reason::Admitted), (8, Reason::Shed)] {
        let answer = Segment::Udp { source: port, destination: PORT, data: b"there".to_vec() };
        assert_eq!(comes(&host, &Frame::new(v4(CLIENT, SERVER), answer.clone()).bytes()), expected, "{port}");
        assert_eq!(comes(&host, &Frame::new(v6(client6, server6), answer).bytes()), expected, "{port}, IPv6");
    }
}

#[test]
fn a_udp_flow_is_forgotten_after_its_time_in_silence() {
    let host = host();
    let now = host.now.get();
    assert_eq!(comes(&host, &udp(7, b"")), Reason::Admitted);
    host.control.services[SLOT as usize].set_cutoff(0);
    host.control.lease.store(FOREVER);
    host.now.set(now + (30 << 30));
    assert_eq!(comes(&host, &udp(7, b"")), Reason::Admitted);
    host.now.set(now + (60 << 30));
    assert_eq!(comes(&host, &udp(7, b"")), Reason::Admitted);
    host.now.set(now + (91 << 30));
    assert_eq!(comes(&host, &udp(7, b"")), Reason::Shed);
}

#[test]
fn udp_flows_are_told_apart_by_every_part_of_them() {
    let host = host();
    let flow = |network: Network, source, destination| {
        Frame::new(network, Segment::Udp { source, destination, data: vec![] }).bytes()
    };
    let v6 = |source, destination| Network::V6 { source, destination, hop_limit: 64, extensions: vec![] };
    let (client, server) = (0x2001_0db8 << 96 | 1u128, 0x2001_0db8 << 96 | 2u128);
    let flows = [
        flow(v4(CLIENT, SERVER), 1, PORT),
        flow(v4(CLIENT, SERVER), 2, PORT),
        flow(v4(CLIENT, SERVER ^ 1), 1, PORT),
        flow(v4(CLIENT ^ 1, SERVER), 1, PORT),
        flow(v4(CLIENT, SERVER), PORT, 1),
        flow(v6(client, server), 1, PORT),
        flow(v6(client, server), 2, PORT),
        flow(v6(client, server), PORT, 1),
        flow(v6(client ^ 1, server), 1, PORT),
        flow(v6(client ^ 1 << 100, server), 1, PORT),
        flow(v6(client, server ^ 1), 1, PORT),
        flow(v6(client, server ^ 1 << 100), 1, PORT),
        flow(v6(server, client), 1, PORT),
    ];
    host.control.host_override.store(OverrideWord::until(FOREVER, 0, 0).0);
    let none = OverrideWord::until(FOREVER, 0, SHED_NOTHING).0;
    for (i, known) in flows.iter().enumerate() {
        for set in &host.udp_flows {
            set.0.iter().for_each(|word| word.store(0));
        }
        let shedding = host.control.host_override.load();
        host.control.host_override.store(none);
        assert_eq!(comes(&host, known), Reason::Admitted);
        host.control.host_override.store(shedding);
        for (j, flow) in flows.iter().enumerate() {
            assert_eq!(comes(&host, flow) == Reason::Admitted, i == j, "{i} {j}");
        }
    }
}

#[test]
fn the_cutoff_in_force_is_the_hosts_override_then_the_services_then_the_loops() {
    let host = host();
    let now = host.now.get();
    let service = &host.control.services[SLOT as usize];
    let elsewhere = tcp_between((CLIENT, 1), (SERVER, 80), Tcp::SYN, b"");
    let both = || [comes(&host, &syn()), comes(&host, &elsewhere)];
    let nothing = |deadline| OverrideWord::until(deadline, 0, SHED_NOTHING).0;
    let everything = |deadline| OverrideWord::until(deadline, 1000, 0).0;
    use Reason::{Admitted, Shed};
    service.set_cutoff(0);
    assert_eq!(both(), [Shed, Admitted]);
    service.override_word.store(nothing(now + SECOND));
    assert_eq!(both(), [Admitted, Admitted]);
    host.control.host_override.store(everything(now + SECOND));
    assert_eq!(both(), [Shed, Shed]);
    service.set_cutoff(SHED_NOTHING);
    service.override_word.store(everything(FOREVER));
    host.control.host_override.store(nothing(now + SECOND));
    assert_eq!(both(), [Admitted, Admitted]);
    // What has passed its deadline is as if it were not there.
    host.control.host_override.store(nothing(now - SECOND));
    assert_eq!(both(), [Shed, Admitted]);
    service.override_word.store(everything(now - SECOND));
    assert_eq!(both(), [Admitted, Admitted]);
    service.set_cutoff(0);
    assert_eq!(both(), [Shed, Admitted]);
    // Another service's words are its own.
    host.control.services[SLOT as usize + 1].set_cutoff(0);
    host.control.services[SLOT as usize + 1].override_word.store(everything(FOREVER));
    service.set_cutoff(SHED_NOTHING);
    assert_eq!(both(), [Admitted, Admitted]);
}

// ---- The lease and the posture ----

#[test]
fn a_lapsed_lease_leaves_what_the_posture_says() {
    let elsewhere = tcp_between((CLIENT, 1), (SERVER, 80), Tcp::ACK, b"");
    use Reason::{Admitted, Posture, Shed};
    for (posture, [live, lapsed, never]) in [
        (Policy::POSTURE_OPEN, [[Shed, Admitted], [Admitted, Admitted], [Admitted, Admitted]]),
        (Policy::POSTURE_HOLD, [[Shed, Admitted], [Shed, Admitted], [Shed, Admitted]]),
        (Policy::POSTURE_CLOSED, [[Shed, Admitted], [Posture, Posture], [Admitted, Admitted]]),
    ] {
        let mut host = host();
        host.policy.posture = posture;
        host.control.services[SLOT as usize].set_cutoff(0);
        let now = host.now.get();
        let both = || [comes(&host, &syn()), comes(&host, &elsewhere)];
        for (lease, expected) in
            [(now + 1, live), (now, lapsed), (now - 1, lapsed), (1, lapsed), (0, never), (FOREVER, live)]
        {
            host.control.lease.store(lease);
            assert_eq!(both(), expected, "posture {posture}, lease {lease}");
        }
        // What is not judged by the loop is as ever.
        host.control.lease.store(1);
        assert_eq!(comes(&host, &arp()), Reason::NotIp);
        assert_eq!(leaves(&host, &answer()), Reason::Admitted);
        host.kills.host.store(KillWord::until(FOREVER, false).0);
        assert_eq!(both(), [Reason::Kill; 2]);
    }
}

#[test]
fn a_persons_override_opens_what_the_posture_closed() {
    let mut host = host();
    host.policy.posture = Policy::POSTURE_CLOSED;
    host.control.lease.store(1);
    let now = host.now.get();
    let elsewhere = tcp_between((CLIENT, 1), (SERVER, 80), Tcp::SYN, b"");
    let both = || [comes(&host, &syn()), comes(&host, &elsewhere)];
    let word = |deadline| OverrideWord::until(deadline, 0, SHED_NOTHING).0;
    use Reason::{Admitted, Posture};
    assert_eq!(both(), [Posture, Posture]);
    host.control.services[SLOT as usize].override_word.store(word(now + SECOND));
    assert_eq!(both(), [Admitted, Posture]);
    host.control.services[SLOT as usize].override_word.store(word(now - SECOND));
    assert_eq!(both(), [Posture, Posture]);
    host.control.host_override.store(word(FOREVER));
    assert_eq!(both(), [Admitted, Admitted]);
    host.control.host_override.store(OverrideWord::until(FOREVER, 1000, 0).0);
    assert_eq!(both(), [Reason::Shed; 2]);
    // A lifeline was never closed out.
    host.control.host_override.store(0);
    host.policy.flags |= Policy::LIFELINES;
    name(&mut host, &address4(CLIENT), with_flags(PrefixPolicy::LIFELINE));
    assert_eq!(comes(&host, &syn()), Reason::Lifeline);
}

#[test]
fn a_dry_run_is_the_callers() {
    let mut host = host();
    host.policy.flags |= Policy::DRY_RUN;
    host.kills.host.store(KillWord::until(FOREVER, true).0);
    assert_eq!((comes(&host, &syn()), leaves(&host, &answer())), (Reason::Kill, Reason::Kill));
}

#[test]
fn reasons_are_numbered_as_they_are_listed_and_named_apart() {
    for (i, reason) in Reason::ALL.into_iter().enumerate() {
        assert_eq!(reason as usize, i);
        assert_eq!(Reason::ALL.iter().filter(|other| other.name() == reason.name()).count(), 1);
    }
    let passing = Reason::ALL.into_iter().filter(|reason| reason.passes()).collect::<Vec<_>>();
    assert_eq!(passing, [Reason::Admitted, Reason::NotIp, Reason::Lifeline]);
}
