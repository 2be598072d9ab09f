//! What one decision costs: test runs of the ingress program on one source's frame, next to a program of two
//! instructions that drops everything, in the same run.
//!
//! The figure, in full:
//! `cargo test -p shedder-tests --test cost -- --ignored --nocapture`
//!
//! Wall clock over repeats of a test run, which adds the same to every program (what the two instructions cost is
//! mostly that). Rounds are interleaved: every case once, then every case again, so that what else the machine does falls
//! on all of them; where it does much, the least of the rounds says more than their median. One hot source shows the cost
//! with everything in the cache. Nothing is asserted of the figures, only that every run did what its line says.

use aya::programs::{Xdp, XdpMode};
use shedder_common::host::frames::{Frame, Network as Header, Segment};
use shedder_common::reason::Reason::{self, Admitted, Denied, Kill, Lifeline, SourceRate};
use shedder_common::walk::Tcp;
use shedder_tests::kernel::{self, Attached, XDP_DROP, bare_drop};
use shedder_tests::netns::Network;
use shedder_tests::privileged;
use shedder_tests::shedder::Shedder;
use shedder_tests::stats::quantile;
use std::net::Ipv4Addr;
use std::time::Instant;

const NOTHING: &str = "interfaces = [\"$IF\"]\n";

/// Limits that even a test run does not reach, so that every bucket is asked and none is empty.
const UNREACHABLE: &str = "packets_per_second = 1_000_000_000\n\
    bytes_per_second = 1_000_000_000_000\nnew_flows_per_second = 1_000_000_000\n";

/// A limit that one long frame exceeds for the rest of a round.
const EXCEEDED: &str = "packets_per_second = 1_000_000_000\n\
    bytes_per_second = 1_500\nnew_flows_per_second = 1_000_000_000\n";

/// Three limits of every source and one of newcomers: what a host is given before anybody names services and rules.
fn limits() -> String {
    format!("{NOTHING}[source]\n{UNREACHABLE}[newcomers]\npackets_per_second = 50_000\n")
}

/// The same, with a limit that is exceeded.
fn exceeded() -> String {
    limits().replace(UNREACHABLE, EXCEEDED)
}

/// The configuration of `docs/example.toml`, on the network's interface, with two rules more: for a source whose limits
/// are not reached, and for one whose limits are exceeded.
fn everything() -> String {
    let example = include_str!("../docs/example.toml");
    let of_the_file =
        example.lines().find(|line| line.starts_with("interfaces")).expect("it names interfaces");
    example.replace(of_the_file, NOTHING)
        + &format!("\n[[rule]]\nsources = [\"203.0.114.0/24\"]\n{UNREACHABLE}")
        + &format!("\n[[rule]]\nsources = [\"203.0.115.0/24\"]\n{EXCEEDED}")
}

/// The same, and the service's requests are not measured.
fn unmeasured() -> String {
    let everything = everything();
    assert!(everything.contains(PASSIVE), "a service is measured");
    everything.replace(PASSIVE, "signal = { kind = \"none\" }")
}

const PASSIVE: &str = "signal = { kind = \"passive\" }";

const ANYBODY: Ipv4Addr = Ipv4Addr::new(192, 0, 3, 1);
/// These are named by the configuration.
const DENIED: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const UNREACHED: Ipv4Addr = Ipv4Addr::new(203, 0, 114, 1);
const BUSY: Ipv4Addr = Ipv4Addr::new(203, 0, 115, 1);
const OPERATOR: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

#[derive(Clone, Copy)]
enum Kind {
    TcpSegment,
    TcpAcknowledgement,
    TcpSyn,
    Udp,
    /// A datagram that takes most of a minute at the rate which is [`EXCEEDED`].
    Long,
}

/// The host that is protected.
const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 254);

/// A segment of this host's answer to a source, which proves it.
fn answer(source: Ipv4Addr) -> Vec<u8> {
    let segment =
        Segment::Tcp { source: 8080, destination: 40_000, flags: Tcp::ACK, options: 0, data: vec![0; 6] };
    let (source, destination) = (SERVER.to_bits(), source.to_bits());
    Frame::new(Header::V4 { source, destination, options: 0, fragment: 0 }, segment).bytes()
}

