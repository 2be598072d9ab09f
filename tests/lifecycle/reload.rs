//! Another configuration for a running daemon, and its end in good order.

use crate::{BARE, DENIED, DENY, LONG, arrived, denied, status, xdp_program};
use nix::sys::signal::Signal;
use shedder_tests::flood::now;
use shedder_tests::netns::Network;
use shedder_tests::shedder::Shedder;
use shedder_tests::traffic::Traffic;
use shedder_tests::wait::until;
use shedder_tests::{bpf, endpoint, privileged};

#[test]
fn a_good_file_takes_effect_at_a_reload_and_a_bad_one_leaves_the_old_in_force() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("reload").unwrap();
    let shedder = Shedder::new(&network);
    let daemon = shedder.ready_daemon(BARE).unwrap();
    let traffic = Traffic::inward(&network, network.link(), &[DENIED], 4000, 1_000).unwrap();
    traffic.arrive_more();
    let before = status(&shedder);
    let metric = |name: &str| endpoint::metric(&network.server, name, &[]).unwrap();

    shedder.config(DENY);
    daemon.signal(Signal::SIGHUP).unwrap();
    until("the reload", || metric("shedder_config_reloads_total") == 1.0);
    let reloaded = now();
    assert_eq!(traffic.arrived_since(reloaded), 0, "the new rule is not in force");
    let after = status(&shedder);
    assert!(arrived(&after, "admitted") >= arrived(&before, "admitted"), "the counters began anew");
    assert!(arrived(&after, "denied") > 0);

    let in_force = bpf::objects_under(shedder.pins()).unwrap();
    for (bad, refusals) in
        [("interfaces = [\"$IF\"]\nnonsense = 1\n", 1.0), ("interfaces = [\"none0\"]\n", 2.0)]
    {
        shedder.config(bad);
        daemon.signal(Signal::SIGHUP).unwrap();
        until("the refusal", || metric("shedder_config_reload_failures_total") == refusals);
        assert_eq!(traffic.arrived_since(reloaded), 0, "the old rule is not in force any more");
        assert_eq!(bpf::objects_under(shedder.pins()).unwrap(), in_force);
        assert!(daemon.output().contains("the old one stays in force"), "{}", daemon.output());
        assert!(endpoint::is_ready(&network.server));
    }
    assert_eq!(metric("shedder_config_reloads_total"), 1.0);
}

#[test]
fn reloads_that_are_asked_for_while_one_is_under_way_do_not_make_it_fail() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("reload-reload").unwrap();
    let shedder = Shedder::new(&network);
    let daemon = shedder.ready_daemon(BARE).unwrap();
    let metric = |name: &str| endpoint::metric(&network.server, name, &[]).unwrap();
    let limited = format!("{BARE}[source]\npackets_per_second = 1_000_000\n");
    for config in [limited.as_str(), BARE].into_iter().cycle().take(4) {
        shedder.config(config);
        for _ in 0..60 {
            daemon.signal(Signal::SIGHUP).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        // A stop is a signal as well, and none that can be kept from a thread.
        daemon.signal(Signal::SIGSTOP).unwrap();
        daemon.signal(Signal::SIGCONT).unwrap();
    }
    until("the reloads", || metric("shedder_config_reloads_total") >= 4.0);
    assert_eq!(metric("shedder_config_reload_failures_total"), 0.0, "{}", daemon.output());
}

#[test]
fn a_refused_reload_that_changes_a_signal_leaves_the_old_one_at_work() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("reload-signal").unwrap();
    let shedder = Shedder::new(&network);
    // Nobody listens there: every probe is a sample that counts as a failure.
    let probed = |interface: &str, every: &str| {
        format!(
            "interfaces = [\"{interface}\"]\n[[service]]\nname = \"api\"\nprotocol = \"tcp\"\nport = 8080\n\
             signal = {{ kind = \"probe\", url = \"tcp://127.0.0.1:1\", every = \"{every}\" }}\n"
        )
    };
    let daemon = shedder.ready_daemon(&probed("$IF", "20ms")).unwrap();
    let metric =
        |name: &str, labels: &[(&str, &str)]| endpoint::metric(&network.server, name, labels).unwrap();
    let failures = || metric("shedder_signal_failures_total", &[("service", "api")]);

    shedder.config(&probed("none0", "25ms"));
    daemon.signal(Signal::SIGHUP).unwrap();
    until("the refusal", || metric("shedder_config_reload_failures_total", &[]) == 1.0);
    let seen = failures();
    until("more samples", || failures() > seen + 20.0);
    assert!(endpoint::is_ready(&network.server));
}

#[test]
fn a_daemon_that_is_asked_to_end_detaches() {
    if !privileged::require() {
        return;
    }
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let network = Network::new("end").unwrap();
        let shedder = Shedder::new(&network);
        let mut daemon = shedder.ready_daemon(BARE).unwrap();
        let objects = bpf::objects_under(shedder.pins()).unwrap();
        daemon.signal(signal).unwrap();
        let ended = daemon.wait(LONG).unwrap().expect("it ends");
        assert!(ended.success(), "{ended:?}: {}", daemon.output());
        assert!(!shedder.pins().exists());
        assert_eq!(xdp_program(&network, "veth0"), None);
        until("every program, map and link to be gone", || objects.iter().all(|object| !object.exists()));
    }
}

#[test]
fn with_persist_a_daemon_that_is_asked_to_end_leaves_everything_in_force() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("persist").unwrap();
    let shedder = Shedder::new(&network);
    let mut daemon = shedder.ready_daemon(&format!("persist = true\n{DENY}")).unwrap();
    let objects = bpf::objects_under(shedder.pins()).unwrap();
    let denied = denied(&network);
    let start = now();
    assert!(daemon.stop(LONG).unwrap().success(), "{}", daemon.output());
    assert!(daemon.output().contains("`persist` is set"), "{}", daemon.output());
    assert_eq!(denied.arrived_since(start), 0);
    assert_eq!(bpf::objects_under(shedder.pins()).unwrap(), objects);
    assert_eq!(status(&shedder)["daemon"]["alive"], false, "its lease ends with it");
}
