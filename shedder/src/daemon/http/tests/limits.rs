//! Clients that are slow, many or rude, and a reporter that fails: a scrape works all the same.

use super::super::server::Limits;
use super::super::snapshot::Snapshots;
use super::super::{bind, serve};
use super::{Answer, HANG, LONG, PATIENT, Server, healthy, held, interface, request, told, wait_for_end};
use crate::daemon::report::Report;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio::time::timeout;

#[tokio::test]
async fn a_slow_request_is_cut() {
    let server = Server::start(told(healthy), Limits { head: Duration::from_millis(20), ..PATIENT }).await;
    let mut slow = server.connect().await;
    slow.write_all(b"GET /metrics HTTP/1.1\r\nHost: sl").await.unwrap();
    let said = wait_for_end(&mut slow).await;
    assert!(!String::from_utf8_lossy(&said).contains(" 200 "));
}

#[tokio::test]
async fn a_connection_that_asks_nothing_is_cut() {
    let server = Server::start(told(healthy), Limits { head: Duration::from_millis(20), ..PATIENT }).await;
    let mut idle = server.connect().await;
    assert_eq!(wait_for_end(&mut idle).await, b"");
}

#[tokio::test]
async fn drops_of_a_request_one_by_one_keep_nobody_out() {
    let server = Server::start(told(healthy), PATIENT).await;
    let mut slow = Vec::new();
    for _ in 0..3 * PATIENT.connections {
        let mut stream = server.connect().await;
        stream.write_all(b"GET /metr").await.unwrap();
        slow.push(stream);
    }
    server.scrape().await;
}

#[tokio::test]
async fn two_hundred_idle_connections_keep_nobody_out() {
    let limits = Limits { connections: Limits::DEFAULT.connections, ..PATIENT };
    let server = Server::start(told(healthy), limits).await;
    let mut idle = Vec::new();
    for _ in 0..200 {
        idle.push(server.connect().await);
    }
    server.scrape().await;
    // The oldest made room; the youngest is still heard.
    assert_eq!(wait_for_end(&mut idle[0]).await, b"");
    let youngest = idle.last_mut().unwrap();
    youngest.write_all(&request("GET", "/healthz")).await.unwrap();
    assert_eq!(Answer::read(youngest).await.unwrap().status, 200);
}

#[tokio::test]
async fn clients_that_take_no_answer_keep_nobody_out() {
    let large =
        Report { interfaces: (0..500).map(|i| interface(&format!("veth{i}"))).collect(), ..healthy() };
    let server = Server::start(told(move || large.clone()), Limits { report_age: LONG, ..PATIENT }).await;
    let mut deaf = Vec::new();
    for _ in 0..3 * PATIENT.connections {
        let mut stream = server.connect().await;
        stream.write_all(&request("GET", "/metrics")).await.unwrap();
        // The answer has begun: from here on the server waits for this peer.
        let mut first = [0];
        timeout(HANG, stream.read_exact(&mut first)).await.unwrap().unwrap();
        deaf.push(stream);
    }
    server.scrape().await;
}

#[tokio::test]
async fn an_answer_that_is_not_taken_is_given_up() {
    // More than the kernel buffers for both ends.
    let large =
        Report { interfaces: (0..3000).map(|i| interface(&format!("veth{i}"))).collect(), ..healthy() };
    let snapshots = Arc::new(Snapshots::new(told(move || large.clone()), LONG));
    let whole = snapshots.get().await.unwrap().metrics.len();
    let limits = Limits { whole: Duration::from_millis(50), ..PATIENT };
    let server = Server::start_with(snapshots, limits).await;
    let mut deaf = server.connect().await;
    deaf.write_all(&request("GET", "/metrics")).await.unwrap();
    // Only the kernel's buffers are left to be read once the server has hung up, which shows as readiness to write
    // turning into an error.
    let hung_up = async {
        while deaf.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(HANG, hung_up).await.unwrap();
    assert!(wait_for_end(&mut deaf).await.len() < whole);
}

#[tokio::test]
async fn headers_without_end_are_refused() {
    let server = Server::start(told(healthy), PATIENT).await;
    let mut request = b"GET /metrics HTTP/1.1\r\nHost: ".to_vec();
    request.resize(PATIENT.head_bytes + 4096, b'x');
    request.extend(b"\r\n\r\n");
    assert_eq!(server.send(&request).await.status, 431);
    server.scrape().await;
}

#[tokio::test]
async fn junk_is_refused_and_harms_nobody() {
    let server = Server::start(told(healthy), PATIENT).await;
    assert_eq!(server.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n").await.status, 400);
    assert_eq!(server.send(b"GET /metrics HTTP/9.9\r\n\r\n").await.status, 400);
    server.scrape().await;
}

#[tokio::test]
async fn one_connection_carries_one_request() {
    let server = Server::start(told(healthy), PATIENT).await;
    let mut bytes = request("GET", "/healthz");
    bytes.extend(request("GET", "/metrics"));
    bytes.extend([0xff; 4096]);
    let answer = server.send(&bytes).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "ok\n"));
    server.scrape().await;
}

