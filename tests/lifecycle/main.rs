//! What stays in force through restarts, crashes, other configurations, and hands that meddle; and what does not.

mod attach;
mod faults;
mod foreign;
mod interface;
mod memory;
mod mode;
mod pins;
mod posture;
mod reload;
mod restart;
mod scarcity;
mod socket;
mod upgrade;

use nix::sys::signal::Signal;
use serde_json::Value;
use shedder_tests::netns::{Namespace, Network};
use shedder_tests::process::Process;
use shedder_tests::shedder::Shedder;
use shedder_tests::traffic::Traffic;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

/// Exit code: failed.
const FAILED: i32 = 1;
/// Exit code: nothing is attached.
const NOT_ATTACHED: i32 = 3;
/// Exit code: written but not obeyed.
const NOT_OBEYED: i32 = 4;

/// For what must come.
const LONG: Duration = Duration::from_secs(30);

/// Nothing but the interface.
const BARE: &str = "interfaces = [\"$IF\"]\n";

/// What [`denied`] is denied by.
const DENY: &str = "interfaces = [\"$IF\"]\n[[rule]]\nsources = [\"10.77.9.0/24\"]\ndeny = true\n";

/// A source on the first link that [`DENY`] names.
const DENIED: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 77, 9, 9));

/// Traffic that not one packet of may arrive where [`DENY`] is in force without a gap.
fn denied(network: &Network) -> Traffic {
    Traffic::inward(network, network.link(), &[DENIED], 4900, 5_000).unwrap()
}

/// Traffic that nothing stops.
fn allowed(network: &Network) -> Traffic {
    Traffic::inward_of_both_families(network, network.link(), 4100, 1_000).unwrap()
}

/// Traffic both ways, so many packets a second each.
fn both_ways(network: &Network, rate: u64) -> [Traffic; 2] {
    let link = network.link();
    [
        Traffic::inward_of_both_families(network, link, 4000, rate).unwrap(),
        Traffic::outward_of_both_families(network, link, 4001, rate).unwrap(),
    ]
}

/// Ends a daemon as a crash does, and waits until it is gone.
fn crash(mut daemon: Process) {
    daemon.signal(Signal::SIGKILL).unwrap();
    daemon.wait(LONG).unwrap().expect("what is killed ends");
}

/// What `status` shows.
fn status(shedder: &Shedder<'_>) -> Value {
    serde_json::from_str(&shedder.status().expect("it is attached")).unwrap()
}

/// Packets of the first interface that arrived and met `reason`.
fn arrived(status: &Value, reason: &str) -> u64 {
    status["interfaces"][0]["ingress"]["reasons"][reason]["packets"].as_u64().unwrap()
}

/// A pinned link.
fn link(shedder: &Shedder<'_>, name: &str) -> PathBuf {
    shedder.pins().join("links").join(name)
}

/// The id of the XDP program on an interface of the server, as `ip` shows it, whoever attached it.
fn xdp_program(network: &Network, interface: &str) -> Option<u64> {
    xdp_program_in(&network.server, interface)
}

/// The same, in any namespace.
fn xdp_program_in(host: &Namespace, interface: &str) -> Option<u64> {
    let shown = host.command("ip").args(["-json", "-details", "link", "show", interface]).output().unwrap();
    let links: Value = serde_json::from_slice(&shown.stdout).unwrap();
    links[0]["xdp"]["prog"]["id"].as_u64()
}
