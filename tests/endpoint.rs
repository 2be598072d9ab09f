//! The endpoint of a live daemon: what it counts, what it says of readiness, and that nobody who asks, or is asked,
//! delays the loop.

use nix::sys::signal::Signal;
use serde_json::Value;
use shedder_tests::endpoint::{self, Metrics, get, until};
use shedder_tests::flood::{Plan, Receiver, Sender};
use shedder_tests::frame::{self, Ethernet};
use shedder_tests::netns::{Link, Network};
use shedder_tests::privileged;
use shedder_tests::process::Process;
use shedder_tests::shedder::Shedder;
use std::collections::BTreeMap;
use std::io::Write;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(30);

/// Frames of each kind, and what becomes of them under [`JUDGED`].
const REASONS: [&str; 5] = ["admitted", "lifeline", "denied", "malformed", "not-ip"];

/// A verdict for each of [`REASONS`], none of which depends on time.
const JUDGED: &str = r#"
interfaces = ["$IF"]
[[lifeline]]
peers = ["10.77.2.0/24"]
[[rule]]
sources = ["10.77.3.0/24"]
deny = true
"#;

fn address(link: &Link, port: u16) -> SocketAddr {
    SocketAddr::new(link.server_v4().into(), port)
}

/// One frame for each of [`REASONS`], of different lengths.
fn frames(link: &Link) -> Vec<Vec<u8>> {
    let ethernet = Ethernet { source: link.client_mac(), destination: link.server_mac() };
    let datagram = |third: u8, payload: usize| {
        let source = SocketAddr::new(link.source_v4(third, 9).into(), 40_000);
        frame::udp(ethernet, source, address(link, 9000), &vec![7; payload])
    };
    let mut malformed = datagram(1, 40);
    // An IPv4 header of four words.
    malformed[14] = 0x44;
    let mut not_ip = datagram(1, 50);
    // LLDP.
    not_ip[12..14].copy_from_slice(&[0x88, 0xcc]);
    vec![datagram(1, 10), datagram(2, 20), datagram(3, 30), malformed, not_ip]
}

/// Sends frames in turn for a while, and returns how many of each left.
fn send(network: &Network, frames: &[Vec<u8>]) -> Vec<u64> {
    let plan = Plan {
        interface: network.link().interface.clone(),
        frames: frames.to_vec(),
        rate: 5_000,
        duration: Duration::from_millis(400),
        cpu: None,
    };
    let sender = Sender::start(&network.client, plan).unwrap();
    let deadline = Instant::now() + LONG;
    while sender.sent() < 1_000 {
        assert!(Instant::now() < deadline && sender.refused() == 0, "the flood does not run");
        std::thread::sleep(Duration::from_millis(5));
    }
    let sent = sender.finish().unwrap();
    let kinds = frames.len() as u64;
    (0..kinds).map(|kind| sent / kinds + u64::from(kind < sent % kinds)).collect()
}

/// Packets and bytes of a direction, by verdict and reason.
type Counts = BTreeMap<(&'static str, &'static str), (f64, f64)>;

