//! What a decision costs by the number of sources: the generator hands each frame to the program in place. What it takes
//! itself is the difference between the bare program behind it and the bare program alone, and is taken out.

use crate::peers::{LIMITED, LINE, LOCKED, RECENT};
use crate::programs::{Design, Generator, Limit};
use crate::shape::{FIRST, SPOOFED, Shape};
use crate::shed;
use anyhow::{Context, Result};
use aya::programs::{TestRun, TestRunOptions, Xdp};
use serde::Serialize;
use shedder_tests::interrupt;
use shedder_tests::netns::Network;
use std::time::Instant;

/// How many, and how tables say it.
pub(crate) const SOURCES: [(&str, u32); 6] =
    [("1", 1), ("1k", 1000), ("64k", 1 << 16), ("1M", 1 << 20), ("10M", 10_000_000), ("spoofed", SPOOFED)];

/// One program at one number of sources, or on so many CPUs.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Decision {
    pub(crate) subject: &'static str,
    pub(crate) sources: &'static str,
    /// CPUs that judge at the same time.
    pub(crate) cpus: usize,
    /// Nanoseconds that a decision takes one CPU, by round.
    pub(crate) nanoseconds: Vec<f64>,
}

pub(crate) const ALLOWED: &str = "shedder, a limit that is not reached";

/// What is measured, in the order of the tables.
pub(crate) const SUBJECTS: [&str; 5] = [LIMITED, ALLOWED, RECENT, LOCKED, LINE];

/// A limit that one hot source exceeds and each of very many does not reach.
const LIMIT: Limit = Limit { per_second: 100, burst: 10 };
const HIGH: Limit = Limit { per_second: 1_000_000_000, burst: 100_000_000 };

/// Measures every program at every number of sources, and one hot source on one and on two CPUs, in so many
/// rounds of so many frames each.
pub(crate) fn decisions((rounds, frames): (usize, u64)) -> Result<Vec<Decision>> {
    let mut generator = Generator::load()?;
    let both = std::thread::available_parallelism().map_or(1, |cpus| cpus.get()).min(2);
    let mut settings: Vec<(&'static str, u32, usize)> =
        SOURCES.map(|(name, sources)| (name, sources, 1)).into();
    if both > 1 {
        settings.push(("1", 1, both));
    }
    let mut decisions: Vec<Decision> = Vec::new();
    for &(name, _, cpus) in &settings {
        decisions.extend(SUBJECTS.map(|subject| Decision {
            subject,
            sources: name,
            cpus,
            nanoseconds: vec![],
        }));
    }
    for round in 0..rounds {
        // Anew each time: where the memory of their tables lies is chance, and makes a difference.
        let networks: Vec<Network> = (0..6).map(|_| Network::new("bench-sources")).collect::<Result<_>>()?;
        let mut bare = Design::attach(Design::BARE, LIMIT, &networks[0])?;
        let mut recent = Design::attach(Design::RECENT, LIMIT, &networks[3])?;
        let mut locked = Design::attach(Design::LOCKED, LIMIT, &networks[4])?;
        let mut line = Design::attach(Design::LINE, LIMIT, &networks[5])?;
        let open = |design: &mut Design, network: &Network| design.pinned(&network.bpffs().join("design"));
        let nothing = open(&mut bare, &networks[0])?;
        let programs: [Xdp; SUBJECTS.len()] = [
            shed::ingress(&shed::attach(&networks[1], &shed::limited(LIMIT))?, 0)?,
            shed::ingress(&shed::attach(&networks[2], &shed::limited(HIGH))?, 0)?,
            open(&mut recent, &networks[3])?,
            open(&mut locked, &networks[4])?,
            open(&mut line, &networks[5])?,
        ];
        let mut place = decisions.iter_mut();
        for &(_, sources, cpus) in &settings {
            let (frame, mut plan) = Shape { sources, ..Shape::BASE }.frame(networks[0].link());
            plan.first = FIRST;
            plan.seed = (round as u64) << 40;
            let used: Vec<usize> = (0..cpus).rev().collect();
            interrupt::check()?;
            let mut hand = |program: &Xdp| -> Result<f64> {
                let program = program.fd()?;
                let made = generator.hand([program, program], &networks[0], plan, &frame, frames, &used)?;
                Ok(made.nanoseconds(cpus))
            };
            // Warm, and the lesser of two: whatever disturbs it would be taken out of all that follows.
            hand(&nothing)?;
            let bare = alone(&nothing, &frame, frames as u32)?;
            let generated = hand(&nothing)?.min(hand(&nothing)?) - bare;
            for program in &programs {
                let nanoseconds = hand(program)? - generated;
                place.next().context("every program has its place")?.nanoseconds.push(nanoseconds);
            }
        }
    }
    Ok(decisions)
}

/// Nanoseconds of a run of a program on one frame, without a generator.
fn alone(program: &Xdp, frame: &[u8], repeat: u32) -> Result<f64> {
    let options = TestRunOptions { data_in: Some(frame), repeat, ..TestRunOptions::default() };
    let start = Instant::now();
    program.test_run(options)?;
    Ok(start.elapsed().as_nanos() as f64 / f64::from(repeat))
}

/// The decisions of this subject.
pub(crate) fn find<'a>(
    all: &'a [Decision],
    subject: &str,
    sources: &str,
    cpus: usize,
) -> Option<&'a Decision> {
    all.iter().find(|it| it.subject == subject && it.sources == sources && it.cpus == cpus)
}
