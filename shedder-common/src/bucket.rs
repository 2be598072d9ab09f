//! Rate limits: the generic cell rate algorithm (ITU-T I.371) on words kept in 8-way sets.
//!
//! A word is a 16-bit tag and a 48-bit theoretical arrival time in nanoseconds, compared modulo 2^48 (78 hours). A
//! word whose time has passed says no more than an empty one, so that it is reused without an eviction: there is
//! no list, no lock and no allocation. Refusing writes nothing; admitting is one compare-and-swap.
//!
//! A tag has 16 bits: a source is taken for another of its set, and shares that one's bucket, with a chance of one in
//! 65,536 for each that is live there; one in 8,192 where the set is full.
//!
//! CPUs do not read the same clock at the same time: what one wrote may seem further ahead to another than the
//! horizon, which is the furthest ahead that the writer may go (the burst and one packet). Up to [`SKEW`] more is
//! still believed, since to take a full bucket for one whose time has passed would be to hand out its burst again.
//!
//! A word that nobody touched for a whole turn of the 78 hours seems live again for at most its horizon and the skew:
//! its source may then find its burst spent, and others its way taken. Nobody is ever given more. A word that was
//! never written stays empty through every turn.
//!
//! What is charged is rounded to the nearest nanosecond, each time: a limit of packets is met to half a nanosecond in
//! its period (0.05 % at 10^6 a second), one of bytes to half a nanosecond in a packet's time.

use crate::word::Word;

/// Ways in a set: one 64-byte cache line.
pub const WAYS: usize = 8;

/// A set of words on one cache line.
#[repr(C, align(64))]
#[derive(Debug, Default)]
pub struct Set(pub [Word; WAYS]);

const _: () = assert!(size_of::<Set>() == 64 && align_of::<Set>() == 64);

const TIME_BITS: u32 = 48;
const TIME_MASK: u64 = (1 << TIME_BITS) - 1;

/// How much further ahead than the horizon another CPU's time is believed, in nanoseconds (67 ms): more than a tick
/// of the coarse clock, and than a virtual CPU is usually kept waiting between reading a clock and using it.
pub const SKEW: u64 = 1 << 26;

/// The longest burst, in nanoseconds (19.5 hours).
const LONGEST_BURST: u64 = 1 << 46;

/// The furthest horizon, in nanoseconds (39 hours): past half a turn a time ahead could not be told from one that
/// has passed.
const FURTHEST: u64 = (1 << 47) - SKEW;

/// How often an exchange that another CPU spoiled is tried again. Somebody succeeded each time; past this the
/// packet is refused.
const TRIES: usize = 4;

/// The shortest period, in nanoseconds, of which a burst is counted out: that of 10^7 units a second. Faster are only
/// bytes, of which no packet is one.
const COUNTED: u64 = 100;

/// Fraction bits of [`Rate::cost`].
pub const COST_BITS: u32 = 16;

/// One limit, as the bucket wants it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Rate {
    /// Nanoseconds that one unit (a packet, a byte, a flow) takes, times 2^16. Zero is no limit.
    pub cost: u64,
    /// Nanoseconds that the arrival time may run ahead of the clock.
    pub tolerance: u64,
}

impl Rate {
    /// No limit.
    pub const UNLIMITED: Rate = Rate { cost: 0, tolerance: 0 };

    /// `per_second` units a second (0: no limit), of which `burst` nanoseconds' worth (held to 2^46: 19.5 hours) may
    /// come at once, rounded down to whole units, and at least one. Up to 10^7 a second units that come one by one are
    /// counted exactly; of bytes, which do not, the burst is then up to 0.5 % off.
    pub const fn new(per_second: u64, burst: u64) -> Rate {
        if per_second == 0 {
            return Rate::UNLIMITED;
        }
        let burst = if burst > LONGEST_BURST { LONGEST_BURST } else { burst };
        let cost = ((1_000_000_000u128 << COST_BITS) / per_second as u128) as u64;
        // A rate past 65 units a nanosecond is no limit that anything here could reach.
        let cost = if cost == 0 { 1 } else { cost };
        let rate = Rate { cost, tolerance: burst.saturating_sub(cost >> COST_BITS) };
        let period = rate.charge(1);
        if period < COUNTED {
            return rate;
        }
        // The last unit of the burst finds the sum of the rounded charges before it, and one unit more must not fit.
        let units = (per_second as u128 * burst as u128 / 1_000_000_000) as u64;
        let before = if units == 0 { 0 } else { (units - 1) * period };
        let tolerance = if rate.tolerance < before { before } else { rate.tolerance };
        let last = before + period - 1;
        Rate { cost, tolerance: if tolerance > last { last } else { tolerance } }
    }

