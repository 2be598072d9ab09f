//! Requests of many segments.

use crate::http::{ANSWER, serve_http};
use crate::server::serve_lines;
use crate::{SERVICES, Setup, TCP, ask, connect};
use shedder_common::histogram::bucket;
use shedder_tests::privileged;
use std::io::{Read, Write};
use std::thread::sleep;
use std::time::Duration;

const MB: usize = 1 << 20;

#[test]
fn a_slow_sender_counts_from_the_first_byte() {
    if !privileged::require() {
        return;
    }
    let setup = Setup::new("slow-sender");
    let times = serve_lines(&setup.network.server, TCP);
    setup.client(|| {
        let mut stream = connect(setup.v4(TCP));
        for _ in 0..5 {
            for piece in [&b"2"[..], b"0 1", b"0"] {
                stream.write_all(piece).unwrap();
                sleep(Duration::from_millis(15));
            }
            ask(&mut stream, b"\n", 10);
        }
    });
    let seen = setup.agrees_with(&times);
    assert!(seen.answered_bucket(0.0) >= bucket(64_000_000), "{seen:?}");
}

#[test]
fn a_slow_sender_counts_from_the_last_byte_where_that_is_asked_for() {
    if !privileged::require() {
        return;
    }
    let config = SERVICES.replace("kind = \"passive\"", "kind = \"passive\", since = \"last-byte\"");
    let setup = Setup::with("last-byte", &config);
    let times = serve_lines(&setup.network.server, TCP);
    setup.client(|| {
        let mut stream = connect(setup.v4(TCP));
        for _ in 0..5 {
            for piece in [&b"2"[..], b"0 1", b"0"] {
                stream.write_all(piece).unwrap();
                sleep(Duration::from_millis(15));
            }
            ask(&mut stream, b"\n", 10);
        }
    });
    setup.answers(5);
    let seen = setup.tcp();
    assert_eq!((seen.requests(), seen.answers(), times.sorted().len()), (5, 5, 5), "{seen:?}");
    assert!((bucket(20_000_000) - 1..bucket(40_000_000)).contains(&seen.answered_bucket(0.5)), "{seen:?}");
}

#[test]
fn a_slow_sender_of_http_counts_from_the_first_byte() {
    if !privileged::require() {
        return;
    }
    let setup = Setup::new("slow-http");
    let times = serve_http(&setup.network.server, TCP, false);
    setup.client(|| {
        let mut stream = connect(setup.v4(TCP));
        for _ in 0..3 {
            for byte in b"GET /10/200 HTTP/1.1\r\nhost: DELETE\r\n\r" {
                stream.write_all(&[*byte]).unwrap();
                sleep(Duration::from_millis(1));
            }
            ask(&mut stream, b"\n", ANSWER);
        }
    });
    let seen = setup.agrees_with(&times);
    assert!(seen.answered_bucket(0.0) >= bucket(48_000_000), "{seen:?}");
}

#[test]
fn an_upload_is_one_request() {
    if !privileged::require() {
        return;
    }
    let setup = Setup::new("upload");
    let times = serve_http(&setup.network.server, TCP, false);
    setup.client(|| {
        let mut stream = connect(setup.v4(TCP));
        for _ in 0..4 {
            let mut request =
                format!("POST /10/200 HTTP/1.1\r\ncontent-length: {}\r\n\r\n", 4 * MB).into_bytes();
            request.resize(request.len() + 4 * MB, b'x');
            ask(&mut stream, &request, ANSWER);
        }
    });
    setup.agrees_with(&times);
}

#[test]
fn an_interim_answer_is_none() {
    if !privileged::require() {
        return;
    }
    const CONTINUE: usize = "HTTP/1.1 100 Continue\r\n\r\n".len();
    let setup = Setup::new("expect");
    let times = serve_http(&setup.network.server, TCP, false);
    setup.client(|| {
        let mut stream = connect(setup.v4(TCP));
        for _ in 0..4 {
            let head =
                format!("PUT /20/201 HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: {MB}\r\n\r\n");
            ask(&mut stream, head.as_bytes(), CONTINUE);
            stream.write_all(&vec![b'x'; MB]).unwrap();
            stream.read_exact(&mut [0; ANSWER]).unwrap();
        }
    });
    setup.agrees_with(&times);
}
