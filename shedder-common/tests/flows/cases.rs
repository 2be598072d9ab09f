//! One case each.

use crate::connection::Connection;
use crate::{Bench, FLOW, MS, SECOND, SLOT};
use shedder_common::abi::Exchange::{self, *};
use shedder_common::flows::Waiting;
use shedder_common::ladder::Direction::{Egress, Ingress};
use shedder_common::words::ReflexWord;

const OPENED: [(Exchange, u32); 2] = [(Syn, 1), (SynAnswered, 1)];

fn opened_and(more: &[(Exchange, u32)]) -> Vec<(Exchange, u32)> {
    [&OPENED[..], more].concat()
}

#[test]
fn a_request_counts_from_its_first_byte_to_the_answers_first() {
    let bench = Bench::new();
    let connection = Connection::open(&bench);
    bench.wait(MS);
    connection.arrives(b"a question ");
    bench.wait(2 * MS);
    connection.arrives(b"in two parts");
    bench.wait(5 * MS);
    assert_eq!(bench.waiting(), 1);
    let waiting = bench.outstanding()[0];
    assert_eq!((waiting.service, waiting.waiting), (SLOT, Waiting::Request));
    assert!(bench.now() - waiting.since - 7 * MS < 64, "{waiting:?}");
    connection.leaves(b"an answer ");
    bench.wait(MS);
    connection.leaves(b"in two parts");
    bench.expect(&[7 * MS], &[], &opened_and(&[(Request, 1)]));
    assert_eq!(bench.outstanding(), []);
}

#[test]
fn a_request_counts_from_its_last_byte_where_that_is_asked_for() {
    let bench = Bench { since_last_byte: true, ..Bench::new() };
    let connection = Connection::open(&bench);
    connection.arrives(b"a question ");
    bench.wait(20 * MS);
    connection.arrives(b"in two parts");
    bench.wait(5 * MS);
    connection.leaves(b"an answer");
    bench.wait(20 * MS);
    connection.arrives(b"POST / HTTP/1.1\r\n\r\n");
    bench.wait(20 * MS);
    connection.arrives(b"body");
    bench.wait(6 * MS);
    connection.leaves(b"HTTP/1.1 200 OK\r\n\r\n");
    bench.wait(20 * MS);
    connection.arrives(b"more of the body");
    bench.expect(&[5 * MS, 6 * MS], &[], &opened_and(&[(Request, 2), (Status2xx, 1)]));
}

#[test]
fn a_flow_that_was_open_before_is_measured_from_its_next_request() {
    let bench = Bench::new();
    let connection = Connection::unseen(&bench, FLOW);
    connection.leaves(b"the rest of an answer");
    connection.arrives(b"question");
    bench.wait(3 * MS);
    connection.leaves(b"answer");
    bench.expect(&[3 * MS], &[], &[(Request, 1)]);
}

#[test]
fn what_is_sent_again_is_nothing_new() {
    let bench = Bench::new();
    let connection = Connection::open(&bench);
    let [first, answer] = [connection.sent[0].get(), connection.sent[1].get()];
    connection.arrives(b"question");
    bench.wait(MS);
    connection.deliver(Ingress, first, 16, b"question");
    bench.wait(MS);
    connection.leaves(b"answer");
    connection.deliver(Ingress, first, 16, b"question");
    // A probe of whether the connection lives: a byte from before.
    connection.deliver(Ingress, connection.sent[0].get().wrapping_sub(1), 16, b"n");
    bench.wait(MS);
    connection.deliver(Egress, answer, 16, b"answer");
    assert_eq!(bench.waiting(), 0);
    connection.arrives(b"question");
    bench.wait(9 * MS);
    connection.deliver(Egress, answer, 16, b"answer");
    assert_eq!(bench.waiting(), 1);
    // Sent again together with what is new.
    let mut again = b"answer".to_vec();
    again.extend(b"another");
    connection.deliver(Egress, answer, 16, &again);
    bench.expect(&[2 * MS, 9 * MS], &[], &opened_and(&[(Request, 2)]));
}

