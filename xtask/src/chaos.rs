//! `cargo xtask chaos`: builds the program that injects faults, and becomes it.

use crate::profile_folder;
use crate::steps::{Steps, cargo, quiet};
use anyhow::{Context, Result};
use shedder_tests::shedder::BINARY;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// How long it runs as a part of `cargo xtask test`.
pub(crate) const TESTED: &str = "60s";

/// Lets faults loose on this `shedder`. Returns only where that cannot be.
pub(crate) fn run(shedder: &Path, arguments: &[OsString]) -> Result<()> {
    let mut build = cargo();
    build.args(["build", "--package", "shedder-chaos"]).args(quiet());
    Steps::new(1).run("compile what injects faults", &mut build)?;
    let chaos = profile_folder("debug")?.join("shedder-chaos");
    let error = Command::new(&chaos).args(arguments).env(BINARY, shedder).exec();
    Err(error).with_context(|| format!("starting {}", chaos.display()))
}
