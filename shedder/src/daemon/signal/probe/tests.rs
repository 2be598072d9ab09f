//! Probes of real servers on loopback, each with a fault of its own.

use super::super::tests::{drained, in_flight, until};
use super::*;
use crate::daemon::signal::MAX_IN_FLIGHT;
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// No limit, in effect: a probe that ends under it ended for another reason.
const PATIENCE: Duration = Duration::from_secs(60);

/// Serves one connection: reads the request's head, then does as `behave` says. The task's result is none where the
/// connection ended before the head did.
async fn server<B, F>(behave: B) -> (SocketAddr, JoinHandle<Option<F::Output>>)
where
    B: FnOnce(TcpStream, String) -> F + Send + 'static,
    F: Future<Output: Send> + Send + 'static,
{
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let head = read_head(&mut stream).await.ok()?;
        Some(behave(stream, head).await)
    });
    (address, task)
}

async fn read_head(stream: &mut TcpStream) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    Ok(String::from_utf8(head).unwrap())
}

/// Waits until a server that never ends by itself has been cut off.
async fn cut_off(server: JoinHandle<Option<io::Result<()>>>) {
    assert!(!matches!(server.await.unwrap(), Some(Ok(()))));
}

/// Serves one connection with `answer`, and closes it.
async fn canned(answer: impl Into<Vec<u8>>) -> SocketAddr {
    let answer = answer.into();
    server(async move |mut stream: TcpStream, _| stream.write_all(&answer).await.unwrap()).await.0
}

fn http(address: SocketAddr) -> ProbeTarget {
    ProbeTarget::Http { address, host: "service.example".to_owned(), path: "/health?deep=1".to_owned() }
}

/// One probe: its outcome, and why it failed.
async fn observe(target: &ProbeTarget, timeout: Duration) -> (Outcome, Option<String>) {
    let inbox = Arc::new(Inbox::default());
    let probe = Probe::new(target, PATIENCE, timeout).unwrap();
    let before = monotonic();
    probe.observe(inbox.begin().unwrap()).await;
    let samples = drained(&inbox);
    assert_eq!(samples.len(), 1);
    let Sample { at, outcome } = samples[0];
    let (Outcome::Answered(waited) | Outcome::Failed(waited)) = outcome;
    assert!(before + waited <= at && at <= monotonic());
    assert_eq!(in_flight(&inbox), []);
    (outcome, inbox.last_error())
}

async fn answered(target: &ProbeTarget) -> Duration {
    match observe(target, PATIENCE).await {
        (Outcome::Answered(latency), None) => latency,
        other => panic!("{other:?}"),
    }
}

/// The error of a probe that failed before its time was up.
async fn failed(target: &ProbeTarget) -> String {
    match observe(target, PATIENCE).await {
        (Outcome::Failed(waited), Some(error)) if waited < PATIENCE => error,
        other => panic!("{other:?}"),
    }
}

async fn timed_out(target: &ProbeTarget) {
    let limit = Duration::from_millis(50);
    let (outcome, error) = observe(target, limit).await;
    assert_eq!(outcome, Outcome::Failed(limit));
    assert!(error.unwrap().contains("no answer within 50ms"));
}

#[tokio::test]
async fn an_answer_of_any_framing() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\nto the end of the connection",
        "HTTP/1.0 204 No Content\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 499 Nobody Waits\r\nContent-Length: 0\r\n\r\n",
    ] {
        let address = canned(answer).await;
        answered(&http(address)).await;
    }
}

#[tokio::test]
async fn the_request_says_what_it_is_and_that_it_is_the_last() {
    let (address, request) = server(async |mut stream: TcpStream, head| {
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
        head
    })
    .await;
    answered(&http(address)).await;
    let request = request.await.unwrap().unwrap().to_lowercase();
    let mut lines = request.lines();
    assert_eq!(lines.next(), Some("get /health?deep=1 http/1.1"));
    let headers: Vec<_> = lines.collect();
    let agent = format!("user-agent: shedder/{}", env!("CARGO_PKG_VERSION"));
    for header in ["host: service.example", "connection: close", &agent] {
        assert!(headers.contains(&header), "{header} in {headers:?}");
    }
}

