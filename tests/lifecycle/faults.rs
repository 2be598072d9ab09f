//! Stopped at every single step of attach, adopt, reload and detach: the next `attach` succeeds with no help, and a kill is
//! never lost. A step that fails instead is taken back with all before it.
//!
//! The steps are those at which a debug build asks the file that `SHEDDER_FAULT` names: each change that it makes in the
//! kernel.

use crate::{BARE, FAILED, LONG, NOT_ATTACHED, both_ways, crash, status, xdp_program};
use nix::sys::signal::Signal;
use shedder_tests::bpf::{self, Hook, Object, Passing, Place};
use shedder_tests::flood::now;
use shedder_tests::netns::{Network, Options};
use shedder_tests::process::Process;
use shedder_tests::shedder::Shedder;
use shedder_tests::traffic::Traffic;
use shedder_tests::wait::until;
use shedder_tests::{endpoint, privileged};
use std::fs;
use std::path::PathBuf;
use std::process::Output;

/// How a process ends that dies at a step.
const DIED: i32 = 137;

/// Two configurations between which tables change their size.
const ONE: &str = BARE;
const OTHER: &str = "interfaces = [\"$IF\"]\n[source]\npackets_per_second = 1_000_000\n";

/// shedder, with a file that says where it stops.
struct Faulty<'a> {
    shedder: Shedder<'a>,
    file: PathBuf,
}

impl<'a> Faulty<'a> {
    fn new(network: &'a Network) -> Faulty<'a> {
        Faulty { shedder: Shedder::new(network), file: network.dir().join("fault") }
    }

    fn set(&self, fault: &str) {
        fs::write(&self.file, fault).unwrap();
    }

    /// Runs a command that meets this fault.
    fn run(&self, fault: &str, arguments: &[&str]) -> Output {
        self.set(fault);
        self.shedder.command(arguments).env("SHEDDER_FAULT", &self.file).output().unwrap()
    }

    /// Runs a command that attaches this, and meets this fault.
    fn attach(&self, fault: &str, config: &str) -> Output {
        let config = self.shedder.config(config);
        self.run(fault, &["attach", "--config", config.to_str().unwrap()])
    }

    fn daemon(&self, network: &Network, config: &str) -> Process {
        self.set("");
        let config = self.shedder.config(config);
        let mut command = self.shedder.command(&["run", "--config", config.to_str().unwrap()]);
        command.env("SHEDDER_FAULT", &self.file);
        let daemon = network.start("daemon", command);
        until("the daemon to be ready", || endpoint::is_ready(&network.server));
        daemon.unwrap()
    }

    fn objects(&self) -> Vec<Object> {
        bpf::objects_under(self.shedder.pins()).unwrap()
    }

    fn detach_and_find_nothing_left(&self, network: &Network, objects: &[Object]) {
        self.shedder.ok(&["detach"]);
        assert!(!self.shedder.pins().exists());
        for link in network.links() {
            assert_eq!(xdp_program(network, &link.interface), None);
        }
        until("every program, map and link to be gone", || objects.iter().all(|object| !object.exists()));
    }
}

/// Whether a command met its fault, or else came to its end with no more steps.
fn met(output: &Output, step: u64) -> bool {
    let died = output.status.code() == Some(DIED);
    died || String::from_utf8_lossy(&output.stderr).contains(&format!("fault {step}, as SHEDDER_FAULT asks"))
}

/// Calls `each` with the number of each step, until it says that there was none.
fn every_step(what: &str, mut each: impl FnMut(u64) -> bool) {
    let last = (1..200).find(|step| !each(*step)).expect("a command has an end");
    assert!(last > 5, "{what} has {last} steps only: nothing is tested here");
    println!("{what}: {} steps", last - 1);
}

#[test]
fn a_first_attach_that_dies_at_any_step_is_no_obstacle_to_the_next() {
    if !privileged::require() {
        return;
    }
    let network = Network::with("fault-attach", &Options { links: 2, ..Options::default() }).unwrap();
    let faulty = Faulty::new(&network);
    let both = "interfaces = [\"veth0\", \"veth1\"]\n";
    every_step("attach", |step| {
        let output = faulty.attach(&format!("die:{step}"), both);
        let mut objects = faulty.objects();
        faulty.shedder.attach("interfaces = [\"veth1\"]\nmode = \"native\"\n");
        assert_eq!(status(&faulty.shedder)["interfaces"][0]["mode"], "native", "after step {step}");
        assert_eq!(xdp_program(&network, "veth0"), None, "after step {step}");
        objects.extend(faulty.objects());
        faulty.detach_and_find_nothing_left(&network, &objects);
        met(&output, step)
    });
}

#[test]
fn a_first_attach_of_which_any_step_fails_leaves_nothing() {
    if !privileged::require() {
        return;
    }
    let network = Network::with("fault-attach-fails", &Options { links: 2, ..Options::default() }).unwrap();
    let faulty = Faulty::new(&network);
    every_step("attach", |step| {
        let output = faulty.attach(&format!("fail:{step}"), "interfaces = [\"veth0\", \"veth1\"]\n");
        if output.status.code() == Some(FAILED) {
            assert!(!faulty.shedder.pins().exists(), "step {step} left something: {output:?}");
            for link in network.links() {
                assert_eq!(xdp_program(&network, &link.interface), None, "step {step}");
            }
            return true;
        }
        faulty.detach_and_find_nothing_left(&network, &faulty.objects());
        met(&output, step)
    });
}

#[test]
fn what_adopts_and_dies_at_any_step_never_loses_a_kill_and_is_no_obstacle() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("fault-adopt").unwrap();
    let faulty = Faulty::new(&network);
    faulty.shedder.attach(ONE);
    let both = both_ways(&network, 1_000);
    both.iter().for_each(Traffic::arrive_more);
    faulty.shedder.ok(&["kill"]);
    let killed = now();
    every_step("adopt", |step| {
        // Each finds what the last one left.
        let output = faulty.attach(&format!("die:{step}"), if step % 2 == 0 { ONE } else { OTHER });
        assert!(matches!(output.status.code(), Some(0 | DIED)), "step {step}: {output:?}");
        // The one that is noted, one of which programs may be in force, and what this one left.
        let generations = fs::read_dir(faulty.shedder.pins().join("policy")).unwrap().count();
        assert!(generations <= 3, "what died has left {generations} generations");
        // Whatever was done of it, the programs are shedder's, and obey: also to a person who asks at this moment.
        faulty.shedder.ok(&["kill"]);
        met(&output, step)
    });
    for traffic in &both {
        assert_eq!(traffic.arrived_since(killed), 0, "packets passed under the kill");
    }
    faulty.shedder.attach(ONE);
    let objects = faulty.objects();
    faulty.shedder.ok(&["resume"]);
    both.iter().for_each(Traffic::arrive_more);
    faulty.detach_and_find_nothing_left(&network, &objects);
}

