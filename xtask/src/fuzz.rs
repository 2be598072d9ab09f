//! Fuzzing guided by coverage, with libFuzzer. Its runtime is C++ and comes with a crate; the rest is what a stable rustc
//! offers, so that nothing has to be installed but a C++ compiler.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::setup;
use crate::steps::{Steps, cargo, quiet};

/// The manifest of the targets, which are a workspace of their own.
pub(crate) const MANIFEST: &str = "fuzz/Cargo.toml";

/// Where inputs that proved worth keeping lie, by target.
const CORPUS: &str = "fuzz/corpus";

/// Where the targets are compiled, and what they find is put.
const FOLDER: &str = "target/fuzz";

/// A target, and the longest input that is worth trying.
pub(crate) const TARGETS: [(&str, u32); 3] = [("frame", 2300), ("traffic", 4096), ("config", 4096)];

/// What tells libFuzzer which edges were taken, and what was compared with what.
const INSTRUMENTATION: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1";

/// Compiles the targets, plays the corpus to each of those that are named (none: all), and goes on for a while with what
/// the fuzzer makes of it. With `keep` what was found goes into the corpus, as few files as cover the same.
pub(crate) fn run(root: &Path, named: &[String], duration: Duration, keep: bool) -> Result<()> {
    for name in named {
        let known = TARGETS.map(|(known, _)| known);
        ensure!(
            known.contains(&name.as_str()),
            "there is no fuzz target {name}; there are {}",
            known.join(", ")
        );
    }
    setup::compiler_of_c_plus_plus()?;
    let chosen: Vec<_> = TARGETS
        .into_iter()
        .filter(|(name, _)| named.is_empty() || named.iter().any(|one| one == name))
        .collect();
    let mut steps = Steps::new(1 + chosen.len() * if keep { 2 } else { 1 });
    fuzz(root, &mut steps, &chosen, duration)?;
    if keep {
        for (name, _) in chosen {
            minimise(root, &mut steps, name)?;
        }
    }
    println!("xtask: {}", steps.summary());
    Ok(())
}

/// The steps of [`run`]: one, and one for each target.
pub(crate) fn fuzz(
    root: &Path,
    steps: &mut Steps,
    targets: &[(&str, u32)],
    duration: Duration,
) -> Result<()> {
    let mut build = cargo();
    build
        .args(["build", "--release", "--locked", "--manifest-path", MANIFEST, "--target-dir", FOLDER])
        // Named, so that build scripts and macros are compiled without the flags.
        .args(["--target", &target()])
        .args(quiet())
        .env("RUSTFLAGS", INSTRUMENTATION);
    steps.run("compile the fuzz targets", &mut build)?;
    for &(name, longest) in targets {
        let title = format!("fuzz {name} for {} s", duration.as_secs());
        let log = root.join(FOLDER).join(format!("{name}.log"));
        let mut fuzzer = fuzzer(root, name, longest, duration)?;
        fuzzer.stderr(fs::File::create(&log).with_context(|| format!("{} cannot be made", log.display()))?);
        let fuzzed = steps.run(&title, &mut fuzzer);
        let said = fs::read_to_string(&log).unwrap_or_default();
        if fuzzed.is_err() {
            eprintln!("{said}");
        }
        fuzzed.with_context(|| {
            format!(
                "the input is in {FOLDER}/crashes, and shows it again: `{} FILE`",
                binary(root, name).display()
            )
        })?;
        if let Some(tried) =
            said.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:"))
        {
            println!("xtask: {name}: {} inputs", tried.trim());
        }
    }
    Ok(())
}

/// The triple of this machine, for which alone the standard library is there.
fn target() -> String {
    format!("{}-unknown-linux-gnu", std::env::consts::ARCH)
}

fn binary(root: &Path, name: &str) -> PathBuf {
    root.join(FOLDER).join(target()).join("release").join(name)
}

fn found(root: &Path, name: &str) -> PathBuf {
    root.join(FOLDER).join("found").join(name)
}

fn fuzzer(root: &Path, name: &str, longest: u32, duration: Duration) -> Result<Command> {
    let found = found(root, name);
    let crashes = root.join(FOLDER).join("crashes");
    for folder in [&found, &crashes] {
        fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    }
    let mut command = Command::new(binary(root, name));
    command
        .args([found, root.join(CORPUS).join(name)])
        .args([format!("-max_total_time={}", duration.as_secs().max(1)), format!("-max_len={longest}")])
        .args(["-timeout=10", "-rss_limit_mb=1024", "-print_final_stats=1", "-use_value_profile=1"])
        .arg(format!("-artifact_prefix={}/{name}-", crashes.display()));
    Ok(command)
}

fn minimise(root: &Path, steps: &mut Steps, name: &str) -> Result<()> {
    let corpus = root.join(CORPUS).join(name);
    let all = root.join(FOLDER).join("all").join(name);
    let _ = fs::remove_dir_all(&all);
    fs::create_dir_all(all.parent().unwrap_or(root)).context("the folder of the corpus cannot be made")?;
    fs::rename(&corpus, &all).with_context(|| format!("{} cannot be moved", corpus.display()))?;
    fs::create_dir_all(&corpus).with_context(|| format!("{} cannot be made", corpus.display()))?;
    let mut merge = Command::new(binary(root, name));
    merge.args(["-set_cover_merge=1", "-use_counters=0", "-verbosity=0"]).args([
        corpus,
        all,
        found(root, name),
    ]);
    steps.run(&format!("keep what {name} found"), &mut merge)
}
