//! WeChat's rule.
//!
//! H. Zhou et al., "Overload Control for Scaling WeChat Microservices", SoCC 2018 (arXiv:1806.04075), section 4: a window
//! of 1 s or 2,000 requests; overloaded where the mean queueing time in it exceeded 20 ms; then the requests that are to be
//! admitted are 5 % fewer than those that were, and else more by 1 % of those that came. The level of (business, user)
//! priority that admits as many is found in the window's histogram of priorities. Their numbers are used as they are.

use super::{Act, Controller, Seen};
use shedder::control::Counters;
use shedder_common::class::{PRIORITIES, SHED_NOTHING};
use std::time::Duration;

const WINDOW: Duration = Duration::from_secs(1);
const REQUESTS: u64 = 2000;
const QUEUEING: Duration = Duration::from_millis(20);
const DOWN: f64 = 0.05;
const UP: f64 = 0.01;

/// The rule, and its window.
#[derive(Debug)]
pub(crate) struct Dagor {
    cutoff: u32,
    since: Option<Duration>,
    offered: Box<Counters>,
    /// Seconds, of all requests that ended.
    queueing: f64,
    ended: u64,
}

impl Dagor {
    pub(crate) fn new() -> Dagor {
        Dagor {
            cutoff: SHED_NOTHING,
            since: None,
            offered: Box::new([0; PRIORITIES as usize]),
            queueing: 0.0,
            ended: 0,
        }
    }

    /// Requests of the window that a cutoff admits.
    fn admitted(&self, cutoff: u32) -> f64 {
        self.offered[..cutoff as usize].iter().map(|&count| f64::from(count)).sum()
    }

    fn close(&mut self, seen: &Seen<'_>) {
        // A window in which requests waited and none ended has no queueing time: it has no end.
        let overloaded = match self.ended {
            0 => seen.in_flight > 0,
            ended => self.queueing / ended as f64 > QUEUEING.as_secs_f64(),
        };
        let admitted = self.admitted(self.cutoff);
        if overloaded {
            let expected = (1.0 - DOWN) * admitted;
            while self.cutoff > 0 && self.admitted(self.cutoff) > expected {
                self.cutoff -= 1;
            }
        } else {
            let expected = admitted + UP * self.admitted(SHED_NOTHING);
            while self.cutoff < SHED_NOTHING && self.admitted(self.cutoff) < expected {
                self.cutoff += 1;
            }
        }
        *self = Dagor { cutoff: self.cutoff, since: Some(seen.now), ..Dagor::new() };
    }
}

impl Controller for Dagor {
    fn turn(&mut self, seen: &Seen<'_>) -> Act {
        for (sum, &count) in self.offered.iter_mut().zip(seen.offered) {
            *sum += count;
        }
        let ended = seen.ended.count();
        self.ended += ended;
        self.queueing += seen.queueing.unwrap_or_default().as_secs_f64() * ended as f64;
        let since = *self.since.get_or_insert(seen.now);
        let requests: u64 = self.offered.iter().map(|&count| u64::from(count)).sum();
        if seen.now.saturating_sub(since) >= WINDOW || requests >= REQUESTS {
            self.close(seen);
        }
        Act::Cutoff(self.cutoff)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rival::Ended;

    fn turn(dagor: &mut Dagor, now: u64, queueing: u64, offered: &Counters) -> u32 {
        let mut ended = Ended::default();
        ended.0[100] = 10;
        let seen = Seen {
            now: Duration::from_millis(now),
            ended: &ended,
            queueing: Some(Duration::from_millis(queueing)),
            in_flight: 5,
            offered,
            offered_rate: 0.0,
        };
        match dagor.turn(&seen) {
            Act::Cutoff(cutoff) => cutoff,
            Act::Rate(_) => panic!("sets a cutoff"),
        }
    }

    #[test]
    fn goes_down_by_a_twentieth_of_the_admitted_and_up_by_a_hundredth_of_the_offered() {
        let mut dagor = Dagor::new();
        let mut offered = [0; PRIORITIES as usize];
        offered[..100].fill(20);
        // 2,000 requests are a window. Above priority 99 there is nothing: 95 of these 100 are left.
        assert_eq!(turn(&mut dagor, 0, 30, &offered), 95);
        // 95 % of 95: 90.25, so that 90 are left.
        assert_eq!(turn(&mut dagor, 20, 30, &offered), 90);
        assert_eq!(turn(&mut dagor, 40, 10, &offered), 91);
    }

    #[test]
    fn waits_for_a_second_where_little_comes() {
        let mut dagor = Dagor::new();
        let mut offered = [0; PRIORITIES as usize];
        offered[7] = 1;
        for now in 0..50 {
            assert_eq!(turn(&mut dagor, now * 20, 30, &offered), SHED_NOTHING);
        }
        assert_eq!(turn(&mut dagor, 1000, 30, &offered), 7);
    }
}
