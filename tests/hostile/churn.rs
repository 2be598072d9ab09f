//! (27) An hour of what happens to a daemon, compressed: interfaces that go and come back, reloads, services that come and
//! go, scrapes, connections. What it takes of the host levels off.

use super::{Footprint, settle};
use nix::sys::signal::Signal;
use shedder_tests::endpoint::{self, Metrics};
use shedder_tests::netns::{self, Network};
use shedder_tests::privileged;
use shedder_tests::shedder::Shedder;
use shedder_tests::wait;
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;

/// One of the hour's minutes, of which each has a configuration of its own.
fn config(network: &Network, minute: usize) -> String {
    let mut text = format!(
        "interfaces = [\"$IF\"]\n[endpoint]\npush = \"{}/push.sock\"\n[source]\npackets_per_second = {}\ntable = 1_024\n",
        network.dir().display(),
        1_000 + minute
    );
    for service in 0..1 + minute % 5 {
        let signal = match service % 3 {
            0 => "{ kind = \"push\" }",
            1 => "{ kind = \"probe\", url = \"tcp://127.0.0.1:9477\", every = \"20ms\" }",
            _ => "{ kind = \"passive\" }",
        };
        text.push_str(&format!(
            "[[service]]\nname = \"of-{}\"\nprotocol = \"tcp\"\nport = {}\ntarget = \"50ms\"\nsignal = {signal}\n",
            minute % 7 * 10 + service,
            8_000 + service
        ));
    }
    for rule in 0..minute % 4 * 10 {
        text.push_str(&format!("[[rule]]\nsources = [\"192.0.2.{rule}/32\"]\nclass = \"low\"\n"));
    }
    text
}

#[test]
fn memory_and_descriptors_level_off_over_an_hour_of_churn() {
    if !privileged::require() {
        return;
    }
    const WARM: usize = 3;
    const MINUTES: usize = 10;
    let network = Network::new("churn").unwrap();
    let shedder = Shedder::new(&network);
    let daemon = shedder.daemon(&config(&network, 0)).unwrap();
    let push = UnixDatagram::unbound().unwrap();
    let reloads = || Metrics::scrape(&network.server).unwrap().value("shedder_config_reloads_total", &[]);
    let repairs = || {
        let metrics = Metrics::scrape(&network.server).unwrap();
        metrics.value("shedder_reconcile_repairs_total", &[("kind", "attach")])
    };
    let live = |minute: usize| {
        shedder.config(&config(&network, minute));
        let before = reloads();
        daemon.signal(Signal::SIGHUP).unwrap();
        wait::until("the reload", || reloads() > before);
        // An interface goes and comes back.
        let repaired = repairs();
        netns::ip(&network.server, &format!("link delete {}\n", network.link().interface)).unwrap();
        network.make(network.links()).unwrap();
        wait::until("the interface to be held again", || repairs() > repaired);
        // People, scrapers, applications and strangers.
        for command in [
            &["kill", "--interface", "veth0"][..],
            &["resume", "--interface", "veth0"],
            &["shed", "10"],
            &["auto"],
        ] {
            shedder.ok(command);
        }
        for n in 0..100 {
            let _ = push.send_to(
                format!("of-{} {n}ms\nnobody 1ms\n", minute % 7 * 10).as_bytes(),
                network.dir().join("push.sock"),
            );
            drop(network.server.run(|| TcpStream::connect(endpoint::ADDRESS)).unwrap());
        }
    };
    // As at the end: of the configurations of the same shape, the last.
    let rest = || {
        live(35);
        let mut last = Footprint::of(&daemon);
        wait::until("what was open is closed again", || {
            let now = Footprint::of(&daemon);
            let level = now.descriptors == last.descriptors;
            last = now;
            level
        });
        last
    };
    (0..WARM).for_each(live);
    let before = rest();
    (WARM..WARM + MINUTES).for_each(live);
    let after = rest();
    settle(&daemon, before.descriptors);
    println!("{before:?}, then {after:?}");
    // Two generations for each minute, of which each maps some megabytes, would be seen.
    assert!(after.memory < before.memory + (4 << 20), "{before:?}, then {after:?}");
}
