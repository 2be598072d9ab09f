//! Places in the table.

use crate::connection::Connection;
use crate::{Bench, MS, SECOND};
use shedder_common::abi::Exchange::{NoPlace, Request};
use shedder_common::bucket::WAYS;

/// Flows of one set.
fn flow(i: usize) -> u64 {
    (1 + i as u64) << 32 | 5
}

#[test]
fn what_waits_is_not_displaced() {
    let bench = Bench::new();
    let connections: Vec<_> = (0..WAYS).map(|i| Connection::unseen(&bench, flow(i))).collect();
    connections.iter().for_each(|connection| connection.arrives(b"question"));
    bench.wait(10 * SECOND);
    Connection::unseen(&bench, flow(WAYS)).arrives(b"question");
    assert_eq!((bench.count(NoPlace), bench.count(Request), bench.waiting()), (1, 8, 8));
    connections.iter().for_each(|connection| connection.leaves(b"answer"));
    bench.expect(&[10 * SECOND; WAYS], &[], &[(Request, 8), (NoPlace, 1)]);
}

#[test]
fn the_one_that_was_silent_longest_makes_room() {
    let bench = Bench::new();
    let connections: Vec<_> = (0..WAYS).map(|i| Connection::unseen(&bench, flow(i))).collect();
    for (i, connection) in connections.iter().enumerate() {
        bench.wait(SECOND);
        connection.arrives(b"question");
        if i != 1 {
            connection.leaves(b"answer");
        }
    }
    connections[0].arrives(b"question");
    // Of those on which nothing waits the third was silent longest.
    Connection::unseen(&bench, flow(WAYS)).arrives(b"question");
    assert_eq!((bench.count(NoPlace), bench.waiting()), (0, 3));
    bench.wait(MS);
    connections[2].leaves(b"nobody knows this flow");
    assert_eq!(bench.waiting(), 3);
    connections[..2].iter().for_each(|connection| connection.leaves(b"answer"));
    assert_eq!(bench.waiting(), 1);
}

#[test]
fn what_waits_in_vain_is_forgotten_at_last() {
    let bench = Bench::new();
    let connections: Vec<_> = (0..WAYS).map(|i| Connection::unseen(&bench, flow(i))).collect();
    connections.iter().for_each(|connection| connection.arrives(b"question"));
    bench.wait(138 * SECOND);
    assert_eq!(bench.outstanding(), []);
    Connection::unseen(&bench, flow(WAYS)).arrives(b"question");
    assert_eq!((bench.count(NoPlace), bench.waiting()), (0, 1));
}
