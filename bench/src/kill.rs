//! How long it takes from the start of a command until nothing passes any more, under a steady flow.

use crate::shed;
use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde::Serialize;
use shedder_tests::flood::{Plan, Receiver, Sender, now};
use shedder_tests::frame::{self, Ethernet};
use shedder_tests::interrupt;
use shedder_tests::netns::Network;
use shedder_tests::process::Process;
use shedder_tests::shedder::Shedder;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// One way to stop everything.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Stop {
    pub(crate) way: &'static str,
    /// Milliseconds from the command's start to the last packet that passed, each time.
    pub(crate) milliseconds: Vec<f64>,
    pub(crate) error: Option<String>,
}

pub(crate) const ALIVE: &str = "shedder kill, daemon alive";
pub(crate) const DEAD: &str = "shedder kill, daemon dead (kill -9)";
pub(crate) const WEDGED: &str = "shedder kill, daemon wedged (SIGSTOP)";

/// What the daemon is doing.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Daemon {
    Alive,
    Dead,
    Wedged,
}

/// How traffic is stopped, and let through again.
enum Means {
    Shedder(Daemon),
    /// Lines of a shell: before all; and of a command: to stop, and to let through.
    Lines([&'static str; 3]),
    /// Under a kill, until packets pass again: the other way round.
    Detach,
    /// A process that does nothing, until it has ended: what any command takes.
    Nothing,
}

pub(crate) const NOTHING: &str = "true, until it has ended";

const WAYS: [(&str, Means); 9] = [
    (ALIVE, Means::Shedder(Daemon::Alive)),
    (DEAD, Means::Shedder(Daemon::Dead)),
    (WEDGED, Means::Shedder(Daemon::Wedged)),
    (
        "iptables-legacy -I INPUT -j DROP",
        Means::Lines(["", "iptables-legacy -I INPUT -j DROP", "iptables-legacy -D INPUT -j DROP"]),
    ),
    (
        "iptables-nft -I INPUT -j DROP",
        Means::Lines(["", "iptables-nft -I INPUT -j DROP", "iptables-nft -D INPUT -j DROP"]),
    ),
    (
        "nft add rule ... drop",
        Means::Lines([
            "nft 'add table inet bench; add chain inet bench in { type filter hook input priority 0; }'",
            "nft add rule inet bench in drop",
            "nft flush chain inet bench in",
        ]),
    ),
    ("ip link set down", Means::Lines(["", "ip link set veth0 down", "ip link set veth0 up"])),
    ("shedder detach, until the first packet passes", Means::Detach),
    (NOTHING, Means::Nothing),
];

/// Packets a second of the flow: one in 50 us.
const RATE: u64 = 20_000;

/// For how long nothing may arrive before what arrived last was the last.
const SILENCE: Duration = Duration::from_millis(30);

/// How long anything here is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// A way, and the network that it is tried on.
struct Trial {
    stop: Stop,
    means: &'static Means,
    network: Network,
    daemon: Option<Process>,
    receiver: Receiver,
}

/// Tries every way so often, one after the other.
pub(crate) fn stops(times: usize) -> Result<Vec<Stop>> {
    let mut trials = Vec::new();
    for (way, means) in &WAYS {
        let network = Network::new("bench-kill")?;
        let receiver = Receiver::start(&network.server, (network.link().server_v4(), PORT).into())?;
        let stop = Stop { way, milliseconds: vec![], error: None };
        let mut trial = Trial { stop, means, network, daemon: None, receiver };
        trial.stop.error = trial.prepare().err().map(|error| format!("{error:#}"));
        trials.push(trial);
    }
    for round in 0..times {
        eprintln!("bench: kills, round {} of {times}", round + 1);
        for trial in trials.iter_mut().filter(|trial| trial.stop.error.is_none()) {
            interrupt::check()?;
            match trial.once() {
                Ok(time) => trial.stop.milliseconds.push(time.as_secs_f64() * 1e3),
                Err(error) => trial.stop.error = Some(format!("{error:#}")),
            }
        }
    }
    Ok(trials.into_iter().map(|trial| trial.stop).collect())
}

const PORT: u16 = 7777;

impl Trial {
    fn prepare(&mut self) -> Result<()> {
        match self.means {
            Means::Shedder(state) => {
                let mut daemon = Shedder::new(&self.network).daemon(shed::NOTHING)?;
                match state {
                    Daemon::Alive => {}
                    Daemon::Wedged => daemon.signal(Signal::SIGSTOP)?,
                    Daemon::Dead => {
                        daemon.signal(Signal::SIGKILL)?;
                        daemon.wait(PATIENCE)?.context("a killed daemon does not end")?;
                    }
                }
                self.daemon = Some(daemon);
                Ok(())
            }
            Means::Lines(["", ..]) | Means::Detach | Means::Nothing => Ok(()),
            Means::Lines([before, ..]) => {
                let mut shell = self.network.server.command("sh");
                finish(shell.args(["-c", before]).stderr(Stdio::piped()).spawn()?, before)
            }
        }
    }

    /// The command that is timed.
    fn command(&self) -> (Command, String) {
        match self.means {
            Means::Shedder(_) => (Shedder::new(&self.network).command(&["kill"]), "shedder kill".into()),
            Means::Detach => (Shedder::new(&self.network).command(&["detach"]), "shedder detach".into()),
            Means::Nothing => (self.words("true"), "true".into()),
            Means::Lines([_, stop, _]) => (self.words(stop), (*stop).into()),
        }
    }

    /// Starts a command, and tells when. From a thread that is in the namespace already, because what is to be done in a child
    /// makes it a copy of this large process first: milliseconds that no shell takes.
    fn launch(&self, command: &Command, line: &str) -> Result<(Duration, Child)> {
        let launched = self.network.server.run(|| {
            let mut plain = Command::new(command.get_program());
            plain.args(command.get_args()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
            let start = now();
            plain.spawn().map(|child| (start, child))
        })?;
        launched.with_context(|| format!("`{line}` does not start: is it installed?"))
    }

    fn words(&self, line: &str) -> Command {
        let mut words = line.split_whitespace();
        let mut command = self.network.server.command(words.next().unwrap_or_default());
        command.args(words);
        command
    }

    fn once(&mut self) -> Result<Duration> {
        if matches!(self.means, Means::Detach) {
            let shedder = shed::attach(&self.network, shed::NOTHING)?;
            shed::run(&shedder, &["kill"])?;
        }
        let sender = Sender::start(&self.network.client, self.flow())?;
        let began = now();
        if matches!(self.means, Means::Detach) {
            wait("the flow", || sender.sent() > 100)?;
            ensure!(self.receiver.first_since(began).is_none(), "packets pass under a kill");
        } else {
            wait("packets to pass", || self.receiver.last().is_some_and(|last| last > began))?;
        }
        let (command, line) = self.command();
        let (start, child) = self.launch(&command, &line)?;
        if matches!(self.means, Means::Detach) {
            let since = now();
            wait("packets to pass again", || self.receiver.first_since(since).is_some())?;
            let first = self.receiver.first_since(start).context("it was there")?;
            finish(child, &line)?;
            sender.stop()?;
            return Ok(first.saturating_sub(start));
        }
        finish(child, &line)?;
        if matches!(self.means, Means::Nothing) {
            let ended = now();
            sender.stop()?;
            return Ok(ended.saturating_sub(start));
        }
        wait("nothing to pass any more", || {
            self.receiver.last().is_some_and(|last| now().saturating_sub(last) > SILENCE)
        })?;
        let tried = sender.sent() + sender.refused();
        wait("the flow to go on", || sender.sent() + sender.refused() > tried)?;
        let last = self.receiver.last().context("packets passed before")?;
        ensure!(now().saturating_sub(last) > SILENCE, "packets pass again after `{line}`");
        sender.stop()?;
        match self.means {
            Means::Shedder(_) => shed::run(&Shedder::new(&self.network), &["resume"])?,
            Means::Lines([_, _, again]) => finish(self.words(again).stderr(Stdio::piped()).spawn()?, again)?,
            Means::Detach | Means::Nothing => {}
        }
        Ok(last.saturating_sub(start))
    }

    fn flow(&self) -> Plan {
        let link = self.network.link();
        let ethernet = Ethernet { source: link.client_mac(), destination: link.server_mac() };
        let (from, to) = ((link.client_v4(), 40_000).into(), (link.server_v4(), PORT).into());
        Plan {
            interface: link.interface.clone(),
            frames: vec![frame::udp(ethernet, from, to, &[0; 18])],
            rate: RATE,
            duration: PATIENCE,
            cpu: None,
        }
    }
}

fn wait(what: &str, is_so: impl Fn() -> bool) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        ensure!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

fn finish(child: Child, line: &str) -> Result<()> {
    let output = child.wait_with_output().with_context(|| format!("waiting for `{line}`"))?;
    ensure!(
        output.status.success(),
        "`{line}` ended with {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}
