//! Connections that are kept, and one for each request.

use crate::http::{ANSWER, get, serve_http};
use crate::server::serve_lines;
use crate::{Setup, TCP, ask, connect};
use shedder_common::abi::Exchange;
use shedder_tests::privileged;

/// Delays in milliseconds whose quantiles are apart.
fn delays() -> impl Iterator<Item = u64> {
    (0..40).map(|i| match i % 20 {
        0..14 => 8,
        14..19 => 20,
        _ => 45,
    })
}

#[test]
fn a_kept_connection_is_measured_request_by_request() {
    if !privileged::require() {
        return;
    }
    let setup = Setup::new("kept");
    let times = serve_lines(&setup.network.server, TCP);
    setup.client(|| {
        let mut stream = connect(setup.v4(TCP));
        delays().for_each(|delay| ask(&mut stream, format!("{delay} 10\n").as_bytes(), 10));
    });
    let seen = setup.agrees_with(&times);
    assert_eq!((seen.count(Exchange::Syn), seen.count(Exchange::SynAnswered)), (1, 1), "{seen:?}");
}

#[test]
fn new_connections_are_measured_over_both_families() {
    if !privileged::require() {
        return;
    }
    let setup = Setup::new("new");
    let times = serve_lines(&setup.network.server, TCP);
    setup.client(|| {
        for (i, delay) in delays().enumerate() {
            let address = if i % 2 == 0 { setup.v4(TCP) } else { setup.v6(TCP) };
            ask(&mut connect(address), format!("{delay} 10\n").as_bytes(), 10);
        }
    });
    let seen = setup.agrees_with(&times);
    assert_eq!((seen.count(Exchange::Syn), seen.count(Exchange::SynAnswered)), (40, 40), "{seen:?}");
    assert_eq!((seen.abandoned(), seen.count(Exchange::ClosedUnanswered)), (0, 0), "{seen:?}");
}

#[test]
fn many_connections_at_once_wait_in_the_table() {
    if !privileged::require() {
        return;
    }
    let setup = Setup::new("many");
    let times = serve_lines(&setup.network.server, TCP);
    setup.client(|| {
        let mut streams: Vec<_> = (0..50).map(|_| connect(setup.v4(TCP))).collect();
        for stream in &mut streams {
            std::io::Write::write_all(stream, b"300 10\n").unwrap();
        }
        let waiting = setup.attached.outstanding();
        assert_eq!(waiting.iter().map(|one| one.count).sum::<u32>(), 50, "{waiting:?}");
        for stream in &mut streams {
            std::io::Read::read_exact(stream, &mut [0; 10]).unwrap();
        }
    });
    setup.agrees_with(&times);
}

#[test]
fn the_status_of_plaintext_answers_is_counted() {
    if !privileged::require() {
        return;
    }
    let setup = Setup::new("status");
    let times = serve_http(&setup.network.server, TCP, false);
    setup.client(|| {
        let mut stream = connect(setup.v6(TCP));
        ask(&mut stream, &get(10), ANSWER);
        for status in [204, 304, 404, 503, 500, 200] {
            let request = format!("GET /10/{status} HTTP/1.1\r\nhost: test\r\nx: {status}\r\n\r\n");
            ask(&mut stream, request.as_bytes(), ANSWER);
        }
    });
    let seen = setup.agrees_with(&times);
    let classes = [Exchange::Status2xx, Exchange::Status3xx, Exchange::Status4xx, Exchange::Status5xx];
    assert_eq!(classes.map(|class| seen.count(class)), [3, 1, 1, 2], "{seen:?}");
}