    /// Whether there is no limit.
    #[inline(always)]
    pub const fn is_unlimited(&self) -> bool {
        self.cost == 0
    }

    /// How far ahead of the clock an arrival time can be after admitting `amount` units, in nanoseconds; held to
    /// half a turn of the clock, so that a limit of bytes under about four a second is not met by large packets.
    pub const fn horizon(&self, amount: u64) -> u64 {
        let horizon = self.tolerance + self.charge(amount);
        if horizon > FURTHEST { FURTHEST } else { horizon }
    }

    /// The time that `amount` units take. In two parts, so that nothing below 2^32 overflows.
    #[inline(always)]
    const fn charge(&self, amount: u64) -> u64 {
        let fraction = self.cost & ((1 << COST_BITS) - 1);
        amount * (self.cost >> COST_BITS) + ((amount * fraction + (1 << (COST_BITS - 1))) >> COST_BITS)
    }

    /// How far ahead of the clock the arrival time is after admitting `amount` units to a bucket whose arrival time
    /// is `ahead` of it; none where the bucket is empty. Held to the horizon, past which it would be taken for a time
    /// that has passed.
    #[inline(always)]
    const fn admit(&self, ahead: u64, amount: u64, horizon: u64) -> Option<u64> {
        if ahead > self.tolerance {
            return None;
        }
        let after = ahead + self.charge(amount);
        Some(if after > horizon { horizon } else { after })
    }
}

/// Where a source's word is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Which set; masked by the size of the table.
    pub set: u32,
    /// What tells the source from others in the set.
    pub tag: u64,
    /// The way that is looked at first.
    pub first: usize,
}

impl Place {
    /// The place of the source whose keyed hash is `hash`, in a table of `sets` sets (a power of two).
    #[inline(always)]
    pub const fn of(hash: u64, set_mask: u32) -> Place {
        Place {
            set: hash as u32 & set_mask,
            tag: hash >> TIME_BITS,
            first: (hash >> 45) as usize & (WAYS - 1),
        }
    }
}

/// What a bucket says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// There was enough in it.
    Admitted,
    /// It is empty.
    Refused,
    /// Every way of the set belongs to another live source.
    NoPlace,
}

/// How far the time in `word` is ahead of `now`: 0 where it has passed, as a time well past the horizon must have, and
/// where none was ever written.
#[inline(always)]
const fn ahead(word: u64, now: u64, horizon: u64) -> u64 {
    let ahead = word.wrapping_sub(now) & TIME_MASK;
    if word == 0 || ahead > horizon + SKEW { 0 } else { ahead }
}

#[inline(always)]
const fn word(tag: u64, now: u64, ahead: u64) -> u64 {
    let word = tag << TIME_BITS | now.wrapping_add(ahead) & TIME_MASK;
    // Zero says that none was ever written; a nanosecond more says the same time.
    if word == 0 { 1 } else { word }
}

/// What a bucket would say to a charge, before it is made: plain numbers, which can lie anywhere meanwhile.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// The way that is charged; [`Look::NO_PLACE`] or [`Look::UNLIMITED`] where none is.
    way: u64,
    /// The word in it.
    held: u64,
    /// How far ahead of the clock the arrival time is after it.
    after: u64,
}

impl Look {
    const NO_WAY: u64 = WAYS as u64;

    /// Every way of the set belongs to another live source.
    pub const NO_PLACE: Look = Look { way: Look::NO_WAY, held: 0, after: 0 };

    /// The source is not limited in this way.
    pub const UNLIMITED: Look = Look { way: Look::NO_WAY + 1, held: 0, after: 0 };

    /// Whether it is [`Look::UNLIMITED`].
    #[inline(always)]
    pub const fn is_unlimited(&self) -> bool {
        self.way > Look::NO_WAY
    }

    /// The way that is charged, if there is one. To be asked first: the verifier of Linux 6.1 learns nothing of a number from
    /// what it is not.
    #[inline(always)]
    const fn way(&self) -> Option<usize> {
        if self.way < Look::NO_WAY { Some(self.way as usize) } else { None }
    }
}

