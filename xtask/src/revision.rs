//! Builds shedder of another revision, for what holds two builds against each other.

use crate::steps::{Steps, cargo, quiet};
use crate::toolchain::{self, TOOLS};
use anyhow::{Context, Result, ensure};
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// How many steps [`build`] takes.
pub(crate) const STEPS: usize = 2;

/// Builds shedder of `revision`, in a work tree of its own below `target`, and returns the binary's path. The next
/// revision takes its place.
pub(crate) fn build(root: &Path, revision: &str, steps: &mut Steps) -> Result<PathBuf> {
    let mut resolve = Command::new("git");
    resolve.args(["rev-parse", "--verify", "--quiet", "--end-of-options", &format!("{revision}^{{commit}}")]);
    let resolved = resolve.output().context("`git` does not start")?;
    ensure!(resolved.status.success(), "there is no revision {revision}");
    let commit = String::from_utf8(resolved.stdout).context("the name of a commit")?;
    let tree = root.join("target/revision");
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
