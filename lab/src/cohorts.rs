//! Which cohort a source is in, by the hash that the programs use.

use bytemuck::Zeroable;
use shedder_common::abi::Policy;
use shedder_common::class::{Class, priority};
use shedder_common::hash::HashKey;
use shedder_common::ladder::{cohort, source_hash};
use shedder_common::walk::Address;
use std::net::IpAddr;
use std::time::Duration;

/// How long one order of the cohorts lasts, unless configured.
pub(crate) const ROTATION: Duration = Duration::from_secs(3600);

/// The cohorts of IPv4 sources under one key.
#[derive(Clone, Debug)]
pub(crate) struct Cohorts {
    policy: Box<Policy>,
}

impl Cohorts {
    pub(crate) fn new(key: HashKey) -> Cohorts {
        let policy = Policy { key, rotation: ROTATION.as_nanos() as u64, ..Policy::zeroed() };
        Cohorts { policy: Box::new(policy) }
    }

    /// The cohort of a source at `now`, in nanoseconds of CLOCK_MONOTONIC: 0 to 127.
    pub(crate) fn of(&self, source: IpAddr, now: u64) -> u32 {
        let IpAddr::V4(v4) = source else { unreachable!("the lab's clients have IPv4 addresses") };
        let address = Address { high: 0, low: u64::from(v4.to_bits()), is_v6: false };
        cohort(&self.policy, source_hash(&self.policy, &address), now)
    }

    /// The priority of what a source of this class asks for.
    pub(crate) fn priority(&self, class: Class, source: IpAddr, now: u64) -> u32 {
        priority(class as u8, self.of(source, now))
    }
}
