//! The daemon's endpoint: `/metrics` as OpenMetrics text, `/healthz` and `/readyz`.
//!
//! Read-only, and apart from the control loop: clients, however many or slow, cost a bounded number of connections and
//! one call of [`Reporter::report`] at a time, made on a thread of its own and shared for 100 ms.

mod exposition;
mod health;
mod metrics;
mod routes;
mod server;
mod snapshot;
#[cfg(test)]
mod tests;

use super::report::Reporter;
use server::Limits;
use snapshot::Snapshots;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;

/// Opens the endpoint's socket. To be called on a tokio runtime with I/O enabled.
///
/// # Errors
///
/// Where the address cannot be listened on: what is the matter with it, and what to do.
pub async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        let advice = match error.kind() {
            ErrorKind::AddrInUse => {
                "another process, perhaps another shedder, already listens there; stop it, or set another `listen` \
                 in [endpoint]"
            }
            ErrorKind::AddrNotAvailable => {
                "no interface of this host has that address; set `listen` in [endpoint] to one that it has, such as \
                 127.0.0.1:9477"
            }
            ErrorKind::PermissionDenied => {
                "ports below 1024 need CAP_NET_BIND_SERVICE; grant it, or set `listen` in [endpoint] to a higher port"
            }
            _ => "check `listen` in [endpoint]",
        };
        anyhow::Error::new(error).context(format!("cannot serve the endpoint on {address}: {advice}"))
    })
}

/// Serves the endpoint until `shutdown` is done; connections that are open then are dropped. To be called on a tokio
/// runtime with I/O and time enabled.
///
/// Each connection carries one request, at most 64 are open at once, and none lasts longer than about 11 s. A
/// reporter that panics is answered with 500, one that takes longer than 2 s with 503; neither ends the server.
pub async fn serve(listener: TcpListener, reporter: Arc<dyn Reporter>, shutdown: impl Future<Output = ()>) {
    let limits = Limits::DEFAULT;
    let snapshots = Arc::new(Snapshots::new(reporter, limits.report_age));
    server::run(listener, snapshots, limits, shutdown).await;
}
