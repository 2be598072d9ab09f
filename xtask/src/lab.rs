//! `cargo xtask lab`: builds the lab, and becomes it.
//!
//! The lab is a program of its own because it uses shedder's library, which takes the toolchain of the programs to build.

use crate::profile_folder;
use crate::steps::{Steps, cargo, quiet};
use anyhow::{Context, Result};
use shedder_tests::shedder::BINARY;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// Plays the lab with this `shedder`. Returns only where that cannot be.
pub(crate) fn run(shedder: &Path, arguments: &[OsString]) -> Result<()> {
    let mut build = cargo();
    build.args(["build", "--release", "--package", "shedder-lab"]).args(quiet());
    Steps::new(1).run("compile the lab", &mut build)?;
    let lab = profile_folder("release")?.join("shedder-lab");
    let error = Command::new(&lab).args(arguments).env(BINARY, shedder).exec();
    Err(error).with_context(|| format!("starting {}", lab.display()))
}