#[test]
fn what_adopts_and_fails_at_any_step_leaves_the_old_in_force_whole() {
    if !privileged::require() {
        return;
    }
    let network = Network::with("fault-adopt-fails", &Options { links: 2, ..Options::default() }).unwrap();
    let faulty = Faulty::new(&network);
    let both_held = |rest: &str| format!("interfaces = [\"veth0\", \"veth1\"]\n{rest}");
    let generic = both_held("mode = \"generic\"\n[source]\npackets_per_second = 1_000_000\n");
    faulty.shedder.attach(&both_held(""));
    let traffic = both_ways(&network, 1_000);
    traffic.iter().for_each(Traffic::arrive_more);
    let programs = || ["veth0", "veth1"].map(|interface| xdp_program(&network, interface));
    let mode = || status(&faulty.shedder)["interfaces"][0]["mode"].clone();
    // To other modes, for which a link has to go and be made again; then back.
    every_step("another mode", |step| {
        let (before, old) = (faulty.objects(), programs());
        let output = faulty.attach(&format!("fail:{step}"), &generic);
        if output.status.code() == Some(FAILED) {
            assert_eq!(programs(), old, "step {step}: {output:?}");
            assert_eq!(mode(), "native", "step {step}: {output:?}");
            let is_no_link = |object: &&Object| !matches!(object, Object::Link(_));
            let (after, before) = (faulty.objects(), before.iter().filter(is_no_link).collect::<Vec<_>>());
            assert_eq!(
                after.iter().filter(is_no_link).collect::<Vec<_>>(),
                before,
                "step {step}: {output:?}"
            );
            return true;
        }
        // Behind the point of no return the new one is in force, and something of the old may be left.
        assert_eq!(mode(), "generic", "step {step}: {output:?}");
        faulty.shedder.attach(&both_held(""));
        met(&output, step)
    });
    faulty.shedder.ok(&["kill"]);
    let objects = faulty.objects();
    faulty.detach_and_find_nothing_left(&network, &objects);
}

#[test]
fn what_goes_before_others_on_the_way_out_and_dies_or_fails_at_any_step_opens_no_gap_and_is_no_obstacle() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("fault-first").unwrap();
    let faulty = Faulty::new(&network);
    faulty.shedder.attach(ONE);
    let outward = Traffic::outward_of_both_families(&network, network.link(), 4001, 1_000).unwrap();
    outward.arrive_more();
    faulty.shedder.ok(&["kill"]);
    let killed = now();
    every_step("going first", |step| {
        // Before ours, and handing on to it: what ours stops it stops all the while.
        let foreign = Passing::load(Hook::Egress).unwrap();
        let place = || foreign.attach("veth0", Place::First);
        let held = network.server.run(place).unwrap().unwrap();
        let what = if step % 2 == 0 { "die" } else { "fail" };
        let output = faulty.attach(&format!("{what}:{step}"), if step % 4 < 2 { ONE } else { OTHER });
        assert_eq!(status(&faulty.shedder)["interfaces"][0]["attached"], true, "step {step}: {output:?}");
        assert_eq!(outward.arrived_since(killed), 0, "step {step}: {output:?}");
        faulty.shedder.attach(ONE);
        faulty.shedder.ok(&["kill"]);
        let links = bpf::pins_under(&faulty.shedder.pins().join("links")).unwrap();
        assert_eq!(links.len(), 2, "step {step}: {links:?}");
        assert_eq!(held.attached().unwrap().program, foreign.id().unwrap(), "step {step}");
        met(&output, step)
    });
    assert_eq!(outward.arrived_since(killed), 0, "packets passed under the kill");
    faulty.shedder.ok(&["resume"]);
    outward.arrive_more();
    faulty.detach_and_find_nothing_left(&network, &faulty.objects());
}