#[tokio::test]
async fn the_latency_is_up_to_the_end_of_the_body() {
    let pause = Duration::from_millis(20);
    let (address, _) = server(async move |mut stream: TcpStream, _| {
        sleep(pause).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no").await.unwrap();
        sleep(pause).await;
        stream.write_all(b"k").await.unwrap();
    })
    .await;
    assert!(answered(&http(address)).await >= 2 * pause);
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_is_not_followed() {
    let elsewhere = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let location = elsewhere.local_addr().unwrap();
    let address =
        canned(format!("HTTP/1.1 302 Found\r\nLocation: http://{location}/\r\nContent-Length: 0\r\n\r\n"))
            .await;
    answered(&http(address)).await;
    // A connection would be in the backlog by now, and be accepted at once.
    let followed = tokio::select! {
        biased;
        _ = elsewhere.accept() => true,
        _ = sleep(Duration::from_millis(10)) => false,
    };
    assert!(!followed);
}

#[tokio::test]
async fn a_server_error_is_a_failure() {
    for status in ["500 Internal Server Error", "503 Service Unavailable", "599 Other", "600 Beyond"] {
        let address = canned(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n")).await;
        let error = failed(&http(address)).await;
        assert!(error.contains(&status[..3]) && error.contains(&address.to_string()), "{error}");
    }
}

#[tokio::test]
async fn refused() {
    // Bound but not listening: nobody else can be given the port.
    let bound = TcpSocket::new_v4().unwrap();
    bound.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let address = bound.local_addr().unwrap();
    for target in [http(address), ProbeTarget::Tcp { address }] {
        let error = failed(&target).await;
        assert!(error.contains("cannot connect") && error.contains("refused"), "{error}");
    }
}

#[tokio::test]
async fn reset() {
    let (address, _) = server(async |stream: TcpStream, _| stream.set_zero_linger().unwrap()).await;
    let error = failed(&http(address)).await;
    assert!(error.contains("reset"), "{error}");
}

#[tokio::test]
async fn closed_early() {
    for answer in [
        "",
        "HTTP/1.1 200",
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n",
    ] {
        let address = canned(answer).await;
        failed(&http(address)).await;
    }
}

#[tokio::test]
async fn garbage() {
    const ENDLESS: &[u8] = &[b'x'; 3 * HEAD_LIMIT];
    for answer in [
        &b"SSH-2.0-OpenSSH_9.6\r\n"[..],
        b"\0\xff\xfe\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        ENDLESS,
        &[b"HTTP/1.1 200 OK\r\nX: ", ENDLESS, b"\r\n\r\n"].concat(),
    ] {
        let answer = answer.to_vec();
        // It may be reset before it has written everything.
        let (address, _) =
            server(async move |mut stream: TcpStream, _| drop(stream.write_all(&answer).await)).await;
        failed(&http(address)).await;
    }
}

#[tokio::test]
async fn a_head_without_end_is_a_failure() {
    let (address, server) = server(async |mut stream: TcpStream, _| {
        stream.write_all(b"HTTP/1.1 200 OK\r\n").await?;
        loop {
            stream.write_all(b"X-Header: value\r\n").await?;
        }
    })
    .await;
    failed(&http(address)).await;
    cut_off(server).await;
}

#[tokio::test]
async fn a_body_without_end_is_cut() {
    let (address, server) = server(async |mut stream: TcpStream, _| {
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
        loop {
            stream.write_all(&[b'x'; 4096]).await?;
        }
    })
    .await;
    answered(&http(address)).await;
    cut_off(server).await;
}

#[tokio::test]
async fn a_server_that_hangs_times_out() {
    let (address, server) = server(async |mut stream: TcpStream, _| stream.read_u8().await.map(drop)).await;
    timed_out(&http(address)).await;
    cut_off(server).await;
    // Nobody accepts, so the kernel opens the connection and nobody reads.
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    timed_out(&http(listener.local_addr().unwrap())).await;
}

#[tokio::test]
async fn a_server_that_drips_times_out() {
    for head in ["HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", ""] {
        let (address, server) = server(async move |mut stream: TcpStream, _| {
            stream.write_all(head.as_bytes()).await?;
            for byte in b"HTTP/1.1 200 OK\r\nX: ".iter().chain(std::iter::repeat(&b'x')) {
                stream.write_all(&[*byte]).await?;
                sleep(Duration::from_millis(5)).await;
            }
            Ok(())
        })
        .await;
        timed_out(&http(address)).await;
        cut_off(server).await;
    }
}

#[tokio::test]
async fn a_tcp_target_is_answered_by_the_connection() {
    for host in ["127.0.0.1", "::1"] {
        let listener = TcpListener::bind((host, 0)).await.unwrap();
        answered(&ProbeTarget::Tcp { address: listener.local_addr().unwrap() }).await;
    }
}

#[tokio::test]
async fn no_port_lingers() {
    // The listeners stay open, so that nobody else is given their ports.
    let silent = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    answered(&ProbeTarget::Tcp { address: silent.local_addr().unwrap() }).await;

    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let serve = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_head(&mut stream).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        // The probe closes first, and not with a FIN: that alone would make it wait.
        stream.read_to_end(&mut Vec::new()).await.unwrap_err();
    };
    let target = http(listener.local_addr().unwrap());
    tokio::join!(serve, answered(&target));

    let sockets = std::fs::read_to_string("/proc/net/tcp").unwrap();
    for listener in [silent, listener] {
        let peer = format!("0100007F:{:04X}", listener.local_addr().unwrap().port());
        let left = sockets.lines().filter(|line| line.split_whitespace().nth(2) == Some(&peer)).count();
        assert_eq!(left, 0, "sockets of probes of {peer}:\n{sockets}");
    }
}

#[tokio::test]
async fn the_last_error_is_that_of_the_last_probe() {
    let inbox = Arc::new(Inbox::default());
    for (answer, fails) in [("HTTP/1.1 500 \r\n\r\n", true), ("HTTP/1.1 200 \r\n\r\n", false)] {
        let probe = Probe::new(&http(canned(answer).await), PATIENCE, PATIENCE).unwrap();
        probe.observe(inbox.begin().unwrap()).await;
        assert_eq!(inbox.last_error().is_some(), fails, "{answer}");
    }
}

#[test]
fn want_on_this_side_is_told_from_the_services() {
    for code in [libc::EADDRNOTAVAIL, libc::ENOBUFS, libc::EPERM] {
        assert!(is_local(&io::Error::from_raw_os_error(code)));
    }
    for code in [libc::ECONNREFUSED, libc::ECONNRESET, libc::ETIMEDOUT, libc::EHOSTUNREACH, libc::ENETUNREACH]
    {
        assert!(!is_local(&io::Error::from_raw_os_error(code)));
    }
}

#[test]
fn what_cannot_stand_in_a_request_is_refused() {
    let address = SocketAddr::from(([127, 0, 0, 1], 1));
    for (host, path) in [("a\r\nb", "/"), ("a", ""), ("a", "relative"), ("a", "/a b"), ("a", "/a\r\nb")] {
        let target = ProbeTarget::Http { address, host: host.to_owned(), path: path.to_owned() };
        Probe::new(&target, PATIENCE, PATIENCE).unwrap_err();
    }
}

/// A stall of 40 periods makes room for as many starts at once; one late start and then one each period is right.
/// Every bound is one from below, so a slow machine cannot fail it.
#[tokio::test(flavor = "current_thread")]
async fn a_stall_is_not_made_up_for() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let every = Duration::from_millis(5);
    let probe = Probe::new(&http(listener.local_addr().unwrap()), every, PATIENCE).unwrap();
    let inbox = Arc::new(Inbox::default());
    let task = tokio::spawn(probe.run(Arc::clone(&inbox)));
    until("the first probe is under way", || !in_flight(&inbox).is_empty()).await;
    let before = in_flight(&inbox).len();
    std::thread::sleep(40 * every);
    let resumed = Instant::now();
    until("as many are under way as may be", || in_flight(&inbox).len() == MAX_IN_FLIGHT).await;
    // The first at once, the second at the next point of the grid, the others a period apart each.
    let apart = (MAX_IN_FLIGHT - before).saturating_sub(2) as u32;
    assert!(
        resumed.elapsed() >= apart * every,
        "{before} before the stall, all others within {:?}",
        resumed.elapsed()
    );
    task.abort();
}

#[tokio::test]
async fn a_probe_that_ends_makes_room_for_the_next() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let probe =
        Probe::new(&http(listener.local_addr().unwrap()), Duration::from_millis(5), PATIENCE).unwrap();
    let inbox = Arc::new(Inbox::default());
    let task = tokio::spawn(probe.run(Arc::clone(&inbox)));
    until("as many are under way as may be", || in_flight(&inbox).len() == MAX_IN_FLIGHT).await;
    let newest = in_flight(&inbox).into_iter().max().unwrap();
    let (mut stream, _) = listener.accept().await.unwrap();
    read_head(&mut stream).await.unwrap();
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
    until("another one started", || in_flight(&inbox).into_iter().max() > Some(newest)).await;
    assert!(matches!(drained(&inbox)[..], [Sample { outcome: Outcome::Answered(_), .. }]));
    assert!(in_flight(&inbox).len() <= MAX_IN_FLIGHT);
    task.abort();
}
