//! What is not measured: flows that are not sampled, and what is dropped or would be.

use crate::server::serve_lines;
use crate::{SERVICES, Setup, TCP, ask, connect};
use shedder_common::abi::Exchange;
use shedder_common::words::ReflexWord;
use shedder_tests::privileged;
use shedder_tests::shedder::Shedder;

#[test]
fn a_share_of_the_flows_is_measured_whole() {
    if !privileged::require() {
        return;
    }
    let setup = Setup::new("sampled");
    serve_lines(&setup.network.server, TCP);
    setup.attached.change_control(0, |control| control.skip.store(3 << 30));
    setup.client(|| {
        for _ in 0..400 {
            let mut stream = connect(setup.v4(TCP));
            (0..2).for_each(|_| ask(&mut stream, b"0 10\n", 10));
        }
    });
    let seen = setup.tcp();
    let flows = seen.count(Exchange::Syn);
    // A quarter of 400: 8.7 is the standard deviation.
    assert!((55..=145).contains(&flows), "{seen:?}");
    assert_eq!((seen.requests(), seen.answers()), (2 * flows, 2 * flows), "{seen:?}");
}

#[test]
fn a_flow_that_was_not_measured_for_a_while_begins_anew() {
    if !privileged::require() {
        return;
    }
    let setup = Setup::new("resumed");
    serve_lines(&setup.network.server, TCP);
    let skip = |skip: u64| setup.attached.change_control(0, |control| control.skip.store(skip));
    setup.client(|| {
        let mut stream = connect(setup.v4(TCP));
        std::io::Write::write_all(&mut stream, b"200 10\n").unwrap();
        std::thread::sleep(std::time::Duration::from_millis(50));
        // The answer leaves unseen.
        skip(u32::MAX as u64 + 1);
        std::io::Read::read_exact(&mut stream, &mut [0; 10]).unwrap();
        ask(&mut stream, b"0 10\n", 10);
        skip(0);
        std::thread::sleep(std::time::Duration::from_millis(300));
        ask(&mut stream, b"20 10\n", 10);
    });
    let seen = setup.tcp();
    assert_eq!((seen.requests(), seen.answers()), (2, 1), "{seen:?}");
    let latest = shedder_common::histogram::bucket(150_000_000);
    assert!(seen.answered_bucket(1.0) < latest, "the next request has its own time: {seen:?}");
    assert_eq!(setup.attached.outstanding(), []);
}

#[test]
fn what_is_shed_is_not_measured() {
    if !privileged::require() {
        return;
    }
    for (label, dry_run) in [("shed", false), ("shed-dry", true)] {
        let setup = Setup::with(label, &format!("dry_run = {dry_run}\n{SERVICES}"));
        serve_lines(&setup.network.server, TCP);
        setup.client(|| ask(&mut connect(setup.v4(TCP)), b"0 10\n", 10));
        Shedder::new(&setup.network).ok(&["shed", "100"]);
        setup.client(|| {
            let timeout = std::time::Duration::from_millis(300);
            for _ in 0..3 {
                let connected = std::net::TcpStream::connect_timeout(&setup.v4(TCP), timeout);
                assert_eq!(connected.is_ok(), dry_run);
            }
        });
        let seen = setup.tcp();
        assert_eq!((seen.count(Exchange::Syn), seen.requests()), (1, 1), "{label}: {seen:?}");
        assert_eq!(setup.attached.outstanding(), [], "{label}");
    }
}

#[test]
fn late_answers_are_counted_for_the_reflex() {
    if !privileged::require() {
        return;
    }
    let setup = Setup::new("late");
    serve_lines(&setup.network.server, TCP);
    let reflex = ReflexWord::new(50_000_000, 1000, 0);
    setup.attached.change_control(0, |control| control.reflex.store(reflex.0));
    setup.client(|| {
        let mut stream = connect(setup.v4(TCP));
        for delay in [1, 1, 1, 60, 70, 80] {
            ask(&mut stream, format!("{delay} 10\n").as_bytes(), 10);
        }
    });
    assert_eq!(setup.attached.late(0), 3);
}
