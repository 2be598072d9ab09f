//! A run without a kernel: the same load, the same server and the same turns, computed.
//!
//! It finds the static limit that a scenario is best met with, for that search would take minutes in real runs, and tests
//! what the rivals do. Where it differs from a real run: nothing takes processor time, clients notice nothing late, and
//! connections in the backlog are ordered as those that are accepted.

use crate::cohorts::Cohorts;
use crate::rival::{Controller, Ended, Memory};
use crate::run::{Request, Run};
use crate::scenario::{BACKLOG, CONNECTIONS, PATIENCE, SERVICE, Scenario, Trouble, WORKERS};
use crate::stage::streams;
use shedder_common::class::{Class, PRIORITIES, SHED_NOTHING};
use shedder_common::histogram::bucket;
use shedder_tests::load::{Outcome, Schedule};
use shedder_tests::random::Random;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

/// Of the server: the lab's own network has the same form.
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);

/// Plays a scenario with a controller for each service, and none at all where `make` makes none. The server takes
/// `slowness` times as long as it should.
pub(crate) fn play(
    scenario: &Scenario,
    cohorts: &Cohorts,
    seed: u64,
    slowness: f64,
    make: impl Fn() -> Option<Box<dyn Controller>>,
) -> Run {
    let requests = (0..scenario.services)
        .flat_map(|service| {
            let service = Service::new(scenario, cohorts, service, seed, make());
            Service { time: SERVICE.mul_f64(slowness), ..service }.play()
        })
        .collect();
    Run {
        contender: "simulated".into(),
        requests,
        samples: Vec::new(),
        cohorts: cohorts.clone(),
        started: 0,
        valid: true,
    }
}

/// A try that is to be made. Ordered by its time, and then by its user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Try {
    due: Duration,
    user: u64,
    attempt: u32,
    class: Class,
    source: IpAddr,
}

/// One service in play.
struct Service<'a> {
    scenario: &'a Scenario,
    cohorts: &'a Cohorts,
    service: usize,
    seed: u64,
    /// Of a request, while nothing is wrong.
    time: Duration,
    controller: Option<Box<dyn Controller>>,
    memory: Memory,
    cutoff: u32,
    offered: Box<[u32; PRIORITIES as usize]>,
    tries: BinaryHeap<Reverse<Try>>,
    /// When each worker has done all that it was given.
    free: BinaryHeap<Reverse<Duration>>,
    /// When each request under way will be done, and how long it takes from its arrival on.
    under_way: BinaryHeap<Reverse<(Duration, Duration)>>,
    requests: Vec<Request>,
    last: Duration,
}

