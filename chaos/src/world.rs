//! A host under traffic with shedder on it, and what has been done to it.

use crate::account::Account;
use crate::fault::Fault;
use crate::gaps::Gaps;
use crate::interface::MadeAgain;
use crate::kill::Switch;
use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;
use shedder_tests::flood::now;
use shedder_tests::load::{Arrivals, Load, Plan, Stream};
use shedder_tests::netns::Network;
use shedder_tests::process::Process;
use shedder_tests::server::{self, Server};
use shedder_tests::shedder::Shedder;
use shedder_tests::traffic::Traffic;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// `$LIMIT` differs from one to the next. A third of the datagrams come from a source that is denied: one that arrives
/// found no program.
const CONFIG: &str = r#"
interfaces = ["$IF"]
lease = "1s"
persist = true
[source]
packets_per_second = $LIMIT
[[rule]]
sources = ["10.77.9.0/24"]
deny = true
[[service]]
name = "web"
protocol = "tcp"
port = 8080
target = "50ms"
"#;

pub(crate) const LEASE: Duration = Duration::from_secs(1);

const WEB: u16 = 8080;

/// What a healthy daemon or command needs at most on a machine that does much else.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The daemon, as it was left.
#[derive(Debug)]
pub(crate) enum Daemon {
    Alive(Process),
    Stopped { process: Process, since: Instant },
    Dead { since: Instant },
}

/// A host under traffic.
#[derive(Debug)]
pub(crate) struct World<'a> {
    pub(crate) network: &'a Network,
    shedder: Shedder<'a>,
    pub(crate) daemon: Daemon,
    pub(crate) switch: Switch,
    /// Whether a person's override may be in force.
    pub(crate) is_overridden: bool,
    configurations: u64,
    traffic: Option<Flows>,
    pub(crate) account: Account,
    pub(crate) gaps: Gaps,
    pub(crate) made_again: MadeAgain,
    _server: Server,
}

/// What is on its way all the while.
#[derive(Debug)]
pub(crate) struct Flows {
    pub(crate) denied: Traffic,
    pub(crate) allowed: Traffic,
    pub(crate) outward: Traffic,
    /// None while it is paused.
    load: Option<Load>,
    seed: u64,
    end: Instant,
}

