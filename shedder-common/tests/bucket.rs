//! Buckets against the algorithm in exact arithmetic, against time that wraps and clocks that differ, and against
//! each other.

use proptest::prelude::*;
use shedder_common::bucket::{Admission, Look, Place, Rate, SKEW, Set, WAYS, live, look, take, take_shared};
use shedder_common::word::Word;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

const SECOND: u64 = 1_000_000_000;
const MILLISECOND: u64 = 1_000_000;
const TURN: u64 = 1 << 48;

fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

/// What a look says that charges nothing.
fn peek(set: &Set, place: Place, rate: &Rate, amount: u64, now: u64, horizon: u64) -> Admission {
    match look(set, place, rate, amount, now, horizon) {
        None => Admission::Refused,
        Some(Look::NO_PLACE) => Admission::NoPlace,
        Some(_) => Admission::Admitted,
    }
}

fn place(tag: u64, first: usize) -> Place {
    Place { set: 0, tag, first }
}

/// Takes from the bucket of one source, whose horizon is that of its own rate.
fn admitted(set: &Set, rate: &Rate, amount: u64, now: u64) -> bool {
    take(set, place(7, 3), rate, amount, now, rate.horizon(amount)) == Admission::Admitted
}

/// The algorithm in exact arithmetic: times in nanoseconds times 2^16, which nothing rounds and nothing wraps.
struct Reference {
    arrival: u128,
}

impl Reference {
    fn new() -> Reference {
        Reference { arrival: 0 }
    }

    fn admits(&mut self, rate: &Rate, amount: u64, now: u64) -> bool {
        let now = (now as u128) << 16;
        if self.arrival > now + ((rate.tolerance as u128) << 16) {
            return false;
        }
        self.arrival = self.arrival.max(now) + amount as u128 * rate.cost as u128;
        true
    }
}

/// A rate between 1 and 10^7 a second, even on a logarithmic scale.
fn rates() -> impl Strategy<Value = u64> {
    (0f64..=7.0).prop_map(|exponent| 10f64.powf(exponent).round() as u64)
}

/// A burst between 1 ms and 60 s.
fn bursts() -> impl Strategy<Value = u64> {
    (6f64..=10.77).prop_map(|exponent| 10f64.powf(exponent) as u64)
}

/// A time anywhere in a turn of the clock that a word keeps, often near where it wraps.
fn times() -> impl Strategy<Value = u64> {
    prop_oneof![
        0..TURN * 4,
        (1u64..4, -2_000_000_000i64..2_000_000_000)
            .prop_map(|(turn, off)| (turn * TURN).wrapping_add_signed(off)),
    ]
}

