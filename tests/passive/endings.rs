//! Connections that are refused, repeated, reset and cut off.

use crate::server::serve;
use crate::{Setup, TCP, connect};
use nix::sys::socket::{Backlog, setsockopt, sockopt::Linger};
use shedder_common::abi::Exchange::{
    ClosedUnanswered, Refused, Request, ResetByHost, ResetByPeer, Syn, SynAnswered, SynRepeated,
};
use shedder_common::flows::Waiting;
use shedder_common::histogram::bucket;
use shedder_tests::privileged;
use shedder_tests::wait::until;
use std::io::Write;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::thread::sleep;
use std::time::Duration;

/// Closes a connection with a reset.
fn reset(stream: TcpStream) {
    setsockopt(&stream, Linger, &nix::libc::linger { l_onoff: 1, l_linger: 0 }).unwrap();
}

#[test]
fn a_refused_connection_is_counted() {
    if !privileged::require() {
        return;
    }
    let setup = Setup::new("refused");
    setup.client(|| {
        for _ in 0..5 {
            TcpStream::connect(setup.v4(TCP)).unwrap_err();
            TcpStream::connect(setup.v6(TCP)).unwrap_err();
        }
    });
    let seen = setup.tcp();
    assert_eq!(
        [Syn, SynAnswered, Refused, ResetByHost].map(|what| seen.count(what)),
        [10, 0, 10, 0],
        "{seen:?}"
    );
    assert_eq!(setup.attached.outstanding(), []);
}

#[test]
fn a_peer_that_resets_abandons_its_request() {
    if !privileged::require() {
        return;
    }
    let setup = Setup::new("reset-by-peer");
    serve(&setup.network.server, TCP, |connection| {
        while connection.read(&mut [0; 64])?.0 > 0 {}
        Ok(())
    });
    setup.client(|| {
        for _ in 0..5 {
            let mut stream = connect(setup.v4(TCP));
            stream.write_all(b"question").unwrap();
            sleep(Duration::from_millis(30));
            reset(stream);
        }
        // Idle, it abandons nothing.
        reset(connect(setup.v4(TCP)));
    });
    until("the resets to be counted", || setup.tcp().count(ResetByPeer) == 6);
    let seen = setup.tcp();
    assert_eq!((seen.requests(), seen.answers(), seen.abandoned()), (5, 0, 5), "{seen:?}");
    assert!(seen.abandoned_bucket(0.0) >= bucket(28_000_000), "{seen:?}");
    assert_eq!(seen.count(ClosedUnanswered), 0, "{seen:?}");
    assert_eq!(setup.attached.outstanding(), []);
}

#[test]
fn a_server_that_closes_or_resets_leaves_requests_unanswered() {
    if !privileged::require() {
        return;
    }
    let setup = Setup::new("closed");
    serve(&setup.network.server, TCP, |connection| {
        let mut question = [0; 64];
        let (length, _) = connection.read(&mut question)?;
        sleep(Duration::from_millis(30));
        if question[..length] == *b"reset" {
            setsockopt(&connection.stream, Linger, &nix::libc::linger { l_onoff: 1, l_linger: 0 })?;
        }
        Ok(())
    });
    setup.client(|| {
        for question in [b"reset", b"close", b"reset"] {
            let mut stream = connect(setup.v4(TCP));
            stream.write_all(question).unwrap();
            let _ = std::io::Read::read(&mut stream, &mut [0; 8]);
        }
    });
    until("the ends to be counted", || setup.tcp().abandoned() == 3);
    let seen = setup.tcp();
    let expected = [3, 3, 2, 0];
    assert_eq!(
        [Request, ClosedUnanswered, ResetByHost, Refused].map(|what| seen.count(what)),
        expected,
        "{seen:?}"
    );
    assert!(seen.abandoned_bucket(0.0) >= bucket(28_000_000), "{seen:?}");
    assert_eq!(setup.attached.outstanding(), []);
}

#[test]
fn a_peer_that_closes_without_waiting_is_still_answered_or_not() {
    if !privileged::require() {
        return;
    }
    let setup = Setup::new("gone");
    serve(&setup.network.server, TCP, |connection| {
        while connection.read(&mut [0; 64])?.0 > 0 {}
        sleep(Duration::from_millis(30));
        Ok(())
    });
    setup.client(|| {
        let mut stream = connect(setup.v4(TCP));
        stream.write_all(b"question").unwrap();
        stream.shutdown(Shutdown::Both).unwrap();
    });
    until("the end to be counted", || setup.tcp().count(ClosedUnanswered) == 1);
    let seen = setup.tcp();
    assert_eq!((seen.requests(), seen.answers(), seen.abandoned()), (1, 0, 1), "{seen:?}");
}

#[test]
fn connections_that_nobody_takes_are_asked_for_again() {
    if !privileged::require() {
        return;
    }
    let setup = Setup::new("backlog");
    // Nobody accepts, and two connections fill the queue.
    let address = setup.v4(TCP);
    let listener = setup.network.server.run(|| TcpListener::bind(address)).unwrap().unwrap();
    nix::sys::socket::listen(&listener.as_fd(), Backlog::new(1).unwrap()).unwrap();
    setup.client(|| {
        let taken: Vec<_> = (0..2).map(|_| connect(address)).collect();
        let refused = TcpStream::connect_timeout(&address, Duration::from_millis(2500));
        assert!(refused.is_err(), "the queue is full");
        drop(taken);
    });
    let seen = setup.tcp();
    // Linux asks again after a second.
    assert_eq!([Syn, SynAnswered, Refused].map(|what| seen.count(what)), [3, 2, 0], "{seen:?}");
    assert!((1..=3).contains(&seen.count(SynRepeated)), "{seen:?}");
    let waiting = setup.attached.outstanding();
    let [one] = waiting[..] else { panic!("one connection waits: {waiting:?}") };
    assert_eq!((one.waiting, one.service, one.count), (Waiting::Connection, 0, 1));
}
