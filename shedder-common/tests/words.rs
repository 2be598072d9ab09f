//! What a person commands comes back out of its word, and holds exactly as long as it should.

use proptest::prelude::*;
use shedder_common::abi::{PortEntry, ServiceControl};
use shedder_common::class::{Class, Cutoff, PRIORITIES, SHED_NOTHING, priority};
use shedder_common::word::Word;
use shedder_common::words::{FOREVER, KillWord, OverrideWord};

/// Nanoseconds of an override's unit of time.
const UNIT: u64 = 1 << 20;

fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

fn deadlines() -> impl Strategy<Value = u64> {
    prop_oneof![0u64..4, any::<u64>(), 0u64..1 << 50, u64::MAX - 4 * UNIT..=u64::MAX]
}

proptest! {
    #![proptest_config(cases(2_000))]

    #[test]
    fn a_kill_holds_until_its_deadline_to_the_nanosecond_before(deadline in deadlines(), total: bool) {
        let kill = KillWord::until(deadline, total);
        prop_assert!(kill.is_set() && kill.0 != 0);
        prop_assert_eq!(kill.is_total(), total);
        if deadline >= FOREVER - 1 {
            prop_assert!(kill.is_endless() && kill.holds(u64::MAX) && kill.deadline().is_none());
        } else {
            // The lowest bit is not the deadline's: rounded down, and 0 and 1 up to 2.
            let end = (deadline & !1).max(2);
            prop_assert_eq!(kill.deadline(), Some(end));
            prop_assert!(!kill.is_endless());
            prop_assert!(kill.holds(0) && kill.holds(end - 1) && !kill.holds(end) && !kill.holds(u64::MAX));
        }
    }

    #[test]
    fn an_override_comes_back_and_holds_until_its_deadline_rounded_up(
        deadline in deadlines(), permille in 0u32..2_000, cutoff in 0u32..2_000, other in 0u32..2_000,
    ) {
        let word = OverrideWord::until(deadline, permille, cutoff);
        prop_assert!(word.is_set() && word.0 != 0);
        prop_assert_eq!(word.permille(), permille.min(1000));
        prop_assert_eq!(word.cutoff(), cutoff.min(SHED_NOTHING));
        match word.deadline() {
            None => {
                // For ever, or so close to the end of the clock that its unit cannot tell.
                prop_assert!(deadline > u64::MAX - 2 * UNIT);
                prop_assert!(word.holds(0) && word.holds(u64::MAX));
            }
            Some(end) => {
                prop_assert!(deadline < FOREVER);
                prop_assert!(end >= deadline && end - deadline <= UNIT && end % UNIT == 0 && end > 0);
                prop_assert!(word.holds(0) && word.holds(end - 1) && !word.holds(end) && !word.holds(u64::MAX));
            }
        }
        let changed = word.with_cutoff(other);
        prop_assert_eq!(changed.cutoff(), other.min(SHED_NOTHING));
        prop_assert_eq!((changed.permille(), changed.deadline()), (word.permille(), word.deadline()));
        prop_assert_eq!(changed.with_cutoff(cutoff), word);
    }

    #[test]
    fn a_port_entry_comes_back(slot: u8, class in 0u8..6, every_packet: bool) {
        let entry = PortEntry::new(slot, class, every_packet);
        prop_assert!(entry.is_service());
        prop_assert_eq!((entry.slot(), entry.class(), entry.every_packet()), (slot as usize, class, every_packet));
    }

    #[test]
    fn a_priority_is_in_range_and_ordered_by_class_first(class: u8, cohort: u32, other: u32) {
        let found = priority(class, cohort);
        prop_assert!(found < PRIORITIES);
        prop_assert_eq!(found % 128, cohort % 128);
        if class < 5 {
            prop_assert!(found < priority(class + 1, other));
        }
    }

    #[test]
    fn the_cutoff_of_a_service_comes_back(cutoff in 0u32..2_000, part: u16) {
        let control = ServiceControl::default();
        prop_assert_eq!(control.cutoff(), Cutoff::NOTHING);
        control.set_cutoff(cutoff);
        prop_assert_eq!(control.cutoff(), Cutoff::at(cutoff));
        prop_assert_eq!(control.cutoff().first(), cutoff.min(SHED_NOTHING));
        control.set_cutoff(Cutoff::within(cutoff, part));
        prop_assert_eq!(control.cutoff(), Cutoff::within(cutoff, part));
    }

    #[test]
    fn no_word_in_the_map_makes_a_cutoff_out_of_range(shed: u64) {
        let control = ServiceControl { shed: Word::new(shed), ..ServiceControl::default() };
        prop_assert!(control.cutoff() <= Cutoff::NOTHING);
    }
}

#[test]
fn zero_is_no_command() {
    assert!(!KillWord::NONE.is_set() && !KillWord::NONE.holds(0) && KillWord::NONE.deadline().is_none());
    assert!(!KillWord::NONE.is_total() && !KillWord::NONE.is_endless());
    assert!(
        !OverrideWord::NONE.is_set()
            && !OverrideWord::NONE.holds(0)
            && OverrideWord::NONE.deadline().is_none()
    );
    assert!(!PortEntry(0).is_service());
    assert_eq!(OverrideWord::NONE.with_cutoff(3), OverrideWord::NONE);
}

#[test]
fn forever_is_told_from_every_deadline() {
    for total in [false, true] {
        assert!(KillWord::until(FOREVER, total).is_endless());
        assert!(!KillWord::until(FOREVER - 2, total).is_endless());
    }
    assert_eq!(OverrideWord::until(FOREVER, 500, 300).deadline(), None);
    assert_eq!(OverrideWord::until(1, 500, 300).deadline(), Some(UNIT));
}

#[test]
fn classes_are_named_and_ordered() {
    for (i, class) in Class::ALL.into_iter().enumerate() {
        assert_eq!(class as usize, i);
        assert_eq!(Class::from_name(class.name()), Some(class));
    }
    assert_eq!(Class::from_name("Critical"), None);
    assert_eq!(Class::from_name(""), None);
}
