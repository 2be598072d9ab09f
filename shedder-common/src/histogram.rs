//! A log-linear histogram of latencies: sixteen steps to each doubling, so that a latency is known to 6 %.
//!
//! As in G. Tene's HdrHistogram: the bucket is a latency's exponent and the four bits behind its leading one. Below
//! 1.024 us is one bucket, and all from 36 minutes on are in the last.

/// Steps to a doubling, as a power of two.
const STEP_BITS: u32 = 4;

/// Latencies below this power of two, in nanoseconds, are one bucket.
const FLOOR_BITS: u32 = 10;

/// Buckets. A power of two, so that an index is masked and never checked.
pub const BUCKETS: usize = 512;

/// The bucket of a latency in nanoseconds.
#[inline(always)]
pub const fn bucket(latency: u64) -> usize {
    if latency >> FLOOR_BITS == 0 {
        return 0;
    }
    let exponent = latency.ilog2();
    let step = (latency >> (exponent - STEP_BITS)) as usize & ((1 << STEP_BITS) - 1);
    let bucket = 1 + ((exponent - FLOOR_BITS) as usize) * (1 << STEP_BITS) + step;
    if bucket < BUCKETS { bucket } else { BUCKETS - 1 }
}

/// The shortest latency in a bucket, in nanoseconds. That of the bucket past the last is where the last is taken to end.
pub const fn lower_bound(bucket: usize) -> u64 {
    if bucket == 0 {
        return 0;
    }
    let steps = bucket - 1;
    let exponent = FLOOR_BITS + (steps >> STEP_BITS) as u32;
    let step = (steps & ((1 << STEP_BITS) - 1)) as u64;
    ((1 << STEP_BITS) + step) << (exponent - STEP_BITS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn latency_lies_in_its_bucket(latency in 0u64..1 << 41) {
            let bucket = bucket(latency);
            prop_assert!(lower_bound(bucket) <= latency);
            prop_assert!(latency < lower_bound(bucket + 1) || bucket == BUCKETS - 1);
        }

        #[test]
        fn bucket_is_at_most_a_sixteenth_wide(bucket in 1..BUCKETS) {
            let (from, to) = (lower_bound(bucket), lower_bound(bucket + 1));
            prop_assert!((to - from) * 16 <= from);
        }
    }

    #[test]
    fn extremes_have_buckets() {
        assert_eq!([bucket(0), bucket(1023), bucket(1024), bucket(u64::MAX)], [0, 0, 1, BUCKETS - 1]);
    }
}
