//! The signals of whole configurations, over loopback and sockets in a directory of their own.

use super::*;
use crate::config::{ProbeTarget, Protocol, Service, Shed};
use crate::control::Outcome;
use shedder_common::class::Class;
use std::net::SocketAddr;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::{Duration, Instant};
use tempfile::tempdir;
use tokio::net::TcpListener;
use tokio::time::sleep;

/// Waits until `condition` holds; the limit is only there to end a test that failed.
pub(super) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(60), "waited in vain until {what}");
        sleep(Duration::from_millis(1)).await;
    }
}

pub(super) fn drained(inbox: &Inbox) -> Vec<Sample> {
    let mut samples = Vec::new();
    inbox.drain(&mut samples);
    samples
}

pub(super) fn in_flight(inbox: &Inbox) -> Vec<Duration> {
    let mut starts = Vec::new();
    inbox.in_flight(&mut starts);
    starts
}

pub(super) fn service(name: &str, signal: Signal) -> Service {
    Service {
        name: name.to_owned(),
        protocol: Protocol::Tcp,
        port: 8080,
        class: Class::Normal,
        target: Duration::from_millis(50),
        quantile: 0.99,
        shed: Shed::NewFlows,
        signal,
    }
}

pub(super) fn config(push: &Path, services: impl IntoIterator<Item = Service>) -> Config {
    let mut config = Config { services: services.into_iter().collect(), ..Config::default() };
    config.endpoint.push = push.to_owned();
    config
}

/// Asks every 5 ms for a connection, or for an answer that never comes.
fn probe(address: SocketAddr, http: bool) -> Signal {
    let target = if http {
        ProbeTarget::Http { address, host: address.to_string(), path: "/".to_owned() }
    } else {
        ProbeTarget::Tcp { address }
    };
    Signal::Probe { target, every: Duration::from_millis(5), timeout: Duration::from_secs(60) }
}

/// A server that the kernel opens connections to, and that never says a word.
async fn silent() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn send(path: &Path, text: &str) {
    UnixDatagram::unbound().unwrap().send_to(text.as_bytes(), path).unwrap();
}

#[tokio::test]
async fn each_service_has_the_samples_of_its_own_signal() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("push.sock");
    let (_listener, address) = silent().await;
    let services = [
        service("asked", probe(address, false)),
        service("told", Signal::Push),
        service("unobserved", Signal::None),
    ];
    let before = monotonic();
    let signals = Signals::start(&config(&path, services), &Handle::current()).unwrap();
    assert!(signals.inbox("unobserved").is_none());
    assert!(signals.inbox("unheard-of").is_none());

    send(&path, "told 12ms\nasked 1ms\n");
    let told = signals.inbox("told").unwrap();
    let mut samples = Vec::new();
    until("a sample was pushed", || {
        told.drain(&mut samples);
        !samples.is_empty()
    })
    .await;
    assert_eq!(samples.len(), 1);
    assert_eq!(samples[0].outcome, Outcome::Answered(Duration::from_millis(12)));
    assert!(before <= samples[0].at && samples[0].at <= monotonic());

    let asked = signals.inbox("asked").unwrap();
    samples.clear();
    until("two probes were answered", || {
        asked.drain(&mut samples);
        samples.len() >= 2
    })
    .await;
    for Sample { at, outcome } in samples {
        let Outcome::Answered(latency) = outcome else { panic!("{outcome:?}") };
        assert!(before <= at - latency && at <= monotonic(), "the probe lies within the test");
    }
    assert_eq!(asked.last_error(), None);
    until("the line for a service that is not pushed to was refused", || {
        signals.push_refused().any(|(refusal, count)| refusal == Refusal::UnknownService && count == 1)
    })
    .await;
}

#[tokio::test]
async fn dropping_it_ends_every_task_and_removes_the_socket() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("push.sock");
    let (_listener, address) = silent().await;
    let services = [
        service("hangs", probe(address, true)),
        service("opens", probe(address, false)),
        service("told", Signal::Push),
    ];
    let tasks = || Handle::current().metrics().num_alive_tasks();
    assert_eq!(tasks(), 0);
    let signals = Signals::start(&config(&path, services), &Handle::current()).unwrap();
    let hangs = Arc::clone(signals.inbox("hangs").unwrap());
    until("probes are outstanding", || in_flight(&hangs).len() > 2).await;
    assert!(path.exists());
    assert!(tasks() >= 6, "two schedules, a receiver, three probes");

    drop(signals);
    assert!(!path.exists());
    until("every task has ended", || tasks() == 0).await;
    assert_eq!(in_flight(&hangs), []);
    assert_eq!(drained(&hangs), [], "a probe that was withdrawn is no failure");
}

#[tokio::test]
async fn a_runtime_elsewhere_does_the_work() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("push.sock");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (path_there, handle) = (path.clone(), runtime.handle().clone());
    let control = std::thread::spawn(move || {
        let config = config(&path_there, [service("told", Signal::Push)]);
        Signals::start(&config, &handle).unwrap()
    });
    let signals = control.join().unwrap();
    send(&path, "told fail");
    let told = signals.inbox("told").unwrap();
    until("the failure arrived", || {
        drained(told).first().is_some_and(|sample| sample.outcome == Outcome::Failed(Duration::ZERO))
    })
    .await;
    drop(signals);
    runtime.shutdown_background();
}