proptest! {
    #![proptest_config(cases(1_000))]

    #[test]
    fn what_is_admitted_at_once_is_the_burst(per_second in rates(), burst in bursts(), now in times()) {
        let ideal = (per_second as u128 * burst as u128 / SECOND as u128).max(1) as u64;
        prop_assume!(ideal <= 20_000);
        let rate = Rate::new(per_second, burst);
        let set = Set::default();
        let count = (0..ideal + 2).filter(|_| admitted(&set, &rate, 1, now)).count() as u64;
        prop_assert_eq!(count, ideal);
    }

    #[test]
    fn what_is_admitted_over_time_is_the_rate(
        per_second in rates(), burst in bursts(), start in times(), waits in prop::collection::vec(0f64..1.0, 1..200),
    ) {
        // Whole nanoseconds are what a word holds: the period that a rate comes to. From it all else is exact.
        let burst = burst.min(500 * SECOND / per_second);
        let rate = Rate::new(per_second, burst);
        let period = rate.horizon(1) - rate.tolerance;
        let set = Set::default();
        let (mut now, mut count) = (start, 0u64);
        for wait in waits {
            while admitted(&set, &rate, 1, now) { count += 1 }
            let expected = (now - start + rate.tolerance) / period + 1;
            prop_assert_eq!(count, expected);
            let ideal = (now - start) as f64 / period as f64;
            let burst = burst as f64 * per_second as f64 / SECOND as f64;
            prop_assert!((ideal - 1.0..=ideal + burst.max(1.0) + 1.0).contains(&(count as f64)), "{count} {ideal}");
            // Never so long that the bucket runs over, and what comes back is lost.
            now += (wait * rate.tolerance as f64) as u64;
        }
    }

    #[test]
    fn a_rounded_period_is_the_rate_to_half_a_nanosecond(per_second in rates()) {
        let rate = Rate::new(per_second, SECOND);
        let exact = SECOND as f64 / per_second as f64;
        let charged = (rate.horizon(1) - rate.tolerance) as f64;
        prop_assert!((charged - exact).abs() <= 0.501, "{charged} {exact}");
    }

    #[test]
    fn bytes_of_many_sizes_are_admitted_at_the_rate(
        per_second in 1_500u64..1_000_000_000, burst in MILLISECOND..SECOND, start in times(),
        sizes in prop::collection::vec(prop_oneof![60u64..1515, 1400u64..1515, 60u64..66_000], 1..20),
    ) {
        let rate = Rate::new(per_second, burst);
        let horizon = rate.horizon(1 << 19);
        let set = Set::default();
        let mut reference = Reference::new();
        let (mut now, mut bytes, mut packets, mut ideal) = (start, 0u64, 0u64, 0u64);
        // Offered at about three times the rate.
        let mean = sizes.iter().sum::<u64>() / sizes.len() as u64;
        let step = (mean * SECOND / per_second / 3).max(1);
        for i in 0..10_000 {
            let size = sizes[i % sizes.len()];
            if take(&set, place(1, 0), &rate, size, now, horizon) == Admission::Admitted {
                bytes += size;
                packets += 1;
            }
            if reference.admits(&rate, size, now) { ideal += size }
            now += step;
        }
        // Half a nanosecond a packet, and the packet at either end.
        let slack = (packets * per_second).div_ceil(2 * SECOND) + 2 * 66_000;
        prop_assert!(bytes.abs_diff(ideal) <= slack, "{bytes} {ideal} {slack}");
    }

    #[test]
    fn refusing_writes_nothing(
        per_second in rates(), burst in bursts(), now in times(), early in 0f64..1.0, others in 1u64..8,
    ) {
        let rate = Rate::new(per_second, burst.min(20 * SECOND / per_second));
        let horizon = rate.horizon(1);
        let set = Set::default();
        for tag in 0..others {
            take(&set, place(tag, tag as usize), &rate, 1, now, horizon);
        }
        let mut ahead = 0;
        while admitted(&set, &rate, 1, now) { ahead += horizon - rate.tolerance }
        // Until the time ahead is within the tolerance again.
        let later = now + (early * (ahead - rate.tolerance) as f64) as u64;
        let before: Vec<_> = set.0.iter().map(Word::load).collect();
        for now in [now, later] {
            prop_assert_eq!(peek(&set, place(7, 3), &rate, 1, now, horizon), Admission::Refused);
            prop_assert_eq!(take(&set, place(7, 3), &rate, 1, now, horizon), Admission::Refused);
        }
        prop_assert_eq!(before, set.0.iter().map(Word::load).collect::<Vec<_>>());
        prop_assert!(admitted(&set, &rate, 1, now + ahead - rate.tolerance));
    }

    #[test]
    fn peeking_says_what_taking_does_and_writes_nothing(
        per_second in rates(), burst in bursts(), start in times(), waits in prop::collection::vec(0f64..2.0, 1..100),
    ) {
        let rate = Rate::new(per_second, burst);
        let horizon = rate.horizon(1);
        let set = Set::default();
        let mut now = start;
        for wait in waits {
            now += (wait * SECOND as f64 / per_second as f64) as u64;
            let before: Vec<_> = set.0.iter().map(Word::load).collect();
            let said = peek(&set, place(9, 1), &rate, 1, now, horizon);
            prop_assert_eq!(before, set.0.iter().map(Word::load).collect::<Vec<_>>());
            prop_assert_eq!(said, take(&set, place(9, 1), &rate, 1, now, horizon));
        }
    }

    #[test]
    fn the_algorithm_is_exact_where_the_period_is_whole(
        period in 100u64..SECOND, burst in bursts(), start in times(),
        waits in prop::collection::vec(0u64..4, 1..500),
    ) {
        let rate = Rate { cost: period << 16, tolerance: burst.saturating_sub(period) };
        let set = Set::default();
        let mut reference = Reference::new();
        let mut now = start;
        for wait in waits {
            now += wait * period / 3;
            prop_assert_eq!(admitted(&set, &rate, 1, now), reference.admits(&rate, 1, now));
        }
    }

    #[test]
    fn a_silence_of_whole_turns_never_gives_more_and_is_strict_no_longer_than_the_horizon(
        per_second in 1u64..100_000, burst in MILLISECOND..60 * SECOND, start in times(), turns in 1u64..4,
        off in -100 * SECOND as i64..100 * SECOND as i64,
    ) {
        let burst = burst.min(500 * SECOND / per_second);
        let rate = Rate::new(per_second, burst);
        let horizon = rate.horizon(1);
        let period = horizon - rate.tolerance;
        let ideal = (per_second * burst / SECOND).max(1);
        let set = Set::default();
        while admitted(&set, &rate, 1, start) {}
        let now = (start + turns * TURN).wrapping_add_signed(off);
        let count = (0..ideal + 2).filter(|_| admitted(&set, &rate, 1, now)).count() as u64;
        prop_assert!(count <= ideal, "{count}");
        // A horizon later, and the skew of clocks, whatever seemed spent has come back.
        let later = now + horizon + SKEW;
        let after = (0..ideal + 2).filter(|_| admitted(&set, &rate, 1, later)).count() as u64;
        prop_assert_eq!(after, ideal, "{}", period);
    }

    #[test]
    fn a_table_that_was_never_written_has_room_at_every_time(
        now in times(), per_second in rates(), burst in bursts(), tag in prop_oneof![Just(0u64), 0u64..65536], first in 0usize..8,
    ) {
        let rate = Rate::new(per_second, burst);
        let set = Set::default();
        prop_assert_eq!(live(&set, now, rate.horizon(1)), 0);
        prop_assert_eq!(take(&set, place(tag, first), &rate, 1, now, rate.horizon(1)), Admission::Admitted);
        prop_assert!(take_shared(&Word::new(0), &rate, 1, now, rate.horizon(1)));
    }

    #[test]
    fn sources_of_a_set_do_not_disturb_each_other(
        rates in prop::collection::vec(1u64..100_000, WAYS), burst in MILLISECOND..SECOND, start in times(),
        tags in prop::collection::hash_set(0u64..65536, WAYS), firsts in prop::collection::vec(0usize..8, WAYS),
        steps in prop::collection::vec((0usize..WAYS, 0u64..MILLISECOND), 1..400),
    ) {
        // Eight sources in one set behave as each would alone, its rate a rule's or not, whatever the horizon is.
        let rates: Vec<_> = rates.into_iter().map(|rate| Rate::new(rate, burst)).collect();
        let horizon = rates.iter().map(|rate| rate.horizon(1)).max().expect("there are eight");
        let tags: Vec<_> = tags.into_iter().collect();
        let shared = Set::default();
        let alone: [Set; WAYS] = std::array::from_fn(|_| Set::default());
        let mut now = start;
        for (who, wait) in steps {
            now += wait;
            let place = place(tags[who], firsts[who]);
            let expected = take(&alone[who], place, &rates[who], 1, now, horizon);
            prop_assert_eq!(take(&shared, place, &rates[who], 1, now, horizon), expected);
        }
    }

    #[test]
    fn a_clock_that_lags_gives_nothing_twice(
        per_second in rates(), burst in bursts(), start in times(), lags in prop::collection::vec(0u64..20 * MILLISECOND, 1..50),
    ) {
        // Another CPU read its clock earlier, or its coarse clock ticks later.
        let rate = Rate::new(per_second, burst);
        let rate = Rate { tolerance: rate.tolerance.min(1_000 * SECOND / per_second), ..rate };
        let start = start + SECOND;
        let set = Set::default();
        while admitted(&set, &rate, 1, start) {}
        for lag in lags {
            prop_assert!(!admitted(&set, &rate, 1, start - lag), "{lag}");
        }
    }

    #[test]
    fn a_shared_bucket_holds_packets_of_all_sizes_and_rates_to_what_it_has(
        sizes in prop::collection::vec((60u64..66_000, 1_500u64..100_000_000), 2..100), start in times(),
    ) {
        // All at one instant: each rate allows its own burst at the most, and nobody's packet refills the bucket.
        let burst = 100 * MILLISECOND;
        let rates: Vec<_> = sizes.iter().map(|&(_, per_second)| Rate::new(per_second, burst)).collect();
        let horizon = rates.iter().map(|rate| rate.horizon(1 << 19)).max().expect("there are two");
        let bucket = Word::default();
        let mut spent = 0u128;
        for ((size, _), rate) in sizes.iter().zip(&rates) {
            let expected = spent <= (rate.tolerance as u128) << 16;
            let is_near = spent.abs_diff((rate.tolerance as u128) << 16) < 100 << 16;
            let was_admitted = take_shared(&bucket, rate, *size, start, horizon);
            prop_assert!(was_admitted == expected || is_near, "{spent} {rate:?}");
            if was_admitted { spent += *size as u128 * rate.cost as u128 }
        }
    }

    #[test]
    fn no_amount_at_any_rate_escapes_being_charged(
        per_second in prop_oneof![1u64..2_000, rates(), Just(u64::MAX), Just(100_000_000_000)],
        burst in prop_oneof![bursts(), Just(u64::MAX), Just(0)],
        amount in prop_oneof![Just(1u64), 60u64..1515, 1u64 << 18..1 << 20], start in times(),
    ) {
        let rate = Rate::new(per_second, burst);
        let horizon = rate.horizon(amount);
        // Far enough from half a turn that a time ahead is told from one that has passed.
        let furthest = (1u64 << 47) - SKEW;
        prop_assert!(rate.tolerance <= horizon && horizon <= furthest, "{horizon}");
        let exact = ((amount as u128 * rate.cost as u128) >> 16).min((furthest - rate.tolerance) as u128) as u64;
        prop_assert!(horizon - rate.tolerance >= exact, "{horizon} {exact}");
        let set = Set::default();
        prop_assert!(admitted(&set, &rate, amount, start));
        // As much later as it takes, less one nanosecond, it is still charged.
        if rate.tolerance == 0 && exact > 1 {
            prop_assert!(!admitted(&set, &rate, 1, start + exact - 1));
        }
        let bucket = Word::default();
        prop_assert!(take_shared(&bucket, &rate, amount, start, horizon));
    }

    #[test]
    fn a_packet_larger_than_the_horizon_was_made_for_is_no_free_pass(
        per_second in 1_500u64..100_000_000, start in times(), size in 66_000u64..524_288,
    ) {
        // Segments that a stack has merged are larger than what the daemon may have thought of.
        let rate = Rate::new(per_second, 100 * MILLISECOND);
        let horizon = rate.horizon(1514);
        let set = Set::default();
        let mut admitted = 0;
        for _ in 0..1000 {
            if take(&set, place(7, 3), &rate, size, start, horizon) == Admission::Admitted { admitted += 1 }
        }
        // A burst counted out in periods of whole nanoseconds is 0.5 % off at the most.
        let burst = per_second / 10 + per_second / 2_000 + 1;
        prop_assert!(admitted <= burst / size + 1, "{admitted}");
        let bucket = Word::default();
        let shared = (0..1000).filter(|_| take_shared(&bucket, &rate, size, start, horizon)).count() as u64;
        prop_assert!(shared <= burst / size + 1, "{shared}");
    }
}

