//! Asks a service for its latency: one TCP connection each time, and a GET over it where the target is HTTP.

use super::inbox::{InFlight, Inbox, Sample, monotonic};
use crate::config::ProbeTarget;
use crate::control::Outcome;
use anyhow::{Context, anyhow, ensure};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, HeaderValue, USER_AGENT};
use hyper::http::uri::PathAndQuery;
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// How much of an answer's body is read, in bytes. What follows says nothing more about the latency.
const BODY_LIMIT: usize = 64 << 10;

/// The longest head of an answer, in bytes.
const HEAD_LIMIT: usize = 32 << 10;

/// What is asked of a service, how often, and how long an answer is waited for.
#[derive(Clone, Debug)]
pub(super) struct Probe {
    address: SocketAddr,
    /// None: the connection is all that is asked for.
    request: Option<Request<Empty<Bytes>>>,
    every: Duration,
    timeout: Duration,
}

/// Why a probe has no latency to tell.
#[derive(Debug)]
enum Failure {
    /// The service's doing: not reached, no answer, or one that says failure.
    Service(anyhow::Error),
    /// The service's as well: no whole answer in time.
    Timeout,
    /// This host's doing: the probe never left, and says nothing about the service.
    Local(anyhow::Error),
}

impl Probe {
    /// # Errors
    /// Where the host or the path of an HTTP target cannot stand in a request.
    pub(super) fn new(target: &ProbeTarget, every: Duration, timeout: Duration) -> anyhow::Result<Probe> {
        let (address, request) = match target {
            ProbeTarget::Tcp { address } => (*address, None),
            ProbeTarget::Http { address, host, path } => (*address, Some(request(host, path)?)),
        };
        Ok(Probe { address, request, every, timeout })
    }

    /// Probes on schedule, for ever, and puts what it sees into `inbox`. Dropping it aborts what is outstanding.
    pub(super) async fn run(self, inbox: Arc<Inbox>) {
        let probe = Arc::new(self);
        let mut ticks = interval(probe.every);
        // `Skip` keeps to the schedule's grid: after a stall the ticks that were missed are not made up for, which
        // would load a service that just came back, and the later ones are not shifted as `Delay` would, by a
        // little more with every stall.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut outstanding = JoinSet::new();
        loop {
            ticks.tick().await;
            while outstanding.try_join_next().is_some() {}
            let Some(flight) = inbox.begin() else { continue };
            let probe = Arc::clone(&probe);
            outstanding.spawn(async move { probe.observe(flight).await });
        }
    }

    /// Makes one probe, and ends `flight` with what it saw.
    async fn observe(&self, flight: InFlight) {
        let end = timeout(self.timeout, self.ask()).await.unwrap_or(Err(Failure::Timeout));
        let at = monotonic();
        let waited = at.saturating_sub(flight.started());
        let (outcome, error) = match end {
            Ok(()) => (Some(Outcome::Answered(waited)), None),
            Err(Failure::Service(error)) => (Some(Outcome::Failed(waited)), Some(error)),
            Err(Failure::Timeout) => {
                (Some(Outcome::Failed(self.timeout)), Some(anyhow!("no answer within {:?}", self.timeout)))
            }
            Err(Failure::Local(error)) => (None, Some(error)),
        };
        flight.inbox().set_last_error(error.map(|error| format!("probe of {}: {error:#}", self.address)));
        if let Some(outcome) = outcome {
            flight.end(Sample { at, outcome });
        }
    }

    async fn ask(&self) -> Result<(), Failure> {
        let stream = connect(self.address).await?;
        match &self.request {
            Some(request) => get(stream, request.clone()).await.map_err(Failure::Service),
            None => Ok(()),
        }
    }
}

fn request(host: &str, path: &str) -> anyhow::Result<Request<Empty<Bytes>>> {
    ensure!(path.starts_with('/'), "the probe's path `{path}` must begin with `/`");
    let target: PathAndQuery =
        path.parse().with_context(|| format!("the probe's path `{path}` cannot stand in a request"))?;
    let host = HeaderValue::from_str(host)
        .with_context(|| format!("the probe's host `{host}` cannot stand in a request"))?;
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = Uri::from(target);
    request.headers_mut().insert(HOST, host);
    request.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    let agent = concat!("shedder/", env!("CARGO_PKG_VERSION"));
    request.headers_mut().insert(USER_AGENT, HeaderValue::from_static(agent));
    Ok(request)
}

async fn connect(address: SocketAddr) -> Result<TcpStream, Failure> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    };
    let local = |what| move |error| Failure::Local(anyhow::Error::new(error).context(what));
    let socket = socket.map_err(local("cannot make a socket"))?;
    // Close with a reset. An orderly close by the side that closes first leaves its port in TIME_WAIT for a minute:
    // at 200 probes a second that is 12,000 ports of some 28,000. TIME_WAIT protects data still under way, and at
    // the close there is none that matters: the answer has been read, or is not wanted any more. The service has
    // said all it had to say or learns at once that nobody waits, which a service under too much load should.
    socket.set_zero_linger().map_err(local("cannot set SO_LINGER"))?;
    socket.connect(address).await.map_err(|error| {
        let local = is_local(&error);
        let error = anyhow::Error::new(error).context("cannot connect");
        if local { Failure::Local(error) } else { Failure::Service(error) }
    })
}

/// Whether connecting failed for want of something on this side: ports, memory, or leave to send.
fn is_local(error: &io::Error) -> bool {
    let local = [libc::EADDRNOTAVAIL, libc::ENOBUFS, libc::ENOMEM, libc::EPERM, libc::EACCES];
    error.raw_os_error().is_some_and(|code| local.contains(&code))
}

/// Asks, and reads the answer to its end or to [`BODY_LIMIT`]. An error where there is none, or where it is a 5xx.
async fn get(stream: TcpStream, request: Request<Empty<Bytes>>) -> anyhow::Result<()> {
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(HEAD_LIMIT)
        .handshake(TokioIo::new(stream))
        .await
        .context("cannot begin to ask")?;
    let mut answer = pin!(async {
        let response = sender.send_request(request).await.context("no valid answer")?;
        let status = response.status();
        ensure!(status.as_u16() < 500, "the answer is {status}");
        read(response).await.context("the answer broke off")
    });
    // The connection is driven here rather than by a task, so that it ends with the probe. Where it ends first, the
    // rest of the answer, or why there is none, is already on its way to `answer`. A shutdown before the close would
    // be the orderly end that `connect` avoids.
    tokio::select! {
        result = &mut answer => result,
        _ = connection.without_shutdown() => answer.await,
    }
}

async fn read(mut response: Response<Incoming>) -> hyper::Result<()> {
    let mut length = 0;
    while length < BODY_LIMIT
        && let Some(frame) = response.frame().await
    {
        length += frame?.data_ref().map_or(0, Bytes::len);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
