//! What the kernel says to a frame, rung by rung of the ladder: frame, description, expected reason. The reason is the
//! one whose counter moved, and the action is what the program returned.
//!
//! Frames are given to the programs one at a time, without a network, so that nothing here depends on speed: where a
//! bucket is involved, it holds a single packet and takes a second to fill.

use Direction::{Egress, Ingress};
use Reason::{Admitted, Denied, Kill, Lifeline, Malformed, Newcomer, NotIp, Posture, Shed, SourceRate};
use shedder_common::host::frames::{Extension, Frame, Network as Header, QINQ, Segment, VLAN};
use shedder_common::reason::Reason;
use shedder_common::walk::Tcp;
use shedder_tests::kernel::{self, Attached, Direction, Verdict};
use shedder_tests::netns::Network;
use shedder_tests::privileged;
use shedder_tests::shedder::Shedder;
use std::net::IpAddr;
use std::time::{Duration, Instant};

const SYN: u8 = Tcp::SYN;
const ACK: u8 = Tcp::ACK;
const RST: u8 = Tcp::RST;
const FIN: u8 = Tcp::FIN;

/// A peer that nothing names.
const ANYBODY: &str = "192.0.2.1";
const ANYBODY6: &str = "2001:db8:f::1";
/// Within the lifeline that has a port, 22.
const OPERATOR: &str = "10.1.2.3";
const OPERATOR6: &str = "2001:db8:1::9";
/// The lifeline on every port.
const CONSOLE: &str = "10.9.9.9";
/// Within the rule that denies.
const DENIED: &str = "198.51.100.77";
const DENIED6: &str = "2001:db8:bad::1";
/// Within the rule that gives the class `critical`.
const CRITICAL: &str = "203.0.113.5";
/// Within the rule that gives the class `sheddable`.
const SHEDDABLE: &str = "203.0.114.5";

/// Ports of the services, and one of none.
const WEB: u16 = 80;
const DNS: u16 = 53;
const BATCH: u16 = 9000;
const NO_SERVICE: u16 = 4000;
const SSH: u16 = 22;

const NAMES: &str = r#"
interfaces = ["$IF"]
[[lifeline]]
peers = ["10.1.0.0/16", "2001:db8:1::/48"]
ports = [22]
[[lifeline]]
peers = ["10.9.9.9/32"]
[[rule]]
sources = ["198.51.100.0/24", "2001:db8:bad::/48"]
deny = true
[[rule]]
sources = ["203.0.113.0/24"]
class = "critical"
[[rule]]
sources = ["203.0.114.0/24"]
class = "sheddable"
[[service]]
name = "web"
protocol = "tcp"
port = 80
class = "high"
[[service]]
name = "dns"
protocol = "udp"
port = 53
class = "background"
[[service]]
name = "batch"
protocol = "tcp"
port = 9000
class = "low"
shed = "packets"
"#;

/// One line of a specification.
type Row = (&'static str, Direction, Frame, Reason);

fn attach<'a>(network: &'a Network, config: &str) -> (Shedder<'a>, Attached) {
    let shedder = Shedder::new(network);
    let attached = kernel::attach(&shedder, config);
    (shedder, attached)
}

/// Judges the rows in order.
fn hold(attached: &Attached, rows: impl IntoIterator<Item = Row>) {
    for (what, direction, frame, expected) in rows {
        let verdict = attached.judge(direction, &frame.bytes());
        let live = Verdict { reason: expected, passed: expected.passes(), is_dry: false };
        assert_eq!(verdict, live, "{direction:?}: {what}");
    }
}

/// The network header between `peer` and this host.
fn between(peer: &str, direction: Direction) -> Header {
    const HOST4: u32 = 0xc000_02fe;
    const HOST6: u128 = 0x2001_0db8_ffff << 80 | 1;
    const HOPS: u8 = 64;
    let turn = |peer, host| if direction == Ingress { (peer, host) } else { (host, peer) };
    let turn6 = |peer, host| if direction == Ingress { (peer, host) } else { (host, peer) };
    match peer.parse().expect("an address") {
        IpAddr::V4(peer) => {
            let (source, destination) = turn(peer.to_bits(), HOST4);
            Header::V4 { source, destination, options: 0, fragment: 0 }
        }
        IpAddr::V6(peer) => {
            let (source, destination) = turn6(peer.to_bits(), HOST6);
            Header::V6 { source, destination, hop_limit: HOPS, extensions: vec![] }
        }
    }
}

/// The port that peers use.
const PEER_PORT: u16 = 40_000;

fn tcp_data(peer: &str, direction: Direction, local: u16, flags: u8, data: &[u8]) -> Frame {
    let (source, destination) = if direction == Ingress { (PEER_PORT, local) } else { (local, PEER_PORT) };
    let segment = Segment::Tcp { source, destination, flags, options: 0, data: data.into() };
    Frame::new(between(peer, direction), segment)
}

