//! How fast a kill stops everything, and that it does.

use crate::{BARE, crash};
use nix::sys::signal::Signal;
use shedder_tests::flood::now;
use shedder_tests::netns::Network;
use shedder_tests::privileged;
use shedder_tests::shedder::Shedder;
use shedder_tests::stats::quantile;
use shedder_tests::traffic::Traffic;
use std::time::Duration;

const RATE: u64 = 5_000;

/// Kills and resumes `rounds` times under traffic both ways, in both families. From each command's start to the last
/// packet, ascending.
fn rounds(network: &Network, shedder: &Shedder<'_>, rounds: usize) -> Vec<Duration> {
    let link = network.link();
    let both = [
        Traffic::inward_of_both_families(network, link, 4000, RATE).unwrap(),
        Traffic::outward_of_both_families(network, link, 4001, RATE).unwrap(),
    ];
    let round = |_| {
        both.iter().for_each(Traffic::arrive_more);
        let start = now();
        shedder.ok(&["kill"]);
        let end = now();
        for (traffic, way) in both.iter().zip(["inward", "outward"]) {
            assert_eq!(traffic.arrived_since(end), 0, "{way} packets passed after the command's end");
        }
        let last = both.iter().filter_map(Traffic::last).max().expect("packets arrived before the kill");
        shedder.ok(&["resume"]);
        both.iter().for_each(Traffic::arrive_more);
        last.saturating_sub(start)
    };
    let mut times: Vec<Duration> = (0..rounds).map(round).collect();
    times.sort_unstable();
    times
}

fn print(daemon: &str, times: &[Duration]) {
    println!(
        "kill, daemon {daemon}: command's start to the last packet: median {:?}, worst {:?} of {}",
        quantile(times, 0.5).unwrap(),
        times.last().unwrap(),
        times.len()
    );
}

#[test]
fn a_kill_stops_both_directions_after_the_daemon_was_killed_and_resume_restores_them() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("kill-dead").unwrap();
    let shedder = Shedder::new(&network);
    crash(shedder.ready_daemon(BARE).unwrap());
    print("dead", &rounds(&network, &shedder, 20));
}

#[test]
fn a_kill_stops_both_directions_with_a_live_daemon() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("kill-live").unwrap();
    let shedder = Shedder::new(&network);
    let _daemon = shedder.ready_daemon(BARE).unwrap();
    print("alive", &rounds(&network, &shedder, 5));
}

#[test]
fn a_kill_stops_both_directions_with_a_stopped_daemon() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("kill-stopped").unwrap();
    let shedder = Shedder::new(&network);
    let daemon = shedder.ready_daemon(BARE).unwrap();
    daemon.signal(Signal::SIGSTOP).unwrap();
    print("stopped", &rounds(&network, &shedder, 5));
}
