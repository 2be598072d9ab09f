//! What is said of a kill that the kernel does not act on.

use crate::BARE;
use shedder_tests::bpf::{self, Hook, Passing};
use shedder_tests::netns::Network;
use shedder_tests::privileged;
use shedder_tests::shedder::Shedder;

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
