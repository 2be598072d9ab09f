//! The loop on a real server, by what the kernel sees of it.

mod passive;
mod tune;

use shedder_tests::load::{Arrivals, Load, Plan, Stream};
use shedder_tests::netns::Network;
use shedder_tests::server::{self, Server};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

const PORT: u16 = 8080;

/// A service that names no signal, and the classes of two networks.
const CONFIG: &str = r#"
interfaces = ["$IF"]
[[rule]]
sources = ["10.77.1.0/24"]
class = "critical"
[[service]]
name = "web"
protocol = "tcp"
port = 8080
class = "low"
target = "50ms"
"#;

/// A server of 500 requests a second.
fn serve(network: &Network) -> Server {
    let options = server::Options {
        address: (Ipv4Addr::UNSPECIFIED, PORT).into(),
        workers: 4,
        service: Duration::from_millis(8),
        connections: 512,
        backlog: 256,
    };
    Server::start(&network.server, options).unwrap()
}

/// Requests of 100 sources of the network with this third byte for a while from now on, so many a second.
fn ask(network: &Network, third: u8, rate: f64, lasting: Duration) -> Load {
    let sources = (1..=100).map(|host| network.link().source_v4(third, host).into()).collect();
    let stream = Stream { sources, rate, arrivals: Arrivals::Poisson, from: Duration::ZERO, until: lasting };
    let plan = Plan {
        target: (network.link().server_v4(), PORT).into(),
        epoch: Instant::now(),
        timeout: Duration::from_millis(900),
        outstanding: 2_000,
        seed: u64::from(third),
        streams: vec![stream],
    };
    Load::start(&network.client, plan).unwrap()
}
