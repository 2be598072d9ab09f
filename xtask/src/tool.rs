//! `cargo xtask lab` and `cargo xtask chaos`: builds the program of that name, and becomes it.
//!
//! They are programs of their own because they use what takes the toolchain of the eBPF programs to build.

use crate::profile_folder;
use crate::steps::{Steps, cargo, quiet};
use anyhow::{Context, Result};
use shedder_tests::shedder::BINARY;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// Becomes `shedder-<name>`, on this `shedder`. Returns only where that cannot be.
pub(crate) fn run(name: &str, shedder: &Path, arguments: &[OsString]) -> Result<()> {
    let package = format!("shedder-{name}");
    let mut build = cargo();
    build.args(["build", "--release", "--package", &package]).args(quiet());
    Steps::new(1).run(&format!("compile {package}"), &mut build)?;
    let tool = profile_folder("release")?.join(&package);
    let error = Command::new(&tool).args(arguments).env(BINARY, shedder).exec();
    Err(error).with_context(|| format!("starting {}", tool.display()))
}
