//! TCP connections over which a server says what it is told.

use crate::netns::Namespace;
use anyhow::{Context, Result};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// A server that echoes, on both families. Dropped, it accepts no more; connections end with their clients.
#[derive(Debug)]
pub struct Echo {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

/// How long it waits before it looks again whether somebody connects.
const PAUSE: Duration = Duration::from_millis(2);

impl Echo {
    /// Starts one; it listens when this returns.
    pub fn start(namespace: &Namespace, port: u16) -> Result<Echo> {
        let address = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port);
        let listener = namespace.run(|| TcpListener::bind(address))?.context("the echo's socket")?;
        listener.set_nonblocking(true)?;
        let stop = Arc::new(AtomicBool::new(false));
        let thread = namespace.thread("echo", {
            let stop = stop.clone();
            move || {
                while !stop.load(Ordering::Relaxed) {
                    match listener.accept() {
                        Ok((stream, _)) => drop(std::thread::spawn(move || echo(stream))),
                        Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(PAUSE),
                        Err(error) => return Err(error).context("accepting"),
                    }
                }
                Ok(())
            }
        })?;
        Ok(Echo { stop, thread: Some(thread) })
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Until the client goes, or is not heard of for so long that its end was lost with its network.
fn echo(mut stream: TcpStream) -> std::io::Result<u64> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    std::io::copy(&mut stream.try_clone()?, &mut stream)
}

/// A client's connection to an echo.
#[derive(Debug)]
pub struct Dialogue(TcpStream);

impl Dialogue {
    /// Connects from `source`, waiting at most `patience`.
    pub fn open(
        namespace: &Namespace,
        source: IpAddr,
        target: SocketAddr,
        patience: Duration,
    ) -> Result<Dialogue> {
        namespace.run(|| {
            let family = if source.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
            let socket = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
            // The client answers for more addresses than it has.
            setsockopt(&socket, sockopt::IpFreebind, &true)?;
            // It bounds connect(2) as well.
            let limit = TimeVal::new(patience.as_secs() as i64, patience.subsec_micros().into());
            setsockopt(&socket, sockopt::SendTimeout, &limit)?;
            bind(socket.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(source, 0)))?;
            connect(socket.as_raw_fd(), &SockaddrStorage::from(target))
                .with_context(|| format!("connecting from {source} to {target}"))?;
            Ok(Dialogue(TcpStream::from(socket)))
        })?
    }

    /// Says something, and waits for it to come back, at most for `patience`.
    pub fn speak(&mut self, patience: Duration) -> Result<()> {
        let word = *b"are you there?";
        self.0.set_read_timeout(Some(patience))?;
        self.0.write_all(&word).context("speaking")?;
        self.listen(patience)
    }

    /// Waits for what was said before and has not come back yet.
    pub fn listen(&mut self, patience: Duration) -> Result<()> {
        self.0.set_read_timeout(Some(patience))?;
        let mut answer = [0; 14];
        self.0.read_exact(&mut answer).context("listening")
    }
}
