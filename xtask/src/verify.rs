//! The tasks that judge the repository: `check` and `test`.

use std::io::ErrorKind;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use std::{env, fs};

use anyhow::{Context, Result, bail, ensure};
use shedder_tests::privileged::{self, LEDGER, SKIP};
use shedder_tests::shedder::BINARY;

use crate::steps::{Steps, cargo, quiet};
use crate::tally::{Privileged, Tally};
use crate::{fuzz, profile_folder, setup, toolchain};

/// How many steps [`checks`] has.
const CHECKS: usize = 15;

/// How long each target is fuzzed beyond its corpus.
const FUZZED: Duration = Duration::from_secs(20);

/// For how long faults are injected, and which: the same in each run, so that a change fails and not chance.
const CHAOS: [&str; 4] = ["--for", "60s", "--seed", "12"];

/// What is a workspace of its own with programs for the kernel, and its manifest.
const PROGRAMS: [(&str, &str); 2] = [
    ("the eBPF programs", "shedder-ebpf/Cargo.toml"),
    ("the benchmark's eBPF programs", "bench/ebpf/Cargo.toml"),
];

/// Formatting, lock files, lints and licences.
pub(crate) fn check(root: &Path) -> Result<()> {
    setup::programs(root)?;
    let deny = setup::lints(root)?;
    let mut steps = Steps::new(CHECKS);
    checks(&mut steps, &deny)?;
    println!("xtask: {}", steps.summary());
    Ok(())
}

/// All that [`check`] does, then every test.
pub(crate) fn test(root: &Path) -> Result<()> {
    setup::programs(root)?;
    setup::network()?;
    let may_skip = env::var_os(SKIP).is_some_and(|value| value == "1");
    if !may_skip && let Some(missing) = privileged::missing() {
        bail!("the privileged tests cannot run: {missing}; or set {SKIP}=1 to leave them out");
    }
    let deny = setup::lints(root)?;
    setup::compiler_of_c_plus_plus()?;
    let mut steps = Steps::new(CHECKS + 4 + fuzz::TARGETS.len());
    checks(&mut steps, &deny)?;

    let mut binary = cargo();
    binary.args(["build", "--package", "shedder"]).args(quiet());
    steps.run("compile the shedder that the tests run", &mut binary)?;

    let folder = profile_folder("debug")?;
    let ledger = folder.join("privileged-tests.ledger");
    match fs::remove_file(&ledger) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("{} cannot be removed", ledger.display()));
        }
        _ => {}
    }
    let mut tests = cargo();
    tests.args(["test", "--workspace", "--no-fail-fast"]);
    // Of a test that passes, the harness says no more than a dot; cargo's own option tells it so as well.
    match quiet() {
        Some(quiet) => tests.arg(quiet),
        None => tests.args(["--", "--quiet"]),
    };
    tests.env(LEDGER, &ledger).env(BINARY, folder.join("shedder"));
    let mut tally = Tally::default();
    steps.run_reading("tests", &mut tests, |line| tally.read(line))?;

    let mut chaos = cargo();
    chaos.args(["run", "--package", "shedder-chaos"]).args(quiet()).arg("--").args(CHAOS);
    if may_skip {
        println!("xtask: faults at random are left out: {SKIP}=1");
    } else {
        steps.run("faults at random", chaos.env(BINARY, folder.join("shedder")))?;
    }

    fuzz::fuzz(root, &mut steps, &fuzz::TARGETS, FUZZED)?;

    let privileged = Privileged::read(&ledger)?;
    ensure!(
        may_skip || privileged.ran > 0 && privileged.skipped == 0,
        "every privileged test has to run where {SKIP} is not set, and of them {privileged}"
    );
    println!(
        "xtask: {}: {} tests passed, {} ignored; {privileged}",
        steps.summary(),
        tally.passed,
        tally.ignored
    );
    Ok(())
}

fn checks(steps: &mut Steps, deny: &Path) -> Result<()> {
    let mut format = cargo();
    format.args(["fmt", "--all", "--check"]);
    steps.run("formatting", &mut format)?;
    let apart = PROGRAMS.into_iter().chain([("the fuzz targets", fuzz::MANIFEST)]);
    for (what, manifest) in apart.clone() {
        let mut format = cargo();
        format.args(["fmt", "--manifest-path", manifest, "--check"]);
        steps.run(&format!("formatting of {what}"), &mut format)?;
    }

    let all = apart.chain([("everything else", "Cargo.toml")]);
    for (what, manifest) in all.clone() {
        let mut metadata = cargo();
        metadata.args(["metadata", "--locked", "--format-version", "1", "--manifest-path", manifest]);
        steps.run(&format!("lock file of {what}"), metadata.stdout(Stdio::null()))?;
    }

    let mut clippy = cargo();
    clippy.args(["clippy", "--workspace", "--all-targets"]).args(quiet()).args(["--", "-D", "warnings"]);
    steps.run("lints", &mut clippy)?;
    for (what, manifest) in PROGRAMS {
        let mut clippy = cargo();
        toolchain::isolate(&mut clippy);
        // For the host, because only rustup's compiler has a clippy and not every one of those has sources to build
        // `core` from; the programs use features that no release has made stable.
        clippy.args(["clippy", "--manifest-path", manifest]).args(quiet()).args(["--", "-D", "warnings"]);
        steps.run(&format!("lints of {what}"), clippy.env("RUSTC_BOOTSTRAP", "1"))?;
    }

    for (what, manifest) in all {
        let mut command = Command::new(deny);
        command.args(["--log-level", "error", "--manifest-path", manifest, "--config", "deny.toml"]);
        steps.run(
            &format!("dependencies and licences of {what}"),
            command.args(["check", "bans", "licenses", "sources"]),
        )?;
    }
    Ok(())
}
