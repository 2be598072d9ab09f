//! Remembering, forgetting, and making room.

use proptest::prelude::*;
use shedder_common::bucket::{Set, WAYS};
use shedder_common::memory::{Key, Remembered, UNIT_BITS, live, recall, remember};
use std::collections::HashMap;

const UNIT: u64 = 1 << UNIT_BITS;

fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

/// A key with this tag, in the only set.
fn key(tag: u64) -> Key {
    Key::of(tag << 32, 0)
}

/// A time up to some decades after boot.
fn times() -> impl Strategy<Value = u64> {
    prop_oneof![0..10 * UNIT, 0..1u64 << 60]
}

/// A time to live, up to 31 days.
fn ttls() -> impl Strategy<Value = u64> {
    prop_oneof![0u64..40, 0u64..2_500_000]
}

proptest! {
    #![proptest_config(cases(2_000))]

    #[test]
    fn a_key_is_known_for_its_time_and_at_most_a_unit_longer(
        now in times(), ttl in ttls(), tag in prop_oneof![Just(0u64), 0u64..1 << 32],
    ) {
        let set = Set::default();
        prop_assert!(!recall(&set, key(tag), now));
        prop_assert_eq!(remember(&set, key(tag), now, ttl), Remembered::New);
        for kept in [0, ttl * UNIT / 2, ttl * UNIT] {
            prop_assert!(recall(&set, key(tag), now + kept));
        }
        for gone in [(ttl + 1) * UNIT, (ttl + 2) * UNIT, (ttl + 2) * UNIT * 2] {
            prop_assert!(!recall(&set, key(tag), now + gone));
        }
    }

    #[test]
    fn silence_is_counted_from_the_last_packet(
        start in times(), ttl in ttls(), waits in prop::collection::vec(0f64..1.0, 1..60),
    ) {
        // However often the key was seen before: never forgotten before the whole time has passed in silence, and
        // not more than a unit later.
        let set = Set::default();
        remember(&set, key(5), start, ttl);
        let mut now = start;
        for wait in waits {
            now += (wait * (ttl * UNIT) as f64) as u64;
            prop_assert_eq!(remember(&set, key(5), now, ttl), Remembered::Known);
            prop_assert!(recall(&set, key(5), now + ttl * UNIT));
            prop_assert!(!recall(&set, key(5), now + (ttl + 1) * UNIT));
        }
    }

    #[test]
    fn a_key_touched_every_sixteenth_of_its_time_is_known_for_ever(
        start in times(), ttl in 1u64..2_500_000, phase in 0f64..1.0,
    ) {
        let set = Set::default();
        remember(&set, key(5), start, ttl);
        let mut now = start;
        for i in 0..200 {
            now += ttl * UNIT / 16 - (i % 2) * (phase * UNIT as f64 / 16.0) as u64;
            prop_assert!(recall(&set, key(5), now));
            prop_assert_eq!(remember(&set, key(5), now, ttl), Remembered::Known);
        }
        prop_assert_eq!(live(&set, now), 1);
    }

    #[test]
    fn a_set_remembers_as_a_map_of_eight_would(
        start in times(), ttl in 1u64..1_000, steps in prop::collection::vec((0u64..12, 0u64..200), 1..300),
    ) {
        let set = Set::default();
        // Tag, and the unit in which it is forgotten.
        let mut model: HashMap<u64, u64> = HashMap::new();
        let mut now = start;
        for (tag, wait) in steps {
            now += wait * UNIT / 10;
            let unit = now / UNIT;
            model.retain(|_, until| *until > unit);
            for other in 0..12 {
                prop_assert_eq!(recall(&set, key(other), now), model.contains_key(&other));
            }
            prop_assert_eq!(live(&set, now), model.len());
            let expected = if model.contains_key(&tag) {
                Remembered::Known
            } else if model.len() < WAYS {
                Remembered::New
            } else {
                // Of those that go first together, either may.
                let soonest = *model.values().min().expect("there are eight");
                prop_assert_eq!(remember(&set, key(tag), now, ttl), Remembered::Displaced);
                let gone: Vec<_> = model.keys().copied().filter(|&tag| !recall(&set, key(tag), now)).collect();
                prop_assert_eq!(gone.len(), 1);
                prop_assert_eq!(model.remove(&gone[0]), Some(soonest));
                model.insert(tag, unit + ttl + 1);
                continue;
            };
            prop_assert_eq!(remember(&set, key(tag), now, ttl), expected);
            model.insert(tag, unit + ttl + 1);
        }
    }

    #[test]
    fn no_other_key_is_recalled(tags in prop::collection::hash_set(0u64..1 << 32, 2..20), now in times()) {
        // A tag has 32 bits: of the keys that share a set with eight others, one in 2^29 is taken for one of them.
        let set = Set::default();
        let mut tags = tags.into_iter();
        let other = tags.next().expect("there are two");
        for tag in tags {
            remember(&set, key(tag), now, 100);
            prop_assert!(!recall(&set, key(other), now));
        }
    }

    #[test]
    fn a_key_that_is_asked_for_is_not_written(now in times(), ttl in ttls()) {
        let set = Set::default();
        remember(&set, key(1), now, ttl);
        let before: Vec<_> = set.0.iter().map(|way| way.load()).collect();
        recall(&set, key(1), now);
        recall(&set, key(2), now);
        // Nor is one that is remembered again within the unit.
        remember(&set, key(1), now / UNIT * UNIT, ttl);
        remember(&set, key(1), now / UNIT * UNIT + UNIT - 1, ttl);
        prop_assert_eq!(before, set.0.iter().map(|way| way.load()).collect::<Vec<_>>());
    }
}

#[test]
fn the_set_and_the_tag_of_a_key_are_apart_in_tables_up_to_a_million_keys() {
    let mask = (1 << 17) - 1;
    let hash = 0x0123_4567_89ab_cdef;
    for bit in 0..64 {
        let [a, b] = [hash, hash ^ 1 << bit].map(|hash| Key::of(hash, mask));
        let in_set = (13..30).contains(&bit);
        let in_tag = bit >= 32;
        assert_eq!(a.set != b.set, in_set, "{bit}");
        assert_eq!(a != b, in_set || in_tag, "{bit}");
        assert!(b.set <= mask);
    }
}
