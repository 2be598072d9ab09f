//! `cargo xtask bench`: builds the benchmark, and becomes it.
//!
//! The benchmark is a program of its own because it has programs of its own in the kernel, which take the toolchain of the
//! programs to build.

use crate::profile_folder;
use crate::steps::{Steps, cargo, quiet};
use crate::toolchain::{self, TOOLS};
use anyhow::{Context, Result, ensure};
use shedder_tests::shedder::BINARY;
use std::env;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
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
    let mut steps = Steps::new(if against.is_some() { 3 } else { 1 });
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
        command.arg("--against").arg(other(root, revision, &mut steps)?);
    }
    Err(command.exec()).with_context(|| format!("starting {}", bench.display()))
}

/// Builds shedder of another revision, in a work tree of its own below `target`, and returns the binary's path.
fn other(root: &Path, revision: &str, steps: &mut Steps) -> Result<PathBuf> {
    let mut resolve = Command::new("git");
    resolve.args(["rev-parse", "--verify", "--quiet", "--end-of-options", &format!("{revision}^{{commit}}")]);
    let resolved = resolve.output().context("`git` does not start")?;
    ensure!(resolved.status.success(), "there is no revision {revision}");
    let commit = String::from_utf8(resolved.stdout).context("the name of a commit")?;
    let tree = root.join("target/bench/against");
    let mut check_out = Command::new("git");
    if tree.join(".git").exists() {
        check_out.arg("-C").arg(&tree).args(["checkout", "--quiet", "--detach", commit.trim()]);
    } else {
        check_out.args(["worktree", "add", "--force", "--quiet", "--detach"]).arg(&tree).arg(commit.trim());
    }
    steps.run(&format!("check out {revision}"), &mut check_out)?;
    let mut build = cargo();
    toolchain::isolate(&mut build);
    build.current_dir(&tree).args(["build", "--release", "--package", "shedder"]).args(quiet());
    // The tools are here, and it looks for them there.
    let path = env::var_os("PATH").unwrap_or_default();
    let tools = [root.join(TOOLS).join("bin")].into_iter().chain(env::split_paths(&path));
    build.env("PATH", env::join_paths(tools).context("a path")?);
    steps.run(&format!("compile shedder of {revision}"), &mut build)?;
    Ok(tree.join("target/release/shedder"))
}