/// Looks whether the source's bucket has `amount` units at `now`, and charges nothing: see [`charge`]. None: it is empty.
///
/// `horizon` must be the same for every call on a table, and no less than the [`Rate::horizon`] of any rate that is
/// used on it: by a smaller one the words of other rates are taken for empty.
pub fn look(set: &Set, place: Place, rate: &Rate, amount: u64, now: u64, horizon: u64) -> Option<Look> {
    let mut look = Look::NO_PLACE;
    look_into(set, place, rate, amount, now, horizon, &mut look).then_some(look)
}

/// As [`look`], where this way of the set holds the source's word; none: it does not.
#[inline(always)]
pub fn look_at(
    way: usize,
    set: &Set,
    place: Place,
    rate: &Rate,
    amount: u64,
    now: u64,
    horizon: u64,
) -> Option<Option<Look>> {
    let held = set.0[way].load();
    if held >> TIME_BITS != place.tag {
        return None;
    }
    let after = rate.admit(ahead(held, now, horizon), amount, horizon);
    Some(after.map(|after| Look { way: way as u64, held, after }))
}

/// As [`look`], into memory that the caller has for it. False: the bucket is empty.
#[inline(always)]
pub fn look_into(
    set: &Set,
    place: Place,
    rate: &Rate,
    amount: u64,
    now: u64,
    horizon: u64,
    look: &mut Look,
) -> bool {
    // The way that holds the tag, else one whose time has passed.
    let mut i = 0;
    while i < WAYS {
        let way = (place.first + i) & (WAYS - 1);
        if let Some(found) = look_at(way, set, place, rate, amount, now, horizon) {
            let Some(found) = found else { return false };
            *look = found;
            return true;
        }
        i += 1;
    }
    let mut i = 0;
    while i < WAYS {
        let way = (place.first + i) & (WAYS - 1);
        let held = set.0[way].load();
        // Another source's word that has passed is an empty place.
        if ahead(held, now, horizon) == 0 {
            let Some(after) = rate.admit(0, amount, horizon) else { return false };
            *look = Look { way: way as u64, held, after };
            return true;
        }
        i += 1;
    }
    *look = Look::NO_PLACE;
    true
}

/// Charges what was looked for, with the same arguments, if the bucket still has it: the last packet of a burst may take more than
/// is left. Nothing where it is [`Look::UNLIMITED`]. Where another source took the way meanwhile, this one has none at this
/// moment.
#[inline(always)]
pub fn charge(
    set: &Set,
    look: &Look,
    place: Place,
    rate: &Rate,
    amount: u64,
    now: u64,
    horizon: u64,
) -> Admission {
    let Some(way) = look.way() else {
        return if look.is_unlimited() { Admission::Admitted } else { Admission::NoPlace };
    };
    let way = &set.0[way & (WAYS - 1)];
    let Look { mut held, mut after, .. } = *look;
    let mut tries = 0;
    while tries < TRIES {
        let seen = way.compare_exchange(held, word(place.tag, now, after));
        if seen == held {
            return Admission::Admitted;
        }
        if seen >> TIME_BITS != place.tag {
            return Admission::NoPlace;
        }
        match rate.admit(ahead(seen, now, horizon), amount, horizon) {
            Some(later) => after = later,
            None => return Admission::Refused,
        }
        held = seen;
        tries += 1;
    }
    Admission::Refused
}

/// Charges `amount` units to the source's bucket if it is not empty: [`look`] and [`charge`].
#[inline(always)]
pub fn take(set: &Set, place: Place, rate: &Rate, amount: u64, now: u64, horizon: u64) -> Admission {
    match look(set, place, rate, amount, now, horizon) {
        Some(look) => charge(set, &look, place, rate, amount, now, horizon),
        None => Admission::Refused,
    }
}

/// Charges `amount` units to a bucket that stands alone, such as the one that all newcomers share. The horizon is as
/// for [`take`].
#[inline(always)]
pub fn take_shared(bucket: &Word, rate: &Rate, amount: u64, now: u64, horizon: u64) -> bool {
    let mut held = bucket.load();
    let mut tries = 0;
    while tries < TRIES {
        let Some(after) = rate.admit(ahead(held, now, horizon), amount, horizon) else { return false };
        let seen = bucket.compare_exchange(held, word(0, now, after));
        if seen == held {
            return true;
        }
        held = seen;
        tries += 1;
    }
    false
}

/// How many ways of the set hold the state of a live source at `now`.
pub fn live(set: &Set, now: u64, horizon: u64) -> usize {
    set.0.iter().filter(|way| ahead(way.load(), now, horizon) != 0).count()
}
