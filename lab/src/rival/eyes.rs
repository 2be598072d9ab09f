//! What the kernel measured of a service, as controllers see it.

use super::Ended;
use anyhow::Result;
use shedder::control::Counters;
use shedder::datapath::{Measurements, OfferedWork, State};
use shedder_common::abi::Measured;
use shedder_common::class::PRIORITIES;
use shedder_common::flows::Waiting;

/// Reads the kernel's counts, and tells what is new in them.
pub(crate) struct Eyes {
    service: usize,
    measurements: Measurements,
    offered: OfferedWork,
    last: Option<(Box<Measured>, Box<Counters>)>,
}

impl Eyes {
    /// On the service in this slot, of the programs in force now.
    pub(crate) fn open(state: &State, service: usize) -> Result<Eyes> {
        Ok(Eyes { service, measurements: state.measurements()?, offered: state.offered()?, last: None })
    }

    /// What ended and what was offered since the last look; nothing at the first.
    pub(crate) fn look(&mut self) -> (Ended, Box<Counters>) {
        let measured = self.measurements.of(self.service);
        let offered = Box::new(self.offered.of(Some(self.service)));
        let mut ended = Ended::default();
        let mut fresh = Box::new([0; PRIORITIES as usize]);
        if let Some((before, offered_before)) = &self.last {
            let kinds = [(&measured.answered, &before.answered), (&measured.abandoned, &before.abandoned)];
            for (now, before) in kinds {
                for ((sum, now), before) in ended.0.iter_mut().zip(now).zip(before) {
                    *sum += now.wrapping_sub(*before);
                }
            }
            for ((fresh, now), before) in fresh.iter_mut().zip(offered.iter()).zip(offered_before.iter()) {
                *fresh = now.wrapping_sub(*before);
            }
        }
        self.last = Some((measured, offered));
        (ended, fresh)
    }

    /// Requests that arrived and were not answered yet at `now`, in nanoseconds of CLOCK_MONOTONIC.
    pub(crate) fn in_flight(&self, now: u64) -> u64 {
        let mut count = 0;
        self.measurements.outstanding(now, |outstanding| {
            if outstanding.service == self.service && outstanding.waiting == Waiting::Request {
                count += u64::from(outstanding.count);
            }
        });
        count
    }
}
