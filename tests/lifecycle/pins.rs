//! The directory of pins: who may use it, and what becomes of it in other hands.

use crate::{BARE, DENY, FAILED, LONG, arrived, both_ways, denied, status, xdp_program};
use nix::mount::{MsFlags, mount};
use shedder_common::abi::maps;
use shedder_tests::flood::now;
use shedder_tests::netns::Network;
use shedder_tests::shedder::Shedder;
use shedder_tests::traffic::Traffic;
use shedder_tests::wait::until;
use shedder_tests::{bpf, endpoint, privileged};
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

#[test]
fn a_second_daemon_on_the_same_pins_says_so_and_leaves_the_first_unharmed() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("two-daemons").unwrap();
    let shedder = Shedder::new(&network);
    let mut first = shedder.ready_daemon(DENY).unwrap();
    let before = bpf::objects_under(shedder.pins()).unwrap();
    // The same one started twice, and one that would not meet the first at its endpoint.
    let elsewhere = network.dir().join("second.toml");
    fs::write(
        &elsewhere,
        format!("{}[endpoint]\nlisten = \"127.0.0.1:9478\"\n", BARE.replace("$IF", "veth0")),
    )
    .unwrap();
    for config in [network.dir().join("shedder.toml"), elsewhere] {
        for command in ["run", "attach"] {
            let said = shedder.fails(FAILED, &[command, "--config", config.to_str().unwrap()]);
            assert!(said.contains("another shedder holds"), "{command}: {said}");
        }
    }
    let said = shedder.fails(FAILED, &["detach"]);
    assert!(said.contains("another shedder holds"), "{said}");

    assert_eq!(first.ended().unwrap(), None);
    assert!(endpoint::is_ready(&network.server));
    assert_eq!(bpf::objects_under(shedder.pins()).unwrap(), before);
    let start = now();
    assert_eq!(denied(&network).arrived_since(start), 0);
}

/// Removes `what` of the pins under a daemon that has a kill in force, and waits until it has put that right.
fn meddle(name: &str, what: impl FnOnce(&Shedder<'_>)) {
    let network = Network::new(name).unwrap();
    let shedder = Shedder::new(&network);
    let mut daemon = shedder.ready_daemon(BARE).unwrap();
    let both = both_ways(&network, 1_000);
    both.iter().for_each(Traffic::arrive_more);
    shedder.ok(&["kill"]);
    let repairs = || {
        endpoint::Metrics::scrape(&network.server)
            .map_or(0.0, |m| m.sum("shedder_reconcile_repairs_total", &[]))
    };
    assert_eq!(repairs(), 0.0);
    let admitted = arrived(&status(&shedder), "admitted");
    what(&shedder);
    until("a repair", || repairs() >= 1.0 && endpoint::is_ready(&network.server));
    let repaired = now();
    for traffic in &both {
        assert_eq!(traffic.arrived_since(repaired), 0, "the kill was lost: {}", daemon.output());
    }
    let seen = status(&shedder);
    assert_eq!(seen["kill"]["active"], true);
    assert!(arrived(&seen, "admitted") >= admitted, "the counters began anew");
    assert!(xdp_program(&network, "veth0").is_some());
    // The pins are those of what is in force.
    shedder.ok(&["resume"]);
    both.iter().for_each(Traffic::arrive_more);
    shedder.ok(&["kill"]);
    shedder.ok(&["resume"]);
    // Nobody else can take what the daemon holds.
    shedder.fails(FAILED, &["detach"]);
    assert!(daemon.stop(LONG).unwrap().success(), "{}", daemon.output());
    assert!(!shedder.pins().exists(), "{:?}", bpf::pins_under(shedder.pins()));
}

/// Removes a directory, as far as the daemon does not put it right meanwhile.
fn remove_all(directory: &Path) {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => {}
        removed => removed.unwrap(),
    }
}

#[test]
fn pins_that_are_all_removed_by_hand_are_put_right_and_a_kill_is_carried_over() {
    if !privileged::require() {
        return;
    }
    meddle("pins-all", |shedder| remove_all(shedder.pins()));
}

#[test]
fn links_that_are_removed_by_hand_are_put_right_and_a_kill_is_carried_over() {
    if !privileged::require() {
        return;
    }
    meddle("pins-links", |shedder| fs::remove_file(shedder.pins().join("links/ingress-0")).unwrap());
}

#[test]
fn maps_that_are_removed_by_hand_are_put_right_and_a_kill_is_carried_over() {
    if !privileged::require() {
        return;
    }
    meddle("pins-maps", |shedder| remove_all(&shedder.pins().join("maps")));
    meddle("pins-kills", |shedder| fs::remove_file(shedder.pins().join("maps").join(maps::KILLS)).unwrap());
    meddle("pins-counters", |shedder| {
        fs::remove_file(shedder.pins().join("maps").join(maps::COUNTERS)).unwrap()
    });
}

#[test]
fn a_map_that_is_put_in_anothers_place_is_found_and_put_right_and_a_kill_is_carried_over() {
    if !privileged::require() {
        return;
    }
    meddle("pins-exchanged", |shedder| {
        let map = |name| shedder.pins().join("maps").join(name);
        fs::rename(map(maps::SHARED), map(maps::KILLS)).unwrap();
    });
}

