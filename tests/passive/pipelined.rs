//! Requests that do not wait for the answers of those before.

use crate::http::{ANSWER, get, serve_http};
use crate::{Setup, TCP, connect};
use shedder_common::abi::Exchange;
use shedder_tests::privileged;
use std::io::{Read, Write};
use std::thread::sleep;
use std::time::Duration;

fn pipelined(label: &str, at_once: bool, send: impl Fn(&mut std::net::TcpStream) -> usize + Sync) {
    let setup = Setup::new(label);
    let times = serve_http(&setup.network.server, TCP, at_once);
    setup.client(|| {
        let mut stream = connect(setup.v4(TCP));
        for _ in 0..3 {
            let sent = send(&mut stream);
            stream.read_exact(&mut vec![0; sent * ANSWER]).unwrap();
        }
    });
    let seen = setup.agrees_with(&times);
    assert_eq!(seen.count(Exchange::Unmatched), 0, "{seen:?}");
    assert_eq!(seen.count(Exchange::Status2xx), seen.answers(), "{seen:?}");
}

#[test]
fn requests_in_one_write_are_told_apart() {
    if privileged::require() {
        pipelined("one-write", false, |stream| {
            stream.write_all(&get(10).repeat(8)).unwrap();
            8
        });
    }
}

#[test]
fn answers_in_one_write_are_told_apart() {
    if privileged::require() {
        pipelined("one-answer", true, |stream| {
            stream.write_all(&get(10).repeat(8)).unwrap();
            8
        });
    }
}

#[test]
fn requests_in_writes_of_their_own_are_told_apart() {
    if privileged::require() {
        pipelined("own-writes", false, |stream| {
            for _ in 0..12 {
                stream.write_all(&get(10)).unwrap();
                sleep(Duration::from_millis(3));
            }
            12
        });
    }
}

#[test]
fn requests_that_straddle_segments_are_told_apart() {
    if privileged::require() {
        pipelined("straddle", false, |stream| {
            // 200 requests of 41 to 43 bytes, over six segments whose ends lie anywhere in them.
            let all: Vec<u8> =
                (0..200).flat_map(|i| [get(1), vec![b'\r', b'\n'][..i % 2 * 2].to_vec()].concat()).collect();
            stream.write_all(&all).unwrap();
            200
        });
    }
}
