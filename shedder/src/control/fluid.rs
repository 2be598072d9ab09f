//! A service as a fluid: what it does without chance, so that what swings is the loop.
//!
//! Requests arrive evenly, in batches, and leave a FIFO queue evenly. Cheap at any rate, which events are not.

use super::distribution::{Counters, Distribution};
use super::in_flight::InFlight;
use super::passive::{Applied, PassiveWindow};
use super::service::{Sensor, ServiceLoop};
use super::survival::bucket_of;
use crate::config::{Control, Posture, Signal};
use bytemuck::Zeroable;
use shedder_common::abi::{Exchange, Measured};
use shedder_common::class::{COHORTS, Class, Cutoff, PRIORITIES, priority};
use std::collections::VecDeque;
use std::time::Duration;

/// One plant under one overload.
#[derive(Clone, Copy, Debug)]
struct Plant {
    /// Seconds.
    service_time: f64,
    /// Requests a second.
    capacity: f64,
    target: Duration,
    interval: Duration,
    /// In capacities.
    overload: f64,
    /// Turns until what is decided is in force.
    delay: usize,
}

/// Requests that arrived together.
struct Batch {
    at: f64,
    ends: f64,
    count: u32,
}

/// Whole things out of a stream of fractions.
#[derive(Default)]
struct Whole(f64);

impl Whole {
    fn take(&mut self, amount: f64) -> u32 {
        self.0 += amount;
        let whole = self.0.floor();
        self.0 -= whole;
        whole as u32
    }
}

/// The ratios of a run: half the capacity for a while, then the overload until any backlog has drained.
fn run(plant: &Plant) -> Vec<f64> {
    let control = Control { interval: plant.interval, ..Control::default() };
    let deadline = Signal::probe_timeout(plant.target);
    let mut service = ServiceLoop::new(&control, plant.target, Sensor::Passive, Posture::Open, 0.0);
    let mut window = PassiveWindow::new(control.window, 0.99, plant.target, deadline, control.min_samples);
    let mut in_flight = InFlight::new(deadline, plant.interval);
    let mut offered = Distribution::new();
    let mut counters: Counters = [0; PRIORITIES as usize];
    let mut measured = Measured::zeroed();
    let mut cutoffs = VecDeque::from(vec![Cutoff::NOTHING; plant.delay]);
    let (mut queue, mut last_end) = (VecDeque::<Batch>::new(), 0.0f64);
    let (mut arrivals, mut offers) = (Whole::default(), Whole::default());
    let mut first = 0;

    let step = plant.interval.as_secs_f64();
    let dead_time = 0.3 * plant.target.as_secs_f64() + 3.0 * step + 1.0 / plant.capacity;
    let before = (30.0 / plant.capacity + 5.0 * plant.service_time).max(10.0 * step);
    let after = (15.0 * dead_time).max(10.0 * plant.target.as_secs_f64()).max(3.0);
    let turns = ((before + after) / step) as usize;
    let batches = 8.max(((step / plant.target.as_secs_f64()) * 4.0) as usize).min(16);
    let mut ratios = Vec::with_capacity(turns);
    for turn in 0..turns {
        let from = turn as f64 * step;
        let rate = plant.capacity * if from < before { 0.5 } else { plant.overload };
        // Every cohort offers the same.
        let count = offers.take(rate * step);
        for (index, priority) in (priority(Class::Normal as u8, 0)..).take(COHORTS as usize).enumerate() {
            let is_next = (index as u32 * 37 + first) % COHORTS < count % COHORTS;
            counters[priority as usize] += count / COHORTS + u32::from(is_next);
        }
        first = (first + COHORTS - count % COHORTS) % COHORTS;
        let share = 1.0 - offered.share_at(cutoffs.front().copied().unwrap_or(Cutoff::NOTHING));
        for batch in 0..batches {
            let at = from + step * batch as f64 / batches as f64;
            let count = arrivals.take(rate * share * step / batches as f64);
            if count == 0 {
                continue;
            }
            last_end = (at + plant.service_time).max(last_end + f64::from(count) / plant.capacity);
            let requests = &mut measured.exchanges[Exchange::Request as usize];
            *requests = requests.wrapping_add(count);
            match queue.back_mut() {
                Some(batch) if at - batch.at < plant.target.as_secs_f64() / 64.0 => {
                    batch.count += count;
                    batch.ends = last_end;
                }
                _ => queue.push_back(Batch { at, ends: last_end, count }),
            }
        }
        let now = from + step;
        while let Some(batch) = queue.pop_front_if(|batch| batch.ends <= now) {
            let latency = Duration::from_secs_f64(batch.ends - batch.at);
            let answered = &mut measured.answered[bucket_of(latency)];
            *answered = answered.wrapping_add(batch.count);
        }
        in_flight.begin(plant.interval);
        for batch in &queue {
            in_flight.add(Duration::from_secs_f64(now - batch.at), batch.count);
        }
        let at = Duration::from_secs_f64(now);
        offered.update(at, &counters);
        let applied = Applied { share: 1.0, admitted: service.admitted(), baseline: service.baseline() };
        let reading = window.turn(at, &measured, &in_flight, applied);
        let decision = service.turn(at, &reading, &offered, None);
        cutoffs.push_back(decision.cutoff);
        cutoffs.pop_front();
        ratios.push(decision.ratio);
    }
    ratios
}