fn frame(kind: Kind, source: Ipv4Addr) -> Vec<u8> {
    const PEER: u16 = 40_000;
    let tcp = |port, flags, length| {
        let data = vec![0; length];
        Segment::Tcp { source: PEER, destination: port, flags, options: 0, data }
    };
    let port = if source == OPERATOR { 22 } else { 8080 };
    let segment = match kind {
        Kind::TcpSegment => tcp(port, Tcp::ACK, 6),
        Kind::TcpAcknowledgement => tcp(port, Tcp::ACK, 0),
        Kind::TcpSyn => tcp(port, Tcp::SYN, 6),
        Kind::Udp => Segment::Udp { source: PEER, destination: port, data: vec![0; 18] },
        Kind::Long => Segment::Udp { source: PEER, destination: port, data: vec![0; 60_000] },
    };
    let (source, destination) = (source.to_bits(), SERVER.to_bits());
    Frame::new(Header::V4 { source, destination, options: 0, fragment: 0 }, segment).bytes()
}

/// A line of the table.
struct Case<'a> {
    name: String,
    /// None: the bare program.
    of: Option<(&'a Attached, Reason)>,
    program: &'a Xdp,
    frame: Vec<u8>,
    source: Ipv4Addr,
    /// Nanoseconds of a run, by round.
    rounds: Vec<f64>,
}

impl Case<'_> {
    /// Runs it, and notes what a run took. Where some run met anything but what the line says (a bucket held again what
    /// a packet takes), nothing is noted, and it is run again.
    fn run(&mut self, repeat: u32) {
        const ATTEMPTS: usize = 20;
        let Some((attached, reason)) = self.of else {
            self.rounds.push(time(self.program, &self.frame, repeat));
            return;
        };
        for _ in 0..ATTEMPTS {
            if reason == SourceRate {
                kernel::run(self.program, &frame(Kind::Long, self.source), 1);
            }
            // What a first run does more, such as to remember the flow.
            kernel::run(self.program, &self.frame, 1);
            let before = attached.counters();
            let took = time(self.program, &self.frame, repeat);
            let counted = kernel::since(&before, &attached.counters()).ingress;
            assert_eq!(counted.iter().map(|cell| cell.packets).sum::<u64>(), u64::from(repeat));
            if counted[reason as usize].packets == u64::from(repeat) {
                self.rounds.push(took);
                return;
            }
        }
        panic!("{}: in {ATTEMPTS} attempts not every run was {reason:?}", self.name);
    }
}

/// Nanoseconds of a run.
fn time(program: &Xdp, frame: &[u8], repeat: u32) -> f64 {
    let start = Instant::now();
    kernel::run(program, frame, repeat);
    start.elapsed().as_nanos() as f64 / f64::from(repeat)
}