#[tokio::test]
async fn who_finds_every_place_waiting_for_the_daemon_is_turned_away() {
    let (reporter, mut held) = held();
    let server = Server::start(reporter, Limits { connections: 1, ..PATIENT }).await;
    let mut first = server.connect().await;
    first.write_all(&request("GET", "/metrics")).await.unwrap();
    timeout(HANG, held.begun.recv()).await.unwrap().unwrap();
    let mut second = server.connect().await;
    let answer = Answer::read(&mut second).await.unwrap();
    assert_eq!((answer.status, answer.header("connection")), (503, "close"));
    assert_eq!(answer.header("content-length"), answer.body.len().to_string());
    held.release.send(()).unwrap();
    assert_eq!(Answer::read(&mut first).await.unwrap().status, 200);
}

#[tokio::test]
async fn a_reporter_that_hangs_is_called_once_and_never_waited_for() {
    let (reporter, held) = held();
    let server = Server::start(reporter, Limits { patience: Duration::from_millis(20), ..PATIENT }).await;
    for path in ["/metrics", "/healthz", "/readyz"] {
        let answer = server.ask("GET", path).await;
        assert_eq!(answer.status, 503, "{path}");
        assert!(answer.body.contains("within 20ms"), "{}", answer.body);
    }
    assert_eq!(server.ask("GET", "/").await.status, 200);
    assert_eq!(held.calls.load(Ordering::SeqCst), 1);
    // Lets the call go for the runtime's sake.
    drop(held.release);
}

#[tokio::test]
async fn many_clients_share_one_report() {
    let calls = Arc::new(AtomicUsize::new(0));
    let reporter = told({
        let calls = calls.clone();
        move || {
            calls.fetch_add(1, Ordering::SeqCst);
            healthy()
        }
    });
    let server = Server::start(reporter, Limits { report_age: LONG, ..PATIENT }).await;
    for path in ["/metrics", "/healthz", "/readyz"].repeat(20) {
        assert_eq!(server.ask("GET", path).await.status, 200);
    }
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    server.stop().await;
}

#[tokio::test]
async fn a_reporter_that_panics_is_answered_and_survived() {
    let calls = AtomicUsize::new(0);
    let reporter = told(move || {
        assert!(calls.fetch_add(1, Ordering::SeqCst) > 0, "the map is gone");
        healthy()
    });
    let server = Server::start(reporter, PATIENT).await;
    let answer = server.ask("GET", "/metrics").await;
    assert_eq!(answer.status, 500);
    assert!(answer.body.contains("the map is gone"), "{}", answer.body);
    server.scrape().await;
}

#[tokio::test]
async fn the_public_way_serves_and_ends() {
    let listener = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let task = tokio::spawn(serve(listener, told(healthy), async {
        let _ = stopped.await;
    }));
    let taken = bind(address).await.unwrap_err();
    let text = format!("{taken:#}");
    assert!(text.contains(&address.to_string()) && text.contains("already listens"), "{text}");

    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(&request("GET", "/readyz")).await.unwrap();
    assert_eq!(Answer::read(&mut stream).await.unwrap().status, 200);
    let mut open = tokio::net::TcpStream::connect(address).await.unwrap();
    stop.send(()).unwrap();
    timeout(HANG, task).await.unwrap().unwrap();
    assert_eq!(wait_for_end(&mut open).await, b"");
    bind(address).await.unwrap();
}

#[tokio::test]
async fn an_address_of_another_host_is_refused_with_advice() {
    let elsewhere = SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), 9477));
    let text = format!("{:#}", bind(elsewhere).await.unwrap_err());
    assert!(text.contains("192.0.2.1:9477") && text.contains("no interface"), "{text}");
}
