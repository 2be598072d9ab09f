//! What a kernel is told that is too old.

use crate::{BARE, FAILED, shown};
use shedder_tests::netns::Network;
use shedder_tests::privileged;
use shedder_tests::shedder::Shedder;

#[test]
#[ignore = "`cargo xtask kernels` runs it on kernels before Linux 5.18"]
fn a_kernel_that_is_too_old_is_told_in_one_sentence_and_nothing_is_changed() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("old").unwrap();
    let shedder = Shedder::new(&network);
    let config = shedder.config(BARE);
    let said = shedder.fails(FAILED, &["attach", "--config", config.to_str().unwrap()]);
    println!("{said}");
    assert!(said.contains("too old") && said.contains("Linux 6.1"), "{said}");
    assert_eq!(said.trim().lines().count(), 1, "{said}");
    assert!(!shedder.pins().exists());
    let link = shown(&network, "ip", &["-details", "link", "show", "veth0"]);
    assert!(!link.contains("xdp"), "{link}");
    assert!(!shown(&network, "tc", &["qdisc", "show", "dev", "veth0"]).contains("clsact"));
}