/// A TCP segment from `peer` to the local port.
fn tcp(peer: &str, local: u16, flags: u8) -> Frame {
    tcp_data(peer, Ingress, local, flags, b"")
}

/// A TCP segment to `peer` from the local port.
fn tcp_out(peer: &str, local: u16, flags: u8) -> Frame {
    tcp_data(peer, Egress, local, flags, b"")
}

fn udp_flow(peer: &str, from: u16, local: u16, data: &[u8]) -> Frame {
    let segment = Segment::Udp { source: from, destination: local, data: data.into() };
    Frame::new(between(peer, Ingress), segment)
}

/// A datagram from `peer` to the local port.
fn udp(peer: &str, local: u16) -> Frame {
    udp_flow(peer, PEER_PORT, local, b"datagram")
}

/// A datagram to `peer` from the local port.
fn udp_out(peer: &str, local: u16) -> Frame {
    let segment = Segment::Udp { source: local, destination: PEER_PORT, data: b"answer".into() };
    Frame::new(between(peer, Egress), segment)
}

/// As long as a QUIC client pads it (RFC 9000, 14.1).
fn quic_initial(peer: &str, local: u16) -> Frame {
    let mut payload = vec![0xc0, 0, 0, 0, 1];
    payload.resize(1200, 0);
    udp_flow(peer, PEER_PORT, local, &payload)
}

fn ping(peer: &str, direction: Direction) -> Frame {
    let kind = if peer.contains(':') { 128 } else { 8 };
    Frame::new(between(peer, direction), Segment::Icmp(kind, 0, vec![0; 8]))
}

/// A fragment behind the first, whose bytes would read as a SYN to the local port.
fn later_fragment(peer: &str, local: u16) -> Frame {
    const OFFSET: u16 = 185;
    let mut frame = tcp(peer, local, SYN);
    match &mut frame.network {
        Header::V4 { fragment, .. } => *fragment = OFFSET,
        Header::V6 { extensions, .. } => extensions.push(Extension::Fragment(OFFSET * 8)),
        Header::Other(_) => unreachable!("made from an address"),
    }
    frame
}

fn arp() -> Frame {
    Frame::new(Header::Other(0x0806), Segment::Other(0, vec![0; 28]))
}

/// What IPv6 has in place of ARP.
fn neighbour_solicitation() -> Frame {
    const MOST_HOPS: u8 = 255;
    let mut network = between(ANYBODY6, Ingress);
    if let Header::V6 { hop_limit, .. } = &mut network {
        *hop_limit = MOST_HOPS;
    }
    Frame::new(network, Segment::Icmp(135, 0, vec![0; 20]))
}

/// A TCP header that says that it is longer than its packet.
fn malformed(peer: &str, direction: Direction) -> Frame {
    let header = [&[0; 12][..], &[0xf0, SYN], &[0; 6]].concat();
    Frame::new(between(peer, direction), Segment::Other(6, header))
}

#[test]
fn with_nothing_configured_all_that_can_be_walked_passes() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("verdict-default").unwrap();
    let (_shedder, attached) = attach(&network, "interfaces = [\"$IF\"]");
    let vlan = |frame: Frame| frame.tagged(&[VLAN]);
    hold(
        &attached,
        [
            ("a SYN", Ingress, tcp(ANYBODY, WEB, SYN), Admitted),
            ("a segment", Ingress, tcp(ANYBODY, WEB, ACK), Admitted),
            ("a SYN over IPv6", Ingress, tcp(ANYBODY6, WEB, SYN), Admitted),
            ("a datagram", Ingress, udp(ANYBODY, DNS), Admitted),
            ("a datagram over IPv6", Ingress, udp(ANYBODY6, DNS), Admitted),
            ("a ping", Ingress, ping(ANYBODY, Ingress), Admitted),
            ("a ping over IPv6", Ingress, ping(ANYBODY6, Ingress), Admitted),
            ("a later fragment", Ingress, later_fragment(ANYBODY, WEB), Admitted),
            ("a later fragment over IPv6", Ingress, later_fragment(ANYBODY6, WEB), Admitted),
            ("a SYN in a VLAN", Ingress, vlan(tcp(ANYBODY, WEB, SYN)), Admitted),
            ("a SYN in two VLANs", Ingress, tcp(ANYBODY6, WEB, SYN).tagged(&[QINQ, VLAN]), Admitted),
            ("a SYN in three VLANs", Ingress, tcp(ANYBODY, WEB, SYN).tagged(&[QINQ, VLAN, VLAN]), Malformed),
            ("ARP", Ingress, arp(), NotIp),
            ("ARP in a VLAN", Ingress, vlan(arp()), NotIp),
            ("neighbour discovery", Ingress, neighbour_solicitation(), NotIp),
            ("a TCP header past its packet", Ingress, malformed(ANYBODY, Ingress), Malformed),
            ("a TCP header past its packet, over IPv6", Ingress, malformed(ANYBODY6, Ingress), Malformed),
            ("a SYN-ACK", Egress, tcp_out(ANYBODY, WEB, SYN | ACK), Admitted),
            ("a datagram", Egress, udp_out(ANYBODY6, DNS), Admitted),
            ("ARP", Egress, arp(), NotIp),
            ("what this host sends is not judged by its form", Egress, malformed(ANYBODY, Egress), Admitted),
        ],
    );
}