/// Every plant of a grid that a latency can be asked of: a service time fits into the target twice, and twenty requests do.
fn plants(service_times: &[f64], capacities: &[f64], targets: &[u64]) -> Vec<Plant> {
    let mut plants = Vec::new();
    for &service_time in service_times {
        for &capacity in capacities {
            for &target in targets {
                for interval in [5, 20] {
                    let target = Duration::from_millis(target);
                    let is_slow = target >= Duration::from_secs(1) && interval == 5;
                    let fits =
                        target.as_secs_f64() >= 2.0 * service_time && target.as_secs_f64() * capacity >= 20.0;
                    if fits && !is_slow && service_time * capacity >= 0.5 {
                        let interval = Duration::from_millis(interval);
                        plants.push(Plant {
                            service_time,
                            capacity,
                            target,
                            interval,
                            overload: 0.0,
                            delay: 0,
                        });
                    }
                }
            }
        }
    }
    plants
}

/// The plants under overloads, at delays of some turns, whose ratio goes on swinging by more than a tenth. Where fewer than
/// a hundred requests make a target's queue each of them is a step of it: they may swing by ten steps.
fn swinging<'a>(plants: impl Iterator<Item = &'a Plant>) -> (usize, Vec<String>) {
    let mut runs = 0;
    let mut found = Vec::new();
    for plant in plants {
        for (overload, delay) in [(1.3, 1), (3.0, 1), (3.0, 2), (10.0, 1), (10.0, 2)] {
            let plant = Plant { overload, delay, ..*plant };
            let ratios = run(&plant);
            runs += 1;
            let tail = &ratios[ratios.len() * 2 / 3..];
            let high = tail.iter().copied().fold(0.0, f64::max);
            let swing = high - tail.iter().copied().fold(1.0, f64::min);
            let mean = tail.iter().sum::<f64>() / tail.len() as f64;
            let allowed = (10.0 / (plant.target.as_secs_f64() * plant.capacity)).clamp(0.1, 0.5);
            if swing > allowed || (mean - (1.0 - 1.0 / overload)).abs() > 0.1 {
                found.push(format!("swings by {swing:.2} about {mean:.2}: {plant:?}"));
            }
        }
    }
    (runs, found)
}

#[test]
fn loop_is_stable_whatever_the_service() {
    let times = [0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0];
    let capacities = [10.0, 30.0, 100.0, 300.0, 1e3, 3e3, 1e4, 3e4, 1e5];
    let targets = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000];
    let (runs, found) = swinging(plants(&times, &capacities, &targets).iter());
    assert!(runs > 2000 && found.is_empty(), "{} of {runs}: {found:#?}", found.len());
}
