//! What is offered, by priority: how a shed ratio becomes a cutoff.

use shedder_common::class::{PRIORITIES, SHED_NOTHING};
use std::time::Duration;

/// Cumulative counts of what was offered, by priority, summed over the CPUs; each wraps.
pub type Counters = [u32; PRIORITIES as usize];

/// How long an arrival counts: its weight falls by a factor of e in this time. Long enough for some hundred flows to
/// make a distribution, short enough to follow a flood.
pub const MEMORY: Duration = Duration::from_secs(1);

/// Less than this in all, and nothing is offered that is worth a distribution.
const LEAST: f64 = 1.0;

/// The priorities of what is offered, the recent ones weighing more.
#[derive(Clone, Debug)]
pub struct Distribution {
    weights: Box<[f64; PRIORITIES as usize]>,
    total: f64,
    recent: f64,
    last: Option<(Duration, Box<Counters>)>,
}

impl Default for Distribution {
    fn default() -> Self {
        Distribution::new()
    }
}

impl Distribution {
    /// Nothing is known yet.
    pub fn new() -> Distribution {
        Distribution { weights: Box::new([0.0; PRIORITIES as usize]), total: 0.0, recent: 0.0, last: None }
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
        let restarted =
            counters.iter().zip(last.iter()).any(|(new, old)| new.wrapping_sub(*old) > u32::MAX / 2);
        let decay = (-now.saturating_sub(*at).as_secs_f64() / MEMORY.as_secs_f64()).exp();
        let mut total = 0.0;
        let mut fresh = 0.0;
        let tau = super::pid::knob(7, 0.1);
        let dt = now.saturating_sub(*at).as_secs_f64();
        self.recent *= (-dt / tau).exp();
        for (&new, &old) in counters.iter().zip(last.iter()) {
            if !restarted {
                fresh += f64::from(new.wrapping_sub(old));
            }
        }
        self.recent += fresh;
        let cap = super::pid::knob(9, 2000.0);
        let decay = decay * cap / (cap + fresh);
        for ((weight, &new), old) in self.weights.iter_mut().zip(counters).zip(last.iter_mut()) {
            let offered = if restarted { 0 } else { new.wrapping_sub(*old) };
            *weight = *weight * decay + f64::from(offered);
            total += *weight;
            *old = new;
        }
        *at = now.max(*at);
        self.total = total;
    }

    /// Whether so little was offered lately that every priority is taken to be as likely as any other.
    pub fn is_empty(&self) -> bool {
        self.total < LEAST
    }

    pub fn load(&self) -> f64 {
        (self.recent + 5.0).ln()
    }

    /// What is offered in a second, averaged over [`MEMORY`].
    pub fn rate(&self) -> f64 {
        self.total / MEMORY.as_secs_f64()
    }

    /// The fraction of what is offered that a cutoff sheds, 0 to 1.
    pub fn share_at(&self, cutoff: u32) -> f64 {
        let cutoff = cutoff.min(SHED_NOTHING);
        let share = if self.is_empty() {
            f64::from(SHED_NOTHING - cutoff) / f64::from(PRIORITIES)
        } else {
            self.weights[cutoff as usize..].iter().sum::<f64>() / self.total
        };
        share.min(1.0)
    }

    /// The cutoff that sheds a share nearest to `ratio`; of two as near, the one that sheds less.
    ///
    /// A ratio of 0 (or one that is no number) sheds nothing, and a ratio of 1 everything, whatever is offered.
    /// Nothing offered: all priorities count the same, so that whatever comes first is shed from the least important
    /// class up.
    pub fn cutoff_for(&self, ratio: f64) -> u32 {
        if ratio.is_nan() || ratio <= 0.0 {
            return SHED_NOTHING;
        }
        if ratio >= 1.0 {
            return 0;
        }
        let empty = self.is_empty();
        let total = if empty { f64::from(PRIORITIES) } else { self.total };
        let wanted = ratio * total;
        let mut best = (SHED_NOTHING, wanted);
        let mut shed = 0.0;
        for cutoff in (0..SHED_NOTHING).rev() {
            shed += if empty { 1.0 } else { self.weights[cutoff as usize] };
            let miss = (shed - wanted).abs();
            if miss < best.1 {
                best = (cutoff, miss);
            }
            if shed >= wanted {
                break;
            }
        }
        best.0
    }
}
