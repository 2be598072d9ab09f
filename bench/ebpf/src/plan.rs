//! What the benchmark and its programs agree on; compiled for both.

/// Bytes of every frame that the generator writes anew, because whoever had its page last may have changed them.
pub(crate) const HEADER: usize = 64;

/// What the generator makes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Plan {
    /// How each frame begins, [`HEADER`] bytes; its source and the checksum over it are filled in.
    pub(crate) header: [u64; 8],
    /// Where the source is: one of the constants below.
    pub(crate) layout: u32,
    /// The interface that frames leave through; 0: each is given to the next program in place.
    pub(crate) interface: u32,
    /// How many sources there are, at most 2^29, chosen at random for each frame.
    pub(crate) sources: u32,
    /// The 32 bits of the first one that are varied.
    pub(crate) first: u32,
    /// The sum of 16-bit words that the checksum covers, those bits left out.
    pub(crate) sum: u64,
    /// Two runs of the same seed meet the same sources.
    pub(crate) seed: u64,
    /// Nanoseconds from one frame of the regular sources to the next; 0: there are none.
    pub(crate) regular_period: u64,
    /// How many regular sources there are: they come one after the other, evenly spaced, among the others.
    pub(crate) regular_sources: u32,
    /// As `first`, of the regular ones.
    pub(crate) regular_first: u32,
}

impl Plan {
    /// IPv4 without a tag.
    pub(crate) const V4: u32 = 0;
    /// IPv6 without a tag: bits 32 to 63 of the source's prefix are varied.
    pub(crate) const V6: u32 = 1;
    /// IPv4 behind one VLAN tag.
    pub(crate) const TAGGED: u32 = 2;
}

/// What one CPU made.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    /// Frames, those of regular sources left out.
    pub(crate) frames: u64,
    /// Frames of regular sources.
    pub(crate) regular: u64,
    /// When the first was made, in nanoseconds of CLOCK_MONOTONIC.
    pub(crate) first: u64,
    /// When the last but up to 63 was made.
    pub(crate) last: u64,
    /// How many had been made by then, of both kinds.
    pub(crate) at_last: u64,
    /// When the next regular one is due.
    pub(crate) regular_due: u64,
}

/// What a design let through and dropped on one CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    /// Frames.
    pub(crate) passed: u64,
    /// Frames.
    pub(crate) dropped: u64,
}

/// Sources that the tables of the designs have room for: as many as shedder's, unless configured.
pub(crate) const TABLE: usize = 1 << 20;
