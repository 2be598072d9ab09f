//! How near to its limit a source is held, by test runs from as many CPUs as are asked for, all of them in its bucket.

use crate::kernel::{self, Attached};
use anyhow::{Context, Result, ensure};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use shedder_common::abi::Policy;
use shedder_common::reason::Reason;
use std::time::{Duration, Instant};

/// What was offered to a bucket and what it let pass.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    /// Packets that were judged.
    pub offered: u64,
    /// Packets that passed.
    pub admitted: u64,
    /// From the first to the last.
    pub time: Duration,
    /// Whether the programs read the precise clock, which the configuration chose; else the coarse one.
    pub is_precise: bool,
}

impl Held {
    /// What ought to have passed: `limit` packets a second, and what `burst` held at the beginning, at least one.
    pub fn ideal(&self, limit: u64, burst: Duration) -> f64 {
        let limit = limit as f64;
        limit * self.time.as_secs_f64() + (limit * burst.as_secs_f64()).floor().max(1.0)
    }
}

/// Offers a frame of a source that sent nothing before, as fast as `cpus` CPUs can for this long. It takes the limit of
/// packets for the only thing that stops it.
///
/// # Errors
/// Where the machine stood still for as long as half of the `burst`, whose rest would then be lost.
pub fn offer(
    attached: &Attached,
    frame: &[u8],
    cpus: usize,
    time: Duration,
    burst: Duration,
) -> Result<Held> {
    // A call takes about a millisecond.
    const RUNS: u32 = 10_000;
    let before = attached.counters();
    let start = Instant::now();
    let offer = |cpu| -> Result<Duration> {
        let mut set = CpuSet::new();
        set.set(cpu)?;
        sched_setaffinity(Pid::from_raw(0), &set).with_context(|| format!("moving to CPU {cpu}"))?;
        let (mut last, mut longest) = (start, Duration::ZERO);
        while start.elapsed() < time {
            kernel::run(attached.ingress(), frame, RUNS);
            let now = Instant::now();
            longest = longest.max(now - last);
            last = now;
        }
        Ok(longest)
    };
    let longest = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cpus).map(|cpu| scope.spawn(move || offer(cpu))).collect();
        let ended = threads.into_iter().map(|thread| thread.join().expect("offering does not panic"));
        ended.collect::<Result<Vec<_>>>()
    })?;
    let took = start.elapsed();
    let longest = longest.into_iter().max().unwrap_or_default();
    ensure!(longest < burst / 2, "a call took {longest:?}");
    let counted = kernel::since(&before, &attached.counters()).ingress;
    Ok(Held {
        offered: counted.iter().map(|cell| cell.packets).sum(),
        admitted: counted[Reason::Admitted as usize].packets,
        time: took,
        is_precise: attached.policy().flags & Policy::PRECISE_CLOCK != 0,
    })
}
