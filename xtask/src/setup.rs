//! Finds what compiling and testing need, and installs what this machine lacks.
//!
//! Tools that cargo installs go into the repository's own folder, so that no other version of the same tool that
//! somebody uses is replaced.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, anyhow, bail, ensure};
use nix::unistd::Uid;

use crate::steps::{cargo, quiet};
use crate::toolchain::{
    self, LINKER_VERSION, LLVM, Lack, Origin, PINNED_RUST, RUSTC_VARIABLE, Rejected, TOOLS,
};

/// The version of cargo-deny to install where there is none.
const DENY_VERSION: &str = "0.20.2";

/// A way to get a compiler that can build the programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Only its sources are missing: rustup adds them to the active toolchain.
    Sources,
    /// rustup installs [`PINNED_RUST`] with its sources, beside what is there.
    Toolchain,
    /// The distribution's packages.
    Packages,
}

/// What the machine offers to install with.
#[derive(Clone, Copy, Debug)]
struct Means {
    rustup: bool,
    apt: bool,
    root: bool,
}

/// Makes sure that the programs can be compiled.
pub(crate) fn programs(root: &Path) -> Result<()> {
    let architecture = env::consts::ARCH;
    ensure!(
        ["x86_64", "aarch64"].contains(&architecture),
        "shedder is built on x86_64 and aarch64, and this machine is {architecture}"
    );
    let compiler = compiler()?;
    let linker = linker(root)?;
    println!("xtask: the eBPF programs: rustc {}, {}", compiler.release, compiler.rustc.display());
    println!("xtask: the eBPF programs: bpf-linker {LINKER_VERSION}, {}", linker.display());
    println!("xtask: the eBPF programs: LLVM {LLVM}, {}", compiler.llvm.display());
    Ok(())
}

/// Makes sure that network namespaces and their interfaces can be made: `ip`.
pub(crate) fn network() -> Result<()> {
    if is_there("ip", "-V") {
        return Ok(());
    }
    println!("xtask: installing iproute2: the tests and the demo make their networks with `ip`");
    apt_install(&["iproute2"]).map_err(|error| {
        anyhow!("`ip` is missing and was not installed ({error:#}): install the package iproute2 as root")
    })
}

/// What the benchmark compares shedder with: a program, and the package that has it.
const PEERS: [(&str, &str); 5] = [
    ("nft", "nftables"),
    ("iptables-legacy", "iptables"),
    ("iptables-nft", "iptables"),
    ("xdp-filter", "xdp-tools"),
    // Not compared with; it prepares interfaces for those that are.
    ("ethtool", "ethtool"),
];

/// Installs what the benchmark compares shedder with, as far as that can be had; says what could not.
pub(crate) fn peers() {
    for (program, package) in PEERS {
        if is_there(program, "--version") {
            continue;
        }
        println!("xtask: installing {package}: the benchmark compares with `{program}`, or needs it to");
        if let Err(error) = apt_install(&[package]) {
            println!(
                "xtask: {package} was not installed ({error:#}): the benchmark says what it could not measure"
            );
        }
    }
}

/// Makes sure that rustfmt, clippy and cargo-deny are there, and returns the path of the last.
pub(crate) fn lints(root: &Path) -> Result<PathBuf> {
    for (component, command) in [("rustfmt", "fmt"), ("clippy", "clippy")] {
        if cargo().args([command, "--version"]).output().is_ok_and(|output| output.status.success()) {
            continue;
        }
        println!("xtask: installing rustup's {component}: `cargo xtask check` uses it");
        succeed(Command::new("rustup").args(["component", "add", component])).map_err(|error| {
            anyhow!("`cargo {command}` is missing and was not installed ({error:#}): `rustup component add {component}`")
        })?;
    }
    let find = || toolchain::tool(root, "cargo-deny", |_| true);
    if let Some(deny) = find() {
        return Ok(deny);
    }
    println!(
        "xtask: installing cargo-deny {DENY_VERSION} in {TOOLS}: it checks licences and sources (two minutes)"
    );
    // Unoptimised: it runs for a second, and compiling it is what costs.
    cargo_install(root, "cargo-deny", DENY_VERSION, &["--debug"])?;
    find().ok_or_else(|| anyhow!("cargo-deny was installed in {TOOLS} and does not run"))
}

