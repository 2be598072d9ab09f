//! Classes, cohorts, priorities and the cutoff.

/// How much a flow matters. Lower is more important.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Class {
    /// Shed last.
    Critical = 0,
    /// Shed after everything below it.
    High = 1,
    /// What traffic is that nothing names.
    Normal = 2,
    /// Shed before normal traffic.
    Low = 3,
    /// Work that can wait.
    Background = 4,
    /// Shed first.
    Sheddable = 5,
}

impl Class {
    /// Every class, the most important first.
    pub const ALL: [Class; 6] =
        [Class::Critical, Class::High, Class::Normal, Class::Low, Class::Background, Class::Sheddable];

    /// The name that configuration, metrics and status use.
    pub const fn name(self) -> &'static str {
        match self {
            Class::Critical => "critical",
            Class::High => "high",
            Class::Normal => "normal",
            Class::Low => "low",
            Class::Background => "background",
            Class::Sheddable => "sheddable",
        }
    }

    /// The class of that name, if there is one.
    pub fn from_name(name: &str) -> Option<Class> {
        Class::ALL.into_iter().find(|class| class.name() == name)
    }
}

/// Cohorts in a class.
pub const COHORTS: u32 = 128;

/// Priorities in all: 0 (the most important) to 767.
pub const PRIORITIES: u32 = Class::ALL.len() as u32 * COHORTS;

/// The cutoff that sheds nothing. A flow is shed where its priority is at or past the cutoff.
pub const SHED_NOTHING: u32 = PRIORITIES;

/// Where shedding begins: a priority, and the part of the flows at that very priority that is admitted all the same.
///
/// One number, the priority in units of 2^-16, so that it is written and read whole. A flow with 16 bits of its hash for
/// a `part` is shed where priority and part together are at or past it. The same flows are shed for as long as it stays, and a
/// source that asks for more than all the others has some of its flows admitted, where whole cohorts would let in all of
/// them or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cutoff(u32);

impl Cutoff {
    /// Sheds nothing.
    pub const NOTHING: Cutoff = Cutoff::at(SHED_NOTHING);

    const PARTS: u32 = 16;

    /// Sheds `priority` (held to [`SHED_NOTHING`]) and all that is less important.
    #[inline(always)]
    pub const fn at(priority: u32) -> Cutoff {
        Cutoff((if priority > SHED_NOTHING { SHED_NOTHING } else { priority }) << Self::PARTS)
    }

    /// The same, but of `priority` itself it admits `part` 2^16ths.
    pub const fn within(priority: u32, part: u16) -> Cutoff {
        if priority >= SHED_NOTHING { Self::NOTHING } else { Cutoff(priority << Self::PARTS | part as u32) }
    }

    /// The first priority that is shed, in part or whole; [`SHED_NOTHING`]: none is.
    #[inline(always)]
    pub const fn first(self) -> u32 {
        self.0 >> Self::PARTS
    }

    /// The part of the first priority that is admitted, 0 to below 1.
    pub fn admitted_of_first(self) -> f64 {
        f64::from(self.0 & ((1 << Self::PARTS) - 1)) / f64::from(1u32 << Self::PARTS)
    }

    /// Whether a flow of `priority` is shed, which is asked for its `part` only where that decides.
    #[inline(always)]
    pub fn sheds(self, priority: u32, part: impl FnOnce() -> u16) -> bool {
        let first = self.first();
        priority > first || (priority == first && (priority << Self::PARTS | part() as u32) >= self.0)
    }

    /// As a number whose zero sheds nothing: how far it is from [`Cutoff::NOTHING`].
    #[inline(always)]
    pub(crate) const fn distance(self) -> u32 {
        Self::NOTHING.0 - self.0
    }

    /// The cutoff so far from [`Cutoff::NOTHING`]; what is too far sheds everything.
    #[inline(always)]
    pub(crate) const fn from_distance(distance: u64) -> Cutoff {
        Cutoff(if distance > Self::NOTHING.0 as u64 { 0 } else { Self::NOTHING.0 - distance as u32 })
    }
}

impl From<u32> for Cutoff {
    fn from(priority: u32) -> Cutoff {
        Cutoff::at(priority)
    }
}

/// The priority of a flow: `class * 128 + cohort`. Out-of-range parts are held to their last value, so that the
/// result is always below [`PRIORITIES`].
#[inline(always)]
pub const fn priority(class: u8, cohort: u32) -> u32 {
    let last = Class::Sheddable as u8;
    let class = if class > last { last } else { class };
    class as u32 * COHORTS + (cohort & (COHORTS - 1))
}
