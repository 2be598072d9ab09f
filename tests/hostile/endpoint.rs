//! (23) The endpoint under a thousand clients that are slow, and others that send too much or nonsense: whoever scrapes goes on
//! being answered, and the daemon takes no more of the host.

use super::{Footprint, settle};
use shedder_tests::endpoint;
use shedder_tests::limits::raise_open_files;
use shedder_tests::netns::Network;
use shedder_tests::privileged;
use shedder_tests::random::Random;
use shedder_tests::shedder::Shedder;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

const BARE: &str = "interfaces = [\"$IF\"]\n";

/// More than the buffers of as many connections as may be open at once.
const ROOM: u64 = 16 << 20;

fn connect(network: &Network) -> TcpStream {
    let stream = network.server.run(|| TcpStream::connect(endpoint::ADDRESS)).unwrap().expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
}

#[test]
fn a_thousand_slow_clients_keep_nobody_from_scraping() {
    if !privileged::require() {
        return;
    }
    const CLIENTS: usize = 1_000;
    raise_open_files().unwrap();
    let network = Network::new("slow-clients").unwrap();
    let shedder = Shedder::new(&network);
    let daemon = shedder.ready_daemon(BARE).unwrap();
    let scrape = || assert_eq!(endpoint::get(&network.server, "/metrics").unwrap().status, 200);
    scrape();
    let before = Footprint::of(&daemon);
    let request = b"GET /metrics HTTP/1.1\r\nhost: slow\r\nx-padding: 0123456789\r\n";
    let mut clients: Vec<TcpStream> = Vec::new();
    for round in 0..request.len() {
        // They come a hundred at a time, and each sends a byte in a round: to those that were cut it is an error.
        for _ in 0..100.min(CLIENTS - clients.len()) {
            clients.push(connect(&network));
        }
        for client in &mut clients {
            let _ = client.write(&request[round..=round]);
        }
        if round % 8 == 0 {
            scrape();
        }
    }
    assert_eq!(clients.len(), CLIENTS);
    scrape();
    let during = Footprint::of(&daemon);
    assert!(during.memory < before.memory + ROOM, "{before:?}, then {during:?}");
    assert!(during.descriptors <= before.descriptors + 64 + 1, "{before:?}, then {during:?}");
    drop(clients);
    settle(&daemon, before.descriptors);
    assert!(endpoint::is_ready(&network.server), "the loop turned all the while");
}

#[test]
fn requests_that_are_too_large_or_none_at_all_harm_nobody() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("nonsense").unwrap();
    let shedder = Shedder::new(&network);
    let daemon = shedder.ready_daemon(BARE).unwrap();
    let scrape = || assert_eq!(endpoint::get(&network.server, "/metrics").unwrap().status, 200);
    let mut random = Random::new(23);
    let mut noise = |length: usize| (0..length).map(|_| random.next_u64() as u8).collect::<Vec<_>>();
    let head = |rest: &str| format!("GET /metrics HTTP/1.1\r\nhost: x\r\n{rest}").into_bytes();
    let long = "x".repeat(1 << 20);
    let mut requests: Vec<Vec<u8>> = vec![
        head(&format!("x: {long}\r\n\r\n")),
        format!("GET /{long} HTTP/1.1\r\nhost: x\r\n\r\n").into_bytes(),
        head(&"a: b\r\n".repeat(50_000)),
        head("transfer-encoding: chunked\r\n\r\nffffffffffffffff\r\n"),
        head("content-length: 99999999999999999999\r\n\r\n"),
        head("content-length: 18446744073709551615\r\n\r\n"),
        head("content-length: 5\r\ncontent-length: 6\r\n\r\n"),
        head("\r\n").repeat(10_000),
        b"GET /metrics\r\n\r\n".to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        b"\r\n".repeat(100_000),
        vec![0; 1 << 20],
    ];
    requests.extend((0..40).map(|n| noise(1 << (n % 17))));
    let send = |request: &[u8]| {
        let mut stream = connect(&network);
        // It may be cut short, and what it says then is its affair.
        let _ = stream.write_all(request).and_then(|()| stream.shutdown(Shutdown::Write));
        let _ = stream.read_to_end(&mut Vec::new());
    };
    requests.iter().for_each(|request| send(request));
    scrape();
    let before = Footprint::of(&daemon);
    for _ in 0..4 {
        requests.iter().for_each(|request| send(request));
        scrape();
    }
    settle(&daemon, before.descriptors);
    let after = Footprint::of(&daemon);
    assert!(after.memory < before.memory + ROOM / 4, "{before:?}, then {after:?}");
    assert!(endpoint::is_ready(&network.server));
}
