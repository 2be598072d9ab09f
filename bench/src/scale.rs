//! What faster machines ask of the tables and the counters: arithmetic, and simulation by the programs' own code.

use serde::Serialize;
use shedder_common::abi::{
    Control, FLOW_SETS, FlowSet, MAX_INTERFACES, MAX_SERVICES, Measured, OfInterface, Offered,
};
use shedder_common::bucket::{Admission, Place, Rate, Set, WAYS, take};
use shedder_common::hash::{HashKey, mix};

/// A table of a size with so many live sources.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Occupancy {
    pub(crate) sets: u32,
    pub(crate) live: u64,
    /// The share of sources that find no place: by the programs' own code, and by formula.
    pub(crate) simulated: f64,
    pub(crate) computed: f64,
}

/// Sources that come one after the other to an empty table, each alive until the last has come.
pub(crate) fn occupancy(sets: u32, live: u64) -> Occupancy {
    let table: Vec<Set> = (0..sets).map(|_| Set::default()).collect();
    let key = HashKey::new(
        [0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7344],
        [0xa409_3822_299f_31d0, 0x082e_fa98_ec4e_6c89],
    );
    let rate = Rate::new(1, 1_000_000_000);
    let horizon = rate.horizon(1);
    const NOW: u64 = 1 << 40;
    let refused = (0..live).filter(|&source| {
        let place = Place::of(mix(&key, source), sets - 1);
        take(&table[place.set as usize], place, &rate, 1, NOW, horizon) == Admission::NoPlace
    });
    let simulated = refused.count() as f64 / live as f64;
    Occupancy { sets, live, simulated, computed: overflow(live as f64 / f64::from(sets)) }
}

/// The share of sources that find no place where each set is chosen by `mean` sources on average (Poisson), and the
/// first [`WAYS`] of a set are served.
fn overflow(mean: f64) -> f64 {
    // E[max(X - ways, 0)] / mean.
    let (mut probability, mut excess) = ((-mean).exp(), mean - WAYS as f64);
    for count in 0..WAYS {
        // What the sum over all counts has too much, below the ways.
        excess += probability * (WAYS - count) as f64;
        probability *= mean / (count + 1) as f64;
    }
    (excess / mean).max(0.0)
}

/// What 100 Gbit/s of the smallest frames, in 64 queues on 64 cores, asks for.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Demand {
    pub(crate) gigabits: f64,
    pub(crate) cores: u64,
    /// Frames a second: on the wire each takes 20 bytes more than its 64.
    pub(crate) frames: f64,
    /// Nanoseconds that each core has for one.
    pub(crate) budget: f64,
    /// Sources that a spoofed flood at that rate keeps alive under a limit of this many a second.
    pub(crate) per_second: f64,
    pub(crate) live: f64,
    /// Bytes of counters: of one interface on one core, and in all that is per core.
    pub(crate) counters_each: usize,
    pub(crate) counters: usize,
    pub(crate) offered: usize,
    pub(crate) measured: usize,
    /// Bytes that are the same on every machine.
    pub(crate) flows: usize,
    pub(crate) control: usize,
    /// Bytes that a scrape reads from the kernel with as many services as there can be, and one interface.
    pub(crate) scrape: usize,
}

/// At this speed, on so many cores.
pub(crate) fn demand(gigabits: f64, cores: u64) -> Demand {
    const SMALLEST: f64 = 84.0;
    const PER_SECOND: f64 = 100.0;
    let frames = gigabits * 1e9 / 8.0 / SMALLEST;
    let counters_each = size_of::<OfInterface>();
    let each_core = |bytes: usize| bytes * cores as usize;
    let offered = each_core(size_of::<Offered>() * (MAX_SERVICES + 1));
    let measured = each_core(size_of::<Measured>() * (MAX_SERVICES + 1));
    Demand {
        gigabits,
        cores,
        frames,
        budget: cores as f64 * 1e9 / frames,
        per_second: PER_SECOND,
        // Each is alive for as long as a packet takes at its limit.
        live: frames / PER_SECOND,
        counters_each,
        counters: each_core(counters_each * MAX_INTERFACES),
        offered,
        measured,
        flows: FLOW_SETS * (size_of::<Set>() + size_of::<FlowSet>()),
        control: size_of::<Control>(),
        scrape: each_core(counters_each) + offered + measured,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The programs' hash spreads sources as chance does.
    #[test]
    fn the_simulation_agrees_with_the_formula() {
        for load in [2, 4, 6, 8, 16] {
            let Occupancy { simulated, computed, .. } = occupancy(1 << 12, load << 12);
            assert!((simulated - computed).abs() < 0.003 + 0.05 * computed, "{load}: {simulated} {computed}");
        }
    }

    #[test]
    fn overflow_has_its_limits() {
        assert!(overflow(0.1) < 1e-12);
        assert!((overflow(1000.0) - 0.992).abs() < 1e-9);
    }

    #[test]
    fn a_hundred_gigabits_are_148_million_frames() {
        let demand = demand(100.0, 64);
        assert_eq!((demand.frames / 1e5).round(), 1488.0);
        assert_eq!(demand.budget.round(), 430.0);
    }
}