/// Makes sure that there is a C++ compiler, which the fuzzer's runtime is compiled with.
pub(crate) fn compiler_of_c_plus_plus() -> Result<()> {
    if is_there("c++", "--version") {
        return Ok(());
    }
    println!("xtask: installing g++: the runtime of the fuzzer is compiled with it");
    apt_install(&["g++"]).map_err(|error| {
        anyhow!("`c++` is missing and was not installed ({error:#}): install a C++ compiler, such as the package g++")
    })
}

fn compiler() -> Result<toolchain::Compiler> {
    let mut rejected = match toolchain::compiler() {
        Ok(compiler) => return Ok(compiler),
        Err(rejected) => rejected,
    };
    println!("xtask: no compiler here can build the eBPF programs");
    for reason in &rejected {
        println!("xtask: {reason}");
    }
    if rejected.iter().any(|reason| reason.origin == Origin::Chosen) {
        bail!(
            "{RUSTC_VARIABLE} names a compiler that cannot build the eBPF programs: name another, or unset it"
        );
    }
    let means = Means {
        rustup: is_there("rustup", "--version"),
        apt: is_there("apt-get", "--version"),
        root: Uid::effective().is_root(),
    };
    for way in ways(&rejected, means) {
        if let Err(error) = follow(way) {
            println!("xtask: {error:#}");
            continue;
        }
        rejected = match toolchain::compiler() {
            Ok(compiler) => return Ok(compiler),
            Err(rejected) => rejected,
        };
    }
    bail!("{}", no_compiler(&rejected))
}

/// The ways to a compiler on this machine, in the order to try them.
fn ways(rejected: &[Rejected], means: Means) -> Vec<Way> {
    let only_sources = rejected.iter().any(|it| it.origin == Origin::Active && it.lacks == Lack::Sources);
    let mut ways = Vec::new();
    if means.rustup {
        ways.push(if only_sources { Way::Sources } else { Way::Toolchain });
    }
    if means.apt && means.root {
        ways.push(Way::Packages);
    }
    ways
}

fn follow(way: Way) -> Result<()> {
    match way {
        Way::Sources => {
            println!("xtask: installing rustup's rust-src for the active toolchain: `core` is built from it");
            succeed(Command::new("rustup").args(["component", "add", "rust-src"]))
        }
        Way::Toolchain => {
            println!("xtask: installing rustup's toolchain {PINNED_RUST} with rust-src: it has LLVM {LLVM}");
            let options = ["--profile", "minimal", "--component", "rust-src", "--no-self-update"];
            succeed(Command::new("rustup").args(["toolchain", "install", PINNED_RUST]).args(options))
        }
        Way::Packages => {
            println!(
                "xtask: installing the packages rustc-web and rust-web-src: a compiler with its sources"
            );
            apt_install(&["rustc-web", "rust-web-src"])
        }
    }
}

/// What is missing, and both ways to get it.
fn no_compiler(rejected: &[Rejected]) -> String {
    let reasons: Vec<String> = rejected.iter().map(ToString::to_string).collect();
    let reasons = if reasons.is_empty() { String::new() } else { format!(" ({})", reasons.join("; ")) };
    format!(
        "the eBPF programs need a Rust compiler with LLVM {LLVM} and the sources of its standard library, and none was \
         found or could be installed{reasons}. Get one from rustup: `rustup toolchain install {PINNED_RUST} --profile \
         minimal --component rust-src`; or from Debian, as root: `apt-get update && apt-get install rustc-web \
         rust-web-src`; or name one that you have in {RUSTC_VARIABLE}"
    )
}

