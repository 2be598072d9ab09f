//! The scenarios.

use super::{Event, Flow, INTERVAL, Phase, Scenario, Sources, Trouble};
use shedder_common::class::Class;
use shedder_tests::load::Retries;
use std::ops::Range;
use std::time::Duration;

const BEFORE: Duration = Duration::from_millis(700);
const OVERLOAD: Duration = Duration::from_millis(3200);
const AFTER: Duration = Duration::from_millis(2300);

/// Regular clients of each class.
const REGULARS: Sources = Sources::Hosts(0, 500);

/// Every scenario, in the order in which they are run.
pub(crate) fn all() -> Vec<Scenario> {
    vec![
        step("step", "a step to five times the capacity, mostly of low importance", INTERVAL),
        step("step-5ms", "the same step, with a control interval of 5 ms", Duration::from_millis(5)),
        spike(),
        ramp(),
        square(),
        crowd(),
        backoff(),
        storm(),
        slow(),
        stall(),
        abuser(),
        critical(),
        two_services(),
    ]
}

/// A scenario of the usual times in which nothing happens.
fn quiet(name: &'static str, about: &'static str) -> Scenario {
    Scenario {
        name,
        about,
        interval: INTERVAL,
        before: BEFORE,
        overload: OVERLOAD,
        after: AFTER,
        services: 1,
        flows: Vec::new(),
        events: Vec::new(),
        retries: Retries::NONE,
        varied: false,
    }
}

impl Scenario {
    /// Regular clients of a class that ask for `usual` capacities, and in the overload for `most`.
    fn regulars(self, class: Class, usual: f64, most: f64) -> Scenario {
        self.with(class, REGULARS, usual, most)
    }

    fn with(mut self, class: Class, sources: Sources, usual: f64, most: f64) -> Scenario {
        let (overload, end) = (self.overload(), self.length());
        let phases =
            [(Duration::ZERO..overload.start, usual), (overload.clone(), most), (overload.end..end, usual)];
        let phases = phases.into_iter().filter(|(_, rate)| *rate > 0.0);
        let phases = phases.map(|(when, rate)| Phase { when, rate }).collect();
        self.flows.push(Flow { class, service: 0, sources, phases });
        self
    }

    /// As [`with`](Scenario::with), the overload cut into `pieces`, each with a rate of its own.
    fn shaped(mut self, class: Class, usual: f64, pieces: &[f64]) -> Scenario {
        let overload = self.overload();
        let piece = self.overload / pieces.len() as u32;
        let mut phases = vec![Phase { when: Duration::ZERO..overload.start, rate: usual }];
        let mut from = overload.start;
        for &rate in pieces {
            phases.push(Phase { when: from..from + piece, rate });
            from += piece;
        }
        phases.push(Phase { when: from..self.length(), rate: usual });
        self.flows.push(Flow { class, service: 0, sources: REGULARS, phases });
        self
    }

    fn troubled(mut self, trouble: Trouble, when: Range<Duration>) -> Scenario {
        self.events.push(Event { when, trouble });
        self
    }
}

fn step(name: &'static str, about: &'static str, interval: Duration) -> Scenario {
    Scenario { interval, ..quiet(name, about) }
        .regulars(Class::Critical, 0.2, 0.2)
        .regulars(Class::Normal, 0.2, 0.5)
        .regulars(Class::Low, 0.1, 4.3)
}

fn spike() -> Scenario {
    quiet("spike", "a spike of 1.4 times the capacity")
        .regulars(Class::Critical, 0.2, 0.2)
        .regulars(Class::Normal, 0.3, 0.5)
        .regulars(Class::Low, 0.1, 0.7)
}

fn ramp() -> Scenario {
    let pieces: Vec<f64> = (1..=16).map(|step| 0.1 + 3.9 * f64::from(step) / 16.0).collect();
    quiet("ramp", "a ramp to 4.5 times the capacity, in 16 steps")
        .regulars(Class::Critical, 0.2, 0.2)
        .regulars(Class::Normal, 0.3, 0.3)
        .shaped(Class::Low, 0.1, &pieces)
}