#[test]
fn what_arrives_out_of_order_is_one_request() {
    let bench = Bench::new();
    let connection = Connection::open(&bench);
    let first = connection.sent[0].get();
    connection.deliver(Ingress, first.wrapping_add(4), 16, b"tion");
    bench.wait(MS);
    connection.deliver(Ingress, first, 16, b"ques");
    bench.wait(MS);
    connection.leaves(b"answer");
    bench.expect(&[2 * MS], &[], &opened_and(&[(Request, 1)]));
}

#[test]
fn a_request_of_http_that_fills_a_hole_is_found() {
    let bench = Bench::new();
    let connection = Connection::open(&bench);
    connection.arrives(b"GET /1 HTTP/1.1\r\n\r\n");
    connection.leaves(b"HTTP/1.1 200 OK\r\n\r\n");
    let first = connection.sent[0].get();
    connection.deliver(Ingress, first.wrapping_add(20), 16, b"the body");
    bench.wait(MS);
    connection.deliver(Ingress, first, 16, b"POST / HTTP/1.1\r\n\r\n ");
    connection.deliver(Ingress, first, 16, b"POST / HTTP/1.1\r\n\r\n ");
    bench.wait(2 * MS);
    connection.leaves(b"HTTP/1.1 200 OK\r\n\r\n");
    bench.expect(&[0, 2 * MS], &[], &opened_and(&[(Request, 2), (Status2xx, 2)]));
}

#[test]
fn a_syn_is_waited_for_and_may_be_repeated() {
    let bench = Bench::new();
    let connection = Connection::unseen(&bench, FLOW);
    connection.syn();
    bench.wait(SECOND);
    connection.syn();
    bench.wait(SECOND);
    let waiting = bench.outstanding();
    assert_eq!(waiting.len(), 1);
    assert_eq!((waiting[0].waiting, waiting[0].count), (Waiting::Connection, 1));
    assert!(bench.now() - waiting[0].since - 2 * SECOND < 64);
    connection.agree();
    connection.agree();
    // The answer was lost, and it was answered.
    connection.syn();
    assert_eq!(bench.outstanding(), []);
    bench.expect(&[], &[], &[(Syn, 1), (SynRepeated, 1), (SynAnswered, 1)]);
}

#[test]
fn a_syn_that_nobody_minds_is_forgotten() {
    let bench = Bench::new();
    Connection::unseen(&bench, FLOW).syn();
    bench.wait(10 * SECOND);
    assert_eq!(bench.outstanding(), []);
}

#[test]
fn a_new_connection_in_the_place_of_another_ends_that_one() {
    let bench = Bench::new();
    let connection = Connection::open(&bench);
    connection.arrives(b"question");
    bench.wait(4 * MS);
    let other = Connection::unseen(&bench, FLOW);
    other.sent[0].set(77);
    other.syn();
    bench.wait(MS);
    other.agree();
    other.arrives(b"question");
    bench.wait(2 * MS);
    other.leaves(b"answer");
    bench.expect(&[2 * MS], &[4 * MS], &[(Syn, 2), (SynAnswered, 2), (Request, 2)]);
}

#[test]
fn a_reset_says_who_and_what() {
    let bench = Bench::new();
    let refused = Connection::unseen(&bench, FLOW);
    refused.syn();
    refused.deliver(Egress, 0, 4 | 16, b"");
    bench.expect(&[], &[], &[(Syn, 1), (Refused, 1)]);

    for (direction, ended) in [(Ingress, (ResetByPeer, 0)), (Egress, (ResetByHost, 1))] {
        let bench = Bench::new();
        let connection = Connection::open(&bench);
        connection.arrives(b"question");
        bench.wait(3 * MS);
        connection.resets(direction);
        assert_eq!(bench.outstanding(), []);
        let more = [(Request, 1), (ended.0, 1), (ClosedUnanswered, ended.1)];
        bench.expect(&[], &[3 * MS], &opened_and(&more));
    }
}

