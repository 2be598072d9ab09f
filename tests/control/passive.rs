//! A service that names no signal is held by what the kernel sees.

use crate::{CONFIG, ask, serve};
use shedder_tests::endpoint::{Metrics, until};
use shedder_tests::load::Outcome;
use shedder_tests::netns::Network;
use shedder_tests::privileged;
use shedder_tests::shedder::Shedder;
use std::time::Duration;

/// While what `ask` asks for comes in.
const OVERLOAD: Duration = Duration::from_secs(6);

#[test]
fn an_overload_is_shed_and_the_critical_class_is_served() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("passive-loop").unwrap();
    let _server = serve(&network);
    let shedder = Shedder::new(&network);
    let _daemon = shedder.ready_daemon(CONFIG).unwrap();
    let critical = ask(&network, 1, 100.0, OVERLOAD);
    let rest = ask(&network, 2, 1_500.0, OVERLOAD);
    let api = |metrics: &Metrics, name: &str| metrics.value(name, &[("service", "web")]);
    let seen = |name: &'static str, is_so: fn(f64) -> bool| {
        until(&network.server, name, |metrics| is_so(api(metrics, name)));
    };
    seen("shedder_shed_ratio", |ratio| ratio > 0.5);
    seen("shedder_capacity_requests_per_second", |capacity| (300.0..700.0).contains(&capacity));
    let critical = critical.finish().unwrap();
    let rest = rest.finish().unwrap();
    let answered = |records: &[shedder_tests::load::Record]| {
        records.iter().filter(|record| record.outcome == Outcome::Answered).count()
    };
    let (served, asked) =
        (answered(&critical), critical.iter().filter(|record| record.outcome.offered()).count());
    // Without shedder it is a tenth; how near to all of it depends on the machine and is the lab's to say.
    assert!(served * 10 > asked * 8, "{served} of {asked} critical requests");
    assert!(answered(&rest) > 500, "{} of the rest", answered(&rest));
    seen("shedder_shed_ratio", |ratio| ratio == 0.0);
    let status = shedder.status().unwrap();
    assert!(status.contains("\"signal\":\"passive\""), "{status}");
}
