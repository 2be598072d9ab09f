//! What holds where the kernel has no tcx, before Linux 6.6: a filter of a clsact qdisc judges what leaves.

use crate::{BARE, FAILED, Talk, shown, status};
use shedder_tests::bpf;
use shedder_tests::netns::Network;
use shedder_tests::privileged;
use shedder_tests::shedder::Shedder;

/// The filters on the way out.
fn filters(network: &Network) -> String {
    shown(network, "tc", &["filter", "show", "dev", "veth0", "egress"])
}

/// Adds a qdisc or a filter of nobody's in particular.
fn add(network: &Network, arguments: &[&str]) {
    shown(network, "tc", arguments);
}

#[test]
#[ignore = "`cargo xtask kernels` runs it on kernels before Linux 6.6"]
fn filters_and_the_qdisc_of_others_stay() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("foreign-filter").unwrap();
    let shedder = Shedder::new(&network);
    let talk = Talk::between(&network);
    add(&network, &["qdisc", "add", "dev", "veth0", "clsact"]);
    let foreign = ["filter", "add", "dev", "veth0", "egress", "prio", "7", "matchall", "action", "pass"];
    add(&network, &foreign);

    shedder.attach(BARE);
    assert!(filters(&network).contains("shedder:") && filters(&network).contains("matchall"));
    shedder.ok(&["kill"]);
    assert_eq!(talk.passes(), (false, false), "the other filter lets pass what a kill stops");
    shedder.ok(&["resume"]);
    assert_eq!(talk.passes(), (true, true));

    shedder.ok(&["detach"]);
    let left = filters(&network);
    assert!(!left.contains("shedder") && left.contains("matchall"), "{left}");

    // Of two filters the last takes the qdisc along only where it was made for it: this one was not.
    add(&network, &["filter", "del", "dev", "veth0", "egress", "prio", "7"]);
    shedder.attach(BARE);
    shedder.ok(&["detach"]);
    assert!(shown(&network, "tc", &["qdisc", "show", "dev", "veth0"]).contains("clsact"));

    // And where it was made for ours, but another is in it now, it stays as well.
    add(&network, &["qdisc", "del", "dev", "veth0", "clsact"]);
    shedder.attach(BARE);
    add(&network, &foreign);
    shedder.ok(&["detach"]);
    assert!(filters(&network).contains("matchall"));
}

#[test]
#[ignore = "`cargo xtask kernels` runs it on kernels before Linux 6.6"]
fn what_stands_in_the_way_is_named_and_nothing_is_changed() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("in-the-way").unwrap();
    let shedder = Shedder::new(&network);
    let refused = |because: &str| {
        let config = shedder.config(BARE);
        let said = shedder.fails(FAILED, &["attach", "--config", config.to_str().unwrap()]);
        assert!(said.contains(because), "{said}");
        assert_eq!(bpf::pins_under(shedder.pins()).unwrap(), Vec::<std::path::PathBuf>::new());
        assert!(!shown(&network, "ip", &["link", "show", "veth0"]).contains("xdp"));
    };
    add(&network, &["qdisc", "add", "dev", "veth0", "ingress"]);
    refused("an ingress qdisc");
    add(&network, &["qdisc", "del", "dev", "veth0", "ingress"]);
    add(&network, &["qdisc", "add", "dev", "veth0", "clsact"]);
    add(&network, &["filter", "add", "dev", "veth0", "egress", "prio", "1", "matchall", "action", "pass"]);
    refused("a filter of another kind");
    assert!(filters(&network).contains("matchall"));
}

#[test]
#[ignore = "`cargo xtask kernels` runs it on kernels before Linux 6.6"]
fn a_filter_that_was_taken_away_is_told_and_comes_back_and_a_stray_one_goes() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("filter-drift").unwrap();
    let shedder = Shedder::new(&network);
    shedder.attach(BARE);
    add(&network, &["filter", "del", "dev", "veth0", "egress"]);
    let broken = status(&shedder);
    assert_eq!(broken["interfaces"][0]["attached"], false, "{broken}");
    shedder.attach(BARE);
    assert_eq!(status(&shedder)["interfaces"][0]["attached"], true);

    // The pins were removed by hand, and the filter with nobody's programs stays until somebody attaches again.
    std::fs::remove_dir_all(shedder.pins()).unwrap();
    assert!(filters(&network).contains("shedder:"));
    shedder.attach(BARE);
    assert_eq!(filters(&network).matches("shedder:").count(), 1, "{}", filters(&network));
    shedder.ok(&["detach"]);
    assert_eq!(filters(&network), "");
}
