//! Streams cut anywhere, against a model that knows where each request and each answer begins.

use crate::connection::Connection;
use crate::{Bench, MS, times};
use proptest::prelude::*;
use shedder_common::abi::Exchange;
use shedder_common::histogram::bucket;
use shedder_common::ladder::Direction::{Egress, Ingress};

/// The bytes of one direction, and where in them each request or answer begins and has its mark behind it.
#[derive(Clone, Debug, Default)]
struct Stream {
    bytes: Vec<u8>,
    /// Where each begins, and where it is whole.
    units: Vec<(usize, usize)>,
}

/// One side's next step.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// As many bytes of requests arrive.
    Arrive(usize),
    /// As many bytes of answers leave, as far as there are requests for them.
    Leave(usize),
    /// What arrived last does so again.
    ArriveAgain,
    /// What left last does so again.
    LeaveAgain,
    /// Time passes.
    Wait(u64),
}

fn steps(arrivals: impl Strategy<Value = usize>, count: usize) -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => arrivals.prop_map(Step::Arrive),
        4 => (1usize..4000).prop_map(Step::Leave),
        2 => (1usize..60).prop_map(Step::Leave),
        1 => Just(Step::ArriveAgain),
        1 => Just(Step::LeaveAgain),
        4 => (1u64..50).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, count)
}

/// Runs the steps and then the rest of both streams. Returns the buckets that the model expects: of the time from the
/// segment with a request's first byte to the one that completes its answer's mark.
fn run(bench: &Bench, requests: &Stream, answers: &Stream, steps: &[Step], whole: usize) -> Vec<usize> {
    let connection = Connection::open(bench);
    let (mut arrived, mut left) = (0, 0);
    let mut last: [Option<(u32, Vec<u8>)>; 2] = [None, None];
    let (mut begun, mut expected) = (vec![], vec![]);
    let rest = std::iter::repeat_with(|| [Step::Arrive(whole), Step::Wait(3), Step::Leave(1400)]).flatten();
    for step in steps.iter().copied().chain(rest) {
        match step {
            Step::Arrive(length) => {
                let end = (arrived + length).min(requests.bytes.len());
                if end == arrived {
                    continue;
                }
                begun.extend(
                    requests
                        .units
                        .iter()
                        .filter(|(begin, _)| (arrived..end).contains(begin))
                        .map(|_| bench.now()),
                );
                let bytes = requests.bytes[arrived..end].to_vec();
                last[0] = Some((connection.sent[0].get(), bytes.clone()));
                connection.arrives(&bytes);
                arrived = end;
            }
            Step::Leave(length) => {
                // No answer leaves before its request is whole.
                let whole = requests.units.iter().filter(|(_, end)| *end <= arrived).count();
                let may = answers.units.get(whole).map_or(answers.bytes.len(), |(begin, _)| *begin);
                let end = (left + length).min(may);
                if end <= left {
                    continue;
                }
                // An answer is told by its first seven bytes.
                let told = |(begin, _): &&(usize, usize)| (left..end).contains(&(begin + 6));
                for _ in answers.units.iter().filter(told) {
                    expected.push(bucket(bench.now() - begun[expected.len()]));
                }
                let bytes = answers.bytes[left..end].to_vec();
                last[1] = Some((connection.sent[1].get(), bytes.clone()));
                connection.leaves(&bytes);
                left = end;
            }
            Step::ArriveAgain => {
                if let Some((sequence, bytes)) = &last[0] {
                    connection.deliver(Ingress, *sequence, 16, bytes);
                }
            }
            Step::LeaveAgain => {
                if let Some((sequence, bytes)) = &last[1] {
                    connection.deliver(Egress, *sequence, 16, bytes);
                }
            }
            Step::Wait(time) => bench.wait(time * MS),
        }
        if arrived == requests.bytes.len() && left == answers.bytes.len() {
            break;
        }
    }
    expected.sort_unstable();
    expected
}

fn stream(units: impl Iterator<Item = String>) -> Stream {
    units.fold(Stream::default(), |mut stream, unit| {
        let begin = stream.bytes.len();
        stream.bytes.extend(unit.as_bytes());
        stream.units.push((begin, stream.bytes.len()));
        stream
    })
}

fn answer(i: usize, body: usize) -> String {
    let status = [200, 204, 301, 404, 503][i % 5];
    format!("HTTP/1.1 {status} Whatever\r\nx: HHTTP/ HTTP\r\n\r\n{}", "H".repeat(body))
}

