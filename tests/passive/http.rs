//! A server of HTTP/1.1: a request's path gives its delay in milliseconds, and the status of its answer.

use crate::server::{Connection, Times, serve};
use shedder_tests::netns::Namespace;
use std::io::{self, Write};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, SystemTime};

/// Bytes of an answer.
pub(crate) const ANSWER: usize = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n..".len();

/// A request that is answered after as many milliseconds.
pub(crate) fn get(delay: u64) -> Vec<u8> {
    format!("GET /{delay}/200 HTTP/1.1\r\nhost: test\r\n\r\n").into_bytes()
}

/// A request, as far as it was read. Its head byte by byte: the stamp of a read is that of its last byte.
#[derive(Default)]
struct Request {
    held: Vec<u8>,
    /// When the first byte arrived.
    since: Option<SystemTime>,
}

impl Request {
    /// Reads until `held` has as many bytes, and no more; false where the client has no more.
    fn fill(&mut self, connection: &mut Connection, length: usize) -> io::Result<bool> {
        let mut buffer = [0; 65536];
        while self.held.len() < length {
            let wanted = (length - self.held.len()).min(buffer.len());
            let (read, at) = connection.read(&mut buffer[..wanted])?;
            if read == 0 {
                return Ok(false);
            }
            self.held.extend_from_slice(&buffer[..read]);
            self.since.get_or_insert(at);
        }
        Ok(true)
    }

    /// Reads one whole; none where the client has no more.
    fn read(connection: &mut Connection) -> io::Result<Option<Request>> {
        let mut request = Request::default();
        while !request.held.ends_with(b"\r\n\r\n") {
            if !request.fill(connection, request.held.len() + 1)? {
                return Ok(None);
            }
        }
        let text = request.text();
        if text.contains("expect: 100-continue") {
            thread::sleep(Duration::from_millis(5));
            connection.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let body = text.lines().find_map(|line| line.strip_prefix("content-length:"));
        let body: usize = body.and_then(|value| value.trim().parse().ok()).unwrap_or(0);
        Ok(request.fill(connection, request.held.len() + body)?.then_some(request))
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.held).to_ascii_lowercase()
    }

    /// The delay and the status that its path asks for.
    fn wishes(&self) -> (Duration, u16) {
        let text = self.text();
        let mut words = text.split('/').skip(1).map(|word| word.split_whitespace().next().unwrap_or(""));
        let delay = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
        let status = words.next().and_then(|word| word.parse().ok()).unwrap_or(200);
        (Duration::from_millis(delay), status)
    }
}

/// Reads all the requests of a connection as they arrive: what lies in the kernel until it is read is stamped with the time
/// of what arrived last.
fn read_all(connection: &mut Connection, requests: &Sender<Request>) -> io::Result<()> {
    while let Some(request) = Request::read(connection)? {
        let _ = requests.send(request);
    }
    Ok(())
}

/// Serves HTTP/1.1. `at_once` writes the answers of requests that wait together with one call, when the last is done.
pub(crate) fn serve_http(host: &Namespace, port: u16, at_once: bool) -> Times {
    serve(host, port, move |connection| {
        let (sender, requests) = channel::<Request>();
        let mut reading = connection.try_clone()?;
        thread::spawn(move || read_all(&mut reading, &sender));
        let mut next = requests.recv().ok();
        while let Some(first) = next.take() {
            let (mut since, mut answers) = (Vec::new(), String::new());
            let mut request = first;
            loop {
                let (delay, status) = request.wishes();
                thread::sleep(delay);
                since.extend(request.since);
                answers += &format!("HTTP/1.1 {status} OK\r\ncontent-length: 2\r\n\r\n..");
                match requests.try_recv() {
                    Ok(waiting) if at_once => request = waiting,
                    other => {
                        next = other.ok();
                        break;
                    }
                }
            }
            connection.answers(&since, answers.as_bytes())?;
            if next.is_none() {
                next = requests.recv().ok();
            }
        }
        Ok(())
    })
}
