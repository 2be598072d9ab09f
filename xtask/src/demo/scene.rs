//! Where the demo plays: two hosts, a web server with a limited capacity on one, its clients on the other.

use anyhow::{Context, Result};
use shedder_tests::interrupt;
use shedder_tests::limits::raise_open_files;
use shedder_tests::load::{Arrivals, Load, Plan, Stream};
use shedder_tests::netns::Network;
use shedder_tests::server::{self, Server};
use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;
use std::time::{Duration, Instant};

/// The classes of clients, by the stream of load that they are.
pub(super) const CLASSES: [&str; 3] = ["critical", "normal", "low"];
pub(super) const CRITICAL: usize = 0;
pub(super) const NORMAL: usize = 1;
pub(super) const LOW: usize = 2;

/// The server's port.
pub(super) const PORT: u16 = 8080;

/// What the service's latency is to be.
pub(super) const TARGET: Duration = Duration::from_millis(50);

/// When a client gives up: before its kernel would repeat a SYN, so that each request is offered once.
pub(super) const PATIENCE: Duration = Duration::from_millis(900);

/// How much of the capacity the critical and the normal clients ask for.
const SHARES: [f64; 2] = [0.2, 0.3];

/// Workers of the server, and how long each is busy with one request: 500 requests a second, so that two cores can
/// make ten times as many and serve them too.
const WORKERS: usize = 4;
const SERVICE: Duration = Duration::from_millis(8);

/// Connections that the server has open at once, and those beyond that wait to be accepted.
const CONNECTIONS: usize = 512;
const BACKLOG: u32 = 256;

/// Descriptors for all that is neither a client's connection nor the server's.
const OTHER_FILES: usize = 256;

/// The scene.
pub(super) struct Scene {
    pub(super) network: Network,
    /// The zero of every time in the demo.
    pub(super) epoch: Instant,
    /// Requests a second, measured.
    pub(super) capacity: f64,
    /// The overload, in capacities.
    overload: f64,
    /// Connections that the clients may have open at once.
    outstanding: usize,
}

impl Scene {
    /// Makes the hosts, and measures the server's capacity. The overload will be that many times as much.
    pub(super) fn set(overload: f64) -> Result<Scene> {
        let open_files = raise_open_files()?;
        let outstanding = open_files
            .checked_sub(CONNECTIONS + OTHER_FILES)
            .filter(|&left| left >= nominal_capacity() as usize)
            .with_context(|| format!("{open_files} open files are too few: allow 10000 with `ulimit -n`"))?
            // The overload's requests that are under way at the same time are a second's, and half as many to spare.
            .min((1.5 * (SHARES.iter().sum::<f64>() + overload) * nominal_capacity()) as usize);
        let network = Network::new("demo")?;
        let capacity = nominal_capacity();
        let mut scene = Scene { network, epoch: Instant::now(), capacity, overload, outstanding };
        scene.capacity = scene.measure_capacity()?;
        Ok(scene)
    }

    /// Since the epoch.
    pub(super) fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    /// Starts a server with nothing in its queue.
    pub(super) fn start_server(&self) -> Result<Server> {
        let options = server::Options {
            address: (Ipv4Addr::UNSPECIFIED, PORT).into(),
            workers: WORKERS,
            service: SERVICE,
            connections: CONNECTIONS,
            backlog: BACKLOG,
        };
        Server::start(&self.network.server, options)
    }

    /// Lets the legitimate clients ask from `all`'s start to its end, and the overload from and until `overload`'s.
    pub(super) fn start_load(
        &self,
        all: &Range<Duration>,
        overload: Option<&Range<Duration>>,
    ) -> Result<Load> {
        let mut streams = vec![self.stream(CRITICAL, all), self.stream(NORMAL, all)];
        streams.extend(overload.map(|overload| self.stream(LOW, overload)));
        self.load(streams)
    }

    fn load(&self, streams: Vec<Stream>) -> Result<Load> {
        let plan = Plan {
            target: (self.network.link().server_v4(), PORT).into(),
            epoch: self.epoch,
            timeout: PATIENCE,
            outstanding: self.outstanding,
            seed: 1,
            streams,
        };
        Load::start(&self.network.client, plan)
    }

    fn stream(&self, class: usize, when: &Range<Duration>) -> Stream {
        Stream {
            sources: self.sources(class),
            rate: SHARES.get(class).unwrap_or(&self.overload) * self.capacity,
            arrivals: Arrivals::Poisson,
            from: when.start,
            until: when.end,
        }
    }

    /// The addresses that a class of clients comes from.
    fn sources(&self, class: usize) -> Vec<IpAddr> {
        let link = self.network.link();
        let hosts = |third: u8| (1..=50).map(move |host| link.source_v4(third, host).into());
        match class {
            CRITICAL => hosts(1).collect(),
            NORMAL => hosts(2).collect(),
            _ => (16..22).flat_map(hosts).collect(),
        }
    }

    /// Asks for half more than the server should be able to do, and counts what it does once it is busy.
    fn measure_capacity(&self) -> Result<f64> {
        const WARM_UP: Duration = Duration::from_millis(500);
        const MEASURE: Duration = Duration::from_millis(1500);
        let server = self.start_server()?;
        let start = self.now();
        let stream = self.stream(LOW, &(start..start + WARM_UP + MEASURE));
        let _load = self.load(vec![Stream { rate: 1.5 * nominal_capacity(), ..stream }])?;
        std::thread::sleep(WARM_UP);
        interrupt::check()?;
        let (begun, before) = (Instant::now(), server.counts().served);
        std::thread::sleep(MEASURE);
        interrupt::check()?;
        let served = server.counts().served - before;
        Ok(served as f64 / begun.elapsed().as_secs_f64())
    }
}

/// Requests a second, by what the server is made of.
fn nominal_capacity() -> f64 {
    WORKERS as f64 / SERVICE.as_secs_f64()
}
