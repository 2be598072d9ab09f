//! An HTTP/1.1 server with a limited capacity.
//!
//! It has so many workers, each busy for the service time of one request; what arrives while all are busy waits in
//! the order it came, as a thread pool's queue does. A client that gave up is not noticed before its answer is
//! written: its request costs what any other costs. The service time is slept, so that the capacity does not depend
//! on what else the machine does.

mod connection;
mod pool;

use crate::netns::Namespace;
use anyhow::{Context, Result};
use pool::Pool;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{Semaphore, oneshot};

/// What a server is like. Its capacity is `workers` divided by `service`.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it listens; port 0: any.
    pub address: SocketAddr,
    /// Requests that are worked on at the same time: at least 1.
    pub workers: usize,
    /// How long one takes: not zero.
    pub service: Duration,
    /// Connections that are open at the same time, waiting requests included; more are left in the backlog.
    pub connections: usize,
    /// Connections that the kernel keeps for it until they are accepted; more are not answered.
    pub backlog: u32,
}

/// What a server has counted since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections.
    pub accepted: u64,
    /// Requests that a worker finished, whether or not the client was still there.
    pub served: u64,
    /// Requests among them whose answer could not be written, because the client had gone.
    pub abandoned: u64,
    /// Requests that wait for a worker at this moment.
    pub waiting: u64,
    /// How long the request that a worker last began with had waited.
    pub queueing: Duration,
}

/// A running server. Dropped, it ends and closes every connection.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Result<()>>>,
}

/// What connections share.
#[derive(Debug)]
struct Shared {
    pool: Pool,
    accepted: AtomicU64,
    abandoned: AtomicU64,
}

impl Server {
    /// Starts one on a thread of its own inside `namespace`; it listens when this returns.
    pub fn start(namespace: &Namespace, options: Options) -> Result<Server> {
        let shared = Arc::new(Shared {
            pool: Pool::new(options.workers, options.service),
            accepted: AtomicU64::new(0),
            abandoned: AtomicU64::new(0),
        });
        let (stop, stopped) = oneshot::channel();
        let (ready, listening) = mpsc::sync_channel(1);
        let thread = namespace.thread("server", {
            let shared = shared.clone();
            move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                runtime.block_on(async {
                    let listener = listen(&options)?;
                    // Whoever waits for it is gone only if it panicked.
                    let _ = ready.send(listener.local_addr()?);
                    tokio::select! {
                        never = accept(listener, options.connections, shared) => never,
                        _ = stopped => Ok(()),
                    }
                })
            }
        })?;
        match listening.recv() {
            Ok(address) => Ok(Server { address, shared, stop: Some(stop), thread: Some(thread) }),
            // The thread ended before it listened, with the reason as its result.
            Err(_) => Err(match thread.join() {
                Ok(Err(error)) => error,
                Ok(Ok(())) => anyhow::anyhow!("the server ended before it listened"),
                Err(panic) => std::panic::resume_unwind(panic),
            }),
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes the service time (not zero), from the next request that a worker begins with.
    pub fn set_service(&self, service: Duration) {
        self.shared.pool.set_service(service);
    }

    /// Lets service times vary from the next request on: exponential, with the service time as their mean. The same
    /// seed gives the same times.
    pub fn vary(&self, seed: u64) {
        self.shared.pool.vary(seed);
    }

    /// Finishes nothing for this long from now on, as a long pause for garbage or a lock held by somebody would:
    /// connections are still made, and requests wait.
    pub fn stall(&self, time: Duration) {
        self.shared.pool.stall(tokio::time::Instant::now() + time);
    }

    /// What it has counted.
    pub fn counts(&self) -> Counts {
        let Shared { pool, accepted, abandoned } = &*self.shared;
        Counts {
            accepted: accepted.load(Ordering::Relaxed),
            served: pool.served(),
            abandoned: abandoned.load(Ordering::Relaxed),
            waiting: pool.waiting(),
            queueing: pool.queueing(),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn listen(options: &Options) -> Result<TcpListener> {
    let Options { address, backlog, .. } = options;
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    socket.set_reuseaddr(true)?;
    socket.bind(*address).with_context(|| format!("the server's socket on {address}"))?;
    socket.listen(*backlog).with_context(|| format!("listening on {address}"))
}

async fn accept(listener: TcpListener, connections: usize, shared: Arc<Shared>) -> Result<()> {
    let room = Arc::new(Semaphore::new(connections));
    loop {
        let place = room.clone().acquire_owned().await.context("the server's connections")?;
        match listener.accept().await {
            Ok((stream, _)) => {
                shared.accepted.fetch_add(1, Ordering::Relaxed);
                let shared = shared.clone();
                tokio::spawn(async move {
                    connection::serve(stream, &shared).await;
                    drop(place);
                });
            }
            // The client has gone already, or there are no descriptors left: either passes.
            Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    }
}
