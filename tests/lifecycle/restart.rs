//! A daemon that dies and comes back.

use crate::{DENY, allowed, arrived, crash, denied, link, status};
use serde_json::Value;
use shedder_tests::flood::now;
use shedder_tests::flood::{Plan, Receiver, Sender};
use shedder_tests::frame::{Ethernet, udp};
use shedder_tests::netns::Network;
use shedder_tests::shedder::Shedder;
use shedder_tests::wait::until;
use shedder_tests::{bpf, privileged};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Every counter of the first interface, in one order.
fn counters(status: &Value) -> Vec<(String, u64)> {
    let mut counters = Vec::new();
    for way in ["ingress", "egress"] {
        for (reason, cell) in status["interfaces"][0][way]["reasons"].as_object().unwrap() {
            for unit in ["packets", "bytes"] {
                counters.push((format!("{way} {reason} {unit}"), cell[unit].as_u64().unwrap()));
            }
        }
    }
    counters
}

#[test]
fn through_fifty_crashes_under_load_no_packet_sees_no_program_and_no_counter_goes_back() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("restarts").unwrap();
    let shedder = Shedder::new(&network);
    let mut daemon = shedder.ready_daemon(DENY).unwrap();
    let (denied, allowed) = (denied(&network), allowed(&network));
    let links = ["ingress-0", "egress-0"].map(|name| link(&shedder, name));
    let link_ids = || links.each_ref().map(|link| bpf::attached_by(link).unwrap().link);
    let of_first_daemon = link_ids();
    let start = now();
    let mut before = status(&shedder);
    for round in 0..50 {
        crash(daemon);
        daemon = shedder.ready_daemon(DENY).unwrap();
        denied.offer_more();
        allowed.arrive_more();
        let after = status(&shedder);
        for (name, old) in counters(&before) {
            let new = counters(&after).into_iter().find(|(known, _)| *known == name);
            let (_, new) = new.unwrap_or_else(|| panic!("{name} is gone after restart {round}"));
            assert!(new >= old, "{name} went back from {old} to {new} at restart {round}");
        }
        assert!(arrived(&after, "denied") > arrived(&before, "denied"));
        before = after;
    }
    assert_eq!(denied.arrived_since(start), 0, "denied packets arrived in a moment without a program");
    assert_eq!(link_ids(), of_first_daemon, "the links were made anew instead of adopted");
}

#[test]
fn after_kill_9_under_a_flood_that_is_all_dropped_nothing_is_delivered_for_ten_seconds() {
    if !privileged::require() {
        return;
    }
    const LASTING: Duration = Duration::from_secs(10);
    let network = Network::new("flood").unwrap();
    let shedder = Shedder::new(&network);
    let config = "interfaces = [\"$IF\"]\n[[rule]]\nsources = [\"0.0.0.0/0\"]\ndeny = true\n";
    let daemon = shedder.ready_daemon(config).unwrap();
    let link = network.link();
    let receiver = Receiver::start(&network.server, SocketAddr::new(link.server_v4().into(), 4000)).unwrap();
    let ethernet = Ethernet { source: link.client_mac(), destination: link.server_mac() };
    let server = SocketAddr::new(link.server_v4().into(), 4000);
    let frames = (0..250)
        .map(|host| udp(ethernet, SocketAddr::new(link.source_v4(8, host).into(), 4000), server, b"flood"));
    let duration = LASTING + Duration::from_secs(2);
    let plan = Plan {
        interface: link.interface.clone(),
        frames: frames.collect(),
        rate: 50_000,
        duration,
        cpu: Some(0),
    };
    let flood = Sender::start(&network.client, plan).unwrap();
    until("the flood to arrive", || arrived(&status(&shedder), "denied") > 5_000);
    crash(daemon);
    let crashed = Instant::now();
    let sent = flood.finish().unwrap();
    assert!(crashed.elapsed() >= LASTING, "the flood ended too early to show anything");
    assert_eq!(receiver.finish().unwrap().total(), 0, "a packet was delivered");
    let after = status(&shedder);
    assert_eq!(after["daemon"]["alive"], false);
    assert_eq!(arrived(&after, "denied"), sent, "of {sent} that were sent");
}

/// Sends 500 packets of one source at once; how many arrive.
fn burst(network: &Network, receiver: &Receiver) -> u64 {
    let link = network.link();
    let source = SocketAddr::new(link.source_v4(3, 3).into(), 4000);
    let ethernet = Ethernet { source: link.client_mac(), destination: link.server_mac() };
    let frame = udp(ethernet, source, SocketAddr::new(link.server_v4().into(), 4000), b"burst");
    let before = receiver.total();
    let plan = Plan {
        interface: link.interface.clone(),
        frames: vec![frame],
        rate: 5_000,
        duration: Duration::from_millis(100),
        cpu: None,
    };
    Sender::start(&network.client, plan).unwrap().finish().unwrap();
    let mut seen = receiver.total();
    until("the receiver to be done", || {
        std::thread::sleep(Duration::from_millis(20));
        let total = receiver.total();
        std::mem::replace(&mut seen, total) == total
    });
    seen - before
}

#[test]
fn a_source_that_has_used_up_its_burst_is_still_limited_after_a_crash() {
    if !privileged::require() {
        return;
    }
    const LIMITED: &str = "interfaces = [\"$IF\"]\n[source]\npackets_per_second = 1\nburst = \"60s\"\n";
    let network = Network::new("buckets").unwrap();
    let shedder = Shedder::new(&network);
    let daemon = shedder.ready_daemon(LIMITED).unwrap();
    let address = SocketAddr::new(network.link().server_v4().into(), 4000);
    let receiver = Receiver::start(&network.server, address).unwrap();
    let start = Instant::now();
    let first = burst(&network, &receiver);
    assert!(first >= 50, "only {first} of a burst of 60 were admitted");
    crash(daemon);
    let _daemon = shedder.ready_daemon(LIMITED).unwrap();
    let second = burst(&network, &receiver);
    let most = 60 + start.elapsed().as_secs() + 1;
    assert!(first + second <= most, "{first} and {second} were admitted, {most} are due");
    assert!(second < 50, "the bucket was filled by the restart, or by waiting for it");
}
