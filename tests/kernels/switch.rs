//! What every kernel has to do.

use crate::{BARE, Talk, arrives, killed, shown, status};
use shedder_tests::netns::Network;
use shedder_tests::privileged;
use shedder_tests::shedder::Shedder;
use std::sync::atomic::{AtomicBool, Ordering};

#[test]
#[ignore = "`cargo xtask kernels` runs it on other kernels"]
fn attach_kill_resume_and_detach_do_what_they_say_both_ways() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("switch").unwrap();
    let shedder = Shedder::new(&network);
    let talk = Talk::between(&network);
    assert_eq!(talk.passes(), (true, true), "before anything is attached");

    shedder.attach(BARE);
    println!("{}", shown(&network, "ip", &["-details", "link", "show", "veth0"]));
    let attached = status(&shedder);
    assert_eq!(attached["interfaces"][0]["attached"], true, "{attached}");
    assert_eq!(talk.passes(), (true, true), "attached");

    shedder.ok(&["kill"]);
    assert_eq!(talk.passes(), (false, false), "killed");
    assert!(killed(&shedder, "ingress") > 0 && killed(&shedder, "egress") > 0, "{}", status(&shedder));

    shedder.ok(&["resume"]);
    assert_eq!(talk.passes(), (true, true), "resumed");

    shedder.ok(&["detach"]);
    assert!(!shedder.pins().exists());
    assert_eq!(talk.passes(), (true, true), "detached");
    let link = shown(&network, "ip", &["-details", "link", "show", "veth0"]);
    assert!(!link.contains("xdp"), "{link}");
    let qdiscs = shown(&network, "tc", &["qdisc", "show", "dev", "veth0"]);
    assert!(!qdiscs.contains("clsact"), "{qdiscs}");
}

#[test]
#[ignore = "`cargo xtask kernels` runs it on other kernels"]
fn a_kill_has_no_gap_while_programs_are_replaced() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("no-gap").unwrap();
    let shedder = Shedder::new(&network);
    let talk = Talk::between(&network);
    shedder.attach(BARE);
    shedder.ok(&["kill"]);
    assert_eq!(talk.passes(), (false, false));

    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let _ = talk.server.send(b"out");
                let _ = talk.client.send(b"in");
            }
        });
        let before = (killed(&shedder, "ingress"), killed(&shedder, "egress"));
        for rate in 1..=3 {
            shedder.attach(&format!("{BARE}[source]\npackets_per_second = {rate}_000_000\n"));
        }
        let after = (killed(&shedder, "ingress"), killed(&shedder, "egress"));
        over.store(true, Ordering::Relaxed);
        assert!(after.0 > before.0 && after.1 > before.1, "nothing was sent: {before:?}, {after:?}");
    });
    for (to, way) in [(&talk.server, "in"), (&talk.client, "out")] {
        assert!(to.recv(&mut [0; 8]).is_err(), "a datagram went {way} while programs were replaced");
    }
    shedder.ok(&["resume"]);
    assert!(arrives(&talk.server, &talk.client));
}

#[test]
#[ignore = "`cargo xtask kernels` runs it on other kernels"]
fn an_interface_that_was_made_again_is_attached_again() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("made-again").unwrap();
    let shedder = Shedder::new(&network);
    shedder.attach(BARE);
    shedder.ok(&["kill", "--interface", "veth0"]);
    shown(&network, "ip", &["link", "del", "veth0"]);
    network.make(network.links()).unwrap();
    assert_eq!(status(&shedder)["interfaces"][0]["attached"], false);

    shedder.attach(BARE);
    assert_eq!(status(&shedder)["interfaces"][0]["attached"], true);
    let talk = Talk::between(&network);
    assert_eq!(talk.passes(), (false, false), "its kill is forgotten");
    shedder.ok(&["resume", "--interface", "veth0"]);
    assert_eq!(talk.passes(), (true, true));
}
