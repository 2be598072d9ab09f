//! Where runs happen: two hosts, servers on one, clients on the other, and the programs between them.

use crate::cohorts::Cohorts;
use crate::contender::Contender;
use crate::rival::RivalThread;
use crate::run::{Request, Run, fell_behind};
use crate::sampler::Sampler;
use crate::scenario::{
    BACKLOG, CONNECTIONS, HOSTS, PATIENCE, SERVICE, Scenario, Sources, TARGET, Trouble, WORKERS, capacity,
    host, network,
};
use anyhow::{Context, Result, ensure};
use shedder::datapath::{Pins, State, monotonic};
use shedder_common::class::{COHORTS, Class, SHED_NOTHING};
use shedder_common::words::ReflexWord;
use shedder_tests::interrupt;
use shedder_tests::limits::raise_open_files;
use shedder_tests::load::{Arrivals, Load, Plan, Stream};
use shedder_tests::netns::Network;
use shedder_tests::process::Process;
use shedder_tests::server::{self, Server};
use shedder_tests::shedder::Shedder;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The first service's port; the others follow.
const PORT: u16 = 8080;

/// Descriptors for all that is neither a client's connection nor a server's.
const OTHER_FILES: usize = 256;

/// Of arrivals and service times: the same for every contender.
pub(crate) const SEED: u64 = 1;

/// How the daemon sees its services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Signal {
    /// By what the programs measure: as the rivals do.
    Passive,
    /// By requests of its own.
    Probe,
}

/// The hosts, and the programs on the server's, which keep one key from run to run.
pub(crate) struct Stage {
    network: Network,
    signal: Signal,
    /// Connections that the clients of one service may have open at once.
    outstanding: usize,
}

impl Stage {
    /// Makes the hosts.
    pub(crate) fn set(signal: Signal) -> Result<Stage> {
        let files = raise_open_files()?;
        let outstanding = files
            .checked_sub(2 * CONNECTIONS + OTHER_FILES)
            .map(|left| left / 2)
            .filter(|&left| left >= 2 * capacity() as usize)
            .with_context(|| format!("{files} open files are too few: allow 10000 with `ulimit -n`"))?;
        Ok(Stage { network: Network::new("lab")?, signal, outstanding })
    }

    /// Attaches the programs for a scenario, and returns the cohorts of sources under their key.
    pub(crate) fn cohorts(&self, scenario: &Scenario) -> Result<Cohorts> {
        let shedder = Shedder::new(&self.network);
        self.prepare(&shedder, &self.configuration(scenario), scenario, &Contender::Nothing)?;
        Ok(Cohorts::new(self.network.server.run(|| State::open(&Pins::new(shedder.pins())))??.hash_key()))
    }

    /// Plays a scenario once.
    pub(crate) fn play(&self, scenario: &Scenario, contender: &Contender) -> Result<Run> {
        interrupt::check()?;
        let servers = (0..scenario.services).map(|service| self.start_server(scenario, service));
        let servers = servers.collect::<Result<Vec<_>>>()?;
        let shedder = Shedder::new(&self.network);
        let config = self.configuration(scenario);
        let mut actor = self.prepare(&shedder, &config, scenario, contender)?;
        let state = Arc::new(self.network.server.run(|| State::open(&Pins::new(shedder.pins())))??);
        let slots = slots(&state, scenario)?;
        let cohorts = Cohorts::new(state.hash_key());

        let epoch = Instant::now() + Duration::from_millis(100);
        let started = monotonic() + 100_000_000;
        if let Contender::Rival { make, .. } = contender {
            let controllers = slots.iter().map(|&slot| (slot, make())).collect();
            actor = Actor::Rival(RivalThread::start(state.clone(), controllers, scenario.interval)?);
        }
        let sampler = Sampler::start(state.clone(), slots, epoch)?;
        let mut loads = Vec::new();
        let mut classes = Vec::new();
        for service in 0..scenario.services {
            let (plan, of_streams) = self.plan(scenario, service, epoch, &cohorts);
            loads.push(Load::with_retries(&self.network.client, plan, scenario.retries)?);
            classes.push(of_streams);
        }
        direct(scenario, &servers[0], epoch)?;
        let mut requests = Vec::new();
        for (service, (load, classes)) in loads.into_iter().zip(classes).enumerate() {
            await_end(&load)?;
            let records = load.finish()?;
            requests
                .extend(records.iter().map(|record| Request::of(service, classes[record.stream], record)));
        }
        let samples = sampler.stop();
        actor.stop()?;
        let valid = !fell_behind(&requests);
        Ok(Run { contender: contender.name().into(), requests, samples, cohorts, started, valid })
    }

