//! Finding gains on live traffic, and leaving nothing of the experiment behind.

use crate::{CONFIG, ask, serve};
use nix::sys::signal::Signal;
use serde_json::Value;
use shedder_tests::netns::Network;
use shedder_tests::privileged;
use shedder_tests::shedder::Shedder;
use std::time::Duration;

fn is_overridden(shedder: &Shedder) -> bool {
    let status: Value = serde_json::from_str(&shedder.status().unwrap()).unwrap();
    status["services"][0]["override"]["active"].as_bool().unwrap()
}

#[test]
fn gains_are_found_and_the_loop_has_its_service_back() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("tune").unwrap();
    let _server = serve(&network);
    let shedder = Shedder::new(&network);
    let _daemon = shedder.ready_daemon(CONFIG).unwrap();
    let _load = ask(&network, 2, 1_000.0, Duration::from_secs(45));
    std::thread::sleep(Duration::from_secs(1));
    let found = shedder.ok(&["tune", "--service", "web", "--range", "20-80", "--for", "40s", "--json"]);
    let found: Value = serde_json::from_str(&found).unwrap();
    for gain in ["kp", "ki", "kd"] {
        assert!(found[gain].as_f64().unwrap() > 0.0, "{found}");
    }
    assert!(!is_overridden(&shedder));
}

#[test]
fn an_experiment_that_is_interrupted_takes_its_override_back() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("tune-interrupted").unwrap();
    let _server = serve(&network);
    let shedder = Shedder::new(&network);
    let _daemon = shedder.ready_daemon(CONFIG).unwrap();
    let _load = ask(&network, 2, 1_000.0, Duration::from_secs(20));
    std::thread::sleep(Duration::from_secs(1));
    let command = shedder.command(&["tune", "--service", "web", "--range", "0-10", "--worst", "10s"]);
    let mut tune = network.start("tune", command).unwrap();
    shedder_tests::wait::until("the experiment sheds", || is_overridden(&shedder));
    tune.signal(Signal::SIGINT).unwrap();
    let ended = tune.wait(Duration::from_secs(10)).unwrap().expect("it ends");
    assert_eq!(ended.code(), Some(1), "{}", tune.output());
    assert!(tune.output().contains("interrupted"), "{}", tune.output());
    assert!(!is_overridden(&shedder));
}

#[test]
fn an_experiment_that_cannot_be_says_why() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("tune-refused").unwrap();
    let _server = serve(&network);
    let shedder = Shedder::new(&network);
    let tune = ["tune", "--service", "web", "--range", "20-80", "--for", "1s"];
    shedder.attach(CONFIG);
    assert!(shedder.fails(1, &tune).contains("no daemon is alive"));
    let _daemon = shedder.ready_daemon(CONFIG).unwrap();
    let _load = ask(&network, 2, 200.0, Duration::from_secs(20));
    shedder_tests::wait::until("the latency is known", || {
        shedder.status().is_some_and(|status| !status.contains("\"observed_seconds\":null"))
    });
    assert!(shedder.fails(1, &tune).contains("never came to the target"));
    assert!(shedder.fails(2, &["tune", "--service", "web", "--range", "80-20"]).contains("20-90"));
    assert!(
        shedder
            .fails(2, &["tune", "--service", "web", "--range", "20-80", "--worst", "1ms"])
            .contains("--worst")
    );
    shedder.ok(&["shed", "10", "--service", "web"]);
    assert!(shedder.fails(1, &tune).contains("shedder auto"));
}
