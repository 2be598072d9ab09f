//! (25) Probes of servers that hang, drip, redirect for ever or send without end: the loop turns, each is told for what it is,
//! and the daemon takes no more of the host.

use super::Footprint;
use shedder_tests::endpoint::until;
use shedder_tests::netns::Network;
use shedder_tests::privileged;
use shedder_tests::shedder::Shedder;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// What a server does with each connection, until it ends or `done` is set.
type Manners = fn(&mut TcpStream, &AtomicBool) -> std::io::Result<()>;

const MANNERS: [(&str, Manners); 5] = [
    ("hangs", |_, done| {
        while !done.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }),
    ("drips", |stream, done| {
        for byte in b"HTTP/1.1 200 OK\r\nx: ".iter().chain(std::iter::repeat(&b'x')) {
            if done.load(Ordering::Relaxed) {
                break;
            }
            stream.write_all(&[*byte])?;
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }),
    ("redirects", |stream, _| {
        let _ = stream.read(&mut [0; 1024])?;
        stream.write_all(b"HTTP/1.1 302 Found\r\nlocation: /again\r\ncontent-length: 0\r\n\r\n")
    }),
    ("endless-body", |stream, done| {
        let _ = stream.read(&mut [0; 1024])?;
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
        while !done.load(Ordering::Relaxed) {
            stream.write_all(&[b'x'; 4096])?;
        }
        Ok(())
    }),
    ("endless-head", |stream, done| {
        let _ = stream.read(&mut [0; 1024])?;
        stream.write_all(b"HTTP/1.1 200 OK\r\n")?;
        while !done.load(Ordering::Relaxed) {
            stream.write_all(&b"x-again: and again\r\n".repeat(100))?;
        }
        Ok(())
    }),
];

/// A server with bad manners, on a port of the network's server.
struct Rude {
    done: Arc<AtomicBool>,
    open: Arc<AtomicU64>,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
}

impl Rude {
    fn start(network: &Network, port: u16, manners: Manners) -> Rude {
        let (done, open) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stop, count) = (done.clone(), open.clone());
        let listener = network.server.run(|| TcpListener::bind(("127.0.0.1", port))).unwrap().unwrap();
        listener.set_nonblocking(true).unwrap();
        let serve = move || {
            while !stop.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((mut stream, _)) => {
                        let (stop, count) = (stop.clone(), count.clone());
                        count.fetch_add(1, Ordering::Relaxed);
                        std::thread::spawn(move || {
                            let _ = stream.set_nonblocking(false);
                            // A probe that gives up resets.
                            let _ = manners(&mut stream, &stop);
                        });
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        std::thread::sleep(Duration::from_millis(1))
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            Ok(())
        };
        let thread = network.server.thread("rude", serve).unwrap();
        Rude { done, open, thread: Some(thread) }
    }
}

impl Drop for Rude {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[test]
fn servers_with_bad_manners_stall_nothing() {
    if !privileged::require() {
        return;
    }
    const PROBES: u64 = 40;
    /// How many of one service may be outstanding.
    const OUTSTANDING: usize = 16;
    let network = Network::new("rude").unwrap();
    let shedder = Shedder::new(&network);
    let mut config = String::from("interfaces = [\"$IF\"]\n");
    let mut servers = Vec::new();
    for (port, (name, manners)) in (8_001u16..).zip(MANNERS) {
        servers.push(Rude::start(&network, port, manners));
        config.push_str(&format!(
            "[[service]]\nname = \"{name}\"\nprotocol = \"tcp\"\nport = {port}\ntarget = \"20ms\"\nsignal = {{ kind = \
             \"probe\", url = \"http://127.0.0.1:{port}/\", every = \"20ms\", timeout = \"200ms\" }}\n"
        ));
    }
    let daemon = shedder.daemon(&config).unwrap();
    let before = Footprint::of(&daemon);
    let failures = |metrics: &shedder_tests::endpoint::Metrics, name| {
        metrics.value("shedder_signal_failures_total", &[("service", name)])
    };
    let metrics = until(&network.server, "every server is asked often", |metrics| {
        servers.iter().all(|server| server.open.load(Ordering::Relaxed) >= PROBES)
            && ["hangs", "drips", "endless-head"].iter().all(|name| failures(metrics, name) >= 10.0)
    });
    // A redirect is an answer, and is not followed; of a body as much is read as says something.
    for name in ["redirects", "endless-body"] {
        let answered = metrics.value("shedder_latency_seconds_count", &[("service", name)]);
        assert!(
            answered - failures(&metrics, name) >= 10.0,
            "{name}: {answered} answered, {} failed",
            failures(&metrics, name)
        );
    }
    assert_eq!(metrics.value("shedder_alive", &[]), 1.0);
    let after = Footprint::of(&daemon);
    let most = before.descriptors + MANNERS.len() * OUTSTANDING;
    assert!(after.descriptors <= most, "{before:?}, then {after:?}");
    assert!(after.memory < before.memory + (16 << 20), "{before:?}, then {after:?}");
}