    /// Puts the configuration in force, with nothing shed yet, and a daemon where the contender is one.
    fn prepare(
        &self,
        shedder: &Shedder<'_>,
        config: &str,
        scenario: &Scenario,
        contender: &Contender,
    ) -> Result<Actor> {
        let path = shedder.config(config);
        let path = path.to_str().context("a path of text")?;
        let attached = shedder.run(&["attach", "--config", path]);
        ensure!(
            attached.status.success(),
            "`shedder attach` failed: {}",
            String::from_utf8_lossy(&attached.stderr)
        );
        let state = self.network.server.run(|| State::open(&Pins::new(shedder.pins())))??;
        state.set_lease(0);
        for slot in slots(&state, scenario)? {
            // A daemon that was killed leaves its words.
            state.set_cutoff(slot, SHED_NOTHING);
            state.set_reflex(slot, ReflexWord::NONE);
            state.set_measured_share(slot, 1.0);
        }
        match contender {
            Contender::Shedder => Ok(Actor::Daemon(shedder.daemon(config)?)),
            Contender::Nothing | Contender::Rival { .. } => Ok(Actor::Nobody),
        }
    }

    fn start_server(&self, scenario: &Scenario, service: usize) -> Result<Server> {
        let options = server::Options {
            address: (Ipv4Addr::UNSPECIFIED, PORT + service as u16).into(),
            workers: WORKERS,
            service: SERVICE,
            connections: CONNECTIONS,
            backlog: BACKLOG,
        };
        let server = Server::start(&self.network.server, options)?;
        if scenario.varied {
            server.vary(SEED);
        }
        Ok(server)
    }

    /// The load on one service, and the class of each of its streams.
    fn plan(
        &self,
        scenario: &Scenario,
        service: usize,
        epoch: Instant,
        cohorts: &Cohorts,
    ) -> (Plan, Vec<Class>) {
        let server = self.network.link().server_v4();
        let (streams, classes) = streams(scenario, service, server, cohorts);
        let plan = Plan {
            target: (server, PORT + service as u16).into(),
            epoch,
            timeout: PATIENCE,
            outstanding: self.outstanding,
            seed: SEED + service as u64,
            streams,
        };
        (plan, classes)
    }

    /// Rules for the networks of two classes, and the scenario's services, whose other clients are `low`.
    fn configuration(&self, scenario: &Scenario) -> String {
        let link = self.network.link();
        let [critical, normal] =
            [Class::Critical, Class::Normal].map(|class| link.source_v4(network(class), 0));
        let push = self.network.dir().join("push.sock");
        let interval = scenario.interval.as_millis();
        let mut text = format!(
            "interfaces = [\"$IF\"]\n\
             [[rule]]\nsources = [\"{critical}/18\"]\nclass = \"critical\"\n\
             [[rule]]\nsources = [\"{normal}/18\"]\nclass = \"normal\"\n\
             [control]\ninterval = \"{interval}ms\"\n\
             [endpoint]\npush = \"{}\"\n",
            push.display()
        );
        for service in 0..scenario.services {
            let port = PORT + service as u16;
            let signal = match self.signal {
                Signal::Passive => "{ kind = \"passive\" }".into(),
                Signal::Probe => format!("{{ kind = \"probe\", url = \"http://127.0.0.1:{port}/\" }}"),
            };
            text += &format!(
                "[[service]]\nname = \"{}\"\nprotocol = \"tcp\"\nport = {port}\nclass = \"low\"\n\
                 target = \"{}ms\"\nsignal = {signal}\n",
                name(service),
                TARGET.as_millis()
            );
        }
        text
    }
}

