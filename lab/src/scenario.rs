//! What a scenario is: who asks for how much when, and what the server does meanwhile.

mod catalogue;

pub(crate) use catalogue::all;

use shedder_common::class::Class;
use shedder_tests::load::Retries;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;
use std::time::Duration;

/// What a service's p99 is to be.
pub(crate) const TARGET: Duration = Duration::from_millis(50);

/// A p99 up to this many targets counts as within the target.
pub(crate) const TOLERANCE: f64 = 1.25;

/// When a client gives up: before its kernel would repeat a SYN, so that each try is offered once.
pub(crate) const PATIENCE: Duration = Duration::from_millis(250);

/// Workers of a server, and how long each is busy with one request: 1,000 requests a second, of which two cores can
/// make and serve five times as many.
pub(crate) const WORKERS: usize = 8;
pub(crate) const SERVICE: Duration = Duration::from_millis(8);

/// Connections that a server has open at once, and those beyond that wait to be accepted: together three times the
/// clients' patience, so that a full queue answers nobody in time, as the queues of servers do unless somebody thought of
/// it.
pub(crate) const CONNECTIONS: usize = 512;
pub(crate) const BACKLOG: u32 = 256;

/// The interval of every control loop, unless a scenario says otherwise.
pub(crate) const INTERVAL: Duration = Duration::from_millis(20);

/// Requests a second that an undisturbed server answers.
pub(crate) fn capacity() -> f64 {
    WORKERS as f64 / SERVICE.as_secs_f64()
}

/// One scenario. Times count from the run's start.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    /// One sentence without its full stop.
    pub(crate) about: &'static str,
    /// Of the control loops.
    pub(crate) interval: Duration,
    /// Undisturbed, for so long.
    pub(crate) before: Duration,
    /// More is asked for than can be answered, for so long.
    pub(crate) overload: Duration,
    /// Undisturbed again, for so long.
    pub(crate) after: Duration,
    /// Services, each with a server and a port of its own: 1 or 2. The first is the one in trouble.
    pub(crate) services: usize,
    pub(crate) flows: Vec<Flow>,
    pub(crate) events: Vec<Event>,
    pub(crate) retries: Retries,
    /// Whether service times are exponential rather than all the same.
    pub(crate) varied: bool,
}

/// Requests of one class, to one service.
#[derive(Clone, Debug)]
pub(crate) struct Flow {
    pub(crate) class: Class,
    /// Which service.
    pub(crate) service: usize,
    pub(crate) sources: Sources,
    pub(crate) phases: Vec<Phase>,
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sources {
    /// Hosts of the class's network, by their numbers.
    Hosts(u32, u32),
    /// One host, of the cohort that is in the middle: chance makes it neither the first nor the last to be shed.
    Median,
}

/// A rate for some time.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Phase {
    pub(crate) when: Range<Duration>,
    /// In capacities.
    pub(crate) rate: f64,
}

/// What happens to the first service's server.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Event {
    pub(crate) when: Range<Duration>,
    pub(crate) trouble: Trouble,
}

/// What is wrong with a server.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Trouble {
    /// A request takes this many times as long.
    Slow(f64),
    /// Nothing is finished.
    Stall,
}

impl Scenario {
    /// While the overload lasts.
    pub(crate) fn overload(&self) -> Range<Duration> {
        self.before..self.before + self.overload
    }

    /// How long it takes in all.
    pub(crate) fn length(&self) -> Duration {
        self.before + self.overload + self.after
    }

    /// What is wrong with a service's server at `at`.
    pub(crate) fn trouble(&self, service: usize, at: Duration) -> Option<Trouble> {
        let event = self.events.iter().find(|event| service == 0 && event.when.contains(&at));
        event.map(|event| event.trouble)
    }

    /// What a service's server can answer at `at`, in requests a second.
    pub(crate) fn capacity(&self, service: usize, at: Duration) -> f64 {
        match self.trouble(service, at) {
            None => capacity(),
            Some(Trouble::Slow(factor)) => capacity() / factor,
            Some(Trouble::Stall) => 0.0,
        }
    }
}

/// A network's hosts that are in use by one class: 64 networks of 250.
pub(crate) const HOSTS: u32 = 64 * 250;

/// The third byte of the first address of a class's network, a /18.
pub(crate) fn network(class: Class) -> u8 {
    match class {
        Class::Critical => 64,
        Class::Normal => 128,
        _ => 192,
    }
}

/// Host `number`, 0 to below [`HOSTS`], of a class's network, in the /16 that `base` is in.
pub(crate) fn host(base: Ipv4Addr, class: Class, number: u32) -> IpAddr {
    let [first, second, ..] = base.octets();
    let number = number % HOSTS;
    Ipv4Addr::new(first, second, network(class) + (number / 250) as u8, 1 + (number % 250) as u8).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_are_unique_and_lengths_bounded() {
        let scenarios = all();
        let names: HashSet<&str> = scenarios.iter().map(|scenario| scenario.name).collect();
        assert_eq!(names.len(), scenarios.len());
        for scenario in &scenarios {
            assert!(scenario.length() <= Duration::from_secs(30), "{}", scenario.name);
            for flow in &scenario.flows {
                assert!(flow.service < scenario.services, "{}", scenario.name);
                for phase in &flow.phases {
                    assert!(phase.rate > 0.0 && phase.when.end <= scenario.length(), "{}", scenario.name);
                }
            }
        }
    }

    /// What is offered to the first service at a time, in requests a second, each user once.
    fn offered(scenario: &Scenario, at: Duration) -> f64 {
        let flows = scenario.flows.iter().filter(|flow| flow.service == 0);
        let phases = flows.flat_map(|flow| &flow.phases).filter(|phase| phase.when.contains(&at));
        phases.map(|phase| phase.rate).sum::<f64>() * capacity()
    }

    #[test]
    fn only_the_overload_is_more_than_can_be_answered() {
        for scenario in all() {
            let overload = scenario.overload();
            let at = |time: Duration| (offered(&scenario, time), scenario.capacity(0, time));
            let before = at(overload.start / 2);
            let after = at(overload.end + scenario.after / 2);
            assert!(before.0 < before.1 && after.0 < after.1, "{}", scenario.name);
            let middle = at(overload.start + scenario.overload * 60 / 100);
            assert!(middle.0 > middle.1, "{}: {middle:?}", scenario.name);
            assert!(middle.0 <= 5.2 * capacity(), "{}: two cores make no more", scenario.name);
        }
    }

    #[test]
    fn classes_have_networks_of_their_own() {
        let base = Ipv4Addr::new(10, 77, 0, 1);
        assert_eq!(host(base, Class::Critical, 0), IpAddr::from([10, 77, 64, 1]));
        assert_eq!(host(base, Class::Normal, 250), IpAddr::from([10, 77, 129, 1]));
        assert_eq!(host(base, Class::Low, HOSTS - 1), IpAddr::from([10, 77, 255, 250]));
    }
}
