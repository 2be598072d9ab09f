//! `shedder-lab`: what overloads do to a real server on a real kernel, with shedder, with other controllers, and with
//! nothing.
//!
//! All of it happens in network namespaces that are made for it and removed after it, on links that no packet leaves.

mod cohorts;
mod contender;
mod goals;
mod limit;
mod report;
mod rival;
mod run;
mod sampler;
mod scenario;
mod score;
mod simulate;
mod stage;

use anyhow::{Result, bail};
use clap::Parser;
use contender::{Contender, NAMES};
use report::{Report, summarise};
use run::Run;
use scenario::Scenario;
use shedder_tests::{interrupt, privileged};
use stage::{Signal, Stage};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

/// Overloads of a real server on a real kernel, with shedder, with other controllers, and with nothing.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask lab", bin_name = "cargo xtask lab")]
struct Options {
    /// Play only these; else all.
    scenarios: Vec<String>,
    /// Name the scenarios, and end.
    #[arg(long)]
    list: bool,
    /// Play with this controller only; may be given again.
    #[arg(long = "controller", value_name = "NAME", value_parser = NAMES)]
    controllers: Vec<String>,
    /// Play with nothing and with shedder only.
    #[arg(long, conflicts_with = "controllers")]
    quick: bool,
    /// How shedder's daemon sees the server. The other controllers see what the programs measure.
    #[arg(long, value_enum, default_value_t = Signal::Passive)]
    signal: Signal,
    /// Where tables, plots and raw data are written.
    #[arg(long, value_name = "DIR", default_value = "target/lab")]
    output: PathBuf,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    if options.list {
        for scenario in scenario::all() {
            println!("{:14} {}", scenario.name, scenario.about);
        }
        return Ok(());
    }
    let scenarios = chosen(&options.scenarios)?;
    if let Some(missing) = privileged::missing() {
        bail!("the lab cannot run: {missing}");
    }
    interrupt::catch()?;
    let start = Instant::now();
    let stage = Stage::set(options.signal)?;
    let mut reports = Vec::new();
    let mut repeats = REPEATS;
    for scenario in &scenarios {
        let report = play(&stage, scenario, options, &mut repeats)?;
        report.write(&options.output)?;
        println!("{report}");
        reports.push(report);
    }
    println!("{}", summarise(&reports, &options.output)?);
    println!(
        "{} s; written to {}: summary.md, and of each scenario a plot and raw data",
        start.elapsed().as_secs(),
        options.output.display()
    );
    Ok(())
}

/// The scenarios of these names, or all.
fn chosen(names: &[String]) -> Result<Vec<Scenario>> {
    let all = scenario::all();
    if let Some(unknown) = names.iter().find(|name| all.iter().all(|scenario| scenario.name != *name)) {
        bail!("there is no scenario {unknown}: `cargo xtask lab --list` names those that there are");
    }
    Ok(all.into_iter().filter(|it| names.is_empty() || names.iter().any(|name| name == it.name)).collect())
}

/// The contenders of a scenario, by name.
fn contenders(scenario: &Scenario, options: &Options) -> Vec<&'static str> {
    let is_wanted = |name: &&str| {
        if options.quick {
            return ["nothing", "shedder"].contains(name);
        }
        options.controllers.is_empty() || options.controllers.iter().any(|wanted| wanted == name)
    };
    // What is compared at another interval than the usual is the interval: only shedder takes part.
    let takes_part = |name: &&str| *name == "shedder" || scenario.interval == scenario::INTERVAL;
    NAMES.into_iter().filter(is_wanted).filter(takes_part).collect()
}

/// Plays a scenario with every contender.
fn play(stage: &Stage, scenario: &Scenario, options: &Options, repeats: &mut u32) -> Result<Report> {
    let limit = limit::best(scenario, &stage.cohorts(scenario)?, stage::SEED);
    let mut runs = Vec::new();
    for name in contenders(scenario, options) {
        eprintln!("lab: {}: {name}", scenario.name);
        runs.push(play_validly(stage, scenario, &Contender::of(name, limit), repeats)?);
    }
    Ok(Report::of(scenario, limit, &runs))
}

/// Runs that may be repeated in all, so that the lab ends within ten minutes on a machine that cannot bear it, too.
const REPEATS: u32 = 6;

/// Plays it once more where the machine could not make the load.
fn play_validly(stage: &Stage, scenario: &Scenario, contender: &Contender, repeats: &mut u32) -> Result<Run> {
    let run = stage.play(scenario, contender)?;
    if run.valid || *repeats == 0 {
        return Ok(run);
    }
    *repeats -= 1;
    eprintln!("lab: {} of the requests left late: once more", goals::percent(run::late_share(&run.requests)));
    stage.play(scenario, contender)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory;
        Options::command().debug_assert();
    }

    #[test]
    fn chooses_by_name() {
        let options = |line: &[&str]| Options::parse_from(["lab"].iter().chain(line));
        let names = |line: &[&str]| contenders(&scenario::all()[0], &options(line));
        assert_eq!(names(&[]), NAMES);
        assert_eq!(names(&["--quick"]), ["nothing", "shedder"]);
        assert_eq!(names(&["--controller", "aimd", "--controller", "shedder"]), ["aimd", "shedder"]);
        assert_eq!(contenders(&scenario::all()[1], &options(&[])), ["shedder"]);
        assert_eq!(chosen(&["stall".into()]).unwrap().len(), 1);
        assert!(chosen(&["none".into()]).is_err());
    }
}