/// Who acts in a run.
enum Actor {
    Nobody,
    Daemon(Process),
    Rival(RivalThread),
}

impl Actor {
    fn stop(self) -> Result<()> {
        match self {
            Actor::Nobody => Ok(()),
            Actor::Rival(thread) => {
                thread.stop();
                Ok(())
            }
            Actor::Daemon(mut process) => {
                let ended = process.ended()?;
                ensure!(ended.is_none(), "`shedder run` ended ({ended:?}):\n{}", process.output());
                // Killed rather than asked to end: it would detach, and the next run's cohorts would be others.
                drop(process);
                Ok(())
            }
        }
    }
}

/// What a service is called.
fn name(service: usize) -> String {
    format!("service-{service}")
}

/// The slots of the scenario's services.
fn slots(state: &State, scenario: &Scenario) -> Result<Vec<usize>> {
    let known = state.services();
    let slot = |service| {
        let found = known.iter().find(|known| known.name == name(service)).map(|known| known.slot);
        found.with_context(|| format!("{} has no slot", name(service)))
    };
    (0..scenario.services).map(slot).collect()
}

/// The streams of load on a service, and the class of each.
pub(crate) fn streams(
    scenario: &Scenario,
    service: usize,
    base: Ipv4Addr,
    cohorts: &Cohorts,
) -> (Vec<Stream>, Vec<Class>) {
    let mut streams = Vec::new();
    let mut classes = Vec::new();
    for flow in scenario.flows.iter().filter(|flow| flow.service == service) {
        let sources: Vec<IpAddr> = match flow.sources {
            Sources::Hosts(first, count) => {
                (first..first + count).map(|number| host(base, flow.class, number)).collect()
            }
            Sources::Median => vec![median(base, flow.class, cohorts)],
        };
        for phase in &flow.phases {
            streams.push(Stream {
                sources: sources.clone(),
                rate: phase.rate * capacity(),
                arrivals: Arrivals::Poisson,
                from: phase.when.start,
                until: phase.when.end,
            });
            classes.push(flow.class);
        }
    }
    (streams, classes)
}

/// The last host of a class's network that is in the middle cohort now.
fn median(base: Ipv4Addr, class: Class, cohorts: &Cohorts) -> IpAddr {
    let now = monotonic();
    let is_median = |source: &IpAddr| cohorts.of(*source, now) == COHORTS / 2;
    let hosts = (0..HOSTS).rev().map(|number| host(base, class, number));
    hosts.clone().find(is_median).unwrap_or_else(|| host(base, class, HOSTS - 1))
}

/// Troubles the server when the scenario says so, until the scenario's end.
fn direct(scenario: &Scenario, server: &Server, epoch: Instant) -> Result<()> {
    for event in &scenario.events {
        wait_until(epoch + event.when.start)?;
        match event.trouble {
            Trouble::Stall => server.stall(event.when.end - event.when.start),
            Trouble::Slow(factor) => server.set_service(SERVICE.mul_f64(factor)),
        }
        wait_until(epoch + event.when.end)?;
        server.set_service(SERVICE);
    }
    wait_until(epoch + scenario.length())
}

fn wait_until(time: Instant) -> Result<()> {
    const LOOK: Duration = Duration::from_millis(50);
    loop {
        interrupt::check()?;
        let left = time.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(LOOK));
    }
}

/// Waits for the last requests' ends: they take the clients' patience at most.
fn await_end(load: &Load) -> Result<()> {
    let deadline = Instant::now() + 8 * PATIENCE;
    while !load.is_finished() {
        ensure!(Instant::now() < deadline, "the load does not end");
        interrupt::check()?;
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}
