//! Connections: how many, how long, and which makes room.
//!
//! Each connection carries one request. Where all places are taken, the oldest connection that waits for its peer
//! (to ask, or to take the answer) makes room for the next, so that neither idle nor slow clients keep anybody
//! out; only where every place waits for this daemon is the next turned away.

use super::routes;
use super::snapshot::Snapshots;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::future::poll_fn;
use std::io::{ErrorKind, Write};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};

/// What clients may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Connections at once.
    pub(super) connections: usize,
    /// Bytes of a request's line and headers.
    pub(super) head_bytes: usize,
    /// From a connection's start to the end of the request's headers.
    pub(super) head: Duration,
    /// For the daemon's state.
    pub(super) patience: Duration,
    /// From a connection's start to the last byte of the answer taken.
    pub(super) whole: Duration,
    /// For the peer to close after the answer.
    pub(super) linger: Duration,
    /// How long a report is good for.
    pub(super) report_age: Duration,
}

impl Limits {
    /// What the daemon serves with.
    pub(super) const DEFAULT: Limits = Limits {
        connections: 64,
        head_bytes: 8 << 10,
        head: Duration::from_secs(5),
        patience: Duration::from_secs(2),
        whole: Duration::from_secs(10),
        linger: Duration::from_secs(1),
        report_age: Duration::from_millis(100),
    };
}

/// Bytes that hyper buffers of a connection at most, apart from the answer.
const BUFFER: usize = 16 << 10;

/// Bytes that are read and thrown away after the answer, at most.
const LINGER_BYTES: usize = 64 << 10;

/// Between two attempts to accept where the host has no file descriptor left.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

const TURNED_AWAY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
    Content-Type: text/plain; charset=utf-8\r\n\
    Content-Length: 54\r\n\
    Connection: close\r\n\r\n\
    Too many requests are being answered; ask again soon.\n";

/// Accepts until `shutdown` is done, then drops what is open.
pub(super) async fn run(
    listener: TcpListener,
    snapshots: Arc<Snapshots>,
    limits: Limits,
    shutdown: impl Future<Output = ()>,
) {
    let mut shutdown = pin!(shutdown);
    let mut places = Places { limit: limits.connections, taken: Vec::new(), tasks: JoinSet::new() };
    let mut failing = false;
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut shutdown => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                failing = false;
                places.admit(stream, &snapshots, limits);
            }
            // Of one connection that its peer gave up, not of the listener.
            Err(error)
                if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset) => {}
            Err(error) => {
                // Said once for a row of failures: a host in trouble needs its log.
                if !failing {
                    tracing::warn!(%error, "the endpoint cannot accept connections; trying again");
                }
                failing = true;
                tokio::select! {
                    biased;
                    () = &mut shutdown => return,
                    () = sleep(ACCEPT_RETRY) => {}
                }
            }
        }
    }
}

/// The connections that are open, the oldest first.
struct Places {
    limit: usize,
    taken: Vec<Place>,
    tasks: JoinSet<()>,
}

struct Place {
    task: AbortHandle,
    /// Whether the peer waits for us; else we wait for the peer.
    answering: Arc<AtomicBool>,
}

impl Places {
    fn admit(&mut self, stream: TcpStream, snapshots: &Arc<Snapshots>, limits: Limits) {
        while self.tasks.try_join_next().is_some() {}
        self.taken.retain(|place| !place.task.is_finished());
        if self.taken.len() >= self.limit {
            let Some(victim) = self.taken.iter().position(|place| !place.answering.load(Ordering::Relaxed))
            else {
                turn_away(stream);
                return;
            };
            self.taken.remove(victim).task.abort();
        }
        let answering = Arc::new(AtomicBool::new(false));
        let task = self.tasks.spawn(converse(stream, snapshots.clone(), limits, answering.clone()));
        self.taken.push(Place { task, answering });
    }
}

/// Says no, where the peer has room to hear it, without waiting.
fn turn_away(stream: TcpStream) {
    if let Ok(mut stream) = stream.into_std() {
        // The stream does not block; whether the peer heard is its own affair.
        let _ = stream.write(TURNED_AWAY);
    }
}

/// One request, one answer, within the limits.
async fn converse(stream: TcpStream, snapshots: Arc<Snapshots>, limits: Limits, answering: Arc<AtomicBool>) {
    let service = service_fn(|request| {
        let (snapshots, answering) = (snapshots.clone(), answering.clone());
        Box::pin(async move {
            answering.store(true, Ordering::Relaxed);
            let response = routes::respond(&request, &snapshots, limits.patience).await;
            answering.store(false, Ordering::Relaxed);
            Ok::<_, Infallible>(response)
        })
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_header_size(limits.head_bytes)
        .max_buf_size(BUFFER)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    let answered = timeout(limits.whole, poll_fn(|context| connection.poll_without_shutdown(context))).await;
    // A peer that gave up while it was being answered has left this set.
    answering.store(false, Ordering::Relaxed);
    match answered {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a client of the endpoint was cut short"),
        Err(_) => {
            tracing::debug!("a client of the endpoint was too slow");
            return;
        }
    }
    let stream = connection.into_parts().io.into_inner();
    // Its outcome changes nothing: the connection ends either way.
    let _ = timeout(limits.linger, part(stream)).await;
}

/// Closes, but first reads what the peer still sends: bytes left unread would make the kernel reset the connection,
/// and the peer could lose the answer (RFC 9112, section 9.6).
async fn part(mut stream: TcpStream) -> std::io::Result<()> {
    stream.shutdown().await?;
    let mut scrap = [0; 1024];
    let mut left = LINGER_BYTES;
    while left > 0 {
        let read = stream.read(&mut scrap).await?;
        if read == 0 {
            break;
        }
        left = left.saturating_sub(read);
    }
    Ok(())
}
