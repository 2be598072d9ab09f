use super::*;
use crate::flood::{self, Receiver, Sender};
use crate::frame::{Ethernet, tcp_syn, udp};
use crate::load::{Arrivals, Load, Outcome, Plan, Stream};
use crate::privileged;
use crate::server::{self, Server};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

fn ethernet(link: &Link) -> Ethernet {
    Ethernet { source: link.client_mac(), destination: link.server_mac() }
}

#[test]
fn sources_of_both_families_reach_the_server() {
    if !privileged::require() {
        return;
    }
    let network = Network::with("reach", &Options { resolve: true, ..Options::default() }).unwrap();
    let link = network.link();
    let options = server::Options {
        address: "[::]:0".parse().unwrap(),
        workers: 4,
        service: Duration::from_millis(1),
        connections: 100,
        backlog: 100,
    };
    let server = Server::start(&network.server, options).unwrap();
    let port = server.address().port();
    let stream = |sources| Stream {
        sources,
        rate: 100.0,
        arrivals: Arrivals::Even,
        from: Duration::ZERO,
        until: Duration::from_millis(205),
    };
    let v4 = stream((0..50).map(|host| link.source_v4(16, host).into()).collect());
    let v6 = stream((0..50).map(|prefix| link.source_v6(prefix, 9).into()).collect());
    for (target, stream) in [(IpAddr::from(link.server_v4()), v4), (link.server_v6().into(), v6)] {
        let plan = Plan {
            target: SocketAddr::new(target, port),
            epoch: Instant::now(),
            timeout: Duration::from_secs(5),
            outstanding: 100,
            seed: 1,
            streams: vec![stream],
        };
        let records = Load::start(&network.client, plan).unwrap().finish().unwrap();
        assert_eq!(records.len(), 20);
        for record in records {
            assert_eq!(record.outcome, Outcome::Answered, "{record:?}");
        }
    }
    let counts = server.counts();
    assert_eq!((counts.accepted, counts.served, counts.waiting), (40, 40, 0));
}

#[test]
fn a_flood_arrives_from_its_sources_and_its_times_are_in_order() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("flood").unwrap();
    let link = network.link();
    let server = SocketAddr::new(link.server_v4().into(), 9);
    let receiver = Receiver::start(&network.server, server).unwrap();
    let sources: Vec<SocketAddr> = (0..10).map(|host| (link.source_v4(16, host), 7).into()).collect();
    let frames = sources.iter().map(|&source| udp(ethernet(link), source, server, b"flood")).collect();
    let plan = flood::Plan {
        interface: link.interface.clone(),
        frames,
        rate: 10_000,
        duration: Duration::from_millis(100),
        cpu: None,
    };
    let start = flood::now();
    let sender = Sender::start(&network.client, plan).unwrap();
    let sent = sender.finish().unwrap();
    let end = flood::now();
    let deadline = Instant::now() + Duration::from_secs(5);
    while receiver.total() < sent && Instant::now() < deadline {
        std::thread::yield_now();
    }
    let arrivals = receiver.finish().unwrap();
    assert!(sent > 0);
    assert_eq!((arrivals.total(), arrivals.overflowed), (sent, 0));
    assert_eq!(arrivals.by_source.len(), sources.len());
    assert!(arrivals.times.is_sorted());
    assert_eq!(arrivals.between(start, end) as u64, sent);
}

#[test]
fn a_flood_sends_something_or_says_that_it_did_not() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("short-flood").unwrap();
    let link = network.link();
    let [from, to] = [link.client_v4(), link.server_v4()].map(|address| SocketAddr::new(address.into(), 9));
    let flood = |duration| {
        let plan = flood::Plan {
            interface: link.interface.clone(),
            frames: vec![udp(ethernet(link), from, to, b"flood")],
            rate: 100,
            duration,
            cpu: None,
        };
        Sender::start(&network.client, plan).unwrap()
    };
    // Its time is over when its thread first runs, as a busy machine has it.
    assert_eq!(flood(Duration::ZERO).finish().unwrap(), 1);
    assert_eq!(flood(Duration::ZERO).finish_timed().unwrap().frames, 1);
    ip(&network.client, &format!("link set {} down\n", link.interface)).unwrap();
    let said = flood(Duration::from_millis(100)).finish().unwrap_err().to_string();
    assert!(said.contains("the kernel refused"), "{said}");
}

#[test]
fn the_server_host_answers_a_syn_that_was_made_by_hand() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("syn").unwrap();
    let link = network.link();
    let listener =
        network.server.run(|| std::net::TcpListener::bind((link.server_v4(), 80))).unwrap().unwrap();
    // Nobody at the client has this connection: it answers the SYN's answer with a reset, and the server has seen both.
    let frame =
        tcp_syn(ethernet(link), (link.source_v4(16, 1), 1234).into(), listener.local_addr().unwrap(), 1);
    let plan = flood::Plan {
        interface: link.interface.clone(),
        frames: vec![frame],
        rate: 1_000,
        duration: Duration::from_millis(10),
        cpu: None,
    };
    Sender::start(&network.client, plan).unwrap().finish().unwrap();
    let resets = || {
        let snmp = std::fs::read_to_string("/proc/thread-self/net/snmp").unwrap();
        let mut lines = snmp.lines().filter(|line| line.starts_with("Tcp:"));
        let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
        let place = names.split(' ').position(|name| name == "OutRsts").unwrap();
        values.split(' ').nth(place).unwrap().parse::<u64>().unwrap()
    };
    let deadline = Instant::now() + Duration::from_secs(5);
    while network.client.run(resets).unwrap() == 0 {
        assert!(Instant::now() < deadline, "the server did not answer");
    }
}

#[test]
fn nothing_is_left() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("left").unwrap();
    let (names, dir) =
        ([&network.server, &network.client].map(|host| namespace::path(host.name())), network.dir());
    assert!(names.iter().all(|name| name.exists()));
    let mounted = |at: &Path| std::fs::read_to_string("/proc/mounts").unwrap().contains(at.to_str().unwrap());
    assert!(mounted(&network.bpffs()));
    let mut command = network.server.command("sleep");
    command.arg("1000");
    let mut child = command.spawn().unwrap();
    let dir = dir.to_path_buf();
    drop(network);
    assert!(!child.wait().unwrap().success());
    assert!(names.iter().all(|name| !name.exists()));
    assert!(!dir.exists());
    assert!(!mounted(&dir));
}

#[test]
fn an_unused_link_is_silent() {
    if !privileged::require() {
        return;
    }
    let network = Network::with("silent", &Options { links: 2, ..Options::default() }).unwrap();
    // What the kernel sends by itself when an address or an interface appears, it sends within this time.
    std::thread::sleep(Duration::from_millis(300));
    for host in [&network.server, &network.client] {
        let devices = host.run(|| std::fs::read_to_string("/proc/thread-self/net/dev")).unwrap().unwrap();
        for link in network.links() {
            let line =
                devices.lines().find_map(|line| line.trim().strip_prefix(&format!("{}:", link.interface)));
            let received: u64 = line.unwrap().split_whitespace().nth(1).unwrap().parse().unwrap();
            assert_eq!(received, 0, "packets at {} of {}", link.interface, host.name());
        }
    }
}
