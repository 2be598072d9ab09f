//! Newcomers and proven sources, on real connections: who is proven, by what, for how long, and what that is worth
//! under a flood from sources that nobody has seen.

use anyhow::{Result, ensure};
use shedder_common::reason::Reason::{Admitted, Newcomer};
use shedder_tests::flood::{Plan, Receiver, Sender};
use shedder_tests::frame::{self, Ethernet};
use shedder_tests::kernel::{self, Attached};
use shedder_tests::measured::{Measured, repeat};
use shedder_tests::netns::{Link, Network};
use shedder_tests::privileged;
use shedder_tests::shedder::Shedder;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};
use tokio::net::TcpSocket;

/// Where the server listens, where it receives datagrams, and where nobody is.
const SERVICE: u16 = 8080;
const HEARD: u16 = 9999;
const CLOSED: u16 = 9998;

const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until something is so.
fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "never came: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn listen(network: &Network) -> TcpListener {
    let address = (network.link().server_v4(), SERVICE);
    network.server.run(|| TcpListener::bind(address)).unwrap().expect("the port is free")
}

/// A connection from `source`, one of those that the client answers for.
fn connect(network: &Network, source: Ipv4Addr, port: u16) -> Result<TcpStream> {
    let server = SocketAddr::from((network.link().server_v4(), port));
    let connect = || -> Result<TcpStream> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let stream = runtime.block_on(async {
            let socket = TcpSocket::new_v4()?;
            socket.bind((source, 0).into())?;
            tokio::time::timeout(PATIENCE, socket.connect(server)).await?
        })?;
        let stream = stream.into_std()?;
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(stream)
    };
    network.client.run(connect)?
}

/// Has the server answer `source` inside a connection.
fn converse(network: &Network, listener: &TcpListener, source: Ipv4Addr) {
    let mut client = connect(network, source, SERVICE).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    client.write_all(b"question").unwrap();
    server.read_exact(&mut [0; 8]).unwrap();
    server.write_all(b"answer").unwrap();
    client.read_exact(&mut [0; 6]).unwrap();
}

fn ethernet(link: &Link) -> Ethernet {
    Ethernet { source: link.client_mac(), destination: link.server_mac() }
}

fn datagram(link: &Link, source: Ipv4Addr, port: u16) -> Vec<u8> {
    frame::udp(ethernet(link), (source, 7).into(), (link.server_v4(), port).into(), b"datagram")
}

/// Few enough that no probe below mistakes a newcomer for a proven source; enough for a connection.
const NEWCOMERS: &str =
    "interfaces = [\"$IF\"]\n[source]\nburst = \"10ms\"\n[newcomers]\npackets_per_second = 1_000\n";

/// Whether a source is proven: asked by far more packets at once than the bucket of all newcomers ever holds, which are
/// judged and not delivered.
fn is_proven(attached: &Attached, link: &Link, source: Ipv4Addr) -> bool {
    const PACKETS: usize = 300;
    let frame = datagram(link, source, CLOSED);
    (0..PACKETS).all(|_| attached.receives(&frame))
}

