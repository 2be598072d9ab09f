//! Interfaces that come and go under a running daemon.

use crate::{DENY, allowed, arrived, denied, link, status};
use shedder_tests::flood::now;
use shedder_tests::netns::{Network, ip};
use shedder_tests::shedder::Shedder;
use shedder_tests::wait::until;
use shedder_tests::{bpf, endpoint, privileged};

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
