//! The tasks of this repository: `cargo xtask setup | build | check | test | fuzz | kernels | upgrade | bench | chaos | demo | lab`.

mod bench;
mod demo;
mod fuzz;
mod kernels;
mod revision;
mod setup;
mod steps;
mod tally;
mod tool;
mod toolchain;
mod upgrade;
mod verify;

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use shedder_tests::netns::Network;
use shedder_tests::shedder::Shedder;
use shedder_tests::{privileged, programs};
use steps::Steps;

/// The tasks of this repository.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Task {
    /// Install what compiling and testing need and this machine lacks.
    Setup,
    /// Compile target/release/shedder.
    Build,
    /// Check formatting, lock files, lints and licences.
    Check,
    /// Check, then run every test. Needs root, unless SHEDDER_SKIP_PRIVILEGED=1.
    Test,
    /// Fuzz the header walk, the whole verdict and the configuration, guided by coverage.
    Fuzz {
        /// What to fuzz: frame, traffic, config; all three where none is named.
        #[arg(value_name = "TARGET")]
        targets: Vec<String>,
        /// How long each of them is fuzzed: 20s, 10m.
        #[arg(long = "for", value_name = "TIME", default_value = "60s", value_parser = duration)]
        lasting: Duration,
        /// Put what is found into the corpus, as few files as cover the same.
        #[arg(long)]
        keep: bool,
    },
    /// Run the tests of the switch and of the verdicts on the distribution's kernels, in an emulator. Minutes for each.
    Kernels {
        /// Packages of other kernels, in place of the newest of each series in the archive.
        #[arg(value_name = "FILE.deb")]
        packages: Vec<PathBuf>,
    },
    /// Take over from a build of each of these revisions, and give back to it, under traffic with a kill set. Needs root.
    Upgrade {
        /// Commits, tags or branches.
        #[arg(value_name = "REV", required = true)]
        revisions: Vec<String>,
    },
    /// Play an overload without shedder and with it, a kill and a resume, in a minute. Needs root.
    Demo {
        /// What the overload asks for, in capacities of the server: 1 to 10.
        #[arg(long, value_name = "FACTOR", default_value_t = 10.0, value_parser = demo::factor)]
        overload: f64,
    },
    /// Measure shedder beside what one would use in its place, in a quarter of an hour. Needs root.
    Bench(bench::Options),
    /// Inject faults at random under real traffic, and check that nothing is lost. Needs root.
    #[command(disable_help_flag = true)]
    Chaos {
        /// How long, and which faults: --for DURATION, --seed NUMBER; --help says more.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENT")]
        arguments: Vec<OsString>,
    },
    /// Play overloads with shedder, with other controllers and with nothing, in ten minutes. Needs root.
    #[command(disable_help_flag = true)]
    Lab {
        /// What the lab is to do: names of scenarios, --list, --controller NAME, --quick; --help says more.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENT")]
        arguments: Vec<OsString>,
    },
}

fn main() -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."));
    let outcome = env::set_current_dir(root)
        .with_context(|| format!("{} cannot be entered", root.display()))
        .and_then(|()| run(&Task::parse(), root));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: &Task, root: &Path) -> Result<()> {
    match task {
        Task::Setup => {
            setup::programs(root)?;
            setup::network()?;
            println!("xtask: ready: `cargo xtask build`, `cargo xtask test`");
            Ok(())
        }
        Task::Build => {
            setup::programs(root)?;
            let shedder = build()?;
            print_sizes(&shedder)
        }
        Task::Check => verify::check(root),
        Task::Test => verify::test(root),
        Task::Fuzz { targets, lasting, keep } => fuzz::run(root, targets, *lasting, *keep),
        Task::Kernels { packages } => kernels::run(root, packages),
        Task::Upgrade { revisions } => {
            setup::programs(root)?;
            setup::network()?;
            upgrade::run(root, &build()?, revisions)
        }
        Task::Demo { overload } => {
            setup::programs(root)?;
            setup::network()?;
            let shedder = build()?;
            demo::run(&demo::Options { shedder, output: root.join("target/demo"), overload: *overload })
        }
        Task::Bench(options) => {
            setup::programs(root)?;
            setup::network()?;
            setup::peers();
            bench::run(root, &build()?, options)
        }
        Task::Chaos { arguments } => {
            setup::programs(root)?;
            setup::network()?;
            tool::run("chaos", &build()?, arguments)
        }
        Task::Lab { arguments } => {
            setup::programs(root)?;
            setup::network()?;
            tool::run("lab", &build()?, arguments)
        }
    }
}

/// Reads `20s` or `10m`.
fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let number: u64 = number.parse().map_err(|_| format!("{text} is no time such as 20s or 10m"))?;
    match unit {
        "s" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_secs(60 * number)),
        _ => Err(format!("{text} is no time such as 20s or 10m")),
    }
}

/// Compiles the release binary, and returns its path.
fn build() -> Result<PathBuf> {
    let mut cargo = steps::cargo();
    cargo.args(["build", "--release", "--package", "shedder"]).args(steps::quiet());
    Steps::new(1).run("compile shedder and its eBPF programs", &mut cargo)?;
    let binary = profile_folder("release")?.join("shedder");
    let bytes = std::fs::metadata(&binary).with_context(|| format!("{} is missing", binary.display()))?.len();
    println!("xtask: {} ({:.1} MiB)", binary.display(), bytes as f64 / f64::from(1 << 20));
    println!("xtask: it carries its programs: where it runs, no compiler and no other file is needed");
    Ok(binary)
}

/// Prints how large the programs are, where they can be loaded.
fn print_sizes(shedder: &Path) -> Result<()> {
    if let Some(missing) = privileged::missing() {
        println!("xtask: the size of its programs, and what the verifier followed, is not known: {missing}");
        return Ok(());
    }
    let network = Network::new("xtask-build")?;
    for program in programs::hold(&Shedder::of_build(&network, shedder.to_owned()))? {
        let warning = if program.fits() { "" } else { ": GROWN, which fails a test" };
        println!("xtask: {program}{warning}");
    }
    Ok(())
}

/// Where cargo leaves what it compiles under this profile: beside where it left this program.
fn profile_folder(profile: &str) -> Result<PathBuf> {
    let own = env::current_exe().context("the path of this program is unknown")?;
    let target = own.parent().and_then(Path::parent).context("this program is not in a target folder")?;
    Ok(target.join(profile))
}
