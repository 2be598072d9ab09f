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

/// The priority of a flow: `class * 128 + cohort`. Out-of-range parts are held to their last value, so that the
/// result is always below [`PRIORITIES`].
#[inline(always)]
pub const fn priority(class: u8, cohort: u32) -> u32 {
    let last = Class::Sheddable as u8;
    let class = if class > last { last } else { class };
    class as u32 * COHORTS + (cohort & (COHORTS - 1))
}
