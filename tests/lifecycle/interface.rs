//! Interfaces that come and go under a running daemon.

use crate::{DENY, allowed, arrived, denied, link, status, xdp_program, xdp_program_in};
use shedder_tests::flood::now;
use shedder_tests::netns::{Network, Options, ip};
use shedder_tests::shedder::Shedder;
use shedder_tests::traffic::Traffic;
use shedder_tests::wait::until;
use shedder_tests::{bpf, endpoint, privileged};
use std::time::{Duration, Instant};

/// Waits until the daemon is not ready, and says why.
fn wait_until_not_ready(network: &Network, why: &str) {
    let mut said = String::new();
    until("the daemon not to be ready", || {
        let endpoint::Answer { status, body } = endpoint::get(&network.server, "/readyz").unwrap();
        said = body;
        status == 503
    });
    assert!(said.contains(why), "{said}");
}

#[test]
fn an_interface_that_is_deleted_and_made_again_is_attached_again_and_counts_on() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("recreated").unwrap();
    let shedder = Shedder::new(&network);
    let _daemon = shedder.ready_daemon(DENY).unwrap();
    let traffic = denied(&network);
    until("packets to be denied", || arrived(&status(&shedder), "denied") > 0);
    drop(traffic);
    let before = arrived(&status(&shedder), "denied");

    ip(&network.server, "link delete veth0\n").unwrap();
    wait_until_not_ready(&network, "there is no interface veth0");
    network.make(network.links()).unwrap();
    until("the daemon to be ready", || endpoint::is_ready(&network.server));

    let start = now();
    let traffic = denied(&network);
    assert_eq!(traffic.arrived_since(start), 0, "the interface is not held");
    assert!(arrived(&status(&shedder), "denied") > before, "the counters began anew");
    let repairs =
        endpoint::metric(&network.server, "shedder_reconcile_repairs_total", &[("kind", "attach")]).unwrap();
    assert!(repairs >= 1.0, "{repairs}");
    allowed(&network).arrive_more();
}

#[test]
fn an_interface_that_is_made_again_is_attached_within_a_second() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("recreated-soon").unwrap();
    let shedder = Shedder::new(&network);
    let _daemon = shedder.ready_daemon(DENY).unwrap();
    let mut attempt = |_| {
        ip(&network.server, "link delete veth0\n").unwrap();
        wait_until_not_ready(&network, "there is no interface veth0");
        network.make(network.links()).unwrap();
        let made = Instant::now();
        assert!(!endpoint::is_ready(&network.server) || xdp_program(&network, "veth0").is_some());
        until("a program on it", || xdp_program(&network, "veth0").is_some());
        let took = made.elapsed();
        until("the daemon to be ready", || endpoint::is_ready(&network.server));
        println!("attached {took:?} after it was made");
        took < Duration::from_secs(1)
    };
    // One of them on a machine that is not busy with something else.
    assert!((0..5).any(&mut attempt), "it was never attached in time");
}

#[test]
fn an_interface_that_is_made_again_is_attached_though_another_is_still_missing() {
    if !privileged::require() {
        return;
    }
    let network = Network::with("one-of-two", &Options { links: 2, ..Options::default() }).unwrap();
    let shedder = Shedder::new(&network);
    let _daemon = shedder.ready_daemon("interfaces = [\"veth0\", \"veth1\"]\n").unwrap();
    shedder.ok(&["kill"]);
    ip(&network.server, "link delete veth0\nlink delete veth1\n").unwrap();
    wait_until_not_ready(&network, "there is no interface veth0");
    network.make(&network.links()[1..]).unwrap();
    until("the one to be held", || xdp_program(&network, "veth1").is_some());
    let traffic = Traffic::inward_of_both_families(&network, &network.links()[1], 4000, 1_000).unwrap();
    assert_eq!(traffic.arrived_since(Duration::ZERO), 0, "the kill was lost");
    wait_until_not_ready(&network, "there is no interface veth0");
    network.make(&network.links()[..1]).unwrap();
    until("the daemon to be ready", || endpoint::is_ready(&network.server));
    assert!(xdp_program(&network, "veth0").is_some());
}