fn counts(metrics: &Metrics, direction: &str, reasons: &[&'static str]) -> Counts {
    let mut counts = Counts::new();
    for verdict in ["pass", "drop", "would_drop"] {
        for &reason in reasons {
            let labels = [("direction", direction), ("verdict", verdict), ("reason", reason)];
            let of = |name| metrics.sum(name, &labels);
            counts.insert((verdict, reason), (of("shedder_packets_total"), of("shedder_bytes_total")));
        }
    }
    counts
}

/// What was counted between two scrapes, without what was not.
fn between(before: &Counts, after: &Counts) -> Counts {
    let delta = |(key, now): (&_, &(f64, f64))| (*key, (now.0 - before[key].0, now.1 - before[key].1));
    after.iter().map(delta).filter(|(_, delta)| *delta != (0.0, 0.0)).collect()
}

fn packets(metrics: &Metrics, direction: &str) -> f64 {
    metrics.sum("shedder_packets_total", &[("direction", direction)])
}

// --- Counting ----------------------------------------------------------------------------------------------------

/// Sends a known number of each kind of frame, and returns what is counted of them, what should be, and how many
/// datagrams the server got.
fn count(network: &Network, dry: bool) -> (Counts, Counts, u64) {
    let link = network.link();
    let receiver = Receiver::start(&network.server, address(link, 9000)).unwrap();
    let before = Metrics::scrape(&network.server).unwrap();
    let frames = frames(link);
    let sent = send(network, &frames);
    let all: u64 = sent.iter().sum();
    let after = until(&network.server, "all that was sent is counted", |metrics| {
        packets(metrics, "ingress") - packets(&before, "ingress") >= all as f64
    });
    let expected = REASONS.iter().zip(&sent).zip(&frames).map(|((&reason, &sent), frame)| {
        let verdict = match reason {
            "denied" | "malformed" if dry => "would_drop",
            "denied" | "malformed" => "drop",
            _ => "pass",
        };
        ((verdict, reason), (sent as f64, (sent * frame.len() as u64) as f64))
    });
    let expected = expected.collect();
    let of = |metrics| counts(metrics, "ingress", &REASONS);
    let counted = between(&of(&before), &of(&after));
    assert_eq!(
        packets(&after, "ingress") - packets(&before, "ingress"),
        all as f64,
        "no other reason was met"
    );
    // What the kernel has counted as passed is on its way to the socket.
    let deadline = Instant::now() + LONG;
    let wanted = if dry { sent[0] + sent[1] + sent[2] } else { sent[0] + sent[1] };
    while receiver.total() < wanted {
        assert!(Instant::now() < deadline, "{} of {wanted} datagrams arrive", receiver.total());
        std::thread::sleep(Duration::from_millis(5));
    }
    (counted, expected, receiver.finish().unwrap().total() - wanted)
}

#[test]
fn every_packet_that_arrived_is_counted_once_under_its_verdict_and_reason() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("counting").unwrap();
    let _daemon = Shedder::new(&network).daemon(JUDGED).unwrap();
    let (counted, expected, surplus) = count(&network, false);
    assert_eq!(counted, expected);
    assert_eq!(surplus, 0, "what was counted as dropped arrived");
}

#[test]
fn a_dry_run_counts_what_it_would_drop_and_drops_nothing() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("dry-counting").unwrap();
    let _daemon = Shedder::new(&network).daemon(&format!("dry_run = true\n{JUDGED}")).unwrap();
    let (counted, expected, surplus) = count(&network, true);
    assert_eq!((counted, surplus), (expected, 0));
    let metrics = Metrics::scrape(&network.server).unwrap();
    assert_eq!(metrics.value("shedder_dry_run", &[]), 1.0);
    assert_eq!(metrics.sum("shedder_packets_total", &[("verdict", "drop")]), 0.0);
}

#[test]
fn every_packet_that_leaves_is_counted() {
    if !privileged::require() {
        return;
    }
    const MANY: u64 = 500;
    let network = Network::new("leaving").unwrap();
    let link = network.link();
    let shedder = Shedder::new(&network);
    let _daemon = shedder.daemon(JUDGED).unwrap();
    let client = SocketAddr::new(link.client_v4().into(), 9001);
    // Else the client would answer that nobody is there.
    let receiver = Receiver::start(&network.client, client).unwrap();
    let socket = network.server.run(|| UdpSocket::bind(address(link, 9002))).unwrap().unwrap();
    let send = || {
        for _ in 0..MANY {
            // Refused where the program drops it.
            let _ = socket.send_to(b"shedder", client);
        }
    };
    let of = |metrics: &Metrics| counts(metrics, "egress", &["admitted", "lifeline", "kill"]);
    let length = (14 + 20 + 8 + b"shedder".len()) as u64;
    for (command, verdict, reason) in [("resume", "pass", "admitted"), ("kill", "drop", "kill")] {
        shedder.ok(&[command]);
        let before = Metrics::scrape(&network.server).unwrap();
        send();
        let after = until(&network.server, "all that left is counted", |metrics| {
            packets(metrics, "egress") - packets(&before, "egress") >= MANY as f64
        });
        let expected = Counts::from([((verdict, reason), (MANY as f64, (MANY * length) as f64))]);
        assert_eq!(between(&of(&before), &of(&after)), expected);
    }
    assert_eq!(receiver.finish().unwrap().total(), MANY, "what was counted as killed left");
}

// --- Commands ----------------------------------------------------------------------------------------------------

const TWO: &str = r#"
interfaces = ["$IF"]
[[service]]
name = "web"
protocol = "tcp"
port = 8080
target = "50ms"
signal = { kind = "none" }
[[service]]
name = "dns"
protocol = "udp"
port = 5300
target = "50ms"
signal = { kind = "none" }
"#;

