//! What leaves without having been asked for, and what leaves slowly.

use crate::http::{ANSWER, serve_http};
use crate::server::{serve, serve_lines};
use crate::{Setup, TCP, ask, connect};
use shedder_tests::privileged;
use std::io::{Read, Write};
use std::thread::sleep;
use std::time::Duration;

#[test]
fn what_a_server_pushes_is_no_answer() {
    if !privileged::require() {
        return;
    }
    let setup = Setup::new("push");
    let times = serve(&setup.network.server, TCP, |connection| {
        // A greeting, then an answer, then what nobody asked for.
        connection.stream.write_all(b"hello")?;
        let (_, since) = connection.read(&mut [0; 64])?;
        sleep(Duration::from_millis(20));
        connection.answer(since, b"answer")?;
        for _ in 0..5 {
            sleep(Duration::from_millis(5));
            connection.stream.write_all(b"event")?;
        }
        connection.read(&mut [0; 64]).map(drop)
    });
    setup.client(|| {
        let mut stream = connect(setup.v4(TCP));
        stream.read_exact(&mut [0; 5]).unwrap();
        ask(&mut stream, b"question", "answer".len() + 5 * "event".len());
    });
    setup.agrees_with(&times);
}

#[test]
fn a_slow_reader_is_not_waited_for() {
    if !privileged::require() {
        return;
    }
    const SIZE: usize = 8 << 20;
    let setup = Setup::new("slow-reader");
    let times = serve_lines(&setup.network.server, TCP);
    setup.client(|| {
        let mut stream = connect(setup.v4(TCP));
        for _ in 0..3 {
            stream.write_all(format!("20 {SIZE}\n").as_bytes()).unwrap();
            sleep(Duration::from_millis(150));
            stream.read_exact(&mut vec![0; SIZE]).unwrap();
        }
    });
    setup.agrees_with(&times);
}

#[test]
fn the_next_request_is_not_answered_by_the_rest_of_a_large_body() {
    if !privileged::require() {
        return;
    }
    const SIZE: usize = 4 << 20;
    let setup = Setup::new("body");
    let times = serve(&setup.network.server, TCP, |connection| {
        let (_, first) = connection.read(&mut [0; 1024])?;
        let mut answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {SIZE}\r\n\r\n").into_bytes();
        answer.resize(answer.len() + SIZE, b'.');
        sleep(Duration::from_millis(10));
        // The next request arrives while this one's answer leaves.
        connection.answer(first, &answer)?;
        let (_, second) = connection.read(&mut [0; 1024])?;
        sleep(Duration::from_millis(10));
        connection.answer(second, b"HTTP/1.1 204 No\r\n\r\n")?;
        connection.read(&mut [0; 64]).map(drop)
    });
    setup.client(|| {
        let mut stream = connect(setup.v4(TCP));
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        sleep(Duration::from_millis(60));
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        sleep(Duration::from_millis(100));
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {SIZE}\r\n\r\n").len();
        stream.read_exact(&mut vec![0; head + SIZE + b"HTTP/1.1 204 No\r\n\r\n".len()]).unwrap();
    });
    setup.agrees_with(&times);
}

#[test]
fn what_only_looks_like_http_is_measured() {
    if !privileged::require() {
        return;
    }
    let setup = Setup::new("no-http");
    let times = serve_lines(&setup.network.server, TCP);
    setup.client(|| {
        let mut stream = connect(setup.v4(TCP));
        for _ in 0..10 {
            ask(&mut stream, b"GET 10 4\n", 4);
        }
    });
    setup.agrees_with(&times);
}

#[test]
fn what_follows_a_switch_of_protocols_is_measured() {
    if !privileged::require() {
        return;
    }
    let setup = Setup::new("switch");
    let times = serve(&setup.network.server, TCP, |connection| {
        for answer in [&b"HTTP/1.1 101 Switching\r\n\r\n"[..], b"frame", b"frame"] {
            let (_, since) = connection.read(&mut [0; 1024])?;
            sleep(Duration::from_millis(20));
            connection.answer(since, answer)?;
        }
        connection.read(&mut [0; 64]).map(drop)
    });
    setup.client(|| {
        let mut stream = connect(setup.v4(TCP));
        ask(
            &mut stream,
            b"GET / HTTP/1.1\r\nupgrade: other\r\n\r\n",
            b"HTTP/1.1 101 Switching\r\n\r\n".len(),
        );
        ask(&mut stream, b"frame", 5);
        ask(&mut stream, b"frame", 5);
    });
    setup.agrees_with(&times);
}

#[test]
fn a_half_closed_connection_is_answered() {
    if !privileged::require() {
        return;
    }
    let setup = Setup::new("half-closed");
    let times = serve_http(&setup.network.server, TCP, false);
    setup.client(|| {
        for _ in 0..5 {
            let mut stream = connect(setup.v4(TCP));
            stream.write_all(&crate::http::get(20)).unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            stream.read_exact(&mut [0; ANSWER]).unwrap();
        }
    });
    let seen = setup.agrees_with(&times);
    assert_eq!(seen.abandoned(), 0, "{seen:?}");
}
