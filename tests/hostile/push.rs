//! (26) The push socket flooded with garbage: what is true is still heard, the loop turns, and the daemon takes no more of the
//! host.

use super::Footprint;
use shedder_tests::endpoint::{self, until};
use shedder_tests::netns::Network;
use shedder_tests::privileged;
use shedder_tests::random::Random;
use shedder_tests::shedder::Shedder;
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

struct Ended<'a>(&'a AtomicBool);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_flood_of_garbage_drowns_neither_the_loop_nor_what_is_true() {
    if !privileged::require() {
        return;
    }
    const FLOODS: u64 = 3;
    const DATAGRAMS: u64 = 20_000;
    let network = Network::new("garbage").unwrap();
    let path = network.dir().join("push.sock");
    let shedder = Shedder::new(&network);
    let config = format!(
        "interfaces = [\"$IF\"]\n[endpoint]\npush = \"{}\"\n[[service]]\nname = \"api\"\nprotocol = \"tcp\"\nport = 80\n\
         target = \"50ms\"\nsignal = {{ kind = \"push\" }}\n",
        path.display()
    );
    let daemon = shedder.daemon(&config).unwrap();
    let kinds: [fn(&mut Random) -> Vec<u8>; 6] = [
        |random| (0..random.below(8 << 10)).map(|_| random.next_u64() as u8).collect(),
        |_| b"nobody 5ms\n".repeat(700),
        |_| b"api -5ms\napi nan\napi 9999999h\napi 1ms 0\napi 1ms 99999999999\n".repeat(100),
        |_| vec![b'\n'; 8 << 10],
        |_| vec![b'a'; 60_000],
        |_| Vec::new(),
    ];
    let (done, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    let before = Footprint::of(&daemon);
    std::thread::scope(|scope| {
        for seed in 0..FLOODS {
            let (path, done, sent) = (&path, &done, &sent);
            scope.spawn(move || {
                let mut random = Random::new(seed);
                let socket = UnixDatagram::unbound().unwrap();
                socket.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
                while !done.load(Ordering::Relaxed) {
                    let datagram = kinds[random.below(kinds.len())](&mut random);
                    // One that is longer than a socket takes, or finds no room, is refused.
                    let _ = socket.send_to(&datagram, path);
                    sent.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        // However this ends, the floods do.
        let _end = Ended(&done);
        let truth = UnixDatagram::unbound().unwrap();
        let said = || truth.send_to(b"api 40ms\n", &path).unwrap();
        said();
        let heard = until(&network.server, "what is true is heard while the flood lasts", |metrics| {
            said();
            sent.load(Ordering::Relaxed) > DATAGRAMS
                && metrics.value("shedder_latency_seconds_count", &[("service", "api")]) > 10.0
        });
        assert_eq!(heard.value("shedder_alive", &[]), 1.0);
        assert!(heard.value("shedder_lease_remaining_seconds", &[]) > 0.0);
    });
    let after = Footprint::of(&daemon);
    assert!(after.memory < before.memory + (16 << 20), "{before:?}, then {after:?}");
    assert_eq!(endpoint::get(&network.server, "/healthz").unwrap().status, 200);
    assert!(daemon.output().lines().count() < 200, "the log is flooded: {}", daemon.output());
}
