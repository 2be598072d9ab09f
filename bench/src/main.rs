//! `shedder-bench`: shedder beside what one would use in its place, measured in one run.
//!
//! All of it happens in network namespaces that are made for it and removed after it, on links that no packet leaves.

mod accuracy;
mod against;
mod control;
mod counters;
mod decision;
mod effort;
mod goals;
mod kill;
mod live;
mod machine;
mod overload;
mod peers;
mod programs;
mod report;
mod results;
mod scale;
mod shape;
mod shed;
mod sources;
mod spread;

use anyhow::{Result, bail};
use clap::{Parser, ValueEnum};
use effort::Effort;
use machine::Machine;
use results::Results;
use shed::Build;
use shedder_tests::{interrupt, privileged};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

/// shedder beside what one would use in its place, measured in one run.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench", bin_name = "cargo xtask bench")]
struct Options {
    /// Fewer rounds, fewer cases, shorter: says whether it works, and roughly how it stands.
    #[arg(long)]
    quick: bool,
    /// So little of everything that the figures say nothing: whether it works.
    #[arg(long, hide = true, conflicts_with = "quick")]
    glance: bool,
    /// Measure only these parts.
    #[arg(long, value_enum, value_name = "PART")]
    only: Vec<Part>,
    /// Measure this other build of shedder as well, in turns, and print ratios instead of writing anything.
    #[arg(long, value_name = "BINARY")]
    against: Option<PathBuf>,
    /// The document to write; plots and raw data go into a folder beside it, of the same name. Unless given, that is
    /// docs/benchmarks.md where everything is measured in full, else target/bench/benchmarks.md.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// What can be measured by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// What a decision costs.
    Decision,
    /// What it costs by the number of sources.
    Sources,
    /// Floods of real frames.
    Floods,
    /// How soon nothing passes any more.
    Kill,
    /// What the daemon takes.
    Control,
    /// What a limit admits.
    Accuracy,
    /// How soon an overload of a real server is over.
    Overload,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    if let Some(missing) = privileged::missing() {
        bail!("the benchmark cannot run: {missing}");
    }
    interrupt::catch()?;
    let effort = match (options.glance, options.quick) {
        (true, _) => Effort::GLANCE,
        (_, true) => Effort::QUICK,
        _ => Effort::FULL,
    };
    if let Some(other) = &options.against {
        return against::compare(other, &effort);
    }
    let results = measure(&effort, &options.only)?;
    let is_full = !options.glance && !options.quick && options.only.is_empty();
    let default = if is_full { "docs/benchmarks.md" } else { "target/bench/benchmarks.md" };
    let output = options.output.clone().unwrap_or(default.into());
    report::write(&results, &output)?;
    for goal in &results.goals {
        println!("{:10} {}: {} ({})", goal.verdict(), goal.what, goal.shown, goal.target);
    }
    println!("bench: {} s; written to {}", results.seconds, output.display());
    Ok(())
}

fn measure(effort: &Effort, only: &[Part]) -> Result<Results> {
    let start = Instant::now();
    let wants = |part| {
        let wanted = only.is_empty() || only.contains(&part);
        if wanted {
            eprintln!("bench: {} s: {part:?}", start.elapsed().as_secs());
        }
        wanted
    };
    let mut results = Results::new(Machine::describe());
    if wants(Part::Decision) {
        results.costs = decision::costs(&[Build::own()], true, effort.costs)?;
    }
    if wants(Part::Sources) {
        results.decisions = sources::decisions(effort.sources)?;
    }
    if wants(Part::Floods) {
        let cases = live::cases(effort.cases);
        results.floods = live::floods(peers::all, &cases, effort.floods)?;
        results.near_bare = live::turns(peers::near_bare, effort.turns)?;
    }
    if wants(Part::Kill) {
        results.stops = kill::stops(effort.kills)?;
    }
    if wants(Part::Control) {
        results.control = Some(control::control(effort.intervals, effort.starts)?);
    }
    if wants(Part::Accuracy) {
        results.admissions = accuracy::admissions(effort.rates)?;
        results.bystanders = accuracy::bystanders(effort.bystanders)?;
    }
    if let Some(lab) = std::env::var_os(overload::LAB)
        && wants(Part::Overload)
    {
        results.overloads = overload::overloads(&lab, effort.overloads)?;
    }
    results.goals = goals::judge(&results);
    results.seconds = start.elapsed().as_secs();
    Ok(results)
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
