//! `cargo xtask chaos`: real traffic and a running loop, while faults are injected at random; and whether what shedder
//! promises holds throughout.
//!
//! A round is: traffic begins, a kill or none, a fault, and what must hold during and after it. All of it happens in network
//! namespaces that are made for it and removed after it, however it ends.

mod fault;
mod report;
mod round;
mod stage;

use anyhow::{Result, bail};
use clap::Parser;
use report::Report;
use shedder_tests::random::Random;
use shedder_tests::{interrupt, privileged};
use stage::Stage;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

/// Faults at random, under real traffic and a running loop.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask chaos", bin_name = "cargo xtask chaos")]
struct Options {
    /// How long: 60s, 1h.
    #[arg(long = "for", value_name = "TIME", default_value = "60s", value_parser = humantime::parse_duration)]
    lasting: Duration,
    /// The same faults in the same order as a run that printed this.
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("chaos: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether every promise held.
fn run(options: &Options) -> Result<bool> {
    if let Some(missing) = privileged::missing() {
        bail!("chaos cannot run: {missing}");
    }
    interrupt::catch()?;
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let seed = options.seed.unwrap_or(since_epoch.as_nanos() as u64 % 1_000_000);
    println!("chaos: seed {seed}, for {}", humantime::format_duration(options.lasting));
    let mut random = Random::new(seed);
    let mut stage = Stage::set()?;
    let mut report = Report::new(seed);
    let start = Instant::now();
    while start.elapsed() < options.lasting && report.holds() {
        interrupt::check()?;
        let round = stage.play(&mut random)?;
        println!("{round}");
        report.take(round);
    }
    if report.holds() {
        report.leftovers(stage.end()?);
    } else {
        println!("{}", stage.evidence());
    }
    println!("{report}");
    Ok(report.holds())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory;
        Options::command().debug_assert();
    }
}
