//! `cargo xtask upgrade`: takes over from earlier builds, and gives back to them.

use crate::revision;
use crate::steps::{Steps, cargo, quiet};
use anyhow::Result;
use shedder_tests::shedder::{BINARY, PREVIOUS};
use std::path::Path;

/// The test that is told of an earlier build.
const TEST: &str = "upgrade::the_build_that_is_named_is_taken_over_and_takes_over_or_else_is_refused";

/// Tests this `shedder` with one of each of these revisions.
pub(crate) fn run(root: &Path, shedder: &Path, revisions: &[String]) -> Result<()> {
    let mut steps = Steps::new(revisions.len() * (revision::STEPS + 1));
    for name in revisions {
        let previous = revision::build(root, name, &mut steps)?;
        let mut test = cargo();
        test.args(["test", "--package", "shedder-tests", "--test", "lifecycle"]).args(quiet());
        test.args(["--", "--exact", "--ignored", "--nocapture", TEST]);
        test.env(BINARY, shedder).env(PREVIOUS, previous);
        steps.run(&format!("from {name}, and back"), &mut test)?;
    }
    println!("xtask: {}", steps.summary());
    Ok(())
}