fn check(bench: &Bench, expected: &[usize], count: u32) -> Result<(), TestCaseError> {
    let measured = bench.measured();
    let of = |what: Exchange| measured.exchanges[what as usize];
    prop_assert_eq!(of(Exchange::Request), count);
    prop_assert_eq!(of(Exchange::Unmatched), 0);
    prop_assert_eq!(&times(&measured.answered)[..], expected);
    prop_assert_eq!(bench.outstanding(), vec![]);
    Ok(())
}

fn cases() -> ProptestConfig {
    ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases())]

    /// Pipelined requests, several in each segment, whose ends lie anywhere; answers cut anywhere.
    #[test]
    fn pipelined_requests_have_their_times(
        steps in steps(200usize..1400, 30),
        requests in 1usize..60,
        bodies in prop::collection::vec(0usize..300, 60),
    ) {
        let bench = Bench::new();
        let asked = stream((0..requests).map(|i| format!("GET /{i:04} HTTP/1.1\r\nhost: HTTP\r\n\r\n")));
        let answered = stream((0..requests).map(|i| answer(i, bodies[i])));
        let expected = run(&bench, &asked, &answered, &steps, 1400);
        // A request that begins at the end of a segment is told in the next one, by the end of its line.
        let measured = bench.measured();
        prop_assert_eq!(measured.exchanges[Exchange::Request as usize], requests as u32);
        prop_assert_eq!(measured.exchanges[Exchange::Unmatched as usize], 0);
        prop_assert_eq!(times(&measured.answered).len(), expected.len());
        prop_assert_eq!(bench.outstanding(), vec![]);
    }

    /// Requests in segments of their own, of any length, each a while after the one before.
    #[test]
    fn requests_in_segments_of_their_own_have_their_times(
        steps in steps(Just(40), 60),
        requests in 1usize..40,
        bodies in prop::collection::vec(0usize..300, 40),
    ) {
        let bench = Bench::new();
        let line = |i: usize| format!("PUT /{i:04} HTTP/1.1\r\nhost: HTTP/1\r\n\r\nHTTP");
        prop_assert_eq!(line(0).len(), 40);
        let asked = stream((0..requests).map(line));
        let answered = stream((0..requests).map(|i| answer(i, bodies[i])));
        let expected = run(&bench, &asked, &answered, &steps, 40);
        // 32 batches have times of their own.
        if requests <= 32 {
            check(&bench, &expected, requests as u32)?;
        }
        let classes = [Exchange::Status2xx, Exchange::Status3xx, Exchange::Status4xx, Exchange::Status5xx];
        let counted: u32 = classes.iter().map(|&class| bench.count(class)).sum();
        prop_assert!(counted <= requests as u32);
    }

    /// A protocol that nobody knows, one request at a time, cut anywhere.
    #[test]
    fn opaque_requests_have_their_times(
        pieces in prop::collection::vec((1usize..300, 1usize..4000, 1u64..40, any::<bool>()), 1..40),
    ) {
        let bench = Bench::new();
        let connection = Connection::open(&bench);
        let mut expected = vec![];
        for (asked, answered, time, again) in &pieces {
            let (request, answer) = (vec![b'?'; *asked], vec![b'!'; *answered]);
            let since = bench.now();
            let sequence = connection.sent[0].get();
            for piece in request.chunks(100) {
                connection.arrives(piece);
                bench.wait(MS);
            }
            bench.wait(time * MS);
            if *again {
                connection.deliver(Ingress, sequence, 16, &request[..request.len().min(100)]);
            }
            expected.push(bucket(bench.now() - since));
            answer.chunks(1400).for_each(|piece| connection.leaves(piece));
        }
        expected.sort_unstable();
        check(&bench, &expected, pieces.len() as u32)?;
    }

    /// Whatever arrives and leaves, nothing panics, and no more is answered than was asked.
    #[test]
    fn no_segments_break_it(
        segments in prop::collection::vec(
            (any::<bool>(), 0u32..6000, any::<u8>(), prop_oneof![
                Just(b"GET / HTTP/1.1\r\n\r\n".to_vec()),
                Just(b"HTTP/1.1 200 OK\r\n\r\n".to_vec()),
                prop::collection::vec(any::<u8>(), 0..200),
            ], 0u64..3000),
            1..200,
        ),
    ) {
        let bench = Bench::new();
        let connection = Connection::unseen(&bench, 7);
        for (arrives, sequence, flags, bytes, time) in segments {
            let direction = if arrives { Ingress } else { Egress };
            connection.deliver(direction, sequence, flags, &bytes);
            bench.wait(time * MS);
            prop_assert!(bench.outstanding().iter().all(|one| one.since <= bench.now()));
        }
        let measured = bench.measured();
        let ended = times(&measured.answered).len() + times(&measured.abandoned).len();
        prop_assert!(ended as u32 <= measured.exchanges[Exchange::Request as usize]);
    }
}