#[test]
fn a_flood_of_unproven_sources_takes_nothing_from_a_proven_one_or_from_one_that_a_rule_names() {
    if !privileged::require() {
        return;
    }
    const LIMIT: u64 = 1_000;
    const BURST: Duration = Duration::from_millis(200);
    const TIME: Duration = Duration::from_secs(3);
    const EACH: u64 = 200;
    let network = Network::new("flood-of-newcomers").unwrap();
    let link = network.link();
    let shedder = Shedder::new(&network);
    let (proven, ruled, unknown) = (link.source_v4(250, 1), link.source_v4(250, 2), link.source_v4(250, 3));
    let attached = kernel::attach(
        &shedder,
        &format!(
            "interfaces = [\"$IF\"]\n[source]\nburst = \"200ms\"\n[newcomers]\npackets_per_second = {LIMIT}\n\
             [[rule]]\nsources = [\"{ruled}\"]\nclass = \"normal\"\n"
        ),
    );
    let listener = listen(&network);
    converse(&network, &listener, proven);
    repeat(|_| {
        let receiver = Receiver::start(&network.server, (link.server_v4(), HEARD).into())?;
        let plan = |frames, rate| Plan {
            interface: link.interface.clone(),
            frames,
            rate,
            duration: TIME,
            cpu: None,
        };
        let spoofed = (0..200u8).flat_map(|third| (2..=251).map(move |fourth| (third, fourth)));
        let spoofed =
            spoofed.map(|(third, fourth)| datagram(link, link.source_v4(third, fourth), HEARD)).collect();
        let known = [proven, ruled, unknown].map(|source| plan(vec![datagram(link, source, HEARD)], EACH));
        let plans = [plan(spoofed, 20 * LIMIT)].into_iter().chain(known).collect();
        let measured = Measured::floods(&network, &attached, plans)?;
        measured.sound(BURST)?;
        let admitted = measured.met(Admitted).packets;
        wait_until("what was admitted is delivered", || receiver.total() == admitted);
        let arrivals = receiver.finish()?;
        ensure!(arrivals.overflowed == 0, "the receiver could not keep up");
        let heard = |source: Ipv4Addr| arrivals.by_source.get(&source.into()).copied().unwrap_or(0);
        let [_, of_proven, of_ruled, of_unknown] = &measured.sent[..] else {
            unreachable!("four were planned")
        };
        let of_newcomers = admitted - heard(proven) - heard(ruled);
        let ideal = measured.ideal(LIMIT, BURST);
        println!(
            "heard of the proven {} of {}, of the ruled {} of {}, of the unknown {} of {}; newcomers {of_newcomers} of {ideal:.0}",
            heard(proven),
            of_proven.frames,
            heard(ruled),
            of_ruled.frames,
            heard(unknown),
            of_unknown.frames
        );
        assert_eq!(heard(proven), of_proven.frames, "the proven source lost nothing");
        assert_eq!(heard(ruled), of_ruled.frames, "the source that a rule names lost nothing");
        assert!(heard(unknown) < of_unknown.frames / 2, "the flood takes from other newcomers");
        assert!(
            (of_newcomers as f64 - ideal).abs() <= 0.02 * ideal + 1.0,
            "newcomers have one limit together"
        );
        assert_eq!(admitted + measured.met(Newcomer).packets, measured.arrived());
        Ok(())
    });
}

#[test]
fn only_data_inside_an_established_connection_proves_its_source() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("what-proves").unwrap();
    let link = network.link();
    let shedder = Shedder::new(&network);
    let attached = kernel::attach(&shedder, NEWCOMERS);
    let listener = listen(&network);
    let left = || attached.counters().egress[Admitted as usize].packets;

    let refused = link.source_v4(1, 1);
    let before = left();
    assert!(connect(&network, refused, CLOSED).is_err());
    assert!(left() > before, "a reset left");
    assert!(!is_proven(&attached, link, refused), "a reset proves nothing");

    let silent = link.source_v4(1, 2);
    let mut client = connect(&network, silent, SERVICE).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    assert!(!is_proven(&attached, link, silent), "a SYN-ACK proves nothing");
    let before = left();
    client.write_all(b"question").unwrap();
    server.read_exact(&mut [0; 8]).unwrap();
    wait_until("an acknowledgement leaves", || left() > before);
    assert!(!is_proven(&attached, link, silent), "a bare acknowledgement proves nothing");
    server.write_all(b"answer").unwrap();
    client.read_exact(&mut [0; 6]).unwrap();
    assert!(is_proven(&attached, link, silent), "an answer proves its source");
    assert!(!is_proven(&attached, link, refused), "and no other");
}

