//! From a hundred to twenty thousand requests a second.

use crate::server::serve_lines;
use crate::{Setup, TCP, ask, connect};
use shedder_tests::privileged;
use std::sync::Barrier;
use std::time::{Duration, Instant};

/// Each connection asks for one answer after the other, in milliseconds like these: about 160 a second.
const DELAYS: [u64; 20] = [4, 4, 10, 4, 4, 4, 10, 4, 4, 4, 10, 4, 4, 25, 4, 10, 4, 4, 10, 4];

#[test]
fn quantiles_are_right_from_a_hundred_to_twenty_thousand_requests_a_second() {
    if !privileged::require() {
        return;
    }
    for (connections, requests) in [(1, 200), (12, 150), (125, 160)] {
        let setup = Setup::new(&format!("rate-{connections}"));
        let times = serve_lines(&setup.network.server, TCP);
        let begin = Barrier::new(connections + 1);
        let took = std::thread::scope(|scope| {
            let clients: Vec<_> = (0..connections)
                .map(|number| {
                    let (setup, begin) = (&setup, &begin);
                    scope.spawn(move || {
                        setup.client(|| {
                            let mut stream = connect(setup.v4(TCP));
                            begin.wait();
                            for delay in DELAYS.iter().cycle().skip(number).take(requests) {
                                ask(&mut stream, format!("{delay} 10\n").as_bytes(), 10);
                            }
                        });
                    })
                })
                .collect();
            begin.wait();
            let began = Instant::now();
            clients.into_iter().for_each(|client| client.join().unwrap());
            began.elapsed()
        });
        let rate = (connections * requests) as f64 / took.max(Duration::from_micros(1)).as_secs_f64();
        println!("{connections} connections: {rate:.0} requests a second");
        setup.agrees_with(&times);
    }
}
