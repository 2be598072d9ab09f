//! One request on a connection of its own.

use super::Outcome;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, RawFd};
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout_at;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: shedder\r\n\r\n";

/// An answer may have as many bytes.
const ANSWER: usize = 4096;

/// Sends a request from `source` and waits for its end, at most until `deadline`.
pub(super) async fn send(source: IpAddr, target: SocketAddr, deadline: Instant) -> Outcome {
    let deadline = deadline.into();
    let Ok(socket) = socket(source) else { return Outcome::NotSent };
    let stream = match timeout_at(deadline, socket.connect(target)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return connect_failure(&error),
        Err(_) => return Outcome::ConnectTimeout,
    };
    match timeout_at(deadline, exchange(stream)).await {
        Ok(Ok(true)) => Outcome::Answered,
        Ok(Ok(false)) => Outcome::BadAnswer,
        Ok(Err(_)) => Outcome::Reset,
        Err(_) => Outcome::AnswerTimeout,
    }
}

fn connect_failure(error: &io::Error) -> Outcome {
    match error.kind() {
        ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset => Outcome::Refused,
        // The kernel's own patience, or an unreachable host or network.
        ErrorKind::TimedOut | ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => {
            Outcome::ConnectTimeout
        }
        _ => Outcome::NotSent,
    }
}

/// A socket bound to `source`.
fn socket(source: IpAddr) -> io::Result<TcpSocket> {
    let socket = match source {
        IpAddr::V4(_) => TcpSocket::new_v4(),
        IpAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    if source.is_ipv6() {
        enable(socket.as_raw_fd(), libc::IPPROTO_IPV6, libc::IPV6_FREEBIND)?;
    }
    // A port is chosen when it connects, so that one port serves many sources and targets at the same time.
    enable(socket.as_raw_fd(), libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT)?;
    // Closing resets the connection, and leaves no port waiting.
    socket.set_zero_linger()?;
    socket.bind(SocketAddr::new(source, 0))?;
    Ok(socket)
}

/// Sets a socket option that is a flag.
fn enable(socket: RawFd, level: libc::c_int, option: libc::c_int) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the kernel reads as many bytes as the last argument says, all of them in `on`.
    let result = unsafe {
        libc::setsockopt(socket, level, option, (&raw const on).cast(), size_of_val(&on) as libc::socklen_t)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Whether a whole answer of status 200 came.
async fn exchange(mut stream: TcpStream) -> io::Result<bool> {
    stream.write_all(REQUEST).await?;
    let mut answer = Vec::with_capacity(256);
    loop {
        if stream.read_buf(&mut answer).await? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        if let Some(whole) = judge(&answer) {
            return Ok(whole);
        }
    }
}

/// Whether `answer` is whole and of status 200; none: more of it has to come.
fn judge(answer: &[u8]) -> Option<bool> {
    let Some(head) = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
        return (answer.len() > ANSWER).then_some(false);
    };
    let Ok(text) = std::str::from_utf8(&answer[..head]) else { return Some(false) };
    let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
    let Some(length) = length.filter(|&length| length <= ANSWER) else { return Some(false) };
    (answer.len() >= head + 4 + length).then(|| text.starts_with("HTTP/1.1 200 "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_judged_when_they_are_whole() {
        let whole = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc";
        for length in 0..whole.len() {
            assert_eq!(judge(&whole[..length]), None, "the first {length} bytes");
        }
        assert_eq!(judge(whole), Some(true));
        assert_eq!(judge(b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n"), Some(false));
        assert_eq!(judge(b"HTTP/1.1 200 OK\r\n\r\n"), Some(false));
        assert_eq!(judge(&[b'x'; ANSWER + 1]), Some(false));
    }
}
