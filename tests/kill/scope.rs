//! How much is killed.

use crate::status;
use serde_json::Value;
use shedder_tests::flood::now;
use shedder_tests::netns::{Network, Options};
use shedder_tests::privileged;
use shedder_tests::shedder::Shedder;
use shedder_tests::traffic::Traffic;

const RATE: u64 = 1_000;

/// What an interface dropped, both ways.
fn dropped(status: &Value, interface: usize) -> u64 {
    ["ingress", "egress"]
        .map(|way| status["interfaces"][interface][way]["dropped"]["packets"].as_u64().unwrap())
        .iter()
        .sum()
}

#[test]
fn a_kill_of_one_interface_costs_the_other_nothing() {
    if !privileged::require() {
        return;
    }
    let network = Network::with("kill-interface", &Options { links: 2, ..Options::default() }).unwrap();
    let [killed, other] = network.links() else { panic!("there are two links") };
    let shedder = Shedder::new(&network);
    shedder.attach(&format!("interfaces = [\"{}\", \"{}\"]\n", killed.interface, other.interface));
    let traffic = |link, port| {
        [
            Traffic::inward_of_both_families(&network, link, port, RATE).unwrap(),
            Traffic::outward_of_both_families(&network, link, port + 1, RATE).unwrap(),
        ]
    };
    let (of_killed, of_other) = (traffic(killed, 4000), traffic(other, 5000));
    of_killed.iter().chain(&of_other).for_each(Traffic::arrive_more);

    shedder.ok(&["kill", "--interface", &killed.interface]);
    let end = now();
    for traffic in &of_killed {
        assert_eq!(traffic.arrived_since(end), 0, "packets passed on the killed interface");
    }
    of_other.iter().for_each(Traffic::arrive_more);
    let seen = status(&shedder);
    assert_eq!(seen["interfaces"][0]["kill"]["active"], true);
    assert!(dropped(&seen, 0) > 0);
    assert_eq!(dropped(&seen, 1), 0, "{seen}");

    shedder.ok(&["resume", "--interface", &killed.interface]);
    of_killed.iter().chain(&of_other).for_each(Traffic::arrive_more);
    assert_eq!(dropped(&status(&shedder), 1), 0);
}

#[test]
fn a_kill_of_one_service_stops_that_one_alone() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("kill-service").unwrap();
    let shedder = Shedder::new(&network);
    let service = |name: &str, port: u16| {
        format!(
            "[[service]]\nname = \"{name}\"\nprotocol = \"udp\"\nport = {port}\nsignal = {{ kind = \"none\" }}\n"
        )
    };
    shedder.attach(&format!("interfaces = [\"$IF\"]\n{}{}", service("one", 4000), service("two", 5000)));
    // The local port is the service's, either way.
    let both_ways = |port| {
        [
            Traffic::inward_of_both_families(&network, network.link(), port, RATE).unwrap(),
            Traffic::outward_of_both_families(&network, network.link(), port, RATE).unwrap(),
        ]
    };
    let (one, two, none) = (both_ways(4000), both_ways(5000), both_ways(6000));
    one.iter().chain(&two).chain(&none).for_each(Traffic::arrive_more);

    shedder.ok(&["kill", "--service", "one"]);
    let end = now();
    for traffic in &one {
        assert_eq!(traffic.arrived_since(end), 0, "packets of the killed service passed");
    }
    two.iter().chain(&none).for_each(Traffic::arrive_more);

    shedder.ok(&["resume", "--service", "one"]);
    one.iter().for_each(Traffic::arrive_more);
}
