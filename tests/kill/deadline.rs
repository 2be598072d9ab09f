//! How long a kill holds.

use crate::{BARE, crash, status};
use nix::sys::signal::Signal;
use shedder_common::abi::maps;
use shedder_tests::flood::now;
use shedder_tests::netns::Network;
use shedder_tests::shedder::Shedder;
use shedder_tests::traffic::Traffic;
use shedder_tests::wait::until;
use shedder_tests::{bpf, endpoint, privileged};
use std::time::Duration;

/// The kill of the host.
fn word(shedder: &Shedder<'_>) -> u64 {
    let kills: [u8; 8 * 321] = bpf::read(&shedder.pins().join("maps").join(maps::KILLS), 0).unwrap();
    u64::from_ne_bytes(kills[..8].try_into().unwrap())
}

/// How late a kill may end, by the coarse clock and the spacing of the traffic.
const LATE: Duration = Duration::from_millis(50);

/// On a machine that is busy with something else, one attempt in so many has to be in time.
const ATTEMPTS: usize = 4;

#[test]
fn a_kill_with_a_deadline_ends_by_itself_within_50_ms_without_a_daemon() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("kill-for").unwrap();
    let shedder = Shedder::new(&network);
    crash(shedder.ready_daemon(BARE).unwrap());
    let traffic = Traffic::inward_of_both_families(&network, network.link(), 4000, 2_000).unwrap();
    traffic.arrive_more();
    let attempt = |_| {
        let start = now();
        // The deadline counts from when the word is written, which is at the command's start.
        let mut child = shedder.command(&["kill", "--for", "2s"]).spawn().unwrap();
        until("the kill", || word(&shedder) != 0 && status(&shedder)["kill"]["active"] == true);
        let seen = now();
        assert!(child.wait().unwrap().success());
        until("the kill to end", || traffic.arrivals().first_since(seen).is_some());
        let first = traffic.arrivals().first_since(seen).unwrap();
        assert!(
            first >= start + Duration::from_secs(2),
            "ended {:?} after the command's start",
            first - start
        );
        println!("kill --for 2s: the first packet {:?} after the command's start", first - start);
        assert_eq!(status(&shedder)["kill"]["active"], false);
        shedder.ok(&["resume"]);
        first - start < Duration::from_secs(2) + LATE
    };
    assert!((0..ATTEMPTS).any(attempt), "of {ATTEMPTS} kills none ended in time");
}

#[test]
fn a_daemon_that_starts_meanwhile_neither_ends_a_kill_early_nor_prolongs_it() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("kill-for-daemon").unwrap();
    let shedder = Shedder::new(&network);
    crash(shedder.ready_daemon(BARE).unwrap());
    let traffic = Traffic::inward_of_both_families(&network, network.link(), 4000, 2_000).unwrap();
    traffic.arrive_more();
    // Long enough for a daemon to start on a machine that has much else to do.
    const LASTING: Duration = Duration::from_secs(12);
    let start = now();
    shedder.ok(&["kill", "--for", "12s"]);
    let end = now();
    let commanded = word(&shedder);
    let daemon = shedder.ready_daemon(BARE).unwrap();
    assert!(now() < start + LASTING, "the daemon came too late to show anything");
    assert_eq!(word(&shedder), commanded, "the daemon changed the kill");
    until("the kill to end", || traffic.arrivals().first_since(end).is_some());
    let first = traffic.arrivals().first_since(end).unwrap();
    assert!(first >= start + LASTING, "ended {:?} after the command's start", first - start);
    println!("kill --for 12s, a daemon started: the first packet {:?} after the start", first - start);
    assert_eq!(word(&shedder), commanded, "the daemon changed the kill");
    drop(daemon);
}

#[test]
fn a_kill_survives_restart_reload_and_the_end_of_the_daemon() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("kill-survives").unwrap();
    let shedder = Shedder::new(&network);
    let daemon = shedder.ready_daemon(BARE).unwrap();
    let link = network.link();
    let both = [
        Traffic::inward_of_both_families(&network, link, 4000, 2_000).unwrap(),
        Traffic::outward_of_both_families(&network, link, 4001, 2_000).unwrap(),
    ];
    both.iter().for_each(Traffic::arrive_more);
    shedder.ok(&["kill"]);
    let killed = now();
    let still_killed = |after: &str| {
        for traffic in &both {
            assert_eq!(traffic.arrived_since(killed), 0, "packets passed after {after}");
        }
        assert_eq!(status(&shedder)["kill"]["active"], true, "after {after}");
    };

    crash(daemon);
    still_killed("a crash");
    let mut daemon = shedder.ready_daemon(BARE).unwrap();
    still_killed("a restart");
    shedder.config(&format!("{BARE}[source]\npackets_per_second = 1_000_000\n"));
    daemon.signal(Signal::SIGHUP).unwrap();
    until("the reload", || {
        endpoint::metric(&network.server, "shedder_config_reloads_total", &[]).is_ok_and(|n| n == 1.0)
    });
    still_killed("a reload");
    let ended = daemon.stop(Duration::from_secs(30)).unwrap();
    assert!(ended.success(), "{ended:?}: {}", daemon.output());
    assert!(daemon.output().contains("a kill is in force"), "{}", daemon.output());
    still_killed("the daemon's end");

    shedder.ok(&["resume"]);
    both.iter().for_each(Traffic::arrive_more);
}
