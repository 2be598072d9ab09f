//! What adaptive shedding does without a live daemon.

use crate::{arrived, crash, status};
use nix::sys::signal::Signal;
use serde_json::Value;
use shedder_tests::flood::now;
use shedder_tests::netns::Network;
use shedder_tests::privileged;
use shedder_tests::process::Process;
use shedder_tests::shedder::Shedder;
use shedder_tests::traffic::Traffic;
use shedder_tests::wait::until;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// An application that tells a daemon of its awful latency. Dropped, it is silent.
struct Application {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Application {
    fn start(socket: PathBuf) -> Application {
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let stop = stop.clone();
            move || {
                let told = UnixDatagram::unbound().unwrap();
                while !stop.load(Ordering::Relaxed) {
                    // Nobody listens while there is no daemon.
                    let _ = told.send_to(b"slow 1s 5\n", &socket);
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
        });
        Application { stop, thread: Some(thread) }
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A daemon that sheds most of the service `slow`, and then is gone for longer than its lease.
struct Lapsed<'a> {
    shedder: Shedder<'a>,
    config: String,
    /// To the service, from many sources.
    shed: Traffic,
    /// To no service.
    other: Traffic,
    lifeline: Traffic,
    _application: Application,
}

/// How the daemon goes.
#[derive(Clone, Copy, PartialEq)]
enum Going {
    Dies,
    Stops,
}

fn shedding<'a>(network: &'a Network, posture: &str) -> (Lapsed<'a>, Process) {
    let link = network.link();
    let socket = network.dir().join("push.sock");
    let config = format!(
        "interfaces = [\"$IF\"]\nposture = \"{posture}\"\nlease = \"1s\"\n\
         [[lifeline]]\npeers = [\"{}/32\"]\n\
         [[service]]\nname = \"slow\"\nprotocol = \"udp\"\nport = 4000\nclass = \"sheddable\"\n\
         target = \"1ms\"\nshed = \"packets\"\nsignal = {{ kind = \"push\" }}\n\
         [endpoint]\npush = \"{}\"\n",
        link.client_v4(),
        socket.display()
    );
    let shedder = Shedder::new(network);
    let application = Application::start(socket);
    let daemon = shedder.ready_daemon(&config).unwrap();
    let sources: Vec<_> = (0..200).map(|host| link.source_v4(16, host).into()).collect();
    let lapsed = Lapsed {
        shed: Traffic::inward(network, link, &sources, 4000, 2_000).unwrap(),
        other: Traffic::inward(network, link, &sources, 5000, 1_000).unwrap(),
        lifeline: Traffic::inward(network, link, &[link.client_v4().into()], 6000, 1_000).unwrap(),
        shedder,
        config,
        _application: application,
    };
    until("the loop to shed most of the service", || cutoff(&status(&lapsed.shedder)) < 700);
    let before = arrived(&status(&lapsed.shedder), "shed");
    until("packets to be shed", || arrived(&status(&lapsed.shedder), "shed") > before + 200);
    (lapsed, daemon)
}

fn cutoff(status: &Value) -> u64 {
    status["services"][0]["loop"]["cutoff"].as_u64().unwrap()
}

impl Lapsed<'_> {
    /// Waits for the end of the lease, which is at most as far ahead as the configuration says, and for what the
    /// coarse clock may be behind.
    fn wait(&self) -> Value {
        let left = status(&self.shedder)["daemon"]["lease_remaining_seconds"].as_f64().unwrap();
        assert!(left <= 1.0, "a lease of 1 s has {left} s left");
        until("the lease to lapse", || status(&self.shedder)["daemon"]["alive"] == false);
        self.shed.offer_more();
        status(&self.shedder)
    }

    /// Packets that were shed while enough were offered to tell.
    fn shed_now(&self, before: &Value) -> u64 {
        self.shed.offer_more();
        arrived(&status(&self.shedder), "shed") - arrived(before, "shed")
    }
}

#[test]
fn open_ends_adaptive_shedding_within_the_lease_of_a_daemon_that_died_or_was_stopped() {
    if !privileged::require() {
        return;
    }
    for going in [Going::Dies, Going::Stops] {
        let network = Network::new("posture-open").unwrap();
        let (lapsed, daemon) = shedding(&network, "open");
        let stopped = match going {
            Going::Dies => {
                crash(daemon);
                None
            }
            Going::Stops => {
                daemon.signal(Signal::SIGSTOP).unwrap();
                Some(daemon)
            }
        };
        let seen = lapsed.wait();
        assert_eq!(lapsed.shed_now(&seen), 0, "packets are shed for a daemon that is gone");
        lapsed.shed.arrive_more();
        drop(stopped);
    }
}

#[test]
fn hold_keeps_the_last_cutoff_of_a_daemon_that_died() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("posture-hold").unwrap();
    let (lapsed, daemon) = shedding(&network, "hold");
    crash(daemon);
    let last = cutoff(&status(&lapsed.shedder));
    let seen = lapsed.wait();
    assert!(lapsed.shed_now(&seen) > 0, "nothing is shed any more");
    assert_eq!(cutoff(&status(&lapsed.shedder)), last);
    lapsed.other.arrive_more();
}

#[test]
fn closed_drops_all_but_lifelines_until_a_daemon_returns() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("posture-closed").unwrap();
    let (lapsed, daemon) = shedding(&network, "closed");
    lapsed.other.arrive_more();
    crash(daemon);
    let seen = lapsed.wait();
    let closed = now();
    for traffic in [&lapsed.shed, &lapsed.other] {
        assert_eq!(traffic.arrived_since(closed), 0, "packets passed under the posture closed");
    }
    lapsed.lifeline.arrive_more();
    assert!(arrived(&status(&lapsed.shedder), "posture") > arrived(&seen, "posture"));

    let _daemon = lapsed.shedder.ready_daemon(&lapsed.config).unwrap();
    lapsed.other.arrive_more();
}