#[test]
fn an_interface_that_is_moved_to_another_namespace_and_back_is_held_all_the_time() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("moved").unwrap();
    let shedder = Shedder::new(&network);
    let _daemon = shedder.ready_daemon(DENY).unwrap();
    let link_id = || bpf::attached_by(&link(&shedder, "ingress-0")).unwrap().link;
    let before = link_id();
    shedder.ok(&["kill"]);
    let elsewhere = network.client.name();
    ip(&network.server, &format!("link set veth0 netns {elsewhere} name moved0\n")).unwrap();
    wait_until_not_ready(&network, "there is no interface veth0");
    // The programs went along.
    assert_eq!(link_id(), before);
    assert!(xdp_program_in(&network.client, "moved0").is_some());

    // Another takes its place, name and number: what holds the one that is away is not taken for what holds this.
    let index = bpf::attached_by(&link(&shedder, "ingress-0")).unwrap().interface;
    ip(
        &network.server,
        &format!("link add veth0 index {index} type veth peer name other0 index 4711\nlink set veth0 up\n"),
    )
    .unwrap();
    until("the other one to be held", || {
        xdp_program(&network, "veth0").is_some() && endpoint::is_ready(&network.server)
    });
    ip(&network.server, "link delete veth0\n").unwrap();
    wait_until_not_ready(&network, "there is no interface veth0");

    let server = network.server.name();
    ip(&network.client, &format!("link set moved0 netns {server} name veth0\n")).unwrap();
    until("the daemon to be ready", || endpoint::is_ready(&network.server));
    assert!(xdp_program(&network, "veth0").is_some());
    assert_eq!(status(&shedder)["kill"]["active"], true);
    shedder.ok(&["kill"]);
    shedder.ok(&["resume"]);
}

#[test]
fn interfaces_that_change_names_with_each_other_or_with_a_new_one_are_held() {
    if !privileged::require() {
        return;
    }
    let network = Network::with("names", &Options { links: 2, ..Options::default() }).unwrap();
    let shedder = Shedder::new(&network);
    let _daemon = shedder.ready_daemon("interfaces = [\"veth0\", \"veth1\"]\n").unwrap();
    let held = || {
        until("both to be held", || {
            let seen = status(&shedder);
            let interfaces = seen["interfaces"].as_array().unwrap();
            interfaces.len() == 2
                && interfaces.iter().all(|interface| interface["attached"] == true)
                && endpoint::is_ready(&network.server)
        });
        shedder.ok(&["kill"]);
        shedder.ok(&["resume"]);
    };
    held();
    ip(&network.server, "link set veth0 name other\nlink set veth1 name veth0\nlink set other name veth1\n")
        .unwrap();
    held();
    // The name of one goes to a new one, and it has the name of one that goes.
    ip(
        &network.server,
        "link delete veth1\nlink set veth0 name veth1\nlink add veth0 type veth peer name other0\n",
    )
    .unwrap();
    until("both to be held", || ["veth0", "veth1"].iter().all(|name| xdp_program(&network, name).is_some()));
    held();
}

#[test]
fn an_interface_that_is_renamed_is_held_and_the_daemon_not_ready_until_it_has_its_name_again() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("renamed").unwrap();
    let shedder = Shedder::new(&network);
    let _daemon = shedder.ready_daemon(DENY).unwrap();
    let (denied, allowed) = (denied(&network), allowed(&network));
    allowed.arrive_more();
    let start = now();
    let link_id = || bpf::attached_by(&link(&shedder, "ingress-0")).unwrap().link;
    let before = link_id();

    ip(&network.server, "link set veth0 name veth9\n").unwrap();
    wait_until_not_ready(&network, "there is no interface veth0");
    allowed.arrive_more();
    ip(&network.server, "link set veth9 name veth0\n").unwrap();
    until("the daemon to be ready", || endpoint::is_ready(&network.server));
    allowed.arrive_more();
    assert_eq!(denied.arrived_since(start), 0, "denied packets arrived while it was renamed");
    assert_eq!(link_id(), before);
}

#[test]
fn an_interface_that_goes_down_and_up_is_held() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("down-up").unwrap();
    let shedder = Shedder::new(&network);
    let _daemon = shedder.ready_daemon(DENY).unwrap();
    let start = now();
    // What is sent while it is down is refused, which a sender would stop at.
    ip(&network.server, "link set veth0 down\nlink set veth0 up\n").unwrap();
    let denied = denied(&network);
    denied.offer_more();
    assert_eq!(denied.arrived_since(start), 0);
    assert!(arrived(&status(&shedder), "denied") > 0);
    assert!(endpoint::is_ready(&network.server));
}
