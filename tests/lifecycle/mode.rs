//! Native and generic mode.

use crate::{FAILED, status};
use shedder_tests::flood::{Plan, Receiver, Sender};
use shedder_tests::frame::{Ethernet, udp};
use shedder_tests::netns::{Network, Options};
use shedder_tests::privileged;
use shedder_tests::shedder::Shedder;
use shedder_tests::wait::until;
use std::net::SocketAddr;
use std::time::Duration;

/// A driver that has no native XDP: the loopback interface's, which every namespace has.
#[test]
fn where_the_driver_has_no_native_mode_auto_is_generic_and_says_so_and_native_is_an_error() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("generic").unwrap();
    let shedder = Shedder::new(&network);
    let config = shedder.config("interfaces = [\"lo\"]\nmode = \"native\"\n");
    let said = shedder.fails(FAILED, &["attach", "--config", config.to_str().unwrap()]);
    assert!(said.contains("the driver of lo cannot run XDP in native mode"), "{said}");
    assert!(!shedder.pins().exists(), "something is left of what was refused");

    let config = shedder.config("interfaces = [\"lo\"]\nmode = \"auto\"\n");
    let output = shedder.run(&["attach", "--config", config.to_str().unwrap()]);
    assert!(output.status.success(), "{output:?}");
    let (said, logged) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("lo: attached, generic mode"), "{said}");
    assert!(logged.contains("native mode refused"), "{logged}");
    assert_eq!(status(&shedder)["interfaces"][0]["mode"], "generic");

    // It obeys there as well.
    let listener = Receiver::start(&network.server, "127.0.0.1:4000".parse().unwrap()).unwrap();
    let speak = || {
        network.server.run(|| {
            let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
            // Under a kill of what leaves, the kernel may say that it was refused.
            let _ = socket.send_to(b"hello", "127.0.0.1:4000");
        })
    };
    speak().unwrap();
    until("a datagram", || listener.total() == 1);
    shedder.ok(&["kill"]);
    speak().unwrap();
    shedder.ok(&["resume"]);
    speak().unwrap();
    until("a datagram", || listener.total() >= 2);
    assert_eq!(listener.finish().unwrap().total(), 2, "a datagram passed under a kill");
}

#[test]
fn native_mode_takes_jumbo_frames() {
    if !privileged::require() {
        return;
    }
    let network = Network::with("jumbo", &Options { mtu: 9000, ..Options::default() }).unwrap();
    let link = network.link();
    let shedder = Shedder::new(&network);
    shedder.attach("interfaces = [\"$IF\"]\nmode = \"native\"\n");
    assert_eq!(status(&shedder)["interfaces"][0]["mode"], "native");
    let receiver = Receiver::start(&network.server, SocketAddr::new(link.server_v4().into(), 4000)).unwrap();
    let ethernet = Ethernet { source: link.client_mac(), destination: link.server_mac() };
    let client = SocketAddr::new(link.client_v4().into(), 4000);
    let server = SocketAddr::new(link.server_v4().into(), 4000);
    // As long as the MTU: 20 bytes of IP header and 8 of UDP.
    let frame = udp(ethernet, client, server, &[0x5a; 9000 - 28]);
    let length = frame.len() as u64;
    let plan = Plan {
        interface: link.interface.clone(),
        frames: vec![frame],
        rate: 200,
        duration: Duration::from_secs(1),
        cpu: None,
    };
    let sent = Sender::start(&network.client, plan).unwrap().finish().unwrap();
    until("every jumbo frame to arrive", || receiver.total() == sent);
    let admitted = &status(&shedder)["interfaces"][0]["ingress"]["reasons"]["admitted"];
    assert_eq!(admitted["packets"], sent);
    assert_eq!(admitted["bytes"], sent * length, "bytes beyond the first fragment are not counted");
}