#[test]
fn gauges_follow_commands_and_interventions_are_counted() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("gauges").unwrap();
    let interface = network.link().interface.clone();
    let shedder = Shedder::new(&network);
    let _daemon = shedder.daemon(TWO).unwrap();
    let mut acted: BTreeMap<&str, f64> = BTreeMap::new();
    let mut act = |arguments: &[&'static str], what: &str, holds: &dyn Fn(&Metrics) -> bool| {
        shedder.ok(arguments);
        *acted.entry(arguments[0]).or_default() += 1.0;
        until(&network.server, what, |metrics| {
            let counted = acted.iter().all(|(action, count)| {
                metrics.value("shedder_human_interventions_total", &[("action", action)]) == *count
            });
            counted && holds(metrics)
        });
    };
    let kill = |metrics: &Metrics, scope: &str| metrics.sum("shedder_kill_active", &[("scope", scope)]);
    act(&["kill"], "a kill of the host", &|m| (kill(m, "host"), kill(m, "service")) == (1.0, 0.0));
    act(&["resume"], "none", &|m| kill(m, "host") == 0.0);
    act(&["kill", "--service", "web"], "a kill of one service", &|m| {
        let of = |name| m.value("shedder_kill_active", &[("scope", "service"), ("name", name)]);
        (of("web"), of("dns"), kill(m, "host")) == (1.0, 0.0, 0.0)
    });
    act(&["resume"], "none", &|m| kill(m, "service") == 0.0);
    let of = |m: &Metrics, metric: &str, service: &str| m.value(metric, &[("service", service)]);
    act(&["shed", "30", "--service", "web"], "an override of one service", &|m| {
        of(m, "shedder_override_active", "web") == 1.0
            && of(m, "shedder_override_active", "dns") == 0.0
            && of(m, "shedder_shed_ratio", "web") == 0.3
            && of(m, "shedder_cutoff", "web") < 768.0
            && of(m, "shedder_cutoff", "dns") == 768.0
            && m.value("shedder_host_override_active", &[]) == 0.0
    });
    act(&["auto"], "none", &|m| {
        of(m, "shedder_override_active", "web") == 0.0 && of(m, "shedder_cutoff", "web") == 768.0
    });
    act(&["shed", "40"], "an override of everything", &|m| {
        m.value("shedder_host_override_active", &[]) == 1.0
            && m.value("shedder_host_override_shed_ratio", &[]) == 0.4
            && ["web", "dns"].iter().all(|service| of(m, "shedder_shed_ratio", service) == 0.4)
            && of(m, "shedder_cutoff", "dns") < 768.0
    });
    act(&["auto"], "none", &|m| {
        m.value("shedder_host_override_active", &[]) == 0.0
            && m.sum("shedder_host_override_shed_ratio", &[]) == 0.0
    });
    let metrics = Metrics::scrape(&network.server).unwrap();
    assert_eq!(metrics.sum("shedder_interface_mode_info", &[("interface", &interface)]), 1.0);
    assert!(metrics.value("shedder_lease_remaining_seconds", &[]) > 0.0);
}

#[test]
fn a_refused_reload_is_counted_and_what_was_in_force_stays() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("reload").unwrap();
    let shedder = Shedder::new(&network);
    let daemon = shedder.daemon(TWO).unwrap();
    let reloads = |metrics: &Metrics| {
        let of = |name| metrics.value(name, &[]);
        (of("shedder_config_reloads_total"), of("shedder_config_reload_failures_total"))
    };
    let services = |metrics: &Metrics| metrics.sum("shedder_target_latency_seconds", &[]);
    let reload = |config: &str, wanted: (f64, f64)| {
        shedder.config(config);
        daemon.signal(Signal::SIGHUP).unwrap();
        until(&network.server, "the reload is counted", |metrics| reloads(metrics) == wanted)
    };
    assert_eq!(services(&reload("interfaces = 7\nmode = \"fast\"\n", (0.0, 1.0))), 0.1);
    assert_eq!(services(&reload("", (0.0, 2.0))), 0.1, "no interface at all");
    assert_eq!(get(&network.server, "/readyz").unwrap().status, 200);
    let one = TWO.split("[[service]]").take(2).collect::<Vec<_>>().join("[[service]]");
    assert_eq!(services(&reload(&one, (1.0, 2.0))), 0.05);
    let log = daemon.output();
    assert!(log.contains("mode: must be") && log.contains("the old one stays in force"), "{log}");
}

// --- Readiness ---------------------------------------------------------------------------------------------------

fn push_socket(network: &Network) -> std::path::PathBuf {
    network.dir().join("push.sock")
}

/// A service that is pushed to, whose loop holds for long enough to be seen holding.
fn pushed(network: &Network) -> String {
    format!(
        "interfaces = [\"$IF\"]\n\
         [[service]]\nname = \"web\"\nprotocol = \"tcp\"\nport = 8080\ntarget = \"50ms\"\n\
         signal = {{ kind = \"push\" }}\n\
         [control]\nhold = \"3s\"\n\
         [endpoint]\npush = \"{}\"\n",
        push_socket(network).display()
    )
}

