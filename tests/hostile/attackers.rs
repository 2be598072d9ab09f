//! (22) Packets from somebody who means it: a known, well-behaved source keeps its rate whatever comes beside it.

use anyhow::ensure;
use shedder_common::host::frames::{Extension, Frame, Network as Header, QINQ, Segment, VLAN, named};
use shedder_common::walk::{Tcp, Walk};
use shedder_tests::flood::{Plan, Receiver};
use shedder_tests::frame::{self, Ethernet};
use shedder_tests::kernel::{self, Attached};
use shedder_tests::measured::{Measured, repeat};
use shedder_tests::netns::{Link, Network};
use shedder_tests::privileged;
use shedder_tests::shedder::Shedder;
use shedder_tests::wait;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

const HEARD: u16 = 9999;
const BURST: Duration = Duration::from_millis(400);

/// Everything is limited, and the tables have the least room that they may have: the floods below are of as many sources
/// as would fill them many times over, each of which would keep its places for a tenth of a second and more.
const TIGHT: &str = r#"
interfaces = ["$IF"]
[source]
packets_per_second = 1_000
bytes_per_second = 1_000_000
new_flows_per_second = 10
burst = "400ms"
table = 1_024
[newcomers]
packets_per_second = 1_000
[[lifeline]]
peers = ["10.77.253.0/24"]
ports = [22]
[[service]]
name = "heard"
protocol = "udp"
port = 9_999
"#;

struct Attacker<'a>(&'a Link);

impl Attacker<'_> {
    fn ethernet(&self) -> Ethernet {
        Ethernet { source: self.0.client_mac(), destination: self.0.server_mac() }
    }

    fn server(&self) -> SocketAddr {
        (self.0.server_v4(), HEARD).into()
    }

    fn stranger(&self, number: u16) -> Ipv4Addr {
        self.0.source_v4(1 + (number / 250) as u8, 2 + (number % 250) as u8)
    }

    /// From as many sources as a flood has frames.
    fn of_strangers(&self, frame: impl Fn(SocketAddr) -> Vec<u8>) -> Vec<Vec<u8>> {
        (0..20_000).map(|number| frame((self.stranger(number), 1_000 + number).into())).collect()
    }

    /// A described frame, on this link.
    fn framed(&self, frame: &Frame) -> Vec<u8> {
        let mut bytes = frame.bytes();
        bytes[..6].copy_from_slice(&self.0.server_mac());
        bytes[6..12].copy_from_slice(&self.0.client_mac());
        bytes
    }

    fn header6(&self, host: u64, extensions: Vec<Extension>) -> Header {
        let (source, destination) = (self.0.source_v6(7, host).to_bits(), self.0.server_v6().to_bits());
        Header::V6 { source, destination, hop_limit: 64, extensions }
    }

    /// Every attack, by name.
    fn attacks(&self) -> Vec<(&'static str, Vec<Vec<u8>>)> {
        let (ethernet, server) = (self.ethernet(), self.server());
        let udp = |source| frame::udp(ethernet, source, server, b"datagram");
        let syn = |source| frame::tcp_syn(ethernet, source, server, 1);
        let to_ssh = |source| frame::tcp_syn(ethernet, source, (self.0.server_v4(), 22).into(), 1);
        let segment = |source| Segment::Udp { source, destination: HEARD, data: vec![0; 16] };
        let initial = || {
            let mut data = vec![0xc0, 0, 0, 0, 1];
            data.resize(1_200, 0);
            data
        };
        let options = Extension::Units(60, 0);
        let tags = |frame: Vec<u8>| frame::tagged(frame::tagged(frame::tagged(frame)));
        vec![
            ("datagrams of sources that do not exist", self.of_strangers(udp)),
            ("SYNs of sources that do not exist", self.of_strangers(syn)),
            (
                "later fragments that look like SYNs to a lifeline's port",
                self.of_strangers(|source| frame::later_fragment(to_ssh(source))),
            ),
            (
                "first fragments too short for their ports",
                self.of_strangers(|source| {
                    let mut frame = syn(source);
                    frame.truncate(14 + 20 + 8);
                    frame[16..18].copy_from_slice(&28u16.to_be_bytes());
                    frame[20..22].copy_from_slice(&0x2000u16.to_be_bytes());
                    frame
                }),
            ),
            (
                "second fragments over the ports of the first",
                self.of_strangers(|source| {
                    let mut frame = syn(source);
                    frame[20..22].copy_from_slice(&1u16.to_be_bytes());
                    frame
                }),
            ),
            (
                "chains of extension headers",
                (0..5_000)
                    .map(|n| {
                        let chain = vec![options; 1 + n as usize % 9];
                        self.framed(&Frame::new(self.header6(n, chain), segment(n as u16)))
                    })
                    .collect(),
            ),
            (
                "one /64, an address a packet",
                (0..5_000).map(|n| self.framed(&Frame::new(self.header6(n, vec![]), segment(1)))).collect(),
            ),
            ("stacks of tags", self.of_strangers(|source| tags(udp(source)))),
            (
                "two tags",
                (0..5_000u16)
                    .map(|n| {
                        let (source, destination) =
                            (self.stranger(n).to_bits(), self.0.server_v4().to_bits());
                        let header = Header::V4 { source, destination, options: 0, fragment: 0 };
                        self.framed(&Frame::new(header, segment(n)).tagged(&[QINQ, VLAN]))
                    })
                    .collect(),
            ),
            (
                "one source, a flow a packet",
                (1..20_000).map(|port| udp((self.stranger(1), port).into())).collect(),
            ),
            (
                "one source, as a lifeline's port and a service's",
                (0..2_000u16)
                    .map(|n| udp((self.stranger(2), [22, HEARD, 53][usize::from(n % 3)]).into()))
                    .collect(),
            ),
            (
                "QUIC Initials",
                (0..2_000u16)
                    .map(|n| frame::udp(ethernet, (self.stranger(n), n).into(), server, &initial()))
                    .collect(),
            ),
            (
                "in the name of a lifeline",
                (0..250u8).map(|n| to_ssh((self.0.source_v4(253, n), 1).into())).collect(),
            ),
            (
                "every kind of damage",
                named()
                    .iter()
                    .filter(|one| one.walk == Walk::Malformed && one.bytes.len() >= 14)
                    .map(|one| {
                        let mut bytes = one.bytes.clone();
                        bytes[..6].copy_from_slice(&self.0.server_mac());
                        bytes
                    })
                    .collect(),
            ),
        ]
    }
}

