//! What the daemon takes: CPU time for a turn of its loop, memory, the time until it is ready, and what a scrape costs.

use crate::shed;
use crate::spread::Spread;
use anyhow::{Context, Result, ensure};
use nix::unistd::Pid;
use serde::Serialize;
use shedder_common::abi::MAX_SERVICES;
use shedder_tests::endpoint::{self, Metrics};
use shedder_tests::interrupt;
use shedder_tests::netns::Network;
use shedder_tests::process::Process;
use shedder_tests::shedder::Shedder;
use std::fs;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// The daemon at one interval and with one configuration.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Turn {
    pub(crate) interval_ms: u64,
    pub(crate) load: &'static str,
    pub(crate) turns: f64,
    /// CPU time of the whole daemon for each turn.
    pub(crate) microseconds: f64,
    /// Its resident memory.
    pub(crate) resident_kib: u64,
}

impl Turn {
    /// The share of one core.
    pub(crate) fn share(&self) -> f64 {
        self.microseconds / (self.interval_ms as f64 * 1e3)
    }
}

/// All of it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Control {
    pub(crate) turns: Vec<Turn>,
    /// Milliseconds from the daemon's start to its being ready.
    pub(crate) ready: Vec<f64>,
    /// Milliseconds that `shedder attach` takes.
    pub(crate) attach: Vec<f64>,
    pub(crate) scrape: Scrape,
}

/// A scrape of as many services as there can be.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Scrape {
    pub(crate) services: usize,
    pub(crate) samples: usize,
    pub(crate) bytes: usize,
    /// Milliseconds until the client has it all.
    pub(crate) milliseconds: Vec<f64>,
    /// Milliseconds of the daemon's CPU time for each, its loop's taken out.
    pub(crate) cpu: f64,
}

/// Services, and requests that wait for an answer.
const LOADS: [(&str, usize, usize); 4] = [
    ("no service", 0, 0),
    (IDLE, 1, 0),
    (IN_FLIGHT, 1, 500),
    ("256 services, passive, idle", MAX_SERVICES, 0),
];

pub(crate) const IDLE: &str = "1 service, passive, idle";
pub(crate) const IN_FLIGHT: &str = "1 service, passive, 500 requests in flight";

const FIRST_PORT: u16 = 8000;

/// With a target that nobody misses, so that nothing is shed.
fn config(interval_ms: u64, services: usize) -> String {
    let mut text = format!("{}[control]\ninterval = \"{interval_ms}ms\"\n", shed::NOTHING);
    for number in 0..services {
        let port = usize::from(FIRST_PORT) + number;
        text += &format!(
            "[[service]]\nname = \"service-{number}\"\nprotocol = \"tcp\"\nport = {port}\ntarget = \"1m\"\n"
        );
    }
    text
}

/// Measures everything: turns at these intervals, each over this long; starts and scrapes so many times.
pub(crate) fn control((intervals, time): (&[u64], Duration), times: usize) -> Result<Control> {
    let mut turns = Vec::new();
    for &interval in intervals {
        for (load, services, requests) in LOADS {
            interrupt::check()?;
            eprintln!("bench: the daemon, {interval} ms, {load}");
            turns.push(turn(interval, load, services, requests, time)?);
        }
    }
    let (ready, attach) = starts(times)?;
    Ok(Control { turns, ready, attach, scrape: scrape(times)? })
}