#[test]
fn bursts_of_a_few_are_exact() {
    for per_second in 1..=2_000 {
        for burst in [SECOND, SECOND / 2, SECOND / 10, SECOND / 1000, 3 * SECOND] {
            let rate = Rate::new(per_second, burst);
            let set = Set::default();
            let ideal = (per_second * burst / SECOND).max(1);
            let count = (0..ideal + 2).filter(|_| admitted(&set, &rate, 1, SECOND)).count() as u64;
            assert_eq!(count, ideal, "{per_second}/s, {burst} ns");
        }
    }
}

#[test]
fn at_a_constant_rate_whole_seconds_are_exact() {
    for per_second in [1, 10, 1_000, 8_000, 50_000, 1_000_000, 10_000_000] {
        let rate = Rate::new(per_second, MILLISECOND);
        let period = SECOND / per_second;
        let set = Set::default();
        // Offered twice as fast as allowed, for the time of 20,000 packets.
        let count =
            (0..40_000).filter(|i| admitted(&set, &rate, 1, TURN - SECOND + i * period / 2)).count() as u64;
        let burst = (per_second / 1000).max(1);
        assert!((19_999..=20_000 + burst + 1).contains(&count), "{per_second}/s: {count}");
    }
}

#[test]
fn bytes_of_ordinary_sizes_are_exact_to_a_thousandth() {
    for per_second in [1_500, 1_000_000, 50_000_000, 125_000_000, 1_250_000_000] {
        for sizes in [&[1514][..], &[66, 1514, 1514], &[590], &[66, 200, 800, 65_226]] {
            let mean = sizes.iter().sum::<u64>() / sizes.len() as u64;
            // 0.1 % is half a nanosecond of 500.
            if mean * SECOND / per_second < 500 {
                continue;
            }
            let step = mean * SECOND / per_second / 2;
            let rate = Rate::new(per_second, 200 * step);
            let horizon = rate.horizon(1 << 19);
            let set = Set::default();
            let (mut now, mut bytes) = (TURN - SECOND, 0);
            for i in 0..400_000 {
                let size = sizes[i / 2 % sizes.len()];
                if take(&set, place(1, 0), &rate, size, now, horizon) == Admission::Admitted {
                    bytes += size;
                }
                now += step;
            }
            let ideal = (400_000 * step) as f64 * per_second as f64 / SECOND as f64;
            let error = (bytes as f64 - ideal).abs() - 100.0 * mean as f64 - 2.0 * 65_226.0;
            assert!(error / ideal < 0.001, "{per_second}/s in {sizes:?}: {bytes} of {ideal}");
        }
    }
}

