//! What is said of a kill that the kernel does not act on.

use crate::{BARE, status};
use nix::sys::signal::Signal;
use shedder_tests::bpf::{self, Hook, Link, Passing, Place};
use shedder_tests::flood::now;
use shedder_tests::netns::{Network, Options};
use shedder_tests::shedder::Shedder;
use shedder_tests::traffic::Traffic;
use shedder_tests::wait::until;
use shedder_tests::{endpoint, privileged};

/// Exit code: written but not obeyed.
const NOT_OBEYED: i32 = 4;

/// A kill that must end as not obeyed. What it printed.
fn disobeyed(shedder: &Shedder<'_>) -> String {
    let output = shedder.run(&["kill"]);
    assert_eq!(output.status.code(), Some(NOT_OBEYED), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_dry_run_does_not_obey_and_kill_says_so() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("kill-dry").unwrap();
    let shedder = Shedder::new(&network);
    shedder.attach("interfaces = [\"$IF\"]\ndry_run = true\n");
    let said = disobeyed(&shedder);
    assert!(said.contains("veth0: runs dry"), "{said}");
}

#[test]
fn a_program_put_in_place_of_ours_is_told_with_its_interface() {
    if !privileged::require() {
        return;
    }
    for (hook, link, way) in [(Hook::Xdp, "ingress-0", "Ingress"), (Hook::Egress, "egress-0", "Egress")] {
        let network = Network::new("kill-swapped").unwrap();
        let shedder = Shedder::new(&network);
        shedder.attach(BARE);
        let passing = Passing::load(hook).unwrap();
        passing.put_behind(&shedder.pins().join("links").join(link)).unwrap();
        let said = disobeyed(&shedder);
        let expected = format!("veth0: program {} was put in place", passing.id().unwrap());
        assert!(said.contains(&expected) && said.contains(way), "{said}");
        // The word is written all the same, and what it says to do puts it right.
        shedder.attach(BARE);
        shedder.ok(&["kill"]);
    }
}

#[test]
fn a_link_detached_by_force_is_told_with_its_interface() {
    if !privileged::require() {
        return;
    }
    for link in ["ingress-0", "egress-0"] {
        let network = Network::new("kill-detached").unwrap();
        let shedder = Shedder::new(&network);
        shedder.attach(BARE);
        bpf::detach_by_force(&shedder.pins().join("links").join(link)).unwrap();
        let said = disobeyed(&shedder);
        assert!(said.contains("veth0: the link holds no interface any more"), "{said}");
        shedder.attach(BARE);
        shedder.ok(&["kill"]);
    }
}

/// Puts a program on the way out of an interface, before all that are there.
fn put_first(network: &Network, program: &Passing, interface: &str) -> Link {
    network.server.run(|| program.attach(interface, Place::First)).unwrap().unwrap()
}

#[test]
fn a_program_before_ours_that_ends_the_chain_is_told_and_attaching_again_puts_ours_first() {
    if !privileged::require() {
        return;
    }
    let network = Network::with("kill-preceded", &Options { links: 2, ..Options::default() }).unwrap();
    let shedder = Shedder::new(&network);
    let both = "interfaces = [\"veth0\", \"veth1\"]\n";
    shedder.attach(both);
    let outward = Traffic::outward_of_both_families(&network, network.link(), 4000, 1_000).unwrap();
    let foreign = Passing::load_ending().unwrap();
    let held = put_first(&network, &foreign, "veth0");
    let id = foreign.id().unwrap();

    // No counter of shedder's can tell: its program is not asked.
    let said = disobeyed(&shedder);
    let end = now();
    let expected = format!("veth0: program {id} judges what leaves before shedder's does");
    assert!(said.contains(&expected) && !said.contains("veth1: program"), "{said}");
    assert!(outward.arrived_since(end) > 0, "this test shows nothing: the kill stopped what it could not");
    assert!(shedder.run(&["kill", "--interface", "veth1"]).status.success(), "nobody is before it there");
    let seen = status(&shedder);
    assert_eq!(seen["interfaces"][0]["before"][0]["id"], id);
    assert_eq!(seen["interfaces"][1]["before"], serde_json::json!([]));
    assert!(shedder.ok(&["status"]).contains(&format!("program {id}")));

    // Under the kill, and without taking theirs off.
    shedder.attach(both);
    let end = now();
    assert_eq!(outward.arrived_since(end), 0, "packets left that the kill stops");
    shedder.ok(&["kill"]);
    assert_eq!(status(&shedder)["interfaces"][0]["before"], serde_json::json!([]));
    assert_eq!(held.attached().unwrap().program, id, "theirs was taken off");
    shedder.ok(&["resume"]);
    outward.arrive_more();
}

#[test]
fn a_daemon_tells_of_a_program_before_ours_and_a_reload_puts_ours_first() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("kill-preceded-daemon").unwrap();
    let shedder = Shedder::new(&network);
    let daemon = shedder.ready_daemon(BARE).unwrap();
    let foreign = Passing::load_ending().unwrap();
    let _held = put_first(&network, &foreign, "veth0");
    let expected =
        format!("veth0: program {} judges what leaves before shedder's does", foreign.id().unwrap());
    until("the daemon to tell", || daemon.output().contains(&expected));
    let ready = endpoint::get(&network.server, "/readyz").unwrap();
    assert!(ready.status == 503 && ready.body.contains(&expected), "{ready:?}");
    daemon.signal(Signal::SIGHUP).unwrap();
    until("the daemon to be ready", || endpoint::is_ready(&network.server));
    shedder.ok(&["kill"]);
}