fn turn(
    interval_ms: u64,
    load: &'static str,
    services: usize,
    requests: usize,
    time: Duration,
) -> Result<Turn> {
    let network = Network::new("bench-control")?;
    let daemon = Shedder::new(&network).ready_daemon(&config(interval_ms, services))?;
    let _connections = wait_for_answers(&network, requests)?;
    if requests > 0 {
        // The daemon says it of its own reports, which are some turns old.
        let deadline = Instant::now() + Duration::from_secs(10);
        let held = || endpoint::metric(&network.server, "shedder_requests_in_flight", &[]);
        while held()? as usize != requests {
            ensure!(
                Instant::now() < deadline,
                "{requests} requests wait, and the daemon knows of {}",
                held()?
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    let turned = || endpoint::metric(&network.server, "shedder_control_loop_lag_seconds_count", &[]);
    let (before, spent) = (turned()?, cpu_time(daemon.pid())?);
    std::thread::sleep(time);
    let spent = cpu_time(daemon.pid())?.saturating_sub(spent);
    let turns = turned()? - before;
    ensure!(turns >= 1.0, "the loop did not turn in {time:?}");
    Ok(Turn {
        interval_ms,
        load,
        turns,
        microseconds: spent.as_secs_f64() * 1e6 / turns,
        resident_kib: resident(daemon.pid())?,
    })
}

/// Connections to the first service, each with a request that nobody answers.
fn wait_for_answers(network: &Network, requests: usize) -> Result<Vec<TcpStream>> {
    let address = (network.link().server_v4(), FIRST_PORT);
    let listener = network.server.run(|| TcpListener::bind(address))??;
    let mut streams = Vec::new();
    for _ in 0..requests {
        let mut stream = network.client.run(|| TcpStream::connect(address))??;
        stream.write_all(b"GET / HTTP/1.1\r\nhost: bench\r\n\r\n")?;
        streams.push(stream);
        streams.push(listener.accept()?.0);
    }
    Ok(streams)
}

/// The CPU time of all threads of a process that live.
fn cpu_time(process: Pid) -> Result<Duration> {
    let mut sum = 0;
    for task in fs::read_dir(format!("/proc/{process}/task"))? {
        let text = fs::read_to_string(task?.path().join("schedstat"))?;
        sum += text.split(' ').next().unwrap_or_default().parse::<u64>().context("reading schedstat")?;
    }
    Ok(Duration::from_nanos(sum))
}

fn resident(process: Pid) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    line.split_whitespace().next().unwrap_or_default().parse().context("reading VmRSS")
}

/// Milliseconds until the daemon is ready, and that attaching without one takes.
fn starts(times: usize) -> Result<(Vec<f64>, Vec<f64>)> {
    let (mut ready, mut attach) = (Vec::new(), Vec::new());
    for _ in 0..times {
        let network = Network::new("bench-start")?;
        let shedder = Shedder::new(&network);
        let text = shedder.config(shed::NOTHING);
        let text = text.to_str().context("a path of text")?;
        let start = Instant::now();
        shed::run(&shedder, &["attach", "--config", text])?;
        attach.push(start.elapsed().as_secs_f64() * 1e3);
        shed::run(&shedder, &["detach"])?;
        let start = Instant::now();
        let daemon: Process = network.start("daemon", shedder.command(&["run", "--config", text]))?;
        while !endpoint::is_ready(&network.server) {
            ensure!(start.elapsed() < Duration::from_secs(20), "not ready: {}", daemon.output());
            std::thread::sleep(Duration::from_millis(1));
        }
        ready.push(start.elapsed().as_secs_f64() * 1e3);
    }
    Ok((ready, attach))
}

fn scrape(times: usize) -> Result<Scrape> {
    // A report younger than this is given again, which would be no measurement.
    const PAUSE: Duration = Duration::from_millis(120);
    let network = Network::new("bench-scrape")?;
    let daemon = Shedder::new(&network).ready_daemon(&config(100, MAX_SERVICES))?;
    let spent = |work: &mut dyn FnMut() -> Result<()>| -> Result<Duration> {
        let before = cpu_time(daemon.pid())?;
        for _ in 0..times {
            std::thread::sleep(PAUSE);
            work()?;
        }
        Ok(cpu_time(daemon.pid())?.saturating_sub(before))
    };
    let idle = spent(&mut || Ok(()))?;
    let (mut milliseconds, mut body) = (Vec::new(), String::new());
    let busy = spent(&mut || {
        let start = Instant::now();
        body = endpoint::get(&network.server, "/metrics")?.body;
        milliseconds.push(start.elapsed().as_secs_f64() * 1e3);
        Ok(())
    })?;
    let waited = Spread::of(&milliseconds).map_or(0.0, |spread| spread.median) * times as f64 / 1e3;
    // While the client waits the loop turns as well.
    let idle = idle.as_secs_f64() * (1.0 + waited / (PAUSE.as_secs_f64() * times as f64));
    Ok(Scrape {
        services: MAX_SERVICES,
        samples: Metrics::parse(&body)?.len(),
        bytes: body.len(),
        milliseconds,
        cpu: (busy.as_secs_f64() - idle) * 1e3 / times as f64,
    })
}
