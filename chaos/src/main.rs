//! Faults at random, under traffic, and what must hold all the while: `cargo xtask chaos`.

mod account;
mod fault;
mod gaps;
mod interface;
mod kill;
mod round;
mod world;

use anyhow::{Result, bail};
use clap::Parser;
use shedder_tests::random::Random;
use shedder_tests::{interrupt, privileged};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Injects faults into a daemon, its pins, its interface and its commands at random, under real traffic and a running loop, and checks all the
/// while that there is no gap, no lost kill, no stale shedding, and no unexplained packet. Needs root.
#[derive(Parser)]
#[command(name = "cargo xtask chaos", bin_name = "cargo xtask chaos")]
struct Arguments {
    /// How long it goes on, such as 60s or 10m.
    #[arg(long = "for", value_name = "DURATION", default_value = "60s")]
    duration: humantime::Duration,
    /// Plays the faults of an earlier run again: the seed that it printed.
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
}

/// A round has a network of its own, so that what is found is found in a short story.
const ROUND: Duration = Duration::from_secs(60);

/// Less tells nothing.
const LEAST: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("chaos: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    if let Some(missing) = privileged::missing() {
        bail!("it cannot run here: {missing}");
    }
    interrupt::catch()?;
    let seed = arguments.seed.unwrap_or_else(|| {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64 % 1_000_000
    });
    println!("chaos: seed {seed}; the same faults again: cargo xtask chaos --seed {seed}");
    let (start, total) = (Instant::now(), (*arguments.duration).max(LEAST));
    let mut seeds = Random::new(seed);
    let mut sum = round::Tally::default();
    while let left = total.saturating_sub(start.elapsed())
        && (left >= LEAST || sum.rounds == 0)
    {
        sum.add(&round::play(seeds.next_u64(), left.min(ROUND))?);
    }
    println!("chaos: {sum}");
    Ok(())
}