#[test]
fn a_reset_from_nowhere_is_not_believed() {
    let bench = Bench::new();
    let connection = Connection::open(&bench);
    connection.arrives(b"question");
    connection.deliver(Ingress, connection.sent[0].get().wrapping_add(1 << 30), 4, b"");
    connection.deliver(Ingress, connection.sent[0].get().wrapping_sub(1000), 4, b"");
    assert_eq!(bench.waiting(), 1);
}

#[test]
fn a_half_closed_connection_is_answered() {
    let bench = Bench::new();
    let connection = Connection::open(&bench);
    connection.arrives(b"question");
    connection.ends(Ingress);
    bench.wait(3 * MS);
    assert_eq!(bench.waiting(), 1);
    connection.leaves(b"answer");
    connection.ends(Egress);
    bench.expect(&[3 * MS], &[], &opened_and(&[(Request, 1)]));
}

#[test]
fn a_host_that_closes_leaves_what_waits_unanswered() {
    let bench = Bench::new();
    let connection = Connection::open(&bench);
    connection.arrives(b"question");
    bench.wait(3 * MS);
    connection.ends(Egress);
    bench.expect(&[], &[3 * MS], &opened_and(&[(Request, 1), (ClosedUnanswered, 1)]));
    assert_eq!(bench.outstanding(), []);
}

#[test]
fn what_egress_did_not_see_was_answered() {
    let bench = Bench::new();
    let connection = Connection::open(&bench);
    connection.arrives(b"question");
    bench.wait(50 * MS);
    // An answer leaves unseen; the peer's next request acknowledges it.
    let sent = &connection.sent[1];
    sent.set(sent.get().wrapping_add(100));
    connection.arrives(b"question");
    bench.wait(2 * MS);
    assert_eq!(bench.waiting(), 1);
    connection.leaves(b"answer");
    bench.expect(&[2 * MS], &[], &opened_and(&[(Request, 2)]));
}

#[test]
fn interim_answers_are_none_and_switching_is_one() {
    let bench = Bench::new();
    let connection = Connection::open(&bench);
    connection.arrives(b"POST / HTTP/1.1\r\nexpect: 100-continue\r\n\r\n");
    bench.wait(MS);
    connection.leaves(b"HTTP/1.1 100 Continue\r\n\r\n");
    connection.arrives(b"body");
    bench.wait(MS);
    connection.leaves(b"HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 404 Not Found\r\n\r\n");
    connection.arrives(b"GET /chat HTTP/1.1\r\n\r\n");
    bench.wait(3 * MS);
    connection.leaves(b"HTTP/1.1 101 Switching Protocols\r\n\r\n");
    // Another protocol from here on, whatever it looks like.
    connection.arrives(b"GET it");
    bench.wait(4 * MS);
    connection.leaves(b"got it");
    let more = [(Request, 3), (Status4xx, 1)];
    bench.expect(&[2 * MS, 3 * MS, 4 * MS], &[], &opened_and(&more));
}

#[test]
fn a_head_that_comes_byte_by_byte_is_one_request() {
    let bench = Bench::new();
    let connection = Connection::open(&bench);
    for _ in 0..3 {
        for byte in b"GET /GET HTTP/1.1\r\nhost: HEAD PUT POST\r\n\r\n" {
            connection.arrives(&[*byte]);
            bench.wait(MS);
        }
        for byte in b"HTTP/1.1 200 OK\r\n\r\n" {
            connection.leaves(&[*byte]);
        }
    }
    assert_eq!((bench.count(Request), bench.waiting()), (3, 0));
    bench.expect(&[42 * MS; 3], &[], &opened_and(&[(Request, 3)]));
}

#[test]
fn a_head_that_straddles_segments_is_read_whole() {
    let bench = Bench::new();
    let connection = Connection::open(&bench);
    for cut in 1..7 {
        connection.arrives(&b"GET / HTTP/1.1\r\n\r\n".repeat(2));
        bench.wait(MS);
        let interim = b"HTTP/1.1 100 Continue\r\n\r\n";
        let answers = b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 404 No\r\n\r\n";
        connection.leaves(&interim[..cut]);
        connection.leaves(&[&interim[cut..], &answers[..cut]].concat());
        connection.leaves(&answers[cut..]);
        assert_eq!((bench.count(Request), bench.waiting()), (2 * cut as u32, 0));
    }
    let more = [(Request, 12), (Status2xx, 6), (Status4xx, 6)];
    bench.expect(&[MS; 12], &[], &opened_and(&more));
}

