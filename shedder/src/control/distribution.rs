//! What is offered, by priority: how a shed ratio becomes a cutoff.

use shedder_common::class::{COHORTS, Class, Cutoff, PRIORITIES, SHED_NOTHING};
use std::time::Duration;

/// Cumulative counts of what was offered, by priority, summed over the CPUs; each wraps.
pub type Counters = [u32; PRIORITIES as usize];

/// How long an arrival counts in the distribution: its weight falls by a factor of e in this time.
pub(super) const MEMORY: Duration = Duration::from_secs(1);

/// How many arrivals count in the distribution: with each as many as this, the weight of what came before halves.
/// A flood makes its own distribution known within the time that its first thousand arrivals take.
const MEMORY_ARRIVALS: f64 = 1000.0;

/// Time constant of the mean behind [`Distribution::load`].
const LOAD_MEMORY: Duration = Duration::from_millis(50);

/// As many arrivals tell a rate to about a fifth.
const TELLING: f64 = 20.0;

/// Arrivals within [`LOAD_MEMORY`] that are taken to be there always, so that some more than none are no flood.
const LOAD_FLOOR: f64 = 6.0;

/// Less weight than this in all is none.
const FORGOTTEN: f64 = 1e-9;

/// Less weight than this in all, and nothing is offered that makes a distribution.
const LEAST: f64 = 1.0;

/// The priorities of what is offered, the recent ones weighing more.
#[derive(Clone, Debug)]
pub struct Distribution {
    weights: Box<Weights>,
    total: f64,
    /// By class, with a memory of [`MEMORY`] or [`MIX_ARRIVALS`], whichever is shorter.
    mix: [f64; CLASSES],
    /// A second, averaged over [`LOAD_MEMORY`]; none: not known yet.
    rate: Option<f64>,
    /// A second, averaged over [`LOAD_MEMORY`] or over [`TELLING`] arrivals, whichever is longer.
    steady: Option<f64>,
    last: Option<(Duration, Box<Counters>)>,
}

/// A class that makes less than this part of what is admitted is no class worth shedding, or keeping.
const NEGLIGIBLE: f64 = 0.01;

type Weights = [f64; PRIORITIES as usize];

/// How many arrivals count in the mix of the classes: a flood of one class makes itself known within so many, long before
/// the priorities are known well enough to choose a cutoff by.
const MIX_ARRIVALS: f64 = 100.0;

const CLASSES: usize = Class::ALL.len();

impl Default for Distribution {
    fn default() -> Self {
        Distribution::new()
    }
}

impl Distribution {
    /// Nothing is known yet.
    pub fn new() -> Distribution {
        Distribution {
            weights: Box::new([0.0; PRIORITIES as usize]),
            total: 0.0,
            mix: [0.0; CLASSES],
            rate: None,
            steady: None,
            last: None,
        }
    }

    /// What was offered between two readings of the same counters.
    pub fn between(earlier: &Counters, later: &Counters) -> Distribution {
        let mut distribution = Distribution::new();
        distribution.update(Duration::ZERO, earlier);
        distribution.update(Duration::ZERO, later);
        distribution
    }

    /// Takes in the counters as they stand at `now`.
    ///
    /// The first reading only sets where counting starts, and so does one in which a counter went backwards: then
    /// the map behind them was replaced, and its zero is not a burst of four billion.
    pub fn update(&mut self, now: Duration, counters: &Counters) {
        let Some((at, last)) = &mut self.last else {
            self.last = Some((now, Box::new(*counters)));
            return;
        };
        let dt = now.saturating_sub(*at).as_secs_f64();
        *at = now.max(*at);
        let mut by_class = [0.0; CLASSES];
        let of_class = COHORTS as usize;
        for (class, (new, old)) in counters.chunks(of_class).zip(last.chunks(of_class)).enumerate() {
            // Most classes of most services are silent in most turns.
            if new == old {
                continue;
            }
            for (&new, &old) in new.iter().zip(old) {
                let offered = new.wrapping_sub(old);
                if offered > u32::MAX / 2 {
                    **last = *counters;
                    return;
                }
                by_class[class] += f64::from(offered);
            }
        }
        let fresh: f64 = by_class.iter().sum();
        let aged = (-dt / MEMORY.as_secs_f64()).exp();
        let kept = aged * MEMORY_ARRIVALS / (MEMORY_ARRIVALS + fresh);
        self.total *= kept;
        if self.total > FORGOTTEN {
            self.weights.iter_mut().for_each(|weight| *weight *= kept);
        } else if self.total > 0.0 {
            self.total = 0.0;
            self.weights.fill(0.0);
        }
        if fresh > 0.0 {
            for ((weight, &new), old) in self.weights.iter_mut().zip(counters).zip(last.iter_mut()) {
                *weight += f64::from(new.wrapping_sub(*old));
                *old = new;
            }
            self.total = self.weights.iter().sum();
        }
        let kept = aged * MIX_ARRIVALS / (MIX_ARRIVALS + fresh);
        for (mix, fresh) in self.mix.iter_mut().zip(by_class) {
            *mix = *mix * kept + fresh;
        }
        if dt > 0.0 {
            let rate = fresh / dt;
            let kept = (-dt / LOAD_MEMORY.as_secs_f64()).exp();
            self.rate = Some(self.rate.map_or(rate, |before| before * kept + rate * (1.0 - kept)));
            self.steady = Some(self.steady.map_or(rate, |before| {
                let memory = LOAD_MEMORY.as_secs_f64().max(TELLING / before.max(rate).max(1.0));
                before + (rate - before) * (1.0 - (-dt / memory).exp())
            }));
        }
    }