#[test]
fn unlimited_is_told_from_every_rate() {
    assert!(Rate::new(0, SECOND).is_unlimited());
    assert_eq!(Rate::UNLIMITED, Rate::default());
    for per_second in [1, u64::MAX] {
        assert!(!Rate::new(per_second, 0).is_unlimited());
    }
}

#[test]
fn the_ninth_live_source_finds_no_place_and_an_expired_way_is_reused() {
    let rate = Rate::new(10, SECOND);
    let horizon = rate.horizon(1);
    let set = Set::default();
    let start = TURN - SECOND;
    for tag in 0..WAYS as u64 {
        assert_eq!(take(&set, place(tag, 5), &rate, 1, start + tag, horizon), Admission::Admitted);
    }
    assert_eq!(live(&set, start + 8, horizon), WAYS);
    assert_eq!(take(&set, place(100, 2), &rate, 1, start + 8, horizon), Admission::NoPlace);
    assert_eq!(peek(&set, place(100, 2), &rate, 1, start + 8, horizon), Admission::NoPlace);
    // The eight are as they were.
    for tag in 0..WAYS as u64 {
        assert_eq!(peek(&set, place(tag, 0), &rate, 1, start + 8, horizon), Admission::Admitted);
    }
    // The first of them expires after a packet's time: its way is the ninth's, with a whole bucket.
    let later = start + SECOND / 10;
    assert_eq!(live(&set, later, horizon), WAYS - 1);
    for _ in 0..10 {
        assert_eq!(take(&set, place(100, 2), &rate, 1, later, horizon), Admission::Admitted);
    }
    assert_eq!(take(&set, place(100, 2), &rate, 1, later, horizon), Admission::Refused);
    assert_eq!(take(&set, place(0, 5), &rate, 1, later, horizon), Admission::NoPlace);
}

