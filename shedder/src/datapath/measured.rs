//! What the programs measured: the passive signal as the kernel keeps it.

use super::by_cpu::{ByCpu, add};
use super::mapped::Mapped;
use super::pins::Pins;
use anyhow::Result;
use bytemuck::Zeroable;
use shedder_common::abi::{Control, FlowSet, Measured, maps};
use shedder_common::bucket::Set;
use shedder_common::flows::{self, Outstanding};
use std::path::Path;

/// The measurements of one generation of programs, to be read again and again.
pub struct Measurements {
    map: ByCpu<Measured>,
    keys: Mapped<Set>,
    flows: Mapped<FlowSet>,
    control: Mapped<Control>,
}

impl Measurements {
    pub(super) fn open(measured: &Path, pins: &Pins) -> Result<Measurements> {
        Ok(Measurements {
            map: ByCpu::open(measured)?,
            keys: Mapped::open(&pins.map(maps::FLOW_KEYS))?,
            flows: Mapped::open(&pins.map(maps::FLOWS))?,
            control: Mapped::open(&pins.map(maps::CONTROL))?,
        })
    }

    /// What was measured of a service since its programs were loaded, summed over the CPUs; every count wraps. Zeros for
    /// a service that this generation does not know.
    pub fn of(&self, service: usize) -> Box<Measured> {
        let mut sum = Box::new(Measured::zeroed());
        if service < self.map.len() {
            for cpu in self.map.read(service) {
                add(&mut sum.answered, &cpu.answered);
                add(&mut sum.abandoned, &cpu.abandoned);
                add(&mut sum.exchanges, &cpu.exchanges);
            }
        }
        sum
    }

    /// Calls `each` with everything that waits for this host at `now`, in nanoseconds of CLOCK_MONOTONIC, of the flows of
    /// all services that are measured. Reads some hundred kilobytes.
    pub fn outstanding(&self, now: u64, mut each: impl FnMut(Outstanding)) {
        let control = self.control.get(0);
        for set in 0..self.keys.len().min(self.flows.len()) {
            flows::outstanding(self.keys.get(set), self.flows.get(set), now, |one| {
                // The answers of a flow that is not sampled any more leave unseen.
                if u64::from(one.sample) >= control.services[one.service].skip.load() {
                    each(one);
                }
            });
        }
    }
}
