//! Servers that record their own times: from when the kernel received a request's first byte to when its answer is
//! written. The kernel's stamp and not the read's return: how long the machine takes to wake the server is part of what is
//! measured.

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt::ReceiveTimestampns};
use shedder_tests::netns::Namespace;
use std::io::{self, IoSliceMut, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, SystemTime};

/// What a server recorded.
#[derive(Clone, Default)]
pub(crate) struct Times(Arc<Mutex<Vec<Duration>>>);

impl Times {
    /// In ascending order.
    pub(crate) fn sorted(&self) -> Vec<Duration> {
        let mut times = self.0.lock().unwrap().clone();
        times.sort_unstable();
        times
    }
}

/// A connection at the server.
pub(crate) struct Connection {
    pub(crate) stream: TcpStream,
    times: Times,
}

impl Connection {
    /// Reads what there is, at most a buffer's length, and when the last of it arrived.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<(usize, SystemTime)> {
        receive(self.stream.as_fd(), buffer).map(|(length, at, _)| (length, at))
    }

    /// The same connection for another thread.
    pub(crate) fn try_clone(&self) -> io::Result<Connection> {
        Ok(Connection { stream: self.stream.try_clone()?, times: self.times.clone() })
    }

    /// Answers a request that arrived at `since`.
    pub(crate) fn answer(&mut self, since: SystemTime, bytes: &[u8]) -> io::Result<()> {
        self.answers(&[since], bytes)
    }

    /// Answers with one call requests that arrived at these times.
    pub(crate) fn answers(&mut self, since: &[SystemTime], bytes: &[u8]) -> io::Result<()> {
        let times = since.iter().map(|since| since.elapsed().unwrap_or_default());
        self.times.0.lock().unwrap().extend(times);
        self.stream.write_all(bytes)
    }
}

fn receive(
    socket: impl AsRawFd,
    buffer: &mut [u8],
) -> io::Result<(usize, SystemTime, Option<nix::sys::socket::SockaddrStorage>)> {
    let mut space = nix::cmsg_space!(nix::sys::time::TimeSpec);
    let mut pieces = [IoSliceMut::new(buffer)];
    let message = recvmsg(socket.as_raw_fd(), &mut pieces, Some(&mut space), MsgFlags::empty())?;
    let stamp = message.cmsgs()?.find_map(|control| match control {
        ControlMessageOwned::ScmTimestampns(time) => Some(SystemTime::UNIX_EPOCH + Duration::from(time)),
        _ => None,
    });
    Ok((message.bytes, stamp.unwrap_or_else(SystemTime::now), message.address))
}

/// Serves each connection to `port` on a thread of its own, over both families, as long as the network lives.
pub(crate) fn serve(
    host: &Namespace,
    port: u16,
    handle: impl Fn(&mut Connection) -> io::Result<()> + Send + Sync + 'static,
) -> Times {
    let times = Times::default();
    let listener = host.run(|| TcpListener::bind((std::net::Ipv6Addr::UNSPECIFIED, port))).unwrap().unwrap();
    setsockopt(&listener, ReceiveTimestampns, &true).unwrap();
    let (handle, record) = (Arc::new(handle), times.clone());
    thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            stream.set_nodelay(true).unwrap();
            let mut connection = Connection { stream, times: record.clone() };
            let handle = handle.clone();
            // A client that goes away ends its connection with an error, which is no concern of the test's.
            thread::spawn(move || handle(&mut connection));
        }
    });
    times
}

/// Answers each datagram that is a number after as many milliseconds; one that is no number not at all.
pub(crate) fn serve_datagrams(host: &Namespace, address: SocketAddr) -> Times {
    let times = Times::default();
    let socket = host.run(|| UdpSocket::bind(address)).unwrap().unwrap();
    setsockopt(&socket, ReceiveTimestampns, &true).unwrap();
    let record = times.clone();
    thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((length, at, Some(peer))) = receive(socket.as_fd(), &mut buffer) {
            let Some(delay) = std::str::from_utf8(&buffer[..length]).ok().and_then(|text| text.parse().ok())
            else {
                continue;
            };
            thread::sleep(Duration::from_millis(delay));
            let peer: SocketAddr = match (peer.as_sockaddr_in(), peer.as_sockaddr_in6()) {
                (Some(peer), _) => SocketAddr::V4((*peer).into()),
                (_, Some(peer)) => SocketAddr::V6((*peer).into()),
                _ => continue,
            };
            record.0.lock().unwrap().push(at.elapsed().unwrap_or_default());
            let _ = socket.send_to(b"answer", peer);
        }
    });
    times
}

/// Serves a protocol that is nobody's: a line gives a delay in milliseconds and the answer's size.
pub(crate) fn serve_lines(host: &Namespace, port: u16) -> Times {
    serve(host, port, |connection| {
        let mut line = Vec::new();
        let mut since = None;
        let mut buffer = [0; 65536];
        loop {
            let (length, at) = connection.read(&mut buffer)?;
            if length == 0 {
                return Ok(());
            }
            since.get_or_insert(at);
            line.extend_from_slice(&buffer[..length]);
            if line.last() != Some(&b'\n') {
                continue;
            }
            let text = String::from_utf8_lossy(&line).into_owned();
            let mut words = text.split_whitespace().rev();
            let size: usize = words.next().and_then(|word| word.parse().ok()).unwrap_or(1);
            let delay = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
            thread::sleep(Duration::from_millis(delay));
            connection.answer(since.take().unwrap_or(at), &vec![b'.'; size])?;
            line.clear();
        }
    })
}