#[test]
fn a_word_of_a_slow_rule_is_judged_right_under_the_common_horizon() {
    // A rule with a small rate puts the time far ahead; a fast neighbour's horizon alone would take it for passed.
    let slow = Rate::new(1, 10 * SECOND);
    let fast = Rate::new(1_000_000, MILLISECOND);
    let horizon = slow.horizon(1).max(fast.horizon(1));
    let set = Set::default();
    for _ in 0..10 {
        assert_eq!(take(&set, place(1, 0), &slow, 1, SECOND, horizon), Admission::Admitted);
    }
    for tag in 2..=8 {
        assert_eq!(take(&set, place(tag, 0), &fast, 1, SECOND, horizon), Admission::Admitted);
    }
    assert_eq!(take(&set, place(9, 0), &fast, 1, SECOND, horizon), Admission::NoPlace);
    assert_eq!(take(&set, place(1, 0), &slow, 1, SECOND, horizon), Admission::Refused);
    assert_eq!(take(&set, place(1, 0), &fast, 1, SECOND, horizon), Admission::Refused);
}

#[test]
fn a_time_that_is_zero_on_the_word_is_told_from_a_word_never_written() {
    // Ten packets at once, the last of which puts the time exactly where the clock's turn ends.
    let rate = Rate::new(1_000, 10 * MILLISECOND);
    let horizon = rate.horizon(1);
    let now = TURN - 10 * MILLISECOND;
    let (set, bucket) = (Set::default(), Word::default());
    let first = |now| take(&set, place(0, 0), &rate, 1, now, horizon) == Admission::Admitted;
    assert_eq!((0..30).filter(|_| first(now)).count(), 10);
    assert_eq!((0..30).filter(|_| take_shared(&bucket, &rate, 1, now, horizon)).count(), 10);
    assert_eq!(live(&set, now, horizon), 1);
}

