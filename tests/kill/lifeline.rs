//! What lives through a kill.

use serde_json::Value;
use shedder_tests::dialogue::{Dialogue, Echo};
use shedder_tests::flood::now;
use shedder_tests::netns::{Namespace, Network, Options};
use shedder_tests::privileged;
use shedder_tests::shedder::Shedder;
use shedder_tests::traffic::Traffic;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// For what must come.
const LONG: Duration = Duration::from_secs(20);
/// For what must not.
const SHORT: Duration = Duration::from_millis(400);

const PORT: u16 = 8022;
const OTHER_PORT: u16 = 8080;

/// Pairs of a client's address and the server's of the same family.
type Pair = (IpAddr, SocketAddr);

fn lifelines(network: &Network, port: u16) -> [Pair; 2] {
    let link = network.link();
    [
        (link.client_v4().into(), SocketAddr::new(link.server_v4().into(), port)),
        (link.client_v6().into(), SocketAddr::new(link.server_v6().into(), port)),
    ]
}

fn strangers(network: &Network, port: u16) -> [Pair; 2] {
    let link = network.link();
    [
        (link.source_v4(9, 9).into(), SocketAddr::new(link.server_v4().into(), port)),
        (link.source_v6(9, 9).into(), SocketAddr::new(link.server_v6().into(), port)),
    ]
}

fn config(network: &Network, ports: &str) -> String {
    let (v4, v6) = (network.link().client_v4(), network.link().client_v6());
    format!("interfaces = [\"$IF\"]\n[[lifeline]]\npeers = [\"{v4}/32\", \"{v6}/128\"]\n{ports}\n")
}

fn open(client: &Namespace, (source, target): Pair, patience: Duration) -> anyhow::Result<Dialogue> {
    Dialogue::open(client, source, target, patience)
}

fn must_talk(client: &Namespace, pair: Pair) -> Dialogue {
    let mut dialogue = open(client, pair, LONG).unwrap();
    dialogue.speak(LONG).unwrap_or_else(|error| panic!("{pair:?} is not answered: {error:#}"));
    dialogue
}

#[test]
fn a_lifeline_keeps_its_connection_and_opens_another_and_nobody_else_can() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("kill-lifeline").unwrap();
    let shedder = Shedder::new(&network);
    shedder.attach(&config(&network, ""));
    let _echo = Echo::start(&network.server, PORT).unwrap();
    let client = &network.client;
    let mut kept = lifelines(&network, PORT).map(|pair| must_talk(client, pair));
    let mut cut = strangers(&network, PORT).map(|pair| must_talk(client, pair));

    shedder.ok(&["kill"]);
    for dialogue in &mut kept {
        dialogue.speak(LONG).expect("an established connection of a lifeline lives");
    }
    for pair in lifelines(&network, PORT) {
        must_talk(client, pair);
    }
    for (dialogue, pair) in cut.iter_mut().zip(strangers(&network, PORT)) {
        assert!(dialogue.speak(SHORT).is_err(), "{pair:?} is no lifeline, and its connection was answered");
        assert!(open(client, pair, SHORT).is_err(), "{pair:?} is no lifeline, and could connect");
    }

    shedder.ok(&["resume"]);
    for dialogue in &mut cut {
        dialogue.listen(LONG).expect("TCP sends again what was lost in the kill");
    }
    for pair in strangers(&network, PORT) {
        must_talk(client, pair);
    }
}

#[test]
fn a_lifeline_talks_and_is_found_through_a_kill_under_a_flood() {
    if !privileged::require() {
        return;
    }
    let options = Options { resolve: true, ..Options::default() };
    let network = Network::with("kill-flood", &options).unwrap();
    let shedder = Shedder::new(&network);
    shedder.attach(&config(&network, ""));
    let _echo = Echo::start(&network.server, PORT).unwrap();
    let client = &network.client;
    let mut kept = lifelines(&network, PORT).map(|pair| must_talk(client, pair));
    let strangers: Vec<IpAddr> = (0..200).map(|host| network.link().source_v4(9, host).into()).collect();
    let flood = Traffic::inward(&network, network.link(), &strangers, 4000, 50_000).unwrap();
    flood.arrive_more();

    shedder.ok(&["kill"]);
    let killed = now();
    flush_neighbours(&network);
    for dialogue in &mut kept {
        dialogue.speak(LONG).expect("an established connection of a lifeline lives");
    }
    for pair in lifelines(&network, PORT) {
        must_talk(client, pair);
    }
    assert_eq!(flood.arrived_since(killed), 0);
}