fn square() -> Scenario {
    quiet("square", "0.4 s of three times the capacity and 0.4 s of half of it, in turn")
        .regulars(Class::Critical, 0.2, 0.2)
        .regulars(Class::Normal, 0.2, 0.2)
        .shaped(Class::Low, 0.1, &[2.6, 0.1, 2.6, 0.1, 2.6, 0.1, 2.6, 2.6])
}

fn crowd() -> Scenario {
    quiet(
        "flash-crowd",
        "four times the capacity from 4,000 sources never seen before, of the regulars' class",
    )
    .regulars(Class::Critical, 0.2, 0.2)
    .regulars(Class::Normal, 0.4, 0.4)
    .with(Class::Normal, Sources::Hosts(1000, 4000), 0.0, 3.4)
}

fn backoff() -> Scenario {
    let retries = Retries { tries: 3, pause: Duration::from_millis(200) };
    let scenario = quiet("retry-backoff", "twice the capacity, by clients that try three times with backoff");
    Scenario { retries, ..scenario }
        .regulars(Class::Critical, 0.2, 0.2)
        .regulars(Class::Normal, 0.3, 0.6)
        .regulars(Class::Low, 0.1, 1.2)
}

/// What keeps a server down by itself: with four tries of every client, 0.8 of the capacity becomes 3.2 of it for as long
/// as nobody is answered in time.
fn storm() -> Scenario {
    let retries = Retries { tries: 4, pause: Duration::ZERO };
    let scenario = quiet(
        "retry-storm",
        "0.9 s of 1.5 times the capacity, by clients that try four times at once: without help the server stays down",
    );
    Scenario { retries, overload: Duration::from_millis(900), after: Duration::from_millis(4500), ..scenario }
        .regulars(Class::Critical, 0.2, 0.2)
        .regulars(Class::Normal, 0.4, 0.4)
        .regulars(Class::Low, 0.2, 0.9)
}

fn slow() -> Scenario {
    let scenario = quiet(
        "slow-server",
        "a constant load of 0.8 of the capacity, and a server that becomes three times as slow",
    )
    .regulars(Class::Critical, 0.1, 0.1)
    .regulars(Class::Normal, 0.4, 0.4)
    .regulars(Class::Low, 0.3, 0.3);
    let when = scenario.overload();
    scenario.troubled(Trouble::Slow(3.0), when)
}

fn stall() -> Scenario {
    let scenario =
        quiet("stall", "a constant load of 0.6 of the capacity, and a server that does nothing for 2 s");
    let scenario =
        Scenario { overload: Duration::from_secs(2), after: Duration::from_millis(3500), ..scenario }
            .regulars(Class::Critical, 0.1, 0.1)
            .regulars(Class::Normal, 0.3, 0.3)
            .regulars(Class::Low, 0.2, 0.2);
    let when = scenario.overload();
    scenario.troubled(Trouble::Stall, when)
}

fn abuser() -> Scenario {
    quiet("abuser", "one source among 500 of its class that asks for three times the capacity")
        .regulars(Class::Critical, 0.2, 0.2)
        .regulars(Class::Normal, 0.4, 0.4)
        .with(Class::Normal, Sources::Median, 0.01, 3.0)
}

fn critical() -> Scenario {
    quiet("all-critical", "three times the capacity, all of it critical").regulars(Class::Critical, 0.6, 3.0)
}

fn two_services() -> Scenario {
    let mut scenario =
        quiet("two-services", "two services, one asked for three times its capacity, the other for half")
            .regulars(Class::Critical, 0.2, 0.2)
            .regulars(Class::Normal, 0.2, 0.4)
            .regulars(Class::Low, 0.1, 2.4);
    scenario.services = 2;
    let phases = vec![Phase { when: Duration::ZERO..scenario.length(), rate: 0.5 }];
    scenario.flows.push(Flow {
        class: Class::Normal,
        service: 1,
        sources: Sources::Hosts(5000, 500),
        phases,
    });
    scenario
}