    /// What is offered a second of a class, as far as the latest arrivals tell; none: not known yet.
    pub fn class_per_second(&self, class: Class) -> Option<f64> {
        let arrivals: f64 = self.mix.iter().sum();
        Some(self.rate? * self.mix[class as usize] / arrivals.max(LEAST))
    }

    /// What is offered a second, averaged over as many arrivals as tell it; none: not known yet.
    pub fn per_second(&self) -> Option<f64> {
        self.steady
    }

    /// Whether so little was offered lately that every priority is taken to be as likely as any other.
    pub fn is_empty(&self) -> bool {
        self.total < LEAST
    }

    /// The natural logarithm of what is offered, in a unit of its own: differences tell by what factor it changed.
    /// Where little is offered they tell less.
    pub fn load(&self) -> f64 {
        (self.steady.unwrap_or(0.0) * LOAD_MEMORY.as_secs_f64() + LOAD_FLOOR).ln()
    }

    /// The fraction of what is offered that a cutoff sheds, 0 to 1.
    pub fn share_at(&self, cutoff: impl Into<Cutoff>) -> f64 {
        let cutoff = cutoff.into();
        let first = cutoff.first();
        if first == SHED_NOTHING {
            return 0.0;
        }
        let spared = self.weight(first) * cutoff.admitted_of_first();
        let shed = (first..PRIORITIES).map(|priority| self.weight(priority)).sum::<f64>() - spared;
        let all = if self.is_empty() { f64::from(PRIORITIES) } else { self.total };
        (shed / all).clamp(0.0, 1.0)
    }

    /// What of all that is offered is of a priority. Where nothing is, all priorities are alike.
    fn weight(&self, priority: u32) -> f64 {
        if self.is_empty() { 1.0 } else { self.weights[priority as usize] }
    }

    /// Where the kernel is to cut by itself when it finds answers far too late, `cutoff` being in force: the least
    /// important class of what is admitted, or the lesser half of its cohorts where it is all there is. At least the
    /// share `floor` of what is offered stays admitted; [`SHED_NOTHING`] where that leaves nothing to shed.
    pub fn reflex_cutoff(&self, cutoff: u32, floor: f64) -> u32 {
        if self.is_empty() {
            return SHED_NOTHING;
        }
        let cutoff = cutoff.min(SHED_NOTHING);
        let below = |priority: u32| self.weights[..priority as usize].iter().sum::<f64>();
        let (admitted, floor) = (below(cutoff), floor * self.total);
        let weighs = |class: &u32| {
            let weight = below(((class + 1) * COHORTS).min(cutoff)) - below((class * COHORTS).min(cutoff));
            weight > NEGLIGIBLE * admitted
        };
        let Some(class) = (0..PRIORITIES / COHORTS).rev().find(weighs) else { return SHED_NOTHING };
        let begins = class * COHORTS;
        if below(begins) >= floor.max(NEGLIGIBLE * admitted) {
            return begins;
        }
        let keep = (admitted / 2.0).max(floor);
        let mut kept = below(begins);
        let halved = (begins..cutoff).find(|&priority| {
            kept += self.weights[priority as usize];
            kept >= keep
        });
        halved.map_or(SHED_NOTHING, |last| if last + 1 < cutoff { last + 1 } else { SHED_NOTHING })
    }

