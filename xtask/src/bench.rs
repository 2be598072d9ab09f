//! `cargo xtask bench`: builds the benchmark, and becomes it.
//!
//! The benchmark is a program of its own because it has programs of its own in the kernel, which take the toolchain of the
//! programs to build.

use crate::steps::{Steps, cargo, quiet};
use crate::{profile_folder, revision};
use anyhow::{Context, Result};
use shedder_tests::shedder::BINARY;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// Names the lab's program to the benchmark.
const LAB: &str = "SHEDDER_LAB";

/// What to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Less of everything, in two minutes; leaves docs/benchmarks.md as it is.
    #[arg(long)]
    quick: bool,
    /// Measure this revision as well, in turns with what is checked out, and print ratios.
    #[arg(long, value_name = "REV", conflicts_with = "only")]
    against: Option<String>,
    /// Measure only this: decision, sources, floods, kill, control, accuracy or overload; may be given again.
    #[arg(long, value_name = "PART")]
    only: Vec<String>,
}

/// Measures this `shedder`, and one of another revision where there is one. Returns only where that cannot be.
pub(crate) fn run(root: &Path, shedder: &Path, options: &Options) -> Result<()> {
    let against = options.against.as_deref();
    let mut steps = Steps::new(1 + against.map_or(0, |_| revision::STEPS));
    let mut build = cargo();
    build
        .args(["build", "--release", "--package", "shedder-bench", "--package", "shedder-lab"])
        .args(quiet());
    steps.run("compile the benchmark and the lab", &mut build)?;
    let folder = profile_folder("release")?;
    let bench = folder.join("shedder-bench");
    let mut command = Command::new(&bench);
    command
        .args(options.quick.then_some("--quick"))
        .env(BINARY, shedder)
        .env(LAB, folder.join("shedder-lab"));
    for part in &options.only {
        command.args(["--only", part]);
    }
    if let Some(revision) = against {
        command.arg("--against").arg(revision::build(root, revision, &mut steps)?);
    }
    Err(command.exec()).with_context(|| format!("starting {}", bench.display()))
}