impl<'a> World<'a> {
    /// A daemon that is ready, a server, and no traffic yet.
    pub(crate) fn new(network: &'a Network) -> Result<World<'a>> {
        let shedder = Shedder::new(network);
        let daemon = shedder.ready_daemon(&configuration(0))?;
        let options = server::Options {
            address: (Ipv4Addr::UNSPECIFIED, WEB).into(),
            workers: 2,
            service: Duration::from_millis(8),
            connections: 256,
            backlog: 128,
        };
        let server = Server::start(&network.server, options)?;
        let mut world = World {
            network,
            shedder,
            daemon: Daemon::Alive(daemon),
            switch: Switch::default(),
            is_overridden: false,
            configurations: 0,
            traffic: None,
            account: Account::default(),
            gaps: Gaps::default(),
            made_again: MadeAgain::default(),
            _server: server,
        };
        world.account = Account::open(&world)?;
        Ok(world)
    }

    /// Starts traffic for so long: datagrams both ways, and a service that is asked for twice what it can do.
    pub(crate) fn begin(&mut self, seed: u64, lasting: Duration) -> Result<()> {
        self.traffic = Some(Flows::start(self.network, seed, lasting)?);
        Ok(())
    }

    /// The traffic that has begun.
    pub(crate) fn traffic(&self) -> Result<&Flows> {
        self.traffic.as_ref().context("no traffic has begun")
    }

    /// The same, to be paused and resumed.
    pub(crate) fn flows(&mut self) -> Result<&mut Flows> {
        self.traffic.as_mut().context("no traffic has begun")
    }

    /// Lets it happen. An error where shedder does not do what it has to.
    pub(crate) fn inject(&mut self, fault: Fault) -> Result<()> {
        match fault {
            Fault::Crash => self.crash(),
            Fault::Stop => {
                if let Daemon::Alive(process) = self.take_daemon() {
                    process.signal(Signal::SIGSTOP)?;
                    self.daemon = Daemon::Stopped { process, since: Instant::now() };
                }
                Ok(())
            }
            Fault::Continue => {
                if let Daemon::Stopped { process, .. } = self.take_daemon() {
                    process.signal(Signal::SIGCONT)?;
                    self.daemon = Daemon::Alive(process);
                }
                Ok(())
            }
            Fault::Terminate => {
                if let Daemon::Alive(mut process) = self.take_daemon() {
                    process.signal(Signal::SIGTERM)?;
                    let status = process.wait(PATIENCE)?.context("the daemon does not end when asked to")?;
                    ensure!(status.success(), "the daemon ended with {status}: {}", process.output());
                }
                Ok(())
            }
            Fault::Start => self.start(),
            Fault::StartAndCrash(after) => {
                let file = self.shedder.config(&configuration(self.configurations));
                self.start_and_crash(&["run", "--config", &text(&file)], after).map(drop)
            }
            Fault::StartSecond => {
                let file = self.shedder.config(&configuration(self.configurations));
                let output = self.run(&["run", "--config", &text(&file)])?;
                ensure!(!output.status.success(), "a second daemon ended in good order: {output:?}");
                Ok(())
            }
            Fault::Reload => {
                self.configurations += 1;
                self.reload(&configuration(self.configurations))
            }
            Fault::Reloads(apart) => {
                for _ in 0..3 {
                    self.inject(Fault::Reload)?;
                    std::thread::sleep(apart);
                }
                Ok(())
            }
            Fault::Rename(after) => self.rename(after),
            Fault::Down(after) => self.put_down(after),
            Fault::MakeAgain { at_once } => self.make_again(at_once),
            Fault::ReloadMistakes => self.reload("interfaces = 7\n"),
            Fault::ReloadAndCrash(after) => {
                self.configurations += 1;
                self.reload(&configuration(self.configurations))?;
                std::thread::sleep(after);
                self.crash()
            }
            Fault::Attach => self.command_that_holds(&["attach"]),
            Fault::AttachAndCrash(after) => {
                let file = self.shedder.config(&configuration(self.configurations));
                self.start_and_crash(&["attach", "--config", &text(&file)], after).map(drop)
            }
            Fault::LosePins => self.lose_pins(),
            Fault::Kill { total, lasting } => self.kill(total, lasting),
            Fault::Resume => self.resume(),
            Fault::CommandCrash { kill, after } => {
                let asked = now();
                let ended = self.start_and_crash(&[if kill { "kill" } else { "resume" }], after)?;
                match ended {
                    Some(0) if kill => self.switch.kill(asked, now(), None),
                    Some(0) => self.switch.resume(asked),
                    _ => self.switch.lose(asked),
                }
                Ok(())
            }
            Fault::Shed(percent) => {
                self.is_overridden = true;
                self.command_that_holds(&["shed", &percent.to_string()])
            }
            Fault::Auto => {
                self.command_that_holds(&["auto"])?;
                self.is_overridden = false;
                Ok(())
            }
        }
    }

    /// Puts all in order: nothing is killed or overridden, and a daemon is ready.
    pub(crate) fn heal(&mut self) -> Result<()> {
        self.resume()?;
        self.inject(Fault::Auto)?;
        match self.daemon {
            Daemon::Alive(_) => Ok(()),
            Daemon::Stopped { .. } => self.inject(Fault::Continue),
            Daemon::Dead { .. } => self.inject(Fault::Start),
        }
    }

    /// Ends the traffic and the daemon, and removes all; an error where anything is left.
    pub(crate) fn end(mut self) -> Result<()> {
        if let Daemon::Alive(mut process) | Daemon::Stopped { mut process, .. } = self.take_daemon() {
            process.signal(Signal::SIGKILL)?;
            process.wait(PATIENCE)?;
        }
        let output = self.run(&["detach"])?;
        ensure!(output.status.success(), "detach: {output:?}");
        let left = self.shedder.pins();
        ensure!(!left.exists(), "detach left {}", left.display());
        Ok(())
    }

    /// What `status` says now.
    pub(crate) fn status(&self) -> Result<Value> {
        let output = self.run(&["status", "--json"])?;
        ensure!(output.status.success(), "status: {output:?}");
        serde_json::from_slice(&output.stdout).context("reading what status prints")
    }

    /// The daemon's last words.
    pub(crate) fn log(&self) -> String {
        let log = std::fs::read_to_string(self.network.dir().join("daemon.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    fn take_daemon(&mut self) -> Daemon {
        std::mem::replace(&mut self.daemon, Daemon::Dead { since: Instant::now() })
    }

    fn crash(&mut self) -> Result<()> {
        if let Daemon::Alive(mut process) | Daemon::Stopped { mut process, .. } = self.take_daemon() {
            process.signal(Signal::SIGKILL)?;
            process.wait(PATIENCE)?.context("what is killed does not end")?;
            self.daemon = Daemon::Dead { since: Instant::now() };
        }
        Ok(())
    }

    pub(crate) fn start(&mut self) -> Result<()> {
        self.daemon = Daemon::Alive(self.shedder.ready_daemon(&configuration(self.configurations))?);
        Ok(())
    }

    fn reload(&mut self, configuration: &str) -> Result<()> {
        self.shedder.config(configuration);
        if let Daemon::Alive(process) = &self.daemon {
            process.signal(Signal::SIGHUP)?;
        }
        Ok(())
    }

    fn kill(&mut self, total: bool, lasting: Option<Duration>) -> Result<()> {
        let mut arguments = vec!["kill".to_owned()];
        arguments.extend(total.then(|| "--total".to_owned()));
        if let Some(lasting) = lasting {
            arguments.extend(["--for".to_owned(), format!("{}ms", lasting.as_millis())]);
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let asked = now();
        self.command_that_holds(&arguments)?;
        self.switch.kill(asked, now(), lasting);
        Ok(())
    }

    fn resume(&mut self) -> Result<()> {
        let asked = now();
        self.command_that_holds(&["resume"])?;
        self.switch.resume(asked);
        Ok(())
    }

    /// Removes the pins of the maps, and waits until the daemon has made them again.
    fn lose_pins(&mut self) -> Result<()> {
        let maps = self.shedder.pins().join("maps");
        for entry in std::fs::read_dir(&maps).with_context(|| format!("looking into {}", maps.display()))? {
            std::fs::remove_file(entry?.path())?;
        }
        let deadline = Instant::now() + PATIENCE;
        while self.status().is_err() {
            ensure!(Instant::now() < deadline, "the pins of the maps are not made again");
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// A command that must end with 0.
    fn command_that_holds(&self, arguments: &[&str]) -> Result<()> {
        let file = self.shedder.config(&configuration(self.configurations));
        let mut arguments = arguments.to_vec();
        let file = text(&file);
        if arguments == ["attach"] {
            arguments.extend(["--config", &file]);
        }
        let output = self.run(&arguments)?;
        ensure!(output.status.success(), "shedder {}: {output:?}", arguments.join(" "));
        Ok(())
    }

    fn run(&self, arguments: &[&str]) -> Result<Output> {
        self.shedder.command(arguments).output().context("starting shedder")
    }

    /// Starts a command and kills it after so long. Its exit code, where it ended before.
    fn start_and_crash(&self, arguments: &[&str], after: Duration) -> Result<Option<i32>> {
        let mut command: Command = self.shedder.command(arguments);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        std::thread::sleep(after);
        child.kill()?;
        Ok(child.wait()?.code())
    }

    /// Frames that went from the client through the link so far.
    pub(crate) fn sent(&self) -> Result<u64> {
        let link = &self.network.link().interface;
        let mut command = self.network.client.command("ip");
        let output = command.args(["-json", "-statistics", "link", "show", link]).output()?;
        let shown: Value = serde_json::from_slice(&output.stdout).context("reading what `ip` prints")?;
        let packets = shown[0]["stats64"]["tx"]["packets"].as_u64();
        packets.with_context(|| format!("`ip` says nothing of {link}: {shown}"))
    }
}

impl Flows {
    fn start(network: &Network, seed: u64, lasting: Duration) -> Result<Flows> {
        let link = network.link();
        let from = |third| [IpAddr::from(link.source_v4(third, 9))];
        let mut flows = Flows {
            denied: Traffic::inward(network, link, &from(9), 4001, 1_000)?,
            allowed: Traffic::inward(network, link, &from(2), 4002, 500)?,
            outward: Traffic::outward_of_both_families(network, link, 4003, 500)?,
            load: None,
            seed,
            end: Instant::now() + lasting,
        };
        flows.ask(network)?;
        Ok(flows)
    }

    /// Asks the service for twice what it can do, until the end.
    fn ask(&mut self, network: &Network) -> Result<()> {
        let (link, epoch) = (network.link(), Instant::now());
        let stream = Stream {
            sources: (1..=100).map(|host| link.source_v4(1, host).into()).collect(),
            rate: 500.0,
            arrivals: Arrivals::Poisson,
            from: Duration::ZERO,
            until: self.end.saturating_duration_since(epoch),
        };
        let plan = Plan {
            target: (link.server_v4(), WEB).into(),
            epoch,
            timeout: Duration::from_millis(500),
            outstanding: 1_000,
            seed: self.seed,
            streams: vec![stream],
        };
        self.load = Some(Load::start(&network.client, plan)?);
        Ok(())
    }

    /// Sends nothing more until it is resumed.
    pub(crate) fn pause(&mut self) {
        self.load = None;
        [&mut self.denied, &mut self.allowed, &mut self.outward].into_iter().for_each(Traffic::pause);
    }

    /// Sends datagrams again, and nothing else.
    pub(crate) fn resume_datagrams(&mut self, network: &Network) -> Result<()> {
        self.denied.resume(&network.client)?;
        self.allowed.resume(&network.client)?;
        self.outward.resume(&network.server)
    }

    /// All of it is on its way again.
    pub(crate) fn resume(&mut self, network: &Network) -> Result<()> {
        self.resume_datagrams(network)?;
        self.ask(network)
    }
}

fn configuration(number: u64) -> String {
    CONFIG.replace("$LIMIT", &(100_000 + number).to_string())
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
