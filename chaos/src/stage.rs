//! Where it happens: two hosts, traffic between them, a daemon with a loop, and the state of what was commanded.

use crate::fault::{FAULTS, Fault, Holds};
use crate::round::Round;
use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;
use shedder_tests::bpf::{self, Object};
use shedder_tests::flood::now;
use shedder_tests::netns::Network;
use shedder_tests::process::Process;
use shedder_tests::random::Random;
use shedder_tests::shedder::binary;
use shedder_tests::traffic::Traffic;
use shedder_tests::{endpoint, interrupt};
use std::net::IpAddr;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

/// The daemon's lease.
const LEASE: Duration = Duration::from_secs(1);

/// For what must come.
const PATIENCE: Duration = Duration::from_secs(30);

/// The ways in which everything but the lifeline can be stopped until a person lifts it.
const KILLS: [&[&str]; 3] = [&["kill"], &["kill", "--for", "1h"], &["kill", "--interface", "veth0"]];

/// Ports, and rates a second.
const DENIED: (u16, u64) = (4900, 3_000);
const LIFELINE: (u16, u64) = (4100, 1_000);
const SERVICE: (u16, u64) = (4000, 3_000);
const OUTWARD: (u16, u64) = (4200, 2_000);

pub(crate) struct Stage {
    daemon: Option<Process>,
    starts: u32,
    /// A kill that is in force until it is lifted.
    killed: bool,
    /// What was seen of shedder in the kernel.
    seen: Vec<Object>,
    violations: Vec<String>,
    traffic: Option<Flows>,
    _application: Application,
    // Last: its drop removes what the others live in.
    pub(crate) network: Network,
}

/// The traffic of a round.
struct Flows {
    denied: Traffic,
    lifeline: Traffic,
    service: Traffic,
    outward: Traffic,
}

impl Flows {
    fn inward(&self) -> [&Traffic; 3] {
        [&self.denied, &self.lifeline, &self.service]
    }
}

/// An application that tells the daemon of latencies, good and bad in turn. Dropped, it is silent.
struct Application {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Application {
    fn start(socket: PathBuf) -> Result<Application> {
        let stop = Arc::new(AtomicBool::new(false));
        let told = UnixDatagram::unbound().context("a socket to push from")?;
        let thread = std::thread::spawn({
            let stop = stop.clone();
            move || {
                for turn in 0u64.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    // Nobody listens while there is no daemon.
                    let line: &[u8] = if turn % 400 < 300 { b"api 1s 5\n" } else { b"api 100us 5\n" };
                    let _ = told.send_to(line, &socket);
                    sleep(Duration::from_millis(5));
                }
            }
        });
        Ok(Application { stop, thread: Some(thread) })
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Stage {
    pub(crate) fn set() -> Result<Stage> {
        let network = Network::new("chaos")?;
        let application = Application::start(network.dir().join("push.sock"))?;
        let mut stage = Stage {
            daemon: None,
            starts: 0,
            killed: false,
            seen: Vec::new(),
            violations: Vec::new(),
            traffic: None,
            _application: application,
            network,
        };
        stage.configure(&mut Random::new(0));
        stage.start_daemon()?;
        stage.await_daemon()?;
        Ok(stage)
    }

    /// Writes one of two configurations, between which tables change their size, and returns its path.
    pub(crate) fn configure(&self, random: &mut Random) -> String {
        let link = self.network.link();
        let limit = ["", "[source]\npackets_per_second = 1_000_000\n"][random.below(2)];
        let text = format!(
            "interfaces = [\"{}\"]\nlease = \"{}ms\"\npersist = true\n{limit}\
             [[rule]]\nsources = [\"{}\"]\ndeny = true\n\
             [[lifeline]]\npeers = [\"{}/32\"]\nports = [{}]\n\
             [[service]]\nname = \"api\"\nprotocol = \"udp\"\nport = {}\nclass = \"sheddable\"\ntarget = \"1ms\"\n\
             shed = \"packets\"\nsignal = {{ kind = \"push\" }}\n\
             [endpoint]\npush = \"{}\"\n",
            link.interface,
            LEASE.as_millis(),
            format_args!("{}/24", link.source_v4(9, 0)),
            link.client_v4(),
            LIFELINE.0,
            SERVICE.0,
            self.network.dir().join("push.sock").display(),
        );
        let path = self.network.dir().join("shedder.toml");
        std::fs::write(&path, text).expect("a configuration can be written");
        path.display().to_string()
    }

    pub(crate) fn pins(&self) -> PathBuf {
        self.network.bpffs().join("shedder")
    }

    /// A command of shedder's, on the server.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.network.server.command(binary());
        command.args(arguments).arg("--bpffs").arg(self.pins());
        command
    }

    fn ok(&self, arguments: &[&str]) -> Result<()> {
        let output = self.command(arguments).output()?;
        ensure!(output.status.success(), "shedder {arguments:?}: {output:?}");
        Ok(())
    }