#[test]
fn lifelines_pass_before_anything_else_is_asked_and_a_rule_may_deny_the_rest() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("verdict-lifeline").unwrap();
    let (_shedder, attached) = attach(&network, NAMES);
    hold(
        &attached,
        [
            ("the operator, to the lifeline's port", Ingress, tcp(OPERATOR, SSH, SYN), Lifeline),
            ("the operator over IPv6", Ingress, tcp(OPERATOR6, SSH, ACK), Lifeline),
            ("the lifeline's port is for UDP as well", Ingress, udp(OPERATOR, SSH), Lifeline),
            ("the operator, to another port", Ingress, tcp(OPERATOR, WEB, SYN), Admitted),
            ("the operator's ping has no port", Ingress, ping(OPERATOR, Ingress), Admitted),
            ("a later fragment has no port", Ingress, later_fragment(OPERATOR, SSH), Admitted),
            ("the console, to any port", Ingress, tcp(CONSOLE, WEB, SYN), Lifeline),
            ("the console's ping", Ingress, ping(CONSOLE, Ingress), Lifeline),
            ("the console's later fragment", Ingress, later_fragment(CONSOLE, WEB), Lifeline),
            ("somebody else, to the lifeline's port", Ingress, tcp(ANYBODY, SSH, SYN), Admitted),
            ("a lifeline does not excuse form", Ingress, malformed(CONSOLE, Ingress), Malformed),
            ("the denied: a SYN", Ingress, tcp(DENIED, WEB, SYN), Denied),
            ("the denied: a segment", Ingress, tcp(DENIED, NO_SERVICE, ACK), Denied),
            ("the denied: a datagram", Ingress, udp(DENIED, DNS), Denied),
            ("the denied: a ping", Ingress, ping(DENIED, Ingress), Denied),
            ("the denied: a later fragment", Ingress, later_fragment(DENIED, WEB), Denied),
            ("the denied: in a VLAN", Ingress, tcp(DENIED, WEB, SYN).tagged(&[VLAN]), Denied),
            ("the denied: IPv6", Ingress, tcp(DENIED6, WEB, SYN), Denied),
            ("the denied: IPv6, a later fragment", Ingress, later_fragment(DENIED6, WEB), Denied),
            ("form comes before rules", Ingress, malformed(DENIED, Ingress), Malformed),
            ("what leaves is judged by no rule", Egress, tcp_out(DENIED, WEB, ACK), Admitted),
            ("a lifeline is not looked up without a kill", Egress, tcp_out(OPERATOR, SSH, ACK), Admitted),
        ],
    );
}

/// What a kill of everything but lifelines says.
fn killed() -> Vec<Row> {
    vec![
        ("a SYN", Ingress, tcp(ANYBODY, WEB, SYN), Kill),
        ("an open connection", Ingress, tcp(ANYBODY, WEB, ACK), Kill),
        ("a datagram over IPv6", Ingress, udp(ANYBODY6, DNS), Kill),
        ("a ping", Ingress, ping(ANYBODY, Ingress), Kill),
        ("a later fragment", Ingress, later_fragment(ANYBODY, SSH), Kill),
        ("the most important", Ingress, tcp(CRITICAL, WEB, ACK), Kill),
        ("kill comes before rules", Ingress, tcp(DENIED, WEB, SYN), Kill),
        ("kill comes before form", Ingress, malformed(ANYBODY, Ingress), Kill),
        ("the operator, to the lifeline's port", Ingress, tcp(OPERATOR, SSH, ACK), Lifeline),
        ("the operator over IPv6", Ingress, tcp(OPERATOR6, SSH, SYN), Lifeline),
        ("the operator, to another port", Ingress, tcp(OPERATOR, WEB, SYN), Kill),
        ("the operator's later fragment", Ingress, later_fragment(OPERATOR, SSH), Kill),
        ("the console, to any port", Ingress, udp(CONSOLE, NO_SERVICE), Lifeline),
        ("ARP keeps lifelines reachable", Ingress, arp(), NotIp),
        ("so does neighbour discovery", Ingress, neighbour_solicitation(), NotIp),
        ("a segment", Egress, tcp_out(ANYBODY, WEB, ACK), Kill),
        ("a datagram", Egress, udp_out(ANYBODY6, DNS), Kill),
        ("a ping", Egress, ping(ANYBODY, Egress), Kill),
        ("malformed", Egress, malformed(ANYBODY, Egress), Kill),
        ("to the operator, from the lifeline's port", Egress, tcp_out(OPERATOR, SSH, ACK), Lifeline),
        ("to the operator, from another port", Egress, tcp_out(OPERATOR, WEB, ACK), Kill),
        ("to the console", Egress, tcp_out(CONSOLE, WEB, ACK), Lifeline),
        ("ARP", Egress, arp(), NotIp),
    ]
}

