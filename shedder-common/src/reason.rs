//! Why a packet passed or was dropped.

/// What a packet met. Each has a counter of its own on every interface and in each direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Reason {
    /// Passed: nothing objected.
    Admitted = 0,
    /// Passed: not IP (ARP, LLDP), or IPv6 neighbour discovery.
    NotIp = 1,
    /// Passed: a lifeline.
    Lifeline = 2,
    /// Dropped: a kill is in force.
    Kill = 3,
    /// Dropped: the headers cannot be walked.
    Malformed = 4,
    /// Dropped: a rule denies the source.
    Denied = 5,
    /// Dropped: a bucket of the source is empty.
    SourceRate = 6,
    /// Dropped: the bucket that all newcomers share is empty.
    Newcomer = 7,
    /// Dropped: the priority is at or past the cutoff.
    Shed = 8,
    /// Dropped: the daemon's lease has lapsed and the posture is `closed`.
    Posture = 9,
}

/// Room for reasons in a table of counters; a power of two, so that an index is masked and never checked.
pub const REASONS: usize = 16;

impl Reason {
    /// Every reason.
    pub const ALL: [Reason; 10] = [
        Reason::Admitted,
        Reason::NotIp,
        Reason::Lifeline,
        Reason::Kill,
        Reason::Malformed,
        Reason::Denied,
        Reason::SourceRate,
        Reason::Newcomer,
        Reason::Shed,
        Reason::Posture,
    ];

    /// How many reasons let a packet pass: the first.
    pub const PASSING: u32 = 3;

    /// The name that metrics, status and documents use.
    pub const fn name(self) -> &'static str {
        match self {
            Reason::Admitted => "admitted",
            Reason::NotIp => "not-ip",
            Reason::Lifeline => "lifeline",
            Reason::Kill => "kill",
            Reason::Malformed => "malformed",
            Reason::Denied => "denied",
            Reason::SourceRate => "source-rate",
            Reason::Newcomer => "newcomer",
            Reason::Shed => "shed",
            Reason::Posture => "posture",
        }
    }

    /// Whether a packet that met this passes.
    #[inline(always)]
    pub const fn passes(self) -> bool {
        (self as u32) < Reason::PASSING
    }
}

const _: () = assert!(Reason::ALL.len() <= REASONS && REASONS.is_power_of_two());
