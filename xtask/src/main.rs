//! The tasks of this repository: `cargo xtask setup | build | check | test | kernels | demo | lab | bench`.

mod bench;
mod demo;
mod kernels;
mod lab;
mod setup;
mod steps;
mod tally;
mod toolchain;
mod verify;

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
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
    /// Run the tests of the switch and of the verdicts on the distribution's kernels, in an emulator. Minutes for each.
    Kernels {
        /// Packages of other kernels, in place of the newest of each series in the archive.
        #[arg(value_name = "FILE.deb")]
        packages: Vec<PathBuf>,
    },
    /// Play an overload without shedder and with it, a kill and a resume, in a minute. Needs root.
    Demo {
        /// What the overload asks for, in capacities of the server: 1 to 10.
        #[arg(long, value_name = "FACTOR", default_value_t = 10.0, value_parser = demo::factor)]
        overload: f64,
    },
    /// Play overloads with shedder, with other controllers and with nothing, in ten minutes. Needs root.
    #[command(disable_help_flag = true)]
    Lab {
        /// What the lab is to do: names of scenarios, --list, --controller NAME, --quick; --help says more.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENT")]
        arguments: Vec<OsString>,
    },
    /// Measure shedder beside what one would use in its place, in a quarter of an hour. Needs root.
    Bench(bench::Options),
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
            build().map(|_| ())
        }
        Task::Check => verify::check(root),
        Task::Test => verify::test(root),
        Task::Kernels { packages } => kernels::run(root, packages),
        Task::Demo { overload } => {
            setup::programs(root)?;
            setup::network()?;
            let shedder = build()?;
            demo::run(&demo::Options { shedder, output: root.join("target/demo"), overload: *overload })
        }
        Task::Lab { arguments } => {
            setup::programs(root)?;
            setup::network()?;
            lab::run(&build()?, arguments)
        }
        Task::Bench(options) => {
            setup::programs(root)?;
            setup::network()?;
            setup::peers();
            bench::run(root, &build()?, options)
        }
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

/// Where cargo leaves what it compiles under this profile: beside where it left this program.
fn profile_folder(profile: &str) -> Result<PathBuf> {
    let own = env::current_exe().context("the path of this program is unknown")?;
    let target = own.parent().and_then(Path::parent).context("this program is not in a target folder")?;
    Ok(target.join(profile))
}