/// Prints the table of costs, each of so many runs in so many rounds.
fn print_costs(label: &str, rounds: usize, repeat: u32) {
    let network = |name: &str| Network::new(&format!("{label}-{name}")).unwrap();
    let (plain, full) = (network("plain"), network("full"));
    let (plain_killed, full_killed) = (network("plain-killed"), network("full-killed"));
    let (sampled, skipped) = (network("sampled"), network("skipped"));
    let (limited, over) = (network("limited"), network("over"));
    let mut bare = bare_drop(&plain.bpffs().join("bare")).unwrap();
    // Attached like the others: the kernel calls what is attached directly, and for what is not it patches its own
    // code at each test run, which takes milliseconds.
    let elsewhere = plain.link().interface.clone();
    plain.client.run(|| bare.attach(&elsewhere, XdpMode::Driver).map(drop)).unwrap().unwrap();
    let attach = |network, config: &str, is_killed: bool| {
        let shedder = Shedder::new(network);
        let attached = kernel::attach(&shedder, config);
        if is_killed {
            shedder.ok(&["kill"]);
        }
        attached
    };
    let unmeasured = unmeasured();
    let setups = [
        ("nothing configured", attach(&plain, NOTHING, false)),
        ("everything on", attach(&full, &unmeasured, false)),
        ("nothing configured, killed", attach(&plain_killed, NOTHING, true)),
        ("everything on, killed", attach(&full_killed, &unmeasured, true)),
        ("everything on, measured", attach(&sampled, &everything(), false)),
        ("everything on, measured, flow not sampled", attach(&skipped, &everything(), false)),
        ("limits", attach(&limited, &limits(), false)),
        ("limits", attach(&over, &exceeded(), false)),
    ];
    for (_, attached) in &setups {
        attached.sends(&answer(ANYBODY));
    }
    setups[5].1.change_control(0, |control| control.skip.store(u64::from(u32::MAX) + 1));
    use Kind::{TcpAcknowledgement, TcpSegment, TcpSyn, Udp};
    let lines: &[(usize, Kind, &str, Ipv4Addr, Reason)] = &[
        (0, TcpSegment, "allowed, TCP segment", ANYBODY, Admitted),
        (0, TcpSyn, "allowed, TCP SYN", ANYBODY, Admitted),
        (0, Udp, "allowed, UDP", ANYBODY, Admitted),
        (6, TcpSegment, "allowed, TCP segment of a proven source", ANYBODY, Admitted),
        (6, TcpSyn, "allowed, TCP SYN of a proven source", ANYBODY, Admitted),
        (6, Udp, "allowed, UDP of a proven source", ANYBODY, Admitted),
        (7, TcpSegment, "denied, TCP segment", ANYBODY, SourceRate),
        (7, Udp, "denied, UDP", ANYBODY, SourceRate),
        (1, TcpSegment, "denied by its rate, TCP segment", BUSY, SourceRate),
        (1, Udp, "denied by its rate, UDP", BUSY, SourceRate),
        (1, TcpSegment, "denied by a rule, TCP segment", DENIED, Denied),
        (1, Udp, "denied by a rule, UDP", DENIED, Denied),
        (1, TcpSegment, "allowed, TCP segment", UNREACHED, Admitted),
        (1, TcpSyn, "allowed, TCP SYN", UNREACHED, Admitted),
        (1, Udp, "allowed, UDP", UNREACHED, Admitted),
        (2, TcpSegment, "TCP segment", ANYBODY, Kill),
        (2, Udp, "UDP", ANYBODY, Kill),
        (3, TcpSegment, "TCP segment", ANYBODY, Kill),
        (3, Udp, "UDP", ANYBODY, Kill),
        (3, TcpSegment, "a lifeline's TCP segment", OPERATOR, Lifeline),
        (4, TcpAcknowledgement, "allowed, TCP acknowledgement", UNREACHED, Admitted),
        (4, TcpSegment, "allowed, TCP segment", UNREACHED, Admitted),
        (4, TcpSyn, "allowed, TCP SYN", UNREACHED, Admitted),
        (5, TcpSegment, "allowed, TCP segment", UNREACHED, Admitted),
    ];
    let mut cases: Vec<Case<'_>> = vec![Case {
        name: "bare XDP_DROP".into(),
        of: None,
        program: &bare,
        frame: frame(TcpSegment, ANYBODY),
        source: ANYBODY,
        rounds: vec![],
    }];
    assert_eq!(kernel::run(&bare, &cases[0].frame, 1), XDP_DROP);
    for &(setup, kind, what, source, reason) in lines {
        let (config, attached): &(&str, Attached) = &setups[setup];
        cases.push(Case {
            name: format!("{config}: {what}"),
            of: Some((attached, reason)),
            program: attached.ingress(),
            frame: frame(kind, source),
            source,
            rounds: vec![],
        });
    }
    for _ in 0..rounds {
        cases.iter_mut().for_each(|case| case.run(repeat));
    }
    println!(
        "{rounds} rounds of {repeat} runs each: ns of wall clock per run, and the ratio to the bare program"
    );
    println!("{:<68} {:>8} {:>6} {:>8} {:>6} {:>8}", "", "median", "ratio", "min", "ratio", "max");
    let mut of_bare = None;
    for case in &mut cases {
        case.rounds.sort_by(f64::total_cmp);
        let at = |q| quantile(&case.rounds, q).expect("there were rounds");
        let (median, min, max) = (at(0.5), at(0.0), at(1.0));
        let (bare_median, bare_min) = *of_bare.get_or_insert((median, min));
        println!(
            "{:<68} {median:>8.1} {:>6.2} {min:>8.1} {:>6.2} {max:>8.1}",
            case.name,
            median / bare_median,
            min / bare_min
        );
    }
}

#[test]
fn every_case_of_the_table_does_what_its_line_says() {
    if !privileged::require() {
        return;
    }
    print_costs("cost-glance", 3, 50_000);
}

#[test]
#[ignore = "a measurement: takes a minute, and wants a machine that does nothing else"]
fn in_full() {
    if !privileged::require() {
        return;
    }
    print_costs("cost", 60, 350_000);
}
