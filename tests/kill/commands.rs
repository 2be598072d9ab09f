//! Many people at the switch at the same time.

use crate::{BARE, status};
use shedder_tests::flood::now;
use shedder_tests::netns::Network;
use shedder_tests::privileged;
use shedder_tests::shedder::Shedder;
use shedder_tests::traffic::Traffic;
use std::process::Stdio;

#[test]
fn of_sixty_four_commands_at_once_beside_a_running_loop_one_is_in_force_and_a_last_kill_holds() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("kill-many").unwrap();
    let shedder = Shedder::new(&network);
    let _daemon = shedder.ready_daemon(BARE).unwrap();
    let traffic = Traffic::inward_of_both_families(&network, network.link(), 4000, 2_000).unwrap();
    let commands: [&[&str]; 8] = [
        &["kill"],
        &["resume"],
        &["shed", "50"],
        &["auto"],
        &["kill", "--total"],
        &["kill", "--for", "1h"],
        &["shed", "25", "--for", "2h"],
        &["resume"],
    ];
    let running = commands.iter().cycle().take(64).map(|arguments| {
        let mut command = shedder.command(arguments);
        (arguments, command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    });
    for (arguments, child) in running.collect::<Vec<_>>() {
        let output = child.wait_with_output().unwrap();
        // Whoever finds another's word in place of theirs says that.
        assert!(matches!(output.status.code(), Some(0 | 4)), "{arguments:?}: {output:?}");
    }

    let seen = status(&shedder);
    let kill = &seen["kill"];
    let ends = kill["ends_in_seconds"].as_f64();
    let is_commanded = match (kill["active"].as_bool(), kill["total"].as_bool()) {
        (Some(false), _) => true,
        (Some(true), Some(true)) => ends.is_none(),
        (Some(true), Some(false)) => ends.is_none_or(|ends| (3_000.0..=3_600.0).contains(&ends)),
        _ => false,
    };
    assert!(is_commanded, "{kill}");
    let word = &seen["override"];
    let ends = word["ends_in_seconds"].as_f64();
    let is_commanded = match (word["active"].as_bool(), word["shed_ratio"].as_f64()) {
        (Some(false), _) => true,
        (Some(true), Some(0.5)) => ends.is_none(),
        (Some(true), Some(0.25)) => ends.is_some_and(|ends| (6_600.0..=7_201.0).contains(&ends)),
        _ => false,
    };
    assert!(is_commanded, "{word}");

    shedder.ok(&["auto"]);
    shedder.ok(&["resume"]);
    traffic.arrive_more();
    shedder.ok(&["kill"]);
    let end = now();
    assert_eq!(traffic.arrived_since(end), 0, "packets passed after the last kill");
    let kill = &status(&shedder)["kill"];
    assert!(kill["active"] == true && kill["total"] == false, "{kill}");
}