#[test]
fn a_kill_drops_both_ways_all_but_lifelines_and_what_is_not_ip() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("verdict-kill").unwrap();
    let (shedder, attached) = attach(&network, NAMES);
    let interface = &network.link().interface;
    for arguments in [&["kill"][..], &["kill", "--interface", interface], &["kill", "--for", "1h"]] {
        shedder.ok(arguments);
        hold(&attached, killed());
        shedder.ok(&["resume"]);
        hold(
            &attached,
            [
                ("a SYN after it was lifted", Ingress, tcp(ANYBODY, WEB, SYN), Admitted),
                ("a segment after it was lifted", Egress, tcp_out(ANYBODY, WEB, ACK), Admitted),
            ],
        );
    }
    // Obeyed until its deadline, which the kernel's clock decides.
    shedder.ok(&["kill", "--for", "1ms"]);
    hold(&attached, [("a SYN past the deadline", Ingress, tcp(ANYBODY, WEB, SYN), Admitted)]);
}

#[test]
fn a_kill_without_lifelines_drops_whatever_is_ip() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("verdict-kill-default").unwrap();
    let (shedder, attached) = attach(&network, "interfaces = [\"$IF\"]");
    shedder.ok(&["kill"]);
    hold(
        &attached,
        [
            ("a SYN", Ingress, tcp(ANYBODY, WEB, SYN), Kill),
            ("a SYN over IPv6", Ingress, tcp(ANYBODY6, WEB, SYN), Kill),
            ("a SYN in a VLAN", Ingress, tcp(ANYBODY, WEB, SYN).tagged(&[VLAN]), Kill),
            ("what cannot be walked", Ingress, malformed(ANYBODY, Ingress), Kill),
            ("ARP", Ingress, arp(), NotIp),
            ("a segment", Egress, tcp_out(ANYBODY, WEB, ACK), Kill),
            ("a datagram over IPv6", Egress, udp_out(ANYBODY6, DNS), Kill),
            ("ARP", Egress, arp(), NotIp),
        ],
    );
}

#[test]
fn a_total_kill_passes_nothing() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("verdict-total").unwrap();
    let (shedder, attached) = attach(&network, NAMES);
    shedder.ok(&["kill", "--total"]);
    let everything = killed().into_iter().map(|(what, direction, frame, _)| (what, direction, frame, Kill));
    hold(&attached, everything);
}

#[test]
fn a_service_is_killed_alone() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("verdict-kill-service").unwrap();
    let (shedder, attached) = attach(&network, NAMES);
    shedder.ok(&["kill", "--service", "web"]);
    hold(
        &attached,
        [
            ("a SYN to it", Ingress, tcp(ANYBODY, WEB, SYN), Kill),
            ("an open connection to it", Ingress, tcp(ANYBODY6, WEB, ACK), Kill),
            ("its answer", Egress, tcp_out(ANYBODY, WEB, ACK), Kill),
            ("the console to it", Ingress, tcp(CONSOLE, WEB, SYN), Lifeline),
            ("its answer to the console", Egress, tcp_out(CONSOLE, WEB, ACK), Lifeline),
            ("its port under UDP is another's", Ingress, udp(ANYBODY, WEB), Admitted),
            ("another service", Ingress, udp(ANYBODY, DNS), Admitted),
            ("another service's answer", Egress, tcp_out(ANYBODY, BATCH, ACK), Admitted),
            ("the traffic of no service", Ingress, tcp(ANYBODY, NO_SERVICE, SYN), Admitted),
            ("a later fragment has no port", Ingress, later_fragment(ANYBODY, WEB), Admitted),
            ("this host's own connection to such a port", Egress, tcp_out(ANYBODY, PEER_PORT, SYN), Admitted),
        ],
    );
}