#[test]
fn a_reload_while_maps_are_removed_loses_no_kill_and_no_count() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("pins-reload").unwrap();
    let shedder = Shedder::new(&network);
    let daemon = shedder.ready_daemon(BARE).unwrap();
    let both = both_ways(&network, 1_000);
    both.iter().for_each(Traffic::arrive_more);
    shedder.ok(&["kill"]);
    let killed = now();
    let reloads = || {
        endpoint::Metrics::scrape(&network.server).map_or(0.0, |metrics| {
            ["shedder_config_reloads_total", "shedder_config_reload_failures_total"]
                .map(|count| metrics.sum(count, &[]))
                .iter()
                .sum()
        })
    };
    let counted =
        || endpoint::Metrics::scrape(&network.server).map_or(0.0, |m| m.sum("shedder_packets_total", &[]));
    let mut before = 0.0;
    // Before a reload, and ever later in the middle of one.
    for (reload, after) in (1u32..).zip((0..=120).step_by(5)) {
        if after > 0 {
            daemon.signal(nix::sys::signal::Signal::SIGHUP).unwrap();
            std::thread::sleep(Duration::from_millis(after));
        }
        remove_all(&shedder.pins().join("maps"));
        if after == 0 {
            daemon.signal(nix::sys::signal::Signal::SIGHUP).unwrap();
        }
        until("a reload", || reloads() >= f64::from(reload));
        until("what is counted goes on from where it was", || counted() > before);
        before = counted();
    }
    until("the pins are put right", || shedder.run(&["status"]).status.success());
    for traffic in &both {
        assert_eq!(traffic.arrived_since(killed), 0, "the kill was lost: {}", daemon.output());
    }
    assert_eq!(status(&shedder)["kill"]["active"], true);
}

#[test]
fn maps_of_another_version_are_refused_by_every_command_and_nothing_changes() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("other-abi").unwrap();
    let shedder = Shedder::new(&network);
    shedder.attach(BARE);
    let traffic = Traffic::inward_of_both_families(&network, network.link(), 4000, 1_000).unwrap();
    let meta = shedder.pins().join("maps").join(maps::META);
    let mut words: [u8; 48] = bpf::read(&meta, 0).unwrap();
    words[4..8].copy_from_slice(&4711u32.to_ne_bytes());
    bpf::write(&meta, 0, &words).unwrap();
    let before = bpf::objects_under(shedder.pins()).unwrap();
    let config = shedder.config(BARE);
    let config = config.to_str().unwrap();
    let commands: [&[&str]; 8] = [
        &["kill"],
        &["kill", "--total", "--for", "1m"],
        &["resume"],
        &["shed", "100"],
        &["auto"],
        &["status"],
        &["attach", "--config", config],
        &["run", "--config", config],
    ];
    for arguments in commands {
        let said = shedder.fails(FAILED, arguments);
        assert!(said.contains("have version 4711"), "{arguments:?}: {said}");
    }
    assert_eq!(bpf::objects_under(shedder.pins()).unwrap(), before);
    traffic.arrive_more();
}

#[test]
fn a_map_of_another_shape_in_a_pins_place_is_refused_and_what_is_in_force_stays() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("other-shape").unwrap();
    let shedder = Shedder::new(&network);
    shedder.attach(DENY);
    let maps = shedder.pins().join("maps");
    let before = xdp_program(&network, "veth0");
    fs::rename(maps.join(maps::FLOWS), maps.join("aside")).unwrap();
    fs::hard_link(maps.join(maps::META), maps.join(maps::FLOWS)).unwrap();
    let said =
        shedder.fails(FAILED, &["attach", "--config", network.dir().join("shedder.toml").to_str().unwrap()]);
    assert!(
        said.contains("maps/FLOWS is a map of another shape") && said.contains("shedder detach"),
        "{said}"
    );
    assert!(!said.contains("refused to load"), "it is not the kernel that refuses: {said}");
    assert_eq!(xdp_program(&network, "veth0"), before);
    let start = now();
    assert_eq!(denied(&network).arrived_since(start), 0);
    fs::rename(maps.join("aside"), maps.join(maps::FLOWS)).unwrap();
    shedder.attach(DENY);
}

#[test]
fn a_read_only_bpffs_is_told_and_what_is_in_force_stays() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("read-only").unwrap();
    let shedder = Shedder::new(&network);
    let config = shedder.config(DENY);
    let config = config.to_str().unwrap();
    let remount = |flags| {
        mount(None::<&str>, &network.bpffs(), None::<&str>, MsFlags::MS_REMOUNT | flags, None::<&str>)
            .unwrap();
    };
    let told = |arguments: &[&str]| {
        let said = shedder.fails(FAILED, arguments);
        assert!(said.contains("is read-only: remount it"), "{arguments:?}: {said}");
    };
    remount(MsFlags::MS_RDONLY);
    told(&["attach", "--config", config]);
    remount(MsFlags::empty());
    assert!(!shedder.pins().exists());

    shedder.attach(DENY);
    remount(MsFlags::MS_RDONLY);
    let before = xdp_program(&network, "veth0");
    for arguments in [&["attach", "--config", config][..], &["kill"], &["resume"], &["status"], &["detach"]] {
        told(arguments);
    }
    assert_eq!(xdp_program(&network, "veth0"), before);
    let start = now();
    assert_eq!(denied(&network).arrived_since(start), 0);
    remount(MsFlags::empty());
    shedder.ok(&["status"]);
}
