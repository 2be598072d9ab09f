//! Another build of the same ABI takes over, and the first takes over again; one of another ABI is refused.

use crate::{BARE, DENY, FAILED, LONG, arrived, both_ways, crash, status};
use shedder_tests::bpf::{self, Object};
use shedder_tests::flood::now;
use shedder_tests::netns::Network;
use shedder_tests::shedder::{PREVIOUS, Shedder, binary};
use shedder_tests::traffic::Traffic;
use shedder_tests::wait::until;
use shedder_tests::{endpoint, privileged};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Packets a second, each way.
const RATE: u64 = 10_000;

/// A call of the helper that reads the coarse clock, as an instruction; and of that which reads the precise one.
const COARSE: [u8; 8] = [0x85, 0, 0, 0, 160, 0, 0, 0];
const PRECISE: [u8; 8] = [0x85, 0, 0, 0, 5, 0, 0, 0];

/// A build whose programs read the precise clock where this build's read the coarse one.
fn other_build(directory: &Path) -> PathBuf {
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

/// From the other build to this one, back and to this one again, with a kill set: nothing passes, and nothing begins anew.
fn take_over_and_back(network: &Network, this: &Shedder<'_>, other: &Shedder<'_>) {
    let mut daemon = other.ready_daemon(DENY).unwrap();
    let both = both_ways(network, RATE);
    both.iter().for_each(Traffic::arrive_more);
    this.ok(&["kill"]);
    let killed = now();
    let objects = || bpf::objects_under(this.pins()).unwrap();
    let mut seen = objects();
    let links = |objects: &[Object]| {
        objects.iter().copied().filter(|object| matches!(object, Object::Link(_))).collect::<Vec<_>>()
    };
    let first_links = links(&seen);
    for (round, build) in [this, other, this].into_iter().enumerate() {
        let before = arrived(&status(build), "kill");
        if round == 1 {
            crash(daemon);
        } else {
            assert!(daemon.stop(LONG).unwrap().success(), "{}", daemon.output());
        }
        daemon = build.ready_daemon(DENY).unwrap();
        for shedder in [this, other] {
            assert_eq!(status(shedder)["kill"]["active"], true);
        }
        both.iter().for_each(Traffic::offer_more);
        assert!(arrived(&status(build), "kill") > before, "the counters began anew");
        assert_eq!(links(&objects()), first_links, "a link was made anew");
        seen.extend(objects());
    }
    // The same in place, without a daemon.
    assert!(daemon.stop(LONG).unwrap().success());
    for build in [other, this] {
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

/// One of two builds with different ABIs holds the interface, with a kill set: the other is refused whatever it asks for,
/// and nothing changes. Only its `detach` is obeyed, which is the way from one to the other.
fn be_refused(network: &Network, holds: &Shedder<'_>, comes: &Shedder<'_>) {
    let mut daemon = holds.ready_daemon(DENY).unwrap();
    let both = both_ways(network, RATE);
    both.iter().for_each(Traffic::arrive_more);
    holds.ok(&["kill"]);
    let killed = now();
    let config = comes.config(DENY);
    let config = config.to_str().unwrap();
    let before = bpf::objects_under(holds.pins()).unwrap();
    let commands: [&[&str]; 7] = [
        &["kill", "--for", "1s"],
        &["resume"],
        &["shed", "100"],
        &["auto"],
        &["status"],
        &["attach", "--config", config],
        &["run", "--config", config],
    ];
    for is_alive in [true, false] {
        if !is_alive {
            // A kill holds, so that all stays attached.
            assert!(daemon.stop(LONG).unwrap().success(), "{}", daemon.output());
        }
        for arguments in commands {
            let said = comes.fails(FAILED, arguments);
            // The two that change what is attached meet the daemon first.
            let is_other = said.contains("version") || is_alive && said.contains("another shedder holds");
            assert!(is_other, "{arguments:?}: {said}");
        }
        assert_eq!(bpf::objects_under(holds.pins()).unwrap(), before);
        assert_eq!(status(holds)["kill"]["active"], true);
        for traffic in &both {
            assert_eq!(traffic.arrived_since(killed), 0, "packets passed");
        }
    }
    comes.ok(&["detach"]);
    assert!(!holds.pins().exists());
    until("every program, map and link to be gone", || before.iter().all(|object| !object.exists()));
    both.iter().for_each(Traffic::arrive_more);
    comes.attach(DENY);
    comes.ok(&["kill"]);
    let killed = now();
    for traffic in &both {
        assert_eq!(traffic.arrived_since(killed), 0, "the kill of the one that came is not obeyed");
    }
    comes.ok(&["resume"]);
    comes.ok(&["detach"]);
}

#[test]
fn another_build_and_back_under_ten_thousand_packets_a_second_with_a_kill_set_lets_nothing_pass() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("upgrade").unwrap();
    let other = Shedder::of_build(&network, other_build(network.dir()));
    take_over_and_back(&network, &Shedder::new(&network), &other);
}

#[test]
#[ignore = "`cargo xtask upgrade` builds another revision and runs it"]
fn the_build_that_is_named_is_taken_over_and_takes_over_or_else_is_refused() {
    if !privileged::require() {
        return;
    }
    let path = std::env::var_os(PREVIOUS).unwrap_or_else(|| panic!("{PREVIOUS} names no binary"));
    let network = Network::new("previous").unwrap();
    let (this, other) = (Shedder::new(&network), Shedder::of_build(&network, path.into()));
    other.attach(BARE);
    let is_of_this_abi = this.run(&["status"]).status.success();
    other.ok(&["detach"]);
    if is_of_this_abi {
        println!("of the same ABI: each takes over from the other");
        take_over_and_back(&network, &this, &other);
    } else {
        println!("of another ABI: each refuses the other's maps");
        be_refused(&network, &other, &this);
        be_refused(&network, &this, &other);
    }
}
