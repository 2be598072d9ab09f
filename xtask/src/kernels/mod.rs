//! The task that runs shedder on other kernels than this machine's: those of the distribution's packages, in an emulator.
//!
//! Nothing is installed, and no image is kept in the repository: packages are downloaded and unpacked in
//! `target/kernels`, and the file system that a kernel boots into is made of them and of what was just compiled. The
//! guest has no network but what its tests make inside.

mod guest;
mod image;
mod packages;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::steps::{Steps, cargo, quiet};
use crate::{profile_folder, setup};
use guest::{Kernel, Suite};

/// The test targets that run in the guests.
const TARGETS: [&str; 3] = ["kernels", "packets", "programs"];

/// Runs the tests on the kernels in these package files; where none is named, on the newest of each series that the
/// distribution's archive has.
pub(crate) fn run(root: &Path, files: &[PathBuf]) -> Result<()> {
    ensure!(std::env::consts::ARCH == "x86_64", "the emulated kernels are those of x86_64 packages");
    setup::programs(root)?;
    setup::network()?;
    let mut steps = Steps::new(2);
    let mut binary = cargo();
    binary.args(["build", "--package", "shedder"]).args(quiet());
    steps.run("compile the shedder that the guests run", &mut binary)?;
    let mut tests = cargo();
    tests.args(["test", "--no-run", "--package", "shedder-tests", "--message-format", "json"]).args(quiet());
    tests.args(TARGETS.iter().flat_map(|target| ["--test", target]));
    let mut programs = Vec::new();
    steps.run_silently("compile the tests that the guests run", &mut tests, |line| {
        programs.extend(executable(line));
    })?;
    ensure!(programs.len() == TARGETS.len(), "cargo names {} tests, not {TARGETS:?}", programs.len());
    programs.push(("shedder".into(), profile_folder("debug")?.join("shedder")));

    let folder = root.join("target/kernels");
    fs::create_dir_all(&folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    let tools = packages::tools(&folder)?;
    let packages = if files.is_empty() { packages::kernels(&folder)? } else { files.to_vec() };
    let kernels = packages.iter().map(|package| Kernel::unpack(&folder, package));
    let kernels = kernels.collect::<Result<Vec<_>>>()?;
    let mut failed = Vec::new();
    for kernel in &kernels {
        let suites = suites(kernel.version);
        let image = folder.join(format!("{}.cpio", kernel.release));
        guest::image(&image, kernel, &tools, &programs, &suites)?;
        if let Err(error) = guest::boot(&image, kernel, &tools, &suites) {
            println!("xtask: {error:#}");
            failed.push(kernel.release.as_str());
        }
        // A quarter of a gigabyte that is made anew each time.
        fs::remove_file(&image).with_context(|| format!("{} cannot be removed", image.display()))?;
    }
    ensure!(failed.is_empty(), "the tests failed on {}", failed.join(", "));
    let releases: Vec<_> = kernels.iter().map(|kernel| kernel.release.as_str()).collect();
    println!("xtask: {}; the tests passed on {}", steps.summary(), releases.join(", "));
    Ok(())
}

/// What a kernel of this version has to pass.
fn suites(version: (u32, u32)) -> Vec<Suite> {
    let suite = |target, arguments: &[&'static str]| Suite { target, arguments: arguments.to_vec() };
    if version < (5, 18) {
        return vec![suite("kernels", &["--ignored", "--nocapture", "old::"])];
    }
    // One after the other: each has the patience of a test that has a CPU for itself.
    let mut own = vec!["--ignored", "--test-threads=1", "--nocapture", "switch::", "daemon::", "clock::"];
    if version < (6, 6) {
        own.push("filter::");
    }
    // The corpus stays on this machine.
    let packets = suite("packets", &["--skip", "what_the_fuzzer_kept"]);
    vec![suite("kernels", &own), suite("programs", &["--nocapture"]), packets]
}

/// The name and the path of a test that a message of cargo's says it has compiled.
fn executable(message: &str) -> Option<(String, PathBuf)> {
    let message: serde_json::Value = serde_json::from_str(message).ok()?;
    let path = message["executable"].as_str()?;
    Some((message["target"]["name"].as_str()?.to_owned(), path.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(version: (u32, u32)) -> Vec<String> {
        let shown = |suite: Suite| format!("{} {}", suite.target, suite.arguments.join(" "));
        suites(version).into_iter().map(shown).collect()
    }

    #[test]
    fn each_kernel_is_asked_for_what_it_can_do() {
        assert_eq!(names((5, 10)), ["kernels --ignored --nocapture old::"]);
        assert_eq!(
            names((6, 1))[0],
            "kernels --ignored --test-threads=1 --nocapture switch:: daemon:: clock:: filter::"
        );
        assert_eq!(
            names((6, 12))[0],
            "kernels --ignored --test-threads=1 --nocapture switch:: daemon:: clock::"
        );
        assert_eq!(names((6, 12))[2], "packets --skip what_the_fuzzer_kept");
    }

    #[test]
    fn of_cargos_messages_those_count_that_name_an_executable() {
        let message =
            r#"{"reason":"compiler-artifact","target":{"name":"packets"},"executable":"/t/packets-1"}"#;
        assert_eq!(executable(message), Some(("packets".into(), "/t/packets-1".into())));
        assert_eq!(executable(r#"{"target":{"name":"shedder-tests"},"executable":null}"#), None);
        assert_eq!(executable("warning: something"), None);
    }
}
