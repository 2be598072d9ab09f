//! What a person commands, each packed into one word, so that it is written and read whole.

use crate::class::SHED_NOTHING;

/// The deadline that never passes.
pub const FOREVER: u64 = u64::MAX;

/// A kill: none, or until a deadline, with or without lifelines.
///
/// Zero is no kill. Otherwise the deadline in nanoseconds of CLOCK_MONOTONIC, its lowest bit replaced by whether
/// the kill is total.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct KillWord(pub u64);

impl KillWord {
    /// No kill.
    pub const NONE: KillWord = KillWord(0);

    const TOTAL: u64 = 1;
    /// The deadlines from here on are for ever, and need no clock.
    const ENDLESS: u64 = FOREVER - 1;

    /// A kill until `deadline` ([`FOREVER`]: until it is lifted); `total` drops lifelines as well. The deadline is
    /// rounded down to an even nanosecond, and the last two there are, are for ever.
    pub const fn until(deadline: u64, total: bool) -> KillWord {
        // A deadline of 0 or 1 would read as no kill.
        let deadline = if deadline < 2 { 2 } else { deadline };
        KillWord(deadline & !Self::TOTAL | total as u64)
    }

    /// Whether a kill was commanded, its deadline passed or not.
    #[inline(always)]
    pub const fn is_set(self) -> bool {
        self.0 != 0
    }

    /// Whether no deadline ends it.
    #[inline(always)]
    pub const fn is_endless(self) -> bool {
        self.0 >= Self::ENDLESS
    }

    /// Whether it holds at `now`.
    #[inline(always)]
    pub const fn holds(self, now: u64) -> bool {
        self.is_endless() || self.0 & !Self::TOTAL > now
    }

    /// Whether lifelines are dropped as well.
    #[inline(always)]
    pub const fn is_total(self) -> bool {
        self.0 & Self::TOTAL != 0
    }

    /// When it ends, in nanoseconds of CLOCK_MONOTONIC; none where it was never set or has no end.
    pub const fn deadline(self) -> Option<u64> {
        if !self.is_set() || self.is_endless() { None } else { Some(self.0 & !Self::TOTAL) }
    }
}

/// A person's shed ratio in place of the loop's: none, or a ratio, the cutoff found for it, and a deadline.
///
/// From the top: 44 bits of deadline in units of 2^20 ns (1.05 ms), 10 bits of ratio in thousandths, 10 bits of
/// cutoff. Zero is no override; a deadline of all ones never passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct OverrideWord(pub u64);

impl OverrideWord {
    /// No override.
    pub const NONE: OverrideWord = OverrideWord(0);

    const UNIT: u32 = 20;
    const ENDLESS: u64 = (1 << 44) - 1;

    /// Shed `permille` thousandths (0 to 1,000) by shedding everything at or past `cutoff`, until `deadline`, a time
    /// in nanoseconds of CLOCK_MONOTONIC or [`FOREVER`]. The deadline is rounded up to the next 1.05 ms; one in the
    /// last 2.1 ms before the clock's end is for ever.
    pub const fn until(deadline: u64, permille: u32, cutoff: u32) -> OverrideWord {
        let permille = if permille > 1000 { 1000 } else { permille };
        let cutoff = if cutoff > SHED_NOTHING { SHED_NOTHING } else { cutoff };
        let units = deadline.div_ceil(1 << Self::UNIT);
        let units = if units == 0 {
            1
        } else if units > Self::ENDLESS {
            Self::ENDLESS
        } else {
            units
        };
        OverrideWord(units << 20 | (permille as u64) << 10 | cutoff as u64)
    }

    /// Whether an override was commanded, its deadline passed or not.
    #[inline(always)]
    pub const fn is_set(self) -> bool {
        self.0 != 0
    }

    /// Whether it holds at `now`.
    #[inline(always)]
    pub const fn holds(self, now: u64) -> bool {
        self.is_set() && (self.0 >> 20 == Self::ENDLESS || self.0 >> 20 << Self::UNIT > now)
    }

    /// The cutoff in place of the loop's.
    #[inline(always)]
    pub const fn cutoff(self) -> u32 {
        (self.0 & 0x3ff) as u32
    }

    /// The ratio that was asked for, in thousandths.
    pub const fn permille(self) -> u32 {
        (self.0 >> 10 & 0x3ff) as u32
    }

    /// When it ends, in nanoseconds of CLOCK_MONOTONIC; none where it was never set or has no end.
    pub const fn deadline(self) -> Option<u64> {
        if !self.is_set() || self.0 >> 20 == Self::ENDLESS { None } else { Some(self.0 >> 20 << Self::UNIT) }
    }

    /// The same override with the cutoff that its ratio comes to now; none stays none.
    pub const fn with_cutoff(self, cutoff: u32) -> OverrideWord {
        if !self.is_set() {
            return self;
        }
        let cutoff = if cutoff > SHED_NOTHING { SHED_NOTHING } else { cutoff };
        OverrideWord(self.0 & !0x3ff | cutoff as u64)
    }
}

/// When the kernel sheds by itself between two turns of the loop, and how much: none, or a delay, how many answers may
/// exceed it, and a cutoff.
///
/// From the top: 32 bits of delay in units of 2^10 ns (1.02 us), 22 bits of answers, 10 bits of cutoff. Zero is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct ReflexWord(pub u64);

impl ReflexWord {
    /// No reflex.
    pub const NONE: ReflexWord = ReflexWord(0);

    const UNIT: u32 = 10;
    const MOST_ANSWERS: u32 = (1 << 22) - 1;

    /// Shed everything at or past `cutoff` once `answers` (at least 1, held to 2^22 - 1) have taken longer than `delay`
    /// nanoseconds (held to 73 minutes).
    pub const fn new(delay: u64, answers: u32, cutoff: u32) -> ReflexWord {
        let units = delay >> Self::UNIT;
        let units = if units == 0 {
            1
        } else if units > u32::MAX as u64 {
            u32::MAX as u64
        } else {
            units
        };
        let answers = if answers == 0 {
            1
        } else if answers > Self::MOST_ANSWERS {
            Self::MOST_ANSWERS
        } else {
            answers
        };
        let cutoff = if cutoff > SHED_NOTHING { SHED_NOTHING } else { cutoff };
        ReflexWord(units << 32 | (answers as u64) << 10 | cutoff as u64)
    }

    /// Whether there is one.
    #[inline(always)]
    pub const fn is_armed(self) -> bool {
        self.0 != 0
    }

    /// The delay that is far past the target, in nanoseconds.
    #[inline(always)]
    pub const fn delay(self) -> u64 {
        self.0 >> 32 << Self::UNIT
    }

    /// Whether as many late answers trip it.
    #[inline(always)]
    pub const fn is_tripped_by(self, late: u64) -> bool {
        self.is_armed() && late >= (self.0 >> 10 & Self::MOST_ANSWERS as u64)
    }

    /// The cutoff while it is tripped.
    #[inline(always)]
    pub const fn cutoff(self) -> u32 {
        (self.0 & 0x3ff) as u32
    }
}
