//! How soon an overload of a real server is over: the lab's step to five times the capacity, with shedder alone.

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use serde_json::Value;
use shedder_tests::interrupt;
use std::ffi::OsStr;
use std::process::Command;

/// Names the lab's program. Where it is not set, overloads are not measured.
pub(crate) const LAB: &str = "SHEDDER_LAB";

/// One overload.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Overload {
    /// Seconds from its start until the p99 of what is let in is within 1.25 targets for good; none: never.
    pub(crate) settled_after: Option<f64>,
    /// Answers in time while it lasts, as a share of what can be answered.
    pub(crate) goodput: Option<f64>,
    /// Seconds from its end until nothing is shed; none: never.
    pub(crate) zero_shed_after: Option<f64>,
}

/// Plays it so often.
pub(crate) fn overloads(lab: &OsStr, times: usize) -> Result<Vec<Overload>> {
    (0..times).map(|_| play(lab)).collect()
}

fn play(lab: &OsStr) -> Result<Overload> {
    interrupt::check()?;
    let folder = "target/bench/lab";
    let output = Command::new(lab)
        .args(["step", "--controller", "shedder", "--output", folder])
        .output()
        .with_context(|| format!("starting {}", lab.display()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "the lab ended with {}: {}", output.status, said.trim());
    let path = format!("{folder}/step.json");
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    let report: Value = serde_json::from_str(&text).with_context(|| format!("reading {path}"))?;
    let score = report.pointer("/entries/0/score").with_context(|| format!("{path} has no score"))?;
    let figure = |name: &str| score[name].as_f64();
    Ok(Overload {
        settled_after: figure("settled_after"),
        goodput: figure("goodput"),
        zero_shed_after: figure("zero_shed_after"),
    })
}