/// Has the kernel believe that this host has answered `source` inside a connection.
fn prove(attached: &Attached, link: &Link, source: Ipv4Addr) {
    let header = Header::V4 {
        source: link.server_v4().to_bits(),
        destination: source.to_bits(),
        options: 0,
        fragment: 0,
    };
    let answer =
        Segment::Tcp { source: HEARD, destination: 7, flags: Tcp::ACK, options: 0, data: b"answer".into() };
    assert_eq!(attached.sends(&Frame::new(header, answer).bytes()), Some(true));
}

#[test]
fn a_known_source_keeps_its_rate_under_every_attack() {
    if !privileged::require() {
        return;
    }
    const KEPT: f64 = 0.99;
    const RATE: u64 = 8_000;
    const TIME: Duration = Duration::from_millis(1_500);
    let network = Network::new("attackers").unwrap();
    let link = network.link();
    let shedder = Shedder::new(&network);
    let attached = kernel::attach(&shedder, TIGHT);
    let attacker = Attacker(link);
    let known = link.source_v4(250, 1);
    prove(&attached, link, known);
    let own = vec![frame::udp(attacker.ethernet(), (known, 7).into(), attacker.server(), b"datagram")];
    for (what, frames) in attacker.attacks() {
        let (sent, heard) = repeat(|_| {
            let receiver = Receiver::start(&network.server, attacker.server())?;
            let plan = |frames: &Vec<Vec<u8>>, rate| Plan {
                interface: link.interface.clone(),
                frames: frames.clone(),
                rate,
                duration: TIME,
                cpu: None,
            };
            let measured = Measured::floods(&network, &attached, vec![plan(&frames, RATE), plan(&own, 300)])?;
            measured.sound(BURST)?;
            let sent = measured.sent[1].frames;
            // What was admitted last is on its way to the socket.
            let of_known = |arrivals: &shedder_tests::flood::Arrivals| {
                arrivals.by_source.get(&known.into()).copied().unwrap_or(0)
            };
            let deadline = std::time::Instant::now() + Duration::from_secs(2);
            while of_known(&receiver.arrivals()) < sent && std::time::Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(5));
            }
            let arrivals = receiver.finish()?;
            ensure!(arrivals.overflowed == 0, "the receiver could not keep up");
            Ok((sent, of_known(&arrivals)))
        });
        println!("{what}: the known source was heard {heard} times of {sent}");
        assert!(heard as f64 >= KEPT * sent as f64, "{what}: heard {heard} times of {sent}");
    }
}

/// What the network may look like to the one who is spoofed: every rung that a lifeline's address passes, it passes for
/// whoever forges it. Documented in `docs/security.md`, with what helps; here, that ports narrow it.
#[test]
fn a_forged_lifeline_opens_its_ports_and_no_other() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("forged").unwrap();
    let link = network.link();
    let shedder = Shedder::new(&network);
    let attached = kernel::attach(&shedder, TIGHT);
    let attacker = Attacker(link);
    shedder.ok(&["kill"]);
    let forged: SocketAddr = (link.source_v4(253, 9), 40_000).into();
    let to = |port| frame::tcp_syn(attacker.ethernet(), forged, (link.server_v4(), port).into(), 1);
    assert!(attached.receives(&to(22)));
    for port in [21, 23, 80, HEARD] {
        assert!(!attached.receives(&to(port)), "port {port}");
    }
    // Nor is a port read where there is none.
    assert!(!attached.receives(&frame::later_fragment(to(22))));
    wait::until("the kill to be lifted", || shedder.run(&["resume"]).status.success());
}