impl<'a> Service<'a> {
    fn new(
        scenario: &'a Scenario,
        cohorts: &'a Cohorts,
        service: usize,
        seed: u64,
        controller: Option<Box<dyn Controller>>,
    ) -> Service<'a> {
        let (streams, classes) = streams(scenario, service, SERVER, cohorts);
        let last = streams.iter().map(|stream| stream.until).max().unwrap_or_default();
        let tries = (0..).zip(Schedule::new(seed + service as u64, streams)).map(|(user, arrival)| {
            let (due, source, class) = (arrival.due, arrival.source, classes[arrival.stream]);
            Reverse(Try { due, user, attempt: 0, class, source })
        });
        Service {
            scenario,
            cohorts,
            service,
            seed,
            time: SERVICE,
            controller,
            memory: Memory::new(),
            cutoff: SHED_NOTHING,
            offered: Box::new([0; PRIORITIES as usize]),
            tries: tries.collect(),
            free: (0..WORKERS).map(|_| Reverse(Duration::ZERO)).collect(),
            under_way: BinaryHeap::new(),
            requests: Vec::new(),
            last,
        }
    }

    fn play(mut self) -> Vec<Request> {
        let mut turn = Duration::ZERO;
        while let Some(Reverse(next)) = self.tries.pop() {
            while turn <= next.due {
                self.turn(turn);
                turn += self.scenario.interval;
            }
            self.arrive(next);
        }
        self.requests
    }

    fn turn(&mut self, now: Duration) {
        let mut ended = Ended::default();
        while let Some(&Reverse((end, latency))) = self.under_way.peek()
            && end <= now
        {
            self.under_way.pop();
            // A client that gives up is seen to go: its request ends then for the kernel.
            ended.0[bucket(latency.min(PATIENCE).as_nanos() as u64)] += 1;
        }
        if let Some(controller) = &mut self.controller {
            let seen = (&ended, self.under_way.len() as u64);
            self.cutoff = self.memory.turn(controller.as_mut(), now, seen, &self.offered);
        }
        self.offered.fill(0);
    }

    fn arrive(&mut self, of: Try) {
        let Try { due, user, attempt, class, source } = of;
        let priority = self.cohorts.priority(class, source, due.as_nanos() as u64);
        self.offered[priority as usize] += 1;
        let waiting = self.under_way.iter().filter(|Reverse((end, _))| *end > due).count();
        let is_full = waiting >= CONNECTIONS + BACKLOG as usize;
        let (outcome, latency) = if priority >= self.cutoff || is_full {
            (Outcome::ConnectTimeout, PATIENCE)
        } else {
            let latency = self.serve(due) - due;
            let outcome = if latency <= PATIENCE { Outcome::Answered } else { Outcome::AnswerTimeout };
            (outcome, latency.min(PATIENCE))
        };
        let service = self.service;
        self.requests.push(Request {
            service,
            class,
            user,
            attempt,
            source,
            due,
            sent: due,
            latency,
            outcome,
        });
        let chance = Random::new(self.seed ^ user.rotate_left(32) ^ u64::from(attempt)).unit();
        let again = due + PATIENCE + self.scenario.retries.pause_after(attempt, chance);
        if outcome != Outcome::Answered && attempt + 1 < self.scenario.retries.tries && again < self.last {
            self.tries.push(Reverse(Try { due: again, attempt: attempt + 1, ..of }));
        }
    }

    /// Gives the next worker a request that arrived now. Returns when it is done.
    fn serve(&mut self, now: Duration) -> Duration {
        let Reverse(free) = self.free.pop().unwrap_or_default();
        let begun = free.max(now);
        let mut end = begun
            + match self.scenario.trouble(self.service, begun) {
                Some(Trouble::Slow(factor)) => self.time.mul_f64(factor),
                Some(Trouble::Stall) | None => self.time,
            };
        let stalls = self.scenario.events.iter().filter(|event| event.trouble == Trouble::Stall);
        for stall in stalls.filter(|_| self.service == 0) {
            if stall.when.contains(&end) {
                end = stall.when.end;
            }
        }
        self.free.push(Reverse(end));
        self.under_way.push(Reverse((end, end - now)));
        end
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contender::Contender;
    use crate::rival::fixed::Fixed;
    use crate::scenario::all;
    use crate::score::Score;
    use shedder_common::hash::HashKey;

    fn cohorts() -> Cohorts {
        Cohorts::new(HashKey::new([11, 12], [0x9e37_79b9_7f4a_7c15, 0xbf58_476d_1ce4_e5b9]))
    }

    fn score(scenario: &str, make: impl Fn() -> Option<Box<dyn Controller>>) -> Score {
        let scenario = all().into_iter().find(|known| known.name == scenario).unwrap();
        Score::of(&scenario, &play(&scenario, &cohorts(), 1, 1.0, make))
    }

    fn rival(name: &str) -> Option<Box<dyn Controller>> {
        match Contender::of(name, 950.0) {
            Contender::Rival { make, .. } => Some(make()),
            Contender::Nothing | Contender::Shedder => None,
        }
    }

    #[test]
    fn with_nothing_the_storm_keeps_the_server_down() {
        let score = score("retry-storm", || None);
        assert_eq!(score.recovered_after, None);
        assert!(score.utility < 0.3, "{score:?}");
    }

    #[test]
    fn a_limit_near_the_capacity_is_near_the_ideal() {
        let score = score("step", || Some(Box::new(Fixed(950.0))));
        assert!(score.utility > 0.95, "{score:?}");
        assert_eq!((score.inversions, score.cohort_inversions), (0, 0));
    }

    #[test]
    fn rivals_do_better_than_nothing_where_there_is_time() {
        let nothing = score("step", || None).utility;
        for name in ["aimd", "dagor", "gradient"] {
            let score = score("step", || rival(name));
            assert!(score.utility > nothing, "{name}: {score:?}, {nothing} with nothing");
        }
    }

    #[test]
    fn an_undisturbed_server_answers_everybody_at_once() {
        let mut scenario = all().remove(0);
        for flow in &mut scenario.flows {
            flow.phases.truncate(1);
        }
        let run = play(&scenario, &cohorts(), 1, 1.0, || None);
        assert!(run.requests.iter().all(|request| request.latency < 5 * SERVICE));
    }

    #[test]
    fn a_stall_and_a_slow_server_cost_what_they_do() {
        let stall = score("stall", || None);
        assert_eq!(stall.overshoot, 5.0);
        assert!(stall.recovered_after.is_some_and(|after| after < 2.5), "{stall:?}");
        let slow = score("slow-server", || None);
        assert!(slow.settled_after.is_none(), "{slow:?}");
    }
}
