//! What goes wrong.

use crate::stage::Stage;
use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use shedder_tests::netns::ip;
use shedder_tests::random::Random;
use std::fs;
use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;

/// A fault, and what still has to hold while it lasts.
pub(crate) struct Fault {
    pub(crate) name: &'static str,
    pub(crate) holds: Holds,
    pub(crate) inject: fn(&mut Stage, &mut Random) -> Result<()>,
}

/// What a fault leaves to be promised.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holds {
    /// No packet sees no program, and each is accounted for.
    Everything,
    /// No packet sees no program; some are lost outside of shedder, or are sent to nowhere.
    NoGap,
    /// Somebody took the programs off: they are put back.
    Repair,
}

use Holds::{Everything, NoGap, Repair};

/// All there are.
pub(crate) const FAULTS: [Fault; 17] = [
    Fault { name: "nothing", holds: Everything, inject: |_, _| Ok(()) },
    Fault { name: "the daemon is killed, and starts again", holds: Everything, inject: restart },
    Fault {
        name: "the daemon is killed, and is gone for longer than its lease",
        holds: Everything,
        inject: dead,
    },
    Fault { name: "the daemon is stopped for longer than its lease", holds: Everything, inject: stopped },
    Fault { name: "the daemon ends in good order, and starts again", holds: Everything, inject: ended },
    Fault {
        name: "a daemon is killed at some moment of its start",
        holds: Everything,
        inject: dies_starting,
    },
    Fault {
        name: "the daemon is killed at some moment of a reload",
        holds: Everything,
        inject: dies_reloading,
    },
    Fault { name: "`shedder attach` is killed at some moment", holds: Everything, inject: dies_attaching },
    Fault { name: "reloads, one upon the other", holds: Everything, inject: reloads },
    Fault { name: "a reload of a file with a mistake", holds: Everything, inject: bad_reload },
    Fault { name: "a second daemon", holds: Everything, inject: second },
    Fault { name: "many commands at once", holds: Everything, inject: commands },
    Fault { name: "the pins of the maps are removed", holds: Everything, inject: no_maps },
    Fault { name: "the pin of a link is removed", holds: Repair, inject: no_link },
    Fault { name: "the interface is renamed, and back", holds: Everything, inject: renamed },
    Fault { name: "the interface goes down and up", holds: NoGap, inject: down },
    Fault { name: "the interface is deleted, and made again", holds: Repair, inject: deleted },
];

fn some_time(random: &mut Random, most: u64) -> Duration {
    Duration::from_micros(random.below(most as usize * 1000) as u64)
}

fn restart(stage: &mut Stage, _: &mut Random) -> Result<()> {
    stage.kill_daemon()
}

fn dead(stage: &mut Stage, _: &mut Random) -> Result<()> {
    stage.kill_daemon()?;
    stage.no_stale_shedding()
}

fn stopped(stage: &mut Stage, _: &mut Random) -> Result<()> {
    stage.signal(Signal::SIGSTOP)?;
    let fresh = stage.no_stale_shedding();
    stage.signal(Signal::SIGCONT)?;
    fresh
}

fn ended(stage: &mut Stage, _: &mut Random) -> Result<()> {
    stage.end_daemon()
}

fn dies_starting(stage: &mut Stage, random: &mut Random) -> Result<()> {
    stage.kill_daemon()?;
    for _ in 0..3 {
        stage.start_daemon()?;
        sleep(some_time(random, 800));
        stage.kill_daemon()?;
    }
    Ok(())
}

fn dies_reloading(stage: &mut Stage, random: &mut Random) -> Result<()> {
    stage.configure(random);
    stage.signal(Signal::SIGHUP)?;
    sleep(some_time(random, 600));
    stage.kill_daemon()
}

fn dies_attaching(stage: &mut Stage, random: &mut Random) -> Result<()> {
    stage.kill_daemon()?;
    for _ in 0..3 {
        let config = stage.configure(random);
        let mut command = stage.command(&["attach", "--config", &config]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        sleep(some_time(random, 600));
        child.kill()?;
        child.wait()?;
    }
    Ok(())
}

fn reloads(stage: &mut Stage, random: &mut Random) -> Result<()> {
    for _ in 0..3 {
        stage.configure(random);
        stage.signal(Signal::SIGHUP)?;
        sleep(some_time(random, 300));
    }
    Ok(())
}

fn bad_reload(stage: &mut Stage, random: &mut Random) -> Result<()> {
    let config = stage.configure(random);
    fs::write(&config, "interfaces = [\"veth0\"]\nnonsense = 1\n")?;
    stage.signal(Signal::SIGHUP)?;
    sleep(some_time(random, 200));
    stage.configure(random);
    Ok(())
}

fn second(stage: &mut Stage, random: &mut Random) -> Result<()> {
    let config = stage.configure(random);
    let output = stage.command(&["run", "--config", &config]).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(said.contains("another shedder holds"), "a second daemon: {output:?}");
    Ok(())
}

/// Of the loop's ratio, which the kill that may be in force does not see.
fn commands(stage: &mut Stage, random: &mut Random) -> Result<()> {
    let commands: [&[&str]; 4] =
        [&["shed", "50", "--for", "1m"], &["auto"], &["shed", "90", "--service", "api"], &["status"]];
    let running: Vec<_> = (0..16)
        .map(|_| {
            let mut command = stage.command(commands[random.below(commands.len())]);
            command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()
        })
        .collect();
    for child in running {
        let ended = child?.wait()?;
        ensure!(matches!(ended.code(), Some(0 | 4)), "a command of many ended with {ended}");
    }
    let handed_back = stage.command(&["auto"]).output()?;
    ensure!(handed_back.status.success(), "auto: {handed_back:?}");
    Ok(())
}

fn no_maps(stage: &mut Stage, _: &mut Random) -> Result<()> {
    Ok(fs::remove_dir_all(stage.pins().join("maps"))?)
}

fn no_link(stage: &mut Stage, random: &mut Random) -> Result<()> {
    let link = ["ingress-0", "egress-0"][random.below(2)];
    Ok(fs::remove_file(stage.pins().join("links").join(link))?)
}

fn renamed(stage: &mut Stage, random: &mut Random) -> Result<()> {
    ip(&stage.network.server, "link set veth0 name veth9\n")?;
    sleep(some_time(random, 500));
    ip(&stage.network.server, "link set veth9 name veth0\n")
}

fn down(stage: &mut Stage, random: &mut Random) -> Result<()> {
    ip(&stage.network.server, "link set veth0 down\n")?;
    sleep(some_time(random, 100));
    ip(&stage.network.server, "link set veth0 up\n")?;
    stage.network.restore()
}

fn deleted(stage: &mut Stage, random: &mut Random) -> Result<()> {
    ip(&stage.network.server, "link delete veth0\n")?;
    sleep(some_time(random, 500));
    stage.network.make(stage.network.links())
}
