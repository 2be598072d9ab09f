//! What the memory takes by itself: the part of a decision that no program can do without.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// A line of a processor's cache, of which one word is exchanged.
#[repr(C, align(64))]
#[derive(Default)]
struct Line {
    word: AtomicU64,
    _rest: [u64; 7],
}

/// As many lines as the table of a limit has sets.
pub(crate) struct Lines(Vec<Line>);

impl Lines {
    /// Of a table for so many sources, eight to a line.
    pub(crate) fn of(sources: u32) -> Lines {
        let lines: Vec<Line> = (0..sources / 8).map(|_| Line::default()).collect();
        // Written, so that each has a page of its own and not the one of zeros.
        lines.iter().for_each(|line| line.word.store(1, Ordering::Relaxed));
        Lines(lines)
    }

    /// Nanoseconds that it takes to find the line of one of so many sources, chosen at random, and to exchange a word in it.
    pub(crate) fn exchange(&self, sources: u32, times: u64) -> f64 {
        let mut state = 1u64;
        let start = Instant::now();
        for _ in 0..times {
            // Knuth's MMIX generator. What was read last goes into it, so that the next line is not known before.
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let source = ((state >> 32) * u64::from(sources)) >> 32;
            // Fibonacci hashing spreads sources over the lines as the programs' hash does.
            let place = source.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
            let word = &self.0[((place * self.0.len() as u64) >> 32) as usize].word;
            let seen = word.load(Ordering::Relaxed);
            let _ = word.compare_exchange(seen, seen.wrapping_add(2), Ordering::Relaxed, Ordering::Relaxed);
            state = state.wrapping_add(seen & 1);
        }
        black_box(state);
        start.elapsed().as_nanos() as f64 / times as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_source_has_one_line_and_many_have_all() {
        let used =
            |lines: &Lines| lines.0.iter().filter(|line| line.word.load(Ordering::Relaxed) != 1).count();
        let lines = Lines::of(8 * 64);
        lines.exchange(1, 100);
        assert_eq!(used(&lines), 1);
        lines.exchange(100_000, 10_000);
        assert_eq!(used(&lines), 64);
    }
}