/// Pushes `line` every few milliseconds while `work` is done.
fn while_pushing<T>(network: &Network, line: &str, work: impl FnOnce() -> T) -> T {
    /// Also where `work` panics, or the scope would wait for ever.
    struct Stop<'a>(&'a AtomicBool);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let (socket, path) = (UnixDatagram::unbound().unwrap(), push_socket(network));
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let _ = socket.send_to(line.as_bytes(), &path);
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        let _stop = Stop(&stop);
        work()
    })
}

/// The reasons that `/readyz` gives; none: ready.
fn obstacles(network: &Network) -> Vec<String> {
    let answer = get(&network.server, "/readyz").unwrap();
    let body: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(body["ready"], answer.status == 200, "{answer:?}");
    let reasons = body["reasons"].as_array().cloned().unwrap_or_default();
    assert_eq!(reasons.is_empty(), answer.status == 200, "{answer:?}");
    reasons.iter().map(|reason| reason.as_str().expect("a sentence").to_owned()).collect()
}

fn obstacles_until(network: &Network, what: &str, condition: impl Fn(&[String]) -> bool) {
    let deadline = Instant::now() + LONG;
    loop {
        let found = obstacles(network);
        if condition(&found) {
            return;
        }
        assert!(Instant::now() < deadline, "{what}: {found:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn state(metrics: &Metrics, state: &str) -> f64 {
    metrics.value("shedder_service_state", &[("service", "web"), ("state", state)])
}

#[test]
fn a_signal_that_is_missing_is_held_then_fallen_and_never_ready() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("missing-signal").unwrap();
    let _daemon = Shedder::new(&network).daemon(&pushed(&network)).unwrap();
    obstacles_until(
        &network,
        "it is held",
        |found| matches!(found, [one] if one.contains("service web") && one.contains("held")),
    );
    until(&network.server, "fallen", |metrics| state(metrics, "fallen") == 1.0);
    obstacles_until(
        &network,
        "it has fallen",
        |found| matches!(found, [one] if one.contains("service web") && one.contains("fallen to the posture")),
    );
    assert_eq!(get(&network.server, "/healthz").unwrap().status, 200, "the loop turns all the same");
    let metrics = Metrics::scrape(&network.server).unwrap();
    assert_eq!(metrics.sum("shedder_signal_age_seconds", &[]), 0.0, "nothing is known of it");
    assert_eq!(metrics.value("shedder_ready", &[]), 0.0);
    while_pushing(&network, "web 10ms 5", || {
        obstacles_until(&network, "it is ready", <[_]>::is_empty);
        until(&network.server, "the loop runs", |metrics| state(metrics, "running") == 1.0);
    });
    obstacles_until(&network, "what was there is missed", |found| !found.is_empty());
}

#[test]
fn a_probe_that_is_refused_is_a_failing_signal_and_not_a_missing_one() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("refused-probe").unwrap();
    let config =
        TWO.replacen("{ kind = \"none\" }", "{ kind = \"probe\", url = \"http://127.0.0.1:9/\" }", 1);
    let _daemon = Shedder::new(&network).daemon(&config).unwrap();
    until(&network.server, "failures are seen, and load is shed", |metrics| {
        let of = |name| metrics.value(name, &[("service", "web")]);
        of("shedder_signal_failures_total") > 10.0
            && of("shedder_shed_ratio") > 0.5
            && state(metrics, "running") == 1.0
    });
    assert_eq!(obstacles(&network), [] as [&str; 0]);
}

#[test]
fn pushed_latencies_drive_the_shed_ratio_up_and_down_to_zero() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("push").unwrap();
    let shedder = Shedder::new(&network);
    let _daemon = shedder.daemon(&pushed(&network)).unwrap();
    let of = |metrics: &Metrics, name| metrics.sum(name, &[("service", "web")]);
    while_pushing(&network, "web 400ms 5", || {
        let metrics = until(&network.server, "it sheds", |metrics| of(metrics, "shedder_shed_ratio") > 0.5);
        assert_eq!(of(&metrics, "shedder_observed_latency_seconds"), 0.4);
        assert!(of(&metrics, "shedder_cutoff") < 768.0);
        let terms = |term| metrics.value("shedder_pid_term", &[("service", "web"), ("term", term)]);
        assert!(terms("proportional") + terms("integral") > 0.0);
    });
    while_pushing(&network, "web 1ms 5", || {
        let metrics = until(&network.server, "it sheds nothing", |metrics| {
            of(metrics, "shedder_shed_ratio") == 0.0 && of(metrics, "shedder_cutoff") == 768.0
        });
        assert_eq!(of(&metrics, "shedder_observed_latency_seconds"), 0.001);
        let fast = metrics.value("shedder_latency_seconds_bucket", &[("le", "0.001"), ("service", "web")]);
        assert!(fast > 0.0 && fast < metrics.value("shedder_latency_seconds_count", &[("service", "web")]));
    });
}

