mod exposition;
mod limits;
mod openmetrics;
mod paths;
mod reference;

use super::server::{self, Limits};
use super::snapshot::Snapshots;
use crate::control::Queue;
use crate::daemon::report::{Histogram, InterfaceReport, PassiveReport, Report, Reporter, ServiceReport};
use bytemuck::Zeroable;
use shedder_common::abi::InterfaceCounters;
use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Nothing in these tests depends on it; it ends a test that would hang.
const HANG: Duration = Duration::from_secs(120);

/// Longer than any test.
const LONG: Duration = Duration::from_secs(3600);

/// Limits of time that no test runs into, and no cache.
const PATIENT: Limits = Limits {
    connections: 8,
    head_bytes: 8 << 10,
    head: LONG,
    patience: LONG,
    whole: LONG,
    linger: LONG,
    report_age: Duration::ZERO,
};

/// Reports what a closure does.
struct Told<F>(F);

impl<F: Fn() -> Report + Send + Sync + 'static> Reporter for Told<F> {
    fn report(&self) -> Report {
        (self.0)()
    }
}

fn told(report: impl Fn() -> Report + Send + Sync + 'static) -> Arc<dyn Reporter> {
    Arc::new(Told(report))
}

/// A reporter whose calls are counted, announced, and held up until they are let go one by one.
pub(super) struct Held {
    pub(super) calls: Arc<AtomicUsize>,
    pub(super) begun: tokio::sync::mpsc::UnboundedReceiver<()>,
    pub(super) release: mpsc::Sender<()>,
}

pub(super) fn held() -> (Arc<dyn Reporter>, Held) {
    let calls = Arc::new(AtomicUsize::new(0));
    let (begin, begun) = tokio::sync::mpsc::unbounded_channel();
    let (release, released) = mpsc::channel();
    let released = Mutex::new(released);
    let reporter = told({
        let calls = calls.clone();
        move || {
            calls.fetch_add(1, Ordering::SeqCst);
            let _ = begin.send(());
            // Fails where the test is over.
            let _ = released.lock().unwrap().recv();
            healthy()
        }
    });
    (reporter, Held { calls, begun, release })
}

/// A daemon in good health, with one interface and one service.
fn healthy() -> Report {
    Report {
        interfaces: vec![interface("eth0")],
        services: vec![service("api")],
        loop_lag: Histogram::new(Histogram::LOOP),
        loop_duration: Histogram::new(Histogram::LOOP),
        lease_remaining: Duration::from_millis(1500),
        alive: true,
        ..Report::default()
    }
}

fn interface(name: &str) -> InterfaceReport {
    InterfaceReport {
        name: name.to_owned(),
        mode: "native",
        kill_active: false,
        counters: InterfaceCounters::zeroed(),
    }
}

fn service(name: &str) -> ServiceReport {
    ServiceReport {
        name: name.to_owned(),
        quantile: 0.99,
        target: Duration::from_millis(50),
        observed: Some(Duration::from_millis(40)),
        signal_age: Some(Duration::from_millis(20)),
        state: "running",
        shed_ratio: 0.25,
        cutoff: 700,
        override_active: false,
        kill_active: false,
        terms: [0.125, 0.0625, -0.5],
        latency: Histogram::new(Histogram::LATENCY),
        failures: 3,
        offered: [1, 2, 3, 4, 5, 6],
        why: None,
        predicted: Some(Duration::from_millis(45)),
        baseline: Some(Duration::from_millis(5)),
        rollbacks: 1,
        passive: Some(PassiveReport {
            queue: Some(Queue {
                in_flight: 12.0,
                arrivals: 400.0,
                answers: 390.0,
                offered: 800.0,
                capacity: Some(400.0),
                regained: 0.0,
                predicted: Some(Duration::from_millis(45)),
                is_idle: false,
                exchange_age: Some(Duration::from_millis(2)),
            }),
            share: 0.5,
            recent: [Some(Duration::from_millis(8)), None, Some(Duration::from_millis(40))],
            connecting: 3,
            syns_unanswered: 2,
            exchanges: std::array::from_fn(|event| event as u64),
            abandoned: 5,
            reflex_trips: 6,
        }),
    }
}

struct Server {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Server {
    async fn start(reporter: Arc<dyn Reporter>, limits: Limits) -> Server {
        Server::start_with(Arc::new(Snapshots::new(reporter, limits.report_age)), limits).await
    }

    async fn start_with(snapshots: Arc<Snapshots>, limits: Limits) -> Server {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(server::run(listener, snapshots, limits, async {
            let _ = stopped.await;
        }));
        Server { address, stop, task }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends bytes on a connection of its own and reads to its end.
    async fn send(&self, bytes: &[u8]) -> Answer {
        let mut stream = self.connect().await;
        stream.write_all(bytes).await.unwrap();
        Answer::read(&mut stream).await.unwrap()
    }

    async fn ask(&self, method: &str, path: &str) -> Answer {
        self.send(&request(method, path)).await
    }

    /// Fails unless a scrape works as on a quiet day.
    async fn scrape(&self) -> openmetrics::Exposition {
        let answer = self.ask("GET", "/metrics").await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        openmetrics::parse(&answer.body).unwrap()
    }

    async fn stop(self) {
        let _ = self.stop.send(());
        timeout(HANG, self.task).await.unwrap().unwrap();
    }
}

fn request(method: &str, path: &str) -> Vec<u8> {
    format!("{method} {path} HTTP/1.1\r\nHost: shedder\r\n\r\n").into_bytes()
}

#[derive(Debug)]
struct Answer {
    status: u16,
    /// By lower-case name.
    headers: HashMap<String, String>,
    body: String,
}

impl Answer {
    async fn read(stream: &mut TcpStream) -> io::Result<Answer> {
        let mut bytes = Vec::new();
        timeout(HANG, stream.read_to_end(&mut bytes)).await.expect("the server closes the connection")?;
        let text = String::from_utf8(bytes).map_err(io::Error::other)?;
        let (head, body) = text.split_once("\r\n\r\n").ok_or_else(|| io::Error::other(text.clone()))?;
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok());
        let headers = lines.filter_map(|line| line.split_once(": "));
        Ok(Answer {
            status: status.ok_or_else(|| io::Error::other(text.clone()))?,
            headers: headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect(),
            body: body.to_owned(),
        })
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

/// Reads until the server ends the connection, in whatever manner.
async fn wait_for_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = timeout(HANG, stream.read_to_end(&mut bytes)).await.expect("the server ends the connection");
    bytes
}
