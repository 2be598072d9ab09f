//! What one decision costs: test runs of the ingress program on one source's frame, next to a program of two
//! instructions that drops everything, in the same run.
//!
//! The figure, in full:
//! `cargo test -p shedder-tests --test cost -- --ignored --nocapture`
//!
//! Wall clock over repeats of a test run, which adds the same to every program (what the two instructions cost is
//! mostly that). Rounds are interleaved: every case once, then every case again, so that what else the machine does falls
//! on all of them; where it does much, the least of the rounds says more than their median. One hot source shows the cost with everything in the cache. Nothing is asserted of the figures, only
//! that each program did what its line says.

use aya::programs::{Xdp, XdpMode};
use shedder_common::host::frames::{Frame, Network as Header, Segment};
use shedder_common::reason::Reason::{self, Admitted, Denied, Kill, Lifeline, SourceRate};
use shedder_common::walk::Tcp;
use shedder_tests::kernel::{self, Attached, Direction, XDP_DROP, XDP_PASS, bare_drop};
use shedder_tests::netns::Network;
use shedder_tests::privileged;
use shedder_tests::shedder::Shedder;
use shedder_tests::stats::quantile;
use std::net::Ipv4Addr;
use std::time::Instant;

const NOTHING: &str = "interfaces = [\"$IF\"]\n";

/// The configuration of `docs/example.toml`, on the network's interface, with a rule more: for a source whose limits
/// even a test run does not reach, so that every bucket is asked and none is empty.
fn everything() -> String {
    let example = include_str!("../docs/example.toml");
    let of_the_file =
        example.lines().find(|line| line.starts_with("interfaces")).expect("it names interfaces");
    example.replace(of_the_file, NOTHING)
        + "\n[[rule]]\nsources = [\"203.0.114.0/24\"]\n\
           packets_per_second = 1_000_000_000\nbytes_per_second = 1_000_000_000_000\nnew_flows_per_second = 1_000_000_000\n"
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
const OPERATOR: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

#[derive(Clone, Copy)]
enum Kind {
    TcpSegment,
    TcpAcknowledgement,
    TcpSyn,
    Udp,
}

fn frame(kind: Kind, source: Ipv4Addr) -> Vec<u8> {
    const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 254);
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
    };
    let (source, destination) = (source.to_bits(), SERVER.to_bits());
    Frame::new(Header::V4 { source, destination, options: 0, fragment: 0 }, segment).bytes()
}

/// A line of the table.
struct Case<'a> {
    name: String,
    program: &'a Xdp,
    frame: Vec<u8>,
    action: u32,
    /// Nanoseconds of a run, by round.
    rounds: Vec<f64>,
}

/// Prints the table of costs, each of so many runs in so many rounds.
fn print_costs(label: &str, rounds: usize, repeat: u32) {
    let network = |name: &str| Network::new(&format!("{label}-{name}")).unwrap();
    let (plain, full) = (network("plain"), network("full"));
    let (plain_killed, full_killed) = (network("plain-killed"), network("full-killed"));
    let (sampled, skipped) = (network("sampled"), network("skipped"));
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
    ];
    setups[5].1.change_control(0, |control| control.skip.store(u64::from(u32::MAX) + 1));
    use Kind::{TcpAcknowledgement, TcpSegment, TcpSyn, Udp};
    let lines: &[(usize, Kind, &str, Ipv4Addr, Reason)] = &[
        (0, TcpSegment, "allowed, TCP segment", ANYBODY, Admitted),
        (0, TcpSyn, "allowed, TCP SYN", ANYBODY, Admitted),
        (0, Udp, "allowed, UDP", ANYBODY, Admitted),
        (1, TcpSegment, "denied by its rate, TCP segment", ANYBODY, SourceRate),
        (1, Udp, "denied by its rate, UDP", ANYBODY, SourceRate),
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
        program: &bare,
        frame: frame(TcpSegment, ANYBODY),
        action: XDP_DROP,
        rounds: vec![],
    }];
    for (setup, kind, what, source, reason) in lines {
        let (config, attached): &(&str, Attached) = &setups[*setup];
        let frame = frame(*kind, *source);
        // Enough to empty the buckets of a source that has limits it can reach.
        const WARM_UP: u32 = 30_000;
        kernel::run(attached.ingress(), &frame, WARM_UP);
        let verdict = attached.judge(Direction::Ingress, &frame);
        assert_eq!(verdict.reason, *reason, "{config}: {what}");
        cases.push(Case {
            name: format!("{config}: {what}"),
            program: attached.ingress(),
            frame,
            action: if reason.passes() { XDP_PASS } else { XDP_DROP },
            rounds: vec![],
        });
    }
    for _ in 0..rounds {
        for case in &mut cases {
            let start = Instant::now();
            let action = kernel::run(case.program, &case.frame, repeat);
            case.rounds.push(start.elapsed().as_nanos() as f64 / f64::from(repeat));
            assert_eq!(action, case.action, "{}", case.name);
        }
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
    print_costs("cost", 55, 100_000);
}
