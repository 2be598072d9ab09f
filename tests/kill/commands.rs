//! Many people at the switch at the same time.

use crate::{BARE, status};
use nix::sys::signal::Signal;
use shedder_common::abi::maps;
use shedder_tests::flood::now;
use shedder_tests::netns::{Network, Options};
use shedder_tests::process::Process;
use shedder_tests::shedder::Shedder;
use shedder_tests::traffic::Traffic;
use shedder_tests::wait::until;
use shedder_tests::{bpf, privileged};
use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

const BOTH: &str = "interfaces = [\"veth0\", \"veth1\"]\n";

/// For what must come.
const LONG: Duration = Duration::from_secs(30);

/// A command that meets this fault where it writes a word in its turn.
fn faulty(shedder: &Shedder<'_>, fault: &str, arguments: &[&str]) -> Command {
    let file = shedder.network().dir().join(format!("fault-{}", fault.replace(':', "-")));
    fs::write(&file, fault).unwrap();
    let mut command = shedder.command(arguments);
    command.env("SHEDDER_FAULT", file);
    command
}

/// The kills of the two interfaces.
fn words(shedder: &Shedder<'_>) -> [u64; 2] {
    let kills: [u8; 8 * 321] = bpf::read(&shedder.pins().join("maps").join(maps::KILLS), 0).unwrap();
    // Behind that of the host.
    [1, 2].map(|at| u64::from_ne_bytes(kills[8 * at..][..8].try_into().unwrap()))
}

/// Starts a command that stops by itself at this of its words, as SIGSTOP does, and waits until it has.
fn stopped_at(shedder: &Shedder<'_>, word: u64, arguments: &[&str]) -> Process {
    let command = faulty(shedder, &format!("stop:{word}"), arguments);
    let process = shedder.network().start("stopped", command).unwrap();
    let status = format!("/proc/{}/status", process.pid());
    until("the command to stop", || fs::read_to_string(&status).unwrap().contains("State:\tT"));
    process
}

/// Lets a stopped command go on to its end: its exit code, and what it said.
fn continued(mut process: Process) -> (Option<i32>, String) {
    process.signal(Signal::SIGCONT).unwrap();
    let ended = process.wait(LONG).unwrap().expect("a command ends");
    (ended.code(), process.output())
}

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

#[test]
fn of_many_commands_for_several_interfaces_at_once_one_is_in_force_whole() {
    if !privileged::require() {
        return;
    }
    const ROUNDS: usize = 8;
    const ATTEMPTS: usize = 60;
    let network = Network::with("kill-whole", &Options { links: 2, ..Options::default() }).unwrap();
    let shedder = Shedder::new(&network);
    let _daemon = shedder.ready_daemon(BOTH).unwrap();
    // In both orders: of commands that are equally slow, the last to begin is the last everywhere.
    let kill = ["kill", "--interface", "veth0", "--interface", "veth1"];
    let back = ["kill", "--interface", "veth1", "--interface", "veth0"];
    let commands = [
        kill.to_vec(),
        [&back[..], &["--total"]].concat(),
        vec!["resume", "--interface", "veth0", "--interface", "veth1"],
        vec!["auto"],
        [&back[..], &["--for", "1h"]].concat(),
    ];
    let round = |_: &usize| {
        // So slow that without turns they would be mixed, and together faster than a kill's patience.
        let running = commands.iter().map(|arguments| {
            let mut command = faulty(&shedder, "slow:15", arguments);
            (arguments, command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
        });
        let mut had_turns = true;
        for (arguments, child) in running.collect::<Vec<_>>() {
            let output = child.wait_with_output().unwrap();
            let said = [output.stdout, output.stderr].concat();
            let said = String::from_utf8_lossy(&said);
            // On a machine that has much else to do; then nothing is promised but that it is said.
            let in_vain = said.contains("NOT WAITED FOR") || said.contains("held up");
            assert!(in_vain || matches!(output.status.code(), Some(0 | 4)), "{arguments:?}: {said}");
            had_turns &= !in_vain;
        }
        let [first, second] = words(&shedder);
        assert!(first == second || !had_turns, "a mixture: {first:#x} and {second:#x}");
        had_turns
    };
    let rounds = (0..ATTEMPTS).filter(round).take(ROUNDS).count();
    assert!(rounds == ROUNDS, "in {rounds} rounds only did each command have its turn");
}

#[test]
fn a_command_that_is_stopped_in_its_turn_stops_no_kill_and_undoes_none_when_it_goes_on() {
    if !privileged::require() {
        return;
    }
    let network = Network::with("kill-stuck", &Options { links: 2, ..Options::default() }).unwrap();
    let shedder = Shedder::new(&network);
    shedder.attach(BOTH);
    let outward = |at: u16| {
        let link = &network.links()[usize::from(at)];
        Traffic::outward_of_both_families(&network, link, 4000 + at * 100, 1_000).unwrap()
    };
    let traffic = [outward(0), outward(1)];
    traffic.iter().for_each(Traffic::arrive_more);
    let kill = ["kill", "--interface", "veth0", "--interface", "veth1"];
    shedder.ok(&kill);
    let before = words(&shedder);

    // The host's word and the first interface's are lifted, the second's not yet.
    let stuck = stopped_at(&shedder, 3, &["resume"]);
    assert_eq!(words(&shedder), [0, before[1]]);
    traffic[0].arrive_more();

    let start = now();
    let said = shedder.ok(&[&kill[..], &["--total"]].concat());
    let end = now();
    let pid = format!("process {}", stuck.pid());
    assert!(said.contains("NOT WAITED FOR") && said.contains(&pid), "{said}");
    let last = traffic[0].last().unwrap().saturating_sub(start);
    println!("kill, another command stopped in its turn: command's start to the last packet: {last:?}");
    let killed = words(&shedder);
    assert!(killed[0] == killed[1] && killed[0] != before[0], "{killed:x?}");

    // Whoever is no kill waits, and then does nothing.
    let others: [&[&str]; 4] = [&["resume"], &["auto"], &["shed", "50"], &["shed", "0"]];
    for arguments in others {
        let said = shedder.fails(1, arguments);
        assert!(said.contains(&pid) && said.contains("nothing was written"), "{arguments:?}: {said}");
    }
    assert!(status(&shedder)["override"]["active"] == false && words(&shedder) == killed);

    let (code, said) = continued(stuck);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("held up"), "{said}");
    assert_eq!(words(&shedder), killed, "a kill was undone by a command from before it");
    for traffic in &traffic {
        assert_eq!(traffic.arrived_since(end), 0, "packets passed under the kill");
    }
    shedder.ok(&["resume"]);
    traffic.iter().for_each(Traffic::arrive_more);
}

#[test]
fn a_kill_that_is_stopped_in_its_turn_is_in_force_whole_when_it_goes_on() {
    if !privileged::require() {
        return;
    }
    let network = Network::with("kill-held-up", &Options { links: 2, ..Options::default() }).unwrap();
    let shedder = Shedder::new(&network);
    shedder.attach(BOTH);
    let kill = ["kill", "--interface", "veth0", "--interface", "veth1"];
    let stuck = stopped_at(&shedder, 2, &kill);
    let first = words(&shedder);
    assert!(first[0] == first[1] && first[0] != 0, "a kill waits for nobody: {first:x?}");
    shedder.ok(&[&kill[..], &["--total"]].concat());
    let second = words(&shedder);
    assert!(second[0] == second[1] && second != first, "{second:x?}");
    let (code, said) = continued(stuck);
    assert_eq!((code, words(&shedder)), (Some(0), first), "{said}");
}
