//! The tasks that judge the repository: `check` and `test`.

use std::path::Path;
use std::process::Command;
use std::{env, fs};

use anyhow::{Context, Result, bail, ensure};

use crate::steps::{Steps, cargo, quiet};
use crate::tally::{LEDGER, Privileged, Tally};
use crate::{profile_folder, setup, toolchain};

/// How many steps [`checks`] has.
const CHECKS: usize = 8;

/// Tells privileged tests to skip themselves.
const SKIP_PRIVILEGED: &str = "SHEDDER_SKIP_PRIVILEGED";

/// The package of the tests that cross a network or a kernel.
const TESTS: &str = "shedder-tests";

/// The manifest of the programs, which are a workspace of their own.
const PROGRAMS: &str = "shedder-ebpf/Cargo.toml";

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
    let skip = env::var_os(SKIP_PRIVILEGED).is_some_and(|value| value == "1");
    ensure!(
        skip || setup::is_root(),
        "the tests make network namespaces and load eBPF programs, which needs root: run this as root, or set \
         {SKIP_PRIVILEGED}=1 to leave those tests out"
    );
    setup::programs(root)?;
    setup::network()?;
    let deny = setup::lints(root)?;
    let mut steps = Steps::new(CHECKS + 3);
    checks(&mut steps, &deny)?;

    let mut tally = Tally::default();
    let mut host = tests(&["--workspace", "--exclude", TESTS]);
    steps.run_reading("tests on the host", &mut host, |line| tally.read(line))?;

    let mut binary = cargo();
    binary.args(["build", "--package", "shedder"]).args(quiet());
    steps.run("compile the shedder that the tests run", &mut binary)?;

    let folder = profile_folder("debug")?;
    let ledger = folder.join("privileged-tests.ledger");
    if ledger.exists() {
        fs::remove_file(&ledger).with_context(|| format!("{} cannot be removed", ledger.display()))?;
    }
    let mut kernel = tests(&["--package", TESTS]);
    kernel.env(LEDGER, &ledger).env("SHEDDER_BIN", folder.join("shedder"));
    steps.run_reading("tests in the kernel and on its network", &mut kernel, |line| tally.read(line))?;

    let privileged = Privileged::read(&ledger)?;
    if privileged.ran == 0 && !skip {
        bail!("no privileged test ran, though {SKIP_PRIVILEGED} is not set: none wrote to {LEDGER}");
    }
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
    let mut format = cargo();
    format.args(["fmt", "--manifest-path", PROGRAMS, "--check"]);
    steps.run("formatting of the eBPF programs", &mut format)?;

    for (title, manifest) in [("lock file", "Cargo.toml"), ("lock file of the eBPF programs", PROGRAMS)] {
        let mut metadata = cargo();
        metadata.args(["metadata", "--locked", "--format-version", "1", "--manifest-path", manifest]);
        steps.run(title, metadata.stdout(std::process::Stdio::null()))?;
    }

    let mut clippy = cargo();
    clippy.args(["clippy", "--workspace", "--all-targets"]).args(quiet()).args(["--", "-D", "warnings"]);
    steps.run("lints", &mut clippy)?;
    let mut clippy = cargo();
    toolchain::isolate(&mut clippy);
    // For the host, because only rustup's compiler has a clippy and not every one of those has sources to build
    // `core` from; the programs use features that no release has made stable.
    clippy.args(["clippy", "--manifest-path", PROGRAMS]).args(quiet()).args(["--", "-D", "warnings"]);
    steps.run("lints of the eBPF programs", clippy.env("RUSTC_BOOTSTRAP", "1"))?;

    for (title, manifest) in [
        ("dependencies and licences", "Cargo.toml"),
        ("dependencies and licences of the eBPF programs", PROGRAMS),
    ] {
        let mut command = Command::new(deny);
        command.args(["--log-level", "error", "--manifest-path", manifest, "check", "--config", "deny.toml"]);
        steps.run(title, command.args(["bans", "licenses", "sources"]))?;
    }
    Ok(())
}

/// `cargo test`, which says of a test that passes no more than a dot.
fn tests(packages: &[&str]) -> Command {
    let mut command = cargo();
    command.args(["test", "--no-fail-fast"]).args(packages);
    match quiet() {
        Some(quiet) => command.arg(quiet),
        None => command.args(["--", "--quiet"]),
    };
    command
}
