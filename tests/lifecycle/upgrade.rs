//! Another build of the same ABI takes over, and the first takes over again.

use crate::{BARE, DENY, LONG, arrived, crash, status};
use shedder_tests::bpf::{self, Object};
use shedder_tests::flood::now;
use shedder_tests::netns::Network;
use shedder_tests::shedder::{Shedder, binary};
use shedder_tests::traffic::Traffic;
use shedder_tests::wait::until;
use shedder_tests::{endpoint, privileged};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Names the binary that came before this one, to be tested with it. Without it, the other build is this one with other
/// programs in it.
const PREVIOUS: &str = "SHEDDER_PREVIOUS_BIN";

/// A call of the helper that reads the coarse clock, as an instruction; and of that which reads the precise one.
const COARSE: [u8; 8] = [0x85, 0, 0, 0, 160, 0, 0, 0];
const PRECISE: [u8; 8] = [0x85, 0, 0, 0, 5, 0, 0, 0];

/// A build whose programs read the precise clock where this build's read the coarse one.
fn other_build(directory: &Path) -> PathBuf {
    if let Some(previous) = std::env::var_os(PREVIOUS) {
        return previous.into();
    }
    let mut bytes = fs::read(binary()).unwrap();
    let calls: Vec<usize> =
        bytes.chunks_exact(8).enumerate().filter(|(_, code)| *code == COARSE).map(|(at, _)| at * 8).collect();
    assert!(!calls.is_empty(), "the programs read no coarse clock any more");
    for at in calls {
        bytes[at..at + 8].copy_from_slice(&PRECISE);
    }
    let path = directory.join("shedder-other");
    fs::copy(binary(), &path).unwrap();
    // By another process: one that a test starts meanwhile would inherit a descriptor of ours, and the file be busy.
    let mut tee = Command::new("tee").arg(&path).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    tee.stdin.take().unwrap().write_all(&bytes).unwrap();
    assert!(tee.wait().unwrap().success());
    path
}

#[test]
fn another_build_and_back_under_ten_thousand_packets_a_second_with_a_kill_set_lets_nothing_pass() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("upgrade").unwrap();
    let this = Shedder::new(&network);
    let other = Shedder::of_build(&network, other_build(network.dir()));
    let mut daemon = other.ready_daemon(DENY).unwrap();
    let both = [
        Traffic::inward_of_both_families(&network, network.link(), 4000, 10_000).unwrap(),
        Traffic::outward_of_both_families(&network, network.link(), 4001, 10_000).unwrap(),
    ];
    both.iter().for_each(Traffic::arrive_more);
    this.ok(&["kill"]);
    let killed = now();
    let objects = || bpf::objects_under(this.pins()).unwrap();
    let mut seen = objects();
    let links = |objects: &[Object]| {
        objects.iter().copied().filter(|object| matches!(object, Object::Link(_))).collect::<Vec<_>>()
    };
    let first_links = links(&seen);
    for (round, build) in [&this, &other, &this].into_iter().enumerate() {
        let before = arrived(&status(build), "kill");
        if round == 1 {
            crash(daemon);
        } else {
            assert!(daemon.stop(LONG).unwrap().success(), "{}", daemon.output());
        }
        daemon = build.ready_daemon(DENY).unwrap();
        for shedder in [&this, &other] {
            assert_eq!(status(shedder)["kill"]["active"], true);
        }
        both.iter().for_each(Traffic::offer_more);
        assert!(arrived(&status(build), "kill") > before, "the counters began anew");
        assert_eq!(links(&objects()), first_links, "a link was made anew");
        seen.extend(objects());
    }
    // The same in place, without a daemon.
    assert!(daemon.stop(LONG).unwrap().success());
    for build in [&other, &this] {
        build.attach(BARE);
    }
    for traffic in &both {
        assert_eq!(traffic.arrived_since(killed), 0, "packets passed while builds were exchanged");
    }
    this.ok(&["resume"]);
    both.iter().for_each(Traffic::arrive_more);
    other.ok(&["detach"]);
    assert!(!this.pins().exists());
    until("every program, map and link to be gone", || seen.iter().all(|object| !object.exists()));
    assert!(endpoint::get(&network.server, "/readyz").is_err());
}