#[test]
fn an_early_answer_ends_a_request_whose_body_still_arrives() {
    let bench = Bench::new();
    let connection = Connection::open(&bench);
    connection.arrives(b"PUT / HTTP/1.1\r\ncontent-length: 2000\r\n\r\n");
    bench.wait(MS);
    connection.leaves(b"HTTP/1.1 413 Too Large\r\n\r\n");
    connection.arrives(&[b'x'; 1000]);
    connection.arrives(&[b'x'; 1000]);
    assert_eq!(bench.waiting(), 0);
    bench.expect(&[MS], &[], &opened_and(&[(Request, 1), (Status4xx, 1)]));
}

#[test]
fn an_answer_to_nothing_is_counted() {
    let bench = Bench::new();
    let connection = Connection::open(&bench);
    connection.arrives(b"GET / HTTP/1.1\r\n\r\n");
    connection.leaves(b"HTTP/1.1 200 OK\r\n\r\n");
    connection.leaves(b"HTTP/1.1 408 Request Timeout\r\n\r\n");
    bench.expect(&[0], &[], &opened_and(&[(Request, 1), (Status2xx, 1), (Status4xx, 1), (Unmatched, 1)]));
}

#[test]
fn more_batches_than_there_is_room_for_are_all_answered() {
    let bench = Bench::new();
    let connection = Connection::open(&bench);
    for _ in 0..50 {
        connection.arrives(b"GET / HTTP/1.1\r\n\r\n");
    }
    assert_eq!(bench.waiting(), 50);
    bench.wait(MS);
    connection.leaves(&b"HTTP/1.1 200 OK\r\n\r\n".repeat(50));
    assert_eq!(bench.outstanding(), []);
    bench.expect(&[MS; 50], &[], &opened_and(&[(Request, 50), (Status2xx, 50)]));
}

#[test]
fn closing_tls_asks_for_nothing() {
    let bench = Bench::new();
    let connection = Connection::open(&bench);
    connection.arrives(&[0x17, 3, 3, 0, 40, 1, 2, 3]);
    connection.leaves(&[0x17, 3, 3, 0, 90, 1, 2, 3]);
    let mut alert = [0; 24];
    alert[..5].copy_from_slice(&[0x17, 3, 3, 0, 19]);
    connection.arrives(&alert);
    connection.ends(Egress);
    bench.expect(&[0], &[], &opened_and(&[(Request, 1)]));
}

#[test]
fn datagrams_wait_one_at_a_time_and_not_for_ever() {
    let bench = Bench::new();
    bench.datagram(Ingress);
    bench.wait(MS);
    bench.datagram(Ingress);
    bench.wait(MS);
    bench.datagram(Egress);
    bench.datagram(Egress);
    bench.datagram(Ingress);
    bench.wait(5 * SECOND);
    bench.datagram(Ingress);
    bench.wait(3 * MS);
    bench.datagram(Egress);
    bench.expect(&[2 * MS, 3 * MS], &[5 * SECOND], &[(Request, 3)]);
    assert_eq!(bench.outstanding(), []);
}

#[test]
fn late_answers_are_counted() {
    let bench = Bench::new();
    let late = &bench.host.control.services[SLOT].late;
    let connection = Connection::open(&bench);
    let ask = |time| {
        connection.arrives(b"question");
        bench.wait(time);
        connection.leaves(b"answer");
    };
    ask(90 * MS);
    assert_eq!(late.load(), 0);
    bench.host.control.services[SLOT].reflex.store(ReflexWord::new(50 * MS, 10, 0).0);
    [49 * MS, 60 * MS, 51 * MS].into_iter().for_each(ask);
    assert_eq!(late.load(), 2);
}