#[test]
fn a_spoofed_source_cannot_become_proven() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("spoofed").unwrap();
    let link = network.link();
    let shedder = Shedder::new(&network);
    let attached = kernel::attach(&shedder, NEWCOMERS);
    let listener = listen(&network);
    // What the server would say to anybody who gets so far.
    let answering = std::thread::spawn({
        let listener = listener.try_clone().unwrap();
        move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if (&stream).write_all(b"banner").is_err() {
                    return;
                }
                let mut word = [0; 4];
                if (&stream).read_exact(&mut word).is_ok() && &word == b"stop" {
                    return;
                }
            }
        }
    });
    let victim = link.source_v4(2, 2);
    let peer = SocketAddr::from((victim, 5_000));
    let service = SocketAddr::from((link.server_v4(), SERVICE));
    let send = |frame: Vec<u8>| {
        let plan = Plan {
            interface: link.interface.clone(),
            frames: vec![frame],
            rate: 100,
            duration: Duration::from_millis(200),
            cpu: None,
        };
        Sender::start(&network.client, plan).unwrap().finish().unwrap();
    };
    let left = || attached.counters().egress[Admitted as usize].packets;

    let before = left();
    send(frame::tcp_syn(ethernet(link), peer, service, 1));
    wait_until("the server answers the SYN", || left() > before);
    assert!(!is_proven(&attached, link, victim), "a SYN from anywhere proves nobody");

    // Whoever spoofs does not see the server's number, and guesses.
    let before = left();
    for guess in [0, 1, u32::MAX] {
        send(frame::tcp_data(ethernet(link), peer, service, (2, guess), b"question"));
    }
    wait_until("the server answers the guess", || left() > before);
    assert!(!is_proven(&attached, link, victim), "a guess proves nobody");

    let before = left();
    send(datagram(link, victim, CLOSED));
    wait_until("the server answers the datagram", || left() > before);
    assert!(!is_proven(&attached, link, victim), "what ICMP says proves nobody");

    // The same source, when it is who it says it is.
    let mut honest = connect(&network, victim, SERVICE).unwrap();
    honest.read_exact(&mut [0; 6]).unwrap();
    assert!(is_proven(&attached, link, victim));
    honest.write_all(b"stop").unwrap();
    answering.join().unwrap();
}

#[test]
fn a_proven_source_is_forgotten_when_it_was_not_answered_for_that_long() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("forgotten").unwrap();
    let link = network.link();
    let shedder = Shedder::new(&network);
    let listener = listen(&network);
    let source = link.source_v4(3, 3);

    let attached = kernel::attach(&shedder, &format!("{NEWCOMERS}proven_for = \"1h\""));
    converse(&network, &listener, source);
    assert!(is_proven(&attached, link, source));

    let attached = kernel::attach(&shedder, &format!("{NEWCOMERS}proven_for = \"5s\""));
    let other = link.source_v4(3, 4);
    converse(&network, &listener, other);
    let answered = Instant::now();
    assert!(is_proven(&attached, link, other));
    wait_until("it is forgotten", || !is_proven(&attached, link, other));
    let remembered = answered.elapsed();
    println!("forgotten {remembered:.2?} after the answer");
    // Time is kept in units of 1.07 s; the answer's acknowledgement may have left a moment before `answered`.
    assert!(remembered > Duration::from_millis(4_800), "it was forgotten after {remembered:?}");
    assert!(
        is_proven(&attached, link, source),
        "what another configuration learned is kept as it was learned"
    );

    let attached = kernel::attach(&shedder, &format!("{NEWCOMERS}proven_for = \"0s\""));
    let third = link.source_v4(3, 5);
    converse(&network, &listener, third);
    assert!(!is_proven(&attached, link, third), "nothing is learned");
}

#[test]
fn a_proven_source_is_still_proven_after_the_program_is_replaced() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("carried-on").unwrap();
    let link = network.link();
    let shedder = Shedder::new(&network);
    kernel::attach(&shedder, NEWCOMERS);
    let listener = listen(&network);
    let source = link.source_v4(4, 4);
    converse(&network, &listener, source);
    let attached = kernel::attach(&shedder, NEWCOMERS);
    assert!(is_proven(&attached, link, source));
    assert!(!is_proven(&attached, link, link.source_v4(4, 5)));
}
