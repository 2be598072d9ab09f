//! What a limit admits against what it ought to, and whom it refuses that it should not. Test runs, the generator handing
//! each frame to shedder's programs in place, so that nothing is lost on the way.

use crate::programs::plan::Plan;
use crate::programs::{Generator, Limit};
use crate::shape::{SPOOFED, Shape};
use crate::shed::{self, Status};
use anyhow::{Result, ensure};
use serde::Serialize;
use shedder_tests::interrupt;
use shedder_tests::netns::{Network, Options};
use std::time::Duration;

/// One source far past its limit.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Admission {
    pub(crate) per_second: u64,
    pub(crate) cpus: usize,
    pub(crate) admitted: u64,
    /// The limit times the time from the first packet to the last, and the burst.
    pub(crate) ideal: f64,
}

impl Admission {
    /// How far off, as a share of the ideal.
    pub(crate) fn error(&self) -> f64 {
        self.admitted as f64 / self.ideal - 1.0
    }
}

/// Sources that keep to their limit, among others that do not.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Bystanders {
    pub(crate) among: &'static str,
    pub(crate) table: u64,
    pub(crate) sent: u64,
    pub(crate) dropped: u64,
    /// Charges to the bucket that sources without a place share.
    pub(crate) no_place: u64,
    /// Packets of the others, and those that passed.
    pub(crate) others: u64,
    pub(crate) others_passed: u64,
}

impl Bystanders {
    pub(crate) fn dropped_share(&self) -> f64 {
        self.dropped as f64 / self.sent.max(1) as f64
    }
}

/// Measures one source at these limits on one and on two CPUs, each for this long, or for two hundred packets where that
/// takes no more than four times as long.
pub(crate) fn admissions((rates, time): (&[u64], Duration)) -> Result<Vec<Admission>> {
    let mut generator = Generator::load()?;
    let cpus = std::thread::available_parallelism().map_or(1, |cpus| cpus.get()).min(2);
    let mut admissions = Vec::new();
    for &per_second in rates {
        // The default burst, 100 ms, of at least one packet.
        let limit = Limit { per_second, burst: (per_second / 10).max(1) };
        for cpus in 1..=cpus {
            interrupt::check()?;
            let network = Network::new("bench-accuracy")?;
            let shedder = shed::attach(&network, &shed::limited(limit))?;
            let program = shed::ingress(&shedder, 0)?;
            let program = program.fd()?;
            let (frame, plan) = Shape { sources: 1, ..Shape::BASE }.frame(network.link());
            let used: Vec<usize> = (0..cpus).collect();
            let mut hand = |first, frames| {
                generator.hand([program, program], &network, Plan { first, ..plan }, &frame, frames, &used)
            };
            // Another source finds out how fast it goes.
            let pace = hand(plan.first + 1, TRIAL * cpus as u64)?.rate();
            let time = Duration::from_secs_f64(200.0 / per_second as f64).min(4 * time).max(time);
            let before = Status::read(&shedder)?.passed(0)?;
            let made = hand(plan.first, (pace * time.as_secs_f64()) as u64)?;
            let admitted = Status::read(&shedder)?.passed(0)? - before;
            let ideal = per_second as f64 * made.time.as_secs_f64() + limit.burst as f64;
            admissions.push(Admission { per_second, cpus, admitted, ideal });
        }
    }
    Ok(admissions)
}

/// Frames by which the pace is found.
const TRIAL: u64 = 1 << 20;

/// Sources that send half of what they may, evenly: so many, and nanoseconds from one packet to the next.
const REGULAR: u32 = 1000;
const PERIOD: u64 = 20_000;

/// A thousand sources that send half of their limit, for this long, among others: a hundred thousand that send as fast as
/// they can, and random ones; and the former with a table that is far too small.
pub(crate) fn bystanders(time: Duration) -> Result<Vec<Bystanders>> {
    const TABLE: u64 = 1 << 20;
    let mut generator = Generator::load()?;
    [(BOTS, 100_000, TABLE), (RANDOM, SPOOFED, TABLE), (BOTS, 100_000, 1024)]
        .into_iter()
        .map(|(among, sources, table)| {
            // The others arrive at one interface and they at another: each counts its own, and the buckets are the same.
            let network = Network::with("bench-bystanders", &Options { links: 2, ..Options::default() })?;
            let names: Vec<String> =
                network.links().iter().map(|link| format!("\"{}\"", link.interface)).collect();
            let limit = shed::limited(Limit { per_second: 100, burst: 10 });
            let config = limit.replace("\"$IF\"", &names.join(", ")) + &format!("table = {table}\n");
            let shedder = shed::attach(&network, &config)?;
            let (others, regular) = (shed::ingress(&shedder, 0)?, shed::ingress(&shedder, 1)?);
            let (frame, plan) = Shape { sources, ..Shape::BASE }.frame(network.link());
            let regular_first = (64 << 24) + 1;
            let plan = Plan { regular_period: PERIOD, regular_sources: REGULAR, regular_first, ..plan };
            let mut hand =
                |frames| generator.hand([others.fd()?, regular.fd()?], &network, plan, &frame, frames, &[0]);
            let pace = hand(TRIAL)?.rate();
            let before = Status::read(&shedder)?;
            let made = hand((pace * time.as_secs_f64()) as u64)?;
            let after = Status::read(&shedder)?;
            let dropped = after.dropped(1)? - before.dropped(1)?;
            let judged = dropped + after.passed(1)? - before.passed(1)?;
            ensure!(judged == made.regular, "{} packets were made, and {judged} judged", made.regular);
            Ok(Bystanders {
                among,
                table,
                sent: made.regular,
                dropped,
                no_place: after.no_place()? - before.no_place()?,
                others: made.frames - made.regular,
                others_passed: after.passed(0)? - before.passed(0)?,
            })
        })
        .collect()
}

pub(crate) const BOTS: &str = "100,000 bots";
pub(crate) const RANDOM: &str = "random spoofed sources";