#[test]
fn a_service_is_killed_in_total_alone() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("verdict-total-service").unwrap();
    let (shedder, attached) = attach(&network, NAMES);
    shedder.ok(&["kill", "--service", "web", "--total"]);
    hold(
        &attached,
        [
            ("the console to it", Ingress, tcp(CONSOLE, WEB, SYN), Kill),
            ("its answer to the console", Egress, tcp_out(CONSOLE, WEB, ACK), Kill),
            ("the console to another", Ingress, tcp(CONSOLE, BATCH, SYN), Lifeline),
            ("ARP belongs to no service", Ingress, arp(), NotIp),
            ("the traffic of no service", Egress, tcp_out(ANYBODY, NO_SERVICE, ACK), Admitted),
        ],
    );
}

#[test]
fn an_empty_bucket_of_packets_stops_its_source_and_nobody_else() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("verdict-packets").unwrap();
    let config = format!("{NAMES}\n[source]\npackets_per_second = 1\nburst = \"1ms\"");
    let (_shedder, attached) = attach(&network, &config);
    hold(
        &attached,
        [
            ("the first packet", Ingress, tcp(ANYBODY, WEB, SYN), Admitted),
            ("the second", Ingress, tcp(ANYBODY, WEB, ACK), SourceRate),
            ("whatever it is", Ingress, ping(ANYBODY, Ingress), SourceRate),
            ("a later fragment of the same source", Ingress, later_fragment(ANYBODY, WEB), SourceRate),
            ("the same source in a VLAN", Ingress, udp(ANYBODY, DNS).tagged(&[VLAN]), SourceRate),
            ("its neighbour", Ingress, tcp("192.0.2.2", WEB, ACK), Admitted),
            ("an address of a /64", Ingress, tcp("2001:db8:f::1", WEB, ACK), Admitted),
            ("another of the same", Ingress, tcp("2001:db8:f::2", WEB, ACK), SourceRate),
            ("one of another", Ingress, tcp("2001:db8:f:1::1", WEB, ACK), Admitted),
            ("the denied are denied first", Ingress, tcp(DENIED, WEB, ACK), Denied),
            ("and again", Ingress, tcp(DENIED, WEB, ACK), Denied),
            ("the operator's SSH", Ingress, tcp(OPERATOR, SSH, ACK), Lifeline),
            ("is not limited", Ingress, tcp(OPERATOR, SSH, ACK), Lifeline),
            ("nor does it use up the operator's bucket", Ingress, tcp(OPERATOR, WEB, ACK), Admitted),
            ("which is a bucket like others", Ingress, tcp(OPERATOR, WEB, ACK), SourceRate),
            ("what leaves is not limited", Egress, tcp_out(ANYBODY, WEB, ACK), Admitted),
        ],
    );
}

#[test]
fn an_empty_bucket_of_bytes_stops_its_source() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("verdict-bytes").unwrap();
    let config = format!("{NAMES}\n[source]\nbytes_per_second = 1_500\nburst = \"1ms\"");
    let (_shedder, attached) = attach(&network, &config);
    let large = |peer| udp_flow(peer, PEER_PORT, DNS, &[0; 1450]);
    hold(
        &attached,
        [
            ("a packet worth a second of the rate", Ingress, large(ANYBODY), Admitted),
            ("a small one behind it", Ingress, tcp(ANYBODY, WEB, ACK), SourceRate),
            ("another source", Ingress, large("192.0.2.2"), Admitted),
        ],
    );
}

#[test]
fn an_empty_bucket_of_new_flows_stops_new_flows_only() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("verdict-flows").unwrap();
    let config = format!("{NAMES}\n[source]\nnew_flows_per_second = 1\nburst = \"1ms\"");
    let (_shedder, attached) = attach(&network, &config);
    let peer = "192.0.2.2";
    hold(
        &attached,
        [
            ("the first SYN", Ingress, tcp(ANYBODY, WEB, SYN), Admitted),
            ("the second", Ingress, tcp(ANYBODY, WEB, SYN), SourceRate),
            ("a SYN with more flags is a SYN", Ingress, tcp(ANYBODY, WEB, SYN | FIN), SourceRate),
            ("a UDP flow's first packet", Ingress, udp(ANYBODY, DNS), SourceRate),
            ("is first until it is let in", Ingress, udp(ANYBODY, DNS), SourceRate),
            ("a connection that is open", Ingress, tcp(ANYBODY, WEB, ACK), Admitted),
            ("the answer to this host's own SYN", Ingress, tcp(ANYBODY, PEER_PORT, SYN | ACK), Admitted),
            ("a reset", Ingress, tcp(ANYBODY, WEB, RST), Admitted),
            ("a later fragment opens nothing", Ingress, later_fragment(ANYBODY, WEB), Admitted),
            ("a ping opens nothing", Ingress, ping(ANYBODY, Ingress), Admitted),
            ("another source's UDP flow", Ingress, udp(peer, DNS), Admitted),
            ("goes on", Ingress, udp(peer, DNS), Admitted),
            ("another flow of that source", Ingress, udp_flow(peer, 40_001, DNS, b""), SourceRate),
            ("to another port", Ingress, udp(peer, NO_SERVICE), SourceRate),
            ("a QUIC Initial opens one, flow known or not", Ingress, quic_initial(peer, DNS), SourceRate),
        ],
    );
}