#[test]
fn a_lifeline_with_ports_is_one_on_those_ports_only() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("kill-lifeline-ports").unwrap();
    let shedder = Shedder::new(&network);
    shedder.attach(&config(&network, &format!("ports = [{PORT}]")));
    let _echoes = [PORT, OTHER_PORT].map(|port| Echo::start(&network.server, port).unwrap());
    let client = &network.client;
    for pair in lifelines(&network, OTHER_PORT) {
        must_talk(client, pair);
    }
    shedder.ok(&["kill"]);
    for pair in lifelines(&network, PORT) {
        must_talk(client, pair);
    }
    for pair in lifelines(&network, OTHER_PORT) {
        assert!(
            open(client, pair, SHORT).is_err(),
            "{pair:?} is not on the lifeline's port, and could connect"
        );
    }
}

#[test]
fn a_total_kill_stops_lifelines_too_and_resume_restores_them() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("kill-total").unwrap();
    let shedder = Shedder::new(&network);
    shedder.attach(&config(&network, ""));
    let _echo = Echo::start(&network.server, PORT).unwrap();
    let client = &network.client;
    let mut kept = lifelines(&network, PORT).map(|pair| must_talk(client, pair));

    shedder.ok(&["kill", "--total"]);
    for (dialogue, pair) in kept.iter_mut().zip(lifelines(&network, PORT)) {
        assert!(dialogue.speak(SHORT).is_err(), "{pair:?} was answered under a total kill");
        assert!(open(client, pair, SHORT).is_err(), "{pair:?} could connect under a total kill");
    }
    shedder.ok(&["resume"]);
    for dialogue in &mut kept {
        dialogue.listen(LONG).expect("TCP sends again what was lost in the kill");
    }
    for pair in lifelines(&network, PORT) {
        must_talk(client, pair);
    }
}

/// Forgets who is at the other end.
fn flush_neighbours(network: &Network) {
    for host in [&network.server, &network.client] {
        for family in ["-4", "-6"] {
            let flushed = host
                .command("ip")
                .args([family, "neighbour", "flush", "dev", &network.link().interface])
                .status();
            assert!(flushed.unwrap().success());
        }
    }
}

/// Addresses that `host` knows a hardware address of.
fn neighbours(host: &Namespace, interface: &str) -> Vec<String> {
    let output = host.command("ip").args(["-json", "neighbour", "show", "dev", interface]).output().unwrap();
    let entries: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let known = entries.iter().filter(|entry| entry.get("lladdr").is_some());
    known.filter_map(|entry| Some(entry["dst"].as_str()?.to_owned())).collect()
}

#[test]
fn neighbours_are_found_under_a_kill_and_not_under_a_total_one() {
    if !privileged::require() {
        return;
    }
    let options = Options { resolve: true, ..Options::default() };
    let network = Network::with("kill-neighbours", &options).unwrap();
    let shedder = Shedder::new(&network);
    shedder.attach(&config(&network, ""));
    let _echo = Echo::start(&network.server, PORT).unwrap();
    let client = &network.client;
    let interface = &network.link().interface;
    let pairs = lifelines(&network, PORT);

    shedder.ok(&["kill"]);
    flush_neighbours(&network);
    for pair in pairs {
        must_talk(client, pair);
        let known = neighbours(client, interface);
        assert!(known.contains(&pair.1.ip().to_string()), "{pair:?}: {known:?}");
    }

    shedder.ok(&["kill", "--total"]);
    flush_neighbours(&network);
    for pair in pairs {
        assert!(open(client, pair, SHORT).is_err(), "{pair:?} could connect under a total kill");
    }
    for host in [&network.server, client] {
        assert_eq!(neighbours(host, interface), Vec::<String>::new(), "found under a total kill");
    }
}
