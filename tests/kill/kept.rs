//! Only a person lifts a kill: no configuration does, and no clock but the kernel's own.

use crate::{BARE, status};
use nix::sched::CloneFlags;
use shedder_common::abi::maps;
use shedder_tests::flood::now;
use shedder_tests::netns::{Network, Options};
use shedder_tests::shedder::Shedder;
use shedder_tests::traffic::Traffic;
use shedder_tests::wait::until;
use shedder_tests::{bpf, privileged};
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Output;
use std::time::Duration;

#[test]
fn a_configuration_that_would_lift_a_kill_is_refused_until_it_is_lifted() {
    if !privileged::require() {
        return;
    }
    let network = Network::with("kill-kept", &Options { links: 2, ..Options::default() }).unwrap();
    let shedder = Shedder::new(&network);
    let service =
        "[[service]]\nname = \"api\"\nprotocol = \"udp\"\nport = 4000\nsignal = { kind = \"none\" }\n";
    let both = format!("interfaces = [\"veth0\", \"veth1\"]\n{service}");
    shedder.attach(&both);
    let links = network.links().iter().enumerate();
    let traffic = links.map(|(at, link)| {
        Traffic::inward_of_both_families(&network, link, 4000 + at as u16 * 1000, 1_000).unwrap()
    });
    let traffic: Vec<Traffic> = traffic.collect();
    let one = format!("interfaces = [\"veth0\"]\n{service}");
    let cases: [(&[&str], &str, usize, &str); 5] = [
        (&["kill"], &one, 1, "does not name veth1"),
        (&["kill", "--interface", "veth1"], &one, 1, "does not name veth1"),
        (&["kill", "--service", "api"], "interfaces = [\"veth0\", \"veth1\"]\n", 0, "has no service api"),
        (&["kill"], &format!("dry_run = true\n{both}"), 0, "a dry run drops nothing"),
        (&["kill"], &format!("mode = \"generic\"\n{both}"), 0, "to leave native mode"),
    ];
    for (kill, config, stopped, reason) in cases {
        traffic.iter().for_each(Traffic::arrive_more);
        shedder.ok(kill);
        let killed = now();
        let config = shedder.config(config);
        let attach = ["attach", "--config", config.to_str().unwrap()];
        let said = shedder.fails(1, &attach);
        assert!(said.contains("a kill is in force") && said.contains(reason), "{kill:?}: {said}");
        assert_eq!(traffic[stopped].arrived_since(killed), 0, "{kill:?}: {reason}");
        shedder.ok(&["resume"]);
        shedder.ok(&attach);
        shedder.attach(&both);
    }
}

/// Runs a command in a time namespace whose monotonic clock is ahead of the kernel's by so many seconds.
fn ahead_by(seconds: i64, shedder: &Shedder<'_>, arguments: &[&str]) -> Output {
    let mut command = shedder.command(arguments);
    let offset = format!("monotonic {seconds} 0\n");
    // A process is in the namespace that its parent unshared: the command's is a shell, which starts it.
    let mut outside = std::process::Command::new("sh");
    outside.args(["-c", "\"$@\"; exit $?", "sh"]).arg(command.get_program()).args(command.get_args());
    let network = shedder.network().server.clone();
    let prepare = move || {
        network.enter().map_err(|_| io::ErrorKind::PermissionDenied)?;
        nix::sched::unshare(CloneFlags::from_bits_retain(libc::CLONE_NEWTIME))?;
        std::fs::write("/proc/self/timens_offsets", &offset)
    };
    // SAFETY: the child of a test's process, which has other threads; it opens files, and takes no lock of theirs.
    unsafe { outside.pre_exec(prepare) };
    command = outside;
    command.output().unwrap()
}

#[test]
fn a_deadline_is_by_the_kernels_clock_also_where_the_command_lives_by_another() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("kill-clock").unwrap();
    let shedder = Shedder::new(&network);
    shedder.attach(BARE);
    let traffic = Traffic::inward_of_both_families(&network, network.link(), 4000, 2_000).unwrap();
    traffic.arrive_more();
    for seconds in [1_000_000, -100] {
        let start = now();
        let output = ahead_by(seconds, &shedder, &["kill", "--for", "2s"]);
        let end = now();
        assert!(output.status.success(), "{output:?}");
        let left = status(&shedder)["kill"]["ends_in_seconds"].as_f64();
        assert!(left.is_some_and(|left| left <= 2.0), "{seconds} s ahead: {left:?}");
        until("the kill to end", || traffic.arrivals().first_since(end).is_some());
        let first = traffic.arrivals().first_since(end).unwrap();
        assert!(
            first >= start + Duration::from_secs(2),
            "{seconds} s ahead: ended {:?} early",
            first - start
        );
    }
}

#[test]
fn a_deadline_is_a_time_of_the_monotonic_clock_which_no_step_of_the_wall_clock_moves() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("kill-steps").unwrap();
    let shedder = Shedder::new(&network);
    shedder.attach(BARE);
    let monotonic = || Duration::from(nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).unwrap());
    let lasting = Duration::from_secs(600);
    let before = monotonic();
    shedder.ok(&["kill", "--for", "10m"]);
    let after = monotonic();
    let kills: [u8; 8 * 321] = bpf::read(&shedder.pins().join("maps").join(maps::KILLS), 0).unwrap();
    let deadline = Duration::from_nanos(u64::from_ne_bytes(kills[..8].try_into().unwrap()));
    assert!(
        (before + lasting..=after + lasting).contains(&(deadline + Duration::from_nanos(2))),
        "{deadline:?}"
    );
}