#[test]
fn a_packet_that_one_bucket_refuses_takes_nothing_from_the_others() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("verdict-buckets").unwrap();
    // Two packets, of which one may open a flow.
    let config =
        format!("{NAMES}\n[source]\nnew_flows_per_second = 1\npackets_per_second = 2\nburst = \"1s\"");
    let (_shedder, attached) = attach(&network, &config);
    hold(
        &attached,
        [
            ("a SYN, worth one packet and one flow", Ingress, tcp(ANYBODY, WEB, SYN), Admitted),
            ("a SYN that the flows refuse", Ingress, tcp(ANYBODY, WEB, SYN), SourceRate),
            ("a segment, from the packet that it did not take", Ingress, tcp(ANYBODY, WEB, ACK), Admitted),
            ("no packet is left", Ingress, tcp(ANYBODY, WEB, ACK), SourceRate),
        ],
    );
}

#[test]
fn newcomers_share_a_bucket_and_an_answer_inside_a_connection_takes_a_source_out_of_it() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("verdict-newcomer").unwrap();
    let config = format!(
        "{NAMES}\n[source]\nburst = \"1ms\"\n[newcomers]\npackets_per_second = 1\nproven_for = \"1h\""
    );
    let (_shedder, attached) = attach(&network, &config);
    let segment = |peer| tcp(peer, WEB, ACK);
    let answer = |peer, flags, data: &[u8]| tcp_data(peer, Egress, WEB, flags, data);
    hold(
        &attached,
        [
            ("the first packet of anybody", Ingress, segment(ANYBODY), Admitted),
            ("the next, of whoever else", Ingress, segment("192.0.2.2"), Newcomer),
            ("over IPv6", Ingress, segment(ANYBODY6), Newcomer),
            ("without ports", Ingress, ping("192.0.2.3", Ingress), Newcomer),
            ("a source that a rule names", Ingress, segment(CRITICAL), Admitted),
            ("and again", Ingress, tcp(CRITICAL, WEB, SYN), Admitted),
            ("a lifeline", Ingress, tcp(OPERATOR, SSH, SYN), Lifeline),
            ("a lifeline's peer, to another port, is a newcomer", Ingress, segment(OPERATOR), Newcomer),
            ("the denied", Ingress, segment(DENIED), Denied),
        ],
    );
    // Each of these is something that a spoofed source can have this host send to it.
    for (what, frame) in [
        ("a SYN-ACK", answer(ANYBODY, SYN | ACK, b"")),
        ("a SYN-ACK with data", answer(ANYBODY, SYN | ACK, b"fast open")),
        ("a SYN", answer(ANYBODY, SYN, b"")),
        ("a SYN with data", answer(ANYBODY, SYN, b"fast open")),
        ("a reset", answer(ANYBODY, RST, b"")),
        ("a reset with an acknowledgement", answer(ANYBODY, RST | ACK, b"")),
        ("a reset with data", answer(ANYBODY, RST | ACK, b"why")),
        ("a bare acknowledgement", answer(ANYBODY, ACK, b"")),
        ("a FIN", answer(ANYBODY, FIN | ACK, b"")),
        ("data that acknowledges nothing", answer(ANYBODY, 0, b"data")),
        ("a datagram", udp_out(ANYBODY, DNS)),
        ("a ping's answer", ping(ANYBODY, Egress)),
    ] {
        hold(&attached, [(what, Egress, frame, Admitted)]);
        let still = format!("{what} proves nothing");
        let verdicts = [0; 2].map(|_| attached.judge(Ingress, &segment(ANYBODY).bytes()).reason);
        // One may have found the bucket's next packet, a second later.
        assert!(verdicts.contains(&Newcomer), "{still}: {verdicts:?}");
    }
    for (peer, other) in [(ANYBODY, "192.0.2.2"), (ANYBODY6, "2001:db8:e::1")] {
        hold(
            &attached,
            [
                ("data inside a connection", Egress, answer(peer, ACK, b"data"), Admitted),
                ("who got it is proven", Ingress, segment(peer), Admitted),
                ("for all it sends", Ingress, udp(peer, DNS), Admitted),
                ("and however much", Ingress, ping(peer, Ingress), Admitted),
            ],
        );
        let verdicts = [0; 2].map(|_| attached.judge(Ingress, &segment(other).bytes()).reason);
        assert!(verdicts.contains(&Newcomer), "nobody else is proven by it: {verdicts:?}");
    }
    hold(
        &attached,
        [("a neighbour in the same /64 is the same source", Ingress, segment("2001:db8:f::77"), Admitted)],
    );
}

