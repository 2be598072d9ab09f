//! The one figure: of the worth that could have been delivered, how much was.

use crate::run::{CLASSES, Run, WINDOW, index, indices};
use crate::scenario::{Scenario, TARGET, TOLERANCE};
use shedder_common::class::Class;
use std::time::Duration;

/// What an answer to a user of this class is worth: twice that of the class below.
fn weight(class: Class) -> f64 {
    f64::from(1u32 << (Class::Sheddable as u32 - class as u32))
}

/// What an answer within the clients' patience, but not within the target, is worth of one within it.
const LATE: f64 = 0.5;

/// The worth of the answers to the users who first asked between the overload's start and the run's end, of all services,
/// divided by that of the ideal: somebody who knows what the server can do serves as many of them, in each window of
/// 100 ms, the most important first, and all of them at once. 1 is ideal; a window's leftovers may be served in the next,
/// so that a little more is possible.
pub(crate) fn utility(scenario: &Scenario, run: &Run) -> f64 {
    let (mut achieved, mut possible) = (0.0, 0.0);
    let within = TARGET.mul_f64(TOLERANCE);
    let judged = indices(&(scenario.overload().start..scenario.length()));
    for service in 0..scenario.services {
        let mut demand = vec![[0u32; CLASSES.len()]; judged.end];
        for user in run.users(service) {
            let window = index(user.due);
            let Some(class) = CLASSES.iter().position(|class| *class == user.class) else { continue };
            if !judged.contains(&window) {
                continue;
            }
            demand[window][class] += 1;
            achieved += weight(user.class)
                * match user.answered {
                    Some(latency) if latency <= within => 1.0,
                    Some(_) => LATE,
                    None => 0.0,
                };
        }
        for window in judged.clone() {
            let middle = WINDOW * window as u32 + WINDOW / 2;
            possible += ideal(&demand[window], scenario.capacity(service, middle), WINDOW);
        }
    }
    if possible == 0.0 { 0.0 } else { achieved / possible }
}

/// The worth of the most important of `demand`, as many as `capacity` (a second) can answer in `width`.
fn ideal(demand: &[u32; CLASSES.len()], capacity: f64, width: Duration) -> f64 {
    let mut room = capacity * width.as_secs_f64();
    let mut worth = 0.0;
    for (class, &wanted) in CLASSES.into_iter().zip(demand) {
        let served = f64::from(wanted).min(room);
        room -= served;
        worth += served * weight(class);
    }
    worth
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cohorts::Cohorts;
    use crate::run::Request;
    use crate::scenario;
    use shedder_common::hash::HashKey;
    use shedder_tests::load::Outcome;

    #[test]
    fn the_ideal_serves_the_most_important_first() {
        let worth = ideal(&[10, 50, 500], 1000.0, WINDOW);
        assert_eq!(worth, 10.0 * 32.0 + 50.0 * 8.0 + 40.0 * 4.0);
        assert_eq!(ideal(&[10, 50, 500], 0.0, WINDOW), 0.0);
    }

    #[test]
    fn late_answers_are_worth_half_and_a_retry_counts_once() {
        let scenario = &scenario::all()[0];
        let due = scenario.overload().start;
        let request = |user, attempt, latency_ms, outcome| Request {
            service: 0,
            class: Class::Critical,
            user,
            attempt,
            source: std::net::Ipv4Addr::LOCALHOST.into(),
            due,
            sent: due,
            latency: Duration::from_millis(latency_ms),
            outcome,
        };
        let run = |requests| Run {
            contender: String::new(),
            requests,
            samples: vec![],
            cohorts: Cohorts::new(HashKey::default()),
            started: 0,
            valid: true,
        };
        let good = request(0, 0, 20, Outcome::Answered);
        let late = request(1, 0, 200, Outcome::Answered);
        let lost = request(2, 0, 250, Outcome::ConnectTimeout);
        let again = request(2, 1, 20, Outcome::Answered);
        assert_eq!(utility(scenario, &run(vec![good])), 1.0);
        assert_eq!(utility(scenario, &run(vec![good, late])), 0.75);
        assert_eq!(utility(scenario, &run(vec![good, lost])), 0.5);
        assert_eq!(utility(scenario, &run(vec![good, lost, again])), (1.0 + 1.0) / 2.0);
        assert_eq!(utility(scenario, &run(vec![])), 0.0);
    }
}