#[test]
fn a_detach_that_dies_or_fails_at_any_step_is_no_obstacle() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("fault-detach").unwrap();
    let faulty = Faulty::new(&network);
    every_step("detach", |step| {
        faulty.shedder.attach(OTHER);
        let objects = faulty.objects();
        let what = if step % 2 == 0 { "die" } else { "fail" };
        let output = faulty.run(&format!("{what}:{step}"), &["detach"]);
        if step % 4 < 2 {
            // Again, which may find nothing.
            let again = faulty.shedder.run(&["detach"]);
            assert!(matches!(again.status.code(), Some(0 | NOT_ATTACHED)), "step {step}: {again:?}");
        }
        faulty.shedder.attach(ONE);
        faulty.detach_and_find_nothing_left(&network, &objects);
        met(&output, step)
    });
}

#[test]
fn a_reload_of_which_any_step_fails_leaves_the_old_in_force_and_a_kill_as_it_is() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("fault-reload").unwrap();
    let faulty = Faulty::new(&network);
    let daemon = faulty.daemon(&network, ONE);
    let both = both_ways(&network, 1_000);
    both.iter().for_each(Traffic::arrive_more);
    faulty.shedder.ok(&["kill"]);
    let killed = now();
    let done = || {
        let metrics = endpoint::Metrics::scrape(&network.server).unwrap();
        ["shedder_config_reloads_total", "shedder_config_reload_failures_total"]
            .map(|name| metrics.sum(name, &[]))
    };
    every_step("reload", |step| {
        let [reloads, failures] = done();
        let before = faulty.objects();
        let in_force = || {
            let of = |folder| bpf::objects_under(&faulty.shedder.pins().join(folder)).unwrap();
            (of("links"), of("maps"), xdp_program(&network, "veth0"))
        };
        let was_in_force = in_force();
        faulty.shedder.config(if step % 2 == 0 { OTHER } else { ONE });
        faulty.set(&format!("fail:{step}"));
        daemon.signal(Signal::SIGHUP).unwrap();
        until("the reload to be done", || done() != [reloads, failures]);
        faulty.set("");
        let is_refused = done()[1] > failures;
        if is_refused {
            assert_eq!(in_force(), was_in_force, "step {step}");
            // Of what a reload has left that could not remove all that it replaced, some may be gone.
            assert!(faulty.objects().iter().all(|object| before.contains(object)), "step {step}");
        }
        until("the daemon to be ready", || endpoint::is_ready(&network.server));
        is_refused || daemon.output().contains(&format!("fault {step}, as SHEDDER_FAULT asks"))
    });
    faulty.shedder.ok(&["kill"]);
    for traffic in &both {
        assert_eq!(traffic.arrived_since(killed), 0, "packets passed under the kill");
    }
}

#[test]
fn a_daemon_that_hangs_in_a_reload_is_no_obstacle_to_a_kill_nor_to_the_next_daemon() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("fault-hang").unwrap();
    let faulty = Faulty::new(&network);
    let both = both_ways(&network, 1_000);
    // From where the next generation has a directory, to where it is in force.
    for step in (5..=17).step_by(3) {
        let daemon = faulty.daemon(&network, ONE);
        both.iter().for_each(Traffic::arrive_more);
        faulty.shedder.config(OTHER);
        faulty.set(&format!("hang:{step}"));
        let generation = || fs::read_dir(faulty.shedder.pins().join("policy")).unwrap().count();
        daemon.signal(Signal::SIGHUP).unwrap();
        until("the reload to begin", || generation() == 2);
        faulty.shedder.ok(&["kill"]);
        let killed = now();
        for traffic in &both {
            assert_eq!(traffic.arrived_since(killed), 0, "hanging at step {step}");
        }
        faulty.shedder.ok(&["resume"]);
        both.iter().for_each(Traffic::arrive_more);
        faulty.shedder.ok(&["kill"]);
        let killed = now();
        crash(daemon);
        let mut daemon = faulty.daemon(&network, OTHER);
        for traffic in &both {
            assert_eq!(traffic.arrived_since(killed), 0, "after hanging at step {step}");
        }
        faulty.shedder.ok(&["resume"]);
        assert!(daemon.stop(LONG).unwrap().success(), "{}", daemon.output());
    }
}
