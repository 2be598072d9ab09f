//! Datagrams.

use crate::server::serve_datagrams;
use crate::{Setup, UDP};
use shedder_tests::privileged;
use shedder_tests::wait::until;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

fn ask(socket: &UdpSocket, question: &str) {
    socket.send(question.as_bytes()).unwrap();
    socket.recv(&mut [0; 64]).unwrap();
}

fn socket(to: SocketAddr) -> UdpSocket {
    let from: SocketAddr = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }.parse().unwrap();
    let socket = UdpSocket::bind(from).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    socket.connect(to).unwrap();
    socket
}

#[test]
fn datagrams_are_measured_over_both_families() {
    if !privileged::require() {
        return;
    }
    for (label, is_v4) in [("udp4", true), ("udp6", false)] {
        let setup = Setup::new(label);
        let address = if is_v4 { setup.v4(UDP) } else { setup.v6(UDP) };
        let times = serve_datagrams(&setup.network.server, address);
        setup.client(|| {
            let kept = socket(address);
            for i in 0..40 {
                let delay = if i % 8 == 7 { "40" } else { "12" };
                if i % 2 == 0 { ask(&kept, delay) } else { ask(&socket(address), delay) }
            }
        });
        until("the answers to be measured", || setup.udp().answers() == 40);
        setup.udp().agrees_with(&times.sorted());
        assert_eq!(setup.attached.outstanding(), []);
    }
}

#[test]
fn a_lost_answer_is_abandoned_when_the_peer_asks_again() {
    if !privileged::require() {
        return;
    }
    let setup = Setup::new("udp-lost");
    let address = setup.v4(UDP);
    serve_datagrams(&setup.network.server, address);
    setup.client(|| {
        let socket = socket(address);
        socket.send(b"nonsense").unwrap();
        assert_eq!(setup.attached.outstanding().len(), 1);
        std::thread::sleep(Duration::from_millis(4500));
        ask(&socket, "20");
    });
    let seen = setup.udp();
    assert_eq!((seen.requests(), seen.answers(), seen.abandoned()), (2, 1, 1), "{seen:?}");
}