fn linker(root: &Path) -> Result<PathBuf> {
    if let Some(linker) = toolchain::linker(root) {
        return Ok(linker);
    }
    println!(
        "xtask: installing bpf-linker {LINKER_VERSION} in {TOOLS}: it links the eBPF programs (one minute)"
    );
    cargo_install(root, "bpf-linker", LINKER_VERSION, &[])?;
    toolchain::linker(root).ok_or_else(|| anyhow!("bpf-linker was installed in {TOOLS} and does not run"))
}

fn cargo_install(root: &Path, package: &str, version: &str, options: &[&str]) -> Result<()> {
    let mut command = cargo();
    toolchain::isolate(&mut command);
    command
        .args(["install", "--locked", "--version", version, "--root", TOOLS, "--force"])
        .args(options)
        .args(quiet())
        .arg(package)
        .current_dir(root);
    succeed(&mut command).map_err(|error| {
        anyhow!(
            "{package} {version} was not installed ({error:#}): `cargo install --locked {package}@{version}`"
        )
    })
}

/// Installs packages of the distribution, and removes none for their sake.
fn apt_install(packages: &[&str]) -> Result<()> {
    static UPDATED: AtomicBool = AtomicBool::new(false);
    ensure!(is_there("apt-get", "--version"), "there is no apt-get");
    ensure!(Uid::effective().is_root(), "apt-get needs root");
    let apt = || {
        let mut command = Command::new("apt-get");
        // What goes wrong is said on standard error.
        command.env("DEBIAN_FRONTEND", "noninteractive").arg("-qq").stdout(Stdio::null());
        command
    };
    if !UPDATED.swap(true, Ordering::Relaxed) {
        succeed(apt().arg("update"))?;
    }
    succeed(apt().args(["install", "--yes", "--no-install-recommends", "--no-remove"]).args(packages))
}

/// Runs a command whose own messages say why it failed.
fn succeed(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command.status().map_err(|error| anyhow!("{name} does not start: {error}"))?;
    ensure!(status.success(), "{name} failed, with {status}");
    Ok(())
}

fn is_there(program: &str, version: &str) -> bool {
    Command::new(program).arg(version).output().is_ok_and(|output| output.status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rejected(origin: Origin, lacks: Lack) -> Rejected {
        Rejected { origin, rustc: "/usr/bin/rustc".into(), lacks }
    }

    const ALL: Means = Means { rustup: true, apt: true, root: true };

    #[test]
    fn where_only_the_sources_are_missing_rustup_adds_them() {
        let rejected = [rejected(Origin::Active, Lack::Sources)];
        assert_eq!(ways(&rejected, ALL), [Way::Sources, Way::Packages]);
    }

    #[test]
    fn a_compiler_that_does_not_fit_gets_the_pinned_one_beside_it() {
        let rejected =
            [rejected(Origin::Active, Lack::Llvm(Some(23))), rejected(Origin::Nightly, Lack::Sources)];
        assert_eq!(ways(&rejected, ALL), [Way::Toolchain, Way::Packages]);
    }

    #[test]
    fn packages_need_root_and_apt() {
        let rejected = [rejected(Origin::Distribution, Lack::Release("1.63.0".into()))];
        assert_eq!(ways(&rejected, Means { root: false, ..ALL }), [Way::Toolchain]);
        assert_eq!(ways(&rejected, Means { rustup: false, ..ALL }), [Way::Packages]);
        assert_eq!(ways(&rejected, Means { rustup: false, apt: false, root: true }), []);
        assert_eq!(ways(&[], Means { rustup: false, root: false, apt: true }), []);
    }

    #[test]
    fn the_message_names_what_is_missing_and_both_ways_to_get_it() {
        let message = no_compiler(&[rejected(Origin::Active, Lack::Sources)]);
        for part in
            ["lacks the sources", "rustup toolchain install", "apt-get install rustc-web", RUSTC_VARIABLE]
        {
            assert!(message.contains(part), "{message}");
        }
        assert!(!no_compiler(&[]).contains("()"));
    }
}
