//! The hash spreads what comes in sequence, and what it does depends on its key.

use shedder_common::bucket::Place;
use shedder_common::hash::{HashKey, mix, mix_in};
use shedder_common::memory::Key;

/// A key from a seed, as good as a random one (SplitMix64).
fn key(seed: u64) -> HashKey {
    let mut state = seed.wrapping_mul(0x2545_f491_4f6c_dd1d);
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ x >> 31
    };
    HashKey::new([next(), next()], [next(), next()])
}

/// Pearson's statistic of the counts against evenness, as standard deviations from its mean.
fn unevenness(counts: &[u32]) -> f64 {
    let total: u64 = counts.iter().map(|&count| count as u64).sum();
    let expected = total as f64 / counts.len() as f64;
    let statistic: f64 = counts.iter().map(|&count| (count as f64 - expected).powi(2) / expected).sum();
    let freedom = (counts.len() - 1) as f64;
    (statistic - freedom) / (2.0 * freedom).sqrt()
}

/// Inputs as sources come: in sequence, in steps, and each the input of one kind of hash.
fn inputs() -> Vec<(&'static str, Vec<u64>)> {
    let ipv4 = |address: u64| address & 0xffff_ffff;
    vec![
        ("IPv4, in sequence", (0..1 << 16).map(|i| ipv4(0x0a00_0000 + i)).collect()),
        ("IPv4, one in each /24", (0..1 << 16).map(|i| ipv4(i << 8 | 1)).collect()),
        ("IPv4, scattered", (0..1 << 16).map(|i: u64| ipv4(i << 16 | i >> 4)).collect()),
        ("/64s, in sequence", (0..1 << 16).map(|i| 0x2001_0db8_0000_0000 + i).collect()),
        ("/64s, one in each /48", (0..1 << 16).map(|i| 0x2001_0000_0000_0000 + (i << 16)).collect()),
        ("/64s, one in each /32", (0..1 << 16).map(|i| (0x2000 << 48) + (i << 32)).collect()),
        ("/64s, in the upper bits", (0..1 << 16).map(|i: u64| i << 48).collect()),
    ]
}

#[test]
fn sets_ways_tags_and_cohorts_fill_evenly() {
    for seed in 0..16 {
        let key = key(seed);
        for (name, inputs) in inputs() {
            let mut sets = vec![0; 1024];
            let mut memory = vec![0; 1024];
            let mut ways = [0; 8];
            let mut tags = vec![0; 256];
            let mut cohorts = [0; 128];
            for &input in &inputs {
                let hash = mix(&key, input);
                let place = Place::of(hash, 1023);
                sets[place.set as usize] += 1;
                ways[place.first] += 1;
                tags[place.tag as usize >> 8] += 1;
                memory[Key::of(hash, 1023).set as usize] += 1;
                cohorts[(mix_in(&key, hash, 7) >> 57) as usize] += 1;
            }
            let parts: [(&str, &[u32]); 5] = [
                ("sets", &sets),
                ("memory", &memory),
                ("ways", &ways),
                ("tags", &tags),
                ("cohorts", &cohorts),
            ];
            for (part, counts) in parts {
                // More even than chance is welcome; less even by six deviations chance makes once in 10^9.
                let unevenness = unevenness(counts);
                assert!(unevenness < 6.0, "{part} of {name}, key {seed}: {unevenness}");
            }
        }
    }
}

#[test]
fn tables_do_not_fill_in_step() {
    // Of the sources that share a set of buckets, few share a set of memory.
    let key = key(1);
    let mut pairs = vec![0u32; 64 * 64];
    for i in 0..1 << 18 {
        let hash = mix(&key, i);
        pairs[Place::of(hash, 63).set as usize * 64 + Key::of(hash, 63).set as usize] += 1;
    }
    assert!(unevenness(&pairs) < 6.0, "{}", unevenness(&pairs));
}

#[test]
fn every_bit_in_changes_every_bit_out_about_half_the_time() {
    const TRIALS: u64 = 4096;
    for bit in 0..64 {
        let mut flips = [0u32; 64];
        for trial in 0..TRIALS {
            let key = key(trial);
            let x = mix(&key, trial << 20);
            let changed = x ^ mix(&key, trial << 20 ^ 1 << bit);
            for (out, flips) in flips.iter_mut().enumerate() {
                *flips += (changed >> out & 1) as u32;
            }
        }
        for (out, flips) in flips.into_iter().enumerate() {
            let share = flips as f64 / TRIALS as f64;
            assert!((0.25..0.75).contains(&share), "bit {bit} flips bit {out} in {share}");
        }
    }
}

#[test]
fn every_bit_of_a_second_word_changes_every_bit_out_about_half_the_time() {
    const TRIALS: u64 = 4096;
    for bit in 0..64 {
        let mut flips = [0u32; 64];
        for trial in 0..TRIALS {
            let key = key(trial);
            let first = mix(&key, trial);
            let changed = mix_in(&key, first, trial << 20) ^ mix_in(&key, first, trial << 20 ^ 1 << bit);
            for (out, flips) in flips.iter_mut().enumerate() {
                *flips += (changed >> out & 1) as u32;
            }
        }
        for (out, flips) in flips.into_iter().enumerate() {
            let share = flips as f64 / TRIALS as f64;
            assert!((0.25..0.75).contains(&share), "bit {bit} flips bit {out} in {share}");
        }
    }
}

#[test]
fn sources_that_share_a_set_under_one_key_do_not_under_another() {
    let [a, b] = [key(1), key(2)];
    let sources: Vec<_> =
        (0..1u64 << 20).filter(|&source| Place::of(mix(&a, source), 1023).set == 5).collect();
    assert!((900..1150).contains(&sources.len()), "{}", sources.len());
    let mut sets = vec![0; 1024];
    for &source in &sources {
        sets[Place::of(mix(&b, source), 1023).set as usize] += 1;
    }
    assert!(sets.iter().max() < Some(&10), "{sets:?}");
}

#[test]
fn pairs_that_an_attacker_would_choose_collide_no_more_than_chance() {
    // Two inputs of which one is the other with a few bits changed, under keys that nobody has seen: how often both
    // fall into one of 1,024 sets.
    const TRIALS: u64 = 1 << 16;
    let differences =
        [1u64, 1 << 31, 1 << 32, 1 << 63, 0x8000_0000_8000_0000, 0x1_0000_0001, u64::MAX, 0xff << 56];
    for difference in differences {
        let collisions = (0..TRIALS)
            .filter(|&trial| {
                let key = key(trial);
                let [a, b] =
                    [0x2001_0db8, 0x2001_0db8 ^ difference].map(|x| Place::of(mix(&key, x), 1023).set);
                a == b
            })
            .count();
        // 64 expected, with a deviation of 8.
        assert!(collisions < 64 + 8 * 8, "{difference:#x}: {collisions}");
    }
}
