//! Counts what arrives, per source, with the kernel's time of arrival.

use crate::netns::Namespace;
use anyhow::{Context, Result};
use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt};
use nix::sys::time::TimeSpec;
use std::collections::HashMap;
use std::io::IoSliceMut;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

/// A UDP socket that counts what it gets. Dropped, it is closed.
#[derive(Debug)]
pub struct Receiver {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<()>>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    arrivals: Mutex<Arrivals>,
}

/// What arrived.
#[derive(Clone, Debug, Default)]
pub struct Arrivals {
    /// Datagrams of each source.
    pub by_source: HashMap<IpAddr, u64>,
    /// When each datagram arrived, in order, after the Unix epoch: eight bytes for each, so mind the rate.
    pub times: Vec<Duration>,
    /// Datagrams that arrived and found the socket's buffer full; their sources and times are not known.
    pub overflowed: u64,
}

impl Arrivals {
    /// How many, those that overflowed included.
    pub fn total(&self) -> u64 {
        self.by_source.values().sum::<u64>() + self.overflowed
    }

    /// The last that arrived before `end`.
    pub fn last_before(&self, end: Duration) -> Option<Duration> {
        let after = self.times.partition_point(|&time| time < end);
        self.times[..after].last().copied()
    }

    /// The first that arrived at `start` or after.
    pub fn first_since(&self, start: Duration) -> Option<Duration> {
        self.times.get(self.times.partition_point(|&time| time < start)).copied()
    }

    /// How many arrived from `start` on and before `end`, those that overflowed left out.
    pub fn between(&self, start: Duration, end: Duration) -> usize {
        let before = |limit| self.times.partition_point(|&time| time < limit);
        before(end).saturating_sub(before(start))
    }
}

/// How long the thread waits before it looks whether it is to end.
const PATIENCE: Duration = Duration::from_millis(20);

/// The socket's buffer, bytes: more than a second of a flood that keeps one CPU busy.
const BUFFER: usize = 64 << 20;

/// As much of a datagram as is read: none of it matters.
const HEAD: usize = 16;

impl Receiver {
    /// Starts one on a thread of its own inside `namespace`; it listens on `address` when this returns.
    pub fn start(namespace: &Namespace, address: SocketAddr) -> Result<Receiver> {
        let shared = Arc::new(Shared::default());
        let (ready, listening) = mpsc::sync_channel(1);
        let thread = namespace.thread("receiver", {
            let shared = shared.clone();
            move || {
                let socket = socket(address)?;
                // Whoever waits for it is gone only if it panicked.
                let _ = ready.send(());
                receive(&socket, &shared)
            }
        })?;
        match listening.recv() {
            Ok(()) => Ok(Receiver { shared, thread: Some(thread) }),
            // The thread ended before it listened, with the reason as its result.
            Err(_) => Err(match thread.join() {
                Ok(Err(error)) => error,
                Ok(Ok(())) => anyhow::anyhow!("the receiver ended before it listened"),
                Err(panic) => std::panic::resume_unwind(panic),
            }),
        }
    }

    /// What arrived so far.
    pub fn arrivals(&self) -> Arrivals {
        self.shared.arrivals.lock().expect("nothing panics holding it").clone()
    }

    /// How many arrived so far.
    pub fn total(&self) -> u64 {
        self.shared.arrivals.lock().expect("nothing panics holding it").total()
    }

    /// When the last datagram so far arrived, after the Unix epoch.
    pub fn last(&self) -> Option<Duration> {
        self.shared.arrivals.lock().expect("nothing panics holding it").times.last().copied()
    }

    /// When the first datagram at `start` or after arrived, of those that did so far.
    pub fn first_since(&self, start: Duration) -> Option<Duration> {
        self.shared.arrivals.lock().expect("nothing panics holding it").first_since(start)
    }

    /// Closes it, and returns what arrived.
    pub fn finish(mut self) -> Result<Arrivals> {
        self.shared.stop.store(true, Ordering::Relaxed);
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result?,
            Some(Err(panic)) => std::panic::resume_unwind(panic),
            None => {}
        }
        Ok(std::mem::take(&mut self.shared.arrivals.lock().expect("nothing panics holding it")))
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn socket(address: SocketAddr) -> Result<UdpSocket> {
    let socket = UdpSocket::bind(address).with_context(|| format!("the receiver's socket on {address}"))?;
    socket.set_read_timeout(Some(PATIENCE)).context("the receiver's time limit")?;
    setsockopt(&socket, sockopt::RcvBufForce, &BUFFER).context("the receiver's buffer")?;
    setsockopt(&socket, sockopt::ReceiveTimestampns, &true).context("the receiver's times of arrival")?;
    setsockopt(&socket, sockopt::RxqOvfl, &1).context("the receiver's count of lost datagrams")?;
    Ok(socket)
}

fn receive(socket: &UdpSocket, shared: &Shared) -> Result<()> {
    let mut head = [0; HEAD];
    let mut control = cmsg_space!(TimeSpec, u32);
    while !shared.stop.load(Ordering::Relaxed) {
        let mut parts = [IoSliceMut::new(&mut head)];
        let datagram =
            recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::empty());
        let datagram = match datagram {
            Ok(datagram) => datagram,
            Err(Errno::EAGAIN | Errno::EINTR) => continue,
            Err(error) => return Err(error).context("receiving datagrams"),
        };
        let source = datagram.address.as_ref().and_then(address).context("a datagram without a source")?;
        let mut arrivals = shared.arrivals.lock().expect("nothing panics holding it");
        *arrivals.by_source.entry(source).or_default() += 1;
        for message in datagram.cmsgs().context("reading a time of arrival")? {
            match message {
                ControlMessageOwned::ScmTimestampns(time) => arrivals.times.push(time.into()),
                // Counted since the socket was made.
                ControlMessageOwned::RxqOvfl(count) => arrivals.overflowed = count.into(),
                _ => {}
            }
        }
    }
    Ok(())
}

fn address(socket: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = socket.as_sockaddr_in().map(|address| IpAddr::from(address.ip()));
    v4.or_else(|| socket.as_sockaddr_in6().map(|address| IpAddr::from(address.ip())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found() {
        let times = [10, 20, 30].map(Duration::from_millis).to_vec();
        let arrivals = Arrivals { times, ..Arrivals::default() };
        let at = Duration::from_millis;
        assert_eq!(arrivals.last_before(at(30)), Some(at(20)));
        assert_eq!(arrivals.last_before(at(10)), None);
        assert_eq!(arrivals.first_since(at(20)), Some(at(20)));
        assert_eq!(arrivals.first_since(at(31)), None);
        assert_eq!(arrivals.between(at(10), at(30)), 2);
        assert_eq!(arrivals.between(at(30), at(10)), 0);
    }
}