#[tokio::test]
async fn no_socket_is_opened_where_nobody_is_pushed_to() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("push.sock");
    let none = config(&path, [service("unobserved", Signal::None)]);
    let pushed = config(&path, [service("unobserved", Signal::None), service("told", Signal::Push)]);
    let mut signals = Signals::start(&none, &Handle::current()).unwrap();
    assert!(!path.exists());
    signals.reconfigure(&pushed).unwrap();
    assert!(path.exists());
    signals.reconfigure(&none).unwrap();
    assert!(!path.exists());
}

#[tokio::test]
async fn reconfigure_keeps_what_is_unchanged() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("push.sock");
    let (_listener, address) = silent().await;
    let hangs = probe(address, true);
    let before = [
        service("hangs", hangs.clone()),
        service("told", Signal::Push),
        service("changed", Signal::Push),
        service("removed", hangs.clone()),
    ];
    let mut signals = Signals::start(&config(&path, before), &Handle::current()).unwrap();
    let inbox = |signals: &Signals, name: &str| Arc::clone(signals.inbox(name).unwrap());
    let [kept_probe, told, changed, removed] =
        ["hangs", "told", "changed", "removed"].map(|name| inbox(&signals, name));
    told.record(Sample { at: Duration::ZERO, outcome: Outcome::Failed(Duration::ZERO) }, 1);
    until("probes are outstanding", || in_flight(&kept_probe).len() == MAX_IN_FLIGHT).await;
    until("probes are outstanding", || !in_flight(&removed).is_empty()).await;
    let starts = in_flight(&kept_probe);

    let mut told_differently = service("told", Signal::Push);
    told_differently.target = Duration::from_secs(1);
    let after = [
        service("added", Signal::Push),
        told_differently,
        service("changed", hangs.clone()),
        service("hangs", hangs),
    ];
    signals.reconfigure(&config(&path, after)).unwrap();

    assert!(Arc::ptr_eq(&kept_probe, &inbox(&signals, "hangs")));
    assert_eq!(in_flight(&kept_probe), starts, "its probes are still under way");
    assert!(Arc::ptr_eq(&told, &inbox(&signals, "told")));
    assert_eq!(drained(&told).len(), 1, "its sample is still there");
    assert!(!Arc::ptr_eq(&changed, &inbox(&signals, "changed")));
    assert!(signals.inbox("removed").is_none());
    until("the removed one's probes are withdrawn", || in_flight(&removed).is_empty()).await;
    until("the changed one is probed", || !in_flight(&inbox(&signals, "changed")).is_empty()).await;

    send(&path, "told 1ms\nadded 2ms\nchanged 3ms\n");
    until("the last line was refused", || {
        signals.push_refused().any(|(refusal, count)| refusal == Refusal::UnknownService && count == 1)
    })
    .await;
    assert_eq!(drained(&told).len(), 1);
    assert_eq!(drained(&inbox(&signals, "added")).len(), 1);
    assert_eq!(drained(&changed), []);
}

#[tokio::test]
async fn reconfigure_moves_the_socket() {
    let directory = tempdir().unwrap();
    let (old, new) = (directory.path().join("old.sock"), directory.path().join("new.sock"));
    let services = || [service("told", Signal::Push)];
    let mut signals = Signals::start(&config(&old, services()), &Handle::current()).unwrap();
    let told = Arc::clone(signals.inbox("told").unwrap());
    signals.reconfigure(&config(&new, services())).unwrap();
    assert!(!old.exists());
    send(&new, "told 1ms");
    until("the new socket is read", || !drained(&told).is_empty()).await;
}

#[tokio::test]
async fn what_cannot_be_followed_changes_nothing() {
    let directory = tempdir().unwrap();
    let (path, occupied) = (directory.path().join("push.sock"), directory.path().join("occupied"));
    std::fs::write(&occupied, "").unwrap();
    let (_listener, address) = silent().await;
    let mut signals =
        Signals::start(&config(&path, [service("told", Signal::Push)]), &Handle::current()).unwrap();
    let told = Arc::clone(signals.inbox("told").unwrap());

    let elsewhere =
        config(&occupied, [service("told", Signal::Push), service("asked", probe(address, false))]);
    let error = format!("{:#}", signals.reconfigure(&elsewhere).unwrap_err());
    assert!(error.contains("occupied") && error.contains("endpoint.push"), "{error}");
    let target = ProbeTarget::Http { address, host: "a\nb".to_owned(), path: "/".to_owned() };
    let bad = Signal::Probe { target, every: Duration::from_secs(1), timeout: Duration::from_secs(1) };
    let error = format!("{:#}", signals.reconfigure(&config(&path, [service("bad", bad)])).unwrap_err());
    assert!(error.contains("service `bad`") && error.contains("host"), "{error}");

    assert!(signals.inbox("asked").is_none());
    assert!(Arc::ptr_eq(&told, signals.inbox("told").unwrap()));
    send(&path, "told 1ms");
    until("the socket is still read", || !drained(&told).is_empty()).await;
}
