//! The passive signal: what the programs measure of real servers and clients, held against what the servers saw.

mod connections;
mod endings;
mod histogram;
mod http;
mod pipelined;
mod rates;
mod sampling;
mod server;
mod streams;
mod udp;
mod uploads;

use crate::histogram::Seen;
use crate::server::Times;
use shedder_common::abi::Measured;
use shedder_tests::kernel::{self, Attached};
use shedder_tests::netns::Network;
use shedder_tests::shedder::Shedder;
use shedder_tests::wait::until;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

/// The service over TCP, which has the first slot, and the one over UDP, which has the second.
const TCP: u16 = 8080;
const UDP: u16 = 5353;

const SERVICES: &str = r#"
interfaces = ["$IF"]
[[service]]
name = "stream"
protocol = "tcp"
port = 8080
signal = { kind = "passive" }
[[service]]
name = "datagram"
protocol = "udp"
port = 5353
signal = { kind = "passive" }
"#;

/// A network whose server is measured.
struct Setup {
    network: Network,
    attached: Attached,
    before: [Measured; 2],
}

impl Setup {
    /// With both services.
    fn new(label: &str) -> Setup {
        Setup::with(label, SERVICES)
    }

    /// With a configuration of two services.
    fn with(label: &str, config: &str) -> Setup {
        let network = Network::new(&format!("passive-{label}")).unwrap();
        let attached = kernel::attach(&Shedder::new(&network), config);
        let before = [attached.measured(0), attached.measured(1)];
        Setup { network, attached, before }
    }

    /// Where the server is, over IPv4.
    fn v4(&self, port: u16) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(self.network.link().server_v4()), port)
    }

    /// Where the server is, over IPv6.
    fn v6(&self, port: u16) -> SocketAddr {
        SocketAddr::new(IpAddr::V6(self.network.link().server_v6()), port)
    }

    /// Works on the client.
    fn client<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.network.client.run(work).unwrap()
    }

    /// What was measured of the service over TCP since the start.
    fn tcp(&self) -> Seen {
        Seen::between(&self.before[0], &self.attached.measured(0))
    }

    /// What was measured of the service over UDP since the start.
    fn udp(&self) -> Seen {
        Seen::between(&self.before[1], &self.attached.measured(1))
    }

    /// Waits until as many answers of the service over TCP were measured.
    fn answers(&self, count: u32) {
        until("the answers to be measured", || self.tcp().answers() >= count);
    }

    /// That exactly the server's requests were measured, with the times that it saw, and nothing is left.
    fn agrees_with(&self, times: &Times) -> Seen {
        let times = times.sorted();
        self.answers(times.len() as u32);
        let seen = self.tcp();
        seen.agrees_with(&times);
        assert_eq!(self.attached.outstanding(), [], "nothing waits any more: {seen:?}");
        seen
    }
}

/// A connection from the client's own address.
fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
}

/// Sends a request whose answer has as many bytes, and reads that.
fn ask(stream: &mut TcpStream, request: &[u8], answer: usize) {
    stream.write_all(request).unwrap();
    stream.read_exact(&mut vec![0; answer]).unwrap();
}
