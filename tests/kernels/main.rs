//! shedder on the kernel that runs here, where that is another than this machine's: `cargo xtask kernels` boots one in an
//! emulator and runs these inside, which is why nothing here needs more than a few packets.

mod clock;
mod daemon;
mod filter;
mod old;
mod switch;

use serde_json::Value;
use shedder_tests::netns::Network;
use shedder_tests::shedder::Shedder;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

/// Nothing but the interface.
const BARE: &str = "interfaces = [\"$IF\"]\n";

/// Exit code: failed.
const FAILED: i32 = 1;

/// How long a datagram that does not arrive is waited for.
const SILENCE: Duration = Duration::from_millis(300);

/// One socket on each host, for datagrams in both directions.
struct Talk {
    server: UdpSocket,
    client: UdpSocket,
}

impl Talk {
    fn between(network: &Network) -> Talk {
        let bind = |address: Ipv4Addr| {
            let socket = UdpSocket::bind((address, 4000)).unwrap();
            socket.set_read_timeout(Some(SILENCE)).unwrap();
            socket
        };
        let link = network.link();
        let talk = Talk {
            server: network.server.run(|| bind(link.server_v4())).unwrap(),
            client: network.client.run(|| bind(link.client_v4())).unwrap(),
        };
        talk.server.connect(talk.client.local_addr().unwrap()).unwrap();
        talk.client.connect(talk.server.local_addr().unwrap()).unwrap();
        talk
    }

    /// Whether datagrams arrive at the server, and at the client.
    fn passes(&self) -> (bool, bool) {
        (arrives(&self.client, &self.server), arrives(&self.server, &self.client))
    }
}

/// Whether a datagram goes from one socket to the other. None that came late counts.
fn arrives(from: &UdpSocket, to: &UdpSocket) -> bool {
    let mut buffer = [0; 8];
    to.set_nonblocking(true).unwrap();
    while to.recv(&mut buffer).is_ok() {}
    to.set_nonblocking(false).unwrap();
    // Where a kill stops what leaves, the kernel may say so to the sender.
    let _ = from.send(b"datagram");
    to.recv(&mut buffer).is_ok()
}

/// What `status` shows.
fn status(shedder: &Shedder<'_>) -> Value {
    serde_json::from_str(&shedder.status().expect("it is attached")).unwrap()
}

/// What `ip` and `tc` print on the server.
fn shown(network: &Network, program: &str, arguments: &[&str]) -> String {
    let output = network.server.command(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Packets of the first interface that met `kill` on their way `direction`.
fn killed(shedder: &Shedder<'_>, direction: &str) -> u64 {
    status(shedder)["interfaces"][0][direction]["reasons"]["kill"]["packets"].as_u64().unwrap()
}