    fn status(&self) -> Result<Value> {
        let output = self.command(&["status", "--json"]).output()?;
        ensure!(output.status.success(), "shedder status: {output:?}");
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    pub(crate) fn start_daemon(&mut self) -> Result<()> {
        self.starts += 1;
        let config = self.network.dir().join("shedder.toml").display().to_string();
        let name = format!("daemon-{}", self.starts);
        self.daemon = Some(self.network.start(&name, self.command(&["run", "--config", &config]))?);
        Ok(())
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        self.daemon.as_ref().context("there is no daemon")?.signal(signal)
    }

    pub(crate) fn kill_daemon(&mut self) -> Result<()> {
        let Some(mut daemon) = self.daemon.take() else { return Ok(()) };
        daemon.signal(Signal::SIGKILL)?;
        daemon.wait(PATIENCE)?.context("a killed daemon does not end")?;
        Ok(())
    }

    pub(crate) fn end_daemon(&mut self) -> Result<()> {
        let Some(mut daemon) = self.daemon.take() else { return Ok(()) };
        let ended = daemon.stop(PATIENCE)?;
        ensure!(ended.success(), "the daemon ended with {ended}: {}", daemon.output());
        Ok(())
    }

    fn await_daemon(&mut self) -> Result<()> {
        if self.daemon.is_none() {
            self.start_daemon()?;
        }
        until("the daemon to be ready", || {
            let daemon = self.daemon.as_mut().context("there is no daemon")?;
            if let Some(ended) = daemon.ended()? {
                bail!("the daemon ended by itself ({ended}): {}", daemon.output());
            }
            Ok(endpoint::is_ready(&self.network.server))
        })
    }

    /// Waits for the end of the lease, and sees that nothing is shed any more.
    pub(crate) fn no_stale_shedding(&mut self) -> Result<()> {
        let begin = Instant::now();
        until("the lease to lapse", || Ok(self.status()?["daemon"]["alive"] == false))?;
        let took = begin.elapsed();
        // And the time that a busy machine takes to ask.
        if took > LEASE * 2 + Duration::from_secs(2) {
            self.violations.push(format!("a lease of {LEASE:?} held for {took:?}"));
        }
        sleep(Duration::from_millis(20));
        let shed = |status: &Value| count(status, "shed");
        let before = shed(&self.status()?);
        if let Some(flows) = &self.traffic {
            flows.service.offer_more();
        }
        let after = shed(&self.status()?);
        if after != before {
            self.violations.push(format!("{} packets were shed after the lease", after - before));
        }
        Ok(())
    }

    fn flows(&self) -> Result<Flows> {
        let (network, link) = (&self.network, self.network.link());
        let inward = |sources: &[IpAddr], (port, rate)| Traffic::inward(network, link, sources, port, rate);
        let many: Vec<IpAddr> = (0..200).map(|host| link.source_v4(16, host).into()).collect();
        Ok(Flows {
            denied: inward(&[link.source_v4(9, 9).into()], DENIED)?,
            lifeline: inward(&[link.client_v4().into()], LIFELINE)?,
            service: inward(&many, SERVICE)?,
            outward: Traffic::outward_of_both_families(network, link, OUTWARD.0, OUTWARD.1)?,
        })
    }

    /// Plays one round.
    pub(crate) fn play(&mut self, random: &mut Random) -> Result<Round> {
        let fault = &FAULTS[random.below(FAULTS.len())];
        self.await_daemon()?;
        self.seen.extend(bpf::objects_under(&self.pins())?);
        self.seen.sort_unstable();
        self.seen.dedup();
        let before = self.counted()?;
        let start = now();
        self.traffic = Some(self.flows()?);
        if !self.killed && random.below(2) == 0 {
            // A command that says less than that it was obeyed is a violation by itself.
            let kill = KILLS[random.below(KILLS.len())];
            self.killed = self.attempt("kill", |stage| stage.ok(kill));
        }
        let (killed, commanded) = (self.killed, now());
        if let Err(error) = (fault.inject)(self, random) {
            self.violations.push(format!("{}: {error:#}", fault.name));
        }
        self.attempt("the next start", Stage::await_daemon);
        if let Some(flows) = &self.traffic
            && fault.holds != Holds::Repair
        {
            flows.inward().into_iter().for_each(Traffic::offer_more);
        }
        if fault.holds == Holds::Repair {
            // Senders end with their interface.
            self.traffic = None;
            self.traffic = Some(self.flows()?);
        }
        let since = if fault.holds == Holds::Repair { now() } else { start };
        self.judge(fault, since, killed.then_some(commanded.max(since)));
        if killed && random.below(2) == 0 {
            self.killed = false;
            self.attempt("resume", |stage| stage.ok(&["resume"]));
        }
        let packets = self.account(fault, before)?;
        Ok(Round {
            fault: fault.name,
            killed,
            counted: fault.holds == Holds::Everything,
            packets,
            violations: std::mem::take(&mut self.violations),
        })
    }

    /// Does what must succeed. Whether it did.
    fn attempt(&mut self, what: &str, action: impl FnOnce(&mut Stage) -> Result<()>) -> bool {
        let done = action(self);
        if let Err(error) = &done {
            self.violations.push(format!("{what}: {error:#}"));
        }
        done.is_ok()
    }

    /// What must not have arrived, and what must.
    fn judge(&mut self, fault: &Fault, since: Duration, killed: Option<Duration>) {
        let Some(flows) = &self.traffic else { return };
        let mut found = Vec::new();
        let arrived = flows.denied.arrived_since(since);
        if arrived > 0 {
            found.push(format!("{}: {arrived} denied packets arrived: there was a gap", fault.name));
        }
        if let Some(killed) = killed {
            for (what, traffic) in [("of the service", &flows.service), ("outward", &flows.outward)] {
                let arrived = traffic.arrived_since(killed);
                if arrived > 0 {
                    found.push(format!("{}: {arrived} packets {what} passed under a kill", fault.name));
                }
            }
        } else {
            flows.outward.arrive_more();
        }
        flows.lifeline.arrive_more();
        self.violations.extend(found);
    }

    /// Ends the traffic, and compares what was sent with what was counted. How many packets were sent.
    fn account(&mut self, fault: &Fault, before: Counted) -> Result<u64> {
        let Some(flows) = self.traffic.take() else { return Ok(0) };
        let Flows { denied, lifeline, service, outward } = flows;
        let (mut sent, mut arrived) = (0, 0);
        for traffic in [denied, lifeline, service] {
            let (of_this, arrivals) = traffic.finish()?;
            sent += of_this;
            arrived += arrivals.total();
        }
        let (outward, _) = outward.finish()?;
        if fault.holds == Holds::Everything {
            let after = self.counted()?;
            let explained = after.judged - before.judged + (after.lost - before.lost);
            if explained != sent {
                self.violations.push(format!("{sent} packets were sent, and {explained} are accounted for"));
            }
            let passed = after.passed - before.passed;
            if passed != arrived {
                self.violations
                    .push(format!("{passed} packets were counted as passed, and {arrived} arrived"));
            }
        }
        Ok(sent + outward)
    }

    fn counted(&self) -> Result<Counted> {
        let status = self.status()?;
        let reasons = status["interfaces"][0]["ingress"]["reasons"].as_object().context("no reasons")?;
        let packets = |cell: &Value| cell["packets"].as_u64().unwrap_or(0);
        let passed = ["admitted", "lifeline", "not-ip"].map(|reason| count(&status, reason)).iter().sum();
        // What the link itself had no room for.
        let shown =
            self.network.client.command("ip").args(["-json", "-stats", "link", "show", "veth0"]).output()?;
        let shown: Value = serde_json::from_slice(&shown.stdout)?;
        let lost = shown[0]["stats64"]["tx"]["dropped"].as_u64().context("no statistics of the link")?;
        Ok(Counted { judged: reasons.values().map(packets).sum(), passed, lost })
    }

    /// Ends all, and tells what is left of shedder then.
    pub(crate) fn end(&mut self) -> Result<Vec<String>> {
        self.end_daemon()?;
        self.ok(&["detach"])?;
        let mut left = Vec::new();
        if self.pins().exists() {
            left.push(format!("pins are left: {:?}", bpf::pins_under(&self.pins())?));
        }
        if self.network.dir().join("push.sock").exists() {
            left.push("the push socket is left".into());
        }
        let gone = until("every program, map and link to be gone", || {
            Ok(self.seen.iter().all(|object| !object.exists()))
        });
        left.extend(gone.err().map(|error| format!("{error:#}")));
        Ok(left)
    }

    /// What helps to find out why.
    pub(crate) fn evidence(&self) -> String {
        let log = self.daemon.as_ref().map(Process::output).unwrap_or_default();
        let status = self.command(&["status"]).output();
        let status = status.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        format!("the daemon's log:\n{log}\nstatus:\n{}", status.unwrap_or_default())
    }
}

/// Packets on the way in.
struct Counted {
    /// By the programs, under any reason.
    judged: u64,
    passed: u64,
    /// By the link, which never gave them to the programs.
    lost: u64,
}

fn count(status: &Value, reason: &str) -> u64 {
    status["interfaces"][0]["ingress"]["reasons"][reason]["packets"].as_u64().unwrap_or(0)
}

/// Waits until it is so, or the run is interrupted.
fn until(what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !is_so()? {
        interrupt::check()?;
        ensure!(Instant::now() < deadline, "waited in vain for {what}");
        sleep(Duration::from_millis(5));
    }
    Ok(())
}
