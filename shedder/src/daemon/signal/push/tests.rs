//! The push socket, with real datagrams.

use super::super::tests::{drained, until};
use super::*;
use crate::control::Outcome;
use crate::daemon::signal::CAPACITY;
use std::os::unix::net::UnixDatagram as Sender;
use std::sync::atomic::AtomicBool;
use tempfile::{TempDir, tempdir};

/// An open socket with one service, `api`.
struct Fixture {
    api: Arc<Inbox>,
    refusals: Arc<Refusals>,
    path: PathBuf,
    _listener: Listener,
    _directory: TempDir,
}

fn open() -> Fixture {
    let directory = tempdir().unwrap();
    let path = directory.path().join("push.sock");
    let api = Arc::new(Inbox::default());
    let services = Services::from([("api".to_owned(), Arc::clone(&api))]);
    let refusals = Arc::new(Refusals::default());
    let services = Arc::new(ArcSwap::from_pointee(services));
    let listener = Listener::open(&path, services, Arc::clone(&refusals), &Handle::current()).unwrap();
    Fixture { api, refusals, path, _listener: listener, _directory: directory }
}

impl Fixture {
    /// Sends `datagrams` in order, and waits until they have been worked off.
    async fn push(&self, datagrams: &[&[u8]]) -> Vec<Outcome> {
        let sender = tokio::net::UnixDatagram::unbound().unwrap();
        for datagram in datagrams {
            sender.send_to(datagram, &self.path).await.unwrap();
        }
        // An outcome of its own kind marks the end.
        let mark = Outcome::Answered(Duration::from_nanos(987_654_321));
        sender.send_to(b"api 987654321ns", &self.path).await.unwrap();
        let mut samples = Vec::new();
        until("the mark arrived", || {
            self.api.drain(&mut samples);
            samples.last().is_some_and(|sample| sample.outcome == mark)
        })
        .await;
        samples.pop();
        samples.into_iter().map(|sample| sample.outcome).collect()
    }

    fn refused(&self) -> Vec<(Refusal, u64)> {
        let counts = Refusal::ALL.into_iter().map(|refusal| (refusal, self.refusals.count(refusal)));
        counts.filter(|&(_, count)| count > 0).collect()
    }
}

fn answered(millis: u64) -> Outcome {
    Outcome::Answered(Duration::from_millis(millis))
}

#[tokio::test]
async fn a_datagram_has_one_or_many_lines() {
    let fixture = open();
    let outcomes =
        fixture.push(&[b"api 1ms", b"api 2ms\n", b"api 3ms 2\r\n\n  api fail\napi 0.004", b"", b"\n"]).await;
    let expected =
        [answered(1), answered(2), answered(3), answered(3), Outcome::Failed(Duration::ZERO), answered(4)];
    assert_eq!(outcomes, expected);
    assert_eq!(fixture.refused(), []);
}

#[tokio::test]
async fn garbage_is_counted_by_kind_and_spoils_nothing_around_it() {
    let fixture = open();
    let just_fits = format!("api 5ms{}", " ".repeat(MAX_DATAGRAM - "api 5ms".len()));
    let too_long = format!("{just_fits} ");
    let far_too_long = "api 1ms\n".repeat(5000);
    let outcomes = fixture
        .push(&[
            b"api 1ms\napi nan\napi inf\napi -1\napi 2h\napi 3601\nweb 1ms\n\xff\xfe 1\napi 2ms 0\napi\napi 2ms",
            just_fits.as_bytes(),
            too_long.as_bytes(),
            far_too_long.as_bytes(),
            b"\0\0\0\0",
        ])
        .await;
    assert_eq!(outcomes, [answered(1), answered(2), answered(5)]);
    let expected = [
        (Refusal::Oversized, 2),
        (Refusal::NotUtf8, 1),
        (Refusal::Malformed, 3),
        (Refusal::OutOfRange, 5),
        (Refusal::UnknownService, 1),
    ];
    assert_eq!(fixture.refused(), expected);
    assert_eq!(fixture.api.take_refused(), 5, "the service is told what cannot be true of it");
    assert_eq!(fixture.api.take_refused(), 0);
}

#[tokio::test]
async fn counts_make_an_inbox_overflow_and_nothing_else() {
    let fixture = open();
    let lines = MAX_DATAGRAM / "api 1ms 4096\n".len();
    let datagram = "api 1ms 4096\n".repeat(lines);
    UnixDatagram::unbound().unwrap().send_to(datagram.as_bytes(), &fixture.path).await.unwrap();
    let total = (lines * CAPACITY) as u64;
    until("all but the last inbox-full was dropped", || fixture.api.dropped() == total - CAPACITY as u64)
        .await;
    let samples = drained(&fixture.api);
    assert_eq!(samples.len(), CAPACITY);
    assert!(samples.iter().all(|sample| sample.outcome == answered(1) && sample.at == samples[0].at));
}

/// The runtime has one thread, so that the test itself stands still where the receiver does not yield.
#[tokio::test(flavor = "current_thread")]
async fn a_flood_leaves_the_runtime_to_others() {
    let fixture = open();
    let stop = Arc::new(AtomicBool::new(false));
    let flood = std::thread::spawn({
        let (stop, path) = (Arc::clone(&stop), fixture.path.clone());
        move || {
            let sender = Sender::unbound().unwrap();
            let garbage = "x\n".repeat(MAX_DATAGRAM / 2);
            while !stop.load(Ordering::Relaxed) {
                sender.send_to(garbage.as_bytes(), &path).unwrap();
            }
        }
    });
    let refused = || fixture.refusals.count(Refusal::Malformed);
    let mut turns = 0;
    while refused() < 50_000 {
        yield_now().await;
        turns += 1;
    }
    assert!(turns * BUDGET as u64 >= 50_000 / 2, "{turns} turns in {} refusals", refused());
    // Nobody reads while this thread joins, so the sender must be let go by reading on.
    stop.store(true, Ordering::Relaxed);
    until("the flood has ended", || flood.is_finished()).await;
    flood.join().unwrap();
    assert_eq!(fixture.push(&[b"api 1ms"]).await, [answered(1)]);
}

#[test]
fn warnings_are_a_second_apart_and_lose_no_count() {
    let mut warnings = Warnings::default();
    let start = Instant::now();
    let at = |millis| start + Duration::from_millis(millis);
    assert_eq!(warnings.due(at(0)), Some(1));
    assert_eq!(warnings.due(at(1)), None);
    assert_eq!(warnings.due(at(999)), None);
    assert_eq!(warnings.due(at(1000)), Some(3));
    assert_eq!(warnings.due(at(1999)), None);
    assert_eq!(warnings.due(at(9000)), Some(2));
}