#[test]
fn an_override_sheds_new_flows_from_the_least_important_class_up() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("verdict-shed").unwrap();
    let (shedder, attached) = attach(&network, NAMES);
    hold(
        &attached,
        [
            ("a datagram of a flow, before", Ingress, udp(ANYBODY, DNS), Admitted),
            ("a connection, before", Ingress, tcp(ANYBODY, BATCH, ACK), Admitted),
        ],
    );
    // Nothing worth counting was offered: a class is a sixth, and half are `low`, `background` and `sheddable`.
    let attached = kernel::attach(&shedder, NAMES);
    shedder.ok(&["shed", "50"]);
    hold(
        &attached,
        [
            ("normal: a SYN to no service", Ingress, tcp(ANYBODY, NO_SERVICE, SYN), Admitted),
            ("high, the service's class: a SYN", Ingress, tcp(ANYBODY, WEB, SYN), Admitted),
            ("high, over IPv6", Ingress, tcp(ANYBODY6, WEB, SYN), Admitted),
            ("low: a SYN", Ingress, tcp(ANYBODY, BATCH, SYN), Shed),
            ("low, every packet: an open connection", Ingress, tcp(ANYBODY, BATCH, ACK), Shed),
            ("low, every packet: a FIN", Ingress, tcp(ANYBODY6, BATCH, FIN | ACK), Shed),
            ("background: a known flow goes on", Ingress, udp(ANYBODY, DNS), Admitted),
            ("background: a flow's first packet", Ingress, udp_flow(ANYBODY, 40_001, DNS, b""), Shed),
            ("is first until it is let in", Ingress, udp_flow(ANYBODY, 40_001, DNS, b""), Shed),
            ("background: a QUIC Initial in a known flow", Ingress, quic_initial(ANYBODY, DNS), Shed),
            ("a rule's class wins: critical, a SYN", Ingress, tcp(CRITICAL, BATCH, SYN), Admitted),
            ("critical, every packet", Ingress, tcp(CRITICAL, BATCH, ACK), Admitted),
            ("critical, a flow's first packet", Ingress, udp(CRITICAL, DNS), Admitted),
            ("a rule's class wins: sheddable, a SYN", Ingress, tcp(SHEDDABLE, WEB, SYN), Shed),
            ("sheddable, to no service", Ingress, tcp(SHEDDABLE, NO_SERVICE, SYN), Shed),
            ("sheddable, an open connection", Ingress, tcp(SHEDDABLE, WEB, ACK), Admitted),
            ("sheddable, a ping opens nothing", Ingress, ping(SHEDDABLE, Ingress), Admitted),
            ("sheddable, a later fragment", Ingress, later_fragment(SHEDDABLE, WEB), Admitted),
            ("a lifeline", Ingress, tcp(CONSOLE, BATCH, SYN), Lifeline),
            ("the denied", Ingress, tcp(DENIED, BATCH, SYN), Denied),
            ("what leaves is not shed", Egress, tcp_out(SHEDDABLE, BATCH, SYN), Admitted),
        ],
    );
    shedder.ok(&["shed", "100"]);
    hold(
        &attached,
        [
            ("all of it: critical, a SYN", Ingress, tcp(CRITICAL, WEB, SYN), Shed),
            ("all of it: normal, to no service", Ingress, udp(ANYBODY, NO_SERVICE), Shed),
            ("all of it: an open connection stays", Ingress, tcp(ANYBODY, WEB, ACK), Admitted),
            ("all of it: a lifeline", Ingress, tcp(OPERATOR, SSH, SYN), Lifeline),
        ],
    );
    shedder.ok(&["auto"]);
    hold(&attached, [("handed back: sheddable, a SYN", Ingress, tcp(SHEDDABLE, BATCH, SYN), Admitted)]);
}

#[test]
fn an_override_of_a_service_sheds_nothing_else() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("verdict-shed-service").unwrap();
    let (shedder, attached) = attach(&network, NAMES);
    shedder.ok(&["shed", "100", "--service", "web"]);
    hold(
        &attached,
        [
            ("a SYN to it", Ingress, tcp(ANYBODY, WEB, SYN), Shed),
            ("a critical SYN to it", Ingress, tcp(CRITICAL, WEB, SYN), Shed),
            ("an open connection to it", Ingress, tcp(ANYBODY, WEB, ACK), Admitted),
            ("another service", Ingress, tcp(ANYBODY, BATCH, SYN), Admitted),
            ("its port under UDP", Ingress, udp(ANYBODY, WEB), Admitted),
            ("no service", Ingress, tcp(SHEDDABLE, NO_SERVICE, SYN), Admitted),
        ],
    );
    // The override of everything wins over that of one.
    shedder.ok(&["shed", "0"]);
    hold(&attached, [("a SYN to it, nothing shed at all", Ingress, tcp(ANYBODY, WEB, SYN), Admitted)]);
}

