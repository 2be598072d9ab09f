//! One connection of the server: as much HTTP/1.1 as GET requests need.

use super::Shared;
use std::io;
use std::sync::atomic::Ordering;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A request's head may have as many bytes.
const HEAD: usize = 4096;

/// Answers requests until the client goes or asks for something that is no GET.
pub(super) async fn serve(mut stream: TcpStream, shared: &Shared) {
    // An answer is one write: there is nothing to wait for.
    let _ = stream.set_nodelay(true);
    let mut buffer = Vec::new();
    while let Ok(Some(length)) = head(&mut stream, &mut buffer).await {
        if !buffer.starts_with(b"GET ") {
            let _ = stream.write_all(REFUSAL).await;
            return;
        }
        buffer.drain(..length);
        let (queueing, number) = shared.pool.work().await;
        if stream.write_all(&answer(queueing.as_micros(), number)).await.is_err() {
            shared.abandoned.fetch_add(1, Ordering::Relaxed);
            return;
        }
    }
}

const REFUSAL: &[u8] =
    b"HTTP/1.1 405 Method Not Allowed\r\nallow: GET\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/// The answer's body is its request's number, counted from the server's start.
fn answer(queueing_us: u128, number: u64) -> Vec<u8> {
    let body = format!("{number}\n");
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nx-queueing-us: {queueing_us}\r\n\r\n{body}")
        .into_bytes()
}

/// Reads until `buffer` begins with a whole head, and returns that one's length; none where the client has no more.
async fn head(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<Option<usize>> {
    loop {
        if let Some(end) = buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            return Ok(Some(end + 4));
        }
        if buffer.len() >= HEAD {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a head without end"));
        }
        buffer.reserve(256);
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
}
