//! Floods through a network whose server is watched by its own counters.

use crate::flood::{Plan, Sender, Sent};
use crate::kernel::{Attached, since};
use crate::netns::Network;
use anyhow::{Result, ensure};
use shedder_common::abi::{Cell, InterfaceCounters};
use shedder_common::reason::Reason;
use std::time::Duration;

/// What some floods sent at the same time, and what the server's interface counted from their start to their end.
#[derive(Clone, Debug)]
pub struct Measured {
    /// In the plans' order.
    pub sent: Vec<Sent>,
    /// Of everything that arrived meanwhile.
    pub counted: InterfaceCounters,
    /// Frames that arrived, by the CPU that judged them.
    pub by_cpu: Vec<u64>,
}

impl Measured {
    /// Sends floods from the network's client, all at the same time, and waits for their ends.
    pub fn floods(network: &Network, attached: &Attached, plans: Vec<Plan>) -> Result<Measured> {
        let before = attached.counters_by_cpu();
        let senders: Vec<Sender> =
            plans.into_iter().map(|plan| Sender::start(&network.client, plan)).collect::<Result<_>>()?;
        let sent = senders.into_iter().map(Sender::finish_timed).collect::<Result<_>>()?;
        let after = attached.counters_by_cpu();
        let sum = |all: &[InterfaceCounters]| {
            all.iter().fold(InterfaceCounters::default(), |sum, cpu| crate::kernel::add(&sum, cpu))
        };
        let arrived = |(before, after)| since(before, after).ingress.iter().map(|cell| cell.packets).sum();
        Ok(Measured {
            sent,
            counted: since(&sum(&before), &sum(&after)),
            by_cpu: before.iter().zip(&after).map(arrived).collect(),
        })
    }

    /// Frames that were sent.
    pub fn frames(&self) -> u64 {
        self.sent.iter().map(|sent| sent.frames).sum()
    }

    /// Frames that arrived. A veth's queue that overflows loses some on the way.
    pub fn arrived(&self) -> u64 {
        self.counted.ingress.iter().map(|cell| cell.packets).sum()
    }

    /// What arrived and met this reason.
    pub fn met(&self, reason: Reason) -> Cell {
        self.counted.ingress[reason as usize]
    }

    /// From the first frame to the last.
    pub fn time(&self) -> Duration {
        let first = self.sent.iter().map(|sent| sent.first).min().unwrap_or_default();
        self.sent.iter().map(|sent| sent.last).max().unwrap_or_default().saturating_sub(first)
    }

    /// What a bucket ought to have admitted of a flood that never let it fill up again: `limit` units a second, and
    /// what it held at the beginning.
    pub fn ideal(&self, limit: u64, burst: Duration) -> f64 {
        limit as f64 * (self.time() + burst).as_secs_f64()
    }

    /// Whether the machine did its part: never silent for as long as a bucket takes to fill (what would come then is
    /// lost), and no frame lost before it was judged.
    ///
    /// # Errors
    /// A sentence where it did not.
    pub fn sound(&self, burst: Duration) -> Result<()> {
        let gap = self.sent.iter().map(|sent| sent.longest_gap).max().unwrap_or_default();
        ensure!(gap < burst, "the senders were silent for {gap:?}, as long as a bucket of {burst:?} lasts");
        ensure!(
            self.arrived() == self.frames(),
            "{} of {} frames were lost before they were judged",
            self.frames().saturating_sub(self.arrived()),
            self.frames()
        );
        Ok(())
    }
}

/// Repeats a measurement until the machine did its part. `attempt` is told how often it was made before, so that it can
/// ask for less or use sources that are fresh; its error says what the machine did not do.
///
/// # Panics
/// Where the machine never did.
pub fn repeat<T>(attempt: impl Fn(u8) -> Result<T>) -> T {
    const ATTEMPTS: u8 = 6;
    for made in 0..ATTEMPTS {
        match attempt(made) {
            Ok(measured) => return measured,
            Err(error) => println!("attempt {}: says nothing: {error:#}", made + 1),
        }
    }
    panic!("this machine is too busy to measure: {ATTEMPTS} attempts say nothing; each said above why");
}