#[test]
fn the_closed_posture_drops_all_but_lifelines_once_a_lease_has_lapsed() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("verdict-posture").unwrap();
    let config = NAMES.replace(
        "interfaces",
        "posture = \"closed\"\nlease = \"200ms\"\nendpoint.listen = \"none\"\ninterfaces",
    );
    let (shedder, attached) = attach(&network, &config);
    hold(&attached, [("no daemon ever lived", Ingress, tcp(ANYBODY, WEB, SYN), Admitted)]);
    // Dropped at once: killed, without a chance to detach.
    drop(shedder.daemon(&config).unwrap());
    let deadline = Instant::now() + Duration::from_secs(30);
    while shedder.status().expect("still attached").contains("\"alive\":true") {
        assert!(Instant::now() < deadline, "the lease does not lapse");
        std::thread::sleep(Duration::from_millis(10));
    }
    let attached = Attached::under(shedder.pins());
    hold(
        &attached,
        [
            ("a SYN", Ingress, tcp(ANYBODY, WEB, SYN), Posture),
            ("an open connection", Ingress, tcp(ANYBODY6, WEB, ACK), Posture),
            ("the most important", Ingress, tcp(CRITICAL, WEB, SYN), Posture),
            ("a ping", Ingress, ping(ANYBODY, Ingress), Posture),
            ("a later fragment", Ingress, later_fragment(ANYBODY, WEB), Posture),
            ("the denied", Ingress, tcp(DENIED, WEB, SYN), Posture),
            ("a lifeline", Ingress, tcp(OPERATOR, SSH, SYN), Lifeline),
            ("ARP", Ingress, arp(), NotIp),
            ("malformed", Ingress, malformed(ANYBODY, Ingress), Malformed),
            ("what leaves", Egress, tcp_out(ANYBODY, WEB, ACK), Admitted),
        ],
    );
    shedder.ok(&["shed", "0", "--service", "web"]);
    hold(
        &attached,
        [
            ("a service that a person speaks for", Ingress, tcp(ANYBODY, WEB, SYN), Admitted),
            ("another", Ingress, tcp(ANYBODY, BATCH, SYN), Posture),
        ],
    );
    shedder.ok(&["shed", "0"]);
    hold(&attached, [("a person speaks for everything", Ingress, tcp(ANYBODY, BATCH, SYN), Admitted)]);
}

#[test]
fn a_dry_run_passes_everything_and_counts_what_it_would_have_dropped() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("verdict-dry").unwrap();
    let config = NAMES.replace("interfaces", "dry_run = true\ninterfaces")
        + "\n[source]\npackets_per_second = 1\nburst = \"1ms\"";
    let (shedder, attached) = attach(&network, &config);
    let mut expected = 0;
    let mut dry = |direction, frame: Frame, reason: Reason| {
        let verdict = attached.judge(direction, &frame.bytes());
        assert_eq!(verdict, Verdict { reason, passed: true, is_dry: true });
        expected += u64::from(direction == Ingress && !reason.passes());
    };
    dry(Ingress, tcp(ANYBODY, WEB, SYN), Admitted);
    dry(Ingress, tcp(ANYBODY, WEB, ACK), SourceRate);
    dry(Ingress, tcp(DENIED, WEB, SYN), Denied);
    dry(Ingress, malformed(ANYBODY, Ingress), Malformed);
    dry(Ingress, arp(), NotIp);
    dry(Ingress, tcp(OPERATOR, SSH, SYN), Lifeline);
    dry(Egress, tcp_out(ANYBODY, WEB, ACK), Admitted);
    // Exit code 4: written, and not obeyed, because nothing is dropped dry.
    shedder.fails(4, &["kill", "--total"]);
    dry(Ingress, tcp(CONSOLE, WEB, SYN), Kill);
    dry(Ingress, arp(), Kill);
    dry(Egress, tcp_out(ANYBODY, WEB, ACK), Kill);
    let status: serde_json::Value = serde_json::from_str(&shedder.status().unwrap()).unwrap();
    let ingress = &status["interfaces"][0]["ingress"];
    assert_eq!(ingress["would_drop"]["packets"], expected);
    assert_eq!(ingress["dropped"]["packets"], 0);
    assert_eq!(status["interfaces"][0]["egress"]["would_drop"]["packets"], 1);
}