// --- Nobody delays the loop --------------------------------------------------------------------------------------

/// Waits until the loop has turned some hundred times more, for longer than its lease, and holds the lease.
fn keeps_turning(network: &Network, daemon: &mut Process) {
    let turns = |metrics: &Metrics| metrics.value("shedder_control_loop_lag_seconds_count", &[]);
    let begin = turns(&Metrics::scrape(&network.server).unwrap());
    let metrics = until(&network.server, "the loop turns", |metrics| {
        assert!(metrics.value("shedder_lease_remaining_seconds", &[]) > 0.0, "the lease has lapsed");
        turns(metrics) >= begin + 150.0
    });
    assert_eq!(metrics.value("shedder_alive", &[]), 1.0);
    let late = metrics.value("shedder_control_loop_lag_seconds_bucket", &[("le", "0.025")]);
    println!("{late} of {} turns began within 25 ms of their time", turns(&metrics));
    assert_eq!(get(&network.server, "/healthz").unwrap().status, 200);
    assert!(daemon.ended().unwrap().is_none());
}

#[test]
fn many_clients_that_say_nothing_do_not_delay_the_loop() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("idle-clients").unwrap();
    let mut daemon = Shedder::new(&network).daemon(TWO).unwrap();
    let idle = network.server.run(|| {
        let connect = |_| TcpStream::connect_timeout(&endpoint::ADDRESS, LONG).expect("it listens");
        (0..200).map(connect).collect::<Vec<TcpStream>>()
    });
    let idle = idle.unwrap();
    keeps_turning(&network, &mut daemon);
    // And some that begin, and never end, a request.
    let mut slow = idle;
    for stream in &mut slow {
        // Those that made room for others are closed.
        let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: ");
    }
    keeps_turning(&network, &mut daemon);
}

#[test]
fn probe_targets_that_hang_or_send_without_end_do_not_delay_the_loop() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("bad-targets").unwrap();
    let listen = |port| {
        let address = SocketAddr::new(IpAddr::from([127, 0, 0, 1]), port);
        network.server.run(|| TcpListener::bind(address)).unwrap().unwrap()
    };
    // The kernel accepts for it, and nobody ever answers.
    let _hangs = listen(8081);
    let endless = listen(8082);
    endless.set_nonblocking(true).unwrap();
    let config = r#"
interfaces = ["$IF"]
[[service]]
name = "hangs"
protocol = "tcp"
port = 8081
target = "50ms"
signal = { kind = "probe", url = "http://127.0.0.1:8081/", timeout = "200ms" }
[[service]]
name = "endless"
protocol = "tcp"
port = 8082
target = "50ms"
signal = { kind = "probe", url = "http://127.0.0.1:8082/", timeout = "200ms" }
"#;
    let mut daemon = Shedder::new(&network).daemon(config).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| send_without_end(&endless, &stop));
        let tested = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            keeps_turning(&network, &mut daemon);
            until(&network.server, "the hanging one fails, the endless one answers", |metrics| {
                let failures = metrics.value("shedder_signal_failures_total", &[("service", "hangs")]);
                let answers = metrics.value("shedder_latency_seconds_count", &[("service", "endless")]);
                failures > 3.0 && answers > 3.0
            });
        }));
        stop.store(true, Ordering::Relaxed);
        tested.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

/// Answers every connection with a head, and a body that goes on for as long as it is taken.
fn send_without_end(listener: &TcpListener, stop: &AtomicBool) {
    let mut open: Vec<TcpStream> = Vec::new();
    let body = [b'x'; 16 << 10];
    while !stop.load(Ordering::Relaxed) {
        while let Ok((mut stream, _)) = listener.accept() {
            let begun = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1099511627776\r\n\r\n");
            if begun.is_ok() && stream.set_nonblocking(true).is_ok() {
                open.push(stream);
            }
        }
        open.retain_mut(|stream| match stream.write(&body) {
            Ok(_) => true,
            Err(error) => error.kind() == std::io::ErrorKind::WouldBlock,
        });
        std::thread::sleep(Duration::from_millis(1));
    }
}