    /// The cutoff that sheds just the share `ratio`, of the last cohort in part. As [`Distribution::cutoff_for`] where
    /// little is offered, or a ratio is no number.
    pub fn exact_cutoff_for(&self, ratio: f64) -> Cutoff {
        if self.is_empty() || !(ratio > 0.0 && ratio < 1.0) {
            return Cutoff::at(self.cutoff_for(ratio));
        }
        let wanted = ratio * self.total;
        let mut shed = 0.0;
        for priority in (0..PRIORITIES).rev() {
            let weight = self.weights[priority as usize];
            if shed + weight >= wanted && weight > 0.0 {
                let admitted = 1.0 - ((wanted - shed) / weight).clamp(0.0, 1.0);
                // What is shed of it least is nothing, and is the next priority's.
                let part = (admitted * f64::from(1u32 << 16)).round();
                return if part > f64::from(u16::MAX) {
                    Cutoff::at(priority + 1)
                } else {
                    Cutoff::within(priority, part as u16)
                };
            }
            shed += weight;
        }
        Cutoff::at(0)
    }

    /// The cutoff that sheds a share nearest to `ratio`; of several as near, the one that sheds the least.
    ///
    /// A ratio of 0 (or one that is no number) sheds nothing, and a ratio of 1 everything, whatever is offered.
    /// Where nothing is offered, all priorities count the same: what comes first is then shed from the least important
    /// class up, until it has made itself known.
    pub fn cutoff_for(&self, ratio: f64) -> u32 {
        if ratio.is_nan() || ratio <= 0.0 {
            return SHED_NOTHING;
        }
        if ratio >= 1.0 {
            return 0;
        }
        let is_empty = self.is_empty();
        let wanted = ratio * if is_empty { f64::from(PRIORITIES) } else { self.total };
        let mut best = SHED_NOTHING;
        let mut least_miss = wanted;
        let mut shed = 0.0;
        for cutoff in (0..SHED_NOTHING).rev() {
            shed += self.weight(cutoff);
            let miss = (shed - wanted).abs();
            if miss < least_miss {
                (best, least_miss) = (cutoff, miss);
            }
            if shed >= wanted {
                break;
            }
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use shedder_common::class::priority;

    const NONE: Counters = [0; PRIORITIES as usize];

    fn counters() -> impl Strategy<Value = Counters> {
        proptest::collection::vec((0..PRIORITIES as usize, 1..10_000u32), 0..40).prop_map(|some| {
            let mut counters = NONE;
            for (priority, count) in some {
                counters[priority] = count;
            }
            counters
        })
    }

    proptest! {
        #[test]
        fn exact_cutoff_is_exact(counters in counters(), ratio in 0.0..1.0f64) {
            let distribution = Distribution::between(&NONE, &counters);
            let cutoff = distribution.exact_cutoff_for(ratio);
            if distribution.is_empty() {
                prop_assert_eq!(cutoff, Cutoff::at(distribution.cutoff_for(ratio)));
            } else {
                let share = distribution.share_at(cutoff);
                prop_assert!((share - ratio).abs() < 1e-4, "{} for {}", share, ratio);
            }
            let more = distribution.exact_cutoff_for((ratio + 0.1).min(1.0));
            prop_assert!(more <= cutoff);
        }

        #[test]
        fn cutoff_is_the_nearest(counters in counters(), ratio in 0.0..1.0f64) {
            let distribution = Distribution::between(&NONE, &counters);
            let miss = |cutoff| (distribution.share_at(cutoff) - ratio).abs();
            let chosen = distribution.cutoff_for(ratio);
            for cutoff in 0..=SHED_NOTHING {
                prop_assert!(miss(chosen) <= miss(cutoff) + 1e-9, "{cutoff} is nearer than {chosen}");
            }
        }

        #[test]
        fn more_to_shed_never_raises_the_cutoff(counters in counters(), a in 0.0..=1.0f64, b in 0.0..=1.0f64) {
            let distribution = Distribution::between(&NONE, &counters);
            prop_assert!(distribution.cutoff_for(a.max(b)) <= distribution.cutoff_for(a.min(b)));
        }

        #[test]
        fn counters_wrap(counters in counters(), start in any::<u32>()) {
            let earlier = [start; PRIORITIES as usize];
            let later = counters.map(|count| start.wrapping_add(count));
            let (plain, wrapped) = (Distribution::between(&NONE, &counters), Distribution::between(&earlier, &later));
            prop_assert_eq!(plain.weights, wrapped.weights);
        }
    }

    #[test]
    fn ends_of_the_scale_hold_whatever_is_offered() {
        let mut counters = NONE;
        counters[0] = 1000;
        for distribution in [Distribution::new(), Distribution::between(&NONE, &counters)] {
            assert_eq!(distribution.cutoff_for(0.0), SHED_NOTHING);
            assert_eq!(distribution.cutoff_for(f64::NAN), SHED_NOTHING);
            assert_eq!(distribution.cutoff_for(1.0), 0);
            assert_eq!(distribution.share_at(SHED_NOTHING), 0.0);
            assert_eq!(distribution.share_at(0), 1.0);
        }
    }

    #[test]
    fn nothing_offered_is_shed_from_the_least_important_class_up() {
        let cutoff = Distribution::new().cutoff_for(1.0 / 6.0);
        assert_eq!(cutoff, priority(Class::Sheddable as u8, 0));
    }

    #[test]
    fn flood_is_known_before_the_memory_has_passed() {
        let mut distribution = Distribution::new();
        let mut counters = NONE;
        let (normal, flood) = (priority(Class::Normal as u8, 7), priority(Class::Sheddable as u8, 7));
        for turn in 0..200 {
            counters[normal as usize] += 10;
            if turn >= 190 {
                counters[flood as usize] += 500;
            }
            distribution.update(Duration::from_millis(20) * turn, &counters);
        }
        assert!(distribution.share_at(flood) > 0.9);
        assert_eq!(distribution.cutoff_for(0.9), flood);
    }

    #[test]
    fn reflex_sheds_the_least_important_class_or_half_of_the_only_one() {
        let of = |offered: &[(Class, u32)]| {
            let mut counters = NONE;
            for &(class, count) in offered {
                for cohort in 0..COHORTS {
                    counters[priority(class as u8, cohort) as usize] = count;
                }
            }
            Distribution::between(&NONE, &counters)
        };
        let two = of(&[(Class::High, 10), (Class::Low, 10)]);
        let low = priority(Class::Low as u8, 0);
        assert_eq!(two.reflex_cutoff(SHED_NOTHING, 0.02), low);
        assert_eq!(two.share_at(two.reflex_cutoff(low, 0.02)), 0.75);
        let one = of(&[(Class::Normal, 10)]);
        assert_eq!(one.share_at(one.reflex_cutoff(SHED_NOTHING, 0.02)), 0.5);
        let almost_closed = priority(Class::Normal as u8, 4);
        let cutoff = one.reflex_cutoff(almost_closed, 0.02);
        assert!(cutoff < almost_closed && one.share_at(cutoff) <= 0.98);
        assert_eq!(one.reflex_cutoff(priority(Class::Normal as u8, 2), 0.02), SHED_NOTHING);
        assert_eq!(Distribution::new().reflex_cutoff(SHED_NOTHING, 0.02), SHED_NOTHING);
    }

    #[test]
    fn what_is_past_is_forgotten() {
        let mut distribution = Distribution::new();
        let mut counters = NONE;
        distribution.update(Duration::ZERO, &counters);
        counters[COHORTS as usize] = 100;
        distribution.update(Duration::from_millis(20), &counters);
        assert!(!distribution.is_empty());
        distribution.update(Duration::from_secs(10), &counters);
        assert!(distribution.is_empty());
    }

    #[test]
    fn replaced_map_is_no_burst() {
        let mut distribution = Distribution::new();
        let mut counters = NONE;
        for turn in 1..100 {
            counters[5] += 20;
            distribution.update(Duration::from_millis(20) * turn, &counters);
        }
        let (share, load) = (distribution.share_at(5), distribution.load());
        distribution.update(Duration::from_secs(2), &NONE);
        assert_eq!((distribution.share_at(5), distribution.load()), (share, load));
    }

    #[test]
    fn load_tells_factors_at_any_pace_of_turns() {
        for interval in [5, 20, 1000] {
            let mut distribution = Distribution::new();
            let mut counters = NONE;
            let mut offer = |distribution: &mut Distribution, from: u32, per_second: u32| {
                for turn in 0..5000 / interval {
                    counters[5] += per_second * interval / 1000;
                    distribution.update(Duration::from_millis((from + turn * interval).into()), &counters);
                }
                distribution.load()
            };
            let before = offer(&mut distribution, 0, 20_000);
            let after = offer(&mut distribution, 10_000, 200_000);
            let factor = (after - before).exp();
            assert!((9.5..10.1).contains(&factor), "{factor} at {interval} ms");
        }
    }
}
