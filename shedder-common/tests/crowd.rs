//! Who pays for whom at true scale: the table of the default configuration, a hundred thousand sources over their
//! limit or ten million spoofed ones a second, and a hundred thousand that keep to theirs.
//!
//! Figures are printed: `cargo test -p shedder-common --test crowd -- --nocapture`.

use shedder_common::bucket::{Admission, Place, Rate, Set, WAYS, take, take_shared};
use shedder_common::hash::{HashKey, mix};
use shedder_common::word::Word;

const MILLISECOND: u64 = 1_000_000;
const SECOND: u64 = 1000 * MILLISECOND;

/// Places in the table, unless configured.
const TABLE: usize = 1 << 20;

/// What a source may send, packets a second, and what one sends that keeps to it.
const LIMIT: u64 = 100;
const KEPT: u64 = 50;

/// Sources that keep to their limit.
const CROWD: u64 = 100_000;

/// How long it lasts.
const TIME: u64 = SECOND / 2;

/// One limit of a host, without the rest.
struct Limiter {
    sets: Vec<Set>,
    shared: Word,
    key: HashKey,
    rate: Rate,
    without_place: u64,
}

impl Limiter {
    fn new() -> Limiter {
        Limiter {
            sets: (0..TABLE / WAYS).map(|_| Set::default()).collect(),
            shared: Word::new(0),
            key: HashKey::new(
                [0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7344],
                [0xa409_3822_299f_31d1, 0x082e_fa98_ec4e_6c89],
            ),
            rate: Rate::new(LIMIT, 100 * MILLISECOND),
            without_place: 0,
        }
    }

    fn admits(&mut self, source: u64, now: u64) -> bool {
        let place = Place::of(!mix(&self.key, source), self.sets.len() as u32 - 1);
        let horizon = self.rate.horizon(1);
        match take(&self.sets[place.set as usize], place, &self.rate, 1, now, horizon) {
            Admission::Admitted => true,
            Admission::Refused => false,
            Admission::NoPlace => {
                self.without_place += 1;
                take_shared(&self.shared, &self.rate, 1, now, horizon)
            }
        }
    }
}

/// The share of what the crowd sends that is dropped while `others` send, millisecond by millisecond.
fn dropped(what: &str, mut others: impl FnMut(&mut Limiter, u64)) -> f64 {
    let mut limiter = Limiter::new();
    let (mut sent, mut lost) = (0u64, 0u64);
    let start = 1_000 * SECOND;
    // A burst's time before the crowd comes, so that it finds the others in their places.
    for millisecond in 0..(TIME + 100 * MILLISECOND) / MILLISECOND {
        let now = start + millisecond * MILLISECOND;
        others(&mut limiter, now);
        if millisecond < 100 {
            continue;
        }
        // Each comes once in its period, and all of them evenly.
        let period = 1000 / KEPT;
        for source in (millisecond % period..CROWD).step_by(period as usize) {
            sent += 1;
            lost += u64::from(!limiter.admits(0x0a00_0000 + source, now));
        }
    }
    let share = lost as f64 / sent as f64;
    println!(
        "{what}: {lost} of {sent} dropped ({:.4} %), {} packets without a place",
        100.0 * share,
        limiter.without_place
    );
    assert_eq!(sent, CROWD * KEPT * TIME / SECOND);
    share
}

#[test]
fn a_hundred_thousand_bots_cost_the_others_nothing() {
    const BOTS: u64 = 100_000;
    let share = dropped("among bots", |limiter, now| {
        // Twice what they may: each comes every five milliseconds.
        for bot in (now / MILLISECOND % 5..BOTS).step_by(5) {
            limiter.admits(0xc000_0000 + bot, now);
        }
    });
    assert!(share < 0.0001, "{share} of what the others sent was dropped");
}

#[test]
fn ten_million_spoofed_packets_a_second_cost_the_others_nothing() {
    let mut state = 1u64;
    let share = dropped("among spoofed sources", |limiter, now| {
        for _ in 0..10_000 {
            // Any address but the crowd's.
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            limiter.admits(0x4000_0000 | state >> 34, now);
        }
    });
    assert!(share < 0.0001, "{share} of what the others sent was dropped");
}

/// In a table that is full the places are shared out to those who come first, and the others are counted.
#[test]
fn a_full_table_is_told_by_its_counter() {
    let mut limiter = Limiter::new();
    limiter.sets.truncate(1 << 10);
    let places = (limiter.sets.len() * WAYS) as u64;
    let now = 1_000 * SECOND;
    let admitted = (0..10 * places).filter(|source| limiter.admits(*source, now)).count() as u64;
    // A source in eight thousand finds its tag on another's word; and the bucket of those without a place has its burst.
    let (burst, alike) = (10, places / 100);
    println!("{admitted} of {} admitted, {} without a place", 10 * places, limiter.without_place);
    assert!((places..=places + burst + alike).contains(&admitted));
    assert!((9 * places - alike..=9 * places).contains(&limiter.without_place));
}