/// Takes on two threads at once, each with a clock that only it moves, and returns what both were given.
fn hammer(take: impl Fn(u64) -> bool + Sync, start: u64, period: u64, packets: u64) -> u64 {
    let barrier = Barrier::new(2);
    let clocks = [AtomicU64::new(0), AtomicU64::new(0)];
    std::thread::scope(|scope| {
        let worker = |me: usize| {
            let (barrier, clocks, take) = (&barrier, &clocks, &take);
            scope.spawn(move || {
                barrier.wait();
                let mut count = 0;
                for i in 0..packets {
                    // The two stay within a millisecond of each other, as the clocks of two CPUs do.
                    while clocks[1 - me].load(Relaxed) + MILLISECOND / period < i {
                        std::thread::yield_now();
                    }
                    clocks[me].store(i, Relaxed);
                    count += take(start + i * period) as u64;
                }
                clocks[me].store(u64::MAX / 2, Relaxed);
                count
            })
        };
        [worker(0), worker(1)].map(|worker| worker.join().expect("no worker panics")).iter().sum()
    })
}

#[test]
fn two_threads_on_one_source_are_given_what_one_would_be() {
    // Each offers a million packets a second for a second, where 100,000 are allowed and 1,000 at once.
    let rate = Rate::new(100_000, 10 * MILLISECOND);
    for start in [SECOND, TURN - SECOND / 2] {
        let set = Set::default();
        let count = hammer(|now| admitted(&set, &rate, 1, now), start, 1_000, 1_000_000);
        assert!((99_000..=102_000).contains(&count), "{count}");
        let bucket = Word::default();
        let count =
            hammer(|now| take_shared(&bucket, &rate, 1, now, rate.horizon(1)), start, 1_000, 1_000_000);
        assert!((99_000..=102_000).contains(&count), "{count}");
    }
}

#[test]
fn two_threads_on_one_set_leave_each_source_what_is_its_own() {
    let rate = Rate::new(100_000, 10 * MILLISECOND);
    let set = Set::default();
    let counts: [AtomicU64; 4] = Default::default();
    hammer(
        |now| {
            let who = now / 1_000 % 4;
            let was_admitted =
                take(&set, place(who + 1, 0), &rate, 1, now, rate.horizon(1)) == Admission::Admitted;
            counts[who as usize].fetch_add(was_admitted as u64, Relaxed);
            was_admitted
        },
        SECOND,
        1_000,
        1_000_000,
    );
    for count in counts {
        let count = count.into_inner();
        assert!((99_000..=102_000).contains(&count), "{count}");
    }
}

#[test]
fn places_use_bits_of_the_hash_that_do_not_overlap() {
    // In the largest table, 2^23 sets, a place says all of 42 bits of the hash.
    let place = Place::of(0xabcd_e000_0056_789a, (1 << 23) - 1);
    assert_eq!((place.set, place.tag, place.first), (0x56_789a, 0xabcd, 7));
    for bit in 0..64 {
        let flipped = Place::of(0xabcd_e000_0056_789a ^ 1 << bit, (1 << 23) - 1);
        let changes = [flipped.set != place.set, flipped.tag != place.tag, flipped.first != place.first];
        assert!(changes.iter().filter(|&&changed| changed).count() <= 1, "{bit}");
    }
}
