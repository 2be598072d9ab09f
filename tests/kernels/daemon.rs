//! The daemon behind its fence, as far as this kernel can build one: Landlock of Linux 6.1 knows neither ports nor signals.

use crate::{BARE, Talk, killed, shown, status};
use nix::sys::signal::Signal;
use serde_json::json;
use shedder_tests::netns::Network;
use shedder_tests::shedder::Shedder;
use shedder_tests::wait::until;
use shedder_tests::{endpoint, privileged};
use std::time::Duration;

#[test]
#[ignore = "`cargo xtask kernels` runs it on other kernels"]
fn a_daemon_is_fenced_becomes_ready_and_does_all_that_takes_a_right() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("daemon").unwrap();
    let shedder = Shedder::new(&network);
    let mut daemon = shedder.ready_daemon(BARE).unwrap();
    let told = &status(&shedder)["daemon"]["privileges"];
    let kept = json!(["CAP_BPF", "CAP_NET_ADMIN", "CAP_PERFMON"]);
    assert_eq!((&told["capabilities"], &told["bounding"]), (&kept, &kept));
    for fence in ["no_new_privileges", "system_calls_filtered", "files_fenced"] {
        assert_eq!(told[fence], true, "{fence}: {}", daemon.output());
    }

    let talk = Talk::between(&network);
    assert_eq!(talk.passes(), (true, true));
    shedder.ok(&["kill"]);
    assert_eq!(talk.passes(), (false, false));

    // Programs are loaded behind the fence.
    // Where the daemon is emulated, it may not gather its metrics in time.
    let reloads = || {
        let metrics = endpoint::Metrics::scrape(&network.server);
        metrics.map_or(0.0, |metrics| metrics.value("shedder_config_reloads_total", &[]))
    };
    shedder.config(&format!("{BARE}[source]\npackets_per_second = 1_000_000\n"));
    daemon.signal(Signal::SIGHUP).unwrap();
    until("the reload", || reloads() > 0.0);
    let before = (killed(&shedder, "ingress"), killed(&shedder, "egress"));
    assert_eq!(talk.passes(), (false, false));
    assert!(killed(&shedder, "ingress") > before.0 && killed(&shedder, "egress") > before.1);

    // An interface is taken again.
    drop(talk);
    shown(&network, "ip", &["link", "del", "veth0"]);
    until("the daemon not to be ready", || !endpoint::is_ready(&network.server));
    network.make(network.links()).unwrap();
    until("the daemon to be ready", || endpoint::is_ready(&network.server));
    let talk = Talk::between(&network);
    assert_eq!(talk.passes(), (false, false));
    shedder.ok(&["resume"]);
    assert_eq!(talk.passes(), (true, true));

    assert!(daemon.stop(Duration::from_secs(60)).unwrap().success(), "{}", daemon.output());
    assert!(!shedder.pins().exists());
    assert_eq!(talk.passes(), (true, true));
}
